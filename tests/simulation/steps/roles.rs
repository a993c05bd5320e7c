//! Steps that change who is primary and who follows, as `src/executor/roles.rs`.

use valkey_operator::planner::{
    Observation, UnitName, numbers::majority, peer_data::FoundingReason,
};

use super::handover::{self, Handover};
use crate::{
    hook::{Run, Trouble, trouble},
    models::{Reply, SentinelCommand, ServerCommand},
};

/// Makes the local server promotable or not.
pub async fn set_promotable(run: &Run, promotable: bool) -> Result<(), Trouble> {
    if promotable {
        let _ = run.server(&run.host, ServerCommand::GetAck).await;
    }
    let priority = if promotable { 100 } else { 0 };
    run.server(&run.host, ServerCommand::SetPriority(priority))
        .await?;
    Ok(())
}

/// Applies the settings that a running server and Sentinel take.
pub async fn apply_settings(run: &Run, seen: &Observation) -> Result<(), Trouble> {
    run.sentinel(
        &run.host,
        SentinelCommand::SetDownAfter(seen.settings.down_after_ms),
    )
    .await?;
    Ok(())
}

/// Lets the local server follow the primary, if that still is one; a displaced one does so while that is silent, too.
pub async fn follow(run: &Run, primary: &str) -> Result<(), Trouble> {
    if primary == run.host {
        return trouble("a server cannot follow itself");
    }
    let own = run.server(&run.host, ServerCommand::Info).await?;
    let displaced = matches!(own, Reply::Server(facts) if facts.follows.is_none());
    match run.server(primary, ServerCommand::Info).await {
        Ok(Reply::Server(facts)) if facts.follows.is_none() => {}
        Ok(_) => return trouble(format!("{primary} is no primary any more")),
        Err(_) if displaced => {}
        Err(silent) => return Err(silent.into()),
    }
    run.server(&run.host, ServerCommand::SetPriority(0)).await?;
    run.server(
        &run.host,
        ServerCommand::ReplicaOf(Some(primary.to_owned())),
    )
    .await?;
    Ok(())
}

fn plan(seen: &Observation, from: String, to: &UnitName, leaving: bool) -> Option<Handover> {
    let members = seen.belonging();
    let target = seen.host_of(to)?.to_owned();
    let hosts = seen.member_hosts();
    let others = hosts
        .iter()
        .filter(|host| **host != from && **host != target)
        .cloned()
        .collect();
    let answering = members
        .iter()
        .filter(|unit| seen.monitor(unit).is_some())
        .count();
    let leavers = seen
        .leavers()
        .iter()
        .filter_map(|unit| seen.host_of(unit))
        .map(str::to_owned)
        .collect();
    Some(Handover {
        from,
        to: target,
        others,
        sentinels: hosts,
        leaving: leavers,
        allow_minority: leaving && answering < majority(members.len()),
    })
}

/// Hands the role over.
pub async fn hand_over(
    run: &Run,
    seen: &Observation,
    from: &UnitName,
    to: &UnitName,
    leaving: bool,
) -> Result<(), Trouble> {
    let Some(plan) = seen
        .host_of(from)
        .and_then(|source| plan(seen, source.to_owned(), to, leaving))
    else {
        return trouble("no address");
    };
    run.ctx.with(|world| {
        let names = (from.to_string(), to.to_string());
        world.note(70, || {
            format!("{} hands over {} -> {}", run.me, names.0, names.1)
        });
    });
    handover::hand_over(run, &plan).await
}

/// Promotes a replica of a primary that is gone.
pub async fn promote(run: &Run, seen: &Observation, to: &UnitName) -> Result<(), Trouble> {
    let old = seen.former_primary(to);
    let Some(plan) = old.and_then(|old| plan(seen, old, to, false)) else {
        return trouble("nobody knows the old primary");
    };
    handover::promote_best(run, &plan).await
}

/// Tells the Sentinels of a hand-over whose caller died on the way.
pub async fn complete(run: &Run, seen: &Observation, to: &UnitName) -> Result<(), Trouble> {
    let Some(primary) = seen.host_of(to) else {
        return trouble("the primary has no address");
    };
    let sentinels = seen.member_hosts();
    let ordered = seen.app.founding.as_ref().is_some_and(|founding| {
        founding.reason == FoundingReason::Override && !founding.done && founding.unit == *to
    });
    handover::complete_hello(run, primary, &sentinels, ordered).await
}
