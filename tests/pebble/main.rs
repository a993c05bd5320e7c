//! Pebble, the real one, as the charm talks to it and runs its services by it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod backend;
mod client;
mod daemon;
#[path = "../support/failing_starts.rs"]
mod failing_starts;
#[path = "../support/pebble.rs"]
mod pebble;
mod strangers;
#[path = "../support/until.rs"]
mod until;
