//! What a person types: times, `key=value`, files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use crate::limits::{INPUT_BYTES_MAX, KEY_DEPTH_MAX};

/// Parses a time such as `90s`, `5m`, `1h30m` or `500ms`; a bare number is seconds.
///
/// # Errors
///
/// When it is none, with examples.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write for example 90s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let milliseconds = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let part = number
            .checked_mul(milliseconds)
            .map(Duration::from_millis)
            .ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

/// Splits `key=value`.
///
/// # Errors
///
/// With Juju's text when there is no `=` or no key.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err(format!("expected \"key=value\", got {text:?}")),
    }
}

/// Reads a file that a person names, or standard input for `-`.
///
/// # Errors
///
/// When it cannot be read, is no text, or is too large.
pub fn file(path: &Path) -> Result<String> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let mut text = String::new();
    source
        .take(INPUT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(text.len()).is_ok_and(|len| len > INPUT_BYTES_MAX) {
        bail!(
            "cannot use {}: it is larger than {INPUT_BYTES_MAX} bytes",
            path.display()
        );
    }
    Ok(text)
}

/// Reads a YAML map from a file.
///
/// # Errors
///
/// When it cannot be read or is no map.
pub fn yaml_map(path: &Path) -> Result<Map<String, Value>> {
    let text = file(path)?;
    match crate::charm::yaml::read(&text)
        .with_context(|| format!("cannot parse {} as YAML", path.display()))?
    {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => bail!("cannot use {}: it must hold a YAML map", path.display()),
    }
}

/// Returns options out of a file in the form of `juju deploy --config`: application → option → value.
///
/// # Errors
///
/// When the file does not name the application, or a value is neither text, number nor boolean.
pub fn options_file(path: &Path, application: &str) -> Result<BTreeMap<String, String>> {
    let mut documents = yaml_map(path)?;
    let options = match documents.remove(application) {
        Some(Value::Object(options)) => options,
        // `juju config --file` also takes what `juju config APP` printed.
        _ if documents.contains_key("settings") => settings(&documents),
        _ => bail!(
            "no settings found for {application:?} in {}",
            path.display()
        ),
    };
    options
        .iter()
        .map(|(name, value)| Ok((name.clone(), option_text(name, value)?)))
        .collect()
}

/// Takes the values that a person set out of what `juju config APP` printed.
fn settings(document: &Map<String, Value>) -> Map<String, Value> {
    let settings = document.get("settings").and_then(Value::as_object);
    let set = settings
        .into_iter()
        .flatten()
        .filter(|(_, option)| option["source"] == "user");
    set.filter_map(|(name, option)| Some((name.clone(), option.get("value")?.clone())))
        .collect()
}

/// Returns an option's value as the text that a person would type.
fn option_text(name: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => bail!("option {name:?} has no plain value"),
    }
}

/// Collects options from `key=value` (`key=@file` for a file's text) and, for a text without `=`, from a YAML file.
///
/// # Errors
///
/// When a file cannot be used.
pub fn options(given: &[String], application: &str) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for text in given {
        if !text.contains('=') {
            options.extend(options_file(Path::new(text), application)?);
            continue;
        }
        let (key, value) = pair(text).map_err(anyhow::Error::msg)?;
        let value = match value.strip_prefix('@') {
            Some(path) => file(Path::new(path))?,
            None => value,
        };
        options.insert(key, value);
    }
    Ok(options)
}

/// Makes the path of every `name=path` absolute, since the engine works elsewhere.
///
/// # Errors
///
/// When a file is not there.
pub fn resources(given: Vec<(String, String)>) -> Result<BTreeMap<String, PathBuf>> {
    let absolute = |(name, path): (String, String)| {
        let path = std::fs::canonicalize(&path)
            .with_context(|| format!("cannot use resource {name:?}: {path}"))?;
        Ok((name, path))
    };
    given.into_iter().map(absolute).collect()
}

/// Collects action parameters from a YAML file and `key=value` or `key.key=value`; values are YAML unless `as_text`.
///
/// # Errors
///
/// When the file or a value cannot be parsed, or a key goes through something that is no map.
pub fn parameters(
    file: Option<&Path>,
    given: &[String],
    as_text: bool,
) -> Result<Map<String, Value>> {
    let mut parameters = file.map(yaml_map).transpose()?.unwrap_or_default();
    for text in given {
        let Ok((path, value)) = pair(text) else {
            bail!("argument {text:?} must be of the form key.key.key...=value")
        };
        let value = if as_text {
            Value::String(value)
        } else {
            crate::charm::yaml::read(&value)
                .with_context(|| format!("cannot parse the value of {path:?} as YAML"))?
        };
        if path.split('.').count() > KEY_DEPTH_MAX {
            bail!("cannot take a parameter's key with more than {KEY_DEPTH_MAX} parts");
        }
        insert(&mut parameters, &path, value)?;
    }
    Ok(parameters)
}

fn insert(into: &mut Map<String, Value>, path: &str, value: Value) -> Result<()> {
    let Some((first, rest)) = path.split_once('.') else {
        into.insert(path.to_owned(), value);
        return Ok(());
    };
    match into
        .entry(first)
        .or_insert_with(|| Value::Object(Map::new()))
    {
        Value::Object(inner) => insert(inner, rest, value),
        _ => bail!("cannot set {path:?}: {first:?} has a value already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_understood() {
        for (text, expected) in [
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("7", Some(7000)),
            ("", None),
            ("m", None),
            ("5x", None),
            ("5m3", None),
            ("-1s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(
                duration(text).ok(),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn parameters_are_yaml_and_nest() {
        let given = ["a=1", "b.c=true", "b.d=[x, y]", "e=x: y", "f=", "g=a=b"].map(str::to_owned);
        let expected = json!({"a": 1, "b": {"c": true, "d": ["x", "y"]}, "e": {"x": "y"}, "f": null, "g": "a=b"});
        assert_eq!(
            Value::Object(parameters(None, &given, false).unwrap()),
            expected
        );
        assert_eq!(
            Value::Object(parameters(None, &given[..1], true).unwrap()),
            json!({"a": "1"})
        );
        for bad in [["a=1", "a.b=2"], ["x", "a=1"]] {
            assert!(
                parameters(None, &bad.map(str::to_owned), false).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn options_come_from_arguments_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let (yaml, text) = (dir.path().join("o.yaml"), dir.path().join("o.txt"));
        std::fs::write(&yaml, "app:\n  n: 5\n  b: true\n  s: x\n").unwrap();
        std::fs::write(&text, "long").unwrap();
        let given = [
            yaml.display().to_string(),
            "s=y".to_owned(),
            format!("t=@{}", text.display()),
        ];
        let expected = [("b", "true"), ("n", "5"), ("s", "y"), ("t", "long")];
        let expected: BTreeMap<String, String> = expected.map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(options(&given, "app").unwrap(), expected);
        let other = options(&given, "other").unwrap_err().to_string();
        assert!(
            other.starts_with("no settings found for \"other\""),
            "{other}"
        );
        std::fs::write(&yaml, "application: app\nsettings: {n: {value: 5, source: user}, m: {value: 1, source: default}}\n").unwrap();
        assert_eq!(
            options_file(&yaml, "app").unwrap(),
            [("n".to_owned(), "5".to_owned())].into()
        );
    }
}
