//! Keeps the watcher running: a parent that does nothing else starts it again when it ends.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::Context as _;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tracing::warn;

use crate::limits::{WATCH_PERIOD, WATCH_RESTART_MAX};

/// Environment variable that tells the child from the parent.
const CHILD: &str = "VALKEY_OPERATOR_WATCH_PARENT";

/// Watches what `file` names until SIGTERM.
///
/// # Errors
///
/// When the watcher cannot be started at all.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    if std::env::var_os(CHILD).is_some() {
        return Box::pin(super::watch(file)).await;
    }
    let mut end = signal(SignalKind::terminate()).context("cannot listen for the end")?;
    let mut pause = WATCH_PERIOD;
    loop {
        let begun = Instant::now();
        let mut child =
            Command::new(std::env::current_exe().context("cannot find the own program")?)
                .args([
                    std::ffi::OsStr::new("watch"),
                    std::ffi::OsStr::new("--file"),
                    file.as_os_str(),
                ])
                .env(CHILD, std::process::id().to_string())
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .context("cannot start the watcher")?;
        tokio::select! {
            _ = end.recv() => {
                // The child holds nothing that it would have to write.
                let _ = child.kill().await;
                return Ok(());
            }
            status = child.wait() => warn!(status = ?status.ok(), "The watcher ended, starting it again"),
        }
        pause = if begun.elapsed() > WATCH_RESTART_MAX {
            WATCH_PERIOD
        } else {
            (pause * 2).min(WATCH_RESTART_MAX)
        };
        tokio::select! {
            _ = end.recv() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// Returns when the parent that started this process is gone: nobody would end this one then.
pub(super) async fn orphaned() {
    let parent = std::env::var(CHILD)
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    loop {
        let current = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        if parent.is_some() && current != parent {
            return;
        }
        sleep(WATCH_PERIOD.max(Duration::from_secs(1))).await;
    }
}
