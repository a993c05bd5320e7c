//! The closer look at each unit that only some actions take: it costs more than the common look.

use std::collections::BTreeMap;

use futures::future::join_all;

use crate::{
    charm::Charm,
    observer::{sentinel_client, server_client},
    planner::{Observation, UnitName},
};

/// What only a closer look at one unit tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Why its Sentinel says that no failover is possible, if it does.
    pub no_quorum: Option<String>,
    /// Commands that Sentinel's user may not use on its server, though it needs them.
    pub rights_missing: Vec<String>,
}

/// The closer look at every member that answers.
pub type Probes = BTreeMap<UnitName, Probe>;

/// Asks every Sentinel whether a failover is possible, and every server whether Sentinel may do it.
pub async fn probe(charm: &Charm, seen: &Observation) -> Probes {
    let Some(credentials) = &charm.credentials else {
        return Probes::default();
    };
    let members = seen.members();
    let asked = members.iter().filter_map(|unit| {
        let host = seen.host_of(unit)?;
        Some(async move {
            // A unit that has not answered the first look would only cost its deadline again.
            let no_quorum = async {
                seen.monitor(unit)?;
                match sentinel_client(host, credentials).await {
                    Ok(client) => match client.ckquorum().await {
                        Ok(answer) => answer.err(),
                        Err(error) => Some(error.to_string()),
                    },
                    Err(error) => Some(format!("{error:#}")),
                }
            };
            let rights_missing = async {
                if seen
                    .server(unit)
                    .is_none_or(|server| server.loading.is_some())
                {
                    return Vec::new();
                }
                match server_client(host, credentials).await {
                    Ok(client) => client
                        .sentinel_rights_missing()
                        .await
                        .unwrap_or_else(|error| vec![error.to_string()]),
                    Err(error) => vec![format!("{error:#}")],
                }
            };
            let (no_quorum, rights_missing) = tokio::join!(no_quorum, rights_missing);
            let probe = Probe {
                no_quorum,
                rights_missing,
            };
            (unit.clone(), probe)
        })
    });
    join_all(asked).await.into_iter().collect()
}
