//! `juju-exec`: runs commands in a unit's hook context, from a process outside of any hook.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::exchange::exchange;
use super::names::UnitName;
use crate::limits::{JUJU_EXEC_OUTPUT_BYTES_MAX, JUJU_EXEC_TIMEOUT};

/// Where Juju installs the program.
const INSTALLED: &str = "/usr/bin/juju-exec";

/// Why `juju-exec` did not run the commands.
#[derive(Debug, thiserror::Error)]
pub enum JujuExecError {
    /// The program is not there or cannot be run.
    #[error("cannot start `{}`: is this a unit's machine or charm container?", .program.display())]
    Start {
        /// What was run.
        program: PathBuf,
        /// Why it did not start.
        source: io::Error,
    },
    /// The unit's agent did not run the commands in time; it can still do so later.
    #[error("cannot run commands in {unit}: its agent did not run them within {} s", .timeout.as_secs())]
    Timeout {
        /// The unit.
        unit: UnitName,
        /// How long was waited.
        timeout: Duration,
    },
    /// The pipes to the program broke.
    #[error("cannot exchange data with `juju-exec`")]
    Exchange {
        /// What broke.
        source: io::Error,
    },
}

/// What the commands printed and how they ended.
///
/// Juju passes the commands' own exit status on, so a failure of `juju-exec` itself (1, with a text
/// that begins with `ERROR`) looks like one of theirs.
#[derive(Debug, Clone)]
pub struct JujuExecOutput {
    /// How they ended.
    pub status: ExitStatus,
    /// What they printed, cut to a bound.
    pub stdout: String,
    /// What they complained about, cut to a bound.
    pub stderr: String,
}

/// Runs commands through `juju-exec`.
#[derive(Debug, Clone)]
pub struct JujuExec {
    program: PathBuf,
    timeout: Duration,
}

impl Default for JujuExec {
    fn default() -> Self {
        Self::new()
    }
}

impl JujuExec {
    /// Finds `juju-exec` on `PATH`, else where Juju installs it.
    #[must_use]
    pub fn new() -> Self {
        let found = env::var_os("PATH").and_then(|path| {
            env::split_paths(&path)
                .map(|dir| dir.join("juju-exec"))
                .find(|program| program.is_file())
        });
        Self {
            program: found.unwrap_or_else(|| INSTALLED.into()),
            timeout: JUJU_EXEC_TIMEOUT,
        }
    }

    /// Uses this program instead.
    #[must_use]
    pub fn with_program(mut self, program: impl AsRef<Path>) -> Self {
        program.as_ref().clone_into(&mut self.program);
        self
    }

    /// Waits at most this long instead.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the shell text `command` in the hook context of `unit` and waits for its end.
    ///
    /// What the commands change is committed whatever their exit status. It waits for a hook that
    /// runs, so never call it from within one. Giving up does not recall what the agent has queued.
    ///
    /// # Errors
    ///
    /// [`JujuExecError`] if the program cannot be run or gives no answer in time.
    pub async fn run(
        &self,
        unit: &UnitName,
        command: &str,
    ) -> Result<JujuExecOutput, JujuExecError> {
        let child = Command::new(&self.program)
            .arg(unit.to_string())
            .arg(command)
            // juju-exec refuses to run inside a context; ours is one we inherited from a hook long gone.
            .env_remove("JUJU_CONTEXT_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| JujuExecError::Start {
                program: self.program.clone(),
                source,
            })?;
        let answer = exchange(
            child,
            None,
            JUJU_EXEC_OUTPUT_BYTES_MAX,
            JUJU_EXEC_OUTPUT_BYTES_MAX,
        );
        match tokio::time::timeout(self.timeout, answer).await {
            Err(_) => Err(JujuExecError::Timeout {
                unit: unit.clone(),
                timeout: self.timeout,
            }),
            Ok(Err(source)) => Err(JujuExecError::Exchange { source }),
            Ok(Ok(answer)) => Ok(JujuExecOutput {
                status: answer.status,
                stdout: answer.stdout.text(),
                stderr: answer.stderr.text(),
            }),
        }
    }
}
