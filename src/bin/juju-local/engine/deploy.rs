//! Deploying, growing and refreshing applications.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::{Deploy, Response};
use crate::charm::{self, Charm};
use crate::limits::{STORAGE_INSTANCES_MAX, UNITS_MAX};

use super::commit::add_storage;
use super::find;
use super::model::{Application, Endpoint, Life, Machine, Map, Model, Status, Unit};
use super::network;
use super::relations::add_relation;
use super::resolver::{Flight, Hook, Kind, Local, Step};
use super::state::Engine;
use super::storage::attach;

/// Deploys an application.
///
/// # Errors
///
/// With a text for a person.
pub fn deploy(engine: &Arc<Engine>, wanted: &Deploy) -> Result<Response, String> {
    if wanted.units > UNITS_MAX {
        return Err(format!(
            "cannot deploy {} units; at most {UNITS_MAX} at once",
            wanted.units
        ));
    }
    if !wanted.attach_storage.is_empty() && wanted.units != 1 {
        return Err("cannot attach storage to more than one unit; deploy one".to_owned());
    }
    // The files are looked at before the name is known to be free, and outside of the lock: this takes time.
    let staging = engine
        .paths
        .root
        .join("charms")
        .join(format!("staging-{}", super::state::random_hex(8)));
    let result =
        stage(&staging, &wanted.path).and_then(|charm| adopt(engine, wanted, charm, &staging));
    let _ = std::fs::remove_dir_all(&staging);
    result
}

/// Unpacks a charm and reads it.
fn stage(staging: &Path, path: &Path) -> Result<Charm, String> {
    charm::unpack(path, staging).map_err(|error| chain(&error))?;
    Charm::read(staging).map_err(|error| chain(&error))
}

/// Writes an error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Makes the application of a staged charm.
fn adopt(
    engine: &Arc<Engine>,
    wanted: &Deploy,
    charm: Charm,
    staging: &Path,
) -> Result<Response, String> {
    let name = wanted
        .name
        .clone()
        .unwrap_or_else(|| charm.metadata.name.clone());
    charm::names::check_application(&name).map_err(|error| error.to_string())?;
    if charm.metadata.subordinate {
        return Err("cannot deploy subordinate charms here; deploy the principal alone".to_owned());
    }
    let (config, trust) = initial_config(&charm, wanted)?;
    let storage_counts = storage_counts(&charm, &wanted.storage)?;
    for variable in wanted.env.keys() {
        if variable.is_empty() || variable.contains('=') || variable.starts_with("JUJU_") {
            return Err(format!(
                "cannot set environment variable {variable:?} for hooks"
            ));
        }
    }
    let mut state = engine.lock();
    if state.model.applications.contains_key(&name) {
        return Err(format!("application {name:?} already exists"));
    }
    let resources = keep_resources(engine, &name, &charm, &wanted.resources)?;
    let place = engine.paths.charm(&name, 0);
    let _ = std::fs::remove_dir_all(&place);
    std::fs::rename(staging, &place).map_err(|error| format!("cannot store the charm: {error}"))?;
    let response = deployed(&name, &charm, 0);
    let peers: Vec<Endpoint> = charm
        .metadata
        .endpoints
        .iter()
        .filter(|(_, end)| end.role == charm::Role::Peer)
        .map(|(end, facts)| Endpoint {
            application: name.clone(),
            name: end.clone(),
            interface: facts.interface.clone(),
        })
        .collect();
    let application = Application {
        charm,
        revision: 0,
        life: Life::Alive,
        dying_since: None,
        destroy_storage: false,
        config,
        env: wanted.env.clone(),
        storage_counts,
        resources,
        trust,
        next_unit: 0,
        hosts: BTreeSet::new(),
        lease: None,
        status: None,
        version: String::new(),
        created: Timestamp::now(),
        force_units: false,
        service_host: super::pods::free_service(&state.model),
    };
    let mut next = state.model.clone();
    next.applications.insert(name.clone(), application);
    for peer in peers {
        add_relation(&mut next, vec![peer]);
    }
    if wanted.units > 0 {
        add_units(&mut next, &name, wanted.units, &wanted.attach_storage)?;
    }
    state.model = next;
    engine.save(&state);
    Ok(response)
}

/// Checks the options that are given at the deployment.
fn initial_config(
    charm: &Charm,
    wanted: &Deploy,
) -> Result<(serde_json::Map<String, serde_json::Value>, bool), String> {
    let mut config = serde_json::Map::new();
    let mut trust = wanted.trust;
    for (option, text) in &wanted.config {
        if option == "trust" {
            trust = text == "true";
            continue;
        }
        let value = charm
            .config
            .parse_text(option, text)
            .map_err(|error| error.to_string())?;
        config.insert(option.clone(), value);
    }
    Ok((config, trust))
}

/// Returns how many instances of each storage a unit gets.
fn storage_counts(charm: &Charm, given: &Map) -> Result<BTreeMap<String, u32>, String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for (name, spec) in &charm.metadata.storage {
        counts.insert(name.clone(), spec.count_min);
    }
    for (name, text) in given {
        let Some(spec) = charm.metadata.storage.get(name) else {
            return Err(format!(
                "charm {:?} has no store called {name:?}",
                charm.metadata.name
            ));
        };
        let directive = charm::StorageDirective::parse(text).map_err(|error| error.to_string())?;
        let count = directive.count.unwrap_or(spec.count_min.max(1));
        if count > STORAGE_INSTANCES_MAX {
            return Err(format!(
                "cannot take {count} instances of store {name:?}; {STORAGE_INSTANCES_MAX} at most"
            ));
        }
        if count < spec.count_min || spec.count_max.is_some_and(|most| count > most) {
            return Err(format!(
                "charm {:?} store {name:?}: {count} instances are not within its range",
                charm.metadata.name
            ));
        }
        counts.insert(name.clone(), count);
    }
    Ok(counts)
}

/// Says what was deployed.
fn deployed(application: &str, charm: &Charm, revision: u32) -> Response {
    let base = charm.manifest.base();
    let channel = if base.channel.contains('/') {
        base.channel
    } else {
        format!("{}/stable", base.channel)
    };
    Response::Deployed {
        application: application.to_owned(),
        charm: charm.metadata.name.clone(),
        revision,
        base: format!("{}@{channel}", base.name),
    }
}

/// Adds units to an application; returns their names.
///
/// # Errors
///
/// When the application goes away, or storage cannot be attached.
pub fn add_units(
    model: &mut Model,
    application: &str,
    count: u32,
    storage: &[String],
) -> Result<Vec<String>, String> {
    let app = find::application(model, application)?;
    if app.life != Life::Alive {
        return Err(format!(
            "cannot add unit to {application:?}: application is being removed"
        ));
    }
    if count == 0 || count > UNITS_MAX {
        return Err(format!(
            "cannot add {count} units; between 1 and {UNITS_MAX} at once"
        ));
    }
    if !storage.is_empty() && count != 1 {
        return Err("cannot attach storage to more than one unit; add one".to_owned());
    }
    let mut next = model.clone();
    let names = (0..count)
        .map(|_| add_unit(&mut next, application, storage))
        .collect::<Result<Vec<_>, _>>()?;
    *model = next;
    Ok(names)
}

fn add_unit(model: &mut Model, application: &str, storage: &[String]) -> Result<String, String> {
    let ordinal = super::pods::next_ordinal(model, application)?;
    let host = network::next_host(model, application).map_err(|error| format!("{error:#}"))?;
    let machine = model.next_machine;
    model.next_machine += 1;
    let Some(app) = model.applications.get_mut(application) else {
        return Err(format!("application {application:?} not found"));
    };
    let number = ordinal.unwrap_or(app.next_unit);
    app.next_unit = app.next_unit.max(number + 1);
    app.hosts.insert(host);
    let revision = app.revision;
    let counts = app.storage_counts.clone();
    let name = format!("{application}/{number}");
    // The hook `install` waits in the queue from the beginning; only storage goes before it.
    let install = Flight {
        hook: Hook::plain(Kind::Install),
        step: Step::Queued,
        process: None,
    };
    let unit = Unit {
        name: name.clone(),
        application: application.to_owned(),
        number,
        machine,
        host,
        address: None,
        life: Life::Alive,
        dead_since: None,
        force_at: None,
        destroy_storage: false,
        state: Machine::Up,
        boot: 0,
        cut: false,
        left_storage: BTreeSet::new(),
        workload: Status::now(
            "waiting",
            if model.settings.has_pods() {
                "installing agent"
            } else {
                "waiting for machine"
            },
        ),
        workload_set: false,
        agent: Status::now("allocating", ""),
        ports: BTreeSet::new(),
        charm_state: Map::new(),
        local: Local {
            flight: Some(install),
            charm_revision: revision,
            ..Local::default()
        },
        resolution: None,
    };
    model.units.insert(name.clone(), unit);
    attach(model, &name, storage)?;
    super::pods::reuse_storage(model, &name);
    for (store, count) in counts {
        let given = model.storage.values().filter(|one| {
            one.name == store && one.attachment.as_ref().is_some_and(|at| at.unit == name)
        });
        let given = u32::try_from(given.count()).unwrap_or(u32::MAX);
        if count > given {
            add_storage(model, &name, &store, count - given)?;
        }
    }
    Ok(name)
}

/// Puts other charm files in place.
///
/// # Errors
///
/// With a text for a person.
pub fn refresh(
    engine: &Arc<Engine>,
    name: &str,
    path: &Path,
    force_units: bool,
    resources: &BTreeMap<String, PathBuf>,
) -> Result<Response, String> {
    find::application(&engine.lock().model, name)?;
    let staging = engine
        .paths
        .root
        .join("charms")
        .join(format!("staging-{}", super::state::random_hex(8)));
    let result = stage(&staging, path).and_then(|charm| {
        let mut state = engine.lock();
        let app = find::application(&state.model, name)?;
        if app.charm.metadata.name != charm.metadata.name {
            return Err(format!(
                "cannot upgrade {name:?} to charm {:?}: it runs {:?}",
                charm.metadata.name, app.charm.metadata.name
            ));
        }
        let revision = app.revision + 1;
        let mut config = app.config.clone();
        config.retain(|option, _| charm.config.options.contains_key(option));
        let mut kept = app.resources.clone();
        kept.extend(keep_resources(engine, name, &charm, resources)?);
        let new_peers: Vec<Endpoint> = charm
            .metadata
            .endpoints
            .iter()
            .filter(|(_, end)| end.role == charm::Role::Peer)
            .filter(|(end, _)| {
                !state.model.relations.values().any(|relation| {
                    relation.is_peer() && relation.own(name).is_some_and(|own| own.name == **end)
                })
            })
            .map(|(end, facts)| Endpoint {
                application: name.to_owned(),
                name: end.clone(),
                interface: facts.interface.clone(),
            })
            .collect();
        let place = engine.paths.charm(name, revision);
        let _ = std::fs::remove_dir_all(&place);
        std::fs::rename(&staging, &place)
            .map_err(|error| format!("cannot store the charm: {error}"))?;
        let response = deployed(name, &charm, revision);
        if let Some(app) = state.model.applications.get_mut(name) {
            app.charm = charm;
            app.revision = revision;
            app.config = config;
            app.resources = kept;
            app.force_units = force_units;
        }
        let rolls = state.model.settings.has_pods();
        for peer in new_peers {
            add_relation(&mut state.model, vec![peer]);
        }
        engine.save(&state);
        drop(state);
        if rolls {
            super::pods::roll(engine, name);
        }
        Ok(response)
    });
    let _ = std::fs::remove_dir_all(&staging);
    result
}

/// Copies a resource's file into the engine's keeping.
///
/// # Errors
///
/// When the charm has no such resource, or the file cannot be copied.
fn keep_resources(
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
        // This machine stands in for every image.
        if charm
            .metadata
            .resources
            .get(name)
            .is_some_and(|one| one.kind == "oci-image")
        {
            continue;
        }
        let to = folder.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(from, &to))
            .map_err(|error| format!("cannot copy resource {}: {error}", from.display()))?;
        kept.insert(name.clone(), to);
    }
    Ok(kept)
}
