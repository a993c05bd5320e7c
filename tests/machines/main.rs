//! The charm on booted machines: containers with systemd as their first process, each with a
//! network namespace and an address of its own, from a root file system that
//! `scripts/machine-root` makes of the distribution's packages.
//!
//! The machines have the release of this system; with `MACHINES_RELEASE=ubuntu-noble` another one.
//!
//! Needs root and what `scripts/setup` installs; a missing prerequisite fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod install;
mod machines;
mod reboots;
mod refresh;
mod releases;
mod scaling;
mod service;
mod storage;
mod units;
mod world;
