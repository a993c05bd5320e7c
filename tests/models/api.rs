//! What goes in and out of the models: plain data, hosts as text.

use valkey_operator::planner::observation::Process;

/// Virtual milliseconds since the world began.
pub type Millis = u64;

/// Times and limits by which the models live, in milliseconds unless said.
#[derive(Debug, Clone)]
pub struct Timings {
    /// Time between two rounds of a process's own timers: Sentinel's and a server's cron run ten times a second.
    pub tick: Millis,
    /// How long a Sentinel that has been tuned stays in TILT.
    pub tilt_period: Millis,
    /// How long a Sentinel that was just started stays in TILT.
    pub tilt_period_default: Millis,
    /// Time between two `INFO` of a Sentinel once it has been tuned.
    pub info_period: Millis,
    /// Time between two `INFO` of a Sentinel that was just started.
    pub info_period_default: Millis,
    /// Time between two hellos of a Sentinel once it has been tuned.
    pub hello_period: Millis,
    /// Time between two hellos of a Sentinel that was just started.
    pub hello_period_default: Millis,
    /// Time between two `PING` of a Sentinel once it has been tuned.
    pub ping_period: Millis,
    /// Time between two `PING` of a Sentinel that was just started.
    pub ping_period_default: Millis,
    /// Silence after which an instance counts as down.
    pub down_after: Millis,
    /// Limit of each phase of Sentinel's failover.
    pub failover_timeout: Millis,
    /// Replicas that Sentinel points to a new primary at the same time.
    pub parallel_syncs: usize,
    /// `min-replicas-max-lag`.
    pub max_lag: Millis,
    /// Silence after which a replication link is dropped.
    pub repl_timeout: Millis,
    /// Time between two pings of a primary to its replicas.
    pub repl_ping: Millis,
    /// Bytes that the backlog for partial resynchronisations holds.
    pub backlog_bytes: u64,
    /// Bytes that one write adds to the stream.
    pub write_bytes: u64,
    /// Bytes that every data set has beside its writes: more make loads and synchronisations longer.
    pub base_bytes: u64,
    /// Bytes that a full synchronisation moves, or a start loads, in a millisecond.
    pub load_bytes_per_ms: u64,
    /// Least time of a full synchronisation.
    pub full_sync: Millis,
    /// Longest time until a full synchronisation begins.
    pub full_sync_delay: Millis,
    /// Least time from the start of a process to its first answer.
    pub start: Millis,
    /// Whether every write goes to the append-only file (`persistence=aof`).
    pub append_only: bool,
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct ServerStart {
    /// Host that it follows from its first moment.
    pub follow: Option<String>,
    /// `min-replicas-to-write`.
    pub min_replicas: u64,
    /// `replica-priority`; the charm starts every server with 0.
    pub priority: u64,
    /// Whether it starts from the snapshot on disk (as after an orderly stop) instead of the log.
    pub from_snapshot: bool,
}

/// How a Sentinel is started.
#[derive(Debug, Clone)]
pub struct SentinelStart {
    /// Host of the primary; used if there is no file, or `fresh` is asked for.
    pub monitor: String,
    /// Quorum; used as `monitor` is.
    pub quorum: usize,
    /// Whether an earlier file is replaced by a new one. Its id stays lost.
    pub fresh: bool,
}

/// What becomes of a machine's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It is as it was, less what had not reached it.
    Kept,
    /// It is empty.
    Lost,
}

/// Why something got no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there: refused at once.
    Refused,
    /// No packet comes back: costs the time limit for connecting.
    Unreachable,
    /// Connected, but no answer (frozen): costs the time limit for commands. The command is still
    /// carried out when the process wakes, if it is a write.
    Silent,
    /// It loads its data set.
    Loading,
    /// It is a replica.
    ReadOnly,
    /// Too few good replicas (`min-replicas-to-write`).
    NoReplicas,
    /// Writing to disk fails, so that writes are refused.
    Misconf,
    /// Writes are held back; nothing was done, and a client that waits asks again in a moment.
    Paused,
    /// Anything else, in the process's words.
    Error(String),
}

/// A command to a server.
#[derive(Debug, Clone)]
pub enum ServerCommand {
    /// `PING`.
    Ping,
    /// `INFO`, `CONFIG GET` and `DBSIZE` in one: [`Reply::Server`].
    Info,
    /// `CONFIG SET replica-priority`.
    SetPriority(u64),
    /// `CONFIG SET min-replicas-to-write`.
    SetMinReplicas(u64),
    /// `REPLICAOF host` or `REPLICAOF NO ONE`.
    ReplicaOf(Option<String>),
    /// `FAILOVER TO target TIMEOUT ms`.
    FailoverTo {
        /// The target.
        target: String,
        /// Longest that writes are held back.
        timeout: Millis,
    },
    /// `FAILOVER ABORT`.
    FailoverAbort,
    /// `CLIENT PAUSE ms WRITE`.
    PauseWrites(Millis),
    /// `CLIENT UNPAUSE`.
    Unpause,
    /// `REPLCONF GETACK *` on an ordinary connection: a replica acknowledges at once.
    GetAck,
    /// A client's write: [`Reply::Written`].
    Write {
        /// Which client.
        client: u32,
    },
    /// `WAIT`: asks the replicas to acknowledge; [`Reply::Count`] of those that have everything by
    /// now. A caller that wants more asks again until its own limit.
    Wait,
    /// Takes or renews the lease: [`Reply::Lease`].
    LeaseTake {
        /// Whose.
        token: String,
        /// For how long.
        ttl: Millis,
    },
    /// Gives the lease back: [`Reply::Bool`].
    LeaseRelease {
        /// Whose.
        token: String,
    },
    /// Asks who holds it: [`Reply::Holder`].
    LeaseHolder,
    /// `FLUSHALL`.
    FlushAll,
    /// `BGSAVE`: a snapshot of the present data.
    Save,
    /// `SHUTDOWN SAVE` or `NOSAVE`: replicas get the rest, the snapshot is written, the process ends.
    Shutdown {
        /// Whether the data is saved.
        save: bool,
    },
}

/// A command to a Sentinel.
#[derive(Debug, Clone)]
pub enum SentinelCommand {
    /// `SENTINEL MYID`, `PRIMARY`, `REPLICAS`, `SENTINELS`, `INFO` in one: [`Reply::Sentinel`].
    Look,
    /// The highest epoch that it knows, as the charm asks for it: [`Reply::Epoch`].
    KnownEpoch,
    /// `IS-PRIMARY-DOWN-BY-ADDR` with a candidate: [`Reply::Vote`].
    Vote {
        /// Host of the primary that it is about.
        primary: String,
        /// Epoch of the vote.
        epoch: u64,
        /// Id of the candidate.
        candidate: String,
    },
    /// `PUBLISH __sentinel__:hello`.
    Hello(Hello),
    /// `RESET`.
    Reset,
    /// `SET … quorum`.
    SetQuorum(usize),
    /// `SET … down-after-milliseconds`.
    SetDownAfter(Millis),
    /// `DEBUG info-period … publish-period … tilt-period …` with the charm's, forgotten by a restart.
    ShortenPeriods,
    /// `MONITOR`; refused if it monitors already.
    Monitor {
        /// Host of the primary.
        primary: String,
        /// Quorum.
        quorum: usize,
    },
    /// `REMOVE`.
    Remove,
    /// `FAILOVER`, the plain one, which nobody elects.
    Failover,
}

/// A hello, from or in the name of a Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its host.
    pub host: String,
    /// Its id.
    pub id: String,
    /// Its current epoch.
    pub current_epoch: u64,
    /// Host of the primary that it names.
    pub primary: String,
    /// Epoch of that configuration.
    pub config_epoch: u64,
}

/// An acknowledged or attempted write, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// A good answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Done.
    Done,
    /// A number.
    Count(u64),
    /// Yes or no.
    Bool(bool),
    /// The write was acknowledged.
    Written(WriteId),
    /// What a server says about itself.
    Server(Box<ServerFacts>),
    /// What a Sentinel says about itself.
    Sentinel(Box<SentinelFacts>),
    /// The highest epoch known.
    Epoch(u64),
    /// A vote.
    Vote {
        /// Epoch in which it was given.
        epoch: u64,
        /// Whom it was given to; nobody if it has not voted.
        leader: Option<String>,
    },
    /// What became of taking the lease.
    Lease(LeaseReply),
    /// Who holds the lease, and for how many more milliseconds.
    Holder(Option<(String, Millis)>),
}

/// What became of taking the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseReply {
    /// Nobody held it.
    Taken,
    /// The caller held it.
    Renewed,
    /// Somebody else holds it.
    HeldBy(String),
}

/// A planned failover of a server's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverState {
    /// None.
    None,
    /// Writes are held back until the target has everything.
    WaitingForSync,
    /// The target is being promoted.
    InProgress,
}

/// What a server says about itself, in more detail than the planner wants to know.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct ServerFacts {
    /// Host of the primary that it follows; `None` on a primary.
    pub follows: Option<String>,
    /// Whether its link to the primary is up; true on a primary.
    pub link_up: bool,
    /// Whether a full synchronisation is under way.
    pub syncing: bool,
    /// Whether it loads its data from disk.
    pub loading: bool,
    /// Replication id.
    pub history: String,
    /// Earlier replication id, and the first offset that is not part of it (`second_repl_offset`).
    pub earlier: Option<(String, u64)>,
    /// Offset in bytes.
    pub offset: u64,
    /// `replica-priority`.
    pub priority: u64,
    /// `min-replicas-to-write`.
    pub min_replicas: u64,
    /// Replicas that are attached to it.
    pub replicas: Vec<AttachedFacts>,
    /// Planned failover under way.
    pub failover: FailoverState,
    /// Whether the last write to disk failed.
    pub disk_trouble: bool,
    /// Number of keys.
    pub keys: u64,
}

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFacts {
    /// Its host.
    pub host: String,
    /// Whether its state is `online`.
    pub online: bool,
    /// Offset that it acknowledged; 0 before its first acknowledgement, when nothing streams yet.
    pub offset: u64,
    /// Seconds since it acknowledged.
    pub lag_s: u64,
}

/// What a Sentinel says about itself, in more detail than the planner wants to know.
#[derive(Debug, Clone, PartialEq)]
pub struct SentinelFacts {
    /// Its id.
    pub id: String,
    /// Whether it takes no decisions after its clock jumped.
    pub tilted: bool,
    /// What it monitors.
    pub view: Option<SentinelView>,
}

/// What a Sentinel thinks of the primary.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent flags")]
pub struct SentinelView {
    /// Host that it names as the primary (of the promoted replica, during the last phase of a failover).
    pub primary: String,
    /// Epoch of that configuration.
    pub config_epoch: u64,
    /// Its current epoch.
    pub current_epoch: u64,
    /// `s_down`.
    pub down: bool,
    /// Milliseconds since it became so.
    pub down_for_ms: Millis,
    /// `o_down`.
    pub agreed_down: bool,
    /// Whether a failover is under way here.
    pub failing_over: bool,
    /// Whether that failover has promoted somebody, of whom the rest is told.
    pub promoted: bool,
    /// Its quorum.
    pub quorum: usize,
    /// Its time until silence counts as down.
    pub down_after: Millis,
    /// Other Sentinels that it knows.
    pub others: Vec<KnownSentinel>,
    /// Replicas that it knows.
    pub replicas: Vec<KnownReplica>,
}

/// A Sentinel that another one knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSentinel {
    /// Its host.
    pub host: String,
    /// Its id.
    pub id: String,
    /// `s_down`.
    pub down: bool,
}

/// A replica that a Sentinel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownReplica {
    /// Its host.
    pub host: String,
    /// Run id of its process, empty before its first `INFO`.
    pub run_id: String,
    /// `s_down`.
    pub down: bool,
    /// Whether its link to the primary was up in its last `INFO`.
    pub link_up: bool,
    /// Its priority in its last `INFO`.
    pub priority: u64,
    /// Its offset in its last `INFO`.
    pub offset: u64,
}

/// What a Sentinel published on one of its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// When.
    pub at: Millis,
    /// Channel, like `+switch-master`.
    pub channel: &'static str,
    /// Host that it is about; of `+switch-master` the new primary.
    pub host: String,
}

/// What is on and runs on a machine, as far as servers and Sentinels are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct LocalFacts {
    /// The server's process; a frozen one runs.
    pub server: Process,
    /// Sentinel's process.
    pub sentinel: Process,
    /// Whether the disk holds a data set.
    pub has_data: bool,
    /// Whether an append-only file is part of it.
    pub has_log: bool,
    /// Whether a snapshot is part of it.
    pub has_snapshot: bool,
    /// Bytes of it.
    pub data_bytes: u64,
    /// Whether Sentinel's own file is there.
    pub has_sentinel_file: bool,
    /// When the machine started.
    pub booted_at: Millis,
}

/// A write that a server acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which.
    pub write: WriteId,
    /// When.
    pub at: Millis,
    /// Which client's.
    pub client: u32,
    /// By which server, as [`super::Cluster::host_name`] numbers them.
    pub by: usize,
    /// Whether it was carried out after its process had been frozen; its client may have given up.
    pub late: bool,
}
