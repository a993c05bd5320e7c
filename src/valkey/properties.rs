//! Properties of the readers of Valkey's and Sentinel's replies: real ones as they came over the wire, spoilt.

use proptest::prelude::*;
use redis::{Value, parse_redis_value};

use super::connection::pairs_of;
use super::sentinel_view::Vote;
use super::server_info::RoleReply;
use super::{PrimaryView, ReplicaView, SentinelPeer};
use crate::limits::{FLAGS_MAX, REPLICAS_MAX, REPLY_WORD_MAX_BYTES, SENTINELS_MAX};

#[path = "../../tests/parsers/mutate.rs"]
mod mutate;

use mutate::{config, hostile};

macro_rules! corpus {
    ($($name:literal),+ $(,)?) => {
        [$(
            include_bytes!(concat!("../../tests/parsers/corpus/8.0.1/", $name)).as_slice(),
            include_bytes!(concat!("../../tests/parsers/corpus/9.1.2/", $name)).as_slice(),
        )+]
    };
}

const REPLIES: &[&[u8]] = &corpus![
    "role-primary.resp",
    "role-replica.resp",
    "sentinel-primary.resp",
    "sentinel-primary-down.resp",
    "sentinel-replicas.resp",
    "sentinel-sentinels.resp",
    "sentinel-vote.resp",
    "config-get.resp",
];

fn reply(bytes: &[u8]) -> Option<Value> {
    parse_redis_value(bytes).ok()
}

fn short(word: &str) -> bool {
    word.len() <= REPLY_WORD_MAX_BYTES
}

#[test]
fn captured_replies_are_understood() {
    let replies: Vec<Value> = REPLIES.iter().map(|bytes| reply(bytes).unwrap()).collect();
    let (roles, rest) = replies.split_at(4);
    assert!(roles.iter().all(|value| RoleReply::parse(value).is_some()));
    for view in &rest[..4] {
        let view = PrimaryView::parse(view).unwrap();
        assert_eq!((view.quorum, view.other_sentinels), (2, 2), "{view:?}");
    }
    for (replicas, sentinels) in rest[4..6].iter().zip(&rest[6..8]) {
        assert_eq!(ReplicaView::parse_all(replicas).len(), 2);
        assert_eq!(SentinelPeer::parse_all(sentinels).len(), 2);
    }
    for vote in &rest[8..10] {
        assert!(Vote::parse(vote).is_some());
    }
    for settings in &rest[10..] {
        assert!(
            pairs_of(settings)
                .iter()
                .any(|(name, _)| name == "maxmemory")
        );
    }
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn any_reply_is_read_within_bounds(bytes in hostile(REPLIES.iter().map(|bytes| (*bytes).into()).collect())) {
        let Some(value) = reply(&bytes) else { return Ok(()) };
        if let Some(RoleReply::Primary { replicas, .. }) = RoleReply::parse(&value) {
            prop_assert!(replicas.len() <= REPLICAS_MAX);
        }
        if let Some(RoleReply::Replica { state, .. }) = RoleReply::parse(&value) {
            prop_assert!(short(&state));
        }
        if let Some(view) = PrimaryView::parse(&value) {
            prop_assert!(short(&view.run_id) && short(&view.role_reported));
            prop_assert!(view.failover_state.as_deref().is_none_or(short));
            prop_assert!(view.flags.iter().count() <= FLAGS_MAX && view.flags.iter().all(short));
        }
        let replicas = ReplicaView::parse_all(&value);
        prop_assert!(replicas.len() <= REPLICAS_MAX);
        prop_assert!(replicas.iter().all(|replica| short(&replica.run_id) && replica.flags.iter().all(short)));
        let sentinels = SentinelPeer::parse_all(&value);
        prop_assert!(sentinels.len() <= SENTINELS_MAX);
        prop_assert!(sentinels.iter().all(|sentinel| short(&sentinel.id) && sentinel.flags.iter().count() <= FLAGS_MAX));
        if let Some(vote) = Vote::parse(&value) {
            prop_assert!(vote.leader.as_deref().is_none_or(short));
        }
        // Nothing is made up: what is kept comes from the reply.
        prop_assert!(pairs_of(&value).iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= 3 * bytes.len() + 100);
    }
}
