//! Where the real Pebble is.

use std::path::{Path, PathBuf};

/// Returns Pebble's program.
///
/// # Panics
///
/// When it was not built: a test that needs it must not pass without it.
pub fn program() -> PathBuf {
    let path = std::env::var_os("PEBBLE_PROGRAM").map_or_else(
        || {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
            target.unwrap_or(Path::new("target")).join("pebble/pebble")
        },
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "Pebble is missing at {}: run scripts/pebble",
        path.display()
    );
    path
}
