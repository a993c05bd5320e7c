//! Looks on while a test does something.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// Runs `body`, and `look` beside it until the flag is set that it is given; returns what both return.
///
/// # Panics
///
/// When one of them does.
pub fn meanwhile<T, L: Send>(
    look: impl FnOnce(&AtomicBool) -> L + Send,
    body: impl FnOnce() -> T,
) -> (T, L) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| look(&done));
        // Also when the body panics: the scope waits for who looks on.
        let end = SetWhenDropped(&done);
        let result = body();
        drop(end);
        let looked = looking.join().expect("who looked on ended in a panic");
        (result, looked)
    })
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
