//! Bad input and broken surroundings, with real processes: values that cannot be read, secrets that
//! cannot be had, binaries, disks and ports that are not as they should be, tools that fail.
//!
//! Always the same promise: a status that says what to do, nothing lost, healed once it is mended.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{
    charm,
    model::{A_UNIT, Model, SERVER_PORT, Unit},
    oracles,
    wire::Wire,
    writers::Writers,
};

/// Longest that a hook may take because a peer hangs; a few seconds, and slack for two busy cores.
const HOOK_BESIDE_A_FROZEN_PEER: Duration = Duration::from_secs(15);

/// Longest that a watcher may be away by itself.
const WATCHER_BACK: Duration = Duration::from_secs(20);

fn kill(process: i32) {
    let process = Pid::from_raw(process).expect("a process id");
    kill_process(process, Signal::KILL).expect("cannot end the process");
}

/// Runs a shell text in a unit's context.
fn exec(model: &Model, unit: &str, text: &str) -> String {
    model.juju(&["exec", "--unit", unit, "--", text])
}

/// Runs the unit's `update-status`.
fn hook(model: &Model, unit: &str) {
    exec(
        model,
        unit,
        "JUJU_DISPATCH_PATH=hooks/update-status \"$JUJU_CHARM_DIR/dispatch\"",
    );
}

/// Writes into a unit's databag, or with `--app` into the application's.
fn relation_set(model: &Model, unit: &str, arguments: &str) {
    exec(
        model,
        unit,
        &format!("relation-set -r $(relation-ids valkey-peers) {arguments}"),
    );
}

/// Reads a databag as one unit sees it.
fn relation_get(model: &Model, unit: &str, whose: &str) -> Value {
    let text = exec(
        model,
        unit,
        &format!("relation-get --format json -r $(relation-ids valkey-peers) {whose}"),
    );
    let json = text
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("no databag: {text}"));
    serde_json::from_str(json).expect("a databag is JSON")
}

/// Waits until a unit is `blocked` or `waiting` with a message that holds all `words`.
fn says(model: &Model, unit: &str, words: &[&str]) -> Unit {
    model.wait_until(&format!("{unit} says {words:?}"), A_UNIT, || {
        let unit = model.unit(unit);
        let told = ["blocked", "waiting"].contains(&unit.workload.as_str())
            && words.iter().all(|word| unit.message.contains(word));
        if told {
            Ok(unit)
        } else {
            Err(format!("{}: {}", unit.workload, unit.message))
        }
    })
}

fn leader(model: &Model) -> String {
    model
        .units()
        .into_iter()
        .find(|unit| unit.leader)
        .expect("a leader")
        .name
}

fn agent(model: &Model, unit: &str) -> PathBuf {
    let tag = format!("unit-{}", unit.replace('/', "-"));
    model.state().join("agents").join(tag)
}

fn server_processes(model: &Model) -> Vec<i32> {
    model
        .units()
        .iter()
        .map(|unit| model.server_process(unit.address))
        .collect()
}

#[test]
fn a_databag_that_cannot_be_read_costs_nobody_data() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let processes = server_processes(&model);
    let writers = Writers::start_usual(&model);
    let primary = settled.primary.name.clone();
    let replica = settled.replicas[0].name.clone();
    let witness = settled.replicas[1].name.clone();
    let unchanged = |what: &str| {
        let primaries = oracles::primaries(&model);
        assert!(
            matches!(&primaries[..], [one] if one.name == primary),
            "{what}: primaries {primaries:?}"
        );
    };
    relation_set(&model, &replica, "of-the-future=kept");
    for victim in [&replica, &primary] {
        for (key, value) in [
            ("state", "'{broken'"),
            ("state", "'\"of-a-newer-version\"'"),
            ("state", "''"),
            ("turn", "'{broken'"),
            ("position", "'[1]'"),
        ] {
            let what = format!("{key}={value} of {victim}");
            relation_set(&model, victim, &format!("{key}={value}"));
            says(
                &model,
                &witness,
                &["cannot read the peer data", key, victim],
            );
            unchanged(&what);
            hook(&model, victim);
            assert_eq!(model.settled(3, A_UNIT).primary.name, primary, "{what}");
            let bag = relation_get(&model, &witness, &format!("- {victim}"));
            assert_eq!(bag["state"], "\"member\"", "{what}: {bag}");
        }
    }
    let bag = relation_get(&model, &witness, &format!("- {replica}"));
    assert_eq!(bag["of-the-future"], "kept", "unknown keys stay: {bag}");

    let before = relation_get(&model, &witness, "--app - valkey");
    let leads = leader(&model);
    for damage in [
        "'founding={broken'",
        "'turn={broken'",
        "founding=",
        "deployment-id=",
        "users-secret=",
        "users-secret=secret:d4k0gn7mp25c7fqo1qpg",
        "founding= deployment-id= users-secret= turn=",
    ] {
        relation_set(&model, &leads, &format!("--app {damage}"));
        unchanged(damage);
        hook(&model, &leads);
        assert_eq!(model.settled(3, A_UNIT).primary.name, primary, "{damage}");
        let after = relation_get(&model, &witness, "--app - valkey");
        for key in ["deployment-id", "users-secret"] {
            assert_eq!(after[key], before[key], "{damage}: {key}");
        }
        let founding = after["founding"].as_str().unwrap_or_default();
        assert!(founding.contains("\"done\":true"), "{damage}: {founding}");
    }
    assert_eq!(
        server_processes(&model),
        processes,
        "no server was restarted"
    );
    writers.flowing(&model);
    let address = model.unit(&primary).address;
    writers.verify(&model, address).expect_nothing_lost();
}

/// Returns every password that the charm made.
fn all_passwords(model: &Model) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            match value.as_str() {
                Some(text) if key.ends_with("-password") => found.push(text.to_owned()),
                _ => collect(value, found),
            }
        }
    }
    let label = "valkey-peers.valkey.app.internal_users_secret";
    let text = model.juju(&["show-secret", label, "--reveal", "--format", "json"]);
    let mut found = Vec::new();
    collect(&serde_json::from_str(&text).expect("JSON"), &mut found);
    assert_eq!(found.len(), 6, "one password for each internal user");
    found
}

/// Calls `look` with every file below a folder.
fn each_file(folder: &Path, look: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // What the engine or a server removes meanwhile is no concern of ours.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            each_file(&entry.path(), look);
        } else if kind.is_file() {
            look(&entry.path());
        }
    }
}

#[test]
fn passwords_are_nowhere_but_in_private_files() {
    let model = Model::deployed(3);
    // What fails or changes writes more than what goes well.
    let ended = model.run("valkey/leader", "switchover", &[]);
    assert!(ended.completed(), "{}", ended.all());
    let primary = model.settled(3, A_UNIT).primary;
    kill(model.server_process(primary.address));
    model.settled(3, A_UNIT * 2);
    let passwords = all_passwords(&model);
    let holds = |bytes: &[u8]| {
        passwords.iter().any(|password| {
            bytes
                .windows(password.len())
                .any(|window| window == password.as_bytes())
        })
    };
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        for name in ["cmdline", "environ"] {
            let bytes = fs::read(entry.path().join(name)).unwrap_or_default();
            assert!(
                !holds(&bytes),
                "a password is in {}/{name}",
                entry.path().display()
            );
        }
    }
    let log = model.juju(&["debug-log"]);
    assert!(!holds(log.as_bytes()), "a password is in debug-log");
    for unit in model.units() {
        let shown = model.juju(&["show-unit", &unit.name]);
        assert!(!holds(shown.as_bytes()), "a password is in the databags");
        let detail = model.run(&unit.name, "status-detail", &["format=json"]);
        assert!(
            !holds(detail.all().as_bytes()),
            "a password is in an action's answer"
        );
    }
    let mut private = 0;
    each_file(model.state(), &mut |path| {
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        if read.is_err() || !holds(&bytes) {
            return;
        }
        private += 1;
        let shown = path.display();
        let mode =
            |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o7777);
        assert_eq!(mode(path), 0o600, "mode of {shown}");
        let folder = path.parent().expect("a folder");
        assert_eq!(mode(folder), 0o700, "mode of the folder of {shown}");
        let name = path.file_name().and_then(|name| name.to_str());
        assert!(
            name.is_some_and(|name| !name.contains("log") && name != "model.json"),
            "a password is in {shown}"
        );
    });
    assert!(
        private > 3,
        "the servers have their passwords from somewhere"
    );
}

#[test]
fn a_secret_that_is_gone_is_made_again_with_the_same_passwords() {
    let model = Model::deployed(2);
    let before = all_passwords(&model);
    let processes = server_processes(&model);
    let leads = leader(&model);
    let bag = relation_get(&model, &leads, "--app - valkey");
    let id = bag["users-secret"].as_str().expect("an id").to_owned();
    exec(&model, &leads, &format!("secret-remove {id}"));
    hook(&model, &leads);
    model.settled(2, A_UNIT);
    assert_eq!(all_passwords(&model), before, "the same passwords");
    assert_eq!(server_processes(&model), processes, "nothing was restarted");
    model.add_units(1);
    model.settled(3, A_UNIT * 2);
}

#[test]
fn the_given_passwords_are_used_and_what_is_wrong_with_them_is_said() {
    let model = Model::new();
    model.deploy(1, &[("system-users", "secret:d4k0gn7mp25c7fqo1qpg")]);
    says(&model, "valkey/0", &["system-users", "no such secret"]);
    model.juju(&[
        "add-secret",
        "mine",
        "charmed-stats=chosen-by-a-person-1",
        "stranger=x",
    ]);
    let id = |name: &str| {
        let shown = model.juju(&["show-secret", name, "--format", "json"]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let id = shown.as_object().and_then(|map| map.keys().next().cloned());
        let id = id.expect("the secret has an id");
        format!("secret:{}", id.trim_start_matches("secret:"))
    };
    let mine = id("mine");
    model.configure(&[("system-users", &mine)]);
    says(&model, "valkey/0", &["system-users", "grant-secret"]);
    model.juju(&["grant-secret", "mine", "valkey"]);
    hook(&model, "valkey/0");
    says(&model, "valkey/0", &["system-users", "stranger"]);
    model.juju(&[
        "update-secret",
        "mine",
        "charmed-stats=chosen-by-a-person-1",
    ]);
    hook(&model, "valkey/0");
    model.settled(1, A_UNIT);
    let address = model.unit("valkey/0").address;
    Wire::connect(
        (address, SERVER_PORT).into(),
        "charmed-stats",
        "chosen-by-a-person-1",
        Duration::from_secs(5),
    )
    .expect("the chosen password is accepted");

    model.juju(&["add-secret", "other", "charmed-stats=chosen-too-late-1"]);
    model.juju(&["grant-secret", "other", "valkey"]);
    model.configure(&[("system-users", &id("other"))]);
    says(&model, "valkey/0", &["system-users", "not applied"]);
    model.configure(&[("system-users", &mine)]);
    model.settled(1, A_UNIT);
}

#[test]
fn a_missing_binary_and_a_broken_disk_are_named_and_mended() {
    let model = Model::new();
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("valkey-server");
    let charm = charm::folder().display().to_string();
    let variable = format!("VALKEY_OPERATOR_SERVER={}", program.display());
    model.juju(&[
        "deploy",
        &charm,
        "valkey",
        "--env",
        "VALKEY_OPERATOR_WORKLOAD=process",
        "--env",
        &variable,
    ]);
    model.handle(&["setting", "update-status-seconds=2"]);
    says(
        &model,
        "valkey/0",
        &["cannot find valkey-server", "install"],
    );
    symlink("/usr/bin/valkey-server", &program).expect("a link");
    model.settled(1, A_UNIT);
    let address = model.unit("valkey/0").address;
    let set = model
        .server(address)
        .and_then(|mut wire| wire.call(&["SET", "survives", "1"]))
        .expect("the server answers");
    assert_eq!(set.text().as_deref(), Some("OK"));

    let storage = fs::read_dir(model.state().join("storage"))
        .expect("the storages")
        .flatten()
        .next()
        .expect("one storage")
        .path();
    let data = storage.join("data");
    let mode = |mode| fs::set_permissions(&data, fs::Permissions::from_mode(mode)).expect("chmod");
    mode(0o500);
    let unit = says(&model, "valkey/0", &["cannot use", "chmod"]);
    assert_eq!(unit.workload, "blocked");
    model.server_process(address);
    mode(0o700);
    model.settled(1, A_UNIT);

    let aside = storage.join("aside");
    let process = model.server_process(address);
    fs::rename(&data, &aside).expect("moved away");
    fs::write(&data, "no directory").expect("written");
    kill(process);
    let unit = says(&model, "valkey/0", &["cannot use the storage"]);
    assert_eq!(unit.workload, "blocked");
    fs::remove_file(&data).expect("removed");
    fs::rename(&aside, &data).expect("moved back");
    model.settled(1, A_UNIT);
    let kept = model
        .server(address)
        .and_then(|mut wire| wire.call(&["GET", "survives"]))
        .expect("the server answers");
    assert_eq!(kept.text().as_deref(), Some("1"), "nothing was lost");
}

#[test]
fn a_port_in_use_is_named_and_the_unit_starts_once_it_is_free() {
    let model = Model::deployed(1);
    let IpAddr::V4(first) = model.unit("valkey/0").address else {
        panic!("units have IPv4 addresses");
    };
    // Units get the addresses of a model's network in turn.
    let next = Ipv4Addr::from(u32::from(first) + 1);
    let occupied = TcpListener::bind((next, SERVER_PORT)).expect("the port is free before");
    model.add_units(1);
    let unit = says(&model, "valkey/1", &["port is in use"]);
    assert_eq!(unit.address, IpAddr::V4(next), "the address was guessed");
    assert_eq!(unit.workload, "blocked", "a person is needed");
    assert!(!unit.message.contains('\n'), "one line: {}", unit.message);
    drop(occupied);
    model.settled(2, A_UNIT * 2);
}

#[test]
fn a_frozen_peer_and_a_failing_hook_tool_hold_nobody_up() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let writers = Writers::start_usual(&model);
    let (frozen, other) = (&settled.replicas[0].name, &settled.replicas[1].name);
    model.handle(&["freeze", frozen]);
    for unit in [&settled.primary.name, other] {
        // The first one may stand behind hooks that the freeze has caused.
        hook(&model, unit);
        let begun = Instant::now();
        hook(&model, unit);
        let elapsed = begun.elapsed();
        println!("a hook of {unit} beside a frozen peer: {elapsed:?}");
        assert!(elapsed < HOOK_BESIDE_A_FROZEN_PEER, "{unit}: {elapsed:?}");
    }
    model.handle(&["thaw", frozen]);
    model.settled(3, A_UNIT * 2);

    // A tool that no longer shows one peer's databag: that peer must not be taken for a new one.
    let tag = format!("unit-{}", other.replace('/', "-"));
    let tool = model.state().join("tools").join(tag).join("relation-get");
    let aside = model.state().join("aside");
    fs::create_dir(&aside).expect("a folder");
    let real = aside.join("relation-get");
    fs::rename(&tool, &real).expect("moved");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *{frozen}*) echo 'ERROR connection is shut down' >&2; exit 1;; esac\nexec '{}' \"$@\"\n",
        real.display()
    );
    fs::write(&tool, script).expect("written");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("chmod");
    model.configure(&[("maxclients", "700")]);
    model.wait_until("the hook fails", A_UNIT, || {
        let unit = model.unit(other);
        if unit.agent == "error" || unit.workload == "error" {
            Ok(())
        } else {
            Err(format!(
                "{}/{}: {}",
                unit.workload, unit.agent, unit.message
            ))
        }
    });
    let primaries = oracles::primaries(&model);
    assert_eq!(primaries.len(), 1, "{primaries:?}");
    fs::remove_file(&tool).expect("removed");
    fs::rename(&real, &tool).expect("moved back");
    let after = model.settled(3, A_UNIT * 2);
    for unit in model.units() {
        let value = oracles::setting(&model, &unit, "maxclients");
        assert_eq!(value.as_deref(), Ok("700"), "{}", unit.name);
    }
    writers.flowing(&model);
    writers
        .verify(&model, after.primary.address)
        .expect_nothing_lost();
}

/// Returns the process of a unit's watcher: the parent, which the pid file names.
fn watcher(model: &Model, unit: &str) -> Option<i32> {
    let text = fs::read_to_string(agent(model, unit).join("valkey/watch.pid")).ok()?;
    let digits: String = text
        .chars()
        .skip_while(|character| !character.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    let process: i32 = digits.parse().ok()?;
    is_watcher(process).then_some(process)
}

fn is_watcher(process: i32) -> bool {
    fs::read(format!("/proc/{process}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"watch"))
}

/// Returns the process that really watches: the child.
fn watching(parent: i32) -> Option<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    is_watcher(child).then_some(child)
}

#[test]
fn the_watcher_comes_back_and_an_upgrade_replaces_it() {
    let model = Model::deployed(2);
    let unit = "valkey/1";
    let parent = watcher(&model, unit).expect("a watcher runs");
    let child = model.wait_until("the watcher watches", WATCHER_BACK, || {
        watching(parent).ok_or_else(|| "no child".to_owned())
    });
    kill(child);
    let next = model.wait_until("the watcher watches again", WATCHER_BACK, || {
        watching(parent)
            .filter(|process| *process != child)
            .ok_or_else(|| "no child".to_owned())
    });
    kill(parent);
    model.wait_until("the orphan ends", WATCHER_BACK, || {
        if is_watcher(next) {
            Err(format!("{next} still runs"))
        } else {
            Ok(())
        }
    });
    hook(&model, unit);
    let parent = watcher(&model, unit).expect("the next hook starts the watcher");
    let before: Vec<Option<i32>> = ["valkey/0", unit].map(|unit| watcher(&model, unit)).into();
    assert_eq!(before[1], Some(parent));
    let processes = server_processes(&model);
    let charm = charm::folder().display().to_string();
    model.juju(&["refresh", "valkey", "--path", &charm]);
    model.wait_until("every watcher was replaced", A_UNIT, || {
        for (unit, before) in ["valkey/0", unit].iter().zip(&before) {
            let now = watcher(&model, unit);
            if now.is_none() || now == *before {
                return Err(format!("{unit}: {now:?}, before {before:?}"));
            }
        }
        Ok(())
    });
    model.settled(2, A_UNIT);
    assert_eq!(
        server_processes(&model),
        processes,
        "no server was restarted"
    );
}
