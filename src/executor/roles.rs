//! Steps that change who is primary and who follows.

use anyhow::Context as _;
use tracing::{info, warn};

use crate::{
    charm::Charm,
    history,
    limits::{SENTINEL_PORT, SERVER_PORT},
    observer::{endpoint, sentinel_client, server_client},
    planner::{Observation, UnitName, numbers::majority, peer_data::FoundingReason},
    settings,
    valkey::{
        Endpoint,
        handover::{self, HandoverPlan, HandoverRecord},
    },
};

use super::{credentials, membership::endpoints, workload};

/// Makes the local server promotable or not.
pub(super) async fn set_promotable(charm: &Charm, promotable: bool) -> anyhow::Result<()> {
    let client = server_client(&charm.juju.address, credentials(charm)?).await?;
    if promotable {
        // From then on it is sent what is written, and not only called online.
        let server = endpoint(&charm.juju.address, SERVER_PORT)?;
        handover::acknowledge_now(&server, credentials(charm)?).await;
    }
    let priority = if promotable { "100" } else { "0" };
    client.config_set(&[("replica-priority", priority)]).await?;
    Ok(())
}

/// Applies the settings that a running server and Sentinel take.
pub(super) async fn apply_settings(charm: &Charm) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let settings = settings::wanted(charm).await;
    let client = server_client(&charm.juju.address, credentials).await?;
    let before = client.config_get(&[settings::ANNOUNCED]).await?;
    for (name, value) in &settings.runtime {
        client
            .config_set(&[(name, value)])
            .await
            .with_context(|| format!("the server does not take {name} = {value:?}"))?;
    }
    let announced = settings.runtime.get(settings::ANNOUNCED);
    if announced.is_some() && before.get(settings::ANNOUNCED) != announced {
        client.reconnect_to_primary().await?;
    }
    let sentinel = sentinel_client(&charm.juju.address, credentials).await?;
    let down_after = settings.down_after_ms.to_string();
    sentinel
        .set(&[("down-after-milliseconds", &down_after)])
        .await?;
    Ok(())
}

/// Lets the local server follow the primary, if that still is one; a displaced one does so while that is silent, too.
pub(super) async fn follow(charm: &Charm, primary: &str) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    anyhow::ensure!(
        primary != charm.juju.address,
        "a server cannot follow itself"
    );
    let client = server_client(&charm.juju.address, credentials).await?;
    let displaced = client.replication().await?.role == crate::valkey::Role::Primary;
    // Between the look and now the role may have moved on; following a replica would build a chain.
    // What replaced a displaced primary may be silent: it serves no more all the same.
    let other = async {
        let other = server_client(primary, credentials).await?;
        anyhow::Ok(other.replication().await?.role)
    };
    match other.await {
        Ok(role) => anyhow::ensure!(
            role == crate::valkey::Role::Primary,
            "{primary} is no primary any more"
        ),
        Err(error) if displaced => warn!(
            primary,
            error = format!("{error:#}"),
            "The new primary does not answer; followed all the same"
        ),
        Err(error) => return Err(error),
    }
    // What this server accepted as a displaced primary goes; a full sync makes it promotable again.
    client.config_set(&[("replica-priority", "0")]).await?;
    client
        .replicaof(Some(&endpoint(primary, SERVER_PORT)?))
        .await?;
    if displaced {
        // Clients that stay would read old data and be refused for ever; anew, they find the primary.
        match client.kill_clients().await {
            Ok(closed) => info!(closed, "Clients of a displaced primary sent away"),
            Err(error) => warn!(
                error = format!("{error:#}"),
                "Cannot send the clients of a displaced primary away"
            ),
        }
    }
    Ok(())
}

/// Puts together what a change of the primary needs to know.
fn plan(
    seen: &Observation,
    from: Endpoint,
    to: &UnitName,
    leaving: bool,
) -> anyhow::Result<HandoverPlan> {
    // Who has joined since this hook read the databags votes, and has to be told.
    let members = seen.belonging();
    let target = endpoint(
        seen.host_of(to).context("the target has no address")?,
        SERVER_PORT,
    )?;
    let others: Vec<Endpoint> = endpoints(seen, &members, SERVER_PORT)?
        .into_iter()
        .filter(|other| *other != from && *other != target)
        .collect();
    let sentinels = endpoints(seen, &members, SENTINEL_PORT)?;
    let answering = members
        .iter()
        .filter(|unit| seen.monitor(unit).is_some())
        .count();
    let mut plan = HandoverPlan::new(from, target, others, sentinels);
    plan.leaving = endpoints(seen, &seen.leavers(), SERVER_PORT)?;
    // Without a majority the Sentinels cannot elect anybody either, so nobody competes; a unit
    // that leaves must not depend on peers that are gone.
    plan.allow_minority = leaving && answering < majority(members.len());
    Ok(plan)
}

/// Hands the role over; what happened goes into the history.
pub(super) async fn hand_over(
    charm: &mut Charm,
    seen: &Observation,
    from: &UnitName,
    to: &UnitName,
    leaving: bool,
) -> anyhow::Result<()> {
    let source = endpoint(
        seen.host_of(from).context("the primary has no address")?,
        SERVER_PORT,
    )?;
    let plan = plan(seen, source, to, leaving)?;
    let record = handover::hand_over(&plan, credentials(charm)?).await?;
    finish(charm, seen, &record, true).await
}

/// Promotes a replica of a primary that is gone.
pub(super) async fn promote(
    charm: &mut Charm,
    seen: &Observation,
    to: &UnitName,
) -> anyhow::Result<()> {
    let old = seen
        .former_primary(to)
        .context("nobody knows the old primary")?;
    let plan = plan(seen, endpoint(&old, SERVER_PORT)?, to, false)?;
    let record = handover::promote_best(&plan, credentials(charm)?).await?;
    finish(charm, seen, &record, false).await
}

/// Tells the Sentinels of a hand-over whose caller died on the way.
pub(super) async fn complete(
    charm: &Charm,
    seen: &Observation,
    to: &UnitName,
) -> anyhow::Result<()> {
    let primary = endpoint(
        seen.host_of(to).context("the primary has no address")?,
        SERVER_PORT,
    )?;
    let sentinels = endpoints(seen, &seen.belonging(), SENTINEL_PORT)?;
    // Where too few Sentinels are left for a vote, only the order of a person counts.
    let ordered = seen.app.founding.as_ref().is_some_and(|founding| {
        founding.reason == FoundingReason::Override && !founding.done && founding.unit == *to
    });
    handover::complete_hello(&primary, &sentinels, ordered, credentials(charm)?).await?;
    Ok(())
}

async fn finish(
    charm: &mut Charm,
    seen: &Observation,
    record: &HandoverRecord,
    planned: bool,
) -> anyhow::Result<()> {
    info!(
        from = %record.from, to = %record.to, path = ?record.path, pause_ms = record.phases.pause_ms,
        votes = record.tally.votes, epoch = record.tally.epoch, "The role of primary changed hands"
    );
    let entry = history::Entry::of_record(record, planned, |host| seen.show_host(host));
    charm.juju.mine.last_change = serde_json::to_string(&entry).ok();
    // What happened has happened: a disk that cannot take the record does not undo it.
    if let Err(error) = history::append(&workload(charm)?, entry).await {
        warn!(
            error = format!("{error:#}"),
            "Cannot note the change of the primary"
        );
    }
    Ok(())
}
