//! Files of the repository that a test reads.

use std::fs;
use std::path::PathBuf;

/// Returns every file with an extension in or below these places.
///
/// # Panics
///
/// When a folder cannot be read.
pub fn below(mut places: Vec<PathBuf>, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    while let Some(path) = places.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            places.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found
}
