//! The server's binary and its version.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tracing::debug;

use super::{Layout, WorkloadError, files, files::blocking};
use crate::limits::SERVER_VERSION_TIMEOUT;

/// Environment variable that names the server's binary.
pub const SERVER_VARIABLE: &str = "VALKEY_OPERATOR_SERVER";

/// Name of the server's binary on `PATH`.
pub(super) const PROGRAM: &str = "valkey-server";

/// The server's binary. Sentinel is the same one, called with `FILE --sentinel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBinary {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, as in `8.0.1`.
    pub version: String,
    /// What its file is; not known of one in another container.
    pub build: Option<Build>,
}

/// What the file of the server's binary is: a package can be built anew as the same version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Changes with the file's content.
    pub digest: String,
    /// Whether it tells systemd when it is ready: whether it was built with systemd's library.
    pub notifies: bool,
}

/// What was found out about a binary once, and the file that it belongs to.
#[derive(Serialize, Deserialize)]
struct Remembered {
    binary: ServerBinary,
    file: FileFact,
}

/// Tells a file from the one that takes its place.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct FileFact {
    bytes: u64,
    inode: u64,
    changed_seconds: i64,
    nanoseconds: i64,
}

impl FileFact {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            bytes: found.len(),
            inode: found.ino(),
            // The time of the last change of its content may be older than the file: packages keep it.
            changed_seconds: found.ctime(),
            nanoseconds: found.ctime_nsec(),
        })
    }
}

/// Finds the binary: the given one, else the environment's, else the one on `PATH`.
pub(super) async fn find(
    given: Option<&Path>,
    layout: &Layout,
) -> Result<ServerBinary, WorkloadError> {
    let named = given.map(Path::to_owned).or_else(|| {
        env::var_os(SERVER_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    });
    let path = named
        .or_else(|| on_path(PROGRAM))
        .unwrap_or_else(|| PROGRAM.into());
    let Some(file) = FileFact::of(&path) else {
        return Err(WorkloadError::MissingBinary { program: path });
    };
    let memory = layout.server_version();
    let remembered: Option<Remembered> =
        files::read(&memory)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(remembered) = remembered
        && remembered.binary.path == path
        && remembered.file == file
    {
        return Ok(remembered.binary);
    }
    let place = path.clone();
    let binary = ServerBinary {
        version: ask_version(&path).await?,
        build: blocking(move || Ok(build_of(&place))).await?,
        path,
    };
    let remembered = Remembered { binary, file };
    remember(&memory, &remembered);
    Ok(remembered.binary)
}

/// Looks into a binary; nothing if this user may run, but not read it.
fn build_of(program: &Path) -> Option<Build> {
    let bytes = fs::read(program).ok()?;
    let needle = b"libsystemd.so";
    Some(Build {
        digest: files::hex(&Sha256::digest(&bytes)),
        notifies: bytes.windows(needle.len()).any(|window| window == needle),
    })
}

/// Writes down what was found out about the server, which only saves asking again.
pub(super) fn remember(memory: &Path, found: &impl Serialize) {
    let written = serde_json::to_vec(found)
        .map_err(|source| WorkloadError::Document {
            path: memory.to_owned(),
            source,
        })
        .and_then(|bytes| files::write_atomic(memory, &bytes, files::PRIVATE));
    if let Err(error) = written {
        debug!(
            error = format!("{error:#}"),
            "Cannot remember the server's version"
        );
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

async fn ask_version(program: &Path) -> Result<String, WorkloadError> {
    let fail = |reason: String| WorkloadError::Version {
        program: program.to_owned(),
        reason,
    };
    let answer = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SERVER_VERSION_TIMEOUT, answer)
        .await
        .map_err(|_| {
            fail(format!(
                "it did not answer within {} s",
                SERVER_VERSION_TIMEOUT.as_secs()
            ))
        })?
        .map_err(|source| WorkloadError::NotExecutable {
            program: program.to_owned(),
            source,
        })?;
    if !output.status.success() {
        return Err(fail(format!("it failed ({})", output.status)));
    }
    parse_version(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| fail("it printed something else; is it valkey-server?".to_owned()))
}

/// Finds the version in a line such as `Valkey server v=8.0.1 sha=… malloc=…`.
pub(super) fn parse_version(text: &str) -> Option<String> {
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))?;
    version
        .starts_with(|first: char| first.is_ascii_digit())
        .then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_version_is_found_in_what_servers_print() {
        for (text, expected) in [
            (
                "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ab",
                Some("8.0.1"),
            ),
            ("Valkey server v=9.1.0-rc1 sha=1", Some("9.1.0-rc1")),
            ("Redis server v=7.2.4 sha=0", Some("7.2.4")),
            ("GNU bash, version 5.2", None),
            ("v=", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_build_is_known_by_its_content_and_only_one_with_systemds_library_tells_when_it_is_ready() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("server");
        let mut builds = Vec::new();
        for (bytes, notifies) in [
            (&b"\x7fELF libc.so.6 NOTIFY_SOCKET"[..], false),
            (b"\x7fELF libc.so.6\0libsystemd.so.0\0", true),
            (b"\x7fELF libc.so.6\0libsystemd.so.0\0 ", true),
        ] {
            fs::write(&program, bytes).unwrap();
            let build = build_of(&program).unwrap();
            assert_eq!(build.notifies, notifies);
            assert_eq!(Some(&build), build_of(&program).as_ref());
            assert!(!builds.contains(&build.digest));
            builds.push(build.digest);
        }
        assert_eq!(build_of(Path::new("/no/such/server")), None);
    }

    #[tokio::test]
    async fn a_binary_that_was_replaced_is_looked_at_again_though_version_size_and_time_are_the_same()
     {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::new(place.path(), place.path());
        let program = place.path().join("server");
        let put = |mark: &str| {
            let fresh = place.path().join("fresh");
            fs::write(&fresh, format!("#!/bin/sh\necho v=8.0.1 # {mark}\n")).unwrap();
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
            let file = fs::File::options().write(true).open(&fresh).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            drop(file);
            fs::rename(&fresh, &program).unwrap();
        };
        put("a");
        let first = find(Some(&program), &layout).await.unwrap();
        assert_eq!(find(Some(&program), &layout).await.unwrap(), first);
        put("b");
        let second = find(Some(&program), &layout).await.unwrap();
        assert_eq!(second.version, first.version);
        assert_ne!(second.build, first.build);
    }
}
