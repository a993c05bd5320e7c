//! Looks at this machine: processes, files, memory.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
};

use crate::{
    charm::{Charm, WORKLOAD_VARIABLE, unix_now},
    juju::Environment,
    limits::SLOW_TO_LOAD_BYTES,
    planner::{
        observation::{Local, Process, Storage},
        peer_data::Identity,
    },
    settings,
    valkey::configuration::Persistence,
    watch,
    workload::{
        Backend as _, Kind, Launch, Layout, PebbleWorkload, Service, ServiceStatus,
        SystemdWorkload, Workload, WorkloadError,
    },
};

/// Opens the workload on the attached storage, and says what is wrong with it if it cannot be used.
pub(super) async fn open(charm: &mut Charm) {
    let Some(location) = charm.juju.location.clone() else {
        return;
    };
    let kind = match kind(
        charm.env.extra(WORKLOAD_VARIABLE),
        PebbleWorkload::is_possible(),
        SystemdWorkload::is_possible(),
    ) {
        Ok(kind) => kind,
        Err(problem) => {
            charm.juju.storage = Storage::Problem(problem);
            return;
        }
    };
    let layout = Layout::new(location, run_dir(&charm.env));
    let workload = match Workload::new(kind, layout, charm.juju.me.as_str()) {
        Workload::Systemd(systemd) => Workload::Systemd(accompanied(systemd)),
        Workload::Pebble(pebble) => Workload::Pebble(pebble.with_memory().await),
        plain @ Workload::Process(_) => plain,
    };
    if let Err(problem) = prepare(&workload).await {
        // With its cause: that something else has the name, that the disk is full.
        let problem = anyhow::Error::new(problem);
        charm.juju.storage = Storage::Problem(format!("{problem:#}"));
    }
    // What systemd has started since the last hook, or what a hook started that was cut off.
    if let Some(started) = started(&workload, Service::Server).await {
        charm.juju.mine.settings = Some(started);
    }
    charm.workload = Some(workload);
}

/// Reads what a service was started with last, if that is known.
async fn started(workload: &Workload, service: Service) -> Option<String> {
    let path = workload.layout().started(service);
    let bytes = workload.read(&path).await.ok().flatten()?;
    String::from_utf8(bytes).ok()
}

/// Decides how processes are run: as a person says, else by Pebble in a pod, else by systemd where it
/// runs the machine.
///
/// # Errors
///
/// Why none of the ways is there.
pub(crate) fn kind(
    chosen: Option<&str>,
    pebble_possible: bool,
    systemd_possible: bool,
) -> Result<Kind, String> {
    match (chosen, pebble_possible, systemd_possible) {
        (Some("process"), _, _) => Ok(Kind::Process),
        (Some("pebble") | None, true, _) => Ok(Kind::Pebble),
        (Some("pebble"), false, _) => Err(
            "there is no container beside the charm: Pebble runs services on Kubernetes only"
                .to_owned(),
        ),
        (Some("systemd"), _, true) | (None, false, true) => Ok(Kind::Systemd),
        (Some("systemd"), _, false) | (None, false, false) => Err(format!(
            "systemd does not run this machine, or the charm is not root; without it deploy with {WORKLOAD_VARIABLE}=process"
        )),
        (Some(other), _, _) => Err(format!(
            "{WORKLOAD_VARIABLE} is {other:?}; this version knows `systemd`, `pebble` and `process`"
        )),
    }
}

/// Lets the server's service run this program before every start, and when it stops.
fn accompanied(systemd: SystemdWorkload) -> SystemdWorkload {
    let Ok(program) = std::env::current_exe() else {
        return systemd;
    };
    let known = systemd.layout().gate_file();
    let launch = |mode: &str| {
        let args = [
            OsString::from(mode),
            "--file".into(),
            known.clone().into_os_string(),
        ];
        Launch::new(&program, args)
    };
    let (gate, farewell) = (launch("gate"), launch("farewell"));
    systemd.with_gate(gate).with_farewell(farewell)
}

/// Returns whether an address is of this machine; a name is taken for it.
///
/// A machine can come back under another address, while the one that it had is another machine's.
pub(crate) fn is_of_this_machine(address: &str) -> bool {
    match address.parse::<IpAddr>() {
        // Only an address of one's own can be bound to.
        Ok(address) => !matches!(
            UdpSocket::bind((address, 0)),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable
        ),
        Err(_) => true,
    }
}

/// Returns where pid files and logs are: beside the charm's own directory, which an upgrade replaces.
pub(crate) fn run_dir(env: &Environment) -> PathBuf {
    let agent = env.charm_dir.parent().unwrap_or(&env.charm_dir);
    agent.join("valkey")
}

async fn prepare(workload: &Workload) -> Result<(), WorkloadError> {
    workload.make_dirs().await?;
    workload.check_data_dir().await?;
    workload.bound_logs().await
}

/// Reads the mark beside the data, with the latest position that was recorded.
pub(super) async fn identity(workload: &Workload) -> Option<Identity> {
    let mut identity = workload.read_identity::<Identity>().await.ok().flatten()?;
    // A record that cannot be read leaves the older one, which is still true.
    let _ = watch::merge_position(workload, &mut identity).await;
    Some(identity)
}

/// Looks at the local processes and data.
pub(super) async fn look(
    charm: &Charm,
    runtime: BTreeMap<String, String>,
    sentinel_version: Option<String>,
) -> Local {
    let mut local = Local {
        sentinel_version,
        runtime,
        ..Local::bare(charm.juju.address.clone())
    };
    let Some(workload) = &charm.workload else {
        return local;
    };
    let process = async |service| match workload.status(service).await {
        Ok(ServiceStatus::Running(_)) => Process::Running,
        Ok(ServiceStatus::Stopped) | Err(_) => Process::Stopped,
    };
    local.server = process(Service::Server).await;
    local.sentinel = process(Service::Sentinel).await;
    local.watch = process(Service::Watch).await;
    local.identity = identity(workload).await;
    local.rebooted = local
        .identity
        .as_ref()
        .and_then(|identity| identity.position.as_ref())
        .zip(uptime_s())
        .is_some_and(|(position, up_s)| {
            !position.clean && position.recorded_at < unix_now().saturating_sub(up_s)
        });
    if let Ok(data) = workload.data_presence().await {
        let snapshot_bytes = data.snapshot.as_ref().map_or(0, |file| file.bytes);
        local.has_data = !data.is_empty();
        local.slow_to_load = snapshot_bytes.max(data.append_only_bytes) > SLOW_TO_LOAD_BYTES;
        let clean = local
            .identity
            .as_ref()
            .and_then(|identity| identity.position.as_ref())
            .is_some_and(|position| position.clean);
        let logged = data.append_only && charm.options.persistence == Persistence::Aof;
        local.complete_data = clean || logged;
    }
    local.has_sentinel_file = tokio::fs::try_exists(workload.layout().sentinel_config())
        .await
        .unwrap_or(false);
    local.sentinel_differs = match started(workload, Service::Sentinel).await {
        Some(started) => settings::fingerprint(workload, Service::Sentinel)
            .await
            .is_some_and(|now| now != started),
        None => false,
    };
    local.server_version = workload.server().await.ok().map(|server| server.version);
    local
}

/// Returns for how many whole seconds the machine has been up.
fn uptime_s() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_its_own() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.7.8.9", true),
            // For documentation: nobody's.
            ("192.0.2.1", false),
            ("valkey-0.valkey-endpoints", true),
        ] {
            assert_eq!(is_of_this_machine(address), expected, "{address}");
        }
    }

    #[test]
    fn the_place_decides_what_runs_the_processes_unless_a_person_says_otherwise() {
        for (chosen, pod, machine, expected) in [
            (None, false, true, Ok(Kind::Systemd)),
            (None, false, false, Err("systemd does not run")),
            (None, true, false, Ok(Kind::Pebble)),
            (None, true, true, Ok(Kind::Pebble)),
            (Some("process"), false, true, Ok(Kind::Process)),
            (Some("process"), true, false, Ok(Kind::Process)),
            (Some("pebble"), true, true, Ok(Kind::Pebble)),
            (Some("pebble"), false, true, Err("on Kubernetes only")),
            (Some("systemd"), true, true, Ok(Kind::Systemd)),
            (Some("systemd"), false, false, Err("systemd does not run")),
            (Some("systemd"), true, false, Err("systemd does not run")),
            (Some("docker"), true, true, Err("this version knows")),
        ] {
            match (kind(chosen, pod, machine), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{chosen:?}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => {
                    panic!("{chosen:?} {pod} {machine}: {found:?}, not {expected:?}")
                }
            }
        }
    }
}
