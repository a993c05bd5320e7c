//! Juju secrets. Their content reaches the tools by a private file, never as an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

use serde::Deserialize;

use super::{HookTools, ToolError};
use crate::juju::names::{SecretId, UnitName};

/// What a secret holds. Its values are in no debug output.
///
/// Keys have at least three characters: lower-case letters, digits and single hyphens.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretContent(pub BTreeMap<String, String>);

impl SecretContent {
    /// Returns one value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for SecretContent {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

/// Who owns a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretOwner {
    /// The application; only its leader may make and change it.
    Application,
    /// This unit; the secret goes with it.
    Unit,
}

/// How often Juju asks for a new revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Not at all.
    Never,
    /// Each hour.
    Hourly,
    /// Each day.
    Daily,
    /// Each week.
    Weekly,
    /// Each month.
    Monthly,
    /// Each quarter.
    Quarterly,
    /// Each year.
    Yearly,
}

impl Rotation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Quarterly => "quarterly",
            Self::Yearly => "yearly",
        }
    }
}

/// What to make or change of a secret; what is not given stays, or is Juju's default.
#[derive(Debug, Clone, Default)]
pub struct SecretSpec<'a> {
    /// The content; needed for a new secret.
    pub content: Option<&'a SecretContent>,
    /// The owner's name for it.
    pub label: Option<&'a str>,
    /// What it is for.
    pub description: Option<&'a str>,
    /// When its revision expires: a duration such as `24h`, or a time as in RFC 3339.
    pub expire: Option<&'a str>,
    /// How often Juju asks for a new revision.
    pub rotate: Option<Rotation>,
    /// Who owns it; the application if not given.
    pub owner: Option<SecretOwner>,
}

/// How a secret is named.
#[derive(Debug, Clone, Copy)]
pub enum SecretRef<'a> {
    /// By its id.
    Id(&'a SecretId),
    /// By the label that it has for this unit.
    Label(&'a str),
    /// By its id, and it gets this label for later.
    Named(&'a SecretId, &'a str),
}

/// Which revision to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretRead {
    /// The one that this unit follows.
    #[default]
    Tracked,
    /// The newest one, which is followed from now on.
    Refresh,
    /// The newest one, without following it.
    Peek,
}

/// From whom to take a secret back.
#[derive(Debug, Clone, Copy)]
pub enum Revoke<'a> {
    /// From all on a relation.
    Relation(&'a str),
    /// From an application.
    Application(&'a str),
    /// From a unit.
    Unit(&'a UnitName),
}

/// What the owner is told about a secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SecretInfo {
    /// The secret.
    #[serde(skip)]
    pub id: Option<SecretId>,
    /// Its newest revision.
    pub revision: u32,
    /// The owner's name for it.
    #[serde(default)]
    pub label: String,
    /// `application` or `unit`.
    #[serde(default)]
    pub owner: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How often Juju asks for a new revision.
    #[serde(default)]
    pub rotation: String,
}

impl HookTools {
    /// Makes a secret, once the hook succeeds, and returns its id.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if this unit may not (an application's secret needs the leader) or a
    /// key is not allowed; [`ToolError::PrivateFile`] if the content cannot be handed over.
    pub async fn secret_add(&self, spec: &SecretSpec<'_>) -> Result<SecretId, ToolError> {
        const TOOL: &str = "secret-add";
        let printed = self.write_secret(TOOL, None, spec).await?;
        let printed = String::from_utf8(printed).map_err(|_| ToolError::NotText { tool: TOOL })?;
        printed
            .trim()
            .parse()
            .map_err(|_| ToolError::NotASecret { tool: TOOL })
    }

    /// Changes a secret, once the hook succeeds; equal content makes no new revision.
    ///
    /// # Errors
    ///
    /// As [`HookTools::secret_add`].
    pub async fn secret_set(&self, id: &SecretId, spec: &SecretSpec<'_>) -> Result<(), ToolError> {
        self.write_secret("secret-set", Some(id), spec)
            .await
            .map(drop)
    }

    /// Reads a secret's content.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if there is none ([`ToolError::not_found`]) or it was not granted
    /// ([`ToolError::permission_denied`]).
    pub async fn secret_get(
        &self,
        secret: SecretRef<'_>,
        read: SecretRead,
    ) -> Result<SecretContent, ToolError> {
        let mut args = vec!["--format=json"];
        args.extend(match read {
            SecretRead::Tracked => None,
            SecretRead::Refresh => Some("--refresh"),
            SecretRead::Peek => Some("--peek"),
        });
        args.extend(reference(&secret));
        self.json("secret-get", &args).await
    }

    /// Returns what the owner may know about a secret; its content is not asked for.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if there is none or this unit does not own it.
    pub async fn secret_info_get(&self, secret: SecretRef<'_>) -> Result<SecretInfo, ToolError> {
        const TOOL: &str = "secret-info-get";
        let mut args = vec!["--format=json"];
        args.extend(reference(&secret));
        let found: BTreeMap<SecretId, SecretInfo> = self.json(TOOL, &args).await?;
        let (id, info) = found
            .into_iter()
            .next()
            .ok_or(ToolError::NotASecret { tool: TOOL })?;
        Ok(SecretInfo {
            id: Some(id),
            ..info
        })
    }

    /// Lists the secrets that this unit owns, and those of the application if it is the leader.
    ///
    /// # Errors
    ///
    /// [`ToolError`] if the tool gives no answer.
    pub async fn secret_ids(&self) -> Result<Vec<SecretId>, ToolError> {
        let found: Option<Vec<SecretId>> = self.json("secret-ids", &["--format=json"]).await?;
        Ok(found.unwrap_or_default())
    }

    /// Lets the other side of a relation read a secret, one of its units only if given.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if this unit does not own the secret or the relation is gone.
    pub async fn secret_grant(
        &self,
        id: &SecretId,
        relation: &str,
        unit: Option<&UnitName>,
    ) -> Result<(), ToolError> {
        let unit = unit.map(ToString::to_string);
        let mut args = vec![id.as_str(), "-r", relation];
        args.extend(
            unit.as_deref()
                .map(|unit| ["--unit", unit])
                .into_iter()
                .flatten(),
        );
        self.tell("secret-grant", &args).await
    }

    /// Takes the right to read a secret back.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if this unit does not own the secret.
    pub async fn secret_revoke(&self, id: &SecretId, from: Revoke<'_>) -> Result<(), ToolError> {
        let name;
        let (flag, whom) = match from {
            Revoke::Relation(relation) => ("-r", relation),
            Revoke::Application(application) => ("--app", application),
            Revoke::Unit(unit) => {
                name = unit.to_string();
                ("--unit", name.as_str())
            }
        };
        self.tell("secret-revoke", &[id.as_str(), flag, whom]).await
    }

    /// Deletes a secret, or one of its revisions, once the hook succeeds.
    ///
    /// # Errors
    ///
    /// [`ToolError::Failed`] if this unit does not own the secret.
    pub async fn secret_remove(
        &self,
        id: &SecretId,
        revision: Option<u32>,
    ) -> Result<(), ToolError> {
        let revision = revision.map(|revision| revision.to_string());
        let mut args = vec![id.as_str()];
        args.extend(
            revision
                .as_deref()
                .map(|revision| ["--revision", revision])
                .into_iter()
                .flatten(),
        );
        self.tell("secret-remove", &args).await
    }

    async fn write_secret(
        &self,
        tool: &'static str,
        id: Option<&SecretId>,
        spec: &SecretSpec<'_>,
    ) -> Result<Vec<u8>, ToolError> {
        let mut args: Vec<&str> = id.map(SecretId::as_str).into_iter().collect();
        let owner = spec.owner.map(|owner| match owner {
            SecretOwner::Application => "application",
            SecretOwner::Unit => "unit",
        });
        for (flag, value) in [
            ("--label", spec.label),
            ("--description", spec.description),
            ("--expire", spec.expire),
            ("--rotate", spec.rotate.map(Rotation::as_str)),
            ("--owner", owner),
        ] {
            args.extend(value.map(|value| [flag, value]).into_iter().flatten());
        }
        // The file is made with mode 0600 and deleted when it goes out of scope, after the tool ended.
        let file = spec.content.map(private_file).transpose();
        let file = file.map_err(|source| ToolError::PrivateFile { tool, source })?;
        let path = file
            .as_ref()
            .map(|file| file.path().to_string_lossy().into_owned());
        args.extend(
            path.as_deref()
                .map(|path| ["--file", path])
                .into_iter()
                .flatten(),
        );
        self.run(tool, &args, None).await
    }
}

/// Returns the arguments that name a secret.
fn reference<'a>(secret: &SecretRef<'a>) -> Vec<&'a str> {
    match *secret {
        SecretRef::Id(id) => vec![id.as_str()],
        SecretRef::Label(label) => vec!["--label", label],
        SecretRef::Named(id, label) => vec![id.as_str(), "--label", label],
    }
}

/// Writes the content as JSON, which is YAML too, into a file that only this user can read.
fn private_file(content: &SecretContent) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".secret-").tempfile()?;
    serde_json::to_writer(&mut file, &content.0)?;
    file.flush()?;
    Ok(file)
}
