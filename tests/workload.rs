//! Processes and files of a unit, with real processes and a real valkey-server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

#[path = "support/again.rs"]
mod again;
#[path = "support/failing_starts.rs"]
mod failing_starts;
#[path = "support/until.rs"]
mod until;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use valkey_operator::limits::{FILE_READ_BYTES_MAX, KEPT_SETS_MAX, LOG_BYTES_MAX};
use valkey_operator::workload::{
    Backend as _, DataDirError, Hold, Keep, Launch, Layout, ProcessWorkload, Running, Service,
    ServiceStatus, Signal, Stop, Stopped, Workload, WorkloadError,
};

use until::until;

const DEADLINE: Duration = Duration::from_secs(20);

/// A unit's directories, and whatever runs in them; ends it when the test ends.
struct Unit {
    directory: PathBuf,
    workload: Workload,
    temporary: Option<tempfile::TempDir>,
}

impl Unit {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut unit = Self::at(directory.path());
        unit.temporary = Some(directory);
        unit.workload.make_dirs().await.unwrap();
        unit
    }

    fn at(directory: &Path) -> Self {
        let layout = Layout::new(directory.join("storage"), directory.join("run"));
        let workload = Workload::Process(ProcessWorkload::new(layout));
        Self {
            directory: directory.to_owned(),
            workload,
            temporary: None,
        }
    }

    fn layout(&self) -> &Layout {
        self.workload.layout()
    }

    async fn shell(&self, text: &str) -> Result<Running, WorkloadError> {
        self.workload
            .start(Service::Watch, &Launch::new("/bin/sh", ["-c", text]))
            .await
    }

    async fn watch_status(&self) -> ServiceStatus {
        self.workload.status(Service::Watch).await.unwrap()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let workload = self.workload.clone();
        // A runtime of its own: this also runs while a test's runtime unwinds.
        let end = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            for service in Service::ALL {
                let _ = runtime.block_on(workload.stop(service, Stop::surely(Duration::ZERO)));
            }
        });
        let _ = end.join();
        drop(self.temporary.take());
    }
}

#[tokio::test]
async fn a_service_is_started_once_found_again_and_stopped() {
    let unit = Unit::new().await;
    assert_eq!(unit.watch_status().await, ServiceStatus::Stopped);
    let running = unit.shell("echo hello; exec sleep 60").await.unwrap();
    assert_eq!(unit.watch_status().await, ServiceStatus::Running(running));
    assert_eq!(
        unit.shell("exec sleep 60").await.unwrap(),
        running,
        "a second start changes nothing"
    );
    assert_eq!(
        fs::read_to_string(unit.layout().log(Service::Watch)).unwrap(),
        "hello\n"
    );

    let pid = running.pid.unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(
        stat.split_whitespace().nth(4),
        Some(pid.to_string().as_str()),
        "its own process group"
    );

    let stop = Stop::gently(DEADLINE);
    assert_eq!(
        unit.workload.stop(Service::Watch, stop).await.unwrap(),
        Stopped::Ended
    );
    assert_eq!(unit.watch_status().await, ServiceStatus::Stopped);
    assert_eq!(
        unit.workload.stop(Service::Watch, stop).await.unwrap(),
        Stopped::Before
    );
    assert!(matches!(
        unit.workload.signal(Service::Watch, Signal::Hangup).await,
        Err(WorkloadError::NotRunning { .. })
    ));
    unit.workload.exited(Service::Watch).await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_killed_only_on_demand() {
    let unit = Unit::new().await;
    let running = unit.shell("trap '' TERM; exec sleep 60").await.unwrap();
    let short = Duration::from_millis(200);
    let refused = unit
        .workload
        .stop(Service::Watch, Stop::gently(short))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, WorkloadError::StillRunning { pid, .. } if pid == running.pid),
        "{refused}"
    );
    assert!(unit.watch_status().await.is_running());
    assert_eq!(
        unit.workload
            .stop(Service::Watch, Stop::surely(short))
            .await
            .unwrap(),
        Stopped::Killed
    );
    assert_eq!(unit.watch_status().await, ServiceStatus::Stopped);
}

#[tokio::test]
async fn the_end_of_a_service_is_seen_while_waiting_for_it() {
    let unit = Unit::new().await;
    unit.shell("exec sleep 60").await.unwrap();
    unit.workload
        .signal(Service::Watch, Signal::Freeze)
        .await
        .unwrap();
    let early = tokio::time::timeout(
        Duration::from_millis(100),
        unit.workload.exited(Service::Watch),
    )
    .await;
    assert!(early.is_err(), "a frozen process has not ended");
    assert!(unit.watch_status().await.is_running());
    unit.workload
        .signal(Service::Watch, Signal::Thaw)
        .await
        .unwrap();
    let waiting = unit.workload.exited(Service::Watch);
    let killing = unit.workload.signal(Service::Watch, Signal::Kill);
    let (ended, killed) = tokio::join!(tokio::time::timeout(DEADLINE, waiting), killing);
    killed.unwrap();
    ended.unwrap().unwrap();
    assert_eq!(
        unit.watch_status().await,
        ServiceStatus::Stopped,
        "collected or not"
    );
}

#[tokio::test]
async fn a_number_that_was_used_again_is_left_alone() {
    let unit = Unit::new().await;
    let running = unit.shell("exec sleep 60").await.unwrap();
    let path = unit.layout().pid_file(Service::Watch);
    let true_text = fs::read_to_string(&path).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&true_text).unwrap();
    other["start_ticks"] = json!(1);
    for text in [other.to_string(), "4711\n".to_owned(), String::new()] {
        fs::write(&path, text).unwrap();
        assert_eq!(unit.watch_status().await, ServiceStatus::Stopped);
        assert_eq!(
            unit.workload
                .stop(Service::Watch, Stop::surely(DEADLINE))
                .await
                .unwrap(),
            Stopped::Before
        );
        assert!(
            Path::new(&format!("/proc/{}", running.pid.unwrap())).exists(),
            "not signalled"
        );
    }
    fs::write(&path, true_text).unwrap();
    assert_eq!(
        unit.workload
            .stop(Service::Watch, Stop::surely(DEADLINE))
            .await
            .unwrap(),
        Stopped::Ended
    );
}

#[tokio::test]
async fn a_process_that_ended_but_was_not_collected_counts_as_stopped() {
    let unit = Unit::new().await;
    unit.shell("exec sleep 60").await.unwrap();
    let path = unit.layout().pid_file(Service::Watch);
    let own = fs::read_to_string(&path).unwrap();
    let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks: u64 = stat().split_whitespace().nth(21).unwrap().parse().unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&own).unwrap();
    (other["pid"], other["start_ticks"]) = (json!(child.id()), json!(ticks));
    fs::write(&path, other.to_string()).unwrap();
    assert!(unit.watch_status().await.is_running());
    unit.workload
        .signal(Service::Watch, Signal::Kill)
        .await
        .unwrap();
    until("it has ended", async || stat().contains(") Z")).await;
    assert_eq!(unit.watch_status().await, ServiceStatus::Stopped);
    child.wait().unwrap();
    fs::write(&path, own).unwrap();
}

#[tokio::test]
async fn a_failed_start_says_why_and_what_to_do() {
    let unit = Unit::new().await;
    fs::write(
        unit.layout().log(Service::Watch),
        "Address already in use, but long ago\n",
    )
    .unwrap();
    for (text, expected) in failing_starts::ALL {
        let error = unit.shell(text).await.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot start watch: ") && error.contains(expected),
            "{text}: {error}"
        );
        assert_eq!(unit.watch_status().await, ServiceStatus::Stopped);
    }
    let no_args: [&str; 0] = [];
    let missing = unit
        .workload
        .start(
            Service::Server,
            &Launch::new("/nowhere/valkey-server", no_args),
        )
        .await;
    assert!(
        matches!(missing, Err(WorkloadError::MissingBinary { .. })),
        "{missing:?}"
    );
    let plain = unit.directory.join("plain");
    fs::write(&plain, "text").unwrap();
    let plain = unit
        .workload
        .start(Service::Server, &Launch::new(plain, no_args))
        .await;
    assert!(
        matches!(plain, Err(WorkloadError::NotExecutable { .. })),
        "{plain:?}"
    );
}

/// Runs the named test of this file in a process of its own, by way of `before`, with the directory.
fn again(name: &str, before: &[&str], directory: &Path) {
    let variables = [
        ("WORKLOAD_TEST_DIRECTORY", directory.as_os_str()),
        ("JUJU_CONTEXT_ID", OsStr::new("valkey/0-install-0")),
    ];
    again::again(name, before, &variables);
}

/// Returns the directory, in a process that [`again`] started.
fn inner() -> Option<PathBuf> {
    std::env::var_os("WORKLOAD_TEST_DIRECTORY").map(PathBuf::from)
}

#[tokio::test]
async fn a_service_outlives_the_hook_and_holds_nothing_of_it() {
    if let Some(directory) = inner() {
        let unit = Unit::at(&directory);
        unit.workload.make_dirs().await.unwrap();
        unit.shell("exec sleep 60").await.unwrap();
        std::mem::forget(unit);
        return;
    }
    let unit = Unit::new().await;
    let started = Instant::now();
    // Reads the inner process's output to its end, which comes late if the service holds a pipe.
    again(
        "a_service_outlives_the_hook_and_holds_nothing_of_it",
        &["/usr/bin/env"],
        &unit.directory,
    );
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "the service held the pipes"
    );
    let ServiceStatus::Running(running) = unit.watch_status().await else {
        panic!("it ended with the hook")
    };
    let proc = PathBuf::from(format!("/proc/{}", running.pid.unwrap()));
    let environment = fs::read_to_string(proc.join("environ")).unwrap();
    assert!(
        environment.contains("PATH=") && !environment.contains("JUJU_CONTEXT_ID"),
        "{environment}"
    );
    let log = unit.layout().log(Service::Watch);
    for (number, expected) in [("0", Path::new("/dev/null")), ("1", &log), ("2", &log)] {
        assert_eq!(
            fs::read_link(proc.join("fd").join(number)).unwrap(),
            expected
        );
    }
    assert_eq!(
        fs::read_link(proc.join("cwd")).unwrap(),
        unit.layout().run()
    );
    assert_eq!(
        unit.workload
            .stop(Service::Watch, Stop::gently(DEADLINE))
            .await
            .unwrap(),
        Stopped::Ended
    );
}

/// Returns a free port of an address that only these tests use.
fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn a_real_server_starts_serves_and_stops_and_a_second_one_is_told_why_not() {
    const ADDRESS: &str = "127.77.3.1";
    let (first, second) = (Unit::new().await, Unit::new().await);
    let binary = first.workload.server().await.unwrap();
    assert!(
        binary.version.starts_with(|c: char| c.is_ascii_digit()),
        "{binary:?}"
    );
    assert_eq!(first.workload.server().await.unwrap(), binary, "remembered");
    assert!(first.layout().server_version().is_file());
    let port = free_port(ADDRESS);
    let config = |unit: &Unit| {
        format!(
            "bind {ADDRESS}\nport {port}\ndir {}\nsave 3600 1\nprotected-mode no\n",
            unit.layout().data().display()
        )
    };
    let launch = |unit: &Unit| Launch::new(&binary.path, [unit.layout().server_config()]);
    for unit in [&first, &second] {
        unit.workload.check_data_dir().await.unwrap();
        unit.workload
            .write(
                &unit.layout().server_config(),
                config(unit).as_bytes(),
                0o600,
            )
            .await
            .unwrap();
    }
    first
        .workload
        .start(Service::Server, &launch(&first))
        .await
        .unwrap();
    until("the server listens", async || {
        TcpStream::connect((ADDRESS, port)).is_ok()
    })
    .await;
    let refused = second
        .workload
        .start(Service::Server, &launch(&second))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, WorkloadError::PortInUse { .. }),
        "{refused}"
    );

    let mut stream = TcpStream::connect((ADDRESS, port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"SET key value\r\n").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");
    assert!(first.workload.data_presence().await.unwrap().is_empty());
    assert_eq!(
        first
            .workload
            .stop(Service::Server, Stop::gently(DEADLINE))
            .await
            .unwrap(),
        Stopped::Ended
    );
    let found = first.workload.data_presence().await.unwrap();
    assert!(
        found.snapshot.is_some_and(|snapshot| snapshot.bytes > 0),
        "saved at its end: {found:?}"
    );
}

#[tokio::test]
async fn a_missing_or_wrong_server_binary_is_named() {
    let unit = Unit::new().await;
    for (program, expected) in [
        (
            "/nowhere/valkey-server",
            "cannot find the program /nowhere/valkey-server",
        ),
        ("/bin/true", "cannot learn the version of /bin/true"),
        ("/bin/false", "cannot learn the version of /bin/false"),
    ] {
        let backend = ProcessWorkload::new(unit.layout().clone()).with_server(program);
        let error = backend.server().await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn files_are_replaced_whole_with_their_mode_and_read_with_a_bound() {
    let unit = Unit::new().await;
    let path = unit.layout().server_users();
    assert_eq!(unit.workload.read(&path).await.unwrap(), None);
    for (bytes, mode) in [(&b"user default off\n"[..], 0o600), (b"", 0o640)] {
        unit.workload.write(&path, bytes, mode).await.unwrap();
        assert_eq!(
            unit.workload.read(&path).await.unwrap().as_deref(),
            Some(bytes)
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            mode
        );
    }
    let left: Vec<_> = fs::read_dir(unit.layout().config()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
    unit.workload.remove(&path).await.unwrap();
    unit.workload.remove(&path).await.unwrap();

    let large = fs::File::create(&path).unwrap();
    large.set_len(FILE_READ_BYTES_MAX + 1).unwrap();
    assert!(matches!(
        unit.workload.read(&path).await,
        Err(WorkloadError::TooLarge { .. })
    ));
    let nowhere = unit.layout().config().join("no/file");
    let error = unit
        .workload
        .write(&nowhere, b"x", 0o600)
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
}

#[tokio::test]
async fn directories_are_private_even_if_they_were_not() {
    let unit = Unit::new().await;
    let config = unit.layout().config();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o755)).unwrap();
    unit.workload.make_dirs().await.unwrap();
    for path in unit.layout().directories() {
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o7777,
            0o700,
            "{}",
            path.display()
        );
    }
}

#[tokio::test]
async fn the_document_beside_the_data_is_read_back_or_named_as_damaged() {
    let unit = Unit::new().await;
    assert_eq!(
        unit.workload
            .read_identity::<serde_json::Value>()
            .await
            .unwrap(),
        None
    );
    let document = json!({"deployment": "d1", "offset": 18_446_744_073_709_551_615_u64, "future": [1, {"a": null}]});
    unit.workload.write_identity(&document).await.unwrap();
    assert_eq!(unit.workload.read_identity().await.unwrap(), Some(document));
    for damaged in ["", "{", "[]garbage", "\0\0\0"] {
        fs::write(unit.layout().identity(), damaged).unwrap();
        let error = unit
            .workload
            .read_identity::<serde_json::Value>()
            .await
            .unwrap_err();
        assert!(matches!(error, WorkloadError::Document { .. }), "{error}");
    }
}

/// Puts a data set into the data directory.
fn put_data(unit: &Unit, text: &str) {
    fs::create_dir_all(unit.layout().append_only_dir()).unwrap();
    fs::write(unit.layout().identity(), "{}").unwrap();
    // Replaced, never changed, as a server does with a snapshot.
    let new = unit.layout().data().join("temp.rdb");
    fs::write(&new, text).unwrap();
    fs::rename(&new, unit.layout().snapshot()).unwrap();
    for end in ["1.base.rdb", "1.incr.aof", "manifest"] {
        let path = unit
            .layout()
            .append_only_dir()
            .join(format!("appendonly.aof.{end}"));
        let _ = fs::remove_file(&path);
        fs::write(path, text).unwrap();
    }
}

#[tokio::test]
async fn a_data_set_kept_aside_is_complete_up_to_its_replacement() {
    let unit = Unit::new().await;
    assert_eq!(
        unit.workload
            .keep_aside("nothing", Keep::Link)
            .await
            .unwrap(),
        None
    );
    put_data(&unit, "one");
    let found = unit.workload.data_presence().await.unwrap();
    assert!(
        found.append_only && found.append_only_bytes == 9 && found.snapshot.unwrap().bytes == 3
    );

    let set = unit
        .workload
        .keep_aside("Before: full/../sync", Keep::Link)
        .await
        .unwrap()
        .unwrap();
    let name = set.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("Z-before--full----sync"), "{name}");
    assert!(
        !unit.workload.data_presence().await.unwrap().is_empty(),
        "it stays where it was"
    );
    // What a server still appends belongs to the set; what replaces its files does not.
    let growing = unit
        .layout()
        .append_only_dir()
        .join("appendonly.aof.1.incr.aof");
    fs::OpenOptions::new()
        .append(true)
        .open(growing)
        .unwrap()
        .write_all(b" two")
        .unwrap();
    put_data(&unit, "three");
    let kept = |name: &str| fs::read_to_string(set.join(name)).unwrap();
    for (name, content) in [
        ("dump.rdb", "one"),
        ("appendonlydir/appendonly.aof.1.base.rdb", "one"),
        ("appendonlydir/appendonly.aof.1.incr.aof", "one two"),
    ] {
        assert_eq!(kept(name), content, "{name}");
    }
    assert_eq!(kept("identity.json"), "{}");

    let moved = unit
        .workload
        .keep_aside("moved", Keep::Move)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        fs::read_to_string(moved.join("appendonlydir/appendonly.aof.1.incr.aof")).unwrap(),
        "three"
    );
    assert!(
        unit.workload.data_presence().await.unwrap().is_empty(),
        "a moved one is gone"
    );
}

#[tokio::test]
async fn only_the_newest_sets_are_kept_and_what_is_no_set_stays() {
    let unit = Unit::new().await;
    let kept = unit.layout().kept();
    fs::create_dir_all(kept.join(".incomplete-20260101T000000.000Z-x/appendonlydir")).unwrap();
    fs::create_dir_all(kept.join("of-a-person")).unwrap();
    let mut sets = Vec::new();
    for number in 0..4 {
        put_data(&unit, &number.to_string());
        sets.push(
            unit.workload
                .keep_aside(&format!("set {number}"), Keep::Link)
                .await
                .unwrap()
                .unwrap(),
        );
        // The names hold milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (gone, left) = sets.split_at(sets.len() - KEPT_SETS_MAX);
    assert!(
        gone.iter().all(|set| !set.exists()) && left.iter().all(|set| set.exists()),
        "{sets:?}"
    );
    let others: Vec<_> = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(others.len(), KEPT_SETS_MAX + 1, "{others:?}");
}

#[tokio::test]
async fn keeping_the_same_files_again_pushes_no_older_set_out() {
    let unit = Unit::new().await;
    let keep = async |label: &str| {
        let kept = unit.workload.keep_aside(label, Keep::Link).await;
        kept.unwrap().unwrap()
    };
    put_data(&unit, "older");
    let older = keep("older").await;
    put_data(&unit, "newer");
    let newer = keep("newer").await;
    for _ in 0..=KEPT_SETS_MAX {
        assert_eq!(keep("again").await, newer);
    }
    assert!(older.exists());
    put_data(&unit, "other");
    assert_ne!(keep("again").await, newer);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let unit = Unit::new().await;
    unit.workload.check_data_dir().await.unwrap();
    assert_eq!(
        fs::read_dir(unit.layout().data()).unwrap().count(),
        0,
        "the check leaves nothing behind"
    );

    fs::set_permissions(unit.layout().data(), fs::Permissions::from_mode(0o500)).unwrap();
    let error = unit.workload.check_data_dir().await.unwrap_err();
    assert!(
        matches!(
            error,
            WorkloadError::DataDir(DataDirError::WrongMode { mode: 0o500, .. })
        ),
        "{error}"
    );

    fs::remove_dir(unit.layout().data()).unwrap();
    unit.workload.check_data_dir().await.unwrap();
    fs::remove_dir(unit.layout().data()).unwrap();
    fs::write(unit.layout().data(), "a file").unwrap();
    let error = unit.workload.check_data_dir().await.unwrap_err();
    assert!(
        matches!(
            error,
            WorkloadError::DataDir(DataDirError::NotADirectory { .. })
        ),
        "{error}"
    );

    fs::remove_dir_all(unit.layout().storage()).unwrap();
    let error = unit.workload.check_data_dir().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is the storage attached and mounted?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_told_apart() {
    const NAME: &str = "a_full_or_read_only_disk_is_told_apart";
    let Some(directory) = inner() else {
        let directory = tempfile::tempdir().unwrap();
        // A small disk of its own, in a mount namespace that ends with the process.
        let mount = "mount -t tmpfs -o size=1m none \"$WORKLOAD_TEST_DIRECTORY\" && exec \"$@\"";
        again(
            NAME,
            &[
                "unshare",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                mount,
                "sh",
            ],
            directory.path(),
        );
        return;
    };
    let unit = Unit::at(&directory);
    unit.workload.make_dirs().await.unwrap();
    put_data(&unit, "one");
    let free = unit.workload.free_space_bytes().await.unwrap();
    assert!((1..=1024 * 1024).contains(&free), "{free}");
    let error = unit.workload.keep_aside("x", Keep::Link).await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::NoSpaceToKeep { .. }),
        "{error}"
    );
    assert_eq!(
        fs::read_dir(unit.layout().kept()).unwrap().count(),
        0,
        "nothing has changed"
    );

    let filler = directory.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let error = unit.workload.check_data_dir().await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::DataDir(DataDirError::Full { .. })),
        "{error}"
    );
    let error = unit
        .workload
        .write_identity(&json!({"a": "b".repeat(8192)}))
        .await
        .unwrap_err();
    assert!(matches!(error, WorkloadError::File { .. }), "{error}");
    assert_eq!(
        fs::read_to_string(unit.layout().identity()).unwrap(),
        "{}",
        "the old one is whole"
    );

    drop(file);
    fs::remove_file(filler).unwrap();
    let remount = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&directory)
        .status()
        .unwrap();
    assert!(remount.success());
    let error = unit.workload.check_data_dir().await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::DataDir(DataDirError::ReadOnly { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_is_bounded_while_its_service_goes_on_writing() {
    let unit = Unit::new().await;
    let log = unit.layout().log(Service::Watch);
    let go_on = unit.directory.join("go-on");
    let text = format!(
        "head -c {} /dev/zero | tr '\\0' x; until [ -e {} ]; do sleep 0.02; done; echo after; exec sleep 60",
        LOG_BYTES_MAX + 1,
        go_on.display()
    );
    unit.shell(&text).await.unwrap();
    until("the log is too large", async || {
        fs::metadata(&log).is_ok_and(|log| log.len() > LOG_BYTES_MAX)
    })
    .await;
    unit.workload.bound_logs().await.unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    fs::write(go_on, "").unwrap();
    until("the service has written", async || {
        fs::read_to_string(&log).is_ok_and(|text| text == "after\n")
    })
    .await;
    let older = unit.layout().logs().join("watch.log.1");
    assert_eq!(fs::metadata(older).unwrap().len(), LOG_BYTES_MAX);
    unit.workload.bound_logs().await.unwrap();
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        "after\n",
        "a small log stays"
    );
}

#[tokio::test]
async fn what_is_held_follows_the_files_until_it_is_sealed_or_let_go() {
    let unit = Unit::new().await;
    let workload = &unit.workload;
    assert_eq!(workload.hold().await.unwrap(), Hold::Nothing);
    assert_eq!(workload.seal_hold("none", &"x").await.unwrap(), None);

    put_data(&unit, "one");
    assert_eq!(workload.hold().await.unwrap(), Hold::Prepared);
    workload.confirm_hold().await.unwrap();
    workload.describe_hold(&"first").await.unwrap();
    assert_eq!(workload.hold().await.unwrap(), Hold::Held);

    // The files were replaced, and by then the server was no primary any more: not confirmed.
    put_data(&unit, "two");
    assert_eq!(workload.hold().await.unwrap(), Hold::Prepared);
    assert_eq!(
        workload.held::<String>().await.unwrap().as_deref(),
        Some("first")
    );
    let set = workload
        .seal_hold("former primary", &"sealed")
        .await
        .unwrap()
        .unwrap();
    for (name, content) in [
        ("dump.rdb", "one"),
        ("appendonlydir/appendonly.aof.1.incr.aof", "one"),
        ("about.json", "\"sealed\""),
        ("identity.json", "{}"),
    ] {
        assert_eq!(
            fs::read_to_string(set.join(name)).unwrap(),
            content,
            "{name}"
        );
    }

    // The same files a second time: one set, not two.
    let again = workload
        .keep_aside("by hand", Keep::Link)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(workload.hold().await.unwrap(), Hold::Prepared);
    workload.confirm_hold().await.unwrap();
    let last = workload.seal_hold("again", &"x").await.unwrap().unwrap();
    assert!(!again.exists() && last.exists() && set.exists());
    assert_eq!(workload.kept_sets().await.unwrap().len(), 2);

    assert_eq!(workload.hold().await.unwrap(), Hold::Prepared);
    workload.confirm_hold().await.unwrap();
    workload.release_hold().await.unwrap();
    assert_eq!(workload.held::<String>().await.unwrap(), None);
    assert_eq!(workload.seal_hold("none", &"x").await.unwrap(), None);
}
