//! Everything that the planner may know: one look at Juju, the servers, the Sentinels and this machine.
//!
//! What could not be seen stays unknown, with the reason; nothing here is guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    names::UnitName,
    peer_data::{AppData, Identity, UnitData},
};

/// Something that was looked at: known, or unknown with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen<T> {
    /// It answered.
    Known(T),
    /// It did not answer, or not in a way that could be understood.
    Unknown(String),
}

impl<T> Seen<T> {
    /// Returns what was seen, if anything.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// One look at everything that matters to this unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// This unit.
    pub me: UnitName,
    /// What this pass is for.
    pub intent: Intent,
    /// Whether this unit was the application's leader when it was asked.
    pub leader: bool,
    /// The application's databag as it was committed before this hook.
    pub app: AppData,
    /// The application's databag as it will be when this hook succeeds.
    pub app_wanted: AppData,
    /// Every unit that is not provably gone, this one among them.
    pub units: BTreeMap<UnitName, Unit>,
    /// Databag values of peers that could not be read.
    pub malformed: Vec<String>,
    /// Settings as the configuration asks for them.
    pub settings: Settings,
    /// Whether the passwords of the internal users are at hand.
    pub users: Users,
    /// This unit's storage.
    pub storage: Storage,
    /// This unit's processes and data.
    pub local: Local,
    /// Server of each unit whose address is known.
    pub servers: BTreeMap<UnitName, Seen<Server>>,
    /// Sentinel of each unit whose address is known.
    pub sentinels: BTreeMap<UnitName, Seen<Sentinel>>,
    /// The lease on membership changes.
    pub lease: Lease,
    /// Seconds since 1970, by this machine's clock; only for records and fairness.
    pub now: u64,
}

/// What a pass is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Bring this unit to what the application needs.
    Reconcile,
    /// This unit loses its storage: leave the set, or only stop when the unit lives on.
    Leave,
    /// Only look.
    Look,
}

/// A unit as Juju shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its databag; for this unit with what this hook has written.
    pub data: UnitData,
    /// Whether it is being removed.
    pub dying: bool,
}

/// Settings as the configuration asks for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Time until a silent primary counts as down, in milliseconds.
    pub down_after_ms: u64,
    /// Server settings that can be changed while it runs, as `CONFIG GET` shows them.
    pub runtime: BTreeMap<String, String>,
    /// Digest of what the server reads, or is, from its start on: settings, its program's build, what its
    /// service confines it to.
    pub start_digest: String,
    /// Options that could not be used, each with what is wrong.
    pub problems: Vec<String>,
}

/// Whether the passwords of the internal users are at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Users {
    /// They are.
    Ready,
    /// The leader has not made them yet.
    Missing,
    /// They exist, but cannot be read.
    Unreadable(String),
}

/// This unit's storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// Attached and usable.
    Ready,
    /// Not attached yet.
    Missing,
    /// Attached, but not usable.
    Problem(String),
}

/// A local process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Process {
    /// It runs.
    Running,
    /// It does not.
    Stopped,
}

/// This unit's processes and data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts that are independent of each other"
)]
pub struct Local {
    /// Address or name of this unit.
    pub address: String,
    /// The server's process.
    pub server: Process,
    /// Sentinel's process.
    pub sentinel: Process,
    /// The watcher's process.
    pub watch: Process,
    /// The file beside the data, if there is one.
    pub identity: Option<Identity>,
    /// Whether the data directory holds a data set.
    pub has_data: bool,
    /// Whether that data set is complete: saved in order, or logged write by write.
    pub complete_data: bool,
    /// Whether the data is so large that loading it takes longer than promoting a replica.
    pub slow_to_load: bool,
    /// Whether the machine started anew since the data was last seen: the last second of the log
    /// may never have reached the disk.
    pub rebooted: bool,
    /// Whether Sentinel's own file is there.
    pub has_sentinel_file: bool,
    /// Version of valkey-server here, if it was found; what runs may be another one.
    pub server_version: Option<String>,
    /// Version of the Sentinel that runs, if it tells.
    pub sentinel_version: Option<String>,
    /// Whether the Sentinel that runs would be started as something else now: another build of its
    /// program, or other rights and limits.
    pub sentinel_differs: bool,
    /// Current values of the settings in [`Settings::runtime`], if the server answered.
    pub runtime: BTreeMap<String, String>,
}

impl Local {
    /// Returns what a machine without storage shows: nothing but its address.
    #[must_use]
    pub const fn bare(address: String) -> Self {
        Self {
            address,
            server: Process::Stopped,
            sentinel: Process::Stopped,
            watch: Process::Stopped,
            identity: None,
            has_data: false,
            complete_data: false,
            slow_to_load: false,
            rebooted: false,
            has_sentinel_file: false,
            server_version: None,
            sentinel_version: None,
            sentinel_differs: false,
            runtime: BTreeMap::new(),
        }
    }
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// What it is.
    pub role: Role,
    /// How far it has loaded its data, while it does.
    pub loading: Option<Progress>,
    /// Replication id.
    pub history: String,
    /// Earlier replication id, and the offset up to which it is the same history.
    pub earlier: Option<(String, u64)>,
    /// Replication offset in bytes.
    pub offset: u64,
    /// `replica-priority`; 0 is never promoted.
    pub priority: u64,
    /// `min-replicas-to-write`, where it is shown.
    pub min_replicas: Option<u64>,
    /// Replicas that are attached to it.
    pub replicas: Vec<Attached>,
    /// What is wrong with writing its data to disk, if anything.
    pub disk_trouble: Option<String>,
    /// Number of keys.
    pub keys: u64,
    /// Its version, if it tells.
    pub version: Option<String>,
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Accepts writes.
    Primary,
    /// Follows another.
    Replica {
        /// Host of the one it follows.
        of: String,
        /// Whether the link is up.
        link_up: bool,
        /// A first or full synchronisation under way.
        syncing: Option<Progress>,
    },
}

/// How far something in bytes has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
}

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Host that it announces.
    pub host: String,
    /// Whether it receives the stream of writes.
    pub online: bool,
    /// Offset in bytes that it acknowledged.
    pub offset: u64,
    /// Seconds since it acknowledged.
    pub lag_s: u64,
}

/// A Sentinel's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentinel {
    /// Its own id.
    pub id: String,
    /// What it monitors; nothing when it lost its state.
    pub monitor: Option<Monitor>,
}

/// What a Sentinel monitors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts as Sentinel tells them, one flag each"
)]
pub struct Monitor {
    /// Host of the primary that it names to clients and to the other Sentinels.
    pub primary: String,
    /// Epoch of that configuration.
    pub epoch: u64,
    /// Whether it cannot reach the primary.
    pub down: bool,
    /// Milliseconds for which it has not, if it cannot.
    pub down_for_ms: u64,
    /// Whether enough Sentinels agree on that.
    pub agreed_down: bool,
    /// Whether a failover is under way.
    pub failing_over: bool,
    /// Whether that failover has promoted a server: the one that it names, and of which it says here whether it is down.
    ///
    /// It ends once that server answers. Until then this Sentinel takes no part in another one.
    #[serde(default)]
    pub promoted: bool,
    /// Its quorum.
    pub quorum: usize,
    /// Its time until a silent primary counts as down, in milliseconds.
    pub down_after_ms: u64,
    /// Other Sentinels that it knows: host and whether it cannot reach them.
    pub others: Vec<Known>,
    /// Replicas that it knows.
    pub replicas: Vec<Known>,
}

/// Another process that a Sentinel knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its host.
    pub host: String,
    /// Its id.
    pub id: String,
    /// Whether the Sentinel cannot reach it.
    pub down: bool,
}

/// The lease on membership changes, kept in Valkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lease {
    /// No primary could be asked.
    Unknown,
    /// Nobody holds it.
    Free,
    /// This unit holds it.
    Mine,
    /// Another unit holds it.
    Other(String),
}
