//! The record of how far the local data is, once a second: what a full outage leaves to compare.

use crate::{
    charm::unix_now,
    observer::sentinel_client,
    planner::{
        peer_data::{Identity, Position},
        record::{Watched, watched},
    },
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
    let seen = Watched {
        history: &info.replid,
        offset: info.offset,
        primary: info.role == Role::Primary,
        cut_off: info.role == Role::Replica && !info.link.as_ref().is_some_and(|link| link.up),
        loading: info.loading.is_some(),
    };
    if seen.loading || seen.cut_off {
        return Ok(());
    }
    let view = sentinel_client(address, credentials)
        .await?
        .primary()
        .await?;
    let named = view
        .as_ref()
        .map(|view| (view.address.host(), view.config_epoch));
    let known = recorded(workload).await;
    let Some(position) = watched(&seen, address, named, known.as_ref(), unix_now()) else {
        return Ok(());
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
    identity.take_later(recorded);
    Ok(())
}
