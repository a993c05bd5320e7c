//! Waits for a condition in a test that is asynchronous.

use std::time::{Duration, Instant};

/// Longest that a condition may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
///
/// When it does not within the deadline.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
