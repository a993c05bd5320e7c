//! The Valkey charm: everything that its one binary does, as a library that tests can reach.
//!
//! The layers and who may know whom are described in `docs/architecture.md`.

pub mod juju;
pub mod limits;
pub mod logging;
pub mod planner;
pub mod valkey;
pub mod workload;
