//! Services that end without warning: systemd starts them again, the gate decides as what.

use std::time::{Duration, Instant};

use crate::{
    support::model::A_UNIT,
    world::{IN_FLIGHT, SERVICES, World},
};

/// Longest until a service that was killed runs again.
const RESTART: Duration = Duration::from_secs(30);

#[test]
fn killed_services_come_back_and_little_is_lost() {
    let mut world = World::new(3);
    let settled = world.settled(3);

    // Each service of a replica; nobody else may be touched by it.
    let replica = &settled.replicas[0].name;
    for service in SERVICES {
        let before = world.process(replica, service);
        world.kill_service(replica, service);
        let what = format!("the {service} of {replica} runs again");
        world.model.wait_until(&what, RESTART, || {
            let now = world.process(replica, service);
            if now == before || now == "0" {
                Err(format!("process {now}"))
            } else {
                Ok(())
            }
        });
        let after = world.settled(3);
        assert_eq!(after.primary.name, settled.primary.name, "{service}");
        world.expect_services(replica);
    }

    // The primary's server, twice: whoever is primary then.
    for _ in 0..2 {
        let primary = world.settled(3).primary;
        let started = Instant::now();
        world.kill_service(&primary.name, "server");
        world.writers().flowing(&world.model);
        println!(
            "the server of {} was killed; writes stood still for {:?}",
            primary.name,
            world.writers().longest_gap(started)
        );
        world.model.settled(3, A_UNIT * 2);
    }
    let primary = world.settled(3).primary;
    world.expect_services(&primary.name);
    world.verify(&primary).expect_lost_at_most(2 * IN_FLIGHT);
}

#[test]
fn a_machine_that_vanishes_is_replaced_and_comes_back_as_a_replica() {
    let mut world = World::new(3);
    let lost = world.settled(3).primary;
    let started = Instant::now();
    world.model.handle(&["kill", &lost.name]);
    let new = world.replaced(&lost);
    world.writers().flowing(&world.model);
    println!(
        "{} vanished, {} took over; writes stood still for {:?}",
        lost.name,
        new.name,
        world.writers().longest_gap(started)
    );
    world.reboot_without_agents(&[&lost.name], |world| {
        assert_eq!(world.serves(&lost, crate::world::BY_ITSELF), "slave");
    });
    let after = world.settled(3);
    assert_eq!(after.primary.name, new.name);
    world.expect_services(&lost.name);
    world.verify(&after.primary).expect_lost_at_most(IN_FLIGHT);
}
