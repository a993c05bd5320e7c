//! Hand-over when something is wrong: refusals, other ways, callers and servers that die midway.

use std::time::{Duration, Instant};

use valkey_operator::valkey::configuration::server_users;
use valkey_operator::valkey::handover::{
    HandoverError, HandoverPath, HandoverRecord, complete_hello, hand_over, promote_best,
};
use valkey_operator::valkey::hello::Hello;
use valkey_operator::valkey::server_info::FailoverState;
use valkey_operator::valkey::{Endpoint, Role};

use crate::cluster::{Cluster, eventually};
use crate::handover::{plan, settled_on, told_all, writing};
use crate::writers::Writers;

/// The old primary serves on: it is primary, takes writes, and everybody names it.
async fn serves_on(cluster: &Cluster, primary: usize, writers: &Writers) {
    writing(writers).await;
    settled_on(cluster, primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_failover_is_handed_over_by_pausing() {
    let cluster = Cluster::start(3).await;
    for (index, node) in cluster.nodes.iter().enumerate() {
        let users = server_users(&cluster.credentials, None).replace("+@all", "+@all -failover");
        std::fs::write(node.dir.join("users.acl"), &users).unwrap();
        cluster
            .server(index)
            .await
            .apply_users(&users)
            .await
            .unwrap();
    }
    let writers = Writers::start(&cluster, 4);
    writing(&writers).await;
    let mut gaps = Vec::new();
    let mut primary = 0;
    for round in 0..5 {
        let target = (primary + 1 + round % 2) % 3;
        writers.mark();
        let record = hand_over(&plan(&cluster, primary, target), &cluster.credentials)
            .await
            .unwrap();
        assert_eq!(record.path, HandoverPath::PauseAndReplicaof);
        assert!(
            record
                .fallback_reason
                .as_ref()
                .is_some_and(|reason| reason.contains("denies"))
        );
        told_all(&record, 3);
        writing(&writers).await;
        gaps.push(writers.gap());
        primary = target;
        settled_on(&cluster, primary).await;
    }
    gaps.sort();
    let (all, lost) = writers.lost_on(&cluster, primary).await;
    println!(
        "5 hand-overs by pausing: gap median {:?} max {:?}; {lost} of {all} lost",
        gaps[2], gaps[4]
    );
    assert_eq!(lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_fit_is_refused_before_anything_changes() {
    let mut cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, 1);
    let credentials = cluster.credentials.clone();
    let refused = |error: HandoverError, part: &str| {
        assert!(
            !error.is_promoted() && error.to_string().contains(part),
            "{error}"
        );
    };

    let mut leaving = plan(&cluster, 0, 1);
    leaving.leaving = vec![leaving.to.clone()];
    refused(
        hand_over(&leaving, &credentials).await.unwrap_err(),
        "leaving",
    );
    refused(
        hand_over(&plan(&cluster, 1, 0), &credentials)
            .await
            .unwrap_err(),
        "no primary",
    );
    refused(
        promote_best(&plan(&cluster, 0, 1), &credentials)
            .await
            .unwrap_err(),
        "hand over instead",
    );

    // A minority of Sentinels does only if the caller says so.
    cluster.nodes[1].sentinel_process = None;
    cluster.nodes[2].sentinel_process = None;
    let mut minority = plan(&cluster, 0, 1);
    let error = hand_over(&minority, &credentials).await.unwrap_err();
    assert!(
        matches!(error, HandoverError::NoMajority { needed: 2, .. }),
        "{error}"
    );
    serves_on(&cluster, 0, &writers).await;
    minority.allow_minority = true;
    let record = hand_over(&minority, &credentials).await.unwrap();
    assert_eq!((record.tally.told.len(), record.tally.untold.len()), (1, 2));
    settled_on(&cluster, 1).await;
    // The others learn it when they are back.
    cluster.start_sentinel(1, 0, 2);
    cluster.start_sentinel(2, 0, 2);
    eventually(
        "all name the new primary",
        Duration::from_secs(40),
        || async {
            for index in 0..3 {
                let named = cluster
                    .try_sentinel(index)
                    .await?
                    .primary_address()
                    .await
                    .ok()??;
                if named != cluster.nodes[1].server {
                    return None;
                }
            }
            Some(())
        },
    )
    .await;
    let (_, lost) = writers.lost_on(&cluster, 1).await;
    assert_eq!(lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_epoch_is_passed_over() {
    let cluster = Cluster::start(3).await;
    // Every Sentinel is in a later epoch than it can be asked for.
    for index in 0..3 {
        let sentinel = cluster.sentinel(index).await;
        let peer = sentinel.sentinels().await.unwrap().remove(0);
        let primary = cluster.nodes[0].server.clone();
        let hello = Hello {
            sentinel: peer.address,
            sentinel_id: peer.id,
            current_epoch: 50,
            primary,
            config_epoch: 0,
        };
        sentinel.publish_hello(&hello).await.unwrap();
    }
    let record = hand_over(&plan(&cluster, 0, 1), &cluster.credentials)
        .await
        .unwrap();
    assert!(
        record.tally.attempts > 1 && record.tally.epoch > 50,
        "{record:?}"
    );
    told_all(&record, 3);
    settled_on(&cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_is_replaced_by_the_best_replica() {
    let mut cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, 4);
    writing(&writers).await;
    writers.mark();
    cluster.nodes[0].server_process.as_mut().unwrap().kill();
    let start = Instant::now();
    let (record, best) = match promoted(&cluster, 1).await {
        Ok(record) => (record, 1),
        Err(refused) => {
            assert!(refused.to_string().contains("same history"), "{refused}");
            (promoted(&cluster, 2).await.unwrap(), 2)
        }
    };
    println!(
        "a dead primary was replaced {:?} after its end",
        start.elapsed()
    );
    assert_eq!(record.path, HandoverPath::Promotion);
    assert_eq!(record.tally.told.len(), 3);
    writing(&writers).await;
    println!("gap {:?}", writers.gap());
    cluster.nodes[0].server_process = None;
    settled_on(&cluster, best).await;
    let (all, lost) = writers.lost_on(&cluster, best).await;
    println!("{lost} of {all} lost");
    assert_eq!(lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_were_not_told_are_told_later() {
    let cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, 2);
    writing(&writers).await;
    let from = cluster.server(0).await;
    from.failover_to(&cluster.nodes[2].server, Duration::from_secs(2))
        .await
        .unwrap();
    eventually(
        "the server has failed over",
        Duration::from_secs(5),
        || async {
            (cluster.server(2).await.replication().await.ok()?.role == Role::Primary).then_some(())
        },
    )
    .await;
    let new: &Endpoint = &cluster.nodes[2].server;
    let wrong = complete_hello(
        &cluster.nodes[1].server,
        &cluster.sentinels(),
        false,
        &cluster.credentials,
    )
    .await;
    assert!(wrong.is_err());
    let tally = complete_hello(new, &cluster.sentinels(), false, &cluster.credentials)
        .await
        .unwrap();
    assert_eq!((tally.told.len(), tally.untold.len()), (3, 0));
    // Again, with nothing to do.
    complete_hello(new, &cluster.sentinels(), false, &cluster.credentials)
        .await
        .unwrap();
    cluster.server(1).await.replicaof(Some(new)).await.unwrap();
    writing(&writers).await;
    settled_on(&cluster, 2).await;
    assert_eq!(writers.lost_on(&cluster, 2).await.1, 0);
}

/// Keeps the Sentinels from failing over by themselves during a test.
async fn patient(cluster: &Cluster) {
    for index in 0..cluster.nodes.len() {
        let sentinel = cluster.sentinel(index).await;
        sentinel
            .set(&[("down-after-milliseconds", "30000")])
            .await
            .unwrap();
    }
}

async fn promoted(cluster: &Cluster, target: usize) -> Result<HandoverRecord, HandoverError> {
    promote_best(&plan(cluster, 0, target), &cluster.credentials).await
}

/// After whatever happened: who is primary? It is made known, and everything settles on it.
async fn look_again(cluster: &Cluster, writers: &Writers) -> usize {
    // A target that was frozen may wake up as a second primary; Sentinel converts it.
    let primary = eventually("there is one primary", Duration::from_secs(30), || async {
        let mut primaries = Vec::new();
        for index in 0..cluster.nodes.len() {
            let info = cluster.try_server(index).await?.replication().await.ok()?;
            if info.failover != FailoverState::None {
                return None;
            }
            if info.role == Role::Primary {
                primaries.push(index);
            }
        }
        (primaries.len() == 1).then(|| primaries[0])
    })
    .await;
    let endpoint = &cluster.nodes[primary].server;
    let told = eventually("Sentinels are told", Duration::from_secs(30), || async {
        complete_hello(endpoint, &cluster.sentinels(), false, &cluster.credentials)
            .await
            .ok()
            .filter(|tally| tally.untold.is_empty())
    })
    .await;
    assert_eq!(told.told.len(), 3);
    for index in 0..cluster.nodes.len() {
        if index != primary {
            cluster
                .server(index)
                .await
                .replicaof(Some(endpoint))
                .await
                .unwrap();
        }
        cluster
            .server(index)
            .await
            .config_set(&[("replica-priority", "100")])
            .await
            .unwrap();
    }
    serves_on(cluster, primary, writers).await;
    primary
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_dies_at_any_moment_loses_nothing() {
    let cluster = Cluster::start(3).await;
    patient(&cluster).await;
    let writers = Writers::start(&cluster, 3);
    writing(&writers).await;
    let mut primary = 0;
    let mut moved = 0;
    for millis in [1, 3, 5, 7, 9, 11, 13, 15, 18, 22, 30, 40] {
        let target = (primary + 1) % 3;
        let mut plan = plan(&cluster, primary, target);
        plan.pause_limit = Duration::from_secs(1);
        let call = hand_over(&plan, &cluster.credentials);
        let _ = tokio::time::timeout(Duration::from_millis(millis), call).await;
        let now = look_again(&cluster, &writers).await;
        assert!(now == primary || now == target);
        moved += usize::from(now == target);
        primary = now;
    }
    println!("of 12 callers that died, {moved} had moved the role");
    let (all, lost) = writers.lost_on(&cluster, primary).await;
    assert_eq!(lost, 0, "of {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_freezes_at_any_moment_leaves_the_old_primary_serving() {
    let cluster = Cluster::start(3).await;
    patient(&cluster).await;
    let writers = Writers::start(&cluster, 3);
    writing(&writers).await;
    let mut primary = 0;
    let mut outcomes = Vec::new();
    for millis in [2, 6, 10, 14, 20] {
        let target = (primary + 1) % 3;
        let mut plan = plan(&cluster, primary, target);
        plan.pause_limit = Duration::from_millis(500);
        let frozen = cluster.nodes[target].server_process.as_ref().unwrap();
        let (result, ()) = tokio::join!(hand_over(&plan, &cluster.credentials), async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            frozen.signal("STOP");
            tokio::time::sleep(Duration::from_millis(1500)).await;
            frozen.signal("CONT");
        });
        let promoted = match &result {
            Ok(_) => true,
            Err(error) => error.is_promoted(),
        };
        outcomes.push(result.map_or_else(|err| err.to_string(), |_| "done".to_owned()));
        let now = look_again(&cluster, &writers).await;
        assert!(!promoted || now == target, "{outcomes:?}");
        primary = now;
    }
    println!("{outcomes:#?}");
    let (all, lost) = writers.lost_on(&cluster, primary).await;
    assert_eq!(lost, 0, "of {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_was_given_up_does_not_delay_the_failover() {
    let mut cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, 2);
    writing(&writers).await;
    // Both ways fail after the votes: the primary refuses to fail over and to pause.
    let rights = "+@all -failover -client|pause";
    let users = server_users(&cluster.credentials, None).replace("+@all", rights);
    cluster.server(0).await.apply_users(&users).await.unwrap();
    let error = hand_over(&plan(&cluster, 0, 1), &cluster.credentials)
        .await
        .unwrap_err();
    assert!(matches!(error, HandoverError::Aborted { .. }), "{error}");
    serves_on(&cluster, 0, &writers).await;

    let killed = Instant::now();
    cluster.nodes[0].server_process.as_mut().unwrap().kill();
    cluster.nodes[0].server_process = None;
    let named = eventually(
        "all Sentinels name another primary",
        Duration::from_secs(40),
        || async {
            let mut named = Vec::new();
            for index in 0..3 {
                let address = cluster.try_sentinel(index).await?.primary_address().await;
                named.push(address.ok()??);
            }
            let same = named.iter().all(|address| *address == named[0]);
            (same && named[0] != cluster.nodes[0].server).then(|| named.remove(0))
        },
    )
    .await;
    let took = killed.elapsed();
    println!("failed over to {named} {took:?} after the primary's end");
    // Detection 1 s, the election and the first INFO; whoever voted would wait for 20 s.
    assert!(took < Duration::from_secs(8), "{took:?}");
    writing(&writers).await;
    let primary = (1..3).find(|index| cluster.nodes[*index].server == named);
    assert_eq!(writers.lost_on(&cluster, primary.unwrap()).await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_was_just_called_online_loses_nothing() {
    let mut cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, 2);
    writing(&writers).await;
    let target = cluster.add_node();
    let primary = cluster.nodes[0].server.clone();
    cluster.start_server(target, Some(primary));
    let new = cluster.nodes[target].server.clone();
    eventually("it is called online", Duration::from_secs(10), || async {
        let info = cluster.server(0).await.replication().await.ok()?;
        info.replicas
            .iter()
            .find(|replica| replica.address == new && replica.is_online())
            .map(|replica| println!("online, acknowledged {} bytes", replica.offset))
    })
    .await;
    let mut plan = plan(&cluster, 0, target);
    plan.sentinels.truncate(3);
    hand_over(&plan, &cluster.credentials).await.unwrap();
    writing(&writers).await;
    settled_on(&cluster, target).await;
    let (all, lost) = writers.lost_on(&cluster, target).await;
    assert_eq!(lost, 0, "of {all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_the_sentinels_name_already_is_promoted() {
    let mut cluster = Cluster::start(3).await;
    patient(&cluster).await;
    let writers = Writers::start(&cluster, 2);
    writing(&writers).await;
    // The one that is named follows a server that is gone: nobody serves, and all wait for it.
    let gone = cluster.add_node();
    let gone = cluster.nodes.remove(gone).server;
    cluster
        .server(0)
        .await
        .replicaof(Some(&gone))
        .await
        .unwrap();
    let mut plan = plan(&cluster, 0, 0);
    plan.from = gone;
    plan.others = vec![
        cluster.nodes[1].server.clone(),
        cluster.nodes[2].server.clone(),
    ];
    let record = promote_best(&plan, &cluster.credentials).await.unwrap();
    assert_eq!(record.tally.told.len(), 3, "{record:?}");
    writing(&writers).await;
    settled_on(&cluster, 0).await;
    assert_eq!(writers.lost_on(&cluster, 0).await.1, 0);
}
