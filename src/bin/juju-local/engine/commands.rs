//! Runs actions, and commands that come through `juju-exec`, in a unit's context.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::commit;
use super::context::Context;
use super::hooks::overtake;
use super::model::Status;
use super::processes;
use super::run::{self, Entry};
use super::state::{Engine, State, random_hex};

/// Runs a task: an action of the charm, or a shell command that came as a task.
pub fn run_action(engine: &Arc<Engine>, name: &str, task: u64) {
    let (environment, id, boot, action, command, previous) = {
        let mut state = engine.lock();
        let Some(found) = state.model.tasks.get_mut(&task) else {
            return;
        };
        "running".clone_into(&mut found.status);
        found.started = Some(jiff::Timestamp::now());
        let action = found.action.clone();
        let command = (action == "juju-exec")
            .then(|| {
                found
                    .parameters
                    .get("command")
                    .and_then(|text| text.as_str())
                    .map(ToOwned::to_owned)
            })
            .flatten();
        let label = if command.is_some() {
            "run-commands"
        } else {
            action.as_str()
        };
        let id = format!("{name}-{label}-{}", random_hex(32));
        let context = Context {
            id: id.clone(),
            unit: name.to_owned(),
            task: Some(task),
            is_action: command.is_none(),
            ..Context::default()
        };
        let environment = run::environment(&state.model, &context, &engine.paths);
        let Some(unit) = state.model.units.get_mut(name) else {
            return;
        };
        let (boot, previous) = (unit.boot, unit.agent.clone());
        let message = match command {
            Some(_) => "running commands".to_owned(),
            None => format!("running action {action}"),
        };
        unit.agent = Status::now("executing", &message);
        state.contexts.insert(id.clone(), context);
        engine.save(&state);
        (environment, id, boot, action, command, previous)
    };
    let ended = match &command {
        Some(text) => shell(engine, name, text, environment).map(Some),
        None => start_action(engine, name, &action, environment),
    };
    let ended = ended.and_then(|running| {
        let Some(running) = running else {
            return Ok(None);
        };
        note_task(engine, name, task, running.pid(), boot);
        running.wait().map(Some)
    });
    let mut state = engine.lock();
    let context = state.contexts.remove(&id);
    if let Some(unit) = state.model.units.get_mut(name)
        && unit.boot == boot
        && previous.current == "error"
    {
        unit.agent = previous;
    }
    super::tasks::end(engine, &mut state, task, context, ended, command.is_some());
    engine.save(&state);
}

/// Starts an action of the charm; `None` when it has none of that name.
fn start_action(
    engine: &Arc<Engine>,
    name: &str,
    action: &str,
    environment: Vec<(String, String)>,
) -> Result<Option<run::Running>> {
    let charm = engine.paths.unit_charm(name);
    match run::entry(&charm, &format!("actions/{action}")) {
        Entry::Dispatch(program) | Entry::Own(program) => {
            run::start(engine, &program, &[], environment, name, action, None).map(Some)
        }
        Entry::Missing => Ok(None),
    }
}

/// Notes a task's process, so that it can be cancelled and is found by another engine.
fn note_task(engine: &Engine, name: &str, task: u64, pid: u32, boot: u64) {
    let mut state = engine.lock();
    if let (Some(task), Some(since)) = (state.model.tasks.get_mut(&task), processes::started(pid)) {
        task.process = Some((pid, since));
    }
    if let Some(unit) = state.model.units.get(name) {
        overtake(unit, pid, boot);
    }
    engine.save(&state);
}

/// Starts a shell with commands on its standard input.
fn shell(
    engine: &Arc<Engine>,
    name: &str,
    text: &str,
    environment: Vec<(String, String)>,
) -> Result<run::Running> {
    let bash = Path::new("/bin/bash");
    let shell = if bash.exists() {
        bash
    } else {
        Path::new("/bin/sh")
    };
    run::start(
        engine,
        shell,
        &["-s"],
        environment,
        name,
        "juju-exec",
        Some(text),
    )
}

/// Runs a command that came through `juju-exec` on the unit's machine.
pub fn run_command(engine: &Arc<Engine>, name: &str) {
    let (environment, id, boot, command, previous) = {
        let mut state = engine.lock();
        let queue = state.commands.get_mut(name);
        let Some(command) = queue.and_then(std::collections::VecDeque::pop_front) else {
            return;
        };
        let mut context = Context {
            id: format!("{name}-run-commands-{}", random_hex(32)),
            unit: name.to_owned(),
            ..Context::default()
        };
        if let Err(text) = aim(&state, &mut context, &command.call) {
            let stderr = format!("ERROR {text}\n");
            let _ = command.reply.send(crate::api::ToolEnd {
                code: 1,
                stderr,
                ..Default::default()
            });
            return;
        }
        let environment = run::environment(&state.model, &context, &engine.paths);
        let Some(unit) = state.model.units.get_mut(name) else {
            return;
        };
        let (boot, previous) = (unit.boot, unit.agent.clone());
        unit.agent = Status::now("executing", "running commands");
        let id = context.id.clone();
        state.contexts.insert(id.clone(), context);
        engine.save(&state);
        (environment, id, boot, command, previous)
    };
    let ended =
        shell(engine, name, &command.call.command, environment).and_then(run::Running::wait);
    let mut end = crate::api::ToolEnd::default();
    {
        let mut state = engine.lock();
        let context = state.contexts.remove(&id);
        if let Some(unit) = state.model.units.get_mut(name)
            && unit.boot == boot
        {
            unit.agent = previous;
        }
        match ended {
            Ok(ended) => {
                end.code = ended.code();
                end.stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
                end.stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
                // The shell's own status does not matter to the commit.
                let applied = context.map_or(Ok(()), |context| {
                    commit::apply(&mut state.model, &context, &engine.paths)
                });
                if let Err(text) = applied {
                    end.code = 1;
                    end.stderr = format!("{}ERROR {text}\n", end.stderr);
                }
            }
            Err(error) => {
                end.code = 1;
                end.stderr = format!("ERROR {error:#}\n");
            }
        }
        engine.save(&state);
    }
    let _ = command.reply.send(end);
}

/// Aims a command's context at the relation that was asked for.
fn aim(
    state: &State,
    context: &mut Context,
    call: &crate::api::JujuExecCall,
) -> Result<(), String> {
    let Some(text) = &call.relation else {
        return match &call.remote_unit {
            Some(unit) => Err(format!("remote unit: {unit}, provided without a relation")),
            None => Ok(()),
        };
    };
    let number = text.rsplit(':').next().unwrap_or_default();
    let id: u64 = number
        .parse()
        .map_err(|_| "invalid relation id".to_owned())?;
    let unit = state.model.units.get(&context.unit);
    if !unit.is_some_and(|unit| unit.local.relations.contains_key(&id)) {
        return Err(format!("unknown relation id: {id}"));
    }
    let members: Vec<String> = context.members(&state.model, id).into_iter().collect();
    let shown = members.join(" ");
    let remote = match (&call.remote_unit, members.as_slice()) {
        (Some(unit), _) if call.force_remote_unit || members.contains(unit) => unit.clone(),
        (Some(unit), _) => {
            return Err(format!(
                "unknown remote unit {unit}; possibilities are [{shown}]"
            ));
        }
        (None, []) => return Err(format!("cannot infer remote unit in empty relation {id}")),
        (None, [only]) => only.clone(),
        (None, _) => {
            return Err(format!(
                "ambiguous remote unit; possibilities are [{shown}]"
            ));
        }
    };
    context.relation = Some(id);
    context.remote_unit = Some(remote);
    Ok(())
}
