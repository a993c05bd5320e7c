//! Properties of what a charm says to hook tools, and of requests over the engine's socket.

use proptest::prelude::*;

use super::network::port;
use super::secrets::{expiry, id_of, is_key};
use super::{Fault, parse, yaml_map};
use crate::api::Request;
use crate::mutate::{config, hostile_text};

const LINES: &[&str] = &[
    "--format=json\n-r\npeers:0\n-\napp/1",
    "--app\n--file\n-\n--output=x",
    "-r7\nx\n--\n--app",
    "--application=false\n--\nactive\nprimary",
];

const REQUESTS: &[&str] = &[
    r#""Ping""#,
    r#"{"AddUnit":{"application":"app","count":3,"attach_storage":["data/0"]}}"#,
    r#"{"HookTool":{"tool":"relation-get","context":"app/0-1","arguments":["-"],"directory":"/","stdin":null}}"#,
    r#"{"RemoveUnit":{"units":["app/0"],"how":{"force":true,"no_wait":false,"destroy_storage":false}}}"#,
];

fn text(fault: &Fault) -> &str {
    match fault {
        Fault::Usage(text) | Fault::Failed(text) => text,
        Fault::WantsStdin => "",
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn any_flags_are_read_or_refused(line in hostile_text(LINES)) {
        let arguments: Vec<String> = line.split('\n').map(str::to_owned).collect();
        match parse(&arguments, &["app", "application"], &["format", "output o", "relation r", "file"]) {
            Ok(flags) => prop_assert!(flags.rest.len() <= arguments.len()),
            Err(fault) => prop_assert!(!text(&fault).is_empty()),
        }
    }

    #[test]
    fn any_settings_are_read_or_refused(given in hostile_text(&["a: b\nc: '1'\n", r#"{"state":"\"member\"","x":""}"#])) {
        match yaml_map(&given) {
            Ok(map) => prop_assert!(map.values().map(String::len).sum::<usize>() <= 128 * 1024 * 1024),
            Err(fault) => prop_assert!(text(&fault).starts_with("cannot read settings")),
        }
    }

    #[test]
    fn any_port_is_read_or_refused(given in hostile_text(&["6379/tcp", "8000-8010/udp", "icmp", "6379"])) {
        match port(&given) {
            Ok(shown) => prop_assert_eq!(port(&shown), Ok(shown.clone())),
            Err(error) => prop_assert!(!error.is_empty()),
        }
    }

    #[test]
    fn any_expiry_is_read_or_refused(given in hostile_text(&["24h", "1h30m", "2026-09-01T10:00:00Z", "0.5s"])) {
        match expiry(&given) {
            Ok(_) => {}
            Err(fault) => prop_assert!(text(&fault).contains("not valid")),
        }
    }

    #[test]
    fn any_secret_is_named_without_its_model(given in hostile_text(&["secret:9m4e2mr0", "secret://model/9m4e2mr0"])) {
        let id = id_of(&given);
        prop_assert!(!id.contains('/'));
        prop_assert!(!is_key(&given) || given.len() >= 3);
    }

    #[test]
    fn any_request_is_understood_or_refused(line in hostile_text(REQUESTS)) {
        if let Err(error) = serde_json::from_str::<Request>(&line) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
