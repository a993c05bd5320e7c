//! What hook tools take and answer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::juju::names::UnitName;

/// The kinds of status that a charm may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusKind {
    /// It works.
    Active,
    /// It works on itself.
    Maintenance,
    /// It waits for somebody else.
    Waiting,
    /// A person is needed.
    Blocked,
}

impl StatusKind {
    /// Returns Juju's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Maintenance => "maintenance",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
        }
    }
}

/// A status to set: a kind and a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The kind.
    pub kind: StatusKind,
    /// The message; may be empty.
    pub message: String,
}

impl Status {
    /// Puts a status together.
    #[must_use]
    pub fn new(kind: StatusKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(self.kind.as_str()),
            message => write!(f, "{}: {message}", self.kind.as_str()),
        }
    }
}

/// A status as Juju tells it; the word can be one that charms cannot set (`unknown`, `error`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct StatusInfo {
    /// Juju's word.
    pub status: String,
    /// The message.
    #[serde(default)]
    pub message: String,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For the charm's developers, in detail.
    Trace,
    /// For the charm's developers.
    Debug,
    /// Something was done.
    Info,
    /// Wrong, but it recovers.
    Warning,
    /// A person is needed.
    Error,
}

impl LogLevel {
    /// Returns Juju's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// The addresses of a binding. Juju leaves empty lists out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct NetworkInfo {
    /// Addresses to listen on, by network device.
    pub bind_addresses: Vec<BindAddress>,
    /// Networks from which this unit's traffic comes.
    pub egress_subnets: Vec<String>,
    /// Addresses to tell others.
    pub ingress_addresses: Vec<String>,
}

impl NetworkInfo {
    /// Returns the first address to listen on.
    #[must_use]
    pub fn bind_address(&self) -> Option<&str> {
        let mut addresses = self
            .bind_addresses
            .iter()
            .flat_map(|device| &device.addresses);
        addresses
            .find(|address| !address.value.is_empty())
            .map(|address| address.value.as_str())
    }

    /// Returns the first address to tell others.
    #[must_use]
    pub fn ingress_address(&self) -> Option<&str> {
        self.ingress_addresses
            .first()
            .map(String::as_str)
            .filter(|address| !address.is_empty())
    }
}

/// A network device with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BindAddress {
    /// Hardware address.
    pub mac_address: String,
    /// Name of the device.
    pub interface_name: String,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// One address of a network device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct InterfaceAddress {
    /// Name, if the address was resolved from one.
    pub hostname: String,
    /// The address.
    pub value: String,
    /// The network that it belongs to.
    pub cidr: String,
}

/// What the application is meant to look like, as the controller knows it now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct GoalState {
    /// All units of the own application that are not gone yet.
    pub units: BTreeMap<UnitName, GoalStatus>,
    /// By endpoint: related applications and their units. Peer relations are not among them.
    pub relations: BTreeMap<String, BTreeMap<String, GoalStatus>>,
}

impl GoalState {
    /// Returns the units that stay: all that are not being removed.
    pub fn staying(&self) -> impl Iterator<Item = &UnitName> {
        self.units
            .iter()
            .filter(|(_, goal)| !goal.is_dying())
            .map(|(name, _)| name)
    }

    /// Returns the units that are being removed.
    pub fn leaving(&self) -> impl Iterator<Item = &UnitName> {
        self.units
            .iter()
            .filter(|(_, goal)| goal.is_dying())
            .map(|(name, _)| name)
    }
}

/// The state of one unit or application in the goal state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct GoalStatus {
    /// `dying` for a unit that is removed, else its workload status.
    pub status: String,
    /// Since when, as Juju writes it.
    pub since: String,
}

impl GoalStatus {
    /// Says whether the unit is being removed.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        self.status == "dying"
    }
}

/// Where a storage instance is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StorageInfo {
    /// `filesystem` or `block`.
    pub kind: String,
    /// Mount point or device.
    pub location: PathBuf,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Ports that are open in the cloud's firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum PortRange {
    /// Ping and its like.
    Icmp,
    /// One port, or several in a row; both ends included.
    Ports {
        /// First port.
        from: u16,
        /// Last port.
        to: u16,
        /// Protocol.
        protocol: Protocol,
    },
}

/// A text that names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {0:?} as ports such as 6379/tcp")]
pub struct PortError(String);

impl PortRange {
    /// Names one TCP port.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Self::Ports {
            from: port,
            to: port,
            protocol: Protocol::Tcp,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ports { from, to, protocol } = self else {
            return f.write_str("icmp");
        };
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        if from == to {
            write!(f, "{from}/{protocol}")
        } else {
            write!(f, "{from}-{to}/{protocol}")
        }
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let fail = || PortError(text.chars().take(40).collect());
        if text == "icmp" {
            return Ok(Self::Icmp);
        }
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(fail()),
        };
        let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse::<u16>().map_err(|_| fail());
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            Err(fail())
        } else {
            Ok(Self::Ports { from, to, protocol })
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = PortError;

    fn try_from(text: String) -> Result<Self, PortError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(ports: PortRange) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_as_juju_does() {
        for (text, expected) in [
            ("6379/tcp", Some("6379/tcp")),
            ("6379", Some("6379/tcp")),
            ("8000-8010/udp", Some("8000-8010/udp")),
            ("icmp", Some("icmp")),
            ("9-8/tcp", None),
            ("70000/tcp", None),
            ("6379/sctp", None),
            ("", None),
        ] {
            let found = text
                .parse::<PortRange>()
                .ok()
                .map(|ports| ports.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
