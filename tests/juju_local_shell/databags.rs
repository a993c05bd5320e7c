//! Relation data: when others see it, what wakes them, and what they read.

use std::fs;

use super::local::Local;

/// Shell text that names the peer relation.
const PEERS: &str = "-r $(relation-ids peers)";

/// Keeps a unit busy in `config-changed` until the returned gate exists.
fn hold(local: &Local, unit: &str, count: u32, before_gate: &str) -> std::path::PathBuf {
    let gate = local.scratch().join(format!("gate-{count}"));
    let shown = gate.display();
    local.on(
        unit,
        "config-changed",
        &format!("{before_gate}\ntouch {shown}.in; while [ ! -e {shown} ]; do sleep 0.05; done"),
    );
    local.ok(&["config", "app", &format!("count={count}")]);
    let inside = local.scratch().join(format!("gate-{count}.in"));
    local.until("the hook runs", || inside.exists());
    gate
}

#[test]
fn writes_become_visible_at_once_when_the_hook_succeeds() {
    let local = Local::deployed("4.0", 2);
    let gate = hold(
        &local,
        "app/1",
        10,
        &format!("relation-set {PEERS} a=1 b=2; [ $(relation-get {PEERS} a app/1) = 1 ]"),
    );
    assert_eq!(
        local.exec("app/0", &format!("relation-get {PEERS} a app/1")),
        "",
        "seen before the commit"
    );
    let before = local.events("app/0").len();
    fs::write(gate, "").unwrap();
    local.until("the other unit hears of it", || {
        local
            .since("app/0", before)
            .contains(&"peers-relation-changed app/1".into())
    });
    let read = local.exec(
        "app/0",
        &format!("relation-get {PEERS} --format json - app/1"),
    );
    assert!(read.contains(r#""a":"1","b":"2""#), "{read}");
    // An empty value takes the key away; a value that is there already changes nothing.
    local.on("app/1", "config-changed", "");
    local.settle();
    let before = local.events("app/0").len();
    local.exec("app/1", &format!("relation-set {PEERS} a=1"));
    local.exec("app/1", &format!("relation-set {PEERS} b="));
    local.until("the other unit hears of it", || {
        !local.since("app/0", before).is_empty()
    });
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        ["peers-relation-changed app/1"]
    );
    let read = local.exec(
        "app/0",
        &format!("relation-get {PEERS} --format json - app/1"),
    );
    assert!(!read.contains("\"b\""), "{read}");
}

#[test]
fn a_failed_hook_leaves_no_trace_in_the_data() {
    let local = Local::deployed("4.0", 2);
    let before = local.events("app/0").len();
    let seen = local.scratch().join("seen");
    let script = format!(
        "relation-get {PEERS} lost app/1 >>{0}; echo . >>{0}; relation-set {PEERS} lost=1; status-set waiting broken; [ $(wc -l <{0}) -ge 2 ]",
        seen.display()
    );
    local.on("app/1", "config-changed", &script);
    local.ok(&["config", "app", "count=5"]);
    local.until("it ran again and succeeded", || {
        fs::read_to_string(&seen)
            .unwrap_or_default()
            .lines()
            .count()
            >= 2
    });
    local.until("the other unit hears of it", || {
        local
            .since("app/0", before)
            .contains(&"peers-relation-changed app/1".into())
    });
    // The second run did not see what the first had written.
    assert_eq!(fs::read_to_string(&seen).unwrap(), ".\n.\n");
    assert_eq!(
        local.exec("app/0", &format!("relation-get {PEERS} lost app/1")),
        "1\n"
    );
}

#[test]
fn many_commits_are_one_event() {
    let local = Local::deployed("4.0", 2);
    let gate = hold(&local, "app/0", 10, "");
    local.until("the writer is free", || {
        local.unit("app/1")["juju-status"]["current"] == "idle"
    });
    let before = local.events("app/0").len();
    for number in 0..5 {
        local.exec("app/1", &format!("relation-set {PEERS} n={number}"));
    }
    fs::write(gate, "").unwrap();
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        ["peers-relation-changed app/1"]
    );
    assert_eq!(
        local.exec("app/0", &format!("relation-get {PEERS} n app/1")),
        "4\n"
    );
}

#[test]
fn a_change_that_comes_back_is_seen_by_3_6_only() {
    for (variant, expected) in [("3.6", 1), ("4.0", 0)] {
        let local = Local::deployed(variant, 2);
        local.exec("app/1", &format!("relation-set {PEERS} n=a"));
        local.until_event("app/0", "peers-relation-changed app/1");
        local.settle();
        let gate = hold(&local, "app/0", 10, "");
        local.until("the writer is free", || {
            local.unit("app/1")["juju-status"]["current"] == "idle"
        });
        let before = local.events("app/0").len();
        for value in ["b", "a"] {
            local.exec("app/1", &format!("relation-set {PEERS} n={value}"));
        }
        fs::write(gate, "").unwrap();
        local.settle();
        assert_eq!(local.since("app/0", before).len(), expected, "{variant}");
        let first = local.exec(
            "app/0",
            &format!("relation-get {PEERS} --format json - app/1"),
        );
        assert_eq!(
            first.contains("private-address"),
            variant == "3.6",
            "{first}"
        );
        assert!(first.contains("ingress-address"), "{first}");
    }
}

#[test]
fn application_data_is_the_leaders_and_reaches_every_unit() {
    let local = Local::deployed("4.0", 2);
    let before = [local.events("app/0").len(), local.events("app/1").len()];
    local.exec("app/0", &format!("relation-set {PEERS} --app plan=1"));
    for (unit, before) in [("app/0", before[0]), ("app/1", before[1])] {
        local.until("the unit hears of it", || {
            !local.since(unit, before).is_empty()
        });
        assert_eq!(local.since(unit, before), ["peers-relation-changed app"]);
        assert_eq!(
            local.exec(unit, &format!("relation-get {PEERS} --app plan app")),
            "1\n"
        );
    }
    let refused = local.run(&[
        "exec",
        "--unit",
        "app/1",
        "--",
        &format!("relation-set {PEERS} --app plan=2"),
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stdout.contains("cannot write relation settings"),
        "{}",
        refused.stdout
    );
}

#[test]
fn a_members_data_stays_as_it_was_until_its_own_event() {
    let local = Local::deployed("4.0", 2);
    local.exec("app/1", &format!("relation-set {PEERS} n=1"));
    local.until_event("app/0", "peers-relation-changed app/1");
    local.settle();
    local.exec("app/0", &format!("relation-get {PEERS} n app/1"));
    // Within a hook, reads do not move although the other unit commits; after its event they do.
    let reads = local.scratch().join("reads");
    let gate = hold(
        &local,
        "app/0",
        10,
        &format!("relation-get {PEERS} n app/1 >>{}", reads.display()),
    );
    local.until("the writer is free", || {
        local.unit("app/1")["juju-status"]["current"] == "idle"
    });
    let script = format!("relation-get {PEERS} n app/1 >>{0}", reads.display());
    local.on("app/0", "peers-relation-changed", &script);
    local.exec("app/1", &format!("relation-set {PEERS} n=2"));
    fs::write(gate, "").unwrap();
    local.settle();
    assert_eq!(fs::read_to_string(reads).unwrap(), "1\n2\n");
}

#[test]
fn relations_between_applications_come_and_go() {
    let local = Local::deployed("4.0", 1);
    local.deploy("far", 1);
    local.settle();
    let before = local.events("app/0").len();
    local.ok(&["integrate", "app:in", "far:out", "--wait"]);
    local.until_event("app/0", "in-relation-changed far/0");
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        [
            "in-relation-created far",
            "in-relation-joined far/0",
            "in-relation-changed far/0"
        ]
    );
    local.exec(
        "far/0",
        "relation-set -r $(relation-ids out) x=1; relation-set -r $(relation-ids out) --app y=2",
    );
    local.until_event("app/0", "in-relation-changed far");
    assert_eq!(
        local.exec("app/0", "relation-get -r $(relation-ids in) --app y far/0"),
        "2\n"
    );
    assert_eq!(
        local.exec("app/0", "relation-list -r $(relation-ids in) --app"),
        "far\n"
    );
    local.settle();
    let before = local.events("app/0").len();
    local.ok(&["remove-relation", "app:in", "far:out"]);
    local.until_event("app/0", "in-relation-broken far");
    local.settle();
    let events = local.since("app/0", before);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(
        events[0].starts_with("in-relation-departed far/0 leaving:"),
        "{events:?}"
    );
    assert!(
        local
            .refused(&["remove-relation", "app:in", "far:out"])
            .starts_with("ERROR ")
    );
}

#[test]
fn a_hook_before_the_members_event_still_reads_its_old_data() {
    let local = Local::deployed("4.0", 2);
    local.exec("app/1", &format!("relation-set {PEERS} n=1"));
    local.until_event("app/0", "peers-relation-changed app/1");
    local.settle();
    let reads = local.scratch().join("reads");
    let read = format!("relation-get {PEERS} n app/1 >>{}", reads.display());
    local.on("app/0", "peers-relation-changed", &read);
    let gate = hold(&local, "app/0", 10, &read);
    local.until("the writer is free", || {
        local.unit("app/1")["juju-status"]["current"] == "idle"
    });
    // Configuration comes before relations: this hook runs before the unit is told of the new data.
    local.exec("app/1", &format!("relation-set {PEERS} n=2"));
    local.ok(&["config", "app", "count=11"]);
    fs::write(gate, "").unwrap();
    local.settle();
    assert_eq!(fs::read_to_string(reads).unwrap(), "1\n1\n2\n");
}
