//! Sees to it that a replica in sync can be promoted, where no hook does.

use std::{path::PathBuf, process::Stdio};

use anyhow::Context as _;
use tokio::{
    process::Command,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use crate::{
    limits::{PRIORITY_NEVER, PROMOTABLE_LIMIT, PROMOTABLE_LOOK},
    observer,
    valkey::Credentials,
    workload::{Backend as _, Workload},
};

/// Looks from time to time, and lets the charm's own rule decide.
///
/// The decision is taken in a process of its own: it needs what the last hook knew.
pub(super) async fn guard(workload: &Workload, address: &str, credentials: &Credentials) {
    let mut clock = interval(PROMOTABLE_LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let known = workload.layout().gate_file();
    let mut waited = false;
    loop {
        clock.tick().await;
        let waits = known.is_file() && is_kept_back(address, credentials).await;
        if waits
            && waited
            && let Err(error) = ask(known.clone()).await
        {
            warn!(
                error = format!("{error:#}"),
                "The server is in sync and cannot be promoted yet"
            );
        }
        waited = waits;
    }
}

/// Returns whether the local server is a replica in sync that must not be promoted.
async fn is_kept_back(address: &str, credentials: &Credentials) -> bool {
    if !observer::is_of_this_machine(address) {
        return false;
    }
    let asked = async {
        let client = observer::server_client(address, credentials).await?;
        anyhow::Ok(client.info().await?)
    };
    asked.await.is_ok_and(|info| {
        info.is_synced_replica() && info.priority == Some(u64::from(PRIORITY_NEVER))
    })
}

async fn ask(known: PathBuf) -> anyhow::Result<()> {
    info!("A replica in sync is not promotable, and no hook has come");
    let program = std::env::current_exe().context("cannot find the own program")?;
    let status = Command::new(program)
        .args(["promotable".as_ref(), "--file".as_ref(), known.as_os_str()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = timeout(PROMOTABLE_LIMIT, status)
        .await
        .context("the decision took too long")?
        .context("cannot run the own program")?;
    anyhow::ensure!(status.success(), "it was decided otherwise ({status})");
    Ok(())
}
