//! The operator simulated by seed: the real planner between pure models of Juju, Valkey and Sentinel.
//!
//! `scripts/simulate` plays as many seeds as one wants; a seed that fails is shrunk to a short
//! script, which is printed and belongs into `regressions.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

#[path = "../models/mod.rs"]
mod models;

mod clients;
mod faults;
mod generate;
mod hook;
mod juju;
mod life;
mod machine;
mod observe;
mod oracles;
mod person;
mod planted;
#[cfg(test)]
mod regressions;
#[cfg(test)]
mod scenarios;
mod script;
mod shrink;
mod steps;
mod time;
mod watcher;
mod world;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use script::Script;
use world::Deciders;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays seeds on all cores; returns those that failed, with what was noticed first.
fn play_seeds(from: u64, count: u64) -> Vec<(u64, String)> {
    let next = AtomicU64::new(from);
    let failed = Mutex::new(Vec::new());
    let looks = AtomicU64::new(0);
    let hooks = AtomicU64::new(0);
    let virtual_ms = AtomicU64::new(0);
    let begun = Instant::now();
    let until = number("SIMULATE_UNTIL_MS").unwrap_or(0);
    let units = number("SIMULATE_UNITS").and_then(|units| u8::try_from(units).ok());
    let most =
        usize::try_from(number("SIMULATE_FAILURES").unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || failed.lock().unwrap().len() >= most {
                        return;
                    }
                    let mut script = generate::script(seed);
                    script.units = units.unwrap_or(script.units);
                    let outcome = std::panic::catch_unwind(|| {
                        life::play(&script, Deciders::real(), false, until)
                    });
                    match outcome {
                        Ok(outcome) => {
                            looks.fetch_add(outcome.looks, Ordering::Relaxed);
                            hooks.fetch_add(outcome.hooks, Ordering::Relaxed);
                            virtual_ms.fetch_add(outcome.ended_at, Ordering::Relaxed);
                            if let Some(breach) = outcome.breaches.first() {
                                let what = format!("{}: {}", breach.oracle, breach.what);
                                failed.lock().unwrap().push((seed, what));
                            }
                        }
                        Err(_) => failed.lock().unwrap().push((seed, "panic".to_owned())),
                    }
                }
            });
        }
    });
    let elapsed = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "figures for a person")]
    let (played, minutes) = (
        count as f64,
        virtual_ms.into_inner() as f64 / 60_000.0 / count as f64,
    );
    println!(
        "{count} seeds in {elapsed:.1} s: {:.1} seeds/s, {minutes:.1} virtual minutes, {} hooks and {} looks each",
        played / elapsed,
        hooks.into_inner() / count.max(1),
        looks.into_inner() / count.max(1)
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    failed
}

/// Seeds that the normal test run plays.
const SEEDS: u64 = 2_000;

#[test]
fn seeds_keep_every_promise() {
    if let Some(seed) = number("SIMULATE_SEED") {
        return tell(&generate::script(seed));
    }
    if let Ok(path) = std::env::var("SIMULATE_SCRIPT") {
        let text = std::fs::read_to_string(path).unwrap();
        return tell(&text.parse().unwrap());
    }
    let from = number("SIMULATE_FROM").unwrap_or(1);
    let count = number("SIMULATE_SEEDS").unwrap_or(SEEDS);
    let failed = play_seeds(from, count);
    for (seed, what) in &failed {
        println!("seed {seed}: {what}");
    }
    if let Some((seed, _)) = failed.first() {
        let (script, what) = shrink::shrink(&generate::script(*seed), Deciders::real());
        println!("the first of them, shrunk ({what}):\n{script}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

/// Plays one script and tells everything that happened; shrinks it if something was wrong.
fn tell(script: &Script) {
    let mut script = script.clone();
    let first = life::play(&script, Deciders::real(), false, 0);
    if !first.breaches.is_empty() && number("SIMULATE_KEEP").is_none() {
        script = shrink::shrink(&script, Deciders::real()).0;
    }
    let outcome = life::play(&script, Deciders::real(), true, 0);
    for line in &outcome.text {
        println!("{line}");
    }
    println!("{script}");
    for breach in &outcome.breaches {
        println!(
            "{:.3} {}: {}",
            world::seconds(breach.at),
            breach.oracle,
            breach.what
        );
    }
    assert!(outcome.breaches.is_empty());
}

#[test]
fn a_seed_replays_to_the_letter() {
    for seed in 1..30 {
        let script = generate::script(seed);
        let once = life::play(&script, Deciders::real(), false, 0);
        let again = life::play(&script, Deciders::real(), true, 0);
        assert_eq!(
            (once.digest, once.ended_at, once.writes),
            (again.digest, again.ended_at, again.writes),
            "seed {seed}"
        );
    }
}
