//! What Juju tells a hook, an action or a `juju-exec` run through the environment, read once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::event::Event;
use super::names::{NameError, SecretId, UnitName, is_endpoint_name};

/// Why the environment is not that of a hook.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable that Juju always sets is not there.
    #[error(
        "cannot find `{variable}` in the environment: run the charm through Juju (as a hook, or with juju-exec)"
    )]
    Missing {
        /// The variable.
        variable: &'static str,
    },
    /// A variable holds a name that cannot be one.
    #[error("cannot use `{variable}` from the environment")]
    Name {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
    /// A variable holds something else than it should.
    #[error("cannot use `{variable}` from the environment: {reason}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Version of the unit agent, as in `3.6.28` or `4.0-beta2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JujuVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number; 0 for a pre-release such as `4.0-beta2`.
    pub patch: u32,
}

impl fmt::Display for JujuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for JujuVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REASON: &str = "it is not a version such as 3.6.28";
        let (major, rest) = text.split_once('.').ok_or(REASON)?;
        let number = |part: &str| part.parse::<u32>().map_err(|_| REASON);
        let (minor, patch) = match rest.split_once(['.', '-']) {
            Some((minor, _)) if rest[minor.len()..].starts_with('-') => (minor, "0"),
            // A fourth number is the build's, a tag behind the third one a pre-release's.
            Some((minor, rest)) => (minor, rest.split(['.', '-']).next().unwrap_or(rest)),
            None => (rest, "0"),
        };
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
            patch: number(patch)?,
        })
    }
}

/// The relation that a hook is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationContext {
    /// Name of the endpoint, as in `valkey-peers`.
    pub endpoint: String,
    /// Id for the hook tools, as in `valkey-peers:0`.
    pub id: String,
    /// The other unit; none for created, broken and a change of application data.
    pub remote_unit: Option<UnitName>,
    /// The other application (the own one among peers); can be missing in a broken relation.
    pub remote_app: Option<String>,
    /// In relation-departed, who leaves: the unit itself or the remote one.
    pub departing_unit: Option<UnitName>,
}

/// The storage instance that a hook is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageContext {
    /// Id of the instance, as in `data/0`.
    pub id: String,
    /// Where it is mounted.
    pub location: PathBuf,
    /// `filesystem` or `block`.
    pub kind: String,
}

/// The action that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionContext {
    /// The action's name.
    pub name: String,
    /// The task's id, a small number in spite of its variable's name.
    pub id: String,
}

/// The secret that a hook is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretContext {
    /// The secret.
    pub id: SecretId,
    /// The label that this unit gave it, if any.
    pub label: Option<String>,
    /// The revision; only for expired and remove.
    pub revision: Option<u32>,
}

/// What a hook, an action or a `juju-exec` run is told by Juju.
#[derive(Clone)]
pub struct Environment {
    /// The unit that runs the charm.
    pub unit: UnitName,
    /// Name of the model; empty if not told.
    pub model_name: String,
    /// UUID of the model; empty if not told.
    pub model_uuid: String,
    /// Where the charm is unpacked.
    pub charm_dir: PathBuf,
    /// Version of the unit agent, if told.
    pub juju_version: Option<JujuVersion>,
    /// `hooks/<name>` or `actions/<name>`; none in a plain `juju-exec` run.
    pub dispatch_path: Option<String>,
    /// The relation, in relation hooks and `juju-exec -r`.
    pub relation: Option<RelationContext>,
    /// The storage instance, in storage hooks of provisioned storage.
    pub storage: Option<StorageContext>,
    /// The action, if one runs.
    pub action: Option<ActionContext>,
    /// The secret, in secret hooks.
    pub secret: Option<SecretContext>,
    /// The workload container, in Pebble's hooks.
    pub workload: Option<String>,
    /// The availability zone, where the cloud has such.
    pub availability_zone: Option<String>,
    /// Whether hook tools work: Juju opened a context for this process.
    pub in_context: bool,
    variables: BTreeMap<String, String>,
}

// Variables can hold credentials (proxies, tokens), so they stay out of every log line.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("unit", &self.unit)
            .field("model_name", &self.model_name)
            .field("dispatch_path", &self.dispatch_path)
            .field("relation", &self.relation)
            .field("storage", &self.storage)
            .field("action", &self.action)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the environment of this process.
    ///
    /// Variables that are not valid Unicode are left out. Without `JUJU_DISPATCH_PATH` the name
    /// under which the program was called is taken if it is a hook's (`hooks/install` as a link).
    ///
    /// # Errors
    ///
    /// As [`Environment::from_vars`].
    pub fn from_process() -> Result<Self, EnvironmentError> {
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let called = std::env::args_os().next().unwrap_or_default();
        Ok(Self::from_vars(vars)?.called_as(&called.to_string_lossy()))
    }

    /// Reads the variables of a hook. A variable that is set but empty counts as not set.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`] if a variable that Juju always sets is missing, or one holds what it cannot.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, EnvironmentError> {
        let variables: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let vars = Reader(&variables);
        Ok(Self {
            unit: vars
                .unit("JUJU_UNIT_NAME")?
                .ok_or(EnvironmentError::Missing {
                    variable: "JUJU_UNIT_NAME",
                })?,
            model_name: vars.text("JUJU_MODEL_NAME").unwrap_or_default(),
            model_uuid: vars.text("JUJU_MODEL_UUID").unwrap_or_default(),
            charm_dir: vars
                .text("JUJU_CHARM_DIR")
                .or_else(|| vars.text("CHARM_DIR"))
                .ok_or(EnvironmentError::Missing {
                    variable: "JUJU_CHARM_DIR",
                })?
                .into(),
            juju_version: vars.parsed("JUJU_VERSION")?,
            dispatch_path: vars.text("JUJU_DISPATCH_PATH"),
            relation: vars.relation()?,
            storage: vars.storage(),
            action: vars.text("JUJU_ACTION_NAME").map(|name| ActionContext {
                name,
                id: vars.text("JUJU_ACTION_UUID").unwrap_or_default(),
            }),
            secret: vars.secret()?,
            workload: vars.text("JUJU_WORKLOAD_NAME"),
            availability_zone: vars.text("JUJU_AVAILABILITY_ZONE"),
            in_context: variables.contains_key("JUJU_CONTEXT_ID"),
            variables,
        })
    }

    /// Takes the event from the name under which the program was called, if Juju named none.
    #[must_use]
    pub fn called_as(mut self, program: &str) -> Self {
        if self.dispatch_path.is_none() {
            let name = program.rsplit('/').next().unwrap_or(program);
            let path = format!("hooks/{name}");
            if !matches!(
                Event::parse(Some(&path), &self),
                Event::Unknown(_) | Event::Custom(_) | Event::JujuExec
            ) {
                self.dispatch_path = Some(path);
            }
        }
        self
    }

    /// Returns the event that this run is about.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::parse(self.dispatch_path.as_deref(), self)
    }

    /// Returns any other variable; none if it is not set or empty.
    #[must_use]
    pub fn extra(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable).map(String::as_str)
    }
}

/// Reads typed values out of the variables.
struct Reader<'a>(&'a BTreeMap<String, String>);

impl Reader<'_> {
    fn text(&self, variable: &str) -> Option<String> {
        self.0.get(variable).cloned()
    }

    fn unit(&self, variable: &'static str) -> Result<Option<UnitName>, EnvironmentError> {
        self.0
            .get(variable)
            .map(|text| {
                text.parse()
                    .map_err(|source| EnvironmentError::Name { variable, source })
            })
            .transpose()
    }

    fn parsed<T: FromStr<Err = &'static str>>(
        &self,
        variable: &'static str,
    ) -> Result<Option<T>, EnvironmentError> {
        self.0
            .get(variable)
            .map(|text| {
                text.parse()
                    .map_err(|reason| EnvironmentError::Value { variable, reason })
            })
            .transpose()
    }

    fn relation(&self) -> Result<Option<RelationContext>, EnvironmentError> {
        const ID: &str = "JUJU_RELATION_ID";
        let (Some(endpoint), Some(id)) = (self.text("JUJU_RELATION"), self.text(ID)) else {
            return Ok(None);
        };
        if !is_endpoint_name(&endpoint) {
            let reason = "it is not an endpoint's name";
            return Err(EnvironmentError::Value {
                variable: "JUJU_RELATION",
                reason,
            });
        }
        if id
            .rsplit(':')
            .next()
            .is_none_or(|number| number.parse::<u32>().is_err())
        {
            let reason = "it is not a relation's id such as peers:0";
            return Err(EnvironmentError::Value {
                variable: ID,
                reason,
            });
        }
        Ok(Some(RelationContext {
            endpoint,
            id,
            remote_unit: self.unit("JUJU_REMOTE_UNIT")?,
            remote_app: self.text("JUJU_REMOTE_APP"),
            departing_unit: self.unit("JUJU_DEPARTING_UNIT")?,
        }))
    }

    fn storage(&self) -> Option<StorageContext> {
        Some(StorageContext {
            id: self.text("JUJU_STORAGE_ID")?,
            location: self.text("JUJU_STORAGE_LOCATION")?.into(),
            kind: self
                .text("JUJU_STORAGE_KIND")
                .unwrap_or_else(|| "filesystem".to_owned()),
        })
    }

    fn secret(&self) -> Result<Option<SecretContext>, EnvironmentError> {
        let variable = "JUJU_SECRET_ID";
        let Some(id) = self.0.get(variable) else {
            return Ok(None);
        };
        let revision = self.0.get("JUJU_SECRET_REVISION").map(|text| {
            text.parse().map_err(|_| EnvironmentError::Value {
                variable: "JUJU_SECRET_REVISION",
                reason: "it is not a number",
            })
        });
        Ok(Some(SecretContext {
            id: id
                .parse()
                .map_err(|source| EnvironmentError::Name { variable, source })?,
            label: self.text("JUJU_SECRET_LABEL"),
            revision: revision.transpose()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: &str =
        "JUJU_UNIT_NAME=valkey/0 JUJU_CHARM_DIR=/charm JUJU_CONTEXT_ID=x JUJU_VERSION=3.6.28";

    fn read(text: &str) -> Result<Environment, String> {
        Environment::from_vars(text.split_whitespace().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        }))
        .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
    }

    #[test]
    fn everything_that_juju_tells_is_read() {
        let env = read(&format!(
            "{ALWAYS} JUJU_RELATION=valkey-peers JUJU_RELATION_ID=valkey-peers:7 JUJU_REMOTE_UNIT=valkey/2 \
             JUJU_REMOTE_APP=valkey JUJU_DEPARTING_UNIT=valkey/2 JUJU_AVAILABILITY_ZONE= JUJU_MODEL_NAME=prod \
             JUJU_STORAGE_ID=data/0 JUJU_STORAGE_LOCATION=/srv/data JUJU_STORAGE_KIND=filesystem \
             JUJU_SECRET_ID=secret:9m4e JUJU_SECRET_REVISION=2 JUJU_ACTION_NAME=verify JUJU_ACTION_UUID=12 OTHER=1"
        ))
        .unwrap();
        assert_eq!(
            env.juju_version,
            Some(JujuVersion {
                major: 3,
                minor: 6,
                patch: 28
            })
        );
        assert_eq!(env.availability_zone, None);
        assert_eq!(env.extra("OTHER"), Some("1"));
        assert!(env.in_context);
        let relation = env.relation.unwrap();
        assert_eq!(
            (relation.endpoint.as_str(), relation.id.as_str()),
            ("valkey-peers", "valkey-peers:7")
        );
        assert_eq!(relation.departing_unit, relation.remote_unit);
        assert_eq!(env.storage.unwrap().location, PathBuf::from("/srv/data"));
        assert_eq!(env.secret.unwrap().revision, Some(2));
        assert_eq!(
            env.action.unwrap(),
            ActionContext {
                name: "verify".into(),
                id: "12".into()
            }
        );
    }

    #[test]
    fn a_wrong_environment_is_named() {
        for (text, expected) in [
            ("", "cannot find `JUJU_UNIT_NAME`"),
            ("JUJU_UNIT_NAME=valkey/0", "cannot find `JUJU_CHARM_DIR`"),
            (
                "JUJU_UNIT_NAME=valkey JUJU_CHARM_DIR=/x",
                "cannot use `JUJU_UNIT_NAME` from the environment: cannot read \"valkey\" as a unit",
            ),
            (
                "JUJU_UNIT_NAME=a/0 JUJU_CHARM_DIR=/x JUJU_VERSION=new",
                "cannot use `JUJU_VERSION`",
            ),
            (
                "JUJU_UNIT_NAME=a/0 JUJU_CHARM_DIR=/x JUJU_RELATION=p JUJU_RELATION_ID=p:x",
                "cannot use `JUJU_RELATION_ID`",
            ),
            (
                "JUJU_UNIT_NAME=a/0 JUJU_CHARM_DIR=/x JUJU_RELATION=p JUJU_RELATION_ID=p:1 JUJU_REMOTE_UNIT=b",
                "cannot use `JUJU_REMOTE_UNIT`",
            ),
            (
                "JUJU_UNIT_NAME=a/0 JUJU_CHARM_DIR=/x JUJU_SECRET_ID=secret:",
                "cannot use `JUJU_SECRET_ID`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn versions_are_read_with_and_without_tags() {
        for (text, expected) in [
            ("3.6.28", "3.6.28"),
            ("3.6.28.1", "3.6.28"),
            ("4.0-beta2", "4.0.0"),
            ("4.0.15-dev", "4.0.15"),
            ("4.0", "4.0.0"),
        ] {
            assert_eq!(
                text.parse::<JujuVersion>().unwrap().to_string(),
                expected,
                "{text}"
            );
        }
        for text in ["", "4", "x.y.z", "3.6.", "3..1", "-1.0"] {
            assert!(text.parse::<JujuVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_program_name_helps_only_where_it_is_a_hook() {
        for (program, expected) in [
            ("/charm/hooks/install", "install"),
            ("hooks/config-changed", "config-changed"),
            ("/charm/dispatch", "juju-exec"),
            ("valkey-operator", "juju-exec"),
            ("", "juju-exec"),
        ] {
            let env = read(ALWAYS).unwrap().called_as(program);
            assert_eq!(env.event().to_string(), expected, "{program}");
        }
    }
}
