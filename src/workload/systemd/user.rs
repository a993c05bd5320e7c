//! The system user that server and Sentinel run as.

use std::fs;
use std::path::Path;

use tracing::info;

use super::systemctl::run;
use crate::limits::USER_TOOL_LIMIT;
use crate::workload::WorkloadError;
use crate::workload::owner::Owner;

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
