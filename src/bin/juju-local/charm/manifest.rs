//! `manifest.yaml`: the bases that the charm is for. Juju reads nothing else in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CharmError, invalid};

/// The base of a charm that names none.
const BASE_DEFAULT: (&str, &str) = ("ubuntu", "24.04");

/// Names of operating systems that Juju knows as bases.
const BASE_NAMES: [&str; 6] = [
    "ubuntu",
    "centos",
    "windows",
    "osx",
    "opensuse",
    "genericlinux",
];

/// What `manifest.yaml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The bases, in the file's order.
    pub bases: Vec<Base>,
}

/// An operating system that the charm runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Name of the system, e.g. `ubuntu`.
    pub name: String,
    /// Track alone, e.g. `24.04`, as status shows it.
    pub channel: String,
    /// Processor architectures; empty means any.
    pub architectures: Vec<String>,
}

impl Manifest {
    /// Parses the document.
    ///
    /// # Errors
    ///
    /// With Juju's text when a base has no known name or no channel.
    pub fn parse(document: &Value) -> Result<Self, CharmError> {
        let Some(bases) = document.get("bases") else {
            return Ok(Self::default());
        };
        let Some(bases) = bases.as_array() else {
            return invalid("manifest: bases: expected a list");
        };
        Ok(Self {
            bases: bases.iter().map(Base::parse).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the base that a deployment takes: the first, or a present Ubuntu if the charm names none.
    #[must_use]
    pub fn base(&self) -> Base {
        self.bases.first().cloned().unwrap_or_else(|| Base {
            name: BASE_DEFAULT.0.to_owned(),
            channel: BASE_DEFAULT.1.to_owned(),
            architectures: Vec::new(),
        })
    }
}

impl Base {
    fn parse(base: &Value) -> Result<Self, CharmError> {
        let text = |key: &str| match base.get(key) {
            Some(Value::String(text)) => text.clone(),
            // `channel: 24.04` without quotes is a number to YAML.
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let name = text("name");
        if !BASE_NAMES.contains(&name.as_str()) {
            return invalid(format!("manifest: bases: unknown base name {name:?}"));
        }
        let channel = text("channel");
        let track = channel.split('/').next().unwrap_or_default().to_owned();
        if track.is_empty() {
            return invalid(format!("manifest: bases: base {name:?} has no channel"));
        }
        let architectures = base.get("architectures").and_then(Value::as_array);
        let architectures = architectures
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned);
        Ok(Self {
            name,
            channel: track,
            architectures: architectures.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    #[test]
    fn bases_are_read_and_checked() {
        for (text, expected) in [
            (
                "bases: [{name: ubuntu, channel: '24.04', architectures: [amd64]}]",
                "ubuntu@24.04",
            ),
            (
                "bases: [{name: ubuntu, channel: 22.04/stable}]",
                "ubuntu@22.04",
            ),
            ("charmcraft-version: 3.4.0", "ubuntu@24.04"),
            (
                "bases: [{name: plan9, channel: '4'}]",
                "manifest: bases: unknown base name \"plan9\"",
            ),
            (
                "bases: [{name: ubuntu}]",
                "manifest: bases: base \"ubuntu\" has no channel",
            ),
            ("bases: ubuntu", "manifest: bases: expected a list"),
        ] {
            let got = match Manifest::parse(&yaml::parse("manifest.yaml", text).unwrap()) {
                Ok(manifest) => format!("{}@{}", manifest.base().name, manifest.base().channel),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected, "{text}");
        }
    }
}
