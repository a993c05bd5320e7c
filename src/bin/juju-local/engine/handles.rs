//! Handles for tests and trials that Juju does not have.

use std::sync::Arc;

use rustix::process::Signal;
use serde_json::Value;

use crate::api::{Handle, Response};

use super::home::Home;
use super::model::{Databag, Lease, Machine, Settings, Variant, later};
use super::processes::Marks;
use super::removal::unit_marks;
use super::state::{Engine, State};
use super::{driver, hooks, network, pods, processes};

/// Does what a handle is for.
///
/// # Errors
///
/// With a text for a person.
pub fn handle(engine: &Arc<Engine>, handle: Handle) -> Result<Response, String> {
    match handle {
        Handle::Leader(unit) => {
            let mut state = engine.lock();
            let model = &mut state.model;
            let found = model.units.get(&unit).ok_or_else(|| missing(&unit))?;
            let name = found.application.clone();
            let until = later(jiff::Timestamp::now(), model.settings.lease_seconds);
            if let Some(application) = model.applications.get_mut(&name) {
                application.lease = Some(Lease {
                    holder: unit,
                    until,
                });
            }
            engine.save(&state);
        }
        Handle::Freeze(unit) => {
            let entries = set_machine(engine, &unit, Machine::Frozen)?;
            tell(engine, &unit, "freeze")?;
            processes::signal_all(&entries, Signal::STOP);
        }
        Handle::Thaw(unit) => {
            let entries = unit_marks(engine, &engine.lock().model, &unit);
            processes::signal_all(&entries, Signal::CONT);
            tell(engine, &unit, "thaw")?;
            set_machine(engine, &unit, Machine::Up)?;
        }
        Handle::Kill(unit) => kill(engine, &unit)?,
        Handle::Reboot { unit, lose_disk } => reboot(engine, &unit, lose_disk)?,
        Handle::Cut(unit) => cut(engine, &unit, true)?,
        Handle::Heal(unit) => cut(engine, &unit, false)?,
        Handle::Variant(text) => set_variant(engine, &text)?,
        Handle::Setting(changes) => {
            let mut state = engine.lock();
            let mut settings = changed(&state.model.settings, &changes)?;
            driver::check(&state.model, settings.machine_driver.as_deref())
                .and_then(|()| pods::check(&state.model, &mut settings))
                .map_err(|error| format!("{error:#}"))?;
            if settings.has_pods() {
                // A namespace has its name, and those know no capitals.
                state.model.name = state.model.name.to_lowercase();
            }
            state.model.settings = settings;
            let until = later(jiff::Timestamp::now(), state.model.settings.lease_seconds);
            for application in state.model.applications.values_mut() {
                if let Some(lease) = &mut application.lease {
                    lease.until = lease.until.min(until);
                }
            }
            let names: Vec<String> = state.model.units.keys().cloned().collect();
            for name in names {
                state.rearm_update_status(&name);
            }
            engine.save(&state);
        }
        Handle::Settings => {
            let settings = serde_json::to_value(&engine.lock().model.settings);
            return Ok(Response::Value(settings.unwrap_or_default()));
        }
        Handle::Evict { units, now } => {
            has_pods(engine)?;
            pods::evict(engine, &units, !now)?;
        }
        Handle::ContainerRestart { unit, container } => {
            has_pods(engine)?;
            pods::restart_container(engine, &unit, &container)?;
        }
        Handle::AgentRestart(unit) => {
            has_pods(engine)?;
            pods::restart_agent(engine, &unit)?;
        }
        Handle::CrashEngine => {
            processes::signal(std::process::id(), Signal::KILL);
        }
    }
    Ok(Response::Done)
}

/// Tells whether the model's units are pods, as an error when they are not.
fn has_pods(engine: &Engine) -> Result<(), String> {
    if engine.lock().model.settings.has_pods() {
        Ok(())
    } else {
        Err(
            "cannot do that without pods: units are machines here; see the setting `substrate`"
                .to_owned(),
        )
    }
}

/// Shows another version of Juju from now on.
fn set_variant(engine: &Engine, text: &str) -> Result<(), String> {
    let variant = Variant::parse(text).ok_or_else(|| {
        format!("cannot take variant {text:?}; it is one of 3.6, 4.0 and 4.0-bug")
    })?;
    let mut state = engine.lock();
    let State { model, .. } = &mut *state;
    let before = model.variant;
    // What units were told of stays told: the two versions count changes in different ways.
    for unit in model.units.values_mut() {
        for (id, known) in &mut unit.local.relations {
            let Some(relation) = model.relations.get(id) else {
                continue;
            };
            let other = relation
                .other(&unit.application)
                .map(|end| &end.application);
            let own = other.and_then(|name| relation.applications.get(name));
            let translate = |version: &mut u64, bag: &Databag| {
                if *version == bag.version(before) {
                    *version = bag.version(variant);
                }
            };
            for (name, version) in &mut known.members {
                if let Some(bag) = relation.units.get(name) {
                    translate(version, bag);
                }
            }
            if let Some(bag) = own {
                translate(&mut known.application_version, bag);
            }
        }
    }
    model.variant = variant;
    engine.save(&state);
    Ok(())
}

/// Says that there is no such unit.
fn missing(unit: &str) -> String {
    format!("unit {unit:?} not found")
}

/// Returns settings with changes applied.
fn changed(
    settings: &Settings,
    changes: &std::collections::BTreeMap<String, String>,
) -> Result<Settings, String> {
    let mut document = serde_json::to_value(settings).map_err(|error| error.to_string())?;
    let known = document.as_object().cloned().unwrap_or_default();
    for (key, text) in changes {
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
        if !known.contains_key(key) {
            let names: Vec<_> = known.keys().cloned().collect();
            return Err(format!(
                "unknown setting {key:?}; there are {}",
                names.join(", ")
            ));
        }
        document[key.as_str()] = value;
    }
    serde_json::from_value(document).map_err(|error| format!("cannot take settings: {error}"))
}

/// Notes what a unit's machine does; returns how its processes are known.
fn set_machine(engine: &Engine, unit: &str, machine: Machine) -> Result<Marks, String> {
    let mut state = engine.lock();
    let entries = unit_marks(engine, &state.model, unit);
    let found = state
        .model
        .units
        .get_mut(unit)
        .ok_or_else(|| missing(unit))?;
    if found.state == Machine::Down && machine == Machine::Frozen {
        return Err(format!(
            "cannot freeze {unit}: its machine is down; reboot it first"
        ));
    }
    if machine == Machine::Down {
        found.boot += 1;
    }
    if found.state != Machine::Down || machine == Machine::Down {
        found.state = machine;
    }
    engine.save(&state);
    Ok(entries)
}

/// Ends a unit's processes and agent at once.
fn kill(engine: &Engine, unit: &str) -> Result<(), String> {
    let entries = set_machine(engine, unit, Machine::Down)?;
    tell(engine, unit, "kill")?;
    let left = processes::end_all(&entries, false);
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("cannot end processes {left:?} of {unit}"))
    }
}

/// Tells the unit's machine driver, where there is one, what a handle means.
fn tell(engine: &Engine, unit: &str, verb: &str) -> Result<(), String> {
    let home = Home::of(engine, &engine.lock().model, unit);
    home.map_or(Ok(()), |home| home.tell(verb))
        .map_err(|error| format!("cannot {verb} {unit}: {error:#}"))
}

/// Starts a unit's machine again, after ending what still runs on it.
fn reboot(engine: &Arc<Engine>, unit: &str, lose_disk: bool) -> Result<(), String> {
    kill(engine, unit)?;
    if lose_disk {
        empty_storage(engine, unit)?;
    }
    let home = Home::of(engine, &engine.lock().model, unit);
    let is_pod = matches!(home, Some(Home::Pod(..)));
    let address = home
        .map(|home| home.reboot(engine, unit))
        .transpose()
        .map_err(|error| format!("cannot reboot {unit}: {error:#}"))?;
    if is_pod {
        // Its agent knows already.
        return Ok(());
    }
    let mut state = engine.lock();
    if let Some(address) = address {
        state.set_address(unit, address);
    }
    hooks::found_running(engine, &mut state, unit);
    super::tasks::interrupt(&mut state.model, unit);
    state.caches.remove(unit);
    let found = state
        .model
        .units
        .get_mut(unit)
        .ok_or_else(|| missing(unit))?;
    found.state = Machine::Up;
    found.local.rebooted = true;
    engine.save(&state);
    Ok(())
}

/// Empties the storage of a unit that does not run.
fn empty_storage(engine: &Engine, unit: &str) -> Result<(), String> {
    let state = engine.lock();
    for storage in state.model.storage.values() {
        if storage
            .attachment
            .as_ref()
            .is_some_and(|at| at.unit == unit)
        {
            let path = engine.paths.storage(&storage.id);
            std::fs::remove_dir_all(&path)
                .and_then(|()| std::fs::create_dir_all(&path))
                .map_err(|error| format!("cannot empty {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Cuts a unit's address off, or heals it.
fn cut(engine: &Engine, unit: &str, on: bool) -> Result<(), String> {
    let (address, table, home) = {
        let state = engine.lock();
        let found = state.model.units.get(unit).ok_or_else(|| missing(unit))?;
        if found.cut == on {
            return Ok(());
        }
        (
            state.model.address(found),
            network::table(&state.model, found),
            Home::of(engine, &state.model, unit),
        )
    };
    match home {
        Some(home) => home.tell(if on { "cut" } else { "heal" }),
        None => network::cut(address, &table, on),
    }
    .map_err(|error| format!("{error:#}"))?;
    let mut state = engine.lock();
    if let Some(found) = state.model.units.get_mut(unit) {
        found.cut = on;
    }
    engine.save(&state);
    Ok(())
}
