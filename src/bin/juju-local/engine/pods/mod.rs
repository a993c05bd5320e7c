//! Pods: units as on Kubernetes, each with its own network, name and containers, as far as one machine can give them.
//!
//! ```text
//! pod       one unit's pod: its processes, its containers, what they see
//! inside    what runs in a container before anything else
//! network   the bridge between pods, and programs of the system
//! names     the resolver that serves pods' names
//! pebble    what an agent asks the Pebble of a container
//! watch     looks after a pod's containers and tells the charm of them
//! life      pods that come, go, and come again
//! ```
//!
//! Pods are made by the system's own programs (`unshare`, `nsenter`, `ip`); this machine's root file system stands in
//! for every image.

pub mod inside;
mod life;
mod names;
mod network;
mod pebble;
mod pod;
mod watch;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::limits::SERVICE_HOSTS;

use super::model::{Attachment, Life, Model, Settings, Storage};
use super::paths::Paths;
use super::state::Engine;
use network::Bridge;

pub use life::{
    come_up, evict, renew, restart_agent, restart_container, roll, roll_all, terminate,
};
pub use pod::Pod;

/// The cluster's domain.
const DOMAIN: &str = "cluster.local";

/// Environment variable that names Pebble when the setting does not.
const PEBBLE_PROGRAM: &str = "PEBBLE_PROGRAM";

/// What all pods of a model share.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Bridge and resolver are there.
    is_up: bool,
}

/// Makes bridge and resolver, unless they are there.
///
/// # Errors
///
/// When one cannot be made.
fn cluster_up(engine: &Arc<Engine>) -> Result<()> {
    let mut cluster = engine
        .cluster
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if cluster.is_up {
        return Ok(());
    }
    let bridge = Bridge::new(engine.lock().model.network);
    bridge.up()?;
    names::answer(engine, bridge)?;
    cluster.is_up = true;
    Ok(())
}

/// Removes what all pods of a model share.
pub fn cluster_down(model: &Model) {
    Bridge::new(model.network).down();
}

/// Checks settings about pods, and fills in where Pebble is.
///
/// # Errors
///
/// When this machine cannot make pods, or units are there already.
pub fn check(model: &Model, settings: &mut Settings) -> Result<()> {
    ensure!(
        model.settings.substrate == settings.substrate || model.units.is_empty(),
        "cannot change the substrate: there are units already; remove them first"
    );
    if !settings.has_pods() {
        return Ok(());
    }
    ensure!(
        settings.machine_driver.is_none(),
        "cannot take pods and a machine driver; unset one of them"
    );
    ensure!(
        rustix::process::geteuid().is_root(),
        "cannot make pods without root: they need namespaces of network, mounts and processes; run as root"
    );
    let name = &model.name.to_lowercase();
    let fits =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    ensure!(
        name.len() <= 63
            && name.chars().all(fits)
            && !name.starts_with('-')
            && !name.ends_with('-'),
        "cannot name a namespace {name:?}: the model has its name of its directory; use one of a-z, 0-9 and hyphens"
    );
    for needed in ["ip", "nsenter", "unshare"] {
        network::program(needed)?;
    }
    let pebble = match settings.pebble.take() {
        Some(path) => path,
        None => std::env::var_os(PEBBLE_PROGRAM)
            .map_or_else(|| network::program("pebble"), |path| Ok(path.into()))
            .context("cannot find Pebble: set `pebble` to its path")?,
    };
    check_program(&pebble)?;
    settings.pebble = Some(pebble);
    let shown = settings.host_paths.iter().chain(&settings.service_account);
    for path in shown {
        ensure!(
            path.is_absolute() && path.is_dir(),
            "cannot show {} to pods: it is no directory with an absolute path",
            path.display()
        );
    }
    Ok(())
}

/// Checks that a path leads to a program.
fn check_program(path: &Path) -> Result<()> {
    let shown = path.display();
    ensure!(
        path.is_absolute(),
        "cannot take Pebble {shown}: give its absolute path"
    );
    let data = std::fs::metadata(path).with_context(|| format!("cannot take Pebble {shown}"))?;
    ensure!(
        data.is_file() && data.permissions().mode() & 0o111 != 0,
        "cannot take Pebble {shown}: it is no program; make it executable"
    );
    Ok(())
}

/// Returns a host number for the service of another application.
#[must_use]
pub fn free_service(model: &Model) -> u8 {
    SERVICE_HOSTS
        .into_iter()
        .find(|host| {
            !model
                .applications
                .values()
                .any(|app| app.service_host == *host)
        })
        .unwrap_or(*SERVICE_HOSTS.end())
}

/// Returns the number of an application's next unit where numbers are those of pods, else `None`.
///
/// # Errors
///
/// When units are being removed: their numbers are not free yet.
pub fn next_ordinal(model: &Model, application: &str) -> Result<Option<u64>, String> {
    if !model.settings.has_pods() {
        return Ok(None);
    }
    let units = model.units_of(application);
    if let Some(unit) = units.iter().find(|unit| unit.life != Life::Alive) {
        return Err(format!(
            "cannot add unit to {application:?}: {} is being removed; wait until it is gone",
            unit.name
        ));
    }
    Ok(Some(units.last().map_or(0, |unit| unit.number + 1)))
}

/// Gives a new unit the storage of the pod that had its number before, as Juju 3.6 does; 4.0 makes new storage.
pub fn reuse_storage(model: &mut Model, unit: &str) {
    if !model.settings.has_pods() || model.variant.is_four() {
        return;
    }
    for storage in model.storage.values_mut() {
        if storage.attachment.is_none() && storage.made_for == unit {
            storage.attachment = Some(Attachment {
                unit: unit.to_owned(),
                life: Life::Alive,
            });
            storage.since = jiff::Timestamp::now();
        }
    }
}

/// Returns where a charm finds a storage instance.
///
/// Without pods that is its directory here, so that units do not meet.
#[must_use]
pub fn storage_location(model: &Model, paths: &Paths, storage: &Storage) -> PathBuf {
    if !model.settings.has_pods() {
        return paths.storage(&storage.id);
    }
    let application = model.applications.get(&storage.application);
    let spec = application.and_then(|app| app.charm.metadata.storage.get(&storage.name));
    match spec.and_then(|spec| spec.location.as_ref().map(|at| (at, spec.multiple))) {
        Some((location, false)) => PathBuf::from(location),
        Some((location, true)) => Path::new(location).join(&storage.id),
        None => Path::new("/var/lib/juju/storage").join(&storage.id),
    }
}

/// Returns the environment by which a cluster tells of its API server.
#[must_use]
pub fn service_environment(model: &Model) -> BTreeMap<String, String> {
    let Some(server) = model
        .settings
        .api_server
        .as_ref()
        .filter(|_| model.settings.has_pods())
    else {
        return BTreeMap::new();
    };
    let (host, port) = server.rsplit_once(':').unwrap_or((server, "443"));
    BTreeMap::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), port.to_owned()),
    ])
}
