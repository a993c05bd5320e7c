//! Juju's side of the contract: hook tools one to one, events, databags, secrets.
//!
//! Knows nothing of Valkey. Everything is asked on a tokio runtime; hook tools may run concurrently.

pub mod databag;
pub mod environment;
pub mod event;
mod exchange;
pub mod hook_tools;
pub mod juju_exec;
pub mod names;
pub mod pod;

pub use databag::Databag;
pub use environment::{Environment, EnvironmentError, JujuVersion, RelationContext, SecretContext};
pub use event::{Event, StorageEvent};
pub use hook_tools::{HookTools, ToolError};
pub use juju_exec::JujuExec;
pub use names::{NameError, SecretId, UnitName};
