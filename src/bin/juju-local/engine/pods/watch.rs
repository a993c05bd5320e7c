//! Looks after a pod's containers, and tells the charm of them.
//!
//! A container that has ended is started again. What Pebble tells becomes hooks: each new life of it, custom notices,
//! checks that fail and recover. What was told is kept in memory only, as Juju's agent does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{CONTAINER_RETRY, POD_POLL};

use super::super::model::{Life, Machine};
use super::super::resolver::{Hook, Kind, WorkloadFacts};
use super::super::state::Engine;
use super::pebble::{self, Notice};
use super::pod::CHARM;
use super::{Pod, life};

/// What is remembered of a pod's containers.
#[derive(Debug, Default)]
struct Memory {
    /// When the boot ids were looked at; a new agent waits a period before its first look.
    looked: Option<Instant>,
    /// When a container was started, by its name.
    started: BTreeMap<String, Instant>,
    /// Time of the last notice, by container.
    after: BTreeMap<String, String>,
}

/// Begins to look after a unit's pod, unless somebody does.
pub fn start(engine: &Arc<Engine>, name: &str) {
    if !engine.lock().watched.insert(name.to_owned()) {
        return;
    }
    let (engine, name) = (Arc::clone(engine), name.to_owned());
    std::thread::spawn(move || {
        let mut memory = Memory::default();
        while look(&engine, &name, &mut memory) {
            std::thread::sleep(POD_POLL);
        }
        engine.lock().watched.remove(&name);
    });
}

/// Looks once; tells whether there is anything to look after.
fn look(engine: &Arc<Engine>, name: &str, memory: &mut Memory) -> bool {
    let (pod, period) = {
        let state = engine.lock();
        let Some(unit) = state.model.units.get(name) else {
            return false;
        };
        if state.ending {
            return false;
        }
        let held = unit.state != Machine::Up
            || unit.cut
            || state.leaving.contains(name)
            || unit.address.is_none();
        if held || unit.life == Life::Dead {
            return true;
        }
        let period = state.model.settings.pebble_poll_seconds.clamp(0.0, 3600.0);
        (Pod::of(&engine.paths, &state.model, name), period)
    };
    let Some(pod) = pod.filter(|pod| pod.address().is_some()) else {
        return true;
    };
    keep_running(engine, name, &pod, memory);
    let period = Duration::try_from_secs_f64(period).unwrap_or_default();
    let due = memory.looked.get_or_insert_with(Instant::now).elapsed() >= period;
    if due {
        memory.looked = Some(Instant::now());
    }
    for container in pod.workloads() {
        let key = (name.to_owned(), container.clone());
        let known = engine.lock().boots.get(&key).cloned();
        if due {
            let Ok(boot) = pebble::boot_id(&pod.socket(container)) else {
                continue;
            };
            if known.is_none() {
                memory.after.remove(container);
            }
            if known.as_ref() != Some(&boot) {
                engine.lock().boots.insert(key, boot);
                tell(engine, name, hook(Kind::PebbleReady, container));
            }
        }
        let after = memory.after.entry(container.clone()).or_default();
        for notice in pebble::notices(&pod.socket(container), after).unwrap_or_default() {
            after.clone_from(&notice.last_repeated);
            if let Some(hook) = meaning(&pod, container, &notice) {
                tell(engine, name, hook);
            }
        }
    }
    true
}

/// Starts containers that have ended.
fn keep_running(engine: &Arc<Engine>, name: &str, pod: &Pod, memory: &mut Memory) {
    let all = pod.workloads().map(String::as_str).chain([CHARM]);
    for container in all {
        if pod.first(container).is_some() {
            continue;
        }
        let recent = memory.started.get(container);
        if recent.is_some_and(|at| at.elapsed() < CONTAINER_RETRY) {
            continue;
        }
        memory.started.insert(container.to_owned(), Instant::now());
        if let Err(error) = pod.start(&engine.program, container) {
            // The pod may be going at this moment; if not, the next look tries again.
            let text = format!("{error:#}");
            engine.log.write(name, "WARNING", "juju.provisioner", &text);
        } else if container == CHARM {
            let _ = life::restart_agent(engine, name);
        }
    }
}

/// Makes a hook about a container.
fn hook(kind: Kind, container: &str) -> Hook {
    Hook {
        workload: Some(WorkloadFacts {
            container: container.to_owned(),
            ..WorkloadFacts::default()
        }),
        ..Hook::plain(kind)
    }
}

/// Returns the hook that a notice means, if any.
fn meaning(pod: &Pod, container: &str, notice: &Notice) -> Option<Hook> {
    if notice.kind == "custom" {
        let mut told = hook(Kind::PebbleCustomNotice, container);
        if let Some(facts) = &mut told.workload {
            facts.notice = Some((notice.id.clone(), notice.kind.clone(), notice.key.clone()));
        }
        return Some(told);
    }
    let text = |key: &str| notice.last_data.get(key).and_then(|value| value.as_str());
    if !matches!(text("kind")?, "perform-check" | "recover-check") {
        return None;
    }
    let change = pebble::change(&pod.socket(container), &notice.key).ok()?;
    let kind = match (change.kind.as_str(), change.status.as_str()) {
        ("perform-check", "Error") => Kind::PebbleCheckFailed,
        ("recover-check", "Done") => Kind::PebbleCheckRecovered,
        _ => return None,
    };
    let mut told = hook(kind, container);
    if let Some(facts) = &mut told.workload {
        facts.check = Some(text("check-name")?.to_owned());
    }
    Some(told)
}

/// Queues a hook, unless the same one waits already.
fn tell(engine: &Engine, name: &str, hook: Hook) {
    let mut state = engine.lock();
    let queue = state.workload.entry(name.to_owned()).or_default();
    if !queue.contains(&hook) {
        queue.push_back(hook);
    }
    engine.wake();
}
