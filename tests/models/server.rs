//! One server's state. What happens between servers is in `replication`.

use super::api::{FailoverState, Millis};
use super::data::{Branch, Data};

/// Number of an address; the same as long as the text is the same.
pub type Addr = usize;

/// Number of a machine.
pub type Host = usize;

/// A valkey-server, running or not.
#[derive(Debug, Clone)]
pub struct Server {
    /// Number of its process, unique among all; `None` while none runs.
    pub process: Option<u32>,
    /// From which its run id is made; changes with every start.
    pub run_id: u64,
    /// From when on it listens.
    pub up_from: Millis,
    /// Since when it is frozen.
    pub frozen_at: Option<Millis>,
    /// Until when it reads its data set from disk.
    pub loading_until: Option<Millis>,
    /// When in each second its timer for replication runs.
    pub phase: Millis,
    /// What it holds.
    pub data: Data,
    /// Earlier branch, and the first offset that is not part of it.
    pub earlier: Option<(Branch, u64)>,
    /// First offset of the backlog, if there is one.
    pub backlog_from: Option<u64>,
    /// Whom it follows; `None` makes it a primary.
    pub follow: Option<Follow>,
    /// `replica-priority`.
    pub priority: u64,
    /// `min-replicas-to-write`.
    pub min_replicas: u64,
    /// Replicas that are attached to it.
    pub attached: Vec<Attached>,
    /// Until when writes are held back by `CLIENT PAUSE`.
    pub paused_until: Millis,
    /// A planned failover under way.
    pub failover: Option<Failover>,
    /// When the replicas that count were counted last, apart from the timer.
    pub counted_at: Millis,
    /// After a freeze: until when the old count is used, and as of when it was.
    pub old_count: Option<(Millis, Millis)>,
    /// What arrived while it was frozen.
    pub queued: Vec<Queued>,
    /// Primary whose planned failover to this server arrived while it was frozen.
    pub queued_promotion: bool,
    /// When it added a ping to its stream last.
    pub pinged_at: Millis,
    /// Until when it writes its log anew after a copy, and refuses to stop.
    pub log_busy_until: Millis,
    /// Replicas that went on where they were, and copies that it gave, since its start.
    pub gave: (u64, u64),
    /// When something may happen by itself.
    pub wake: Millis,
}

/// Something that waits in a frozen server's connections.
#[derive(Debug, Clone)]
pub enum Queued {
    /// A client's write.
    Write(u32),
    /// `REPLICAOF`.
    ReplicaOf(Option<Addr>),
}

/// A replica's side of replication.
#[derive(Debug, Clone)]
pub struct Follow {
    /// Address of the primary that it was told.
    pub of: Addr,
    /// How far it is.
    pub link: Link,
    /// Since when the link is down; `None` while it is up or was never up.
    pub down_since: Option<Millis>,
    /// Whether it may ask to go on where it was.
    pub resumable: bool,
}

/// How far a replica is with its primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It tries at this time.
    Connect(Millis),
    /// It waits for an answer, since when.
    Asking(Millis),
    /// It receives a full copy of `copy` until then.
    Transfer {
        /// When it has all.
        until: Millis,
        /// What it will hold.
        copy: Data,
        /// From whom.
        from: Host,
        /// Which process.
        process: u32,
    },
    /// It reads that copy; its old data is gone.
    Loading {
        /// When it has read all.
        until: Millis,
        /// What it will hold.
        copy: Data,
        /// From whom.
        from: Host,
        /// Which process.
        process: u32,
        /// Whether it was empty before, so that the stream begins with its next acknowledgement.
        was_empty: bool,
    },
    /// It is in touch.
    Up {
        /// With whom.
        from: Host,
        /// Which process.
        process: u32,
        /// When something came last, while nothing does.
        silent_since: Option<Millis>,
    },
    /// The primary is gone; it reads what is still in its connection.
    Drain {
        /// How much of the old branch that is.
        rest: Data,
        /// When it has read it.
        until: Millis,
    },
}

/// A replica as its primary knows it.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Which machine.
    pub host: Host,
    /// Which process there.
    pub process: u32,
    /// Address that it announces.
    pub addr: Addr,
    /// Whether its first copy is done.
    pub online: bool,
    /// From when on it gets the stream.
    pub stream_from: Millis,
    /// Whether packets flow both ways and both processes work.
    pub flows: bool,
    /// Last acknowledgement that was settled: when, and of what.
    pub acked_at: Millis,
    /// See `acked_at`.
    pub acked: u64,
    /// Since when nothing flows.
    pub broken_at: Millis,
}

/// A planned failover of a server's own.
#[derive(Debug, Clone)]
pub struct Failover {
    /// The target's address.
    pub target: Addr,
    /// When it gives up.
    pub deadline: Millis,
    /// How far it is.
    pub state: FailoverState,
}

/// Returns the last time at or before `now` at which a timer of one second with this phase ran.
pub const fn second_before(now: Millis, phase: Millis) -> Millis {
    if now < phase {
        return 0;
    }
    now - (now - phase) % 1_000
}

impl Attached {
    /// Returns when it acknowledged last, as known at a time; by itself it does once a second.
    pub fn ack(&self, phase: Millis, now: Millis) -> Millis {
        if self.flows {
            second_before(now, phase).max(self.acked_at)
        } else {
            self.acked_at
        }
    }
}

impl Server {
    /// Makes a server that does not run.
    pub const fn stopped() -> Self {
        Self {
            process: None,
            run_id: 0,
            up_from: 0,
            frozen_at: None,
            loading_until: None,
            phase: 0,
            data: Data {
                branch: 0,
                offset: 0,
            },
            earlier: None,
            backlog_from: None,
            follow: None,
            priority: 0,
            min_replicas: 0,
            attached: Vec::new(),
            paused_until: 0,
            failover: None,
            counted_at: 0,
            old_count: None,
            queued: Vec::new(),
            queued_promotion: false,
            pinged_at: 0,
            log_busy_until: 0,
            gave: (0, 0),
            wake: Millis::MAX,
        }
    }

    /// Returns whether its process runs and is not frozen.
    pub const fn works(&self) -> bool {
        self.process.is_some() && self.frozen_at.is_none()
    }

    /// Returns whether it reads a data set, its own or a copy.
    pub const fn is_loading(&self) -> bool {
        self.loading_until.is_some()
            || matches!(
                &self.follow,
                Some(Follow {
                    link: Link::Loading { .. },
                    ..
                })
            )
    }

    /// Returns whether it is a primary by its own word.
    pub const fn is_primary(&self) -> bool {
        self.follow.is_none()
    }

    /// Returns whether its link is up; true for a primary.
    pub const fn link_up(&self) -> bool {
        match &self.follow {
            None => true,
            Some(follow) => matches!(follow.link, Link::Up { .. } | Link::Drain { .. }),
        }
    }

    /// Returns as of when replicas were counted for `min-replicas-to-write`.
    fn counted(&self, now: Millis) -> Millis {
        let now = self.frozen_at.unwrap_or(now);
        let timer = second_before(now, self.phase).max(self.counted_at);
        match self.old_count {
            Some((until, as_of)) if timer <= until => as_of,
            _ => timer,
        }
    }

    /// Returns how many replicas count; `phase_of` tells each one's phase.
    pub fn good_replicas(
        &self,
        now: Millis,
        max_lag: Millis,
        phase_of: impl Fn(Host) -> Millis,
    ) -> u64 {
        let counted = self.counted(now);
        let good = self.attached.iter().filter(|replica| {
            let acked = replica.ack(phase_of(replica.host), counted);
            replica.online && counted / 1_000 <= acked / 1_000 + max_lag / 1_000
        });
        u64::try_from(good.count()).unwrap_or(u64::MAX)
    }

    /// Counts the replicas anew with the next question, as is done when one comes or goes.
    pub const fn recount(&mut self, now: Millis) {
        if self.frozen_at.is_none() {
            self.counted_at = now;
            self.old_count = None;
        }
    }

    /// Notes that the count from before a freeze lasts until the timer runs.
    pub fn keep_count(&mut self, now: Millis) {
        let as_of = self.counted(now);
        self.old_count = Some((now, as_of));
    }
}
