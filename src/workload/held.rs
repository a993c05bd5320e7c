//! The data set held on to while it is the only place of what was written last.
//!
//! A server that is made to follow another one replaces its whole data set, within moments and on
//! anybody's order. So second names (hard links) are kept for the files of a primary: they cost no
//! space and no time. valkey-server never changes a file of its data set other than by appending to
//! the last part of the append-only file; everything else is written anew, renamed and unlinked
//! (seen with 8.0.1 and 9.1.2). What the links name is therefore complete, up to the last write
//! before the data set was replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tracing::{info, warn};

use super::files::{self, make_dir, sync_dir};
use super::kept::{self, ABOUT, INCOMPLETE};
use super::{Layout, WorkloadError};

/// What came of an attempt to hold on to the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// There is no data set.
    Nothing,
    /// It is held already.
    Held,
    /// Its files have changed; they are held once that is confirmed.
    Prepared,
}

/// The files of a data set below its directory, and which files they are.
pub(super) type Parts = BTreeMap<PathBuf, u64>;

fn held(layout: &Layout) -> PathBuf {
    layout.kept().join(".held")
}

fn prepared(layout: &Layout) -> PathBuf {
    layout.kept().join(format!("{INCOMPLETE}held"))
}

/// Lists the files that a server would load from `directory`.
pub(super) fn parts(directory: &Path) -> io::Result<Parts> {
    let mut parts = Parts::new();
    let snapshot = PathBuf::from(Layout::SNAPSHOT);
    match fs::metadata(directory.join(&snapshot)) {
        Ok(found) => {
            parts.insert(snapshot, found.ino());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let entries = match fs::read_dir(directory.join(Layout::APPEND_ONLY_DIR)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(parts),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // What is being written under another name is no part yet.
        if name.to_string_lossy().starts_with("temp-") {
            continue;
        }
        match entry.metadata() {
            Ok(found) if found.is_file() => {
                parts.insert(Path::new(Layout::APPEND_ONLY_DIR).join(name), found.ino());
            }
            // Deleted meanwhile by a rewrite.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(parts)
}

/// Links the files of the data set as they are now, unless they are held already.
pub(super) fn prepare(layout: &Layout) -> Result<Hold, WorkloadError> {
    let held = held(layout);
    let look = || -> io::Result<Hold> {
        let live = parts(&layout.data())?;
        if live.is_empty() {
            return Ok(Hold::Nothing);
        }
        if live == parts(&held)? {
            return Ok(Hold::Held);
        }
        let prepared = prepared(layout);
        discard(&prepared)?;
        fs::create_dir(&prepared)?;
        if live.keys().any(|part| part.parent() != Some(Path::new(""))) {
            fs::create_dir(prepared.join(Layout::APPEND_ONLY_DIR))?;
        }
        for part in live.keys() {
            fs::hard_link(layout.data().join(part), prepared.join(part))?;
        }
        // A rewrite that came between would leave files that do not belong together.
        if parts(&layout.data())? == live {
            Ok(Hold::Prepared)
        } else {
            Err(io::Error::other("the files are just being replaced"))
        }
    };
    make_dir(&layout.kept())?;
    look().map_err(WorkloadError::file("hold on to the data set in", &held))
}

/// Lets what was prepared take the place of what was held.
pub(super) fn confirm(layout: &Layout) -> Result<(), WorkloadError> {
    let held = held(layout);
    let swap = || -> io::Result<()> {
        discard(&held)?;
        fs::rename(prepared(layout), &held)?;
        sync_dir(&layout.kept())
    };
    swap().map_err(WorkloadError::file("hold on to the data set in", &held))
}

/// Writes beside the held data set what is known of it.
pub(super) fn describe(layout: &Layout, about: &[u8]) -> Result<(), WorkloadError> {
    files::write_atomic(&held(layout).join(ABOUT), about, files::PRIVATE)
}

/// Reads what is known of the held data set; none if none is held.
pub(super) fn about(layout: &Layout) -> Result<Option<Vec<u8>>, WorkloadError> {
    files::read(&held(layout).join(ABOUT))
}

/// Lets go of the held data set.
pub(super) fn release(layout: &Layout) -> Result<(), WorkloadError> {
    for path in [prepared(layout), held(layout)] {
        discard(&path).map_err(WorkloadError::file("delete", &path))?;
    }
    Ok(())
}

/// Makes the held data set one of those that are kept aside; none if none is held.
pub(super) fn seal(
    layout: &Layout,
    label: &str,
    about: &[u8],
) -> Result<Option<PathBuf>, WorkloadError> {
    let held = held(layout);
    if !held.exists() {
        return Ok(None);
    }
    describe(layout, about)?;
    let name = kept::name(Timestamp::now(), label);
    let complete = layout.kept().join(&name);
    let seal = || -> io::Result<()> {
        match fs::copy(layout.identity(), held.join(kept::IDENTITY)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sync_dir(&held)?;
        fs::rename(&held, &complete)?;
        sync_dir(&layout.kept())
    };
    seal().map_err(WorkloadError::file("keep the data set aside in", &complete))?;
    info!(path = %complete.display(), "Data set kept aside");
    discard_same(layout, &name);
    kept::discard_oldest(&layout.kept(), &name);
    Ok(Some(complete))
}

/// Deletes older sets of the same files: they say no more than this one.
fn discard_same(layout: &Layout, name: &str) {
    let kept = layout.kept();
    let Ok(mine) = parts(&kept.join(name)) else {
        return;
    };
    for other in kept::sets(&kept).iter().filter(|other| *other != name) {
        if parts(&kept.join(other)).is_ok_and(|parts| parts == mine) {
            kept::discard(&kept.join(other));
        }
    }
}

fn discard(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), error = format!("{error:#}"), "Cannot delete a data set");
            Err(error)
        }
        _ => Ok(()),
    }
}
