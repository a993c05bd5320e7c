//! What a server says about itself: `INFO` and `ROLE`, read tolerantly.

use std::collections::HashMap;

use redis::Value;
use serde::Serialize;

use crate::limits::REPLICAS_MAX;
use crate::valkey::connection::{list_of, number_of, text_of, word_of};
use crate::valkey::{Endpoint, Version};

/// A server's part in replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary.
    Replica,
}

/// How far a planned failover of a server's own (`FAILOVER`) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverState {
    /// None is under way.
    None,
    /// Writes are paused until the target has everything.
    WaitingForSync,
    /// The target is being promoted.
    InProgress,
}

/// What one server says about itself.
///
/// Fields that a server does not tell are `None`, empty or 0, as said at each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// Part in replication.
    pub role: Role,
    /// Changes with every start of the process; empty if not told.
    pub run_id: String,
    /// Version of Valkey.
    pub version: Option<Version>,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// History that the data set belongs to; empty if not told.
    pub replid: String,
    /// History that it belonged to before, up to `second_repl_offset`.
    pub replid2: Option<String>,
    /// First offset of the present history that is not part of `replid2`.
    pub second_repl_offset: Option<u64>,
    /// Bytes of the replication stream that the data set holds.
    pub offset: u64,
    /// On a replica: its link to the primary.
    pub link: Option<PrimaryLink>,
    /// While the data set is read from disk.
    pub loading: Option<Loading>,
    /// On any server: the replicas attached to it.
    pub replicas: Vec<AttachedReplica>,
    /// Replicas that count for `min-replicas-to-write`, if that is set.
    pub good_replicas: Option<u64>,
    /// Planned failover under way.
    pub failover: FailoverState,
    /// On a replica: its `replica-priority`; 0 is never promoted.
    pub priority: Option<u64>,
    /// State of persistence.
    pub persistence: Persistence,
    /// Bytes of memory in use.
    pub used_memory_bytes: u64,
    /// Limit of memory in bytes, 0 without one.
    pub max_memory_bytes: u64,
    /// Bytes that the backlog for partial resynchronisations holds.
    pub backlog_bytes: u64,
}

/// A replica's link to its primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrimaryLink {
    /// Whom it follows; `None` if what it says is no endpoint.
    pub primary: Option<Endpoint>,
    /// Whether the link is up.
    pub up: bool,
    /// Seconds since it is down; `None` while it is up or if it never was up.
    pub down_s: Option<u64>,
    /// Seconds since anything came over it; `None` if nothing ever did.
    pub last_io_s: Option<u64>,
    /// A full synchronisation under way.
    pub sync: Option<SyncProgress>,
}

/// How far a full synchronisation is, in bytes; a total of 0 is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SyncProgress {
    /// Bytes received.
    pub done_bytes: u64,
    /// Bytes to receive in all, 0 if the primary did not say.
    pub total_bytes: u64,
}

/// How far the reading of the data set from disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loading {
    /// Bytes read.
    pub done_bytes: u64,
    /// Bytes to read in all.
    pub total_bytes: u64,
    /// Seconds that it will still take, as the server guesses.
    pub eta_s: u64,
}

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachedReplica {
    /// Address that it announces.
    pub address: Endpoint,
    /// `online` once it receives the stream; before that a phase of the synchronisation.
    pub state: String,
    /// Offset that it acknowledged last.
    pub offset: u64,
    /// Seconds since that acknowledgement.
    pub lag_s: u64,
}

/// State of persistence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "four facts, each told by the server on its own"
)]
pub struct Persistence {
    /// Whether every write goes to the append-only file.
    pub aof_enabled: bool,
    /// Whether the last write to the append-only file worked.
    pub aof_last_write_ok: bool,
    /// Whether the last snapshot worked.
    pub rdb_last_save_ok: bool,
    /// Whether a snapshot is being written.
    pub rdb_in_progress: bool,
    /// When the last snapshot was finished, Unix seconds.
    pub rdb_last_save_at_s: u64,
    /// Whether the append-only file is being rewritten.
    pub aof_rewrite_in_progress: bool,
}

impl AttachedReplica {
    /// Whether its first synchronisation is done.
    ///
    /// The stream may still not have begun; see [`AttachedReplica::is_streaming`].
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.state == "online"
    }

    /// Whether it receives the stream of writes.
    ///
    /// After a synchronisation from socket to memory the primary calls a replica online, and the
    /// replica its link up, before the first acknowledgement, which comes within a second; only
    /// then does the primary send what was written since. A replica that is promoted before that
    /// lacks all of it (measured with 8.0.1 and 9.1.2).
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.is_online() && self.offset > 0
    }
}

/// Finds the version in what a server or a Sentinel says about itself.
#[must_use]
pub fn version_in(text: &str) -> Option<Version> {
    ["valkey_version:", "redis_version:"]
        .iter()
        .find_map(|name| {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        })
}

impl ServerInfo {
    /// Reads the reply to `INFO`.
    ///
    /// Returns `None` if it does not even tell the role; anything else may be missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fields: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim_end_matches('\r').split_once(':'))
            .collect();
        let role = match fields.get("role").copied()? {
            "master" | "primary" => Role::Primary,
            "slave" | "replica" => Role::Replica,
            _ => return None,
        };
        let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok());
        let is = |name: &str, wanted: &str| fields.get(name).is_some_and(|text| *text == wanted);
        let word = |name: &str| {
            fields
                .get(name)
                .map_or_else(String::new, |text| word_of(text))
        };
        let stream = number("master_repl_offset").unwrap_or(0);
        Some(Self {
            role,
            run_id: word("run_id"),
            version: version_in(text),
            uptime_s: number("uptime_in_seconds").unwrap_or(0),
            replid: word("master_replid"),
            replid2: fields
                .get("master_replid2")
                .filter(|id| id.chars().any(|c| c != '0'))
                .map(|id| word_of(id)),
            second_repl_offset: number("second_repl_offset"),
            offset: match role {
                Role::Primary => stream,
                // Without a link a replica forgets where it was only in this field.
                Role::Replica => number("slave_repl_offset")
                    .filter(|at| *at > 0)
                    .unwrap_or(stream),
            },
            link: (role == Role::Replica).then(|| PrimaryLink {
                primary: fields
                    .get("master_host")
                    .zip(number("master_port"))
                    .and_then(|(host, port)| Endpoint::new(*host, u16::try_from(port).ok()?).ok()),
                up: is("master_link_status", "up"),
                down_s: number("master_link_down_since_seconds"),
                last_io_s: number("master_last_io_seconds_ago"),
                sync: is("master_sync_in_progress", "1").then(|| SyncProgress {
                    done_bytes: number("master_sync_read_bytes").unwrap_or(0),
                    total_bytes: number("master_sync_total_bytes").unwrap_or(0),
                }),
            }),
            loading: is("loading", "1").then(|| Loading {
                done_bytes: number("loading_loaded_bytes").unwrap_or(0),
                total_bytes: number("loading_total_bytes").unwrap_or(0),
                eta_s: number("loading_eta_seconds").unwrap_or(0),
            }),
            replicas: attached(text),
            good_replicas: number("min_slaves_good_slaves"),
            failover: match fields.get("master_failover_state").copied() {
                Some("waiting-for-sync") => FailoverState::WaitingForSync,
                Some("failover-in-progress") => FailoverState::InProgress,
                _ => FailoverState::None,
            },
            priority: number("slave_priority"),
            persistence: Persistence {
                aof_enabled: is("aof_enabled", "1"),
                aof_last_write_ok: !is("aof_last_write_status", "err"),
                rdb_last_save_ok: !is("rdb_last_bgsave_status", "err"),
                rdb_in_progress: is("rdb_bgsave_in_progress", "1"),
                rdb_last_save_at_s: number("rdb_last_save_time").unwrap_or(0),
                aof_rewrite_in_progress: is("aof_rewrite_in_progress", "1"),
            },
            used_memory_bytes: number("used_memory").unwrap_or(0),
            max_memory_bytes: number("maxmemory").unwrap_or(0),
            backlog_bytes: number("repl_backlog_size").unwrap_or(0),
        })
    }

    /// Whether this is a replica whose link is up and that is in no full synchronisation.
    #[must_use]
    pub fn is_synced_replica(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.up && link.sync.is_none())
            && self.loading.is_none()
    }

    /// Whom this server follows, `None` on a primary.
    #[must_use]
    pub fn follows(&self) -> Option<&Endpoint> {
        self.link.as_ref()?.primary.as_ref()
    }
}

/// Reads the lines `slaveN:ip=…,port=…,state=…,offset=…,lag=…`.
fn attached(text: &str) -> Vec<AttachedReplica> {
    let line = |line: &str| {
        let (name, rest) = line.trim_end_matches('\r').split_once(':')?;
        let index = name
            .strip_prefix("slave")
            .or_else(|| name.strip_prefix("replica"))?;
        index.parse::<u32>().ok()?;
        let fields: HashMap<&str, &str> = rest
            .split(',')
            .filter_map(|field| field.split_once('='))
            .collect();
        let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok());
        Some(AttachedReplica {
            address: Endpoint::new(*fields.get("ip")?, u16::try_from(number("port")?).ok()?)
                .ok()?,
            state: fields
                .get("state")
                .map_or_else(String::new, |state| word_of(state)),
            offset: number("offset").unwrap_or(0),
            lag_s: number("lag").unwrap_or(0),
        })
    };
    text.lines().filter_map(line).take(REPLICAS_MAX).collect()
}

/// The reply to `ROLE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleReply {
    /// A primary.
    Primary {
        /// Its offset in bytes.
        offset: u64,
        /// Addresses and acknowledged offsets of its online replicas.
        replicas: Vec<(Endpoint, u64)>,
    },
    /// A replica.
    Replica {
        /// Whom it follows.
        primary: Option<Endpoint>,
        /// `connect`, `connecting`, `sync` or `connected`.
        state: String,
        /// Bytes of the stream that it has.
        offset: u64,
    },
}

impl RoleReply {
    /// Reads the reply, `None` if it is none of a server's.
    #[must_use]
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let items = list_of(value);
        let number = |index: usize| {
            items
                .get(index)
                .and_then(number_of)
                .and_then(|n| u64::try_from(n).ok())
        };
        let endpoint = |host: &Value, port: &Value| {
            Endpoint::new(text_of(host)?, u16::try_from(number_of(port)?).ok()?).ok()
        };
        match text_of(items.first()?)?.as_str() {
            "master" | "primary" => Some(Self::Primary {
                offset: number(1).unwrap_or(0),
                replicas: items
                    .get(2)
                    .map(list_of)
                    .unwrap_or_default()
                    .iter()
                    .take(REPLICAS_MAX)
                    .filter_map(|item| match list_of(item) {
                        [host, port, offset, ..] => Some((
                            endpoint(host, port)?,
                            number_of(offset)
                                .and_then(|n| u64::try_from(n).ok())
                                .unwrap_or(0),
                        )),
                        _ => None,
                    })
                    .collect(),
            }),
            "slave" | "replica" => Some(Self::Replica {
                primary: endpoint(items.get(1)?, items.get(2)?),
                state: items
                    .get(3)
                    .and_then(text_of)
                    .map_or_else(String::new, |state| word_of(&state)),
                offset: number(4).unwrap_or(0),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIMARY: &str = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave0:ip=127.9.0.2,port=6379,state=online,offset=28,lag=1,type=replica\r\n\
        slave1:ip=valkey-2.m,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        slave_of_nothing:x\r\nmaster_failover_state:waiting-for-sync\r\nmaster_replid:ab\r\n\
        master_replid2:0000\r\nmaster_repl_offset:42\r\nsecond_repl_offset:-1\r\n\
        valkey_version:8.0.1\r\nredis_version:7.2.4\r\nmin_slaves_good_slaves:1\r\n";
    const REPLICA: &str = "role:slave\nmaster_host:10.0.0.1\nmaster_port:6379\n\
        master_link_status:down\nmaster_last_io_seconds_ago:-1\nmaster_sync_in_progress:1\n\
        slave_repl_offset:0\nmaster_sync_total_bytes:100\nmaster_sync_read_bytes:40\n\
        master_link_down_since_seconds:7\nslave_priority:0\nmaster_repl_offset:9\nloading:0\n\
        rdb_last_bgsave_status:err\nmaster_replid2:0a\nsecond_repl_offset:5\n";

    #[test]
    fn info_of_a_primary_and_of_a_replica_are_understood() {
        let primary = ServerInfo::parse(PRIMARY).unwrap();
        assert_eq!((primary.role, primary.offset), (Role::Primary, 42));
        assert_eq!(primary.version, Some(Version::new(8, 0, 1)));
        assert_eq!(primary.failover, FailoverState::WaitingForSync);
        assert_eq!((primary.replid2, primary.second_repl_offset), (None, None));
        assert_eq!(primary.good_replicas, Some(1));
        let states: Vec<_> = primary
            .replicas
            .iter()
            .map(|r| format!("{} {} {} {}", r.address, r.is_online(), r.offset, r.lag_s))
            .collect();
        assert_eq!(
            states,
            ["127.9.0.2:6379 true 28 1", "valkey-2.m:6379 false 0 0"]
        );

        let replica = ServerInfo::parse(REPLICA).unwrap();
        assert_eq!(
            (replica.role, replica.offset, replica.priority),
            (Role::Replica, 9, Some(0))
        );
        assert!(!replica.persistence.rdb_last_save_ok && !replica.is_synced_replica());
        assert_eq!(replica.follows().unwrap().to_string(), "10.0.0.1:6379");
        let link = replica.link.unwrap();
        assert_eq!(
            (link.up, link.down_s, link.last_io_s),
            (false, Some(7), None)
        );
        assert_eq!(
            link.sync,
            Some(SyncProgress {
                done_bytes: 40,
                total_bytes: 100
            })
        );
        assert_eq!(
            (replica.replid2.as_deref(), replica.second_repl_offset),
            (Some("0a"), Some(5))
        );
        assert_eq!(ServerInfo::parse("loading:1\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(role:(master|slave)\n)?(?s).{0,400}") {
            let _ = ServerInfo::parse(&text);
        }

        #[test]
        fn a_damaged_info_is_read_without_panic(at in 0_usize..400, junk in "[^a]{0,9}") {
            let mut text = format!("{PRIMARY}{REPLICA}");
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            let _ = ServerInfo::parse(&text);
        }
    }
}
