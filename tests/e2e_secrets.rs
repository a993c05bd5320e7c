//! Passwords, with real processes: where they may be, what becomes of a lost secret, and what is said
//! about one that cannot be used.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use serde_json::Value;
use support::{
    hooks::{exec, hook, kill, leader, relation_get, says, server_processes},
    model::{A_UNIT, Model, SERVER_PORT},
    wire::Wire,
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
