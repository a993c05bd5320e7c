//! `juju-local` runs a charm with a container in pods: the shell charm in `tests/charms/pods`, with real Pebble.
//!
//! Needs root: pods are made of namespaces. Each test has a network of its own.

// A test stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::panic)]

mod containers;
mod events;
mod life;
#[path = "../juju_local_shell/local.rs"]
#[allow(dead_code, reason = "this test binary uses its own part")]
mod local;
#[path = "../support/pebble.rs"]
mod pebble;
#[path = "../support/pods.rs"]
mod pods;
mod scaling;
mod world;
