//! Wakes the charm through `juju-exec`: one run at a time, repeated until it worked.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tokio::{sync::Notify, time::sleep};
use tracing::{info, warn};

use crate::{
    charm::{WatchFile, unix_now},
    juju::{JujuExec, UnitName},
    limits::{WAKE_RETRY_MAX, WAKE_SPACING},
    workload::{Backend as _, Workload},
};

/// Wakes the charm; several reasons at the same time are one wake-up.
pub(super) struct Waker {
    unit: UnitName,
    command: String,
    exec: JujuExec,
    wanted: Notify,
}

impl Waker {
    pub(super) fn new(file: &WatchFile) -> anyhow::Result<Self> {
        let dispatch = file.charm_dir.join("dispatch");
        let dispatch = dispatch
            .to_str()
            .context("cannot wake the charm: its directory's name is no text")?;
        let quoted = shlex::try_quote(dispatch)
            .context("cannot wake the charm: its directory's name is odd")?;
        Ok(Self {
            unit: file
                .unit
                .parse()
                .context("cannot wake the charm: its unit's name is odd")?,
            command: format!("JUJU_DISPATCH_PATH=hooks/topology_changed {quoted}"),
            exec: JujuExec::new(),
            wanted: Notify::new(),
        })
    }

    /// Asks for a wake-up.
    pub(super) fn wake(&self, why: &str) {
        info!(reason = why, "Waking the charm");
        self.wanted.notify_one();
    }

    /// Wakes the charm whenever somebody asked for it.
    pub(super) async fn serve(&self) {
        loop {
            self.wanted.notified().await;
            // What belongs together comes within moments: one hook looks at all of it.
            sleep(WAKE_SPACING).await;
            let mut pause = Duration::from_secs(1);
            loop {
                match self.exec.run(&self.unit, &self.command).await {
                    Ok(output) if output.status.success() => break,
                    Ok(output) => {
                        warn!(status = %output.status, stderr = output.stderr, "The charm failed");
                    }
                    Err(error) => warn!(error = %error, "Cannot wake the charm"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(WAKE_RETRY_MAX);
            }
        }
    }
}

/// Returns whether the charm's appointment with itself has come, and cancels it if so.
pub(super) async fn due(workload: &Workload) -> bool {
    let path = workload.layout().wake();
    let due = appointment(workload, &path)
        .await
        .is_some_and(|at| at <= unix_now());
    due && workload.remove(&path).await.is_ok()
}

async fn appointment(workload: &Workload, path: &Path) -> Option<u64> {
    let bytes = workload.read(path).await.ok().flatten()?;
    String::from_utf8(bytes).ok()?.trim().parse().ok()
}
