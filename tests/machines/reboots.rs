//! Reboots: one machine, the primary's, all at once, with old and with new addresses.

use crate::{
    support::oracles,
    world::{BY_ITSELF, IN_FLIGHT, World},
};

#[test]
fn the_primarys_power_fails_and_its_machine_moves() {
    let mut world = World::new(3);
    let primary = world.settled(3).primary;
    world.reboot_without_agents(&[&primary.name], |world| {
        world.serves(&primary, BY_ITSELF);
        world.writers().flowing(&world.model);
    });
    world.settled(3);

    // A replica and then the primary come back somewhere else; nobody helps.
    for (round, host) in [(0, 50_u8), (1, 51)] {
        let settled = world.settled(3);
        let unit = if round == 0 {
            &settled.replicas[0]
        } else {
            &settled.primary
        };
        world.machines.readdress(&unit.name, host);
        world.machines.shut_down_next(&unit.name);
        world.reboot(&[&unit.name]);
        let after = world.settled(3);
        let address = world.model.unit(&unit.name).address.to_string();
        assert_eq!(address, format!("10.78.0.{host}"), "{after:?}");
    }
    let settled = world.settled(3);
    world
        .verify(&settled.primary)
        .expect_lost_at_most(IN_FLIGHT);
}

#[test]
fn all_machines_lose_their_power_and_come_back_by_themselves() {
    let mut world = World::new(3);
    let before = world.settled(3);
    let names: Vec<String> = world
        .model
        .units()
        .into_iter()
        .map(|unit| unit.name)
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.reboot_without_agents(&names, |world| {
        for unit in before.replicas.iter().chain([&before.primary]) {
            world.serves(unit, BY_ITSELF);
        }
        assert_eq!(oracles::primaries(&world.model).len(), 1);
        world.writers().flowing(&world.model);
    });
    world.settled(3);

    // And once more, to addresses that nobody knows: Juju's agents tell them.
    for (unit, host) in names.iter().zip([60_u8, 61, 62]) {
        world.machines.readdress(unit, host);
    }
    world.reboot(&names);
    let settled = world.settled(3);
    // The log of each server was handed to the system before each acknowledgement.
    world
        .verify(&settled.primary)
        .expect_lost_at_most(2 * IN_FLIGHT);
}
