//! Steps that change who belongs: the lease, quorum and fence, introductions, forgetting.

use anyhow::Context as _;
use futures::future::join_all;

use crate::{
    charm::Charm,
    limits::{LEASE_CONFIRM_LIMIT, LEASE_RENEWAL, LEASE_TTL, SENTINEL_PORT, SERVER_PORT},
    observer::{endpoint, sentinel_client, server_client},
    planner::{Observation, UnitName, observation::Lease},
    valkey::{Endpoint, ValkeyError, lease::LeaseOutcome, membership},
};

use super::credentials;

/// Takes or renews the lease, confirmed by a majority of the instances.
pub(super) async fn take_lease(charm: &mut Charm, seen: &Observation) -> anyhow::Result<()> {
    let taken = try_lease(charm, seen).await;
    // A fenced primary answers and refuses: waiting would not help, the evidence must do. One that
    // is gone or none any more is no evidence at all: the next look finds who took its place.
    if let Err(error) = &taken
        && matches!(error.downcast_ref(), Some(ValkeyError::NoReplicas { .. }))
    {
        charm.lease_refused = seen
            .primary()
            .and_then(|primary| seen.host_of(&primary).map(str::to_owned));
        return Ok(());
    }
    taken
}

async fn try_lease(charm: &Charm, seen: &Observation) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let primary = seen.primary().context("no primary answers")?;
    let host = seen
        .host_of(&primary)
        .context("the primary has no address")?;
    let client = server_client(host, credentials).await?;
    let wanted = seen.lease_witnesses();
    let wanted = u64::try_from(wanted).unwrap_or(0);
    let confirmed = client
        .lease_confirm(seen.me.as_str(), LEASE_TTL, wanted, LEASE_CONFIRM_LIMIT)
        .await?;
    anyhow::ensure!(
        confirmed,
        "another unit holds it, or {wanted} replicas did not acknowledge it"
    );
    Ok(())
}

/// Renews the lease right before a step that changes the set.
///
/// Where the look found no lease, because no primary could be asked or it was fenced, this makes sure
/// that nobody else has it by now.
///
/// # Errors
///
/// When it is another's, or had been lost: what was planned was planned for the set as it was.
pub(super) async fn make_sure_of_lease(charm: &Charm, seen: &Observation) -> anyhow::Result<()> {
    let primary = seen.primary();
    let Some(host) = primary.as_ref().and_then(|primary| seen.host_of(primary)) else {
        // Without a primary nobody else can have taken it.
        anyhow::ensure!(seen.lease == Lease::Unknown, "no primary answers");
        return Ok(());
    };
    let token = seen.me.as_str();
    let client = server_client(host, credentials(charm)?).await;
    if seen.lease == Lease::Unknown {
        let holder = match client {
            Ok(client) => client.lease_holder().await.ok().flatten(),
            Err(_) => None,
        };
        let other = holder.filter(|holder| holder.token != token);
        anyhow::ensure!(other.is_none(), "another unit has the lease by now");
        return Ok(());
    }
    let client = client?;
    match client.lease_renew(token, LEASE_TTL).await {
        Ok(LeaseOutcome::Renewed) => Ok(()),
        Ok(LeaseOutcome::Taken) => anyhow::bail!("the lease was lost meanwhile"),
        Ok(LeaseOutcome::HeldBy(holder)) => {
            anyhow::bail!("the lease went to {} meanwhile", holder.token)
        }
        // A fenced primary takes no write, but tells.
        Err(ValkeyError::NoReplicas { .. }) => {
            let holder = client.lease_holder().await?;
            anyhow::ensure!(
                holder.is_some_and(|holder| holder.token == token),
                "the lease was lost meanwhile"
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Renews the lease as long as it is awaited, if this unit holds it; ends when another unit took it.
///
/// Ends with an error only; a primary that does not answer for a while is asked again.
pub(super) fn keep_lease(
    charm: &Charm,
    seen: &Observation,
) -> impl Future<Output = anyhow::Error> + 'static {
    let credentials = charm.credentials.clone();
    let token = seen.me.as_str().to_owned();
    let hosts = seen.member_hosts();
    let held = seen.lease == Lease::Mine;
    async move {
        let Some(credentials) = credentials.filter(|_| held) else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LEASE_RENEWAL).await;
            // A hand-over moves the primary meanwhile: whoever takes the write is it.
            for host in &hosts {
                let Ok(client) = server_client(host, &credentials).await else {
                    continue;
                };
                match client.lease_renew(&token, LEASE_TTL).await {
                    Ok(LeaseOutcome::HeldBy(holder)) => {
                        return anyhow::anyhow!("the lease went to {} meanwhile", holder.token);
                    }
                    Ok(_) => break,
                    Err(_) => {}
                }
            }
        }
    }
}

/// Gives the lease back; a primary that does not answer lets it run out.
pub(super) async fn release_lease(charm: &Charm, seen: &Observation) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let Some(primary) = seen.primary() else {
        return Ok(());
    };
    let Some(host) = seen.host_of(&primary) else {
        return Ok(());
    };
    match server_client(host, credentials).await {
        Ok(client) => client
            .lease_release(seen.me.as_str())
            .await
            .map(drop)
            .or_else(|error| match error {
                ValkeyError::NoReplicas { .. } | ValkeyError::ReadOnly { .. } => Ok(()),
                error => Err(error.into()),
            }),
        Err(_) => Ok(()),
    }
}

/// Returns the endpoints of `units` on `port`.
pub(super) fn endpoints<'a>(
    seen: &Observation,
    units: impl IntoIterator<Item = &'a UnitName>,
    port: u16,
) -> anyhow::Result<Vec<Endpoint>> {
    units
        .into_iter()
        .filter_map(|unit| seen.host_of(unit))
        .map(|host| endpoint(host, port))
        .collect()
}

/// Sets the quorum on the Sentinels of `on`, all at the same time.
pub(super) async fn set_quorum(
    charm: &Charm,
    seen: &Observation,
    on: &[UnitName],
    quorum: usize,
) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let quorum = u64::try_from(quorum)?;
    let set = on
        .iter()
        .filter_map(|unit| seen.host_of(unit))
        .map(|host| async move {
            let client = sentinel_client(host, credentials).await?;
            client
                .set_quorum(quorum)
                .await
                .with_context(|| format!("Sentinel at {host}"))
        });
    join_all(set).await.into_iter().collect()
}

/// Sets `min-replicas-to-write` on the servers of `on`, all at the same time.
pub(super) async fn set_min_replicas(
    charm: &Charm,
    seen: &Observation,
    on: &[UnitName],
    value: usize,
) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let value = &value.to_string();
    let set = on
        .iter()
        .filter_map(|unit| seen.host_of(unit))
        .map(|host| async move {
            let client = server_client(host, credentials).await?;
            client
                .config_set(&[("min-replicas-to-write", value)])
                .await
                .with_context(|| format!("server at {host}"))
        });
    join_all(set).await.into_iter().collect()
}

/// Returns who belongs with `primary`, whether it answers or not: who is dead keeps counting.
fn belonging_with(
    seen: &Observation,
    primary: &UnitName,
    members: &[UnitName],
) -> anyhow::Result<membership::Membership> {
    let host = seen
        .host_of(primary)
        .context("the primary has no address")?;
    let replicas = members.iter().filter(|unit| *unit != primary);
    Ok(membership::Membership::new(
        endpoint(host, SERVER_PORT)?,
        endpoints(seen, replicas, SERVER_PORT)?,
        endpoints(seen, members, SENTINEL_PORT)?,
    ))
}

/// Introduces the local Sentinel to the others, and them to it.
pub(super) async fn announce(charm: &Charm, seen: &Observation) -> anyhow::Result<()> {
    let mut members = seen.members();
    if !members.contains(&seen.me) {
        members.push(seen.me.clone());
    }
    let primary = seen.primary_or_named().context("no primary answers")?;
    let mut belonging = belonging_with(seen, &primary, &members)?;
    let local = endpoint(&seen.local.address, SENTINEL_PORT)?;
    // It may have been started a moment ago, after the look.
    if !belonging.sentinels.contains(&local) {
        belonging.sentinels.push(local.clone());
    }
    let replica = endpoint(&seen.local.address, SERVER_PORT)?;
    if replica != belonging.primary && !belonging.replicas.contains(&replica) {
        belonging.replicas.push(replica);
    }
    membership::announce(&local, &belonging, credentials(charm)?).await?;
    Ok(())
}

/// Clears departed members from the Sentinels of `remaining`, one after another.
pub(super) async fn forget(
    charm: &mut Charm,
    seen: &Observation,
    remaining: &[UnitName],
) -> anyhow::Result<()> {
    let primary = seen.primary().context("no primary answers")?;
    let belonging = belonging_with(seen, &primary, remaining)?;
    let credentials = credentials(charm)?.clone();
    let report = membership::forget(&belonging, &credentials, &mut charm.unproven).await?;
    if !report.skipped.is_empty() {
        let skipped: Vec<String> = report.skipped.iter().map(ToString::to_string).collect();
        tracing::warn!(
            skipped = skipped.join(","),
            "Sentinels that do not answer were skipped"
        );
    }
    Ok(())
}

/// Lets the local Sentinel monitor again after it lost its state.
pub(super) async fn monitor(charm: &Charm, primary: &str, quorum: usize) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let client = sentinel_client(&charm.juju.address, credentials).await?;
    client
        .monitor(&endpoint(primary, SERVER_PORT)?, u64::try_from(quorum)?)
        .await?;
    super::processes::tune_sentinel(charm).await
}
