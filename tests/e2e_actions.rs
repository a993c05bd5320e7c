//! The actions with real processes: what they say is held against the servers themselves, and what
//! must be refused is refused with a reason and changes nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::model::{A_UNIT, Ended, Model};

/// Longest until what became of a unit shows, on two busy cores.
const NOTICED: Duration = Duration::from_secs(25);

/// Returns the document of an action that was asked for JSON.
fn document(ended: &Ended) -> Value {
    let text = ended.results["result"]
        .as_str()
        .unwrap_or_else(|| panic!("there is no result: {}", ended.all()));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

/// Runs an action that has to work and returns its document.
fn ask(model: &Model, unit: &str, action: &str, parameters: &[&str]) -> Value {
    let ended = model.run(unit, action, &[parameters, &["format=json"]].concat());
    assert!(
        ended.completed(),
        "{action} on {unit}: {}{}",
        ended.all(),
        model.describe()
    );
    document(&ended)
}

/// Waits until `verify` on a unit gives the verdict `wanted`, and returns its document.
///
/// On a busy machine a replica may fall behind for a moment, and `verify` says so.
fn verdict(model: &Model, unit: &str, wanted: &str) -> Value {
    model.wait_until(&format!("verify says {wanted}"), NOTICED, || {
        let ended = model.run(unit, "verify", &["format=json"]);
        let found = document(&ended);
        if found["verdict"] == wanted {
            Ok(found)
        } else {
            Err(ended.all())
        }
    })
}

/// Runs an action that has to be refused, and expects the reason to hold `wanted`.
fn refused(model: &Model, unit: &str, action: &str, parameters: &[&str], wanted: &str) {
    let ended = model.run(unit, action, parameters);
    assert!(
        !ended.completed(),
        "{action} {parameters:?} was not refused: {}",
        ended.all()
    );
    assert!(
        ended.message.contains(wanted),
        "{action} {parameters:?} is refused without {wanted:?}: {}",
        ended.message
    );
}

/// Returns what `verify` exits with when it is run as a command.
fn exit_status(model: &Model, unit: &str) -> String {
    let printed = model.juju(&[
        "exec",
        "--unit",
        unit,
        "--",
        "bin/valkey-operator verify >/dev/null; echo status=$?",
    ]);
    printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("status="))
        .unwrap_or_else(|| panic!("verify did not end: {printed}"))
        .to_owned()
}

#[test]
fn a_settled_application_is_described_as_it_is() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let primary = settled.primary.name.clone();
    let replica = settled.replicas[0].name.clone();

    let topology = ask(&model, &replica, "show-topology", &[]);
    assert_eq!(topology["primary"], primary, "{topology}");
    assert_eq!(topology["margin"]["may-be-lost"], 1, "{topology}");
    assert_eq!(topology["attention"], Value::Array(vec![]), "{topology}");
    for unit in topology["units"].as_array().expect("units") {
        let is_primary = unit["unit"] == primary.as_str();
        assert_eq!(unit["role"] == "primary", is_primary, "{unit}");
        assert_eq!(unit["follows"] == primary.as_str(), !is_primary, "{unit}");
        assert_eq!(unit["behind-bytes"].is_u64(), !is_primary, "{unit}");
    }
    for sentinel in topology["sentinels"].as_array().expect("Sentinels") {
        assert_eq!(sentinel["primary"], primary, "{sentinel}");
        assert_eq!(sentinel["quorum"], 2, "{sentinel}");
        assert_eq!(sentinel["others-up"], 2, "{sentinel}");
    }

    verdict(&model, &replica, "OK");
    assert_eq!(exit_status(&model, &replica), "0");
    let detail = ask(&model, &replica, "status-detail", &[]);
    assert_eq!(detail["status"], "active: replica", "{detail}");
    assert_eq!(detail["facts"]["lease"], "free", "{detail}");
    for operation in ["switchover", "remove", "restart"] {
        for unit in [&primary, &replica] {
            let parameter = format!("operation={operation}");
            let safety = ask(&model, unit, "pre-check", &[&parameter]);
            assert_eq!(safety["safe"], true, "{operation} of {unit}: {safety}");
        }
    }
}

#[test]
fn a_switchover_tells_what_happened_and_refuses_what_cannot_be() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let primary = settled.primary.name.clone();
    let target = settled.replicas[1].name.clone();

    for (wanted, reason) in [
        ("valkey/9", "not a unit of this application"),
        ("other/0", "not a unit of this application"),
        (primary.as_str(), "is the primary already"),
    ] {
        let parameter = format!("target={wanted}");
        refused(&model, &target, "switchover", &[&parameter], reason);
    }
    let leader = model
        .units()
        .into_iter()
        .find(|unit| unit.leader)
        .expect("a leader");
    for unit in model.units() {
        let reason = if unit.name == leader.name {
            "serves, so nothing waits"
        } else {
            "only the leader"
        };
        refused(
            &model,
            &unit.name,
            "confirm-data-source",
            &[&format!("unit={target}")],
            reason,
        );
    }
    let unknown = model.try_juju(&["run", &target, "switchover", "format=xml"]);
    assert!(
        !unknown.status.success() || unknown.stdout.contains("failed"),
        "format=xml: {unknown:?}"
    );
    assert_eq!(model.settled(3, A_UNIT).primary.name, primary);

    // Any unit may be asked, also one that has no part in it.
    let bystander = settled.replicas[0].name.clone();
    let parameter = format!("target={target}");
    let done = ask(&model, &bystander, "switchover", &[&parameter]);
    assert_eq!(done["done"], true, "{done}");
    assert_eq!(done["from"], primary, "{done}");
    assert_eq!(done["to"], target, "{done}");
    assert!(done["pause-ms"].is_u64(), "{done}");
    assert!(
        done["new-offset"].as_u64() >= done["old-offset"].as_u64(),
        "{done}"
    );
    assert_eq!(model.settled(3, A_UNIT).primary.name, target);
    for unit in model.units() {
        let history = ask(&model, &unit.name, "failover-history", &[]);
        assert_eq!(history[0]["to"], target, "{}: {history}", unit.name);
        assert_eq!(history[0]["from"], primary, "{}: {history}", unit.name);
        assert_eq!(history[0]["planned"], true, "{}: {history}", unit.name);
        assert_eq!(history[0]["lost-bytes"], 0, "{}: {history}", unit.name);
    }
}

#[test]
fn trouble_is_named_and_what_would_make_it_worse_is_refused() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let primary = settled.primary.name.clone();
    let [one, other] = &settled.replicas[..] else {
        panic!("{settled:?}")
    };

    model.handle(&["freeze", &other.name]);
    let target = format!("target={}", other.name);
    refused(
        &model,
        &primary,
        "switchover",
        &[&target],
        "does not answer",
    );
    let degraded = verdict(&model, &primary, "DEGRADED");
    assert_eq!(degraded["margin"]["may-be-lost"], 0, "{degraded}");
    assert_eq!(exit_status(&model, &primary), "1");
    let removal = ask(&model, &one.name, "pre-check", &["operation=remove"]);
    assert_eq!(removal["safe"], false, "{removal}");
    assert!(removal.to_string().contains(&other.name), "{removal}");

    model.handle(&["freeze", &one.name]);
    model.wait_until("verify says FAIL", NOTICED, || {
        let verdict = model.run(&primary, "verify", &["format=json"]);
        if !verdict.completed() && verdict.message.starts_with("FAIL: ") {
            Ok(())
        } else {
            Err(verdict.all())
        }
    });
    assert_eq!(exit_status(&model, &primary), "2");
    refused(&model, &primary, "switchover", &[], "does not answer");
    for unit in [one, other] {
        model.handle(&["thaw", &unit.name]);
    }
    model.settled(3, A_UNIT * 2);
    verdict(&model, &primary, "OK");
}

#[test]
fn after_an_outage_a_person_goes_on_with_the_unit_that_is_left() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let primary = settled.primary;
    let chosen = settled.replicas[0].name.clone();
    let mut wire = model.server(primary.address).expect("the primary");
    let set = wire
        .call(&["SET", "kept", "through the outage"])
        .expect("an answer");
    assert_eq!(set.text().as_deref(), Some("OK"));
    let waited = wire
        .call(&["WAITAOF", "1", "2", "1500"])
        .expect("an answer");
    let on_disk: Vec<Option<String>> = waited
        .list()
        .iter()
        .map(support::wire::Reply::text)
        .collect();
    let expected = ["1", "2"].map(|count| Some(count.to_owned()));
    assert_eq!(on_disk, expected, "it is on every disk: {waited}");

    for unit in model.units() {
        model.handle(&["kill", &unit.name]);
    }
    model.handle(&["reboot", &chosen]);
    model.handle(&["leader", &chosen]);
    model.wait_until("the unit waits for the others", NOTICED, || {
        let unit = model.unit(&chosen);
        if unit.workload == "waiting" && unit.message.contains("Sentinels") {
            Ok(())
        } else {
            Err(format!("{}: {}", unit.workload, unit.message))
        }
    });
    let missing = format!("unit={}", primary.name);
    refused(
        &model,
        &chosen,
        "confirm-data-source",
        &["unit=valkey/9"],
        "not a unit",
    );
    let parameter = format!("unit={chosen}");
    let decided = ask(&model, &chosen, "confirm-data-source", &[&parameter]);
    assert_eq!(decided["result"], "decided", "{decided}");
    let address = model.unit(&chosen).address;
    model.wait_until("it serves the data", NOTICED, || {
        let mut wire = model.server(address).map_err(|error| error.to_string())?;
        let role = wire
            .call(&["ROLE"])
            .map_err(|error| error.to_string())?
            .list()
            .first()
            .and_then(support::wire::Reply::text);
        let kept = wire
            .call(&["GET", "kept"])
            .map_err(|error| error.to_string())?;
        match (role.as_deref(), kept.text().as_deref()) {
            (Some("master"), Some("through the outage")) => Ok(()),
            _ => Err(format!("{role:?}: {kept}")),
        }
    });
    refused(
        &model,
        &chosen,
        "confirm-data-source",
        &[&missing],
        "serves",
    );

    // The former primary comes back first: it follows, whatever it holds.
    model.handle(&["reboot", &primary.name]);
    let third = settled.replicas[1].name.clone();
    model.handle(&["reboot", &third]);
    let after = model.settled(3, A_UNIT * 2);
    assert_eq!(after.primary.name, chosen);
    for unit in model.units() {
        let mut wire = model.server(unit.address).expect("a server");
        let kept = wire.call(&["GET", "kept"]).expect("an answer");
        assert_eq!(kept.text().as_deref(), Some("through the outage"));
    }
}

#[test]
fn a_unit_that_is_left_after_a_majority_was_removed_by_force_is_chosen() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let chosen = settled.replicas[0].name.clone();
    let lost = [&settled.primary.name, &settled.replicas[1].name];
    for unit in lost {
        model.handle(&["kill", unit]);
    }
    model.handle(&["leader", &chosen]);
    for unit in lost {
        model.force_remove(unit);
    }
    let parameter = format!("unit={chosen}");
    let promoted = model.wait_until("the order is taken", NOTICED, || {
        let ended = model.run(&chosen, "confirm-data-source", &[&parameter, "format=json"]);
        if ended.completed() {
            Ok(document(&ended))
        } else {
            Err(ended.all())
        }
    });
    assert!(
        ["promoted", "decided"].contains(&promoted["result"].as_str().unwrap_or_default()),
        "{promoted}"
    );
    assert_eq!(model.settled(1, A_UNIT).primary.name, chosen);
    verdict(&model, &chosen, "DEGRADED");
}
