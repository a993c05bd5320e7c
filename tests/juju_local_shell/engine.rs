//! The engine ends without warning; machines hang, vanish and come back.

use std::fs;

use super::local::Local;

/// Tells whether a process lives; one that ended and was not collected does not.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn an_engine_that_is_killed_in_a_hook_goes_on_where_it_was() {
    let local = Local::deployed("4.0", 2);
    let gate = local.scratch().join("gate");
    let script = format!(
        "relation-set -r $(relation-ids peers) half=1; touch {0}.in; while [ ! -e {0} ]; do sleep 0.05; done",
        gate.display()
    );
    local.on("app/0", "config-changed", &script);
    // A workload that the charm has started lives on without the engine.
    local.exec(
        "app/1",
        "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! >$SHELL_CHARM/workload",
    );
    let workload = fs::read_to_string(local.notes().join("workload")).unwrap();
    let before = local.events("app/0").len();
    let others = local.events("app/1").len();
    local.ok(&["config", "app", "count=5"]);
    let inside = local.scratch().join("gate.in");
    local.until("the hook runs", || inside.exists());
    local.until("the other unit is done", || {
        local
            .trace("app/1")
            .last()
            .is_some_and(|line| line == "end config-changed")
    });
    local.ok(&["handle", "crash-engine"]);
    fs::write(&gate, "").unwrap();
    assert!(lives(&workload));
    // The next command starts it again. The hook was found running: failed, and run again.
    local.until("the hook ran again", || {
        local.run(&["status"]);
        local.since("app/0", before).len() >= 2
    });
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        ["config-changed", "config-changed"]
    );
    let heard = local.since("app/1", others);
    assert_eq!(
        heard,
        ["config-changed", "peers-relation-changed app/0"],
        "committed hooks are not repeated"
    );
    assert!(
        local
            .exec("app/1", "relation-get -r $(relation-ids peers) half app/0")
            .contains('1')
    );
    assert!(local.run(&["debug-log"]).stdout.contains("config-changed"));
}

#[test]
fn an_idle_engine_that_is_killed_loses_nothing_and_repeats_nothing() {
    let local = Local::deployed("4.0", 2);
    local.exec("app/0", "relation-set -r $(relation-ids peers) --app plan=1; state-set kept=yes; open-port 80; secret-add --label s a-key=b");
    local.settle();
    let before = [local.events("app/0").len(), local.events("app/1").len()];
    for _ in 0..3 {
        local.ok(&["handle", "crash-engine"]);
        local.settle();
    }
    assert_eq!(local.since("app/0", before[0]), Vec::<String>::new());
    assert_eq!(local.since("app/1", before[1]), Vec::<String>::new());
    assert_eq!(
        local.exec(
            "app/1",
            "relation-get -r $(relation-ids peers) --app plan app"
        ),
        "1\n"
    );
    assert_eq!(
        local.exec(
            "app/0",
            "state-get kept; is-leader; opened-ports; secret-get --label s a-key"
        ),
        "yes\nTrue\n80/tcp\nb\n"
    );
}

#[test]
fn a_rebooted_machine_starts_again_with_or_without_its_disk() {
    let local = Local::deployed("4.0", 1);
    local.exec("app/0", "echo data >$(storage-get -s data/0 location)/file; setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! >$SHELL_CHARM/workload");
    let workload = fs::read_to_string(local.notes().join("workload")).unwrap();
    let before = local.events("app/0").len();
    local.ok(&["handle", "reboot", "app/0"]);
    local.until("it has started", || {
        local.since("app/0", before) == ["start"]
    });
    local.settle();
    assert!(!lives(&workload));
    assert_eq!(
        local.exec("app/0", "ls $(storage-get -s data/0 location)"),
        "file\n"
    );
    local.ok(&["handle", "reboot", "app/0", "--lose-disk"]);
    local.until("it has started", || {
        local.since("app/0", before) == ["start", "start"]
    });
    local.settle();
    assert_eq!(
        local.exec("app/0", "ls $(storage-get -s data/0 location)"),
        ""
    );
}

#[test]
fn a_frozen_unit_does_nothing_until_it_is_thawed() {
    let local = Local::deployed("4.0", 2);
    local.ok(&["handle", "freeze", "app/1"]);
    let before = local.events("app/1").len();
    local.exec("app/0", "relation-set -r $(relation-ids peers) n=1");
    local.ok(&["config", "app", "count=5"]);
    local.until("the other one has heard", || {
        local
            .events("app/0")
            .last()
            .is_some_and(|event| event == "config-changed")
    });
    assert_eq!(local.since("app/1", before), Vec::<String>::new());
    local.ok(&["handle", "thaw", "app/1"]);
    local.until("it catches up", || local.since("app/1", before).len() >= 2);
    local.settle();
}

#[test]
fn a_vanished_machine_is_removed_by_force_only() {
    let local = Local::deployed("4.0", 2);
    local.ok(&["handle", "kill", "app/1"]);
    local.ok(&["remove-unit", "app/1"]);
    assert_eq!(
        local.exec("app/0", "relation-list -r $(relation-ids peers)"),
        "app/1\n"
    );
    local.ok(&["remove-unit", "app/1", "--force", "--no-wait", "--wait=60s"]);
    local.until_event("app/0", "peers-relation-departed app/1 leaving:app/1");
}
