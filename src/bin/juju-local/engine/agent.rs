//! A unit's agent: one thread that asks what is next, and does it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::charm;
use crate::limits::{DRIVER_RETRY, TICK};

use super::commands::{run_action, run_command};
use super::home::Home;
use super::hooks::{finish, run_hook};
use super::model::{Life, Machine, Status};
use super::resolver::{self, Flight, Hook, Kind, Next, Step};
use super::state::{Engine, State, settings_hash};

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
    let mut machine = false;
    loop {
        let mut state = engine.lock();
        let Some(unit) = state.model.units.get(name) else {
            return;
        };
        if state.ending || unit.life == Life::Dead {
            return;
        }
        // An agent that cannot reach the controller learns nothing and may begin nothing.
        if unit.state != Machine::Up || unit.cut {
            drop(engine.wait(state, TICK));
            continue;
        }
        // One of the same number may still be going.
        if !machine && state.clearing.contains(name) {
            drop(engine.wait(state, TICK));
            continue;
        }
        if !machine {
            let home = Home::of(engine, &state.model, name);
            drop(state);
            machine = come_up(engine, name, home.as_ref());
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

/// Asks for the unit's machine or pod, where it has one; tells whether it is there now.
fn come_up(engine: &Arc<Engine>, name: &str, home: Option<&Home>) -> bool {
    match home.map(|home| home.up(engine, name)) {
        None => true,
        Some(Ok(address)) => {
            let mut state = engine.lock();
            state.set_address(name, address);
            engine.save(&state);
            true
        }
        Some(Err(error)) => {
            let text = format!("cannot start the machine: {error:#}");
            engine.log.write(name, "ERROR", "juju.provisioner", &text);
            let mut state = engine.lock();
            if let Some(unit) = state.model.units.get_mut(name) {
                unit.agent = Status::now("allocating", &text);
            }
            engine.save(&state);
            drop(engine.wait(state, DRIVER_RETRY));
            false
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
                let path = engine.paths.storage(&storage.id);
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

/// Makes a unit's directories anew, with the charm's present files.
///
/// # Errors
///
/// When that cannot be done.
pub fn place_anew(engine: &Engine, name: &str) -> Result<()> {
    let agent = engine.paths.agent(name);
    match std::fs::remove_dir_all(&agent) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", agent.display()));
        }
        _ => {}
    }
    place_first(engine, name)
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
