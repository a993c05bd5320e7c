//! A resource's file: a package, an archive, or the server's binary itself.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::InstallError;
use super::source::{RESOURCE_HEAD_BYTES, Resource, resource};
use crate::limits::{ARCHIVE_DEPTH_MAX, ARCHIVE_FILES_MAX, UNPACK_LIMIT};
use crate::workload::systemd::run_tool;
use crate::workload::{WorkloadError, files};

/// What is in a resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The server's binary, at this place.
    Server(PathBuf),
    /// Packages.
    Packages(Vec<PathBuf>),
}

/// Says what a file is.
pub(super) fn kind(path: &Path) -> Result<Resource, InstallError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        let bytes = u64::try_from(RESOURCE_HEAD_BYTES).unwrap_or(u64::MAX);
        fs::File::open(path)?.take(bytes).read_to_end(&mut head)?;
        Ok(head)
    };
    let head = read().map_err(|error| InstallError::file("read the resource", path, error))?;
    Ok(resource(&head))
}

/// Returns a text that changes with the content of a file.
pub(super) fn digest(path: &Path) -> Result<String, InstallError> {
    files::digest(path).map_err(|error| InstallError::file("read the resource", path, error))
}

/// Unpacks what is packed below `place`, which is made, and finds what is in it.
pub(super) async fn open(path: &Path, place: &Path) -> Result<Content, InstallError> {
    match kind(path)? {
        Resource::Program => Ok(Content::Server(path.to_owned())),
        Resource::Package => {
            make(place)?;
            // apt knows a file by its name.
            let named = place.join("resource.deb");
            fs::copy(path, &named).map_err(|error| InstallError::file("copy", path, error))?;
            readable(&named)?;
            Ok(Content::Packages(vec![named]))
        }
        Resource::Archive => {
            make(place)?;
            let (from, to) = (path.to_string_lossy(), place.to_string_lossy());
            let arguments = [
                "--extract",
                "--file",
                from.as_ref(),
                "--directory",
                to.as_ref(),
                "--no-same-owner",
                "--no-same-permissions",
            ];
            run_tool("tar", &arguments, UNPACK_LIMIT)
                .await
                .map_err(|error| InstallError::Resource {
                    why: error.to_string(),
                })?;
            content(place)
        }
        Resource::Absent => Err(InstallError::Resource {
            why: "it is empty".to_owned(),
        }),
        Resource::Unknown => Err(InstallError::Resource {
            why: "it is neither a .deb package, nor a tar archive, nor a program".to_owned(),
        }),
    }
}

fn make(place: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(place).map_err(|error| InstallError::file("make", place, error))?;
    // apt reads packages as a user of its own.
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))
        .map_err(|error| InstallError::file("make", place, error))
}

fn readable(path: &Path) -> Result<(), InstallError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .map_err(|error| InstallError::file("open", path, error))
}

/// Finds the packages, or else the server, in what was unpacked.
fn content(place: &Path) -> Result<Content, InstallError> {
    let fail = |error| InstallError::file("look through the resource in", place, error);
    let root = place.canonicalize().map_err(fail)?;
    let mut waiting = vec![(root.clone(), 0)];
    let mut packages = Vec::new();
    let mut server = None;
    let mut seen = 0;
    while let Some((directory, depth)) = waiting.pop() {
        for entry in fs::read_dir(&directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            seen += 1;
            if seen > ARCHIVE_FILES_MAX || depth > ARCHIVE_DEPTH_MAX {
                return Err(InstallError::Resource {
                    why: "it holds more files than a build of Valkey".to_owned(),
                });
            }
            let linked = fs::symlink_metadata(&path).map_err(fail)?;
            // A link counts for the file that it leads to, which must lie in the archive, too.
            let inside = path
                .canonicalize()
                .ok()
                .filter(|real| real.starts_with(&root));
            if linked.is_dir() {
                waiting.push((path, depth + 1));
            } else if let Some(real) = inside.filter(|real| real.is_file()) {
                if path.extension().is_some_and(|end| end == "deb") {
                    readable(&real)?;
                    packages.push(real);
                } else if path.file_name().is_some_and(|name| name == "valkey-server")
                    && kind(&real)? == Resource::Program
                {
                    server = Some(real);
                }
            }
        }
    }
    packages.sort();
    match server {
        Some(server) => Ok(Content::Server(server)),
        None if packages.is_empty() => Err(InstallError::Resource {
            why: "there is neither a program `valkey-server` nor a .deb package in it".to_owned(),
        }),
        None => Ok(Content::Packages(packages)),
    }
}

/// Puts a binary in its place, in one step.
pub(super) fn put(from: &Path, to: &Path) -> Result<(), InstallError> {
    let put = || -> Result<(), WorkloadError> {
        let parent = to.parent().unwrap_or(Path::new("/"));
        let fresh = parent.join(".fresh");
        let work = || -> io::Result<()> {
            fs::create_dir_all(parent)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
            let _ = fs::remove_file(&fresh);
            fs::copy(from, &fresh)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
            fs::File::open(&fresh)?.sync_all()?;
            fs::rename(&fresh, to)?;
            fs::File::open(parent)?.sync_all()
        };
        work().map_err(WorkloadError::file("install", to))
    };
    put().map_err(InstallError::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn tar(place: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let tree = place.join("tree");
        for (name, bytes) in files {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let archive = place.join("resource");
        let made = Command::new("tar")
            .args(["--create", "--gzip", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&tree)
            .arg(".")
            .status()
            .unwrap();
        assert!(made.success());
        archive
    }

    #[tokio::test]
    async fn the_server_or_the_packages_are_found_in_an_archive() {
        for (files, expected) in [
            (
                &[
                    ("valkey-9/bin/valkey-server", &b"\x7fELF"[..]),
                    ("valkey-9/README", b"x"),
                ][..],
                Ok("server valkey-9/bin/valkey-server"),
            ),
            (
                &[("b.deb", &b"!<arch>\n"[..]), ("a.deb", b"!<arch>\n")],
                Ok("packages a.deb b.deb"),
            ),
            (
                &[("bin/valkey-server", &b"#!/bin/sh"[..])],
                Err("neither a program"),
            ),
            (&[("README", &b"x"[..])], Err("neither a program")),
        ] {
            let place = tempfile::tempdir().unwrap();
            let archive = tar(place.path(), files);
            let root = place.path().canonicalize().unwrap().join("unpacked");
            let found = open(&archive, &root).await;
            let short = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
            match (found, expected) {
                (Ok(Content::Server(path)), Ok(expected)) => {
                    assert_eq!(format!("server {}", short(&path)), expected);
                }
                (Ok(Content::Packages(paths)), Ok(expected)) => {
                    let names: Vec<String> = paths.iter().map(short).collect();
                    assert_eq!(format!("packages {}", names.join(" ")), expected);
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_link_out_of_the_archive_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(&tree).unwrap();
        std::os::unix::fs::symlink("/bin/true", tree.join("valkey-server")).unwrap();
        let archive = tar(place.path(), &[]);
        let error = open(&archive, &place.path().join("unpacked")).await;
        assert!(error.is_err(), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_no_archive_is_refused_with_the_reason() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("resource");
        for (bytes, words) in [
            (&b"PK\x03\x04"[..], "neither a .deb package"),
            (b"", "it is empty"),
            (b"\x1f\x8bdamaged", "tar"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = open(&path, &place.path().join("unpacked"))
                .await
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_binary_is_replaced_in_one_step() {
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("opt/x/valkey-server");
        for from in ["/bin/true", "/bin/false"] {
            put(Path::new(from), &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), fs::read(from).unwrap());
            assert_eq!(
                fs::metadata(&to).unwrap().permissions().mode() & 0o777,
                0o755
            );
        }
        assert_ne!(
            digest(Path::new("/bin/true")).unwrap(),
            digest(&to).unwrap()
        );
    }
}
