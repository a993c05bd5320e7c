//! Pods that come, go, and come again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::limits::{POD_POLL, POD_READY_TIMEOUT};

use super::super::model::{Life, Machine, Model};
use super::super::network::next_free;
use super::super::resolver::{Flight, Hook, Kind, Step};
use super::super::state::{Engine, State};
use super::super::{agent, hooks, processes, tasks};
use super::{Pod, cluster_up, pebble, watch};

/// Returns a unit's pod.
fn pod_of(engine: &Engine, name: &str) -> Result<Pod> {
    let state = engine.lock();
    Pod::of(&engine.paths, &state.model, name).with_context(|| format!("unit {name:?} not found"))
}

/// Takes the next address of the pods' network, none that a pod has now.
fn take_address(model: &mut Model) -> Result<Ipv4Addr> {
    let mut next = model.next_pod;
    let used = |host| {
        let address = Some(model.pod_address(host));
        model.units.values().any(|unit| unit.address == address)
    };
    let host = next_free(&mut next, used)
        .context("cannot find a free address for a pod; the model's network is full")?;
    model.next_pod = next;
    Ok(model.pod_address(host))
}

/// Makes a unit's pod, or finds it; returns its address.
///
/// # Errors
///
/// When it cannot be made.
pub fn come_up(engine: &Arc<Engine>, name: &str) -> Result<Ipv4Addr> {
    cluster_up(engine)?;
    watch::start(engine, name);
    let pod = pod_of(engine, name)?;
    if let Some(address) = pod.address() {
        return Ok(address);
    }
    let began = {
        let state = engine.lock();
        let unit = state.model.units.get(name);
        unit.is_some_and(|unit| unit.local.installed || unit.address.is_some())
    };
    // The pod went while no engine ran.
    if began {
        renew(engine, name)
    } else {
        make(engine, name)
    }
}

/// Makes a pod under another address than before.
fn make(engine: &Arc<Engine>, name: &str) -> Result<Ipv4Addr> {
    cluster_up(engine)?;
    let (pod, address) = {
        let mut state = engine.lock();
        let address = take_address(&mut state.model)?;
        engine.save(&state);
        let pod = Pod::of(&engine.paths, &state.model, name);
        (
            pod.with_context(|| format!("unit {name:?} not found"))?,
            address,
        )
    };
    pod.make(&engine.program, address)?;
    let mut state = engine.lock();
    state.set_address(name, address);
    engine.save(&state);
    Ok(address)
}

/// Brings a unit's pod back after it was ended: with another address, and the charm deployed anew.
///
/// # Errors
///
/// When the pod cannot be made, or the charm not be put in place.
pub fn renew(engine: &Arc<Engine>, name: &str) -> Result<Ipv4Addr> {
    {
        let mut state = engine.lock();
        hooks::found_running(engine, &mut state, name);
        tasks::interrupt(&mut state.model, name);
        forget(&mut state, name);
        engine.save(&state);
    }
    let address = make(engine, name)?;
    agent::place_anew(engine, name)?;
    let mut state = engine.lock();
    state.leaving.remove(name);
    if let Some(unit) = state.model.units.get_mut(name) {
        unit.state = Machine::Up;
        unit.cut = false;
        unit.local.rebooted = unit.local.started;
        if unit.local.installed && unit.local.flight.is_none() {
            // What was in progress goes first; only then nothing tells of the new charm directory.
            unit.local.flight = Some(Flight {
                hook: Hook::plain(Kind::UpgradeCharm),
                step: Step::Queued,
                process: None,
            });
        }
    }
    engine.save(&state);
    Ok(address)
}

/// Forgets what a unit's agent keeps in memory only.
fn forget(state: &mut State, name: &str) {
    state.caches.remove(name);
    state.workload.remove(name);
    state.boots.retain(|(unit, _), _| unit != name);
}

/// Ends pods and brings them back, all at the same time.
///
/// With `grace` as a cluster does it: SIGTERM to all containers while the charm runs `stop`, and the end when all is
/// done or the time is over. Without: at once.
///
/// # Errors
///
/// When a unit is missing or a pod cannot be ended or made; the text names all.
pub fn evict(engine: &Arc<Engine>, names: &[String], grace: bool) -> Result<(), String> {
    for name in names {
        pod_of(engine, name).map_err(|error| format!("{error:#}"))?;
    }
    let threads: Vec<_> = names
        .iter()
        .map(|name| {
            let (engine, name) = (Arc::clone(engine), name.clone());
            std::thread::spawn(move || evict_one(&engine, &name, grace))
        })
        .collect();
    let failed: Vec<String> = threads
        .into_iter()
        .zip(names)
        .filter_map(|(thread, name)| match thread.join() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("cannot bring the pod of {name} back: {error:#}")),
            Err(_) => Some(format!("cannot bring the pod of {name} back")),
        })
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

fn evict_one(engine: &Arc<Engine>, name: &str, grace: bool) -> Result<()> {
    let pod = pod_of(engine, name)?;
    if grace {
        let until = {
            let mut state = engine.lock();
            let grace = state.model.settings.grace_seconds;
            state.leaving.insert(name.to_owned());
            engine.wake();
            deadline(grace)
        };
        ask_to_end(&pod);
        wait_for_stop(engine, name, until);
        wait_for_end(&pod, until);
    }
    {
        let mut state = engine.lock();
        if let Some(unit) = state.model.units.get_mut(name) {
            unit.state = Machine::Down;
            unit.boot += 1;
            // Nobody finds it until it is there again.
            unit.address = None;
        }
        engine.save(&state);
    }
    pod.end()?;
    renew(engine, name).map(drop)
}

/// Returns the moment some seconds from now.
fn deadline(seconds: f64) -> Instant {
    let wait = Duration::try_from_secs_f64(seconds.clamp(0.0, 3600.0)).unwrap_or_default();
    Instant::now() + wait
}

/// Sends SIGTERM to the first processes of the containers beside the charm's.
fn ask_to_end(pod: &Pod) {
    for container in pod.workloads() {
        if let Some(first) = pod.first(container) {
            processes::signal(first, Signal::TERM);
        }
    }
}

/// Waits until the containers beside the charm's have ended.
fn wait_for_end(pod: &Pod, until: Instant) {
    while Instant::now() < until && pod.workloads().any(|one| pod.first(one).is_some()) {
        std::thread::sleep(POD_POLL);
    }
}

/// Waits until a unit's agent has done what it does before its pod ends.
fn wait_for_stop(engine: &Engine, name: &str, until: Instant) {
    while Instant::now() < until {
        let state = engine.lock();
        let Some(unit) = state.model.units.get(name) else {
            return;
        };
        let runs = unit.agent.current == "executing";
        let stopped = unit.local.stopped || !unit.local.started || unit.local.flight.is_some();
        if !runs && stopped && unit.life == Life::Alive {
            return;
        }
        drop(state);
        std::thread::sleep(POD_POLL);
    }
}

/// Ends a pod that does not come back: first gently, then at once.
///
/// # Errors
///
/// When processes would not end.
pub fn terminate(pod: &Pod, grace_seconds: f64) -> Result<()> {
    ask_to_end(pod);
    wait_for_end(pod, deadline(grace_seconds));
    pod.end()
}

/// Ends a container at once; it is started again as after a crash.
///
/// # Errors
///
/// When there is no such container, or it does not run.
pub fn restart_container(engine: &Arc<Engine>, name: &str, container: &str) -> Result<(), String> {
    let pod = pod_of(engine, name).map_err(|error| format!("{error:#}"))?;
    let first = pod
        .first(container)
        .ok_or_else(|| format!("container {container:?} of {name} does not run"))?;
    processes::signal(first, Signal::KILL);
    let until = deadline(crate::limits::POD_END_TIMEOUT.as_secs_f64());
    while pod.first(container) == Some(first) {
        if Instant::now() > until {
            return Err(format!("cannot end container {container:?} of {name}"));
        }
        std::thread::sleep(crate::limits::COMMAND_POLL);
    }
    Ok(())
}

/// Starts a unit's agent anew: what it kept in memory is gone, and `start` runs again.
///
/// # Errors
///
/// When there is no such unit.
pub fn restart_agent(engine: &Arc<Engine>, name: &str) -> Result<(), String> {
    let mut state = engine.lock();
    if !state.model.units.contains_key(name) {
        return Err(format!("unit {name:?} not found"));
    }
    hooks::found_running(engine, &mut state, name);
    tasks::interrupt(&mut state.model, name);
    forget(&mut state, name);
    if let Some(unit) = state.model.units.get_mut(name) {
        unit.boot += 1;
        unit.local.rebooted = unit.local.started;
    }
    engine.save(&state);
    Ok(())
}

/// Rolls on what an engine that ended had begun.
pub fn roll_all(engine: &Arc<Engine>) {
    let names: Vec<String> = {
        let state = engine.lock();
        if !state.model.settings.has_pods() {
            return;
        }
        state.model.applications.keys().cloned().collect()
    };
    for name in names {
        roll(engine, &name);
    }
}

/// Replaces the pods of an application that have another revision of the charm: highest number first, the next one when
/// the one before is ready.
pub fn roll(engine: &Arc<Engine>, application: &str) {
    let (engine, application) = (Arc::clone(engine), application.to_owned());
    std::thread::spawn(move || {
        while let Some(name) = next_old(&engine, &application) {
            let told = evict(&engine, std::slice::from_ref(&name), true)
                .and_then(|()| ready(&engine, &name).map_err(|error| format!("{error:#}")));
            if let Err(text) = told {
                engine.log.write(&name, "ERROR", "juju.provisioner", &text);
                return;
            }
        }
    });
}

/// Returns the unit of highest number whose pod has another revision of the charm.
fn next_old(engine: &Engine, application: &str) -> Option<String> {
    let state = engine.lock();
    if state.ending {
        return None;
    }
    let revision = state.model.applications.get(application)?.revision;
    let old = state
        .model
        .units_of(application)
        .into_iter()
        .rev()
        .find(|unit| {
            unit.life == Life::Alive
                && unit.address.is_some()
                && unit.local.charm_revision != revision
        });
    old.map(|unit| unit.name.clone())
}

/// Waits until a pod is ready in the cluster's sense: its agent lives, and no container's checks say otherwise.
fn ready(engine: &Engine, name: &str) -> Result<()> {
    let until = Instant::now() + POD_READY_TIMEOUT;
    let mut unready = BTreeMap::new();
    while Instant::now() < until {
        {
            let state = engine.lock();
            if state.ending || !state.model.units.contains_key(name) {
                return Ok(());
            }
        }
        let pod = pod_of(engine, name)?;
        unready = pod
            .workloads()
            .filter_map(|one| match pebble::healthy(&pod.socket(one)) {
                Ok(true) => None,
                Ok(false) => Some((one.clone(), "its checks fail".to_owned())),
                Err(error) => Some((one.clone(), format!("{error:#}"))),
            })
            .collect();
        if unready.is_empty() {
            return Ok(());
        }
        std::thread::sleep(POD_POLL);
    }
    bail!("cannot go on with the refresh: the pod of {name} does not get ready ({unready:?})")
}
