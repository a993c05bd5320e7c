//! YAML documents of a charm, read with a bound and turned into JSON values.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::{Map, Value};

use super::{CharmError, invalid};
use crate::limits::CHARM_YAML_BYTES_MAX;

/// Reads `name` in `dir` as text; `None` if there is no such file.
///
/// # Errors
///
/// When it cannot be read, is longer than [`CHARM_YAML_BYTES_MAX`], or is not UTF-8.
pub fn read_text(dir: &Path, name: &str) -> Result<Option<String>, CharmError> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CharmError::Io {
                what: "open",
                path,
                source,
            });
        }
    };
    let mut text = String::new();
    file.take(CHARM_YAML_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(CharmError::io("read", &path))?;
    if u64::try_from(text.len()).is_ok_and(|len| len > CHARM_YAML_BYTES_MAX) {
        return invalid(format!(
            "{name} is longer than {CHARM_YAML_BYTES_MAX} bytes"
        ));
    }
    Ok(Some(text))
}

/// Reads `name` in `dir` as a YAML document; `None` if there is no such file.
///
/// # Errors
///
/// As [`read_text`], and when it is not YAML.
pub fn read_optional(dir: &Path, name: &str) -> Result<Option<Value>, CharmError> {
    read_text(dir, name)?
        .map(|text| parse(name, &text))
        .transpose()
}

/// Parses `text` as one YAML document; `name` is for the error's text.
///
/// # Errors
///
/// When it is not YAML, or has keys that are neither text, number nor boolean.
pub fn parse(name: &str, text: &str) -> Result<Value, CharmError> {
    let document: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|source| CharmError::Yaml {
            file: name.to_owned(),
            source,
        })?;
    to_json(name, document)
}

fn to_json(name: &str, value: serde_yaml::Value) -> Result<Value, CharmError> {
    Ok(match value {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(value) => Value::Bool(value),
        serde_yaml::Value::Number(number) => number_to_json(&number),
        serde_yaml::Value::String(text) => Value::String(text),
        serde_yaml::Value::Sequence(items) => Value::Array(
            items
                .into_iter()
                .map(|item| to_json(name, item))
                .collect::<Result<_, _>>()?,
        ),
        serde_yaml::Value::Mapping(mapping) => {
            let mut map = Map::new();
            for (key, value) in mapping {
                let key = match key {
                    serde_yaml::Value::String(text) => text,
                    serde_yaml::Value::Bool(value) => value.to_string(),
                    serde_yaml::Value::Number(number) => number.to_string(),
                    _ => {
                        return invalid(format!(
                            "cannot parse {name}: a map has a key that is not text"
                        ));
                    }
                };
                map.insert(key, to_json(name, value)?);
            }
            Value::Object(map)
        }
        serde_yaml::Value::Tagged(tagged) => to_json(name, tagged.value)?,
    })
}

/// Keeps integers as integers; what JSON cannot hold (infinity) becomes text.
fn number_to_json(number: &serde_yaml::Number) -> Value {
    if let Some(number) = number.as_i64() {
        return number.into();
    }
    if let Some(number) = number.as_u64() {
        return number.into();
    }
    let float = number.as_f64().and_then(serde_json::Number::from_f64);
    float.map_or_else(|| Value::String(number.to_string()), Value::Number)
}

/// Formats `value` as Go's `%#v` does for the values that YAML gives; Juju quotes wrong values like this.
#[must_use]
pub fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_become_json() {
        for (text, expected) in [
            (
                "a: 1\nb: [x, 2.5, true, null]\n",
                r#"{"a":1,"b":["x",2.5,true,null]}"#,
            ),
            ("{1: a, true: b}", r#"{"1":"a","true":"b"}"#),
            ("", "null"),
            ("!tag x", "\"x\""),
        ] {
            assert_eq!(parse("f", text).unwrap().to_string(), expected, "{text}");
        }
        assert!(
            parse("f", "a: [")
                .unwrap_err()
                .to_string()
                .starts_with("cannot parse f")
        );
        assert!(parse("f", "{[a]: b}").is_err());
    }
}
