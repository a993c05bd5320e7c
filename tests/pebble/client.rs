//! Every call of the client, answered by the real Pebble.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use valkey_operator::limits::PEBBLE_EXEC_OUTPUT_BYTES_MAX;
use valkey_operator::workload::pebble::{
    Changes, CheckSpec, Client, Current, Exec, Layer, Level, NewFile, NoticesQuery, Override,
    PebbleError, Probe, ServiceSpec, ServicesAction, Startup,
};

use super::daemon::{DEADLINE, Daemon, IMAGE_USER, is_root};

fn service(command: &str) -> ServiceSpec {
    ServiceSpec::when_told("of a test", command.to_owned(), Duration::from_millis(300))
}

fn layer(name: &str, spec: ServiceSpec) -> Layer {
    Layer {
        summary: "of a test".to_owned(),
        services: BTreeMap::from([(name.to_owned(), spec)]),
        checks: BTreeMap::new(),
    }
}

fn refused(error: &PebbleError, words: &str) {
    assert!(
        matches!(error, PebbleError::Refused { message, .. } if message.contains(words)),
        "{error:?}, not {words}"
    );
}

/// Waits until `look` returns what is wanted.
async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, mut look: impl AsyncFnMut() -> T) {
    let begun = Instant::now();
    loop {
        let found = look().await;
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until Pebble has no change in progress.
async fn nothing_in_progress(client: &Client) {
    until(0, async || {
        let changes = client.changes(Changes::InProgress, None).await;
        changes.unwrap().len()
    })
    .await;
}

#[tokio::test]
async fn layers_are_merged_and_start_nothing() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let about = client.system_info().await.unwrap();
    assert!(
        about.version.starts_with('v') && !about.boot_id.is_empty(),
        "{about:?}"
    );
    assert_eq!(client.plan().await.unwrap().trim(), "{}");
    assert_eq!(client.services(&[]).await.unwrap(), []);
    assert!(
        client.health(None, &[]).await.unwrap(),
        "no checks, nothing is wrong"
    );

    let enabled = ServiceSpec {
        startup: Startup::Enabled,
        environment: BTreeMap::from([("WORD".to_owned(), "a b: c".to_owned())]),
        ..service("/bin/sleep 1000")
    };
    client
        .add_layer("test", &layer("one", enabled))
        .await
        .unwrap();
    client
        .add_layer("test", &layer("two", service("/bin/sleep 2000")))
        .await
        .unwrap();
    let plan = client.plan().await.unwrap();
    for part in [
        "one:",
        "two:",
        "sleep 2000",
        "a b: c",
        "kill-delay: 300ms",
        "on-failure: ignore",
    ] {
        assert!(plan.contains(part), "{part} is missing in {plan}");
    }
    let found = client.services(&[]).await.unwrap();
    let states: Vec<_> = found
        .iter()
        .map(|found| (found.name.as_str(), found.current))
        .collect();
    assert_eq!(
        states,
        [("one", Current::Inactive), ("two", Current::Inactive)]
    );
    assert_eq!(client.services(&["two", "three"]).await.unwrap().len(), 1);

    let mut wrong = service("/bin/sleep 1");
    wrong.command = String::new();
    let error = client
        .add_layer("test", &layer("bad", wrong))
        .await
        .unwrap_err();
    refused(&error, "command");
    assert!(
        !client.plan().await.unwrap().contains("bad"),
        "a wrong layer changes nothing"
    );

    let change = client.replan().await.unwrap();
    let change = client.succeeded(&change, DEADLINE).await.unwrap();
    assert_eq!(change.kind, "replan");
    let running: Vec<_> = client
        .services(&[])
        .await
        .unwrap()
        .into_iter()
        .map(|found| found.current)
        .collect();
    assert_eq!(
        running,
        [Current::Active, Current::Inactive],
        "only what is enabled"
    );
}

#[tokio::test]
async fn a_container_that_comes_back_knows_nothing_and_runs_nothing() {
    let mut daemon = Daemon::start().await;
    let sleeper = service("/bin/sleep 1000");
    daemon
        .client
        .add_layer("test", &layer("one", sleeper))
        .await
        .unwrap();
    let change = daemon
        .client
        .change_services(ServicesAction::Start, &["one"])
        .await
        .unwrap();
    daemon.client.succeeded(&change, DEADLINE).await.unwrap();
    daemon.die();
    assert!(daemon.client.services(&[]).await.unwrap_err().is_absent());
    daemon.come_back().await;
    assert_eq!(daemon.client.services(&[]).await.unwrap(), []);
    assert_eq!(daemon.client.plan().await.unwrap().trim(), "{}");
}

#[tokio::test]
async fn services_start_stop_and_say_why_not() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let begin = async |action, names: &[&str]| client.change_services(action, names).await;
    refused(
        &begin(ServicesAction::Start, &["none"]).await.unwrap_err(),
        "does not exist",
    );

    client
        .add_layer("test", &layer("good", service("/bin/sleep 1000")))
        .await
        .unwrap();
    client
        .add_layer(
            "test",
            &layer("bad", service("/bin/sh -c 'echo what is wrong; exit 3'")),
        )
        .await
        .unwrap();
    let change = begin(ServicesAction::Start, &["good"]).await.unwrap();
    client.succeeded(&change, DEADLINE).await.unwrap();
    let first = client.services(&["good"]).await.unwrap().remove(0);
    assert_eq!(
        (first.current, first.startup.as_str()),
        (Current::Active, "disabled")
    );
    assert!(first.current_since.is_some());

    let change = begin(ServicesAction::Restart, &["good"]).await.unwrap();
    client.succeeded(&change, DEADLINE).await.unwrap();
    let second = client.services(&["good"]).await.unwrap().remove(0);
    assert!(second.current_since > first.current_since, "{second:?}");

    let change = begin(ServicesAction::Start, &["bad"]).await.unwrap();
    let error = client.succeeded(&change, DEADLINE).await.unwrap_err();
    assert!(
        error.to_string().contains("exited quickly with code 3"),
        "{error}"
    );
    assert_eq!(
        client.services(&["bad"]).await.unwrap()[0].current,
        Current::Error
    );
    let said: Vec<String> = client
        .logs("bad", 10)
        .await
        .unwrap()
        .into_iter()
        .map(|line| line.message.trim().to_owned())
        .collect();
    assert_eq!(said, ["what is wrong"]);
    assert_eq!(client.logs("good", 10).await.unwrap(), []);
    let looked = client.change(&change).await.unwrap();
    assert_eq!((looked.status.as_str(), looked.ready), ("Error", true));
    assert_eq!(looked.tasks.unwrap()[0].kind, "start");
    refused(&client.abort(&change).await.unwrap_err(), "cannot abort");
    refused(
        &client.change("4711").await.unwrap_err(),
        "cannot find change",
    );

    let change = begin(ServicesAction::Stop, &["good"]).await.unwrap();
    client.succeeded(&change, DEADLINE).await.unwrap();
    assert_eq!(
        client.services(&["good"]).await.unwrap()[0].current,
        Current::Inactive
    );
    assert_eq!(client.changes(Changes::InProgress, None).await.unwrap(), []);
    assert_eq!(
        client
            .changes(Changes::Ready, Some("bad"))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        client
            .changes(Changes::All, Some("good"))
            .await
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn a_change_that_goes_on_is_waited_for_only_so_long_and_can_be_given_up() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    // Two in a row: while the first one is stopped the second waits, and what waits can be given up.
    let stubborn = ServiceSpec {
        kill_delay: Duration::from_secs(3),
        ..service("/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'")
    };
    client
        .add_layer("test", &layer("stubborn", stubborn))
        .await
        .unwrap();
    let change = client
        .change_services(ServicesAction::Start, &["stubborn"])
        .await
        .unwrap();
    client.succeeded(&change, DEADLINE).await.unwrap();
    let change = client
        .change_services(ServicesAction::Restart, &["stubborn"])
        .await
        .unwrap();
    let soon = Duration::from_millis(300);
    for limit in [soon, Duration::ZERO, Duration::from_micros(1)] {
        assert_eq!(client.settled(&change, limit).await.unwrap(), None);
    }
    let error = client.succeeded(&change, soon).await.unwrap_err();
    assert!(matches!(error, PebbleError::Timeout { .. }), "{error}");
    client.abort(&change).await.unwrap();
    let given_up = client.settled(&change, DEADLINE).await.unwrap().unwrap();
    assert!(given_up.ready, "{given_up:?}");
    let states: Vec<String> = given_up
        .tasks
        .unwrap()
        .into_iter()
        .map(|task| task.status)
        .collect();
    assert_eq!(states, ["Done", "Hold"], "stopped, and not started again");
}

#[tokio::test]
async fn signals_reach_the_process_of_a_service() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    // Not SIGHUP: whoever runs the tests under nohup ignores it, and a shell cannot trap what it was told to ignore.
    let script = "/bin/sh -c 'trap \"echo heard\" USR1; echo ready; while :; do sleep 0.05; done'";
    client
        .add_layer("test", &layer("one", service(script)))
        .await
        .unwrap();
    refused(
        &client.signal("SIGUSR1", &["one"]).await.unwrap_err(),
        "not running",
    );
    let change = client
        .change_services(ServicesAction::Start, &["one"])
        .await
        .unwrap();
    client.succeeded(&change, DEADLINE).await.unwrap();
    let said = async || client.logs("one", 10).await.unwrap().len();
    // Pebble calls a process started that has lived for a second, whatever it has done by then.
    until(1, said).await;
    client.signal("SIGUSR1", &["one"]).await.unwrap();
    until(2, said).await;
    refused(
        &client.signal("SIGNONE", &["one"]).await.unwrap_err(),
        "invalid signal name",
    );
    client.signal("SIGSTOP", &["one"]).await.unwrap();
    assert_eq!(
        client.services(&["one"]).await.unwrap()[0].current,
        Current::Active,
        "frozen"
    );
    client.signal("SIGKILL", &["one"]).await.unwrap();
    until(Current::Error, async || {
        client.services(&["one"]).await.unwrap()[0].current
    })
    .await;
}

#[tokio::test]
async fn files_are_written_listed_read_and_removed() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let place = daemon.path().join("files \"of\" ä");
    let file = place.join("deep/file with spaces");
    let path = file.to_str().unwrap();
    let new = |path: &str, make_dirs| NewFile {
        path: path.to_owned(),
        mode: 0o640,
        owner: is_root().then_some((IMAGE_USER, IMAGE_USER)),
        make_dirs,
    };
    let error = client
        .write_file(&new(path, false), &b"x"[..])
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let content: &[u8] = b"--boundary\r\n\r\n\0binary\xff\r\n--";
    client.write_file(&new(path, true), content).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), content);
    let found = client.file_info(path).await.unwrap().unwrap();
    assert_eq!(
        (found.kind.as_str(), found.permissions.as_str(), found.size),
        ("file", "640", Some(content.len().try_into().unwrap()))
    );
    if is_root() {
        assert_eq!(
            (found.user_id, found.group_id),
            (Some(IMAGE_USER), Some(IMAGE_USER))
        );
        assert_eq!(fs::metadata(&file).unwrap().uid(), IMAGE_USER);
    }
    let mut read = Vec::new();
    let size = client.read_file(path, &mut read).await.unwrap();
    assert_eq!(
        (read.as_slice(), size),
        (content, Some(read.len().try_into().unwrap()))
    );

    let missing = place.join("missing");
    let missing = missing.to_str().unwrap();
    assert_eq!(client.file_info(missing).await.unwrap(), None);
    assert_eq!(
        client.read_file(missing, &mut Vec::new()).await.unwrap(),
        None
    );
    let place_text = place.to_str().unwrap();
    let error = client
        .read_file(place_text, &mut Vec::new())
        .await
        .unwrap_err();
    refused(&error, "regular file");
    refused(
        &client
            .read_file("relative", &mut Vec::new())
            .await
            .unwrap_err(),
        "absolute",
    );

    let directory = place.join("a/b");
    let directory_text = directory.to_str().unwrap();
    for _ in 0..2 {
        client.make_dir(directory_text, 0o750, None).await.unwrap();
    }
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o750);
    let names = |found: Vec<valkey_operator::workload::pebble::FileInfo>| {
        found
            .into_iter()
            .map(|found| found.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(client.list_files(place_text, None).await.unwrap()),
        ["a", "deep"]
    );
    assert_eq!(
        names(client.list_files(place_text, Some("d*")).await.unwrap()),
        ["deep"]
    );
    assert!(
        client
            .list_files(missing, None)
            .await
            .unwrap_err()
            .is_not_found()
    );

    let error = client.remove_path(place_text, false).await.unwrap_err();
    refused(&error, "not empty");
    for _ in 0..2 {
        client.remove_path(path, false).await.unwrap();
        client.remove_path(place_text, true).await.unwrap();
    }
    assert!(!place.exists());
}

/// Size of what is too large to be held in memory as a whole, in bytes.
const LARGE: u64 = 64 * 1024 * 1024;

/// Returns the digest of what comes, to its end.
async fn digest(mut from: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let (mut sum, mut part) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let length = from.read(&mut part).await.unwrap();
        if length == 0 {
            return sum.finalize().to_vec();
        }
        sum.update(&part[..length]);
    }
}

/// Writes a large file of which no two parts are the same.
async fn large_file(path: &std::path::Path) -> Vec<u8> {
    let mut file = tokio::io::BufWriter::new(tokio::fs::File::create(path).await.unwrap());
    for number in 0..LARGE / 8 {
        file.write_all(&(number * 0x9e37_79b9).to_le_bytes())
            .await
            .unwrap();
    }
    file.flush().await.unwrap();
    digest(tokio::fs::File::open(path).await.unwrap()).await
}

#[tokio::test]
async fn large_files_and_streams_of_commands_pass_unharmed() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let (from, there, back) = (
        daemon.path().join("from"),
        daemon.path().join("there"),
        daemon.path().join("back"),
    );
    let sum = large_file(&from).await;
    let open = async || tokio::fs::File::open(&from).await.unwrap();
    let new = NewFile {
        path: there.to_str().unwrap().to_owned(),
        mode: 0o600,
        owner: None,
        make_dirs: false,
    };
    client.write_file(&new, open().await).await.unwrap();
    let mut file = tokio::fs::File::create(&back).await.unwrap();
    let size = client.read_file(&new.path, &mut file).await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(size, Some(LARGE));
    assert_eq!(
        digest(tokio::fs::File::open(&back).await.unwrap()).await,
        sum
    );

    let mut file = tokio::fs::File::create(&back).await.unwrap();
    let mut errors = Vec::new();
    let cat = Exec::new(["cat"], DEADLINE);
    let code = client
        .exec_streamed(&cat, open().await, &mut file, &mut errors)
        .await
        .unwrap();
    file.flush().await.unwrap();
    assert_eq!((code, errors.as_slice()), (0, &b""[..]));
    assert_eq!(
        digest(tokio::fs::File::open(&back).await.unwrap()).await,
        sum
    );
}

#[tokio::test]
async fn commands_get_their_input_and_their_end_is_told() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let shell = |text: &str| Exec::new(["/bin/sh", "-c", text], DEADLINE);
    let output = client
        .exec(&shell("cat; echo \"$WORD\" in $PWD >&2; exit 7"), b"in")
        .await
        .unwrap();
    assert_eq!(
        (output.exit_code, output.stdout.as_slice()),
        (7, &b"in"[..])
    );
    let mut exec = shell("cat; echo \"$WORD\" in $PWD >&2");
    exec.environment
        .insert("WORD".to_owned(), "a word".to_owned());
    exec.working_dir = Some("/usr".to_owned());
    let output = client.exec(&exec, b"").await.unwrap();
    assert_eq!(
        (
            output.exit_code,
            output.stdout.as_slice(),
            output.stderr.as_slice()
        ),
        (0, &b""[..], &b"a word in /usr\n"[..])
    );
    if is_root() {
        let mut exec = shell("id -u; id -g");
        exec.owner = Some((IMAGE_USER, IMAGE_USER));
        let output = client.exec(&exec, b"").await.unwrap();
        assert_eq!(
            output.stdout,
            format!("{IMAGE_USER}\n{IMAGE_USER}\n").into_bytes()
        );
    }
    // One that does not read its input ends all the same.
    let unread = vec![b'x'; 4 * 1024 * 1024];
    assert_eq!(
        client
            .exec(&shell("exit 0"), &unread)
            .await
            .unwrap()
            .exit_code,
        0
    );

    refused(
        &client
            .exec(&Exec::new(["/nowhere/x"], DEADLINE), b"")
            .await
            .unwrap_err(),
        "cannot find executable",
    );
    let empty: [&str; 0] = [];
    refused(
        &client
            .exec(&Exec::new(empty, DEADLINE), b"")
            .await
            .unwrap_err(),
        "must specify command",
    );

    let text = format!(
        "head -c {} /dev/zero; exec sleep 1000",
        PEBBLE_EXEC_OUTPUT_BYTES_MAX + 1
    );
    let error = client.exec(&shell(&text), b"").await.unwrap_err();
    assert!(matches!(error, PebbleError::TooLarge { .. }), "{error}");
    nothing_in_progress(client).await;
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let begun = Instant::now();
    let slow = Exec::new(["/bin/sleep", "1000"], Duration::from_millis(300));
    let error = client.exec(&slow, b"").await.unwrap_err();
    assert!(
        matches!(&error, PebbleError::Failed { reason, .. } if reason.contains("timed out after 300ms")),
        "{error:?}"
    );
    assert!(begun.elapsed() < DEADLINE);

    // Whoever stops waiting kills it as well.
    let mark = daemon.path().join("mark");
    let text = format!("echo $$ >{}; exec sleep 1000", mark.display());
    let exec = Exec::new(["/bin/sh", "-c", &text], DEADLINE);
    let waiting = client.exec(&exec, b"");
    let written = until(true, async || mark.exists());
    tokio::select! {
        ended = waiting => panic!("it ended: {ended:?}"),
        () = written => {}
    }
    nothing_in_progress(client).await;
}

#[tokio::test]
async fn checks_go_up_and_down_and_health_follows() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let mark = daemon.path().join("mark");
    let check = |level, probe| CheckSpec {
        r#override: Override::Replace,
        level,
        startup: Startup::Enabled,
        period: Duration::from_millis(100),
        timeout: Duration::from_millis(90),
        threshold: 2,
        probe,
    };
    let command = format!("/usr/bin/test -e {}", mark.display());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = Probe::Tcp {
        port: listener.local_addr().unwrap().port(),
        host: Some("127.0.0.1".to_owned()),
    };
    let checks = BTreeMap::from([
        (
            "marked".to_owned(),
            check(Some(Level::Ready), Probe::Exec { command }),
        ),
        ("port".to_owned(), check(Some(Level::Alive), tcp)),
    ]);
    let layer = Layer {
        summary: "of a test".to_owned(),
        services: BTreeMap::new(),
        checks,
    };
    fs::write(&mark, "").unwrap();
    client.add_layer("test", &layer).await.unwrap();
    let status = async |name: &str| client.checks(&[name]).await.unwrap().remove(0).status;
    assert_eq!(client.checks(&[]).await.unwrap().len(), 2);
    assert!(client.health(None, &[]).await.unwrap());
    fs::remove_file(&mark).unwrap();
    until("down".to_owned(), async || status("marked").await).await;
    let marked = client.checks(&["marked"]).await.unwrap().remove(0);
    assert!(
        marked.failures >= 2 && marked.threshold == 2 && marked.level.as_deref() == Some("ready"),
        "{marked:?}"
    );
    for (level, names, expected) in [
        (None, &[][..], false),
        (Some(Level::Ready), &[], false),
        (Some(Level::Alive), &[], true),
        (None, &["port"], true),
    ] {
        assert_eq!(
            client.health(level, names).await.unwrap(),
            expected,
            "{level:?} {names:?}"
        );
    }
    fs::write(&mark, "").unwrap();
    until(true, async || client.health(None, &[]).await.unwrap()).await;
    assert_eq!(client.run_checks(false, &["port"]).await.unwrap(), ["port"]);
    assert_eq!(status("port").await, "inactive");
    assert_eq!(
        client.run_checks(true, &["port", "marked"]).await.unwrap(),
        ["port"]
    );
    refused(
        &client.run_checks(true, &["none"]).await.unwrap_err(),
        "none",
    );
}

#[tokio::test]
async fn notices_are_told_once_and_waited_for() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let mut query = NoticesQuery {
        types: vec!["custom".to_owned()],
        ..NoticesQuery::default()
    };
    assert_eq!(client.notices(&query).await.unwrap(), []);
    let data = BTreeMap::from([("role".to_owned(), "primary".to_owned())]);
    let key = "example.com/switched";
    let id = client.notify(key, Duration::ZERO, &data).await.unwrap();
    let found = client.notice(&id).await.unwrap();
    assert_eq!(
        (found.key.as_str(), found.kind.as_str(), found.occurrences),
        (key, "custom", 1)
    );
    assert_eq!(found.last_data, Some(data));
    assert_eq!(
        client.notices(&query).await.unwrap(),
        std::slice::from_ref(&found)
    );

    query.after = Some(found.last_repeated);
    query.keys = vec![key.to_owned()];
    query.of_all_users = true;
    assert_eq!(client.notices(&query).await.unwrap(), []);
    query.wait = Duration::from_secs(4);
    let none = BTreeMap::new();
    let told = async {
        let waiting = client.notices(&query);
        let telling = client.notify(key, Duration::ZERO, &none);
        let (found, told) = tokio::join!(waiting, telling);
        told.unwrap();
        found.unwrap()
    };
    let found = told.await;
    assert_eq!(
        found
            .iter()
            .map(|notice| notice.occurrences)
            .collect::<Vec<_>>(),
        [2]
    );
    refused(
        &client
            .notify("no-domain", Duration::ZERO, &none)
            .await
            .unwrap_err(),
        "invalid key",
    );
    assert!(client.notice("4711").await.unwrap_err().is_not_found());
}
