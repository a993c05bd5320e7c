//! What Pebble says of its services, changes, checks, notices and files.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What Pebble says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SystemInfo {
    /// Another one after each start of the container.
    pub boot_id: String,
    /// Its version, as in `v1.26.0`.
    pub version: String,
    /// Where it answers Kubernetes' probes, if it does.
    #[serde(default)]
    pub http_address: Option<String>,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Current {
    /// It runs, is frozen, or is about to end.
    Active,
    /// It was stopped, or never ran.
    Inactive,
    /// It ended, and Pebble is about to start it again.
    Backoff,
    /// It ended by itself.
    Error,
    /// A word of a newer Pebble.
    #[serde(other)]
    Unknown,
}

/// A service of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// `enabled` or `disabled`.
    pub startup: String,
    /// How it is.
    pub current: Current,
    /// Since when it is so.
    #[serde(default)]
    pub current_since: Option<Timestamp>,
}

/// Work that Pebble does, or did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Its number.
    pub id: String,
    /// What it does, as in `start`.
    pub kind: String,
    /// One line for people.
    pub summary: String,
    /// How far it is, as in `Doing`, `Done`, `Error`.
    pub status: String,
    /// Whether nothing more happens to it.
    pub ready: bool,
    /// Why it failed, if it did.
    #[serde(default)]
    pub err: Option<String>,
    /// Its parts.
    #[serde(default)]
    pub tasks: Option<Vec<Task>>,
}

/// A part of a change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: String,
    /// What it does.
    pub kind: String,
    /// How far it is.
    pub status: String,
    /// What happened, a line each.
    #[serde(default)]
    pub log: Option<Vec<String>>,
    /// What it came to, as the exit code of a command.
    #[serde(default)]
    pub data: Option<Map<String, Value>>,
}

/// A check of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckInfo {
    /// Its name.
    pub name: String,
    /// What it is for, if anything.
    #[serde(default)]
    pub level: Option<String>,
    /// `up`, `down` or `inactive`.
    pub status: String,
    /// How often it failed in a row.
    #[serde(default)]
    pub failures: u64,
    /// How often it may.
    #[serde(default)]
    pub threshold: u64,
}

/// Something that was noticed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// Its number.
    pub id: String,
    /// `custom`, `change-update` or `warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub key: String,
    /// How often it occurred.
    pub occurrences: u64,
    /// When it was last told; a later question begins behind it.
    pub last_repeated: Timestamp,
    /// What came with it last.
    #[serde(default)]
    pub last_data: Option<BTreeMap<String, String>>,
}

/// A file in the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileInfo {
    /// Its path.
    pub path: String,
    /// Its name.
    pub name: String,
    /// `file`, `directory`, `symlink` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its size in bytes, if it is a file.
    #[serde(default)]
    pub size: Option<u64>,
    /// Its permission bits in octal digits.
    pub permissions: String,
    /// Numeric id of its owner.
    #[serde(default)]
    pub user_id: Option<u32>,
    /// Numeric id of its group.
    #[serde(default)]
    pub group_id: Option<u32>,
    /// When it was last written.
    pub last_modified: Timestamp,
}

/// A line that a service wrote.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// When.
    pub time: Timestamp,
    /// Which service.
    pub service: String,
    /// The line.
    pub message: String,
}
