//! Juju's hook tools, one method each, arguments in Juju's order, answers as JSON.
//!
//! What takes effect when is Juju's business: statuses, the version and logs at once; databags,
//! ports, state and secrets when the hook succeeds.

mod actions;
mod error;
mod model;
mod relations;
mod secrets;
mod storage;
mod unit;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tokio::process::Command;
use tracing::debug;

use super::exchange::exchange;
use crate::limits::{
    HOOK_TOOL_ARGUMENT_BYTES_MAX, HOOK_TOOL_OUTPUT_BYTES_MAX, HOOK_TOOL_STDERR_BYTES_MAX,
    HOOK_TOOL_TIMEOUT,
};

pub use error::ToolError;
pub use model::{
    BindAddress, GoalState, GoalStatus, InterfaceAddress, LogLevel, NetworkInfo, PortError,
    PortRange, Protocol, Status, StatusInfo, StatusKind, StorageInfo,
};
pub use secrets::{
    Revoke, Rotation, SecretContent, SecretInfo, SecretOwner, SecretRead, SecretRef, SecretSpec,
};

/// Juju's hook tools. Cheap to clone; clones share the count of calls.
#[derive(Debug, Clone)]
pub struct HookTools {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where the tools are; none means wherever `PATH` says, as in every hook.
    directory: Option<PathBuf>,
    timeout: Duration,
    calls: AtomicU64,
}

impl Default for HookTools {
    fn default() -> Self {
        Self::new()
    }
}

impl HookTools {
    /// Takes the hook tools from `PATH`, where Juju puts them.
    #[must_use]
    pub fn new() -> Self {
        Self::build(None, HOOK_TOOL_TIMEOUT)
    }

    /// Takes the hook tools from one directory instead.
    #[must_use]
    pub fn with_path(directory: impl AsRef<Path>) -> Self {
        Self::build(Some(directory.as_ref().to_owned()), HOOK_TOOL_TIMEOUT)
    }

    /// Returns the same tools with another deadline for each call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self::build(self.inner.directory.clone(), timeout)
    }

    fn build(directory: Option<PathBuf>, timeout: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                directory,
                timeout,
                calls: AtomicU64::new(0),
            }),
        }
    }

    /// Returns how many hook tools were run so far, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.calls.load(Ordering::Relaxed)
    }

    /// Runs a tool and reads its answer as JSON.
    async fn json<T: DeserializeOwned>(
        &self,
        tool: &'static str,
        args: &[&str],
    ) -> Result<T, ToolError> {
        let output = self.run(tool, args, None).await?;
        serde_json::from_slice(&output).map_err(|error| ToolError::shape(tool, &error))
    }

    /// Runs a tool whose answer does not matter.
    async fn tell(&self, tool: &'static str, args: &[&str]) -> Result<(), ToolError> {
        self.run(tool, args, None).await.map(drop)
    }

    /// Runs a tool that prints plain text.
    async fn text(&self, tool: &'static str, args: &[&str]) -> Result<String, ToolError> {
        let output = self.run(tool, args, None).await?;
        let text = String::from_utf8(output).map_err(|_| ToolError::NotText { tool })?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }

    /// Runs any tool: the one place with the deadline, the bounds and the exit status.
    async fn run(
        &self,
        tool: &'static str,
        args: &[&str],
        stdin: Option<&[u8]>,
    ) -> Result<Vec<u8>, ToolError> {
        if let Some(length) = args
            .iter()
            .map(|arg| arg.len())
            .find(|length| *length > HOOK_TOOL_ARGUMENT_BYTES_MAX)
        {
            return Err(ToolError::ArgumentTooLong { tool, length });
        }
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(ToolError::ArgumentNul { tool });
        }
        let started = Instant::now();
        self.inner.calls.fetch_add(1, Ordering::Relaxed);
        let program = match &self.inner.directory {
            Some(directory) => directory.join(tool),
            None => tool.into(),
        };
        let child = Command::new(program)
            .args(args)
            .stdin(if stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ToolError::Start { tool, source })?;
        let answer = exchange(
            child,
            stdin,
            HOOK_TOOL_OUTPUT_BYTES_MAX,
            HOOK_TOOL_STDERR_BYTES_MAX,
        );
        let timeout = self.inner.timeout;
        let answer = tokio::time::timeout(timeout, answer)
            .await
            .map_err(|_| ToolError::Timeout { tool, timeout })?
            .map_err(|source: io::Error| ToolError::Exchange { tool, source })?;
        // Arguments stay out of the line: they can hold what nobody should read.
        debug!(tool, elapsed_ms = started.elapsed().as_millis(), status = %answer.status, "Hook tool answered");
        if !answer.status.success() {
            let stderr = answer.stderr.text();
            let stderr = stderr
                .strip_prefix("ERROR ")
                .map(str::to_owned)
                .unwrap_or(stderr);
            return Err(ToolError::Failed {
                tool,
                status: answer.status,
                stderr,
            });
        }
        if answer.stdout.cut {
            return Err(ToolError::TooMuch { tool });
        }
        Ok(answer.stdout.bytes)
    }
}

/// Makes a text for people fit for an argument: what it says can come from anywhere, and it must not be
/// refused for that. NUL bytes are replaced; what is too long is cut.
fn message(text: &str) -> Cow<'_, str> {
    const END: &str = " …";
    if text.len() <= HOOK_TOOL_ARGUMENT_BYTES_MAX && !text.contains('\0') {
        return Cow::Borrowed(text);
    }
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= HOOK_TOOL_ARGUMENT_BYTES_MAX {
        return Cow::Owned(text);
    }
    let room = HOOK_TOOL_ARGUMENT_BYTES_MAX - END.len();
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= room;
    let kept = text.char_indices().take_while(fits);
    Cow::Owned(kept.map(|(_, letter)| letter).chain(END.chars()).collect())
}
