//! Why nothing more can be done now, in words for a person.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{names::UnitName, observation::Progress, peer_data::TurnKind};

/// How a reason is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Work is under way.
    Working,
    /// Something else has to happen first, by itself.
    Waiting,
    /// A person is needed.
    Blocked,
}

/// Why nothing more can be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The storage is not attached.
    NoStorage,
    /// The storage cannot be used.
    StorageProblem(String),
    /// The peer relation does not exist yet.
    NoPeerRelation,
    /// valkey-server was not found.
    NoServerBinary,
    /// The valkey-server that is there is older than the one that runs or wrote the data.
    Downgrade {
        /// Version that runs, or that wrote the data.
        runs: String,
        /// Version that is there.
        found: String,
    },
    /// The leader has not named the deployment, the founder or the passwords yet.
    NotFounded,
    /// The passwords cannot be read.
    UsersUnreadable(String),
    /// The data belongs to another deployment, or to nobody known.
    ForeignData(String),
    /// It is not this unit's turn.
    Turn {
        /// Who has it.
        holder: Option<UnitName>,
        /// What for.
        kind: TurnKind,
    },
    /// Another unit changes the membership.
    LeaseHeld(String),
    /// The lease cannot be taken.
    LeaseUnavailable,
    /// The founding unit has not started.
    FounderNotReady(UnitName),
    /// The data is on a storage that left with this unit.
    DataAway(UnitName),
    /// No primary that could be followed.
    NoPrimary,
    /// Not enough Sentinels answer to know who is primary.
    TooFewSentinels {
        /// How many answer.
        answering: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The unit that may hold the newest data is missing.
    BestCopyMissing(UnitName),
    /// The local server does not answer.
    ServerSilent(String),
    /// The local server loads its data.
    Loading(Progress),
    /// The local server receives the data.
    Syncing {
        /// From whom.
        from: String,
        /// How far.
        progress: Option<Progress>,
    },
    /// The Sentinels have not discovered each other.
    Discovery {
        /// How many have.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// A failover is under way.
    FailingOver,
    /// No unit could take the role of primary over.
    NoTarget(String),
    /// The last copy of newer data would leave.
    LastCopy(String),
    /// The data cannot be written to disk.
    DiskTrouble(String),
    /// Redundancy is not what it should be.
    Degraded(String),
    /// This unit leaves.
    Leaving,
    /// This unit's storage was taken away.
    Detached,
}

impl Reason {
    /// Returns how the reason is to be shown.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::StorageProblem(_)
            | Self::NoServerBinary
            | Self::Downgrade { .. }
            | Self::UsersUnreadable(_)
            | Self::ForeignData(_)
            | Self::LastCopy(_)
            | Self::DataAway(_)
            | Self::DiskTrouble(_)
            | Self::Detached => Severity::Blocked,
            Self::NoStorage
            | Self::NoPeerRelation
            | Self::NotFounded
            | Self::Turn { .. }
            | Self::LeaseHeld(_)
            | Self::LeaseUnavailable
            | Self::FounderNotReady(_)
            | Self::NoPrimary
            | Self::TooFewSentinels { .. }
            | Self::BestCopyMissing(_)
            | Self::NoTarget(_)
            | Self::Degraded(_) => Severity::Waiting,
            Self::ServerSilent(_)
            | Self::Loading(_)
            | Self::Syncing { .. }
            | Self::Discovery { .. }
            | Self::FailingOver
            | Self::Leaving => Severity::Working,
        }
    }
}

impl Reason {
    /// Returns whether what is awaited usually comes within seconds, so that a hook waits for it.
    ///
    /// The rest depends on other units or on people: a later hook looks again, and this one does
    /// not keep Juju's other events waiting.
    #[must_use]
    pub const fn comes_soon(&self) -> bool {
        matches!(
            self,
            Self::ServerSilent(_)
                | Self::Loading(_)
                | Self::Syncing { .. }
                | Self::Discovery { .. }
                | Self::FailingOver
                | Self::LeaseHeld(_)
        )
    }
}

/// Writes bytes as a person reads them.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut divisor: u64 = 1024;
    while count / divisor >= 1024 && unit + 1 < UNITS.len() {
        divisor = divisor.saturating_mul(1024);
        unit += 1;
    }
    let tenths = u128::from(count) * 10 / u128::from(divisor);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {}", bytes(self.done), bytes(total)),
            None => f.write_str(&bytes(self.done)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStorage => f.write_str("waiting for storage `data` to be attached"),
            Self::StorageProblem(problem) => write!(f, "cannot use the storage: {problem}"),
            Self::NoPeerRelation => f.write_str("waiting for the peer relation"),
            Self::NoServerBinary => f.write_str(
                "cannot find valkey-server: install it; the charm looks again by itself",
            ),
            Self::Downgrade { runs, found } => write!(
                f,
                "cannot use valkey-server {found}: the data is of {runs}, which an older one may not read; provide {runs} or newer"
            ),
            Self::NotFounded => f.write_str("waiting for the leader to prepare the deployment"),
            Self::UsersUnreadable(why) => {
                write!(f, "cannot read the internal users' passwords: {why}")
            }
            Self::ForeignData(why) => write!(
                f,
                "the storage holds foreign data: {why}; attach another storage or empty this one"
            ),
            Self::Turn {
                holder: Some(holder),
                kind: TurnKind::Start,
            } => write!(f, "waiting for the turn: {holder} is starting"),
            Self::Turn {
                holder: Some(holder),
                kind: TurnKind::Restart,
            } => write!(f, "waiting for the turn: {holder} is restarting"),
            Self::Turn { holder: None, .. } => {
                f.write_str("waiting for the leader to grant the turn")
            }
            Self::LeaseHeld(holder) => {
                write!(f, "waiting for {holder}, which changes the membership")
            }
            Self::LeaseUnavailable => {
                f.write_str("waiting for a primary that can grant the membership lease")
            }
            Self::FounderNotReady(unit) => {
                write!(f, "waiting for {unit} to start the first primary")
            }
            Self::DataAway(unit) => write!(
                f,
                "the data left with the storage of {unit}: add a unit with that storage, or begin anew with action `confirm-data-source`"
            ),
            Self::NoPrimary => f.write_str("waiting for a primary"),
            Self::TooFewSentinels { answering, needed } => {
                write!(
                    f,
                    "waiting for Sentinels: {answering} of the needed {needed} answer"
                )
            }
            Self::BestCopyMissing(unit) => write!(
                f,
                "waiting for {unit}, which may hold the newest data; action `confirm-data-source` overrides"
            ),
            Self::ServerSilent(why) => write!(f, "waiting for the server to answer: {why}"),
            Self::Loading(progress) => write!(f, "loading data: {progress}"),
            Self::Syncing {
                from,
                progress: Some(progress),
            } => write!(f, "syncing from {from}: {progress}"),
            Self::Syncing {
                from,
                progress: None,
            } => write!(f, "syncing from {from}"),
            Self::Discovery { done, of } => write!(
                f,
                "waiting for Sentinels to discover this unit: {done} of {of}"
            ),
            Self::FailingOver => f.write_str("waiting for a failover to end"),
            Self::NoTarget(why) => write!(f, "waiting for a unit that can take over: {why}"),
            Self::LastCopy(why) => write!(f, "cannot leave: {why}"),
            Self::DiskTrouble(why) => write!(f, "cannot write data to disk: {why}"),
            Self::Degraded(what) => f.write_str(what),
            Self::Leaving => f.write_str("leaving"),
            Self::Detached => {
                f.write_str("storage detached: attach storage to run again, or remove the unit")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_well() {
        for (done, total, expected) in [
            (0, None, "0 B"),
            (1_288_490_188, Some(3_006_477_107), "1.1 GiB of 2.7 GiB"),
            (1536, Some(1024 * 1024), "1.5 KiB of 1.0 MiB"),
            (u64::MAX, None, "16777216.0 TiB"),
        ] {
            assert_eq!(
                Progress { done, total }.to_string(),
                expected.replace("16777216.0", "16777215.9")
            );
        }
    }
}
