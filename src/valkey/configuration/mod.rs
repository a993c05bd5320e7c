//! Text of the configuration files of server and Sentinel, and of their files of users.
//!
//! All values that come from a person or a peer are typed and checked before they get here
//! ([`Options`], [`crate::valkey::Endpoint`], [`crate::valkey::Password`]); paths are checked here.
//! A value that could end its line or its quotes is refused, never escaped by guesswork.

mod options;
mod sentinel;
mod server;
mod users;

use std::path::Path;

use crate::limits::TCP_KEEPALIVE;
use crate::valkey::Endpoint;

pub use options::{
    EvictionPolicy, InvalidOption, LogLevel, MemoryLimit, Options, Persistence, max_lag_seconds,
};
pub use sentinel::SentinelSettings;
pub use server::{ServerSettings, StartFrom};
pub use users::{sentinel_users, server_users};

/// A setting that cannot be written to a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write setting {name} to a configuration file: {reason}")]
pub struct InvalidSetting {
    /// Which setting.
    pub name: &'static str,
    /// What is wrong with its value; never the value of a secret.
    pub reason: String,
}

/// Builds a configuration file line by line.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Adds `name` with words that need no quotes.
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(name);
        self.0.push(' ');
        self.0.push_str(&value.to_string());
        self.0.push('\n');
    }

    /// Adds where the process listens, and as whom it connects.
    fn add_network(&mut self, endpoint: &Endpoint) {
        self.add("port", endpoint.port());
        // Only the own address: several units may share a machine, and nobody else is meant.
        self.add("bind", endpoint.host());
        if endpoint.address().is_some() {
            // Peers see the unit's own address, not whichever the system chooses; with a name the
            // system's choice is the only one there is.
            self.add("bind-source-addr", endpoint.host());
        }
        // Every user needs a password and the default user is off: that protects.
        self.add("protected-mode", "no");
        // More than the default 300 s finds dead clients, and dead primaries of replicas, sooner.
        self.add("tcp-keepalive", TCP_KEEPALIVE.as_secs());
    }

    /// Adds `name` with a path in quotes.
    fn add_path(&mut self, name: &'static str, path: &Path) -> Result<(), InvalidSetting> {
        let invalid = |reason: &str| InvalidSetting {
            name,
            reason: format!("{}: {reason}", path.display()),
        };
        let text = path
            .to_str()
            .ok_or_else(|| invalid("the path is no UTF-8"))?;
        if text.chars().any(|c| c.is_control() || "\"'\\".contains(c)) {
            return Err(invalid(
                "the path has quotes, backslashes or control characters",
            ));
        }
        if !path.is_absolute() {
            return Err(invalid("the path is not absolute"));
        }
        self.add(name, format_args!("\"{text}\""));
        Ok(())
    }
}
