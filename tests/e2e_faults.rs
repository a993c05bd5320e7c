//! What nobody planned, with real processes: processes and units die, freeze and come back, in any
//! order, with and without their data, and strangers meddle. Under writes that never stop.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::time::Instant;

use support::{
    drills::{FAILOVER, IN_FLIGHT},
    hooks::kill,
    model::{A_UNIT, Model},
    writers::Writers,
};

/// Waits until the application no longer says that all is well.
fn not_active(model: &Model, what: &str) {
    model.wait_until(&format!("the status tells that {what}"), FAILOVER, || {
        let word =
            model.status()["applications"]["valkey"]["application-status"]["current"].clone();
        let units = model.units();
        if word != "active" || units.iter().any(|unit| unit.workload != "active") {
            Ok(())
        } else {
            Err("everything is active".to_owned())
        }
    });
}

#[test]
fn a_killed_server_of_the_primary_comes_back_or_is_replaced() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    for _ in 0..3 {
        let primary = model.settled(3, A_UNIT).primary;
        let started = Instant::now();
        kill(model.server_process(primary.address));
        writers.flowing(&model);
        println!("writes stood still for {:?}", writers.longest_gap(started));
        model.settled(3, A_UNIT * 2);
    }
    let primary = model.settled(3, A_UNIT).primary;
    writers
        .verify(&model, primary.address)
        .expect_lost_at_most(3 * IN_FLIGHT);
}

#[test]
fn a_killed_server_without_persistence_does_not_take_the_data_along() {
    let model = Model::new();
    model.deploy(3, &[("persistence", "none")]);
    let primary = model.settled(3, A_UNIT * 3).primary;
    let writers = Writers::start_usual(&model);
    kill(model.server_process(primary.address));
    writers.flowing(&model);
    let primary = model.settled(3, A_UNIT * 2).primary;
    writers
        .verify(&model, primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

#[test]
fn a_killed_sentinel_comes_back_as_itself() {
    let model = Model::deployed(3);
    let unit = model.unit("valkey/1");
    let identity = |model: &Model| {
        model
            .sentinel(unit.address)
            .and_then(|mut wire| wire.call(&["SENTINEL", "MYID"]))
            .map(|reply| reply.text())
    };
    let before = identity(&model).expect("the Sentinel answers");
    kill(model.sentinel_process(unit.address));
    model.wait_until("the Sentinel answers again", A_UNIT, || {
        identity(&model)
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
    assert_eq!(identity(&model).expect("the Sentinel answers"), before);
    model.settled(3, A_UNIT);
}

#[test]
fn a_lost_primary_is_replaced_and_returns_as_a_replica() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let lost = model.settled(3, A_UNIT).primary;
    let started = Instant::now();
    model.handle(&["kill", &lost.name]);
    model.promoted(&lost);
    writers.flowing(&model);
    println!("writes stood still for {:?}", writers.longest_gap(started));
    not_active(&model, "a unit is missing");
    model.handle(&["reboot", &lost.name]);
    let settled = model.settled(3, A_UNIT * 2);
    assert_ne!(settled.primary.name, lost.name);
    writers
        .verify(&model, settled.primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

#[test]
fn a_primary_that_lost_its_disk_does_not_wipe_the_others() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let lost = model.settled(3, A_UNIT).primary;
    model.handle(&["reboot", &lost.name, "--lose-disk"]);
    writers.flowing(&model);
    let primary = model.settled(3, A_UNIT * 2).primary;
    writers.expect_lost_at_most(IN_FLIGHT, &model, &primary);
}

#[test]
fn a_lost_leader_does_not_stop_the_others() {
    let model = Model::deployed(3);
    let leader = model
        .units()
        .into_iter()
        .find(|unit| unit.leader)
        .expect("a leader");
    model.handle(&["kill", &leader.name]);
    model.wait_until("another unit leads", A_UNIT * 3, || {
        let units = model.units();
        match units.iter().find(|unit| unit.leader) {
            Some(unit) if unit.name != leader.name => Ok(()),
            other => Err(format!("leader: {:?}", other.map(|unit| &unit.name))),
        }
    });
    model.force_remove(&leader.name);
    model.settled(2, A_UNIT * 2);
    model.add_units(1);
    model.settled(3, A_UNIT * 2);
}

#[test]
fn all_die_at_once_and_come_back_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0]] {
        let model = Model::deployed(3);
        let writers = Writers::start_usual(&model);
        // The primary is not unit 0, so that no rule of thumb finds it.
        let primary = model.settled(3, A_UNIT).primary.name;
        if primary == "valkey/0" {
            model.switch_over(Some("valkey/1"));
            model.settled(3, A_UNIT);
        }
        writers.flowing(&model);
        for unit in model.units() {
            model.handle(&["kill", &unit.name]);
        }
        for unit in order {
            model.handle(&["reboot", &format!("valkey/{unit}")]);
        }
        let settled = model.settled(3, A_UNIT * 3);
        // The log of each server was handed to the system before each acknowledgement.
        writers.expect_lost_at_most(IN_FLIGHT, &model, &settled.primary);
    }
}

#[test]
fn two_of_three_lost_means_no_writes_until_one_returns() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    for replica in &settled.replicas {
        model.handle(&["kill", &replica.name]);
    }
    model.wait_until("the lonely primary refuses writes", FAILOVER, || {
        let mut wire = model
            .server(settled.primary.address)
            .map_err(|error| error.to_string())?;
        match wire
            .call(&["SET", "lonely", "1"])
            .map_err(|error| error.to_string())?
        {
            support::wire::Reply::Refused(reason) if reason.starts_with("NOREPLICAS") => Ok(()),
            other => Err(format!("it answers {other}")),
        }
    });
    not_active(&model, "two units are missing");
    for replica in &settled.replicas {
        model.handle(&["reboot", &replica.name]);
    }
    let after = model.settled(3, A_UNIT * 2);
    Writers::start_usual(&model)
        .verify(&model, after.primary.address)
        .expect_nothing_lost();
}

#[test]
fn a_unit_leaves_although_another_is_dead() {
    let model = Model::new();
    model.deploy(5, &[]);
    let settled = model.settled(5, A_UNIT * 5);
    let writers = Writers::start_usual(&model);
    let (dead, leaver) = (&settled.replicas[0].name, &settled.primary.name);
    model.handle(&["kill", dead]);
    model.remove_units(&[leaver]);
    model.wait_until("the unit has left", A_UNIT * 2, || {
        if model.units().iter().any(|unit| unit.name == *leaver) {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    });
    writers.refresh(&model);
    writers.flowing(&model);
    model.force_remove(dead);
    let after = model.settled(3, A_UNIT * 2);
    writers.refresh(&model);
    writers.expect_nothing_lost(&model, &after.primary);
}

#[test]
fn a_rogue_primary_is_brought_back_into_line() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let writers = Writers::start_usual(&model);
    let rogue = &settled.replicas[0];
    let mut wire = model.server(rogue.address).expect("the replica answers");
    let mut call = |command: &[&str]| {
        let reply = wire.call(command).expect("the replica answers");
        assert_eq!(reply.text().as_deref(), Some("OK"), "{command:?}");
    };
    call(&["REPLICAOF", "NO", "ONE"]);
    // A client that found it as a primary and stays.
    call(&[
        "ACL", "SETUSER", "stays", "reset", "on", ">stays", "~*", "+@all",
    ]);
    call(&["AUTH", "stays", "stays"]);
    let after = model.settled(3, A_UNIT * 2);
    assert_eq!(
        after.primary.name, settled.primary.name,
        "the elected primary stays"
    );
    let sent_away = wire.call(&["PING"]);
    assert!(
        sent_away.is_err(),
        "a client stays on what is no primary any more: {sent_away:?}"
    );
    writers
        .verify(&model, after.primary.address)
        .expect_nothing_lost();
}

#[test]
fn sentinels_that_were_all_reset_find_each_other_again() {
    let model = Model::deployed(3);
    for unit in model.units() {
        let mut wire = model.sentinel(unit.address).expect("the Sentinel answers");
        wire.call(&["SENTINEL", "RESET", "primary"])
            .expect("the Sentinel answers");
    }
    model.settled(3, A_UNIT);
}

#[test]
fn a_crash_of_the_agents_does_not_touch_the_data() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    model.add_units(1);
    model.crash_engine();
    let started = Instant::now();
    let settled = model.settled(4, A_UNIT * 2);
    println!("settled after {:?}", started.elapsed());
    writers
        .verify(&model, settled.primary.address)
        .expect_nothing_lost();
}

#[test]
fn stopped_whole_and_resumed_from_the_storage_that_stayed() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let storages: Vec<String> = model.status()["storage"]["storage"]
        .as_object()
        .map(|storages| storages.keys().cloned().collect())
        .unwrap_or_default();
    assert_eq!(storages.len(), 3, "each unit has its storage");
    let units: Vec<String> = model.units().into_iter().map(|unit| unit.name).collect();
    model.remove_units(&units.iter().map(String::as_str).collect::<Vec<_>>());
    model.wait_until("all units are gone", A_UNIT * 2, || {
        if model.units().is_empty() {
            Ok(())
        } else {
            Err(format!("{} units are left", model.units().len()))
        }
    });
    for storage in &storages {
        model.juju(&["add-unit", "valkey", "--attach-storage", storage]);
    }
    let settled = model.settled(3, A_UNIT * 3);
    writers.refresh(&model);
    writers.expect_nothing_lost(&model, &settled.primary);
}
