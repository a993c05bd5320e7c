//! The units of systemd that the charm writes, after it was upgraded and when something hangs.

use std::time::Duration;

use crate::{
    support::{
        hooks,
        model::{A_UNIT, APPLICATION},
    },
    world::{SERVICES, World, archive, service_of},
};

const UNIT: &str = "valkey/0";
/// Longest until systemd has started a watcher again that hangs: its patience is a minute.
const NOTICED: Duration = Duration::from_secs(120);

#[test]
fn units_are_written_anew_with_a_restart_only_where_one_counts_and_a_watcher_that_hangs_begins_again()
 {
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

    // What its process is started with takes a restart, which any hook finds out: even where a
    // setting that the server refuses for that very reason differs, too.
    let server = service_of(UNIT, "server");
    let file = format!("/etc/systemd/system/{server}");
    let limits = || {
        let process = world.process(UNIT, "server");
        let open_files = format!("grep 'Max open files' /proc/{process}/limits");
        world.machines.try_on(UNIT, &open_files)
    };
    let usual = limits().expect("the server runs");
    world.machines.on(
        UNIT,
        &format!(
            "sed -i 's/^LimitNOFILE=.*/LimitNOFILE=4096/' {file} && systemctl daemon-reload && systemctl restart {server}"
        ),
    );
    hooks::hook(&world.model, UNIT);
    let what = "the server has the limits of this charm";
    world.model.wait_until(what, A_UNIT, || match limits() {
        Ok(limits) if limits == usual => Ok(()),
        Ok(other) | Err(other) => Err(other),
    });
    world.settled(1);
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
