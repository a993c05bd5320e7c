//! The engine's socket, and how hook tools reach it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::api::{Request, Response};
use crate::limits::{LINE_MAX, SOCKET_PATH_MAX};

/// Returns a short path to a socket, with the directory that must stay open while it is used.
fn short(socket: &Path) -> Result<(PathBuf, Option<File>)> {
    if socket.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((socket.to_path_buf(), None));
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        bail!("cannot use socket {}", socket.display());
    };
    let folder = File::open(parent).with_context(|| format!("cannot open {}", parent.display()))?;
    let path = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name);
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

/// Connects to a socket, however long its path is.
///
/// # Errors
///
/// When nobody listens there.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let (path, _folder) = short(socket)?;
    UnixStream::connect(path).with_context(|| format!("cannot reach {}", socket.display()))
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
    stream
        .set_read_timeout(longest)
        .context("cannot limit the wait for the engine")?;
    let mut line = serde_json::to_vec(request).context("cannot write a request")?;
    line.push(b'\n');
    (&stream)
        .write_all(&line)
        .context("cannot send a request to the engine")?;
    let mut answer = String::new();
    BufReader::new((&stream).take(LINE_MAX))
        .read_line(&mut answer)
        .context("cannot read the engine's answer")?;
    if answer.is_empty() {
        bail!("the engine ended before it answered");
    }
    serde_json::from_str(&answer).context("cannot understand the engine's answer")
}
