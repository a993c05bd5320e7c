//! Units come and go on machines, and the role is handed over, under writes that never stop.

use std::time::Instant;

use crate::{
    support::oracles,
    world::{World, service_of},
};

/// Where a charm leaves traces on a machine, apart from the packages that it installed.
const TRACES: [&str; 6] = [
    "etc/systemd",
    "etc/sysctl.d",
    "etc/sysusers.d",
    "etc/tmpfiles.d",
    "usr/local",
    "var/spool",
];

#[test]
fn machines_come_and_go_and_nothing_is_lost_or_left_behind() {
    let mut world = World::new(3);
    for unit in world.model.units() {
        world.expect_services(&unit.name);
    }

    let started = Instant::now();
    world.model.add_units(1);
    let settled = world.settled(4);
    println!("a fourth unit joined within {:?}", started.elapsed());
    world.expect_services("valkey/3");

    let started = Instant::now();
    world.model.switch_over(Some("valkey/3"));
    let gap = {
        world.writers().flowing(&world.model);
        world.writers().longest_gap(started)
    };
    println!("handed over; writes stood still for {gap:?}");
    let moved = world.settled(4);
    assert_eq!(moved.primary.name, "valkey/3");
    assert_ne!(moved.primary.name, settled.primary.name);

    let started = Instant::now();
    world.model.remove_units(&["valkey/3"]);
    let after = world.settled(3);
    println!(
        "the primary left within {:?}; writes stood still for {:?}",
        started.elapsed(),
        world.writers().longest_gap(started)
    );
    let left = world.machines.left_by("valkey/3", &TRACES);
    let ours: Vec<&String> = left
        .iter()
        .filter(|path| path.contains("valkey-3") || path.contains("charmed"))
        .collect();
    assert!(ours.is_empty(), "left behind: {ours:?}");
    let users = world.machines.left_in("valkey/3", "etc/passwd");
    assert!(!users.contains("charmed"), "users left behind: {users}");

    // Another one leaves that is no primary; the last two cannot fail over any more but go on.
    world.model.remove_units(&[&after.replicas[0].name]);
    let last = world.settled(2);
    assert_eq!(oracles::primaries(&world.model).len(), 1);
    world.verify(&last.primary).expect_nothing_lost();
}

#[test]
fn what_is_removed_whole_leaves_no_service() {
    let world = World::new(1);
    world.expect_services("valkey/0");
    world.model.juju(&["remove-application", "valkey"]);
    let left = world.machines.left_by("valkey/0", &TRACES);
    let service = service_of("valkey/0", "server");
    assert!(
        !left.iter().any(|path| path.contains(&service)),
        "left behind: {left:?}"
    );
    let users = world.machines.left_in("valkey/0", "etc/passwd");
    assert!(!users.contains("charmed"), "users left behind: {users}");
}
