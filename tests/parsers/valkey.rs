//! What servers and Sentinels say, as text: `INFO`, hellos, announcements, versions, endpoints, passwords.

use std::collections::BTreeMap;

use proptest::prelude::*;
use valkey_operator::limits::{
    HOST_NAME_MAX_BYTES, PASSWORD_MAX_BYTES, REPLICAS_MAX, REPLY_WORD_MAX_BYTES,
};
use valkey_operator::valkey::events::{self, SentinelEvent};
use valkey_operator::valkey::hello::Hello;
use valkey_operator::valkey::{Credentials, Endpoint, InternalUser, Password, ServerInfo, Version};

use super::mutate::{assert_clear, config, hostile_text};

const INFO: &[&str] = &[
    include_str!("corpus/8.0.1/info-primary.resp"),
    include_str!("corpus/8.0.1/info-replica.resp"),
    include_str!("corpus/8.0.1/info-replica-cut.resp"),
    include_str!("corpus/9.1.2/info-primary.resp"),
    include_str!("corpus/9.1.2/info-replica.resp"),
    include_str!("corpus/9.1.2/info-replica-cut.resp"),
];

const HELLOS: &[&str] = &[
    include_str!("corpus/8.0.1/hellos.txt"),
    include_str!("corpus/9.1.2/hellos.txt"),
];

const EVENTS: &[&str] = &[
    include_str!("corpus/8.0.1/events.txt"),
    include_str!("corpus/9.1.2/events.txt"),
];

fn hellos() -> Vec<&'static str> {
    HELLOS.iter().flat_map(|file| file.lines()).collect()
}

fn announcements() -> Vec<(&'static str, &'static str)> {
    let lines = EVENTS.iter().flat_map(|file| file.lines());
    lines.filter_map(|line| line.split_once('\t')).collect()
}

/// All texts that an `INFO` leaves behind, none of which may be as long as the sender likes.
fn words(info: &ServerInfo) -> Vec<&str> {
    let mut words = vec![info.run_id.as_str(), info.replid.as_str()];
    words.extend(info.replid2.as_deref());
    words.extend(info.replicas.iter().map(|replica| replica.state.as_str()));
    words
}

#[test]
fn captured_replies_are_understood() {
    for text in INFO {
        let info = ServerInfo::parse(text).expect("a real INFO");
        assert!(
            info.version.is_some() && info.run_id.len() == 40 && info.replid.len() == 40,
            "{info:?}"
        );
    }
    for text in hellos() {
        assert_eq!(text.parse::<Hello>().unwrap().to_string(), text);
    }
    for (channel, payload) in announcements() {
        let event = events::parse(channel, payload);
        let known = !matches!(event, SentinelEvent::Other(_));
        // What nobody subscribes to, and what names no instance.
        let apart = ["+new-epoch", "+vote-for-leader", "+config-update-from"].contains(&channel);
        assert!(known || apart, "{channel} {payload}: {event:?}");
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_info_is_read_within_bounds(text in hostile_text(INFO)) {
        if let Some(info) = ServerInfo::parse(&text) {
            prop_assert!(info.replicas.len() <= REPLICAS_MAX);
            for word in words(&info) {
                prop_assert!(word.len() <= REPLY_WORD_MAX_BYTES, "{} bytes", word.len());
            }
        }
    }

    #[test]
    fn any_hello_is_read_or_refused(text in hostile_text(&hellos())) {
        match text.parse::<Hello>() {
            Ok(hello) => {
                let written = hello.to_string();
                prop_assert_eq!(written.parse::<Hello>().unwrap(), hello);
                prop_assert!(written.len() < 2 * HOST_NAME_MAX_BYTES + 200);
            }
            Err(error) => assert_clear(&error.to_string()),
        }
    }

    #[test]
    fn any_announcement_is_read_within_bounds(
        (channel, payload) in proptest::sample::select(announcements())
            .prop_flat_map(|(channel, payload)| (hostile_text(&[channel]), hostile_text(&[payload]))),
    ) {
        let event = events::parse(&channel, &payload);
        let kept = format!("{event:?}");
        prop_assert!(kept.len() < 4 * HOST_NAME_MAX_BYTES + 1000);
    }

    #[test]
    fn a_version_is_found_or_refused(
        text in hostile_text(&["Valkey server v=9.1.2 sha=00000000:0 malloc=libc bits=64 build=x", "8.0.1", "9.0.0-rc1"]),
    ) {
        match text.parse::<Version>() {
            Ok(version) => prop_assert_eq!(version.to_string().parse::<Version>().unwrap(), version),
            Err(error) => assert_clear(&error.to_string()),
        }
    }

    #[test]
    fn an_endpoint_is_read_or_refused_and_goes_into_no_second_word(
        text in hostile_text(&["10.1.2.3:6379", "[fd00::1]:6379", "[fe80::1%eth0]:1", "valkey-0.valkey-endpoints.m.svc:26379"]),
    ) {
        match text.parse::<Endpoint>() {
            Ok(endpoint) => {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint.clone());
                let json = serde_json::to_string(&endpoint).unwrap();
                prop_assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint.clone());
                prop_assert!(endpoint.host().len() <= HOST_NAME_MAX_BYTES);
                // A leading `-` has a meaning of its own in `bind`, and for programs.
                prop_assert!(endpoint.host().chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c)));
                prop_assert!(!endpoint.host().starts_with('-'));
            }
            Err(error) => assert_clear(&error.to_string()),
        }
    }

    #[test]
    fn a_password_is_one_plain_word_or_refused_unseen(text in hostile_text(&["abcDEF0123-_", "S3cr3t!$%&/()=?"])) {
        match Password::new(text.clone()) {
            Ok(password) => {
                prop_assert!(password.expose().len() <= PASSWORD_MAX_BYTES);
                prop_assert!(password.expose().chars().all(|c| c.is_ascii_graphic()));
                let shown = format!("{password:?}");
                prop_assert!(text.len() < 4 || !shown.contains(&text));
            }
            Err(error) => {
                assert_clear(&error.to_string());
                prop_assert!(text.len() < 8 || !error.to_string().contains(&text));
            }
        }
    }

    #[test]
    fn passwords_survive_a_secret_or_are_refused_unseen(
        spoilt in proptest::sample::select(InternalUser::ALL.to_vec()),
        text in hostile_text(&["abcDEF0123-_"]),
        missing in any::<bool>(),
    ) {
        let whole = Credentials::generate().unwrap();
        let mut content: BTreeMap<String, String> = whole.to_secret();
        let key = format!("{}-password", spoilt.name());
        if missing {
            content.remove(&key);
        } else {
            content.insert(key, text.clone());
        }
        match Credentials::from_secret(&content) {
            Ok(read) => prop_assert_eq!(read.to_secret(), content),
            Err(error) => {
                assert_clear(&error.to_string());
                prop_assert!(text.len() < 8 || !error.to_string().contains(&text));
            }
        }
    }
}
