//! Membership of the Sentinels: one joins, some leave, some are dead.

use std::time::{Duration, Instant};

use valkey_operator::valkey::Endpoint;
use valkey_operator::valkey::membership::{
    Membership, MembershipError, Unproven, announce, forget, safe_to_reset,
};

use crate::cluster::{Cluster, eventually};

fn membership(cluster: &Cluster, members: &[usize]) -> Membership {
    let server = |index: &usize| cluster.nodes[*index].server.clone();
    Membership::new(
        server(&members[0]),
        members[1..].iter().map(server).collect(),
        members
            .iter()
            .map(|index| cluster.nodes[*index].sentinel.clone())
            .collect(),
    )
}

async fn view(cluster: &Cluster, index: usize) -> (Vec<Endpoint>, Vec<Endpoint>) {
    let sentinel = cluster.sentinel(index).await;
    let mut replicas: Vec<_> = sentinel
        .replicas()
        .await
        .unwrap()
        .into_iter()
        .map(|r| r.address)
        .collect();
    let mut peers: Vec<_> = sentinel
        .sentinels()
        .await
        .unwrap()
        .into_iter()
        .map(|s| s.address)
        .collect();
    replicas.sort();
    peers.sort();
    (replicas, peers)
}

#[tokio::test]
async fn a_new_sentinel_is_known_at_once_and_an_old_one_forgotten_one_by_one() {
    let mut cluster = Cluster::start(3).await;
    let new = cluster.add_node();
    let primary = cluster.nodes[0].server.clone();
    cluster.start_server(new, Some(primary));
    cluster.serving(new).await;
    cluster.start_sentinel(new, 0, 3);
    let endpoint = cluster.nodes[new].sentinel.clone();
    eventually("the new Sentinel answers", Duration::from_secs(5), || {
        cluster.try_sentinel(new)
    })
    .await;
    let start = Instant::now();
    let all = membership(&cluster, &[0, 1, 2, 3]);
    let report = announce(&endpoint, &all, &cluster.credentials)
        .await
        .unwrap();
    println!("a new Sentinel is known to all after {:?}", start.elapsed());
    assert_eq!((report.settled.len(), report.skipped.len()), (4, 0));
    assert!(start.elapsed() < Duration::from_secs(5));

    // A second time, and with nobody to forget, nothing is reset.
    let start = Instant::now();
    announce(&endpoint, &all, &cluster.credentials)
        .await
        .unwrap();
    let report = forget(&all, &cluster.credentials, &mut Unproven::default())
        .await
        .unwrap();
    assert_eq!(report.reset, Vec::<Endpoint>::new());
    println!(
        "every Sentinel knows the new replica after {:?}",
        start.elapsed()
    );

    // It leaves again.
    cluster.nodes[new].sentinel_process = None;
    cluster.nodes[new].server_process = None;
    let rest = membership(&cluster, &[0, 1, 2]);
    let start = Instant::now();
    let report = forget(&rest, &cluster.credentials, &mut Unproven::default())
        .await
        .unwrap();
    println!(
        "one of four is forgotten by three after {:?}",
        start.elapsed()
    );
    assert_eq!((report.reset.len(), report.settled.len()), (3, 3));
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    for index in 0..3 {
        let (replicas, peers) = view(&cluster, index).await;
        assert_eq!(replicas, rest.replicas);
        assert_eq!(peers.len(), 2);
        assert!(
            cluster
                .sentinel(index)
                .await
                .ckquorum()
                .await
                .unwrap()
                .is_ok()
        );
    }
    assert_eq!(
        forget(&rest, &cluster.credentials, &mut Unproven::default())
            .await
            .unwrap()
            .reset,
        Vec::<Endpoint>::new()
    );
}

#[tokio::test]
async fn dead_members_are_skipped_and_stay_known() {
    let mut cluster = Cluster::start(4).await;
    // One leaves while another one is dead.
    for index in [2, 3] {
        cluster.nodes[index].sentinel_process = None;
        cluster.nodes[index].server_process = None;
    }
    let rest = membership(&cluster, &[0, 1, 2]);
    let report = forget(&rest, &cluster.credentials, &mut Unproven::default())
        .await
        .unwrap();
    assert_eq!(report.skipped, [cluster.nodes[2].sentinel.clone()]);
    assert_eq!(report.reset.len(), 2);
    for index in 0..2 {
        let (replicas, peers) = view(&cluster, index).await;
        assert!(!replicas.contains(&cluster.nodes[3].server));
        // The dead member keeps counting for the majority.
        let other = cluster.nodes[1 - index].sentinel.clone();
        let mut expected = vec![other, cluster.nodes[2].sentinel.clone()];
        expected.sort();
        assert_eq!(peers, expected);
    }
}

#[tokio::test]
async fn nothing_is_reset_while_the_primary_is_down() {
    let mut cluster = Cluster::start(3).await;
    let rest = membership(&cluster, &[0, 1]);
    safe_to_reset(&rest, &cluster.credentials).await.unwrap();
    cluster.nodes[0].server_process = None;
    let (_, before) = view(&cluster, 1).await;
    let refused = safe_to_reset(&rest, &cluster.credentials).await;
    assert!(
        matches!(refused, Err(MembershipError::Unsafe { .. })),
        "{refused:?}"
    );
    let refused = forget(&rest, &cluster.credentials, &mut Unproven::default()).await;
    assert!(
        matches!(refused, Err(MembershipError::Unsafe { .. })),
        "{refused:?}"
    );
    assert_eq!(view(&cluster, 1).await.1, before);
}
