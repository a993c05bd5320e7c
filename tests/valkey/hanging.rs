//! Sentinel's failover whose promoted server dies before it has ended, measured.

use std::time::Duration;

use valkey_operator::limits::FAILOVER_TIMEOUT;
use valkey_operator::valkey::{Endpoint, PrimaryView, ReplicaView};

use crate::cluster::{Cluster, eventually};

const LONG: Duration = Duration::from_secs(40);

/// Returns what a Sentinel says of the primary, and whom it has promoted, with how long it has missed that one.
async fn view(cluster: &Cluster, index: usize) -> Option<(PrimaryView, Option<(Endpoint, u64)>)> {
    let client = cluster.try_sentinel(index).await?;
    let primary = client.primary().await.ok()??;
    let replicas = client.replicas().await.ok()?;
    let promoted = ReplicaView::promoted(&primary, &replicas);
    let promoted = promoted.map(|replica| (replica.address.clone(), replica.down_for_ms));
    Some((primary, promoted))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_whose_promoted_server_died_ends_with_a_restart_of_that_sentinel() {
    let mut cluster = Cluster::start(3).await;
    // Whoever is not promoted cannot follow the other, so that the failover takes as long as it may.
    for replica in [1, 2] {
        let server = cluster.server(replica).await;
        let wrong = [("masterauth", "no password of anybody")];
        server.config_set(&wrong).await.unwrap();
    }
    let old = cluster.nodes[0].server.clone();
    // With the third one gone, the two that are left promote somebody only together.
    cluster.nodes[0].sentinel_process = None;
    cluster.nodes[0].server_process = None;
    let (leader, promoted) = eventually("somebody is promoted", LONG, || async {
        for index in [1, 2] {
            if let Some((_, Some((address, _)))) = view(&cluster, index).await {
                return Some((index, address));
            }
        }
        None
    })
    .await;
    let new = (1..3).find(|index| cluster.nodes[*index].server == promoted);
    cluster.nodes[new.unwrap()].server_process = None;

    let limit_ms = u64::try_from(FAILOVER_TIMEOUT.as_millis()).unwrap();
    let primary = eventually("it outlasts its time limit", LONG, || async {
        let (primary, missed) = view(&cluster, leader).await?;
        let (address, missed_ms) = missed.expect("the failover does not end");
        assert_eq!(address, promoted);
        (missed_ms > limit_ms).then_some(primary)
    })
    .await;
    // It names the promoted one to clients, and shows the old one here.
    assert_eq!(primary.address, old);
    let client = cluster.sentinel(leader).await;
    assert_eq!(
        client.primary_address().await.unwrap(),
        Some(promoted.clone())
    );

    cluster.nodes[leader].sentinel_process = None;
    cluster.start_sentinel(leader, 0, 2);
    eventually("both miss the promoted one together", LONG, || async {
        let (primary, under_way) = view(&cluster, leader).await?;
        let together = primary.flags.has("o_down") && under_way.is_none();
        (together && primary.address == promoted).then_some(())
    })
    .await;
}
