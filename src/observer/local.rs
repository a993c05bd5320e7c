//! Looks at this machine: processes, files, memory.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    charm::{Charm, WORKLOAD_VARIABLE, unix_now},
    limits::SLOW_TO_LOAD_BYTES,
    planner::{
        observation::{Local, Process, Storage},
        peer_data::Identity,
    },
    valkey::configuration::Persistence,
    watch,
    workload::{
        Backend as _, Layout, ProcessWorkload, Service, ServiceStatus, Workload, WorkloadError,
    },
};

/// Opens the workload on the attached storage, and says what is wrong with it if it cannot be used.
pub(super) async fn open(charm: &mut Charm) {
    let Some(location) = charm.juju.location.clone() else {
        return;
    };
    match charm.env.extra(WORKLOAD_VARIABLE) {
        Some("process") => {}
        Some(other) => {
            charm.juju.storage = Storage::Problem(format!(
                "{WORKLOAD_VARIABLE} is {other:?}; this version knows `process`"
            ));
            return;
        }
        None => {
            charm.juju.storage = Storage::Problem(format!(
                "this version runs Valkey only as plain processes; deploy with {WORKLOAD_VARIABLE}=process"
            ));
            return;
        }
    }
    let workload = Workload::Process(ProcessWorkload::new(Layout::new(location, run_dir(charm))));
    if let Err(problem) = prepare(&workload).await {
        // With its cause: that something else has the name, that the disk is full.
        let problem = anyhow::Error::new(problem);
        charm.juju.storage = Storage::Problem(format!("{problem:#}"));
    }
    charm.workload = Some(workload);
}

/// Returns where pid files and logs are: beside the charm's own directory, which an upgrade replaces.
fn run_dir(charm: &Charm) -> PathBuf {
    let agent = charm.env.charm_dir.parent().unwrap_or(&charm.env.charm_dir);
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
pub(super) async fn look(charm: &Charm, runtime: BTreeMap<String, String>) -> Local {
    let mut local = Local {
        address: charm.juju.address.clone(),
        server: Process::Stopped,
        sentinel: Process::Stopped,
        watch: Process::Stopped,
        identity: None,
        has_data: false,
        complete_data: false,
        slow_to_load: false,
        rebooted: false,
        has_sentinel_file: false,
        server_version: None,
        runtime,
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
    local.server_version = workload.server().await.ok().map(|server| server.version);
    local
}

/// Returns for how many whole seconds the machine has been up.
fn uptime_s() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.trim().parse().ok()
}

/// Returns the memory that a share in option `maxmemory` refers to: the machine's, or less where a
/// control group grants less.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemTotal:"))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match (total, group) {
        (Some(total), Some(group)) => Some(total.min(group)),
        (total, group) => total.or(group),
    }
}
