//! What Pebble is told to run and to check: a layer of its plan.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A layer. It is sent as JSON, which is YAML as well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// One line for people.
    pub summary: String,
    /// Services by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceSpec>,
    /// Checks by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, CheckSpec>,
}

/// Whether a layer adds to the entry of the same name in the layers below, or takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// What is set here counts, the rest stays.
    Merge,
    /// Nothing of what was there stays.
    Replace,
}

/// Whether something begins by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Startup {
    /// With the first replan.
    Enabled,
    /// Only when told to.
    Disabled,
}

/// What Pebble does when a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// Starts it again, with a growing pause.
    Restart,
    /// Nothing.
    Ignore,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceSpec {
    /// What becomes of an entry of the same name below.
    pub r#override: Override,
    /// One line for people.
    pub summary: String,
    /// Program and arguments; no shell reads them, but words are split and quoted as it would.
    pub command: String,
    /// Whether it begins by itself.
    pub startup: Startup,
    /// What has to run with it, and which is started and stopped in one order with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// What is started before it and stopped after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Variables in addition to Pebble's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Its working directory; Pebble's if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What Pebble does when it ended well.
    pub on_success: OnExit,
    /// What Pebble does when it ended by a fault.
    pub on_failure: OnExit,
    /// How long it may take to end before Pebble kills it.
    #[serde(serialize_with = "go_duration")]
    pub kill_delay: Duration,
}

impl ServiceSpec {
    /// A service that runs when it is told to, and is not started again when it ends.
    #[must_use]
    pub fn when_told(summary: &str, command: String, kill_delay: Duration) -> Self {
        Self {
            r#override: Override::Replace,
            summary: summary.to_owned(),
            command,
            startup: Startup::Disabled,
            requires: Vec::new(),
            after: Vec::new(),
            environment: BTreeMap::new(),
            working_dir: None,
            on_success: OnExit::Ignore,
            on_failure: OnExit::Ignore,
            kill_delay,
        }
    }
}

/// What the result of a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Kubernetes restarts a container that is not alive.
    Alive,
    /// Kubernetes sends no clients to a pod that is not ready.
    Ready,
}

impl Level {
    /// Returns the word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Ready => "ready",
        }
    }
}

/// A check that runs again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckSpec {
    /// What becomes of an entry of the same name below.
    pub r#override: Override,
    /// What it is for; without, only the charm is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Whether it begins by itself.
    pub startup: Startup,
    /// Time between two runs.
    #[serde(serialize_with = "go_duration")]
    pub period: Duration,
    /// How long one run may take.
    #[serde(serialize_with = "go_duration")]
    pub timeout: Duration,
    /// How many runs in a row fail before it counts as down.
    pub threshold: u32,
    /// What is looked at.
    #[serde(flatten)]
    pub probe: Probe,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// Whether somebody takes connections on a port.
    Tcp {
        /// The port.
        port: u16,
        /// Name or address.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// Whether a command succeeds.
    Exec {
        /// The command, written as that of a service.
        command: String,
    },
}

/// Writes a duration as Pebble reads it.
pub(super) fn go_text(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn go_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&go_text(*duration))
}
