//! Plain files: written in one step, read with a bound.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::WorkloadError;
use crate::limits::FILE_READ_BYTES_MAX;

/// Mode of files that only this user may read.
pub(super) const PRIVATE: u32 = 0o600;

/// Runs file work beside the runtime, so that a slow disk does not hold up the network.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkloadError> + Send + 'static,
) -> Result<T, WorkloadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(WorkloadError::file("work on", Path::new("files"))(
                io::Error::other(cancelled),
            )),
        },
    }
}

/// Makes a directory and those that it lies in, and takes all rights from group and others.
pub(super) fn make_dir(path: &Path) -> Result<(), WorkloadError> {
    let fail = || WorkloadError::file("make the directory", path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fail())?;
    let mode = fs::metadata(path).map_err(fail())?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o700)).map_err(fail())?;
    }
    Ok(())
}

/// Replaces a file in one step.
pub(super) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkloadError> {
    write_atomic_for(path, bytes, mode, None)
}

/// Replaces a file in one step; it belongs to this user and group then, if they are given.
pub(super) fn write_atomic_for(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<(), WorkloadError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        // Made with mode 0600, deleted again if anything fails before the rename.
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        if let Some((user, group)) = owner {
            fchown(file.as_file(), Some(user), Some(group))?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_dir(parent)
    };
    write().map_err(WorkloadError::file("write", path))
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads a file that is not larger than it can rightly be; none if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, WorkloadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WorkloadError::file("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_READ_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(WorkloadError::file("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= FILE_READ_BYTES_MAX) {
        Ok(Some(bytes))
    } else {
        Err(WorkloadError::TooLarge {
            path: path.to_owned(),
            limit_bytes: FILE_READ_BYTES_MAX,
        })
    }
}

/// Returns a text that changes with the content of a file of any size.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1024 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Writes bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), WorkloadError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(WorkloadError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Opens a file for adding to its end, readable by this user only.
pub(super) fn open_append(path: &Path) -> Result<File, WorkloadError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(PRIVATE)
        .open(path)
        .map_err(WorkloadError::file("open", path))
}

/// Returns how many bytes this user can still write below `path`.
pub(super) fn free_space_bytes(path: &Path) -> Result<u64, WorkloadError> {
    let found = rustix::fs::statvfs(path)
        .map_err(|errno| WorkloadError::file("measure the free space of", path)(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
