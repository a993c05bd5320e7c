//! `config.yaml`: the options of a charm, and how a person's text becomes a typed value.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::yaml::go_syntax;
use super::{CharmError, invalid};

/// The options of a charm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Option's name → option, in the file's order.
    pub options: IndexMap<String, ConfigOption>,
}

/// One option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigOption {
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: OptionType,
    /// What it does, for people.
    pub description: String,
    /// Value when a person sets none; `None` if it has none.
    pub default: Option<Value>,
}

/// Type of an option's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptionType {
    /// Any text.
    String,
    /// 64-bit integer.
    Int,
    /// Floating-point number.
    Float,
    /// True or false.
    Boolean,
    /// URI of a user secret, `secret:…`; may be empty.
    Secret,
}

impl fmt::Display for OptionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Secret => "secret",
        })
    }
}

impl Config {
    /// Parses the document.
    ///
    /// # Errors
    ///
    /// With Juju's text: empty, an unknown type, a default of another type.
    pub fn parse(document: &Value) -> Result<Self, CharmError> {
        let Some(document) = document.as_object() else {
            return invalid("invalid config: empty configuration");
        };
        let mut config = Self::default();
        let options = match document.get("options") {
            Some(Value::Object(options)) => options,
            Some(Value::Null) | None => return invalid("invalid config: empty configuration"),
            Some(_) => return invalid("invalid config: options: expected a map"),
        };
        for (name, option) in options {
            config
                .options
                .insert(name.clone(), ConfigOption::parse(name, option)?);
        }
        Ok(config)
    }

    /// Turns the text that a person gave for option `name` into a value of its type.
    ///
    /// # Errors
    ///
    /// With Juju's text for an unknown option or a text that does not fit the type.
    pub fn parse_text(&self, name: &str, text: &str) -> Result<Value, CharmError> {
        let kind = self.option(name)?.kind;
        let wrong =
            || CharmError::Invalid(format!("option {name:?} expected {kind}, got {text:?}"));
        match kind {
            OptionType::String => Ok(Value::String(text.to_owned())),
            OptionType::Secret => check_secret(name, text).map(|()| Value::String(text.to_owned())),
            OptionType::Int => text.parse::<i64>().map(Value::from).map_err(|_| wrong()),
            OptionType::Float => {
                let number = text
                    .parse::<f64>()
                    .ok()
                    .and_then(serde_json::Number::from_f64);
                number.map(Value::Number).ok_or_else(wrong)
            }
            OptionType::Boolean => go_bool(text).map(Value::Bool).ok_or_else(wrong),
        }
    }

    /// Returns what the charm sees: `settings` over the defaults; null for an option that has neither.
    #[must_use]
    pub fn effective(&self, settings: &Map<String, Value>) -> Map<String, Value> {
        let value = |(name, option): (&String, &ConfigOption)| {
            let set = settings
                .get(name)
                .filter(|value| !value.is_null())
                .or(option.default.as_ref());
            (name.clone(), set.cloned().unwrap_or(Value::Null))
        };
        self.options.iter().map(value).collect()
    }

    fn option(&self, name: &str) -> Result<&ConfigOption, CharmError> {
        self.options
            .get(name)
            .ok_or_else(|| CharmError::Invalid(format!("unknown option {name:?}")))
    }
}

impl ConfigOption {
    fn parse(name: &str, option: &Value) -> Result<Self, CharmError> {
        let kind = match option.get("type") {
            None | Some(Value::Null) => OptionType::String,
            Some(kind) => match kind.as_str() {
                Some("string") => OptionType::String,
                Some("int") => OptionType::Int,
                Some("float") => OptionType::Float,
                Some("boolean") => OptionType::Boolean,
                Some("secret") => OptionType::Secret,
                _ => {
                    let kind = kind
                        .as_str()
                        .map_or_else(|| kind.to_string(), str::to_owned);
                    return invalid(format!(
                        "invalid config: option {name:?} has unknown type {kind:?}"
                    ));
                }
            },
        };
        let default = option
            .get("default")
            .filter(|value| !value.is_null())
            .cloned();
        let fits = match (&default, kind) {
            (None, _)
            | (Some(Value::String(_)), OptionType::String)
            | (Some(Value::Number(_)), OptionType::Float)
            | (Some(Value::Bool(_)), OptionType::Boolean) => true,
            (Some(Value::Number(number)), OptionType::Int) => number.is_i64(),
            (Some(Value::String(text)), OptionType::Secret) => check_secret(name, text).is_ok(),
            _ => false,
        };
        if !fits {
            let got = go_syntax(&default.unwrap_or(Value::Null));
            return invalid(format!(
                "invalid config default: option {name:?} expected {kind}, got {got}"
            ));
        }
        let description = option
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(Self {
            kind,
            description: description.to_owned(),
            default,
        })
    }
}

/// Parses a boolean as Go's `strconv.ParseBool` does.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Checks that `text` is empty or looks like the URI of a secret.
fn check_secret(name: &str, text: &str) -> Result<(), CharmError> {
    if text.is_empty()
        || text
            .strip_prefix("secret:")
            .is_some_and(|id| !id.is_empty())
    {
        return Ok(());
    }
    invalid(format!("option {name:?} expected secret, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;
    use serde_json::json;

    fn config(text: &str) -> Result<Config, CharmError> {
        Config::parse(&yaml::parse("config.yaml", text)?)
    }

    fn example() -> Config {
        config(
            "options:\n  s: {default: a}\n  i: {type: int, default: 3}\n  f: {type: float}\n  b: {type: boolean, default: false}\n  \
             k: {type: secret}\n",
        )
        .unwrap()
    }

    #[test]
    fn wrong_files_are_refused_with_jujus_words() {
        for (text, expected) in [
            ("", "invalid config: empty configuration"),
            ("options: {}", "ok"),
            (
                "options: {x: {type: list}}",
                "invalid config: option \"x\" has unknown type \"list\"",
            ),
            (
                "options: {x: {type: int, default: abc}}",
                "invalid config default: option \"x\" expected int, got \"abc\"",
            ),
            (
                "options: {x: {type: int, default: 1.5}}",
                "invalid config default: option \"x\" expected int, got 1.5",
            ),
            (
                "options: {x: {type: string, default: 1}}",
                "invalid config default: option \"x\" expected string, got 1",
            ),
            ("options: {x: {type: string, default: ''}}", "ok"),
            ("options: {x: {type: secret, default: ''}}", "ok"),
        ] {
            assert_eq!(
                config(text).map_or_else(|error| error.to_string(), |_| "ok".into()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn text_becomes_values_of_the_options_type() {
        let config = example();
        for (name, text, expected) in [
            ("s", "5", Ok(json!("5"))),
            ("i", "-5", Ok(json!(-5))),
            ("i", "5.0", Err("option \"i\" expected int, got \"5.0\"")),
            (
                "i",
                "99999999999999999999",
                Err("option \"i\" expected int, got \"99999999999999999999\""),
            ),
            ("f", "1.5", Ok(json!(1.5))),
            ("f", "inf", Err("option \"f\" expected float, got \"inf\"")),
            ("b", "T", Ok(json!(true))),
            (
                "b",
                "yes",
                Err("option \"b\" expected boolean, got \"yes\""),
            ),
            ("k", "", Ok(json!(""))),
            ("k", "secret:abc", Ok(json!("secret:abc"))),
            (
                "k",
                "password",
                Err("option \"k\" expected secret, got \"password\""),
            ),
            ("zz", "1", Err("unknown option \"zz\"")),
        ] {
            let got = config
                .parse_text(name, text)
                .map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{name}={text}");
        }
    }

    #[test]
    fn settings_lie_over_defaults() {
        let settings = json!({"i": 9, "s": null}).as_object().unwrap().clone();
        let seen = Value::Object(example().effective(&settings));
        assert_eq!(
            seen,
            json!({"s": "a", "i": 9, "f": null, "b": false, "k": null})
        );
    }
}
