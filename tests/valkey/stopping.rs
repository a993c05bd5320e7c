//! Stopping a server in order, also when it would rather not.

use std::time::{Duration, Instant};

use valkey_operator::valkey::server::ShutdownSave;

use crate::cluster::{Cluster, eventually};

/// After a full copy a replica writes its append-only file anew, and refuses to stop until that is
/// done; with much data that takes minutes.
#[tokio::test]
async fn a_replica_that_writes_its_log_anew_is_stopped_once_it_is_done() {
    let mut cluster = Cluster::servers(1).await;
    cluster.fill(0, 300).await;
    let replica = cluster.add_node();
    cluster.start_server(replica, None);
    let client = eventually("the replica answers", Duration::from_secs(10), || async {
        cluster.try_server(replica).await
    })
    .await;
    // Ten milliseconds for each key that is written to a file.
    client
        .config_set(&[("rdb-key-save-delay", "10000")])
        .await
        .unwrap();
    let of = cluster.nodes[0].server.clone();
    client.replicaof(Some(&of)).await.unwrap();
    eventually("the replica is synced", Duration::from_secs(10), || async {
        let info = client.info().await.ok()?;
        (info.is_synced_replica() && info.persistence.aof_rewrite_in_progress).then_some(())
    })
    .await;
    let start = Instant::now();
    client
        .shutdown(ShutdownSave::NoSave, Duration::from_secs(30))
        .await
        .unwrap();
    assert!(
        start.elapsed() > Duration::from_millis(500),
        "it had nothing to wait for"
    );
    eventually("the process is gone", Duration::from_secs(5), || async {
        cluster.try_server(replica).await.is_none().then_some(())
    })
    .await;
}
