//! The Services of an application are made, kept right, and healed when a person edits or deletes them.

use serde_json::{Value, json};
use valkey_operator::kubernetes::{Report, compare, keep};

use crate::{
    cluster::Cluster,
    namespace::{APP, Namespace, wanted},
};

async fn settle(namespace: &Namespace) -> Report {
    let roles = "0 primary, 1 replica, 2 replica";
    let want = || wanted(0, true, roles);
    keep(&namespace.access(), want(), async || want())
        .await
        .unwrap()
}

fn check(namespace: &Namespace) -> [Value; 2] {
    ["primary", "replicas"].map(|kind| {
        let service = namespace.get(&format!("services/valkey-{kind}")).unwrap();
        let spec = &service["spec"];
        let role = kind.trim_end_matches('s');
        assert_eq!(
            spec["selector"],
            json!({ "application-name": APP, "role": role })
        );
        assert_eq!(spec["ports"].as_array().unwrap().len(), 1, "{spec}");
        for (name, value) in [
            ("name", json!("valkey")),
            ("port", json!(6379)),
            ("targetPort", json!(6379)),
            ("protocol", json!("TCP")),
        ] {
            assert_eq!(spec["ports"][0][name], value, "{spec}");
        }
        assert!(
            spec["clusterIP"].as_str().unwrap().starts_with("10.0."),
            "{spec}"
        );
        let owners = service["metadata"]["ownerReferences"].as_array().unwrap();
        assert!(
            owners
                .iter()
                .any(|it| it["uid"] == namespace.owner.as_str()),
            "{owners:?}"
        );
        service
    })
}

#[tokio::test]
async fn services_are_made_once_and_go_with_the_application() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.trust(true);
    assert!(settle(&namespace).await.is_right());
    let made = check(&namespace);
    for service in &made {
        let manager = &service["metadata"]["managedFields"][0]["manager"];
        assert_eq!(manager, "valkey-operator", "{service}");
    }
    // Nothing is written where nothing differs.
    let began = std::time::Instant::now();
    assert!(settle(&namespace).await.is_right());
    println!("compared, and nothing to do: {:?}", began.elapsed());
    assert_eq!(check(&namespace), made);
}

#[tokio::test]
async fn services_that_a_person_edits_or_deletes_are_healed() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.trust(true);
    assert!(settle(&namespace).await.is_right());
    for (what, edit) in [
        (
            "a selector",
            json!({ "spec": { "selector": { "role": "replica" } } }),
        ),
        (
            "one more selector",
            json!({ "spec": { "selector": { "canary": "yes" } } }),
        ),
        ("no selector", json!({ "spec": { "selector": null } })),
        (
            "another port",
            json!({ "spec": { "ports": [{ "name": "valkey", "port": 6380, "targetPort": 6379 }] } }),
        ),
        (
            "two ports",
            json!({ "spec": { "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }] } }),
        ),
        (
            "no owner",
            json!({ "metadata": { "ownerReferences": null } }),
        ),
        ("no labels", json!({ "metadata": { "labels": null } })),
    ] {
        namespace.patch("services/valkey-primary", &edit);
        let want = wanted(0, true, "0 primary, 1 replica, 2 replica");
        let seen = compare(&namespace.access(), &want).await.unwrap();
        assert_eq!(seen.left.len(), 1, "{what}: {seen:?}");
        assert!(settle(&namespace).await.is_right(), "{what}");
        check(&namespace);
        let seen = compare(&namespace.access(), &want).await.unwrap();
        assert!(seen.is_right(), "{what}: {seen:?}");
    }
    namespace.delete("services/valkey-primary");
    namespace.delete("services/valkey-replicas");
    assert!(settle(&namespace).await.is_right());
    check(&namespace);
}

#[tokio::test]
async fn what_a_person_adds_stays() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.trust(true);
    assert!(settle(&namespace).await.is_right());
    let added = json!({
        "metadata": { "annotations": { "pool": "internal" }, "labels": { "team": "cache" } },
        "spec": { "type": "NodePort", "sessionAffinity": "ClientIP", "selector": { "role": "replica" } },
    });
    namespace.patch("services/valkey-primary", &added);
    assert!(settle(&namespace).await.is_right());
    let [primary, _] = check(&namespace);
    assert_eq!(primary["metadata"]["annotations"]["pool"], "internal");
    assert_eq!(primary["metadata"]["labels"]["team"], "cache");
    assert_eq!(primary["spec"]["type"], "NodePort");
    assert_eq!(primary["spec"]["sessionAffinity"], "ClientIP");
}

#[tokio::test]
async fn the_service_of_somebody_else_is_left_alone() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.trust(true);
    // What Juju makes for an application that is named `valkey-primary`.
    let others = json!({
        "metadata": { "name": "valkey-primary", "labels": { "app.kubernetes.io/managed-by": "juju" } },
        "spec": { "ports": [{ "port": 65535 }] },
    });
    let before = namespace.post("services", &others);
    let report = settle(&namespace).await;
    let foreign = [("valkey-primary".to_owned(), "juju".to_owned())];
    assert_eq!(report.foreign, foreign);
    assert_eq!(namespace.get("services/valkey-primary").unwrap(), before);
    assert!(namespace.get("services/valkey-replicas").is_some());
}
