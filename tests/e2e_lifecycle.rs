//! One application's life with real processes: founding, hand-over, restart, options, actions.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    drills::IN_FLIGHT,
    model::{A_UNIT, Model},
    oracles, starts,
    writers::Writers,
};

/// Longest that writes may stand still in a hand-over. Far above what it takes on an idle
/// machine: here tests share two cores with debug builds of everything.
const HANDOVER_GAP: Duration = Duration::from_secs(2);

#[test]
fn three_units_start_one_at_a_time_and_agree() {
    let model = Model::new();
    model.deploy(3, &[]);
    let settled = starts::one_at_a_time(&model, || model.settled(3, A_UNIT * 3));
    let version = model.status()["applications"]["valkey"]["version"].clone();
    assert!(
        version
            .as_str()
            .is_some_and(|version| version.contains('.')),
        "workload version: {version}"
    );
    let primary = model.unit(&settled.primary.name);
    assert!(
        primary.message.to_lowercase().contains("primary"),
        "the primary says {:?}",
        primary.message
    );
}

#[test]
fn one_unit_serves_alone_and_two_say_that_they_cannot_fail_over() {
    let alone = Model::deployed(1);
    let writers = Writers::start_usual(&alone);
    alone.wait_until("enough is written to tell", A_UNIT, || {
        match writers.acknowledged() {
            written if written > 500 => Ok(()),
            written => Err(format!("{written} writes")),
        }
    });
    writers
        .verify(&alone, alone.units()[0].address)
        .expect_nothing_lost();
    alone.add_units(1);
    let settled = alone.settled(2, A_UNIT * 2);
    assert_eq!(
        settled.primary.name, "valkey/0",
        "the unit with the data stays primary"
    );
    drop(alone);
}

#[test]
fn five_and_seven_units_start_one_at_a_time_and_agree() {
    let model = Model::new();
    model.deploy(5, &[]);
    starts::one_at_a_time(&model, || {
        model.settled(5, A_UNIT * 5);
        model.add_units(2);
        model.settled(7, A_UNIT * 4);
    });
}

#[test]
fn ten_switchovers_in_a_row_lose_nothing() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let mut primary = model.settled(3, A_UNIT).primary.name;
    let mut gaps = Vec::new();
    for round in 0..10 {
        let before = oracles::primaries(&model);
        assert_eq!(before.len(), 1, "one primary before round {round}");
        let target = model
            .units()
            .into_iter()
            .map(|unit| unit.name)
            .find(|name| *name != primary)
            .expect("a target");
        let started = Instant::now();
        // Every other time the charm chooses.
        model.switch_over((round % 2 == 0).then_some(target.as_str()));
        writers.flowing(&model);
        gaps.push(writers.longest_gap(started));
        let after = model.settled(3, A_UNIT).primary.name;
        assert_ne!(after, primary, "round {round} moved the primary");
        if round % 2 == 0 {
            assert_eq!(after, target, "round {round} chose the target");
        }
        primary = after;
    }
    println!("longest gaps: {gaps:?}");
    assert!(
        gaps.iter().all(|gap| *gap < HANDOVER_GAP),
        "writes stood still too long: {gaps:?}"
    );
    // One right after another: the replicas have not acknowledged anything to the new primary yet.
    for _ in 0..3 {
        model.switch_over(None);
    }
    primary = model.settled(3, A_UNIT).primary.name;
    let history = model.run(&primary, "failover-history", &["format=json"]);
    assert!(history.completed(), "{}", history.all());
    let address = model.unit(&primary).address;
    writers.verify(&model, address).expect_nothing_lost();
}

#[test]
fn every_unit_reboots_in_turn_and_nothing_is_lost() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    for unit in ["valkey/0", "valkey/1", "valkey/2"] {
        model.handle(&["reboot", unit]);
        writers.flowing(&model);
        model.settled(3, A_UNIT * 2);
    }
    let primary = model.settled(3, A_UNIT).primary;
    // A reboot ends the processes without warning; the last writes may not have been copied yet.
    writers
        .verify(&model, primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

#[test]
fn options_apply_at_run_time_and_restarts_go_round_one_by_one() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let processes = || -> Vec<i32> {
        model
            .units()
            .iter()
            .map(|unit| model.server_process(unit.address))
            .collect()
    };
    let before = processes();
    model.configure(&[
        ("maxmemory", "64mb"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxclients", "500"),
        ("failure-detection-seconds", "6"),
        ("repl-backlog-size", "32mb"),
    ]);
    model.wait_until("the options are in force everywhere", A_UNIT, || {
        for unit in model.units() {
            for (name, wanted) in [
                ("maxmemory", "67108864"),
                ("maxmemory-policy", "allkeys-lru"),
                ("maxclients", "500"),
                ("repl-backlog-size", "33554432"),
            ] {
                let value = oracles::setting(&model, &unit, name)?;
                if value != wanted {
                    return Err(format!("{}: {name} is {value}", unit.name));
                }
            }
            let mut sentinel = model
                .sentinel(unit.address)
                .map_err(|error| error.to_string())?;
            let view = sentinel
                .call(&["SENTINEL", "MASTER", "primary"])
                .map_err(|error| error.to_string())?;
            let detection = view.field("down-after-milliseconds");
            if detection.as_deref() != Some("6000") {
                return Err(format!(
                    "{}: down-after-milliseconds is {detection:?}",
                    unit.name
                ));
            }
        }
        Ok(())
    });
    assert_eq!(processes(), before, "nothing was restarted for them");

    model.configure(&[
        ("databases", "32"),
        ("maxmemory", ""),
        ("maxmemory-policy", "noeviction"),
    ]);
    model.wait_until(
        "the servers were restarted with 32 databases",
        A_UNIT * 3,
        || {
            for unit in model.units() {
                let value = oracles::setting(&model, &unit, "databases")?;
                if value != "32" {
                    return Err(format!("{}: databases is {value}", unit.name));
                }
            }
            Ok(())
        },
    );
    let primary = model.settled(3, A_UNIT).primary;
    assert!(
        processes().iter().all(|process| !before.contains(process)),
        "every server was restarted"
    );
    writers.expect_nothing_lost(&model, &primary);
}

#[test]
fn values_that_do_not_fit_are_named_and_change_nothing() {
    let model = Model::deployed(1);
    for (option, wrong, right) in [
        ("maxmemory", "lots", ""),
        ("maxmemory-policy", "forget-everything", "noeviction"),
        ("persistence", "paper", "aof"),
        ("failure-detection-seconds", "1", "5"),
        ("log-level", "chatty\nrequirepass x", "notice"),
    ] {
        model.configure(&[(option, wrong)]);
        model.wait_until(&format!("the status names {option}"), A_UNIT, || {
            let unit = model.unit("valkey/0");
            if unit.workload == "blocked" && unit.message.contains(option) {
                Ok(())
            } else {
                Err(format!("{}: {}", unit.workload, unit.message))
            }
        });
        model.configure(&[(option, right)]);
        model.settled(1, A_UNIT);
    }
    let refused = model.try_juju(&["config", "valkey", "no-such-option=1"]);
    assert!(
        !refused.status.success() && refused.stderr.contains("no-such-option"),
        "{refused:?}"
    );
}

#[test]
fn actions_speak_to_people_and_to_programs() {
    let model = Model::deployed(3);
    let primary = model.settled(3, A_UNIT).primary.name;
    for (action, parameters) in [
        ("show-topology", &[][..]),
        ("verify", &[]),
        ("status-detail", &[]),
        ("pre-check", &["operation=switchover"]),
        ("pre-check", &["operation=remove"]),
        ("pre-check", &["operation=restart"]),
        ("failover-history", &[]),
    ] {
        let table = model.run(&primary, action, parameters);
        assert!(
            table.completed(),
            "{action} {parameters:?}: {}",
            table.all()
        );
        let json = model.run(&primary, action, &[parameters, &["format=json"]].concat());
        assert!(
            json.completed(),
            "{action} {parameters:?} as JSON: {}",
            json.all()
        );
        assert!(
            holds_json(&json.results),
            "{action} {parameters:?} holds no JSON: {}",
            json.results
        );
    }
    let topology = model.run(&primary, "show-topology", &[]);
    for unit in model.units() {
        assert!(
            topology.all().contains(&unit.name),
            "{} is not in the topology: {}",
            unit.name,
            topology.all()
        );
    }
    assert!(
        model.run(&primary, "verify", &[]).all().contains("OK"),
        "a settled application is OK"
    );
}

/// Tells whether some text among the results is a JSON document.
fn holds_json(results: &Value) -> bool {
    match results {
        Value::String(text) => serde_json::from_str::<Value>(text)
            .is_ok_and(|value| value.is_object() || value.is_array()),
        Value::Object(map) => map.values().any(holds_json),
        _ => false,
    }
}

#[test]
fn the_newest_valkey_is_run_and_handed_over_too() {
    let model = Model::with_newest();
    model.deploy(3, &[]);
    let mut primary = model.settled(3, A_UNIT * 3).primary;
    let version = model.status()["applications"]["valkey"]["version"].clone();
    assert!(
        version
            .as_str()
            .is_some_and(|version| !version.starts_with('8')),
        "the newest is {version}"
    );
    let writers = Writers::start_usual(&model);
    for round in 0..3 {
        model.switch_over(None);
        writers.flowing(&model);
        let after = model.settled(3, A_UNIT).primary;
        assert_ne!(after.name, primary.name, "round {round} moved the primary");
        primary = after;
    }
    model.remove_units(&[&primary.name]);
    let survivor = model.settled(2, A_UNIT * 2).primary;
    writers.expect_nothing_lost(&model, &survivor);
}
