//! The promotion itself: writes held back, offsets equal, the role changes hands.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::pump::AckPump;
use super::{HandoverError, HandoverPath, HandoverPlan, valkey};
use crate::limits::{HANDOVER_LOOK_LIMIT, HANDOVER_POLL};
use crate::valkey::server_info::FailoverState;
use crate::valkey::{Role, ServerClient, ServerInfo, ValkeyError};

/// What the promotion found out.
pub(super) struct Promoted {
    pub(super) path: HandoverPath,
    pub(super) fallback_reason: Option<String>,
    /// The old primary's offset once writes were held back, if it was seen.
    pub(super) old_offset: Option<u64>,
    pub(super) pause: Duration,
}

/// How an attempt with the server's own failover ended without a promotion.
enum Declined {
    /// It was never begun, or the target would not: another way may work.
    Refused(String),
    /// The target did not get everything in time: another way would not help.
    TooSlow(String),
    /// It cannot be told who is primary: touch nothing.
    Unknown(String),
}

/// Promotes the target; on any error the old primary serves on, unpaused.
pub(super) async fn promote(
    plan: &HandoverPlan,
    from: &ServerClient,
    to: &ServerClient,
    pump: &mut AckPump,
) -> Result<Promoted, HandoverError> {
    let aborted = |why| HandoverError::Aborted {
        from: plan.from.clone(),
        why,
    };
    let reason = match by_server(plan, from, to, pump).await {
        Ok(promoted) => return Ok(promoted),
        Err(Declined::TooSlow(why)) => {
            take_back(plan, from, to).await;
            return Err(aborted(why));
        }
        Err(Declined::Unknown(why)) => {
            return Err(HandoverError::Unknown {
                to: plan.to.clone(),
                why,
            });
        }
        Err(Declined::Refused(why)) => why,
    };
    tracing::warn!(server = %plan.from, reason, "FAILOVER is refused, pausing writes instead");
    match by_pause(plan, from, to, pump).await {
        Ok(mut promoted) => {
            promoted.fallback_reason = Some(reason);
            Ok(promoted)
        }
        Err(why) => {
            // Whatever went wrong: writes go on, here, at once. The pause has its own end too.
            if let Err(err) = from.client_unpause().await {
                tracing::warn!(server = %plan.from, error = %err, "Cannot let clients go on; the pause ends by itself");
            }
            take_back(plan, from, to).await;
            Err(aborted(format!("{why} (before: {reason})")))
        }
    }
}

/// The server's own way: it pauses, waits for the target, demotes itself and promotes it.
async fn by_server(
    plan: &HandoverPlan,
    from: &ServerClient,
    to: &ServerClient,
    pump: &mut AckPump,
) -> Result<Promoted, Declined> {
    pump.ask().await;
    let start = Instant::now();
    match from.failover_to(&plan.to, plan.pause_limit).await {
        Ok(()) => {}
        Err(err) if err.is_silent() => {
            // It may have begun: what the target says below decides.
            tracing::warn!(server = %plan.from, error = %err, "No answer to FAILOVER");
        }
        Err(err) => return Err(Declined::Refused(err.to_string())),
    }
    let limit = plan.pause_limit + HANDOVER_LOOK_LIMIT;
    let mut old_offset = None;
    let mut last = String::from("it never said how far it is");
    while start.elapsed() < limit {
        pump.ask().await;
        match look(plan, from, to).await {
            Seen::Promoted => {
                return Ok(Promoted {
                    path: HandoverPath::ServerFailover,
                    fallback_reason: None,
                    old_offset,
                    pause: start.elapsed(),
                });
            }
            Seen::UnderWay(offset) => old_offset = Some(offset),
            Seen::ServesOn => {
                // Given up by its time limit, or the target would not.
                let why = "the primary gave its failover up".to_owned();
                return Err(if start.elapsed() + HANDOVER_POLL >= plan.pause_limit {
                    Declined::TooSlow(format!("the target was not in sync in time: {why}"))
                } else {
                    Declined::Refused(why)
                });
            }
            Seen::Unknown(why) => last = why,
        }
        tokio::time::sleep(HANDOVER_POLL).await;
    }
    if let Err(err) = from.failover_abort().await {
        last = err.to_string();
    }
    // Between the last look and the abort it may have been done after all.
    match look(plan, from, to).await {
        Seen::Promoted => Ok(Promoted {
            path: HandoverPath::ServerFailover,
            fallback_reason: None,
            old_offset,
            pause: start.elapsed(),
        }),
        Seen::ServesOn => Err(Declined::TooSlow(format!(
            "no end within {} ms: {last}",
            limit.as_millis()
        ))),
        Seen::UnderWay(_) => Err(Declined::Unknown(last)),
        Seen::Unknown(why) => Err(Declined::Unknown(why)),
    }
}

/// What both servers say while the role changes hands.
enum Seen {
    /// The target is primary, and the old primary is not any more, or is dead.
    Promoted,
    /// The old primary, at this offset, is at it.
    UnderWay(u64),
    /// The old primary serves; whatever the target believes, the role did not go to it.
    ServesOn,
    /// Neither can be told.
    Unknown(String),
}

async fn look(plan: &HandoverPlan, from: &ServerClient, to: &ServerClient) -> Seen {
    // A frozen server must not keep the other one's clients waiting.
    let (old, new) = tokio::join!(
        timeout(HANDOVER_LOOK_LIMIT, from.replication()),
        timeout(HANDOVER_LOOK_LIMIT, to.replication()),
    );
    let leads = matches!(&new, Ok(Ok(info)) if info.role == Role::Primary);
    match old {
        Ok(Ok(info)) if info.failover != FailoverState::None => Seen::UnderWay(info.offset),
        Ok(Ok(info)) if info.role == Role::Primary => Seen::ServesOn,
        // It is done with its failover and follows: so the target took the role over, even if it
        // does not answer now. Going back from here would make them follow each other.
        Ok(Ok(info)) if info.follows() == Some(&plan.to) => Seen::Promoted,
        Ok(Err(ValkeyError::Unreachable { .. })) if leads => Seen::Promoted,
        Ok(Ok(_)) => Seen::Unknown("the old primary follows somebody else".to_owned()),
        Ok(Err(err)) => Seen::Unknown(err.to_string()),
        Err(_) => Seen::Unknown("the old primary does not answer".to_owned()),
    }
}

/// Makes a target that was promoted too late, after the old primary had gone on, a replica again.
///
/// Nobody was sent to it, so that it holds nothing of its own. If it does not answer now, Sentinel
/// does the same when it wakes up.
///
/// Only while the old primary itself says that it serves: two servers that follow each other would
/// leave none that takes writes.
async fn take_back(plan: &HandoverPlan, from: &ServerClient, to: &ServerClient) {
    let target = timeout(HANDOVER_LOOK_LIMIT, to.replication()).await;
    if matches!(target, Ok(Ok(info)) if info.role == Role::Primary)
        && matches!(look(plan, from, to).await, Seen::ServesOn)
        && let Err(err) = to.replicaof(Some(&plan.from)).await
    {
        tracing::warn!(server = %plan.to, error = %err, "Cannot make the target a replica again");
    }
}

/// The charm's own way, for servers that refuse theirs: pause, equal offsets, `REPLICAOF`.
async fn by_pause(
    plan: &HandoverPlan,
    from: &ServerClient,
    to: &ServerClient,
    pump: &mut AckPump,
) -> Result<Promoted, String> {
    let text = |err: ValkeyError| err.to_string();
    let start = Instant::now();
    from.client_pause_write(plan.pause_limit)
        .await
        .map_err(text)?;
    let paused = from.replication().await.map_err(text)?;
    if paused.role != Role::Primary {
        return Err(format!("{} is no primary any more", plan.from));
    }
    // A third of the pause is kept for the changes after this, so that it cannot end before them.
    let limit = plan.pause_limit * 2 / 3;
    loop {
        pump.ask().await;
        let at = match timeout(HANDOVER_LOOK_LIMIT, to.replication()).await {
            Ok(Ok(target)) if has_all(&target, &paused) => break,
            Ok(Ok(target)) => format!("has {} of {} bytes", target.offset, paused.offset),
            Ok(Err(err)) => return Err(err.to_string()),
            Err(_) => "does not answer".to_owned(),
        };
        if start.elapsed() >= limit {
            return Err(format!("the target {at} after {} ms", limit.as_millis()));
        }
        tokio::time::sleep(HANDOVER_POLL).await;
    }
    if let Err(err) = to.replicaof(None).await
        && !is_primary(to).await
    {
        return Err(err.to_string());
    }
    let pause = start.elapsed();
    // From here on forward only. The old primary holds writes back until it is a replica.
    let mut demoted = from.replicaof(Some(&plan.to)).await;
    while demoted.is_err() && start.elapsed() < plan.pause_limit {
        tokio::time::sleep(HANDOVER_POLL).await;
        demoted = from.replicaof(Some(&plan.to)).await;
    }
    match demoted {
        // What waits in its clients' connections is refused now instead of done.
        Ok(()) => {
            if let Err(err) = from.client_unpause().await {
                tracing::warn!(server = %plan.from, error = %err, "Cannot let clients go on; the pause ends by itself");
            }
        }
        Err(err) => {
            tracing::error!(server = %plan.from, error = %err, "The old primary could not be demoted");
        }
    }
    Ok(Promoted {
        path: HandoverPath::PauseAndReplicaof,
        fallback_reason: None,
        old_offset: Some(paused.offset),
        pause,
    })
}

/// Whether the target has everything that the paused primary had, in the same history.
fn has_all(target: &ServerInfo, paused: &ServerInfo) -> bool {
    target.is_synced_replica() && target.replid == paused.replid && target.offset >= paused.offset
}

async fn is_primary(server: &ServerClient) -> bool {
    server
        .replication()
        .await
        .is_ok_and(|info| info.role == Role::Primary)
}

/// Promotes a replica whose primary is dead.
pub(super) async fn promote_orphan(to: &ServerClient) -> Result<Duration, HandoverError> {
    let start = Instant::now();
    to.replicaof(None)
        .await
        .map_err(valkey("promoting the replica"))?;
    Ok(start.elapsed())
}
