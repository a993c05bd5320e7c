//! Services of systemd, with units that are written here.
//!
//! The units outlive the hooks, start with the machine, and run as a user of their own. Nothing
//! here starts a server past its gate: a hook that has decided gives a permit, and without one the
//! gate decides anew.

mod kernel;
mod names;
mod outside;
mod permit;
mod systemctl;
mod unit_file;
mod user;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

pub use kernel::complaints as kernel_complaints;
pub use names::Names;
pub use outside::Said;
pub use systemctl::run as run_tool;

use self::systemctl::{Shown, journal, show, systemctl};
use self::unit_file::{Readiness, UnitFile, of_process};
use super::files::{self, blocking};
use super::owner;
use super::pid_file::PidFile;
use super::process::{end_in_time, ended_at_once, send};
use super::server::{self, ServerBinary};
use super::{
    Backend, Build, Launch, Layout, ProcessWorkload, Running, Service, ServiceStatus, Signal, Stop,
    Stopped, WorkloadError,
};
use crate::limits::{KILL_WAIT, SERVICE_POLL, SERVICE_START_LIMIT, START_SETTLE};

/// Where systemd says that it runs this machine.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Runs services through systemd.
#[derive(Debug, Clone)]
pub struct SystemdWorkload {
    names: Names,
    gate: Option<Launch>,
    farewell: Option<Launch>,
    /// Does what has nothing to do with systemd: files, data, the server's binary, single processes.
    plain: ProcessWorkload,
}

impl SystemdWorkload {
    /// Says whether systemd runs this machine and this process may tell it what to do.
    #[must_use]
    pub fn is_possible() -> bool {
        Path::new(SYSTEMD_RUNS).is_dir() && rustix::process::geteuid().is_root()
    }

    /// Works with these paths for the Juju unit `unit`.
    #[must_use]
    pub fn new(layout: Layout, unit: &str) -> Self {
        Self {
            names: Names::of(unit),
            gate: None,
            farewell: None,
            plain: ProcessWorkload::new(layout),
        }
    }

    /// Runs `gate` before every start of the server, unless a hook has just decided.
    #[must_use]
    pub fn with_gate(mut self, gate: Launch) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Runs `farewell` when the server's service stops, while the server still runs.
    #[must_use]
    pub fn with_farewell(mut self, farewell: Launch) -> Self {
        self.farewell = Some(farewell);
        self
    }

    /// Uses up the permit of a hook to start the server; says whether there was one.
    #[must_use]
    pub fn take_permit(&self) -> bool {
        permit::take(self.plain.layout())
    }

    /// Returns what gate, farewell and watcher said to the journal since this was asked last, the oldest first.
    ///
    /// # Errors
    ///
    /// [`WorkloadError`] if the journal cannot be read.
    pub async fn said_outside_hooks(&self) -> Result<Vec<Said>, WorkloadError> {
        outside::since_last(&self.names).await
    }

    /// Writes the unit if it differs, and lets the service start with the machine.
    async fn install(&self, service: Service, launch: &Launch) -> Result<(), WorkloadError> {
        // Counts with the next boot, so systemd need not be told.
        link(&self.names, service)?;
        let text = self.render(service, launch).await?;
        self.write_unit(service, &text).await.map(drop)
    }

    /// Writes the unit of a service anew if it would be written otherwise now, as after an upgrade of
    /// the charm or of the server; returns whether it is.
    ///
    /// What runs goes on as it is. Time limits, restarts and the farewell count at once, what a
    /// process is started with counts from its next start on. A service without a unit gets none.
    ///
    /// # Errors
    ///
    /// [`WorkloadError`] if the unit cannot be written or systemd does not read it.
    pub async fn renew_unit(
        &self,
        service: Service,
        launch: &Launch,
    ) -> Result<bool, WorkloadError> {
        if !self.names.unit_file(service).exists() {
            return Ok(false);
        }
        let text = self.render(service, launch).await?;
        self.write_unit(service, &text).await
    }

    /// Writes down what systemd is to know of a service.
    async fn render(&self, service: Service, launch: &Launch) -> Result<String, WorkloadError> {
        let mut launch = launch.clone();
        if service == Service::Watch
            && let Ok(path) = std::env::var("PATH")
        {
            // Juju's tools are found by it.
            launch.environment.push(("PATH".to_owned(), path));
        }
        let build = self.server().await.ok().and_then(|binary| binary.build);
        let readiness = match service {
            Service::Server if build.is_some_and(|build| build.notifies) => Readiness::Notify,
            Service::Server | Service::Sentinel | Service::Watch => Readiness::Exec,
        };
        let unit = UnitFile {
            names: &self.names,
            layout: self.plain.layout(),
            service,
            launch: &launch,
            gate: self.gate.as_ref().filter(|_| service == Service::Server),
            farewell: self
                .farewell
                .as_ref()
                .filter(|_| service == Service::Server),
            readiness,
        };
        Ok(unit.render())
    }

    /// Writes a unit and lets systemd read it, if it differs; returns whether it did.
    async fn write_unit(&self, service: Service, text: &str) -> Result<bool, WorkloadError> {
        let path = self.names.unit_file(service);
        if files::read(&path)?.as_deref() == Some(text.as_bytes()) {
            return Ok(false);
        }
        files::write_atomic(&path, text.as_bytes(), 0o644)?;
        systemctl(&["daemon-reload"]).await?;
        Ok(true)
    }

    /// Finds the process of a service that systemd started, and remembers it.
    async fn adopt(&self, service: Service) -> Result<Shown, WorkloadError> {
        let shown = show(&self.names.service(service)).await?;
        if let Some(found) = shown.main_pid.and_then(PidFile::of) {
            found.write(&self.plain.layout().pid_file(service))?;
        }
        Ok(shown)
    }

    /// Waits until the service has survived a short moment.
    async fn settled(&self, service: Service, since_s: u64) -> Result<Running, WorkloadError> {
        let unit = self.names.service(service);
        let deadline = Instant::now() + SERVICE_START_LIMIT;
        let mut first_seen: Option<(u32, Instant)> = None;
        loop {
            let shown = show(&unit).await?;
            match shown.main_pid {
                Some(pid) => {
                    let since = match first_seen {
                        Some((known, since)) if known == pid => since,
                        _ => {
                            first_seen = Some((pid, Instant::now()));
                            Instant::now()
                        }
                    };
                    if since.elapsed() >= START_SETTLE
                        && let Some(pid_file) = PidFile::of(pid).filter(PidFile::is_alive)
                    {
                        pid_file.write(&self.plain.layout().pid_file(service))?;
                        return Ok(pid_file.running());
                    }
                }
                None if shown.has_failed() || shown.is_down() => {
                    let log = journal(&unit, since_s).await;
                    let status = ExitStatus::from_raw(shown.exit << 8);
                    // It would be tried again and again behind the back of whoever is told now.
                    systemctl(&["stop", "--no-block", "--", &unit]).await?;
                    return Err(ended_at_once(service, status, log));
                }
                None => {}
            }
            if Instant::now() >= deadline {
                return Err(WorkloadError::Tool {
                    command: format!("systemctl start {unit}"),
                    reason: format!(
                        "it is {} ({}) after {} s. Its log: {}",
                        shown.active,
                        shown.sub,
                        SERVICE_START_LIMIT.as_secs(),
                        journal(&unit, since_s).await
                    ),
                });
            }
            sleep(SERVICE_POLL).await;
        }
    }

    /// Waits until systemd has nothing more to do with a service that is to be down.
    async fn down(&self, service: Service, limit: Duration) -> Result<bool, WorkloadError> {
        let deadline = Instant::now() + limit;
        loop {
            if show(&self.names.service(service)).await?.is_down() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(SERVICE_POLL).await;
        }
    }
}

/// Says whether the machine is going down, by a reboot or a shutdown in order.
///
/// # Errors
///
/// [`WorkloadError::Tool`] if systemd does not say.
pub async fn machine_goes_down() -> Result<bool, WorkloadError> {
    Ok(systemctl::state().await? == "stopping")
}

/// Lets a service start with the machine.
fn link(names: &Names, service: Service) -> Result<(), WorkloadError> {
    let link = names.boot_link(service);
    if let Some(directory) = link.parent() {
        std::fs::create_dir_all(directory)
            .map_err(WorkloadError::file("make the directory", directory))?;
    }
    match std::os::unix::fs::symlink(names.unit_file(service), &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => Ok(()),
        Err(error) => Err(WorkloadError::file("make the link", &link)(error)),
    }
}

/// Keeps a service of a package from starting on this machine for as long as the unit is there.
///
/// # Errors
///
/// [`WorkloadError::File`] if the link that does it cannot be made.
pub fn mask(names: &Names, service: &str) -> Result<(), WorkloadError> {
    let link = names::of_package(service);
    let note = names.masked();
    match std::os::unix::fs::symlink("/dev/null", &link) {
        Ok(()) => {
            let place = names.installed();
            std::fs::create_dir_all(&place)
                .map_err(WorkloadError::file("make the directory", &place))?;
            // Only what was not so before is undone.
            files::write_atomic(&note, service.as_bytes(), 0o644)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(WorkloadError::file("make the link", &link)(error)),
    }
}

/// Takes the mask of a package's service away; it stays off until a person turns it on.
async fn unmask(names: &Names) -> Result<(), WorkloadError> {
    let Some(service) = files::read(&names.masked())? else {
        return Ok(());
    };
    let service = String::from_utf8_lossy(&service).into_owned();
    let link = names::of_package(&service);
    if std::fs::read_link(&link).is_ok_and(|target| target == Path::new("/dev/null")) {
        files::remove(&link)?;
    }
    systemctl(&["daemon-reload"]).await?;
    // The package may be gone.
    if let Err(error) = systemctl(&["disable", "--", &service]).await {
        warn!(
            error = format!("{error:#}"),
            "Cannot turn the package's service off"
        );
    }
    Ok(())
}

/// Sets the kernel's settings, as far as that is permitted.
///
/// # Errors
///
/// [`WorkloadError::File`] if the file of them cannot be written.
pub async fn tune_kernel(names: &Names) -> Result<(), WorkloadError> {
    let names = names.clone();
    blocking(move || kernel::apply(&names)).await
}

/// Removes everything that the charm made on the machine for a unit: services, user, settings,
/// what was installed from a resource. Data is left alone.
///
/// # Errors
///
/// The first [`WorkloadError`]; the rest is removed all the same.
pub async fn remove_all(names: &Names) -> Result<(), WorkloadError> {
    let mut first = Ok(());
    let mut note = |result: Result<(), WorkloadError>| {
        if let Err(error) = result {
            warn!(
                error = format!("{error:#}"),
                "Cannot remove something of the unit"
            );
            if first.is_ok() {
                first = Err(error);
            }
        }
    };
    let mut known = false;
    for service in Service::ALL {
        let (file, link) = (names.unit_file(service), names.boot_link(service));
        if file.exists() {
            known = true;
            note(
                systemctl(&["stop", "--", &names.service(service)])
                    .await
                    .map(drop),
            );
        }
        note(files::remove(&link));
        note(files::remove(&file));
    }
    if known {
        note(systemctl(&["daemon-reload"]).await.map(drop));
        for service in Service::ALL {
            // One that systemd has forgotten already is no error worth telling.
            let _ = systemctl(&["reset-failed", "--", &names.service(service)]).await;
        }
    }
    note(kernel::undo(names));
    note(unmask(names).await);
    note(user::remove(&names.user()).await);
    let installed = names.installed();
    note(match std::fs::remove_dir_all(&installed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(WorkloadError::file("remove", &installed)(error))
        }
        _ => Ok(()),
    });
    first
}

/// Says whether a service surely has no process, without asking systemd: it has no control group.
///
/// The watcher looks several times a second.
fn has_no_process(unit: &str) -> bool {
    let groups = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"].map(Path::new);
    let slices: Vec<PathBuf> = groups
        .iter()
        .map(|group| group.join("system.slice"))
        .filter(|slice| slice.is_dir())
        .collect();
    !slices.is_empty() && slices.iter().all(|slice| !slice.join(unit).exists())
}

fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Backend for SystemdWorkload {
    fn layout(&self) -> &Layout {
        self.plain.layout()
    }

    async fn make_dirs(&self) -> Result<(), WorkloadError> {
        let owner = user::ensure(&self.names.user()).await?;
        self.plain.make_dirs().await?;
        owner::give_dirs(self.plain.layout(), owner).await
    }

    async fn start(&self, service: Service, launch: &Launch) -> Result<Running, WorkloadError> {
        if let ServiceStatus::Running(running) = self.status(service).await? {
            return Ok(running);
        }
        self.install(service, launch).await?;
        let gated = service == Service::Server && self.gate.is_some();
        if gated {
            permit::give(self.plain.layout())?;
        }
        let since_s = now_s();
        let unit = self.names.service(service);
        let started = match systemctl(&["start", "--no-block", "--", &unit]).await {
            Ok(_) => self.settled(service, since_s).await,
            Err(error) => Err(error),
        };
        if gated {
            permit::withdraw(self.plain.layout())?;
        }
        if let Ok(running) = &started {
            info!(%service, unit, pid = running.pid, "Started");
        }
        started
    }

    async fn status(&self, service: Service) -> Result<ServiceStatus, WorkloadError> {
        // What is known needs no question; systemd may have started another one meanwhile.
        if let found @ ServiceStatus::Running(_) = self.plain.status(service).await? {
            return Ok(found);
        }
        if has_no_process(&self.names.service(service)) {
            return Ok(ServiceStatus::Stopped);
        }
        self.adopt(service).await?;
        self.plain.status(service).await
    }

    async fn stop(&self, service: Service, how: Stop) -> Result<Stopped, WorkloadError> {
        // What was stopped on purpose stays so until it is started on purpose.
        files::remove(&self.names.boot_link(service))?;
        let unit = self.names.service(service);
        let shown = self.adopt(service).await?;
        if shown.is_down() {
            files::remove(&self.plain.layout().pid_file(service))?;
            return Ok(Stopped::Before);
        }
        let process = self.plain.open(service)?;
        if how.signal != Signal::Terminate
            && let Some((_, handle)) = &process
        {
            send(service, handle, how.signal)?;
        }
        systemctl(&["stop", "--no-block", "--", &unit]).await?;
        let Some((pid_file, handle)) = process else {
            // Only its gate ran, or it waited to be started again.
            return if self.down(service, how.grace).await? {
                Ok(Stopped::Before)
            } else {
                Err(WorkloadError::StillRunning {
                    service,
                    pid: None,
                    waited: how.grace,
                })
            };
        };
        let kill = async |_: &OwnedFd| {
            systemctl(&["kill", "--signal=SIGKILL", "--", &unit])
                .await
                .map(drop)
        };
        let stopped = end_in_time(service, pid_file.pid, handle, how, kill).await?;
        if !self.down(service, KILL_WAIT).await? {
            return Err(WorkloadError::StillRunning {
                service,
                pid: Some(pid_file.pid),
                waited: how.grace + KILL_WAIT,
            });
        }
        files::remove(&self.plain.layout().pid_file(service))?;
        info!(%service, unit, pid = pid_file.pid, "Stopped");
        Ok(stopped)
    }

    async fn signal(&self, service: Service, signal: Signal) -> Result<(), WorkloadError> {
        self.status(service).await?;
        self.plain.signal(service, signal).await
    }

    async fn exited(&self, service: Service) -> Result<(), WorkloadError> {
        self.status(service).await?;
        self.plain.exited(service).await
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkloadError> {
        if !owner::is_theirs(self.plain.layout(), path) {
            return self.plain.write(path, bytes, mode).await;
        }
        let owner = user::ensure(&self.names.user()).await?;
        owner::write(path, bytes, mode, owner).await
    }

    async fn server(&self) -> Result<ServerBinary, WorkloadError> {
        // What was installed from a resource comes first; it may have come since the last call.
        let own = self.names.installed_server();
        server::find(own.is_file().then_some(own.as_path()), self.layout()).await
    }

    async fn fingerprint(
        &self,
        service: Service,
        build: &Build,
        launch: &Launch,
    ) -> Result<String, WorkloadError> {
        // Without the gate this is the gate: systemd has read the unit as it is written.
        let written = match &self.gate {
            None => files::read(&self.names.unit_file(service))?,
            Some(_) => None,
        };
        let text = match written {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => self.render(service, launch).await?,
        };
        let process = of_process(&text, &self.names, self.layout());
        let digest = Sha256::digest([build.digest.as_bytes(), process.as_bytes()].concat());
        Ok(files::hex(&digest))
    }

    async fn bound_logs(&self) -> Result<(), WorkloadError> {
        // The journal bounds itself.
        Ok(())
    }
}
