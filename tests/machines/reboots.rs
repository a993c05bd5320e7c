//! Reboots: one machine, the primary's, all at once, with old and with new addresses.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    support::{model::Unit, oracles},
    world::{BY_ITSELF, IN_FLIGHT, World, service_of},
};

/// Longest that writes may stand still while a primary whose machine goes down hands over; detection
/// alone would take five seconds.
const HANDED_OVER: Duration = Duration::from_secs(3);
/// Longest until a replica that came up without Juju can be promoted, on a busy machine.
const PROMOTABLE: Duration = Duration::from_secs(40);

#[test]
fn the_primarys_machine_reboots_in_order_and_hands_over_before_it_goes_down() {
    let mut world = World::new(3);
    let primary = world.settled(3).primary;
    world.machines.shut_down_next(&primary.name);
    let started = Instant::now();
    world.reboot_without_agents(&[&primary.name], |world| {
        world.serves(&primary, BY_ITSELF);
        world.writers().flowing(&world.model);
        let gap = world.writers().longest_gap(started);
        println!("writes stood still for {gap:?}");
        assert!(gap < HANDED_OVER, "{gap:?}{}", world.journal(&primary.name));
        // A replica again, from what it saved; and promotable although no hook has come.
        let now = &oracles::primaries(&world.model)[..];
        assert!(now.len() == 1 && now[0].name != primary.name, "{now:?}");
        world.promotable(&primary, PROMOTABLE);
    });
    let settled = world.settled(3);
    // What was decided before and after the reboot, without a hook.
    let said = [
        "The machine goes down",
        "The server may start",
        "The server may be promoted",
    ];
    world.juju_is_told(&primary, &said);
    // The new primary has copied to nobody as a whole: what was saved is gone on with.
    assert_eq!(world.full_copies(), 0, "{}", world.journal(&primary.name));
    world.verify(&settled.primary).expect_nothing_lost();
}

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
        let primaries = oracles::primaries(&world.model);
        assert_eq!(primaries.len(), 1, "{primaries:?}");
        world.writers().flowing(&world.model);
        // Nobody but Juju is missing: the primary may be lost all the same.
        for unit in before.replicas.iter().chain([&before.primary]) {
            if unit.name != primaries[0].name {
                world.promotable(unit, PROMOTABLE);
            }
        }
        world.kill_service(&primaries[0].name, "server");
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
        .expect_lost_at_most(3 * IN_FLIGHT);
}

#[test]
fn machines_that_swap_their_addresses_wait_for_juju_and_mix_nothing_up() {
    let mut world = World::new(3);
    let before = world.settled(3);
    let (primary, replica) = (&before.primary, &before.replicas[0]);
    let host = |unit: &Unit| match unit.address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => panic!("{address}"),
    };
    world.machines.readdress(&primary.name, host(replica));
    world.machines.readdress(&replica.name, host(primary));
    let both = [primary.name.as_str(), replica.name.as_str()];
    world.reboot_without_agents(&both, |world| {
        // Neither serves under the other's address, and both say why not.
        for unit in both {
            let journal = format!("journalctl --boot --unit={}", service_of(unit, "server"));
            let said = format!("{journal} | grep 'does not have the address'");
            world.machines.until(unit, &said);
            assert_eq!(world.process(unit, "server"), "0");
        }
    });
    let settled = world.settled(3);
    for (unit, address) in [(primary, replica.address), (replica, primary.address)] {
        assert_eq!(world.model.unit(&unit.name).address, address);
    }
    world
        .verify(&settled.primary)
        .expect_lost_at_most(IN_FLIGHT);
}
