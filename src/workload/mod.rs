//! How the local processes are run, and where their files are.
//!
//! Knows nothing of Juju and nothing of Valkey's protocol. [`Backend`] is the contract that every
//! way of running processes fulfils; [`Workload`] is the closed set of them.

mod data;
mod error;
mod files;
mod held;
pub mod install;
mod kept;
mod layout;
mod logs;
mod memory;
mod owner;
pub mod pebble;
mod pid_file;
mod process;
mod server;
pub mod systemd;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use files::blocking;

pub use data::{DataPresence, FileFact};
pub use error::{DataDirError, WorkloadError};
pub use held::Hold;
pub use kept::{Keep, KeptSet};
pub use layout::Layout;
pub use pebble::PebbleWorkload;
pub use process::ProcessWorkload;
pub use server::{Build, SERVER_VARIABLE, ServerBinary};
pub use systemd::SystemdWorkload;

/// What is run for a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// The server that holds the data.
    Server,
    /// Sentinel, which watches all servers.
    Sentinel,
    /// The charm's own watcher.
    Watch,
}

impl Service {
    /// All services, in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Server, Self::Sentinel, Self::Watch];

    /// Returns the name, as in log and pid files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Sentinel => "sentinel",
            Self::Watch => "watch",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What to run for a service. Others can read arguments and environment: no secrets in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program; without a `/` it is looked for on `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables in addition to those that are inherited.
    pub environment: Vec<(String, String)>,
    /// Name or address, and port, on which it takes connections once it serves; told to those who
    /// send clients, if anybody does.
    pub serves: Option<(String, u16)>,
}

impl Launch {
    /// Runs `program` with `args`.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            serves: None,
        }
    }

    /// Says where it takes connections once it serves.
    #[must_use]
    pub fn serving_on(mut self, host: impl Into<String>, port: u16) -> Self {
        self.serves = Some((host.into(), port));
        self
    }
}

/// A signal for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End in order.
    Terminate,
    /// End in order, as from a keyboard.
    Interrupt,
    /// Read something again; its meaning is the program's own.
    Hangup,
    /// Meaning is the program's own.
    User1,
    /// End at once, nothing is saved.
    Kill,
    /// Freeze.
    Freeze,
    /// Go on after a freeze.
    Thaw,
}

/// How to stop a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The signal that asks it to end.
    pub signal: Signal,
    /// How long it may take.
    pub grace: Duration,
    /// Whether it is killed after that; what it has not saved is lost then.
    pub then_kill: bool,
}

impl Stop {
    /// Asks to end in order, and never kills.
    #[must_use]
    pub fn gently(grace: Duration) -> Self {
        Self {
            signal: Signal::Terminate,
            grace,
            then_kill: false,
        }
    }

    /// Asks to end in order, and kills after `grace`.
    #[must_use]
    pub fn surely(grace: Duration) -> Self {
        Self {
            signal: Signal::Terminate,
            grace,
            then_kill: true,
        }
    }
}

/// How a service came to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was not running.
    Before,
    /// It ended by itself after the signal.
    Ended,
    /// It had to be killed.
    Killed,
}

/// A process that runs for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its process id; none in another container, which has numbers of its own.
    pub pid: Option<u32>,
    /// When it was started.
    pub since: Timestamp,
}

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceStatus {
    /// It runs (or is frozen).
    Running(Running),
    /// It does not run; a process that ended but was not collected yet counts as stopped.
    Stopped,
}

impl ServiceStatus {
    /// Says whether it runs.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// What every way of running processes can do.
///
/// Every method is safe to repeat. Paths are those of [`Backend::layout`]. What only looks at files, or
/// moves them about, is the same for all.
#[allow(
    async_fn_in_trait,
    reason = "a contract for this crate's own types, which are used by name"
)]
pub trait Backend {
    /// Returns where everything is.
    fn layout(&self) -> &Layout;

    /// Makes the directories, readable by this user only.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if one cannot be made.
    async fn make_dirs(&self) -> Result<(), WorkloadError>;

    /// Starts a service; one that runs already is left alone.
    ///
    /// Returns once the process has survived a short moment, which does not mean that it serves.
    ///
    /// # Errors
    ///
    /// [`WorkloadError`] if it cannot be started or ended at once, with the end of its log.
    async fn start(&self, service: Service, launch: &Launch) -> Result<Running, WorkloadError>;

    /// Says whether a service runs.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if that cannot be found out.
    async fn status(&self, service: Service) -> Result<ServiceStatus, WorkloadError>;

    /// Stops a service and waits for its end.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::StillRunning`] if it has not ended in time.
    async fn stop(&self, service: Service, how: Stop) -> Result<Stopped, WorkloadError>;

    /// Sends a signal to a service.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::NotRunning`] if there is nobody to receive it.
    async fn signal(&self, service: Service, signal: Signal) -> Result<(), WorkloadError>;

    /// Waits, without a limit, until a service has ended; returns at once if it does not run.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::Process`] if the process cannot be watched.
    async fn exited(&self, service: Service) -> Result<(), WorkloadError>;

    /// Replaces a file in one step: after a power cut it is either the old or the new one.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if it cannot be written.
    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkloadError>;

    /// Reads a file; none if there is none.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if it cannot be read, [`WorkloadError::TooLarge`] above a bound.
    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, WorkloadError> {
        let path = path.to_owned();
        blocking(move || files::read(&path)).await
    }

    /// Removes a file, if there is one.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if it cannot be removed.
    async fn remove(&self, path: &Path) -> Result<(), WorkloadError> {
        files::remove(path)
    }

    /// Keeps the data set aside under a name with the time and `label`; none if there is no data.
    ///
    /// The set becomes visible only when complete; then older sets beyond a bound are deleted.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::NoSpaceToKeep`] if a second copy would not fit; nothing has changed then.
    async fn keep_aside(&self, label: &str, keep: Keep) -> Result<Option<PathBuf>, WorkloadError> {
        let (layout, label) = (self.layout().clone(), label.to_owned());
        blocking(move || kept::keep_aside(&layout, &label, keep)).await
    }

    /// Returns how many bytes this user can still write where the data is.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if the system does not say.
    async fn free_space_bytes(&self) -> Result<u64, WorkloadError> {
        files::free_space_bytes(self.layout().storage())
    }

    /// Tells what data lies in the data directory.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if it cannot be read.
    async fn data_presence(&self) -> Result<DataPresence, WorkloadError> {
        let layout = self.layout().clone();
        blocking(move || data::presence(&layout)).await
    }

    /// Checks that a server can work in the data directory, by writing a small file among others.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::DataDir`] with what is wrong and what to do.
    async fn check_data_dir(&self) -> Result<(), WorkloadError> {
        let layout = self.layout().clone();
        blocking(move || data::check(&layout).map_err(WorkloadError::from)).await
    }

    /// Finds the server's binary and its version.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::MissingBinary`] or [`WorkloadError::Version`].
    async fn server(&self) -> Result<ServerBinary, WorkloadError>;

    /// Returns what changes when a service would be started as something else now: another build of
    /// its program, or other rights and limits; the same on all machines that have the same.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if what the service is run with cannot be read.
    async fn fingerprint(
        &self,
        _service: Service,
        build: &Build,
        _launch: &Launch,
    ) -> Result<String, WorkloadError> {
        Ok(build.digest.clone())
    }

    /// Rotates logs that have become too large; works while the services run.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if a log cannot be rotated.
    async fn bound_logs(&self) -> Result<(), WorkloadError>;
}

/// The ways in which processes are run.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a process has one or two of them, never a list"
)]
pub enum Workload {
    /// Plain processes with pid files, children of no one.
    Process(ProcessWorkload),
    /// Services of systemd.
    Systemd(SystemdWorkload),
    /// Services of Pebble in a container of the same pod.
    Pebble(PebbleWorkload),
}

/// Names of the ways in which processes are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Plain processes with pid files, children of no one.
    #[default]
    Process,
    /// Services of systemd.
    Systemd,
    /// Services of Pebble in a container of the same pod.
    Pebble,
}

impl Kind {
    /// Returns whether units that are run so are pods of Kubernetes.
    #[must_use]
    pub const fn is_pod(self) -> bool {
        match self {
            Self::Process | Self::Systemd => false,
            Self::Pebble => true,
        }
    }
}

/// Passes a call on to the backend that is in use.
macro_rules! each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            Workload::Process($backend) => $call,
            Workload::Systemd($backend) => $call,
            Workload::Pebble($backend) => $call,
        }
    };
}

impl Backend for Workload {
    fn layout(&self) -> &Layout {
        each!(self, backend => backend.layout())
    }

    async fn make_dirs(&self) -> Result<(), WorkloadError> {
        each!(self, backend => backend.make_dirs().await)
    }

    async fn start(&self, service: Service, launch: &Launch) -> Result<Running, WorkloadError> {
        each!(self, backend => backend.start(service, launch).await)
    }

    async fn status(&self, service: Service) -> Result<ServiceStatus, WorkloadError> {
        each!(self, backend => backend.status(service).await)
    }

    async fn stop(&self, service: Service, how: Stop) -> Result<Stopped, WorkloadError> {
        each!(self, backend => backend.stop(service, how).await)
    }

    async fn signal(&self, service: Service, signal: Signal) -> Result<(), WorkloadError> {
        each!(self, backend => backend.signal(service, signal).await)
    }

    async fn exited(&self, service: Service) -> Result<(), WorkloadError> {
        each!(self, backend => backend.exited(service).await)
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkloadError> {
        each!(self, backend => backend.write(path, bytes, mode).await)
    }

    async fn server(&self) -> Result<ServerBinary, WorkloadError> {
        each!(self, backend => backend.server().await)
    }

    async fn fingerprint(
        &self,
        service: Service,
        build: &Build,
        launch: &Launch,
    ) -> Result<String, WorkloadError> {
        each!(self, backend => backend.fingerprint(service, build, launch).await)
    }

    async fn bound_logs(&self) -> Result<(), WorkloadError> {
        each!(self, backend => backend.bound_logs().await)
    }
}

impl Workload {
    /// Runs the processes of the Juju unit `unit` in this way.
    #[must_use]
    pub fn new(kind: Kind, layout: Layout, unit: &str) -> Self {
        match kind {
            Kind::Process => Self::Process(ProcessWorkload::new(layout)),
            Kind::Systemd => Self::Systemd(SystemdWorkload::new(layout, unit)),
            Kind::Pebble => Self::Pebble(PebbleWorkload::new(layout)),
        }
    }

    /// Returns the way in which processes are run.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Process(_) => Kind::Process,
            Self::Systemd(_) => Kind::Systemd,
            Self::Pebble(_) => Kind::Pebble,
        }
    }

    /// Returns the memory in bytes that a share in option `maxmemory` refers to: the machine's, or less
    /// where a control group grants less; none if that is not known.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        match self {
            Self::Process(_) | Self::Systemd(_) => memory::here(),
            Self::Pebble(pebble) => pebble.memory_bytes(),
        }
    }

    /// Lets the server's pod end without waiting for the charm any longer, where it runs in one.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if the mark cannot be removed.
    pub async fn let_pod_end(&self) -> Result<(), WorkloadError> {
        match self {
            Self::Process(_) | Self::Systemd(_) => Ok(()),
            Self::Pebble(pebble) => pebble.let_pod_end().await,
        }
    }

    /// Reads the document that is kept beside the data; none if there is none.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::Document`] if it is not what the caller expects.
    pub async fn read_identity<T: DeserializeOwned>(&self) -> Result<Option<T>, WorkloadError> {
        let path = self.layout().identity();
        let Some(bytes) = self.read(&path).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| WorkloadError::Document { path, source })
    }

    /// Replaces the document that is kept beside the data.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::Document`] if it cannot be written as JSON, [`WorkloadError::File`] if not to disk.
    pub async fn write_identity<T: Serialize>(&self, document: &T) -> Result<(), WorkloadError> {
        let path = self.layout().identity();
        match serde_json::to_vec_pretty(document) {
            Ok(bytes) => self.write(&path, &bytes, 0o600).await,
            Err(source) => Err(WorkloadError::Document { path, source }),
        }
    }

    /// Links the files of the data set, unless they are held already.
    ///
    /// The caller makes sure that the server was the primary until then, and confirms.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if they cannot be linked or are just being replaced.
    pub async fn hold(&self) -> Result<Hold, WorkloadError> {
        let layout = self.layout().clone();
        blocking(move || held::prepare(&layout)).await
    }

    /// Holds on to what [`Workload::hold`] prepared, instead of what was held before.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if nothing was prepared.
    pub async fn confirm_hold(&self) -> Result<(), WorkloadError> {
        let layout = self.layout().clone();
        blocking(move || held::confirm(&layout)).await
    }

    /// Writes down what is known of the data set that is held.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if none is held; [`WorkloadError::Document`] if it cannot be written as JSON.
    pub async fn describe_hold<T: Serialize>(&self, about: &T) -> Result<(), WorkloadError> {
        let layout = self.layout().clone();
        let bytes = self.document(about)?;
        blocking(move || held::describe(&layout, &bytes)).await
    }

    /// Reads what is known of the data set that is held; none if none is, or nothing is known.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if it cannot be read.
    pub async fn held<T: DeserializeOwned>(&self) -> Result<Option<T>, WorkloadError> {
        let layout = self.layout().clone();
        let about = blocking(move || held::about(&layout)).await?;
        Ok(about.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Lets go of the data set that is held, if one is.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if its links cannot be deleted.
    pub async fn release_hold(&self) -> Result<(), WorkloadError> {
        let layout = self.layout().clone();
        blocking(move || held::release(&layout)).await
    }

    /// Keeps the data set that is held aside for good, as [`Backend::keep_aside`] does; none if
    /// none is held.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if it cannot be renamed; [`WorkloadError::Document`] if `about` cannot be
    /// written as JSON.
    pub async fn seal_hold<T: Serialize>(
        &self,
        label: &str,
        about: &T,
    ) -> Result<Option<PathBuf>, WorkloadError> {
        let (layout, label) = (self.layout().clone(), label.to_owned());
        let bytes = self.document(about)?;
        blocking(move || held::seal(&layout, &label, &bytes)).await
    }

    /// Lists the data sets that are kept aside, oldest first.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if the work cannot be done beside the runtime.
    pub async fn kept_sets(&self) -> Result<Vec<KeptSet>, WorkloadError> {
        let layout = self.layout().clone();
        blocking(move || Ok(kept::list(&layout))).await
    }

    fn document<T: Serialize>(&self, document: &T) -> Result<Vec<u8>, WorkloadError> {
        serde_json::to_vec_pretty(document).map_err(|source| WorkloadError::Document {
            path: self.layout().kept(),
            source,
        })
    }
}
