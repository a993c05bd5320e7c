//! Scenarios of `docs/guarantees.md` that need whole units with real processes, and that no other test has.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use support::{
    drills::IN_FLIGHT,
    model::{A_UNIT, Model, Unit},
    writers::Writers,
};

fn tell(model: &Model, unit: &Unit, command: &[&str]) {
    let mut wire = model.server(unit.address).expect("the server answers");
    let reply = wire.call(command).expect("the server answers");
    assert_eq!(reply.text().as_deref(), Some("OK"), "{command:?}");
}

/// Kills the primary's unit, waits for another primary, and brings the unit back: the drill that shows that a
/// failover works.
fn drill(model: &Model, writers: &Writers) {
    let lost = model.settled(3, A_UNIT).primary;
    model.handle(&["kill", &lost.name]);
    model.promoted(&lost);
    writers.flowing(model);
    model.handle(&["reboot", &lost.name]);
    model.settled(3, A_UNIT * 2);
}

#[test]
fn replicas_told_to_follow_a_stranger_or_themselves_are_set_right() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let writers = Writers::start_usual(&model);
    // One follows itself, as after an address that leaked; then the other a host that is nobody's.
    let own = settled.replicas[0].address.to_string();
    tell(&model, &settled.replicas[0], &["REPLICAOF", &own, "6379"]);
    let after = model.settled(3, A_UNIT * 2);
    assert_eq!(after.primary.name, settled.primary.name);
    let nobody = format!(
        "{}.254",
        own.rsplit_once('.')
            .map_or("127.0.0", |(network, _)| network)
    );
    tell(
        &model,
        &settled.replicas[1],
        &["REPLICAOF", &nobody, "6379"],
    );
    let after = model.settled(3, A_UNIT * 2);
    assert_eq!(
        after.primary.name, settled.primary.name,
        "the elected primary stays"
    );
    writers
        .verify(&model, after.primary.address)
        .expect_nothing_lost();
}

#[test]
fn sentinels_without_a_monitor_are_taught_everything_again() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let before = model.settled(3, A_UNIT);
    for unit in model.units() {
        let mut wire = model.sentinel(unit.address).expect("the Sentinel answers");
        let reply = wire.call(&["SENTINEL", "REMOVE", "primary"]);
        assert_eq!(
            reply.expect("the Sentinel answers").text().as_deref(),
            Some("OK")
        );
    }
    let after = model.settled(3, A_UNIT * 3);
    assert_eq!(
        after.primary.name, before.primary.name,
        "nobody is elected for that"
    );
    writers
        .verify(&model, after.primary.address)
        .expect_nothing_lost();
    // With credentials, times and all: a failover works.
    for unit in model.units() {
        let mut wire = model.sentinel(unit.address).expect("the Sentinel answers");
        let view = wire
            .call(&["SENTINEL", "MASTER", "primary"])
            .expect("the Sentinel answers");
        for (name, wanted) in [
            ("down-after-milliseconds", "5000"),
            ("failover-timeout", "10000"),
            ("parallel-syncs", "16"),
        ] {
            assert_eq!(
                view.field(name).as_deref(),
                Some(wanted),
                "{name} of {}",
                unit.name
            );
        }
    }
    let writers = Writers::start_usual(&model);
    drill(&model, &writers);
    let last = model.settled(3, A_UNIT);
    writers
        .verify(&model, last.primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

#[test]
fn a_second_hand_over_right_after_a_failover_works_or_says_why_not() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    drill(&model, &writers);
    // Sentinel's own way would refuse for twice the time limit of a failover, silently.
    for _ in 0..3 {
        let settled = model.settled(3, A_UNIT * 2);
        let target = settled.replicas[0].name.clone();
        model.switch_over(Some(&target));
        let after = model.settled(3, A_UNIT);
        assert_eq!(after.primary.name, target);
        writers.flowing(&model);
    }
    let last = model.settled(3, A_UNIT);
    writers
        .verify(&model, last.primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

/// The role is a state, not a setting: no file of a unit makes it the primary or a replica for good.
#[test]
fn no_unit_is_the_primary_by_its_files() {
    let model = Model::deployed(3);
    let first = model.settled(3, A_UNIT);
    let target = first.replicas[0].name.clone();
    model.switch_over(Some(&target));
    let writers = Writers::start_usual(&model);
    let switched = model.settled(3, A_UNIT);
    assert_eq!(switched.primary.name, target);
    // The first primary's machine reboots, and then the new one's.
    for unit in [&first.primary.name, &target] {
        model.handle(&["reboot", unit]);
        writers.flowing(&model);
        let settled = model.settled(3, A_UNIT * 2);
        if *unit == first.primary.name {
            assert_eq!(settled.primary.name, target, "it comes back as a replica");
        }
    }
    let last = model.settled(3, A_UNIT).primary;
    tell(&model, &last, &["SET", "last", "1"]);
}
