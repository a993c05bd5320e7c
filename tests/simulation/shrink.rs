//! Makes a failing script as short as it gets.

use crate::{life, models::Millis, script::Script, world::Deciders};

/// Most lives that shrinking plays.
const LIVES_MAX: usize = 400;

/// Returns the oracle that a script breaks first, if any.
fn fails(script: &Script, deciders: Deciders) -> Option<(&'static str, String)> {
    let script = script.clone();
    let played = std::panic::catch_unwind(|| life::play(&script, deciders, false, 0));
    match played {
        Ok(outcome) => outcome
            .breaches
            .into_iter()
            .next()
            .map(|breach| (breach.oracle, breach.what)),
        Err(_) => Some(("panic", String::new())),
    }
}

/// Returns the shortest script found that breaks the same promise, and how.
pub fn shrink(script: &Script, deciders: Deciders) -> (Script, String) {
    let mut best = script.clone();
    let Some((oracle, mut what)) = fails(&best, deciders) else {
        return (best, "it does not fail".to_owned());
    };
    let mut lives = 0;
    loop {
        let mut improved = false;
        for candidate in candidates(&best) {
            lives += 1;
            if lives > LIVES_MAX {
                return (best, format!("{oracle}: {what}"));
            }
            if let Some((broken, how)) = fails(&candidate, deciders)
                && broken == oracle
            {
                best = candidate;
                what = how;
                improved = true;
                break;
            }
        }
        if !improved {
            return (best, format!("{oracle}: {what}"));
        }
    }
}

/// Returns simpler scripts, the simplest first.
fn candidates(script: &Script) -> Vec<Script> {
    let mut found = Vec::new();
    for index in 0..script.faults.len() {
        let mut simpler = script.clone();
        simpler.faults.remove(index);
        found.push(simpler);
    }
    if script.units > 3 {
        let mut simpler = script.clone();
        simpler.units = 3;
        found.push(simpler);
    }
    for index in 0..script.faults.len() {
        // Round times read better, and shorter durations say what is needed.
        let (at, fault) = &script.faults[index];
        let text = fault.to_string();
        for round in [10_000, 1_000] {
            let rounded: Millis = at / round * round;
            if rounded != *at {
                let mut simpler = script.clone();
                simpler.faults[index].0 = rounded;
                simpler.faults.sort_by_key(|(at, _)| *at);
                found.push(simpler);
            }
        }
        let words: Vec<&str> = text.split(' ').collect();
        let last: Option<u64> = words.last().and_then(|word| word.parse().ok());
        if let Some(last) = last.filter(|last| words.len() > 2 && *last > 1_000) {
            for shorter in [last / 2, last / 1_000 * 1_000] {
                let changed = format!("{} {shorter}", words[..words.len() - 1].join(" "));
                if let Ok(fault) = changed.parse()
                    && shorter != last
                {
                    let mut simpler = script.clone();
                    simpler.faults[index].1 = fault;
                    found.push(simpler);
                }
            }
        }
    }
    found
}
