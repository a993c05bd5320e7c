//! The times by which the models live; most of them measured (`docs/measurements.md`).

use std::time::Duration;

use valkey_operator::limits::{
    DETECTION_DEFAULT, FAILOVER_TIMEOUT, PARALLEL_SYNCS, REPL_PING_PERIOD, REPL_TIMEOUT,
    SENTINEL_HELLO_PERIOD, SENTINEL_INFO_PERIOD, SENTINEL_PING_PERIOD, SENTINEL_TILT_PERIOD,
};
use valkey_operator::valkey::configuration::max_lag_seconds;

use super::api::{Millis, Timings};

/// Returns a duration in milliseconds.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

impl Timings {
    /// Makes the times of a deployment with the charm's settings and its usual detection time.
    pub fn charm() -> Self {
        Self::with_detection(DETECTION_DEFAULT)
    }

    /// As [`Self::charm`], with another detection time.
    pub fn with_detection(detection: Duration) -> Self {
        Self {
            tick: 100,
            tilt_period: millis(SENTINEL_TILT_PERIOD),
            tilt_period_default: 30_000,
            info_period: millis(SENTINEL_INFO_PERIOD),
            info_period_default: 10_000,
            hello_period: millis(SENTINEL_HELLO_PERIOD),
            hello_period_default: 2_000,
            ping_period: millis(SENTINEL_PING_PERIOD),
            ping_period_default: 1_000,
            down_after: millis(detection),
            failover_timeout: millis(FAILOVER_TIMEOUT),
            parallel_syncs: usize::from(PARALLEL_SYNCS),
            max_lag: max_lag_seconds(detection) * 1_000,
            repl_timeout: millis(REPL_TIMEOUT),
            repl_ping: millis(REPL_PING_PERIOD),
            backlog_bytes: 64 << 20,
            write_bytes: 60,
            base_bytes: 0,
            load_bytes_per_ms: 200_000,
            full_sync: 20,
            full_sync_delay: 1_000,
            start: 30,
            append_only: true,
        }
    }
}
