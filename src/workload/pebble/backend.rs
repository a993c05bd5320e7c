//! Server and Sentinel as services of Pebble in another container of the pod.
//!
//! The containers share the pod's network and the storage, under the same path, and nothing else: no
//! processes, so none of the services has a number here; no program of the charm's in the other
//! container, so the watcher runs in this one. Pebble starts nothing by itself and nothing again:
//! a former primary comes back through the restart gate of a hook only.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::plan::layer;
use super::words::{exit_code, signal_name};
use super::{Client, Current, Exec, PebbleError, ServicesAction};
use crate::limits::{
    KILL_WAIT, PEBBLE_CALL_LIMIT, PEBBLE_LOG_LINES, PEBBLE_POLL, SERVER_VERSION_TIMEOUT,
    SERVICE_POLL, START_SETTLE,
};
use crate::workload::owner::{self, Owner};
use crate::workload::process::ended_at_once;
use crate::workload::server::{self, SERVER_VARIABLE, ServerBinary};
use crate::workload::{
    Backend, Launch, Layout, ProcessWorkload, Running, Service, ServiceStatus, Signal, Stop,
    Stopped, WorkloadError, files, logs, memory,
};

/// Name of the container in the charm's metadata.
pub const CONTAINER: &str = "valkey";

/// Numeric id of the user, and of its group, that Pebble and its services run as, as in the charm's metadata.
pub const IMAGE_USER: u32 = 584_792;

/// Where Juju shows the charm the folders of its containers.
const CONTAINERS: &str = "/charm/containers";

/// Label of the charm's layer of the plan.
const LABEL: &str = "valkey-operator";

/// Runs server and Sentinel through Pebble, and the watcher as a process of this container.
#[derive(Debug, Clone)]
pub struct PebbleWorkload {
    client: Client,
    /// Who works with the files, if this process may give them away.
    owner: Option<Owner>,
    /// The other container's memory in bytes, once it was asked for.
    memory_bytes: Option<u64>,
    /// Does what has nothing to do with Pebble: files, data, the watcher.
    plain: ProcessWorkload,
}

/// A version that was asked for once, and the run of Pebble that it belongs to.
#[derive(Serialize, Deserialize)]
struct Remembered {
    binary: ServerBinary,
    socket: SocketFact,
}

/// Pebble makes its socket anew whenever it starts, which it does with a new image.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct SocketFact {
    inode: u64,
    changed_seconds: i64,
    nanoseconds: i64,
}

impl SocketFact {
    fn of(socket: &Path) -> Option<Self> {
        let found = std::fs::metadata(socket).ok()?;
        Some(Self {
            inode: found.ino(),
            changed_seconds: found.ctime(),
            nanoseconds: found.ctime_nsec(),
        })
    }
}

impl PebbleWorkload {
    /// Says whether this process runs in a pod beside the charm's container.
    #[must_use]
    pub fn is_possible() -> bool {
        Path::new(CONTAINERS).join(CONTAINER).is_dir()
    }

    /// Works with these paths and the Pebble of the charm's container.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let socket = Path::new(CONTAINERS).join(CONTAINER).join("pebble.socket");
        Self::with_socket(layout, socket)
    }

    /// Works with these paths and the Pebble that listens on `socket`.
    pub fn with_socket(layout: Layout, socket: impl Into<PathBuf>) -> Self {
        let root = rustix::process::geteuid().is_root();
        Self {
            client: Client::new(socket),
            owner: root.then_some(Owner {
                user: IMAGE_USER,
                group: IMAGE_USER,
            }),
            memory_bytes: None,
            plain: ProcessWorkload::new(layout),
        }
    }

    /// Asks how much memory the other container has: its limit is not that of this one.
    #[must_use]
    pub async fn with_memory(mut self) -> Self {
        let read = async |path| {
            let mut text = Vec::new();
            let found = self.client.read_file(path, &mut text).await;
            found.ok().flatten()?;
            String::from_utf8(text).ok()
        };
        let (machine, group) =
            Box::pin(async { tokio::join!(read(memory::MACHINE), read(memory::GROUP)) }).await;
        self.memory_bytes = memory::least(machine.as_deref(), group.as_deref());
        self
    }

    /// Returns the other container's memory in bytes, if it was asked for and answered.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// Returns the way to Pebble.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Lets Pebble end the server now, if the pod ends; until then it waits for the charm, for a limited time.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::File`] if the mark cannot be removed.
    pub async fn let_pod_end(&self) -> Result<(), WorkloadError> {
        self.remove(&self.layout().pod_waits()).await
    }

    /// Says why a service that was started does not run.
    async fn why_not(
        &self,
        service: Service,
        launch: &Launch,
        reason: &str,
        since: Timestamp,
    ) -> WorkloadError {
        let program = launch.program.clone();
        if ["executable file not found", "no such file or directory"]
            .iter()
            .any(|words| reason.contains(words))
        {
            return WorkloadError::MissingBinary { program };
        }
        let Some(code) = exit_code(reason) else {
            return if ["permission denied", "exec format error"]
                .iter()
                .any(|words| reason.contains(words))
            {
                let source = io::Error::other(reason.to_owned());
                WorkloadError::NotExecutable { program, source }
            } else {
                let (what, reason) = ("start a service", reason.to_owned());
                PebbleError::Failed { what, reason }.into()
            };
        };
        let lines = self.client.logs(service.name(), PEBBLE_LOG_LINES).await;
        let said: Vec<String> = lines
            .unwrap_or_default()
            .into_iter()
            .filter(|line| line.time >= since)
            .map(|line| line.message)
            .collect();
        // Pebble adds 128 for a signal, as a shell does.
        let status = match code {
            129.. => ExitStatus::from_raw(code - 128),
            _ => ExitStatus::from_raw(code << 8),
        };
        ended_at_once(service, status, logs::one_line(&said.join("\n")))
    }

    /// Waits until a service does not run; says whether that came within `limit`.
    async fn down(&self, service: Service, limit: Duration) -> Result<bool, WorkloadError> {
        let deadline = Instant::now() + limit;
        loop {
            if !self.status(service).await?.is_running() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(SERVICE_POLL).await;
        }
    }

    /// Asks the server in the image for its version.
    async fn ask_version(&self) -> Result<ServerBinary, WorkloadError> {
        let named = std::env::var(SERVER_VARIABLE).ok();
        let program = named
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| server::PROGRAM.to_owned());
        let mut exec = Exec::new([program.as_str(), "--version"], SERVER_VERSION_TIMEOUT);
        // The image's user need not have a home, nor be let into the one that Pebble assumes.
        exec.working_dir = Some("/".to_owned());
        let path = PathBuf::from(&program);
        match Box::pin(self.client.exec(&exec, b"")).await {
            Ok(output) => server::parse_version(&String::from_utf8_lossy(&output.stdout))
                .map(|version| ServerBinary {
                    path: path.clone(),
                    version,
                    // Another one comes with another image, which starts everything anew.
                    build: None,
                })
                .ok_or_else(|| WorkloadError::Version {
                    program: path,
                    reason: "it printed something else; is it valkey-server?".to_owned(),
                }),
            Err(PebbleError::Refused { message, .. })
                if message.contains("cannot find executable") =>
            {
                Err(WorkloadError::MissingBinary { program: path })
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Backend for PebbleWorkload {
    fn layout(&self) -> &Layout {
        self.plain.layout()
    }

    async fn make_dirs(&self) -> Result<(), WorkloadError> {
        self.plain.make_dirs().await?;
        match self.owner {
            Some(owner) => owner::give_dirs(self.plain.layout(), owner).await,
            None => Ok(()),
        }
    }

    async fn start(&self, service: Service, launch: &Launch) -> Result<Running, WorkloadError> {
        if service == Service::Watch {
            return self.plain.start(service, launch).await;
        }
        if let ServiceStatus::Running(running) = self.status(service).await? {
            return Ok(running);
        }
        let mark = self.layout().pod_waits();
        if service == Service::Server {
            self.write(&mark, b"", 0o600).await?;
        }
        let since = Timestamp::now();
        self.client
            .add_layer(LABEL, &layer(service, launch, &mark)?)
            .await?;
        let change = self
            .client
            .change_services(ServicesAction::Start, &[service.name()])
            .await?;
        // Pebble itself watches for a second, which is longer than a hook has to wait.
        let mut ended = self.client.settled(&change, START_SETTLE).await?;
        let status = self.status(service).await?;
        if ended.is_none() && !status.is_running() {
            ended = self.client.settled(&change, PEBBLE_CALL_LIMIT).await?;
        }
        if let Some(reason) = ended.and_then(|change| change.err) {
            return Err(self.why_not(service, launch, &reason, since).await);
        }
        match status {
            ServiceStatus::Running(running) => {
                info!(%service, "Started");
                Ok(running)
            }
            ServiceStatus::Stopped => Err(WorkloadError::NotRunning { service }),
        }
    }

    async fn status(&self, service: Service) -> Result<ServiceStatus, WorkloadError> {
        if service == Service::Watch {
            return self.plain.status(service).await;
        }
        let found = match self.client.services(&[service.name()]).await {
            // With Pebble ends the container and all that ran in it.
            Err(error) if error.is_absent() => return Ok(ServiceStatus::Stopped),
            found => found?,
        };
        Ok(match found.into_iter().next() {
            Some(found) if matches!(found.current, Current::Active | Current::Unknown) => {
                ServiceStatus::Running(Running {
                    pid: None,
                    since: found.current_since.unwrap_or(Timestamp::UNIX_EPOCH),
                })
            }
            Some(_) | None => ServiceStatus::Stopped,
        })
    }

    async fn stop(&self, service: Service, how: Stop) -> Result<Stopped, WorkloadError> {
        if service == Service::Watch {
            return self.plain.stop(service, how).await;
        }
        if service == Service::Server {
            // The charm itself ends it: the pod's end has nothing to wait for.
            self.let_pod_end().await?;
        }
        // Not Pebble's own stop, which kills in the end whoever asks.
        match self.signal(service, how.signal).await {
            Err(WorkloadError::NotRunning { .. }) => return Ok(Stopped::Before),
            sent => sent?,
        }
        let still_running = |waited: Duration| WorkloadError::StillRunning {
            service,
            pid: None,
            waited,
        };
        let stopped = if self.down(service, how.grace).await? {
            Stopped::Ended
        } else if how.then_kill {
            warn!(%service, grace_s = how.grace.as_secs_f64(), "Killing what does not end");
            match self.signal(service, Signal::Kill).await {
                Ok(()) | Err(WorkloadError::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
            if !self.down(service, KILL_WAIT).await? {
                return Err(still_running(how.grace + KILL_WAIT));
            }
            Stopped::Killed
        } else {
            return Err(still_running(how.grace));
        };
        info!(%service, "Stopped");
        Ok(stopped)
    }

    async fn signal(&self, service: Service, signal: Signal) -> Result<(), WorkloadError> {
        if service == Service::Watch {
            return self.plain.signal(service, signal).await;
        }
        let not_running = WorkloadError::NotRunning { service };
        match self
            .client
            .signal(signal_name(signal), &[service.name()])
            .await
        {
            Ok(()) => Ok(()),
            Err(error) if error.is_absent() => Err(not_running),
            // Refused because nobody is there to hear it, or for another reason.
            Err(error @ PebbleError::Refused { .. }) => {
                if self.status(service).await?.is_running() {
                    Err(error.into())
                } else {
                    Err(not_running)
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn exited(&self, service: Service) -> Result<(), WorkloadError> {
        if service == Service::Watch {
            return self.plain.exited(service).await;
        }
        while self.status(service).await?.is_running() {
            sleep(PEBBLE_POLL).await;
        }
        Ok(())
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkloadError> {
        match self.owner {
            Some(owner) if owner::is_theirs(self.plain.layout(), path) => {
                owner::write(path, bytes, mode, owner).await
            }
            _ => self.plain.write(path, bytes, mode).await,
        }
    }

    async fn server(&self) -> Result<ServerBinary, WorkloadError> {
        let memory = self.plain.layout().server_version();
        let socket = SocketFact::of(self.client.socket());
        let remembered: Option<Remembered> =
            files::read(&memory)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let (Some(remembered), Some(socket)) = (remembered, &socket)
            && remembered.socket == *socket
        {
            return Ok(remembered.binary);
        }
        let binary = self.ask_version().await?;
        if let Some(socket) = socket {
            let remembered = Remembered {
                binary: binary.clone(),
                socket,
            };
            server::remember(&memory, &remembered);
        }
        Ok(binary)
    }

    async fn bound_logs(&self) -> Result<(), WorkloadError> {
        // Those of the services are Pebble's and Kubernetes'; the watcher's is here.
        self.plain.bound_logs().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charms_metadata_says_the_same() {
        let text = include_str!("../../../metadata.yaml");
        let metadata: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        let container = &metadata["containers"][CONTAINER];
        for key in ["uid", "gid"] {
            assert_eq!(container[key].as_u64(), Some(IMAGE_USER.into()), "{key}");
        }
        let storage = &metadata["storage"]["data"]["location"];
        assert_eq!(
            &container["mounts"][0]["location"], storage,
            "the same path in both"
        );
        assert_eq!(container["mounts"][0]["storage"].as_str(), Some("data"));
    }
}
