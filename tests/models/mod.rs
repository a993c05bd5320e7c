//! Pure models of Valkey's replication, of Sentinel and of the network between them.
//!
//! Deterministic: time is virtual, all randomness comes from one seed. What they do is held against
//! real servers by the test target `truth`. Inside, hosts and addresses are numbers; text is for the
//! border only. Nothing happens in a step of fixed length: everybody says when something may happen
//! by itself next, so that quiet times cost nothing.

#![allow(
    dead_code,
    clippy::panic,
    reason = "each test target uses its own part; a test stops at the first surprise"
)]

mod api;
mod cluster;
mod commands;
mod data;
mod failover;
mod knowledge;
mod look;
mod mail;
mod network;
mod replication;
mod sentinel;
mod server;
mod timings;
mod truth;

#[allow(unused_imports, reason = "each test target uses its own part")]
pub use api::*;
#[allow(unused_imports, reason = "each test target uses its own part")]
pub use cluster::{Cluster, DiskContent};
