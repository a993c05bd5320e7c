//! `refresh`, with real processes and under writes: another charm, another version of Valkey.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use support::{
    charm,
    drills::{HANDOVER_GAP, IN_FLIGHT},
    hooks,
    model::{A_UNIT, Model, newest_server},
    oracles,
    rolling::{self, all_run, newest_version},
    wire::info_field,
    writers::Writers,
};
use tempfile::TempDir;

/// Longest that writes may stand still when the primary is killed: detection, election, and slack.
const FAILOVER_GAP: Duration = Duration::from_secs(30);

/// The system's server.
const SYSTEM_SERVER: &str = "/usr/bin/valkey-server";

/// Values of the large data set, in number and in bytes.
const LARGE: (usize, usize) = (240, 1_000_000);

/// Returns the charm's archive as its first version was, see the README beside it.
fn first_version() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/first-version/valkey_amd64.charm")
}

/// The server that the units of a model run, which can be exchanged as an upgrade of its package
/// would do it.
struct Program {
    folder: TempDir,
}

impl Program {
    fn new(server: &Path) -> Self {
        let folder = tempfile::tempdir().expect("cannot make a folder");
        let program = Self { folder };
        program.becomes(server);
        program
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("valkey-server")
    }

    fn becomes(&self, server: &Path) {
        let fresh = self.folder.path().join("fresh");
        symlink(server, &fresh).expect("cannot make a link");
        fs::rename(&fresh, self.path()).expect("cannot put a link in place");
    }
}

/// Deploys three units of `charm`, or of the charm under test, that run the system's server; returns the primary too.
fn deployed(charm: Option<PathBuf>) -> (Program, Model, support::model::Unit) {
    let program = Program::new(Path::new(SYSTEM_SERVER));
    let mut model = Model::with_server(Some(program.path()));
    if let Some(charm) = charm {
        model.use_charm(charm);
    }
    model.deploy(3, &[]);
    let primary = model.settled(3, A_UNIT * 3).primary;
    (program, model, primary)
}

/// Refreshes three units to the charm under test and the newest server, of version `newest`: the
/// `primary` is the last. Returns what was seen.
fn upgraded(
    program: &Program,
    model: &Model,
    primary: &support::model::Unit,
    newest: &str,
) -> rolling::Story {
    let ((), story) = rolling::watched(model, || {
        program.becomes(&newest_server());
        refresh(model);
        all_run(model, newest);
        refreshed(model, 3);
    });
    story.expect_rolled(3, &primary.name);
    story
}

/// Prints how long `what` took that began at `begun`, and expects that writes stood still for less than `most` in it.
fn expect_gap(what: &str, writers: &Writers, begun: Instant, most: Duration) {
    let gap = writers.longest_gap(begun);
    eprintln!(
        "{what}: {:?}, longest gap of writes {gap:?}",
        begun.elapsed()
    );
    assert!(gap < most, "writes stood still for {gap:?}");
}

/// Refreshes to the charm under test.
fn refresh(model: &Model) {
    let path = charm::folder().display().to_string();
    model.juju(&["refresh", "valkey", "--path", &path]);
}

/// Waits until every unit has run `upgrade-charm` and says nothing but that it is in order.
fn refreshed(model: &Model, units: usize) -> oracles::Settled {
    model.wait_until("the watchers are those of the new charm", A_UNIT, || {
        for unit in model.units() {
            let agent = hooks::agent(model, &unit.name);
            let (runs, there) = (
                watcher(&agent)?,
                identity(&agent.join("charm/bin/valkey-operator"))?,
            );
            if runs != there {
                return Err(format!("the watcher of {} is the old one", unit.name));
            }
        }
        Ok(())
    });
    model.settled(units, A_UNIT * 3)
}

/// Returns which file the watcher of an agent runs.
fn watcher(agent: &Path) -> Result<(u64, u64), String> {
    let text =
        fs::read_to_string(agent.join("valkey/watch.pid")).map_err(|error| error.to_string())?;
    let file: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    identity(Path::new(&format!("/proc/{}/exe", file["pid"])))
}

fn identity(path: &Path) -> Result<(u64, u64), String> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((found.dev(), found.ino()))
}

/// Fills the primary with values that no compression makes small.
fn fill(model: &Model) {
    let primary = model.settled(3, A_UNIT).primary;
    let mut wire = model.server(primary.address).expect("the primary answers");
    let mut random = fastrand::Rng::with_seed(1);
    let (count, bytes) = LARGE;
    for number in 0..count {
        let value: String = std::iter::repeat_with(|| random.alphanumeric())
            .take(bytes)
            .collect();
        let reply = wire.call(&["SET", &format!("large:{number}"), &value]);
        assert_eq!(
            reply.expect("the primary answers").text().as_deref(),
            Some("OK")
        );
    }
    model.settled(3, A_UNIT);
}

/// Processes of the servers and Sentinels.
fn processes(model: &Model) -> Vec<i32> {
    let units = model.units();
    let sentinels = units
        .iter()
        .map(|unit| model.sentinel_process(unit.address));
    let mut all: Vec<i32> = sentinels.collect();
    all.extend(hooks::server_processes(model));
    all
}

#[test]
fn a_refresh_that_changes_nothing_for_valkey_restarts_nothing_but_the_watchers() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    for unit in model.units() {
        let ended = model.run(&unit.name, "pre-refresh-check", &["format=json"]);
        assert!(ended.completed(), "{}", ended.all());
        assert!(ended.all().contains("hands over to"), "{}", ended.all());
    }
    let before = processes(&model);
    refresh(&model);
    let settled = refreshed(&model, 3);
    assert_eq!(
        processes(&model),
        before,
        "no server or Sentinel was restarted"
    );
    writers.expect_nothing_lost(&model, &settled.primary);
}

#[test]
fn settings_and_another_charm_at_once_restart_one_after_another_and_copy_nothing() {
    for large in [false, true] {
        let model = Model::deployed(3);
        if large {
            fill(&model);
        }
        let primary = model.settled(3, A_UNIT).primary;
        let writers = Writers::start_usual(&model);
        let begun = Instant::now();
        let ((), story) = rolling::watched(&model, || {
            model.configure(&[("databases", "32")]);
            refresh(&model);
            model.wait_until("the servers have 32 databases", A_UNIT * 5, || {
                for unit in model.units() {
                    let value = oracles::setting(&model, &unit, "databases")?;
                    if value != "32" {
                        return Err(format!("{}: databases is {value}", unit.name));
                    }
                }
                Ok(())
            });
            refreshed(&model, 3);
        });
        story.expect_rolled(3, &primary.name);
        writers.flowing(&model);
        let what = format!("large {large}, order {:?}", story.order());
        expect_gap(&what, &writers, begun, HANDOVER_GAP);
        let settled = model.settled(3, A_UNIT);
        assert_ne!(
            settled.primary.name, primary.name,
            "the role was handed over"
        );
        writers
            .verify(&model, settled.primary.address)
            .expect_nothing_lost();
    }
}

#[test]
fn another_version_of_valkey_goes_round_replicas_first_and_never_back() {
    let (program, model, primary) = deployed(None);
    let old = version_of(&model, &primary);
    let writers = Writers::start_usual(&model);
    let begun = Instant::now();
    let newest = newest_version();
    let story = upgraded(&program, &model, &primary, &newest);
    assert!(story.restarts.iter().all(|it| it.version == newest));
    writers.flowing(&model);
    let what = format!("{old} to {newest}, order {:?}", story.order());
    expect_gap(&what, &writers, begun, HANDOVER_GAP);
    let shown = model.status()["applications"]["valkey"]["version"].clone();
    assert_eq!(
        shown.as_str(),
        Some(newest.as_str()),
        "juju shows what runs"
    );

    // An older one is not taken up, whatever else would restart the servers.
    let before = processes(&model);
    program.becomes(Path::new(SYSTEM_SERVER));
    refresh(&model);
    let words = ["cannot use valkey-server", &old, &newest, "or newer"];
    for unit in model.units() {
        hooks::says(&model, &unit.name, &words);
    }
    assert_eq!(processes(&model), before, "nothing was restarted");
    program.becomes(&newest_server());
    for unit in model.units() {
        hooks::hook(&model, &unit.name);
    }
    let settled = model.settled(3, A_UNIT * 2);
    assert_eq!(processes(&model), before, "nothing was restarted");
    writers
        .verify(&model, settled.primary.address)
        .expect_nothing_lost();
}

#[test]
fn the_first_version_of_the_charm_is_refreshed_while_everything_runs() {
    let (program, model, primary) = deployed(Some(first_version()));
    let writers = Writers::start_usual(&model);
    let before = processes(&model);
    let ((), story) = rolling::watched(&model, || {
        refresh(&model);
        refreshed(&model, 3);
    });
    assert_eq!(
        processes(&model),
        before,
        "nothing was restarted: {story:?}"
    );
    writers.flowing(&model);
    // What it wrote is understood: the next change goes round as if it had always been this charm.
    let newest = newest_version();
    let begun = Instant::now();
    upgraded(&program, &model, &primary, &newest);
    expect_gap("first version to this one", &writers, begun, HANDOVER_GAP);
    let verified = model.run("valkey/leader", "verify", &[]);
    assert!(verified.completed(), "{}", verified.all());
    model.add_units(1);
    let settled = model.settled(4, A_UNIT * 2);
    writers.expect_nothing_lost(&model, &settled.primary);
}

#[test]
fn a_primary_that_is_killed_half_way_does_not_stop_a_refresh() {
    let (program, model, primary) = deployed(Some(first_version()));
    let old = version_of(&model, &primary);
    let writers = Writers::start_usual(&model);
    let newest = newest_version();
    let begun = Instant::now();
    program.becomes(&newest_server());
    refresh(&model);
    model.wait_until("one replica is of the new version", A_UNIT * 3, || {
        let units = model.units();
        let new = units.iter().find(|unit| {
            model
                .server(unit.address)
                .and_then(|mut wire| wire.call(&["INFO", "server"]))
                .ok()
                .and_then(|info| info_field(&info.text()?, "valkey_version"))
                .is_some_and(|version| version == newest)
        });
        new.map(|_| ()).ok_or_else(|| "none is".to_owned())
    });
    assert_eq!(version_of(&model, &primary), old, "the primary is the last");
    hooks::kill(model.server_process(primary.address));
    all_run(&model, &newest);
    let settled = refreshed(&model, 3);
    writers.flowing(&model);
    expect_gap("killed half way", &writers, begun, FAILOVER_GAP);
    writers
        .verify(&model, settled.primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

/// Returns the version that a unit's server says it is.
fn version_of(model: &Model, unit: &support::model::Unit) -> String {
    let info = model
        .server(unit.address)
        .and_then(|mut wire| wire.call(&["INFO", "server"]))
        .expect("the server answers");
    info_field(&info.text().unwrap_or_default(), "valkey_version").expect("it has a version")
}
