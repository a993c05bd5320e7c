//! Data sets that were kept aside before something overwrote them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tracing::{info, warn};

use super::files::{free_space_bytes, make_dir, sync_dir};
use super::{Layout, WorkloadError, data, held};
use crate::limits::{FREE_SPACE_MARGIN_BYTES, KEPT_SETS_MAX};

/// What becomes of the data set in its old place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It stays. Its files get second names, which takes no time and no space. A server that runs
    /// meanwhile goes on appending to the last of them, until its data set is replaced: so the set
    /// also holds what was written last.
    Link,
    /// It goes: the data directory is without data afterwards. No server may run.
    Move,
}

/// Begins the name of a set that is not complete.
pub(super) const INCOMPLETE: &str = ".incomplete-";

/// The copy of the document that says whose data a set is.
pub(super) const IDENTITY: &str = "identity.json";

/// The document that says how a set came to be kept.
pub(super) const ABOUT: &str = "about.json";

/// A data set that is kept aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSet {
    /// Where it is.
    pub path: PathBuf,
    /// What was written down about it, if anything.
    pub about: Option<Vec<u8>>,
}

/// Longest label, in characters: enough for a reason, far from the file system's limit.
const LABEL_CHARACTERS_MAX: usize = 40;

pub(super) fn keep_aside(
    layout: &Layout,
    label: &str,
    keep: Keep,
) -> Result<Option<PathBuf>, WorkloadError> {
    let parts = data::append_only_parts(layout)?;
    let found = data::presence(layout)?;
    if found.snapshot.is_none() && parts.is_empty() {
        return Ok(None);
    }
    if keep == Keep::Link
        && let Some(path) = newest_of_same_files(layout)
    {
        return Ok(Some(path));
    }
    // Also a set that is only linked soon needs its size: the old blocks are not freed when the live
    // files are replaced.
    let size = found.append_only_bytes + found.snapshot.map_or(0, |snapshot| snapshot.bytes);
    let needed_bytes = size.saturating_add(FREE_SPACE_MARGIN_BYTES);
    let free_bytes = free_space_bytes(layout.storage())?;
    if free_bytes < needed_bytes {
        return Err(WorkloadError::NoSpaceToKeep {
            needed_bytes,
            free_bytes,
        });
    }
    let kept = layout.kept();
    make_dir(&kept)?;
    discard_incomplete(&kept);
    let name = self::name(Timestamp::now(), label);
    let incomplete = kept.join(format!("{INCOMPLETE}{name}"));
    let complete = kept.join(&name);
    let fill = || -> io::Result<()> {
        fs::create_dir(&incomplete)?;
        if found.snapshot.is_some() {
            link(&layout.snapshot(), &incomplete.join(Layout::SNAPSHOT))?;
        }
        if !parts.is_empty() {
            let target = incomplete.join(Layout::APPEND_ONLY_DIR);
            fs::create_dir(&target)?;
            for (part, _) in &parts {
                let Some(name) = part.file_name() else {
                    continue;
                };
                link(part, &target.join(name))?;
            }
            sync_dir(&target)?;
        }
        // Says whose data it is and how far it went.
        match copy(&layout.identity(), &incomplete.join(IDENTITY)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sync_dir(&incomplete)?;
        fs::rename(&incomplete, &complete)?;
        sync_dir(&kept)
    };
    if let Err(error) = fill() {
        discard_incomplete(&kept);
        return Err(WorkloadError::file("keep the data set aside in", &complete)(error));
    }
    info!(path = %complete.display(), bytes = size, "Data set kept aside");
    if keep == Keep::Move {
        remove_originals(layout).map_err(WorkloadError::file("clear", &layout.data()))?;
    }
    discard_oldest(&kept, &name);
    Ok(Some(complete))
}

/// Returns the newest set if it holds the very files that the data set has now.
///
/// What follows may fail and be tried again: each try would push an older set out that a person may need.
fn newest_of_same_files(layout: &Layout) -> Option<PathBuf> {
    let newest = layout.kept().join(sets(&layout.kept()).pop()?);
    let live = held::parts(&layout.data()).ok()?;
    (held::parts(&newest).ok()? == live).then_some(newest)
}

/// Removes what has been linked into a complete set. Only now: an interruption before that leaves
/// the data where it was.
fn remove_originals(layout: &Layout) -> io::Result<()> {
    for removed in [
        fs::remove_file(layout.snapshot()),
        fs::remove_dir_all(layout.append_only_dir()),
    ] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_dir(&layout.data())
}

/// Gives a file a second name; where the file system has no links, copies it.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => copy(from, to),
        Ok(()) => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// Returns the name of a set that is kept since `at`.
pub(super) fn name(at: Timestamp, label: &str) -> String {
    format!(
        "{}-{}",
        at.strftime("%Y%m%dT%H%M%S%.3fZ"),
        safe_label(label)
    )
}

/// Makes any text fit for a file name.
fn safe_label(label: &str) -> String {
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    label.chars().take(LABEL_CHARACTERS_MAX).map(fit).collect()
}

fn names(kept: &Path) -> Vec<String> {
    let entries = fs::read_dir(kept).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Deletes what an interruption left; its files are still in the data directory.
fn discard_incomplete(kept: &Path) {
    for name in names(kept)
        .iter()
        .filter(|name| name.starts_with(INCOMPLETE))
    {
        discard(&kept.join(name));
    }
}

/// Lists the sets, oldest first. Only directories whose names begin with a time are sets; what a
/// person put there is none.
pub(super) fn sets(kept: &Path) -> Vec<String> {
    let is_set = |name: &String| name.starts_with(|first: char| first.is_ascii_digit());
    names(kept).into_iter().filter(is_set).collect()
}

/// Describes the sets, oldest first.
pub(super) fn list(layout: &Layout) -> Vec<KeptSet> {
    let kept = layout.kept();
    sets(&kept)
        .into_iter()
        .map(|name| KeptSet {
            about: super::files::read(&kept.join(&name).join(ABOUT))
                .ok()
                .flatten(),
            path: kept.join(name),
        })
        .collect()
}

/// Deletes the oldest sets beyond the bound, never the newest one.
pub(super) fn discard_oldest(kept: &Path, newest: &str) {
    let mut older = sets(kept);
    older.retain(|name| name != newest);
    let surplus = (older.len() + 1).saturating_sub(KEPT_SETS_MAX);
    for name in &older[..surplus] {
        discard(&kept.join(name));
    }
}

/// Deletes a set; that it stays is no reason to fail, the next time tries again.
pub(super) fn discard(path: &Path) {
    match fs::remove_dir_all(path) {
        Ok(()) => {
            info!(path = %path.display(), "Old data set deleted");
        }
        Err(error) => {
            warn!(path = %path.display(), error = format!("{error:#}"), "Cannot delete an old data set");
        }
    }
}
