//! `juju-local` runs a charm that is not ours: the shell charm in `tests/charms/shell`.
//!
//! Each room holds one part of what charms may rely on.

// A test stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::panic)]

mod actions;
mod command_line;
mod databags;
mod driver;
mod engine;
mod failures;
mod lifecycle;
mod local;
mod secrets;
mod teardown;
