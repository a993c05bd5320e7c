//! What a person would do by hand in the context of a unit, and what its status then says.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::model::{A_UNIT, Model, Unit};

/// Sends a signal to a process that has to be there.
pub fn signal(process: i32, what: Signal) {
    let process = Pid::from_raw(process).expect("a process id");
    kill_process(process, what).expect("cannot send a signal");
}

/// Ends a process at once.
pub fn kill(process: i32) {
    signal(process, Signal::KILL);
}

/// Runs a shell text in a unit's context.
pub fn exec(model: &Model, unit: &str, text: &str) -> String {
    model.juju(&["exec", "--unit", unit, "--", text])
}

/// Runs the unit's `update-status`.
pub fn hook(model: &Model, unit: &str) {
    exec(
        model,
        unit,
        "JUJU_DISPATCH_PATH=hooks/update-status \"$JUJU_CHARM_DIR/dispatch\"",
    );
}

/// Writes into a unit's databag, or with `--app` into the application's.
pub fn relation_set(model: &Model, unit: &str, arguments: &str) {
    exec(
        model,
        unit,
        &format!("relation-set -r $(relation-ids valkey-peers) {arguments}"),
    );
}

/// Reads a databag as one unit sees it.
pub fn relation_get(model: &Model, unit: &str, whose: &str) -> Value {
    let text = exec(
        model,
        unit,
        &format!("relation-get --format json -r $(relation-ids valkey-peers) {whose}"),
    );
    let json = text
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("no databag: {text}"));
    serde_json::from_str(json).expect("a databag is JSON")
}

/// Waits until a unit is `blocked` or `waiting` with a message that holds all `words`.
pub fn says(model: &Model, unit: &str, words: &[&str]) -> Unit {
    model.wait_until(&format!("{unit} says {words:?}"), A_UNIT, || {
        let unit = model.unit(unit);
        let told = ["blocked", "waiting"].contains(&unit.workload.as_str())
            && words.iter().all(|word| unit.message.contains(word));
        if told {
            Ok(unit)
        } else {
            Err(format!("{}: {}", unit.workload, unit.message))
        }
    })
}

/// Returns the name of the leader.
pub fn leader(model: &Model) -> String {
    model
        .units()
        .into_iter()
        .find(|unit| unit.leader)
        .expect("a leader")
        .name
}

/// Returns the folder of a unit's agent.
pub fn agent(model: &Model, unit: &str) -> PathBuf {
    let tag = format!("unit-{}", unit.replace('/', "-"));
    model.state().join("agents").join(tag)
}

/// Returns the processes of all servers.
pub fn server_processes(model: &Model) -> Vec<i32> {
    model
        .units()
        .iter()
        .map(|unit| model.server_process(unit.address))
        .collect()
}
