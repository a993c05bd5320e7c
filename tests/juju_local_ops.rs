//! `juju-local` runs a charm on `ops`, the Python library that most charms are made with: `tests/charms/ops`.
//!
//! Needs `python3` with pip or venv, and the package index; the libraries are kept below `target`. Without them the
//! tests fail and say so.

// A test stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "juju_local_shell/local.rs"]
#[allow(dead_code)]
mod local;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use local::{Local, charm, finish};
use serde_json::Value;

/// Version of `ops` that the tests are written for; any of the last years works.
const OPS: &str = "ops==3.9.0";

/// Returns the charm with its libraries, and the interpreter that they are for. Made once.
fn packed() -> &'static (PathBuf, String) {
    static PACKED: OnceLock<(PathBuf, String)> = OnceLock::new();
    PACKED.get_or_init(|| {
        let python = interpreter();
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ops-charm");
        let mark = place.join("venv/.complete");
        let wanted = format!("{OPS} {python}");
        if fs::read_to_string(&mark).is_ok_and(|found| found == wanted) {
            copy_own_files(&place);
            return (place, python);
        }
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        copy_own_files(&place);
        install(&python, &place.join("venv"));
        fs::write(mark, wanted).unwrap();
        (place, python)
    })
}

/// Returns the absolute path of the Python interpreter: hooks have a path of their own.
fn interpreter() -> String {
    let mut command = Command::new("python3");
    command.args([
        "-c",
        "import sys; assert sys.version_info >= (3, 10), sys.version; print(sys.executable)",
    ]);
    let found = finish(&mut command);
    assert!(
        found.status.success(),
        "this test needs python3 from 3.10 on: {}",
        found.stderr
    );
    found.stdout.trim().to_owned()
}

/// Installs `ops` into a directory, with the interpreter's own pip or that of a fresh environment.
fn install(python: &str, target: &Path) {
    let install = |python: &Path| {
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(target)
            .arg(OPS);
        finish(&mut command)
    };
    let first = install(Path::new(python));
    if first.status.success() {
        return;
    }
    let environment = target.with_extension("tools");
    let made = finish(Command::new(python).args(["-m", "venv"]).arg(&environment));
    assert!(
        made.status.success(),
        "this test needs pip or venv for {python} (Debian: python3-pip or python3-venv): {}\n{}",
        first.stderr,
        made.stderr
    );
    let second = install(&environment.join("bin/python"));
    assert!(
        second.status.success(),
        "cannot install {OPS} from the package index: {}",
        second.stderr
    );
    fs::remove_dir_all(environment).unwrap();
}

/// Puts the charm's own files beside its libraries.
fn copy_own_files(place: &Path) {
    let source = charm("ops");
    fs::create_dir_all(place.join("src")).unwrap();
    for name in [
        "metadata.yaml",
        "config.yaml",
        "actions.yaml",
        "manifest.yaml",
        "dispatch",
        "src/charm.py",
    ] {
        let fresh = place.join(format!("{name}.new"));
        fs::copy(source.join(name), &fresh).unwrap();
        fs::rename(fresh, place.join(name)).unwrap();
    }
}

/// Deploys the charm and waits until it is ready.
fn deployed(variant: &str, units: u32) -> Local {
    let (place, python) = packed();
    let local = Local::new(variant);
    let env = format!("COUNTER_PYTHON={python}");
    local.ok(&[
        "deploy",
        place.to_str().unwrap(),
        "-n",
        &units.to_string(),
        "--env",
        &env,
    ]);
    local.settle();
    local
}

/// Runs the action `report` and returns its results.
fn report(local: &Local, unit: &str) -> Value {
    let text = local.ok(&["run", unit, "report", "word=back", "--format", "json"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    document.as_object().unwrap().values().next().unwrap()["results"].clone()
}

/// Returns a result that holds JSON.
fn json(results: &Value, key: &str) -> Value {
    serde_json::from_str(results[key].as_str().unwrap()).unwrap()
}

#[test]
fn a_charm_on_ops_starts_sees_its_peers_and_acts() {
    for variant in ["3.6", "4.0"] {
        let local = deployed(variant, 2);
        let unit = local.unit("counter/0");
        assert_eq!(unit["workload-status"]["message"], "hello from counter/0");
        assert_eq!(unit["open-ports"][0], "8080/tcp");
        assert_eq!(
            local.status()["applications"]["counter"]["version"],
            "3.9.0"
        );

        let leader = report(&local, "counter/leader");
        let other = report(&local, "counter/1");
        assert_eq!(
            (&leader["leader"], &other["leader"]),
            (&"True".into(), &"False".into())
        );
        assert_eq!(
            (&leader["token"], &other["token"]),
            (&"first".into(), &"first".into())
        );
        assert_eq!(leader["word"], "back");
        assert_eq!(leader["planned"], "2");
        assert_eq!(
            json(&leader, "greetings"),
            serde_json::json!({"counter/1": "hello"})
        );
        assert_eq!(leader["address"], local.unit("counter/0")["public-address"]);
        let file = json(&leader, "storage")[0].as_str().unwrap().to_owned();
        assert_eq!(fs::read_to_string(file).unwrap(), "data/0");
        let events = json(&leader, "events");
        let events: Vec<&str> = events
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event.as_str().unwrap())
            .collect();
        assert_eq!(
            events[..6],
            [
                "data_storage_attached",
                "install",
                "peers_relation_created",
                "leader_elected",
                "config_changed",
                "start"
            ]
        );
        let failed = local.run(&["run", "counter/0", "fail"]);
        assert!(
            failed.stdout.contains("failed: as asked"),
            "{}",
            failed.stdout
        );
        let log = local.run(&["debug-log", "--level", "WARNING"]).stdout;
        assert!(!log.contains("Traceback"), "{log}");
    }
}

#[test]
fn a_charm_on_ops_follows_changes_and_leaves_in_order() {
    let local = deployed("4.0", 2);
    // From its first read on, a unit hears of new revisions.
    assert_eq!(report(&local, "counter/1")["token"], "first");
    local.ok(&["config", "counter", "greeting=good day", "limit=11"]);
    local.until("the secret's change reached the other unit", || {
        report(&local, "counter/1")["token"] == "limit-11"
            && json(&report(&local, "counter/1"), "events")
                .to_string()
                .contains("secret_changed")
    });
    assert_eq!(
        local.unit("counter/1")["workload-status"]["message"],
        "good day from counter/1"
    );
    local.ok(&["add-unit", "counter", "--wait"]);
    assert_eq!(
        json(&report(&local, "counter/2"), "greetings")["counter/0"],
        "good day"
    );
    local.ok(&["remove-unit", "counter/0", "--wait=60s"]);
    local.until("another unit leads", || {
        local.unit("counter/1")["leader"] == true || local.unit("counter/2")["leader"] == true
    });
    local.settle();
    assert_eq!(report(&local, "counter/leader")["planned"], "2");
    let (place, _) = packed();
    local.ok(&["refresh", "counter", "--path", place.to_str().unwrap()]);
    local.until("the upgrade is known", || {
        json(&report(&local, "counter/1"), "events")
            .to_string()
            .contains("upgrade_charm")
    });
    local.settle();
    let log = local.run(&["debug-log", "--level", "WARNING"]).stdout;
    assert!(
        !log.contains("Traceback") && !log.contains("ERROR"),
        "{log}"
    );
}
