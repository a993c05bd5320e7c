//! Bad input and broken surroundings, with real processes: values that cannot be read, binaries,
//! disks and ports that are not as they should be, tools and watchers that fail.
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
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::{Duration, Instant},
};

use support::{
    charm,
    hooks::{agent, hook, kill, leader, relation_get, relation_set, says, server_processes},
    model::{A_UNIT, Model, SERVER_PORT},
    oracles,
    writers::Writers,
};

/// Longest that a hook may take because a peer hangs; a few seconds, and slack for two busy cores.
const HOOK_BESIDE_A_FROZEN_PEER: Duration = Duration::from_secs(15);

/// Longest that a watcher may be away by itself.
const WATCHER_BACK: Duration = Duration::from_secs(20);

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
    writers.expect_nothing_lost(&model, &model.unit(&primary));
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

    // Who can no longer work with its disk can still leave.
    model.add_units(1);
    let settled = model.settled(2, A_UNIT * 2);
    assert_eq!(settled.primary.name, "valkey/0");
    mode(0o500);
    model.remove_units(&["valkey/0"]);
    let left = model.settled(1, A_UNIT * 2);
    assert_eq!(left.primary.name, "valkey/1");
    let kept = model
        .server(left.primary.address)
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
    // It does not keep the turn from others for as long as nobody frees its port.
    model.add_units(1);
    model.wait_until("another unit joins meanwhile", A_UNIT * 2, || {
        let unit = model.unit("valkey/2");
        if unit.message.contains("replica") {
            Ok(())
        } else {
            Err(format!("{}: {}", unit.workload, unit.message))
        }
    });
    drop(occupied);
    model.settled(3, A_UNIT * 2);
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
    writers.expect_nothing_lost(&model, &after.primary);
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
