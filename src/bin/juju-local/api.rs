//! What the command line and the engine say to each other: one JSON line each way over a unix socket.
//!
//! A connection carries one [`Request`] and one [`Response`]. Requests never wait for units: they record what
//! is wanted and return; who wants to wait asks again ([`Request::Status`], [`Request::Tasks`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::StatusReport;

/// One request to the engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Asks whether the engine lives. Answer: [`Response::Done`].
    Ping,
    /// Deploys an application. Answer: [`Response::Deployed`].
    Deploy(Box<Deploy>),
    /// Adds units to an application. Answer: [`Response::Names`] (the units).
    AddUnit {
        /// Application that grows.
        application: String,
        /// How many units; at least 1.
        count: u32,
        /// Ids of detached storage for the new unit; only with `count` 1.
        attach_storage: Vec<String>,
    },
    /// Removes units by name. Answer: [`Response::Removing`].
    RemoveUnit {
        /// Units by name.
        units: Vec<String>,
        /// How to remove them.
        how: Removal,
    },
    /// Gives an application on Kubernetes another number of units. Answer: [`Response::Removing`] or
    /// [`Response::Names`].
    Scale {
        /// Application.
        application: String,
        /// Number of units.
        units: u32,
        /// The number is of units that go, not of units that are there then.
        fewer: bool,
        /// How units are removed.
        how: Removal,
    },
    /// Removes an application with all its units. Answer: [`Response::Removing`].
    RemoveApplication {
        /// Application to remove.
        application: String,
        /// How to remove it.
        how: Removal,
    },
    /// Asks for the status of everything. Answer: [`Response::Status`].
    Status,
    /// Asks for an application's options. Answer: [`Response::Config`].
    GetConfig {
        /// Application.
        application: String,
    },
    /// Sets and resets an application's options; values are text as a person writes it. Answer: [`Response::Done`].
    SetConfig {
        /// Application.
        application: String,
        /// Option to text.
        set: BTreeMap<String, String>,
        /// Options that go back to their defaults.
        reset: Vec<String>,
    },
    /// Queues an action. Answer: [`Response::Scheduled`].
    Run {
        /// Units by name, or `<application>/leader`.
        units: Vec<String>,
        /// Action.
        action: String,
        /// Parameters, not yet checked against the schema.
        parameters: serde_json::Map<String, Value>,
    },
    /// Queues a shell command in the hook context of units. Answer: [`Response::Scheduled`].
    Exec {
        /// Units by name, or `<application>/leader`.
        units: Vec<String>,
        /// All units of these applications.
        applications: Vec<String>,
        /// Every unit of the model.
        all: bool,
        /// Shell text.
        command: String,
    },
    /// Asks for tasks by id; none given: all. Answer: [`Response::Tasks`].
    Tasks {
        /// Task ids.
        ids: Vec<u64>,
    },
    /// Asks for operations by id; none given: all. Answer: [`Response::Operations`].
    Operations {
        /// Operation ids.
        ids: Vec<u64>,
    },
    /// Cancels tasks. Answer: [`Response::Tasks`].
    CancelTasks {
        /// Task ids.
        ids: Vec<u64>,
    },
    /// Lists the actions of an application. Answer: [`Response::Value`] (map of action to description).
    Actions {
        /// Application.
        application: String,
    },
    /// Resolves the failed hook of units. Answer: [`Response::Done`].
    Resolved {
        /// Units by name.
        units: Vec<String>,
        /// Every unit that is in error.
        all: bool,
        /// Counts the failed hook as done instead of running it again.
        no_retry: bool,
    },
    /// Relates two endpoints, each `application[:endpoint]`. Answer: [`Response::Done`].
    Integrate {
        /// The two endpoints.
        endpoints: [String; 2],
    },
    /// Removes a relation between two endpoints, each `application[:endpoint]`. Answer: [`Response::Done`].
    RemoveRelation {
        /// The two endpoints.
        endpoints: [String; 2],
    },
    /// Adds a secret of the person. Answer: [`Response::Names`] (its URI).
    AddSecret {
        /// Name.
        name: String,
        /// Key to value.
        content: BTreeMap<String, String>,
        /// Description.
        description: Option<String>,
    },
    /// Makes a new revision of a secret of the person. Answer: [`Response::Done`].
    UpdateSecret {
        /// Name or URI.
        secret: String,
        /// Key to value; empty keeps the content.
        content: BTreeMap<String, String>,
        /// Description; absent keeps it.
        description: Option<String>,
    },
    /// Lets applications read a secret of the person. Answer: [`Response::Done`].
    GrantSecret {
        /// Name or URI.
        secret: String,
        /// Applications.
        applications: Vec<String>,
    },
    /// Ends what [`Request::GrantSecret`] began. Answer: [`Response::Done`].
    RevokeSecret {
        /// Name or URI.
        secret: String,
        /// Applications.
        applications: Vec<String>,
    },
    /// Removes a secret of the person. Answer: [`Response::Done`].
    RemoveSecret {
        /// Name or URI.
        secret: String,
    },
    /// Lists all secrets without content. Answer: [`Response::Secrets`].
    Secrets,
    /// Shows one secret. Answer: [`Response::Secrets`] (one).
    ShowSecret {
        /// Name, label, id or URI.
        secret: String,
        /// With its content.
        reveal: bool,
        /// A certain revision; otherwise the latest.
        revision: Option<u64>,
    },
    /// Shows a unit with its databags, in the shape of `show-unit`. Answer: [`Response::Value`].
    ShowUnit {
        /// Unit by name.
        unit: String,
    },
    /// Lists storage. Answer: [`Response::Status`], of which only `storage` matters.
    Storage,
    /// Adds storage to a unit. Answer: [`Response::Names`] (storage ids).
    AddStorage {
        /// Unit by name.
        unit: String,
        /// Storage name.
        name: String,
        /// How many instances.
        count: u32,
    },
    /// Attaches detached storage to a unit. Answer: [`Response::Done`].
    AttachStorage {
        /// Unit by name.
        unit: String,
        /// Storage ids.
        storage: Vec<String>,
    },
    /// Detaches storage from its unit. Answer: [`Response::Done`].
    DetachStorage {
        /// Storage ids.
        storage: Vec<String>,
    },
    /// Removes detached storage with its data. Answer: [`Response::Done`].
    RemoveStorage {
        /// Storage ids.
        storage: Vec<String>,
        /// Also storage that is attached (it is detached first).
        force: bool,
    },
    /// Puts other charm files in place. Answer: [`Response::Deployed`].
    Refresh {
        /// Application.
        application: String,
        /// Charm directory or archive, absolute.
        path: PathBuf,
        /// Also on units whose hook has failed.
        force_units: bool,
        /// Resource name to absolute file path.
        resources: BTreeMap<String, PathBuf>,
    },
    /// A handle that only this engine has, for tests and trials. Answer: [`Response::Done`].
    Handle(Handle),
    /// Ends all processes, removes all files and the engine. Answer: [`Response::Done`].
    Destroy,
    /// A hook tool's call. Answer: [`Response::Tool`].
    HookTool(HookToolCall),
    /// A `juju-exec` call on the unit's machine. Answer: [`Response::Tool`], when the command has ended.
    JujuExec(JujuExecCall),
}

/// What is deployed and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// Charm directory or archive, absolute.
    pub path: PathBuf,
    /// Application's name; otherwise the charm's.
    pub name: Option<String>,
    /// Units at the start.
    pub units: u32,
    /// Option to text.
    pub config: BTreeMap<String, String>,
    /// Environment for all hooks of the application.
    pub env: BTreeMap<String, String>,
    /// Storage name to directive text, such as `1G`, `3` or `2,1G`.
    pub storage: BTreeMap<String, String>,
    /// Resource name to absolute file path.
    pub resources: BTreeMap<String, PathBuf>,
    /// Whether the application is trusted.
    pub trust: bool,
    /// Ids of detached storage for the first unit; only with `units` 1.
    pub attach_storage: Vec<String>,
}

/// How a unit or an application is removed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Removal {
    /// Removes even when hooks fail, after a wait.
    pub force: bool,
    /// Drops the wait of `force`.
    pub no_wait: bool,
    /// Removes the storage with its data instead of detaching it.
    pub destroy_storage: bool,
}

/// Handles for tests and trials.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handle {
    /// Moves the leadership lease to the unit.
    Leader(String),
    /// Stops the unit's processes and its agent (SIGSTOP).
    Freeze(String),
    /// Lets a frozen unit go on (SIGCONT).
    Thaw(String),
    /// Ends the unit's processes and its agent at once, as a machine that vanished.
    Kill(String),
    /// Ends the unit's processes at once and starts its agent again, as a machine that rebooted.
    Reboot {
        /// Unit by name.
        unit: String,
        /// Also empties its storage.
        lose_disk: bool,
    },
    /// Drops the traffic between the unit's address and all others, and holds its agent.
    Cut(String),
    /// Ends what [`Handle::Cut`] began.
    Heal(String),
    /// Behaves as another version of Juju: `3.6`, `4.0` or `4.0-bug`.
    Variant(String),
    /// Changes model settings, each `key=value`.
    Setting(BTreeMap<String, String>),
    /// Lists the model settings. Answer: [`Response::Value`].
    Settings,
    /// Ends the units' pods and brings them back with other addresses.
    Evict {
        /// Units by name.
        units: Vec<String>,
        /// Without SIGTERM and the time to stop.
        now: bool,
    },
    /// Ends a container of a unit's pod at once; it starts again.
    ContainerRestart {
        /// Unit by name.
        unit: String,
        /// Container.
        container: String,
    },
    /// Starts the agent of a unit's pod anew.
    AgentRestart(String),
    /// Ends the engine at once, as `kill -9` would.
    CrashEngine,
}

/// A hook tool's call as it comes from the link in the tools directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookToolCall {
    /// `JUJU_CONTEXT_ID`.
    pub context: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments without the name.
    pub arguments: Vec<String>,
    /// Working directory, for relative paths in arguments.
    pub directory: PathBuf,
    /// Standard input, once asked for.
    pub stdin: Option<String>,
}

/// A `juju-exec` call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JujuExecCall {
    /// Unit by name.
    pub unit: String,
    /// Shell text.
    pub command: String,
    /// Relation id of the context.
    pub relation: Option<String>,
    /// Remote unit of the context.
    pub remote_unit: Option<String>,
    /// Whether the remote unit need not be a member.
    pub force_remote_unit: bool,
}

/// The engine's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done; nothing to say.
    Done,
    /// Refused or failed; the text is for a person, without the prefix `ERROR`.
    Error(String),
    /// A charm is deployed or refreshed.
    Deployed {
        /// Application.
        application: String,
        /// Charm's name.
        charm: String,
        /// Charm's revision in this model.
        revision: u32,
        /// Base such as `ubuntu@24.04/stable`.
        base: String,
    },
    /// Names of what was made.
    Names(Vec<String>),
    /// What is being removed.
    Removing(Vec<Removing>),
    /// The status.
    Status(Box<StatusReport>),
    /// An application's options.
    Config(Box<ConfigReport>),
    /// Tasks were queued.
    Scheduled {
        /// Operation.
        operation: u64,
        /// Task ids with their units, in the order of the request.
        tasks: Vec<(u64, String)>,
    },
    /// Tasks.
    Tasks(Vec<TaskReport>),
    /// Operations.
    Operations(Vec<OperationReport>),
    /// Secrets.
    Secrets(Vec<SecretReport>),
    /// A document in the shape that Juju prints.
    Value(Value),
    /// A hook tool's or `juju-exec`'s end.
    Tool(ToolEnd),
}

/// How a hook tool or `juju-exec` ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ToolEnd {
    /// Exit status.
    pub code: u8,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The tool must be called again with its standard input.
    pub wants_stdin: bool,
}

/// One thing that is being removed, with what becomes of its storage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removing {
    /// Unit by name, or the application's name.
    pub name: String,
    /// Whether `name` is an application.
    pub is_application: bool,
    /// Units that go with an application.
    pub units: Vec<String>,
    /// Storage that stays, by id.
    pub detaches: Vec<String>,
    /// Storage that is removed, by id.
    pub removes: Vec<String>,
}

/// An application's options, in the shape of `juju config <application> --format json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigReport {
    /// Application.
    pub application: String,
    /// Options of the application itself (`trust`).
    #[serde(rename = "application-config")]
    pub application_config: BTreeMap<String, OptionReport>,
    /// Charm's name.
    pub charm: String,
    /// Options of the charm.
    pub settings: BTreeMap<String, OptionReport>,
}

/// One option.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OptionReport {
    /// Default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for.
    pub description: String,
    /// `default`, `user` or `unset`.
    pub source: String,
    /// Type's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// One task: an action, or `juju-exec`, on one unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskReport {
    /// Task id.
    pub id: u64,
    /// Operation that it belongs to.
    pub operation: u64,
    /// Unit by name.
    pub unit: String,
    /// Action's name, or `juju-exec`.
    pub action: String,
    /// `pending`, `running`, `completed`, `failed`, `aborted`, `cancelled` or `error`.
    pub status: String,
    /// Why it failed.
    pub message: String,
    /// Lines of `action-log`: time (`2026-08-01 10:11:12 +0000 UTC`) and text.
    pub log: Vec<(String, String)>,
    /// Results; with `return-code` (number), `stdout`, `stderr`.
    pub results: serde_json::Map<String, Value>,
    /// When it was queued, `2026-08-01 10:11:12 +0000 UTC`.
    pub enqueued: String,
    /// When it began.
    pub started: Option<String>,
    /// When it ended.
    pub completed: Option<String>,
}

impl TaskReport {
    /// Tells whether the task has come to its end.
    #[must_use]
    pub fn ended(&self) -> bool {
        !matches!(self.status.as_str(), "pending" | "running" | "aborting")
    }
}

/// One operation: what one command asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationReport {
    /// Operation id.
    pub id: u64,
    /// Summary, such as `backup run on unit-app-0`.
    pub summary: String,
    /// Worst status of its tasks.
    pub status: String,
    /// Its tasks.
    pub tasks: Vec<TaskReport>,
}

/// One secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretReport {
    /// Id without `secret:`.
    pub id: String,
    /// Name (secrets of the person) or label.
    pub name: Option<String>,
    /// `<model>` for the person's, else the application's or unit's name.
    pub owner: String,
    /// Latest revision, or the one asked for.
    pub revision: u64,
    /// Rotation policy.
    pub rotation: String,
    /// Description.
    pub description: String,
    /// When it was made, `01 Aug 2026 10:11:12Z`.
    pub created: String,
    /// When it was changed last.
    pub updated: String,
    /// Applications and units that may read it.
    pub access: Vec<String>,
    /// Content, when revealed.
    pub content: Option<BTreeMap<String, String>>,
}
