//! Turns the options and what the charm knows into the settings of server and Sentinel.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;

use crate::{
    charm::Charm,
    limits::{SENTINEL_PORT, SERVER_PORT},
    observer,
    planner::observation::Settings,
    valkey::{
        Credentials, InternalUser, Version,
        configuration::{SentinelSettings, ServerSettings, StartFrom},
    },
    workload::{Backend as _, Workload},
};

/// Settings that the planner decides on its own, so that nobody else compares them.
const PLANNED: &str = "min-replicas-to-write";

/// The setting by which a replica says where it is; taken up with its next connection to the primary.
pub const ANNOUNCED: &str = "replica-announce-ip";

/// Returns what a server is to be started with.
///
/// # Errors
///
/// When an address or the version of the server cannot be used.
pub fn server(
    charm: &Charm,
    workload: &Workload,
    credentials: &Credentials,
    version: &str,
    follow: Option<&str>,
) -> anyhow::Result<ServerSettings> {
    let layout = workload.layout();
    Ok(ServerSettings {
        version: version
            .parse()
            .context("cannot read the version of valkey-server")?,
        endpoint: observer::endpoint(&charm.juju.address, SERVER_PORT)?,
        data_dir: layout.data(),
        users_file: layout.server_users(),
        replication_password: credentials
            .password(InternalUser::CharmedReplication)
            .clone(),
        replicaof: follow
            .map(|host| observer::endpoint(host, SERVER_PORT))
            .transpose()?,
        min_replicas_to_write: 0,
        start_from: StartFrom::Persistence,
        memory_total_bytes: workload.memory_bytes(),
        options: charm.options.clone(),
    })
}

/// Returns what a Sentinel is to be started with for the first time.
///
/// # Errors
///
/// When an address cannot be used.
pub fn sentinel(
    charm: &Charm,
    workload: &Workload,
    credentials: &Credentials,
    primary: &str,
    quorum: usize,
) -> anyhow::Result<SentinelSettings> {
    let layout = workload.layout();
    Ok(SentinelSettings {
        endpoint: observer::endpoint(&charm.juju.address, SENTINEL_PORT)?,
        data_dir: layout.sentinel(),
        users_file: layout.sentinel_users(),
        primary: observer::endpoint(primary, SERVER_PORT)?,
        quorum: u64::try_from(quorum)?,
        detection: charm.options.detection,
        credentials: credentials.clone(),
        log_level: charm.options.log_level,
    })
}

/// Returns settings whose paths and addresses do not matter, to ask what the options mean.
fn sample(charm: &Charm) -> Option<ServerSettings> {
    let version = Version::new(8, 0, 0);
    let password = charm
        .credentials
        .as_ref()?
        .password(InternalUser::CharmedReplication)
        .clone();
    Some(ServerSettings {
        version,
        endpoint: observer::endpoint(&charm.juju.address, SERVER_PORT).ok()?,
        data_dir: PathBuf::from("/"),
        users_file: PathBuf::from("/"),
        replication_password: password,
        replicaof: None,
        min_replicas_to_write: 0,
        start_from: StartFrom::Persistence,
        memory_total_bytes: charm.workload.as_ref().and_then(Workload::memory_bytes),
        options: charm.options.clone(),
    })
}

/// Returns the server settings that can be changed while it runs.
fn runtime(settings: &ServerSettings) -> BTreeMap<String, String> {
    settings
        .run_time()
        .into_iter()
        .filter(|(name, _)| *name != PLANNED)
        .map(|(name, value)| (name.to_owned(), value))
        // What Sentinel and the primary know it by, should anybody have changed it.
        .chain([(ANNOUNCED.to_owned(), settings.endpoint.host().to_owned())])
        .collect()
}

/// Returns what the planner compares with what runs; wrong options change nothing that runs.
#[must_use]
pub fn wanted(charm: &Charm) -> Settings {
    let down_after_ms = u64::try_from(charm.options.detection.as_millis()).unwrap_or(u64::MAX);
    let sample = sample(charm);
    let digest = sample
        .as_ref()
        .map(ServerSettings::restart_digest)
        .unwrap_or_default();
    match (&charm.option_problem, &charm.juju.mine.settings) {
        (Some(problem), running) => Settings {
            down_after_ms,
            runtime: BTreeMap::new(),
            start_digest: running.clone().unwrap_or(digest),
            problems: vec![problem.clone()],
        },
        (None, _) => Settings {
            down_after_ms,
            runtime: sample.as_ref().map(runtime).unwrap_or_default(),
            start_digest: digest,
            problems: Vec::new(),
        },
    }
}
