//! Sentinel's timers: what shorter periods at run time change, measured.
//!
//! `VALKEY_MEASURE=1 cargo test --test valkey timers -- --nocapture` prints figures of the default
//! periods too; without it only those of the charm are run and held to their bounds.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use valkey_operator::valkey::Role;

use crate::cluster::{Cluster, eventually};

const LONG: Duration = Duration::from_secs(60);

/// Runs each case once; returns its name and the seconds that it took.
async fn measure(fast: bool) -> Vec<(&'static str, f64)> {
    let mut cluster = Cluster::start_with(3, fast).await;
    let mut seen = Vec::new();
    let mut took = |name, start: Instant| seen.push((name, start.elapsed().as_secs_f64()));

    // A priority.
    cluster
        .server(1)
        .await
        .config_set(&[("replica-priority", "7")])
        .await
        .unwrap();
    let start = Instant::now();
    for index in 0..3 {
        eventually("the priority is seen", LONG, || async {
            let replicas = cluster.sentinel(index).await.replicas().await.ok()?;
            replicas
                .iter()
                .any(|replica| replica.priority == 7)
                .then_some(())
        })
        .await;
    }
    took("priority seen by all", start);
    cluster
        .server(1)
        .await
        .config_set(&[("replica-priority", "100")])
        .await
        .unwrap();

    // A new replica.
    let new = cluster.add_node();
    let primary = cluster.nodes[0].server.clone();
    cluster.start_server(new, Some(primary));
    cluster.serving(new).await;
    let start = Instant::now();
    cluster.settle_sentinels(2, 3).await;
    took("new replica promotable for all", start);

    // RESET on one.
    cluster.sentinel(2).await.reset().await.unwrap();
    let start = Instant::now();
    cluster.settle_sentinels(2, 3).await;
    took("full view after RESET", start);

    // A replica that was made a second primary.
    cluster.server(new).await.replicaof(None).await.unwrap();
    let start = Instant::now();
    eventually("the second primary is converted", LONG, || async {
        let info = cluster.server(new).await.replication().await.ok()?;
        (info.role == Role::Replica).then_some(())
    })
    .await;
    took("second primary converted", start);

    // The primary dies: failover as always; its return as a primary.
    cluster.nodes[0].server_process.as_mut().unwrap().kill();
    let start = Instant::now();
    eventually("somebody is elected", LONG, || async {
        let address = cluster.sentinel(1).await.primary_address().await.ok()??;
        (address != cluster.nodes[0].server).then_some(())
    })
    .await;
    took("failover after kill (detection 1 s)", start);
    cluster.start_server(0, None);
    let start = Instant::now();
    eventually("the displaced primary is converted", LONG, || async {
        let info = cluster.try_server(0).await?.replication().await.ok()?;
        (info.role == Role::Replica).then_some(())
    })
    .await;
    took("displaced primary converted", start);
    seen
}

#[tokio::test]
async fn shorter_periods_make_sentinels_see_sooner() {
    let print = |name: &str, seen: &[(&str, f64)]| {
        for (case, seconds) in seen {
            println!("{name}: {case}: {seconds:.2} s");
        }
    };
    if std::env::var_os("VALKEY_MEASURE").is_some() {
        for _ in 0..3 {
            print("default periods", &measure(false).await);
        }
        for _ in 0..2 {
            print("charm's periods", &measure(true).await);
        }
    }
    let seen = measure(true).await;
    print("charm's periods", &seen);
    for ((case, seconds), bound) in seen.iter().zip([6.0, 6.0, 8.0, 9.0, 20.0, 9.0]) {
        assert!(*seconds < bound, "{case}: {seconds} s");
    }
}

/// What is timed after the primary has fallen silent.
const STAGES: [&str; 4] = [
    "taken for down by both",
    "a replica is promoted",
    "one Sentinel names it",
    "both name it",
];

/// Freezes the primary with its Sentinel, so that nothing ends that anybody could notice; returns when each stage is
/// reached, in seconds.
async fn silent_loss(fast: bool) -> [f64; 4] {
    let cluster = Cluster::start_with(3, fast).await;
    let old = &cluster.nodes[0];
    // Connected before: who asks must not wait for who is frozen.
    let sentinels = [cluster.sentinel(1).await, cluster.sentinel(2).await];
    let start = Instant::now();
    for process in [&old.server_process, &old.sentinel_process] {
        process.as_ref().unwrap().signal("STOP");
    }
    let reached = Cell::new([None; 4]);
    eventually("both name another primary", LONG, || async {
        let (mut down, mut named, mut promoted) = (0, 0, false);
        for (sentinel, index) in sentinels.iter().zip([1, 2]) {
            let view = sentinel.primary().await.ok()??;
            let elsewhere = view.address != old.server;
            down += usize::from(elsewhere || view.flags.is_down());
            let address = sentinel.primary_address().await.ok()??;
            named += usize::from(address != old.server);
            // Its connections are closed when it is promoted.
            let info = cluster.try_server(index).await?.replication().await.ok()?;
            promoted |= info.role == Role::Primary;
        }
        let stages = [down == 2 || promoted, promoted, named >= 1, named == 2];
        let mut times = reached.get();
        for (time, _) in times.iter_mut().zip(stages).filter(|(_, is)| *is) {
            time.get_or_insert(start.elapsed().as_secs_f64());
        }
        reached.set(times);
        (named == 2).then_some(())
    })
    .await;
    for process in [&old.server_process, &old.sentinel_process] {
        process.as_ref().unwrap().signal("CONT");
    }
    reached.get().map(|time| time.expect("all stages come"))
}

#[tokio::test]
async fn a_silent_loss_is_mended_within_two_seconds_of_the_detection_time() {
    let print = |name: &str, rounds: &mut [[f64; 4]]| {
        for (stage, what) in STAGES.iter().enumerate() {
            rounds.sort_by(|one, other| one[stage].total_cmp(&other[stage]));
            let at = |index: usize| rounds[index][stage];
            let (middle, last) = (rounds.len() / 2, rounds.len() - 1);
            println!(
                "{name}: {what}: {:.2} / {:.2} / {:.2} s",
                at(0),
                at(middle),
                at(last)
            );
        }
    };
    let mut rounds = Vec::new();
    if std::env::var_os("VALKEY_MEASURE").is_some() {
        for _ in 0..20 {
            rounds.push(silent_loss(false).await);
        }
        print("default periods", &mut rounds);
        rounds.clear();
        for _ in 0..19 {
            rounds.push(silent_loss(true).await);
        }
    }
    rounds.push(silent_loss(true).await);
    print("charm's periods", &mut rounds);
    // Detection 1 s; the last second is for busy machines.
    for times in &rounds {
        assert!(times[3] < 1.0 + 2.0 + 1.0, "{times:?}");
    }
}
