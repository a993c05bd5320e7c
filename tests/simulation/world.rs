//! The world: machines with servers and Sentinels, Juju, clients, and what was noticed of them.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use valkey_operator::planner::{Observation, Plan, Step, UnitName, peer_data::Position};

use crate::{
    juju::Juju,
    machine::{Machine, Shelved},
    models::{Cluster, Millis},
    oracles::Oracles,
    script::Script,
    time::Sim,
};

/// What decides: the charm's own functions, or planted wrong ones.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Deciders {
    /// Decides what a unit does next.
    pub plan: fn(&Observation) -> Plan,
    /// Decides what the leader writes.
    pub duties: fn(&Observation) -> Vec<Step>,
    /// Decides what is given back when steps do not work.
    pub give_up: fn(&Observation) -> Vec<Step>,
    /// Whether the Sentinels are reset all at once instead of one after another with proof.
    pub reset_all: bool,
    /// Whether a hand-over only tells the target to be primary, without votes, pause or proof.
    pub blind_handover: bool,
    /// Whether the lease is taken without asking who holds it.
    pub steal_lease: bool,
    /// Whether a deposed leader's write of the application's databag is accepted.
    pub late_leader_writes: bool,
    /// What the watcher writes down is changed by this.
    pub position: fn(&mut Position),
}

impl Deciders {
    /// Returns the charm's own.
    pub fn real() -> Self {
        Self {
            plan: valkey_operator::planner::plan,
            duties: valkey_operator::planner::leader::duties,
            give_up: valkey_operator::planner::give_up,
            reset_all: false,
            blind_handover: false,
            steal_lease: false,
            late_leader_writes: false,
            position: |_| {},
        }
    }
}

/// A running digest of all that happened, and its text where it is wanted.
pub struct Trace {
    /// Where the text goes, if anywhere.
    pub text: Option<Vec<String>>,
    digest: u64,
}

impl Trace {
    /// Makes an empty trace.
    pub fn new(verbose: bool) -> Self {
        Self {
            text: verbose.then(Vec::new),
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Notes that something happened.
    pub fn note(&mut self, now: Millis, what: u64, text: impl FnOnce() -> String) {
        for number in [now, what] {
            self.digest = (self.digest ^ number)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(17);
        }
        if let Some(lines) = &mut self.text {
            lines.push(format!("{:>8.3} {}", seconds(now), text()));
        }
    }

    /// Returns the digest.
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

/// Turns milliseconds into seconds for a reader.
pub fn seconds(ms: Millis) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}

/// Seconds since 1970 at the beginning of a life.
const EPOCH_S: u64 = 1_700_000_000;

/// Everything that is.
pub struct World {
    /// Servers, Sentinels, network.
    pub cluster: Cluster,
    /// Juju.
    pub juju: Juju,
    /// The machine of each unit, by the unit's number.
    pub machines: BTreeMap<u8, Machine>,
    /// Storage that no unit uses.
    pub shelf: Vec<Shelved>,
    /// How many cuts hold between two machines, one way.
    pub cuts: BTreeMap<(u8, u8), i8>,
    /// Addresses used so far.
    pub addresses: u32,
    /// Units that are deleted, and when.
    pub deletions: Vec<(Millis, u8)>,
    /// All chance outside of the models.
    pub rng: fastrand::Rng,
    /// What decides.
    pub deciders: Deciders,
    /// What happened.
    pub trace: Trace,
    /// What was noticed.
    pub oracles: Oracles,
    /// The script that is played.
    pub script: Script,
    /// The time.
    pub sim: Sim,
}

/// The world, shared by all tasks of one life.
#[derive(Clone)]
pub struct Ctx {
    /// The time.
    pub sim: Sim,
    world: Rc<RefCell<World>>,
}

impl Ctx {
    /// Shares a world.
    pub fn new(world: World) -> Self {
        Self {
            sim: world.sim.clone(),
            world: Rc::new(RefCell::new(world)),
        }
    }

    /// Looks at or changes the world; nothing is awaited meanwhile.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.borrow_mut())
    }

    /// Waits.
    pub async fn sleep(&self, duration: Millis) {
        self.sim.sleep(duration).await;
    }

    /// Draws a number below `end`, at least `begin`.
    pub fn draw(&self, begin: Millis, end: Millis) -> Millis {
        self.with(|world| world.rng.u64(begin..end))
    }
}

impl World {
    /// Returns the present.
    pub fn now(&self) -> Millis {
        self.sim.now()
    }

    /// Returns the present in seconds since 1970.
    pub fn unix_now(&self) -> u64 {
        EPOCH_S + self.now() / 1000
    }

    /// Turns a moment into seconds since 1970.
    pub const fn unix(at: Millis) -> u64 {
        EPOCH_S + at / 1000
    }

    /// Notes that something happened.
    pub fn note(&mut self, what: u64, text: impl FnOnce() -> String) {
        let now = self.now();
        self.trace.note(now, what, text);
    }

    /// Notes that something happened to a unit.
    pub fn note_of(&mut self, unit: u8, what: u64, text: impl FnOnce() -> String) {
        self.note(u64::from(unit) * 1_000 + what, text);
    }

    /// Notes that something is wrong.
    pub fn breach(&mut self, oracle: &'static str, what: impl Into<String>) {
        let now = self.now();
        let what = what.into();
        self.trace
            .note(now, 999, || format!("BREACH {oracle}: {what}"));
        self.oracles.breach(now, oracle, what);
    }

    /// Returns the host of a unit's machine.
    pub fn host(&self, unit: u8) -> Option<&str> {
        self.machines
            .get(&unit)
            .map(|machine| machine.host.as_str())
    }

    /// Returns the name of a unit.
    pub fn name(unit: u8) -> UnitName {
        UnitName::new(format!("valkey/{unit}"))
    }
}

/// Returns the number of a unit.
pub fn number(unit: &UnitName) -> u8 {
    unit.as_str()
        .rsplit_once('/')
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(u8::MAX)
}
