//! The way to the engine: where the model lies, the socket, and starting the engine when it does not run.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::api::{Request, Response};
use crate::limits::{ANSWER_TIMEOUT, LINE_MAX, POLL, SOCKET_PATH_MAX, START_TIMEOUT};

/// Name of the engine's socket in the state directory.
const SOCKET: &str = "engine.socket";

/// Lines of the engine's log that are shown when it does not start.
const LOG_LINES_SHOWN: usize = 10;

/// Returns the absolute state directory: the given one, or the default below `$XDG_STATE_HOME` or `$HOME`.
///
/// # Errors
///
/// When none is given and neither variable is set.
pub fn state_directory(given: Option<PathBuf>) -> Result<PathBuf> {
    let from = |variable: &str, rest: &str| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(|value| PathBuf::from(value).join(rest).join("juju-local/default"))
    };
    let state = given
        .or_else(|| from("XDG_STATE_HOME", ""))
        .or_else(|| from("HOME", ".local/state"))
        .context(
            "cannot tell where the model lies: give --state DIR, or set JUJU_LOCAL_STATE or HOME",
        )?;
    std::path::absolute(&state)
        .with_context(|| format!("cannot use state directory {}", state.display()))
}

/// A model on this machine, by its state directory.
pub struct Model {
    state: PathBuf,
}

impl Model {
    /// Makes the handle; nothing is touched yet.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        Self { state }
    }

    /// Returns the state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Tells whether something was ever deployed here and not destroyed since.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state.join("model.json").exists() || self.connect().is_ok()
    }

    /// Asks the engine of an existing model, starting it if it does not run.
    ///
    /// # Errors
    ///
    /// When there is no model, the engine cannot be reached, or refuses; the text is for a person.
    pub fn ask(&self, request: &Request) -> Result<Response> {
        if !self.exists() {
            bail!(
                "there is no model in {}: deploy a charm first, with `juju-local deploy PATH`",
                self.state.display()
            );
        }
        self.ask_or_begin(request)
    }

    /// Asks the engine; makes a new model when there is none.
    ///
    /// # Errors
    ///
    /// When the engine cannot be started or reached, or refuses.
    pub fn ask_or_begin(&self, request: &Request) -> Result<Response> {
        let stream = match self.connect() {
            Ok(stream) => stream,
            Err(_) => self.start()?,
        };
        match exchange(stream, request)? {
            Response::Error(text) => Err(anyhow!(text)),
            response => Ok(response),
        }
    }

    /// Asks for something that is only done, not answered with more.
    ///
    /// # Errors
    ///
    /// As [`Model::ask`].
    pub fn order(&self, request: &Request) -> Result<()> {
        self.ask(request).map(drop)
    }

    /// Tells whether an engine listens.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.connect().is_ok()
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        let socket = self.state.join(SOCKET);
        if socket.as_os_str().len() <= SOCKET_PATH_MAX {
            return UnixStream::connect(socket);
        }
        // The kernel takes only short socket paths; an open directory gives any path a short name.
        let directory = File::open(&self.state)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
    }

    /// Starts the engine in the background and waits until it answers.
    fn start(&self) -> Result<UnixStream> {
        let state = &self.state;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .with_context(|| format!("cannot make state directory {}", state.display()))?;
        let log_path = state.join("engine.log");
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log_path);
        let log = log.with_context(|| format!("cannot open {}", log_path.display()))?;
        let program = std::env::current_exe().context("cannot find the juju-local program")?;
        let mut engine = Command::new(program)
            .arg("--state")
            .arg(state)
            .arg("engine")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the engine's log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start the engine")?;
        let begin = Instant::now();
        loop {
            match self.connect() {
                Ok(stream) => return Ok(stream),
                Err(error) if begin.elapsed() > START_TIMEOUT => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot reach the engine within {} s{}",
                            START_TIMEOUT.as_secs(),
                            last_words(&log_path)
                        )
                    });
                }
                Err(_) => {}
            }
            // Another command may have been faster: then this engine ends, and the other one answers.
            if let Some(status) = engine.try_wait().context("cannot watch the engine")?
                && !status.success()
                && self.connect().is_err()
            {
                bail!(
                    "cannot start the engine: it ended with {status}{}",
                    last_words(&log_path)
                );
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Says that the engine answered something else.
///
/// # Errors
///
/// Always.
pub fn unexpected() -> super::Done {
    bail!(
        "cannot understand the engine's answer: is it of another version? `juju-local handle crash-engine` ends it"
    )
}

/// Sends one request and reads its answer.
fn exchange(mut stream: UnixStream, request: &Request) -> Result<Response> {
    // `juju-exec` and `destroy` do as much as they are told to; everything else is answered from memory.
    let patience = if matches!(request, Request::JujuExec(_)) {
        None
    } else {
        Some(ANSWER_TIMEOUT)
    };
    stream
        .set_read_timeout(patience)
        .context("cannot set a time limit")?;
    stream
        .set_write_timeout(Some(ANSWER_TIMEOUT))
        .context("cannot set a time limit")?;
    let mut line = serde_json::to_vec(request).context("cannot put the request in words")?;
    line.push(b'\n');
    stream
        .write_all(&line)
        .context("cannot send to the engine")?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream).take(LINE_MAX);
    let read = reader.read_line(&mut answer);
    match read {
        Ok(0) => bail!("the engine ended before it answered; the next command starts it again"),
        Ok(_) => serde_json::from_str(&answer)
            .context("cannot understand the engine: is it of another version? `juju-local handle crash-engine` ends it"),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            bail!("the engine did not answer within {} s", ANSWER_TIMEOUT.as_secs())
        }
        Err(error) => Err(error).context("cannot read the engine's answer"),
    }
}

/// Returns the last lines of the engine's log, to be put behind an error's text.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if last.is_empty() {
        String::new()
    } else {
        format!("; its last words:\n{}", last.join("\n"))
    }
}
