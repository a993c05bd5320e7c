//! The data directory: what is in it, and whether a server can work in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{DataDirError, Layout, WorkloadError};

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFact {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written; none if the system does not tell.
    pub modified: Option<Timestamp>,
}

/// What data lies in the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataPresence {
    /// The snapshot.
    pub snapshot: Option<FileFact>,
    /// Whether there is an append-only file: its list of parts, without which it is not loaded.
    pub append_only: bool,
    /// Size of the append-only file's parts in bytes.
    pub append_only_bytes: u64,
}

impl DataPresence {
    /// Says whether a server would start without any data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && !self.append_only
    }
}

/// Looks at the data directory; one that is not there holds nothing.
pub(super) fn presence(layout: &Layout) -> Result<DataPresence, WorkloadError> {
    let path = layout.snapshot();
    let snapshot = match fs::metadata(&path) {
        Ok(found) => Some(FileFact {
            bytes: found.len(),
            modified: found
                .modified()
                .ok()
                .and_then(|time| Timestamp::try_from(time).ok()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(WorkloadError::file("look at", &path)(error)),
    };
    let parts = append_only_parts(layout)?;
    Ok(DataPresence {
        snapshot,
        append_only: parts
            .iter()
            .any(|(path, _)| path.extension().is_some_and(|end| end == "manifest")),
        append_only_bytes: parts.iter().map(|(_, bytes)| bytes).sum(),
    })
}

/// Lists the files of the append-only directory with their sizes in bytes.
pub(super) fn append_only_parts(layout: &Layout) -> Result<Vec<(PathBuf, u64)>, WorkloadError> {
    let directory = layout.append_only_dir();
    let list = || -> io::Result<Vec<(PathBuf, u64)>> {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut parts = Vec::new();
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(found) if found.is_file() => parts.push((entry.path(), found.len())),
                // Deleted meanwhile by a rewrite.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        parts.sort();
        Ok(parts)
    };
    list().map_err(WorkloadError::file("list", &directory))
}

/// Checks that a server can work in the data directory, which is made if only it is missing.
pub(super) fn check(layout: &Layout) -> Result<(), DataDirError> {
    check_directory(layout.storage(), false)?;
    let data = layout.data();
    if let Err(error) = fs::create_dir(&data)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(DataDirError::of(&data, error));
    }
    check_directory(&data, true)?;
    for path in [layout.snapshot(), layout.append_only_dir()] {
        match File::open(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DataDirError::of(&path, error));
            }
            _ => {}
        }
    }
    // Only writing shows a read-only or full disk.
    let probe = data.join(".write-test");
    let written = write_probe(&probe);
    let _ = fs::remove_file(&probe);
    written.map_err(|error| DataDirError::of(&data, error))
}

fn check_directory(path: &Path, ours: bool) -> Result<(), DataDirError> {
    let found = fs::metadata(path).map_err(|error| DataDirError::of(path, error))?;
    let path = path.to_owned();
    if !found.is_dir() {
        return Err(DataDirError::NotADirectory { path });
    }
    if !ours {
        return Ok(());
    }
    let user = rustix::process::geteuid().as_raw();
    // Root works in everybody's directories, and then so does the server that it starts.
    if user != 0 && found.uid() != user {
        return Err(DataDirError::WrongOwner {
            path,
            owner: found.uid(),
            user,
        });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o700 != 0o700 {
        return Err(DataDirError::WrongMode { path, mode });
    }
    Ok(())
}

/// Writes as much as a file system cannot keep beside its metadata, down to the disk.
fn write_probe(path: &Path) -> io::Result<()> {
    const PROBE_BYTES: usize = 16 * 1024;
    // Made anew: the server's user may have put a link under this name.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&[b'.'; PROBE_BYTES])?;
    file.sync_all()
}
