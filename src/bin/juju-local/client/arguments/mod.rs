//! What may be typed. Names and flags are `juju`'s; `--wait`, `handle` and `destroy` are our own.
//!
//! The commands stand here, what each of them takes in `details`.

mod details;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::output::{Document, Format};

pub use details::{
    AddSecret, AddUnit, Config, DebugLog, Deploy, Exec, Handle, Refresh, Removal,
    RemoveApplication, RemoveUnit, Run, ScaleApplication, ShowSecret, Status, StatusFormat,
    TaskFormat, TaskOptions, UpdateSecret, Wait, WaitFor,
};

const AFTER_HELP: &str = "\
A model lives in a state directory: --state, $JUJU_LOCAL_STATE, or ~/.local/state/juju-local/default.
The first deploy begins it; its engine runs in the background; `destroy` ends all of it.

Try:
  juju-local deploy ./my-charm -n 3 --wait     deploy three units and wait until they are ready
  juju-local status --watch 1s                 look on
  juju-local run my-charm/leader ACTION        run an action
  juju-local debug-log --follow                see what the charm logs
  juju-local destroy                           remove everything";

/// Runs Juju charms on this machine, without a controller: every unit with its own address, directories and processes.
#[derive(Debug, Parser)]
#[command(name = "juju-local", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// Directory in which the model lives
    #[arg(
        long,
        global = true,
        env = "JUJU_LOCAL_STATE",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub state: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy a charm from a directory or a .charm archive
    Deploy(Deploy),
    /// Add units to an application
    AddUnit(AddUnit),
    /// Remove units
    RemoveUnit(RemoveUnit),
    /// Give an application on Kubernetes another number of units
    ScaleApplication(ScaleApplication),
    /// Remove an application with all its units
    RemoveApplication(RemoveApplication),
    /// Put new charm files in place
    #[command(alias = "upgrade-charm")]
    Refresh(Refresh),
    /// Relate two applications
    #[command(alias = "relate")]
    Integrate {
        /// The two ends, each APPLICATION or APPLICATION:ENDPOINT
        #[arg(num_args = 2, required = true, value_name = "APPLICATION[:ENDPOINT]")]
        endpoints: Vec<String>,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove a relation
    RemoveRelation {
        /// The two ends, each APPLICATION or APPLICATION:ENDPOINT
        #[arg(num_args = 2, required = true, value_name = "APPLICATION[:ENDPOINT]")]
        endpoints: Vec<String>,
    },
    /// Show or change an application's options
    Config(Config),
    /// Show the state of everything
    Status(Status),
    /// Wait until applications or units are active and idle
    WaitFor(WaitFor),
    /// Show a unit with its relation data
    ShowUnit {
        /// Units, such as app/0
        #[arg(required = true)]
        units: Vec<String>,
        /// Form of the output
        #[arg(long, default_value = "yaml")]
        format: Document,
    },
    /// Run an action on units
    Run(Run),
    /// Run a shell command in the hook context of units
    Exec(Exec),
    /// List an application's actions
    Actions {
        /// Application
        application: String,
        /// Form of the output
        #[arg(long, default_value = "tabular")]
        format: Format,
    },
    /// List operations
    Operations {
        /// Form of the output
        #[arg(long, default_value = "tabular")]
        format: Format,
    },
    /// Show an operation
    ShowOperation {
        /// Its id
        id: u64,
        /// Form of the output
        #[arg(long, default_value = "yaml")]
        format: Document,
    },
    /// Show a task
    ShowTask {
        /// Its id
        id: u64,
        /// Form of the output
        #[arg(long, default_value = "yaml")]
        format: Document,
    },
    /// Cancel tasks
    CancelTask {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<u64>,
    },
    /// Run the failed hook of units again, or skip it
    #[command(alias = "resolve")]
    Resolved {
        /// Units
        #[arg(required_unless_present = "all")]
        units: Vec<String>,
        /// Every unit in error
        #[arg(long, conflicts_with = "units")]
        all: bool,
        /// Count the hook as done instead of running it again
        #[arg(long)]
        no_retry: bool,
    },
    /// Show what charms and agents log
    DebugLog(DebugLog),
    /// Add a secret of your own
    AddSecret(AddSecret),
    /// Make a new revision of a secret of your own
    UpdateSecret(UpdateSecret),
    /// Let applications read a secret of your own
    GrantSecret {
        /// Name or URI
        secret: String,
        /// Applications
        #[arg(required = true, value_delimiter = ',')]
        applications: Vec<String>,
    },
    /// Let applications no longer read a secret of your own
    RevokeSecret {
        /// Name or URI
        secret: String,
        /// Applications
        #[arg(required = true, value_delimiter = ',')]
        applications: Vec<String>,
    },
    /// Remove a secret of your own
    RemoveSecret {
        /// Name or URI
        secret: String,
    },
    /// List secrets
    #[command(alias = "list-secrets")]
    Secrets {
        /// Form of the output
        #[arg(long, default_value = "tabular")]
        format: Format,
    },
    /// Show a secret
    ShowSecret(ShowSecret),
    /// List storage
    #[command(alias = "list-storage")]
    Storage {
        /// Form of the output
        #[arg(long, default_value = "tabular")]
        format: Format,
    },
    /// Add storage to a unit
    AddStorage {
        /// Unit
        unit: String,
        /// NAME or NAME=COUNT
        storage: String,
    },
    /// Attach detached storage to a unit
    AttachStorage {
        /// Unit
        unit: String,
        /// Storage ids, such as data/0
        #[arg(required = true)]
        storage: Vec<String>,
    },
    /// Detach storage from its unit; the data stays
    DetachStorage {
        /// Storage ids, such as data/0
        #[arg(required = true)]
        storage: Vec<String>,
    },
    /// Remove storage with its data
    RemoveStorage {
        /// Storage ids, such as data/0
        #[arg(required = true)]
        storage: Vec<String>,
        /// Also when it is attached
        #[arg(long)]
        force: bool,
    },
    /// Faults and settings for tests and trials, which Juju has no command for
    Handle {
        /// Which.
        #[command(subcommand)]
        handle: Handle,
    },
    /// End all processes and remove all files of the model
    #[command(alias = "destroy-model")]
    Destroy,
    /// Run the engine in the foreground
    #[command(hide = true)]
    Engine,
    /// Begin a container of a pod
    #[command(hide = true)]
    Inside {
        /// What to do
        spec: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lines_as_people_type_them_are_understood() {
        for line in [
            "deploy ./charm",
            "deploy ./charm app -n 3 --wait --env A=b --config x=1 --config f.yaml --storage data=1G --trust",
            "add-unit app -n 2 --wait=5m",
            "remove-unit app/0 app/1 --force --no-wait --wait",
            "run app/0 app/leader backup target=x --wait 5m --format json",
            "exec --unit app/0 -- sh -c 'echo --x'",
            "exec -a app --wait 5s hostname -f",
            "config app x=1 --reset y,z",
            "debug-log --follow -n 5 --include app/0",
            "status --watch 1s --state /tmp/x",
            "handle reboot app/0 --lose-disk",
            "handle setting lease-seconds=2",
            "show-secret --reveal name --format json",
        ] {
            let words = std::iter::once("juju-local".to_owned()).chain(shlex::split(line).unwrap());
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "",
            "deploy",
            "remove-unit",
            "run",
            "exec --unit a/0",
            "add-unit app -n x",
            "resolved",
            "handle variant 5",
            "remove-unit a/0 --no-wait",
        ] {
            let words = std::iter::once("juju-local").chain(line.split_whitespace());
            assert_eq!(
                Arguments::try_parse_from(words).unwrap_err().exit_code(),
                2,
                "{line}"
            );
        }
    }
}
