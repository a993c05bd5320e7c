//! Versions of Valkey, because some settings and commands exist only from one on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Version of valkey-server, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number, 0 when it is not given.
    pub patch: u16,
}

/// A text that holds no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot find a version in {0:?}")]
pub struct InvalidVersion(String);

impl Version {
    /// Makes a version of its three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Reads `8.0.1`, and what `valkey-server --version` prints (`Valkey server v=8.0.1 sha=…`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion(text.chars().take(120).collect());
        let word = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix("v="))
            .unwrap_or_else(|| text.trim());
        let mut numbers = word.split('.').map(|part| {
            // A release candidate is told apart by a suffix only: `9.0.0-rc1`.
            part.split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap_or_default()
                .parse::<u16>()
        });
        let mut next = || numbers.next().and_then(Result::ok);
        let (major, minor) = (next().ok_or_else(invalid)?, next().ok_or_else(invalid)?);
        Ok(Self {
            major,
            minor,
            patch: next().unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_ordered() {
        for (text, expected) in [
            ("8.0.1", Some(Version::new(8, 0, 1))),
            ("7.2", Some(Version::new(7, 2, 0))),
            ("9.0.0-rc1\n", Some(Version::new(9, 0, 0))),
            (
                "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc",
                Some(Version::new(8, 0, 1)),
            ),
            ("", None),
            ("eight", None),
            ("99999999.1.1", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        assert!(Version::new(7, 2, 11) < Version::new(8, 0, 0));
    }
}
