//! The name of a unit, as the planner sees it.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

use super::peer_values::word;

/// A unit's name, for example `valkey/0`; sorts naturally, so `valkey/2` comes before `valkey/10`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitName(#[serde(deserialize_with = "word")] String);

impl UnitName {
    /// Takes a name as Juju writes it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the name as Juju writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, u64) {
        self.0
            .rsplit_once('/')
            .map_or((self.0.as_str(), 0), |(application, number)| {
                (application, number.parse().unwrap_or(u64::MAX))
            })
    }
}

impl Ord for UnitName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts()
            .cmp(&other.parts())
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for UnitName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
