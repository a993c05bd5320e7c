//! Measures the operations of an application on this machine, with release builds and real processes,
//! and prints the rows of `docs/benchmarks.md`.
//!
//! ```console
//! $ cargo bench --bench operations
//! ```

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement stops at the first surprise"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{
    model::{A_UNIT, Model},
    oracles,
    writers::{Kind, Writers},
};

/// How many hand-overs are measured.
const HANDOVERS: usize = 20;
/// How many kills of the primary's server are measured.
const KILLS: usize = 5;
/// How many runs of `update-status` are measured.
const PASSES: usize = 10;

/// Runs one pass of the charm in the hook context and prints its wall and CPU time and its memory.
const MEASURE: &str = r#"python3 -c '
import json, os, resource, subprocess, time
environment = dict(os.environ, JUJU_DISPATCH_PATH="hooks/update-status")
started = time.monotonic()
subprocess.run(["./dispatch"], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wall = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"wall": wall * 1000, "cpu": (used.ru_utime + used.ru_stime) * 1000, "memory": used.ru_maxrss / 1024}))
'"#;

fn main() {
    // `cargo test --benches` and the like call this with arguments; there is only one way to run it.
    println!("| what | measured |\n|---|---|");

    let started = Instant::now();
    let model = Model::deployed(3);
    row(
        "deploy three units until all agree",
        &seconds(started.elapsed()),
    );

    let writers = Writers::start(&model, &[Kind::FollowsSentinel; 4]);
    measure_handovers(&model, &writers);
    measure_passes(&model);
    measure_scaling(&model, &writers);
    measure_kills(&model, &writers);
    let primary = model.settled(3, A_UNIT).primary;
    let verdict = writers.verify(&model, primary.address);
    row(
        "acknowledged writes in all of the above, lost",
        &format!("{} of {}", verdict.lost, verdict.acknowledged),
    );
}

fn measure_handovers(model: &Model, writers: &Writers) {
    let mut gaps = Vec::new();
    for _ in 0..HANDOVERS {
        let started = Instant::now();
        let ended = model.run("valkey/leader", "switchover", &[]);
        assert!(ended.completed(), "switchover: {}", ended.all());
        writers.flowing(model);
        gaps.push(writers.longest_gap(started));
        model.settled(3, A_UNIT);
    }
    row(
        &format!("write gap of {HANDOVERS} hand-overs, min / median / max"),
        &spread(&mut gaps),
    );
}

fn measure_passes(model: &Model) {
    let mut samples: Vec<[f64; 3]> = (0..PASSES)
        .map(|_| {
            let printed = model.juju(&["exec", "--unit", "valkey/1", "--", MEASURE]);
            let line = printed
                .lines()
                .find(|line| line.starts_with('{'))
                .expect("the measurement prints JSON");
            let sample: Value = serde_json::from_str(line).expect("the measurement prints JSON");
            ["wall", "cpu", "memory"].map(|key| sample[key].as_f64().unwrap_or(f64::NAN))
        })
        .collect();
    samples.sort_by(|one, other| one[0].total_cmp(&other[0]));
    let [wall, cpu, memory] = samples[samples.len() / 2];
    row(
        &format!("idle update-status, median of {PASSES}"),
        &format!("{wall:.0} ms wall, {cpu:.0} ms CPU, {memory:.1} MiB"),
    );
}

fn measure_scaling(model: &Model, writers: &Writers) {
    let started = Instant::now();
    model.add_units(1);
    let settled = model.settled(4, A_UNIT);
    row("add-unit until all agree", &seconds(started.elapsed()));
    writers.refresh(model);

    let started = Instant::now();
    model.remove_units(&[&settled.replicas[0].name]);
    let settled = model.settled(3, A_UNIT);
    row(
        "remove a replica of four units until all agree",
        &seconds(started.elapsed()),
    );
    writers.refresh(model);

    model.add_units(1);
    model.settled(4, A_UNIT);
    writers.refresh(model);
    let started = Instant::now();
    model.remove_units(&[&settled.primary.name]);
    model.settled(3, A_UNIT);
    row(
        "remove the primary of four units until all agree",
        &seconds(started.elapsed()),
    );
    writers.refresh(model);
    writers.flowing(model);
    row(
        "write gap while the primary is removed",
        &milliseconds(writers.longest_gap(started)),
    );
}

fn measure_kills(model: &Model, writers: &Writers) {
    let mut gaps = Vec::new();
    for _ in 0..KILLS {
        let primary = oracles::primaries(model).remove(0);
        let started = Instant::now();
        let process = Pid::from_raw(model.server_process(primary.address)).expect("a process id");
        kill_process(process, Signal::KILL).expect("cannot end the process");
        writers.flowing(model);
        gaps.push(writers.longest_gap(started));
        model.settled(3, A_UNIT);
    }
    row(
        &format!("write gap of {KILLS} kills of the primary's server, min / median / max"),
        &spread(&mut gaps),
    );
}

fn row(what: &str, measured: &str) {
    println!("| {what} | {measured} |");
}

fn spread(gaps: &mut [Duration]) -> String {
    gaps.sort();
    let [least, median, most] =
        [gaps[0], gaps[gaps.len() / 2], gaps[gaps.len() - 1]].map(milliseconds);
    format!("{least} / {median} / {most}")
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
