//! The files of a charm: out of a directory or a `.charm` archive into a directory of ours.
//!
//! What a person gives is copied once, by [`unpack`], with Juju's rules; every unit then gets its copy from
//! there by [`copy_stored`]. An upgrade removes by [`remove_vanished`] what the new revision no longer has.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use super::ignore::Ignored;
use super::{CharmError, invalid};
use crate::limits::{CHARM_DEPTH_MAX, CHARM_ENTRIES_MAX, CHARM_UNPACKED_BYTES_MAX, LINK_BYTES_MAX};

/// The files that a revision of a charm put into a directory, relative to it.
pub type Deployed = BTreeSet<PathBuf>;

/// Copies the charm at `source`, a directory or an archive, into the directory `into`, which is made if needed.
///
/// Existing files are replaced. A directory's own `version` is left out, as Juju does, which would make one from
/// version control; an archive's is kept.
///
/// # Errors
///
/// When the source is no charm, leads out of its root, holds other things than directories, files and links, or
/// exceeds [`CHARM_ENTRIES_MAX`] or [`CHARM_UNPACKED_BYTES_MAX`].
pub fn unpack(source: &Path, into: &Path) -> Result<Deployed, CharmError> {
    let kind = fs::metadata(source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CharmError::NotFound(source.to_path_buf()),
        _ => CharmError::Io {
            what: "read",
            path: source.to_path_buf(),
            source: error,
        },
    })?;
    let mut target = Target::new(into)?;
    if kind.is_dir() {
        if !source.join("metadata.yaml").exists() {
            let project = source.join("charmcraft.yaml").exists();
            let hint = if project {
                " (a charmcraft project? give the packed archive)"
            } else {
                ""
            };
            return invalid(format!(
                "archive file \"metadata.yaml\" not found in {}{hint}",
                source.display()
            ));
        }
        let ignored = Ignored::read(source)?;
        target.copy_tree(
            source,
            Path::new(""),
            &|path, is_dir| ignored.matches(path, is_dir),
            true,
        )?;
    } else {
        target.unzip(source)?;
    }
    target.make_hooks_executable()?;
    Ok(target.deployed)
}

/// Copies the files of a charm that [`unpack`] stored in `source` into the directory `into`, all of them as they are.
///
/// # Errors
///
/// As [`unpack`].
pub fn copy_stored(source: &Path, into: &Path) -> Result<Deployed, CharmError> {
    let mut target = Target::new(into)?;
    target.copy_tree(source, Path::new(""), &|_, _| false, false)?;
    Ok(target.deployed)
}

/// Removes from `dir` the files that the revision `before` had put there and the revision `now` does not have;
/// what the charm made itself stays.
///
/// # Errors
///
/// When a file cannot be removed.
pub fn remove_vanished(dir: &Path, before: &Deployed, now: &Deployed) -> Result<(), CharmError> {
    // Deepest first, so that directories that became empty can go.
    for path in before.difference(now).collect::<Vec<_>>().into_iter().rev() {
        let path = dir.join(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(kind) if kind.is_dir() => fs::remove_dir(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            Err(source) => {
                return Err(CharmError::Io {
                    what: "remove",
                    path,
                    source,
                });
            }
        }
    }
    Ok(())
}

/// A directory that is being filled, within bounds.
struct Target<'a> {
    root: &'a Path,
    deployed: Deployed,
    bytes_left: u64,
}

impl<'a> Target<'a> {
    fn new(root: &'a Path) -> Result<Self, CharmError> {
        fs::create_dir_all(root).map_err(CharmError::io("make directory", root))?;
        Ok(Self {
            root,
            deployed: Deployed::new(),
            bytes_left: CHARM_UNPACKED_BYTES_MAX,
        })
    }

    /// Notes an entry, makes its parents, and clears what stood in its place.
    fn entry(&mut self, path: &Path) -> Result<PathBuf, CharmError> {
        self.deployed.insert(path.to_path_buf());
        if self.deployed.len() > CHARM_ENTRIES_MAX {
            return invalid(format!(
                "the charm has more than {CHARM_ENTRIES_MAX} files; is it the right directory?"
            ));
        }
        let full = self.root.join(path);
        if let Some(parent) = full.parent() {
            self.refuse_link(parent)?;
            fs::create_dir_all(parent).map_err(CharmError::io("make directory", parent))?;
        }
        Ok(full)
    }

    /// Refuses to write below a link: an archive could first make the link, then a file behind it.
    fn refuse_link(&self, dir: &Path) -> Result<(), CharmError> {
        let inside = dir
            .ancestors()
            .take_while(|ancestor| *ancestor != self.root);
        for ancestor in inside {
            if fs::symlink_metadata(ancestor).is_ok_and(|kind| kind.is_symlink()) {
                return invalid(format!(
                    "cannot write to {}: a link lies on the way",
                    dir.display()
                ));
            }
        }
        Ok(())
    }

    fn clear(full: &Path) -> Result<(), CharmError> {
        match fs::remove_file(full) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                fs::remove_dir_all(full).map_err(CharmError::io("replace", full))
            }
            Err(source) => Err(CharmError::Io {
                what: "replace",
                path: full.to_path_buf(),
                source,
            }),
        }
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<(), CharmError> {
        let full = self.entry(path)?;
        if fs::symlink_metadata(&full).is_ok_and(|kind| !kind.is_dir()) {
            Self::clear(&full)?;
        }
        fs::create_dir_all(&full).map_err(CharmError::io("make directory", &full))?;
        // Juju must be able to write into it and to remove it, whatever the archive says.
        set_mode(&full, mode | 0o700)
    }

    /// Writes a file. It is made anew, never written over: the old one may be a program that runs.
    fn file(&mut self, path: &Path, mode: u32, content: impl Read) -> Result<(), CharmError> {
        let full = self.entry(path)?;
        Self::clear(&full)?;
        let mut file = File::create_new(&full).map_err(CharmError::io("write", &full))?;
        let mut content = content.take(self.bytes_left + 1);
        let written = io::copy(&mut content, &mut file).map_err(CharmError::io("write", &full))?;
        file.flush().map_err(CharmError::io("write", &full))?;
        let Some(left) = self.bytes_left.checked_sub(written) else {
            return invalid(format!(
                "the charm is larger than {CHARM_UNPACKED_BYTES_MAX} bytes; is it the right one?"
            ));
        };
        self.bytes_left = left;
        set_mode(&full, mode)
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), CharmError> {
        check_link(path, target)?;
        let full = self.entry(path)?;
        Self::clear(&full)?;
        symlink(target, &full).map_err(CharmError::io("make link", &full))
    }

    fn copy_tree(
        &mut self,
        source: &Path,
        below: &Path,
        ignore: &dyn Fn(&Path, bool) -> bool,
        normal_modes: bool,
    ) -> Result<(), CharmError> {
        if below.components().count() > CHARM_DEPTH_MAX {
            return invalid(format!(
                "the charm has directories more than {CHARM_DEPTH_MAX} levels deep; is it the right directory?"
            ));
        }
        let dir = source.join(below);
        let mut names: Vec<_> = fs::read_dir(&dir)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.file_name()))
                    .collect()
            })
            .map_err(CharmError::io("read directory", &dir))?;
        names.sort();
        for name in names {
            let path = below.join(&name);
            let full = source.join(&path);
            let kind = fs::symlink_metadata(&full).map_err(CharmError::io("read", &full))?;
            if ignore(&path, kind.is_dir()) {
                continue;
            }
            let mode = match normal_modes {
                true if kind.permissions().mode() & 0o100 == 0 => 0o644,
                true => 0o755,
                false => kind.permissions().mode() & 0o7777,
            };
            if kind.is_dir() {
                self.directory(&path, mode)?;
                self.copy_tree(source, &path, ignore, normal_modes)?;
            } else if kind.is_file() {
                self.file(
                    &path,
                    mode,
                    File::open(&full).map_err(CharmError::io("open", &full))?,
                )?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&full).map_err(CharmError::io("read link", &full))?;
                self.link(&path, &target)?;
            } else {
                return invalid(format!(
                    "file is of unknown type: {} (pipes, sockets and devices are refused)",
                    full.display()
                ));
            }
        }
        Ok(())
    }

    fn unzip(&mut self, archive: &Path) -> Result<(), CharmError> {
        let wrong = |source| CharmError::Zip {
            path: archive.to_path_buf(),
            source,
        };
        let file = File::open(archive).map_err(CharmError::io("open", archive))?;
        let mut zip = zip::ZipArchive::new(io::BufReader::new(file)).map_err(wrong)?;
        if zip.len() > CHARM_ENTRIES_MAX {
            return invalid(format!(
                "the charm has more than {CHARM_ENTRIES_MAX} files; is it the right archive?"
            ));
        }
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).map_err(wrong)?;
            let name = entry.name().map_err(wrong)?.into_owned();
            let path = clean(&name);
            if path.as_os_str().is_empty() {
                continue;
            }
            if path.components().count() > CHARM_DEPTH_MAX {
                return invalid(format!(
                    "the charm has directories more than {CHARM_DEPTH_MAX} levels deep; is it the right archive?"
                ));
            }
            let mode = entry.unix_mode();
            let format = mode.unwrap_or_default() & 0o170_000;
            // An archive without unix attributes gives files that nobody can execute, as with Juju.
            let permissions = mode.unwrap_or(0o644) & 0o777;
            match format {
                _ if entry.is_dir() => self.directory(&path, permissions)?,
                0o120_000 => {
                    let mut target = String::new();
                    (&mut entry)
                        .take(LINK_BYTES_MAX + 1)
                        .read_to_string(&mut target)
                        .map_err(CharmError::io("read", archive))?;
                    if u64::try_from(target.len()).is_ok_and(|length| length > LINK_BYTES_MAX) {
                        return invalid(format!(
                            "symlink {:?} has a target of more than {LINK_BYTES_MAX} bytes",
                            path.display()
                        ));
                    }
                    self.link(&path, Path::new(&target))?;
                }
                0 | 0o100_000 => self.file(&path, permissions, &mut entry)?,
                _ => return invalid(format!("{name:?}: unknown file type")),
            }
        }
        Ok(())
    }

    /// Gives the owner the right to execute hooks, which Juju does for files directly in `hooks/`.
    fn make_hooks_executable(&self) -> Result<(), CharmError> {
        for path in &self.deployed {
            let directly = path.parent() == Some(Path::new("hooks"));
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let full = self.root.join(path);
            let kind = fs::symlink_metadata(&full).map_err(CharmError::io("read", &full))?;
            if directly && kind.is_file() && is_hook(name) {
                set_mode(&full, (kind.permissions().mode() & 0o7777) | 0o100)?;
            }
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), CharmError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(CharmError::io("set the mode of", path))
}

/// Tells whether Juju knows a hook of this name.
fn is_hook(name: &str) -> bool {
    const PLAIN: [&str; 14] = [
        "install",
        "start",
        "config-changed",
        "update-status",
        "upgrade-charm",
        "stop",
        "remove",
        "leader-elected",
        "leader-deposed",
        "leader-settings-changed",
        "secret-changed",
        "secret-expired",
        "secret-remove",
        "secret-rotate",
    ];
    const ENDINGS: [&str; 11] = [
        "-relation-created",
        "-relation-joined",
        "-relation-changed",
        "-relation-departed",
        "-relation-broken",
        "-storage-attached",
        "-storage-detaching",
        "-pebble-ready",
        "-pebble-custom-notice",
        "-pebble-check-failed",
        "-pebble-check-recovered",
    ];
    PLAIN.contains(&name)
        || ENDINGS
            .iter()
            .any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// Cuts what would lead out of the root off an entry's name: leading `/`, `.` and any `..`.
fn clean(name: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}

/// Checks that the link at `path` leads to a place inside the root.
fn check_link(path: &Path, target: &Path) -> Result<(), CharmError> {
    if target.is_absolute() {
        return invalid(format!("symlink {:?} is absolute", path.display()));
    }
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => {
                return invalid(format!(
                    "symlink {:?} links to {:?} outside of charm: leads out of scope",
                    path.display(),
                    target.display()
                ));
            }
            Component::ParentDir => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
