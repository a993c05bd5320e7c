//! The hook tools, as the engine answers them.
//!
//! The link in the tools directory only carries arguments and output; flags, checks and texts are here, so that
//! a tool costs no more than a process and one exchange over a socket.

mod basics;
mod flags;
mod network;
#[cfg(test)]
mod properties;
mod relations;
mod secrets;
mod storage;

use std::path::PathBuf;

use rustix::process::Pid;
use serde_json::Value;

use crate::api::{HookToolCall, ToolEnd};

use super::context::Context;
use super::model::{Application, Model, Unit};
use super::state::{Engine, State};

pub use flags::{Flags, parse};

/// A tool's function.
type Tool = fn(&mut Call<'_>) -> Result<String, Fault>;

/// Every hook tool with its function; the tools directory has a link for each.
pub const TOOLS: &[(&str, Tool)] = &[
    ("action-fail", basics::action_fail),
    ("action-get", basics::action_get),
    ("action-log", basics::action_log),
    ("action-set", basics::action_set),
    ("application-version-set", basics::application_version_set),
    ("close-port", network::close_port),
    ("config-get", basics::config_get),
    ("credential-get", network::credential_get),
    ("goal-state", network::goal_state),
    ("is-leader", basics::is_leader),
    ("juju-log", basics::juju_log),
    ("juju-reboot", basics::juju_reboot),
    ("network-get", network::network_get),
    ("open-port", network::open_port),
    ("opened-ports", network::opened_ports),
    ("relation-get", relations::relation_get),
    ("relation-ids", relations::relation_ids),
    ("relation-list", relations::relation_list),
    ("relation-model-get", relations::relation_model_get),
    ("relation-set", relations::relation_set),
    ("resource-get", storage::resource_get),
    ("secret-add", secrets::secret_add),
    ("secret-get", secrets::secret_get),
    ("secret-grant", secrets::secret_grant),
    ("secret-ids", secrets::secret_ids),
    ("secret-info-get", secrets::secret_info_get),
    ("secret-remove", secrets::secret_remove),
    ("secret-revoke", secrets::secret_revoke),
    ("secret-set", secrets::secret_set),
    ("state-delete", storage::state_delete),
    ("state-get", storage::state_get),
    ("state-set", storage::state_set),
    ("status-get", basics::status_get),
    ("status-set", basics::status_set),
    ("storage-add", storage::storage_add),
    ("storage-get", storage::storage_get),
    ("storage-list", storage::storage_list),
    ("unit-get", network::unit_get),
];

/// Why a tool did not do what it was asked for.
#[derive(Debug)]
pub enum Fault {
    /// Wrong use: exit status 2.
    Usage(String),
    /// Refused or failed: exit status 1.
    Failed(String),
    /// Its standard input is needed: it is called again with it.
    WantsStdin,
}

/// Returns a [`Fault::Usage`].
pub fn usage<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Usage(text.into()))
}

/// Returns a [`Fault::Failed`].
pub fn failed<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Failed(text.into()))
}

/// One call of a tool.
pub struct Call<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Its memory, locked.
    pub state: &'a mut State,
    /// The run that calls.
    pub context: &'a mut Context,
    /// Arguments.
    pub arguments: &'a [String],
    /// Directory of relative paths.
    pub directory: PathBuf,
    /// Root of the caller's file system as the engine sees it, if that is another one than the engine's.
    pub root: Option<PathBuf>,
    /// Standard input, if it was given.
    pub stdin: Option<String>,
    /// Notes for standard error.
    pub notes: String,
}

impl Call<'_> {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.state.model
    }

    /// The calling unit and its application.
    ///
    /// # Errors
    ///
    /// When the unit has been removed meanwhile.
    pub fn unit(&self) -> Result<(&Unit, &Application), Fault> {
        let name = &self.context.unit;
        self.state
            .model
            .unit(name)
            .ok_or_else(|| Fault::Failed(format!("unit {name:?} not found")))
    }

    /// The calling unit, to be changed.
    ///
    /// # Errors
    ///
    /// As [`Call::unit`].
    pub fn unit_mut(&mut self) -> Result<&mut Unit, Fault> {
        let name = &self.context.unit;
        let found = self.state.model.units.get_mut(name);
        found.ok_or_else(|| Fault::Failed(format!("unit {name:?} not found")))
    }

    /// The calling unit's application.
    pub fn application(&self) -> String {
        super::model::application_of(&self.context.unit).to_owned()
    }

    /// Tells whether the calling unit leads at this moment.
    pub fn leads(&self) -> bool {
        self.state.model.is_leader(&self.context.unit)
    }

    /// Returns where a file is that the caller names.
    fn place(&self, path: &str) -> PathBuf {
        let path = self.directory.join(path);
        match &self.root {
            None => path,
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(&path)),
        }
    }

    /// Reads a file argument; `-` is standard input.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or standard input is not here yet.
    pub fn read(&self, path: &str) -> Result<String, Fault> {
        if path == "-" {
            return self.stdin.clone().ok_or(Fault::WantsStdin);
        }
        std::fs::read_to_string(self.place(path))
            .map_err(|error| Fault::Failed(format!("cannot read {path}: {error}")))
    }

    /// Reads `key=value` arguments, over those of `--file`.
    ///
    /// # Errors
    ///
    /// When an argument or the file has another form.
    pub fn settings(&self, flags: &Flags) -> Result<super::model::Map, Fault> {
        let mut settings = match flags.value("file") {
            Some(path) => yaml_map(&self.read(path)?)?,
            None => super::model::Map::new(),
        };
        let mut seen = std::collections::BTreeSet::new();
        for argument in &flags.rest {
            let Some((key, value)) = argument.split_once('=') else {
                return usage(format!("expected \"key=value\", got {argument:?}"));
            };
            let key = key.trim();
            if key.is_empty() {
                return usage(format!("expected \"key=value\", got {argument:?}"));
            }
            if !seen.insert(key.to_owned()) {
                return usage(format!("key {key:?} specified more than once"));
            }
            settings.insert(key.to_owned(), value.trim().to_owned());
        }
        Ok(settings)
    }

    /// Prints a value in the format that the flags ask for.
    ///
    /// # Errors
    ///
    /// For an unknown format or a file that cannot be written.
    pub fn print(&self, flags: &Flags, value: &Value, default: &str) -> Result<String, Fault> {
        let format = flags.value("format").unwrap_or(default);
        let text = match format {
            "json" => {
                serde_json::to_string(value).map_or_else(|_| String::new(), |text| text + "\n")
            }
            "yaml" => yaml(value),
            "smart" if default == "smart" => smart(value),
            other => return usage(format!("unknown format {other:?}")),
        };
        match flags.value("output") {
            None => Ok(text),
            Some(path) => std::fs::write(self.place(path), text)
                .map(|()| String::new())
                .map_err(|error| Fault::Failed(format!("cannot write {path}: {error}"))),
        }
    }
}

/// Reads a YAML map of texts.
fn yaml_map(text: &str) -> Result<super::model::Map, Fault> {
    if text.trim().is_empty() {
        return Ok(super::model::Map::new());
    }
    let value: Value = crate::charm::yaml::read(text)
        .map_err(|error| Fault::Failed(format!("cannot read settings: {error}")))?;
    let Value::Object(map) = value else {
        return failed("cannot read settings: expected a map of key to value");
    };
    Ok(map
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => (key, text),
            Value::Null => (key, String::new()),
            other => (key, other.to_string()),
        })
        .collect())
}

/// Writes YAML; nil prints nothing.
fn yaml(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        _ => serde_yaml::to_string(value).unwrap_or_default(),
    }
}

/// Writes a value as a shell script likes it.
fn smart(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "True\n".to_owned(),
        Value::Bool(false) => "False\n".to_owned(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("{text}\n"),
        Value::Array(list) if list.iter().all(Value::is_string) => list
            .iter()
            .filter_map(Value::as_str)
            .fold(String::new(), |all, line| all + line + "\n"),
        _ => yaml(value),
    }
}

/// Answers a call; `caller` is its process.
pub fn answer(
    engine: &Engine,
    state: &mut State,
    call: HookToolCall,
    caller: Option<Pid>,
) -> ToolEnd {
    let wrong = |text: String| ToolEnd {
        code: 1,
        stderr: format!("ERROR {text}\n"),
        ..ToolEnd::default()
    };
    let Some((_, tool)) = TOOLS.iter().find(|(name, _)| *name == call.tool) else {
        return wrong(format!("bad request: unknown command: {}", call.tool));
    };
    let Some(mut context) = state.contexts.remove(&call.context) else {
        return wrong(format!(
            "bad request: wrong context ID; got {:?}",
            call.context
        ));
    };
    // A unit's own machine has its own files; the agent would be there and see them as the hook does.
    let root = caller
        .filter(|_| state.model.settings.has_machines())
        .map(|caller| PathBuf::from(format!("/proc/{caller}/root")));
    let mut this = Call {
        engine,
        state,
        context: &mut context,
        arguments: &call.arguments,
        directory: call.directory,
        root,
        stdin: call.stdin,
        notes: String::new(),
    };
    let result = tool(&mut this);
    let notes = this.notes;
    let end = match result {
        Ok(stdout) => ToolEnd {
            code: 0,
            stdout,
            stderr: notes,
            wants_stdin: false,
        },
        Err(Fault::WantsStdin) => ToolEnd {
            wants_stdin: true,
            ..ToolEnd::default()
        },
        Err(Fault::Usage(text)) if text == flags::HELP => ToolEnd {
            stdout: format!("Usage: {} [options] …\n", call.tool),
            ..ToolEnd::default()
        },
        Err(Fault::Usage(text)) => ToolEnd {
            code: 2,
            stderr: format!("{notes}ERROR {text}\n"),
            ..ToolEnd::default()
        },
        Err(Fault::Failed(text)) => ToolEnd {
            code: 1,
            stderr: format!("{notes}ERROR {text}\n"),
            ..ToolEnd::default()
        },
    };
    state.contexts.insert(call.context, context);
    end
}

/// Makes a secret's id.
#[must_use]
pub fn new_secret_id() -> String {
    secrets::new_id()
}

/// Tells whether a text can be a key of a secret's content.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    secrets::is_key(key)
}
