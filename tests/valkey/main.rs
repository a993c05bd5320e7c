//! The room `valkey` against real servers and Sentinels on loopback addresses.

#[path = "../support/valkey_cluster.rs"]
mod cluster;

mod clients;
