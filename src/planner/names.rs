//! The name of a unit, as the planner sees it.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::peer_values::word;

/// A unit's name, for example `valkey/0`; sorts naturally, so `valkey/2` comes before `valkey/10`.
///
/// Taken apart once, and shared: plans name units all the time, and every map of units is sorted by them.
#[derive(Clone)]
pub struct UnitName {
    text: Arc<str>,
    /// How much of the text is the application's name, in bytes.
    application: usize,
    number: u64,
}

impl UnitName {
    /// Takes a name as Juju writes it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let text: Arc<str> = Arc::from(name.into());
        let (application, number) = text
            .rsplit_once('/')
            .map_or((text.len(), 0), |(application, number)| {
                (application.len(), number.parse().unwrap_or(u64::MAX))
            });
        Self {
            text,
            application,
            number,
        }
    }

    /// Returns the name as Juju writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn application(&self) -> &str {
        self.text.get(..self.application).unwrap_or_default()
    }
}

impl PartialEq for UnitName {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number && self.text == other.text
    }
}

impl Eq for UnitName {}

impl Hash for UnitName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Ord for UnitName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.text, &other.text) {
            return Ordering::Equal;
        }
        self.application()
            .cmp(other.application())
            .then_with(|| self.number.cmp(&other.number))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for UnitName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for UnitName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for UnitName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer).map(Self::new)
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
