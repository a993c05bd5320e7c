//! The backend: the contract that all ways of running processes keep, and what is special in a pod.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use valkey_operator::limits::{KILL_WAIT, POD_GRACE_LIMIT};
use valkey_operator::workload::pebble::Current;
use valkey_operator::workload::{
    Backend as _, Kind, Launch, Layout, PebbleWorkload, Running, Service, ServiceStatus, Signal,
    Stop, Stopped, Workload, WorkloadError,
};

use super::daemon::{DEADLINE, Daemon, IMAGE_USER, is_root};
use super::failing_starts;
use super::until::until;

/// A unit in a pod.
struct Unit {
    daemon: Daemon,
    workload: Workload,
}

impl Unit {
    /// With Pebble as the image's user where the test may become it, as in a pod.
    async fn new() -> Self {
        let daemon = Daemon::start_as(is_root().then_some(IMAGE_USER)).await;
        let layout = Layout::new(daemon.path().join("storage"), daemon.path().join("run"));
        let socket = daemon.client.socket();
        let workload = Workload::Pebble(PebbleWorkload::with_socket(layout, socket));
        assert_eq!(workload.kind(), Kind::Pebble);
        workload.make_dirs().await.unwrap();
        Self { daemon, workload }
    }

    fn layout(&self) -> &Layout {
        self.workload.layout()
    }

    async fn shell(&self, service: Service, text: &str) -> Result<Running, WorkloadError> {
        let launch = Launch::new("/bin/sh", ["-c", text]);
        self.workload.start(service, &launch).await
    }

    async fn status(&self) -> ServiceStatus {
        self.workload.status(Service::Server).await.unwrap()
    }

    async fn stop(&self, how: Stop) -> Result<Stopped, WorkloadError> {
        self.workload.stop(Service::Server, how).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), WorkloadError> {
        self.workload.signal(Service::Server, signal).await
    }
}

#[tokio::test]
async fn a_service_is_started_once_found_again_and_stopped() {
    let unit = Unit::new().await;
    assert_eq!(unit.status().await, ServiceStatus::Stopped);
    let begun = Instant::now();
    let running = unit
        .shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap();
    assert!(begun.elapsed() < DEADLINE);
    assert_eq!(unit.status().await, ServiceStatus::Running(running));
    assert_eq!(
        running.pid, None,
        "numbers of another container mean nothing here"
    );
    let again = unit
        .shell(Service::Server, "exec sleep 2000")
        .await
        .unwrap();
    assert_eq!(again, running, "a second start changes nothing");

    let stop = Stop::gently(DEADLINE);
    assert_eq!(unit.stop(stop).await.unwrap(), Stopped::Ended);
    assert_eq!(unit.status().await, ServiceStatus::Stopped);
    assert_eq!(unit.stop(stop).await.unwrap(), Stopped::Before);
    let error = unit.signal(Signal::Hangup).await;
    assert!(
        matches!(error, Err(WorkloadError::NotRunning { .. })),
        "{error:?}"
    );
    unit.workload.exited(Service::Server).await.unwrap();

    let restarted = unit
        .shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap();
    assert!(restarted.since > running.since, "{restarted:?}");
}

#[tokio::test]
async fn what_does_not_end_is_killed_only_on_demand() {
    let unit = Unit::new().await;
    // Its own layer would let Pebble kill it much later; the charm's time limit counts.
    let mark = unit.layout().data().join("ready");
    let text = format!(
        "trap '' TERM; : >{}; while :; do sleep 0.1; done",
        mark.display()
    );
    unit.shell(Service::Server, &text).await.unwrap();
    until("it ignores the signal", async || mark.exists()).await;
    let short = Duration::from_millis(200);
    let refused = unit.stop(Stop::gently(short)).await.unwrap_err();
    assert!(
        matches!(refused, WorkloadError::StillRunning { pid: None, .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().starts_with("cannot stop server: "),
        "{refused}"
    );
    assert!(unit.status().await.is_running());
    assert_eq!(
        unit.stop(Stop::surely(short)).await.unwrap(),
        Stopped::Killed
    );
    assert_eq!(unit.status().await, ServiceStatus::Stopped);
}

#[tokio::test]
async fn the_end_of_a_service_is_seen_while_waiting_for_it_and_nobody_starts_it_again() {
    let unit = Unit::new().await;
    unit.shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap();
    unit.signal(Signal::Freeze).await.unwrap();
    let early = Duration::from_millis(300);
    let early = tokio::time::timeout(early, unit.workload.exited(Service::Server)).await;
    assert!(early.is_err(), "a frozen process has not ended");
    unit.signal(Signal::Thaw).await.unwrap();
    let waiting = tokio::time::timeout(DEADLINE, unit.workload.exited(Service::Server));
    let (ended, killed) = tokio::join!(waiting, unit.signal(Signal::Kill));
    killed.unwrap();
    ended.unwrap().unwrap();
    // Longer than the first pause after which Pebble would start it again if it were told to.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(
            unit.status().await,
            ServiceStatus::Stopped,
            "it came back by itself"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_frozen_service_can_be_killed() {
    let unit = Unit::new().await;
    unit.shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap();
    unit.signal(Signal::Freeze).await.unwrap();
    unit.signal(Signal::Kill).await.unwrap();
    let ended = tokio::time::timeout(KILL_WAIT, unit.workload.exited(Service::Server)).await;
    ended.expect("a frozen process dies").unwrap();
}

#[tokio::test]
async fn a_failed_start_says_why_and_what_to_do() {
    let unit = Unit::new().await;
    for (text, expected) in failing_starts::ALL {
        let error = unit
            .shell(Service::Server, text)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot start server: ") && error.contains(expected),
            "{text}: {error}"
        );
        assert_eq!(unit.status().await, ServiceStatus::Stopped);
    }
    let plain = unit.layout().data().join("plain");
    fs::write(&plain, "text").unwrap();
    let start = async |program: PathBuf| {
        let no_args: [&OsStr; 0] = [];
        unit.workload
            .start(Service::Server, &Launch::new(program, no_args))
            .await
    };
    let missing = start("/nowhere/valkey-server".into()).await;
    assert!(
        matches!(missing, Err(WorkloadError::MissingBinary { .. })),
        "{missing:?}"
    );
    let missing = start("no-such-program".into()).await;
    assert!(
        matches!(missing, Err(WorkloadError::MissingBinary { .. })),
        "{missing:?}"
    );
    let plain = start(plain).await;
    assert!(
        matches!(plain, Err(WorkloadError::NotExecutable { .. })),
        "{plain:?}"
    );
}

#[tokio::test]
async fn with_its_container_a_service_ends_and_the_next_start_brings_it_back() {
    let mut unit = Unit::new().await;
    unit.shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap();
    unit.daemon.die();
    assert_eq!(unit.status().await, ServiceStatus::Stopped);
    unit.workload.exited(Service::Server).await.unwrap();
    assert_eq!(
        unit.stop(Stop::gently(DEADLINE)).await.unwrap(),
        Stopped::Before
    );
    let error = unit
        .shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, WorkloadError::Pebble(error) if error.is_absent())
            && !error.needs_person(),
        "{error}"
    );
    unit.daemon.come_back().await;
    assert_eq!(
        unit.status().await,
        ServiceStatus::Stopped,
        "Pebble starts nothing by itself"
    );
    unit.shell(Service::Server, "exec sleep 1000")
        .await
        .unwrap();
    assert!(unit.status().await.is_running());
}

/// A service that says on the storage that it runs, and that it was told to end.
fn telling(unit: &Unit, service: Service) -> (String, [PathBuf; 2]) {
    let [ready, told] =
        ["ready", "told"].map(|word| unit.layout().data().join(format!("{service}-{word}")));
    let text = format!(
        "trap ': >{}; exit' TERM; : >{}; while :; do sleep 0.1; done",
        told.display(),
        ready.display(),
    );
    (text, [ready, told])
}

#[tokio::test]
async fn the_end_of_a_pod_waits_for_the_charm() {
    let mut unit = Unit::new().await;
    let mut marks = Vec::new();
    for service in [Service::Server, Service::Sentinel] {
        let (text, [ready, told]) = telling(&unit, service);
        unit.shell(service, &text).await.unwrap();
        until("it runs", async || ready.exists()).await;
        marks.push(told);
    }
    until("it is there to wait", async || {
        let found = unit.daemon.client.services(&["grace"]).await.unwrap();
        found
            .first()
            .is_some_and(|one| one.current == Current::Active)
    })
    .await;
    unit.daemon.ask_to_end();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(
            !marks.iter().any(|told| told.exists()),
            "nothing was told to end"
        );
        assert!(unit.status().await.is_running());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unit.workload.let_pod_end().await.unwrap();
    until("all has ended", async || unit.daemon.has_ended()).await;
    // In order, long before the time is over.
    assert!(marks.iter().all(|told| told.exists()));
    assert!(begun.elapsed() < POD_GRACE_LIMIT);
}

#[tokio::test]
async fn the_end_of_a_pod_does_not_wait_for_what_the_charm_has_stopped() {
    let mut unit = Unit::new().await;
    for _ in 0..2 {
        unit.shell(Service::Server, "exec sleep 1000")
            .await
            .unwrap();
        assert_eq!(
            unit.stop(Stop::gently(DEADLINE)).await.unwrap(),
            Stopped::Ended
        );
    }
    let begun = Instant::now();
    unit.daemon.ask_to_end();
    until("it has ended", async || unit.daemon.has_ended()).await;
    assert!(begun.elapsed() < POD_GRACE_LIMIT);
}

#[tokio::test]
async fn the_watcher_is_a_process_of_the_charms_own_container() {
    let mut unit = Unit::new().await;
    let running = unit.shell(Service::Watch, "exec sleep 1000").await.unwrap();
    assert!(running.pid.is_some());
    assert_eq!(unit.daemon.client.services(&[]).await.unwrap(), []);
    // It outlives the other container, which it waits for.
    unit.daemon.die();
    let status = unit.workload.status(Service::Watch).await.unwrap();
    assert_eq!(status, ServiceStatus::Running(running));
    let stopped = unit
        .workload
        .stop(Service::Watch, Stop::surely(DEADLINE))
        .await;
    assert_eq!(stopped.unwrap(), Stopped::Ended);
}

#[tokio::test]
async fn files_belong_to_whoever_works_with_them() {
    let unit = Unit::new().await;
    let layout = unit.layout().clone();
    let mine = rustix::process::geteuid().as_raw();
    let services = if is_root() { IMAGE_USER } else { mine };
    for (path, owner) in [
        (layout.server_config(), services),
        (layout.server_users(), services),
        (layout.sentinel_config(), services),
        (layout.identity(), mine),
        (layout.watch_file(), mine),
    ] {
        unit.workload.write(&path, b"text", 0o600).await.unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(
            (found.uid(), found.mode() & 0o777),
            (owner, 0o600),
            "{}",
            path.display()
        );
        assert_eq!(
            unit.workload.read(&path).await.unwrap().as_deref(),
            Some(&b"text"[..])
        );
    }
    // What another user left on the storage is given to this one.
    if is_root() {
        let old = layout.data().join("dump.rdb");
        fs::write(&old, "old").unwrap();
        std::os::unix::fs::chown(layout.data(), Some(0), Some(0)).unwrap();
        unit.workload.make_dirs().await.unwrap();
        assert_eq!(fs::metadata(&old).unwrap().uid(), IMAGE_USER);
    }
}

#[tokio::test]
async fn a_real_server_and_sentinel_serve_and_a_pod_is_ready_while_they_do() {
    const ADDRESS: &str = "127.77.4.1";
    let mut unit = Unit::new().await;
    let layout = unit.layout().clone();
    unit.workload.check_data_dir().await.unwrap();
    let binary = unit.workload.server().await.unwrap();
    assert!(
        binary.version.starts_with(|c: char| c.is_ascii_digit()),
        "{binary:?}"
    );
    assert_eq!(unit.workload.server().await.unwrap(), binary, "remembered");

    let free_port = || {
        let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let (port, sentinel_port) = (free_port(), free_port());
    let config = format!(
        "bind {ADDRESS}\nport {port}\ndir {}\nsave 3600 1\nprotected-mode no\n",
        layout.data().display()
    );
    let sentinel = format!(
        "bind {ADDRESS}\nport {sentinel_port}\ndir {}\nprotected-mode no\n\
         sentinel monitor primary {ADDRESS} {port} 1\n",
        layout.sentinel().display()
    );
    for (path, text) in [
        (layout.server_config(), config),
        (layout.sentinel_config(), sentinel),
    ] {
        unit.workload
            .write(&path, text.as_bytes(), 0o600)
            .await
            .unwrap();
    }
    let server = Launch::new(&binary.path, [layout.server_config()]).serving_on(ADDRESS, port);
    let config = layout.sentinel_config();
    let sentinel = Launch::new(&binary.path, [config.as_os_str(), OsStr::new("--sentinel")]);
    for round in 1..=2 {
        unit.workload.start(Service::Server, &server).await.unwrap();
        unit.workload
            .start(Service::Sentinel, &sentinel)
            .await
            .unwrap();
        for port in [port, sentinel_port] {
            until("it takes connections", async || {
                TcpStream::connect((ADDRESS, port)).is_ok()
            })
            .await;
        }
        let client = &unit.daemon.client;
        assert_eq!(client.checks(&[]).await.unwrap().len(), 1);
        until("the pod is ready", async || {
            client.health(None, &[]).await.unwrap()
        })
        .await;
        if round == 1 {
            let stopped = unit.stop(Stop::gently(DEADLINE)).await.unwrap();
            assert_eq!(stopped, Stopped::Ended);
            assert!(
                layout.snapshot().exists()
                    || !unit.workload.data_presence().await.unwrap().append_only
            );
            until("the pod is not ready", async || {
                !client.health(None, &[]).await.unwrap()
            })
            .await;
            // A new container, perhaps of another image: everything is told and asked anew.
            let remembered = fs::read(layout.server_version()).unwrap();
            unit.daemon.come_back().await;
            assert_eq!(unit.workload.server().await.unwrap(), binary);
            assert_ne!(fs::read(layout.server_version()).unwrap(), remembered);
        }
    }
    for service in [Service::Sentinel, Service::Server] {
        let stopped = unit
            .workload
            .stop(service, Stop::gently(DEADLINE))
            .await
            .unwrap();
        assert_eq!(stopped, Stopped::Ended, "{service}");
    }
}

#[tokio::test]
async fn the_memory_is_that_of_the_other_container() {
    let mut unit = Unit::new().await;
    let here = Workload::new(Kind::Process, unit.layout().clone(), "valkey/0").memory_bytes();
    let Workload::Pebble(pebble) = unit.workload.clone() else {
        panic!("another way of running processes")
    };
    assert_eq!(pebble.memory_bytes(), None, "not asked yet");
    // Both are of this machine here, so both say the same.
    assert!(here.is_some());
    assert_eq!(pebble.clone().with_memory().await.memory_bytes(), here);
    unit.daemon.die();
    assert_eq!(pebble.with_memory().await.memory_bytes(), None);
}

#[tokio::test]
async fn an_image_without_a_server_is_told_from_a_container_that_is_not_up() {
    let mut unit = Unit::new().await;
    unit.daemon.die();
    let error = unit.workload.server().await.unwrap_err();
    assert!(
        matches!(&error, WorkloadError::Pebble(error) if error.is_absent()),
        "{error}"
    );
    unit.daemon.come_back_with_path("/nowhere").await;
    let error = unit.workload.server().await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::MissingBinary { .. }) && error.needs_person(),
        "{error}"
    );
}
