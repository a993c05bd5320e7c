//! The server's binary and its version.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tracing::debug;

use super::{Layout, WorkloadError, files};
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
}

/// A version that was asked for once, and the file that it belongs to.
#[derive(Serialize, Deserialize)]
struct Remembered {
    binary: ServerBinary,
    bytes: u64,
    modified_seconds: i64,
    nanoseconds: i64,
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
    let Ok(found) = fs::metadata(&path) else {
        return Err(WorkloadError::MissingBinary { program: path });
    };
    let (bytes, modified_seconds, nanoseconds) = (found.len(), found.mtime(), found.mtime_nsec());
    let memory = layout.server_version();
    let remembered: Option<Remembered> =
        files::read(&memory)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(remembered) = remembered
        && remembered.binary.path == path
        && (
            remembered.bytes,
            remembered.modified_seconds,
            remembered.nanoseconds,
        ) == (bytes, modified_seconds, nanoseconds)
    {
        return Ok(remembered.binary);
    }
    let binary = ServerBinary {
        version: ask_version(&path).await?,
        path,
    };
    let remembered = Remembered {
        binary,
        bytes,
        modified_seconds,
        nanoseconds,
    };
    remember(&memory, &remembered);
    Ok(remembered.binary)
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
}
