//! Scripts of faults: what befalls an application, as data and as text that can be pasted into a test.

use std::{fmt, str::FromStr};

use crate::models::Millis;

/// Which Juju runs the application; they differ in when a departure is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Survivors hear of a removed unit as soon as it begins to leave.
    Juju36,
    /// Survivors hear of a removed unit once it is gone; changes back and forth go unseen.
    Juju40,
    /// As 4.0, but survivors never hear of a removed unit.
    Silent,
}

/// A life: how it begins and what befalls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What all randomness of the life comes from.
    pub seed: u64,
    /// Units at the beginning.
    pub units: u8,
    /// Which Juju.
    pub variant: Variant,
    /// What happens when, in order of time.
    pub faults: Vec<(Millis, Fault)>,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $word:literal ($($field:ident: $kind:ty),*);)*) => {
        /// Something that befalls the application. Units are meant by number; one that does not
        /// exist then is passed over. Times are milliseconds.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name { $(#[allow(missing_docs, reason = "said by the variant")] $field: $kind),* },)*
        }

        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field),* } => {
                        f.write_str($word)?;
                        $(write!(f, " {}", $field)?;)*
                        Ok(())
                    })*
                }
            }
        }

        impl FromStr for Fault {
            type Err = String;

            #[allow(unused_mut, unused_variables, reason = "some faults have no numbers")]
            fn from_str(text: &str) -> Result<Self, String> {
                let mut words = text.split_whitespace();
                let name = words.next().unwrap_or_default();
                match name {
                    $($word => {
                        $(let $field: $kind = words
                            .next()
                            .and_then(|word| word.parse().ok())
                            .ok_or_else(|| format!("cannot read {text:?}: {} is missing", stringify!($field)))?;)*
                        Ok(Self::$name { $($field),* })
                    })*
                    other => Err(format!("cannot read {text:?}: nobody knows {other:?}")),
                }
            }
        }
    };
}

faults! {
    /// The server of a unit is killed.
    KillServer "kill-server" (unit: u8);
    /// The Sentinel of a unit is killed.
    KillSentinel "kill-sentinel" (unit: u8);
    /// Both, and the watcher, are killed.
    KillUnit "kill-unit" (unit: u8);
    /// The watcher and its parent are killed.
    KillWatcher "kill-watcher" (unit: u8);
    /// The server stands still for a time.
    FreezeServer "freeze-server" (unit: u8, duration: Millis);
    /// Sentinel stands still for a time.
    FreezeSentinel "freeze-sentinel" (unit: u8, duration: Millis);
    /// The whole machine stands still for a time.
    FreezeMachine "freeze-machine" (unit: u8, duration: Millis);
    /// The machine loses power and comes back after a time.
    Reboot "reboot" (unit: u8, duration: Millis);
    /// The same, but its disk is empty afterwards.
    LoseDisk "lose-disk" (unit: u8, duration: Millis);
    /// The machine is gone for good; a person removes the unit by force after a time.
    LoseMachine "lose-machine" (unit: u8, duration: Millis);
    /// The machine loses power and comes back under another address.
    MoveAddress "move-address" (unit: u8, duration: Millis);
    /// All machines lose power together and come back one after another, this far apart.
    RebootAll "reboot-all" (duration: Millis, apart: Millis);
    /// The unit is cut off from all others for a time.
    CutOff "cut-off" (unit: u8, duration: Millis);
    /// Two units are cut off from each other for a time.
    CutPair "cut-pair" (unit: u8, other: u8, duration: Millis);
    /// Packets from one unit to another are lost for a time.
    CutOneWay "cut-one-way" (unit: u8, other: u8, duration: Millis);
    /// The log reaches the disk late for a time.
    SlowDisk "slow-disk" (unit: u8, duration: Millis);
    /// Nothing more can be written to the disk for a time.
    FullDisk "full-disk" (unit: u8, duration: Millis);
    /// What a replica receives comes late for a time.
    SlowReplication "slow-replication" (unit: u8, delay: Millis, duration: Millis);
    /// Juju's agent of a unit runs nothing for a time.
    AgentAway "agent-away" (unit: u8, duration: Millis);
    /// What the watcher wants to say is lost for a time.
    LoseWakeups "lose-wakeups" (unit: u8, duration: Millis);
    /// The unit's hook is killed after this many more commands, effects included.
    KillHook "kill-hook" (unit: u8, after: u64);
    /// The answer to the unit's command after this many more is lost, its effect is not.
    LoseAnswer "lose-answer" (unit: u8, after: u64);
    /// Another unit becomes the leader at once.
    MoveLeader "move-leader" (unit: u8);
    /// A unit is added.
    AddUnit "add-unit" ();
    /// A unit is added that takes over storage that an earlier unit left.
    AddUnitReusing "add-unit-reusing" ();
    /// A unit is removed in order.
    RemoveUnit "remove-unit" (unit: u8);
    /// A unit is removed by force, without any hook; its machine is ended.
    ForceRemove "force-remove" (unit: u8);
    /// The unit's storage is detached and attached again after a time.
    DetachStorage "detach-storage" (unit: u8, duration: Millis);
    /// A setting is changed that the server reads at start only.
    StartOption "start-option" (value: u64);
    /// A user does `FLUSHALL` on the primary.
    FlushAll "flush-all" ();
    /// A user sets `min-replicas-to-write`.
    SetMinReplicas "set-min-replicas" (unit: u8, value: u64);
    /// A user sets `replica-priority`.
    SetPriority "set-priority" (unit: u8, value: u64);
    /// A user does `SENTINEL RESET` on one Sentinel.
    ResetSentinel "reset-sentinel" (unit: u8);
    /// A user does `SENTINEL FAILOVER` on one Sentinel.
    PlainFailover "plain-failover" (unit: u8);
}

/// What kind of fault it is, as far as promises go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Planned, or none for data: no acknowledged write may be lost.
    None,
    /// Unplanned: what no promotable replica had may be lost, in this many milliseconds after it began.
    Writes(Millis),
    /// A user's own doing: what was written before is gone.
    Everything,
}

impl Fault {
    /// Returns how long it lasts.
    pub const fn duration(&self) -> Millis {
        match self {
            Self::FreezeServer { duration, .. }
            | Self::FreezeSentinel { duration, .. }
            | Self::FreezeMachine { duration, .. }
            | Self::Reboot { duration, .. }
            | Self::LoseDisk { duration, .. }
            | Self::LoseMachine { duration, .. }
            | Self::MoveAddress { duration, .. }
            | Self::CutOff { duration, .. }
            | Self::CutPair { duration, .. }
            | Self::CutOneWay { duration, .. }
            | Self::SlowDisk { duration, .. }
            | Self::FullDisk { duration, .. }
            | Self::SlowReplication { duration, .. }
            | Self::AgentAway { duration, .. }
            | Self::LoseWakeups { duration, .. }
            | Self::DetachStorage { duration, .. } => *duration,
            Self::RebootAll { duration, apart } => *duration + *apart * 8,
            _ => 0,
        }
    }

    /// Returns what may be lost by it.
    pub const fn harm(&self) -> Harm {
        match self {
            Self::KillServer { .. }
            | Self::KillUnit { .. }
            | Self::FreezeServer { .. }
            | Self::FreezeMachine { .. }
            | Self::Reboot { .. }
            | Self::LoseDisk { .. }
            | Self::LoseMachine { .. }
            | Self::MoveAddress { .. }
            | Self::RebootAll { .. }
            | Self::CutOff { .. }
            | Self::CutPair { .. }
            | Self::CutOneWay { .. }
            | Self::SlowReplication { .. }
            | Self::ForceRemove { .. }
            | Self::SetMinReplicas { .. }
            | Self::PlainFailover { .. }
            | Self::FullDisk { .. } => Harm::Writes(self.duration()),
            Self::FlushAll {} => Harm::Everything,
            _ => Harm::None,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Juju36 => "3.6",
            Self::Juju40 => "4.0",
            Self::Silent => "silent",
        })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed={} units={} juju={}",
            self.seed, self.units, self.variant
        )?;
        for (at, fault) in &self.faults {
            writeln!(f, "{at} {fault}")?;
        }
        Ok(())
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let head = lines.next().ok_or("cannot read a script without a head")?;
        let value = |name: &str| {
            head.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| format!("cannot read {head:?}: {name} is missing"))
        };
        let number = |name: &str| -> Result<u64, String> {
            value(name)?
                .parse()
                .map_err(|_| format!("cannot read {head:?}: {name} is no number"))
        };
        let variant = match value("juju")? {
            "3.6" => Variant::Juju36,
            "4.0" => Variant::Juju40,
            "silent" => Variant::Silent,
            other => return Err(format!("cannot read {head:?}: nobody knows Juju {other}")),
        };
        let mut faults = Vec::new();
        for line in lines {
            let (at, fault) = line
                .split_once(' ')
                .ok_or_else(|| format!("cannot read {line:?}"))?;
            let at = at.parse().map_err(|_| format!("cannot read {line:?}"))?;
            faults.push((at, fault.parse()?));
        }
        faults.sort_by_key(|(at, _)| *at);
        Ok(Self {
            seed: number("seed")?,
            units: u8::try_from(number("units")?).map_err(|_| "too many units".to_owned())?,
            variant,
            faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_as_they_are_written() {
        for seed in 0..500 {
            let script = crate::generate::script(seed);
            assert_eq!(script.to_string().parse(), Ok(script));
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in [
            "",
            "units=3",
            "seed=1 units=3 juju=5",
            "seed=1 units=3 juju=4.0\n5 explode 1",
            "seed=1 units=3 juju=4.0\n5 cut-off 1",
        ] {
            assert!(text.parse::<Script>().is_err(), "{text:?}");
        }
    }
}
