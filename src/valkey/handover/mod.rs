//! Handing the primary's role to another server without losing a write.
//!
//! The order is: checks that change nothing → votes of a majority of the Sentinels, so that none
//! of them fails over at the same time → the server's own `FAILOVER`, which holds writes back until
//! the target has everything → a hello to every Sentinel in the epoch that was won → the other
//! replicas are pointed to the new primary → proof. Until the promotion every failure leaves the old
//! primary serving; after it the procedure goes forward only, and [`complete_hello`] finishes what
//! a caller that died left undone.

mod promotion;
mod pump;
mod record;
mod sentinels;

use std::time::{Duration, Instant};

use futures::future::join_all;

pub use record::{HandoverError, HandoverPath, HandoverPlan, HandoverRecord, Phases, Tally};

use crate::limits::{
    HANDOVER_POLL, HANDOVER_PROOF_LIMIT, ORPHAN_DRAIN_LIMIT, ORPHAN_STILL, PRIORITY_NEVER,
    PRIORITY_PROMOTABLE,
};
use crate::valkey::server_info::FailoverState;
use crate::valkey::{
    Credentials, Endpoint, InternalUser, Role, ServerClient, ServerInfo, ValkeyError,
};
use promotion::{Promoted, promote, promote_orphan};
use pump::AckPump;
use sentinels::Sentinels;

/// Hands the role of `plan.from` over to `plan.to`.
///
/// # Errors
///
/// [`HandoverError`]; [`HandoverError::is_promoted`] tells whether the target is primary already.
pub async fn hand_over(
    plan: &HandoverPlan,
    credentials: &Credentials,
) -> Result<HandoverRecord, HandoverError> {
    let start = Instant::now();
    let ((from, to), sentinels, others, mut pump) = tokio::join!(
        async {
            tokio::join!(
                connect(&plan.from, credentials),
                connect(&plan.to, credentials)
            )
        },
        Sentinels::gather(&plan.sentinels, credentials),
        connect_all(&plan.others, credentials),
        AckPump::connect(&plan.to, credentials),
    );
    let from = from.map_err(valkey("connecting to the primary"))?;
    let to = to.map_err(valkey("connecting to the target"))?;
    check_servers(plan, &from, &to).await?;
    sentinels.agree_on(&plan.from)?;
    let mut phases = Phases {
        check_ms: ms(start.elapsed()),
        ..Phases::default()
    };

    let voting = Instant::now();
    let mut tally = sentinels.win(plan.allow_minority).await?;
    phases.votes_ms = ms(voting.elapsed());

    let promoted = promote(plan, &from, &to, &mut pump).await?;
    phases.pause_ms = ms(promoted.pause);

    let telling = Instant::now();
    let ((), not_following) = tokio::join!(
        sentinels.tell(&plan.to, &mut tally),
        point_to(&plan.to, &plan.others, &others),
    );
    phases.tell_ms = ms(telling.elapsed());

    let proving = Instant::now();
    let proof = prove(plan, &from, &to, &promoted).await;
    let clients_closed = settle(plan, Some(&from), &to, &others).await;
    let (old_offset, new_offset) = proof?;
    phases.verify_ms = ms(proving.elapsed());
    finish(
        plan,
        HandoverRecord {
            at: jiff::Timestamp::now(),
            from: plan.from.clone(),
            to: plan.to.clone(),
            path: promoted.path,
            fallback_reason: promoted.fallback_reason,
            old_offset: Some(old_offset),
            new_offset,
            tally,
            not_following,
            clients_closed,
            phases,
        },
    )
}

/// Promotes `plan.to` when the old primary `plan.from` is dead; the caller chose the best replica.
///
/// # Errors
///
/// As [`hand_over`]. Refused if the old primary answers after all, or if another replica that
/// answers holds more of the same history than the target.
pub async fn promote_best(
    plan: &HandoverPlan,
    credentials: &Credentials,
) -> Result<HandoverRecord, HandoverError> {
    let start = Instant::now();
    let (from, to, sentinels, others) = tokio::join!(
        connect(&plan.from, credentials),
        connect(&plan.to, credentials),
        Sentinels::gather(&plan.sentinels, credentials),
        connect_all(&plan.others, credentials),
    );
    if let Ok(from) = from
        && let Ok(info) = from.replication().await
        && info.role == Role::Primary
    {
        return Err(unfit(
            &plan.from,
            "it answers and is primary: hand over instead",
        ));
    }
    let to = to.map_err(valkey("connecting to the target"))?;
    check_orphan(plan, &to, &others).await?;
    sentinels.agree_on(&plan.from)?;
    let mut phases = Phases {
        check_ms: ms(start.elapsed()),
        ..Phases::default()
    };

    let voting = Instant::now();
    let mut tally = sentinels.win(plan.allow_minority).await?;
    phases.votes_ms = ms(voting.elapsed());
    phases.pause_ms = ms(promote_orphan(&to).await?);

    let telling = Instant::now();
    let ((), not_following) = tokio::join!(
        sentinels.tell(&plan.to, &mut tally),
        point_to(&plan.to, &plan.others, &others),
    );
    phases.tell_ms = ms(telling.elapsed());
    let proving = Instant::now();
    let clients_closed = settle(plan, None, &to, &others).await;
    let info = to
        .replication()
        .await
        .map_err(valkey("asking the new primary"))?;
    if info.role != Role::Primary {
        return Err(incomplete(plan, "it says that it is a replica"));
    }
    phases.verify_ms = ms(proving.elapsed());
    finish(
        plan,
        HandoverRecord {
            at: jiff::Timestamp::now(),
            from: plan.from.clone(),
            to: plan.to.clone(),
            path: HandoverPath::Promotion,
            fallback_reason: None,
            old_offset: None,
            new_offset: began_at(&info),
            tally,
            not_following,
            clients_closed,
            phases,
        },
    )
}

/// Tells Sentinels that `primary` is the primary, after a promotion whose caller could not.
///
/// Needs the votes of a majority like a hand-over, so that it never overrules a newer election.
///
/// # Errors
///
/// As [`hand_over`]. Refused if `primary` does not report itself as one, if a server that a
/// Sentinel names instead does so too, or while a failover is under way.
pub async fn complete_hello(
    primary: &Endpoint,
    sentinels: &[Endpoint],
    allow_minority: bool,
    credentials: &Credentials,
) -> Result<Tally, HandoverError> {
    let gathered = Sentinels::gather(sentinels, credentials).await;
    let server = connect(primary, credentials)
        .await
        .map_err(valkey("connecting to the primary"))?;
    let info = server
        .replication()
        .await
        .map_err(valkey("asking the primary"))?;
    if info.role != Role::Primary || info.failover != FailoverState::None {
        return Err(unfit(primary, "it does not say that it is the primary"));
    }
    let named = gathered.others_named(primary);
    for other in &named {
        let Ok(server) = connect(other, credentials).await else {
            continue;
        };
        if server
            .replication()
            .await
            .is_ok_and(|info| info.role == Role::Primary)
        {
            return Err(unfit(other, "Sentinels name it and it is a primary, too"));
        }
    }
    let mut tally = if named.is_empty() {
        Tally {
            needed: gathered.needed(),
            ..Tally::default()
        }
    } else {
        gathered.win(allow_minority).await?
    };
    gathered.tell(primary, &mut tally).await;
    if tally.told.len() >= tally.needed || (allow_minority && !tally.told.is_empty()) {
        return Ok(tally);
    }
    let why = format!(
        "{} of {} needed Sentinels name it",
        tally.told.len(),
        tally.needed
    );
    Err(HandoverError::Incomplete {
        to: primary.clone(),
        why,
    })
}

/// Checks that nothing speaks against the hand-over; changes nothing.
async fn check_servers(
    plan: &HandoverPlan,
    from: &ServerClient,
    to: &ServerClient,
) -> Result<(), HandoverError> {
    let (old, new) = tokio::join!(from.info(), to.info());
    let old = old.map_err(valkey("asking the primary"))?;
    let new = new.map_err(valkey("asking the target"))?;
    if plan.leaving.contains(&plan.to) {
        return Err(unfit(&plan.to, "it is leaving itself"));
    }
    if old.role != Role::Primary {
        return Err(unfit(&plan.from, "it is no primary"));
    }
    if old.failover != FailoverState::None {
        return Err(unfit(&plan.from, "a failover of its own is under way"));
    }
    if new.follows() != Some(&plan.from) {
        return Err(unfit(&plan.to, "it does not follow the primary"));
    }
    if !new.is_synced_replica() {
        return Err(unfit(
            &plan.to,
            "its link is down or its synchronisation not complete",
        ));
    }
    match old
        .replicas
        .iter()
        .find(|replica| replica.address == plan.to)
    {
        Some(replica) if replica.is_online() => Ok(()),
        Some(replica) => Err(unfit(
            &plan.to,
            &format!("the primary sees it as {}", replica.state),
        )),
        None => Err(unfit(&plan.to, "the primary does not list it")),
    }
}

/// Waits until replicas of a dead primary have read what it sent them before it died.
///
/// A promotion drops what still waits in a replica's connection. Whoever has read to the end sees
/// that the link is down; if the primary's machine vanished nothing tells the end, and an offset
/// that stands still has to do.
async fn drained(servers: impl Iterator<Item = &ServerClient>) {
    join_all(servers.map(async |server| {
        let start = Instant::now();
        let mut seen = (0, Instant::now());
        while start.elapsed() < ORPHAN_DRAIN_LIMIT {
            let Ok(info) = server.replication().await else {
                return;
            };
            if info.offset != seen.0 {
                seen = (info.offset, Instant::now());
            }
            if info.link.is_none_or(|link| !link.up) || seen.1.elapsed() >= ORPHAN_STILL {
                return;
            }
            tokio::time::sleep(HANDOVER_POLL).await;
        }
    }))
    .await;
}

/// Checks that the target is the best replica that answers.
async fn check_orphan(
    plan: &HandoverPlan,
    to: &ServerClient,
    others: &[Option<ServerClient>],
) -> Result<(), HandoverError> {
    drained([to].into_iter().chain(others.iter().flatten())).await;
    let target = to.info().await.map_err(valkey("asking the target"))?;
    if plan.leaving.contains(&plan.to) {
        return Err(unfit(&plan.to, "it is leaving itself"));
    }
    if target.role != Role::Replica {
        return Err(unfit(&plan.to, "it is no replica"));
    }
    if target.loading.is_some() || target.link.as_ref().is_some_and(|link| link.sync.is_some()) {
        return Err(unfit(&plan.to, "its data set is not complete"));
    }
    for other in others.iter().flatten() {
        let Ok(info) = other.replication().await else {
            continue;
        };
        if info.replid == target.replid && info.offset > target.offset {
            let why = format!(
                "{} has {} bytes of the same history, it has {}",
                other.endpoint(),
                info.offset,
                target.offset
            );
            return Err(unfit(&plan.to, &why));
        }
    }
    Ok(())
}

/// Proves the result: roles, and that the new history begins where the old one ended.
///
/// Returns the old primary's last offset and the new one's first, in bytes.
async fn prove(
    plan: &HandoverPlan,
    from: &ServerClient,
    to: &ServerClient,
    promoted: &Promoted,
) -> Result<(u64, u64), HandoverError> {
    let start = Instant::now();
    loop {
        let (old, new) = tokio::join!(from.replication(), to.replication());
        let missing = match (&old, &new) {
            (_, Err(err)) | (Err(err), Ok(_)) => err.to_string(),
            (_, Ok(new)) if new.role != Role::Primary => {
                return Err(incomplete(plan, "it says that it is a replica"));
            }
            (Ok(old), Ok(new)) if old.follows() == Some(&plan.to) => {
                // Linked without a full copy, it tells where its own history ended.
                let resumed = old.is_synced_replica() && old.replid == new.replid;
                let ended = if resumed { Some(began_at(old)) } else { None };
                if let Some(ended) = ended.or(promoted.old_offset.filter(|_| resumed)) {
                    return compare(
                        plan,
                        promoted.old_offset.map_or(ended, |o| o.max(ended)),
                        new,
                    );
                }
                "the old primary is not linked to it yet".to_owned()
            }
            (Ok(_), Ok(_)) => "the old primary does not follow it".to_owned(),
        };
        if start.elapsed() >= HANDOVER_PROOF_LIMIT {
            // What was seen while writes were held back proves it as well.
            return match (promoted.old_offset, &new) {
                (Some(offset), Ok(new)) => {
                    compare(plan, offset, new)?;
                    Err(incomplete(plan, &missing))
                }
                _ => Err(incomplete(plan, &missing)),
            };
        }
        tokio::time::sleep(HANDOVER_POLL).await;
    }
}

fn compare(plan: &HandoverPlan, old: u64, new: &ServerInfo) -> Result<(u64, u64), HandoverError> {
    let began = began_at(new);
    if began >= old {
        Ok((old, began))
    } else {
        let why = format!("it began at {began} bytes while the old primary had {old}");
        Err(incomplete(plan, &why))
    }
}

/// Returns the last offset of the history before the present one, in bytes.
fn began_at(info: &ServerInfo) -> u64 {
    info.second_repl_offset
        .map_or(info.offset, |first| first.saturating_sub(1))
}

/// Priorities as they belong, and the clients of the old primary sent away.
async fn settle(
    plan: &HandoverPlan,
    from: Option<&ServerClient>,
    to: &ServerClient,
    others: &[Option<ServerClient>],
) -> usize {
    let servers = from.into_iter().chain([to]).chain(others.iter().flatten());
    join_all(servers.map(async |server| {
        let priority = if plan.leaving.contains(server.endpoint()) {
            PRIORITY_NEVER
        } else if server.endpoint() == &plan.to
            || Some(server.endpoint()) == from.map(ServerClient::endpoint)
        {
            PRIORITY_PROMOTABLE
        } else {
            // Whether another replica may be promoted is decided by who brought it here.
            return;
        };
        let value = priority.to_string();
        if let Err(err) = server.config_set(&[("replica-priority", &value)]).await {
            tracing::warn!(server = %server.endpoint(), error = %err, "Cannot set the priority");
        }
    }))
    .await;
    match from {
        Some(from) if plan.close_clients => from.kill_clients().await.unwrap_or_else(|err| {
            tracing::warn!(server = %plan.from, error = %err, "Cannot close clients' connections");
            0
        }),
        _ => 0,
    }
}

/// Says whether enough Sentinels know.
fn finish(plan: &HandoverPlan, record: HandoverRecord) -> Result<HandoverRecord, HandoverError> {
    // Those that know tell the others with their next hello; a minority tells nobody.
    if record.tally.told.is_empty() && !plan.sentinels.is_empty() {
        return Err(incomplete(plan, "no Sentinel names it yet"));
    }
    tracing::info!(
        from = %record.from, to = %record.to, pause_ms = record.phases.pause_ms,
        epoch = record.tally.epoch, "Role handed over"
    );
    Ok(record)
}

/// Points replicas to the new primary; returns those that it did not reach.
async fn point_to(
    primary: &Endpoint,
    endpoints: &[Endpoint],
    clients: &[Option<ServerClient>],
) -> Vec<Endpoint> {
    let pointed = join_all(clients.iter().map(async |client| match client {
        Some(client) => client.replicaof(Some(primary)).await.is_ok(),
        None => false,
    }))
    .await;
    endpoints
        .iter()
        .zip(pointed)
        .filter(|(_, done)| !done)
        .map(|(e, _)| e.clone())
        .collect()
}

async fn connect(
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<ServerClient, ValkeyError> {
    let user = InternalUser::CharmedOperator;
    ServerClient::connect(endpoint, user, credentials.password(user)).await
}

async fn connect_all(
    endpoints: &[Endpoint],
    credentials: &Credentials,
) -> Vec<Option<ServerClient>> {
    join_all(
        endpoints
            .iter()
            .map(async |endpoint| connect(endpoint, credentials).await.ok()),
    )
    .await
}

fn valkey(doing: &'static str) -> impl FnOnce(ValkeyError) -> HandoverError {
    move |source| HandoverError::Valkey { doing, source }
}

fn unfit(who: &Endpoint, why: &str) -> HandoverError {
    HandoverError::Unfit {
        who: who.clone(),
        why: why.to_owned(),
    }
}

fn incomplete(plan: &HandoverPlan, why: &str) -> HandoverError {
    HandoverError::Incomplete {
        to: plan.to.clone(),
        why: why.to_owned(),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
