//! Passwords, with real processes: where they may be, what becomes of a lost secret, and what is said
//! about one that cannot be used.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    fs,
    io::Read as _,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    hooks::{exec, hook, kill, leader, relation_get, says, server_processes},
    model::{A_UNIT, Model, SENTINEL_PORT, SERVER_PORT},
    wire::Wire,
    writers::Writers,
};

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
    model.switch_over(None);
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
    let mine = id(&model, "mine");
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

    // Changed afterwards, in the secret itself and by naming another one.
    model.juju(&["update-secret", "mine", "charmed-stats=chosen-later-1"]);
    accepted(&model, address, "charmed-stats", "chosen-later-1");
    model.juju(&["add-secret", "other", "charmed-stats=chosen-later-2"]);
    model.configure(&[("system-users", &id(&model, "other"))]);
    says(&model, "valkey/0", &["system-users", "grant-secret"]);
    model.juju(&["grant-secret", "other", "valkey"]);
    hook(&model, "valkey/0");
    accepted(&model, address, "charmed-stats", "chosen-later-2");
    refused(&model, address, "charmed-stats", "chosen-later-1");
    refused(&model, address, "charmed-stats", "chosen-by-a-person-1");
    model.settled(1, A_UNIT);
}

/// Returns the URI of a secret of the model.
fn id(model: &Model, name: &str) -> String {
    let shown = model.juju(&["show-secret", name, "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let id = shown.as_object().and_then(|map| map.keys().next().cloned());
    let id = id.expect("the secret has an id");
    format!("secret:{}", id.trim_start_matches("secret:"))
}

fn log_in(address: IpAddr, user: &str, password: &str) -> Result<(), String> {
    let port = if user.starts_with("charmed-sentinel-") && user != "charmed-sentinel-valkey" {
        SENTINEL_PORT
    } else {
        SERVER_PORT
    };
    let timeout = Duration::from_secs(5);
    Wire::connect((address, port).into(), user, password, timeout)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Waits until a password is accepted.
fn accepted(model: &Model, address: IpAddr, user: &str, password: &str) {
    let what = format!("the new password of {user} is accepted at {address}");
    model.wait_until(&what, A_UNIT * 3, || log_in(address, user, password));
}

/// Waits until a password is refused.
fn refused(model: &Model, address: IpAddr, user: &str, password: &str) {
    let what = format!("the old password of {user} is refused at {address}");
    model.wait_until(&what, A_UNIT * 3, || {
        match log_in(address, user, password) {
            Ok(()) => Err("it is accepted".to_owned()),
            Err(error) if error.contains("WRONGPASS") => Ok(()),
            Err(error) => Err(error),
        }
    });
}

/// Counts what the Sentinels wrote about anything that was down.
fn downs(model: &Model) -> usize {
    let mut count = 0;
    each_file(model.state(), &mut |path| {
        if path.file_name().is_some_and(|name| name == "sentinel.log") {
            let text = fs::read_to_string(path).unwrap_or_default();
            count += text.matches("+sdown").count() + text.matches("+switch-master").count();
        }
    });
    count
}

#[test]
fn all_passwords_change_under_writes_without_a_gap() {
    const USERS: [&str; 6] = [
        "charmed-operator",
        "charmed-sentinel-valkey",
        "charmed-replication",
        "charmed-stats",
        "charmed-sentinel-peers",
        "charmed-sentinel-operator",
    ];
    let mut model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let processes = server_processes(&model);
    let old = all_passwords(&model);
    let old_operator = model.passwords().server.clone();
    let writers = Writers::start_usual(&model);
    let (started, before) = (Instant::now(), downs(&model));
    let pairs: Vec<String> = USERS
        .iter()
        .map(|user| format!("{user}=chosen-by-a-person-{user}"))
        .collect();
    let mut add = vec!["add-secret", "mine"];
    add.extend(pairs.iter().map(String::as_str));
    model.juju(&add);
    model.juju(&["grant-secret", "mine", "valkey"]);
    model.configure(&[("system-users", &id(&model, "mine"))]);
    // A unit that joins meanwhile is taken along.
    model.add_units(1);
    for unit in model.units().iter().take(3) {
        for user in USERS {
            let new = format!("chosen-by-a-person-{user}");
            accepted(&model, unit.address, user, &new);
        }
        refused(&model, unit.address, "charmed-operator", &old_operator);
    }
    println!("changed within {:?}", started.elapsed());
    let gap = writers.longest_gap(started);
    println!("writes stood still for {gap:?}");
    assert!(gap < Duration::from_secs(1), "{gap:?}");
    model.forget_passwords();
    let after = model.settled(4, A_UNIT * 3);
    let now = all_passwords(&model);
    assert!(now.iter().all(|password| !old.contains(password)));
    assert_eq!(downs(&model), before, "nobody was taken for down");
    assert_eq!(after.primary.name, settled.primary.name);
    let unchanged = server_processes(&model);
    assert!(
        processes.iter().all(|process| unchanged.contains(process)),
        "nothing was restarted"
    );
    writers
        .verify(&model, after.primary.address)
        .expect_nothing_lost();

    // Everybody logs in anew: the links to the primary break, and then the primary itself is gone.
    let mut wire = model
        .server(after.primary.address)
        .expect("the primary answers");
    wire.call(&["CLIENT", "KILL", "TYPE", "replica"])
        .expect("an answer");
    model.settled(4, A_UNIT);
    kill(model.server_process(after.primary.address));
    model.settled(4, A_UNIT * 2);
}
