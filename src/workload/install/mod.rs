//! Brings valkey-server onto the machine: from a resource of the charm, else from the distribution.

mod apt;
mod archive;
mod source;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::info;

use self::archive::Content;
use self::source::{Source, System};
use super::systemd::Names;
use super::{Layout, ServerBinary, WorkloadError, files, server};

/// Why there is no server yet. Trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The archive of packages does not answer.
    #[error(
        "cannot install Valkey: the archive of packages cannot be reached; give the machine network or a proxy \
         (model option apt-http-proxy), or attach the resource valkey-server. {said}"
    )]
    Unreachable {
        /// What apt said.
        said: String,
    },
    /// The archive does not have it.
    #[error(
        "cannot install Valkey: the distribution has no package valkey-server in the archives that apt knows; \
         add one, or attach the resource valkey-server. {said}"
    )]
    NotOffered {
        /// What apt said, or why it was not asked.
        said: String,
    },
    /// There is no apt.
    #[error("cannot install Valkey: apt-get is missing; attach the resource valkey-server")]
    NoApt,
    /// Somebody else is installing.
    #[error("cannot install Valkey now: another program installs packages; tried again later")]
    Locked,
    /// There is no space.
    #[error("cannot install Valkey: the disk is full; make space. {said}")]
    DiskFull {
        /// What apt said.
        said: String,
    },
    /// It took too long.
    #[error("cannot install Valkey: `apt-get {what}` did not end within {} s", .limit.as_secs())]
    Slow {
        /// Which call.
        what: String,
        /// How long it had.
        limit: Duration,
    },
    /// apt failed for another reason.
    #[error("cannot install Valkey: `apt-get {what}` failed: {said}")]
    Apt {
        /// Which call.
        what: String,
        /// What it said.
        said: String,
    },
    /// The resource is not what it should be.
    #[error("cannot use the resource valkey-server: {why}; attach another file")]
    Resource {
        /// What is wrong.
        why: String,
    },
    /// A file, or the server's binary.
    #[error("cannot install Valkey: {0}")]
    Workload(#[from] WorkloadError),
}

impl InstallError {
    fn file(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Workload(WorkloadError::file(what, path)(source))
    }

    /// Says whether it stays so until a person does something.
    #[must_use]
    pub fn needs_person(&self) -> bool {
        !matches!(self, Self::Locked | Self::Slow { .. })
    }
}

/// Finds the server where it is installed already; none if it is nowhere.
///
/// # Errors
///
/// [`WorkloadError`] if it is there, but cannot be run.
pub async fn installed(
    names: &Names,
    layout: &Layout,
) -> Result<Option<ServerBinary>, WorkloadError> {
    let own = names.installed_server();
    let given = own.is_file().then_some(own.as_path());
    match server::find(given, layout).await {
        Ok(found) => Ok(Some(found)),
        Err(WorkloadError::MissingBinary { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says whether a resource's file is one: none attached, or an empty one, is not.
#[must_use]
pub fn is_attached(resource: &Path) -> bool {
    fs::metadata(resource).is_ok_and(|found| found.len() > 0)
}

/// Returns the file that says which resource was installed.
fn installed_digest(names: &Names) -> PathBuf {
    names.installed().join("resource.sha256")
}

/// Installs what a resource holds, unless that is what is installed.
///
/// # Errors
///
/// [`InstallError`] with what is in the way.
pub async fn from_resource(names: &Names, resource: &Path) -> Result<(), InstallError> {
    let digest = archive::digest(resource)?;
    let known = installed_digest(names);
    if files::read(&known)?.as_deref() == Some(digest.as_bytes()) {
        return Ok(());
    }
    let place = names.installed();
    let unpacked = place.join("unpacked");
    clear(&unpacked)?;
    let done = match archive::open(resource, &unpacked).await {
        Ok(Content::Server(path)) => archive::put(&path, &names.installed_server()),
        Ok(Content::Packages(paths)) => {
            let paths: Vec<String> = paths
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            // Its dependencies may come from the distribution, with the lists that are there.
            apt::install_files(names, &paths).await
        }
        Err(error) => Err(error),
    };
    clear(&unpacked)?;
    done?;
    fs::create_dir_all(&place).map_err(|error| InstallError::file("make", &place, error))?;
    files::write_atomic(&known, digest.as_bytes(), 0o644)?;
    info!(digest, "Installed from the resource");
    Ok(())
}

fn clear(path: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::file("clear", path, error))
        }
        _ => Ok(()),
    }
}

fn system() -> Result<System, InstallError> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).map_err(|error| InstallError::file("read", path, error))?;
    Ok(System::parse(&text))
}

/// Installs the distribution's package.
///
/// # Errors
///
/// [`InstallError`] with what is in the way.
pub async fn from_distribution(names: &Names) -> Result<(), InstallError> {
    let system = system()?;
    let suite = match source::source(&system) {
        Source::Packages => None,
        Source::Suite(suite) => Some(suite),
        Source::None(said) => return Err(InstallError::NotOffered { said }),
    };
    apt::install(names, &[apt::PACKAGE], suite.as_deref(), &system).await
}
