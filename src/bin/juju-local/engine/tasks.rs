//! Tasks: actions and commands that people queue.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{OperationReport, TaskReport};
use crate::limits::TASKS_MAX;

use super::commit;
use super::context::Context;
use super::model::{Model, Task, tag};
use super::run::Ended;
use super::state::{Engine, State};

/// Ends a task with what its process left behind.
pub fn end(
    engine: &Engine,
    state: &mut State,
    id: u64,
    context: Option<Context>,
    ended: Result<Option<Ended>>,
    command: bool,
) {
    let mut results = context
        .as_ref()
        .map(|c| c.results.clone())
        .unwrap_or_default();
    let (mut status, mut message) = ("completed", String::new());
    let mut aborted = false;
    match ended {
        Err(error) => {
            (status, message) = ("failed", format!("{error:#}"));
        }
        Ok(None) => {
            let unit = state
                .model
                .tasks
                .get(&id)
                .map(|task| task.unit.clone())
                .unwrap_or_default();
            (status, message) = ("failed", format!("action not implemented on unit {unit:?}"));
        }
        Ok(Some(ended)) => {
            output(&mut results, "stdout", &ended.stdout);
            output(&mut results, "stderr", &ended.stderr);
            results.insert("return-code".to_owned(), json!(ended.code()));
            aborted = ended.interrupted();
            if ended.status.success() || command {
                let failed = context.as_ref().and_then(|context| context.failed.clone());
                if let Some(text) = failed {
                    (status, message) = ("failed", text);
                }
                let applied = context.map_or(Ok(()), |context| {
                    commit::apply(&mut state.model, &context, &engine.paths)
                });
                if let Err(text) = applied {
                    status = "failed";
                    if message.is_empty() {
                        "committing requested changes failed".clone_into(&mut message);
                    }
                    let before = results
                        .get("stderr")
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    let stderr = format!("{before}{text}\n");
                    results.insert("stderr".to_owned(), json!(stderr));
                    results.insert("return-code".to_owned(), json!(1));
                }
            } else {
                status = "failed";
                message = match ended.status.code() {
                    Some(code) => format!("exit status {code}"),
                    None => "signal: killed".to_owned(),
                };
            }
        }
    }
    if let Some(task) = state.model.tasks.get_mut(&id) {
        if task.status == "aborting" && aborted {
            (status, message) = ("aborted", String::new());
        }
        status.clone_into(&mut task.status);
        task.message = message;
        task.results = results;
        task.completed = Some(Timestamp::now());
        task.process = None;
    }
    forget_old(&mut state.model);
}

/// Adds a stream to the results; what is no text is encoded.
fn output(results: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        results.insert(name.to_owned(), json!(text));
    } else {
        results.insert(name.to_owned(), json!(STANDARD.encode(bytes)));
        results.insert(format!("{name}-encoding"), json!("base64"));
    }
}

/// Forgets the oldest finished tasks.
fn forget_old(model: &mut Model) {
    while model.tasks.len() > TASKS_MAX {
        let oldest = model
            .tasks
            .values()
            .find(|task| task.completed.is_some())
            .map(|task| task.id);
        let Some(oldest) = oldest else { return };
        model.tasks.remove(&oldest);
    }
}

/// Queues a task; returns its number.
pub fn queue(
    model: &mut Model,
    operation: u64,
    unit: &str,
    action: &str,
    parameters: Map<String, Value>,
) -> u64 {
    let id = model.take_task_number();
    let task = Task {
        id,
        operation,
        unit: unit.to_owned(),
        action: action.to_owned(),
        parameters,
        status: "pending".to_owned(),
        message: String::new(),
        log: Vec::new(),
        results: Map::new(),
        process: None,
        enqueued: Timestamp::now(),
        started: None,
        completed: None,
    };
    model.tasks.insert(id, task);
    id
}

/// Ends the tasks of a unit that can no longer run.
pub fn drop_of(model: &mut Model, unit: &str, why: &str) {
    for task in model.tasks.values_mut().filter(|task| task.unit == unit) {
        if task.completed.is_none() {
            let running = task.status != "pending";
            let status = if running { "failed" } else { "cancelled" };
            status.clone_into(&mut task.status);
            why.clone_into(&mut task.message);
            task.completed = Some(Timestamp::now());
            task.process = None;
        }
    }
}

/// Reports a task.
#[must_use]
pub fn report(task: &Task) -> TaskReport {
    let text = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    TaskReport {
        id: task.id,
        operation: task.operation,
        unit: task.unit.clone(),
        action: task.action.clone(),
        status: task.status.clone(),
        message: task.message.clone(),
        log: task
            .log
            .iter()
            .map(|(at, line)| (text(*at), line.clone()))
            .collect(),
        results: task.results.clone(),
        enqueued: text(task.enqueued),
        started: task.started.map(text),
        completed: task.completed.map(text),
    }
}

/// Reports an operation.
#[must_use]
pub fn operation(model: &Model, id: u64) -> Option<OperationReport> {
    let tasks: Vec<_> = model
        .tasks
        .values()
        .filter(|task| task.operation == id)
        .collect();
    let first = tasks.first()?;
    let units: Vec<_> = tasks.iter().map(|task| tag(&task.unit)).collect();
    let order = [
        "running",
        "aborting",
        "pending",
        "failed",
        "aborted",
        "cancelled",
        "completed",
    ];
    let status = order
        .into_iter()
        .find(|word| tasks.iter().any(|task| task.status == *word));
    Some(OperationReport {
        id,
        summary: format!("{} run on {}", first.action, units.join(",")),
        status: status.unwrap_or("completed").to_owned(),
        tasks: tasks.into_iter().map(report).collect(),
    })
}

/// Fails the task that ran on a unit when its agent ended; it is not run again.
pub fn interrupt(model: &mut Model, unit: &str) {
    for task in model.tasks.values_mut().filter(|task| task.unit == unit) {
        if matches!(task.status.as_str(), "running" | "aborting") {
            "failed".clone_into(&mut task.status);
            "action terminated".clone_into(&mut task.message);
            task.completed = Some(Timestamp::now());
            task.process = None;
        }
    }
}
