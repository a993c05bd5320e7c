//! Storage moves between machines.

use crate::{support::model::A_UNIT, world::World};

#[test]
fn storage_of_a_removed_unit_serves_on_another_machine() {
    let mut world = World::new(3);
    let leaver = world.settled(3).replicas[0].name.clone();
    let storage = world.model.storage_of(&leaver);
    world.model.remove_units(&[&leaver]);
    world.settled(2);
    // On the machine of unit 3 the users have other numbers.
    world
        .model
        .juju(&["add-unit", "valkey", "--attach-storage", &storage]);
    let settled = world.settled(3);
    world.expect_services("valkey/3");
    assert_eq!(world.model.storage_of("valkey/3"), storage);
    world.verify(&settled.primary).expect_nothing_lost();
}

#[test]
fn detached_storage_stops_the_server_in_order_and_attached_it_serves_again() {
    let mut world = World::new(3);
    let unit = world.settled(3).replicas[0].clone();
    let storage = world.model.storage_of(&unit.name);
    world.model.juju(&["detach-storage", &storage]);
    world
        .model
        .wait_until("the storage is detached", A_UNIT, || {
            let storages = &world.model.status()["storage"]["storage"];
            let units = &storages[&storage]["attachments"]["units"];
            if units.get(&unit.name).is_none() {
                Ok(())
            } else {
                Err(units.to_string())
            }
        });
    assert_eq!(world.process(&unit.name, "server"), "0");
    world.writers().flowing(&world.model);
    let detached = world.model.unit(&unit.name);
    assert_eq!(
        (detached.workload.as_str(), detached.message.as_str()),
        (
            "blocked",
            "storage detached: attach storage to run again, or remove the unit"
        ),
        "{detached:?}"
    );
    world.model.juju(&["attach-storage", &unit.name, &storage]);
    let settled = world.settled(3);
    world.expect_services(&unit.name);
    world.verify(&settled.primary).expect_nothing_lost();
}
