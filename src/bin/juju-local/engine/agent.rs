//! A unit's agent: one thread that asks what is next, and does it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::charm;
use crate::limits::TICK;

use super::commit;
use super::context::Context;
use super::model::{Life, Machine, Status, later};
use super::processes;
use super::resolver::{self, Flight, Hook, Kind, Next, Step};
use super::run::{self, Ended, Entry};
use super::secrets::{Owner, rotation_seconds};
use super::state::{Engine, State, random_hex, settings_hash};

/// Starts the agents of all units that have none.
pub fn start_all(engine: &Arc<Engine>, state: &mut State) {
    let missing: Vec<String> = state
        .model
        .units
        .values()
        .filter(|unit| unit.life != Life::Dead && !state.agents.contains(&unit.name))
        .map(|unit| unit.name.clone())
        .collect();
    for name in missing {
        state.agents.insert(name.clone());
        let engine = Arc::clone(engine);
        std::thread::spawn(move || {
            live(&engine, &name);
            engine.lock().agents.remove(&name);
        });
    }
}

/// Lives a unit's life to its end.
fn live(engine: &Arc<Engine>, name: &str) {
    let mut placed = false;
    loop {
        let mut state = engine.lock();
        let Some(unit) = state.model.units.get(name) else {
            return;
        };
        if state.ending || unit.life == Life::Dead {
            return;
        }
        if unit.state != Machine::Up {
            drop(engine.wait(state, TICK));
            continue;
        }
        if !placed {
            drop(state);
            match place_first(engine, name) {
                Ok(()) => placed = true,
                Err(error) => {
                    engine
                        .log
                        .write(name, "ERROR", "juju.worker.uniter", &format!("{error:#}"));
                    drop(engine.wait(engine.lock(), Duration::from_secs(1)));
                }
            }
            continue;
        }
        match state.decide(name) {
            Next::Idle => {
                idle(engine, &mut state, name);
                drop(engine.wait(state, TICK));
            }
            Next::Stuck => drop(engine.wait(state, TICK)),
            next => {
                drop(state);
                step(engine, name, next);
            }
        }
    }
}

/// Says that nothing is to be done, and arms the timer of `update-status`.
fn idle(engine: &Engine, state: &mut State, name: &str) {
    if state
        .timers
        .get(name)
        .is_none_or(|timers| timers.update_status_at.is_none())
    {
        state.rearm_update_status(name);
    }
    if let Some(unit) = state.model.units.get_mut(name)
        && unit.agent.current != "idle"
    {
        unit.agent = Status::now("idle", "");
        engine.save(state);
    }
}

/// Does one operation.
fn step(engine: &Arc<Engine>, name: &str, next: Next) {
    match next {
        Next::Run(hook) => run_hook(engine, name, &hook),
        Next::Action(task) => run_action(engine, name, task),
        Next::Command => run_command(engine, name),
        Next::Upgrade { hook } => upgrade(engine, name, hook),
        Next::Skip(hook) | Next::Commit(hook) => {
            let mut state = engine.lock();
            let hash = settings_hash(&state.model, name);
            finish(engine, &mut state, name, &hook, &hash);
            if let Some(unit) = state.model.units.get_mut(name) {
                unit.agent = Status::now("idle", "");
            }
            engine.save(&state);
        }
        Next::EnterScope(relation) => {
            let mut state = engine.lock();
            state.enter_scope(name, relation);
            engine.save(&state);
        }
        Next::LeaveScope(relation) => {
            let mut state = engine.lock();
            state.leave_scope(name, relation);
            engine.save(&state);
        }
        Next::Resign => change(engine, name, |local| local.leader = false),
        Next::ForgetReboot => change(engine, name, |local| local.rebooted = false),
        Next::DropStorage(id) => {
            let mut state = engine.lock();
            super::removal::detach(engine, &mut state, &id);
            engine.save(&state);
        }
        Next::Die => {
            let mut state = engine.lock();
            super::removal::die(engine, &mut state, name);
            engine.save(&state);
        }
        Next::Idle | Next::Stuck => {}
    }
}

/// Changes what the agent has committed.
fn change(engine: &Engine, name: &str, change: impl FnOnce(&mut resolver::Local)) {
    let mut state = engine.lock();
    if let Some(unit) = state.model.units.get_mut(name) {
        change(&mut unit.local);
    }
    engine.save(&state);
}

/// Makes a unit's directories and puts the charm's files there, unless that is done.
fn place_first(engine: &Engine, name: &str) -> Result<()> {
    let agent = engine.paths.agent(name);
    super::links(engine, name)?;
    let revision = {
        let mut state = engine.lock();
        for storage in state.model.storage.values() {
            if storage
                .attachment
                .as_ref()
                .is_some_and(|at| at.unit == name)
            {
                let path = engine.paths.storage(storage);
                std::fs::create_dir_all(&path)
                    .with_context(|| format!("cannot make {}", path.display()))?;
            }
        }
        let Some((unit, application)) = state.model.unit(name) else {
            return Ok(());
        };
        if agent.join("deployed.json").exists() {
            return Ok(());
        }
        let (application, revision) = (unit.application.clone(), application.revision);
        if let Some(unit) = state.model.units.get_mut(name) {
            unit.local.charm_revision = revision;
            if !unit.workload_set {
                unit.workload = Status::now("waiting", "agent initialising");
            }
        }
        engine.save(&state);
        (application, revision)
    };
    place(engine, name, &engine.paths.charm(&revision.0, revision.1))
}

/// Puts a revision's files into a unit's charm directory; what vanished since the last one is removed.
fn place(engine: &Engine, name: &str, from: &Path) -> Result<()> {
    let into = engine.paths.unit_charm(name);
    let record = engine.paths.agent(name).join("deployed.json");
    let before: Option<charm::Deployed> = std::fs::read(&record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let now = charm::copy_stored(from, &into).context("cannot put the charm's files in place")?;
    if let Some(before) = before {
        charm::remove_vanished(&into, &before, &now)?;
    }
    let text = serde_json::to_vec(&now).context("cannot note the charm's files")?;
    std::fs::write(&record, text).with_context(|| format!("cannot write {}", record.display()))
}

/// Puts the wanted revision in place.
fn upgrade(engine: &Engine, name: &str, hook: bool) {
    let wanted = {
        let state = engine.lock();
        let Some((unit, application)) = state.model.unit(name) else {
            return;
        };
        (unit.application.clone(), application.revision)
    };
    if let Err(error) = place(engine, name, &engine.paths.charm(&wanted.0, wanted.1)) {
        engine
            .log
            .write(name, "ERROR", "juju.worker.uniter", &format!("{error:#}"));
        drop(engine.wait(engine.lock(), Duration::from_secs(1)));
        return;
    }
    change(engine, name, |local| {
        local.charm_revision = wanted.1;
        if hook {
            local.flight = Some(Flight {
                hook: Hook::plain(Kind::UpgradeCharm),
                step: Step::Queued,
                process: None,
            });
        }
    });
}

/// Runs a hook from its beginning to its commit.
fn run_hook(engine: &Arc<Engine>, name: &str, hook: &Hook) {
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
    let program = match run::entry(&charm, path) {
        Entry::Dispatch(program) | Entry::Own(program) => program,
        Entry::Missing => return Ok(None),
    };
    let running = run::start(engine, &program, &[], environment, name, logger, None)?;
    note_process(engine, name, running.pid(), boot);
    running.wait().map(Some)
}

/// Notes a run's process, so that another engine finds it if this one ends; one that comes too late is ended.
fn note_process(engine: &Engine, name: &str, pid: u32, boot: u64) {
    let mut state = engine.lock();
    let started = processes::started(pid);
    let Some(unit) = state.model.units.get_mut(name) else {
        return;
    };
    if unit.boot != boot {
        processes::signal_group(pid, rustix::process::Signal::KILL);
        return;
    }
    if let (Some(flight), Some(started)) = (unit.local.flight.as_mut(), started)
        && flight.step == Step::Pending
    {
        flight.process = Some((pid, started));
        engine.save(&state);
    }
}

/// Commits a hook: to the agent's own state, and what it means to the model.
fn finish(engine: &Engine, state: &mut State, name: &str, hook: &Hook, hash: &str) {
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
            processes::signal_group(pid, rustix::process::Signal::KILL);
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

/// Runs a task: an action of the charm, or a shell command that came as a task.
fn run_action(engine: &Arc<Engine>, name: &str, task: u64) {
    let (environment, id, boot, action, command, previous) = {
        let mut state = engine.lock();
        let Some(found) = state.model.tasks.get_mut(&task) else {
            return;
        };
        "running".clone_into(&mut found.status);
        found.started = Some(jiff::Timestamp::now());
        let action = found.action.clone();
        let command = (action == "juju-exec")
            .then(|| {
                found
                    .parameters
                    .get("command")
                    .and_then(|text| text.as_str())
                    .map(ToOwned::to_owned)
            })
            .flatten();
        let label = if command.is_some() {
            "run-commands"
        } else {
            action.as_str()
        };
        let id = format!("{name}-{label}-{}", random_hex(32));
        let context = Context {
            id: id.clone(),
            unit: name.to_owned(),
            task: Some(task),
            is_action: command.is_none(),
            ..Context::default()
        };
        let environment = run::environment(&state.model, &context, &engine.paths);
        let Some(unit) = state.model.units.get_mut(name) else {
            return;
        };
        let (boot, previous) = (unit.boot, unit.agent.clone());
        let message = match command {
            Some(_) => "running commands".to_owned(),
            None => format!("running action {action}"),
        };
        unit.agent = Status::now("executing", &message);
        state.contexts.insert(id.clone(), context);
        engine.save(&state);
        (environment, id, boot, action, command, previous)
    };
    let ended = match &command {
        Some(text) => shell(engine, name, text, environment).map(Some),
        None => start_action(engine, name, &action, environment),
    };
    let ended = ended.and_then(|running| {
        let Some(running) = running else {
            return Ok(None);
        };
        note_task(engine, task, running.pid());
        running.wait().map(Some)
    });
    let mut state = engine.lock();
    let context = state.contexts.remove(&id);
    if let Some(unit) = state.model.units.get_mut(name)
        && unit.boot == boot
        && previous.current == "error"
    {
        unit.agent = previous;
    }
    super::tasks::end(engine, &mut state, task, context, ended, command.is_some());
    engine.save(&state);
}

/// Starts an action of the charm; `None` when it has none of that name.
fn start_action(
    engine: &Arc<Engine>,
    name: &str,
    action: &str,
    environment: Vec<(String, String)>,
) -> Result<Option<run::Running>> {
    let charm = engine.paths.unit_charm(name);
    match run::entry(&charm, &format!("actions/{action}")) {
        Entry::Dispatch(program) | Entry::Own(program) => {
            run::start(engine, &program, &[], environment, name, action, None).map(Some)
        }
        Entry::Missing => Ok(None),
    }
}

/// Notes a task's process, so that it can be cancelled and is found by another engine.
fn note_task(engine: &Engine, task: u64, pid: u32) {
    let mut state = engine.lock();
    if let (Some(task), Some(since)) = (state.model.tasks.get_mut(&task), processes::started(pid)) {
        task.process = Some((pid, since));
    }
    engine.save(&state);
}

/// Starts a shell with commands on its standard input.
fn shell(
    engine: &Arc<Engine>,
    name: &str,
    text: &str,
    environment: Vec<(String, String)>,
) -> Result<run::Running> {
    let bash = Path::new("/bin/bash");
    let shell = if bash.exists() {
        bash
    } else {
        Path::new("/bin/sh")
    };
    run::start(
        engine,
        shell,
        &["-s"],
        environment,
        name,
        "juju-exec",
        Some(text),
    )
}

/// Runs a command that came through `juju-exec` on the unit's machine.
fn run_command(engine: &Arc<Engine>, name: &str) {
    let (environment, id, boot, command, previous) = {
        let mut state = engine.lock();
        let queue = state.commands.get_mut(name);
        let Some(command) = queue.and_then(std::collections::VecDeque::pop_front) else {
            return;
        };
        let mut context = Context {
            id: format!("{name}-run-commands-{}", random_hex(32)),
            unit: name.to_owned(),
            ..Context::default()
        };
        if let Err(text) = aim(&state, &mut context, &command.call) {
            let stderr = format!("ERROR {text}\n");
            let _ = command.reply.send(crate::api::ToolEnd {
                code: 1,
                stderr,
                ..Default::default()
            });
            return;
        }
        let environment = run::environment(&state.model, &context, &engine.paths);
        let Some(unit) = state.model.units.get_mut(name) else {
            return;
        };
        let (boot, previous) = (unit.boot, unit.agent.clone());
        unit.agent = Status::now("executing", "running commands");
        let id = context.id.clone();
        state.contexts.insert(id.clone(), context);
        engine.save(&state);
        (environment, id, boot, command, previous)
    };
    let ended =
        shell(engine, name, &command.call.command, environment).and_then(run::Running::wait);
    let mut end = crate::api::ToolEnd::default();
    {
        let mut state = engine.lock();
        let context = state.contexts.remove(&id);
        if let Some(unit) = state.model.units.get_mut(name)
            && unit.boot == boot
        {
            unit.agent = previous;
        }
        match ended {
            Ok(ended) => {
                end.code = ended.code();
                end.stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
                end.stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
                // The shell's own status does not matter to the commit.
                let applied = context.map_or(Ok(()), |context| {
                    commit::apply(&mut state.model, &context, &engine.paths)
                });
                if let Err(text) = applied {
                    end.code = 1;
                    end.stderr = format!("{}ERROR {text}\n", end.stderr);
                }
            }
            Err(error) => {
                end.code = 1;
                end.stderr = format!("ERROR {error:#}\n");
            }
        }
        engine.save(&state);
    }
    let _ = command.reply.send(end);
}

/// Aims a command's context at the relation that was asked for.
fn aim(
    state: &State,
    context: &mut Context,
    call: &crate::api::JujuExecCall,
) -> Result<(), String> {
    let Some(text) = &call.relation else {
        return match &call.remote_unit {
            Some(unit) => Err(format!("remote unit: {unit}, provided without a relation")),
            None => Ok(()),
        };
    };
    let number = text.rsplit(':').next().unwrap_or_default();
    let id: u64 = number
        .parse()
        .map_err(|_| "invalid relation id".to_owned())?;
    let unit = state.model.units.get(&context.unit);
    if !unit.is_some_and(|unit| unit.local.relations.contains_key(&id)) {
        return Err(format!("unknown relation id: {id}"));
    }
    let members: Vec<String> = context.members(&state.model, id).into_iter().collect();
    let shown = members.join(" ");
    let remote = match (&call.remote_unit, members.as_slice()) {
        (Some(unit), _) if call.force_remote_unit || members.contains(unit) => unit.clone(),
        (Some(unit), _) => {
            return Err(format!(
                "unknown remote unit {unit}; possibilities are [{shown}]"
            ));
        }
        (None, []) => return Err(format!("cannot infer remote unit in empty relation {id}")),
        (None, [only]) => only.clone(),
        (None, _) => {
            return Err(format!(
                "ambiguous remote unit; possibilities are [{shown}]"
            ));
        }
    };
    context.relation = Some(id);
    context.remote_unit = Some(remote);
    Ok(())
}

/// Ends the owning unit's secrets.
pub fn forget_secrets(state: &mut State, owner: &Owner) {
    state
        .model
        .secrets
        .retain(|_, secret| secret.owner != *owner);
}
