//! Runs a hook's, an action's or a command's process: its environment, its output, its end.
//!
//! A hook has no time limit, as in Juju; what it does is the charm's business.

use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::limits::{BUSY_GRACE, LOG_LINE_MAX, OUTPUT_GRACE, OUTPUT_MAX, POLL};

use super::context::Context;
use super::home::Home;
use super::model::Model;
use super::paths::Paths;
use super::resolver::Kind;
use super::state::Engine;

/// Standard path of a machine's agent.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin";

/// Version of Kubernetes that charms in pods are told.
const CLUSTER_VERSION: &str = "1.34.4";

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// Tells whether SIGTERM or SIGKILL ended it.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        matches!(self.status.signal(), Some(9 | 15))
    }

    /// Returns the exit status as a shell does.
    #[must_use]
    pub fn code(&self) -> u8 {
        let signalled = self.status.signal().map(|signal| 128 + signal);
        let code = self.status.code().or(signalled).unwrap_or(1);
        u8::try_from(code).unwrap_or(1)
    }
}

/// A stream's bytes so far, and who tells of its end.
type Stream = (Arc<Mutex<Vec<u8>>>, Receiver<()>);

/// A started process.
pub struct Running {
    child: Child,
    streams: [Stream; 2],
}

impl Running {
    /// Process id, which is also its group's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn wait(mut self) -> Result<Ended> {
        let status = self.child.wait().context("cannot wait for a process")?;
        let deadline = Instant::now() + OUTPUT_GRACE;
        let [stdout, stderr] = self.streams.map(|(bytes, done)| {
            let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(Ended {
            status,
            stdout,
            stderr,
        })
    }
}

/// Starts a process in the charm directory, on the unit's own machine where it has one; its output is kept, and logged line by line unless it is a
/// command with text for standard input.
///
/// # Errors
///
/// When it cannot be started.
pub fn start(
    engine: &Arc<Engine>,
    program: &Path,
    arguments: &[&str],
    environment: Vec<(String, String)>,
    unit: &str,
    logger: &str,
    stdin: Option<&str>,
) -> Result<Running> {
    let home = Home::of(engine, &engine.lock().model, unit);
    let directory = engine.paths.unit_charm(unit);
    let (program, arguments) = match home {
        Some(home) => home.wrap(program, arguments, &directory),
        None => (
            program.to_path_buf(),
            arguments.iter().map(|&one| one.to_owned()).collect(),
        ),
    };
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(directory)
        .process_group(0)
        .stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child =
        spawn(&mut command).with_context(|| format!("cannot start {}", program.display()))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
        // A shell that ends early does not read everything; that is no fault.
        let _ = pipe.write_all(text.as_bytes());
    }
    // What commands of `juju-exec` print goes to who called them and nowhere else: it may be secret.
    let logger = stdin.is_none().then(|| format!("unit.{unit}.{logger}"));
    let stdout = follow(
        engine,
        child.stdout.take(),
        unit,
        "DEBUG",
        logger.as_deref(),
    );
    let stderr = follow(
        engine,
        child.stderr.take(),
        unit,
        "WARNING",
        logger.as_deref(),
    );
    Ok(Running {
        child,
        streams: [stdout, stderr],
    })
}

/// Starts a process; one whose file was just written may be busy in a child of another thread for a moment.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let deadline = Instant::now() + BUSY_GRACE;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(POLL);
            }
            result => return result,
        }
    }
}

/// Reads a stream to its end on a thread of its own; logs its lines if there is a `logger`.
fn follow<R: Read + Send + 'static>(
    engine: &Arc<Engine>,
    stream: Option<R>,
    unit: &str,
    level: &'static str,
    logger: Option<&str>,
) -> Stream {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (done, told) = channel();
    let Some(mut stream) = stream else {
        return (kept, told);
    };
    let (engine, shared) = (Arc::clone(engine), Arc::clone(&kept));
    let (unit, logger) = (unit.to_owned(), logger.map(str::to_owned));
    std::thread::spawn(move || {
        let mut buffer = vec![0_u8; 8192];
        let mut line: Vec<u8> = Vec::new();
        let log = |line: &mut Vec<u8>| {
            if let (Some(logger), false) = (&logger, line.is_empty()) {
                engine
                    .log
                    .write(&unit, level, logger, &String::from_utf8_lossy(line));
            }
            line.clear();
        };
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_MAX.saturating_sub(kept.len());
                kept.extend(bytes.iter().take(room));
            }
            for byte in bytes {
                if *byte == b'\n' || line.len() >= LOG_LINE_MAX {
                    log(&mut line);
                }
                if *byte != b'\n' {
                    line.push(*byte);
                }
            }
        }
        log(&mut line);
        let _ = done.send(());
    });
    (kept, told)
}

/// Returns the environment of a run, built from nothing.
#[must_use]
pub fn environment(model: &Model, context: &Context, paths: &Paths) -> Vec<(String, String)> {
    let Some((unit, application)) = model.unit(&context.unit) else {
        return Vec::new();
    };
    let mut vars: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| vars.push((name.to_owned(), value.to_owned()));
    // What the person gave comes first: nothing of Juju's can be overridden by it, except the path's tail.
    for (name, value) in &application.env {
        set(name, value);
    }
    let charm = paths.unit_charm(&unit.name).display().to_string();
    let hook = context.hook.as_ref();
    set("CHARM_DIR", &charm);
    set("JUJU_CHARM_DIR", &charm);
    set("JUJU_CONTEXT_ID", &context.id);
    set(
        "JUJU_HOOK_NAME",
        &hook.map(super::resolver::Hook::name).unwrap_or_default(),
    );
    let socket = paths.agent(&unit.name).join("agent.socket");
    set("JUJU_AGENT_SOCKET_ADDRESS", &socket.display().to_string());
    set("JUJU_AGENT_SOCKET_NETWORK", "unix");
    set("JUJU_UNIT_NAME", &unit.name);
    set("JUJU_MODEL_UUID", &model.uuid);
    set("JUJU_MODEL_NAME", &model.name);
    set(
        "JUJU_API_ADDRESSES",
        &format!("{}:17070", model.controller()),
    );
    if !model.variant.is_four() {
        set("JUJU_SLA", "unsupported");
    }
    let pods = model.settings.has_pods();
    let machine = if pods {
        String::new()
    } else {
        unit.machine.to_string()
    };
    set("JUJU_MACHINE_ID", &machine);
    set("CLOUD_API_VERSION", if pods { CLUSTER_VERSION } else { "" });
    for (name, value) in super::pods::service_environment(model) {
        set(&name, &value);
    }
    for name in ["JUJU_PRINCIPAL_UNIT", "JUJU_AVAILABILITY_ZONE"] {
        set(name, "");
    }
    set("JUJU_VERSION", model.variant.version());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY"] {
        set(&format!("JUJU_CHARM_{name}"), "");
    }
    if model.variant.is_four() {
        for name in ["HTTP", "GRPC", "CA_CERT"] {
            set(&format!("JUJU_CHARM_TRACE_CONFIG_{name}"), "");
        }
    }
    about(model, context, paths, &mut set);
    set("APT_LISTCHANGES_FRONTEND", "none");
    set("DEBIAN_FRONTEND", "noninteractive");
    set("LANG", "C.UTF-8");
    set("TERM", "tmux-256color");
    let tail = application.env.get("PATH").map_or(PATH, String::as_str);
    set(
        "PATH",
        &format!("{}:{tail}", paths.tools(&unit.name).display()),
    );
    vars
}

/// Adds the variables that tell what a run is about.
fn about(model: &Model, context: &Context, paths: &Paths, set: &mut impl FnMut(&str, &str)) {
    let Some((unit, _)) = model.unit(&context.unit) else {
        return;
    };
    let task = context
        .task
        .and_then(|id| model.tasks.get(&id))
        .filter(|_| context.is_action);
    if let Some(relation) = context.relation.and_then(|id| model.relations.get(&id)) {
        let end = relation
            .own(&unit.application)
            .map_or("", |end| end.name.as_str());
        set("JUJU_RELATION", end);
        set("JUJU_RELATION_ID", &relation.shown_id(&unit.application));
        set(
            "JUJU_REMOTE_UNIT",
            context.remote_unit.as_deref().unwrap_or_default(),
        );
        set(
            "JUJU_REMOTE_APP",
            context.remote_application.as_deref().unwrap_or_default(),
        );
    }
    if let Some(hook) = &context.hook {
        if hook.kind == Kind::RelationDeparted {
            let departing = hook
                .relation
                .as_ref()
                .and_then(|facts| facts.departing.as_deref());
            set("JUJU_DEPARTING_UNIT", departing.unwrap_or_default());
        }
        if let Some(storage) = hook.storage.as_ref().and_then(|id| model.storage.get(id)) {
            set("JUJU_STORAGE_ID", &storage.id);
            set(
                "JUJU_STORAGE_LOCATION",
                &super::pods::storage_location(model, paths, storage)
                    .display()
                    .to_string(),
            );
            set("JUJU_STORAGE_KIND", &storage.kind);
        }
        if let Some((id, revision)) = &hook.secret {
            set("JUJU_SECRET_ID", &format!("secret:{id}"));
            let secret = model.secrets.get(id);
            let own = secret.filter(|secret| secret.is_owned_by(&unit.name));
            let label = own.map(|secret| secret.label.clone()).or_else(|| {
                secret
                    .and_then(|s| s.consumers.get(&unit.name))
                    .map(|c| c.label.clone())
            });
            set("JUJU_SECRET_LABEL", &label.unwrap_or_default());
            if matches!(hook.kind, Kind::SecretExpired | Kind::SecretRemove) {
                set("JUJU_SECRET_REVISION", &revision.to_string());
            }
        }
        if let Some(workload) = &hook.workload {
            set("JUJU_WORKLOAD_NAME", &workload.container);
            if let Some((id, kind, key)) = &workload.notice {
                set("JUJU_NOTICE_ID", id);
                set("JUJU_NOTICE_TYPE", kind);
                set("JUJU_NOTICE_KEY", key);
            }
            if let Some(check) = &workload.check {
                set("JUJU_PEBBLE_CHECK_NAME", check);
            }
        }
        set("JUJU_DISPATCH_PATH", &format!("hooks/{}", hook.name()));
    }
    if let Some(task) = task {
        set("JUJU_ACTION_NAME", &task.action);
        set("JUJU_ACTION_UUID", &task.id.to_string());
        set("JUJU_ACTION_TAG", &format!("action-{}", task.id));
        set("JUJU_DISPATCH_PATH", &format!("actions/{}", task.action));
    }
}

/// What is found for a hook or action in a charm directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// `dispatch`.
    Dispatch(std::path::PathBuf),
    /// An own file in `hooks/` or `actions/`.
    Own(std::path::PathBuf),
    /// Nothing.
    Missing,
}

/// Finds what runs for a hook or action, such as `hooks/start`.
#[must_use]
pub fn entry(charm: &Path, path: &str) -> Entry {
    let dispatch = charm.join("dispatch");
    if dispatch.exists() {
        return Entry::Dispatch(dispatch);
    }
    let own = charm.join(path);
    if own.exists() {
        Entry::Own(own)
    } else {
        Entry::Missing
    }
}
