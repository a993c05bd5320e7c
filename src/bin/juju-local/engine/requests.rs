//! What the command line asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{ConfigReport, OptionReport, Removal, Removing, Request, Response};

use super::commit::add_storage;
use super::deploy;
use super::find;
use super::model::{Life, Model};
use super::relations::{integrate, remove_relation};
use super::resolver::{Resolution, Step};
use super::scheduling::{cancel, exec, operations, run, some_tasks};
use super::state::Engine;
use super::storage::{attach, detach, make_storage, remove_storage};
use super::{handles, person, removal, status};

/// Answers a request of a person.
///
/// # Errors
///
/// With a text for the person.
pub fn answer(engine: &Arc<Engine>, request: Request) -> Result<Response, String> {
    match request {
        Request::Handle(handle) => return handles::handle(engine, handle),
        Request::Deploy(wanted) => return deploy::deploy(engine, &wanted),
        Request::Refresh {
            application,
            path,
            force_units,
            resources,
        } => {
            return deploy::refresh(engine, &application, &path, force_units, &resources);
        }
        _ => {}
    }
    let mut state = engine.lock();
    let state = &mut *state;
    refuse_for_pods(&state.model, &request)?;
    let response = match request {
        Request::Status | Request::Storage => {
            return Ok(Response::Status(Box::new(status::report(
                &state.model,
                &engine.paths,
            ))));
        }
        Request::ShowUnit { unit } => {
            return status::show_unit(&state.model, &unit).map(Response::Value);
        }
        Request::GetConfig { application } => return get_config(&state.model, &application),
        Request::Actions { application } => {
            let app = find::application(&state.model, &application)?;
            let actions = app.charm.actions.0.iter();
            let map: serde_json::Map<String, Value> = actions
                .map(|(name, action)| (name.clone(), json!(action.description)))
                .collect();
            return Ok(Response::Value(Value::Object(map)));
        }
        Request::Tasks { ids } => return Ok(Response::Tasks(some_tasks(&state.model, &ids)?)),
        Request::Operations { ids } => return operations(&state.model, &ids),
        Request::SetConfig {
            application,
            set,
            reset,
        } => set_config(&mut state.model, &application, &set, &reset)?,
        Request::AddUnit {
            application,
            count,
            attach_storage,
        } => deploy::add_units(&mut state.model, &application, count, &attach_storage)
            .map(Response::Names)?,
        Request::RemoveUnit { units, how } => remove_units(&mut state.model, &units, how)?,
        Request::Scale {
            application,
            units,
            fewer,
            how,
        } => scale(&mut state.model, &application, units, fewer, how)?,
        Request::RemoveApplication { application, how } => {
            remove_application(&mut state.model, &application, how)?
        }
        Request::Run {
            units,
            action,
            parameters,
        } => run(&mut state.model, &units, &action, &parameters)?,
        Request::Exec {
            units,
            applications,
            all,
            command,
        } => exec(&mut state.model, &units, &applications, all, &command)?,
        Request::CancelTasks { ids } => cancel(&mut state.model, &ids)?,
        Request::Resolved {
            units,
            all,
            no_retry,
        } => resolved(&mut state.model, &units, all, no_retry)?,
        Request::Integrate { endpoints } => integrate(&mut state.model, &endpoints)?,
        Request::RemoveRelation { endpoints } => remove_relation(&mut state.model, &endpoints)?,
        Request::AddStorage { unit, name, count } => {
            let made = add_storage(&mut state.model, &unit, &name, count)?;
            make_storage(engine, &state.model)?;
            Response::Names(made)
        }
        Request::AttachStorage { unit, storage } => {
            attach(&mut state.model, &unit, &storage)?;
            Response::Done
        }
        Request::DetachStorage { storage } => detach(&mut state.model, &storage)?,
        Request::RemoveStorage { storage, force } => {
            remove_storage(engine, state, &storage, force)?
        }
        secret => person::secret(engine, state, secret)?,
    };
    engine.save(state);
    Ok(response)
}

/// Refuses what cannot be done to pods.
fn refuse_for_pods(model: &Model, request: &Request) -> Result<(), String> {
    if !model.settings.has_pods() {
        return Ok(());
    }
    match request {
        Request::RemoveUnit { .. } => Err(
            "cannot remove units by name on Kubernetes: name the application and give --num-units"
                .to_owned(),
        ),
        Request::AddStorage { .. }
        | Request::AttachStorage { .. }
        | Request::DetachStorage { .. } => {
            Err("cannot change the storage of a pod: its set decides it at deployment".to_owned())
        }
        _ => Ok(()),
    }
}

fn get_config(model: &Model, name: &str) -> Result<Response, String> {
    let app = find::application(model, name)?;
    let report =
        |default: Option<Value>, set: Option<&Value>, kind: String, description: String| {
            let source = match (set, &default) {
                (Some(_), _) => "user",
                (None, Some(_)) => "default",
                (None, None) => "unset",
            };
            let value = set.cloned().or_else(|| default.clone());
            OptionReport {
                default,
                description,
                source: source.to_owned(),
                kind,
                value,
            }
        };
    let settings = app
        .charm
        .config
        .options
        .iter()
        .map(|(name, option)| {
            let set = app.config.get(name).filter(|value| !value.is_null());
            let kind = option.kind.to_string();
            (
                name.clone(),
                report(
                    option.default.clone(),
                    set,
                    kind,
                    option.description.clone(),
                ),
            )
        })
        .collect();
    let trusted = json!(true);
    let trust = report(
        Some(json!(false)),
        app.trust.then_some(&trusted),
        "bool".to_owned(),
        "Does this application have access to trusted credentials".to_owned(),
    );
    Ok(Response::Config(Box::new(ConfigReport {
        application: name.to_owned(),
        application_config: BTreeMap::from([("trust".to_owned(), trust)]),
        charm: app.charm.metadata.name.clone(),
        settings,
    })))
}

fn set_config(
    model: &mut Model,
    name: &str,
    set: &BTreeMap<String, String>,
    reset: &[String],
) -> Result<Response, String> {
    let app = find::application(model, name)?;
    let mut config = app.config.clone();
    let mut trust = app.trust;
    for option in reset {
        if option == "trust" {
            trust = false;
            continue;
        }
        if !app.charm.config.options.contains_key(option) {
            return Err(format!("unknown option {option:?}"));
        }
        config.shift_remove(option);
    }
    for (option, text) in set {
        if option == "trust" {
            trust = text
                .parse()
                .map_err(|_| format!("option \"trust\" expected bool, got {text:?}"))?;
            continue;
        }
        let value = app
            .charm
            .config
            .parse_text(option, text)
            .map_err(|error| error.to_string())?;
        config.insert(option.clone(), value);
    }
    if let Some(app) = model.applications.get_mut(name) {
        app.config = config;
        app.trust = trust;
    }
    Ok(Response::Done)
}

/// Returns what becomes of a unit's storage: kept, removed.
fn storage_of(model: &Model, unit: &str, destroy: bool) -> (Vec<String>, Vec<String>) {
    let ids: Vec<String> = model
        .storage
        .values()
        .filter(|storage| {
            storage
                .attachment
                .as_ref()
                .is_some_and(|at| at.unit == unit)
        })
        .map(|storage| storage.id.clone())
        .collect();
    if destroy {
        (Vec::new(), ids)
    } else {
        (ids, Vec::new())
    }
}

fn remove_units(model: &mut Model, units: &[String], how: Removal) -> Result<Response, String> {
    let missing: Vec<_> = units
        .iter()
        .filter(|unit| !model.units.contains_key(*unit))
        .collect();
    if let Some(unit) = missing.first() {
        return Err(format!("unit {unit:?} not found"));
    }
    let mut removing = Vec::new();
    for unit in units {
        let (detaches, removes) = storage_of(model, unit, how.destroy_storage);
        removal::destroy_unit(model, unit, force_after(model, how), how.destroy_storage);
        removing.push(Removing {
            name: unit.clone(),
            is_application: false,
            units: Vec::new(),
            detaches,
            removes,
        });
    }
    Ok(Response::Removing(removing))
}

/// Gives an application on Kubernetes another number of units: those of the highest numbers go, or new ones come.
fn scale(
    model: &mut Model,
    name: &str,
    units: u32,
    fewer: bool,
    how: Removal,
) -> Result<Response, String> {
    find::application(model, name)?;
    if !model.settings.has_pods() {
        return Err(format!(
            "cannot scale {name:?}: scaling an application is only for Kubernetes; add or remove units"
        ));
    }
    let present: Vec<String> = model
        .units_of(name)
        .iter()
        .map(|unit| unit.name.clone())
        .collect();
    let count = u32::try_from(present.len()).unwrap_or(u32::MAX);
    let target = if fewer {
        count
            .checked_sub(units)
            .ok_or_else(|| format!("cannot remove {units} units of {name:?}: it has {count}"))?
    } else {
        units
    };
    if target > count {
        return deploy::add_units(model, name, target - count, &[]).map(Response::Names);
    }
    let keep = usize::try_from(target).unwrap_or(usize::MAX);
    let going: Vec<String> = present.into_iter().skip(keep).collect();
    if going.is_empty() {
        return Ok(Response::Names(going));
    }
    remove_units(model, &going, how)
}

/// Returns after how many seconds `--force` cuts off.
fn force_after(model: &Model, how: Removal) -> Option<f64> {
    let wait = if how.no_wait {
        0.0
    } else {
        model.settings.force_wait_seconds
    };
    how.force.then_some(wait)
}

fn remove_application(model: &mut Model, name: &str, how: Removal) -> Result<Response, String> {
    find::application(model, name)?;
    let units: Vec<String> = model
        .units_of(name)
        .iter()
        .map(|unit| unit.name.clone())
        .collect();
    let (mut detaches, mut removes) = (Vec::new(), Vec::new());
    for unit in &units {
        let (kept, gone) = storage_of(model, unit, how.destroy_storage);
        detaches.extend(kept);
        removes.extend(gone);
    }
    if let Some(application) = model.applications.get_mut(name) {
        application.life = Life::Dying;
        application.destroy_storage |= how.destroy_storage;
        application.dying_since.get_or_insert(Timestamp::now());
    }
    for relation in model.relations.values_mut() {
        if relation.own(name).is_some() {
            relation.life = Life::Dying;
        }
    }
    if how.force {
        for unit in &units {
            removal::destroy_unit(model, unit, force_after(model, how), how.destroy_storage);
        }
    }
    let name = name.to_owned();
    Ok(Response::Removing(vec![Removing {
        name,
        is_application: true,
        units,
        detaches,
        removes,
    }]))
}

fn resolved(
    model: &mut Model,
    units: &[String],
    all: bool,
    no_retry: bool,
) -> Result<Response, String> {
    let in_error = |model: &Model, name: &str| {
        let flight = model
            .units
            .get(name)
            .and_then(|unit| unit.local.flight.as_ref());
        flight.is_some_and(|flight| flight.step == Step::Pending && flight.process.is_none())
            && model
                .units
                .get(name)
                .is_some_and(|unit| unit.agent.current != "executing")
    };
    let mut wanted = units.to_vec();
    if all {
        wanted = model
            .units
            .keys()
            .filter(|name| in_error(model, name))
            .cloned()
            .collect();
    }
    for name in &wanted {
        if !model.units.contains_key(name) {
            return Err(format!("unit {name:?} not found"));
        }
        if !in_error(model, name) {
            return Err(if model.variant.is_four() {
                "unit is not in error state".to_owned()
            } else {
                format!("unit {name:?} is not in an error state")
            });
        }
    }
    for name in &wanted {
        if let Some(unit) = model.units.get_mut(name) {
            unit.resolution = Some(if no_retry {
                Resolution::Skip
            } else {
                Resolution::Retry
            });
        }
    }
    Ok(Response::Done)
}
