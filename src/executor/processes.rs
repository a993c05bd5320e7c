//! Steps that start and stop the local processes.

use std::os::unix::fs::MetadataExt as _;

use anyhow::Context as _;
use tracing::{info, warn};

use crate::{
    charm::{Charm, WatchFile},
    limits::{
        FILE_TIME_GRAIN, POLL_MIN, REPLICAS_MAX, SERVER_PORT, SERVER_START_LIMIT,
        SERVER_STOP_LIMIT, SMALL_STOP_LIMIT,
    },
    observer::{sentinel_client, server_client},
    planner::{Intent, Observation, peer_data::Identity},
    settings,
    valkey::{
        Credentials, InternalUser, ValkeyError,
        configuration::{StartFrom, sentinel_users, server_users},
        server::ShutdownSave,
    },
    watch,
    workload::{
        Backend as _, Launch, Layout, Service, ServiceStatus, Stop, Workload, WorkloadError,
    },
};

use super::{credentials, databag, workload};

/// Mode of files that hold passwords or that only this unit's processes read.
pub(super) const PRIVATE: u32 = 0o600;

/// Keeps the data set aside; without room for what replaces it the step fails.
pub(super) async fn keep_aside(charm: &Charm, seen: &Observation) -> anyhow::Result<()> {
    let workload = workload(charm)?;
    let running = workload.status(Service::Server).await?.is_running();
    let successor = seen
        .primary()
        .filter(|primary| *primary != seen.me)
        .and_then(|primary| seen.host_of(&primary).map(str::to_owned));
    let kept = watch::keep_former(&workload, credentials(charm)?, running, successor).await;
    if let Err(error) = &kept
        && let Some(WorkloadError::NoSpaceToKeep { .. }) = error.downcast_ref()
        && let Ok(client) = server_client(&charm.juju.address, credentials(charm)?).await
    {
        // Until a person has made room, a displaced primary that runs must not take more writes.
        let never = REPLICAS_MAX.to_string();
        client
            .config_set(&[("min-replicas-to-write", &never)])
            .await?;
    }
    kept
}

/// Returns the passwords that are accepted beside those in use, while they are changed.
fn accepted(charm: &Charm) -> Option<&Credentials> {
    charm.users_secret.as_ref()?.other.as_ref()
}

/// Starts the server with files rendered anew, and waits for its first answer.
pub(super) async fn start_server(
    charm: &mut Charm,
    follow: Option<&str>,
    min_replicas: usize,
    from_snapshot: bool,
) -> anyhow::Result<()> {
    let launch = prepare_server(charm, follow, min_replicas, from_snapshot).await?;
    workload(charm)?.start(Service::Server, &launch).await?;
    answers(charm).await
}

/// Renders the files that the server reads when it starts, and returns what starts it.
///
/// # Errors
///
/// When there is no storage, no server or no password yet, or a file cannot be written.
pub async fn prepare_server(
    charm: &mut Charm,
    follow: Option<&str>,
    min_replicas: usize,
    from_snapshot: bool,
) -> anyhow::Result<Launch> {
    let workload = workload(charm)?;
    let binary = workload.server().await?;
    let layout = workload.layout().clone();
    let credentials = credentials(charm)?.clone();
    let mut settings = settings::server(charm, &workload, &credentials, &binary.version, follow)?;
    settings.min_replicas_to_write = u16::try_from(min_replicas)?;
    let snapshot = from_snapshot && workload.data_presence().await?.snapshot.is_some();
    if snapshot {
        settings.start_from = StartFrom::Snapshot;
    }
    workload
        .write(
            &layout.server_users(),
            server_users(&credentials, accepted(charm)).as_bytes(),
            PRIVATE,
        )
        .await?;
    workload
        .write(
            &layout.server_config(),
            settings.render()?.as_bytes(),
            PRIVATE,
        )
        .await?;
    // From here on the data on disk is no longer what an orderly stop left.
    mark_unclean(&workload).await?;
    let launch = settings::server_launch(binary.path, &layout)
        .serving_on(charm.juju.address.as_str(), SERVER_PORT);
    let fingerprint = settings::fingerprint(&workload, Service::Server).await;
    let digest = settings::start_digest(&settings, fingerprint.as_deref());
    // Beside the server, too: what systemd starts no hook can tell the others at once.
    note_started(&workload, Service::Server, &digest).await?;
    charm.juju.mine.settings = Some(digest);
    charm.juju.mine.server_version = Some(binary.version);
    Ok(launch)
}

/// Writes down what a service is about to be started with.
async fn note_started(workload: &Workload, service: Service, what: &str) -> anyhow::Result<()> {
    let path = workload.layout().started(service);
    Ok(workload.write(&path, what.as_bytes(), PRIVATE).await?)
}

async fn mark_unclean(workload: &Workload) -> anyhow::Result<()> {
    let Some(mut identity) = workload.read_identity::<Identity>().await? else {
        return Ok(());
    };
    let Some(position) = identity.position.as_mut().filter(|position| position.clean) else {
        return Ok(());
    };
    position.clean = false;
    workload.write_identity(&identity).await?;
    Ok(())
}

/// Waits for the server's first answer; that it still loads is one.
async fn answers(charm: &Charm) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let deadline = tokio::time::Instant::now() + SERVER_START_LIMIT;
    loop {
        let asked = async {
            anyhow::Ok(
                server_client(&charm.juju.address, credentials)
                    .await?
                    .ping()
                    .await?,
            )
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.downcast_ref(), Some(ValkeyError::Loading { .. })) => {
                return Ok(());
            }
            Err(error) => {
                let running = workload(charm)?.status(Service::Server).await?.is_running();
                anyhow::ensure!(
                    running,
                    "the server ended after its start; see its log: {error:#}"
                );
                if tokio::time::Instant::now() >= deadline {
                    return Err(error.context("the server does not answer"));
                }
            }
        }
        tokio::time::sleep(POLL_MIN).await;
    }
}

/// Stops the server in order: its data is saved, and beside it stands that this was so.
pub(super) async fn stop_server(charm: &mut Charm, seen: &Observation) -> anyhow::Result<()> {
    let workload = workload(charm)?;
    let leaving = seen.intent == Intent::Leave;
    let spare = leaving && seen.primary().is_some_and(|primary| primary != seen.me);
    let saved = save_and_end(charm, &workload, spare).await?;
    // Saving can take minutes; nothing kills the server before.
    let stop = Stop {
        then_kill: false,
        ..Stop::gently(SERVER_STOP_LIMIT)
    };
    workload.stop(Service::Server, stop).await?;
    match databag::record_position(charm, seen, saved).await {
        // The older record stays, which claims less.
        Err(error) if leaving => {
            warn!(
                error = format!("{error:#}"),
                "Cannot record what the data holds"
            );
            Ok(())
        }
        recorded => recorded,
    }
}

/// Lets the server save and end, whose service somebody else is stopping, and records what it holds.
///
/// # Errors
///
/// When it does not save; it goes on then, and the older record stays.
pub async fn end_server(charm: &mut Charm, seen: &Observation) -> anyhow::Result<()> {
    let workload = workload(charm)?;
    // That it has handed over stands beside the data before it is silent: who saves is not frozen.
    databag::record_position(charm, seen, false).await?;
    let saved = save_and_end(charm, &workload, false).await?;
    tokio::time::timeout(SERVER_STOP_LIMIT, workload.exited(Service::Server))
        .await
        .context("the server has not ended in time")??;
    databag::record_position(charm, seen, saved).await
}

/// Asks the server to save and end; returns whether it did. One that does not answer is left alone.
///
/// What is `spare` is held by others, too.
async fn save_and_end(charm: &Charm, workload: &Workload, spare: bool) -> anyhow::Result<bool> {
    let Ok(client) = server_client(&charm.juju.address, credentials(charm)?).await else {
        return Ok(false);
    };
    if let Ok(info) = client.info().await
        && let Err(error) = watch::settle_former(workload, &info).await
    {
        warn!(
            error = format!("{error:#}"),
            "Cannot let go of an old data set"
        );
    }
    let asked_at = jiff::Timestamp::now();
    // Offsets move until the end: what is recorded is what the server itself saves.
    match client.shutdown(ShutdownSave::Save, SERVER_STOP_LIMIT).await {
        // That it is gone is all that an ended connection tells.
        Ok(()) => return Ok(has_saved(workload, asked_at).await),
        Err(error) => {
            warn!(error = %error, "The server did not save and stop by itself");
            // A disk that takes no more must not keep a unit whose data others hold.
            if spare && !matches!(error, ValkeyError::Timeout { .. }) {
                client
                    .shutdown(ShutdownSave::NoSave, SERVER_STOP_LIMIT)
                    .await?;
            } else if !error.is_silent() {
                // It said why it goes on: waiting for its end would only keep the hook.
                return Err(error.into());
            }
        }
    }
    Ok(false)
}

/// Says whether the server has written its snapshot since `asked_at`, rather than been killed meanwhile.
async fn has_saved(workload: &Workload, asked_at: jiff::Timestamp) -> bool {
    // The times of files are coarser than the clock.
    let since = asked_at
        .checked_sub(FILE_TIME_GRAIN)
        .unwrap_or(jiff::Timestamp::MIN);
    let saved = workload.data_presence().await.is_ok_and(|data| {
        data.snapshot
            .is_some_and(|file| file.modified.is_none_or(|modified| modified >= since))
    });
    if !saved {
        warn!("The server ended without having saved");
    }
    saved
}

/// Starts Sentinel; its own file is left alone unless an earlier life is to be forgotten.
pub(super) async fn start_sentinel(
    charm: &Charm,
    primary: &str,
    quorum: usize,
    fresh: bool,
) -> anyhow::Result<()> {
    let workload = workload(charm)?;
    let binary = workload.server().await?;
    let layout = workload.layout().clone();
    let credentials = credentials(charm)?;
    let users = sentinel_users(credentials, accepted(charm));
    workload
        .write(&layout.sentinel_users(), users.as_bytes(), PRIVATE)
        .await?;
    let settings = settings::sentinel(charm, &workload, credentials, primary, quorum)?;
    let text = match workload.read(&layout.sentinel_config()).await? {
        // What it remembers stays; only where it listens follows the machine.
        Some(own) if !fresh => settings.readdressed(&String::from_utf8_lossy(&own)),
        Some(_) | None => Some(settings.render()?),
    };
    if let Some(text) = text {
        workload
            .write(&layout.sentinel_config(), text.as_bytes(), PRIVATE)
            .await?;
    }
    if !workload.status(Service::Sentinel).await?.is_running()
        && let Some(fingerprint) = settings::fingerprint(&workload, Service::Sentinel).await
    {
        note_started(&workload, Service::Sentinel, &fingerprint).await?;
    }
    workload
        .start(
            Service::Sentinel,
            &settings::sentinel_launch(binary.path, &layout),
        )
        .await?;
    let deadline = tokio::time::Instant::now() + SERVER_START_LIMIT;
    while let Err(error) = tune_sentinel(charm).await {
        let running = workload.status(Service::Sentinel).await?.is_running();
        anyhow::ensure!(
            running,
            "Sentinel ended after its start; see its log: {error:#}"
        );
        if tokio::time::Instant::now() >= deadline {
            return Err(error.context("Sentinel does not answer"));
        }
        tokio::time::sleep(POLL_MIN).await;
    }
    Ok(())
}

/// Gives the local Sentinel what it does not keep in its file, and the whole profile of the primary.
pub(super) async fn tune_sentinel(charm: &Charm) -> anyhow::Result<()> {
    let credentials = credentials(charm)?;
    let client = sentinel_client(&charm.juju.address, credentials).await?;
    client.shorten_periods().await?;
    // Its file may be older than the passwords.
    let peers = credentials.password(InternalUser::CharmedSentinelPeers);
    client.set_peer_password(peers).await?;
    if client.primary().await?.is_some() {
        let workload = workload(charm)?;
        let settings = settings::sentinel(charm, &workload, credentials, &charm.juju.address, 1)?;
        let profile = settings.profile();
        let profile: Vec<(&str, &str)> = profile
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client.set(&profile).await?;
    }
    Ok(())
}

/// Gives a Sentinel that runs what this version of the charm wants of it and the last one did not.
///
/// What the server takes while it runs, the pass compares by itself; what either reads at start
/// alone comes with its next start.
pub async fn take_up(charm: &Charm) {
    let (Some(workload), Some(_)) = (&charm.workload, &charm.credentials) else {
        return;
    };
    let runs = workload.status(Service::Sentinel).await;
    if !runs.is_ok_and(ServiceStatus::is_running) {
        return;
    }
    if let Err(error) = tune_sentinel(charm).await {
        warn!(
            error = format!("{error:#}"),
            "Cannot give Sentinel the settings of this version"
        );
    }
}

/// Stops Sentinel.
///
/// # Errors
///
/// When it does not end.
pub async fn stop_sentinel(charm: &Charm) -> anyhow::Result<()> {
    workload(charm)?
        .stop(Service::Sentinel, Stop::surely(SMALL_STOP_LIMIT))
        .await?;
    Ok(())
}

/// Returns the content of the watcher's file.
fn watch_content(charm: &Charm, workload: &Workload) -> anyhow::Result<Vec<u8>> {
    let layout = workload.layout();
    let file = WatchFile {
        unit: charm.juju.me.to_string(),
        charm_dir: charm.env.charm_dir.clone(),
        address: charm.juju.address.clone(),
        storage: layout.storage().to_owned(),
        run: layout.run().to_owned(),
        workload: workload.kind(),
        kubernetes: charm.api_server(),
        credentials: credentials(charm)?.to_secret(),
    };
    Ok(serde_json::to_vec(&file)?)
}

/// Stops a watcher that was told what is no longer true; the pass starts it again.
///
/// # Errors
///
/// When it does not end.
pub async fn refresh_watch(charm: &Charm) -> anyhow::Result<()> {
    let (Some(workload), Some(_)) = (&charm.workload, &charm.credentials) else {
        return Ok(());
    };
    let told = workload.read(&workload.layout().watch_file()).await?;
    let differs = told
        .is_some_and(|told| watch_content(charm, workload).is_ok_and(|content| content != told));
    if differs || is_of_another_charm(workload).await {
        stop_watch(charm).await?;
    }
    Ok(())
}

/// Says whether the watcher is a program that an upgrade has replaced: an upgrade that was forced
/// past a failed hook runs no hook of its own.
async fn is_of_another_charm(workload: &Workload) -> bool {
    let Ok(ServiceStatus::Running(watch)) = workload.status(Service::Watch).await else {
        return false;
    };
    let file = |path: &str| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    // What cannot be told is left alone.
    let (Some(runs), Some(own)) = (
        watch.pid.and_then(|pid| file(&format!("/proc/{pid}/exe"))),
        file("/proc/self/exe"),
    ) else {
        return false;
    };
    runs != own
}

/// Starts the watcher.
pub(super) async fn start_watch(charm: &Charm) -> anyhow::Result<()> {
    let workload = workload(charm)?;
    let path = workload.layout().watch_file();
    workload
        .write(&path, &watch_content(charm, &workload)?, PRIVATE)
        .await?;
    let launch = watch_launch(workload.layout())?;
    workload.start(Service::Watch, &launch).await?;
    Ok(())
}

/// Starts the watcher of a unit that could not leave and serves on.
///
/// What a failed hook wrote into the databag is gone. Whoever waits to take the data over finds this unit by its
/// databag, so what the watcher wakes has to write it until Juju runs the hook again.
///
/// # Errors
///
/// When the watcher's file cannot be written, or the watcher does not start.
pub async fn watch_who_still_serves(charm: &Charm) -> anyhow::Result<()> {
    let Some(workload) = &charm.workload else {
        return Ok(());
    };
    if workload.status(Service::Server).await?.is_running() {
        start_watch(charm).await?;
    }
    Ok(())
}

fn watch_launch(layout: &Layout) -> anyhow::Result<Launch> {
    let program = std::env::current_exe().context("cannot find the charm's own program")?;
    let args = [
        std::ffi::OsString::from("watch"),
        "--file".into(),
        layout.watch_file().into(),
    ];
    Ok(Launch::new(program, args))
}

/// Writes the units of this unit's services anew where they would be written otherwise now; returns
/// the services for which that is so. That of the watcher only `with_watch`: it depends on the
/// hook's own surroundings, and is written whenever the watcher starts.
///
/// Nothing is restarted by it: where a process would be started with something else, the pass does that.
///
/// # Errors
///
/// When a unit cannot be written.
pub async fn renew_unit_files(charm: &Charm, with_watch: bool) -> anyhow::Result<Vec<Service>> {
    let Some(Workload::Systemd(systemd)) = &charm.workload else {
        return Ok(Vec::new());
    };
    let layout = systemd.layout();
    let mut launches = Vec::new();
    if with_watch {
        launches.push((Service::Watch, watch_launch(layout)?));
    }
    if let Ok(binary) = systemd.server().await {
        launches.extend([
            (
                Service::Server,
                settings::server_launch(binary.path.clone(), layout),
            ),
            (
                Service::Sentinel,
                settings::sentinel_launch(binary.path, layout),
            ),
        ]);
    }
    let mut renewed = Vec::new();
    for (service, launch) in launches {
        if systemd.renew_unit(service, &launch).await? {
            info!(%service, "Unit of systemd written anew");
            renewed.push(service);
        }
    }
    Ok(renewed)
}

/// Stops the watcher, where one runs.
///
/// # Errors
///
/// When it does not end.
pub async fn stop_watch(charm: &Charm) -> anyhow::Result<()> {
    if let Some(workload) = &charm.workload {
        workload
            .stop(Service::Watch, Stop::surely(SMALL_STOP_LIMIT))
            .await?;
    }
    Ok(())
}
