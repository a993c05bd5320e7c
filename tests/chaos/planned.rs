//! What people order while other things go wrong, and cuts that come and go.

use std::time::Duration;

use crate::{
    net::{How, Way},
    report::{Bars, UNIT_LOST},
    world::World,
};

/// What a planned operation may cost.
const PLANNED: Bars = Bars {
    lost: Some(0),
    gap: Some(Duration::from_secs(1)),
    displaced_for: None,
    displaced_after_heal: None,
    unkept_allowed: false,
    confirmed_allowed: false,
};

#[test]
fn switch_over_while_a_replica_is_cut_off() {
    let mut world = World::new("switch_over_while_a_replica_is_cut_off");
    let cut = world.replicas[0].clone();
    let target = world.replicas[1].clone();
    world.begin();
    world.isolate(&cut, Way::Both, How::Drop);
    world.last(Duration::from_secs(2));
    let order = format!("target={}", target.name);
    let ended = world.model.run("valkey/leader", "switchover", &[&order]);
    world.last(Duration::from_secs(12));
    world.rejoin(&cut);
    let mut report = world.report(3);
    report.note = format!("the action: {}", ended.all());
    report.judge(&PLANNED);
}

#[test]
fn remove_the_primary() {
    let mut world = World::new("remove_the_primary");
    let leaver = world.primary.name.clone();
    world.begin();
    world.model.remove_units(&[&leaver]);
    world.report(2).judge(&PLANNED);
}

#[test]
fn cuts_that_come_and_go() {
    let mut world = World::new("cuts_that_come_and_go");
    let old = world.primary.clone();
    world.begin();
    // Around every time limit: the fence, the detection, and what lies between.
    for (cut, healed) in [
        (800, 500),
        (2500, 700),
        (4500, 300),
        (6000, 1500),
        (300, 300),
    ] {
        world.isolate(&old, Way::Both, How::Drop);
        std::thread::sleep(Duration::from_millis(cut));
        world.rejoin(&old);
        std::thread::sleep(Duration::from_millis(healed));
    }
    world.report(3).judge(&Bars {
        lost: None,
        // Two cuts that are not long enough for a failover add up to more than one that is.
        gap: Some(UNIT_LOST + Duration::from_secs(8)),
        displaced_for: None,
        displaced_after_heal: None,
        unkept_allowed: false,
        confirmed_allowed: false,
    });
}
