//! The record of how far the local data is, once a second: what a full outage leaves to compare.

use crate::{
    charm::unix_now,
    observer::{sentinel_client, server_client},
    planner::peer_data::{Identity, Position},
    valkey::{Credentials, Role},
    workload::{Backend as _, Workload, WorkloadError},
};

fn path(workload: &Workload) -> std::path::PathBuf {
    workload.layout().storage().join("position.json")
}

/// Writes down how far the local data is.
pub(super) async fn record(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
) -> anyhow::Result<()> {
    let info = server_client(address, credentials).await?.info().await?;
    // A replica without its primary counts from anew after a start: the older record says more.
    let cut_off = info.role == Role::Replica && !info.link.as_ref().is_some_and(|link| link.up);
    if info.loading.is_some() || cut_off {
        return Ok(());
    }
    let view = sentinel_client(address, credentials)
        .await?
        .primary()
        .await?;
    let position = Position {
        history: info.replid,
        offset: info.offset,
        epoch: view.map_or(0, |view| view.config_epoch),
        primary: info.role == Role::Primary,
        clean: false,
        recorded_at: unix_now(),
    };
    workload
        .write(&path(workload), &serde_json::to_vec(&position)?, 0o600)
        .await?;
    Ok(())
}

/// Puts the later record into what stands beside the data.
///
/// Two files, since two processes write: each has its own, and none overwrites what the other knows.
///
/// # Errors
///
/// When the record cannot be read.
pub async fn merge(workload: &Workload, identity: &mut Identity) -> Result<(), WorkloadError> {
    let Some(bytes) = workload.read(&path(workload)).await? else {
        return Ok(());
    };
    let Ok(recorded) = serde_json::from_slice::<Position>(&bytes) else {
        return Ok(());
    };
    let newer = identity
        .position
        .as_ref()
        .is_none_or(|position| position.recorded_at < recorded.recorded_at);
    if newer {
        identity.position = Some(recorded);
    }
    Ok(())
}
