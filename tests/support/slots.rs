//! Bounds how many models run at the same time, over all test binaries and threads.

use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

/// Most models at the same time: each has several servers and agents, and the machines that
/// run the tests have two cores.
const SLOTS: usize = 2;

/// Longest wait for a slot: the whole of the end-to-end tests fits into it.
const WAIT: Duration = Duration::from_secs(45 * 60);

/// The right to run one model; given back when it is dropped, or when the process ends.
#[derive(Debug)]
pub struct Slot(#[allow(dead_code, reason = "held for its lock")] File);

impl Slot {
    /// Waits for a free slot.
    pub fn take() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slots");
        fs::create_dir_all(&folder).expect("cannot make the folder of the slots");
        let deadline = Instant::now() + WAIT;
        loop {
            for number in 0..SLOTS {
                let file =
                    File::create(folder.join(number.to_string())).expect("cannot open a slot");
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    return Self(file);
                }
            }
            assert!(
                Instant::now() < deadline,
                "cannot run: no slot became free within {WAIT:?}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}
