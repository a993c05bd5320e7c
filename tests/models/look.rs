//! What servers and Sentinels say about themselves, for the planner and in more detail.

use valkey_operator::planner::observation::{
    Attached, Known, Monitor, Progress, Role, Sentinel, Server,
};

use super::api::{
    AttachedFacts, FailoverState, Failure, KnownReplica, KnownSentinel, SentinelFacts,
    SentinelView, ServerCommand, ServerFacts,
};
use super::cluster::{Cluster, Contact};
use super::data::hex;
use super::sentinel::State;
use super::server::{Host, Link};

/// What a watcher sees of the processes beside it.
#[derive(Debug)]
pub struct WatchedFacts<'a> {
    /// Replication id.
    pub history: String,
    /// Offset in bytes.
    pub offset: u64,
    /// Whether it is a primary.
    pub primary: bool,
    /// Host that its Sentinel names as primary, and the epoch of that.
    pub named: Option<(&'a str, u64)>,
}

impl Cluster {
    pub(super) fn server_facts(&self, host: Host) -> ServerFacts {
        let server = &self.hosts[host].server;
        let loading = server.is_loading();
        let replicas = (0..server.attached.len()).map(|index| {
            let replica = &server.attached[index];
            let (at, acked) = self.acknowledged_by(host, index);
            let streams = replica.online && replica.stream_from <= self.now;
            AttachedFacts {
                host: self.names[replica.addr].clone(),
                online: replica.online,
                offset: if streams { acked } else { 0 },
                lag_s: self.now / 1_000 - (at / 1_000).min(self.now / 1_000),
            }
        });
        ServerFacts {
            follows: server
                .follow
                .as_ref()
                .map(|follow| self.names[follow.of].clone()),
            link_up: server.link_up(),
            syncing: matches!(
                server.follow.as_ref().map(|follow| &follow.link),
                Some(Link::Transfer { .. } | Link::Loading { .. })
            ),
            loading,
            history: self.histories.id(server.data.branch),
            earlier: server
                .earlier
                .map(|(branch, first)| (self.histories.id(branch), first)),
            offset: server.data.offset,
            priority: server.priority,
            min_replicas: server.min_replicas,
            replicas: replicas.collect(),
            failover: server
                .failover
                .as_ref()
                .map_or(FailoverState::None, |failover| failover.state),
            disk_trouble: self.hosts[host].full_disk,
            keys: if loading { 0 } else { self.keys_of(host) },
        }
    }

    fn keys_of(&self, host: Host) -> u64 {
        let data = self.hosts[host].server.data;
        let lease = u64::from(self.histories.lease(data, self.now).is_some());
        self.histories.keys(data) + lease
    }

    pub(super) fn sentinel_facts(&self, host: Host) -> SentinelFacts {
        let Some(sentinel) = self.hosts[host].sentinel.as_deref() else {
            return SentinelFacts {
                id: String::new(),
                tilted: false,
                view: None,
            };
        };
        let name = |addr: usize| self.names[addr].clone();
        let view = sentinel.group.as_ref().map(|group| SentinelView {
            primary: name(group.named()),
            config_epoch: group.config_epoch,
            current_epoch: sentinel.current_epoch,
            down: group.named_instance().down,
            down_for_ms: if group.named_instance().down {
                self.now - group.named_instance().down_since
            } else {
                0
            },
            agreed_down: group.agreed_down && !group.has_promoted(),
            failing_over: group.state != State::None,
            promoted: group.has_promoted(),
            quorum: group.quorum,
            down_after: group.down_after,
            others: group
                .others
                .iter()
                .map(|peer| KnownSentinel {
                    host: name(peer.addr),
                    id: hex(peer.id),
                    down: peer.down,
                })
                .collect(),
            replicas: group
                .replicas
                .iter()
                .map(|replica| KnownReplica {
                    host: name(replica.addr),
                    run_id: replica.run_id.map(hex).unwrap_or_default(),
                    down: replica.down,
                    link_up: replica.link_up,
                    priority: replica.priority,
                    offset: replica.offset,
                })
                .collect(),
        });
        SentinelFacts {
            id: hex(sentinel.id),
            tilted: sentinel.tilt_since.is_some(),
            view,
        }
    }

    /// Looks at a server as the charm's observer on `from` does.
    ///
    /// # Errors
    ///
    /// [`Failure`], from which the caller knows what the look cost.
    pub fn look_at_server(&mut self, from: &str, at: &str) -> Result<Server, Failure> {
        self.took = 1;
        let host = self.server_for(from, at, &ServerCommand::Info)?;
        let facts = self.server_facts(host);
        let loading = facts.loading;
        let under_way = || Progress {
            done: 0,
            total: None,
        };
        Ok(Server {
            role: match facts.follows {
                None => Role::Primary,
                Some(of) => Role::Replica {
                    of,
                    link_up: facts.link_up,
                    syncing: facts.syncing.then(under_way),
                },
            },
            loading: loading.then(under_way),
            history: facts.history,
            earlier: facts.earlier,
            offset: facts.offset,
            priority: facts.priority,
            min_replicas: (!loading).then_some(facts.min_replicas),
            replicas: facts
                .replicas
                .into_iter()
                .map(|replica| Attached {
                    host: replica.host,
                    online: replica.online,
                    offset: replica.offset,
                    lag_s: replica.lag_s,
                })
                .collect(),
            disk_trouble: facts
                .disk_trouble
                .then(|| "the last write to the append-only file failed".to_owned()),
            keys: facts.keys,
            version: None,
        })
    }

    /// Returns whether the server at `at` tells a client on `from` that it is a primary that has its data.
    pub fn serves(&self, from: &str, at: &str) -> bool {
        let Some((from, addr)) = self.find(from).zip(self.number(at)) else {
            return false;
        };
        match self.contact_server(from, addr) {
            Contact::Answers(host) => {
                let server = &self.hosts[host].server;
                server.is_primary() && !server.is_loading()
            }
            Contact::Refused | Contact::Silent => false,
        }
    }

    /// Returns whom the Sentinel at `at` names to a client on `from`.
    pub fn named_by(&self, from: &str, at: &str) -> Option<&str> {
        let (from, addr) = (self.find(from)?, self.number(at)?);
        let Contact::Answers(host) = self.contact_sentinel(from, addr) else {
            return None;
        };
        let group = self.hosts[host].sentinel.as_deref()?.group.as_ref()?;
        Some(&self.names[group.named()])
    }

    /// Looks at the local server and Sentinel as the watcher on `name` does; nothing when one does not answer,
    /// or when the server has nothing to tell: it loads, or is a replica whose link is down.
    pub fn watched(&mut self, name: &str) -> Option<WatchedFacts<'_>> {
        let host = self.server_for(name, name, &ServerCommand::Info).ok()?;
        self.sentinel_for(name, name).ok()?;
        let server = &self.hosts[host].server;
        if server.is_loading() || !server.link_up() {
            return None;
        }
        let sentinel = self.hosts[host].sentinel.as_deref();
        let group = sentinel.and_then(|sentinel| sentinel.group.as_ref());
        Some(WatchedFacts {
            history: self.histories.id(server.data.branch),
            offset: server.data.offset,
            primary: server.is_primary(),
            named: group.map(|group| (self.names[group.named()].as_str(), group.config_epoch)),
        })
    }

    /// Looks at a Sentinel as the charm's observer on `from` does.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_server`].
    pub fn look_at_sentinel(&mut self, from: &str, at: &str) -> Result<Sentinel, Failure> {
        self.took = 1;
        let host = self.sentinel_for(from, at)?;
        let facts = self.sentinel_facts(host);
        Ok(Sentinel {
            id: facts.id,
            monitor: facts.view.map(|view| Monitor {
                primary: view.primary,
                epoch: view.config_epoch,
                down: view.down || view.agreed_down,
                down_for_ms: view.down_for_ms,
                agreed_down: view.agreed_down,
                failing_over: view.failing_over,
                promoted: view.promoted,
                quorum: view.quorum,
                down_after_ms: view.down_after,
                others: view
                    .others
                    .into_iter()
                    .map(|other| Known {
                        host: other.host,
                        id: other.id,
                        down: other.down,
                    })
                    .collect(),
                replicas: view
                    .replicas
                    .into_iter()
                    .map(|replica| Known {
                        host: replica.host,
                        id: replica.run_id,
                        down: replica.down,
                    })
                    .collect(),
            }),
        })
    }
}
