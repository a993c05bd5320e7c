//! What the end-to-end tests share: the charm under test in a real model, writers that never
//! stop, and oracles that ask the servers and Sentinels themselves.
//!
//! Nothing here uses the charm's own code to judge the charm: the wire, the checks and the
//! numbers are written a second time on purpose.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

pub mod charm;
pub mod drills;
pub mod hooks;
pub mod meanwhile;
pub mod model;
pub mod names;
pub mod oracles;
pub mod owners;
pub mod pebble;
pub mod pods;
pub mod rescue;
pub mod rolling;
pub mod slots;
pub mod starts;
pub mod wire;
pub mod writers;
pub mod writes;
