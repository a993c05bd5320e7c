//! Steps that change who belongs, as `src/executor/membership.rs` and `src/valkey/membership`.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use valkey_operator::{
    limits::{
        ANNOUNCE_LIMIT, FORGET_LIMIT, LEASE_CONFIRM_LIMIT, LEASE_TTL, MEMBERSHIP_POLL,
        RESET_PROOF_LIMIT,
    },
    planner::{Observation, UnitName, observation::Lease},
};

use super::{ms, processes::tune_sentinel, sentinels::look};
use crate::{
    hook::{Run, Trouble, trouble},
    models::{
        Failure, Hello, LeaseReply, Reply, SentinelCommand, SentinelFacts, SentinelView,
        ServerCommand,
    },
};

/// Takes or renews the lease; returns the host of a fenced primary that refused it.
pub async fn take_lease(run: &Run, seen: &Observation) -> Result<Option<String>, Trouble> {
    match try_lease(run, seen).await {
        Err(Trouble::Valkey(Failure::NoReplicas)) => Ok(primary_host(seen)),
        Err(trouble) => Err(trouble),
        Ok(()) => Ok(None),
    }
}

fn primary_host(seen: &Observation) -> Option<String> {
    let primary = seen.primary()?;
    seen.host_of(&primary).map(str::to_owned)
}

/// Renews the lease right before a step that changes the set, or makes sure that nobody else has it.
pub async fn make_sure_of_lease(run: &Run, seen: &Observation) -> Result<(), Trouble> {
    let Some(host) = primary_host(seen) else {
        // Without a primary nobody else can have taken it.
        if seen.lease == Lease::Unknown {
            return Ok(());
        }
        return trouble("no primary answers");
    };
    let token = run.me.to_string();
    if seen.lease == Lease::Unknown {
        return match run.server(&host, ServerCommand::LeaseHolder).await {
            Ok(Reply::Holder(Some((holder, _)))) if holder != token => {
                trouble("another unit has the lease by now")
            }
            _ => Ok(()),
        };
    }
    let take = ServerCommand::LeaseTake {
        token: token.clone(),
        ttl: ms(LEASE_TTL),
    };
    match run.server(&host, take).await {
        Ok(Reply::Lease(LeaseReply::Renewed)) => Ok(()),
        Ok(Reply::Lease(LeaseReply::Taken)) => {
            run.ctx
                .with(|world| crate::oracles::leased(world, run.unit));
            trouble("the lease was lost meanwhile")
        }
        Ok(Reply::Lease(LeaseReply::HeldBy(holder))) => {
            trouble(format!("the lease went to {holder} meanwhile"))
        }
        // A fenced primary takes no write, but tells.
        Err(Failure::NoReplicas) => match run.server(&host, ServerCommand::LeaseHolder).await? {
            Reply::Holder(Some((holder, _))) if holder == token => Ok(()),
            _ => trouble("the lease was lost meanwhile"),
        },
        Ok(other) => trouble(format!("{other:?}")),
        Err(failure) => Err(failure.into()),
    }
}

async fn try_lease(run: &Run, seen: &Observation) -> Result<(), Trouble> {
    let Some(host) = primary_host(seen) else {
        return trouble("no primary answers");
    };
    let wanted = seen.lease_witnesses() as u64;
    let token = run.me.to_string();
    if run.ctx.with(|world| world.deciders.steal_lease)
        && let Ok(Reply::Holder(Some((holder, _)))) =
            run.server(&host, ServerCommand::LeaseHolder).await
    {
        run.server(&host, ServerCommand::LeaseRelease { token: holder })
            .await?;
    }
    let take = ServerCommand::LeaseTake {
        token,
        ttl: ms(LEASE_TTL),
    };
    let mine = match run.server(&host, take).await? {
        Reply::Lease(LeaseReply::Taken | LeaseReply::Renewed) => true,
        Reply::Lease(LeaseReply::HeldBy(_)) => false,
        other => return trouble(format!("{other:?}")),
    };
    if !mine {
        return trouble("another unit holds it");
    }
    let deadline = run.ctx.sim.now() + ms(LEASE_CONFIRM_LIMIT);
    loop {
        if wanted == 0 {
            break;
        }
        match run.server(&host, ServerCommand::Wait).await? {
            Reply::Count(count) if count >= wanted => break,
            _ if run.ctx.sim.now() >= deadline => {
                return trouble(format!("{wanted} replicas did not acknowledge it"));
            }
            _ => run.ctx.sleep(50).await,
        }
    }
    run.ctx.with(|world| {
        let unit = run.unit;
        crate::oracles::leased(world, unit);
    });
    Ok(())
}

/// Gives the lease back; a primary that does not answer lets it run out.
pub async fn release_lease(run: &Run, seen: &Observation) -> Result<(), Trouble> {
    let Some(host) = primary_host(seen) else {
        return Ok(());
    };
    let release = ServerCommand::LeaseRelease {
        token: run.me.to_string(),
    };
    run.ctx
        .with(|world| crate::oracles::lease_returned(world, run.unit));
    match run.server(&host, release).await {
        Ok(_)
        | Err(Failure::NoReplicas | Failure::ReadOnly | Failure::Refused | Failure::Unreachable) => {
            Ok(())
        }
        Err(failure) => Err(failure.into()),
    }
}

fn hosts(seen: &Observation, units: &[UnitName]) -> Vec<String> {
    units
        .iter()
        .filter_map(|unit| seen.host_of(unit))
        .map(str::to_owned)
        .collect()
}

/// Sets the quorum on the Sentinels of `on`, all at the same time.
pub async fn set_quorum(
    run: &Run,
    seen: &Observation,
    on: &[UnitName],
    quorum: usize,
) -> Result<(), Trouble> {
    let hosts = hosts(seen, on);
    let set = hosts
        .iter()
        .map(|host| run.sentinel(host, SentinelCommand::SetQuorum(quorum)));
    for done in join_all(set).await {
        done?;
    }
    Ok(())
}

/// Sets `min-replicas-to-write` on the servers of `on`, all at the same time.
pub async fn set_min_replicas(
    run: &Run,
    seen: &Observation,
    on: &[UnitName],
    value: usize,
) -> Result<(), Trouble> {
    let hosts = hosts(seen, on);
    let set = hosts
        .iter()
        .map(|host| run.server(host, ServerCommand::SetMinReplicas(value as u64)));
    for done in join_all(set).await {
        done?;
    }
    Ok(())
}

/// Who belongs, whether it answers or not.
struct Membership {
    primary: String,
    replicas: Vec<String>,
    sentinels: Vec<String>,
}

fn belonging_with(
    seen: &Observation,
    primary: Option<UnitName>,
    members: &[UnitName],
) -> Result<Membership, Trouble> {
    let Some(primary) = primary else {
        return trouble("no primary answers");
    };
    let Some(host) = seen.host_of(&primary) else {
        return trouble("the primary has no address");
    };
    let host_of = |unit: &UnitName| seen.host_of(unit).map(str::to_owned);
    Ok(Membership {
        primary: host.to_owned(),
        replicas: members
            .iter()
            .filter(|unit| **unit != primary)
            .filter_map(host_of)
            .collect(),
        sentinels: members.iter().filter_map(host_of).collect(),
    })
}

/// The Sentinels that answer, with their ids, and what ids others know.
struct Gathered {
    alive: Vec<String>,
    ids: BTreeMap<String, String>,
}

async fn gather(run: &Run, membership: &Membership) -> Gathered {
    let asked = join_all(
        membership
            .sentinels
            .iter()
            .map(async |host| (host.clone(), look(run, host).await)),
    )
    .await;
    let mut gathered = Gathered {
        alive: Vec::new(),
        ids: BTreeMap::new(),
    };
    let mut own = Vec::new();
    for (host, facts) in asked {
        let Ok(facts) = facts else { continue };
        for other in facts.view.iter().flat_map(|view| &view.others) {
            if membership.sentinels.contains(&other.host) && !other.id.is_empty() {
                gathered.ids.insert(other.host.clone(), other.id.clone());
            }
        }
        own.push((host.clone(), facts.id));
        gathered.alive.push(host);
    }
    // One that answers at a new address is not at its old one any more.
    gathered
        .ids
        .retain(|_, id| !own.iter().any(|(_, found)| found == id));
    gathered.ids.extend(own);
    gathered
}

async fn introduce(
    run: &Run,
    to: &str,
    view: &SentinelView,
    told: impl Iterator<Item = (&String, &String)>,
) -> Result<(), Failure> {
    for (host, id) in told {
        if host == to {
            continue;
        }
        let hello = Hello {
            host: host.clone(),
            id: id.clone(),
            current_epoch: view.config_epoch,
            primary: view.primary.clone(),
            config_epoch: view.config_epoch,
        };
        run.sentinel(to, SentinelCommand::Hello(hello)).await?;
    }
    Ok(())
}

/// Introduces the local Sentinel to the others, and them to it.
pub async fn announce(run: &Run, seen: &Observation) -> Result<(), Trouble> {
    let mut members = seen.members();
    if !members.contains(&seen.me) {
        members.push(seen.me.clone());
    }
    let mut belonging = belonging_with(seen, seen.primary_or_named(), &members)?;
    let me = run.host.clone();
    if !belonging.sentinels.contains(&me) {
        belonging.sentinels.push(me.clone());
    }
    let deadline = run.ctx.sim.now() + ms(ANNOUNCE_LIMIT);
    let gathered = gather(run, &belonging).await;
    if !gathered.alive.contains(&me) {
        return trouble("the local Sentinel does not answer");
    }
    let mut views = Vec::new();
    for member in &gathered.alive {
        let Some(view) = look(run, member).await?.view else {
            return trouble(format!("{member} monitors no primary"));
        };
        views.push((member, view));
    }
    let newest = views
        .iter()
        .find(|(member, view)| **member == me && view.primary == belonging.primary)
        .map(|(_, view)| view.clone());
    for (member, view) in views {
        let behind = newest
            .as_ref()
            .filter(|newest| newest.config_epoch > view.config_epoch);
        if let Some(newest) = behind.filter(|_| view.primary != belonging.primary) {
            let told = gathered.ids.iter().filter(|(host, _)| **host == me);
            introduce(run, member, newest, told).await?;
            continue;
        }
        if view.primary != belonging.primary {
            return trouble(format!("{member} names {}", view.primary));
        }
        let told = gathered
            .ids
            .iter()
            .filter(|(host, _)| *member == me || **host == me);
        introduce(run, member, &view, told).await?;
    }
    for member in &gathered.alive {
        loop {
            let facts = look(run, member).await?;
            let peers: BTreeSet<&str> = facts
                .view
                .iter()
                .flat_map(|view| &view.others)
                .map(|other| other.host.as_str())
                .collect();
            let all = if *member == me {
                gathered
                    .alive
                    .iter()
                    .filter(|other| **other != me)
                    .all(|other| peers.contains(other.as_str()))
            } else {
                peers.contains(me.as_str())
            };
            if all {
                break;
            }
            if run.ctx.sim.now() >= deadline {
                return trouble(format!("{member} does not list all Sentinels"));
            }
            run.ctx.sleep(ms(MEMBERSHIP_POLL)).await;
        }
    }
    Ok(())
}

/// Asks the primary for its replicas, which proves that it lives.
async fn attached(run: &Run, primary: &str) -> Result<BTreeSet<String>, Trouble> {
    match run.server(primary, ServerCommand::Info).await? {
        Reply::Server(facts) if facts.follows.is_none() => Ok(facts
            .replicas
            .iter()
            .filter(|replica| replica.online)
            .map(|replica| replica.host.clone())
            .collect()),
        _ => trouble("the primary does not say that it is one"),
    }
}

async fn attached_if_safe(
    run: &Run,
    membership: &Membership,
    gathered: &Gathered,
) -> Result<BTreeSet<String>, Trouble> {
    for member in &gathered.alive {
        let facts = look(run, member).await?;
        let Some(view) = &facts.view else { continue };
        if view.failing_over || view.down || view.agreed_down || facts.tilted {
            return trouble(format!("cannot reset now: {member} is not calm"));
        }
        if view.primary != membership.primary {
            return trouble(format!("cannot reset now: {member} names {}", view.primary));
        }
    }
    attached(run, &membership.primary).await
}

fn ghosts(membership: &Membership, view: &SentinelView) -> bool {
    view.replicas
        .iter()
        .any(|replica| !membership.replicas.contains(&replica.host))
        || view
            .others
            .iter()
            .any(|other| !membership.sentinels.contains(&other.host))
}

fn missing(
    membership: &Membership,
    attached: &BTreeSet<String>,
    gathered: &Gathered,
    member: &str,
    facts: &SentinelFacts,
) -> bool {
    let Some(view) = &facts.view else { return true };
    let replica = |host: &String| {
        view.replicas
            .iter()
            .any(|replica| replica.host == *host && replica.link_up && !replica.down)
    };
    let peer = |host: &String| {
        view.others
            .iter()
            .any(|other| other.host == *host && !other.down)
    };
    view.primary != membership.primary
        || ghosts(membership, view)
        || !membership
            .replicas
            .iter()
            .filter(|host| attached.contains(*host))
            .all(replica)
        || !gathered
            .alive
            .iter()
            .filter(|host| *host != member)
            .all(peer)
}

fn knows_a_replica(membership: &Membership, facts: &SentinelFacts) -> bool {
    let belonging = &membership.replicas;
    let mut listed = facts.view.iter().flat_map(|view| &view.replicas);
    belonging.is_empty() || listed.any(|replica| belonging.contains(&replica.host))
}

/// Clears departed members from the Sentinels of `remaining`, one after another.
pub async fn forget(run: &Run, seen: &Observation, remaining: &[UnitName]) -> Result<(), Trouble> {
    let membership = belonging_with(seen, seen.primary(), remaining)?;
    let deadline = run.ctx.sim.now() + ms(FORGET_LIMIT);
    let gathered = gather(run, &membership).await;
    let all_at_once = run.ctx.with(|world| world.deciders.reset_all);
    if all_at_once {
        for member in &gathered.alive {
            run.sentinel(member, SentinelCommand::Reset).await?;
        }
        return Ok(());
    }
    let mut attached = attached(run, &membership.primary).await?;
    for member in &gathered.alive {
        let mut was_reset = false;
        loop {
            let facts = look(run, member).await?;
            let Some(view) = facts.view.clone() else {
                return trouble(format!("{member} monitors no primary"));
            };
            if !missing(&membership, &attached, &gathered, member, &facts) {
                break;
            }
            if run.ctx.sim.now() >= deadline {
                return trouble(format!("{member} does not know what it should"));
            }
            if ghosts(&membership, &view) && !was_reset {
                attached = attached_if_safe(run, &membership, &gathered).await?;
                let mut unready = false;
                let mut settled = true;
                let silent: Vec<&String> = membership
                    .sentinels
                    .iter()
                    .filter(|host| !gathered.alive.contains(host))
                    .collect();
                let asked = silent.iter().map(async |host| look(run, host).await);
                let back = join_all(asked).await;
                let mut still = silent.iter().zip(&back).filter(|(_, facts)| facts.is_err());
                let now = run.ctx.sim.now();
                unready |= still.any(|(host, _)| {
                    let reset = run.unproven.borrow().get(*host).copied();
                    reset.is_some_and(|since| now - since < ms(RESET_PROOF_LIMIT))
                });
                for facts in back.iter().flatten() {
                    unready |= !knows_a_replica(&membership, facts);
                }
                for other in &gathered.alive {
                    if other == member {
                        settled = false;
                        continue;
                    }
                    let facts = look(run, other).await?;
                    unready |= settled && missing(&membership, &attached, &gathered, other, &facts);
                    unready |= !knows_a_replica(&membership, &facts);
                }
                if unready {
                    run.ctx.sleep(ms(MEMBERSHIP_POLL)).await;
                    continue;
                }
                run.sentinel(member, SentinelCommand::Reset).await?;
                let reset_at = run.ctx.sim.now();
                run.unproven.borrow_mut().insert(member.clone(), reset_at);
                was_reset = true;
            }
            introduce(run, member, &view, gathered.ids.iter()).await?;
            run.sentinel(member, SentinelCommand::ShortenPeriods)
                .await?;
            run.ctx.sleep(ms(MEMBERSHIP_POLL)).await;
        }
        run.unproven.borrow_mut().remove(member);
    }
    Ok(())
}

/// Lets the local Sentinel monitor again after it lost its state.
pub async fn monitor(run: &Run, primary: &str, quorum: usize) -> Result<(), Trouble> {
    let monitor = SentinelCommand::Monitor {
        primary: primary.to_owned(),
        quorum,
    };
    run.sentinel(&run.host, monitor).await?;
    tune_sentinel(run).await?;
    Ok(())
}
