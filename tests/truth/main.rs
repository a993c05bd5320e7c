//! The models of Valkey, Sentinel and the network: each rule alone, and held against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise; helpers outside of test functions do too"
)]

use std::path::{Path, PathBuf};

#[path = "../support/valkey_cluster.rs"]
mod cluster;
#[path = "../models/mod.rs"]
mod models;

mod alone;
mod compare;
mod modelled;
mod real;
mod script;
mod scripts;

/// Returns the newest Valkey's server.
///
/// # Panics
///
/// When it was not fetched: a test that needs it must not pass without it.
fn newest_server() -> PathBuf {
    let fetched = || {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        target
            .unwrap_or_else(|| Path::new("target"))
            .join("valkey-newest/valkey-server")
    };
    let path = std::env::var_os("VALKEY_NEWEST_SERVER").map_or_else(fetched, PathBuf::from);
    assert!(
        path.exists(),
        "the newest Valkey is missing at {}: run scripts/valkey-newest",
        path.display()
    );
    path
}
