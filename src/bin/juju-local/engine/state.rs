//! The engine's memory: the saved model and what lives only as long as the engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::api::{JujuExecCall, ToolEnd};

use super::context::Context;
use super::log::DebugLog;
use super::model::{Life, Map, Model, Variant};
use super::paths::Paths;
use super::pods::Cluster;
use super::resolver::{self, Hook, Next, Remote, RemoteRelation};
use super::secrets::{self, hex};

/// The engine.
pub struct Engine {
    /// Where everything lies.
    pub paths: Paths,
    /// The program that the tools' links point to.
    pub program: PathBuf,
    /// The model's log.
    pub log: DebugLog,
    /// What all pods share.
    pub cluster: Mutex<Cluster>,
    /// Memory.
    state: Mutex<State>,
    /// Told when the memory changes.
    changed: Condvar,
}

/// What the lock guards.
pub struct State {
    /// The model.
    pub model: Model,
    /// Running contexts by id.
    pub contexts: BTreeMap<String, Context>,
    /// Shell commands that wait, by unit.
    pub commands: BTreeMap<String, VecDeque<Command>>,
    /// Timers by unit.
    pub timers: BTreeMap<String, Timers>,
    /// Databags of remote members that agents keep across hooks: unit, relation, member.
    pub caches: BTreeMap<String, BTreeMap<(u64, String), Map>>,
    /// Units whose agent runs.
    pub agents: BTreeSet<String>,
    /// What containers have to tell, by unit.
    pub workload: BTreeMap<String, VecDeque<Hook>>,
    /// Boot ids of containers that were told, by unit and container.
    pub boots: BTreeMap<(String, String), String>,
    /// Units whose pods end and come again.
    pub leaving: BTreeSet<String>,
    /// Units whose containers are looked after.
    pub watched: BTreeSet<String>,
    /// Units whose record is gone and whose machine is being cleared.
    pub clearing: BTreeSet<String>,
    /// Secret revisions whose content is on disk, as last seen.
    pub secret_files: BTreeSet<(String, u64)>,
    /// The engine is being ended.
    pub ending: bool,
    /// Counts decisions, for the order among equals.
    pub decisions: u64,
}

/// A shell command from `juju-exec` that waits for its turn.
pub struct Command {
    /// What to run.
    pub call: JujuExecCall,
    /// Where its end is told.
    pub reply: Sender<ToolEnd>,
}

/// Timers of a unit's agent.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    /// When the failed hook runs again.
    pub retry_at: Option<Instant>,
    /// Delay before the next retry, in seconds; 0 is the first.
    pub retry_delay: f64,
    /// When `update-status` is due.
    pub update_status_at: Option<Instant>,
}

impl Engine {
    /// Makes an engine for a model.
    #[must_use]
    pub fn new(paths: Paths, program: PathBuf, model: Model) -> Self {
        let log = DebugLog::new(paths.debug_log());
        let state = State {
            model,
            contexts: BTreeMap::new(),
            commands: BTreeMap::new(),
            timers: BTreeMap::new(),
            caches: BTreeMap::new(),
            agents: BTreeSet::new(),
            workload: BTreeMap::new(),
            boots: BTreeMap::new(),
            leaving: BTreeSet::new(),
            watched: BTreeSet::new(),
            clearing: BTreeSet::new(),
            secret_files: BTreeSet::new(),
            ending: false,
            decisions: 0,
        };
        Self {
            paths,
            program,
            log,
            cluster: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Locks the memory. A panic elsewhere does not spoil it: changes are applied to copies first.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the model and wakes all agents. A failure to save is logged; the next one may succeed.
    pub fn save(&self, state: &State) {
        if !state.ending
            && let Err(error) = self.paths.save(&state.model)
        {
            eprintln!("cannot save the model: {error:#}");
        }
        self.changed.notify_all();
    }

    /// Waits until something changes, at most for `longest`.
    pub fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        longest: Duration,
    ) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, longest) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Wakes all agents.
    pub fn wake(&self) {
        self.changed.notify_all();
    }
}

impl State {
    /// Decides a unit's next operation.
    pub fn decide(&mut self, name: &str) -> Next {
        self.decisions += 1;
        let Some(remote) = self.remote(name) else {
            return Next::Idle;
        };
        match self.model.units.get(name) {
            Some(unit) => resolver::next(&unit.local, &remote),
            None => Next::Idle,
        }
    }

    /// Returns what the controller says to a unit's agent now.
    fn remote(&self, name: &str) -> Option<Remote> {
        let model = &self.model;
        let (unit, application) = model.unit(name)?;
        let now = Instant::now();
        let timers = self.timers.get(name).cloned().unwrap_or_default();
        let mut relations: Vec<_> = model
            .relations
            .values()
            .filter_map(|relation| {
                let own = relation.own(&unit.application)?;
                let other = relation.other(&unit.application)?;
                let bag = relation.applications.get(&other.application);
                Some(RemoteRelation {
                    id: relation.id,
                    endpoint: own.name.clone(),
                    peer: relation.is_peer(),
                    life: relation.life,
                    application: other.application.clone(),
                    members: model.remote_members(relation, unit),
                    application_version: bag.map_or(0, |bag| bag.version(model.variant)),
                })
            })
            .collect();
        // Juju walks a hash map here; nobody may rely on the order.
        relations.sort_by_key(|relation| {
            mix(model.settings.seed ^ self.decisions ^ relation.id.rotate_left(32))
        });
        Some(Remote {
            me: unit.name.clone(),
            life: unit.life,
            application_life: application.life,
            leader: model.is_leader(name),
            settings_hash: settings_hash(model, name),
            // A pod's charm files come with the pod.
            charm_revision: if model.settings.has_pods() {
                unit.local.charm_revision
            } else {
                application.revision
            },
            workload: self
                .workload
                .get(name)
                .and_then(|queue| queue.front().cloned()),
            pod: model.settings.has_pods(),
            leaving: self.leaving.contains(name) && unit.life == Life::Alive,
            force_charm: application.force_units,
            relations,
            storage: model
                .storage
                .values()
                .filter_map(|storage| {
                    let attachment = storage.attachment.as_ref()?;
                    (attachment.unit == name).then(|| (storage.id.clone(), attachment.life))
                })
                .collect(),
            secrets: secrets::due(model, unit),
            action: model
                .tasks
                .values()
                .find(|task| task.unit == name && task.status == "pending")
                .map(|task| task.id),
            command: self
                .commands
                .get(name)
                .is_some_and(|queue| !queue.is_empty()),
            retry_due: model.settings.automatically_retry_hooks
                && timers.retry_at.is_some_and(|at| at <= now),
            resolution: unit.resolution,
            update_status_due: timers.update_status_at.is_some_and(|at| at <= now),
        })
    }

    /// Starts a unit's `update-status` timer anew, varied by a fifth.
    pub fn rearm_update_status(&mut self, name: &str) {
        let seconds = self.model.settings.update_status_seconds;
        let timers = self.timers.entry(name.to_owned()).or_default();
        let share = f64::from(u32::try_from(random() % 1001).unwrap_or(500)) / 1000.0;
        timers.update_status_at = (seconds > 0.0)
            .then(|| Duration::try_from_secs_f64(seconds * (0.8 + 0.4 * share)).ok())
            .flatten()
            .and_then(|wait| Instant::now().checked_add(wait));
    }

    /// Lets a unit enter a relation's scope: others see it from now on.
    pub fn enter_scope(&mut self, name: &str, relation: u64) {
        let variant = self.model.variant;
        let Some(unit) = self.model.units.get(name) else {
            return;
        };
        let fill = own_addresses(&self.model.ingress(unit).to_string(), variant);
        if let Some(relation) = self.model.relations.get_mut(&relation)
            && relation.life == Life::Alive
            && relation.scope.insert(name.to_owned())
        {
            // A pod that has its number from one before it does not inherit what that one wrote.
            let bag = relation.units.entry(name.to_owned()).or_default();
            bag.values.clear();
            bag.apply(&fill);
        }
        if let Some(unit) = self.model.units.get_mut(name) {
            unit.local.relations.entry(relation).or_default();
        }
    }

    /// Notes the address of a unit's machine; others learn of a new one through its databags.
    pub fn set_address(&mut self, name: &str, address: Ipv4Addr) {
        let Some(unit) = self.model.units.get_mut(name) else {
            return;
        };
        let before = unit.address.replace(address);
        // Others know a pod by its service.
        if self.model.settings.has_pods() || before.is_none_or(|before| before == address) {
            return;
        }
        let fill = own_addresses(&address.to_string(), self.model.variant);
        for relation in self.model.relations.values_mut() {
            if relation.scope.contains(name)
                && let Some(bag) = relation.units.get_mut(name)
            {
                bag.apply(&fill);
            }
        }
    }

    /// Lets a unit leave a relation's scope; its databag stays readable.
    pub fn leave_scope(&mut self, name: &str, relation: u64) {
        if let Some(relation) = self.model.relations.get_mut(&relation) {
            relation.scope.remove(name);
        }
        if let Some(unit) = self.model.units.get_mut(name) {
            unit.local.relations.remove(&relation);
        }
    }
}

/// Returns what Juju itself writes into a unit's databag.
fn own_addresses(address: &str, variant: Variant) -> Map {
    let mut fill = Map::from([
        ("ingress-address".to_owned(), address.to_owned()),
        ("egress-subnets".to_owned(), format!("{address}/32")),
    ]);
    if !variant.is_four() {
        fill.insert("private-address".to_owned(), address.to_owned());
    }
    fill
}

/// Returns the hash whose change raises `config-changed`: options, trust and address.
#[must_use]
pub fn settings_hash(model: &Model, name: &str) -> String {
    let Some((unit, application)) = model.unit(name) else {
        return String::new();
    };
    let effective = application.charm.config.effective(&application.config);
    let sorted: BTreeMap<_, _> = effective.iter().collect();
    let text = serde_json::to_string(&sorted).unwrap_or_default();
    let mut digest = Sha256::new();
    digest.update(text);
    digest.update([u8::from(application.trust)]);
    digest.update(model.address(unit).octets());
    hex(&digest.finalize())
}

/// Returns a random number.
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}

/// Mixes the bits of a number (the finaliser of splitmix64).
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Returns random lower-case hexadecimal digits.
#[must_use]
pub fn random_hex(digits: usize) -> String {
    let mut text = String::new();
    while text.len() < digits {
        text.push_str(&hex(&random().to_le_bytes()));
    }
    text.truncate(digits);
    text
}
