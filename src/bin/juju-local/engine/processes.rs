//! Finds and ends processes by their environment or their directory, through `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::limits::{KILL_GRACE, POLL, SWEEPS_MAX, TERM_GRACE};

/// How the processes of a unit, or of the whole model, are known.
///
/// Any mark is enough: a program that changes its title overwrites what `/proc` shows of its
/// environment, but it still works in its unit's directories or writes its output there.
pub struct Marks {
    /// `NAME=value` entries that are all in the environment.
    pub environment: Vec<String>,
    /// Directories in or below which the process works, or its output goes.
    pub folders: Vec<PathBuf>,
}

impl Marks {
    /// Tells whether a process has one of the marks.
    fn found_on(&self, pid: u32) -> bool {
        let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        let has = |entry: &str| {
            environ
                .split(|byte| *byte == 0)
                .any(|var| var == entry.as_bytes())
        };
        if self.environment.iter().all(|entry| has(entry)) {
            return true;
        }
        // A person who looks around in these directories has a home; hooks and what they start have none.
        let at_home = environ
            .split(|byte| *byte == 0)
            .any(|var| var.starts_with(b"HOME="));
        !at_home
            && ["cwd", "fd/1", "fd/2"].iter().any(|link| {
                fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|target| {
                    // What was removed under a process still has its name, with a note.
                    let shown = target.to_string_lossy();
                    let place = Path::new(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
                    self.folders.iter().any(|folder| place.starts_with(folder))
                })
            })
    }
}

/// Returns the processes that are meant; zombies are left out.
fn alive(meant: impl Fn(u32) -> bool) -> Vec<u32> {
    let listing = fs::read_dir("/proc").into_iter().flatten().flatten();
    listing
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| meant(*pid))
        .filter(|pid| started(*pid).is_some())
        .collect()
}

/// Returns the processes that have one of the marks; the engine itself and zombies are left out.
#[must_use]
pub fn marked(marks: &Marks) -> Vec<u32> {
    let own = std::process::id();
    alive(|pid| pid != own && marks.found_on(pid))
}

/// Returns what marks a process's network; `None` when it is gone.
#[must_use]
pub fn network(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Returns the processes in a network; zombies are left out.
#[must_use]
pub fn in_network(mark: &str) -> Vec<u32> {
    alive(|pid| network(pid).as_deref() == Some(mark))
}

/// Returns when a process started, in clock ticks since boot; `None` when it has ended.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // The state was field 3; the start is field 22.
    fields.nth(18)?.parse().ok()
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to a process group.
pub fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Sends a signal to all processes that `find` returns; again until a sweep finds no new one.
pub fn sweep(what: Signal, find: impl Fn() -> Vec<u32>) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..SWEEPS_MAX {
        let fresh: Vec<_> = find().into_iter().filter(|pid| seen.insert(*pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            signal(pid, what);
        }
    }
}

/// Sends a signal to all processes with the marks.
pub fn signal_all(marks: &Marks, what: Signal) {
    sweep(what, || marked(marks));
}

/// Ends all processes with the marks: SIGTERM first when `gentle`, then SIGKILL.
///
/// Returns those that would not end.
pub fn end_all(marks: &Marks, gentle: bool) -> Vec<u32> {
    if gentle {
        signal_all(marks, Signal::TERM);
        signal_all(marks, Signal::CONT);
        let deadline = Instant::now() + TERM_GRACE;
        while Instant::now() < deadline {
            if marked(marks).is_empty() {
                return Vec::new();
            }
            std::thread::sleep(POLL);
        }
    }
    let deadline = Instant::now() + KILL_GRACE;
    loop {
        let left = marked(marks);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        for pid in &left {
            signal(*pid, Signal::KILL);
        }
        std::thread::sleep(POLL);
    }
}
