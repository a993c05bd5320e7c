//! Names of everything that the charm makes on a machine for one unit, so that units can share one.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::workload::Service;
use crate::workload::files::hex;

/// Where an administrator's units are; they win over those of packages.
const UNIT_DIRECTORY: &str = "/etc/systemd/system";

/// Longest name of a user that the usual tools accept, in characters.
const USER_CHARACTERS_MAX: usize = 31;

/// The names of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    unit: String,
    prefix: String,
}

impl Names {
    /// Makes the names of a Juju unit, as in `valkey/0`.
    #[must_use]
    pub fn of(unit: &str) -> Self {
        Self {
            unit: unit.to_owned(),
            prefix: unit.replace('/', "-"),
        }
    }

    /// Returns the Juju unit.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Returns the name of a service's systemd unit, as in `valkey-0-server.service`.
    #[must_use]
    pub fn service(&self, service: Service) -> String {
        format!("{}-{service}.service", self.prefix)
    }

    /// Returns the file of a service's systemd unit.
    #[must_use]
    pub fn unit_file(&self, service: Service) -> PathBuf {
        PathBuf::from(UNIT_DIRECTORY).join(self.service(service))
    }

    /// Returns the link that lets a service start with the machine.
    #[must_use]
    pub fn boot_link(&self, service: Service) -> PathBuf {
        PathBuf::from(UNIT_DIRECTORY)
            .join("multi-user.target.wants")
            .join(self.service(service))
    }

    /// Returns the name of the system user, and of its group, that server and Sentinel run as.
    ///
    /// An application's name can be longer than a user's: then a digest stands for it.
    #[must_use]
    pub fn user(&self) -> String {
        let name = format!("charmed-{}", self.prefix);
        if name.len() <= USER_CHARACTERS_MAX {
            return name;
        }
        let digest = Sha256::digest(self.prefix.as_bytes());
        format!("charmed-{}", hex(&digest[..10]))
    }

    /// Returns the file of kernel settings.
    #[must_use]
    pub fn sysctl_file(&self) -> PathBuf {
        PathBuf::from("/etc/sysctl.d").join(format!("60-charmed-{}.conf", self.prefix))
    }

    /// Returns the directory of what was installed from a resource, and of what is known of the machine.
    #[must_use]
    pub fn installed(&self) -> PathBuf {
        PathBuf::from("/opt").join(format!("charmed-{}", self.prefix))
    }

    /// Returns the file that says which service of a package was kept from starting.
    #[must_use]
    pub fn masked(&self) -> PathBuf {
        self.installed().join("masked")
    }

    /// Returns the file that says up to where the journal was read for Juju's log.
    #[must_use]
    pub fn journal_cursor(&self) -> PathBuf {
        self.installed().join("journal-cursor")
    }

    /// Returns the server's binary that was installed from a resource.
    #[must_use]
    pub fn installed_server(&self) -> PathBuf {
        self.installed().join("valkey-server")
    }
}

/// Returns where an administrator's word on a service of a package is.
pub(super) fn of_package(service: &str) -> PathBuf {
    PathBuf::from(UNIT_DIRECTORY).join(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_units_apart_and_fit() {
        let names = Names::of("valkey/0");
        assert_eq!(names.service(Service::Server), "valkey-0-server.service");
        assert_eq!(names.user(), "charmed-valkey-0");
        let long = Names::of("a-very-long-name-of-an-application/12").user();
        let other = Names::of("a-very-long-name-of-an-application/13").user();
        assert!(long.len() <= USER_CHARACTERS_MAX && long != other, "{long}");
    }
}
