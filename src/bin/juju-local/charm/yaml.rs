//! YAML documents of a charm, read with a bound and turned into JSON values.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess as _,
    Visitor,
};
use serde_json::{Map, Value};

use super::{CharmError, invalid};
use crate::limits::{
    CHARM_YAML_BYTES_MAX, YAML_BRACKETS_MAX, YAML_TEXT_BYTES_MAX, YAML_VALUES_MAX,
};

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
    read(text).map_err(|source| CharmError::Yaml {
        file: name.to_owned(),
        source,
    })
}

/// Reads `text` as one YAML document, with a bound on what aliases make of it.
///
/// # Errors
///
/// When it is not YAML, has keys that are neither text, number nor boolean, is nested too deeply, or stands for
/// more than [`YAML_VALUES_MAX`] values or [`YAML_TEXT_BYTES_MAX`] bytes of text.
pub fn read(text: &str) -> Result<Value, serde_yaml::Error> {
    if nests_deeply(text) {
        // JSON is YAML, and its reader is not slowed down by brackets in its texts.
        return serde_json::from_str(text).map_err(|_| {
            de::Error::custom(
                "it is nested too deeply, or has too many brackets that are not closed",
            )
        });
    }
    let left = Cell::new(Left {
        values: YAML_VALUES_MAX,
        bytes: YAML_TEXT_BYTES_MAX,
    });
    Bounded { left: &left }.deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Tells whether more than [`YAML_BRACKETS_MAX`] brackets are open somewhere, those in texts included.
fn nests_deeply(text: &str) -> bool {
    let mut open = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > YAML_BRACKETS_MAX
    })
}

/// What a document may still hold.
#[derive(Clone, Copy)]
struct Left {
    values: usize,
    bytes: usize,
}

/// Reads a value and all below it, and counts.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<Left>,
}

impl Bounded<'_> {
    fn spend<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        let Left {
            values,
            bytes: room,
        } = self.left.get();
        match (values.checked_sub(1), room.checked_sub(bytes)) {
            (Some(values), Some(bytes)) => {
                self.left.set(Left { values, bytes });
                Ok(())
            }
            _ => Err(E::custom(format_args!(
                "it stands for more than {YAML_VALUES_MAX} values or {YAML_TEXT_BYTES_MAX} bytes of text"
            ))),
        }
    }

    fn take<E: de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.take(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.take(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.take(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.take(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.take(value)
    }

    /// What JSON cannot hold (infinity) becomes text.
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.take(number),
            None => self.take(serde_yaml::Number::from(value).to_string()),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.spend(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let key = match key {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => key.to_string(),
                _ => return Err(de::Error::custom("a map has a key that is not text")),
            };
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "a map has the key {key:?} twice"
                )));
            }
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }

    /// A tag says what a value is meant to be; the value counts.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (_, content) = tagged.variant_seed(self)?;
        content.newtype_variant_seed(self)
    }
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

/// Returns the text under `key`, or an empty one.
pub(super) fn text(map: &Map<String, Value>, key: &str) -> String {
    map.get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
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
