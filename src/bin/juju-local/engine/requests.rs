//! What the command line asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::api::{ConfigReport, OptionReport, Removal, Removing, Request, Response};
use crate::charm;

use super::commit::add_storage;
use super::deploy;
use super::model::{Application, Attachment, Endpoint, Life, Model, Relation, application_of};
use super::resolver::{Resolution, Step};
use super::state::{Engine, State};
use super::{handles, person, processes, removal, status, tasks};

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
            let app = find(&state.model, &application)?;
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

/// Finds an application.
///
/// # Errors
///
/// When there is none of that name.
pub fn find<'a>(model: &'a Model, name: &str) -> Result<&'a Application, String> {
    model
        .applications
        .get(name)
        .ok_or_else(|| format!("application {name:?} not found"))
}

/// Makes the directories of all attached storage.
fn make_storage(engine: &Engine, model: &Model) -> Result<(), String> {
    for storage in model
        .storage
        .values()
        .filter(|storage| storage.attachment.is_some())
    {
        let path = engine.paths.storage(storage);
        std::fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    }
    Ok(())
}

fn get_config(model: &Model, name: &str) -> Result<Response, String> {
    let app = find(model, name)?;
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
    let app = find(model, name)?;
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
    find(model, name)?;
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

/// Replaces `<application>/leader` by the leading unit.
fn expand(model: &Model, units: &[String]) -> Result<Vec<String>, String> {
    if units.is_empty() {
        return Err("no unit specified".to_owned());
    }
    units
        .iter()
        .map(|unit| {
            if let Some(application) = unit.strip_suffix("/leader") {
                find(model, application)?;
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

fn run(
    model: &mut Model,
    units: &[String],
    action: &str,
    parameters: &serde_json::Map<String, Value>,
) -> Result<Response, String> {
    let units = expand(model, units)?;
    let applications: std::collections::BTreeSet<_> = units
        .iter()
        .map(|unit| application_of(unit).to_owned())
        .collect();
    if applications.len() > 1 {
        return Err("all units must be of the same application".to_owned());
    }
    let Some(application) = applications.first() else {
        return Err("no unit specified".to_owned());
    };
    let app = find(model, application)?;
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

fn exec(
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
        find(model, application)?;
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
    let mut seen = std::collections::BTreeSet::new();
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

fn some_tasks(model: &Model, ids: &[u64]) -> Result<Vec<crate::api::TaskReport>, String> {
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

fn operations(model: &Model, ids: &[u64]) -> Result<Response, String> {
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

fn cancel(model: &mut Model, ids: &[u64]) -> Result<Response, String> {
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

/// An endpoint that a person may mean.
struct Candidate {
    application: String,
    name: String,
    interface: String,
    role: charm::Role,
    limit: Option<u64>,
}

/// Returns the endpoints that `application[:endpoint]` may mean; peers are none.
fn candidates(model: &Model, text: &str) -> Result<Vec<Candidate>, String> {
    let (application, endpoint) = match text.split_once(':') {
        Some((application, endpoint)) => (application, Some(endpoint)),
        None => (text, None),
    };
    let app = find(model, application)?;
    let mut found: Vec<Candidate> = app
        .charm
        .metadata
        .endpoints
        .iter()
        .filter(|(name, end)| {
            end.role != charm::Role::Peer && endpoint.is_none_or(|wanted| wanted == name.as_str())
        })
        .map(|(name, end)| Candidate {
            application: application.to_owned(),
            name: name.clone(),
            interface: end.interface.clone(),
            role: end.role,
            limit: end.limit,
        })
        .collect();
    if endpoint.is_none_or(|wanted| wanted == "juju-info") {
        found.push(Candidate {
            application: application.to_owned(),
            name: "juju-info".to_owned(),
            interface: "juju-info".to_owned(),
            role: charm::Role::Provider,
            limit: None,
        });
    }
    match (found.is_empty(), endpoint) {
        (true, Some(endpoint)) => Err(format!(
            "application {application:?} has no {endpoint:?} relation"
        )),
        _ => Ok(found),
    }
}

fn integrate(model: &mut Model, ends: &[String; 2]) -> Result<Response, String> {
    let [one, other] = [candidates(model, &ends[0])?, candidates(model, &ends[1])?];
    let mut pairs = Vec::new();
    for left in &one {
        for right in &other {
            let fits = left.interface == right.interface && left.role != right.role;
            if fits && left.application != right.application {
                let left_first = left.role == charm::Role::Provider;
                pairs.push(if left_first {
                    (left, right)
                } else {
                    (right, left)
                });
            }
        }
    }
    let explicit: Vec<_> = pairs
        .iter()
        .filter(|(provider, _)| provider.name != "juju-info")
        .collect();
    let (provider, requirer) = match (explicit.as_slice(), pairs.as_slice()) {
        ([only], _) => **only,
        ([], [only]) => *only,
        ([], []) => return Err("no relations found".to_owned()),
        (several, all) => {
            let several: Vec<_> = if several.is_empty() {
                all.iter().collect()
            } else {
                several.to_vec()
            };
            let shown: Vec<_> = several
                .iter()
                .map(|(p, r)| {
                    format!(
                        "\"{}:{} {}:{}\"",
                        p.application, p.name, r.application, r.name
                    )
                })
                .collect();
            return Err(format!(
                "ambiguous relation: {:?} could refer to {}",
                ends.join(" "),
                shown.join("; ")
            ));
        }
    };
    for end in [provider, requirer] {
        let present = model.relations.values().filter(|relation| {
            relation
                .own(&end.application)
                .is_some_and(|own| own.name == end.name)
        });
        let present = u64::try_from(present.count()).unwrap_or(u64::MAX);
        if end.limit.is_some_and(|limit| present >= limit) {
            let tail = if model.variant.is_four() {
                ""
            } else {
                " (quota limit exceeded)"
            };
            return Err(format!(
                "establishing a new relation for {}:{} would exceed its maximum relation limit of {}{tail}",
                end.application,
                end.name,
                end.limit.unwrap_or_default()
            ));
        }
    }
    let end = |candidate: &Candidate| Endpoint {
        application: candidate.application.clone(),
        name: candidate.name.clone(),
        interface: candidate.interface.clone(),
    };
    let endpoints = vec![end(provider), end(requirer)];
    if model
        .relations
        .values()
        .any(|relation| relation.endpoints == endpoints)
    {
        return Err(format!(
            "cannot add relation \"{}:{} {}:{}\": relation already exists",
            provider.application, provider.name, requirer.application, requirer.name
        ));
    }
    add_relation(model, endpoints);
    Ok(Response::Done)
}

/// Adds a relation.
pub fn add_relation(model: &mut Model, endpoints: Vec<Endpoint>) {
    let id = model.next_relation;
    model.next_relation += 1;
    let relation = Relation {
        id,
        endpoints,
        life: Life::Alive,
        scope: std::collections::BTreeSet::new(),
        units: BTreeMap::new(),
        applications: BTreeMap::new(),
    };
    model.relations.insert(id, relation);
}

fn remove_relation(model: &mut Model, ends: &[String; 2]) -> Result<Response, String> {
    for end in ends {
        candidates(model, end)?;
    }
    let means = |relation: &Relation, text: &str| {
        let (application, endpoint) = text.split_once(':').unwrap_or((text, ""));
        let own = relation.own(application);
        own.is_some_and(|own| endpoint.is_empty() || own.name == endpoint)
    };
    let found: Vec<u64> = model
        .relations
        .values()
        .filter(|relation| !relation.is_peer() && ends.iter().all(|end| means(relation, end)))
        .map(|relation| relation.id)
        .collect();
    let [id] = found.as_slice() else {
        let shown = ends.join(" ");
        return Err(if found.is_empty() {
            format!("relation {shown:?} not found")
        } else {
            format!("{shown:?} could refer to several relations; name the endpoints")
        });
    };
    if let Some(relation) = model.relations.get_mut(id) {
        relation.life = Life::Dying;
    }
    Ok(Response::Done)
}

/// Attaches detached storage to a unit.
///
/// # Errors
///
/// When an instance does not exist, is in use, or does not fit the charm.
pub fn attach(model: &mut Model, unit: &str, ids: &[String]) -> Result<(), String> {
    let (found, app) = model
        .unit(unit)
        .ok_or_else(|| format!("unit {unit:?} not found"))?;
    if found.life != Life::Alive {
        return Err(format!(
            "cannot attach storage to unit {unit:?}: it is being removed"
        ));
    }
    for id in ids {
        let storage = model
            .storage
            .get(id)
            .ok_or_else(|| format!("storage {id:?} not found"))?;
        if let Some(attachment) = &storage.attachment {
            return Err(format!(
                "cannot attach storage {id:?} to {unit:?}: it is attached to {:?}",
                attachment.unit
            ));
        }
        let spec = app.charm.metadata.storage.get(&storage.name);
        let Some(spec) = spec else {
            return Err(format!(
                "charm {:?} has no store called {:?}",
                app.charm.metadata.name, storage.name
            ));
        };
        let present = model.storage.values().filter(|other| {
            other.name == storage.name
                && other.attachment.as_ref().is_some_and(|at| at.unit == unit)
        });
        let present = u32::try_from(present.count()).unwrap_or(u32::MAX);
        if spec.count_max.is_some_and(|most| present >= most) {
            return Err(format!(
                "cannot attach storage {id:?} to {unit:?}: it has as many {:?} as its charm takes",
                storage.name
            ));
        }
    }
    for id in ids {
        if let Some(storage) = model.storage.get_mut(id) {
            storage.attachment = Some(Attachment {
                unit: unit.to_owned(),
                life: Life::Alive,
            });
            storage.since = Timestamp::now();
        }
    }
    Ok(())
}

fn detach(model: &mut Model, ids: &[String]) -> Result<Response, String> {
    for id in ids {
        let storage = model
            .storage
            .get(id)
            .ok_or_else(|| format!("storage {id:?} not found"))?;
        if storage.attachment.is_none() {
            return Err(format!("storage {id:?} is not attached"));
        }
    }
    for id in ids {
        if let Some(at) = model
            .storage
            .get_mut(id)
            .and_then(|storage| storage.attachment.as_mut())
        {
            at.life = Life::Dying;
        }
    }
    Ok(Response::Done)
}

fn remove_storage(
    engine: &Engine,
    state: &mut State,
    ids: &[String],
    force: bool,
) -> Result<Response, String> {
    for id in ids {
        let storage = state.model.storage.get(id);
        let storage = storage.ok_or_else(|| format!("storage {id:?} not found"))?;
        if storage.attachment.is_some() && !force {
            return Err(format!(
                "storage {id:?} is attached; detach it first or use --force"
            ));
        }
    }
    for id in ids {
        match state.model.storage.get_mut(id) {
            Some(storage) if storage.attachment.is_some() => {
                storage.life = Life::Dying;
                if let Some(attachment) = storage.attachment.as_mut() {
                    attachment.life = Life::Dying;
                }
            }
            _ => removal::delete_storage(engine, state, id),
        }
    }
    Ok(Response::Done)
}

/// Copies a resource's file into the engine's keeping.
///
/// # Errors
///
/// When the charm has no such resource, or the file cannot be copied.
pub fn keep_resources(
    engine: &Engine,
    application: &str,
    charm: &charm::Charm,
    given: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, PathBuf>, String> {
    let folder = engine.paths.resources(application);
    let mut kept = BTreeMap::new();
    for (name, from) in given {
        if !charm.metadata.resources.contains_key(name) {
            return Err(format!("unrecognized resource {name:?}"));
        }
        let to = folder.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(from, &to))
            .map_err(|error| format!("cannot copy resource {}: {error}", from.display()))?;
        kept.insert(name.clone(), to);
    }
    Ok(kept)
}
