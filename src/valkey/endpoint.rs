//! Where a server or a Sentinel listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::HOST_NAME_MAX_BYTES;

/// Host (an address or a name) and port of a server or a Sentinel.
///
/// The host goes into configuration files and into Sentinel's comma-separated hello, so it holds
/// nothing but letters, digits and `.-_:%`; IPv6 addresses are kept without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// A text that is no host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {text:?} as an endpoint: {reason}")]
pub struct InvalidEndpoint {
    /// What was given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Endpoint {
    /// Makes an endpoint of a host and a port.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`] for an empty or too long host, one with other characters than hosts
    /// have, and for port 0.
    pub fn new(host: impl Into<String>, port: u16) -> Result<Self, InvalidEndpoint> {
        let host = host.into();
        match host_problem(&host) {
            Some(reason) => Err(invalid(&host, reason)),
            None if port == 0 => Err(invalid(&host, "the port is 0")),
            None => Ok(Self { host, port }),
        }
    }

    /// Returns the host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the host as an address, `None` for a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns the same host with another port, or `self` for port 0.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        let port = if port == 0 { self.port } else { port };
        Self {
            host: self.host.clone(),
            port,
        }
    }
}

/// Says why `host` is none, or `None` if it is one.
#[must_use]
pub(crate) fn host_problem(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        Some("the host is empty")
    } else if host.len() > HOST_NAME_MAX_BYTES {
        Some("the host is too long")
    } else if !host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c))
    {
        Some("the host has characters that no host has")
    } else if host.starts_with('-') {
        // In `bind` it would mean "if there is such an address", for a program a flag.
        Some("the host begins with a hyphen")
    } else if host.contains(':') && host.split('%').next().is_none_or(not_ipv6) {
        Some("the host has a colon but is no IPv6 address")
    } else {
        None
    }
}

fn not_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_err()
}

fn invalid(text: &str, reason: &'static str) -> InvalidEndpoint {
    InvalidEndpoint {
        text: text.chars().take(80).collect(),
        reason,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid(text, "it has no port"))?;
        let port = port
            .parse()
            .map_err(|_| invalid(text, "the port is no number"))?;
        match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inner)) if inner.contains(':') => Self::new(inner, port),
            Some(_) => Err(invalid(text, "the brackets hold no IPv6 address")),
            None if host.contains(':') => Err(invalid(
                text,
                "an IPv6 address needs brackets before its port",
            )),
            None => Self::new(host, port),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    /// Keeps address and port; a port of 0 stays what it is and simply refuses connections.
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn endpoints_are_read_and_written_alike_or_refused() {
        for (text, host, port) in [
            ("10.1.2.3:6379", "10.1.2.3", 6379),
            (
                "valkey-0.valkey-endpoints.m.svc:26379",
                "valkey-0.valkey-endpoints.m.svc",
                26379,
            ),
            ("[fd00::1]:6379", "fd00::1", 6379),
            ("[fe80::1%eth0]:6379", "fe80::1%eth0", 6379),
        ] {
            let read: Endpoint = text.parse().unwrap();
            assert_eq!((read.host(), read.port()), (host, port), "{text}");
            assert_eq!(read.to_string(), text);
            assert_eq!(serde_json::to_string(&read).unwrap(), format!("{text:?}"));
        }
        for text in [
            "",
            ":",
            "host",
            "host:",
            ":6379",
            "host:0",
            "host:70000",
            "fd00::1:6379",
            "[host]:1",
            "[fd00::1:6379",
            "-a:1",
            "a b:1",
            "a,b:1",
            "a\nb:1",
            "a\"b:1",
            "x:y:1",
            "[]:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            if let Ok(read) = text.parse::<Endpoint>() {
                prop_assert_eq!(read.to_string().parse::<Endpoint>().unwrap(), read);
            }
        }
    }
}
