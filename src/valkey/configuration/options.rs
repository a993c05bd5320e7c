//! What a person may tune, read from the application's options and checked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{
    DETECTION_DEFAULT, DETECTION_MAX, DETECTION_MIN, FENCING_LAG_MAX, FENCING_MARGIN,
    MEMORY_LIMIT_MIN_BYTES, REPL_BACKLOG_MIN_BYTES,
};

/// An option whose value is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use option {name}={value:?}: {expected}")]
pub struct InvalidOption {
    /// The option's name.
    pub name: &'static str,
    /// What was given, shortened.
    pub value: String,
    /// What is expected instead.
    pub expected: String,
}

/// The application's options that concern server and Sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Options {
    /// Limit of the data set's memory.
    pub max_memory: MemoryLimit,
    /// What happens at the limit.
    pub eviction: EvictionPolicy,
    /// How data reaches the disk.
    pub persistence: Persistence,
    /// How long a primary must be silent before it counts as lost.
    pub detection: Duration,
    /// Most connections of clients.
    pub max_clients: u32,
    /// Threads for reading and writing connections; a change needs a restart.
    pub io_threads: u16,
    /// Number of databases; a change needs a restart.
    pub databases: u32,
    /// Memory for partial resynchronisations in bytes; `None`: the charm chooses.
    pub backlog_bytes: Option<u64>,
    /// How much is written to the logs.
    pub log_level: LogLevel,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_memory: MemoryLimit::None,
            eviction: EvictionPolicy::NoEviction,
            persistence: Persistence::Aof,
            detection: DETECTION_DEFAULT,
            max_clients: 10_000,
            io_threads: 1,
            databases: 16,
            backlog_bytes: None,
            log_level: LogLevel::Notice,
        }
    }
}

impl Options {
    /// Reads the options as `config-get --format=json` prints them.
    ///
    /// Missing options have their defaults; options that concern others are left alone.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] with the first value that is not taken, for a status that says what to
    /// do.
    pub fn from_config(config: &Map<String, Value>) -> Result<Self, InvalidOption> {
        let read = Reader(config);
        let defaults = Self::default();
        let detection = read.number(
            "failure-detection-seconds",
            seconds(DETECTION_MIN)..=seconds(DETECTION_MAX),
        )?;
        Ok(Self {
            max_memory: read.text("maxmemory")?.unwrap_or(defaults.max_memory),
            eviction: read.text("maxmemory-policy")?.unwrap_or(defaults.eviction),
            persistence: read.text("persistence")?.unwrap_or(defaults.persistence),
            detection: detection.map_or(defaults.detection, Duration::from_secs),
            max_clients: read
                .number("maxclients", 10..=1_000_000)?
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(defaults.max_clients),
            io_threads: read
                .number("io-threads", 1..=128)?
                .and_then(|n| u16::try_from(n).ok())
                .unwrap_or(defaults.io_threads),
            databases: read
                .number("databases", 1..=10_000)?
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(defaults.databases),
            backlog_bytes: read
                .text::<Bytes>("repl-backlog-size")?
                .map(|bytes| bytes.0),
            log_level: read.text("log-level")?.unwrap_or(defaults.log_level),
        })
    }
}

/// Returns `min-replicas-max-lag` in seconds for a detection time.
///
/// A primary that is cut off must have stopped before another one starts. It stops within the lag
/// plus up to 2 s ([`FENCING_MARGIN`], measured), which has to be less than the detection time.
#[must_use]
pub fn max_lag_seconds(detection: Duration) -> u64 {
    let room = detection.saturating_sub(FENCING_MARGIN).as_secs();
    room.saturating_sub(1).clamp(1, FENCING_LAG_MAX.as_secs())
}

const fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    /// Reads a text; an empty one stands for "not set".
    fn text<T: FromStr<Err = String>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, InvalidOption> {
        let text = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(other) => other.to_string(),
        };
        text.parse().map(Some).map_err(|expected| InvalidOption {
            name,
            value: text.chars().take(40).collect(),
            expected,
        })
    }

    fn number(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, InvalidOption> {
        let value = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(InvalidOption {
                name,
                value: value.to_string().chars().take(40).collect(),
                expected: format!(
                    "give a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            }),
        }
    }
}

/// A number of bytes with an optional unit.
struct Bytes(u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || {
            format!(
                "give bytes with a unit like 256mb or 2gb, at least {REPL_BACKLOG_MIN_BYTES} bytes"
            )
        };
        bytes(text)
            .filter(|n| *n >= REPL_BACKLOG_MIN_BYTES)
            .map(Self)
            .ok_or_else(expected)
    }
}

/// Reads `512mb` and the like; units are powers of 1024 (`kb`, `mb`, `gb`, `tb`, also `KiB` …) and,
/// as in Valkey's own file, powers of 1000 for `k`, `m`, `g`.
fn bytes(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|n| i64::try_from(*n).is_ok())
}

/// Limit of the data set's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum MemoryLimit {
    /// None.
    None,
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the memory that the unit has.
    Percent(u8),
}

impl MemoryLimit {
    /// Returns the limit in bytes, 0 for none, on a unit with `total_bytes` of memory.
    ///
    /// A share of an unknown memory is no limit: better none than one made up.
    #[must_use]
    pub const fn bytes(self, total_bytes: Option<u64>) -> u64 {
        match (self, total_bytes) {
            (Self::None, _) | (Self::Percent(_), None) => 0,
            (Self::Bytes(bytes), _) => bytes,
            (Self::Percent(percent), Some(total)) => total / 100 * percent as u64,
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let limit = match text.strip_suffix('%') {
            Some(share) => share
                .trim()
                .parse()
                .ok()
                .filter(|percent| (1..=95).contains(percent))
                .map(Self::Percent),
            None => match bytes(text) {
                Some(0) => Some(Self::None),
                other => other
                    .filter(|n| *n >= MEMORY_LIMIT_MIN_BYTES)
                    .map(Self::Bytes),
            },
        };
        limit.ok_or_else(|| {
            "give bytes with a unit like 512mb or 4gb (at least 16mb), or a share like 75% (1 to 95)"
                .to_owned()
        })
    }
}

/// Makes an enum of the words that an option takes, with their reading and writing.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Returns the word that stands for it in options and settings.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("give one of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words! {
    /// What happens when the memory limit is reached.
    EvictionPolicy {
        /// Writes are refused.
        NoEviction = "noeviction",
        /// The least recently used key goes.
        AllKeysLru = "allkeys-lru",
        /// The least frequently used key goes.
        AllKeysLfu = "allkeys-lfu",
        /// Any key goes.
        AllKeysRandom = "allkeys-random",
        /// The least recently used key with an expiry goes.
        VolatileLru = "volatile-lru",
        /// The least frequently used key with an expiry goes.
        VolatileLfu = "volatile-lfu",
        /// Any key with an expiry goes.
        VolatileRandom = "volatile-random",
        /// The key that expires next goes.
        VolatileTtl = "volatile-ttl",
    }
}

words! {
    /// How data reaches the disk.
    Persistence {
        /// Every write is logged, flushed once a second.
        Aof = "aof",
        /// Snapshots only.
        Rdb = "rdb",
        /// Only the snapshot at an orderly stop.
        None = "none",
    }
}

words! {
    /// How much is written to the logs.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// A lot.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// Trouble only.
        Warning = "warning",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(config: Value) -> Result<Options, String> {
        let Value::Object(map) = config else {
            panic!("no object")
        };
        Options::from_config(&map).map_err(|err| err.to_string())
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        let empty = json!({"maxmemory": "", "repl-backlog-size": " ", "system-users": "secret:x"});
        assert_eq!(read(empty).unwrap(), Options::default());
    }

    #[test]
    fn good_values_are_taken_and_bad_ones_named() {
        let all = read(json!({
            "maxmemory": "75%", "maxmemory-policy": "allkeys-lru", "persistence": "rdb",
            "failure-detection-seconds": 8, "maxclients": 50, "io-threads": 4, "databases": 1,
            "repl-backlog-size": "256mb", "log-level": "debug",
        }))
        .unwrap();
        assert_eq!(all.max_memory.bytes(Some(1000)), 750);
        assert_eq!(all.backlog_bytes, Some(256 << 20));
        assert_eq!((all.detection.as_secs(), all.io_threads), (8, 4));
        for (name, value) in [
            ("maxmemory", json!("1kb")),
            ("maxmemory", json!("0%")),
            ("maxmemory", json!("much")),
            ("maxmemory", json!("99999999999tb")),
            ("maxmemory", json!("1gb\nrequirepass x")),
            ("maxmemory-policy", json!("lru\nsave")),
            ("persistence", json!("yes")),
            ("failure-detection-seconds", json!(3)),
            ("failure-detection-seconds", json!(-5)),
            ("maxclients", json!(0)),
            ("io-threads", json!(129)),
            ("io-threads", json!(1.5)),
            ("databases", json!("16 ")),
            ("repl-backlog-size", json!("1b")),
            ("log-level", json!(7)),
        ] {
            let refused = read(json!({ name: value.clone() })).unwrap_err();
            assert!(
                refused.starts_with(&format!("cannot use option {name}=")),
                "{refused}"
            );
            assert!(!refused.contains('\n'), "{refused:?}");
        }
    }

    #[test]
    fn a_cut_off_primary_stops_before_another_one_starts() {
        for (detection, lag) in [(4, 1), (5, 2), (6, 3), (10, 7), (30, 10), (120, 10)] {
            assert_eq!(
                max_lag_seconds(Duration::from_secs(detection)),
                lag,
                "{detection}"
            );
            assert!(lag + FENCING_MARGIN.as_secs() < detection);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            for name in ["maxmemory", "maxmemory-policy", "persistence", "repl-backlog-size"] {
                let _ = read(json!({ name: text.clone() }));
            }
        }
    }
}
