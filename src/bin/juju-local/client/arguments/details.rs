//! What each command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::input::{duration, pair};
use super::super::output::Document;
use crate::limits::{TASK_WAIT_DEFAULT, WAIT_DEFAULT};

/// How long to wait, if at all.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until it is done, showing progress; give a time as --wait=5m
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = WAIT_DEFAULT, value_name = "TIME",
          value_parser = duration)]
    pub wait: Option<Duration>,
}

/// Deploys.
#[derive(Debug, Args)]
pub struct Deploy {
    /// Charm: an unpacked directory or a .charm archive
    pub path: PathBuf,
    /// Name of the application; the charm's if not given
    pub name: Option<String>,
    /// Number of units
    #[arg(short = 'n', long, default_value_t = 1, value_name = "N")]
    pub num_units: u32,
    /// Option as KEY=VALUE (KEY=@FILE for a file's text), or a YAML file of options by application
    #[arg(long, value_name = "KEY=VALUE|FILE")]
    pub config: Vec<String>,
    /// Environment variable for all hooks of the application
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Storage directive, such as data=1G or data=2
    #[arg(long, value_name = "NAME=DIRECTIVE", value_parser = pair)]
    pub storage: Vec<(String, String)>,
    /// Resource file
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    pub resource: Vec<(String, String)>,
    /// Detached storage for the unit
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub attach_storage: Vec<String>,
    /// Trust the application
    #[arg(long)]
    pub trust: bool,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Adds units.
#[derive(Debug, Args)]
pub struct AddUnit {
    /// Application
    pub application: String,
    /// Number of units
    #[arg(short = 'n', long, default_value_t = 1, value_name = "N")]
    pub num_units: u32,
    /// Detached storage for the new unit
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub attach_storage: Vec<String>,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// How something is removed.
// Flags of a command line are booleans by nature.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Args)]
pub struct Removal {
    /// Remove even when hooks fail; the charm may be cut off
    #[arg(long)]
    pub force: bool,
    /// With --force: do not wait before it
    #[arg(long, requires = "force")]
    pub no_wait: bool,
    /// Remove the storage with its data instead of detaching it
    #[arg(long)]
    pub destroy_storage: bool,
    /// Accepted for Juju's sake; nothing is asked here
    #[arg(long, hide = true)]
    pub no_prompt: bool,
}

/// Removes units.
#[derive(Debug, Args)]
pub struct RemoveUnit {
    /// Units, such as app/0; on Kubernetes the application
    #[arg(required = true)]
    pub units: Vec<String>,
    /// On Kubernetes: how many units, those of the highest numbers
    #[arg(long, value_name = "N")]
    pub num_units: Option<u32>,
    /// How.
    #[command(flatten)]
    pub removal: Removal,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Gives an application on Kubernetes another number of units.
#[derive(Debug, Args)]
pub struct ScaleApplication {
    /// Application
    pub application: String,
    /// Number of units
    pub scale: u32,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Removes an application.
#[derive(Debug, Args)]
pub struct RemoveApplication {
    /// Application
    pub application: String,
    /// How.
    #[command(flatten)]
    pub removal: Removal,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Refreshes a charm.
#[derive(Debug, Args)]
pub struct Refresh {
    /// Application
    pub application: String,
    /// Charm: an unpacked directory or a .charm archive
    #[arg(long)]
    pub path: PathBuf,
    /// Also on units whose hook has failed
    #[arg(long)]
    pub force_units: bool,
    /// Resource file
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    pub resource: Vec<(String, String)>,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Shows or changes options.
#[derive(Debug, Args)]
pub struct Config {
    /// Application
    pub application: String,
    /// One KEY to show, or KEY=VALUE (KEY=@FILE) to set
    #[arg(value_name = "KEY|KEY=VALUE")]
    pub options: Vec<String>,
    /// YAML file of options to set
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Options that go back to their defaults
    #[arg(long, value_delimiter = ',', value_name = "KEY")]
    pub reset: Vec<String>,
    /// Form of the output
    #[arg(long, default_value = "yaml")]
    pub format: Document,
}

/// Forms of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// Tables for people
    Tabular,
    /// JSON in one line
    Json,
    /// YAML
    Yaml,
    /// One line per unit
    #[value(aliases = ["oneline", "line"])]
    Short,
}

/// Shows the status.
// Flags of a command line are booleans by nature.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Args)]
pub struct Status {
    /// Only these applications, units, or status words
    pub only: Vec<String>,
    /// Form of the output
    #[arg(long, default_value = "tabular")]
    pub format: StatusFormat,
    /// Show it again at each such time, until interrupted
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub watch: Option<Duration>,
    /// Also show relations
    #[arg(long, alias = "integrations")]
    pub relations: bool,
    /// Also show storage
    #[arg(long)]
    pub storage: bool,
    /// Colour even when the output is no terminal
    #[arg(long, conflicts_with = "no_color")]
    pub color: bool,
    /// No colour
    #[arg(long)]
    pub no_color: bool,
    /// Accepted for Juju's sake; times are UTC
    #[arg(long, hide = true)]
    pub utc: bool,
}

/// Waits.
#[derive(Debug, Args)]
pub struct WaitFor {
    /// Applications or units; all applications if none is given
    pub names: Vec<String>,
    /// Longest time to wait
    #[arg(long, default_value = WAIT_DEFAULT, value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

/// Forms of a task's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TaskFormat {
    /// Results and output as they are
    Plain,
    /// YAML
    Yaml,
    /// JSON in one line
    Json,
}

/// What `run` and `exec` share.
#[derive(Debug, Args)]
pub struct TaskOptions {
    /// Return at once
    #[arg(long, conflicts_with = "wait")]
    pub background: bool,
    /// Longest time to wait for the results; the task goes on after it
    #[arg(long, default_value = TASK_WAIT_DEFAULT, value_name = "TIME", value_parser = duration)]
    pub wait: Duration,
    /// Form of the results
    #[arg(long, default_value = "plain")]
    pub format: TaskFormat,
    /// Accepted for Juju's sake; times are UTC
    #[arg(long, hide = true)]
    pub utc: bool,
}

/// Runs an action.
#[derive(Debug, Args)]
pub struct Run {
    /// Units (or APPLICATION/leader), the action, and its parameters
    #[arg(required = true, value_name = "UNIT… ACTION [KEY=VALUE…]")]
    pub words: Vec<String>,
    /// YAML file of parameters
    #[arg(long, value_name = "FILE")]
    pub params: Option<PathBuf>,
    /// Take values as text, not as YAML
    #[arg(long)]
    pub string_args: bool,
    /// What it shares with exec.
    #[command(flatten)]
    pub options: TaskOptions,
}

/// Runs a command.
#[derive(Debug, Args)]
pub struct Exec {
    /// Units (or APPLICATION/leader)
    #[arg(short, long, value_delimiter = ',')]
    pub unit: Vec<String>,
    /// All units of applications
    #[arg(short, long, value_delimiter = ',')]
    pub application: Vec<String>,
    /// Every unit
    #[arg(long)]
    pub all: bool,
    /// What it shares with run.
    #[command(flatten)]
    pub options: TaskOptions,
    /// The command, after --
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

/// Shows the log.
#[derive(Debug, Args)]
pub struct DebugLog {
    /// Go on showing what comes, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with this many of the last lines; everything without --follow, 10 with it
    #[arg(short = 'n', long, visible_alias = "tail", value_name = "N")]
    pub lines: Option<usize>,
    /// Only these units or applications
    #[arg(short, long, value_delimiter = ',', value_name = "NAME")]
    pub include: Vec<String>,
    /// Lowest level: TRACE, DEBUG, INFO, WARNING or ERROR
    #[arg(short, long, value_name = "LEVEL")]
    pub level: Option<String>,
}

/// What a secret holds and is for.
#[derive(Debug, Args)]
pub struct SecretFields {
    /// Content as KEY=VALUE, or KEY#file=FILE for a file's text, which keeps it off the command line
    #[arg(value_name = "KEY=VALUE")]
    pub content: Vec<String>,
    /// YAML file of the content, - for standard input
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// What it is for
    #[arg(long, alias = "info")]
    pub description: Option<String>,
}

/// Adds a secret.
#[derive(Debug, Args)]
pub struct AddSecret {
    /// Name
    pub name: String,
    /// What it holds and is for.
    #[command(flatten)]
    pub with: SecretFields,
}

/// Changes a secret.
#[derive(Debug, Args)]
pub struct UpdateSecret {
    /// Name or URI
    pub secret: String,
    /// What it holds and is for.
    #[command(flatten)]
    pub with: SecretFields,
}

/// Shows a secret.
#[derive(Debug, Args)]
pub struct ShowSecret {
    /// Name, label, id or URI
    pub secret: String,
    /// With its content
    #[arg(long)]
    pub reveal: bool,
    /// A certain revision instead of the latest
    #[arg(short, long)]
    pub revision: Option<u64>,
    /// Form of the output
    #[arg(long, default_value = "yaml")]
    pub format: Document,
}

/// Handles for tests and trials.
#[derive(Debug, Subcommand)]
pub enum Handle {
    /// Move the leadership to a unit
    Leader {
        /// Unit
        unit: String,
    },
    /// Stop a unit's processes and its agent, as a machine that hangs
    Freeze {
        /// Unit
        unit: String,
    },
    /// Let a frozen unit go on
    Thaw {
        /// Unit
        unit: String,
    },
    /// End a unit's processes and its agent at once, as a machine that vanished
    Kill {
        /// Unit
        unit: String,
    },
    /// End a unit's processes at once and start its agent again, as a machine that rebooted
    Reboot {
        /// Unit
        unit: String,
        /// Also empty its storage
        #[arg(long)]
        lose_disk: bool,
    },
    /// Drop the traffic between a unit and all others (needs root and nft, iptables, tc or ip)
    Cut {
        /// Unit
        unit: String,
    },
    /// End what cut began
    Heal {
        /// Unit
        unit: String,
    },
    /// Behave as another version of Juju
    Variant {
        /// Version
        #[arg(value_parser = ["3.6", "4.0", "4.0-bug"])]
        version: String,
    },
    /// Show the model's settings, or change some
    Setting {
        /// Settings to change
        #[arg(value_name = "KEY=VALUE", value_parser = pair)]
        settings: Vec<(String, String)>,
    },
    /// End pods and bring them back with other addresses, as after an eviction (Kubernetes only)
    Evict {
        /// Units
        #[arg(required = true)]
        units: Vec<String>,
        /// Without SIGTERM and time to stop
        #[arg(long)]
        now: bool,
    },
    /// End a container of a unit's pod at once; it starts again (Kubernetes only)
    ContainerRestart {
        /// Unit
        unit: String,
        /// Container
        container: String,
    },
    /// Start the agent of a unit's pod anew (Kubernetes only)
    AgentRestart {
        /// Unit
        unit: String,
    },
    /// End the engine at once; the next command starts it again
    CrashEngine,
}
