//! Carries steps out: one match, one adapter call each, stops at the first failure.

mod databag;
mod membership;
mod processes;
mod roles;
mod users;

use anyhow::Context as _;
use tracing::info;

use crate::{
    charm::Charm,
    planner::{
        Observation, Step,
        observation::{Lease, Storage},
    },
    valkey::Credentials,
    workload::Workload,
};

/// Carries out one step.
///
/// # Errors
///
/// When the step did not work; carrying it out again later is safe.
pub async fn execute(charm: &mut Charm, seen: &Observation, step: &Step) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    if matches!(seen.lease, Lease::Mine | Lease::Unknown) && seen.changes_the_set(step) {
        membership::make_sure_of_lease(charm, seen)
            .await
            .with_context(|| format!("cannot {step}"))?;
    }
    // A step can take longer than the lease lasts: saving a large data set, for example.
    let renewal = membership::keep_lease(charm, seen);
    tokio::select! {
        done = run(charm, seen, step) => done,
        lost = renewal => Err(lost),
    }
    .with_context(|| format!("cannot {step}"))?;
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(unit = %seen.me, %step, elapsed_ms, "Step done");
    Ok(())
}

async fn run(charm: &mut Charm, seen: &Observation, step: &Step) -> anyhow::Result<()> {
    match step {
        Step::CreateUsers => databag::create_users(charm).await,
        Step::NameDeployment => databag::name_deployment(charm),
        Step::NameFounder(founding) => {
            charm.juju.app_wanted.founding = Some(founding.clone());
            Ok(())
        }
        Step::GrantTurn(grant) => {
            charm.juju.app_wanted.turn.clone_from(grant);
            Ok(())
        }
        Step::RequestTurn(kind) => {
            databag::request_turn(charm, *kind);
            Ok(())
        }
        Step::ReleaseTurn => {
            charm.juju.release_turn();
            Ok(())
        }
        Step::SetState(state) => databag::set_state(charm, *state).await,
        Step::RecordPosition => databag::record_position(charm, seen, false).await,
        Step::ClaimData { generation } => databag::claim_data(charm, seen, *generation).await,
        Step::TakeLease => membership::take_lease(charm, seen).await,
        Step::ReleaseLease => membership::release_lease(charm, seen).await,
        Step::KeepAside => processes::keep_aside(charm, seen).await,
        Step::StartServer {
            follow,
            min_replicas,
            from_snapshot,
        } => processes::start_server(charm, follow.as_deref(), *min_replicas, *from_snapshot).await,
        Step::StopServer => processes::stop_server(charm, seen).await,
        Step::StartSentinel {
            monitor,
            quorum,
            fresh,
        } => processes::start_sentinel(charm, monitor, *quorum, *fresh).await,
        Step::StopSentinel => processes::stop_sentinel(charm).await,
        Step::StartWatch => processes::start_watch(charm).await,
        Step::Monitor { primary, quorum } => membership::monitor(charm, primary, *quorum).await,
        Step::Announce => membership::announce(charm, seen).await,
        Step::SetPromotable(promotable) => roles::set_promotable(charm, *promotable).await,
        Step::SetQuorum { on, quorum } => membership::set_quorum(charm, seen, on, *quorum).await,
        Step::SetMinReplicas { on, value } => {
            membership::set_min_replicas(charm, seen, on, *value).await
        }
        Step::ApplySettings => roles::apply_settings(charm).await,
        Step::Follow { primary } => roles::follow(charm, primary).await,
        Step::HandOver { from, to, leaving } => {
            roles::hand_over(charm, seen, from, to, *leaving).await
        }
        Step::Promote { to } => roles::promote(charm, seen, to).await,
        Step::CompleteHandOver { to } => roles::complete(charm, seen, to).await,
        Step::Forget { remaining } => membership::forget(charm, seen, remaining).await,
    }
}

/// Returns the workload, which every plan that touches processes presupposes.
fn workload(charm: &Charm) -> anyhow::Result<Workload> {
    match (&charm.workload, &charm.juju.storage) {
        // With a broken disk nothing is planned but leaving, which must work with it, too.
        (Some(workload), _) => Ok(workload.clone()),
        (None, Storage::Problem(problem)) => anyhow::bail!("cannot use the storage: {problem}"),
        (None, _) => anyhow::bail!("cannot use the storage: it is not attached"),
    }
}

/// Returns the passwords, which every plan that talks to Valkey presupposes.
fn credentials(charm: &Charm) -> anyhow::Result<&Credentials> {
    charm
        .credentials
        .as_ref()
        .context("cannot log in: the internal users' passwords are not there yet")
}

pub use databag::{flush, record_position};
pub use processes::{
    end_server, prepare_server, refresh_watch, renew_unit_files, stop_sentinel, stop_watch,
    take_up, watch_who_still_serves,
};
pub use users::{advance_users, apply_users};
