//! What the charm's own programs said to the journal while no hook ran: the gate, the farewell and the watcher.
//!
//! Juju's log has only what hooks say. So a hook reads on where the last one stopped.

use super::names::Names;
use super::systemctl::run;
use crate::limits::{JOURNAL_LINES_TOLD, SYSTEMCTL_LIMIT};
use crate::workload::{Service, WorkloadError, files};

/// The program's name as the kernel knows it, which tells its lines from those of Valkey in the same service.
const PROGRAM: &str = "_COMM=valkey-operator";

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When it was said, by the machine's clock.
    pub at: String,
    /// Whether it was a warning or an error.
    pub warning: bool,
    /// The line without its level.
    pub text: String,
}

impl Said {
    /// Reads a line as `journalctl --output=short-iso --no-hostname` prints it; none if it is the rest of another.
    fn parse(line: &str) -> Option<Self> {
        let (head, said) = line.split_once("]: ")?;
        let at = head.split(' ').next().filter(|at| !at.is_empty())?;
        let said = said.trim();
        let (level, rest) = said.split_once(' ').unwrap_or((said, ""));
        let (warning, text) = match level {
            "ERROR" | "WARN" => (true, rest),
            "INFO" | "DEBUG" | "TRACE" => (false, rest),
            _ => (false, said),
        };
        Some(Self {
            at: at.to_owned(),
            warning,
            text: text.trim().to_owned(),
        })
    }
}

/// Returns what was said since this was asked last, the oldest first and at most [`JOURNAL_LINES_TOLD`].
///
/// # Errors
///
/// [`WorkloadError`] if the journal cannot be read; the next call then begins anew.
pub(super) async fn since_last(names: &Names) -> Result<Vec<Said>, WorkloadError> {
    let cursor = names.journal_cursor();
    if let Some(place) = cursor.parent() {
        std::fs::create_dir_all(place).map_err(WorkloadError::file("make the directory", place))?;
    }
    let [server, watch] =
        [Service::Server, Service::Watch].map(|it| format!("--unit={}", names.service(it)));
    let read_on = format!("--cursor-file={}", cursor.display());
    let lines = format!("--lines={JOURNAL_LINES_TOLD}");
    let arguments = [
        &read_on,
        &lines,
        "--output=short-iso",
        "--no-hostname",
        "--no-pager",
        "--quiet",
        &server,
        &watch,
        PROGRAM,
    ];
    match run("journalctl", &arguments, SYSTEMCTL_LIMIT).await {
        Ok(text) => Ok(text.lines().filter_map(Said::parse).collect()),
        Err(error) => {
            // A place in the journal that it no longer knows would stop every call after this.
            files::remove(&cursor)?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_journal_are_taken_apart() {
        let said = |at: &str, warning, text: &str| {
            Some(Said {
                at: at.to_owned(),
                warning,
                text: text.to_owned(),
            })
        };
        for (line, expected) in [
            (
                "2026-11-23T08:43:05+0000 valkey-operator[42]:  INFO The machine goes down",
                said("2026-11-23T08:43:05+0000", false, "The machine goes down"),
            ),
            (
                "2026-11-23T08:43:05+00:00 valkey-operator[42]:  WARN Cannot save: [x]: y",
                said("2026-11-23T08:43:05+00:00", true, "Cannot save: [x]: y"),
            ),
            (
                "2026-11-23T08:43:05+00:00 valkey-operator[42]: ERROR",
                said("2026-11-23T08:43:05+00:00", true, ""),
            ),
            (
                "2026-11-23T08:43:05+00:00 valkey-operator[42]: thread 'main' panicked",
                said("2026-11-23T08:43:05+00:00", false, "thread 'main' panicked"),
            ),
            ("    at src/main.rs:1", None),
            ("-- Boot 0123 --", None),
            ("]: x", None),
            ("", None),
        ] {
            assert_eq!(Said::parse(line), expected, "{line}");
        }
    }
}
