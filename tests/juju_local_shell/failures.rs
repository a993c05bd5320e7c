//! Hooks that fail: errors, retries, resolving, and what goes on meanwhile.

use super::local::Local;

#[test]
fn a_failed_hook_is_shown_and_run_again_until_it_succeeds() {
    let local = Local::deployed("4.0", 2);
    local.on(
        "app/0",
        "config-changed",
        "status-set waiting 'for better times'; exit 7",
    );
    let before = local.events("app/0").len();
    local.ok(&["config", "app", "count=5"]);
    local.until("the error is shown", || {
        local.unit("app/0")["workload-status"]["message"] == "hook failed: \"config-changed\""
    });
    local.until("it was tried three times", || {
        local.since("app/0", before).len() >= 3
    });
    assert!(
        local
            .since("app/0", before)
            .iter()
            .all(|event| event == "config-changed")
    );
    // The status that the hook set before it failed is there, and comes out when the error is gone.
    local.on(
        "app/0",
        "config-changed",
        "status-set waiting 'for better times'",
    );
    local.until("the hook succeeds", || {
        let unit = local.unit("app/0");
        unit["juju-status"]["current"] == "idle"
            && unit["workload-status"]["message"] == "for better times"
    });
    local.on("app/0", "config-changed", "");
}

#[test]
fn a_relation_hooks_error_names_its_relation() {
    let local = Local::deployed("4.0", 2);
    local.on("app/0", "peers-relation-changed", "exit 1");
    local.exec("app/1", "relation-set -r $(relation-ids peers) n=1");
    local.until("the error is shown", || {
        local.unit("app/0")["workload-status"]["message"]
            == "hook failed: \"peers-relation-changed\""
    });
    local.on("app/0", "peers-relation-changed", "");
    local.settle();
}

#[test]
fn resolved_runs_the_hook_at_once_and_no_retry_skips_it() {
    let local = Local::deployed("4.0", 1);
    local.ok(&["handle", "setting", "automatically-retry-hooks=false"]);
    local.on("app/0", "config-changed", "exit 1");
    let before = local.events("app/0").len();
    local.ok(&["config", "app", "count=5"]);
    local.until_workload("app/0", "error");
    local.ok(&["resolved", "app/0"]);
    local.until("it ran again", || local.since("app/0", before).len() == 2);
    local.until_workload("app/0", "error");
    local.ok(&["resolved", "--no-retry", "--all"]);
    local.settle();
    assert_eq!(local.since("app/0", before).len(), 2);
    let refused = local.refused(&["resolved", "app/0"]);
    assert!(
        refused.contains("not in") && refused.contains("error state"),
        "{refused}"
    );
}

#[test]
fn a_unit_in_error_still_runs_actions_and_commands_and_nothing_else() {
    let local = Local::deployed("4.0", 2);
    local.ok(&["handle", "setting", "automatically-retry-hooks=false"]);
    local.on("app/0", "config-changed", "exit 1");
    local.ok(&["config", "app", "count=5"]);
    local.until_workload("app/0", "error");
    let before = local.events("app/0").len();
    assert!(local.ok(&["run", "app/0", "greet"]).contains("hello world"));
    assert_eq!(local.exec("app/0", "echo here"), "here\n");
    local.exec("app/1", "relation-set -r $(relation-ids peers) n=1");
    assert_eq!(local.exec("app/0", "echo here"), "here\n");
    assert_eq!(local.since("app/0", before), ["actions/greet"]);
    local.on("app/0", "config-changed", "");
    local.ok(&["resolved", "app/0"]);
    local.until_event("app/0", "peers-relation-changed app/1");
    local.settle();
}

#[test]
fn a_hook_that_is_killed_is_no_error_and_runs_again() {
    let local = Local::deployed("4.0", 1);
    let mark = local.scratch().join("mark");
    local.on(
        "app/0",
        "config-changed",
        &format!("[ -e {0} ] || {{ touch {0}; kill -9 $$; }}", mark.display()),
    );
    let before = local.events("app/0").len();
    local.ok(&["config", "app", "count=5"]);
    local.until("it ran again", || local.since("app/0", before).len() == 2);
    local.settle();
    assert!(
        !local
            .run(&["debug-log", "--level", "ERROR"])
            .stdout
            .contains("config-changed")
    );
}

#[test]
fn a_charm_that_vanished_from_the_disk_is_an_error_and_not_a_success() {
    let local = Local::deployed("4.0", 1);
    let place = local.state().join("agents/unit-app-0/charm");
    std::fs::rename(&place, place.with_extension("away")).unwrap();
    std::fs::create_dir(&place).unwrap();
    local.ok(&["config", "app", "count=5"]);
    local.until_workload("app/0", "error");
    std::fs::remove_dir(&place).unwrap();
    std::fs::rename(place.with_extension("away"), &place).unwrap();
    local.settle();
    assert_eq!(local.events("app/0").last().unwrap(), "config-changed");
}

#[test]
fn no_update_status_comes_while_a_hook_is_in_error() {
    let local = Local::deployed("4.0", 1);
    local.on("app/0", "config-changed", "exit 1");
    local.ok(&["config", "app", "count=5"]);
    local.until_workload("app/0", "error");
    local.ok(&["handle", "setting", "update-status-seconds=0.2"]);
    let before = local.events("app/0").len();
    local.until("it was tried some more times", || {
        local.since("app/0", before).len() >= 4
    });
    assert!(!local.events("app/0").contains(&"update-status".to_owned()));
    local.on("app/0", "config-changed", "");
    local.until_event("app/0", "update-status");
}
