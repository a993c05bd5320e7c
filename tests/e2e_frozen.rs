//! A primary that freezes and wakes: what waits in its sockets must not be acknowledged any more.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use support::{
    drills::IN_FLIGHT,
    hooks::signal,
    model::{A_UNIT, Model, SERVER_PORT},
    rescue::{Rescue, kept, missing, storage},
    wire::{Reply, Wire},
    writers::Writers,
};

/// Connections whose writes wait in the sockets of the frozen server.
const CONNECTIONS: usize = 20;

/// Writes that wait in each of them, sent one after the other without waiting for replies.
const QUEUED: usize = 50;

/// Writes that wait in the sockets of a frozen server, and who waits for their acknowledgement.
struct Queued(Vec<Wire>);

impl Queued {
    fn connect(model: &Model, address: IpAddr) -> Self {
        let password = &model.passwords().server;
        let connect = |_| {
            Wire::connect(
                SocketAddr::new(address, SERVER_PORT),
                "charmed-operator",
                password,
                Duration::from_secs(15),
            )
            .expect("the primary answers")
        };
        Self((0..CONNECTIONS).map(connect).collect())
    }

    fn send(&mut self) {
        for (connection, wire) in self.0.iter_mut().enumerate() {
            for number in 0..QUEUED {
                let key = format!("queued:{connection}:{number}");
                wire.send(&["SET", &key, "1"]).expect("the socket takes it");
            }
        }
    }

    /// Reads all replies until the connections end; returns the keys that were acknowledged.
    fn acknowledged(self) -> Vec<String> {
        let readers: Vec<_> = self
            .0
            .into_iter()
            .enumerate()
            .map(|(connection, mut wire)| {
                thread::spawn(move || {
                    (0..QUEUED)
                        .map_while(|number| wire.receive().ok().map(|reply| (number, reply)))
                        .filter(|(_, reply)| *reply == Reply::Text("OK".to_owned()))
                        .map(|(number, _)| format!("queued:{connection}:{number}"))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        readers
            .into_iter()
            .flat_map(|reader| reader.join().expect("a reader"))
            .collect()
    }
}

#[test]
fn a_frozen_server_is_ended_before_it_can_wake() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let frozen = model.settled(3, A_UNIT).primary;
    let mut queued = Queued::connect(&model, frozen.address);
    let process = model.server_process(frozen.address);
    signal(process, Signal::STOP);
    queued.send();
    let stopped = Instant::now();
    model.promoted(&frozen);
    let since = Instant::now();
    println!("promoted {:?} after the freeze", stopped.elapsed());
    model.wait_until("the frozen server is ended", A_UNIT, || {
        let process = Pid::from_raw(process).expect("a process id");
        match test_kill_process(process) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            Ok(()) if gone(process) => Ok(()),
            other => Err(format!("it is there: {other:?}")),
        }
    });
    println!("ended {:?} after the promotion", since.elapsed());
    // Nobody is left to wake.
    let _ = kill_process(Pid::from_raw(process).expect("a process id"), Signal::CONT);
    assert_eq!(queued.acknowledged(), Vec::<String>::new());
    let settled = model.settled(3, A_UNIT * 2);
    assert_ne!(settled.primary.name, frozen.name);
    writers.expect_lost_at_most(IN_FLIGHT, &model, &settled.primary);
}

/// Returns whether a process has ended, also if nobody collected it yet.
fn gone(process: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()))
        .map_or(true, |stat| stat.contains(") Z"))
}

#[test]
fn a_server_that_freezes_for_a_moment_is_left_alone() {
    let model = Model::deployed(3);
    let primary = model.settled(3, A_UNIT).primary;
    let process = model.server_process(primary.address);
    // Shorter than the detection time, and longer than the watcher needs to find it silent.
    signal(process, Signal::STOP);
    thread::sleep(Duration::from_secs(3));
    signal(process, Signal::CONT);
    let settled = model.settled(3, A_UNIT);
    assert_eq!(settled.primary.name, primary.name);
    assert_eq!(model.server_process(primary.address), process);
}

#[test]
fn a_frozen_server_that_nobody_replaced_is_left_alone() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    let process = model.server_process(settled.primary.address);
    // Without a majority of Sentinels nobody is promoted: it is the only copy that counts.
    for replica in &settled.replicas {
        model.handle(&["freeze", &replica.name]);
    }
    signal(process, Signal::STOP);
    thread::sleep(Duration::from_secs(10));
    signal(process, Signal::CONT);
    for replica in &settled.replicas {
        model.handle(&["thaw", &replica.name]);
    }
    model.settled(3, A_UNIT * 2);
}

#[test]
fn a_frozen_unit_wakes_as_a_replica() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let frozen = model.settled(3, A_UNIT).primary;
    let mut queued = Queued::connect(&model, frozen.address);
    model.handle(&["freeze", &frozen.name]);
    queued.send();
    model.promoted(&frozen);
    writers.flowing(&model);
    model.handle(&["thaw", &frozen.name]);
    let acknowledged = queued.acknowledged();
    let settled = model.settled(3, A_UNIT * 2);
    assert_ne!(settled.primary.name, frozen.name);
    let all = acknowledged.len();
    let lost = {
        let mut wire = model
            .server(settled.primary.address)
            .expect("the primary answers");
        missing(&mut wire, &acknowledged)
    };
    println!(
        "{all} of {} queued writes were acknowledged on waking, {} of them are lost",
        CONNECTIONS * QUEUED,
        lost.len()
    );
    // Nothing can act before the server itself in the moment in which all wake: what waited in its
    // sockets is the bound, and it is kept.
    if !lost.is_empty() {
        let sets = kept(&storage(&model, &frozen));
        let newest = sets.last().expect("a data set is kept");
        let nowhere = Rescue::of(newest, Path::new("valkey-server")).missing(&model, &lost);
        assert_eq!(nowhere, Vec::<String>::new());
    }
    writers.expect_lost_at_most(4 * IN_FLIGHT, &model, &settled.primary);
}
