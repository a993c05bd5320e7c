//! The labels of the pods: after a failover, of dead pods, and with several writers.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use serde_json::json;
use valkey_operator::kubernetes::{Report, Wanted, keep};

use crate::{
    cluster::Cluster,
    namespace::{Namespace, wanted},
};

async fn settle(namespace: &Namespace, want: Wanted) -> Report {
    let again = want.clone();
    keep(&namespace.access(), want, async || again.clone())
        .await
        .unwrap()
}

#[tokio::test]
async fn labels_follow_a_failover_and_a_dead_pod_loses_its_own() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    // Juju lets pods be labelled without trust.
    for (me, roles, expected) in [
        (0, "0 primary", "valkey-0 primary"),
        (
            1,
            "0 primary, 1 replica",
            "valkey-0 primary, valkey-1 replica",
        ),
        (
            2,
            "2 replica",
            "valkey-0 primary, valkey-1 replica, valkey-2 replica",
        ),
        // The primary died; a unit that knows only who comes after it takes the label from it.
        (1, "1 primary", "valkey-1 primary, valkey-2 replica"),
        // It comes back with its old label, or a person gives it back.
        (1, "1 primary", "valkey-1 primary, valkey-2 replica"),
        (0, "0 -", "valkey-1 primary, valkey-2 replica"),
        (
            0,
            "0 replica, 1 primary",
            "valkey-0 replica, valkey-1 primary, valkey-2 replica",
        ),
        // The leader labels a new primary whose own agent does not.
        (
            0,
            "0 replica, 2 primary",
            "valkey-0 replica, valkey-2 primary",
        ),
        // Who leaves or does not run gets nothing any more.
        (0, "0 -", "valkey-2 primary"),
    ] {
        assert!(
            settle(&namespace, wanted(me, false, roles))
                .await
                .is_right()
        );
        assert_eq!(namespace.roles(), expected, "{me}: {roles}");
        if roles == "1 primary" {
            let back = json!({ "metadata": { "labels": { "role": "primary", "application-name": "valkey" } } });
            namespace.patch("pods/valkey-0", &back);
        }
    }
}

#[tokio::test]
async fn a_pod_that_comes_anew_is_labelled_anew_and_one_that_is_gone_hinders_nobody() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let roles = "0 primary, 1 replica, 2 replica";
    assert!(settle(&namespace, wanted(0, false, roles)).await.is_right());
    namespace.delete("pods/valkey-0");
    assert!(
        settle(&namespace, wanted(1, false, "0 -, 1 primary"))
            .await
            .is_right()
    );
    assert_eq!(namespace.roles(), "valkey-1 primary, valkey-2 replica");
    namespace.add_pod(0);
    assert!(
        settle(&namespace, wanted(0, false, "0 replica, 1 primary"))
            .await
            .is_right()
    );
    assert_eq!(
        namespace.roles(),
        "valkey-0 replica, valkey-1 primary, valkey-2 replica"
    );
}

#[tokio::test]
async fn what_others_change_at_the_same_time_stays() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let roles = "0 primary, 1 replica, 2 replica";
    let mut looks = 0;
    let report = keep(&namespace.access(), wanted(0, false, roles), async || {
        looks += 1;
        // After it was read and before it is changed, a person writes.
        if looks == 1 {
            let label = json!({ "metadata": { "labels": { "rack": "7", "role": "mine" } } });
            namespace.patch("pods/valkey-0", &label);
            namespace.patch("pods/valkey-2", &label);
        }
        wanted(0, false, roles)
    })
    .await
    .unwrap();
    assert!(report.is_right(), "{report}");
    assert!(
        looks > 1,
        "the change was made without a look at what the person wrote"
    );
    assert_eq!(
        namespace.roles(),
        "valkey-0 primary, valkey-1 replica, valkey-2 replica"
    );
    let pod = namespace.get("pods/valkey-0").unwrap();
    assert_eq!(pod["metadata"]["labels"]["rack"], "7");
    assert_eq!(
        pod["metadata"]["labels"]["app.kubernetes.io/name"],
        "valkey"
    );
}

#[tokio::test]
async fn units_with_old_knowledge_end_with_one_primary() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let truth = AtomicU32::new(0);
    let view = |me: u32, primary: u32| {
        let role = if me == primary { "primary" } else { "replica" };
        let named = if me == primary {
            String::new()
        } else {
            format!(", {primary} primary")
        };
        wanted(me, false, &format!("{me} {role}{named}"))
    };
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..12_u32 {
        let (before, now) = (truth.load(Ordering::SeqCst), (round + 1) % 3);
        truth.store(now, Ordering::SeqCst);
        let began = Instant::now();
        let (namespace, truth, view) = (&namespace, &truth, &view);
        // Each begins with what was true before, and learns better when it looks again.
        let units = (0..3_u32).map(async |me| {
            let report = keep(&namespace.access(), view(me, before), async || {
                view(me, truth.load(Ordering::SeqCst))
            })
            .await
            .unwrap();
            if !report.is_right() {
                return;
            }
            // The watcher looks again in a moment: by then everybody knows.
            settle(namespace, view(me, truth.load(Ordering::SeqCst))).await;
        });
        futures::future::join_all(units).await;
        slowest = slowest.max(began.elapsed());
        let expected: Vec<String> = (0..3)
            .map(|unit| {
                format!(
                    "valkey-{unit} {}",
                    if unit == now { "primary" } else { "replica" }
                )
            })
            .collect();
        assert_eq!(namespace.roles(), expected.join(", "), "round {round}");
    }
    println!("slowest of 12 failovers with three writers: {slowest:?}");
}
