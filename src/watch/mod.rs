//! The watcher: wakes the charm within a second of a change, and does itself only what cannot wait for a hook.
//!
//! It listens to what the local Sentinel announces, notices the end of the local processes, keeps the
//! charm's appointments with itself (the wake file), and writes down once a second how far the local
//! data is. It holds the fence of a primary closed until the Sentinels confirm it, keeps what a displaced one alone holds,
//! and ends one that froze and was replaced. A replica in sync that no hook makes promotable it lets the charm's own rule
//! make so. On Kubernetes it leads clients to the new primary. A parent process starts it again when it ends.

mod fence;
mod frozen;
mod keep;
mod position;
mod promotable;
mod sentinels;
mod services;
mod supervise;
mod wake;

use std::path::Path;

use anyhow::Context as _;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

pub use keep::{Former, keep_former, settle_former};
pub use position::merge as merge_position;
pub use supervise::run;

use crate::{
    charm::WatchFile,
    limits::{SENTINEL_PORT, WATCH_PERIOD},
    observer,
    valkey::{
        Credentials, InternalUser,
        events::{SentinelEvent, SentinelEvents},
    },
    workload::{Backend as _, Layout, Service, ServiceStatus, Workload},
};

use wake::Waker;

/// Watches until it is told to stop.
///
/// # Errors
///
/// When the file that says what to watch cannot be read; whatever happens later only leads to another try.
pub async fn watch(file: &Path) -> anyhow::Result<()> {
    let bytes = tokio::fs::read(file)
        .await
        .with_context(|| format!("cannot read {}", file.display()))?;
    let file: WatchFile =
        serde_json::from_slice(&bytes).context("cannot understand what to watch")?;
    let credentials =
        Credentials::from_secret(&file.credentials).context("cannot use the passwords")?;
    let layout = Layout::new(&file.storage, &file.run);
    let workload = Workload::new(file.workload, layout, &file.unit);
    let waker = Waker::new(&file)?;
    let switched = Notify::new();
    info!(unit = file.unit, "Watching");
    tokio::select! {
        () = waker.serve() => {}
        () = announcements(&file.address, &credentials, &waker, &switched) => {}
        () = Box::pin(services::keep(&file, &credentials, &workload, &switched)) => {}
        () = ends(&workload, Service::Server, &waker) => {}
        () = ends(&workload, Service::Sentinel, &waker) => {}
        () = ticks(&workload, &file.address, &credentials, &waker) => {}
        () = frozen::guard(&workload, &file.address, &credentials, &waker) => {}
        () = promotable::guard(&workload, &file.address, &credentials) => {}
        () = fence::guard(&workload, &file.address, &credentials, &waker) => {}
        () = supervise::orphaned() => warn!("The parent is gone"),
    }
    Ok(())
}

/// Wakes the charm when Sentinel announces a change.
async fn announcements(address: &str, credentials: &Credentials, waker: &Waker, switched: &Notify) {
    let user = InternalUser::CharmedSentinelOperator;
    let Ok(endpoint) = observer::endpoint(address, SENTINEL_PORT) else {
        return;
    };
    let mut lost = false;
    loop {
        match SentinelEvents::subscribe(&endpoint, user, credentials.password(user)).await {
            Ok(mut events) => {
                // What was announced while nobody listened is lost: look again.
                if lost {
                    waker.wake("Sentinel is back");
                }
                while let Some(event) = events.next().await {
                    if matches!(event, SentinelEvent::SwitchPrimary { .. }) {
                        switched.notify_one();
                    }
                    if let Some(why) = matters(&event) {
                        waker.wake(why);
                    }
                }
                lost = true;
            }
            Err(_) => sleep(WATCH_PERIOD / 2).await,
        }
    }
}

/// Returns why an announcement has to be looked at, if it has.
fn matters(event: &SentinelEvent) -> Option<&'static str> {
    match event {
        SentinelEvent::SwitchPrimary { .. } => Some("another unit is primary"),
        SentinelEvent::Instance { .. } => Some("a member changed"),
        SentinelEvent::FailoverAborted(_) => Some("a failover was given up"),
        SentinelEvent::Tilt(_) => Some("Sentinel lost or found its bearings"),
        SentinelEvent::Failover(_) | SentinelEvent::Other(_) => None,
    }
}

/// Wakes the charm when a local process ends.
async fn ends(workload: &Workload, service: Service, waker: &Waker) {
    loop {
        let running = workload
            .status(service)
            .await
            .is_ok_and(ServiceStatus::is_running);
        if running && workload.exited(service).await.is_ok() {
            waker.wake("a local process ended");
        }
        sleep(WATCH_PERIOD / 4).await;
    }
}

/// Keeps the charm's appointments and the record of how far the data is.
async fn ticks(workload: &Workload, address: &str, credentials: &Credentials, waker: &Waker) {
    let mut clock = interval(WATCH_PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keeper = keep::Keeper::default();
    loop {
        clock.tick().await;
        if wake::due(workload).await {
            waker.wake("the charm asked for it");
        }
        if let Err(error) = look(workload, address, credentials, &mut keeper).await {
            tracing::debug!(error = format!("{error:#}"), "Cannot look at the server");
        }
        // To systemd, where it asked for it: who hangs is started again.
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
            tracing::debug!(error = %error, "Cannot say that the watcher is well");
        }
    }
}

/// Looks at the local server: first what has to be kept, then how far it is.
async fn look(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
    keeper: &mut keep::Keeper,
) -> anyhow::Result<()> {
    // After a reboot another machine may have the address; what its server holds is not held here.
    anyhow::ensure!(
        observer::is_of_this_machine(address),
        "another machine has the address"
    );
    let client = observer::server_client(address, credentials).await?;
    let info = client.info().await?;
    keeper.look(workload, credentials, &client, &info).await;
    position::record(workload, address, credentials, &info).await
}
