//! The server's farewell: what is done when its machine, or its pod, goes down in order.
//!
//! Run by systemd whenever the server's service stops, while the server still runs. Only when the
//! whole machine goes down there is something to do: the role of primary is handed over, so that
//! nobody has to find out that it is gone, and the data is saved so that replication resumes
//! partially after the reboot. Whoever stops the service for another reason has decided already.

use std::path::Path;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::offline;
use crate::{
    charm::Charm,
    executor,
    limits::{FAREWELL_LIMIT, POD_STOP_LIMIT, POLL_MAX},
    observer,
    planner::{
        Intent, Observation, Plan, Step, invariants, observation::Role, refresh, view::Naming,
    },
    workload::systemd,
};

/// Hands over and saves, if the machine goes down.
///
/// # Errors
///
/// When what the last hook knew cannot be read, or the server does not save; it is told to end after this, anyway.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    // Not set by systemd once the server has ended by itself.
    if std::env::var_os("MAINPID").is_none() || !systemd::machine_goes_down().await? {
        return Ok(());
    }
    info!("The machine goes down");
    let known = offline::read(file).await?;
    let systemd = known.systemd();
    let mut charm = known.charm(systemd)?;
    let deadline = Instant::now() + FAREWELL_LIMIT;
    let handed = timeout_at(deadline, hand_over(&mut charm, decide)).await;
    if handed.is_err() {
        warn!(
            limit_s = FAREWELL_LIMIT.as_secs(),
            "Cannot hand the role over in time"
        );
    }
    match offline::look(&mut charm).await {
        Ok(seen) => executor::end_server(&mut charm, &seen).await,
        Err(why) => anyhow::bail!("cannot save in order: {why}"),
    }
}

/// Passes the role of primary on and saves, when Kubernetes ends this unit's pod.
///
/// All containers of the pod are told to end at the same time, but its Pebble gives this hook some time before it ends
/// the server. In it a pod also waits for others that are away, as long as it may: Kubernetes replaces pods one after
/// another, but takes one for back that has not joined again.
///
/// Where the server has ended all the same it has held writes back until its replicas had everything, and saved. Then
/// one of them is promoted at once, instead of after the time to find out that it is gone. What cannot be done in time
/// is left to the others and to the next pod.
pub async fn of_pod(charm: &mut Charm) {
    let deadline = Instant::now() + FAREWELL_LIMIT;
    let handed = timeout_at(deadline, hand_over(charm, decide_in_pod)).await;
    if handed.is_err() {
        warn!(
            limit_s = FAREWELL_LIMIT.as_secs(),
            "Cannot leave the others in order in time"
        );
    }
    let ended = async {
        let seen = observer::look(charm, Intent::Reconcile).await;
        executor::end_server(charm, &seen).await
    };
    match timeout(POD_STOP_LIMIT, ended).await {
        Ok(Ok(())) => info!("The server has saved and ended"),
        Ok(Err(error)) => warn!(error = format!("{error:#}"), "Cannot save in order"),
        Err(_) => warn!(
            limit_s = POD_STOP_LIMIT.as_secs(),
            "The server has not ended in time"
        ),
    }
}

/// Passes the role of primary on, if this unit has it and somebody can take it.
async fn hand_over(charm: &mut Charm, decide: impl Fn(&Observation) -> Decision) {
    let mut told = None;
    loop {
        let why = match offline::look(charm).await {
            Ok(seen) => match decide(&seen) {
                Decision::Nothing(why) => {
                    info!(reason = why, "Nothing to hand over");
                    return;
                }
                Decision::Wait(why) => why,
                Decision::HandOver(step) => match executor::execute(charm, &seen, &step).await {
                    // Looked at again: it is proof of it that there is nothing left to do.
                    Ok(()) => continue,
                    Err(error) => format!("{error:#}"),
                },
            },
            Err(why) => why,
        };
        if told.as_ref() != Some(&why) {
            warn!(reason = why, "Cannot go yet");
            told = Some(why);
        }
        sleep(POLL_MAX).await;
    }
}

/// What a unit does whose machine goes down.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// It has no role to hand over, or nobody to hand it to.
    Nothing(String),
    /// It waits for others, as long as it may.
    Wait(String),
    /// It passes the role on.
    HandOver(Step),
}

/// As [`decide`], where the server may have gone before its charm, and where others may be about to come back.
fn decide_in_pod(seen: &Observation) -> Decision {
    let why = match decide(seen) {
        Decision::Nothing(why) => why,
        other => return other,
    };
    if seen.server(&seen.me).is_some()
        && let Some(obstacle) = refresh::obstacle(seen)
    {
        return Decision::Wait(obstacle.to_string());
    }
    let mine = matches!(seen.naming(), Naming::Agreed { host, .. } if host == seen.local.address);
    let orphaned = mine && seen.server(&seen.me).is_none() && seen.serving().is_empty();
    match seen.best_replica().filter(|to| *to != seen.me) {
        Some(to) if orphaned && !seen.failing_over() => permitted(seen, Step::Promote { to }),
        Some(_) | None => Decision::Nothing(why),
    }
}

fn decide(seen: &Observation) -> Decision {
    let serves = seen
        .server(&seen.me)
        .is_some_and(|server| server.role == Role::Primary && server.loading.is_none());
    if !serves {
        return Decision::Nothing("this unit is no primary".to_owned());
    }
    let to = match seen.takeover_target(&seen.me) {
        Ok(to) => to,
        Err(why) => return Decision::Nothing(format!("nobody can take over: {why}")),
    };
    permitted(
        seen,
        Step::HandOver {
            from: seen.me.clone(),
            to,
            leaving: false,
        },
    )
}

/// Makes sure that a step breaks no invariant.
fn permitted(seen: &Observation, step: Step) -> Decision {
    let plan = Plan::Act {
        steps: vec![step.clone()],
        why: "the machine or pod goes down".to_owned(),
    };
    match invariants::permit(seen, &plan) {
        Ok(()) => Decision::HandOver(step),
        Err(breach) => Decision::Nothing(format!("refused to break an invariant: {breach}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    #[test]
    fn only_a_primary_hands_over_and_only_to_who_has_everything() {
        for (cluster, expected) in [
            ("me=0 0:P 1:R 2:R", "hand over from valkey/0 to valkey/1"),
            ("me=0 0:P 1:Rs 2:R", "to valkey/2"),
            ("me=1 0:P 1:R 2:R", "this unit is no primary"),
            ("me=0 0:Ps 1:R 2:R", "this unit is no primary"),
            (
                "me=0 0:P",
                "nobody can take over: no other unit is a member",
            ),
            ("me=0 0:P 1:X 2:X", "nobody can take over"),
        ] {
            let found = match decide(&seen(cluster)) {
                Decision::Nothing(why) | Decision::Wait(why) => why,
                Decision::HandOver(step) => step.to_string(),
            };
            assert!(found.contains(expected), "{cluster}: {found}");
        }
    }

    #[test]
    fn in_a_pod_somebody_is_promoted_once_the_server_is_gone() {
        for (cluster, expected) in [
            ("me=0 0:P 1:R 2:R", "hand over from valkey/0 to valkey/1"),
            ("me=0 0:Xs names=0 1:Ro 2:Ro", "promote valkey/1"),
            ("me=1 0:P 1:R 2:R", "this unit is no primary"),
            ("me=1 0:P 1:Rs 2:R", "this unit is no primary"),
            // Another was elected meanwhile.
            ("me=0 0:Xs names=1 1:P 2:R", "this unit is no primary"),
            // Too few say who the primary is.
            ("me=0 0:Xs names=0 1:X 2:Ro", "this unit is no primary"),
            // Others are away, and may be about to come back: without them nobody could write.
            ("me=0 0:P 1:X 2:X", "wait: "),
            ("me=1 0:P 1:R 2:X", "wait: "),
            ("me=1 0:P 1:R 2:Rz", "wait: "),
            ("me=0 0:P 1:R 2:X", "hand over from valkey/0 to valkey/1"),
            (
                "me=0 0:P",
                "nobody can take over: no other unit is a member",
            ),
        ] {
            let found = match decide_in_pod(&seen(cluster)) {
                Decision::Nothing(why) => why,
                Decision::Wait(why) => format!("wait: {why}"),
                Decision::HandOver(step) => step.to_string(),
            };
            assert!(found.contains(expected), "{cluster}: {found}");
        }
    }
}
