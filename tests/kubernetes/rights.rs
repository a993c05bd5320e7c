//! Missing rights, a token that is replaced, and an API server that is away.

use std::{fs, time::Instant};

use serde_json::json;
use valkey_operator::{
    kubernetes::{ApiError, Report, keep},
    limits::{API_CALL_TIMEOUT, API_CONNECT_TIMEOUT},
};

use crate::{
    cluster::Cluster,
    link::State,
    namespace::{Namespace, wanted},
};

async fn settle(namespace: &Namespace) -> Result<Report, ApiError> {
    let want = || wanted(0, true, "0 primary, 1 replica, 2 replica");
    keep(&namespace.access(), want(), async || want()).await
}

/// Expects an error whose text begins so.
async fn refused(namespace: &Namespace, expected: &str) {
    let error = settle(namespace).await.unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}, not {expected}");
}

const LABELLED: &str = "valkey-0 primary, valkey-1 replica, valkey-2 replica";

#[tokio::test]
async fn without_trust_labels_are_set_and_services_wait_for_it() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let report = settle(&namespace).await.unwrap();
    assert!(report.needs_trust(), "{report:?}");
    assert_eq!(
        report.to_string(),
        "may not create the Service of role primary, create the Service of role replica"
    );
    assert_eq!(namespace.roles(), LABELLED);
    assert!(namespace.get("services/valkey-primary").is_none());

    namespace.trust(true);
    // The API server notices changed rights within moments, not at once.
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let report = settle(&namespace).await.unwrap();
        if report.is_right() {
            break;
        }
        assert!(Instant::now() < deadline, "{report}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(namespace.get("services/valkey-primary").is_some());

    // Without it again, what is there can still be mended.
    namespace.trust(false);
    namespace.patch(
        "services/valkey-primary",
        &json!({ "spec": { "selector": { "role": "x" } } }),
    );
    assert!(settle(&namespace).await.unwrap().is_right());
}

#[tokio::test]
async fn services_that_a_person_made_are_kept_right_without_trust() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    for (name, role) in [
        ("valkey-primary", "primary"),
        ("valkey-replicas", "replica"),
    ] {
        let service = json!({
            "metadata": { "name": name, "labels": { "app.kubernetes.io/managed-by": "valkey-operator" } },
            "spec": {
                "selector": { "application-name": "valkey", "role": role },
                "ports": [{ "name": "valkey", "protocol": "TCP", "port": 6379, "targetPort": 6379 }],
            },
        });
        namespace.post("services", &service);
    }
    namespace.patch(
        "services/valkey-replicas",
        &json!({ "spec": { "selector": { "role": "primary" } } }),
    );
    assert!(settle(&namespace).await.unwrap().is_right());
    let service = namespace.get("services/valkey-replicas").unwrap();
    assert_eq!(service["spec"]["selector"]["role"], "replica");
    assert_eq!(
        service["metadata"]["ownerReferences"][0]["uid"],
        namespace.owner.as_str()
    );
}

#[tokio::test]
async fn without_any_right_it_says_so() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.take_all_rights();
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    let error = loop {
        match settle(&namespace).await {
            Err(error) => break error,
            Ok(report) => assert!(Instant::now() < deadline, "{report}"),
        }
    };
    assert!(error.is_forbidden(), "{error}");
    assert!(
        error.to_string().starts_with("cannot list the pods: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_that_is_replaced_is_taken_up() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.trust(true);
    let secret = json!({ "metadata": { "name": "life" } });
    let secret = namespace.post("secrets", &secret);
    let token = namespace.token(Some(&secret));
    namespace.set_token(&token);
    assert!(settle(&namespace).await.unwrap().is_right());
    // From now on nobody accepts it any more.
    namespace.delete("secrets/life");
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    let error = loop {
        match settle(&namespace).await {
            Err(error) => break error,
            // The API server remembers for some seconds that it accepted a token.
            Ok(_) => assert!(Instant::now() < deadline, "the old token still works"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert!(error.to_string().contains("401"), "{error}");
    assert!(!format!("{error:?}").contains(&token), "the token is shown");
    namespace.set_token(&namespace.token(None));
    assert!(settle(&namespace).await.unwrap().is_right());
}

#[tokio::test]
async fn an_api_server_that_is_away_holds_nobody_up_and_is_used_when_it_is_back() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    for state in [State::Closed, State::Silent] {
        namespace.link.set(state);
        let began = Instant::now();
        refused(&namespace, "cannot reach the Kubernetes API").await;
        assert!(
            began.elapsed() < API_CONNECT_TIMEOUT + API_CALL_TIMEOUT,
            "{:?}",
            began.elapsed()
        );
    }
    namespace.link.set(State::Up);
    settle(&namespace).await.unwrap();
    assert_eq!(namespace.roles(), LABELLED);
}

#[tokio::test]
async fn an_account_that_cannot_be_used_is_named() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let authorities = fs::read_to_string(namespace.account().join("ca.crt")).unwrap();
    for (file, text, expected) in [
        (
            "ca.crt",
            "",
            "cannot use the pod's service account: ca.crt holds no certificate",
        ),
        (
            "namespace",
            "a/../b",
            "cannot ask the Kubernetes API for `a/../b`",
        ),
        (
            "token",
            "a\nb",
            "cannot use the pod's service account: its token is no token",
        ),
        (
            "token",
            "wrong",
            "cannot list the pods: the Kubernetes API answers 401",
        ),
    ] {
        let path = namespace.account().join(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, text).unwrap();
        refused(&namespace, expected).await;
        fs::write(&path, before).unwrap();
    }
    // Somebody else in the place of the API server: another authority vouches for it.
    let other = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=other",
        ])
        .args(["-keyout", "/dev/null"])
        .stderr(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(other.status.success());
    fs::write(namespace.account().join("ca.crt"), &other.stdout).unwrap();
    refused(&namespace, "cannot reach the Kubernetes API").await;
    fs::write(namespace.account().join("ca.crt"), authorities).unwrap();
    fs::remove_file(namespace.account().join("token")).unwrap();
    refused(&namespace, "cannot read ").await;
}
