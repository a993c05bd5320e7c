//! Secrets: who owns them, who may read them, which revision each reader follows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::model::{Life, Map, Model, Unit, application_of, later};
use super::resolver::{Hook, Kind};

/// Who owns a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The person who works with the model.
    Person,
    /// An application; its leader manages it.
    Application(String),
    /// A unit.
    Unit(String),
}

/// A secret without its content, which lies in a private file per revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secret {
    /// Id.
    pub id: String,
    /// Owner.
    pub owner: Owner,
    /// Owner's label, or the name of a person's secret.
    pub label: String,
    /// Description.
    pub description: String,
    /// Rotation policy.
    pub rotate: String,
    /// When the next rotation is due.
    pub next_rotate: Option<Timestamp>,
    /// When the latest revision expires.
    pub expire: Option<Timestamp>,
    /// Revision to what is known of it.
    pub revisions: BTreeMap<u64, Revision>,
    /// Number of the latest revision.
    pub latest: u64,
    /// Reader (application or unit) to the relation that bounds its right.
    pub grants: BTreeMap<String, Option<u64>>,
    /// Unit to what it follows.
    pub consumers: BTreeMap<String, Consumer>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
}

/// A revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revision {
    /// Hash of its content.
    pub checksum: String,
}

/// What a reader follows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Consumer {
    /// Reader's own label.
    pub label: String,
    /// Revision that it gets.
    pub revision: u64,
}

/// A change to a secret that waits for the hook's end.
#[derive(Debug, Clone)]
pub enum Change {
    /// Make a secret.
    Add {
        /// Its id, already told to the charm.
        id: String,
        /// Owner.
        owner: Owner,
        /// What is set.
        fields: Fields,
    },
    /// Change metadata or make a revision.
    Set {
        /// Id.
        id: String,
        /// What is set.
        fields: Fields,
    },
    /// Let a reader in.
    Grant {
        /// Id.
        id: String,
        /// Application or unit.
        target: String,
        /// Relation that bounds the right.
        relation: Option<u64>,
    },
    /// Shut a reader out.
    Revoke {
        /// Id.
        id: String,
        /// Application or unit.
        target: String,
    },
    /// Remove a revision or the whole secret.
    Remove {
        /// Id.
        id: String,
        /// Revision; absent means all.
        revision: Option<u64>,
    },
    /// Follow a revision.
    Follow {
        /// Id.
        id: String,
        /// Reader's own label, if it gives one.
        label: Option<String>,
        /// Revision; absent keeps the present one.
        revision: Option<u64>,
    },
}

/// What `secret-add` and `secret-set` give.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Label.
    pub label: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Rotation policy.
    pub rotate: Option<String>,
    /// Expiry.
    pub expire: Option<Timestamp>,
    /// Content.
    pub content: Option<Map>,
}

/// Returns the hash by which contents are compared.
#[must_use]
pub fn checksum(content: &Map) -> String {
    let mut digest = Sha256::new();
    for (key, value) in content {
        digest.update(key.len().to_le_bytes());
        digest.update(key);
        digest.update(value.len().to_le_bytes());
        digest.update(value);
    }
    hex(&digest.finalize())
}

/// Writes bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Returns the mean time between two rotations in seconds, `None` for a policy that never rotates.
#[must_use]
pub fn rotation_seconds(policy: &str) -> Option<f64> {
    let days = match policy {
        "hourly" => 1.0 / 24.0,
        "daily" => 1.0,
        "weekly" => 7.0,
        "monthly" => 30.0,
        "quarterly" => 91.0,
        "yearly" => 365.0,
        _ => return None,
    };
    Some(days * 86_400.0)
}

impl Secret {
    /// Makes a secret without revisions.
    #[must_use]
    pub fn new(id: &str, owner: Owner) -> Self {
        let now = Timestamp::now();
        Self {
            id: id.to_owned(),
            owner,
            label: String::new(),
            description: String::new(),
            rotate: "never".to_owned(),
            next_rotate: None,
            expire: None,
            revisions: BTreeMap::new(),
            latest: 0,
            grants: BTreeMap::new(),
            consumers: BTreeMap::new(),
            created: now,
            updated: now,
        }
    }

    /// Sets metadata, and makes a revision when the content differs; returns the content to be stored.
    pub fn set(&mut self, fields: &Fields) -> Option<(u64, Map)> {
        let now = Timestamp::now();
        self.updated = now;
        if let Some(label) = &fields.label {
            label.clone_into(&mut self.label);
        }
        if let Some(description) = &fields.description {
            description.clone_into(&mut self.description);
        }
        if let Some(rotate) = &fields.rotate {
            rotate.clone_into(&mut self.rotate);
            self.next_rotate = rotation_seconds(rotate).map(|seconds| later(now, seconds));
        }
        if fields.expire.is_some() {
            self.expire = fields.expire;
        }
        let content = fields.content.as_ref()?;
        let checksum = checksum(content);
        if self
            .revisions
            .get(&self.latest)
            .is_some_and(|latest| latest.checksum == checksum)
        {
            return None;
        }
        self.latest += 1;
        self.revisions.insert(self.latest, Revision { checksum });
        if let Some(seconds) = rotation_seconds(&self.rotate) {
            self.next_rotate = Some(later(now, seconds));
        }
        Some((self.latest, content.clone()))
    }

    /// Tells whether a unit belongs to the owner.
    #[must_use]
    pub fn is_owned_by(&self, unit: &str) -> bool {
        match &self.owner {
            Owner::Person => false,
            Owner::Application(application) => application == application_of(unit),
            Owner::Unit(owner) => owner == unit,
        }
    }

    /// Tells whether a unit may change it: the owning unit, or the owning application's leader.
    #[must_use]
    pub fn is_managed_by(&self, unit: &str, leads: bool) -> bool {
        self.is_owned_by(unit) && (leads || matches!(self.owner, Owner::Unit(_)))
    }

    /// Tells whether a unit may read it.
    #[must_use]
    pub fn readable_by(&self, model: &Model, unit: &str) -> bool {
        let application = application_of(unit);
        let owned = match &self.owner {
            Owner::Person => false,
            Owner::Application(owner) => owner == application,
            Owner::Unit(owner) => owner == unit,
        };
        owned
            || [unit, application].into_iter().any(|reader| {
                self.grants.get(reader).is_some_and(|bound| {
                    bound.is_none_or(|relation| model.relations.contains_key(&relation))
                })
            })
    }
}

/// Returns the secret hooks that are due to a unit, in Juju's order.
#[must_use]
pub fn due(model: &Model, unit: &Unit) -> Vec<Hook> {
    if unit.life != Life::Alive || model.secrets.is_empty() {
        return Vec::new();
    }
    let leads = model.is_leader(&unit.name);
    let now = Timestamp::now();
    let hook = |kind, id: &str, revision| Hook {
        secret: Some((id.to_owned(), revision)),
        ..Hook::plain(kind)
    };
    let mut hooks = Vec::new();
    for secret in model.secrets.values() {
        let managed = secret.is_managed_by(&unit.name, leads);
        if managed && secret.expire.is_some_and(|at| at <= now) {
            hooks.push(hook(Kind::SecretExpired, &secret.id, secret.latest));
        }
        if managed && secret.next_rotate.is_some_and(|at| at <= now) {
            hooks.push(hook(Kind::SecretRotate, &secret.id, secret.latest));
        }
        if let Some(consumer) = secret.consumers.get(&unit.name) {
            let told = unit.local.secrets.get(&secret.id).copied().unwrap_or(0);
            if !managed && consumer.revision.max(told) < secret.latest {
                hooks.push(hook(Kind::SecretChanged, &secret.id, secret.latest));
            }
        }
        if managed && !secret.consumers.is_empty() {
            let told = unit
                .local
                .secrets
                .get(&format!("removed {}", secret.id))
                .copied();
            let obsolete = secret
                .revisions
                .keys()
                .rfind(|revision| {
                    **revision < secret.latest
                        && told.is_none_or(|told| **revision > told)
                        && !secret.consumers.values().any(|c| c.revision == **revision)
                })
                .copied();
            if let Some(revision) = obsolete {
                hooks.push(hook(Kind::SecretRemove, &secret.id, revision));
            }
        }
    }
    let rank = |hook: &Hook| match hook.kind {
        Kind::SecretExpired => 0,
        Kind::SecretRotate => 1,
        Kind::SecretChanged => 2,
        _ => 3,
    };
    hooks.sort_by_key(rank);
    hooks
}
