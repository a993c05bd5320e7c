//! Handing the primary's role to another server without losing a write.
//!
//! The order is: checks that change nothing → votes of a majority of the Sentinels, so that none
//! of them fails over at the same time → the server's own `FAILOVER`, which holds writes back until
//! the target has everything → a hello to every Sentinel in the epoch that was won → the other
//! replicas are pointed to the new primary → proof. Until the promotion every failure leaves the old
//! primary serving; after it the procedure goes forward only, and [`complete_hello`] finishes what
//! a caller that died left undone.

mod checks;
mod promotion;
mod pump;
mod record;
mod sentinels;

use std::time::{Duration, Instant};

use futures::future::join_all;

pub use record::{HandoverError, HandoverPath, HandoverPlan, HandoverRecord, Phases, Tally};

use crate::limits::{PRIORITY_NEVER, PRIORITY_PROMOTABLE};
use crate::valkey::server_info::FailoverState;
use crate::valkey::{Credentials, Endpoint, InternalUser, Role, ServerClient, ValkeyError};
use checks::{began_at, check_orphan, check_servers, prove};
use promotion::{promote, promote_orphan};
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
    check_servers(plan, &from, &to, &mut pump).await?;
    sentinels.agree_on(&[&plan.from])?;
    let mut phases = Phases {
        check_ms: ms(start.elapsed()),
        ..Phases::default()
    };

    let voting = Instant::now();
    let mut tally = sentinels
        .win(plan.allow_minority, &[&plan.from, &plan.to])
        .await?;
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
    // They may name the target already: one that never came to serve.
    sentinels.agree_on(&[&plan.from, &plan.to])?;
    let mut phases = Phases {
        check_ms: ms(start.elapsed()),
        ..Phases::default()
    };

    let voting = Instant::now();
    let mut tally = sentinels
        .win(plan.allow_minority, &[&plan.from, &plan.to])
        .await?;
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
        gathered.win(allow_minority, &[primary]).await?
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

/// Makes a replica acknowledge what it has, at once instead of within a second.
///
/// After a first synchronisation the primary waits for that acknowledgement before it sends what
/// was written since. Does nothing for a server that cannot be reached.
pub async fn acknowledge_now(replica: &Endpoint, credentials: &Credentials) {
    AckPump::connect(replica, credentials).await.ask().await;
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
