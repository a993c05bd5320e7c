//! Pid files that cannot be mistaken: a number is used again, a number with its start time is not.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Running, WorkloadError, files};

/// One process since the machine booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PidFile {
    pub pid: u32,
    /// Start time in clock ticks since boot, as in `/proc/<pid>/stat`.
    pub start_ticks: u64,
    /// The boot that the ticks are counted from.
    pub boot_id: String,
    pub since: Timestamp,
}

impl PidFile {
    /// Describes a process that was just started; none if it is gone already.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        let since = Timestamp::now();
        Some(Self {
            pid,
            start_ticks: stat.start_ticks,
            boot_id: boot_id(),
            since,
        })
    }

    /// Reads the file. One that is damaged says nothing, as if it were not there.
    pub fn read(path: &Path) -> Result<Option<Self>, WorkloadError> {
        Ok(files::read(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub fn write(&self, path: &Path) -> Result<(), WorkloadError> {
        let bytes = serde_json::to_vec(self).map_err(|source| WorkloadError::Document {
            path: path.to_owned(),
            source,
        })?;
        files::write_atomic(path, &bytes, files::PRIVATE)
    }

    /// Says whether this very process lives; one that ended but was not collected does not.
    pub fn is_alive(&self) -> bool {
        self.boot_id == boot_id()
            && Stat::of(self.pid)
                .is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.ended)
    }

    pub fn running(&self) -> Running {
        Running {
            pid: Some(self.pid),
            since: self.since,
        }
    }
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    ended: bool,
    start_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text: io::Result<String> = fs::read_to_string(format!("/proc/{pid}/stat"));
        Self::parse(&text.ok()?)
    }

    /// The program's name stands in brackets and can hold anything, so the last one counts. Behind it
    /// come the fields from the third on; the 22nd is the start time.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self {
            ended: matches!(state, "Z" | "X" | "x"),
            start_ticks,
        })
    }
}

/// Returns the id of the running boot; empty where the system does not tell.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for (head, ended) in [
            ("7 (sh) S", false),
            ("7 (a) b) Z) T", false),
            ("7 (sh) Z", true),
            ("7 (x (y) X", true),
        ] {
            let stat = Stat::parse(&format!("{head} {rest}")).unwrap();
            assert_eq!((stat.ended, stat.start_ticks), (ended, 4711), "{head}");
        }
        for text in ["", "7 (sh)", "7 (sh) S 1 2", "7 sh S 1"] {
            assert!(Stat::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let me = PidFile::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(
            !PidFile {
                start_ticks: me.start_ticks + 1,
                ..me.clone()
            }
            .is_alive()
        );
        assert!(
            !PidFile {
                boot_id: "another".into(),
                ..me
            }
            .is_alive()
        );
    }
}
