//! The primary's disk is full.

use std::time::Duration;

use crate::{report::Bars, support::model::number, world::World};

/// Size of each unit's disk, in MiB: room for the data, a copy, and the margin that copies keep.
const DISK: u32 = 160;

#[test]
fn full_disk_of_the_primary() {
    let mut world = World::with_disks("full_disk_of_the_primary", 3, Some(DISK));
    let full = world.primary.clone();
    let disk = usize::try_from(number(&full.name)).unwrap();
    world.begin();
    world.disks[disk].fill();
    // Somebody is told, or the role goes to a unit that can write.
    let limit = Duration::from_secs(40);
    let told = world
        .model
        .wait_until("the full disk is noticed", limit, || {
            let unit = world.model.unit(&full.name);
            if unit.workload == "active" {
                Err(format!("{} is active: {}", unit.name, unit.message))
            } else {
                Ok(format!("{}: {}", unit.workload, unit.message))
            }
        });
    world.last(Duration::from_secs(15));
    world.end();
    world.disks[disk].clear();
    let mut report = world.report(3);
    report.note = format!("its status: {told}");
    report.judge(&Bars {
        lost: Some(0),
        gap: None,
        ..Bars::default()
    });
}
