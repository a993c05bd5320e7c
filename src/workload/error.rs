//! What can go wrong with processes and files, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::pebble::PebbleError;
use super::{SERVER_VARIABLE, Service};

/// Why a process or file did not do what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The program is not there.
    #[error(
        "cannot find the program {}: install it, or name the server's binary in {SERVER_VARIABLE}",
        .program.display()
    )]
    MissingBinary {
        /// The program.
        program: PathBuf,
    },
    /// The program is there but cannot be run.
    #[error("cannot run {}: is it an executable program for this machine?", .program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else listens on a port that the service needs.
    #[error(
        "cannot start {service}: its port is in use; stop whoever else listens on it. Its log: {log}"
    )]
    PortInUse {
        /// The service.
        service: Service,
        /// The end of its log.
        log: String,
    },
    /// The service may not read or write what it needs.
    #[error(
        "cannot start {service}: it lacks a permission; check owner and mode of the files. Its log: {log}"
    )]
    Forbidden {
        /// The service.
        service: Service,
        /// The end of its log.
        log: String,
    },
    /// The service finds no space.
    #[error(
        "cannot start {service}: the disk is full; make space or grow the storage. Its log: {log}"
    )]
    DiskFull {
        /// The service.
        service: Service,
        /// The end of its log.
        log: String,
    },
    /// The service ended right after its start for another reason.
    #[error("cannot start {service}: it ended at once ({status}). Its log: {log}")]
    EndedAtOnce {
        /// The service.
        service: Service,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The service did not end in time.
    #[error(
        "cannot stop {service}{}: it still runs after {} s",
        .pid.map_or(String::new(), |pid| format!(" (process {pid})")),
        .waited.as_secs_f64()
    )]
    StillRunning {
        /// The service.
        service: Service,
        /// Its process, if that can be known.
        pid: Option<u32>,
        /// How long was waited.
        waited: Duration,
    },
    /// The service does not run.
    #[error("cannot signal {service}: it does not run")]
    NotRunning {
        /// The service.
        service: Service,
    },
    /// The system refuses to start, signal or watch a process.
    #[error("cannot {what} the process of {service}")]
    Process {
        /// What was wanted.
        what: &'static str,
        /// The service.
        service: Service,
        /// Why not.
        source: io::Error,
    },
    /// The system refuses to read or change a file.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was wanted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is larger than it can rightly be.
    #[error("cannot read {}: it is larger than {limit_bytes} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit_bytes: u64,
    },
    /// A JSON document is damaged, or from another version.
    #[error("cannot read or write {} as the document that belongs there", .path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A second copy of the data would not fit.
    #[error(
        "cannot keep the data set aside: it needs {needed_bytes} bytes and {free_bytes} are free; \
         make space or grow the storage"
    )]
    NoSpaceToKeep {
        /// Space that the copy needs, with a margin.
        needed_bytes: u64,
        /// Space that there is.
        free_bytes: u64,
    },
    /// The data directory cannot be worked in.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A program of the system did not do what it was asked to.
    #[error("cannot run `{command}`: {reason}")]
    Tool {
        /// What was run.
        command: String,
        /// What happened.
        reason: String,
    },
    /// Pebble did not do what it was asked to.
    #[error(transparent)]
    Pebble(#[from] PebbleError),
    /// The server's binary does not tell its version.
    #[error("cannot learn the version of {}: {reason}", .program.display())]
    Version {
        /// The binary.
        program: PathBuf,
        /// What it did instead.
        reason: String,
    },
}

impl WorkloadError {
    /// What stands in a text before the end of a log.
    pub const LOG_MARK: &'static str = " Its log:";

    /// Says whether it stays so until a person changes something on this machine.
    #[must_use]
    pub fn needs_person(&self) -> bool {
        match self {
            Self::MissingBinary { .. }
            | Self::NotExecutable { .. }
            | Self::PortInUse { .. }
            | Self::Forbidden { .. }
            | Self::DiskFull { .. }
            | Self::NoSpaceToKeep { .. }
            | Self::DataDir(_)
            | Self::Version { .. } => true,
            Self::EndedAtOnce { .. }
            | Self::StillRunning { .. }
            | Self::NotRunning { .. }
            | Self::Process { .. }
            | Self::Tool { .. }
            | Self::Pebble(_)
            | Self::File { .. }
            | Self::TooLarge { .. }
            | Self::Document { .. } => false,
        }
    }

    /// Makes a function that says which file an error is about.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// What is wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there.
    #[error("cannot use {}: it is not there; is the storage attached and mounted?", .path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("cannot use {}: it is not a directory; move away what is there", .path.display())]
    NotADirectory {
        /// What is there.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("cannot use {}: it belongs to user {owner}, the server runs as user {user}; run `chown -R {user}` on it", .path.display())]
    WrongOwner {
        /// The file or directory.
        path: PathBuf,
        /// Numeric id of its owner.
        owner: u32,
        /// Numeric id of this process's user.
        user: u32,
    },
    /// Its mode forbids its owner to work in it.
    #[error("cannot use {}: its mode {mode:o} forbids its owner to work with it; run `chmod u+rwX` on it", .path.display())]
    WrongMode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system forbids it for another reason.
    #[error("cannot use {}: permission denied; check owner, mode and security policy", .path.display())]
    Forbidden {
        /// The file or directory.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write to {}: the file system is read-only; check the disk and the mount", .path.display())]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// There is no space, or no quota.
    #[error("cannot write to {}: the disk is full; make space or grow the storage", .path.display())]
    Full {
        /// The directory.
        path: PathBuf,
    },
    /// Something else, a broken disk for instance.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl DataDirError {
    /// Sorts an error of the system.
    pub(super) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::NotADirectory { path }
            }
            io::ErrorKind::PermissionDenied => Self::Forbidden { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_what_to_do() {
        for (kind, expected) in [
            (io::ErrorKind::NotFound, "is the storage attached"),
            (io::ErrorKind::PermissionDenied, "permission denied"),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                "the file system is read-only",
            ),
            (io::ErrorKind::StorageFull, "the disk is full"),
            (io::ErrorKind::QuotaExceeded, "the disk is full"),
            (io::ErrorKind::NotADirectory, "not a directory"),
        ] {
            let text = DataDirError::of(Path::new("/srv/data"), kind.into()).to_string();
            assert!(
                text.contains(expected) && text.contains("/srv/data"),
                "{kind:?}: {text}"
            );
        }
    }
}
