//! The units of systemd that the charm writes, after it was upgraded and when something hangs.

use std::time::Duration;

use crate::{
    support::model::{A_UNIT, APPLICATION},
    world::{SERVICES, World, archive, service_of},
};

const UNIT: &str = "valkey/0";
/// Longest until systemd has started a watcher again that hangs: its patience is a minute.
const NOTICED: Duration = Duration::from_secs(120);

#[test]
fn an_upgrade_writes_units_anew_and_restarts_nothing_and_a_watcher_that_hangs_begins_again() {
    let mut world = World::new(1);
    let settled = world.settled(1);
    let before = world.process(UNIT, "server");

    // As an older version may have written them.
    let files: Vec<String> = SERVICES
        .iter()
        .map(|service| format!("/etc/systemd/system/{}", service_of(UNIT, service)))
        .collect();
    let files = files.join(" ");
    world.machines.on(
        UNIT,
        &format!(
            "sed -i 's/^TimeoutStopSec=.*/TimeoutStopSec=7/' {files} && systemctl daemon-reload"
        ),
    );
    let limit = format!(
        "systemctl show --property=TimeoutStopUSec --value {}",
        service_of(UNIT, "server")
    );
    assert_eq!(world.machines.on(UNIT, &limit), "7s\n");
    let charm = archive();
    let charm = charm.to_str().expect("a path of text");
    world.model.juju(&["refresh", APPLICATION, "--path", charm]);
    world
        .model
        .wait_until("the units are written anew", A_UNIT, || {
            let older = format!("grep -l '^TimeoutStopSec=7$' {files}");
            match world.machines.try_on(UNIT, &older) {
                Err(_) => Ok(()),
                Ok(older) => Err(older),
            }
        });
    // It counts at once, and the server runs on.
    assert_eq!(world.machines.on(UNIT, &limit), "5min 30s\n");
    world.settled(1);
    assert_eq!(world.process(UNIT, "server"), before);
    world.expect_services(UNIT);

    let watcher = world.process(UNIT, "watch");
    world
        .machines
        .on(UNIT, &format!("pkill -STOP -P {watcher}"));
    world
        .model
        .wait_until("the watcher begins again", NOTICED, || {
            let now = world.process(UNIT, "watch");
            if now == watcher || now == "0" {
                Err(format!("process {now}"))
            } else {
                Ok(())
            }
        });
    world.verify(&settled.primary).expect_nothing_lost();
}
