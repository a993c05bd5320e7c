//! Pure models of Valkey's replication, of Sentinel and of the network between them.
//!
//! Deterministic: time is virtual, all randomness comes from one seed. What they do is held against
//! real servers by the test target `truth`.

#![allow(
    dead_code,
    reason = "each test target that includes the models uses its own part of them"
)]

mod api;
mod cluster;

pub use api::*;
pub use cluster::{Cluster, DiskContent};
