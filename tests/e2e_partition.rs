//! Units that the network cuts off: the majority goes on, the minority stops taking writes, and all come together
//! again without a write that was acknowledged getting lost. Needs root, and a tool that can drop traffic.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::time::{Duration, Instant};

use support::{
    drills::IN_FLIGHT,
    model::{A_UNIT, Model},
    wire::Reply,
    writers::Writers,
};

/// Longest that one that is cut off may go on taking writes: its lag limit, two seconds, and slack for a busy machine.
const FENCED: Duration = Duration::from_secs(20);

#[test]
fn a_primary_that_is_cut_off_stops_taking_writes_and_returns_as_a_replica() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let lost = model.settled(3, A_UNIT).primary;
    model.passwords();
    let cut = Instant::now();
    model.handle(&["cut", &lost.name]);

    // Inside the cut, as a client that was cut off together with its primary sees it.
    model.wait_until("the one that is cut off refuses writes", FENCED, || {
        let mut wire = model
            .connect_inside(&lost)
            .map_err(|error| error.to_string())?;
        let reply = wire.call(&["SET", "written-inside-the-cut", "1"]);
        match reply.map_err(|error| error.to_string())? {
            Reply::Refused(reason) => Ok(reason),
            other => Err(format!("it answers {other}")),
        }
    });
    println!("fenced after {:?}", cut.elapsed());

    let promoted = model.promoted(&lost);
    println!("{} promoted after {:?}", promoted.name, cut.elapsed());
    writers.flowing(&model);
    println!("writes stood still for {:?}", writers.longest_gap(cut));

    model.handle(&["heal", &lost.name]);
    let settled = model.settled(3, A_UNIT * 2);
    assert_ne!(
        settled.primary.name, lost.name,
        "who was cut off does not take the role back"
    );
    writers
        .verify(&model, settled.primary.address)
        .expect_lost_at_most(IN_FLIGHT);
}

#[test]
fn a_replica_that_is_cut_off_is_missed_by_nobody_and_catches_up() {
    let model = Model::deployed(3);
    let writers = Writers::start_usual(&model);
    let primary = model.settled(3, A_UNIT).primary;
    let units = model.units();
    let replica = units
        .iter()
        .find(|unit| unit.name != primary.name)
        .expect("a replica");
    let cut = Instant::now();
    model.handle(&["cut", &replica.name]);
    writers.flowing(&model);
    // Long enough that all have declared it down.
    std::thread::sleep(Duration::from_secs(8));
    writers.flowing(&model);
    let gap = writers.longest_gap(cut);
    println!("writes stood still for {gap:?}");
    model.handle(&["heal", &replica.name]);
    let settled = model.settled(3, A_UNIT * 2);
    assert_eq!(settled.primary.name, primary.name);
    writers
        .verify(&model, settled.primary.address)
        .expect_nothing_lost();
}
