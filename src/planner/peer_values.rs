//! What a value in a databag, or in a document beside the data, may be at most.
//!
//! Another unit wrote it, perhaps of another version, perhaps a broken one. It ends up in statuses, which are
//! arguments of programs, and in numbers that only rise.

use serde::{Deserialize as _, Deserializer, de::Error as _};

use crate::limits::WORD_MAX_BYTES;

/// Longest value that is looked at, in bytes; every value that this charm writes is far below.
pub(super) const VALUE_MAX_BYTES: usize = 64 * 1024;

/// Longest plain text that is taken, in bytes; the longest that this charm writes is the latest change.
pub(super) const TEXT_MAX_BYTES: usize = 4 * 1024;

/// Largest number that is taken: those that only rise must be able to.
const COUNT_MAX: u64 = u64::MAX / 2;

/// How much of a problem's text is shown, in characters: it can repeat what was found.
const PROBLEM_CHARACTERS_MAX: usize = 160;

/// Takes a short text without control characters.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > WORD_MAX_BYTES || text.contains(char::is_control) {
        return Err(D::Error::custom(
            "a name or id is too long or not plain text",
        ));
    }
    Ok(text)
}

/// Takes a number that can still rise.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number > COUNT_MAX {
        return Err(D::Error::custom(
            "a number is larger than any that is counted to",
        ));
    }
    Ok(number)
}

/// Makes a text fit for a status: one short line.
pub(super) fn plain(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars()
        .take(PROBLEM_CHARACTERS_MAX)
        .map(visible)
        .collect()
}
