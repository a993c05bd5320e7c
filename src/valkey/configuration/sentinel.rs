//! Sentinel's configuration file, for its first start only: from then on it is Sentinel's own.

use std::path::PathBuf;
use std::time::Duration;

use super::{InvalidSetting, Lines, LogLevel};
use crate::limits::{FAILOVER_TIMEOUT, MONITOR_NAME, PARALLEL_SYNCS};
use crate::valkey::{Credentials, Endpoint, InternalUser};

/// Everything that a Sentinel's first configuration file depends on.
///
/// Sentinel rewrites the file: its id, the epochs, and whom it knows stand there and must survive
/// restarts, or it counts as another Sentinel and forgets which elections it took part in. Later
/// changes are made with `SENTINEL SET` and `SENTINEL CONFIG SET`.
#[derive(Debug, Clone)]
pub struct SentinelSettings {
    /// The unit's own address or name, and Sentinel's port.
    pub endpoint: Endpoint,
    /// Directory that Sentinel may write in, absolute.
    pub data_dir: PathBuf,
    /// File of users, absolute.
    pub users_file: PathBuf,
    /// The primary.
    pub primary: Endpoint,
    /// Sentinels that must agree that the primary is down.
    pub quorum: u64,
    /// How long the primary must be silent.
    pub detection: Duration,
    /// Passwords.
    pub credentials: Credentials,
    /// How much is written to the log.
    pub log_level: LogLevel,
}

impl SentinelSettings {
    /// Writes the file.
    ///
    /// It holds passwords: write it with mode 0600, owned by the user that Sentinel runs as.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] for a path that no configuration file can hold.
    pub fn render(&self) -> Result<String, InvalidSetting> {
        let mut lines = Lines::default();
        let named = self.endpoint.address().is_none() || self.primary.address().is_none();
        lines.add_network(&self.endpoint);
        lines.add("daemonize", "no");
        lines.add("logfile", "\"\"");
        lines.add("loglevel", self.log_level);
        lines.add_path("dir", &self.data_dir)?;
        lines.add_path("aclfile", &self.users_file)?;

        // Before the first address: where names are used they must be taken from the first line.
        if named {
            lines.add("sentinel resolve-hostnames", "yes");
            lines.add("sentinel announce-hostnames", "yes");
        }
        lines.add("sentinel announce-ip", self.endpoint.host());
        lines.add("sentinel announce-port", self.endpoint.port());
        // A client that may change Sentinel's settings must not be able to make it run programs.
        lines.add("sentinel deny-scripts-reconfig", "yes");
        lines.add(
            "sentinel sentinel-user",
            InternalUser::CharmedSentinelPeers.name(),
        );
        let peers = self
            .credentials
            .password(InternalUser::CharmedSentinelPeers);
        lines.add("sentinel sentinel-pass", peers.expose());
        lines.add(
            "sentinel monitor",
            format_args!(
                "{MONITOR_NAME} {} {} {}",
                self.primary.host(),
                self.primary.port(),
                self.quorum
            ),
        );
        for (name, value) in self.profile() {
            lines.add(&format!("sentinel {name} {MONITOR_NAME}"), value);
        }
        Ok(lines.0)
    }

    /// Returns Sentinel's own file with this unit's address in it, for a machine that came back with
    /// another one; nothing when it stands there already.
    ///
    /// Its id, epochs and acquaintances stay as they are, but for one that had this address: it would
    /// send its hellos there, to itself, and take itself for another Sentinel from then on.
    #[must_use]
    pub fn readdressed(&self, text: &str) -> Option<String> {
        let host = self.endpoint.host();
        let mut changed = false;
        let mut lines = Lines::default();
        for line in text.lines() {
            let names = ["bind-source-addr", "bind", "sentinel announce-ip"];
            let value = |name: &str| line.strip_prefix(name)?.strip_prefix(' ');
            let found = names
                .into_iter()
                .find_map(|name| Some((name, value(name)?)));
            let mut words = line.split_whitespace();
            let acquaintance = words.next() == Some("sentinel")
                && words.next() == Some("known-sentinel")
                && words.nth(1) == Some(host);
            if acquaintance {
                changed = true;
                continue;
            }
            match found {
                Some((name, value)) if value.trim().trim_matches('"') != host => {
                    changed = true;
                    lines.add(name, host);
                }
                Some(_) | None => {
                    lines.0.push_str(line);
                    lines.0.push('\n');
                }
            }
        }
        changed.then_some(lines.0)
    }

    /// Returns the options of the monitored primary, as `SENTINEL SET` takes them.
    ///
    /// After `SENTINEL MONITOR` all of them have to be set again; the quorum is not among them.
    #[must_use]
    pub fn profile(&self) -> Vec<(&'static str, String)> {
        let server = self
            .credentials
            .password(InternalUser::CharmedSentinelValkey);
        vec![
            (
                "down-after-milliseconds",
                self.detection.as_millis().to_string(),
            ),
            ("failover-timeout", FAILOVER_TIMEOUT.as_millis().to_string()),
            ("parallel-syncs", PARALLEL_SYNCS.to_string()),
            (
                "auth-user",
                InternalUser::CharmedSentinelValkey.name().to_owned(),
            ),
            ("auth-pass", server.expose().to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str) -> SentinelSettings {
        SentinelSettings {
            endpoint: Endpoint::new(host, 26379).unwrap(),
            data_dir: "/var/lib/s".into(),
            users_file: "/etc/s.acl".into(),
            primary: Endpoint::new(host, 6379).unwrap(),
            quorum: 2,
            detection: Duration::from_secs(5),
            credentials: Credentials::generate().unwrap(),
            log_level: LogLevel::Notice,
        }
    }

    #[test]
    fn a_file_that_sentinel_has_written_keeps_all_but_the_own_address() {
        let before = "bind 10.0.0.1\nbind-source-addr \"10.0.0.1\"\nport 26379\n\
                      sentinel announce-ip \"10.0.0.1\"\nsentinel myid abc\n\
                      sentinel monitor primary 10.0.0.1 6379 2\n\
                      sentinel known-sentinel primary 10.0.0.2 26379 def\n\
                      sentinel known-sentinel primary 10.0.0.9 26379 ghi\n";
        let moved = settings("10.0.0.9");
        let after = moved.readdressed(before).unwrap();
        assert_eq!(
            after,
            "bind 10.0.0.9\nbind-source-addr 10.0.0.9\nport 26379\n\
             sentinel announce-ip 10.0.0.9\nsentinel myid abc\n\
             sentinel monitor primary 10.0.0.1 6379 2\n\
             sentinel known-sentinel primary 10.0.0.2 26379 def\n"
        );
        assert_eq!(moved.readdressed(&after), None);
        assert_eq!(settings("10.0.0.1").readdressed(before), None);
    }

    #[test]
    fn names_are_turned_on_only_where_they_are_used() {
        for (host, named) in [
            ("10.0.0.1", false),
            ("fd00::1", false),
            ("valkey-0.m", true),
        ] {
            let text = settings(host).render().unwrap();
            assert_eq!(text.contains("resolve-hostnames yes"), named, "{host}");
            assert_eq!(text.contains("bind-source-addr"), !named, "{host}");
            assert!(
                text.contains(&format!("sentinel monitor primary {host} 6379 2\n")),
                "{text}"
            );
            assert!(
                text.contains("sentinel down-after-milliseconds primary 5000\n"),
                "{text}"
            );
        }
    }
}
