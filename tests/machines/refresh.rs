//! A refresh on machines: services of systemd are restarted one after another, under writes.

use std::time::Instant;

use crate::{
    support::{
        charm,
        model::{A_UNIT, APPLICATION},
        oracles,
    },
    world::World,
};

#[test]
fn a_refresh_restarts_services_in_turn_and_copies_nothing() {
    let mut world = World::new(3);
    let before = world.settled(3);
    let server = |world: &World, unit: &str| world.process(unit, "server");
    let units = world.model.units();
    let servers: Vec<String> = units.iter().map(|it| server(&world, &it.name)).collect();
    let watchers: Vec<String> = units
        .iter()
        .map(|it| world.process(&it.name, "watch"))
        .collect();
    let path = charm::folder().to_str().expect("a path in UTF-8");

    // Another charm alone restarts nothing but the watchers.
    world.model.juju(&["refresh", APPLICATION, "--path", path]);
    world
        .model
        .wait_until("the watchers are those of the new charm", A_UNIT, || {
            for (unit, old) in units.iter().zip(&watchers) {
                let runs = world.process(&unit.name, "watch");
                if runs == *old || runs == "0" {
                    return Err(format!("{} watches as {runs}", unit.name));
                }
            }
            Ok(())
        });
    world.settled(3);
    let now: Vec<String> = units.iter().map(|it| server(&world, &it.name)).collect();
    assert_eq!(now, servers, "no server was restarted");

    // With a setting that is read at start, all go round, the primary last.
    let started = Instant::now();
    world.model.configure(&[("databases", "32")]);
    world.model.juju(&["refresh", APPLICATION, "--path", path]);
    world
        .model
        .wait_until("the servers have 32 databases", A_UNIT * 4, || {
            for unit in world.model.units() {
                let value = oracles::setting(&world.model, &unit, "databases")?;
                if value != "32" {
                    return Err(format!("{}: databases is {value}", unit.name));
                }
            }
            Ok(())
        });
    let settled = world.settled(3);
    println!(
        "refreshed within {:?}; writes stood still for {:?}",
        started.elapsed(),
        world.writers().longest_gap(started)
    );
    assert_ne!(settled.primary.name, before.primary.name);
    assert_eq!(world.full_copies(), 0, "replicas got what they missed");
    for unit in &units {
        world.expect_services(&unit.name);
    }
    world.verify(&settled.primary).expect_nothing_lost();
}
