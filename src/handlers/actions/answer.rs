//! How an action answers: a table on its standard output, or JSON as result `result`.

use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    juju::{self, HookTools, ToolError},
    planner::{Observation, UnitName},
};

/// Key of the result that holds the JSON.
const RESULT: &str = "result";

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Format {
    /// Reads the parameter `format`.
    ///
    /// # Errors
    ///
    /// When it is neither `table` nor `json`; Juju checks that, but not every caller is Juju.
    pub fn from_parameters(parameters: &Map<String, Value>) -> Result<Self, String> {
        match parameters.get("format").map(Value::as_str) {
            None | Some(Some("table")) => Ok(Self::Table),
            Some(Some("json")) => Ok(Self::Json),
            Some(_) => Err("parameter `format` must be `table` or `json`".to_owned()),
        }
    }
}

/// What an action answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// Why the action failed, if it did.
    pub failure: Option<String>,
}

impl Answer {
    /// Puts an answer together.
    ///
    /// # Errors
    ///
    /// When `document` cannot be written as JSON.
    pub fn new(text: String, document: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self {
            text,
            json: serde_json::to_value(document).context("cannot write the result as JSON")?,
            failure: None,
        })
    }

    /// Makes it a failure.
    #[must_use]
    pub fn failed(mut self, why: impl Into<String>) -> Self {
        self.failure = Some(why.into());
        self
    }

    /// Gives the answer to Juju.
    ///
    /// # Errors
    ///
    /// When a hook tool fails.
    pub async fn give(&self, tools: &HookTools, format: Format) -> anyhow::Result<()> {
        let mut failure = self.failure.clone();
        match format {
            Format::Table => print(&self.text)?,
            Format::Json => match tools.action_set(&[(RESULT, &self.json.to_string())]).await {
                Ok(()) => {}
                Err(ToolError::ArgumentTooLong { length, .. }) => {
                    let why = format!(
                        "cannot return the result as JSON: {length} bytes are more than Juju takes; use format=table"
                    );
                    failure = Some(failure.map_or(why.clone(), |first| format!("{first}; {why}")));
                }
                Err(error) => return Err(error).context("cannot return the result"),
            },
        }
        if let Some(why) = failure {
            tools
                .action_fail(&why)
                .await
                .context("cannot say why the action failed")?;
        }
        Ok(())
    }
}

/// Prints to standard output, which Juju shows.
///
/// # Errors
///
/// When nobody reads it any more.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the result")
}

/// Reads a parameter that names a unit.
///
/// # Errors
///
/// When it is not the name of a unit.
pub fn unit_parameter(
    parameters: &Map<String, Value>,
    name: &str,
) -> Result<Option<UnitName>, String> {
    match parameters.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(unit)) => match unit.parse::<juju::UnitName>() {
            Ok(unit) => Ok(Some(UnitName::new(unit.to_string()))),
            Err(error) => Err(format!("parameter `{name}` must name a unit: {error}")),
        },
        Some(_) => Err(format!("parameter `{name}` must name a unit")),
    }
}

/// Replaces addresses by the names of the units, which is what people know.
#[must_use]
pub fn with_unit_names(seen: &Observation, text: &str) -> String {
    let mut text = text.to_owned();
    for unit in seen.units.keys() {
        if let Some(host) = seen.host_of(unit) {
            for port in [crate::limits::SERVER_PORT, crate::limits::SENTINEL_PORT] {
                // With its port, so that 10.0.0.1 is not found in 10.0.0.12.
                text = text.replace(&format!("{host}:{port}"), unit.as_str());
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    #[test]
    fn formats_are_table_and_json_only() {
        for (parameters, expected) in [
            (serde_json::json!({}), Some(Format::Table)),
            (serde_json::json!({"format": "table"}), Some(Format::Table)),
            (serde_json::json!({"format": "json"}), Some(Format::Json)),
            (serde_json::json!({"format": "xml"}), None),
            (serde_json::json!({"format": 1}), None),
        ] {
            let map = parameters.as_object().cloned().unwrap_or_default();
            assert_eq!(Format::from_parameters(&map).ok(), expected, "{parameters}");
        }
    }

    #[test]
    fn people_read_names_of_units() {
        let seen = seen("me=0 0:P 1:R");
        assert_eq!(
            with_unit_names(&seen, "10.0.0.1:6379 and 10.0.0.12:6379 and 10.0.0.0:26379"),
            "valkey/1 and 10.0.0.12:6379 and valkey/0"
        );
    }
}
