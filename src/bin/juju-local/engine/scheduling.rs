//! Tasks that people queue, look at and cancel.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::api::Response;
use crate::charm;

use super::find;
use super::model::{Model, application_of};
use super::{processes, tasks};

/// Replaces `<application>/leader` by the leading unit.
fn expand(model: &Model, units: &[String]) -> Result<Vec<String>, String> {
    if units.is_empty() {
        return Err("no unit specified".to_owned());
    }
    units
        .iter()
        .map(|unit| {
            if let Some(application) = unit.strip_suffix("/leader") {
                find::application(model, application)?;
                return model
                    .leader(application)
                    .map(ToOwned::to_owned)
                    .ok_or_else(|| format!("could not determine leader for {application:?}"));
            }
            if charm::names::unit(unit).is_none() {
                return Err(format!("invalid unit or action name {unit:?}"));
            }
            if model.units.contains_key(unit) {
                Ok(unit.clone())
            } else {
                Err(format!("unit {unit:?} not found"))
            }
        })
        .collect()
}

/// Queues an action on units of one application.
///
/// # Errors
///
/// When a unit or the action does not exist, or the parameters do not fit its schema.
pub fn run(
    model: &mut Model,
    units: &[String],
    action: &str,
    parameters: &serde_json::Map<String, Value>,
) -> Result<Response, String> {
    let units = expand(model, units)?;
    let applications: BTreeSet<_> = units
        .iter()
        .map(|unit| application_of(unit).to_owned())
        .collect();
    if applications.len() > 1 {
        return Err("all units must be of the same application".to_owned());
    }
    let Some(application) = applications.first() else {
        return Err("no unit specified".to_owned());
    };
    let app = find::application(model, application)?;
    let known = app.charm.actions.0.get(action).ok_or_else(|| {
        format!(
            "action {action:?} not defined on charm {:?}; see the list of actions of application {application:?}",
            app.charm.metadata.name
        )
    })?;
    let parameters = known
        .check(parameters, model.variant.is_four())
        .map_err(|error| error.to_string())?;
    Ok(schedule(model, units, action, &parameters))
}

/// Queues a shell command on units.
///
/// # Errors
///
/// When a unit or application does not exist, or none is named.
pub fn exec(
    model: &mut Model,
    units: &[String],
    applications: &[String],
    all: bool,
    command: &str,
) -> Result<Response, String> {
    let mut targets = if units.is_empty() {
        Vec::new()
    } else {
        expand(model, units)?
    };
    for application in applications {
        find::application(model, application)?;
        targets.extend(
            model
                .units_of(application)
                .iter()
                .map(|unit| unit.name.clone()),
        );
    }
    if all {
        targets.extend(model.units.keys().cloned());
    }
    let mut seen = BTreeSet::new();
    targets.retain(|unit| seen.insert(unit.clone()));
    if targets.is_empty() {
        return Err("no unit specified".to_owned());
    }
    let parameters = serde_json::Map::from_iter([("command".to_owned(), json!(command))]);
    Ok(schedule(model, targets, "juju-exec", &parameters))
}

/// Queues one task per unit.
fn schedule(
    model: &mut Model,
    units: Vec<String>,
    action: &str,
    parameters: &serde_json::Map<String, Value>,
) -> Response {
    let operation = model.take_task_number();
    let tasks = units
        .into_iter()
        .map(|unit| {
            (
                tasks::queue(model, operation, &unit, action, parameters.clone()),
                unit,
            )
        })
        .collect();
    Response::Scheduled { operation, tasks }
}

/// Reports tasks; none named: all.
///
/// # Errors
///
/// When one does not exist.
pub fn some_tasks(model: &Model, ids: &[u64]) -> Result<Vec<crate::api::TaskReport>, String> {
    if ids.is_empty() {
        return Ok(model.tasks.values().map(tasks::report).collect());
    }
    ids.iter()
        .map(|id| {
            model
                .tasks
                .get(id)
                .map(tasks::report)
                .ok_or_else(|| format!("task {id} not found"))
        })
        .collect()
}

/// Reports operations; none named: all.
///
/// # Errors
///
/// When one does not exist.
pub fn operations(model: &Model, ids: &[u64]) -> Result<Response, String> {
    let mut wanted: Vec<u64> = ids.to_vec();
    if wanted.is_empty() {
        wanted = model.tasks.values().map(|task| task.operation).collect();
        wanted.dedup();
    }
    let found = wanted
        .into_iter()
        .map(|id| tasks::operation(model, id).ok_or_else(|| format!("operation {id} not found")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Response::Operations(found))
}

/// Cancels tasks: those that wait never run, those that run are ended.
///
/// # Errors
///
/// When one does not exist.
pub fn cancel(model: &mut Model, ids: &[u64]) -> Result<Response, String> {
    for id in ids {
        let task = model
            .tasks
            .get_mut(id)
            .ok_or_else(|| format!("task {id} not found"))?;
        if task.status == "pending" {
            "cancelled".clone_into(&mut task.status);
            task.completed = Some(Timestamp::now());
        } else if task.status == "running" {
            "aborting".clone_into(&mut task.status);
            if let Some((pid, since)) = task.process
                && processes::started(pid) == Some(since)
            {
                processes::signal_group(pid, Signal::KILL);
            }
        }
    }
    some_tasks(model, ids).map(Response::Tasks)
}
