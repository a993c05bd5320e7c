//! What the controller of a model remembers; all of it is saved in one file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::charm::Charm;

use super::resolver::Local;
use super::secrets::Secret;

/// Key and value of a databag, of a secret, of the charm's state.
pub type Map = BTreeMap<String, String>;

/// Version of Juju whose behaviour is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variant {
    /// Juju 3.6: survivors learn of a leaving unit at once.
    #[default]
    #[serde(rename = "3.6")]
    V36,
    /// Juju 4.0: survivors learn of it after it is dead.
    #[serde(rename = "4.0")]
    V40,
    /// Juju 4.0 with its fault that survivors never learn of it.
    #[serde(rename = "4.0-bug")]
    V40Bug,
}

impl Variant {
    /// Returns the variant of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "3.6" => Some(Self::V36),
            "4.0" => Some(Self::V40),
            "4.0-bug" => Some(Self::V40Bug),
            _ => None,
        }
    }

    /// Tells whether this is some 4.0.
    #[must_use]
    pub fn is_four(self) -> bool {
        self != Self::V36
    }

    /// Returns the version that is told to charms and people.
    #[must_use]
    pub fn version(self) -> &'static str {
        if self.is_four() { "4.0.14" } else { "3.6.28" }
    }
}

/// Alive, Dying, Dead; it never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Wanted.
    #[default]
    Alive,
    /// No longer wanted; it is being torn down.
    Dying,
    /// Torn down.
    Dead,
}

impl Life {
    /// Returns the word for status documents: empty when alive.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            Self::Alive => String::new(),
            Self::Dying => "dying".to_owned(),
            Self::Dead => "dead".to_owned(),
        }
    }
}

/// A status word with its message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Word.
    pub current: String,
    /// Message.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

impl Status {
    /// Makes a status that begins now.
    #[must_use]
    pub fn now(current: &str, message: &str) -> Self {
        Self {
            current: current.to_owned(),
            message: message.to_owned(),
            since: Timestamp::now(),
        }
    }
}

/// The model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Model {
    /// Name.
    pub name: String,
    /// UUID; every process of the model has it in its environment.
    pub uuid: String,
    /// Version of Juju that is shown.
    pub variant: Variant,
    /// Settings.
    pub settings: Settings,
    /// Second and third byte of the model's network 127.a.b.0/24.
    pub network: [u8; 2],
    /// Host number that the next unit tries first.
    pub next_host: u8,
    /// Host number that the next pod tries first.
    #[serde(default)]
    pub next_pod: u8,
    /// Machine of the next unit.
    pub next_machine: u64,
    /// Number of the next storage instance, over all names.
    pub next_storage: u64,
    /// Number of the next relation.
    pub next_relation: u64,
    /// Number of the next operation or task.
    pub next_task: u64,
    /// Applications by name.
    pub applications: BTreeMap<String, Application>,
    /// Units by name.
    pub units: BTreeMap<String, Unit>,
    /// Relations by number.
    pub relations: BTreeMap<u64, Relation>,
    /// Storage by id.
    pub storage: BTreeMap<String, Storage>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Tasks by number.
    pub tasks: BTreeMap<u64, Task>,
}

/// Settings of the model; all times in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Settings {
    /// How long a leadership claim lasts; it is renewed at half of it.
    pub lease_seconds: f64,
    /// First delay before a failed hook runs again; it doubles each time.
    pub retry_seconds: f64,
    /// Longest delay before a failed hook runs again.
    pub retry_max_seconds: f64,
    /// Whether failed hooks run again by themselves.
    pub automatically_retry_hooks: bool,
    /// Mean time between two `update-status` hooks; 0 turns them off.
    pub update_status_seconds: f64,
    /// Period of the removal job (4.0).
    pub removal_seconds: f64,
    /// How long `--force` waits.
    pub force_wait_seconds: f64,
    /// Seed of the order among equals, which Juju leaves to chance.
    pub seed: u64,
    /// Program that gives each unit a machine of its own; without one they share this machine.
    pub machine_driver: Option<PathBuf>,
    /// What units run on.
    pub substrate: Substrate,
    /// Program that runs in each container of a pod: Pebble.
    pub pebble: Option<PathBuf>,
    /// Period in which an agent looks for containers that have started.
    pub pebble_poll_seconds: f64,
    /// How long a pod may take to end after SIGTERM.
    pub grace_seconds: f64,
    /// Directories of this machine that every charm container sees.
    pub host_paths: Vec<PathBuf>,
    /// `HOST:PORT` of an API server that charms are told of.
    pub api_server: Option<String>,
    /// Directory of this machine with the files of the pods' service account.
    pub service_account: Option<PathBuf>,
    /// Whether names of pods go unanswered.
    pub names_silent: bool,
}

/// What the units of a model run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Substrate {
    /// This machine, or machines that a driver makes.
    #[default]
    Machines,
    /// Pods, as on Kubernetes.
    Kubernetes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_seconds: 60.0,
            retry_seconds: 5.0,
            retry_max_seconds: 300.0,
            automatically_retry_hooks: true,
            update_status_seconds: 300.0,
            removal_seconds: 10.0,
            force_wait_seconds: 60.0,
            seed: 0,
            machine_driver: None,
            substrate: Substrate::Machines,
            pebble: None,
            pebble_poll_seconds: 5.0,
            grace_seconds: 30.0,
            host_paths: Vec::new(),
            api_server: None,
            service_account: None,
            names_silent: false,
        }
    }
}

impl Settings {
    /// Tells whether units run as pods.
    #[must_use]
    pub fn has_pods(&self) -> bool {
        self.substrate == Substrate::Kubernetes
    }

    /// Tells whether each unit has an address that comes with its machine or pod.
    #[must_use]
    pub fn has_machines(&self) -> bool {
        self.machine_driver.is_some() || self.has_pods()
    }
}

/// An application.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Application {
    /// What its charm declares.
    pub charm: Charm,
    /// Charm's revision, counted from 0.
    pub revision: u32,
    /// Alive or Dying.
    pub life: Life,
    /// When it began to die.
    pub dying_since: Option<Timestamp>,
    /// How its units are removed.
    pub destroy_storage: bool,
    /// Options that a person has set.
    pub config: serde_json::Map<String, Value>,
    /// Environment that a person has given for all hooks.
    pub env: Map,
    /// Storage name to number of instances per unit.
    pub storage_counts: BTreeMap<String, u32>,
    /// Resource name to the engine's copy of its file.
    pub resources: BTreeMap<String, PathBuf>,
    /// Whether it is trusted.
    pub trust: bool,
    /// Number of the next unit.
    pub next_unit: u64,
    /// Host numbers that its units have had.
    pub hosts: BTreeSet<u8>,
    /// Leadership.
    pub lease: Option<Lease>,
    /// Status that the leader has set.
    pub status: Option<Status>,
    /// Workload's version.
    pub version: String,
    /// When it was deployed.
    pub created: Timestamp,
    /// `juju refresh --force-units` was given for the present revision.
    pub force_units: bool,
    /// Host number of the address of its Kubernetes service.
    #[serde(default)]
    pub service_host: u8,
}

/// A leadership claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// Unit that holds it.
    pub holder: String,
    /// When it ends unless renewed.
    pub until: Timestamp,
}

/// Whether a unit's machine runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Machine {
    /// It runs.
    #[default]
    Up,
    /// All its processes are stopped.
    Frozen,
    /// It has vanished.
    Down,
}

/// A unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unit {
    /// Name.
    pub name: String,
    /// Application.
    pub application: String,
    /// Number.
    pub number: u64,
    /// Machine id.
    pub machine: u64,
    /// Host number of its address.
    pub host: u8,
    /// Address of the machine that a driver made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Alive, Dying or Dead.
    pub life: Life,
    /// When it was seen dead.
    pub dead_since: Option<Timestamp>,
    /// When `--force` cuts it off.
    pub force_at: Option<Timestamp>,
    /// Removes its storage with it.
    pub destroy_storage: bool,
    /// Whether its machine runs.
    pub state: Machine,
    /// Counts the machine's reboots and kills: what began before is void.
    pub boot: u64,
    /// Whether the traffic of its address is dropped.
    pub cut: bool,
    /// Storage that it had: processes may still work there.
    #[serde(default)]
    pub left_storage: BTreeSet<String>,
    /// Workload status.
    pub workload: Status,
    /// Whether the charm has ever set it.
    pub workload_set: bool,
    /// Agent status.
    pub agent: Status,
    /// Open ports.
    pub ports: BTreeSet<(String, String)>,
    /// Charm's state (`state-set`).
    pub charm_state: Map,
    /// What its agent has committed.
    pub local: Local,
    /// What a person wants done with the failed hook.
    pub resolution: Option<super::resolver::Resolution>,
}

/// An end of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Application.
    pub application: String,
    /// Endpoint's name.
    pub name: String,
    /// Interface.
    pub interface: String,
}

/// A relation: one endpoint for peers, else the provider's and the requirer's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Relation {
    /// Number.
    pub id: u64,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Alive or Dying.
    pub life: Life,
    /// Units in scope.
    pub scope: BTreeSet<String>,
    /// Unit databags; they stay when a unit has left.
    pub units: BTreeMap<String, Databag>,
    /// Application databags.
    pub applications: BTreeMap<String, Databag>,
}

impl Relation {
    /// Tells whether it is a peer relation.
    #[must_use]
    pub fn is_peer(&self) -> bool {
        self.endpoints.len() == 1
    }

    /// Returns the application's own endpoint.
    #[must_use]
    pub fn own(&self, application: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|end| end.application == application)
    }

    /// Returns the endpoint on the other side; of peers their own.
    #[must_use]
    pub fn other(&self, application: &str) -> Option<&Endpoint> {
        if self.is_peer() {
            return self.own(application);
        }
        self.endpoints
            .iter()
            .find(|end| end.application != application)
    }

    /// Returns the id that charms see.
    #[must_use]
    pub fn shown_id(&self, application: &str) -> String {
        let endpoint = self.own(application).map_or("", |end| end.name.as_str());
        format!("{endpoint}:{}", self.id)
    }
}

/// A databag.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Databag {
    /// Content.
    pub values: Map,
    /// Counts the effective changes.
    pub changes: u64,
}

impl Databag {
    /// Applies changes, where an empty value removes the key.
    pub fn apply(&mut self, changes: &Map) {
        let before = self.values.clone();
        for (key, value) in changes {
            if value.is_empty() {
                self.values.remove(key);
            } else {
                self.values.insert(key.clone(), value.clone());
            }
        }
        if self.values != before {
            self.changes += 1;
        }
    }

    /// Returns the version that agents compare: 0 when never written.
    #[must_use]
    pub fn version(&self, variant: Variant) -> u64 {
        if !variant.is_four() || self.changes == 0 {
            return self.changes;
        }
        if self.values.is_empty() {
            return 0;
        }
        let mut digest = Sha256::new();
        for (key, value) in &self.values {
            digest.update(key.len().to_le_bytes());
            digest.update(key);
            digest.update(value.len().to_le_bytes());
            digest.update(value);
        }
        let digest = digest.finalize();
        let mut first = [0_u8; 8];
        for (to, from) in first.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        u64::from_le_bytes(first)
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.values
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    }
}

/// A storage instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Storage {
    /// Id such as `data/0`.
    pub id: String,
    /// Storage name in the metadata.
    pub name: String,
    /// `filesystem` or `block`.
    pub kind: String,
    /// Alive or Dying.
    pub life: Life,
    /// Where it is attached.
    pub attachment: Option<Attachment>,
    /// Since when its status is as it is.
    pub since: Timestamp,
    /// Application that it was made for.
    pub application: String,
    /// Unit that it was made for: a pod of that name gets it again.
    #[serde(default)]
    pub made_for: String,
}

/// Where a storage instance is attached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attachment {
    /// Unit.
    pub unit: String,
    /// Alive or Dying.
    pub life: Life,
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// Number.
    pub id: u64,
    /// Operation that it belongs to.
    pub operation: u64,
    /// Unit.
    pub unit: String,
    /// Action's name, or `juju-exec`.
    pub action: String,
    /// Parameters; of `juju-exec` its `command`.
    pub parameters: serde_json::Map<String, Value>,
    /// Status word.
    pub status: String,
    /// Why it failed.
    pub message: String,
    /// Lines of `action-log`.
    pub log: Vec<(Timestamp, String)>,
    /// Results.
    pub results: serde_json::Map<String, Value>,
    /// Its process and the time at which that started, in clock ticks.
    pub process: Option<(u32, u64)>,
    /// When it was queued.
    pub enqueued: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
}

impl Model {
    /// Makes an empty model.
    #[must_use]
    pub fn new(name: &str, uuid: &str, network: [u8; 2]) -> Self {
        Self {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            variant: Variant::default(),
            settings: Settings::default(),
            network,
            next_host: crate::limits::HOST_FIRST,
            next_pod: crate::limits::HOST_FIRST,
            next_machine: 0,
            next_storage: 0,
            next_relation: 0,
            next_task: 0,
            applications: BTreeMap::new(),
            units: BTreeMap::new(),
            relations: BTreeMap::new(),
            storage: BTreeMap::new(),
            secrets: BTreeMap::new(),
            tasks: BTreeMap::new(),
        }
    }

    /// Returns a unit's address.
    #[must_use]
    pub fn address(&self, unit: &Unit) -> Ipv4Addr {
        unit.address.unwrap_or(Ipv4Addr::new(
            127,
            self.network[0],
            self.network[1],
            unit.host,
        ))
    }

    /// Returns a unit's address as people see it: empty while its machine is being made.
    #[must_use]
    pub fn shown_address(&self, unit: &Unit) -> String {
        if self.settings.has_machines() && unit.address.is_none() {
            return String::new();
        }
        self.address(unit).to_string()
    }

    /// Returns the address under which others are told to reach a unit.
    ///
    /// On Kubernetes it is that of the application's service, the same for all units.
    #[must_use]
    pub fn ingress(&self, unit: &Unit) -> Ipv4Addr {
        match self.applications.get(&unit.application) {
            Some(application) if self.settings.has_pods() => {
                self.pod_address(application.service_host)
            }
            _ => self.address(unit),
        }
    }

    /// Returns the address with a host number in the network of the model's pods.
    #[must_use]
    pub fn pod_address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.network[0], self.network[1], host)
    }

    /// Returns the engine's own address.
    #[must_use]
    pub fn controller(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.network[0], self.network[1], 1)
    }

    /// Returns a unit and its application.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<(&Unit, &Application)> {
        let unit = self.units.get(name)?;
        Some((unit, self.applications.get(&unit.application)?))
    }

    /// Returns the units of an application, by number.
    #[must_use]
    pub fn units_of(&self, application: &str) -> Vec<&Unit> {
        let mut units: Vec<_> = self
            .units
            .values()
            .filter(|unit| unit.application == application)
            .collect();
        units.sort_by_key(|unit| unit.number);
        units
    }

    /// Returns the unit that leads an application at this moment.
    #[must_use]
    pub fn leader(&self, application: &str) -> Option<&str> {
        let lease = self.applications.get(application)?.lease.as_ref()?;
        (lease.until > Timestamp::now()).then_some(lease.holder.as_str())
    }

    /// Tells whether a unit leads its application at this moment.
    #[must_use]
    pub fn is_leader(&self, unit: &str) -> bool {
        self.units
            .get(unit)
            .is_some_and(|found| self.leader(&found.application) == Some(unit))
    }

    /// Takes the next number of operations and tasks.
    pub fn take_task_number(&mut self) -> u64 {
        self.next_task += 1;
        self.next_task
    }

    /// Returns the units that a unit's agent is told to be in a relation with it, with their versions.
    ///
    /// Source: in 3.6 a clean-up marks all scopes of a dying unit as departing at once, while in 4.0 a
    /// unit stays until it has left by itself or is removed.
    #[must_use]
    pub fn remote_members(&self, relation: &Relation, me: &Unit) -> BTreeMap<String, u64> {
        let peer = relation.is_peer();
        relation
            .scope
            .iter()
            .filter(|name| **name != me.name)
            .filter(|name| peer == (application_of(name) == me.application))
            .filter(|name| {
                self.variant.is_four()
                    || self
                        .units
                        .get(*name)
                        .is_some_and(|unit| unit.life == Life::Alive)
            })
            .map(|name| {
                let version = relation
                    .units
                    .get(name)
                    .map_or(0, |bag| bag.version(self.variant));
                (name.clone(), version)
            })
            .collect()
    }
}

/// Returns the application in a unit's name.
#[must_use]
pub fn application_of(unit: &str) -> &str {
    unit.rsplit_once('/')
        .map_or(unit, |(application, _)| application)
}

/// Returns a unit's tag, which names its directories.
#[must_use]
pub fn tag(unit: &str) -> String {
    format!("unit-{}", unit.replace('/', "-"))
}

/// Adds seconds to a time; what does not fit is cut off at the end of time.
#[must_use]
pub fn later(from: Timestamp, seconds: f64) -> Timestamp {
    let span =
        std::time::Duration::try_from_secs_f64(seconds.clamp(0.0, 1.0e9)).unwrap_or_default();
    from.checked_add(span).unwrap_or(Timestamp::MAX)
}
