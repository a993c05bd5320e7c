//! A small pure model of Juju: units and their life, databags, leadership, storage, the order of hooks.

pub mod agent;
pub mod resolver;

use std::collections::BTreeMap;

use valkey_operator::planner::{
    UnitName,
    peer_data::{AppData, UnitData},
};

use crate::{
    models::Millis,
    script::Variant,
    time::TaskId,
    world::{Ctx, World, number},
};

/// Where a unit is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// It lives.
    Alive,
    /// It is being removed.
    Dying,
    /// Its agent has ended.
    Dead,
    /// It is deleted.
    Gone,
}

/// Why a hook is run; names as in Juju.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    clippy::missing_docs_in_private_items,
    reason = "Juju's own names"
)]
pub enum Hook {
    StorageAttached,
    StorageDetaching,
    Install,
    RelationCreated,
    LeaderElected,
    ConfigChanged,
    Start,
    Joined(u8),
    Changed(u8),
    AppChanged,
    Departed(u8),
    UpdateStatus,
    Stop,
    Remove,
    /// The watcher's wake-up.
    Exec,
    /// Action `confirm-data-source` for a unit.
    Confirm(u8),
}

/// A unit's storage, as Juju sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// None.
    None,
    /// Attached, the charm was not told yet.
    New,
    /// Attached.
    Attached,
    /// To be detached while the unit lives on.
    Detaching,
}

/// Another unit, as this unit's agent has told the charm of it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its databag as this unit's charm reads it.
    pub cached: UnitData,
    /// Version of it.
    pub seen: u64,
    /// Whether the guaranteed `changed` after `joined` is still to come.
    pub changed_due: bool,
}

/// A hook that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// Which.
    pub hook: Hook,
    /// When it is tried again.
    pub until: Millis,
    /// How long the pause is by now.
    pub pause: Millis,
}

/// A unit.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts of the agent's state")]
pub struct Unit {
    /// Its life.
    pub life: Life,
    /// Its committed databag.
    pub bag: UnitData,
    /// Rises with each change of it.
    pub version: u64,
    /// Whether its databag exists.
    pub entered: bool,
    /// Its storage.
    pub storage: Attachment,
    /// Hooks that were committed.
    pub installed: bool,
    /// As before.
    pub created: bool,
    /// As before.
    pub started: bool,
    /// As before.
    pub stopped: bool,
    /// As before.
    pub removed: bool,
    /// Version of the configuration that the charm was told.
    pub config_seen: u64,
    /// Whether the charm was told that it leads.
    pub told_leader: bool,
    /// Peers that the charm was told of.
    pub members: BTreeMap<u8, Member>,
    /// Version of the application's databag that the charm was told.
    pub app_seen: u64,
    /// Whether the machine started anew.
    pub rebooted: bool,
    /// A hook that failed.
    pub failed: Option<Failed>,
    /// Whether the watcher wants the charm to run.
    pub exec_wanted: bool,
    /// Whose data counts, as a person says in an action that waits.
    pub confirm: Option<u8>,
    /// How the watcher's last call ended, until it is read.
    pub exec_done: Option<bool>,
    /// What runs, since when.
    pub busy: Option<(Hook, Millis)>,
    /// Versions of the application's databag and of the configuration when the hook began.
    pub begun_with: (u64, u64),
    /// When `update-status` is due.
    pub update_at: Millis,
    /// The agent.
    pub agent: Option<TaskId>,
    /// Until when the agent runs nothing.
    pub away_until: Millis,
    /// Whether the last pass ended with everything settled.
    pub settled: bool,
}

/// Juju.
pub struct Juju {
    /// Which Juju.
    pub variant: Variant,
    /// Every unit that ever was, by number.
    pub units: BTreeMap<u8, Unit>,
    /// The application's committed databag.
    pub app: AppData,
    /// Rises with each change of it.
    pub app_version: u64,
    /// The leader.
    pub leader: Option<u8>,
    /// When the next leader is elected, if there is none.
    pub election_at: Option<Millis>,
    /// Since when the leader's agent has not renewed its lease.
    pub lease_silent_since: Option<Millis>,
    /// Digest of the settings that a server reads at start only.
    pub start_digest: String,
    /// Rises with each change of the configuration.
    pub config_version: u64,
    /// Number of the next unit.
    pub next: u8,
    /// Deployment names drawn so far.
    pub names: u64,
}

/// Milliseconds between two `update-status`.
pub const UPDATE_STATUS: Millis = 300_000;

impl Juju {
    /// Makes an empty model.
    pub fn new(variant: Variant) -> Self {
        Self {
            variant,
            units: BTreeMap::new(),
            app: AppData::default(),
            app_version: 0,
            leader: None,
            election_at: None,
            lease_silent_since: None,
            start_digest: "options-0".to_owned(),
            config_version: 1,
            next: 0,
            names: 0,
        }
    }

    /// Adds a unit's record.
    pub fn add(&mut self, now: Millis) -> u8 {
        let unit = self.next;
        self.next += 1;
        self.units.insert(
            unit,
            Unit {
                life: Life::Alive,
                bag: UnitData::default(),
                version: 0,
                entered: false,
                storage: Attachment::New,
                installed: false,
                created: false,
                started: false,
                stopped: false,
                removed: false,
                config_seen: 0,
                told_leader: false,
                members: BTreeMap::new(),
                app_seen: 0,
                rebooted: false,
                failed: None,
                exec_wanted: false,
                confirm: None,
                exec_done: None,
                busy: None,
                begun_with: (0, 0),
                update_at: now + UPDATE_STATUS,
                agent: None,
                away_until: 0,
                settled: false,
            },
        );
        unit
    }

    /// Returns the units that are not Dead, with whether they are Dying: what goal-state shows.
    pub fn goal_state(&self) -> impl Iterator<Item = (u8, bool)> {
        self.units
            .iter()
            .filter(|(_, unit)| unit.life < Life::Dead)
            .map(|(number, unit)| (*number, unit.life == Life::Dying))
    }

    /// Returns the units that live.
    pub fn alive(&self) -> Vec<u8> {
        self.units
            .iter()
            .filter(|(_, unit)| unit.life == Life::Alive)
            .map(|(number, _)| *number)
            .collect()
    }

    /// Returns whether no unit lives.
    pub fn none_alive(&self) -> bool {
        self.units.values().all(|unit| unit.life != Life::Alive)
    }

    /// Reads a unit's databag as the charm of `reader` does; `None` if it has not entered yet.
    pub fn read(&self, reader: u8, of: u8) -> Option<UnitData> {
        let unit = self.units.get(&of)?;
        if reader != of
            && let Some(member) = self
                .units
                .get(&reader)
                .and_then(|reader| reader.members.get(&of))
        {
            return Some(member.cached.clone());
        }
        unit.entered.then(|| unit.bag.clone())
    }

    /// Returns whether peers see that `unit` is no longer in the relation.
    pub fn departed(&self, unit: u8) -> bool {
        self.units.get(&unit).is_none_or(|unit| match self.variant {
            Variant::Juju36 => unit.life >= Life::Dying,
            Variant::Juju40 => unit.life >= Life::Gone,
            Variant::Silent => false,
        })
    }

    /// Returns whether a unit's leadership holds.
    pub fn is_leader(&self, unit: u8) -> bool {
        self.leader == Some(unit)
    }
}

impl World {
    /// Lets every agent look whether there is something to run.
    pub fn wake_agents(&self) {
        for unit in self.juju.units.values() {
            if let Some(agent) = unit.agent
                && unit.busy.is_none()
            {
                self.sim.wake(agent);
            }
        }
    }

    /// Returns a deployed unit's name as a number, if it still exists.
    pub fn known(&self, name: &UnitName) -> Option<u8> {
        let unit = number(name);
        self.juju.units.contains_key(&unit).then_some(unit)
    }

    /// Makes another unit the leader.
    pub fn lead(&mut self, unit: u8) {
        if self.juju.leader != Some(unit) {
            self.note(20, || format!("valkey/{unit} leads"));
            self.juju.leader = Some(unit);
            self.juju.election_at = None;
            self.juju.lease_silent_since = None;
            for (number, other) in &mut self.juju.units {
                if *number != unit {
                    other.told_leader = false;
                }
            }
            self.wake_agents();
        }
    }
}

/// How long a leader may be silent before its lease ends.
const LEASE: Millis = 60_000;

/// The controller: leases, and units that are deleted.
pub async fn controller(ctx: Ctx) {
    loop {
        ctx.sleep(1_000).await;
        ctx.with(|world| {
            let now = world.now();
            world.delete_units();
            elect(world, now);
        });
    }
}

fn elect(world: &mut World, now: Millis) {
    let able = |world: &World, unit: u8| {
        world
            .machines
            .get(&unit)
            .is_some_and(|machine| machine.on && !machine.frozen)
    };
    if let Some(leader) = world.juju.leader {
        let life = world
            .juju
            .units
            .get(&leader)
            .map_or(Life::Gone, |unit| unit.life);
        let revoked = match world.juju.variant {
            Variant::Juju36 => life >= Life::Dead,
            Variant::Juju40 | Variant::Silent => life >= Life::Gone,
        };
        if revoked {
            world.juju.leader = None;
        } else if able(world, leader) {
            world.juju.lease_silent_since = None;
        } else {
            let since = *world.juju.lease_silent_since.get_or_insert(now);
            if now >= since + LEASE {
                world.juju.leader = None;
            }
        }
    }
    if world.juju.leader.is_some() {
        return;
    }
    let Some(at) = world.juju.election_at else {
        world.juju.election_at = Some(now + world.rng.u64(1_000..5_000));
        return;
    };
    if now < at {
        return;
    }
    let able: Vec<u8> = world
        .juju
        .alive()
        .into_iter()
        .filter(|unit| able(world, *unit))
        .collect();
    if !able.is_empty() {
        let unit = able[world.rng.usize(0..able.len())];
        world.lead(unit);
    }
}
