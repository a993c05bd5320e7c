//! How commands and hook tools reach the engine, and how it is started.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::api::{Request, Response};
use crate::limits::{ANSWER_TIMEOUT, LINE_MAX, POLL, SOCKET_PATH_MAX, START_TIMEOUT};

use super::paths::{Paths, make_private};

/// Returns a short path to a socket, with the directory that must stay open while it is used.
fn short(socket: &Path) -> Result<(PathBuf, Option<File>)> {
    if socket.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((socket.to_path_buf(), None));
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        bail!("cannot use socket {}", socket.display());
    };
    let folder = File::open(parent).with_context(|| format!("cannot open {}", parent.display()))?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((path, Some(folder)))
}

/// Listens on a socket; an old one is replaced.
///
/// # Errors
///
/// When it cannot be bound.
pub fn listen(socket: &Path) -> Result<UnixListener> {
    let _ = fs::remove_file(socket);
    let (path, _folder) = short(socket)?;
    UnixListener::bind(path).with_context(|| format!("cannot listen on {}", socket.display()))
}

/// Sends a request to the engine behind a socket and waits for its response, at most for `longest`.
///
/// # Errors
///
/// When the engine does not live or does not answer.
pub fn exchange(socket: &Path, request: &Request, longest: Option<Duration>) -> Result<Response> {
    let (path, _folder) = short(socket)?;
    let stream = UnixStream::connect(path)
        .with_context(|| format!("cannot reach the engine at {}", socket.display()))?;
    stream.set_read_timeout(longest).context("cannot limit the wait for the engine")?;
    let mut line = serde_json::to_vec(request).context("cannot write a request")?;
    line.push(b'\n');
    (&stream).write_all(&line).context("cannot send a request to the engine")?;
    let mut answer = String::new();
    BufReader::new((&stream).take(LINE_MAX))
        .read_line(&mut answer)
        .context("cannot read the engine's answer")?;
    if answer.is_empty() {
        bail!("the engine ended before it answered");
    }
    serde_json::from_str(&answer).context("cannot understand the engine's answer")
}

/// Sends a request to the engine of a state directory, which is started if it does not run.
///
/// A directory without a model is left alone unless the request is a deployment or otherwise begins one.
///
/// # Errors
///
/// When there is no model, or the engine cannot be started or reached.
pub fn call(root: &Path, request: &Request) -> Result<Response> {
    let paths = Paths::new(root);
    let begins = matches!(
        request,
        Request::Deploy(_) | Request::AddSecret { .. } | Request::Handle(_) | Request::Status
    );
    if !begins && !paths.model().exists() {
        if matches!(request, Request::Destroy) {
            bail!("no model in {}", root.display());
        }
        bail!("no model in {}; deploy a charm first", root.display());
    }
    if matches!(request, Request::Status) && !paths.model().exists() {
        let version = super::model::Variant::default().version().to_owned();
        let mut report = crate::report::StatusReport::default();
        report.model.name = root.file_name().and_then(|n| n.to_str()).unwrap_or("default").to_owned();
        "iaas".clone_into(&mut report.model.kind);
        "local".clone_into(&mut report.model.controller);
        "local".clone_into(&mut report.model.cloud);
        report.model.version = version;
        let now = jiff::Timestamp::now();
        report.controller.timestamp = now.strftime("%H:%M:%SZ").to_string();
        return Ok(Response::Status(Box::new(report)));
    }
    ensure(&paths)?;
    exchange(&paths.socket(), request, Some(ANSWER_TIMEOUT))
}

/// Starts the engine unless it runs.
fn ensure(paths: &Paths) -> Result<()> {
    let alive = || exchange(&paths.socket(), &Request::Ping, Some(START_TIMEOUT)).is_ok();
    if alive() {
        return Ok(());
    }
    if !paths.model().exists()
        && fs::read_dir(&paths.root).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| !entry.file_name().to_str().is_some_and(|n| Paths::made().contains(&n)))
        })
    {
        bail!("cannot use {} as a state directory: it holds other files", paths.root.display());
    }
    make_private(&paths.root)?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(paths.engine_log())
        .context("cannot open the engine's log")?;
    let program = std::env::current_exe().context("cannot find the own program")?;
    let mut child = Command::new(program)
        .arg("engine")
        .arg(&paths.root)
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| name == "PATH" || name == "RUST_BACKTRACE"))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the engine's log")?)
        .stderr(log)
        .spawn()
        .context("cannot start the engine")?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if alive() {
            return Ok(());
        }
        // Another command may have started one at the same time; then this one ends and that one answers.
        let ended = child.try_wait().ok().flatten().is_some();
        if Instant::now() > deadline {
            bail!(
                "cannot start the engine{}; see {}",
                if ended { ": it ended at once" } else { "" },
                paths.engine_log().display()
            );
        }
        std::thread::sleep(POLL);
    }
}
