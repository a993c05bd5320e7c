//! Units come and go with real processes, under writes that never stop.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::time::Instant;

use support::{
    drills::{HANDOVER_GAP, IN_FLIGHT},
    model::{A_UNIT, Model},
    oracles, starts,
    wire::info_field,
    writers::Writers,
};

#[test]
fn growing_under_load_goes_one_by_one_and_loses_nothing() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    starts::one_at_a_time(&model, || {
        model.add_units(2);
        model.settled(5, A_UNIT * 3);
    });
    writers.refresh(&model);
    let primary = oracles::primaries(&model).remove(0);
    writers.expect_nothing_lost(&model, &primary);
}

#[test]
fn shrinking_loses_nothing_when_survivors_learn_it_at_once() {
    shrink("3.6");
}

#[test]
fn shrinking_loses_nothing_when_survivors_learn_it_at_the_end() {
    shrink("4.0");
}

#[test]
fn shrinking_loses_nothing_when_survivors_never_learn_it() {
    shrink("4.0-bug");
}

/// From five units: a replica leaves, the primary leaves, then two at once, the primary among them.
fn shrink(variant: &str) {
    let model = Model::new();
    model.deploy(5, &[]);
    model.handle(&["variant", variant]);
    let settled = model.settled(5, A_UNIT * 5);
    let writers = Writers::start_usual(&model);

    let leaver = settled.replicas[1].name.clone();
    model.remove_units(&[&leaver]);
    let settled = model.settled(4, A_UNIT * 2);
    writers.refresh(&model);
    writers.flowing(&model);

    let started = Instant::now();
    model.remove_units(&[&settled.primary.name]);
    let after = model.settled(3, A_UNIT * 2);
    assert_ne!(after.primary.name, settled.primary.name);
    writers.refresh(&model);
    writers.flowing(&model);
    let gap = writers.longest_gap(started);
    println!("{variant}: writes stood still for {gap:?} while the primary left");
    assert!(
        gap < HANDOVER_GAP,
        "writes stood still for {gap:?} while the primary left"
    );

    model.remove_units(&[&after.primary.name, &after.replicas[0].name]);
    let last = model.settled(1, A_UNIT * 3).primary;
    assert_eq!(last.name, after.replicas[1].name);
    writers.refresh(&model);
    writers.expect_nothing_lost(&model, &last);
}

#[test]
fn three_units_shrink_to_one_at_once() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let settled = model.settled(3, A_UNIT);
    model.remove_units(&[&settled.primary.name, &settled.replicas[0].name]);
    let last = model.settled(1, A_UNIT * 3).primary;
    writers.refresh(&model);
    writers.expect_nothing_lost(&model, &last);
}

#[test]
fn a_lost_primary_is_replaced_and_its_forced_removal_leaves_no_ghost() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let lost = model.settled(3, A_UNIT).primary;
    model.handle(&["kill", &lost.name]);
    model.promoted(&lost);
    writers.flowing(&model);
    model.force_remove(&lost.name);
    model.settled(2, A_UNIT * 2);
    model.add_units(1);
    let settled = model.settled(3, A_UNIT * 2);
    writers.refresh(&model);
    // Nobody planned it: writes that no replica had yet may be gone.
    writers.expect_lost_at_most(IN_FLIGHT, &model, &settled.primary);
}

#[test]
fn storage_that_stayed_comes_back_with_a_new_unit() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let leaver = model.settled(3, A_UNIT).replicas[0].name.clone();
    let storage = model.storage_of(&leaver);
    model.remove_units(&[&leaver]);
    let primary = model.settled(2, A_UNIT * 2).primary;
    let full_copies = || {
        let mut wire = model.server(primary.address).expect("the server answers");
        let info = wire.call(&["INFO", "stats"]).expect("an answer").text();
        info_field(&info.unwrap_or_default(), "sync_full").expect("a count of full copies")
    };
    let before = full_copies();
    model.juju(&["add-unit", "valkey", "--attach-storage", &storage]);
    let settled = model.settled(3, A_UNIT * 2);
    // It went on from where it left.
    assert_eq!(full_copies(), before, "{}", model.describe());
    writers.refresh(&model);
    writers.expect_nothing_lost(&model, &settled.primary);
}

#[test]
fn an_application_goes_away_whole_and_its_data_stays() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let processes: Vec<i32> = model
        .units()
        .iter()
        .flat_map(|unit| {
            [
                model.server_process(unit.address),
                model.sentinel_process(unit.address),
            ]
        })
        .collect();
    drop(writers);
    let started = Instant::now();
    model.juju(&["remove-application", "valkey"]);
    model.wait_until("the application is gone", A_UNIT * 2, || {
        let applications = model.status()["applications"].clone();
        if applications
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
        {
            Ok(())
        } else {
            Err(format!("{} units are left", model.units().len()))
        }
    });
    println!("gone after {:?}", started.elapsed());
    // A number may have been given to somebody else meanwhile; ours work in the model's folder.
    let ours = |process: &i32| {
        std::fs::read_link(format!("/proc/{process}/cwd"))
            .is_ok_and(|folder| folder.starts_with(model.state()))
    };
    let left: Vec<i32> = processes.into_iter().filter(ours).collect();
    assert!(left.is_empty(), "processes were left behind: {left:?}");
}
