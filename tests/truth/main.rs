//! The models of Valkey, Sentinel and the network, and whether they are true.

#[path = "../models/mod.rs"]
mod models;
