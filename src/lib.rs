//! The Valkey charm: everything that its one binary does, as a library that tests can reach.
//!
//! The layers and who may know whom are described in `docs/architecture.md`.

pub mod charm;
pub mod executor;
pub mod handlers;
pub mod history;
pub mod juju;
pub mod kubernetes;
pub mod limits;
pub mod logging;
pub mod observer;
pub mod planner;
pub mod settings;
pub mod status;
pub mod valkey;
pub mod watch;
pub mod workload;
