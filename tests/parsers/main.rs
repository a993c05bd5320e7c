//! Properties of everything that reads what others wrote: any bytes, and real inputs that were spoilt.
//!
//! Whatever comes: no panic, a bound on what is kept of it, a refusal that says what cannot be done, and the same
//! again where something is written and read back. Readers that are private have their properties beside them
//! (`src/valkey/properties.rs`, `src/bin/juju-local/properties/`).
//!
//! More inputs than usual: `PROPTEST_CASES=200000 cargo test --release --test parsers`. The captured replies in
//! `corpus/` are those of servers and Sentinels of the versions that the directories name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod actions;
mod configuration;
mod databags;
mod documents;
mod hook_answers;
mod juju;
mod mutate;
mod valkey;
#[path = "../support/valkey_cluster.rs"]
mod valkey_cluster;
