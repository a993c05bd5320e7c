//! What has to hold before a hand-over, and the proof of it afterwards.

use std::time::Instant;

use futures::future::join_all;

use super::promotion::Promoted;
use super::pump::AckPump;
use super::{HandoverError, HandoverPlan, incomplete, unfit, valkey};
use crate::limits::{HANDOVER_POLL, HANDOVER_PROOF_LIMIT, ORPHAN_DRAIN_LIMIT, ORPHAN_STILL};
use crate::valkey::server_info::FailoverState;
use crate::valkey::{Role, ServerClient, ServerInfo};

/// Checks that nothing speaks against the hand-over; changes nothing.
pub(super) async fn check_servers(
    plan: &HandoverPlan,
    from: &ServerClient,
    to: &ServerClient,
    pump: &mut AckPump,
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
    caught_up(plan, from, pump, old.offset).await
}

/// Waits until the primary has heard from the target that it has everything up to `offset`.
///
/// Before any vote is asked for: a target that does not receive the stream, or does not answer, is
/// found out while nobody waits, and not by giving up in the middle. Until its first acknowledgement
/// a replica is called online and is sent nothing.
async fn caught_up(
    plan: &HandoverPlan,
    from: &ServerClient,
    pump: &mut AckPump,
    offset: u64,
) -> Result<(), HandoverError> {
    let start = Instant::now();
    loop {
        pump.ask().await;
        let info = from
            .replication()
            .await
            .map_err(valkey("asking the primary"))?;
        let target = info
            .replicas
            .iter()
            .find(|replica| replica.address == plan.to);
        let why = match target {
            None => return Err(unfit(&plan.to, "the primary does not list it")),
            Some(replica) if !replica.is_online() => {
                let why = format!("the primary sees it as {}", replica.state);
                return Err(unfit(&plan.to, &why));
            }
            Some(replica) if replica.is_streaming() && replica.offset >= offset => return Ok(()),
            Some(replica) => format!(
                "it has acknowledged {} of {offset} bytes, {} s ago",
                replica.offset, replica.lag_s
            ),
        };
        if start.elapsed() >= plan.pause_limit {
            return Err(unfit(&plan.to, &why));
        }
        tokio::time::sleep(HANDOVER_POLL).await;
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
pub(super) async fn check_orphan(
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
pub(super) async fn prove(
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
pub(super) fn began_at(info: &ServerInfo) -> u64 {
    info.second_repl_offset
        .map_or(info.offset, |first| first.saturating_sub(1))
}
