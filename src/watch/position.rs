//! The record of how far the local data is, once a second: what a full outage leaves to compare.

use crate::{
    charm::unix_now,
    observer::sentinel_client,
    planner::peer_data::{Identity, Position},
    valkey::{Credentials, Role, ServerInfo},
    workload::{Backend as _, Workload, WorkloadError},
};

fn path(workload: &Workload) -> std::path::PathBuf {
    workload.layout().storage().join("position.json")
}

/// Returns what was written down last.
pub(super) async fn recorded(workload: &Workload) -> Option<Position> {
    let bytes = workload.read(&path(workload)).await.ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// Writes down how far the local data is.
pub(super) async fn record(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
    info: &ServerInfo,
) -> anyhow::Result<()> {
    // A replica without its primary counts from anew after a start: the older record says more.
    let cut_off = info.role == Role::Replica && !info.link.as_ref().is_some_and(|link| link.up);
    if info.loading.is_some() || cut_off {
        return Ok(());
    }
    let view = sentinel_client(address, credentials)
        .await?
        .primary()
        .await?;
    let primary = info.role == Role::Primary;
    let epoch = match view {
        // Displaced, and not a replica yet: its data are those of the configuration before.
        Some(view) if primary && view.address.host() != address => recorded(workload)
            .await
            .filter(|known| known.primary)
            .map_or(0, |known| known.epoch),
        Some(view) => view.config_epoch,
        None => 0,
    };
    let position = Position {
        history: info.replid.clone(),
        offset: info.offset,
        epoch,
        primary,
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
