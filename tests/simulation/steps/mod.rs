//! Steps carried out on the models: the same commands in the same order as `src/executor`.

pub mod databag;
mod handover;
pub mod membership;
pub mod processes;
mod roles;
mod sentinels;

use futures::future::{Either, select};
use valkey_operator::{
    limits::{LEASE_RENEWAL, LEASE_TTL},
    planner::{Observation, Step, observation::Lease},
};

use crate::{
    hook::{Run, Trouble, trouble},
    models::{LeaseReply, Millis, Reply, ServerCommand},
};

/// Turns a limit of the charm into virtual time.
pub fn ms(duration: std::time::Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Carries one step out, renewing the lease meanwhile.
pub async fn execute(run: &mut Run, seen: &Observation, step: &Step) -> Result<(), Trouble> {
    run.point().await;
    if matches!(seen.lease, Lease::Mine | Lease::Unknown) && seen.changes_the_set(step) {
        membership::make_sure_of_lease(run, seen).await?;
    }
    match step {
        Step::CreateUsers => {
            databag::create_users(run).await;
            Ok(())
        }
        Step::NameDeployment => {
            databag::name_deployment(run);
            Ok(())
        }
        Step::NameFounder(founding) => {
            run.app_wanted.founding = Some(founding.clone());
            Ok(())
        }
        Step::GrantTurn(grant) => {
            run.app_wanted.turn.clone_from(grant);
            Ok(())
        }
        Step::RequestTurn(kind) => {
            databag::request_turn(run, *kind);
            Ok(())
        }
        Step::ReleaseTurn => {
            run.release_turn();
            Ok(())
        }
        Step::SetState(state) => {
            databag::set_state(run, *state).await;
            Ok(())
        }
        Step::RecordPosition => {
            databag::record_position(run, seen, false);
            Ok(())
        }
        Step::ClaimData { generation } => databag::claim_data(run, seen, *generation),
        _ => {
            let settings = run.ctx.with(|world| world.juju.start_digest.clone());
            let done = {
                let work = std::pin::pin!(long(run, seen, step));
                let renewal = std::pin::pin!(keep_lease(run, seen));
                match select(work, renewal).await {
                    Either::Left((done, _)) => done,
                    Either::Right((lost, _)) => trouble(lost),
                }
            }?;
            databag::after(run, seen, step, &done, settings);
            Ok(())
        }
    }
}

/// What a step found out that belongs into the databag.
#[derive(Debug, Default)]
pub struct Done {
    /// Whether an orderly stop saved the data.
    pub saved: Option<bool>,
    /// Host of a fenced primary that refused the lease.
    pub lease_refused: Option<String>,
}

async fn long(run: &Run, seen: &Observation, step: &Step) -> Result<Done, Trouble> {
    let mut done = Done::default();
    match step {
        Step::TakeLease => done.lease_refused = membership::take_lease(run, seen).await?,
        Step::ReleaseLease => membership::release_lease(run, seen).await?,
        Step::KeepAside => processes::keep_aside(run).await?,
        Step::StartServer {
            follow,
            min_replicas,
            from_snapshot,
        } => processes::start_server(run, follow.as_deref(), *min_replicas, *from_snapshot).await?,
        Step::StopServer => done.saved = Some(processes::stop_server(run, seen).await?),
        Step::StartSentinel {
            monitor,
            quorum,
            fresh,
        } => processes::start_sentinel(run, monitor, *quorum, *fresh).await?,
        Step::StopSentinel => processes::stop_sentinel(run).await,
        Step::StartWatch => processes::start_watch(run).await,
        Step::Monitor { primary, quorum } => membership::monitor(run, primary, *quorum).await?,
        Step::Announce => membership::announce(run, seen).await?,
        Step::SetPromotable(promotable) => roles::set_promotable(run, *promotable).await?,
        Step::SetQuorum { on, quorum } => membership::set_quorum(run, seen, on, *quorum).await?,
        Step::SetMinReplicas { on, value } => {
            membership::set_min_replicas(run, seen, on, *value).await?;
        }
        Step::ApplySettings => roles::apply_settings(run, seen).await?,
        Step::Follow { primary } => roles::follow(run, primary).await?,
        Step::HandOver { from, to, leaving } => {
            roles::hand_over(run, seen, from, to, *leaving).await?;
        }
        Step::Promote { to } => roles::promote(run, seen, to).await?,
        Step::CompleteHandOver { to } => roles::complete(run, seen, to).await?,
        Step::Forget { remaining } => membership::forget(run, seen, remaining).await?,
        Step::CreateUsers
        | Step::NameDeployment
        | Step::NameFounder(_)
        | Step::GrantTurn(_)
        | Step::RequestTurn(_)
        | Step::ReleaseTurn
        | Step::SetState(_)
        | Step::RecordPosition
        | Step::ClaimData { .. } => {}
    }
    Ok(done)
}

/// Renews the lease as long as it is awaited, if this unit holds it; ends when another unit took it.
async fn keep_lease(run: &Run, seen: &Observation) -> String {
    if seen.lease != Lease::Mine {
        return std::future::pending().await;
    }
    let token = run.me.to_string();
    let hosts = seen.member_hosts();
    loop {
        run.ctx.sleep(ms(LEASE_RENEWAL)).await;
        for host in &hosts {
            let take = ServerCommand::LeaseTake {
                token: token.clone(),
                ttl: ms(LEASE_TTL),
            };
            match run.server(host, take).await {
                Ok(Reply::Lease(LeaseReply::HeldBy(holder))) => {
                    return format!("the lease went to {holder} meanwhile");
                }
                Ok(_) => break,
                Err(_) => {}
            }
        }
    }
}
