//! What runs behind the links in a unit's tools directory: each hook tool, and `juju-exec`.
//!
//! Nothing is parsed here that the engine can parse: a hook calls a dozen tools, so each must start at once.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::api::{HookToolCall, JujuExecCall, Request, Response, ToolEnd};
use crate::engine::link;
use crate::limits::ANSWER_TIMEOUT;

/// Name of the one tool that works outside of a run.
pub const JUJU_EXEC: &str = "juju-exec";

/// Says what is wrong, as Juju's tools do.
fn wrong(text: &str) -> ExitCode {
    eprintln!("ERROR {text}");
    ExitCode::from(1)
}

/// Prints what the engine says; returns its exit status.
fn print(end: &ToolEnd) -> ExitCode {
    let _ = std::io::stderr().write_all(end.stderr.as_bytes());
    let mut stdout = std::io::stdout();
    let _ = stdout
        .write_all(end.stdout.as_bytes())
        .and_then(|()| stdout.flush());
    ExitCode::from(end.code)
}

/// Runs a hook tool.
#[must_use]
pub fn run(tool: &str, arguments: Vec<String>) -> ExitCode {
    let Ok(context) = std::env::var("JUJU_CONTEXT_ID") else {
        return wrong("JUJU_CONTEXT_ID not set");
    };
    let Some(socket) = std::env::var_os("JUJU_AGENT_SOCKET_ADDRESS") else {
        return wrong("JUJU_AGENT_SOCKET_ADDRESS not set");
    };
    let socket = PathBuf::from(socket);
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut call = HookToolCall {
        context,
        tool: tool.to_owned(),
        arguments,
        directory,
        stdin: None,
    };
    loop {
        let request = Request::HookTool(call.clone());
        match link::exchange(&socket, &request, Some(ANSWER_TIMEOUT)) {
            Ok(Response::Tool(end)) if end.wants_stdin && call.stdin.is_none() => {
                let mut text = String::new();
                if let Err(error) = std::io::stdin().read_to_string(&mut text) {
                    return wrong(&format!("cannot read standard input: {error}"));
                }
                call.stdin = Some(text);
            }
            Ok(Response::Tool(end)) => return print(&end),
            Ok(Response::Error(text)) => return wrong(&text),
            Ok(_) => return wrong("cannot understand the agent's answer"),
            Err(error) => return wrong(&format!("{error:#}")),
        }
    }
}

/// Finds the state directory from the link by which this program was called.
fn state_directory(called_as: &Path) -> Option<PathBuf> {
    let link = if called_as.components().count() > 1 {
        std::path::absolute(called_as).ok()?
    } else {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(called_as))
            .find(|file| file.exists())?
    };
    // Elsewhere than in the tools directory it is a link to there.
    let link = match std::fs::read_link(&link) {
        Ok(target) if target.file_name().is_some_and(|name| name == JUJU_EXEC) => target,
        _ => link,
    };
    // <state>/tools/unit-x-0/juju-exec
    Some(link.parent()?.parent()?.parent()?.to_path_buf())
}

/// Runs `juju-exec`: commands in a unit's context, from outside of any run.
#[must_use]
pub fn juju_exec(called_as: &Path, arguments: &[String]) -> ExitCode {
    if let Ok(context) = std::env::var("JUJU_CONTEXT_ID") {
        return wrong(&format!(
            "juju-exec cannot be called from within a hook, have context {context:?}"
        ));
    }
    let Some(state) = state_directory(called_as) else {
        return wrong(
            "cannot find the unit's agent: call juju-exec by its path in the tools directory",
        );
    };
    let call = match parse(arguments, &state) {
        Ok(call) => call,
        Err(text) => return wrong(&text),
    };
    let socket = state.join("engine.socket");
    match link::exchange(&socket, &Request::JujuExec(call), None) {
        Ok(Response::Tool(end)) => print(&end),
        Ok(Response::Error(text)) => wrong(&text),
        Ok(_) => wrong("cannot understand the agent's answer"),
        Err(error) => wrong(&format!("{error:#}")),
    }
}

/// Understands the arguments of `juju-exec`.
fn parse(arguments: &[String], state: &Path) -> Result<JujuExecCall, String> {
    let mut call = JujuExecCall {
        unit: String::new(),
        command: String::new(),
        relation: None,
        remote_unit: None,
        force_remote_unit: false,
    };
    let mut explicit = None;
    let mut rest: Vec<String> = Vec::new();
    let mut queue = arguments.iter();
    while let Some(argument) = queue.next() {
        if !argument.starts_with('-') || argument == "-" {
            rest.push(argument.clone());
            rest.extend(queue.by_ref().cloned());
            break;
        }
        if argument == "--" {
            rest.extend(queue.by_ref().cloned());
            break;
        }
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if name == "--force-remote-unit" {
            call.force_remote_unit = true;
            continue;
        }
        let value = given
            .or_else(|| queue.next().cloned())
            .ok_or_else(|| format!("flag needs an argument: {name}"))?;
        match name {
            "-u" | "--unit" => explicit = Some(value),
            "-r" | "--relation" => call.relation = Some(value),
            "--remote-unit" => call.remote_unit = Some(value),
            "--remote-app" => {}
            _ => return Err(format!("flag provided but not defined: {name}")),
        }
    }
    let wanted = match explicit {
        Some(unit) => unit,
        None if rest.is_empty() => return Err("missing unit-name".to_owned()),
        None => rest.remove(0),
    };
    call.unit = unit_name(&wanted, state)?;
    call.command = match rest.as_slice() {
        [] => return Err("missing commands".to_owned()),
        [only] => only.clone(),
        several => shlex::try_join(several.iter().map(String::as_str))
            .map_err(|error| format!("cannot quote the commands: {error}"))?,
    };
    Ok(call)
}

/// Returns the unit's name for a name, a tag, or nothing when there is only one unit.
fn unit_name(text: &str, state: &Path) -> Result<String, String> {
    let from_tag = |tag: &str| {
        let (application, number) = tag.strip_prefix("unit-")?.rsplit_once('-')?;
        Some(format!("{application}/{number}"))
    };
    if text.is_empty() {
        let entries = std::fs::read_dir(state.join("agents"))
            .into_iter()
            .flatten()
            .flatten();
        let units: Vec<_> = entries
            .filter_map(|entry| from_tag(entry.file_name().to_str()?))
            .collect();
        return match units.as_slice() {
            [only] => Ok(only.clone()),
            _ => Err("missing unit-name".to_owned()),
        };
    }
    Ok(from_tag(text).unwrap_or_else(|| text.to_owned()))
}
