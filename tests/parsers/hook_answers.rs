//! What hook tools answer: JSON of Juju's shape, or not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use serde_json::{Map, Value};
use valkey_operator::juju::hook_tools::{
    GoalState, LogLevel, NetworkInfo, PortRange, SecretContent, SecretRead, SecretRef, Status,
    StatusInfo, StatusKind, StorageInfo,
};
use valkey_operator::juju::{HookTools, UnitName};

use super::mutate::{assert_clear, config, hostile, hostile_text};

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_ins/hook-tool");

/// Answers of a real model.
const ANSWERS: &[&str] = &[
    r#"{"bind-addresses":[{"mac-address":"02:00:00:00:00:01","interface-name":"eth0","addresses":[{"hostname":"","value":"10.1.2.3","cidr":"10.1.2.0/24"}]}],"egress-subnets":["10.1.2.3/32"],"ingress-addresses":["10.1.2.3"]}"#,
    r#"{"units":{"valkey/0":{"status":"active","since":"2026-08-01 10:00:00Z"},"valkey/1":{"status":"dying","since":"2026-08-01 10:00:00Z"}},"relations":{"database":{"app":{"status":"joined","since":""}}}}"#,
    r#"{"status":"active","message":"primary"}"#,
    r#"{"kind":"filesystem","location":"/var/lib/juju/storage/data/0"}"#,
    r#"{"ingress-address":"10.1.2.3","state":"\"member\""}"#,
    r#"["valkey/0","valkey/1"]"#,
    r#"["6379/tcp","8000-8010/udp","icmp"]"#,
    r#"{"charmed-stats-password":"hunter2hunter2"}"#,
    r#"{"maxmemory":"75%","databases":16,"extra":null}"#,
    "true",
    "null",
];

fn answers() -> Vec<Vec<u8>> {
    ANSWERS.iter().map(|text| (*text).into()).collect()
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_answer_is_read_or_refused(bytes in hostile(answers())) {
        if let Ok(network) = serde_json::from_slice::<NetworkInfo>(&bytes) {
            prop_assert!(network.bind_address().is_none_or(|address| !address.is_empty()));
            prop_assert!(network.ingress_address().is_none_or(|address| !address.is_empty()));
        }
        if let Ok(goal) = serde_json::from_slice::<GoalState>(&bytes) {
            prop_assert_eq!(goal.staying().count() + goal.leaving().count(), goal.units.len());
        }
        if let Ok(secret) = serde_json::from_slice::<SecretContent>(&bytes) {
            let shown = format!("{secret:?}");
            prop_assert!(secret.0.values().all(|value| value.len() < 12 || !shown.contains(value)));
        }
        let _ = serde_json::from_slice::<Option<StatusInfo>>(&bytes);
        let _ = serde_json::from_slice::<StorageInfo>(&bytes);
        let _ = serde_json::from_slice::<Option<BTreeMap<String, String>>>(&bytes);
        let _ = serde_json::from_slice::<Vec<UnitName>>(&bytes);
        let _ = serde_json::from_slice::<Option<Map<String, Value>>>(&bytes);
        let _ = serde_json::from_slice::<Vec<PortRange>>(&bytes);
    }

    #[test]
    fn any_ports_are_read_or_refused(text in hostile_text(&["6379/tcp", "8000-8010/udp", "icmp", "6379"])) {
        match text.parse::<PortRange>() {
            Ok(ports) => prop_assert_eq!(ports.to_string().parse::<PortRange>().unwrap(), ports),
            Err(error) => assert_clear(&error.to_string()),
        }
    }
}

/// Stands in for the hook tools that are used below.
fn tools(answer: &[u8]) -> (tempfile::TempDir, HookTools) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("answer"), answer).unwrap();
    for tool in [
        "network-get",
        "secret-get",
        "status-set",
        "action-fail",
        "juju-log",
    ] {
        symlink(STAND_IN, directory.path().join(tool)).unwrap();
        fs::write(
            directory.path().join(format!("{tool}.do")),
            "cat \"$here/answer\"",
        )
        .unwrap();
    }
    let tools = HookTools::with_path(directory.path());
    (directory, tools)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// What a status says can come from anywhere: it must never keep a hook from ending well.
#[test]
fn a_message_with_anything_in_it_reaches_juju() {
    let long = "ä".repeat(200_000);
    for message in ["plain", "", "a\0b", "--help", "two\nlines", long.as_str()] {
        let (directory, tools) = tools(b"");
        block_on(async {
            tools
                .status_set(&Status::new(StatusKind::Waiting, message))
                .await
                .unwrap();
            tools
                .status_set_app(&Status::new(StatusKind::Waiting, message))
                .await
                .unwrap();
            tools.action_fail(message).await.unwrap();
            tools.juju_log(LogLevel::Info, message).await.unwrap();
        });
        let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
        let shown = message.replace('\0', "\u{fffd}");
        let expected: String = shown.chars().take(1000).collect();
        assert!(
            calls.matches(&expected).count() >= 4,
            "{} bytes",
            message.len()
        );
    }
}

proptest! {
    #![proptest_config(config(60))]

    /// Through real processes: whatever is printed, the error says which tool, and never a secret's value.
    #[test]
    fn any_output_of_a_tool_is_read_or_refused(bytes in hostile(answers())) {
        let (_directory, tools) = tools(&bytes);
        block_on(async {
            if let Err(error) = tools.network_get("valkey-peers", None).await {
                assert_clear(&error.to_string());
                assert!(error.to_string().contains("network-get"), "{error}");
            }
            let id = "secret:9m4e2mr0ui3e8a215n4g".parse().unwrap();
            let read = tools.secret_get(SecretRef::Id(&id), SecretRead::Tracked).await;
            if let Err(error) = read {
                assert_clear(&error.to_string());
                assert!(!format!("{error:?} {error}").contains("hunter2hunter2"));
            }
        });
    }
}
