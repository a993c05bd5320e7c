//! Where everything lies in the state directory, and how the model is saved.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::model::{Map, Model, tag};

/// The state directory of one model.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The directory itself, absolute.
    pub root: PathBuf,
}

impl Paths {
    /// Returns the paths in a state directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// Socket of the engine.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("engine.socket")
    }

    /// Lock file: who holds it is the engine.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("engine.lock")
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.root.join("model.json")
    }

    /// What charms and agents log.
    #[must_use]
    pub fn debug_log(&self) -> PathBuf {
        self.root.join("debug.log")
    }

    /// Unpacked files of a revision of an application's charm.
    #[must_use]
    pub fn charm(&self, application: &str, revision: u32) -> PathBuf {
        self.root
            .join("charms")
            .join(format!("{application}-{revision}"))
    }

    /// Files of an application's resources.
    #[must_use]
    pub fn resources(&self, application: &str) -> PathBuf {
        self.root.join("resources").join(application)
    }

    /// Directory of a unit's agent.
    #[must_use]
    pub fn agent(&self, unit: &str) -> PathBuf {
        self.root.join("agents").join(tag(unit))
    }

    /// Charm directory of a unit.
    #[must_use]
    pub fn unit_charm(&self, unit: &str) -> PathBuf {
        self.agent(unit).join("charm")
    }

    /// Tools directory of a unit.
    #[must_use]
    pub fn tools(&self, unit: &str) -> PathBuf {
        self.root.join("tools").join(tag(unit))
    }

    /// Directory of a storage instance.
    #[must_use]
    pub fn storage(&self, id: &str) -> PathBuf {
        self.root.join("storage").join(id.replace('/', "-"))
    }

    /// Content of a secret's revision.
    #[must_use]
    pub fn secret(&self, id: &str, revision: u64) -> PathBuf {
        self.root
            .join("secrets")
            .join(id)
            .join(revision.to_string())
    }

    /// Names of what the engine makes in the state directory; `destroy` removes these and nothing else.
    #[must_use]
    pub fn made() -> &'static [&'static str] {
        &[
            "agents",
            "charms",
            "pods",
            "resources",
            "secrets",
            "storage",
            "tools",
            "debug.log",
            "debug.log.1",
            "model.json",
            "model.json.new",
            "engine.socket",
            "engine.log",
            "engine.lock",
        ]
    }

    /// Saves the model: written beside and renamed, so that it is whole at any moment.
    ///
    /// It is not forced to the disk: it shall survive the end of the engine, not that of the machine.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&self, model: &Model) -> Result<()> {
        let fresh = self.root.join("model.json.new");
        let text = serde_json::to_vec(model).context("cannot serialise the model")?;
        write_private(&fresh, &text)?;
        fs::rename(&fresh, self.model()).context("cannot put the saved model in place")
    }

    /// Loads the model, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not of this form.
    pub fn load(&self) -> Result<Option<Model>> {
        let path = self.model();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("cannot understand {}", path.display()))
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Stores the content of a secret's revision, readable by the owner only.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn store_secret(&self, id: &str, revision: u64, content: &Map) -> Result<()> {
        let path = self.secret(id, revision);
        if let Some(parent) = path.parent() {
            make_private(parent)?;
        }
        let text = serde_json::to_vec(content).context("cannot serialise a secret")?;
        write_private(&path, &text)
    }

    /// Reads the content of a secret's revision.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read_secret(&self, id: &str, revision: u64) -> Result<Map> {
        let text = fs::read(self.secret(id, revision))
            .with_context(|| format!("cannot read secret {id:?} revision {revision}"))?;
        serde_json::from_slice(&text).context("cannot understand a stored secret")
    }
}

/// Writes a file that only the owner can read.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(bytes)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a directory that only the owner can enter, with its parents.
///
/// # Errors
///
/// When it cannot be made.
pub fn make_private(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot restrict {}", path.display()))
}
