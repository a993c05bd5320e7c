//! Hooks: their kinds, what they are about, and their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kind of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `install`.
    Install,
    /// `start`.
    Start,
    /// `config-changed`.
    ConfigChanged,
    /// `upgrade-charm`.
    UpgradeCharm,
    /// `update-status`.
    UpdateStatus,
    /// `leader-elected`.
    LeaderElected,
    /// `stop`.
    Stop,
    /// `remove`.
    Remove,
    /// `<endpoint>-relation-created`.
    RelationCreated,
    /// `<endpoint>-relation-joined`.
    RelationJoined,
    /// `<endpoint>-relation-changed`.
    RelationChanged,
    /// `<endpoint>-relation-departed`.
    RelationDeparted,
    /// `<endpoint>-relation-broken`.
    RelationBroken,
    /// `<storage>-storage-attached`.
    StorageAttached,
    /// `<storage>-storage-detaching`.
    StorageDetaching,
    /// `secret-changed`.
    SecretChanged,
    /// `secret-rotate`.
    SecretRotate,
    /// `secret-expired`.
    SecretExpired,
    /// `secret-remove`.
    SecretRemove,
    /// `<container>-pebble-ready`.
    PebbleReady,
    /// `<container>-pebble-custom-notice`.
    PebbleCustomNotice,
    /// `<container>-pebble-check-failed`.
    PebbleCheckFailed,
    /// `<container>-pebble-check-recovered`.
    PebbleCheckRecovered,
}

impl Kind {
    /// Returns the bare name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Start => "start",
            Self::ConfigChanged => "config-changed",
            Self::UpgradeCharm => "upgrade-charm",
            Self::UpdateStatus => "update-status",
            Self::LeaderElected => "leader-elected",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::RelationCreated => "relation-created",
            Self::RelationJoined => "relation-joined",
            Self::RelationChanged => "relation-changed",
            Self::RelationDeparted => "relation-departed",
            Self::RelationBroken => "relation-broken",
            Self::StorageAttached => "storage-attached",
            Self::StorageDetaching => "storage-detaching",
            Self::SecretChanged => "secret-changed",
            Self::SecretRotate => "secret-rotate",
            Self::SecretExpired => "secret-expired",
            Self::SecretRemove => "secret-remove",
            Self::PebbleReady => "pebble-ready",
            Self::PebbleCustomNotice => "pebble-custom-notice",
            Self::PebbleCheckFailed => "pebble-check-failed",
            Self::PebbleCheckRecovered => "pebble-check-recovered",
        }
    }
}

/// A hook with what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Kind.
    pub kind: Kind,
    /// Relation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<RelationFacts>,
    /// Storage id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Secret id and revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<(String, u64)>,
    /// What it tells of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadFacts>,
}

/// What a hook tells of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadFacts {
    /// Container.
    pub container: String,
    /// Notice: id, type and key.
    pub notice: Option<(String, String, String)>,
    /// Name of the check.
    pub check: Option<String>,
}

/// What a relation hook is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationFacts {
    /// Relation.
    pub id: u64,
    /// Own endpoint.
    pub endpoint: String,
    /// Application on the other side.
    pub application: String,
    /// Remote unit, if it is about one.
    pub unit: Option<String>,
    /// Unit that leaves, in `relation-departed`.
    pub departing: Option<String>,
    /// Version of the databag that this hook tells of.
    pub version: u64,
}

impl Hook {
    /// Makes a hook that is about nothing in particular.
    #[must_use]
    pub fn plain(kind: Kind) -> Self {
        Self {
            kind,
            relation: None,
            storage: None,
            secret: None,
            workload: None,
        }
    }

    /// Returns the full name, such as `peers-relation-changed`.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(relation) = &self.relation {
            return format!("{}-{}", relation.endpoint, self.kind.name());
        }
        if let Some(workload) = &self.workload {
            return format!("{}-{}", workload.container, self.kind.name());
        }
        match &self.storage {
            Some(id) => {
                format!(
                    "{}-{}",
                    id.split('/').next().unwrap_or_default(),
                    self.kind.name()
                )
            }
            None => self.kind.name().to_owned(),
        }
    }

    /// Returns the name that an error message has: with the endpoint, but without the storage's name.
    #[must_use]
    pub fn error_name(&self) -> String {
        if self.relation.is_some() {
            self.name()
        } else {
            self.kind.name().to_owned()
        }
    }

    /// Returns what the agent's status says while it runs.
    #[must_use]
    pub fn running_message(&self) -> String {
        let about = self
            .relation
            .as_ref()
            .and_then(|relation| relation.unit.clone())
            .or_else(|| self.secret.as_ref().map(|(id, _)| format!("secret:{id}")));
        match about {
            Some(about) => format!("running {} hook for {about}", self.name()),
            None => format!("running {} hook", self.name()),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(relation) = &self.relation {
            if let Some(unit) = &relation.unit {
                write!(f, " {unit}")?;
            }
            if let Some(departing) = &relation.departing {
                write!(f, " departing {departing}")?;
            }
        }
        if let Some(id) = &self.storage {
            write!(f, " {id}")?;
        }
        if let Some((id, revision)) = &self.secret {
            write!(f, " {id}/{revision}")?;
        }
        Ok(())
    }
}
