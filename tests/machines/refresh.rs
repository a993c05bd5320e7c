//! A refresh on machines: services of systemd are restarted one after another, under writes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    machines::Machines,
    support::{
        charm, hooks,
        model::{A_UNIT, APPLICATION, Unit, newest_server},
        oracles,
        rolling::{self, Story, WHOLE_COPY, all_run, newest_version},
        wire::info_field,
    },
    world::{BY_ITSELF, World, service_of},
};

/// Longest that writes may stand still when the role goes round; detection alone would take five seconds.
const HANDED_OVER: Duration = Duration::from_secs(3);

/// Builds the package anew: the version is the same, the file is another one.
const REBUILD: &str = "
cp --dereference /usr/bin/valkey-server /usr/bin/.new
printf ' built again' >>/usr/bin/.new
mv /usr/bin/.new /usr/bin/valkey-server
valkey-server --version
";

/// Watches the servers while `body` runs.
fn watched(world: &World, body: impl FnOnce()) -> Story {
    let log = |unit: &Unit| {
        let server = service_of(&unit.name, "server");
        let lines = format!("journalctl --unit={server} | grep '{WHOLE_COPY}' || true");
        world.machines.on(&unit.name, &lines)
    };
    rolling::watched_with(&world.model, log, body).1
}

/// Returns the main processes of the units' servers and Sentinels.
fn processes(world: &World) -> BTreeMap<(String, &'static str), String> {
    let mut found = BTreeMap::new();
    for unit in world.model.units() {
        for service in ["server", "sentinel"] {
            let process = world.process(&unit.name, service);
            found.insert((unit.name.clone(), service), process);
        }
    }
    found
}

/// Lets every unit look, and waits until all servers and Sentinels are other processes than before.
fn all_restart(world: &World) {
    let before = processes(world);
    for unit in world.model.units() {
        hooks::hook(&world.model, &unit.name);
    }
    let what = "all servers and Sentinels are other processes";
    world.model.wait_until(what, A_UNIT * 4, || {
        match processes(world)
            .into_iter()
            .find(|(service, now)| now == "0" || before.get(service) == Some(now))
        {
            None => Ok(()),
            Some(((unit, service), _)) => Err(format!("{service} of {unit} has not restarted")),
        }
    });
}

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
    world.verify(&settled.primary).expect_nothing_lost();
}

#[test]
fn a_package_built_anew_as_the_same_version_goes_round_replicas_first() {
    let mut world = World::new(3);
    let primary = world.settled(3).primary;
    let units = world.model.units();
    let versions: Vec<String> = units
        .iter()
        .map(|unit| world.machines.on(&unit.name, REBUILD))
        .collect();
    println!("{}", versions[0].trim());
    let started = Instant::now();
    let story = watched(&world, || {
        all_restart(&world);
        world.settled(3);
    });
    let gap = world.writers().longest_gap(started);
    println!("{:?}; writes stood still for {gap:?}", story.order());
    story.expect_rolled(3, &primary.name);
    assert!(gap < HANDED_OVER, "{gap:?}");
    // What runs is what is there; and it is not taken for something new again.
    let now = processes(&world);
    for ((unit, service), process) in &now {
        let runs = format!("readlink /proc/{process}/exe");
        let runs = world.machines.on(unit, &runs);
        assert_eq!(runs.trim(), "/usr/bin/valkey-server", "{service} of {unit}");
        hooks::hook(&world.model, unit);
    }
    let settled = world.settled(3);
    assert_eq!(processes(&world), now, "nothing restarts once more");
    for unit in &units {
        world.expect_services(&unit.name);
    }
    world.verify(&settled.primary).expect_nothing_lost();
}

#[test]
fn another_version_from_a_resource_goes_round_replicas_first_and_loses_nothing() {
    // Its libraries are those of Debian 13.
    let mut world = World::on(Machines::with_release(Some("debian-trixie")), 3);
    let primary = world.settled(3).primary;
    let newest = newest_version();
    let program = newest_server().with_file_name("bin").join("valkey-server");
    let resource = format!("valkey-server={}", program.display());
    let path = charm::folder().to_str().expect("a path in UTF-8");
    let before = world.machines.on(&primary.name, "valkey-server --version");
    let started = Instant::now();
    let story = watched(&world, || {
        world.model.juju(&[
            "refresh",
            APPLICATION,
            "--path",
            path,
            "--resource",
            &resource,
        ]);
        all_run(&world.model, &newest);
        world.settled(3);
    });
    let gap = world.writers().longest_gap(started);
    println!(
        "{} to {newest} within {:?}: {:?}; writes stood still for {gap:?}",
        before.split_whitespace().nth(2).unwrap_or_default(),
        started.elapsed(),
        story.order()
    );
    story.expect_rolled(3, &primary.name);
    assert!(story.restarts.iter().all(|it| it.version == newest));
    assert!(gap < HANDED_OVER, "{gap:?}");
    for unit in world.model.units() {
        world.expect_services(&unit.name);
    }

    // It stays after a reboot, when systemd starts it and no hook does.
    let unit = world.settled(3).replicas.swap_remove(0);
    world.machines.shut_down_next(&unit.name);
    world.reboot_without_agents(&[&unit.name], |world| {
        assert_eq!(world.serves(&unit, BY_ITSELF), "slave");
        let info = world
            .model
            .server(unit.address)
            .and_then(|mut wire| wire.call(&["INFO", "server"]));
        let info = info.expect("it answers").text().unwrap_or_default();
        assert_eq!(info_field(&info, "valkey_version"), Some(newest.clone()));
    });
    let settled = world.settled(3);
    world.verify(&settled.primary).expect_nothing_lost();
}
