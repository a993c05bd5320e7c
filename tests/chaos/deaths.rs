//! Processes and whole units die, or freeze and wake.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    report::{Bars, CUT_OFF, FENCED, SERVER_KILLED, UNIT_LOST},
    support::{drills::IN_FLIGHT, hooks::signal, model::A_UNIT},
    world::World,
};

/// How long a frozen process sleeps: long after a replica was promoted.
const FROZEN: Duration = Duration::from_secs(20);

/// How long a machine pauses: longer than Sentinel takes for an ordinary delay.
const PAUSE: Duration = Duration::from_secs(4);

/// How long a Sentinel only looks on after such a pause, as the charm sets it.
const SENTINEL_TILT_PERIOD: Duration = Duration::from_secs(10);

/// What a crash or a freeze may cost: what was on its way, but nothing that a replica had, and what it takes along is on its
/// disk. A server that was frozen while another took over is ended before it wakes.
const CRASH: Bars = Bars {
    lost: Some(IN_FLIGHT),
    gap: Some(UNIT_LOST),
    displaced_for: Some(FENCED),
    displaced_after_heal: Some(0),
    unkept_allowed: false,
    confirmed_allowed: false,
};

/// The same where nothing ends that the Sentinels could notice at once.
const SILENCE: Bars = Bars {
    gap: Some(CUT_OFF),
    ..CRASH
};

#[test]
fn kill_the_server() {
    let mut world = World::new("kill_the_server");
    let process = world.model.server_process(world.primary.address);
    world.begin();
    signal(process, Signal::KILL);
    world.report(3).judge(&Bars {
        gap: Some(SERVER_KILLED),
        ..CRASH
    });
}

#[test]
fn kill_sentinel() {
    let mut world = World::new("kill_sentinel");
    let process = world.model.sentinel_process(world.primary.address);
    world.begin();
    signal(process, Signal::KILL);
    world.report(3).judge(&Bars {
        lost: Some(0),
        gap: Some(Duration::from_secs(1)),
        ..Bars::default()
    });
}

#[test]
fn kill_server_and_sentinel() {
    let mut world = World::new("kill_server_and_sentinel");
    let server = world.model.server_process(world.primary.address);
    let sentinel = world.model.sentinel_process(world.primary.address);
    world.begin();
    signal(sentinel, Signal::KILL);
    signal(server, Signal::KILL);
    world.report(3).judge(&CRASH);
}

#[test]
fn kill_watcher_and_server() {
    let mut world = World::new("kill_watcher_and_server");
    let server = world.model.server_process(world.primary.address);
    let watcher = world.watcher_processes(&world.primary);
    world.begin();
    for process in watcher {
        signal(process, Signal::KILL);
    }
    signal(server, Signal::KILL);
    let old = world.primary.clone();
    world.replaced(&old);
    // Nobody wakes that unit's charm now but its own timer; the others go on without it.
    world.model.handle(&["setting", "update-status-seconds=2"]);
    world.report(3).judge(&CRASH);
}

#[test]
fn kill_the_unit() {
    let mut world = World::new("kill_the_unit");
    let lost = world.primary.clone();
    world.begin();
    world.model.handle(&["kill", &lost.name]);
    world.replaced(&lost);
    world.last(Duration::from_secs(10));
    world.end();
    world.model.handle(&["reboot", &lost.name]);
    world.report(3).judge(&CRASH);
}

#[test]
fn freeze_the_server() {
    let mut world = World::new("freeze_the_server");
    let frozen = world.primary.clone();
    let process = world.model.server_process(frozen.address);
    world.frozen = true;
    world.begin();
    signal(process, Signal::STOP);
    world.replaced(&frozen);
    world.last(FROZEN);
    world.end();
    World::wake(process);
    world.report(3).judge(&SILENCE);
}

#[test]
fn freeze_the_server_until_it_is_replaced() {
    let mut world = World::new("freeze_the_server_until_it_is_replaced");
    let frozen = world.primary.clone();
    let process = world.model.server_process(frozen.address);
    world.frozen = true;
    let began = world.begin();
    signal(process, Signal::STOP);
    world.replaced(&frozen);
    let slept = began.elapsed();
    world.end();
    World::wake(process);
    let mut report = world.report(3);
    report.note = format!("frozen for {slept:?}");
    // What waited in its sockets when it woke, which the replica that still follows it may even confirm; then the
    // order to close the fence, which waited there, too.
    report.judge(&Bars {
        lost: Some(2 * IN_FLIGHT),
        displaced_for: Some(slept + FENCED),
        displaced_after_heal: Some(2 * IN_FLIGHT),
        confirmed_allowed: true,
        ..SILENCE
    });
}

#[test]
fn freeze_server_and_sentinel() {
    let mut world = World::new("freeze_server_and_sentinel");
    let frozen = world.primary.clone();
    let server = world.model.server_process(frozen.address);
    let sentinel = world.model.sentinel_process(frozen.address);
    world.frozen = true;
    world.begin();
    signal(sentinel, Signal::STOP);
    signal(server, Signal::STOP);
    world.replaced(&frozen);
    world.last(FROZEN);
    world.end();
    World::wake(server);
    World::wake(sentinel);
    world.report(3).judge(&SILENCE);
}

#[test]
fn freeze_watcher_and_kill_server() {
    let mut world = World::new("freeze_watcher_and_kill_server");
    let lost = world.primary.clone();
    let server = world.model.server_process(lost.address);
    let watcher = world.watcher_processes(&lost);
    world.begin();
    for process in &watcher {
        signal(*process, Signal::STOP);
    }
    signal(server, Signal::KILL);
    world.replaced(&lost);
    world.last(FROZEN / 2);
    world.end();
    for process in watcher {
        World::wake(process);
    }
    world.report(3).judge(&CRASH);
}

#[test]
fn freeze_sentinel() {
    let mut world = World::new("freeze_sentinel");
    let process = world.model.sentinel_process(world.primary.address);
    world.begin();
    signal(process, Signal::STOP);
    world.last(FROZEN / 2);
    world.end();
    World::wake(process);
    world.report(3).judge(&Bars {
        lost: Some(0),
        gap: Some(Duration::from_secs(1)),
        ..Bars::default()
    });
}

#[test]
fn freeze_the_unit() {
    let mut world = World::new("freeze_the_unit");
    let frozen = world.primary.clone();
    world.frozen = true;
    world.begin();
    world.model.handle(&["freeze", &frozen.name]);
    world.replaced(&frozen);
    world.last(FROZEN);
    world.end();
    world.model.handle(&["thaw", &frozen.name]);
    world.report(3).judge(&Bars {
        // The moment in which all of it wakes: what waited in the server's sockets.
        lost: Some(2 * IN_FLIGHT),
        displaced_after_heal: Some(IN_FLIGHT),
        displaced_for: None,
        ..SILENCE
    });
}

#[test]
fn kill_the_unit_soon_after_another_froze() {
    let mut world = World::new("kill_the_unit_soon_after_another_froze");
    let frozen = world.replicas[0].name.clone();
    world.model.handle(&["freeze", &frozen]);
    std::thread::sleep(PAUSE);
    world.model.handle(&["thaw", &frozen]);
    let lost = world.primary.clone();
    world.begin();
    world.model.handle(&["kill", &lost.name]);
    world.replaced(&lost);
    world.end();
    world.model.handle(&["reboot", &lost.name]);
    // The Sentinel that woke does nothing for a while, and without it there is no majority that finds the primary dead.
    world.report(3).judge(&Bars {
        gap: Some(SENTINEL_TILT_PERIOD + Duration::from_secs(3)),
        ..CRASH
    });
}

#[test]
fn two_units_one_after_the_other() {
    let mut world = World::new("two_units_one_after_the_other");
    let first = world.primary.clone();
    let began = world.begin();
    world.model.handle(&["kill", &first.name]);
    let second = world.replaced(&first);
    world.model.handle(&["reboot", &first.name]);
    world.model.settled(3, A_UNIT * 2);
    println!("settled after the first {:?}", began.elapsed());
    world.model.handle(&["kill", &second.name]);
    world.replaced(&second);
    world.end();
    world.model.handle(&["reboot", &second.name]);
    world.report(3).judge(&Bars {
        gap: Some(UNIT_LOST),
        displaced_for: None,
        displaced_after_heal: None,
        ..CRASH
    });
}
