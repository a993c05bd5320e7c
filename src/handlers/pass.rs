//! One pass: look, plan, carry out, look again, until nothing is left to do or it is time to go.

use anyhow::Context as _;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{offline, services};
use crate::{
    charm::{Charm, unix_now},
    executor, history,
    juju::{ToolError, hook_tools::Status},
    limits::WAKE_SOON,
    observer,
    planner::{
        self, Intent, Observation, Plan, Reason, Step, UnitName, invariants, leader,
        peer_data::UnitState,
    },
    status,
    workload::Backend as _,
};

use super::pacing::{Carried, Next, Pacing};

/// How a pass ended.
pub struct Outcome {
    /// The last look.
    pub seen: Observation,
    /// What was decided on it.
    pub plan: Plan,
}

/// The last step that did not work, so that a person learns of it when time runs out.
struct Failure {
    step: String,
    error: anyhow::Error,
}

/// Runs one pass.
///
/// # Errors
///
/// When a hook tool failed, a plan would break an invariant, or a unit cannot leave without losing data.
pub async fn run(charm: &mut Charm, intent: Intent) -> anyhow::Result<Outcome> {
    let leaving = intent == Intent::Leave;
    let begun = Instant::now();
    let mut pacing = Pacing::new(&intent);
    let mut shown: Option<Status> = None;
    let mut failure: Option<Failure> = None;
    let mut last = None;
    while !pacing.exhausted() {
        let seen = observer::look(charm, intent.clone()).await;
        let plan = planner::plan(&seen);
        invariants::permit(&seen, &plan)
            .map_err(|breach| anyhow::anyhow!("refused to break an invariant: {breach}"))?;
        if let Plan::Act { steps, why } = &plan {
            info!(unit = %seen.me, reason = why, steps = steps.len(), "Plan");
        }
        let failed = carry_out(charm, &seen, plan.steps()).await?;
        let carried = Carried::note(&plan, failed, &mut failure);
        if Pacing::waits(&plan, carried) {
            show_progress(charm, &plan, failure.as_ref(), &mut shown).await?;
        }
        match pacing.next(&plan, carried, begun.elapsed()) {
            Next::Look => {}
            Next::Pause(pause) => {
                tokio::time::sleep(pause).await;
                // Leaving can take long enough for others to begin leaving, or to be gone.
                if leaving {
                    observer::refresh_leaving(charm).await;
                }
            }
            Next::End => {
                last = Some(Outcome { seen, plan });
                break;
            }
        }
    }
    let outcome = last.context("cannot settle: the pass looked as often as it may")?;
    finish(charm, outcome, failure, leaving).await
}

/// Carries steps out; returns the first one that did not work.
async fn carry_out(
    charm: &mut Charm,
    seen: &Observation,
    steps: &[Step],
) -> anyhow::Result<Option<Failure>> {
    for step in steps {
        if let Err(error) = executor::execute(charm, seen, step).await {
            // Without its hook tools the charm is blind: Juju runs the hook again.
            if error.chain().any(<dyn std::error::Error>::is::<ToolError>) {
                return Err(error);
            }
            warn!(unit = %seen.me, %step, error = format!("{error:#}"), "Step failed");
            return Ok(Some(Failure {
                step: step.to_string(),
                error,
            }));
        }
    }
    Ok(None)
}

/// Shows what is awaited, once per change of the text.
async fn show_progress(
    charm: &Charm,
    plan: &Plan,
    failure: Option<&Failure>,
    shown: &mut Option<Status>,
) -> anyhow::Result<()> {
    let status = match (plan.reason(), failure) {
        (Some(reason), _) => status::of_reason(reason),
        (None, Some(failure)) => of_failure(failure),
        (None, None) => return Ok(()),
    };
    if shown.as_ref() != Some(&status) {
        charm.tools.status_set(&status).await?;
        *shown = Some(status);
    }
    Ok(())
}

fn of_failure(failure: &Failure) -> Status {
    status::of_failure(&failure.error)
}

/// Writes what the pass led to: duties of the leader, databags, statuses, the time to wake up.
async fn finish(
    charm: &mut Charm,
    outcome: Outcome,
    failure: Option<Failure>,
    leaving: bool,
) -> anyhow::Result<Outcome> {
    let Outcome { mut seen, plan } = outcome;
    if failure.is_some() && !leaving {
        for step in planner::give_up(&seen) {
            // A primary with a full disk refuses to delete the lease, which then ends by itself.
            if let Err(error) = executor::execute(charm, &seen, &step).await {
                warn!(error = format!("{error:#}"), "Cannot {step}");
            }
        }
    }
    // What this hook writes counts already for what the leader decides in the same commit.
    if let Some(unit) = seen.units.get_mut(&seen.me) {
        unit.data = charm.juju.mine.clone();
    }
    // What the leader decides rests on the databags as they were when the hook began.
    seen.leader = charm.juju.leads_still();
    if charm.juju.relation.is_some() {
        for step in leader::duties(&seen) {
            executor::execute(charm, &seen, &step).await?;
        }
    }
    if charm.juju.relation.is_some() && !leaving {
        executor::advance_users(charm).await?;
    }
    let settled = plan == Plan::Settled;
    if leaving && !settled {
        return Err(refusal(&seen.me, &plan, failure));
    }
    let shown_version = charm.juju.unit_bag.get("server-version").cloned();
    executor::flush(charm).await?;
    if let Some(workload) = &charm.workload {
        if let Err(error) = history::note(workload, &seen).await {
            warn!(
                error = format!("{error:#}"),
                "Cannot note the change of the primary"
            );
        }
        // A status that says what is wrong is looked at again until it no longer is.
        let in_order = settled && invariants::violations(&seen).is_empty();
        let wake = if in_order && charm.users_busy {
            Some(unix_now())
        } else if in_order {
            None
        } else {
            Some(unix_now() + WAKE_SOON.as_secs())
        };
        note_wake(charm, wake).await;
    }
    if let Err(error) = offline::note(charm).await {
        warn!(
            error = format!("{error:#}"),
            "Cannot tell the server's service what is known"
        );
    }
    services::keep(charm, &seen).await;
    let failure = failure.as_ref();
    show(charm, &seen, &plan, failure, leaving, shown_version).await?;
    Ok(Outcome { seen, plan })
}

/// Says why a unit cannot leave now; the hook fails, and Juju runs it again.
fn refusal(me: &UnitName, plan: &Plan, failure: Option<Failure>) -> anyhow::Error {
    match (failure, plan.reason()) {
        (Some(failure), _) => failure
            .error
            .context(format!("{me} cannot leave: {} did not work", failure.step)),
        (None, Some(reason)) => anyhow::anyhow!("{me}: {reason}"),
        (None, None) => anyhow::anyhow!("{me} has not finished leaving in time"),
    }
}

async fn note_wake(charm: &Charm, at: Option<u64>) {
    let Some(workload) = &charm.workload else {
        return;
    };
    let path = workload.layout().wake();
    let noted = match at {
        Some(at) => {
            workload
                .write(&path, at.to_string().as_bytes(), 0o600)
                .await
        }
        None => workload.remove(&path).await,
    };
    if let Err(error) = noted {
        warn!(error = %error, "Cannot tell the watcher when to wake the charm");
    }
}

/// Sets the statuses.
async fn show(
    charm: &Charm,
    seen: &Observation,
    plan: &Plan,
    failure: Option<&Failure>,
    leaving: bool,
    shown_version: Option<String>,
) -> anyhow::Result<()> {
    // No hook may come for long: what is shown now stays.
    let detached = leaving && charm.juju.mine.state == UnitState::Detached;
    let unit = match failure {
        Some(failure) if plan.reason().is_none() => of_failure(failure),
        _ if detached => status::of_reason(&Reason::Detached),
        _ if leaving => status::of_reason(&Reason::Leaving),
        _ => status::of_unit(charm, seen, plan),
    };
    let version = async {
        // What runs; before anything does, what is there to be run.
        let runs = seen.server(&seen.me).and_then(|it| it.version.as_ref());
        match runs.or(seen.local.server_version.as_ref()) {
            // Asked of Juju only when it changed: a hook tool costs more than all of the planning.
            Some(version) if shown_version.as_ref() == Some(version) => Ok(()),
            Some(version) => charm.tools.application_version_set(version).await,
            None => Ok(()),
        }
    };
    let application = async {
        if seen.leader && (!leaving || detached) {
            charm
                .tools
                .status_set_app(&status::of_application(charm, seen))
                .await
        } else {
            Ok(())
        }
    };
    let (unit, version, application) =
        tokio::join!(charm.tools.status_set(&unit), version, application);
    unit.context("cannot set the unit's status")?;
    version.context("cannot set the workload's version")?;
    match application {
        Ok(()) => Ok(()),
        // The leadership went meanwhile; the next leader sets the status.
        Err(error) if error.leadership_lost() => Ok(()),
        Err(error) => Err(error).context("cannot set the application's status"),
    }
}
