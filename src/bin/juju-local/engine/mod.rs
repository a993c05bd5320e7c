//! The engine: controller and unit agents of one model in one process.
//!
//! ```text
//! model       what the controller remembers, saved as one file    resolver  PURE: which operation is next
//! state       memory around the model                             agent     one thread per unit: does it (hooks, commands)
//! requests, deploy, person, handles   what people ask for         run       processes and their environment
//! tools       the hook tools' answers                             commit    a run's changes, all or nothing
//! clock       leases, removals, timers                            removal   how things go away
//! hook        what hooks are and are called                       secrets   owners, readers, revisions
//! driver      the program that gives units machines of their own
//! home        what a unit lives on, if it is not this machine itself: such a machine, or a pod
//! pods        pods, as on Kubernetes
//! link        how others start the engine and talk to it
//! ```

mod agent;
mod clock;
mod commands;
mod commit;
mod context;
mod deploy;
mod driver;
mod find;
mod handles;
mod home;
mod hook;
mod hooks;
pub mod link;
mod log;
mod model;
mod network;
mod paths;
mod person;
pub mod pods;
mod processes;
mod relations;
mod removal;
mod requests;
mod resolver;
mod run;
mod scheduling;
mod secrets;
mod state;
mod status;
mod storage;
mod tasks;
mod tools;

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Signal;

use crate::api::{JujuExecCall, Request, Response, ToolEnd};
use crate::limits::LINE_MAX;

use model::{Model, later};
use paths::Paths;
use state::{Command, Engine};

/// Runs the engine of a state directory until it is told to end.
///
/// # Errors
///
/// When another engine runs there, or the directory or the network cannot be used.
pub fn run(root: &Path) -> Result<()> {
    let paths = Paths::new(root);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(paths.lock())
        .context("cannot open the engine's lock file")?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .context("cannot lock the state directory; another engine runs there")?;
    let (model, _network) = open(&paths)?;
    let program = std::env::current_exe().context("cannot find the own program")?;
    let engine = Arc::new(Engine::new(paths, program, model));
    recover(&engine)?;
    let listener = link::listen(&engine.paths.socket())?;
    pods::roll_all(&engine);
    let clock = Arc::clone(&engine);
    std::thread::spawn(move || clock::run(&clock));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let engine = Arc::clone(&engine);
        std::thread::spawn(move || {
            // A client that goes away early is its own business.
            let _ = serve(&engine, &stream);
        });
    }
    Ok(())
}

/// Loads the model, or makes one, and takes its network.
fn open(paths: &Paths) -> Result<(Model, Option<std::net::TcpListener>)> {
    if let Some(mut model) = paths.load()? {
        // Somebody else may have taken the network while no engine ran; the units' addresses still work.
        let network = network::take(model.network)
            .map_err(|error| eprintln!("{error:#}"))
            .ok();
        let until = later(Timestamp::now(), model.settings.lease_seconds);
        for application in model.applications.values_mut() {
            if let Some(lease) = &mut application.lease {
                // The controller was away, so nobody could renew.
                lease.until = lease.until.max(until);
            }
        }
        return Ok((model, network));
    }
    let foreign = fs::read_dir(&paths.root)
        .with_context(|| format!("cannot read {}", paths.root.display()))?
        .flatten()
        .find(|entry| {
            !entry
                .file_name()
                .to_str()
                .is_some_and(|name| Paths::made().contains(&name))
        });
    if let Some(entry) = foreign {
        bail!(
            "cannot use {} as a state directory: it holds {}, which is not the engine's",
            paths.root.display(),
            entry.file_name().display()
        );
    }
    let (network, listener) = network::reserve()?;
    let hex = state::random_hex(32);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    let uuid = format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    );
    let name = paths
        .root
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("default");
    let mut model = Model::new(name, &uuid, network);
    model.settings.seed = state::random();
    paths.save(&model)?;
    Ok((model, Some(listener)))
}

/// Takes over from an engine that ended: runs that it had begun count as failed.
fn recover(engine: &Arc<Engine>) -> Result<()> {
    let mut state = engine.lock();
    let names: Vec<String> = state.model.units.keys().cloned().collect();
    for name in names {
        let running: Vec<_> = state
            .model
            .tasks
            .values()
            .filter(|task| task.unit == name && task.completed.is_none())
            .filter_map(|task| task.process)
            .collect();
        for (pid, since) in running {
            if processes::started(pid) == Some(since) {
                processes::signal_group(pid, Signal::KILL);
            }
        }
        tasks::interrupt(&mut state.model, &name);
        hooks::found_running(engine, &mut state, &name);
        links(engine, &name)?;
        if let Some(unit) = state.model.units.get_mut(&name)
            && unit.agent.current == "executing"
        {
            unit.agent = model::Status::now("idle", "");
        }
    }
    engine.save(&state);
    Ok(())
}

/// Makes a unit's tools directory: one link per hook tool, and `juju-exec`.
///
/// # Errors
///
/// When a link cannot be made.
fn links(engine: &Engine, unit: &str) -> Result<()> {
    let (tools, agent) = (engine.paths.tools(unit), engine.paths.agent(unit));
    for directory in [&tools, &agent] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let link = |target: &Path, at: &Path| -> Result<()> {
        if fs::read_link(at).is_ok_and(|present| present == target) {
            return Ok(());
        }
        let _ = fs::remove_file(at);
        symlink(target, at).with_context(|| format!("cannot make {}", at.display()))
    };
    for name in tools::TOOLS
        .iter()
        .map(|(name, _)| *name)
        .chain(["juju-exec"])
    {
        link(&engine.program, &tools.join(name))?;
    }
    link(
        Path::new("../../engine.socket"),
        &agent.join("agent.socket"),
    )
}

/// Answers one connection: one request, one response.
fn serve(engine: &Arc<Engine>, mut stream: &UnixStream) -> Result<()> {
    stream
        .set_read_timeout(Some(crate::limits::ANSWER_TIMEOUT))
        .context("cannot limit the wait for a request")?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX))
        .read_line(&mut line)
        .context("cannot read a request")?;
    if line.is_empty() {
        return Ok(());
    }
    let mut end = false;
    let response = match serde_json::from_str::<Request>(&line) {
        Err(error) => Response::Error(format!("cannot understand the request: {error}")),
        Ok(Request::Ping) => Response::Done,
        Ok(Request::HookTool(call)) => {
            let caller = socket_peercred(stream).map(|caller| caller.pid).ok();
            Response::Tool(tools::answer(engine, &mut engine.lock(), call, caller))
        }
        Ok(Request::JujuExec(call)) => Response::Tool(juju_exec(engine, call)),
        Ok(Request::Destroy) => match destroy(engine) {
            Ok(()) => {
                end = true;
                Response::Done
            }
            Err(error) => Response::Error(format!("{error:#}")),
        },
        Ok(request) => requests::answer(engine, request).unwrap_or_else(Response::Error),
    };
    let mut text = serde_json::to_vec(&response).context("cannot write a response")?;
    text.push(b'\n');
    stream.write_all(&text).context("cannot send a response")?;
    if end {
        std::process::exit(0);
    }
    Ok(())
}

/// Queues a command of `juju-exec` and waits for its end.
fn juju_exec(engine: &Arc<Engine>, call: JujuExecCall) -> ToolEnd {
    let failed = |text: String| ToolEnd {
        code: 1,
        stderr: format!("ERROR {text}\n"),
        ..ToolEnd::default()
    };
    let (reply, end) = channel();
    {
        let mut state = engine.lock();
        if !state.model.units.contains_key(&call.unit) {
            return failed(format!("unit {:?} not found on this machine", call.unit));
        }
        let queue = state.commands.entry(call.unit.clone()).or_default();
        queue.push_back(Command { call, reply });
        engine.wake();
    }
    end.recv()
        .unwrap_or_else(|_| failed("unit is gone".to_owned()))
}

/// Ends all processes of the model and removes what the engine has made.
fn destroy(engine: &Arc<Engine>) -> Result<()> {
    let (uuid, cut, homes, pods_of) = {
        let mut state = engine.lock();
        state.ending = true;
        let model = &state.model;
        let cut: Vec<_> = model
            .units
            .values()
            .filter(|unit| unit.cut && !model.settings.has_machines())
            .map(|unit| (model.address(unit), network::table(model, unit)))
            .collect();
        let homes: Vec<_> = model
            .units
            .keys()
            .filter_map(|unit| home::Home::of(engine, model, unit))
            .collect();
        let pods_of = model.settings.has_pods().then(|| model.clone());
        (model.uuid.clone(), cut, homes, pods_of)
    };
    engine.wake();
    for (address, table) in cut {
        let _ = network::cut(address, &table, false);
    }
    let left = processes::end_all(
        &processes::Marks {
            environment: vec![format!("JUJU_MODEL_UUID={uuid}")],
            folders: vec![
                engine.paths.root.join("agents"),
                engine.paths.root.join("storage"),
            ],
        },
        true,
    );
    if !left.is_empty() {
        bail!("cannot end processes {left:?} of the model");
    }
    // Nothing of a pod is kept, so nothing need end in good order.
    let verb = if pods_of.is_some() { "kill" } else { "down" };
    // One that does not go keeps no other one.
    let failed: Vec<String> = homes
        .iter()
        .filter_map(|home| home.tell(verb).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    if let Some(model) = &pods_of {
        pods::cluster_down(model);
    }
    for name in Paths::made() {
        let path = engine.paths.root.join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(_) => continue,
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    // It stays when somebody else has put something there.
    let _ = fs::remove_dir(&engine.paths.root);
    Ok(())
}

/// Tells whether there is a hook tool of that name.
#[must_use]
pub fn is_hook_tool(name: &str) -> bool {
    tools::TOOLS.iter().any(|(tool, _)| *tool == name)
}

#[cfg(test)]
mod tests;
