//! Releases of distributions other than this system's own, each with its own systemd and its own
//! packages of Valkey.

use std::time::Instant;

use crate::{
    machines::Machines,
    support::oracles,
    world::{BY_ITSELF, World},
};

#[test]
fn debian_13_runs_what_debian_12_does() {
    let mut world = World::on(Machines::with_release(Some("debian-trixie")), 3);
    let on = |command: &str| world.machines.on("valkey/0", command);
    assert_eq!(on(". /etc/os-release; echo $VERSION_ID"), "13\n");
    println!("{}", on("systemctl --version | head -n 1").trim());
    // From its own packages, without another suite.
    let package = on("dpkg-query --show --showformat='${Version}' valkey-server");
    let version = on("valkey-server --version");
    println!("{package}: {}", version.trim());
    assert!(package.contains("deb13"), "{package}");
    assert!(!on("ls /etc/apt/sources.list.d").contains("valkey"));
    for unit in world.model.units() {
        world.expect_services(&unit.name);
    }

    let started = Instant::now();
    world.model.add_units(1);
    world.settled(4);
    world.expect_services("valkey/3");
    println!("a fourth unit joined within {:?}", started.elapsed());

    let started = Instant::now();
    world.model.switch_over(Some("valkey/3"));
    let primary = world.settled(4).primary;
    assert_eq!(primary.name, "valkey/3");
    println!(
        "handed over; writes stood still for {:?}",
        world.writers().longest_gap(started)
    );

    // Its systemd shuts down in order, and brings everything up again by itself.
    let before = world.full_copies();
    let started = Instant::now();
    world.machines.shut_down_next(&primary.name);
    world.reboot_without_agents(&[&primary.name], |world| {
        world.serves(&primary, BY_ITSELF);
        world.writers().flowing(&world.model);
        println!(
            "rebooted; writes stood still for {:?}",
            world.writers().longest_gap(started)
        );
        let now = &oracles::primaries(&world.model)[..];
        assert!(now.len() == 1 && now[0].name != primary.name, "{now:?}");
    });
    world.settled(4);
    assert_eq!(
        world.full_copies(),
        before,
        "only what was missed: {}",
        world.journal(&primary.name)
    );

    world.model.remove_units(&[&primary.name]);
    let settled = world.settled(3);
    world.verify(&settled.primary).expect_nothing_lost();
}
