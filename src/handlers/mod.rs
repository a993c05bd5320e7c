//! What the charm does for each event: nearly always the same pass.

pub mod actions;
pub mod farewell;
mod install;
mod offline;
pub mod pacing;
mod pass;
pub mod promotable;
pub mod services;
pub mod start_gate;

use anyhow::Context as _;
use tracing::{error, info, warn};

use crate::{
    charm::{Charm, STORAGE},
    executor,
    juju::{Environment, Event, HookTools},
    observer,
    planner::{Intent, peer_data::UnitState},
    workload::{Backend as _, PebbleWorkload, Service, ServiceStatus, Workload, systemd::Said},
};

/// Runs what Juju dispatched the charm for.
///
/// # Errors
///
/// When the hook has to fail: a hook tool failed, an invariant would break, or going on would lose data.
pub async fn dispatch(env: Environment) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    let event = env.event();
    let tools = HookTools::new();
    let result = Box::pin(handle(env, tools.clone(), &event)).await;
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &result {
        Ok(()) => info!(%event, elapsed_ms, hook_tool_calls = tools.calls(), "Event handled"),
        Err(error) => error!(%event, elapsed_ms, error = format!("{error:#}"), "Event failed"),
    }
    result
}

async fn handle(env: Environment, tools: HookTools, event: &Event) -> anyhow::Result<()> {
    match event {
        Event::Unknown(_) | Event::JujuExec => return Ok(()),
        // Nothing can be known before the first databag exists, and nothing has to.
        Event::Remove => return Box::pin(remove(env, tools)).await,
        Event::Action(name) => return actions::run(env, tools, name).await,
        _ => {}
    }
    let mut charm = observer::begin(env, tools).await?;
    tell_what_was_said(&charm, event).await;
    match event {
        Event::StorageDetaching(storage) if storage.name == STORAGE => leave(&mut charm).await,
        // The set has been left in storage-detaching; what is left over must not outlive the unit.
        Event::Stop => stop(&mut charm).await,
        _ => {
            match event {
                Event::UpgradeCharm => {
                    // It would go on as the old program, which the upgrade has replaced.
                    executor::stop_watch(&charm).await?;
                    executor::take_up(&charm).await;
                }
                _ => executor::refresh_watch(&charm).await?,
            }
            let missing = install::ensure(&charm, event).await?;
            let upgraded = matches!(event, Event::UpgradeCharm);
            if let Err(error) = executor::renew_unit_files(&charm, upgraded).await {
                // What runs goes on; each unit is written before its next start, too.
                warn!(
                    error = format!("{error:#}"),
                    "Cannot write the units of systemd anew"
                );
            }
            executor::apply_users(&mut charm).await;
            pass::run(&mut charm, Intent::Reconcile).await?;
            // The pass knows only that there is no server, not why.
            if let Some(status) = missing {
                charm.tools.status_set(&status).await?;
            }
            Ok(())
        }
    }
}

/// Tells Juju's log what gate, farewell and watcher said while no hook ran.
///
/// Not in the events that come in crowds: those after a reboot, from the watcher and every few minutes are enough.
async fn tell_what_was_said(charm: &Charm, event: &Event) {
    let Some(Workload::Systemd(systemd)) = &charm.workload else {
        return;
    };
    if !matches!(
        event,
        Event::Start | Event::ConfigChanged | Event::UpdateStatus | Event::Custom(_)
    ) {
        return;
    }
    match systemd.said_outside_hooks().await {
        Ok(said) => {
            for Said { at, warning, text } in said {
                if warning {
                    warn!(at, "Outside of hooks: {text}");
                } else {
                    info!(at, "Outside of hooks: {text}");
                }
            }
        }
        Err(error) => warn!(
            error = format!("{error:#}"),
            "Cannot read what was said outside of hooks"
        ),
    }
}

/// Leaves the set, and ends whatever else runs for this unit.
async fn leave(charm: &mut Charm) -> anyhow::Result<()> {
    // A removal would look like storage that is taken away, and who leaves too like who stays.
    anyhow::ensure!(
        charm.juju.complete,
        "cannot leave: Juju does not tell who else is leaving; it runs this again"
    );
    // A watcher would wake a charm that has nothing to do any more.
    executor::stop_watch(charm).await?;
    let left = pass::run(charm, Intent::Leave).await.map(drop);
    if left.is_err()
        && let Err(error) = executor::watch_who_still_serves(charm).await
    {
        warn!(error = format!("{error:#}"), "Cannot start the watcher");
    }
    left
}

/// Handles `stop`: on machines it comes only when the unit is removed, after its storage went; in a
/// pod also when the pod goes and the unit comes back in another one.
async fn stop(charm: &mut Charm) -> anyhow::Result<()> {
    let in_order = end_in_order(charm).await;
    // Whatever became of it: nothing is done any more for which the pod would have to wait.
    let released = match &charm.workload {
        Some(workload) => workload.let_pod_end().await,
        None => Ok(()),
    };
    in_order.and(released.context("cannot let the pod end"))
}

async fn end_in_order(charm: &mut Charm) -> anyhow::Result<()> {
    let gone = matches!(charm.juju.mine.state, UnitState::Left | UnitState::Detached);
    if gone || charm.juju.dying {
        executor::stop_watch(charm).await?;
    } else if charm.juju.mine.state == UnitState::Member && PebbleWorkload::is_possible() {
        executor::stop_watch(charm).await?;
        Box::pin(farewell::of_pod(charm)).await;
        executor::flush(charm).await?;
    }
    Ok(())
}

/// Handles `remove`: ends what still runs, which is nothing after an orderly removal.
async fn remove(env: Environment, tools: HookTools) -> anyhow::Result<()> {
    end(env.clone(), tools).await?;
    let left = install::undo(&env).await;
    left.context("cannot remove everything that was made on this machine")
}

/// Ends what still runs of a unit without services.
async fn end(env: Environment, tools: HookTools) -> anyhow::Result<()> {
    let charm = match observer::begin(env, tools).await {
        Ok(charm) => charm,
        Err(error) => {
            // The relation is gone in this hook on some versions; there is nothing left to clean then.
            warn!(
                error = format!("{error:#}"),
                "Cannot look around while the unit is removed"
            );
            return Ok(());
        }
    };
    executor::stop_watch(&charm).await?;
    if let Some(workload) = &charm.workload {
        for service in [Service::Sentinel, Service::Server] {
            if workload
                .status(service)
                .await
                .is_ok_and(ServiceStatus::is_running)
            {
                warn!(
                    service = service.name(),
                    "Still runs while the unit is removed"
                );
            }
        }
    }
    Ok(())
}

/// Prints what the charm sees, what it would do, and why, without doing it.
///
/// # Errors
///
/// When Juju cannot be asked: run it through `juju exec --unit`.
pub async fn explain(env: Environment) -> anyhow::Result<()> {
    let charm = observer::begin(env, HookTools::new())
        .await
        .context("cannot look around; run this through `juju exec --unit NAME -- ./bin/valkey-operator plan`")?;
    let seen = observer::look(&charm, Intent::Reconcile).await;
    let plan = crate::planner::plan(&seen);
    let document = serde_json::json!({
        "observation": seen,
        "plan": plan,
        "reason": plan.reason().map(ToString::to_string),
        "steps": plan.steps().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "leader-duties": crate::planner::leader::duties(&seen).iter().map(ToString::to_string).collect::<Vec<_>>(),
        "violations": crate::planner::invariants::violations(&seen),
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
