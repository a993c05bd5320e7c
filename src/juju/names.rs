//! Names as Juju writes them: units, applications, secrets.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not the name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as {kind}: {reason}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

/// Longest text that an error repeats, in characters: names can come from anywhere.
const SHOWN_CHARACTERS: usize = 100;

impl NameError {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        Self {
            kind,
            text: text.chars().take(SHOWN_CHARACTERS).collect(),
            reason,
        }
    }
}

/// Says whether `text` is an application's name: lower-case letters and digits in parts joined by
/// hyphens, the first begins with a letter and each holds a letter.
#[must_use]
pub fn is_application_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split('-').all(|part| {
            part.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
                && part.bytes().any(|byte| byte.is_ascii_lowercase())
        })
}

/// Says whether `text` is the name of an endpoint: lower-case letters and digits, joined by single
/// hyphens or underscores, beginning with a letter.
#[must_use]
pub fn is_endpoint_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split(['-', '_']).all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

/// A unit, as in `valkey/12`.
///
/// Ordered by application, then by number, so that `valkey/2` comes before `valkey/10`; Juju itself
/// sorts as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName {
    application: Arc<str>,
    number: u32,
}

impl UnitName {
    /// Puts a unit's name together.
    ///
    /// # Errors
    ///
    /// [`NameError`] if `application` is not an application's name.
    pub fn new(application: &str, number: u32) -> Result<Self, NameError> {
        if is_application_name(application) {
            Ok(Self {
                application: application.into(),
                number,
            })
        } else {
            Err(NameError::new(
                "an application",
                application,
                "it is not a name that Juju gives",
            ))
        }
    }

    /// Returns the application's name.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// Returns the unit's number. On Kubernetes it is the pod's ordinal and is used again later.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the unit's tag, as in `unit-valkey-12`; Juju names directories so.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("unit-{}-{}", self.application, self.number)
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.number)
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |reason| NameError::new("a unit", text, reason);
        let (application, number) = text
            .split_once('/')
            .ok_or_else(|| fail("there is no `/` in it"))?;
        if !is_application_name(application) {
            return Err(fail("the part before `/` is not an application's name"));
        }
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fail("the part after `/` is not a number"));
        }
        if number.len() > 1 && number.starts_with('0') {
            return Err(fail("the number begins with a zero"));
        }
        let number = number
            .parse()
            .map_err(|_| fail("the number is too large"))?;
        Ok(Self {
            application: application.into(),
            number,
        })
    }
}

impl TryFrom<String> for UnitName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.to_string()
    }
}

/// A secret's identity; written as its URI, as in `secret:9m4e2mr0ui3e8a215n4g`.
///
/// Read from the URI, the cross-model URI `secret://<model>/<id>` or the bare id that some hook
/// tools print.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId(String);

impl SecretId {
    /// Returns the bare id, without scheme and model.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit(['/', ':']).next().unwrap_or(&self.0)
    }

    /// Returns the URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |reason| NameError::new("a secret", text, reason);
        let rest = text.strip_prefix("secret:").unwrap_or(text);
        let (model, id) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (model, id) = rest
                    .split_once('/')
                    .ok_or_else(|| fail("it names a model but no secret"))?;
                (Some(model), id)
            }
            None => (None, rest),
        };
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !plain(id) || !model.is_none_or(plain) {
            return Err(fail(
                "only letters, digits and hyphens may follow `secret:`",
            ));
        }
        Ok(Self(match model {
            Some(model) => format!("secret://{model}/{id}"),
            None => format!("secret:{id}"),
        }))
    }
}

impl TryFrom<String> for SecretId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SecretId> for String {
    fn from(id: SecretId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_are_read_as_juju_writes_them() {
        for (text, good) in [
            ("valkey/0", true),
            ("valkey/12", true),
            ("valkey-k8s/3", true),
            ("a1-2b/4294967295", true),
            ("valkey/4294967296", false),
            ("valkey/01", false),
            ("valkey/-1", false),
            ("valkey/+1", false),
            ("valkey/", false),
            ("valkey", false),
            ("/0", false),
            ("Valkey/0", false),
            ("valkey-2/0", false),
            ("valkey--a/0", false),
            ("valkey/0/1", false),
            ("välkey/0", false),
            ("", false),
        ] {
            match text.parse::<UnitName>() {
                Ok(name) => {
                    assert!(good, "{text}");
                    assert_eq!(name.to_string(), text);
                    assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{text}\""));
                }
                Err(error) => assert!(!good, "{error}"),
            }
        }
    }

    #[test]
    fn units_are_ordered_by_number() {
        let mut names: Vec<UnitName> = ["b/1", "a/10", "a/2"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a/2", "a/10", "b/1"]
        );
    }

    #[test]
    fn secret_ids_are_read_in_every_form() {
        for (text, expected, id) in [
            (
                "secret:9m4e2mr0ui3e8a215n4g",
                "secret:9m4e2mr0ui3e8a215n4g",
                "9m4e2mr0ui3e8a215n4g",
            ),
            (
                "9m4e2mr0ui3e8a215n4g",
                "secret:9m4e2mr0ui3e8a215n4g",
                "9m4e2mr0ui3e8a215n4g",
            ),
            ("secret://0a-1b/9m4e", "secret://0a-1b/9m4e", "9m4e"),
        ] {
            let secret: SecretId = text.parse().unwrap();
            assert_eq!((secret.as_str(), secret.id()), (expected, id));
        }
        for text in [
            "",
            "secret:",
            "secret://model",
            "secret://m/",
            "secret:a b",
            "--help me",
        ] {
            assert!(text.parse::<SecretId>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_that_is_read_is_written_the_same(text in ".{0,20}|[a-z0-9/-]{0,12}/[0-9]{0,11}") {
            if let Ok(name) = text.parse::<UnitName>() {
                proptest::prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
