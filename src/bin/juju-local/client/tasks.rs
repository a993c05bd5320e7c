//! `run` and `exec`, and what they leave behind: operations and tasks.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::arguments::{Exec, Run, TaskFormat, TaskOptions};
use super::connect::{Model, unexpected};
use super::output::{self, Document, Format, as_document};
use super::table::{Table, colours, plain, status};
use super::{Done, input};
use crate::api::{OperationReport, Request, Response, TaskReport};
use crate::limits::TASK_POLL;

/// Results that are no part of the plain output's document.
const NO_RESULTS: [&str; 5] = [
    "return-code",
    "stdout",
    "stderr",
    "stdout-encoding",
    "stderr-encoding",
];

/// Runs an action.
///
/// # Errors
///
/// When the words make no sense, the engine refuses, or the time is over.
pub fn run(model: &Model, given: &Run) -> Done {
    let words = Words::sort(&given.words)?;
    let parameters =
        input::parameters(given.params.as_deref(), words.parameters, given.string_args)?;
    let request = Request::Run {
        units: words.units.to_vec(),
        action: words.action.to_owned(),
        parameters,
    };
    schedule(model, &request, &given.options, true)
}

/// The words of `run`: units, then the action, then parameters.
#[derive(Debug)]
struct Words<'a> {
    units: &'a [String],
    action: &'a str,
    parameters: &'a [String],
}

impl<'a> Words<'a> {
    fn sort(words: &'a [String]) -> Result<Self> {
        let is_unit =
            |word: &String| crate::charm::names::unit(word).is_some() || word.ends_with("/leader");
        let count = words.iter().take_while(|word| is_unit(word)).count();
        let (units, rest) = words.split_at(count);
        let first = rest.first();
        if units.is_empty() {
            match first {
                Some(word) if word.contains(['/', '=']) => {
                    bail!("invalid unit or action name {word:?}")
                }
                _ => bail!("no unit specified"),
            }
        }
        let Some(action) = first else {
            bail!("no action specified")
        };
        if !crate::charm::names::is_action(action) {
            bail!("invalid unit or action name {action:?}");
        }
        Ok(Self {
            units,
            action,
            parameters: &rest[1..],
        })
    }
}

/// Runs a shell command.
///
/// # Errors
///
/// When no target is given, the engine refuses, or the time is over.
pub fn exec(model: &Model, given: Exec) -> Done {
    if given.unit.is_empty() && given.application.is_empty() && !given.all {
        bail!("cannot run a command without a target: give --unit, --application or --all");
    }
    // One word is shell text; several are taken as they are.
    let command = match given.command.as_slice() {
        [text] => text.clone(),
        words => shlex::try_join(words.iter().map(String::as_str))
            .context("cannot pass on the command")?,
    };
    let request = Request::Exec {
        units: given.unit,
        applications: given.application,
        all: given.all,
        command,
    };
    schedule(model, &request, &given.options, false)
}

/// Queues tasks, waits for them as the options say, and prints what came out.
fn schedule(model: &Model, request: &Request, options: &TaskOptions, chatty: bool) -> Done {
    let Response::Scheduled { operation, tasks } = model.ask(request)? else {
        return unexpected();
    };
    let ids: Vec<u64> = tasks.iter().map(|(id, _)| *id).collect();
    if options.background {
        announce_background(operation, &ids);
        return Ok(ExitCode::SUCCESS);
    }
    if chatty {
        output::note(&format!(
            "Running operation {operation} with {} task{}",
            ids.len(),
            plural(ids.len())
        ));
        for (id, unit) in &tasks {
            output::note(&format!("  - task {id} on unit-{}", unit.replace('/', "-")));
        }
        output::note("");
    }
    let tasks = await_tasks(model, &ids, options.wait, chatty)?;
    print_results(&tasks, options.format)?;
    let late: Vec<String> = tasks
        .iter()
        .filter(|task| !task.ended())
        .map(|task| format!("unit {}", task.unit))
        .collect();
    if !late.is_empty() {
        bail!("timed out waiting for results from: {}", late.join(", "));
    }
    let failed: Vec<&TaskReport> = tasks.iter().filter(|task| return_code(task) >= 1).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("ERROR the following task{} failed:\n", plural(failed.len()));
    for task in &failed {
        let (id, code) = (task.id, return_code(task));
        let _ = writeln!(text, " - id \"{id}\" with return code {code}");
    }
    text.push_str("\nuse 'juju-local show-task' to inspect the failure");
    output::note(&text);
    Ok(ExitCode::FAILURE)
}

fn announce_background(operation: u64, ids: &[u64]) {
    let list: Vec<String> = ids.iter().map(u64::to_string).collect();
    let list = list.join(", ");
    output::note(&format!(
        "Scheduled operation {operation} with task{} {list}",
        plural(ids.len())
    ));
    output::note(&format!(
        "Check operation status with 'juju-local show-operation {operation}'"
    ));
    for id in ids {
        output::note(&format!(
            "Check task status with 'juju-local show-task {id}'"
        ));
    }
}

/// Waits until all tasks have ended or the time is over; prints what actions log meanwhile.
fn await_tasks(
    model: &Model,
    ids: &[u64],
    longest: Duration,
    chatty: bool,
) -> Result<Vec<TaskReport>> {
    let begin = Instant::now();
    let mut logged = vec![0; ids.len()];
    if let (true, [id]) = (chatty, ids) {
        output::note(&format!("Waiting for task {id}..."));
    }
    loop {
        let tasks = fetch(model, ids)?;
        for (task, logged) in tasks.iter().zip(&mut logged) {
            for (time, text) in task.log.iter().skip(*logged).filter(|_| chatty) {
                let clock = time.split_whitespace().nth(1).unwrap_or(time);
                output::note(&format!("{clock} {text}"));
            }
            *logged = task.log.len();
        }
        if tasks.iter().all(TaskReport::ended) || begin.elapsed() >= longest {
            if chatty {
                output::note("");
            }
            return Ok(tasks);
        }
        std::thread::sleep(TASK_POLL);
    }
}

fn fetch(model: &Model, ids: &[u64]) -> Result<Vec<TaskReport>> {
    match model.ask(&Request::Tasks { ids: ids.to_vec() })? {
        Response::Tasks(tasks) => Ok(tasks),
        other => bail!("cannot understand the engine's answer: {other:?}"),
    }
}

fn print_results(tasks: &[TaskReport], format: TaskFormat) -> Result<()> {
    let document: Map<String, Value> = tasks
        .iter()
        .map(|task| (task.unit.clone(), shape(task)))
        .collect();
    match (format, tasks) {
        (TaskFormat::Json, _) => output::document(&document, Document::Json),
        (TaskFormat::Plain, [task]) => output::print(&plain_text(task)?),
        (TaskFormat::Yaml | TaskFormat::Plain, _) => output::document(&document, Document::Yaml),
    }
}

/// Formats the results of one task for a person: why it failed, the results, and what it printed.
fn plain_text(task: &TaskReport) -> Result<String> {
    let mut text = String::new();
    if task.status == "failed" && task.action != "juju-exec" {
        let _ = writeln!(text, "Action id {} failed: {}", task.id, task.message);
    }
    let results = task
        .results
        .iter()
        .filter(|(key, _)| !NO_RESULTS.contains(&key.as_str()));
    let results: Map<String, Value> = results
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !results.is_empty() {
        text.push_str(&output::yaml(&sorted(results))?);
    }
    for stream in ["stdout", "stderr"] {
        let Some(printed) = task.results.get(stream).and_then(Value::as_str) else {
            continue;
        };
        if !text.is_empty() && stream == "stdout" {
            text.push('\n');
        }
        text.push_str(printed);
        if !printed.is_empty() && !printed.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// Sorts results by their keys, as Juju prints them.
fn sorted(results: Map<String, Value>) -> Value {
    let mut results = Value::Object(results);
    results.sort_all_objects();
    results
}

/// Brings a task into the shape that Juju prints.
fn shape(task: &TaskReport) -> Value {
    let mut shape = Map::new();
    shape.insert("id".into(), json!(task.id.to_string()));
    if !task.log.is_empty() {
        let lines: Vec<String> = task
            .log
            .iter()
            .map(|(time, text)| format!("{time} {text}"))
            .collect();
        shape.insert("log".into(), json!(lines));
    }
    if !task.message.is_empty() {
        shape.insert("message".into(), json!(task.message));
    }
    shape.insert("results".into(), sorted(task.results.clone()));
    shape.insert("status".into(), json!(task.status));
    let mut timing = Map::new();
    for (name, time) in [
        ("completed", &task.completed),
        ("enqueued", &Some(task.enqueued.clone())),
        ("started", &task.started),
    ] {
        if let Some(time) = time {
            timing.insert(name.into(), json!(time));
        }
    }
    shape.insert("timing".into(), Value::Object(timing));
    shape.insert("unit".into(), json!(task.unit));
    Value::Object(shape)
}

/// Returns the exit status of a task's process; 0 when it did not end by itself.
fn return_code(task: &TaskReport) -> i64 {
    match task.results.get("return-code") {
        Some(Value::Number(code)) => code.as_i64().unwrap_or_default(),
        Some(Value::String(code)) => code.parse().unwrap_or_default(),
        _ => 0,
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Lists an application's actions.
///
/// # Errors
///
/// When there is no such application.
pub fn actions(model: &Model, application: &str, format: Format) -> Done {
    let Response::Value(actions) = model.ask(&Request::Actions {
        application: application.to_owned(),
    })?
    else {
        return unexpected();
    };
    if let Some(form) = as_document(format) {
        output::document(&actions, form)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["Action", "Description"]);
    for (name, action) in actions.as_object().into_iter().flatten() {
        let description = action
            .as_str()
            .or_else(|| action["description"].as_str())
            .unwrap_or_default();
        table.row(vec![plain(name), plain(description.trim())]);
    }
    if table.is_empty() {
        output::note(&format!("No actions defined for {application}."));
    } else {
        output::print(&table.render(colours(false, false)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists operations.
///
/// # Errors
///
/// When the engine cannot be asked.
pub fn operations(model: &Model, format: Format) -> Done {
    let Response::Operations(operations) = model.ask(&Request::Operations { ids: Vec::new() })?
    else {
        return unexpected();
    };
    if let Some(form) = as_document(format) {
        let shapes: Map<String, Value> = operations
            .iter()
            .map(|operation| (operation.id.to_string(), operation_shape(operation)))
            .collect();
        output::document(&shapes, form)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["ID", "Status", "Tasks", "Summary"]);
    for operation in &operations {
        let tasks: Vec<String> = operation
            .tasks
            .iter()
            .map(|task| task.id.to_string())
            .collect();
        let id = operation.id.to_string();
        table.row(vec![
            plain(id),
            status(&operation.status),
            plain(tasks.join(",")),
            plain(&operation.summary),
        ]);
    }
    output::print(&table.render(colours(false, false)))?;
    Ok(ExitCode::SUCCESS)
}

fn operation_shape(operation: &OperationReport) -> Value {
    let tasks: Map<String, Value> = operation
        .tasks
        .iter()
        .map(|task| (task.id.to_string(), task_in_operation(task)))
        .collect();
    json!({"summary": operation.summary, "status": operation.status, "tasks": tasks})
}

/// A task under its id: the id itself is not repeated, the unit is called the host.
fn task_in_operation(task: &TaskReport) -> Value {
    let mut shape = shape(task);
    if let Some(shape) = shape.as_object_mut() {
        shape.shift_remove("id");
        if let Some(unit) = shape.shift_remove("unit") {
            shape.insert("host".into(), unit);
        }
    }
    shape
}

/// Shows an operation with its tasks.
///
/// # Errors
///
/// When there is no such operation.
pub fn show_operation(model: &Model, id: u64, format: Document) -> Done {
    let Response::Operations(operations) = model.ask(&Request::Operations { ids: vec![id] })?
    else {
        return unexpected();
    };
    let operation = operations
        .first()
        .with_context(|| format!("operation \"{id}\" not found"))?;
    output::document(&operation_shape(operation), format)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows a task.
///
/// # Errors
///
/// When there is no such task.
pub fn show_task(model: &Model, id: u64, format: Document) -> Done {
    let tasks = fetch(model, &[id])?;
    let task = tasks
        .first()
        .with_context(|| format!("task \"{id}\" not found"))?;
    output::document(&shape(task), format)?;
    Ok(ExitCode::SUCCESS)
}

/// Cancels tasks and prints what became of them.
///
/// # Errors
///
/// When there is no such task, or it has ended.
pub fn cancel(model: &Model, ids: Vec<u64>) -> Done {
    let Response::Tasks(tasks) = model.ask(&Request::CancelTasks { ids })? else {
        return unexpected();
    };
    let shapes: Map<String, Value> = tasks
        .iter()
        .map(|task| (task.id.to_string(), shape(task)))
        .collect();
    output::document(&shapes, Document::Yaml)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
