//! Charms: what a charm is, how one is read from a directory or a `.charm` archive, and what it declares.
//!
//! ```text
//! files       a directory or a zip → files in a directory, with modes, links and bounds
//! ignore      what of a directory does not belong to the charm
//! metadata    metadata.yaml: endpoints, storage, resources
//! manifest    manifest.yaml: bases
//! config      config.yaml: options, and text → typed values
//! actions     actions.yaml: actions, and the check of their parameters
//! containers  what runs beside the charm in a pod
//! storage     declared storage, and directives for it
//! names       the patterns of Juju's names
//! yaml        YAML documents as JSON values, bounded
//! ```
//!
//! Rules and texts are Juju's (3.6 and 4.0); where this reader is more lenient, the place says so.

mod actions;
mod config;
mod containers;
mod files;
mod ignore;
mod manifest;
mod metadata;
pub mod names;
#[cfg(test)]
mod properties;
mod resource;
mod storage;
pub mod yaml;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::VERSION_LEN_MAX;

pub use actions::Actions;
pub use config::Config;
pub use files::{Deployed, copy_stored, remove_vanished, unpack};
pub use manifest::Manifest;
pub use metadata::{Metadata, Role};
pub use storage::{StorageDirective, StorageKind};

/// Why a charm cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CharmError {
    /// Nothing is at the given path.
    #[error("no charm was found at {0:?}")]
    NotFound(PathBuf),
    /// The archive or directory breaks a rule; the text is Juju's.
    #[error("{0}")]
    Invalid(String),
    /// A file cannot be read or written.
    #[error("cannot {what} {path:?}")]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive is no readable zip.
    #[error("cannot read charm archive {path:?}: is it a zip file?")]
    Zip {
        /// The archive.
        path: PathBuf,
        /// What the zip reader said.
        source: zip::result::ZipError,
    },
    /// A YAML file of the charm cannot be parsed.
    #[error("cannot parse {file}")]
    Yaml {
        /// The file's name in the charm.
        file: String,
        /// What the YAML reader said.
        source: serde_yaml::Error,
    },
}

impl CharmError {
    /// Returns an [`CharmError::Io`] maker for `map_err`.
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// Returns Juju's error with `text`.
fn invalid<T>(text: impl Into<String>) -> Result<T, CharmError> {
    Err(CharmError::Invalid(text.into()))
}

/// Everything that a charm declares. Can be stored and read back with serde.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charm {
    /// `metadata.yaml`.
    pub metadata: Metadata,
    /// `manifest.yaml`; without bases if the charm has none.
    pub manifest: Manifest,
    /// `config.yaml`; without options if the charm has none.
    pub config: Config,
    /// `actions.yaml`; empty if the charm has none.
    pub actions: Actions,
    /// First line of the file `version`, shown as `charm-version`; may be empty.
    pub version: String,
}

impl Charm {
    /// Reads what an unpacked charm in `dir` declares.
    ///
    /// For a charm that a person names, which may be an archive, [`unpack`] it first.
    ///
    /// # Errors
    ///
    /// When `metadata.yaml` is missing, or a file breaks Juju's rules.
    pub fn read(dir: &Path) -> Result<Self, CharmError> {
        let manifest = match yaml::read_optional(dir, "manifest.yaml")? {
            Some(document) => Manifest::parse(&document)?,
            None => Manifest::default(),
        };
        let Some(document) = yaml::read_optional(dir, "metadata.yaml")? else {
            return invalid("archive file \"metadata.yaml\" not found");
        };
        let metadata = Metadata::parse(&document, &manifest)?;
        let config = match yaml::read_optional(dir, "config.yaml")? {
            Some(document) => Config::parse(&document)?,
            None => Config::default(),
        };
        let actions = match yaml::read_optional(dir, "actions.yaml")? {
            Some(document) => Actions::parse(&document)?,
            None => Actions::default(),
        };
        Ok(Self {
            metadata,
            manifest,
            config,
            actions,
            version: read_version(dir)?,
        })
    }
}

/// Reads the file `version`: its first line, without `revision-id: `, cut to the length that Juju keeps.
fn read_version(dir: &Path) -> Result<String, CharmError> {
    let text = yaml::read_text(dir, "version")?.unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("revision-id: ").unwrap_or(line).trim();
    Ok(line.chars().take(VERSION_LEN_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charm(files: &[(&str, &str)]) -> Result<Charm, CharmError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Charm::read(dir.path())
    }

    #[test]
    fn the_smallest_charm_is_its_metadata() {
        let charm = charm(&[("metadata.yaml", "name: a\nsummary: s\ndescription: d\n")]).unwrap();
        assert_eq!(charm.metadata.name, "a");
        assert!(
            charm.config.options.is_empty()
                && charm.actions.0.is_empty()
                && charm.version.is_empty()
        );
    }

    #[test]
    fn a_directory_without_metadata_is_no_charm() {
        assert_eq!(
            charm(&[]).unwrap_err().to_string(),
            "archive file \"metadata.yaml\" not found"
        );
    }

    #[test]
    fn the_version_is_the_first_line_without_its_label() {
        let metadata = ("metadata.yaml", "name: a\nsummary: s\ndescription: d\n");
        for (text, expected) in [
            ("1.2\nmore\n", "1.2"),
            ("revision-id: abc-dirty", "abc-dirty"),
            ("", ""),
        ] {
            assert_eq!(
                charm(&[metadata, ("version", text)]).unwrap().version,
                expected
            );
        }
        assert_eq!(
            charm(&[metadata, ("version", &"x".repeat(300))])
                .unwrap()
                .version
                .len(),
            VERSION_LEN_MAX
        );
    }

    #[test]
    fn what_is_read_survives_storing() {
        let charm = charm(&[
            ("metadata.yaml", "name: a\nsummary: s\ndescription: d\npeers:\n  p: i\nstorage:\n  data: {type: filesystem}\n"),
            ("config.yaml", "options:\n  n: {type: int, default: 3}\n"),
            ("actions.yaml", "go:\n  params:\n    x: {type: string}\n"),
            ("manifest.yaml", "bases:\n- {name: ubuntu, channel: '24.04', architectures: [amd64]}\n"),
        ])
        .unwrap();
        let stored = serde_json::to_string(&charm).unwrap();
        assert_eq!(serde_json::from_str::<Charm>(&stored).unwrap(), charm);
    }
}
