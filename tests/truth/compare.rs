//! The same scripts on the models and on real processes, and what differs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::modelled::Modelled;
use crate::pods::Net;
use crate::real::Real;
use crate::script::{Do, Value, run};
use crate::scripts;

/// Lives of the models that stand for all that can happen.
const SEEDS: u64 = 40;

/// How much longer than the longest life of the models reality may take on a busy machine.
const SLACK_MS: u64 = 2_500;

/// What the models say of one step.
enum Expected {
    Texts(BTreeSet<String>),
    Range(u64, u64),
}

async fn expected(name: &str, steps: &[Do]) -> Vec<(Do, Expected)> {
    let mut all: Vec<(Do, Expected)> = Vec::new();
    for seed in 0..SEEDS {
        let notes = run(name, &mut Modelled::new(seed), steps).await;
        for (index, (step, value)) in notes.into_iter().enumerate() {
            if all.len() <= index {
                all.push((
                    step,
                    match &value {
                        Value::Text(_) => Expected::Texts(BTreeSet::new()),
                        Value::Took(ms) => Expected::Range(*ms, *ms),
                    },
                ));
            }
            match (&mut all[index].1, value) {
                (Expected::Texts(texts), Value::Text(text)) => {
                    texts.insert(text);
                }
                (Expected::Range(low, high), Value::Took(ms)) => {
                    *low = ms.min(*low);
                    *high = ms.max(*high);
                }
                _ => unreachable!("a step notes always the same kind"),
            }
        }
    }
    all
}

/// Runs a script on both sides; returns what differs, and prints all.
async fn compare(program: &std::path::Path, name: &str, steps: &[Do]) -> Vec<String> {
    let expected = expected(name, steps).await;
    let mut real = Real::new(program.to_owned()).await;
    let seen = run(name, &mut real, steps).await;
    let mut wrong = Vec::new();
    println!("## {name}");
    for ((step, expected), (_, value)) in expected.iter().zip(&seen) {
        let (fits, said) = match (expected, value) {
            (Expected::Texts(texts), Value::Text(text)) => {
                let said: Vec<&str> = texts.iter().map(String::as_str).collect();
                (texts.contains(text), said.join(" or "))
            }
            (Expected::Range(low, high), Value::Took(ms)) => (
                low / 2 <= ms + 500 && *ms <= high * 2 + SLACK_MS,
                format!("{low}–{high} ms"),
            ),
            _ => (false, "another kind of answer".to_owned()),
        };
        println!(
            "{} {step:?}: {value}, modelled {said}",
            if fits { " " } else { "!" }
        );
        if !fits {
            wrong.push(format!("{name}: {step:?}: really {value}, modelled {said}"));
        }
    }
    wrong
}

/// Plays a script; what did not come about in its time is wrong, too.
async fn attempt(program: &Path, name: &str, steps: &[Do]) -> Vec<String> {
    use futures::FutureExt as _;
    let played = std::panic::AssertUnwindSafe(compare(program, name, steps)).catch_unwind();
    played.await.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map_or("it ended early", String::as_str);
        vec![format!("{name}: {said}")]
    })
}

/// Runs those scripts whose names contain `TRUTH_ONLY`, if that is set, a few at a time.
async fn compare_all(program: PathBuf, scripts: Vec<(&'static str, Vec<Do>)>) {
    use futures::StreamExt as _;
    const AT_A_TIME: usize = 5;
    let only = std::env::var("TRUTH_ONLY").unwrap_or_default();
    let scripts = scripts.into_iter().filter(|(name, _)| name.contains(&only));
    let runs = scripts.map(|(name, steps)| {
        let program = program.clone();
        async move { attempt(&program, name, &steps).await }
    });
    let wrong: Vec<String> = futures::stream::iter(runs)
        .buffer_unordered(AT_A_TIME)
        .collect::<Vec<_>>()
        .await
        .concat();
    assert!(
        wrong.is_empty(),
        "the models are not true:\n{}",
        wrong.join("\n")
    );
}

#[tokio::test]
async fn the_models_are_true_to_the_installed_valkey() {
    compare_all(crate::cluster::server_program(), scripts::all()).await;
}

#[tokio::test]
async fn the_models_are_true_to_the_newest_valkey() {
    compare_all(crate::cluster::newest_program(), scripts::all()).await;
}

#[tokio::test]
async fn the_models_are_true_to_the_installed_valkey_under_cuts() {
    let _net = Net::enter();
    compare_all(crate::cluster::server_program(), scripts::with_cuts()).await;
}

#[tokio::test]
async fn the_models_are_true_to_the_newest_valkey_under_cuts() {
    let _net = Net::enter();
    compare_all(crate::cluster::newest_program(), scripts::with_cuts()).await;
}
