//! The distribution's package manager: the few calls that installing needs, each with a deadline.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tracing::{info, warn};

use super::InstallError;
use super::source::System;
use crate::limits::{APT_INSTALL_LIMIT, APT_LOCK_LIMIT, APT_OUTPUT_BYTES, APT_UPDATE_LIMIT};
use crate::workload::systemd::{self, Names};

/// A package that brings the server, and the service that it would start by itself.
pub(super) const PACKAGE: &str = "valkey-server";
pub(super) const PACKAGE_SERVICE: &str = "valkey-server.service";

/// Where an administrator says that packages may not start services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Where the other suite is named.
const SOURCE_FILE: &str = "/etc/apt/sources.list.d/charmed-valkey.sources";

/// Variables for apt that Juju hands to charms under names of its own.
const PROXIES: [(&str, &str); 3] = [
    ("JUJU_CHARM_HTTP_PROXY", "http_proxy"),
    ("JUJU_CHARM_HTTPS_PROXY", "https_proxy"),
    ("JUJU_CHARM_NO_PROXY", "no_proxy"),
];

/// Runs `apt-get`, and returns what it printed.
async fn apt_get(arguments: &[&str], limit: Duration) -> Result<String, InstallError> {
    let lock = format!("DPkg::Lock::Timeout={}", APT_LOCK_LIMIT.as_secs());
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-y"])
        .args([
            "-o",
            "Acquire::Retries=3",
            "-o",
            "Acquire::http::Timeout=20",
        ])
        .args(["-o", "Acquire::https::Timeout=20", "-o", &lock])
        .args(["-o", "APT::Update::Error-Mode=any"])
        .args(["-o", "Dpkg::Options::=--force-confold"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (juju, usual) in PROXIES {
        if let Some(value) = std::env::var_os(juju).filter(|value| !value.is_empty())
            && std::env::var_os(usual).is_none()
        {
            command.env(usual, value);
        }
    }
    let what = arguments.first().copied().unwrap_or_default().to_owned();
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| InstallError::Slow {
            what: what.clone(),
            limit,
        })?
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InstallError::NoApt,
            _ => InstallError::Apt {
                what: what.clone(),
                said: source.to_string(),
            },
        })?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(understand(what, &text))
    }
}

/// Says what went wrong, by what apt printed.
pub(super) fn understand(what: String, text: &str) -> InstallError {
    let says = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    let said = {
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| {
                line.starts_with("E:") || line.starts_with("W:") || line.contains("Depends:")
            })
            .collect();
        let all = if lines.is_empty() {
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        } else {
            lines.join(" | ")
        };
        let begin = all.len().saturating_sub(APT_OUTPUT_BYTES);
        let begin = (begin..all.len())
            .find(|at| all.is_char_boundary(*at))
            .unwrap_or(0);
        all[begin..].to_owned()
    };
    if says(&[
        "Could not get lock",
        "Unable to acquire the dpkg frontend lock",
    ]) {
        InstallError::Locked
    } else if says(&["No space left on device", "enough free space"]) {
        InstallError::DiskFull { said }
    } else if says(&[
        "Temporary failure resolving",
        "Could not resolve",
        "Could not connect",
        "Unable to connect",
        "Network is unreachable",
        "Connection timed out",
        "Connection failed",
        "Connection refused",
    ]) {
        InstallError::Unreachable { said }
    } else if says(&[
        "Unable to locate package",
        "has no installation candidate",
        // The lists of the other suite could not be read.
        "is invalid for APT::Default-Release",
    ]) {
        InstallError::NotOffered { said }
    } else {
        InstallError::Apt { what, said }
    }
}

/// Installs packages of the distribution, with lists that are read anew.
///
/// # Errors
///
/// [`InstallError`] with what is in the way; trying again is safe.
pub(super) async fn install(
    names: &Names,
    packages: &[&str],
    suite: Option<&str>,
    system: &System,
) -> Result<(), InstallError> {
    // What apt knows of archives it tells only once it has read their lists; fresh machines have none.
    let mut lists = update().await;
    if let Some(suite) = suite {
        lists = match add_suite(suite, system).await {
            Ok(true) => lists.and(update().await),
            Ok(false) => lists,
            Err(error) => lists.and(Err(error)),
        };
    }
    match (run_install(names, packages, suite).await, lists) {
        // What is missing in the lists follows from why they could not be read.
        (Err(InstallError::NotOffered { .. }), Err(why)) => Err(why),
        (installed, _) => installed,
    }
}

/// Reads the lists of packages.
async fn update() -> Result<(), InstallError> {
    apt_get(&["update"], APT_UPDATE_LIMIT).await.map(drop)
}

/// Installs packages from files, and what they depend on from the lists that are there.
///
/// # Errors
///
/// As [`install`].
pub(super) async fn install_files(names: &Names, paths: &[&str]) -> Result<(), InstallError> {
    run_install(names, paths, None).await
}

async fn run_install(
    names: &Names,
    packages: &[&str],
    suite: Option<&str>,
) -> Result<(), InstallError> {
    // Also when this future is dropped: nobody else's services are held back for longer.
    let _policy = Policy::hold()?;
    systemd::mask(names, PACKAGE_SERVICE)?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    if let Some(suite) = suite {
        arguments.extend(["-t", suite]);
    }
    arguments.extend(packages);
    apt_get(&arguments, APT_INSTALL_LIMIT).await?;
    info!(?packages, "Installed");
    Ok(())
}

/// Names another suite of the archive that the machine uses already, with its mirror and keys; says
/// whether that is new.
async fn add_suite(suite: &str, system: &System) -> Result<bool, InstallError> {
    let targets = [
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(SIGNED_BY)",
        "Created-By: Packages",
    ];
    let text = apt_get(&targets, APT_UPDATE_LIMIT).await?;
    match other_suite(&text, &system.codename, suite) {
        Suite::Known => Ok(false),
        Suite::Add(source) => {
            let path = PathBuf::from(SOURCE_FILE);
            fs::write(&path, source)
                .map(|()| true)
                .map_err(|error| InstallError::file("write", &path, error))
        }
        Suite::NoArchive => Err(InstallError::NotOffered {
            said: format!(
                "apt's configuration names no archive for {}",
                system.codename
            ),
        }),
    }
}

/// What has to be done for another suite.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// Nothing: apt knows it.
    Known,
    /// This text belongs into a file of sources.
    Add(String),
    /// The machine's own suite has no archive either.
    NoArchive,
}

/// Decides how apt learns of `suite`, by the archives that it knows.
pub(super) fn other_suite(targets: &str, own: &str, suite: &str) -> Suite {
    let rows: Vec<Vec<&str>> = targets
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    if rows.iter().any(|row| row.get(1) == Some(&suite)) {
        return Suite::Known;
    }
    let archive = rows.iter().find_map(|row| match row.as_slice() {
        [archive, release, rest @ ..] if *release == own && !archive.contains("security") => {
            Some((*archive, rest.first().copied()))
        }
        _ => None,
    });
    let Some((archive, key)) = archive else {
        return Suite::NoArchive;
    };
    let key = key.unwrap_or("/usr/share/keyrings/debian-archive-keyring.gpg");
    Suite::Add(format!(
        "# Written by the Valkey charm: this suite has Valkey.\n\
         Types: deb\nURIs: {archive}\nSuites: {suite}\nComponents: main\nSigned-By: {key}\n"
    ))
}

/// Says for as long as it lives that packages start no services, unless an administrator said
/// something already.
struct Policy {
    ours: bool,
}

impl Policy {
    const TEXT: &str =
        "#!/bin/sh\n# Written by the Valkey charm while it installs a package.\nexit 101\n";

    fn hold() -> Result<Self, InstallError> {
        use std::io::Write as _;
        let path = Path::new(POLICY);
        let fail = |error| InstallError::file("write", path, error);
        // One of ours that an interruption left.
        if fs::read_to_string(path).is_ok_and(|text| text == Self::TEXT) {
            return Ok(Self { ours: true });
        }
        let made = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o755)
            .open(path);
        match made {
            Ok(mut file) => {
                // Whatever this process's mask was.
                file.set_permissions(fs::Permissions::from_mode(0o755))
                    .map_err(fail)?;
                file.write_all(Self::TEXT.as_bytes()).map_err(fail)?;
                Ok(Self { ours: true })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(fail(error)),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            warn!(
                path = POLICY,
                error = format!("{error:#}"),
                "Cannot remove the policy that keeps services from starting"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_says_becomes_what_to_do() {
        for (text, expected) in [
            (
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1",
                "another program installs",
            ),
            (
                "W: Failed to fetch http://x/y  Temporary failure resolving 'x'\nE: Some index files failed",
                "cannot be reached",
            ),
            (
                "E: Failed to fetch http://x  Could not connect to x:80 (10.0.0.1). - connect (111: Connection refused)",
                "cannot be reached",
            ),
            (
                "E: Unable to locate package valkey-server",
                "has no package",
            ),
            (
                "E: The value 'bookworm-backports' is invalid for APT::Default-Release as such a release is not available",
                "has no package",
            ),
            (
                "dpkg: error: failed to write: No space left on device",
                "the disk is full",
            ),
            (
                "The following packages have unmet dependencies:\n valkey-server : Depends: valkey-tools",
                "Depends: valkey-tools",
            ),
        ] {
            let error = understand("install".to_owned(), text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.starts_with("cannot "), "{error}");
        }
    }

    #[test]
    fn another_suite_comes_from_the_archive_that_is_there() {
        let own = "http://deb.example/debian/ bookworm /usr/share/keyrings/k.gpg\n\
                   http://deb.example/debian-security/ bookworm-security /k\n";
        assert_eq!(
            other_suite(own, "bookworm", "bookworm-backports"),
            Suite::Add(
                "# Written by the Valkey charm: this suite has Valkey.\n\
                 Types: deb\nURIs: http://deb.example/debian/\nSuites: bookworm-backports\n\
                 Components: main\nSigned-By: /usr/share/keyrings/k.gpg\n"
                    .to_owned()
            )
        );
        let known = format!("{own}http://deb.example/debian/ bookworm-backports /k\n");
        assert_eq!(
            other_suite(&known, "bookworm", "bookworm-backports"),
            Suite::Known
        );
        assert_eq!(
            other_suite("", "bookworm", "bookworm-backports"),
            Suite::NoArchive
        );
    }
}
