//! What a Sentinel says about the primary, its replicas and the other Sentinels.

use std::collections::{BTreeSet, HashMap};

use redis::Value;
use serde::Serialize;

use crate::limits::{FLAGS_MAX, REPLICAS_MAX, SENTINELS_MAX};
use crate::valkey::Endpoint;
use crate::valkey::connection::{list_of, number_of, pairs_of, text_of, word_of};

/// Sentinel's flags of an instance, in its own words (`s_down`, `o_down`, `disconnected`, …).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Flags(BTreeSet<String>);

impl Flags {
    fn parse(text: &str) -> Self {
        Self(
            text.split(',')
                .filter(|flag| !flag.is_empty())
                .take(FLAGS_MAX)
                .map(word_of)
                .collect(),
        )
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.0.contains(flag)
    }

    /// Whether this Sentinel, or a quorum of them, takes the instance for down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.has("s_down") || self.has("o_down")
    }

    /// Whether a failover of this primary is under way.
    #[must_use]
    pub fn failover_in_progress(&self) -> bool {
        self.has("failover_in_progress")
    }

    /// Whether this Sentinel has no connection to the instance.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.has("disconnected")
    }

    /// All flags, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// One Sentinel's view of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrimaryView {
    /// Where it says that the primary is.
    pub address: Endpoint,
    /// The primary's run id, empty before its first `INFO`.
    pub run_id: String,
    /// Flags of the primary.
    pub flags: Flags,
    /// Epoch in which this primary was elected.
    pub config_epoch: u64,
    /// Sentinels that must agree before the primary is objectively down.
    pub quorum: u64,
    /// Other Sentinels that it knows.
    pub other_sentinels: u64,
    /// Replicas that it knows, dead ones too.
    pub replicas: u64,
    /// Phase of the failover under way.
    pub failover_state: Option<String>,
    /// Role that the primary itself reported last (`master` or `slave` on the wire).
    pub role_reported: String,
    /// Milliseconds since that report changed.
    pub role_reported_for_ms: u64,
    /// Milliseconds without an answer after which it counts as down.
    pub down_after_ms: u64,
    /// Time limit of a failover in milliseconds.
    pub failover_timeout_ms: u64,
    /// Replicas that are pointed to a new primary at the same time.
    pub parallel_syncs: u64,
    /// Milliseconds since the last `INFO` of the primary was read.
    pub info_age_ms: u64,
    /// Milliseconds for which this Sentinel has taken the primary for down, 0 while it does not.
    pub down_for_ms: u64,
}

/// One Sentinel's view of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicaView {
    /// Its address.
    pub address: Endpoint,
    /// Its run id, empty before its first `INFO`.
    pub run_id: String,
    /// Its flags.
    pub flags: Flags,
    /// Bytes of the stream that it had at its last `INFO`.
    pub offset: u64,
    /// Its priority at its last `INFO`; 0 is never promoted.
    pub priority: u64,
    /// Whether its link to the primary was up at its last `INFO`.
    pub link_up: bool,
    /// Whom it followed at its last `INFO`.
    pub primary: Option<Endpoint>,
    /// Milliseconds since that `INFO`.
    pub info_age_ms: u64,
    /// Milliseconds for which this Sentinel has taken it for down, 0 while it does not.
    pub down_for_ms: u64,
}

/// One Sentinel's view of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentinelPeer {
    /// Its address.
    pub address: Endpoint,
    /// Its id; it survives restarts as long as its configuration file does.
    pub id: String,
    /// Its flags.
    pub flags: Flags,
    /// The last epoch in which it voted, as far as this Sentinel was told.
    pub voted_epoch: u64,
    /// Milliseconds since its last hello.
    pub last_hello_ms: u64,
}

/// Whom a Sentinel gave its vote in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vote {
    /// Whether this Sentinel takes the primary for down.
    pub down: bool,
    /// The run id that has its vote; `None` if it never voted since it was reset.
    pub leader: Option<String>,
    /// The epoch of that vote.
    pub epoch: u64,
}

struct Fields(HashMap<String, String>);

impl Fields {
    fn of(value: &Value) -> Self {
        Self(pairs_of(value).into_iter().collect())
    }

    fn number(&self, name: &str) -> u64 {
        self.0
            .get(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    fn text(&self, name: &str) -> String {
        self.0
            .get(name)
            .map_or_else(String::new, |text| word_of(text))
    }

    fn endpoint(&self, host: &str, port: &str) -> Option<Endpoint> {
        Endpoint::new(self.0.get(host)?.as_str(), self.0.get(port)?.parse().ok()?).ok()
    }

    fn flags(&self) -> Flags {
        self.0
            .get("flags")
            .map_or_else(Flags::default, |text| Flags::parse(text))
    }
}

impl PrimaryView {
    /// Reads the reply to `SENTINEL MASTER`, `None` if it names no address.
    #[must_use]
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let fields = Fields::of(value);
        Some(Self {
            address: fields.endpoint("ip", "port")?,
            run_id: fields.text("runid"),
            flags: fields.flags(),
            config_epoch: fields.number("config-epoch"),
            quorum: fields.number("quorum"),
            other_sentinels: fields.number("num-other-sentinels"),
            replicas: fields.0.get("num-slaves").map_or_else(
                || fields.number("num-replicas"),
                |text| text.parse().unwrap_or(0),
            ),
            failover_state: fields.0.get("failover-state").map(|text| word_of(text)),
            role_reported: fields.text("role-reported"),
            role_reported_for_ms: fields.number("role-reported-time"),
            down_after_ms: fields.number("down-after-milliseconds"),
            failover_timeout_ms: fields.number("failover-timeout"),
            parallel_syncs: fields.number("parallel-syncs"),
            info_age_ms: fields.number("info-refresh"),
            down_for_ms: fields.number("s-down-time"),
        })
    }
}

impl ReplicaView {
    /// Reads one element of the reply to `SENTINEL REPLICAS`.
    fn parse(value: &Value) -> Option<Self> {
        let fields = Fields::of(value);
        Some(Self {
            address: fields.endpoint("ip", "port")?,
            run_id: fields.text("runid"),
            flags: fields.flags(),
            offset: fields.number("slave-repl-offset"),
            priority: fields.number("slave-priority"),
            link_up: fields.text("master-link-status") == "ok",
            primary: fields.endpoint("master-host", "master-port"),
            info_age_ms: fields.number("info-refresh"),
            down_for_ms: fields.number("s-down-time"),
        })
    }

    /// Returns the replica that the failover under way has promoted, once it has.
    ///
    /// From then on the Sentinel names that one to clients and to the other Sentinels and keeps it in its file; only
    /// `SENTINEL MASTER` goes on to show the address of the old primary, until the failover has ended.
    #[must_use]
    pub fn promoted<'a>(primary: &PrimaryView, replicas: &'a [Self]) -> Option<&'a Self> {
        let state = primary.failover_state.as_deref();
        let is_done = matches!(state, Some("reconf_slaves" | "update_config"));
        let mut replicas = replicas.iter();
        replicas.find(|replica| {
            is_done && primary.flags.failover_in_progress() && replica.flags.has("promoted")
        })
    }

    /// Reads the reply to `SENTINEL REPLICAS`; elements that are none are left out.
    #[must_use]
    pub(super) fn parse_all(value: &Value) -> Vec<Self> {
        list_of(value)
            .iter()
            .take(REPLICAS_MAX)
            .filter_map(Self::parse)
            .collect()
    }

    /// Whether Sentinel could promote it: seen, up, linked, with a priority.
    #[must_use]
    pub fn is_promotable(&self) -> bool {
        !self.flags.is_down() && !self.flags.is_disconnected() && self.link_up && self.priority > 0
    }
}

impl Vote {
    /// Reads the reply to `SENTINEL IS-MASTER-DOWN-BY-ADDR`, `None` if it is another one.
    #[must_use]
    pub(super) fn parse(value: &Value) -> Option<Self> {
        let [down, leader, epoch] = list_of(value) else {
            return None;
        };
        Some(Self {
            down: number_of(down) == Some(1),
            leader: text_of(leader)
                .filter(|id| id != "*")
                .map(|id| word_of(&id)),
            epoch: number_of(epoch)
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or(0),
        })
    }
}

impl SentinelPeer {
    fn parse(value: &Value) -> Option<Self> {
        let fields = Fields::of(value);
        Some(Self {
            address: fields.endpoint("ip", "port")?,
            id: fields.text("runid"),
            flags: fields.flags(),
            voted_epoch: fields.number("voted-leader-epoch"),
            last_hello_ms: fields.number("last-hello-message"),
        })
    }

    /// Reads the reply to `SENTINEL SENTINELS`; elements that are none are left out.
    #[must_use]
    pub(super) fn parse_all(value: &Value) -> Vec<Self> {
        list_of(value)
            .iter()
            .take(SENTINELS_MAX)
            .filter_map(Self::parse)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(words: &str) -> Value {
        Value::Array(
            words
                .split_whitespace()
                .map(|w| Value::BulkString(w.as_bytes().to_vec()))
                .collect(),
        )
    }

    #[test]
    fn views_are_understood() {
        let primary = PrimaryView::parse(&flat(
            "name primary ip 10.0.0.1 port 6379 runid ab flags s_down,master,failover_in_progress \
             config-epoch 3 num-slaves 2 num-other-sentinels 1 quorum 2 failover-state wait_start",
        ))
        .unwrap();
        assert!(primary.flags.is_down() && primary.flags.failover_in_progress());
        assert_eq!(
            (primary.config_epoch, primary.quorum, primary.replicas),
            (3, 2, 2)
        );
        assert_eq!(primary.failover_state.as_deref(), Some("wait_start"));

        let replicas = ReplicaView::parse_all(&Value::Array(vec![
            flat(
                "ip valkey-1.m port 6379 flags slave master-link-status ok slave-priority 100 \
                 slave-repl-offset 77 master-host ? master-port 0",
            ),
            flat("ip 10.0.0.3 port none"),
            Value::Nil,
        ]));
        assert_eq!(replicas.len(), 1);
        assert!(replicas[0].is_promotable() && replicas[0].primary.is_none());
        assert_eq!(PrimaryView::parse(&Value::Nil), None);
    }

    #[test]
    fn who_was_promoted_counts_from_when_it_was() {
        // As 8.0.1 and 9.1.2 answer while they point the other replicas to it.
        let of = |flags: &str, state: &str| {
            let flags = format!("ip 10.0.0.1 port 6379 flags {flags} failover-state {state}");
            PrimaryView::parse(&flat(&flags)).unwrap()
        };
        let replicas = ReplicaView::parse_all(&Value::Array(vec![
            flat("ip 10.0.0.2 port 6379 flags slave,reconf_inprog"),
            flat(
                "ip 10.0.0.3 port 6379 flags s_down,slave,disconnected,promoted s-down-time 33694",
            ),
        ]));
        let busy = "s_down,master,disconnected,failover_in_progress";
        for (flags, state, expected) in [
            (busy, "reconf_slaves", Some("10.0.0.3")),
            (busy, "update_config", Some("10.0.0.3")),
            // It is chosen, and not yet promoted.
            (busy, "wait_promotion", None),
            (busy, "wait_start", None),
            ("master", "none", None),
        ] {
            let found = ReplicaView::promoted(&of(flags, state), &replicas);
            assert_eq!(
                found.map(|it| it.address.host()),
                expected,
                "{flags} {state}"
            );
        }
        assert_eq!(replicas[1].down_for_ms, 33_694);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            "ip|port|flags|master|slave|[0-9]{1,22}|.{0,9}"
                .prop_map(|text| Value::BulkString(text.into_bytes())),
        ];
        leaf.prop_recursive(3, 40, 12, |inner| {
            prop::collection::vec(inner, 0..12).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn any_reply_is_read_without_panic(value in any_value()) {
            let _ = PrimaryView::parse(&value);
            let _ = ReplicaView::parse_all(&value);
            let _ = SentinelPeer::parse_all(&value);
            let _ = crate::valkey::server_info::RoleReply::parse(&value);
        }
    }
}
