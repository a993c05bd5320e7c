//! The restart gate of the server's service: decides without Juju as what the server may start.
//!
//! Run by systemd before every start that no hook has decided: with the machine, or after a fault.
//! What Juju would tell stands in a file as the last hook knew it; everything else is asked anew,
//! and the planner's gate decides on it as in a hook. It serves only where a hook would, too; while
//! it cannot know, it waits for a while and then fails, and systemd tries again.

use std::path::Path;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::offline;
use crate::{
    charm::Charm,
    executor,
    limits::{POLL_MAX, START_GATE_LIMIT},
    planner::{self, Observation, Plan, Step, invariants},
};

/// Decides, and renders the server's configuration accordingly.
///
/// # Errors
///
/// When the server must not start, or nobody can say in time as what it may.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    let known = offline::read(file).await?;
    let systemd = known.systemd();
    // Without a look around: whoever gave it has just looked.
    if systemd.take_permit() {
        info!("A hook has decided");
        return Ok(());
    }
    let mut charm = known.charm(systemd.clone())?;
    let deadline = Instant::now() + START_GATE_LIMIT;
    let mut awaited = String::new();
    while Instant::now() < deadline {
        let looked = offline::look(&mut charm).await;
        if systemd.take_permit() {
            info!("A hook has decided");
            return Ok(());
        }
        let why = match looked {
            Err(why) => why,
            Ok(seen) => match decide(&seen) {
                Decision::Start(steps, why) => {
                    start(&mut charm, &seen, &steps).await?;
                    info!(reason = why, "The server may start");
                    return Ok(());
                }
                Decision::Promote(step, why) => {
                    match executor::execute(&mut charm, &seen, &step).await {
                        Ok(()) => why,
                        Err(error) => format!("{error:#}"),
                    }
                }
                Decision::Wait(why) => why,
            },
        };
        if why != awaited {
            info!(reason = why, "Waiting");
            awaited = why;
        }
        sleep(POLL_MAX).await;
    }
    anyhow::bail!(
        "the server does not start: within {} s nobody could say as what it may: {awaited}",
        START_GATE_LIMIT.as_secs()
    )
}

/// What the gate does.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The server starts, with these steps.
    Start(Vec<Step>, String),
    /// A replica takes the role first.
    Promote(Step, String),
    /// Look again.
    Wait(String),
}

/// Takes of the planner's decision what can be done without Juju.
fn decide(seen: &Observation) -> Decision {
    // A member has a mark beside its data: without it, the storage is not there yet.
    if seen.local.identity.is_none() {
        return Decision::Wait("the data is not there: is the storage mounted?".to_owned());
    }
    let plan = planner::plan_start(seen);
    if let Err(breach) = invariants::permit(seen, &plan) {
        return Decision::Wait(format!("refused to break an invariant: {breach}"));
    }
    match plan {
        Plan::Act { steps, why } => match steps.as_slice() {
            [step @ (Step::Promote { .. } | Step::CompleteHandOver { .. })] => {
                Decision::Promote(step.clone(), why)
            }
            _ if steps.iter().all(is_local) && steps.iter().any(is_start) => {
                Decision::Start(steps, why)
            }
            // Sentinel's own service starts it.
            _ => Decision::Wait(why),
        },
        other => Decision::Wait(
            other
                .reason()
                .map_or_else(|| "nothing is decided".to_owned(), ToString::to_string),
        ),
    }
}

fn is_start(step: &Step) -> bool {
    matches!(step, Step::StartServer { .. })
}

fn is_local(step: &Step) -> bool {
    is_start(step) || matches!(step, Step::ClaimData { .. } | Step::KeepAside)
}

/// Carries the steps out, but for the start itself, which is systemd's.
async fn start(charm: &mut Charm, seen: &Observation, steps: &[Step]) -> anyhow::Result<()> {
    for step in steps {
        if let Step::StartServer {
            follow,
            min_replicas,
            from_snapshot,
        } = step
        {
            executor::prepare_server(charm, follow.as_deref(), *min_replicas, *from_snapshot)
                .await?;
        } else {
            executor::execute(charm, seen, step).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    /// Says in a line what the gate does.
    fn shown(seen: &Observation) -> String {
        match decide(seen) {
            Decision::Start(steps, _) => {
                let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
                format!("start: {}", steps.join("; "))
            }
            Decision::Promote(step, _) => format!("first: {step}"),
            Decision::Wait(why) => format!("wait: {why}"),
        }
    }

    #[test]
    fn without_juju_a_server_starts_only_as_what_the_planner_allows() {
        for (cluster, expected) in [
            ("me=0 0:Ps 1:R 2:R", "start: start the server as primary"),
            (
                "me=1 0:P 1:Rs 2:R",
                "start: start the server as replica of 10.0.0.0",
            ),
            // Another was elected meanwhile.
            (
                "me=0 names=1 0:Ps 1:P 2:R",
                "start: keep the data set aside; start the server as replica of 10.0.0.1",
            ),
            ("me=0 0:Ps 1:R 2:R slow", "first: promote valkey/1"),
            // Too few say anything.
            ("me=0 0:Ps 1:X 2:X", "wait: waiting for Sentinels"),
            // Sentinel has a service of its own, which comes up first.
            (
                "me=1 0:P 1:Rsz 2:R",
                "wait: let Sentinel say who is primary",
            ),
            // Its mark is gone: the storage is not mounted.
            ("me=0 0:Pse 1:R 2:R", "wait: the data is not there"),
        ] {
            let found = shown(&seen(cluster));
            assert!(found.starts_with(expected), "{cluster}: {found}");
        }
    }
}
