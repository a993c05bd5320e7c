//! Every port, time limit and bound of the charm, with its unit, its reason and its source.

use std::time::Duration;

// --- Juju -----------------------------------------------------------------------------------

/// Longest that one hook tool may take before the hook fails.
///
/// The unit agent answers over a local socket within milliseconds, so half a minute means that it
/// is gone; Juju runs the failed hook again once it is back.
pub const HOOK_TOOL_TIMEOUT: Duration = Duration::from_secs(30);

// --- Valkey and Sentinel --------------------------------------------------------------------

/// Port of valkey-server; the one that Valkey's users expect.
pub const SERVER_PORT: u16 = 6379;

/// Port of Sentinel; the one that Sentinel's clients expect.
pub const SENTINEL_PORT: u16 = 26379;

/// Name under which the Sentinels monitor the primary; clients ask for it.
pub const MONITOR_NAME: &str = "primary";

/// Longest that a connection to a server or Sentinel may take to be made.
///
/// Units of one application are close to each other; a peer that has not answered by then counts
/// as unreachable for this pass, so that a dead peer never blocks a living one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest that an ordinary command may take to be answered.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

// --- Workload -------------------------------------------------------------------------------
