//! Storage that was away: what comes of it, and what is refused.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod support;

use support::{
    model::{A_UNIT, Model},
    writers::Writers,
};

/// Says what a unit of any application shows.
fn shown(model: &Model, application: &str, unit: &str) -> (String, String) {
    let status = &model.status()["applications"][application]["units"][unit]["workload-status"];
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    (text("current"), text("message"))
}

#[test]
fn detached_storage_is_shown_with_what_to_do_and_serves_again_when_it_is_back() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    model.settled(3, A_UNIT);
    // The leader's, so that nobody else tells how the application is.
    let leader = model.units().into_iter().find(|unit| unit.leader);
    let unit = leader.expect("a leader").name;
    let storage = model.storage_of(&unit);
    model.juju(&["detach-storage", &storage]);
    model.wait_until("the status tells what to do", A_UNIT, || {
        let found = shown(&model, "valkey", &unit);
        let (word, message) = (found.0.as_str(), found.1.as_str());
        let of_all = &model.status()["applications"]["valkey"]["application-status"]["message"];
        let of_all = of_all.as_str().unwrap_or_default();
        if word == "blocked"
            && message.contains("attach storage to run again")
            && of_all.contains("2 of 3 units are members")
        {
            Ok(())
        } else {
            Err(format!("{word}: {message}; all: {of_all}"))
        }
    });
    writers.flowing(&model);
    model.juju(&["attach-storage", &unit, &storage]);
    let settled = model.settled(3, A_UNIT * 2);
    writers
        .verify(&model, settled.primary.address)
        .expect_nothing_lost();
}

#[test]
fn storage_of_another_deployment_is_refused_and_nothing_in_it_changes() {
    let model = Model::deployed(1);
    // Another application of the same charm, with data of its own.
    model.deploy_as("other", 1, &[]);
    model.wait_until("the other application serves", A_UNIT, || {
        let (word, message) = shown(&model, "other", "other/0");
        if word == "active" {
            Ok(())
        } else {
            Err(format!("{word}: {message}"))
        }
    });
    let primary = model.settled(1, A_UNIT).primary;
    let set = |key: &str| {
        let mut wire = model.server(primary.address).expect("the server answers");
        wire.call(&["SET", key, "here"]).unwrap();
    };
    set("before");
    let storage = model.storage_of("other/0");
    model.juju(&["remove-unit", "other/0"]);
    model.wait_until("the other unit is gone", A_UNIT, || {
        let units = &model.status()["applications"]["other"]["units"];
        if units.as_object().is_none_or(serde_json::Map::is_empty) {
            Ok(())
        } else {
            Err(units.to_string())
        }
    });
    let folder = model
        .state()
        .join("storage")
        .join(storage.replace('/', "-"));
    let mark = std::fs::read(folder.join("identity.json")).expect("a mark beside the data");
    model.juju(&["add-unit", "valkey", "--attach-storage", &storage]);
    model.wait_until("the storage is refused", A_UNIT, || {
        let (word, message) = shown(&model, "valkey", "valkey/1");
        if word == "blocked" && message.contains("the storage holds foreign data") {
            Ok(())
        } else {
            Err(format!("{word}: {message}"))
        }
    });
    assert_eq!(std::fs::read(folder.join("identity.json")).unwrap(), mark);
    // Nobody else is kept from anything.
    set("after");
}

#[test]
fn nobody_begins_with_nothing_while_the_data_is_on_a_storage_that_went() {
    let model = Model::deployed(1);
    let primary = model.settled(1, A_UNIT).primary;
    let mut wire = model.server(primary.address).expect("the server answers");
    wire.call(&["SET", "kept", "here"]).unwrap();
    drop(wire);
    let storage = model.storage_of(&primary.name);
    model.juju(&["detach-storage", &storage]);
    model.wait_until("the storage is away", A_UNIT, || {
        let (word, message) = shown(&model, "valkey", &primary.name);
        (message.contains("storage detached"))
            .then_some(())
            .ok_or(format!("{word}: {message}"))
    });
    model.juju(&["add-unit", "valkey"]);
    model.wait_until("the new unit waits for the old one", A_UNIT, || {
        let (word, message) = shown(&model, "valkey", "valkey/1");
        (word == "waiting")
            .then_some(())
            .ok_or(format!("{word}: {message}"))
    });
    model.juju(&["remove-unit", &primary.name]);
    model.wait_until(
        "the new unit says whose storage has the data",
        A_UNIT,
        || {
            let (word, message) = shown(&model, "valkey", "valkey/1");
            (word == "blocked" && message.contains(&format!("storage of {}", primary.name)))
                .then_some(())
                .ok_or(format!("{word}: {message}"))
        },
    );
    model.juju(&["add-unit", "valkey", "--attach-storage", &storage]);
    let settled = model.settled(2, A_UNIT * 2);
    let mut wire = model.server(settled.primary.address).expect("it answers");
    let kept = wire.call(&["GET", "kept"]).unwrap();
    assert_eq!(kept.text().as_deref(), Some("here"));
}
