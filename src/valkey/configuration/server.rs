//! The server's configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{InvalidSetting, Lines, Options, Persistence, max_lag_seconds};
use crate::limits::{
    REPL_BACKLOG_DEFAULT_MAX_BYTES, REPL_BACKLOG_DEFAULT_MIN_BYTES, REPL_BACKLOG_MIN_BYTES,
    REPL_PING_PERIOD, REPL_TIMEOUT, REPLICA_BUFFER_MIN_BYTES, REPLICA_BUFFER_SOFT_FOR,
    SHUTDOWN_REPLICA_WAIT,
};
use crate::valkey::{Endpoint, InternalUser, Password, Version};

/// What the server reads its data set from when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// From what the persistence option keeps: the append-only file if that is on.
    Persistence,
    /// From the snapshot that was written at an orderly stop.
    ///
    /// The snapshot knows its place in the replication stream, an append-only file does not: only
    /// a replica that starts from the snapshot takes up where it left. The append-only file is off
    /// in the file then; the caller turns it on at run time ([`ServerSettings::run_time`]) and writes the
    /// file anew with [`StartFrom::Persistence`] once the first rewrite of it is done.
    Snapshot,
}

/// Everything that a server's configuration file depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Version of the server that will read the file.
    pub version: Version,
    /// The unit's own address or name, and the port.
    pub endpoint: Endpoint,
    /// Directory of the data, absolute.
    pub data_dir: PathBuf,
    /// File of users, absolute.
    pub users_file: PathBuf,
    /// Password of [`InternalUser::CharmedReplication`].
    pub replication_password: Password,
    /// Whom to follow; `None` starts as a primary. The caller has the evidence for either.
    pub replicaof: Option<Endpoint>,
    /// Replicas without which the server takes no writes.
    pub min_replicas_to_write: u16,
    /// Where the data comes from.
    pub start_from: StartFrom,
    /// Memory that the unit has in bytes, if that is known.
    pub memory_total_bytes: Option<u64>,
    /// What a person tuned.
    pub options: Options,
}

impl ServerSettings {
    /// Writes the file.
    ///
    /// It holds the password of replication: write it with mode 0600.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] for a path that no configuration file can hold.
    pub fn render(&self) -> Result<String, InvalidSetting> {
        let mut lines = Lines::default();
        self.add_network(&mut lines);
        self.add_process(&mut lines)?;
        self.add_replication(&mut lines);
        self.add_persistence(&mut lines);
        for (name, value) in self.run_time() {
            // `appendonly` is decided by where the server starts from.
            if name != "appendonly" {
                let empty = value.is_empty();
                lines.add(name, if empty { "\"\"" } else { value.as_str() });
            }
        }
        Ok(lines.0)
    }

    fn add_network(&self, lines: &mut Lines) {
        lines.add_network(&self.endpoint);
        lines.add("tcp-backlog", 511);
        lines.add("timeout", 0);
    }

    fn add_process(&self, lines: &mut Lines) -> Result<(), InvalidSetting> {
        // Whoever starts the process keeps track of it and of what it prints.
        lines.add("daemonize", "no");
        lines.add("supervised", "no");
        lines.add("logfile", "\"\"");
        lines.add("always-show-logo", "no");
        lines.add_path("dir", &self.data_dir)?;
        lines.add_path("aclfile", &self.users_file)?;
        lines.add("databases", self.options.databases);
        lines.add("io-threads", self.options.io_threads);
        // An orderly stop waits so long for replicas to get everything.
        lines.add("shutdown-timeout", SHUTDOWN_REPLICA_WAIT.as_secs());
        // A stop by signal saves, whatever the save points are.
        lines.add("shutdown-on-sigterm", "save");
        lines.add("shutdown-on-sigint", "save");
        if self.version >= Version::new(8, 0, 0) {
            // Crash reports and log lines must not show what users store.
            lines.add("hide-user-data-from-log", "yes");
        }
        Ok(())
    }

    fn add_replication(&self, lines: &mut Lines) {
        let (user, password) = if self.version >= Version::new(8, 0, 0) {
            ("primaryuser", "primaryauth")
        } else {
            ("masteruser", "masterauth")
        };
        lines.add(user, InternalUser::CharmedReplication.name());
        lines.add(password, self.replication_password.expose());
        if let Some(primary) = &self.replicaof {
            lines.add(
                "replicaof",
                format_args!("{} {}", primary.host(), primary.port()),
            );
        }
        lines.add("replica-announce-ip", self.endpoint.host());
        lines.add("replica-announce-port", self.endpoint.port());
        // Never promoted until the charm has seen the first synchronisation complete, and set
        // 100 at run time: no rule of Sentinel excludes a replica in its first synchronisation.
        lines.add("replica-priority", 0);
        lines.add("replica-serve-stale-data", "yes");
        lines.add("replica-read-only", "yes");
        // From memory to socket: no detour over the primary's disk, and no waiting for more
        // replicas, because units join one at a time.
        lines.add("repl-diskless-sync", "yes");
        lines.add("repl-diskless-sync-delay", 0);
        // A replica with data receives to a file first: a transfer that breaks leaves its data as
        // they are. Only an empty one, which has nothing to lose, reads right from the socket.
        lines.add("repl-diskless-load", "on-empty-db");
        if self.version >= Version::new(8, 0, 0) {
            // It can show Sentinel a replica that does not exist (valkey#2338).
            lines.add("dual-channel-replication-enabled", "no");
        }
        // Kept for as long as the process lives: a primary whose replicas were all away for an
        // hour must still let them take up where they left.
        lines.add("repl-backlog-ttl", 0);
        lines.add("repl-ping-replica-period", REPL_PING_PERIOD.as_secs());
        lines.add("repl-timeout", REPL_TIMEOUT.as_secs());
        lines.add("repl-disable-tcp-nodelay", "no");
        let hard = self
            .backlog_bytes()
            .saturating_mul(4)
            .max(REPLICA_BUFFER_MIN_BYTES);
        // A first synchronisation under heavy writes must end, not start over because the buffer
        // for what is written meanwhile ran over.
        lines.add(
            "client-output-buffer-limit",
            format_args!(
                "replica {hard} {} {}",
                hard / 2,
                REPLICA_BUFFER_SOFT_FOR.as_secs()
            ),
        );
    }

    fn add_persistence(&self, lines: &mut Lines) {
        let aof = self.options.persistence == Persistence::Aof
            && self.start_from == StartFrom::Persistence;
        lines.add("appendonly", if aof { "yes" } else { "no" });
        lines.add("appendfsync", "everysec");
        lines.add("appenddirname", "appendonlydir");
        lines.add("dbfilename", "dump.rdb");
        // A power cut ends the file in the middle of a command: what is before it is good.
        lines.add("aof-load-truncated", "yes");
        lines.add("aof-use-rdb-preamble", "yes");
        // Written data stays readable by whoever checks it, and a failed snapshot is not hidden.
        lines.add("rdbchecksum", "yes");
        lines.add("stop-writes-on-bgsave-error", "yes");
    }

    /// Returns the settings that may differ while the server runs, in the form in which
    /// `CONFIG GET` prints them.
    ///
    /// `replica-priority` and `replicaof` are not among them: they follow from the server's state.
    #[must_use]
    pub fn run_time(&self) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let aof = options.persistence == Persistence::Aof;
        let save = match options.persistence {
            // Beside the append-only file a second copy, an hour old at most.
            Persistence::Aof => "3600 1",
            Persistence::Rdb => "900 1 300 100 60 10000",
            Persistence::None => "",
        };
        vec![
            ("appendonly", if aof { "yes" } else { "no" }.to_owned()),
            ("save", save.to_owned()),
            (
                "maxmemory",
                options
                    .max_memory
                    .bytes(self.memory_total_bytes)
                    .to_string(),
            ),
            ("maxmemory-policy", options.eviction.to_string()),
            ("maxclients", options.max_clients.to_string()),
            ("repl-backlog-size", self.backlog_bytes().to_string()),
            ("loglevel", options.log_level.to_string()),
            (
                "min-replicas-to-write",
                self.min_replicas_to_write.to_string(),
            ),
            (
                "min-replicas-max-lag",
                max_lag_seconds(options.detection).to_string(),
            ),
        ]
    }

    /// Returns those of [`ServerSettings::run_time`] that differ from what `CONFIG GET` printed.
    #[must_use]
    pub fn differing(&self, current: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
        self.run_time()
            .into_iter()
            .filter(|(name, wanted)| current.get(*name).is_some_and(|is| is != wanted))
            .collect()
    }

    /// Returns the settings that only a restart applies, as one text to compare.
    #[must_use]
    pub fn restart_digest(&self) -> String {
        format!(
            "databases={} io-threads={}",
            self.options.databases, self.options.io_threads
        )
    }

    /// Returns the size of the backlog for partial resynchronisations, in bytes.
    ///
    /// Unless a person chose it: a 32nd of the memory, at least 64 MiB and at most 1 GiB, which is
    /// about a minute of 1 to 17 MB/s of writes; but never more than a quarter of a limit on memory,
    /// because the backlog counts against that.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        if let Some(bytes) = self.options.backlog_bytes {
            return bytes;
        }
        let limit = self.options.max_memory.bytes(self.memory_total_bytes);
        let memory = if limit > 0 {
            limit
        } else {
            self.memory_total_bytes.unwrap_or(0)
        };
        let wanted = (memory / 32).clamp(
            REPL_BACKLOG_DEFAULT_MIN_BYTES,
            REPL_BACKLOG_DEFAULT_MAX_BYTES,
        );
        if limit > 0 {
            wanted.min((limit / 4).max(REPL_BACKLOG_MIN_BYTES))
        } else {
            wanted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valkey::configuration::MemoryLimit;

    fn settings() -> ServerSettings {
        ServerSettings {
            version: Version::new(8, 0, 1),
            endpoint: Endpoint::new("10.0.0.1", 6379).unwrap(),
            data_dir: "/var/lib/x y".into(),
            users_file: "/etc/users.acl".into(),
            replication_password: Password::new("pw").unwrap(),
            replicaof: None,
            min_replicas_to_write: 1,
            start_from: StartFrom::Persistence,
            memory_total_bytes: Some(8 << 30),
            options: Options::default(),
        }
    }

    fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    }

    #[test]
    fn the_file_depends_on_version_place_and_start() {
        let text = settings().render().unwrap();
        for (name, expected) in [
            ("dir", Some("\"/var/lib/x y\"")),
            ("bind-source-addr", Some("10.0.0.1")),
            ("primaryauth", Some("pw")),
            ("replica-priority", Some("0")),
            ("appendonly", Some("yes")),
            ("replicaof", None),
            ("min-replicas-max-lag", Some("2")),
            ("repl-backlog-size", Some("268435456")),
            ("dual-channel-replication-enabled", Some("no")),
        ] {
            assert_eq!(line(&text, name), expected, "{name}");
        }

        let mut old = settings();
        old.version = Version::new(7, 2, 5);
        old.endpoint = Endpoint::new("valkey-0.m", 6379).unwrap();
        old.replicaof = Some(Endpoint::new("fd00::2", 6379).unwrap());
        old.start_from = StartFrom::Snapshot;
        old.options.persistence = Persistence::Aof;
        let text = old.render().unwrap();
        for (name, expected) in [
            ("masterauth", Some("pw")),
            ("primaryauth", None),
            ("bind-source-addr", None),
            ("replicaof", Some("fd00::2 6379")),
            ("appendonly", Some("no")),
            ("hide-user-data-from-log", None),
        ] {
            assert_eq!(line(&text, name), expected, "{name}");
        }

        let mut none = settings();
        none.options.persistence = Persistence::None;
        assert_eq!(line(&none.render().unwrap(), "save"), Some("\"\""));
    }

    #[test]
    fn every_setting_stands_once() {
        let text = settings().render().unwrap();
        let mut names: Vec<_> = text.lines().filter_map(|l| l.split(' ').next()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_path_cannot_bring_a_setting_of_its_own() {
        for bad in ["/a\nrequirepass x", "/a\"b", "relative", "/a\\b"] {
            let mut settings = settings();
            settings.data_dir = bad.into();
            assert!(settings.render().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_backlog_follows_memory_and_choice() {
        for (limit, total, chosen, expected) in [
            (MemoryLimit::None, None, None, 64 << 20),
            (MemoryLimit::None, Some(1 << 30), None, 64 << 20),
            (MemoryLimit::None, Some(256 << 30), None, 1 << 30),
            (MemoryLimit::Bytes(100 << 20), Some(8 << 30), None, 25 << 20),
            (MemoryLimit::Bytes(4 << 30), None, None, 128 << 20),
            (MemoryLimit::None, None, Some(5 << 20), 5 << 20),
        ] {
            let mut settings = settings();
            settings.options.max_memory = limit;
            settings.options.backlog_bytes = chosen;
            settings.memory_total_bytes = total;
            assert_eq!(
                settings.backlog_bytes(),
                expected,
                "{limit:?} {total:?} {chosen:?}"
            );
        }
    }

    #[test]
    fn only_what_differs_is_set_again() {
        let settings = settings();
        let mut current: BTreeMap<String, String> = settings
            .run_time()
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v))
            .collect();
        assert!(settings.differing(&current).is_empty());
        current.insert("maxclients".to_owned(), "7".to_owned());
        current.remove("save");
        assert_eq!(
            settings.differing(&current),
            [("maxclients", "10000".to_owned())]
        );
    }
}
