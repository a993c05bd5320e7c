//! The system user that server and Sentinel run as, and what belongs to it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use tracing::{info, warn};

use super::systemctl::run;
use crate::limits::USER_TOOL_LIMIT;
use crate::workload::WorkloadError;

/// Numeric ids of a user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// Finds a user; none if there is none of this name.
///
/// System users stand in this file, whatever else the machine knows users from.
pub fn find(name: &str) -> Result<Option<Owner>, WorkloadError> {
    let path = Path::new("/etc/passwd");
    let text = fs::read_to_string(path).map_err(WorkloadError::file("read", path))?;
    Ok(parse(&text, name))
}

fn parse(text: &str, name: &str) -> Option<Owner> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Owner { user, group })
    })
}

/// Returns the user, which is made if it is missing.
pub async fn ensure(name: &str) -> Result<Owner, WorkloadError> {
    if let Some(owner) = find(name)? {
        return Ok(owner);
    }
    let arguments = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
        name,
    ];
    // Not on every PATH.
    run("/usr/sbin/useradd", &arguments, USER_TOOL_LIMIT).await?;
    info!(user = name, "System user made");
    find(name)?.ok_or_else(|| WorkloadError::Tool {
        command: format!("useradd {name}"),
        reason: "the user is not there afterwards".to_owned(),
    })
}

/// Removes the user, if it is there.
pub async fn remove(name: &str) -> Result<(), WorkloadError> {
    if find(name)?.is_some() {
        run("/usr/sbin/userdel", &[name], USER_TOOL_LIMIT).await?;
        info!(user = name, "System user removed");
    }
    Ok(())
}

/// Gives a directory with all that is in it to `owner`, unless it has it already.
///
/// The directory itself comes last: if that is interrupted, all of it is done again. Links are not
/// followed, and what is on another file system is left alone.
pub fn give(directory: &Path, owner: Owner) -> Result<(), WorkloadError> {
    let found =
        fs::symlink_metadata(directory).map_err(WorkloadError::file("look at", directory))?;
    if !found.is_dir() {
        return Err(
            WorkloadError::file("give to the service's user", directory)(
                io::ErrorKind::NotADirectory.into(),
            ),
        );
    }
    if (found.uid(), found.gid()) == (owner.user, owner.group) {
        return Ok(());
    }
    warn!(path = %directory.display(), user = owner.user, "Giving files to the service's user");
    give_all(directory, owner, found.dev())
        .map_err(WorkloadError::file("give to the service's user", directory))
}

fn give_all(path: &Path, owner: Owner, device: u64) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.dev() != device {
        return Ok(());
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), owner, device)?;
        }
    }
    lchown(path, Some(owner.user), Some(owner.group))
}

/// Lets other users pass through a directory, which they need to reach their own below it.
pub fn let_pass(directory: &Path) -> Result<(), WorkloadError> {
    let fail = || WorkloadError::file("open for the service's user", directory);
    let mode = fs::metadata(directory)
        .map_err(fail())?
        .permissions()
        .mode();
    if mode & 0o011 != 0o011 {
        fs::set_permissions(
            directory,
            fs::Permissions::from_mode((mode & 0o7777) | 0o011),
        )
        .map_err(fail())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\ncharmed-valkey-0:x:997:996::/:/bin/false\nbad:x\n";
        let owner = |user, group| Some(Owner { user, group });
        assert_eq!(parse(text, "charmed-valkey-0"), owner(997, 996));
        assert_eq!(parse(text, "root"), owner(0, 0));
        for name in ["charmed-valkey", "charmed-valkey-00", "bad", ""] {
            assert_eq!(parse(text, name), None, "{name}");
        }
    }
}
