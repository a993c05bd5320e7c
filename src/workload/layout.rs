//! Where everything is.

use std::path::{Path, PathBuf};

use super::Service;

/// All paths of a unit. What belongs to the data lies on its storage and goes where the data goes;
/// what belongs to running processes lies in the run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    storage: PathBuf,
    run: PathBuf,
}

impl Layout {
    /// Name of the snapshot file in the data directory.
    pub const SNAPSHOT: &'static str = "dump.rdb";
    /// Name of the directory of the append-only file in the data directory.
    pub const APPEND_ONLY_DIR: &'static str = "appendonlydir";

    /// Lays everything out below a storage's mount point and a run directory.
    #[must_use]
    pub fn new(storage: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            storage: storage.into(),
            run: run.into(),
        }
    }

    /// Returns the mount point of the storage.
    #[must_use]
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// Returns the run directory: pid files, wake file, logs.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Returns the server's working directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.storage.join("data")
    }

    /// Returns the snapshot file.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.data().join(Self::SNAPSHOT)
    }

    /// Returns the directory of the append-only file.
    #[must_use]
    pub fn append_only_dir(&self) -> PathBuf {
        self.data().join(Self::APPEND_ONLY_DIR)
    }

    /// Returns Sentinel's working directory.
    #[must_use]
    pub fn sentinel(&self) -> PathBuf {
        self.storage.join("sentinel")
    }

    /// Returns Sentinel's configuration; it belongs to Sentinel itself after the first start.
    #[must_use]
    pub fn sentinel_config(&self) -> PathBuf {
        self.sentinel().join("sentinel.conf")
    }

    /// Returns the directory of the rendered configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.storage.join("conf")
    }

    /// Returns the server's configuration.
    #[must_use]
    pub fn server_config(&self) -> PathBuf {
        self.config().join("valkey.conf")
    }

    /// Returns the server's users.
    #[must_use]
    pub fn server_users(&self) -> PathBuf {
        self.config().join("users.acl")
    }

    /// Returns Sentinel's users.
    #[must_use]
    pub fn sentinel_users(&self) -> PathBuf {
        self.config().join("sentinel-users.acl")
    }

    /// Returns the mark for which the end of a pod waits: the charm has something to do first.
    #[must_use]
    pub fn pod_waits(&self) -> PathBuf {
        self.config().join("pod-waits")
    }

    /// Returns the directory of data sets that were kept aside.
    #[must_use]
    pub fn kept(&self) -> PathBuf {
        self.storage.join("kept")
    }

    /// Returns the document that says whose data this is.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.storage.join("identity.json")
    }

    /// Returns a service's pid file.
    #[must_use]
    pub fn pid_file(&self, service: Service) -> PathBuf {
        self.run.join(format!("{service}.pid"))
    }

    /// Returns the file by which a hook wakes the watcher.
    #[must_use]
    pub fn wake(&self) -> PathBuf {
        self.run.join("wake")
    }

    /// Returns the file that says what to watch.
    #[must_use]
    pub fn watch_file(&self) -> PathBuf {
        self.run.join("watch.json")
    }

    /// Returns the file with what the gate of the server's service has to know.
    #[must_use]
    pub fn gate_file(&self) -> PathBuf {
        self.run.join("gate.json")
    }

    /// Returns the file that remembers the server binary's version.
    #[must_use]
    pub fn server_version(&self) -> PathBuf {
        self.run.join("server-version.json")
    }

    /// Returns the file that says what a service was started with last.
    #[must_use]
    pub fn started(&self, service: Service) -> PathBuf {
        self.run.join(format!("{service}.started"))
    }

    /// Returns the directory of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    /// Returns a service's log.
    #[must_use]
    pub fn log(&self, service: Service) -> PathBuf {
        self.logs().join(format!("{service}.log"))
    }

    /// Returns all directories, each after those that it lies in.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let run = self.run.clone();
        vec![
            self.data(),
            self.sentinel(),
            self.config(),
            self.kept(),
            run,
            self.logs(),
        ]
    }
}
