//! A unit's disk is full.

use std::time::Duration;

use crate::{
    report::{Bars, Report, UNIT_LOST},
    support::model::{Unit, number},
    world::World,
};

/// Size of each unit's disk, in MiB: room for the data, a copy, and the margin that copies keep.
const DISK: u32 = 160;

/// Longest until a full disk shows in the unit's status.
const NOTICED: Duration = Duration::from_secs(40);

/// Deploys on small disks and fills up that of the primary or of a replica.
fn filled(case: &'static str, primary: bool) -> (World, Unit) {
    let mut world = World::with_disks(case, 3, Some(DISK));
    let full = if primary {
        world.primary.clone()
    } else {
        world.replicas[0].clone()
    };
    world.begin();
    world.disks[disk_of(&full)].fill();
    (world, full)
}

fn disk_of(unit: &Unit) -> usize {
    usize::try_from(number(&unit.name)).unwrap()
}

/// Waits until a unit says that its disk is full; returns its status.
fn noticed(world: &World, full: &Unit) -> String {
    world
        .model
        .wait_until("the full disk is noticed", NOTICED, || {
            let unit = world.model.unit(&full.name);
            let status = format!("{}: {}", unit.workload, unit.message);
            if unit.message.contains("full") {
                Ok(status)
            } else {
                Err(format!("{} is {status}", unit.name))
            }
        })
}

/// Lets the disk stay full for a while and then be empty; returns what came of it.
fn cleared(mut world: World, full: &Unit, told: &str) -> Report {
    world.last(Duration::from_secs(12));
    world.end();
    world.disks[disk_of(full)].clear();
    let mut report = world.report(3);
    report.note = format!("its status: {told}");
    report
}

#[test]
fn full_disk_of_the_primary() {
    let (world, full) = filled("full_disk_of_the_primary", true);
    let told = noticed(&world, &full);
    world.replaced(&full);
    cleared(world, &full, &told).judge(&Bars {
        lost: Some(0),
        // Sentinel takes a server for dead that refuses its pings.
        gap: Some(UNIT_LOST),
        ..Bars::default()
    });
}

#[test]
fn full_disk_of_a_replica() {
    let (world, full) = filled("full_disk_of_a_replica", false);
    let told = noticed(&world, &full);
    cleared(world, &full, &told).judge(&Bars {
        lost: Some(0),
        gap: Some(Duration::from_secs(1)),
        ..Bars::default()
    });
}
