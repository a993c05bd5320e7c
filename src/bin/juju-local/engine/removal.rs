//! How units, applications, relations and storage go away.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::home::Home;
use super::model::{Life, Model, Variant, application_of, later};
use super::processes::{self, Marks};
use super::secrets::Owner;
use super::state::{Engine, State};

/// Marks a unit as no longer wanted.
pub fn destroy_unit(
    model: &mut Model,
    name: &str,
    force_after: Option<f64>,
    destroy_storage: bool,
) {
    let now = Timestamp::now();
    if let Some(unit) = model.units.get_mut(name) {
        unit.life = unit.life.max(Life::Dying);
        unit.destroy_storage |= destroy_storage;
        if let Some(seconds) = force_after {
            let at = later(now, seconds);
            unit.force_at = Some(unit.force_at.map_or(at, |before| before.min(at)));
        }
    }
}

/// Drops a storage instance's attachment; the instance goes too if that is wanted.
pub fn detach(engine: &Engine, state: &mut State, id: &str) {
    let Some(storage) = state.model.storage.get_mut(id) else {
        return;
    };
    let unit = storage
        .attachment
        .take()
        .map(|attachment| attachment.unit)
        .unwrap_or_default();
    storage.since = Timestamp::now();
    if let Some(unit) = state.model.units.get_mut(&unit) {
        unit.left_storage.insert(id.to_owned());
    }
    let dying = storage.life != Life::Alive;
    let destroy = state
        .model
        .units
        .get(&unit)
        .is_some_and(|unit| unit.destroy_storage && unit.life != Life::Alive);
    if dying || destroy {
        delete_storage(engine, state, id);
    }
}

/// Removes a storage instance with its data.
pub fn delete_storage(engine: &Engine, state: &mut State, id: &str) {
    if let Some(storage) = state.model.storage.remove(id) {
        let path = engine.paths.storage(&storage.id);
        if let Err(error) = std::fs::remove_dir_all(&path) {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}

/// Notes that a unit's agent has torn everything down.
pub fn die(engine: &Engine, state: &mut State, name: &str) {
    forget_secrets(state, &Owner::Unit(name.to_owned()));
    super::tasks::drop_of(&mut state.model, name, "unit is being removed");
    let Some(unit) = state.model.units.get_mut(name) else {
        return;
    };
    unit.life = Life::Dead;
    unit.dead_since = Some(Timestamp::now());
    unit.local.flight = None;
    let application = unit.application.clone();
    if !state.model.variant.is_four()
        && let Some(application) = state.model.applications.get_mut(&application)
        && application
            .lease
            .as_ref()
            .is_some_and(|lease| lease.holder == name)
    {
        application.lease = None;
    }
    engine
        .log
        .write(name, "INFO", "juju.worker.uniter", "unit is dead");
}

/// Looks after everything that goes away with time; tells whether something changed.
pub fn sweep(engine: &Arc<Engine>, state: &mut State) -> bool {
    let now = Timestamp::now();
    let mut changed = cascade(&mut state.model, now);
    for name in due(&state.model, now) {
        delete_unit(engine, state, &name);
        changed = true;
    }
    prune_secrets(engine, state);
    changed | tidy(engine, state)
}

/// Tells units that their application goes.
fn cascade(model: &mut Model, now: Timestamp) -> bool {
    let delay = crate::limits::CASCADE_DELAY.as_secs_f64();
    let dying: Vec<(String, bool)> = model
        .applications
        .iter()
        .filter(|(_, app)| {
            app.dying_since
                .is_some_and(|since| later(since, delay) <= now)
        })
        .map(|(name, app)| (name.clone(), app.destroy_storage))
        .collect();
    let mut changed = false;
    for (name, destroy_storage) in dying {
        for unit in model.units.values_mut() {
            if unit.application == name && unit.life == Life::Alive {
                unit.life = Life::Dying;
                unit.destroy_storage |= destroy_storage;
                changed = true;
            }
        }
    }
    changed
}

/// Returns the units whose record goes now.
///
/// 3.6 deletes a dead unit at once, 4.0 by a job that looks now and then; `--force` cuts off in both.
fn due(model: &Model, now: Timestamp) -> Vec<String> {
    let period = model.settings.removal_seconds;
    model
        .units
        .values()
        .filter(|unit| {
            let dead = unit.life == Life::Dead
                && unit.dead_since.is_none_or(|since| {
                    !model.variant.is_four() || period <= 0.0 || {
                        let age = now.duration_since(since).as_secs_f64();
                        // The job's beat is everybody's, so a unit waits for anything up to a period.
                        let beat = since.as_duration().as_secs_f64() % period;
                        age >= period - beat
                    }
                });
            // Pods go together: the set is scaled down when the last of them is dead.
            let waits = model.settings.has_pods()
                && model
                    .units_of(&unit.application)
                    .iter()
                    .any(|other| other.life == Life::Dying);
            (dead && !waits) || unit.force_at.is_some_and(|at| at <= now)
        })
        .map(|unit| unit.name.clone())
        .collect()
}

/// Deletes a unit's record, and what belonged to its machine.
pub fn delete_unit(engine: &Arc<Engine>, state: &mut State, name: &str) {
    let marks = unit_marks(engine, &state.model, name);
    let home = Home::of(engine, &state.model, name);
    let storage: Vec<String> = state
        .model
        .storage
        .values()
        .filter(|one| one.attachment.as_ref().is_some_and(|at| at.unit == name))
        .map(|one| one.id.clone())
        .collect();
    for id in storage {
        detach(engine, state, &id);
    }
    forget_secrets(state, &Owner::Unit(name.to_owned()));
    super::tasks::drop_of(&mut state.model, name, "unit was removed");
    let bug = state.model.variant == Variant::V40Bug;
    for relation in state.model.relations.values_mut() {
        if !(bug && relation.is_peer()) {
            relation.scope.remove(name);
        }
    }
    let Some(unit) = state.model.units.remove(name) else {
        return;
    };
    if let Some(application) = state.model.applications.get_mut(&unit.application)
        && application
            .lease
            .as_ref()
            .is_some_and(|lease| lease.holder == name)
    {
        application.lease = None;
    }
    for secret in state.model.secrets.values_mut() {
        secret.consumers.remove(name);
    }
    state.caches.remove(name);
    state.timers.remove(name);
    state.commands.remove(name);
    state.workload.remove(name);
    state.leaving.remove(name);
    state.boots.retain(|(unit, _), _| unit != name);
    if unit.cut && home.is_none() {
        let address = state.model.address(&unit);
        let _ = super::network::cut(address, &super::network::table(&state.model, &unit), false);
    }
    let (engine, name) = (Arc::clone(engine), name.to_owned());
    state.clearing.insert(name.clone());
    std::thread::spawn(move || {
        clear_machine(&engine, &name, &marks, home.as_ref());
        engine.lock().clearing.remove(&name);
    });
}

/// Ends the processes of a machine that is gone, and removes its directories.
fn clear_machine(engine: &Engine, name: &str, marks: &Marks, home: Option<&Home>) {
    let left = processes::end_all(marks, true);
    if !left.is_empty() {
        eprintln!("cannot end processes of {name}: {left:?}");
    }
    if let Some(Err(error)) = home.map(|home| home.tell("down")) {
        eprintln!("cannot end the machine of {name}: {error:#}");
    }
    for path in [engine.paths.agent(name), engine.paths.tools(name)] {
        let _ = std::fs::remove_dir_all(path);
    }
}

/// Returns the marks by which a unit's processes are known.
#[must_use]
pub fn unit_marks(engine: &Engine, model: &Model, unit: &str) -> Marks {
    let is_here = |id: &String| {
        let attachment = model
            .storage
            .get(id)
            .and_then(|storage| storage.attachment.as_ref());
        attachment.is_none_or(|attachment| attachment.unit == unit)
    };
    let now = model
        .storage
        .values()
        .filter(|storage| storage.attachment.is_some());
    let before = model
        .units
        .get(unit)
        .into_iter()
        .flat_map(|unit| &unit.left_storage);
    let ids = now
        .map(|storage| &storage.id)
        .chain(before)
        .filter(|id| is_here(id));
    let mut folders: Vec<_> = ids.map(|id| engine.paths.storage(id)).collect();
    folders.push(engine.paths.agent(unit));
    Marks {
        environment: vec![
            format!("JUJU_MODEL_UUID={}", model.uuid),
            format!("JUJU_UNIT_NAME={unit}"),
        ],
        folders,
    }
}

/// Removes relations and applications that nobody is in any more.
fn tidy(engine: &Engine, state: &mut State) -> bool {
    let empty: Vec<u64> = state
        .model
        .relations
        .values()
        .filter(|relation| relation.life != Life::Alive && relation.scope.is_empty())
        .filter(|relation| {
            // A unit that still has to break it keeps it, and peers keep theirs until they are gone.
            !state.model.units.values().any(|unit| {
                (relation.is_peer() && relation.own(&unit.application).is_some())
                    || unit.local.relations.contains_key(&relation.id)
            })
        })
        .map(|relation| relation.id)
        .collect();
    let gone: Vec<String> = state
        .model
        .applications
        .iter()
        .filter(|(_, application)| application.life != Life::Alive)
        .filter(|(name, _)| {
            !state
                .model
                .units
                .values()
                .any(|unit| unit.application == **name)
        })
        // The name is not free until the machines are: new units would find themselves in the old directories.
        .filter(|(name, _)| {
            !state
                .clearing
                .iter()
                .any(|unit| application_of(unit) == **name)
        })
        .map(|(name, _)| name.clone())
        .collect();
    let changed = !empty.is_empty() || !gone.is_empty();
    for id in empty {
        state.model.relations.remove(&id);
    }
    for name in gone {
        state.model.applications.remove(&name);
        state
            .model
            .relations
            .retain(|_, relation| relation.own(&name).is_none());
        let owned = |owner: &Owner| match owner {
            Owner::Person => false,
            Owner::Application(application) => *application == name,
            Owner::Unit(unit) => application_of(unit) == name,
        };
        state
            .model
            .secrets
            .retain(|_, secret| !owned(&secret.owner));
        for secret in state.model.secrets.values_mut() {
            secret.grants.remove(&name);
        }
        let _ = std::fs::remove_dir_all(engine.paths.resources(&name));
        let prefix = format!("{name}-");
        for entry in std::fs::read_dir(engine.paths.root.join("charms"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let file = entry.file_name();
            let rest = file.to_str().and_then(|file| file.strip_prefix(&prefix));
            if rest.is_some_and(|rest| rest.parse::<u32>().is_ok()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
    changed
}

/// Removes the content of secrets and revisions that are gone.
fn prune_secrets(engine: &Engine, state: &mut State) {
    let secrets = &state.model.secrets;
    let present: BTreeSet<(String, u64)> = secrets
        .values()
        .flat_map(|secret| {
            secret
                .revisions
                .keys()
                .map(|revision| (secret.id.clone(), *revision))
        })
        .collect();
    for (id, revision) in state.secret_files.difference(&present) {
        let file = engine.paths.secret(id, *revision);
        let _ = std::fs::remove_file(&file);
        if let Some(folder) = file.parent().filter(|_| !secrets.contains_key(id)) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
    state.secret_files = present;
}

/// Removes all secrets of an owner.
fn forget_secrets(state: &mut State, owner: &Owner) {
    state
        .model
        .secrets
        .retain(|_, secret| secret.owner != *owner);
}
