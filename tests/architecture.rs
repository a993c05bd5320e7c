//! Reads the sources and holds the directions of `docs/architecture.md`: who may know whom.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/files.rs"]
mod files;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns every Rust file below a folder of the package; one that is missing has none.
fn sources(folder: &str) -> Vec<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = files::below(vec![place], "rs");
    found.retain(|path| path.exists());
    found
}

/// Returns the lines of code with their numbers: no comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("a source file");
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}

/// Tells whether `line` names the room `room` of this crate.
fn names_room(line: &str, room: &str) -> bool {
    ["crate::", "valkey_operator::"].iter().any(|root| {
        line.match_indices(root).any(|(at, _)| {
            let rest = &line[at + root.len()..];
            let grouped = rest.strip_prefix('{').unwrap_or_default();
            let is_room = |text: &str| {
                text.trim_start().strip_prefix(room).is_some_and(|after| {
                    !after
                        .starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
                })
            };
            is_room(rest) || grouped.split(',').any(is_room)
        })
    })
}

#[test]
fn rooms_know_only_whom_they_may() {
    let mut violations = Vec::new();
    for (room, forbidden) in [
        (
            "planner",
            &[
                "juju", "valkey", "workload", "observer", "executor", "handlers", "dispatch",
                "watch",
            ][..],
        ),
        (
            "juju",
            &[
                "valkey", "workload", "planner", "observer", "executor", "handlers", "watch",
            ],
        ),
        (
            "valkey",
            &[
                "juju", "workload", "planner", "observer", "executor", "handlers", "watch",
            ],
        ),
        (
            "workload",
            &[
                "juju", "valkey", "planner", "observer", "executor", "handlers", "watch",
            ],
        ),
        (
            "kubernetes",
            &[
                "juju", "valkey", "workload", "planner", "observer", "executor", "handlers",
                "watch",
            ],
        ),
        ("observer", &["executor", "handlers", "watch"]),
        ("executor", &["handlers", "watch"]),
        ("watch", &["executor", "handlers", "planner"]),
    ] {
        for path in [
            sources(&format!("src/{room}")),
            sources(&format!("src/{room}.rs")),
        ]
        .concat()
        {
            for (number, line) in code(&path) {
                violations.extend(
                    forbidden
                        .iter()
                        .filter(|other| names_room(&line, other))
                        .map(|other| {
                            format!("{}:{number}: `{room}` uses `{other}`", path.display())
                        }),
                );
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_planner_is_pure() {
    let mut violations = Vec::new();
    for path in sources("src/planner") {
        for (number, line) in code(&path) {
            for word in [
                "async fn",
                ".await",
                "tokio::",
                "std::fs",
                "std::net",
                "std::io",
                "std::process",
                "std::env",
                "Instant::",
                "SystemTime",
                "Timestamp::now",
                "getrandom",
            ] {
                if line.contains(word) {
                    violations.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    assert!(
        violations.is_empty(),
        "the planner does more than think:\n{}",
        violations.join("\n")
    );
}

#[test]
fn juju_local_knows_no_word_of_valkey() {
    let mut violations = Vec::new();
    for path in sources("src/bin/juju-local") {
        let text = fs::read_to_string(&path)
            .expect("a source file")
            .to_lowercase();
        for word in ["valkey", "sentinel", "redis"] {
            if text.contains(word) {
                violations.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
