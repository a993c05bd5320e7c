//! What belongs to the user that server and Sentinel run as, if that is another one than the charm's.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::files::{self, blocking};
use super::{Layout, WorkloadError};

/// Numeric ids of a user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// Returns the directories in which the services work.
fn theirs(layout: &Layout) -> [PathBuf; 3] {
    [layout.data(), layout.sentinel(), layout.config()]
}

/// Gives the services' directories, which are there, to their user.
pub(super) async fn give_dirs(layout: &Layout, owner: Owner) -> Result<(), WorkloadError> {
    let layout = layout.clone();
    blocking(move || {
        let_pass(layout.storage())?;
        theirs(&layout)
            .iter()
            .try_for_each(|directory| give(directory, owner))
    })
    .await
}

/// Says whether a path lies in the services' directories.
pub(super) fn is_theirs(layout: &Layout, path: &Path) -> bool {
    theirs(layout)
        .iter()
        .any(|directory| path.starts_with(directory))
}

/// Replaces a file in one step, which belongs to `owner` then.
pub(super) async fn write(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Owner,
) -> Result<(), WorkloadError> {
    let (path, bytes) = (path.to_owned(), bytes.to_owned());
    blocking(move || files::write_atomic_for(&path, &bytes, mode, Some((owner.user, owner.group))))
        .await
}

/// Gives a directory with all that is in it to `owner`, unless it has it already.
///
/// The directory itself comes last: if that is interrupted, all of it is done again. Links are not
/// followed, and what is on another file system is left alone.
fn give(directory: &Path, owner: Owner) -> Result<(), WorkloadError> {
    let found =
        fs::symlink_metadata(directory).map_err(WorkloadError::file("look at", directory))?;
    if !found.is_dir() {
        return Err(
            WorkloadError::file("give to the service's user", directory)(
                io::ErrorKind::NotADirectory.into(),
            ),
        );
    }
    if (found.uid(), found.gid()) == (owner.user, owner.group) {
        return Ok(());
    }
    warn!(path = %directory.display(), user = owner.user, "Giving files to the service's user");
    give_all(directory, owner, found.dev())
        .map_err(WorkloadError::file("give to the service's user", directory))
}

fn give_all(path: &Path, owner: Owner, device: u64) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.dev() != device {
        return Ok(());
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), owner, device)?;
        }
    }
    lchown(path, Some(owner.user), Some(owner.group))
}

/// Lets other users pass through a directory, which they need to reach their own below it.
fn let_pass(directory: &Path) -> Result<(), WorkloadError> {
    let fail = || WorkloadError::file("open for the service's user", directory);
    let mode = fs::metadata(directory)
        .map_err(fail())?
        .permissions()
        .mode();
    if mode & 0o011 != 0o011 {
        fs::set_permissions(
            directory,
            fs::Permissions::from_mode((mode & 0o7777) | 0o011),
        )
        .map_err(fail())?;
    }
    Ok(())
}
