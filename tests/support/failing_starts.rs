//! How programs fail that are started as a service, however they are run.

/// What a shell does, and what the error of the start says of it.
pub const ALL: [(&str, &str); 6] = [
    (
        "echo 'Bad directive'; exit 3",
        "it ended at once (exit status: 3). Its log: Bad directive",
    ),
    (
        "exit 0",
        "it ended at once (exit status: 0). Its log: (empty)",
    ),
    (
        "echo 'bind: Address already in use' >&2; exit 1",
        "its port is in use",
    ),
    (
        "echo 'open x: Permission denied'; exit 1",
        "lacks a permission",
    ),
    (
        "echo 'write: No space left on device'; exit 1",
        "the disk is full",
    ),
    ("kill -9 $$", "it ended at once (signal: 9"),
];
