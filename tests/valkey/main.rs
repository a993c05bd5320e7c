//! The room `valkey` against real servers and Sentinels on loopback addresses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise; helpers outside of test functions do too"
)]

#[path = "../support/valkey_cluster.rs"]
mod cluster;

mod clients;
mod handover;
mod handover_trouble;
mod hanging;
mod membership;
mod names;
mod namespace;
mod stopping;
mod timers;
mod writers;
