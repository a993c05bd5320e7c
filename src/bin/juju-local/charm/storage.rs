//! Storage: what a charm declares, and what a person asks for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::is_application;
use super::yaml::text;
use super::{CharmError, invalid};

/// Where Juju itself mounts storage; no charm may.
const STORAGE_DIR: &str = "/var/lib/juju/storage";

/// What kind of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A directory.
    Filesystem,
    /// A device.
    Block,
}

/// One declared storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSpec {
    /// What kind.
    pub kind: StorageKind,
    /// Fewest instances per unit.
    pub count_min: u32,
    /// Most instances per unit; `None` is no limit.
    pub count_max: Option<u32>,
    /// Where the charm wants it mounted; `None` leaves it to Juju.
    pub location: Option<String>,
    /// Whether `multiple` was given: the location then holds one directory per instance.
    pub multiple: bool,
}

/// What a person asks for with `--storage name=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageDirective {
    /// Kind of storage at the cloud; `None` for the default.
    pub pool: Option<String>,
    /// Size in MiB; `None` for the charm's least.
    pub size_mib: Option<u64>,
    /// Number of instances; `None` for the charm's least.
    pub count: Option<u32>,
}

impl StorageSpec {
    /// Parses the declaration `spec` of storage `name` of a charm.
    ///
    /// # Errors
    ///
    /// With Juju's text for the first rule that is broken.
    pub fn parse(charm: &str, name: &str, spec: &Value) -> Result<Self, CharmError> {
        let prefix = format!("charm {charm:?} storage {name:?}:");
        if !is_application(name) {
            return invalid(format!("metadata: invalid storage name {name:?}"));
        }
        let Some(spec) = spec.as_object() else {
            return invalid(format!("{prefix} type must be specified"));
        };
        let kind = match text(spec, "type").as_str() {
            "filesystem" => StorageKind::Filesystem,
            "block" => StorageKind::Block,
            "" => return invalid(format!("{prefix} type must be specified")),
            other => return invalid(format!("{prefix} unknown type {other:?}")),
        };
        let location = Some(text(spec, "location")).filter(|location| !location.is_empty());
        if let Some(location) = &location {
            if kind == StorageKind::Block {
                return invalid(format!(
                    "{prefix} location may not be specified for \"type: block\""
                ));
            }
            if location == STORAGE_DIR || location.starts_with(&format!("{STORAGE_DIR}/")) {
                return invalid(format!(
                    "{prefix} invalid location {location:?}: must not fall within {STORAGE_DIR:?}"
                ));
            }
        }
        let multiple = spec.get("multiple").filter(|value| !value.is_null());
        let (count_min, count_max) = match multiple {
            None => (1, Some(1)),
            Some(multiple) => range(multiple.get("range").unwrap_or(&Value::Null))?,
        };
        Ok(Self {
            kind,
            count_min,
            count_max,
            location,
            multiple: multiple.is_some(),
        })
    }
}

impl StorageDirective {
    /// Parses `pool,count,size` in any order, each part optional: `1G`, `3`, `loop,2,10G`.
    ///
    /// # Errors
    ///
    /// With Juju's text when a part is none of the three.
    pub fn parse(text: &str) -> Result<Self, CharmError> {
        let mut directive = Self {
            pool: None,
            size_mib: None,
            count: None,
        };
        for (place, part) in text.split(',').enumerate() {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            match size_mib(part) {
                _ if digits => match part.parse() {
                    Ok(count) if count > 0 => directive.count = Some(count),
                    _ => {
                        return invalid(format!(
                            "cannot parse count: count must be greater than zero, got {part:?}"
                        ));
                    }
                },
                Some(size) => directive.size_mib = Some(size),
                None if place == 0 && part.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    directive.pool = Some(part.to_owned());
                }
                None => return invalid(format!("unrecognized storage directive {part:?}")),
            }
        }
        Ok(directive)
    }
}

/// Parses a size like `512M` or `1.5G` into MiB, rounded up.
fn size_mib(text: &str) -> Option<u64> {
    let unit = text
        .trim_end_matches("iB")
        .trim_end_matches('B')
        .chars()
        .last()?;
    let number = &text[..text.find(unit)?];
    let factor: u64 = match unit {
        'M' => 1,
        'G' => 1 << 10,
        'T' => 1 << 20,
        'P' => 1 << 30,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut size = whole.checked_mul(factor)?;
    if !part.is_empty() {
        // Three places are enough: a size is a wish, not an account.
        let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
        size = size.checked_add((thousandths * factor).div_ceil(1000))?;
    }
    Some(size)
}

/// Parses `m`, `m-n`, `m+` or `m-`.
fn range(value: &Value) -> Result<(u32, Option<u32>), CharmError> {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let parsed = if let Some(least) = text.strip_suffix(['+', '-']) {
        least.parse().ok().map(|least| (least, None))
    } else if let Some((least, most)) = text.split_once('-') {
        least
            .parse()
            .ok()
            .zip(most.parse().ok())
            .map(|(least, most)| (least, Some(most)))
    } else {
        text.parse().ok().map(|exactly| (exactly, Some(exactly)))
    };
    match parsed {
        Some((least, most)) if most.is_none_or(|most| most >= least && most > 0) => {
            Ok((least, most))
        }
        _ => invalid(format!("value {text:?} does not match 'm', 'm-n', or 'm+'")),
    }
}
