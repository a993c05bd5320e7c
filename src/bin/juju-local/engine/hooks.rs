//! Runs one hook from its beginning to its commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::commit;
use super::context::Context;
use super::model::{Life, Machine, Status, Unit, later};
use super::processes;
use super::resolver::{self, Flight, Hook, Kind, Step};
use super::run::{self, Ended, Entry};
use super::secrets::rotation_seconds;
use super::state::{Engine, State, random_hex, settings_hash};

/// Runs a hook from its beginning to its commit.
pub fn run_hook(engine: &Arc<Engine>, name: &str, hook: &Hook) {
    let (environment, id, hash, boot) = {
        let mut state = engine.lock();
        // Leadership may have gone since the decision; then the hook is dropped.
        if hook.kind == Kind::LeaderElected && !state.model.is_leader(name) {
            return;
        }
        let hash = settings_hash(&state.model, name);
        begin(&mut state, name, hook);
        let id = format!("{name}-{}-{}", hook.name(), random_hex(32));
        let context = Context::of_hook(id.clone(), name, hook);
        let environment = run::environment(&state.model, &context, &engine.paths);
        let Some(unit) = state.model.units.get(name) else {
            return;
        };
        let boot = unit.boot;
        state.contexts.insert(id.clone(), context);
        engine.save(&state);
        (environment, id, hash, boot)
    };
    let shown = hook.name();
    let ended = execute(
        engine,
        name,
        &format!("hooks/{shown}"),
        &shown,
        environment,
        boot,
    );

    let mut state = engine.lock();
    let context = state.contexts.remove(&id);
    if state.ending {
        return;
    }
    let Some(unit) = state.model.units.get_mut(name) else {
        return;
    };
    if unit.boot != boot || unit.life == Life::Dead {
        return;
    }
    if let Some(flight) = unit.local.flight.as_mut() {
        flight.process = None;
    }
    let reboot = context.as_ref().and_then(|context| context.reboot);
    let outcome = match ended {
        Ok(None) => {
            engine.log.write(
                name,
                "INFO",
                "juju.worker.uniter.operation",
                &format!("skipped {shown:?} hook (missing)"),
            );
            Ok(())
        }
        Ok(Some(ended)) if ended.status.success() => {
            let applied = match &context {
                Some(context) => commit::apply(&mut state.model, context, &engine.paths),
                None => Ok(()),
            };
            applied.map(|()| {
                let text = format!("ran {shown:?} hook (via hook dispatching script: dispatch)");
                engine
                    .log
                    .write(name, "INFO", "juju.worker.uniter.operation", &text);
            })
        }
        Ok(Some(ended)) if ended.interrupted() => {
            if let Some(flight) = unit.local.flight.as_mut() {
                flight.step = Step::Queued;
            }
            if reboot == Some(true) {
                unit.local.rebooted = unit.local.started;
            }
            engine.save(&state);
            return;
        }
        Ok(Some(ended)) => Err(go_status(&ended)),
        Err(error) => Err(format!("{error:#}")),
    };
    match outcome {
        Ok(()) => {
            finish(engine, &mut state, name, hook, &hash);
            if reboot.is_some()
                && let Some(unit) = state.model.units.get_mut(name)
            {
                unit.local.rebooted = true;
            }
        }
        Err(why) => fail(engine, &mut state, name, hook, &why),
    }
    engine.save(&state);
}

/// Writes an exit status as Go does.
fn go_status(ended: &Ended) -> String {
    match ended.status.code() {
        Some(code) => format!("exit status {code}"),
        None => format!("signal: {}", ended.code().saturating_sub(128)),
    }
}

/// Notes that a hook begins.
fn begin(state: &mut State, name: &str, hook: &Hook) {
    if matches!(hook.kind, Kind::RelationJoined | Kind::RelationChanged)
        && let Some(facts) = &hook.relation
        && let Some(unit) = &facts.unit
        && let Some(cache) = state.caches.get_mut(name)
    {
        cache.remove(&(facts.id, unit.clone()));
    }
    let Some(unit) = state.model.units.get_mut(name) else {
        return;
    };
    unit.local.flight = Some(Flight {
        hook: hook.clone(),
        step: Step::Pending,
        process: None,
    });
    unit.resolution = None;
    if hook.kind != Kind::UpdateStatus {
        unit.agent = Status::now("executing", &hook.running_message());
    }
    if hook.workload.is_some() {
        let queue = state.workload.get_mut(name);
        queue.and_then(std::collections::VecDeque::pop_front);
    }
    match hook.kind {
        Kind::Install if !unit.workload_set => {
            unit.workload = Status::now("maintenance", "installing charm software");
        }
        Kind::Stop => unit.workload = Status::now("maintenance", "stopping charm software"),
        Kind::Remove => {
            unit.workload = Status::now("maintenance", "cleaning up prior to charm deletion");
        }
        _ => {}
    }
}

/// Runs what the charm has for a path; `None` when it has nothing.
fn execute(
    engine: &Arc<Engine>,
    name: &str,
    path: &str,
    logger: &str,
    environment: Vec<(String, String)>,
    boot: u64,
) -> Result<Option<Ended>> {
    let charm = engine.paths.unit_charm(name);
    // Without this, an emptied directory would look like a charm whose hooks all succeed.
    if !charm.join("metadata.yaml").exists() {
        bail!("charm missing from disk");
    }
    let program = match run::entry(&charm, path) {
        Entry::Dispatch(program) | Entry::Own(program) => program,
        Entry::Missing => return Ok(None),
    };
    let running = run::start(engine, &program, &[], environment, name, logger, None)?;
    note_process(engine, name, running.pid(), boot);
    running.wait().map(Some)
}

/// Notes a hook's process, so that another engine finds it if this one ends.
fn note_process(engine: &Engine, name: &str, pid: u32, boot: u64) {
    let mut state = engine.lock();
    let started = processes::started(pid);
    let Some(unit) = state.model.units.get_mut(name) else {
        return;
    };
    overtake(unit, pid, boot);
    if let (Some(flight), Some(started)) = (unit.local.flight.as_mut(), started)
        && unit.boot == boot
        && flight.step == Step::Pending
    {
        flight.process = Some((pid, started));
        engine.save(&state);
    }
}

/// Does to a process that has just started what happened to its machine meanwhile.
pub fn overtake(unit: &Unit, pid: u32, boot: u64) {
    if unit.boot != boot {
        processes::signal_group(pid, Signal::KILL);
    } else if unit.state == Machine::Frozen {
        processes::signal_group(pid, Signal::STOP);
    }
}

/// Commits a hook: to the agent's own state, and what it means to the model.
pub fn finish(engine: &Engine, state: &mut State, name: &str, hook: &Hook, hash: &str) {
    state.timers.entry(name.to_owned()).or_default().retry_at = None;
    if let Some(timers) = state.timers.get_mut(name) {
        timers.retry_delay = 0.0;
    }
    let Some(unit) = state.model.units.get_mut(name) else {
        return;
    };
    resolver::commit(&mut unit.local, hook, hash);
    unit.resolution = None;
    match hook.kind {
        Kind::Start if !unit.workload_set => unit.workload = Status::now("unknown", ""),
        Kind::Stop => unit.workload = Status::now("maintenance", ""),
        Kind::Remove => unit.workload = Status::now("terminated", ""),
        Kind::UpdateStatus => state.rearm_update_status(name),
        Kind::StorageDetaching => {
            if let Some(id) = &hook.storage {
                super::removal::detach(engine, state, id);
            }
        }
        Kind::RelationBroken => {
            if let Some(facts) = &hook.relation {
                state.leave_scope(name, facts.id);
            }
        }
        Kind::RelationDeparted => {
            if let Some((facts, cache)) = hook.relation.as_ref().zip(state.caches.get_mut(name))
                && let Some(gone) = &facts.unit
            {
                cache.remove(&(facts.id, gone.clone()));
            }
        }
        Kind::SecretRotate => {
            let id = hook.secret.as_ref().map(|(id, _)| id);
            if let Some(secret) = id.and_then(|id| state.model.secrets.get_mut(id)) {
                let next = rotation_seconds(&secret.rotate);
                secret.next_rotate = next.map(|wait| later(jiff::Timestamp::now(), wait));
            }
        }
        Kind::SecretExpired => {
            let id = hook.secret.as_ref().map(|(id, _)| id);
            if let Some(secret) = id.and_then(|id| state.model.secrets.get_mut(id)) {
                secret.expire = None;
            }
        }
        Kind::SecretRemove => {
            if let Some((id, revision)) = &hook.secret {
                unit.local
                    .secrets
                    .insert(format!("removed {id}"), *revision);
            }
        }
        _ => {}
    }
}

/// Notes that a hook has failed, and when it runs again.
fn fail(engine: &Engine, state: &mut State, name: &str, hook: &Hook, why: &str) {
    let text = format!(
        "hook {:?} (via hook dispatching script: dispatch) failed: {why}",
        hook.name()
    );
    engine
        .log
        .write(name, "ERROR", "juju.worker.uniter.operation", &text);
    let (first, most) = (
        state.model.settings.retry_seconds,
        state.model.settings.retry_max_seconds,
    );
    if let Some(workload) = &hook.workload {
        // It does not stand in the way of others: what tells of the container's life comes again, the rest is lost.
        if hook.kind == Kind::PebbleReady {
            let key = (name.to_owned(), workload.container.clone());
            state.boots.insert(key, String::new());
        }
        if let Some(unit) = state.model.units.get_mut(name) {
            unit.local.flight = None;
            unit.agent = Status::now("idle", "");
        }
        return;
    }
    let timers = state.timers.entry(name.to_owned()).or_default();
    let delay = if timers.retry_delay <= 0.0 {
        first
    } else {
        timers.retry_delay
    };
    timers.retry_delay = (delay * 2.0).min(most);
    timers.retry_at = Duration::try_from_secs_f64(delay)
        .ok()
        .and_then(|wait| Instant::now().checked_add(wait));
    if let Some(unit) = state.model.units.get_mut(name) {
        unit.agent = Status::now("error", &format!("hook failed: {:?}", hook.error_name()));
        if let Some(flight) = unit.local.flight.as_mut() {
            flight.step = Step::Pending;
            flight.process = None;
        }
    }
}

/// Marks a hook that nobody runs any more as failed; the retry starts with the first delay.
pub fn found_running(engine: &Engine, state: &mut State, name: &str) {
    let pending = state
        .model
        .units
        .get(name)
        .and_then(|unit| unit.local.flight.clone());
    if let Some(flight) = pending.filter(|flight| flight.step == Step::Pending) {
        if let Some((pid, since)) = flight.process
            && processes::started(pid) == Some(since)
        {
            processes::signal_group(pid, Signal::KILL);
        }
        fail(
            engine,
            state,
            name,
            &flight.hook,
            "found running after the agent's restart",
        );
    }
}
