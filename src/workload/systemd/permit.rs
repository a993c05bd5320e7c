//! The permit: what a hook has decided need not be decided again by the gate of the service.
//!
//! It counts once, for a short time, and in the boot in which it was given.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::limits::START_PERMIT_LIMIT;
use crate::workload::files;
use crate::workload::pid_file::boot_id;
use crate::workload::{Layout, WorkloadError};

fn path(layout: &Layout) -> std::path::PathBuf {
    layout.run().join("start-permit")
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Permits one start.
pub fn give(layout: &Layout) -> Result<(), WorkloadError> {
    let text = format!("{} {}", boot_id(), now_s());
    files::write_atomic(&path(layout), text.as_bytes(), files::PRIVATE)
}

/// Takes the permit back.
pub fn withdraw(layout: &Layout) -> Result<(), WorkloadError> {
    files::remove(&path(layout))
}

/// Uses the permit up; says whether there was one.
pub fn take(layout: &Layout) -> bool {
    let Ok(Some(bytes)) = files::read(&path(layout)) else {
        return false;
    };
    // One that cannot be removed would permit every later start, too.
    withdraw(layout).is_ok() && holds(&String::from_utf8_lossy(&bytes), &boot_id(), now_s())
}

fn holds(text: &str, boot: &str, now_s: u64) -> bool {
    let Some((given_in, at)) = text.split_once(' ') else {
        return false;
    };
    let age_s = at.parse::<u64>().ok().and_then(|at| now_s.checked_sub(at));
    !boot.is_empty()
        && given_in == boot
        && age_s.is_some_and(|age_s| age_s <= START_PERMIT_LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_counts_for_this_boot_and_a_short_time() {
        for (text, expected) in [
            ("here 1000", true),
            ("here 1059", false),
            ("here 900", false),
            ("before 1000", false),
            ("here", false),
            ("here soon", false),
            ("", false),
        ] {
            assert_eq!(holds(text, "here", 1010), expected, "{text}");
        }
        assert!(!holds(" 1000", "", 1010));
    }

    #[test]
    fn a_permit_counts_once() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::new(place.path().join("storage"), place.path());
        assert!(!take(&layout));
        give(&layout).unwrap();
        assert!(take(&layout));
        assert!(!take(&layout));
    }
}
