//! What a hand-over is given, and what it tells afterwards.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::HANDOVER_PAUSE_LIMIT;
use crate::valkey::{Endpoint, ValkeyError};

/// What is to be done; the caller has chosen the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverPlan {
    /// The present primary.
    pub from: Endpoint,
    /// The replica that takes over.
    pub to: Endpoint,
    /// The other replicas; they are pointed to the new primary. Dead ones may be among them.
    pub others: Vec<Endpoint>,
    /// All Sentinels that belong to the application, dead ones too: the majority is of these.
    pub sentinels: Vec<Endpoint>,
    /// Servers that are about to leave: none of them may be the target.
    pub leaving: Vec<Endpoint>,
    /// Whether to go on when fewer than a majority of the Sentinels can be reached at all. Without
    /// a majority no failover of their own can win either, so nobody competes.
    pub allow_minority: bool,
    /// Whether to close the clients' connections to the old primary, so that they look for the
    /// new one instead of reading on.
    pub close_clients: bool,
    /// Longest that writes may be held back.
    pub pause_limit: Duration,
}

impl HandoverPlan {
    /// Makes a plan with the usual limits that closes the clients' connections.
    #[must_use]
    pub const fn new(
        from: Endpoint,
        to: Endpoint,
        others: Vec<Endpoint>,
        sentinels: Vec<Endpoint>,
    ) -> Self {
        Self {
            from,
            to,
            others,
            sentinels,
            leaving: Vec::new(),
            allow_minority: false,
            close_clients: true,
            pause_limit: HANDOVER_PAUSE_LIMIT,
        }
    }
}

/// The way in which the role changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandoverPath {
    /// The primary's own `FAILOVER TO`.
    ServerFailover,
    /// Writes paused, offsets equal, `REPLICAOF` by the charm.
    PauseAndReplicaof,
    /// The old primary was dead: the best replica was promoted.
    Promotion,
}

/// Votes and hellos.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The epoch that was won.
    pub epoch: u64,
    /// Votes that the charm got in it.
    pub votes: usize,
    /// Votes that were needed: the majority of all Sentinels.
    pub needed: usize,
    /// Epochs tried until it was won.
    pub attempts: usize,
    /// Sentinels that name the new primary.
    pub told: Vec<Endpoint>,
    /// Sentinels that do not, because they are dead or know no other Sentinel.
    pub untold: Vec<Endpoint>,
}

/// How long each part took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Connecting and checking, before anything changed.
    pub check_ms: u64,
    /// Winning the votes.
    pub votes_ms: u64,
    /// From holding writes back until the target was primary: the gap that clients see.
    pub pause_ms: u64,
    /// Telling Sentinels and other replicas.
    pub tell_ms: u64,
    /// Proving the result.
    pub verify_ms: u64,
}

/// What happened in a hand-over that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverRecord {
    /// When it was done.
    pub at: jiff::Timestamp,
    /// The primary before.
    pub from: Endpoint,
    /// The primary now.
    pub to: Endpoint,
    /// The way that worked.
    pub path: HandoverPath,
    /// Why a faster way was not taken, if it was tried.
    pub fallback_reason: Option<String>,
    /// Last offset of the old primary, in bytes; `None` if it was dead.
    pub old_offset: Option<u64>,
    /// Offset at which the new primary began its own history, in bytes.
    pub new_offset: u64,
    /// Votes and hellos.
    pub tally: Tally,
    /// Replicas that could not be pointed to the new primary; Sentinel does it later.
    pub not_following: Vec<Endpoint>,
    /// Connections of clients closed on the old primary.
    pub clients_closed: usize,
    /// Durations.
    pub phases: Phases,
}

/// Why a hand-over was not done, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoverError {
    /// A server is not in the state that the plan supposes; nothing was changed.
    #[error("cannot hand over: {who} is not fit: {why}")]
    Unfit {
        /// Which server.
        who: Endpoint,
        /// What is wrong with it.
        why: String,
    },
    /// The Sentinels do not agree, or are busy with a failover; nothing was changed.
    #[error("cannot hand over: Sentinel {who}: {why}")]
    Sentinels {
        /// Which Sentinel.
        who: Endpoint,
        /// What it says.
        why: String,
    },
    /// Not enough votes; the old primary serves on.
    #[error(
        "cannot hand over: {votes} of {needed} needed votes of Sentinels, {reachable} of them answer"
    )]
    NoMajority {
        /// Votes got at best.
        votes: usize,
        /// Votes needed.
        needed: usize,
        /// Sentinels that answered.
        reachable: usize,
    },
    /// The target did not get everything in time; the old primary serves on.
    #[error("cannot hand over: the promotion was given up, {from} serves on: {why}")]
    Aborted {
        /// The old primary.
        from: Endpoint,
        /// Why.
        why: String,
    },
    /// Servers stopped answering midway: look again before anything is changed.
    #[error("cannot tell whether the role went to {to}: {why}")]
    Unknown {
        /// The target.
        to: Endpoint,
        /// What is not known.
        why: String,
    },
    /// The target is primary, but what follows is not complete: look again and go on.
    #[error("the role went to {to}, but not everything followed: {why}")]
    Incomplete {
        /// The new primary.
        to: Endpoint,
        /// What is missing.
        why: String,
    },
    /// The operating system gave no random numbers.
    #[error("cannot hand over: the system gave no random numbers: {0}")]
    Random(String),
    /// A server did not answer as it should; the text of the source says at what.
    #[error("cannot hand over while {doing}: {source}")]
    Valkey {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        source: ValkeyError,
    },
}

impl HandoverError {
    /// Whether the target is the primary already: then go forward, not back.
    #[must_use]
    pub const fn is_promoted(&self) -> bool {
        matches!(self, Self::Incomplete { .. })
    }
}
