//! Hand-over under continuous writes, its fallbacks and its refusals.

use std::time::Duration;

use valkey_operator::valkey::handover::{HandoverPath, HandoverPlan, HandoverRecord, hand_over};
use valkey_operator::valkey::{Endpoint, Role};

use crate::cluster::{Cluster, eventually};
use crate::writers::Writers;

pub fn plan(cluster: &Cluster, from: usize, to: usize) -> HandoverPlan {
    let others = (0..cluster.nodes.len())
        .filter(|index| *index != from && *index != to)
        .map(|index| cluster.nodes[index].server.clone())
        .collect();
    let server = |index: usize| cluster.nodes[index].server.clone();
    HandoverPlan::new(server(from), server(to), others, cluster.sentinels())
}

/// The state that every hand-over ends in: one primary, named by all, followed by all.
pub async fn settled_on(cluster: &Cluster, primary: usize) {
    let wanted: &Endpoint = &cluster.nodes[primary].server;
    for (index, node) in cluster.nodes.iter().enumerate() {
        if node.server_process.is_some() {
            let what = format!("server {index} is where it belongs");
            eventually(&what, Duration::from_secs(15), || async {
                let info = cluster.try_server(index).await?.info().await.ok()?;
                let right = if index == primary {
                    info.role == Role::Primary
                } else {
                    info.follows() == Some(wanted)
                        && info.is_synced_replica()
                        && info.priority == Some(100)
                };
                right.then_some(())
            })
            .await;
        }
        if node.sentinel_process.is_some() {
            let named = cluster
                .sentinel(index)
                .await
                .primary_address()
                .await
                .unwrap();
            assert_eq!(named.as_ref(), Some(wanted), "Sentinel {index}");
        }
    }
}

pub async fn writing(writers: &Writers) {
    let before = writers.acknowledged();
    eventually("writes go on", Duration::from_secs(10), || async {
        (writers.acknowledged() > before + 200).then_some(())
    })
    .await;
}

pub fn told_all(record: &HandoverRecord, sentinels: usize) {
    assert_eq!(
        (record.tally.told.len(), record.tally.untold.len()),
        (sentinels, 0),
        "{record:?}"
    );
    assert!(record.not_following.is_empty(), "{record:?}");
    assert!(
        record.old_offset.is_none_or(|old| record.new_offset >= old),
        "{record:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_handovers_lose_nothing_and_are_hardly_noticed() {
    let cluster = Cluster::start(3).await;
    for index in 0..3 {
        // As with three units: a primary without any replica takes no writes.
        let fence = [
            ("min-replicas-to-write", "1"),
            ("min-replicas-max-lag", "2"),
        ];
        cluster
            .server(index)
            .await
            .config_set(&fence)
            .await
            .unwrap();
    }
    let writers = Writers::start(&cluster, 6);
    writing(&writers).await;
    let mut gaps = Vec::new();
    let mut totals = Vec::new();
    let mut primary = 0;
    for round in 0..20 {
        let target = (primary + 1 + round % 2) % 3;
        writers.mark();
        let start = std::time::Instant::now();
        let record = hand_over(&plan(&cluster, primary, target), &cluster.credentials)
            .await
            .unwrap_or_else(|err| panic!("round {round}: {err}"));
        totals.push(start.elapsed());
        assert_eq!(record.path, HandoverPath::ServerFailover, "{record:?}");
        told_all(&record, 3);
        writing(&writers).await;
        gaps.push(writers.gap());
        primary = target;
        settled_on(&cluster, primary).await;
    }
    let (all, lost) = writers.lost_on(&cluster, primary).await;
    gaps.sort();
    totals.sort();
    println!(
        "20 hand-overs: gap median {:?} max {:?}; whole call median {:?} max {:?}; {lost} of {all} writes lost",
        gaps[10], gaps[19], totals[10], totals[19]
    );
    assert_eq!(lost, 0);
    assert!(gaps[10] <= Duration::from_millis(250), "{gaps:?}");
}
