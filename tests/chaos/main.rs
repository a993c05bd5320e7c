//! Chaos with real processes: units in network namespaces, cut, killed, frozen and filled up under
//! clients that write on both sides. Each case measures what was lost, for how long nobody could
//! write and when everything was whole again, and holds it against a bar.
//!
//! `scripts/chaos` runs cases and prints the figures. Needs root.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod cuts;
mod deaths;
mod disk;
mod kept;
mod net;
mod net_tests;
mod planned;
mod report;
mod storm;
mod world;
mod writers;
