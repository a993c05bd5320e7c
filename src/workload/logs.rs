//! Logs of the services: bounded, and their end for error texts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::WorkloadError;
use super::files::open_append;
use crate::limits::{LOG_BYTES_MAX, LOG_TAIL_BYTES};

/// Rotates a log above its bound.
///
/// Copied and cut, not renamed: a process that runs keeps its log open and appends. A line that it
/// writes in between can be lost; the log is for people.
pub(super) fn bound(path: &Path) -> Result<(), WorkloadError> {
    let fail = || WorkloadError::file("rotate", path);
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail()(error)),
    };
    if length <= LOG_BYTES_MAX {
        return Ok(());
    }
    let rotate = || -> io::Result<()> {
        let mut log = OpenOptions::new().read(true).write(true).open(path)?;
        // Its end is what people look for, should it have grown far beyond the bound.
        log.seek(SeekFrom::Start(length - LOG_BYTES_MAX))?;
        let older = older(path);
        let _ = std::fs::remove_file(&older);
        let mut copy = open_append(&older).map_err(io::Error::other)?;
        io::copy(&mut (&mut log).take(LOG_BYTES_MAX), &mut copy)?;
        log.set_len(0)
    };
    rotate().map_err(fail())
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Returns what was written behind `offset`, at most the last few lines, on one line for an error text.
pub(super) fn tail(path: &Path, offset: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(
            offset.max(length.saturating_sub(LOG_TAIL_BYTES)),
        ))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    one_line(&String::from_utf8_lossy(&bytes))
}

/// Puts what was written on one line.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        "(empty)".to_owned()
    } else {
        lines.join(" | ")
    }
}
