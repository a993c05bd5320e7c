//! Makes a machine ready: installs Valkey, sets what the kernel needs; and undoes it all.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use tracing::{info, warn};

use crate::{
    charm::{Charm, WORKLOAD_VARIABLE},
    juju::{
        Environment, Event, HookTools,
        hook_tools::{Status, StatusKind},
    },
    limits::INSTALL_RETRY_PAUSE,
    observer,
    workload::{
        Backend as _, Kind, Layout, PebbleWorkload, Workload, WorkloadError,
        install::{self, InstallError},
        pebble::CONTAINER,
        systemd::{self, Names},
    },
};

/// Name of the resource in the charm's metadata.
const RESOURCE: &str = "valkey-server";

/// Makes sure that there is a server to run, where the charm is the one to install it.
///
/// Returns what to show when there is none: nothing else can be done by this unit then, and a later
/// hook tries again.
///
/// # Errors
///
/// When a hook tool fails.
pub async fn ensure(charm: &Charm, event: &Event) -> anyhow::Result<Option<Status>> {
    if let Some(Workload::Pebble(pebble)) = &charm.workload {
        return Ok(in_container(pebble).await);
    }
    if !is_ours(&charm.env) {
        return Ok(None);
    }
    let names = Names::of(charm.juju.me.as_str());
    let run = observer::run_dir(&charm.env);
    let anew = matches!(event, Event::Install | Event::UpgradeCharm);
    if anew || matches!(event, Event::Start | Event::ConfigChanged) {
        // It is no reason to stop: the status says what could not be set.
        if let Err(error) = systemd::tune_kernel(&names).await {
            warn!(error = format!("{error:#}"), "Cannot set the kernel up");
        }
    }
    let failed = run.join("install-failed");
    let problem = match present(&names, &run).await {
        // A new resource can come with an upgrade of the charm, or of itself.
        Ok(true) if !anew => None,
        Ok(there) => {
            if !anew && failed_lately(&failed) {
                return Ok(Some(last_problem(&failed)));
            }
            attempt(charm, &names, there).await?.err()
        }
        Err(error) => Some(InstallError::from(error)),
    };
    let Some(problem) = problem else {
        let _ = std::fs::remove_file(&failed);
        return Ok(None);
    };
    let text = format!("{:#}", anyhow::Error::new(problem));
    warn!(error = text, "Cannot install");
    if let Err(error) = note_failure(&failed, &text) {
        warn!(
            error = format!("{error:#}"),
            "Cannot note that the installation failed"
        );
    }
    Ok(Some(Status::new(StatusKind::Blocked, one_line(&text))))
}

/// Says what is missing in the container that an image brings, if anything is.
async fn in_container(pebble: &PebbleWorkload) -> Option<Status> {
    match pebble.server().await {
        Ok(_) => None,
        // Its first start, or its next one, is told by Juju.
        Err(WorkloadError::Pebble(error)) if error.is_absent() => Some(Status::new(
            StatusKind::Waiting,
            format!("waiting for the container `{CONTAINER}` to start"),
        )),
        Err(error) => {
            let kind = if error.needs_person() {
                StatusKind::Blocked
            } else {
                StatusKind::Waiting
            };
            let text = format!("{:#}", anyhow::Error::new(error));
            warn!(error = text, "Cannot use the container");
            Some(Status::new(kind, one_line(&text)))
        }
    }
}

/// Removes everything that the charm made on this machine for the unit, but for the data.
///
/// # Errors
///
/// [`WorkloadError`] with what could not be removed; the rest is.
pub async fn undo(env: &Environment) -> Result<(), WorkloadError> {
    if !is_ours(env) {
        return Ok(());
    }
    info!("Removing what was made on this machine");
    systemd::remove_all(&Names::of(&env.unit.to_string())).await
}

/// Says whether the charm runs its services on this machine itself, and so installs what they need.
fn is_ours(env: &Environment) -> bool {
    observer::kind(
        env.extra(WORKLOAD_VARIABLE),
        PebbleWorkload::is_possible(),
        systemd::SystemdWorkload::is_possible(),
    ) == Ok(Kind::Systemd)
}

/// Says whether there is a server.
async fn present(names: &Names, run: &Path) -> Result<bool, WorkloadError> {
    // The storage does not matter for the server's binary.
    let layout = Layout::new(run, run);
    Ok(install::installed(names, &layout).await?.is_some())
}

/// Installs; what is there already is enough where no resource says otherwise.
async fn attempt(
    charm: &Charm,
    names: &Names,
    there: bool,
) -> anyhow::Result<Result<(), InstallError>> {
    let status = Status::new(StatusKind::Maintenance, "installing Valkey");
    let resource = resource(&charm.tools).await;
    if resource.is_none() && there {
        return Ok(Ok(()));
    }
    charm.tools.status_set(&status).await?;
    let installed = match resource {
        Some(path) => install::from_resource(names, &path).await,
        None => install::from_distribution(names).await,
    };
    if let Err(error) = installed {
        return Ok(Err(error));
    }
    let run = observer::run_dir(&charm.env);
    Ok(match present(names, &run).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(InstallError::Resource {
            why: "it installed no program `valkey-server`".to_owned(),
        }),
        Err(error) => Err(error.into()),
    })
}

/// Returns the file of the resource, if a person attached one.
async fn resource(tools: &HookTools) -> Option<PathBuf> {
    match tools.resource_get(RESOURCE).await {
        Ok(path) => install::is_attached(&path).then_some(path),
        // Without a file Juju says that it cannot download it.
        Err(error) => {
            info!(error = %error, "No resource is attached");
            None
        }
    }
}

/// Says whether it was tried a moment ago.
fn failed_lately(file: &Path) -> bool {
    let modified = std::fs::metadata(file).and_then(|found| found.modified());
    modified.is_ok_and(|at| {
        // A clock that was set back says nothing.
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|age| age < INSTALL_RETRY_PAUSE)
    })
}

fn last_problem(file: &Path) -> Status {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    Status::new(StatusKind::Blocked, one_line(&text))
}

fn note_failure(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(file, text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_hooks_is_one_try() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("run/install-failed");
        assert!(!failed_lately(&file));
        note_failure(&file, "cannot\n  install").unwrap();
        assert!(failed_lately(&file));
        assert_eq!(last_problem(&file).message, "cannot install");
        let old = SystemTime::now() - INSTALL_RETRY_PAUSE;
        let opened = std::fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(old).unwrap();
        assert!(!failed_lately(&file));
    }
}
