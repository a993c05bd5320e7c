//! Names of what outlives a test that crashes: they tell whose it is, so that the next run can clear up.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

/// Returns a name of its own for something of this process: the mark, the process, when it started, and a number.
///
/// # Panics
///
/// When it cannot be told when this process started.
pub fn own_name(mark: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let owner = std::process::id();
    let start = started(owner).expect("cannot tell when this process started");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{mark}-{owner}-{start}-{number}")
}

/// Tells whether a name was made by [`own_name`] with this mark and its owner is gone.
pub fn is_orphaned(name: &str, mark: &str) -> bool {
    let mut parts = name.split('-');
    let (found, owner, start) = (parts.next(), parts.next(), parts.next());
    let (Some(Ok(owner)), Some(Ok(start))) =
        (owner.map(str::parse::<u32>), start.map(str::parse::<u64>))
    else {
        return false;
    };
    found == Some(mark) && started(owner) != Some(start)
}

/// Returns when a process started, in clock ticks since boot.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}
