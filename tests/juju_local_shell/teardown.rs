//! Leaving: the order of the last hooks, what the others see, and what stays behind.

use std::fs;

use super::local::Local;

/// Makes the leaver note, in each of its last hooks, what it may still do.
const LAST_WORDS: &str = "echo \"$event $(is-leader) $(relation-list -r $(relation-ids peers) | xargs)\" >>$SHELL_CHARM/words-$tag";

fn with_last_words(variant: &str, units: u32) -> Local {
    let local = Local::deployed(variant, units);
    for event in [
        "data-storage-detaching",
        "peers-relation-departed",
        "stop",
        "remove",
    ] {
        local.on("app/0", event, LAST_WORDS);
    }
    local
}

#[test]
fn a_leaver_detaches_departs_stops_and_is_removed() {
    for variant in ["3.6", "4.0", "4.0-bug"] {
        let local = with_last_words(variant, 3);
        let before = local.events("app/0").len();
        let others = [local.events("app/1").len(), local.events("app/2").len()];
        local.ok(&["remove-unit", "app/0", "--wait=60s"]);
        assert_eq!(
            local.since("app/0", before),
            [
                "data-storage-detaching data/0",
                "peers-relation-departed app/1 leaving:app/0",
                "peers-relation-departed app/2 leaving:app/0",
                "stop",
                "remove"
            ],
            "{variant}"
        );
        // It stays the leader to its end, and a departed member is no member any more in its own hook.
        let words = fs::read_to_string(local.notes().join("words-unit-app-0")).unwrap();
        assert_eq!(
            words.lines().map(str::trim_end).collect::<Vec<_>>(),
            [
                "data-storage-detaching True app/1 app/2",
                "peers-relation-departed True app/2",
                "peers-relation-departed True",
                "stop True",
                "remove True"
            ],
            "{variant}"
        );
        local.until("another unit leads", || {
            let leads = |unit: &&str| local.unit(unit)["leader"] == true;
            ["app/1", "app/2"].iter().filter(|unit| leads(unit)).count() == 1
        });
        local.settle();
        for (unit, before) in [("app/1", others[0]), ("app/2", others[1])] {
            let events = local.since(unit, before);
            let departed = events
                .iter()
                .filter(|event| *event == "peers-relation-departed app/0 leaving:app/0")
                .count();
            assert_eq!(
                departed,
                usize::from(variant != "4.0-bug"),
                "{variant}: {unit}: {events:?}"
            );
        }
    }
}

#[test]
fn survivors_hear_of_a_leaver_early_in_3_6_and_late_in_4_0() {
    for (variant, early) in [("3.6", true), ("4.0", false)] {
        let local = Local::deployed(variant, 2);
        let gate = local.scratch().join("gate");
        // What a leaver writes while it leaves is committed; 4.0 tells the others, 3.6 only lets them read it.
        local.on(
            "app/1",
            "data-storage-detaching",
            "relation-set -r $(relation-ids peers) bye=1",
        );
        local.on(
            "app/1",
            "peers-relation-departed",
            &format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display()),
        );
        let before = local.events("app/0").len();
        local.ok(&["remove-unit", "app/1"]);
        local.until_event("app/1", "peers-relation-departed app/0 leaving:app/1");
        let departed = "peers-relation-departed app/1 leaving:app/1".to_owned();
        if early {
            local.until("the survivor departs it", || {
                local.since("app/0", before).contains(&departed)
            });
        } else {
            local.until("the survivor hears of the data", || {
                local
                    .since("app/0", before)
                    .contains(&"peers-relation-changed app/1".to_owned())
            });
            local.exec("app/0", "true");
            assert!(!local.since("app/0", before).contains(&departed));
        }
        assert_eq!(
            local.exec("app/0", "relation-get -r $(relation-ids peers) bye app/1"),
            "1\n",
            "{variant}"
        );
        fs::write(gate, "").unwrap();
        local.until_gone("app/1");
        local.until("the survivor has departed it", || {
            local.since("app/0", before).contains(&departed)
        });
        local.settle();
        // The data of one that has gone stays readable.
        assert_eq!(
            local.exec("app/0", "relation-get -r $(relation-ids peers) bye app/1"),
            "1\n",
            "{variant}"
        );
        assert_eq!(
            local.exec("app/0", "relation-list -r $(relation-ids peers)"),
            ""
        );
    }
}

#[test]
fn goal_state_tells_who_is_leaving() {
    let local = Local::deployed("4.0", 3);
    local.on(
        "all",
        "data-storage-detaching",
        "goal-state --format json >$SHELL_CHARM/goal-$tag",
    );
    local.ok(&["remove-unit", "app/1", "app/2", "--wait=60s"]);
    let goal: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(local.notes().join("goal-unit-app-1")).unwrap())
            .unwrap();
    assert_eq!(goal["units"]["app/1"]["status"], "dying");
    assert_eq!(goal["units"]["app/0"]["status"], "active");
    assert!(goal["relations"]["peers"].is_null());
    // A number is never used again while the application lives.
    local.ok(&["add-unit", "app", "--wait"]);
    assert!(!local.unit("app/3").is_null());
}

#[test]
fn other_relations_break_before_the_peers_depart() {
    let local = Local::deployed("4.0", 2);
    local.deploy("far", 1);
    local.settle();
    local.ok(&["integrate", "app:in", "far:out", "--wait"]);
    local.until_event("app/1", "in-relation-changed far/0");
    local.settle();
    let before = local.events("app/1").len();
    local.ok(&["remove-unit", "app/1", "--wait=60s"]);
    assert_eq!(
        local.since("app/1", before),
        [
            "data-storage-detaching data/1",
            "in-relation-departed far/0 leaving:app/1",
            "in-relation-broken far",
            "peers-relation-departed app/0 leaving:app/1",
            "stop",
            "remove"
        ]
    );
}

#[test]
fn an_application_goes_with_all_its_units() {
    for variant in ["3.6", "4.0"] {
        let local = Local::deployed(variant, 2);
        let before = [local.events("app/0").len(), local.events("app/1").len()];
        let said = local.ok(&[
            "remove-application",
            "app",
            "--destroy-storage",
            "--wait=60s",
        ]);
        assert!(
            said.starts_with("will remove application app\n- will remove unit app/0\n"),
            "{said}"
        );
        for (unit, before) in [("app/0", before[0]), ("app/1", before[1])] {
            let events = local.since(unit, before);
            assert_eq!(
                events[events.len() - 2..],
                ["stop", "remove"],
                "{variant}: {events:?}"
            );
            assert!(
                events
                    .iter()
                    .any(|event| event.starts_with("data-storage-detaching")),
                "{events:?}"
            );
            assert!(
                !events.iter().any(|event| event.contains("broken")),
                "{events:?}"
            );
            for departed in events.iter().filter(|event| event.contains("departed")) {
                assert!(
                    departed.ends_with(&format!("leaving:{unit}")),
                    "{variant}: {unit}: {events:?}"
                );
            }
        }
        assert_eq!(local.status()["applications"], serde_json::json!({}));
        assert!(!local.ok(&["storage", "--format", "json"]).contains("data/"));
        // The name is free again.
        local.deploy("app", 1);
        local.settle();
    }
}

#[test]
fn a_unit_whose_last_hook_fails_stays_until_somebody_decides() {
    let local = Local::deployed("4.0", 3);
    local.on("all", "data-storage-detaching", "exit 1");
    let before = local.events("app/1").len();
    local.ok(&["remove-unit", "app/1"]);
    local.until("the error is shown", || {
        local.unit("app/1")["workload-status"]["message"] == "hook failed: \"storage-detaching\""
    });
    local.until("it was tried again", || {
        local.since("app/1", before).len() >= 2
    });
    assert!(
        local
            .since("app/1", before)
            .iter()
            .all(|event| event == "data-storage-detaching data/1")
    );
    // Skipping it counts as done.
    local.ok(&["resolved", "--no-retry", "app/1"]);
    local.until_gone("app/1");
    assert_eq!(local.events("app/1").last().unwrap(), "remove");

    // Force does not ask the charm.
    local.ok(&["remove-unit", "app/2"]);
    local.until_workload("app/2", "error");
    local.ok(&["remove-unit", "app/2", "--force", "--no-wait", "--wait=60s"]);
    local.until_event("app/0", "peers-relation-departed app/2 leaving:app/2");
}

#[test]
fn units_that_leave_together_do_so_at_the_same_time() {
    let local = Local::deployed("4.0", 3);
    let meet = local.scratch().join("meet");
    fs::create_dir(&meet).unwrap();
    // Each leaver waits for the other: one after the other would never end.
    let script = format!(
        "touch {0}/$tag; i=0; while [ $(ls {0} | wc -l) -lt 2 ]; do i=$((i+1)); [ $i -lt 600 ]; sleep 0.05; done",
        meet.display()
    );
    local.on("all", "data-storage-detaching", &script);
    local.ok(&["remove-unit", "app/1", "app/2", "--wait=100s"]);
    local.settle();
    assert_eq!(
        local.exec("app/0", "relation-list -r $(relation-ids peers)"),
        ""
    );
}

#[test]
fn force_ends_a_hook_that_hangs() {
    let local = Local::deployed("3.6", 2);
    local.on(
        "app/1",
        "data-storage-detaching",
        "echo $$ >$SHELL_CHARM/hanging; sleep 1000",
    );
    local.ok(&["remove-unit", "app/1"]);
    let note = local.notes().join("hanging");
    local.until("the hook hangs", || note.exists());
    local.ok(&["remove-unit", "app/1", "--force", "--no-wait", "--wait=60s"]);
    local.until("its processes are gone", || {
        let text =
            |pid: &String| fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
        !local
            .processes()
            .iter()
            .any(|pid| text(pid).contains("JUJU_UNIT_NAME=app/1"))
    });
    local.settle();
}

#[test]
fn a_unit_that_never_started_goes_without_a_hook() {
    let local = Local::deployed("3.6", 1);
    let plain = local.scratch().join("plain");
    fs::create_dir_all(plain.join("hooks")).unwrap();
    fs::write(
        plain.join("metadata.yaml"),
        "name: plain\nsummary: s\ndescription: d\n",
    )
    .unwrap();
    fs::write(plain.join("hooks/install"), "#!/bin/sh\nexit 1\n").unwrap();
    local.ok(&["deploy", plain.to_str().unwrap(), "-n", "0"]);
    local.ok(&["remove-application", "plain", "--wait=60s"]);
    assert!(local.status()["applications"]["plain"].is_null());
}

#[test]
fn destroy_leaves_no_process_and_no_file() {
    let local = Local::deployed("4.0", 2);
    // A workload that nobody stops, in a session of its own and deaf to TERM.
    local.exec(
        "app/0",
        "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &",
    );
    assert!(!local.processes().is_empty());
    local.ok(&["destroy"]);
    assert_eq!(local.processes(), Vec::<String>::new());
    assert!(
        !local.state().exists(),
        "{:?}",
        fs::read_dir(local.state()).map(|entries| entries.flatten().collect::<Vec<_>>())
    );
    // Once more is no error, and the place can be used again.
    local.ok(&["destroy"]);
    local.deploy("app", 1);
    local.settle();
}
