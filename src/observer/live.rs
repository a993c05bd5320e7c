//! Asks every server and Sentinel at the same time; a dead one costs its deadline and no more.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures::future::{join, join_all};
use tracing::info;

use crate::{
    charm::{Charm, unix_now},
    limits::{SENTINEL_PORT, SERVER_PORT},
    planner::{
        UnitName,
        observation::{
            Attached, Intent, Known, Lease, Monitor, Observation, Progress, Role, Seen, Sentinel,
            Server, Unit,
        },
        view::Naming,
    },
    settings,
    valkey::{
        Credentials, Endpoint, InternalUser, ReplicaView, SentinelClient, ServerClient, ServerInfo,
        server_info::Role as ServerRole,
    },
};

use super::local;

/// Looks at everything that may change while a hook runs, also at who moved since the databags were read.
pub async fn look(charm: &Charm, intent: Intent) -> Observation {
    let seen = ask(charm, intent.clone(), &charm.juju.peers).await;
    let moved = seen.moved();
    if moved.is_empty() {
        return seen;
    }
    let mut peers = charm.juju.peers.clone();
    for (unit, host) in moved {
        if let Some(known) = peers.get_mut(&unit) {
            info!(%unit, address = host, "A unit moved");
            known.data.address = Some(host);
        }
    }
    ask(charm, intent, &peers).await
}

/// Asks everybody, at the addresses that `peers` have.
async fn ask(charm: &Charm, intent: Intent, peers: &BTreeMap<UnitName, Unit>) -> Observation {
    let juju = &charm.juju;
    let mut units = peers.clone();
    units.insert(
        juju.me.clone(),
        Unit {
            data: juju.mine.clone(),
            dying: juju.dying,
        },
    );
    let hosts: Vec<(UnitName, String)> = units
        .iter()
        .filter_map(|(unit, known)| {
            let host = if *unit == juju.me {
                Some(juju.address.clone())
            } else {
                known.data.address.clone()
            };
            Some((unit.clone(), host?))
        })
        .collect();
    let wanted = settings::wanted(charm).await;
    let mut servers = BTreeMap::new();
    let mut sentinels = BTreeMap::new();
    let mut runtime = BTreeMap::new();
    let mut sentinel_version = None;
    if let Some(credentials) = &charm.credentials {
        let names: Vec<&str> = wanted.runtime.keys().map(String::as_str).collect();
        let asked = hosts.iter().map(|(unit, host)| {
            let extra = if *unit == juju.me {
                names.as_slice()
            } else {
                &[]
            };
            join(
                server(host, credentials, extra),
                sentinel(host, credentials),
            )
        });
        let (answers, own) = join(
            join_all(asked),
            own_sentinel_version(&juju.address, credentials),
        )
        .await;
        sentinel_version = own;
        for ((unit, _), (server, sentinel)) in hosts.iter().zip(answers) {
            let server = match server {
                Ok((server, settings)) => {
                    if *unit == juju.me {
                        runtime = settings;
                    }
                    Seen::Known(server)
                }
                Err(error) => Seen::Unknown(error.to_string()),
            };
            servers.insert(unit.clone(), server);
            sentinels.insert(
                unit.clone(),
                sentinel.map_or_else(|error| Seen::Unknown(error.to_string()), Seen::Known),
            );
        }
    }
    let mut seen = Observation {
        me: juju.me.clone(),
        intent,
        leader: juju.leader,
        app: juju.app.clone(),
        app_wanted: juju.app_wanted.clone(),
        units,
        malformed: juju.malformed.clone(),
        settings: wanted,
        users: juju.users.clone(),
        storage: juju.storage.clone(),
        local: local::look(charm, runtime, sentinel_version).await,
        servers,
        sentinels,
        lease: Lease::Unknown,
        now: unix_now(),
    };
    seen.lease = lease(charm, &seen).await;
    seen
}

/// Connects to a server as the charm.
///
/// # Errors
///
/// As [`ServerClient::connect`].
pub async fn server_client(host: &str, credentials: &Credentials) -> anyhow::Result<ServerClient> {
    let user = InternalUser::CharmedOperator;
    Ok(ServerClient::connect(
        &endpoint(host, SERVER_PORT)?,
        user,
        credentials.password(user),
    )
    .await?)
}

/// Connects to a Sentinel as the charm.
///
/// # Errors
///
/// As [`SentinelClient::connect`].
pub async fn sentinel_client(
    host: &str,
    credentials: &Credentials,
) -> anyhow::Result<SentinelClient> {
    let user = InternalUser::CharmedSentinelOperator;
    Ok(SentinelClient::connect(
        &endpoint(host, SENTINEL_PORT)?,
        user,
        credentials.password(user),
    )
    .await?)
}

/// Puts an endpoint together; a host from a databag can be anything.
///
/// # Errors
///
/// When the host is neither an address nor a name.
pub fn endpoint(host: &str, port: u16) -> anyhow::Result<Endpoint> {
    Endpoint::new(host, port).with_context(|| format!("cannot use the address {host:?}"))
}

async fn server(
    host: &str,
    credentials: &Credentials,
    settings: &[&str],
) -> anyhow::Result<(Server, BTreeMap<String, String>)> {
    let client = server_client(host, credentials).await?;
    let info = client.info().await?;
    let loading = info.loading.is_some();
    let mut asked = vec!["min-replicas-to-write", "replica-priority"];
    asked.extend_from_slice(settings);
    // A server that loads answers INFO alone.
    let mut values: BTreeMap<String, String> = if loading {
        BTreeMap::new()
    } else {
        client.config_get(&asked).await?.into_iter().collect()
    };
    let mut number = |name: &str| values.remove(name).and_then(|value| value.parse().ok());
    let min_replicas = number("min-replicas-to-write");
    let priority = number("replica-priority");
    let keys = if loading { 0 } else { client.dbsize().await? };
    let mut summary = summary(info, keys);
    summary.min_replicas = min_replicas;
    // INFO tells a replica's priority alone, and a primary needs one for the day it is none.
    summary.priority = priority.unwrap_or(summary.priority);
    Ok((summary, values))
}

fn summary(info: ServerInfo, keys: u64) -> Server {
    let link = info.link.as_ref();
    let role = match info.role {
        ServerRole::Primary => Role::Primary,
        ServerRole::Replica => Role::Replica {
            of: link
                .and_then(|link| link.primary.as_ref())
                .map(|of| of.host().to_owned())
                .unwrap_or_default(),
            link_up: link.is_some_and(|link| link.up),
            syncing: link.and_then(|link| link.sync).map(|sync| Progress {
                done: sync.done_bytes,
                total: Some(sync.total_bytes).filter(|total| *total > 0),
            }),
        },
    };
    let persistence = info.persistence;
    let disk_trouble = if persistence.aof_enabled && !persistence.aof_last_write_ok {
        Some("the last write to the append-only file failed; see the server's log and the free space".to_owned())
    } else if !persistence.rdb_last_save_ok {
        Some("the last snapshot failed; see the server's log and the free space".to_owned())
    } else {
        None
    };
    Server {
        role,
        loading: info.loading.map(|loading| Progress {
            done: loading.done_bytes,
            total: Some(loading.total_bytes).filter(|total| *total > 0),
        }),
        history: info.replid,
        earlier: info.replid2.zip(info.second_repl_offset),
        offset: info.offset,
        priority: info.priority.unwrap_or(100),
        min_replicas: None,
        replicas: info
            .replicas
            .iter()
            .map(|replica| Attached {
                host: replica.address.host().to_owned(),
                // Called online before, it may be sent nothing yet.
                online: replica.is_streaming(),
                offset: replica.offset,
                lag_s: replica.lag_s,
            })
            .collect(),
        disk_trouble,
        keys,
        version: info.version.map(|version| version.to_string()),
    }
}

/// Asks the local Sentinel for its version: who does not tell has none to compare.
async fn own_sentinel_version(host: &str, credentials: &Credentials) -> Option<String> {
    let client = sentinel_client(host, credentials).await.ok()?;
    let version = client.version().await.ok()??;
    Some(version.to_string())
}

async fn sentinel(host: &str, credentials: &Credentials) -> anyhow::Result<Sentinel> {
    let client = sentinel_client(host, credentials).await?;
    let (view, id) = tokio::join!(client.primary(), client.myid());
    let id = id?;
    let Some(view) = view? else {
        return Ok(Sentinel { id, monitor: None });
    };
    let (replicas, others) = tokio::join!(client.replicas(), client.sentinels());
    let replicas = replicas?;
    let promoted = ReplicaView::promoted(&view, &replicas);
    let (address, flags, down_for_ms) = match promoted {
        Some(replica) => (&replica.address, &replica.flags, replica.down_for_ms),
        None => (&view.address, &view.flags, view.down_for_ms),
    };
    Ok(Sentinel {
        id,
        monitor: Some(Monitor {
            primary: address.host().to_owned(),
            epoch: view.config_epoch,
            down: flags.is_down(),
            down_for_ms,
            agreed_down: flags.has("o_down"),
            failing_over: view.flags.failover_in_progress(),
            promoted: promoted.is_some(),
            quorum: usize::try_from(view.quorum).unwrap_or(usize::MAX),
            down_after_ms: view.down_after_ms,
            others: others?
                .into_iter()
                .map(|other| Known {
                    host: other.address.host().to_owned(),
                    id: other.id,
                    down: other.flags.is_down(),
                })
                .collect(),
            replicas: replicas
                .into_iter()
                .map(|replica| Known {
                    host: replica.address.host().to_owned(),
                    id: replica.run_id,
                    down: replica.flags.is_down(),
                })
                .collect(),
        }),
    })
}

/// Asks the primary who holds the lease on membership changes.
async fn lease(charm: &Charm, seen: &Observation) -> Lease {
    let Some(credentials) = &charm.credentials else {
        return Lease::Unknown;
    };
    // While the Sentinels do not agree, the primary that the charm would ask may be the wrong one.
    if seen.naming() == Naming::Split {
        return Lease::Unknown;
    }
    let Some(primary) = seen.primary() else {
        return Lease::Unknown;
    };
    let Some(host) = seen.host_of(&primary) else {
        return Lease::Unknown;
    };
    let asked = async {
        anyhow::Ok(
            server_client(host, credentials)
                .await?
                .lease_holder()
                .await?,
        )
    };
    match asked.await {
        // Fenced, it gives the lease to nobody.
        Ok(None) if charm.lease_refused.as_deref() == Some(host) => Lease::Unknown,
        Ok(None) => Lease::Free,
        Ok(Some(holder)) if holder.token == seen.me.as_str() => Lease::Mine,
        Ok(Some(holder)) => Lease::Other(holder.token),
        Err(_) => Lease::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_is_called_online_but_was_sent_nothing_does_not_count() {
        for (line, online) in [
            ("state=online,offset=28,lag=0", true),
            ("state=online,offset=0,lag=1", false),
            ("state=send_bulk,offset=0,lag=0", false),
            ("state=wait_bgsave,offset=28,lag=0", false),
        ] {
            let text = format!("role:master\r\nslave0:ip=10.0.0.2,port=6379,{line}\r\n");
            let info = ServerInfo::parse(&text).unwrap();
            let attached = summary(info, 0).replicas;
            assert_eq!(attached.len(), 1, "{line}");
            assert_eq!(attached[0].online, online, "{line}");
        }
    }
}
