//! On Kubernetes: labels and Services right within a second of a failover, without waiting for a hook.
//!
//! When the local Sentinel announces another primary, a majority has voted for it, and the Sentinel
//! itself says who it is. Unasked, its word counts only while it hears from a majority: one that is cut
//! off may name a primary that was replaced long ago.

use std::{collections::BTreeMap, future::pending, time::Duration};

use tokio::{sync::Notify, time::sleep};
use tracing::warn;

use crate::{
    charm::WatchFile,
    kubernetes::{self, Access, Role, Wanted, application_of_unit, pod_of_host, pod_of_unit},
    limits::SERVICES_PERIOD,
    observer::{sentinel_client, server_client},
    valkey::{Credentials, Role as ServerRole, ServerInfo},
    workload::{Backend as _, Service, Workload},
};

/// First pause after something went wrong; it doubles up to the period.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps labels and Services right, and acts at once when `switched` says that Sentinel announced
/// another primary. Does nothing where there is no API server.
pub(super) async fn keep(
    file: &WatchFile,
    credentials: &Credentials,
    workload: &Workload,
    switched: &Notify,
) {
    let Some(access) = &file.kubernetes else {
        return pending().await;
    };
    let mut pause = RETRY;
    let mut said = None;
    loop {
        let announced = tokio::select! {
            () = switched.notified() => true,
            () = sleep(pause) => false,
        };
        let trouble = settle(file, credentials, workload, access, announced).await;
        pause = if trouble.is_none() {
            SERVICES_PERIOD
        } else if pause >= SERVICES_PERIOD {
            // It went well before, or Sentinel announced something.
            RETRY
        } else {
            (pause * 2).min(SERVICES_PERIOD / 2)
        };
        if said != trouble {
            if let Some(trouble) = &trouble {
                warn!(reason = trouble, "Labels and Services are not right");
            }
            said = trouble;
        }
    }
}

/// Makes labels and Services right once; returns what is worth another try soon.
async fn settle(
    file: &WatchFile,
    credentials: &Credentials,
    workload: &Workload,
    access: &Access,
    announced: bool,
) -> Option<String> {
    let look = async || look(file, credentials, workload, announced).await;
    let first = look().await;
    if first.roles.is_empty() {
        return None;
    }
    match kubernetes::keep(access, first, look).await {
        Ok(report) if report.left.is_empty() => None,
        Ok(report) => Some(report.to_string()),
        Err(error) => Some(format!("{:#}", anyhow::Error::new(error))),
    }
}

/// Looks at the local server and Sentinel.
async fn look(
    file: &WatchFile,
    credentials: &Credentials,
    workload: &Workload,
    announced: bool,
) -> Wanted {
    let application = application_of_unit(&file.unit);
    let me = pod_of_unit(&file.unit);
    let (primary, info) = tokio::join!(
        named(&file.address, credentials, announced),
        server_info(&file.address, credentials)
    );
    let primary = primary.and_then(|host| pod_of_host(application, &host));
    let stopped = info.is_none()
        && workload
            .status(Service::Server)
            .await
            .is_ok_and(|status| !status.is_running());
    wanted(application, me, primary, info.as_ref(), stopped)
}

/// Returns whom the local Sentinel names, if its word counts.
async fn named(address: &str, credentials: &Credentials, announced: bool) -> Option<String> {
    let client = sentinel_client(address, credentials).await.ok()?;
    let counts = announced || client.ckquorum().await.is_ok_and(|answer| answer.is_ok());
    let view = client.primary().await.ok()??;
    counts.then(|| view.address.host().to_owned())
}

async fn server_info(address: &str, credentials: &Credentials) -> Option<ServerInfo> {
    let client = server_client(address, credentials).await.ok()?;
    client.info().await.ok()
}

/// Returns what labels and Services have to be, as far as this unit alone can tell.
fn wanted(
    application: &str,
    me: String,
    primary: Option<String>,
    info: Option<&ServerInfo>,
    stopped: bool,
) -> Wanted {
    let mut roles = BTreeMap::new();
    let mut services = false;
    match info {
        Some(info) if info.role == ServerRole::Primary && info.loading.is_none() => {
            if primary.as_ref() == Some(&me) {
                roles.insert(me.clone(), Some(Role::Primary));
                services = true;
            } else if primary.is_some() {
                roles.insert(me.clone(), None);
            }
        }
        Some(info) => {
            let syncing = info.link.as_ref().is_some_and(|link| link.sync.is_some());
            let readable = info.loading.is_none() && !syncing;
            // One that is named but still loads, or is not promoted yet, is not there yet.
            roles.insert(me.clone(), readable.then_some(Role::Replica));
        }
        None if stopped => {
            roles.insert(me.clone(), None);
        }
        None => {}
    }
    if let Some(primary) = primary.filter(|primary| *primary != me) {
        roles.insert(primary, Some(Role::Primary));
    }
    Wanted {
        application: application.to_owned(),
        me,
        roles,
        services,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Option<ServerInfo> {
        let info = match text {
            "primary" => "role:master\r\n",
            "replica" => {
                "role:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:up\r\n"
            }
            "cut off" => {
                "role:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:down\r\n"
            }
            "syncing" => {
                "role:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\n"
            }
            _ => return None,
        };
        Some(ServerInfo::parse(info).unwrap())
    }

    #[test]
    fn one_unit_alone_labels_what_it_is_sure_of() {
        for (named, server, expected) in [
            ("0", "primary", "0 primary +services"),
            ("1", "replica", "0 replica, 1 primary"),
            ("1", "cut off", "0 replica, 1 primary"),
            ("1", "syncing", "0 -, 1 primary"),
            // Displaced.
            ("1", "primary", "0 -, 1 primary"),
            // Not promoted yet.
            ("0", "replica", "0 replica"),
            // Cut off from the majority, or the Sentinel is down.
            ("-", "primary", ""),
            ("-", "replica", "0 replica"),
            ("1", "stopped", "0 -, 1 primary"),
            ("0", "stopped", "0 -"),
            ("1", "silent", "1 primary"),
            ("-", "silent", ""),
        ] {
            let primary = (named != "-").then(|| format!("valkey-{named}"));
            let found = wanted(
                "valkey",
                "valkey-0".to_owned(),
                primary,
                info(server).as_ref(),
                server == "stopped",
            );
            let roles = found.roles.iter().map(|(pod, role)| {
                let number = pod.strip_prefix("valkey-").unwrap();
                format!("{number} {}", role.map_or("-", Role::label))
            });
            let mut text = roles.collect::<Vec<_>>().join(", ");
            if found.services {
                text.push_str(" +services");
            }
            assert_eq!(text, expected, "{named} is named, the server is {server}");
        }
    }
}
