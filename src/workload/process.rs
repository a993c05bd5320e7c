//! Plain processes: children of no one, found again by their pid files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tracing::{info, warn};

use super::files::{self, blocking};
use super::pid_file::PidFile;
use super::server::{self, ServerBinary};
use super::{
    Backend, Launch, Layout, Running, Service, ServiceStatus, Signal, Stop, Stopped, WorkloadError,
    logs,
};
use crate::limits::{KILL_WAIT, START_SETTLE};

/// Variables that belong to one hook and mean nothing, or harm, once it has ended.
const NOT_INHERITED: [&str; 3] = ["JUJU_CONTEXT_ID", "JUJU_DISPATCH_PATH", "JUJU_HOOK_NAME"];

/// Runs services as plain processes with pid files.
///
/// They outlive the hook that started them: own process group, no pipe of the hook's, output
/// appended to a log. Whoever starts and stops does so one at a time, as hooks of a unit do.
#[derive(Debug, Clone)]
pub struct ProcessWorkload {
    layout: Layout,
    server: Option<PathBuf>,
}

impl ProcessWorkload {
    /// Works with these paths; the server's binary is found by environment or `PATH`.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            server: None,
        }
    }

    /// Uses this server binary instead.
    #[must_use]
    pub fn with_server(mut self, program: impl Into<PathBuf>) -> Self {
        self.server = Some(program.into());
        self
    }

    /// Returns the live process of a service, with a handle that cannot come to mean another one.
    pub(super) fn open(
        &self,
        service: Service,
    ) -> Result<Option<(PidFile, OwnedFd)>, WorkloadError> {
        let Some(pid_file) =
            PidFile::read(&self.layout.pid_file(service))?.filter(PidFile::is_alive)
        else {
            return Ok(None);
        };
        let Some(pid) = i32::try_from(pid_file.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            // Looked at again: the handle is of whoever has the number now.
            Ok(handle) => Ok(pid_file.is_alive().then_some((pid_file, handle))),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(errno) => Err(WorkloadError::Process {
                what: "watch",
                service,
                source: errno.into(),
            }),
        }
    }
}

/// Sends a signal; a process that has just ended is no error.
pub(super) fn send(
    service: Service,
    handle: &OwnedFd,
    signal: Signal,
) -> Result<(), WorkloadError> {
    use rustix::process::Signal as System;
    let signal = match signal {
        Signal::Terminate => System::TERM,
        Signal::Interrupt => System::INT,
        Signal::Hangup => System::HUP,
        Signal::User1 => System::USR1,
        Signal::Kill => System::KILL,
        Signal::Freeze => System::STOP,
        Signal::Thaw => System::CONT,
    };
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(WorkloadError::Process {
            what: "signal",
            service,
            source: errno.into(),
        }),
    }
}

/// Waits until the process has ended: its handle becomes readable then.
pub(super) async fn ended(
    service: Service,
    handle: &AsyncFd<OwnedFd>,
) -> Result<(), WorkloadError> {
    match handle.readable().await {
        Ok(_) => Ok(()),
        Err(source) => Err(WorkloadError::Process {
            what: "watch",
            service,
            source,
        }),
    }
}

/// Waits until a process that was asked to end has done so; after its grace it is killed, if it may be.
pub(super) async fn end_in_time(
    service: Service,
    pid: u32,
    handle: OwnedFd,
    how: Stop,
    kill: impl AsyncFnOnce(&OwnedFd) -> Result<(), WorkloadError>,
) -> Result<Stopped, WorkloadError> {
    let still_running = |waited: Duration| WorkloadError::StillRunning {
        service,
        pid: Some(pid),
        waited,
    };
    let handle = watch(service, handle)?;
    if let Ok(result) = tokio::time::timeout(how.grace, ended(service, &handle)).await {
        return result.map(|()| Stopped::Ended);
    }
    if !how.then_kill {
        return Err(still_running(how.grace));
    }
    warn!(%service, pid, grace_s = how.grace.as_secs_f64(), "Killing what does not end");
    kill(handle.get_ref()).await?;
    match tokio::time::timeout(KILL_WAIT, ended(service, &handle)).await {
        Ok(result) => result.map(|()| Stopped::Killed),
        Err(_) => Err(still_running(how.grace + KILL_WAIT)),
    }
}

#[allow(
    deprecated,
    reason = "unsound only for types that change their descriptor; the replacement needs `unsafe`"
)]
pub(super) fn watch(service: Service, handle: OwnedFd) -> Result<AsyncFd<OwnedFd>, WorkloadError> {
    AsyncFd::with_interest(handle, Interest::READABLE).map_err(|source| WorkloadError::Process {
        what: "watch",
        service,
        source,
    })
}

/// Says why a service ended right after its start, by what it wrote.
pub(super) fn ended_at_once(service: Service, status: ExitStatus, log: String) -> WorkloadError {
    let text = log.to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if says(&["address already in use"]) {
        WorkloadError::PortInUse { service, log }
    } else if says(&[
        "permission denied",
        "operation not permitted",
        "read-only file system",
    ]) {
        WorkloadError::Forbidden { service, log }
    } else if says(&["no space left on device", "disk quota exceeded"]) {
        WorkloadError::DiskFull { service, log }
    } else {
        WorkloadError::EndedAtOnce {
            service,
            status,
            log,
        }
    }
}

impl Backend for ProcessWorkload {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn make_dirs(&self) -> Result<(), WorkloadError> {
        let directories = self.layout.directories();
        blocking(move || {
            directories
                .iter()
                .try_for_each(|path| files::make_dir(path))
        })
        .await
    }

    async fn start(&self, service: Service, launch: &Launch) -> Result<Running, WorkloadError> {
        let pid_path = self.layout.pid_file(service);
        if let ServiceStatus::Running(running) = self.status(service).await? {
            return Ok(running);
        }
        files::make_dir(&self.layout.logs())?;
        let log_path = self.layout.log(service);
        logs::bound(&log_path)?;
        let log = files::open_append(&log_path)?;
        let open_log = || {
            log.try_clone()
                .map_err(WorkloadError::file("open", &log_path))
        };
        let log_start = log
            .metadata()
            .map_err(WorkloadError::file("read", &log_path))?
            .len();
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.args)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            // Not the hook's directory, which an upgrade replaces, nor the storage, which is unmounted.
            .current_dir(self.layout.run())
            .stdin(Stdio::null())
            .stdout(open_log()?)
            .stderr(open_log()?)
            .process_group(0);
        for variable in NOT_INHERITED {
            command.env_remove(variable);
        }
        let program = launch.program.clone();
        let mut child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => WorkloadError::MissingBinary { program },
            _ => WorkloadError::NotExecutable { program, source },
        })?;
        // Not collected before it is waited for, so it is there even if it has ended.
        let written = match child.id().and_then(PidFile::of) {
            Some(pid_file) => pid_file.write(&pid_path).map(|()| pid_file),
            None => Err(WorkloadError::NotRunning { service }),
        };
        let pid_file = match written {
            Ok(pid_file) => pid_file,
            Err(error) => {
                // Without its pid file nobody would ever find it again.
                if let Err(error) = child.start_kill() {
                    warn!(%service, error = format!("{error:#}"), "Cannot end a process without a pid file");
                }
                return Err(error);
            }
        };
        match tokio::time::timeout(START_SETTLE, child.wait()).await {
            // It lives. Dropping the child leaves it alone.
            Err(_) => {
                info!(%service, pid = pid_file.pid, "Started");
                Ok(pid_file.running())
            }
            Ok(Err(source)) => Err(WorkloadError::Process {
                what: "watch",
                service,
                source,
            }),
            Ok(Ok(status)) => {
                files::remove(&pid_path)?;
                Err(ended_at_once(
                    service,
                    status,
                    logs::tail(&log_path, log_start),
                ))
            }
        }
    }

    async fn status(&self, service: Service) -> Result<ServiceStatus, WorkloadError> {
        let pid_file = PidFile::read(&self.layout.pid_file(service))?.filter(PidFile::is_alive);
        Ok(pid_file.map_or(ServiceStatus::Stopped, |found| {
            ServiceStatus::Running(found.running())
        }))
    }

    async fn stop(&self, service: Service, how: Stop) -> Result<Stopped, WorkloadError> {
        let pid_path = self.layout.pid_file(service);
        let Some((pid_file, handle)) = self.open(service)? else {
            files::remove(&pid_path)?;
            return Ok(Stopped::Before);
        };
        send(service, &handle, how.signal)?;
        let kill = async |handle: &OwnedFd| send(service, handle, Signal::Kill);
        let stopped = end_in_time(service, pid_file.pid, handle, how, kill).await?;
        files::remove(&pid_path)?;
        info!(%service, pid = pid_file.pid, "Stopped");
        Ok(stopped)
    }

    async fn signal(&self, service: Service, signal: Signal) -> Result<(), WorkloadError> {
        match self.open(service)? {
            Some((_, handle)) => send(service, &handle, signal),
            None => Err(WorkloadError::NotRunning { service }),
        }
    }

    async fn exited(&self, service: Service) -> Result<(), WorkloadError> {
        match self.open(service)? {
            Some((_, handle)) => ended(service, &watch(service, handle)?).await,
            None => Ok(()),
        }
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkloadError> {
        let (path, bytes) = (path.to_owned(), bytes.to_owned());
        blocking(move || files::write_atomic(&path, &bytes, mode)).await
    }

    async fn server(&self) -> Result<ServerBinary, WorkloadError> {
        server::find(self.server.as_deref(), &self.layout).await
    }

    async fn bound_logs(&self) -> Result<(), WorkloadError> {
        let logs: Vec<PathBuf> = Service::ALL
            .iter()
            .map(|service| self.layout.log(*service))
            .collect();
        blocking(move || logs.iter().try_for_each(|path| logs::bound(path))).await
    }
}
