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
    workload::{Backend as _, Launch, Layout, Service, Workload},
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

/// Begins, in a digest of what a server was started with, what is not a setting.
const STARTED_AS: &str = " start=";

/// Characters of a fingerprint that stand in a databag: enough to tell it from every other one.
const FINGERPRINT_CHARACTERS: usize = 32;

/// Returns what starts the server.
#[must_use]
pub fn server_launch(program: PathBuf, layout: &Layout) -> Launch {
    Launch::new(program, [layout.server_config()])
}

/// Returns what starts Sentinel.
#[must_use]
pub fn sentinel_launch(program: PathBuf, layout: &Layout) -> Launch {
    Launch::new(
        program,
        [layout.sentinel_config(), PathBuf::from("--sentinel")],
    )
}

/// Returns what changes when a service would be started as something else now, if that is known: another
/// build of its program, other rights and limits.
pub async fn fingerprint(workload: &Workload, service: Service) -> Option<String> {
    let binary = workload.server().await.ok()?;
    // None where only another container brings something else.
    let build = binary.build?;
    let launch = match service {
        Service::Server => server_launch(binary.path, workload.layout()),
        Service::Sentinel => sentinel_launch(binary.path, workload.layout()),
        Service::Watch => return None,
    };
    let mut found = workload.fingerprint(service, &build, &launch).await.ok()?;
    found.truncate(FINGERPRINT_CHARACTERS);
    Some(found)
}

/// Returns the digest of everything that a server reads, or is, from its start on.
#[must_use]
pub fn start_digest(settings: &ServerSettings, fingerprint: Option<&str>) -> String {
    let settings = settings.restart_digest();
    fingerprint.map_or_else(
        || settings.clone(),
        |found| format!("{settings}{STARTED_AS}{found}"),
    )
}

/// Returns the fingerprint to compare with what was recorded at the start.
///
/// Who recorded none, as an older version of the charm, does not know what its server was started
/// as; and what cannot be found out now has not changed.
fn comparable(recorded: Option<&str>, found: Option<String>) -> Option<String> {
    match recorded {
        None => found,
        Some(recorded) => {
            let (_, started_as) = recorded.split_once(STARTED_AS)?;
            found.or_else(|| Some(started_as.to_owned()))
        }
    }
}

/// Returns what the planner compares with what runs; wrong options change nothing that runs.
pub async fn wanted(charm: &Charm) -> Settings {
    let down_after_ms = u64::try_from(charm.options.detection.as_millis()).unwrap_or(u64::MAX);
    let sample = sample(charm);
    let found = match &charm.workload {
        Some(workload) => fingerprint(workload, Service::Server).await,
        None => None,
    };
    let started_as = comparable(charm.juju.mine.settings.as_deref(), found);
    let digest = sample
        .as_ref()
        .map(|sample| start_digest(sample, started_as.as_deref()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_recorded_at_the_start_is_compared() {
        let some = |text: &str| Some(text.to_owned());
        for (recorded, found, expected) in [
            // Nobody knows what was read: the server restarts anyway.
            (None, some("b"), some("b")),
            (None, None, None),
            (Some("databases=16 start=a"), some("b"), some("b")),
            (Some("databases=16 start=a"), None, some("a")),
            // Recorded by an older version of the charm.
            (Some("databases=16"), some("b"), None),
            (Some("databases=16"), None, None),
        ] {
            assert_eq!(comparable(recorded, found), expected, "{recorded:?}");
        }
    }
}
