//! The model's log, in the form of `juju debug-log`.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::limits::DEBUG_LOG_MAX;

use super::model::tag;

/// The log file; it is set aside when it grows too large.
#[derive(Debug)]
pub struct DebugLog {
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

impl DebugLog {
    /// Makes a log that opens its file at the first line.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: Mutex::new(None),
        }
    }

    /// Writes lines of a unit. Failures are ignored: a full disk must not stop the units.
    pub fn write(&self, unit: &str, level: &str, logger: &str, text: &str) {
        let time = Timestamp::now().strftime("%H:%M:%S");
        let entity = tag(unit);
        let line = format!(
            "{entity}: {time} {level} {logger} {}\n",
            text.trim_end_matches('\n')
        );
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|(_, size)| *size > DEBUG_LOG_MAX) {
            *slot = None;
            let _ = fs::rename(&self.path, self.path.with_extension("log.1"));
        }
        if slot.is_none() {
            let Ok(file) = OpenOptions::new()
                .append(true)
                .create(true)
                // What charms print may hold anything.
                .mode(0o600)
                .open(&self.path)
            else {
                return;
            };
            let size = file.metadata().map_or(0, |data| data.len());
            *slot = Some((file, size));
        }
        if let Some((file, size)) = slot.as_mut() {
            let _ = file.write_all(line.as_bytes());
            *size += u64::try_from(line.len()).unwrap_or(0);
        }
    }
}
