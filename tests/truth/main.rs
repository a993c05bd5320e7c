//! The models of Valkey, Sentinel and the network: each rule alone, and held against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise; helpers outside of test functions do too"
)]

#[path = "../support/valkey_cluster.rs"]
mod cluster;
#[path = "../models/mod.rs"]
mod models;
#[path = "../support/pods.rs"]
mod pods;

mod alone;
mod compare;
mod cuts;
mod modelled;
mod real;
mod script;
mod scripts;
