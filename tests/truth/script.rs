//! A small language for what is done to a group of servers and Sentinels, and what is seen then:
//! the same script runs on the models and on real processes.

use std::fmt;

/// One thing to do or to see. Numbers are units, the first is 0.
#[derive(Debug, Clone, Copy)]
pub enum Do {
    /// `kill -9` of a server.
    Kill(usize),
    /// Starts a server with its data from the log, following another or nobody.
    Start(usize, Option<usize>),
    /// Deletes a server's data and starts it as a primary.
    StartEmpty(usize),
    /// Starts a server from its snapshot.
    StartSnapshot(usize, Option<usize>),
    /// `SHUTDOWN SAVE`.
    Shutdown(usize),
    /// `SIGSTOP` of a server.
    Freeze(usize),
    /// `SIGCONT` of a server.
    Thaw(usize),
    /// `SIGSTOP` of a Sentinel.
    FreezeSentinel(usize),
    /// `SIGCONT` of a Sentinel.
    ThawSentinel(usize),
    /// Kills a Sentinel.
    StopSentinel(usize),
    /// Starts a Sentinel with the file that it left, and tunes it.
    StartSentinel(usize),
    /// `REPLICAOF`, to a unit or to nobody.
    ReplicaOf(usize, Option<usize>),
    /// Plain `SENTINEL FAILOVER` on a Sentinel; its answer is noted.
    Failover(usize),
    /// `SENTINEL RESET`.
    Reset(usize),
    /// `SENTINEL SET quorum`.
    Quorum(usize, usize),
    /// `replica-priority`.
    Priority(usize, u64),
    /// `min-replicas-to-write` on all servers.
    MinReplicas(u64),
    /// Asks all Sentinels for their votes, one epoch above the highest known plus this; how many
    /// were given is noted.
    Votes(u64),
    /// `FAILOVER TO` from a primary to a replica.
    FailoverTo(usize, usize),
    /// `REPLCONF GETACK` to a replica.
    GetAck(usize),
    /// Tells all Sentinels in the epoch of the last votes that this unit is the primary.
    Hello(usize),
    /// Writes one key to a server; its answer is noted.
    Write(usize),
    /// Writes so many keys to a server, quietly, whatever it answers.
    Writes(usize, u32),
    /// Sends one write to a frozen server and does not wait for the answer.
    WriteLater(usize),
    /// Cuts a unit off from the others, in silence.
    CutOff(usize),
    /// Ends a cut.
    Heal(usize),
    /// Lets time pass, in milliseconds.
    Wait(u64),
    /// Waits until something is so; notes how long it took. A limit in milliseconds.
    Until(Cond, u64),
    /// Notes whether something is so.
    Is(Cond),
    /// Notes how many acknowledged writes a server lacks: none, or some.
    Missing(usize),
    /// Notes whether Sentinels' epoch rose since the last such note.
    Epoch,
    /// Notes what replicas got from a server's process since the last such note: `partial`, `full`.
    Copies(usize),
    /// Writes without pause to a server until it refuses; notes how long it took them.
    WriteUntilRefused(usize, u64),
}

/// Something that can be so.
#[derive(Debug, Clone, Copy)]
pub enum Cond {
    /// A server says that it is a primary.
    Primary(usize),
    /// A server says that it is a replica.
    Replica(usize),
    /// A server follows another, and the link is up.
    Follows(usize, usize),
    /// Any of all units but this one is a primary.
    OtherPrimary(usize),
    /// All Sentinels that answer name this unit.
    AllName(usize),
    /// A Sentinel names this unit.
    Names(usize, usize),
    /// A Sentinel takes the primary for down.
    Down(usize),
    /// A Sentinel knows so many others and so many promotable replicas.
    View(usize, usize, usize),
    /// A Sentinel lists so many others and so many replicas, dead ones too.
    Lists(usize, usize, usize),
    /// A Sentinel lists a replica with this priority.
    SeesPriority(usize, u64),
    /// A server has so many replicas that get its stream.
    Streams(usize, usize),
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLook {
    pub follows: Option<usize>,
    pub link_up: bool,
    pub streams: usize,
    pub copies: (u64, u64),
}

/// What a Sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelLook {
    pub names: usize,
    pub epoch: u64,
    pub down: bool,
    pub others: usize,
    /// Promotable replicas.
    pub replicas: usize,
    pub priorities: Vec<u64>,
    /// Others and replicas, dead ones too.
    pub listed: (usize, usize),
}

/// What was seen at one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// What has to be the same.
    Text(String),
    /// How long something took, in milliseconds.
    Took(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Took(ms) => write!(f, "{ms} ms"),
        }
    }
}

/// Somewhere a script can run: three units of which 0 is the primary, all known to each other.
pub trait World {
    /// Carries out what is no question; returns the answer where it is of interest.
    async fn act(&mut self, act: Do) -> Option<String>;
    /// Lets time pass.
    async fn wait(&mut self, ms: u64);
    /// Returns the time in milliseconds.
    fn now(&self) -> u64;
    /// Looks at a server.
    async fn server(&mut self, unit: usize) -> Option<ServerLook>;
    /// Looks at a Sentinel.
    async fn sentinel(&mut self, unit: usize) -> Option<SentinelLook>;
    /// Writes a key of its own; the answer in one word.
    async fn write(&mut self, unit: usize) -> String;
    /// Counts the acknowledged writes that a server lacks.
    async fn missing(&mut self, unit: usize) -> usize;
    /// Returns how many units there are.
    fn units(&self) -> usize;
}

async fn holds(world: &mut impl World, cond: Cond) -> bool {
    match cond {
        Cond::Primary(unit) => world
            .server(unit)
            .await
            .is_some_and(|look| look.follows.is_none()),
        Cond::Replica(unit) => world
            .server(unit)
            .await
            .is_some_and(|look| look.follows.is_some()),
        Cond::Follows(unit, of) => {
            let look = world.server(unit).await;
            look.is_some_and(|look| look.follows == Some(of) && look.link_up)
        }
        Cond::OtherPrimary(unit) => {
            for other in (0..world.units()).filter(|other| *other != unit) {
                if world
                    .server(other)
                    .await
                    .is_some_and(|look| look.follows.is_none())
                {
                    return true;
                }
            }
            false
        }
        Cond::AllName(unit) => {
            for at in 0..world.units() {
                if world
                    .sentinel(at)
                    .await
                    .is_some_and(|look| look.names != unit)
                {
                    return false;
                }
            }
            true
        }
        Cond::Names(at, unit) => world
            .sentinel(at)
            .await
            .is_some_and(|look| look.names == unit),
        Cond::Down(at) => world.sentinel(at).await.is_some_and(|look| look.down),
        Cond::View(at, others, replicas) => {
            let look = world.sentinel(at).await;
            look.is_some_and(|look| look.others == others && look.replicas == replicas)
        }
        Cond::Lists(at, others, replicas) => {
            let look = world.sentinel(at).await;
            look.is_some_and(|look| look.listed == (others, replicas))
        }
        Cond::SeesPriority(at, priority) => {
            let look = world.sentinel(at).await;
            look.is_some_and(|look| look.priorities.contains(&priority))
        }
        Cond::Streams(unit, count) => world
            .server(unit)
            .await
            .is_some_and(|look| look.streams == count),
    }
}

async fn epoch(world: &mut impl World) -> u64 {
    let mut highest = 0;
    for unit in 0..world.units() {
        highest = highest.max(world.sentinel(unit).await.map_or(0, |look| look.epoch));
    }
    highest
}

/// Runs a script; returns what was seen, step by step.
///
/// # Panics
///
/// When something that was waited for does not come about.
pub async fn run(name: &str, world: &mut impl World, steps: &[Do]) -> Vec<(Do, Value)> {
    let mut notes = Vec::new();
    let mut last_epoch = epoch(world).await;
    let mut copies = Vec::new();
    for unit in 0..world.units() {
        copies.push(world.server(unit).await.map_or((0, 0), |look| look.copies));
    }
    for step in steps {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let value = match *step {
            Do::Wait(ms) => {
                world.wait(ms).await;
                None
            }
            Do::Write(unit) => Some(Value::Text(world.write(unit).await)),
            Do::Writes(unit, count) => {
                for _ in 0..count {
                    world.write(unit).await;
                }
                None
            }
            Do::Until(cond, within) => {
                let start = world.now();
                while !holds(world, cond).await {
                    let waited = world.now() - start;
                    assert!(
                        waited < within,
                        "{name}: {step:?} is not so after {waited} ms; before: {notes:?}"
                    );
                    world.wait(10).await;
                }
                Some(Value::Took(world.now() - start))
            }
            Do::WriteUntilRefused(unit, within) => {
                let start = world.now();
                while world.write(unit).await == "ok" {
                    assert!(world.now() - start < within, "{name}: {step:?}: it goes on");
                    world.wait(10).await;
                }
                Some(Value::Took(world.now() - start))
            }
            Do::Is(cond) => text(if holds(world, cond).await {
                "yes"
            } else {
                "no"
            }),
            Do::Missing(unit) => text(if world.missing(unit).await == 0 {
                "none"
            } else {
                "some"
            }),
            Do::Epoch => {
                let now = epoch(world).await;
                let rose = now > last_epoch;
                last_epoch = now;
                text(if rose { "rose" } else { "same" })
            }
            Do::Copies(unit) => {
                let now = world.server(unit).await.map_or((0, 0), |look| look.copies);
                let (partial, full) = (
                    now.0.saturating_sub(copies[unit].0),
                    now.1.saturating_sub(copies[unit].1),
                );
                copies[unit] = now;
                let many = |count| if count > 0 { "yes" } else { "no" };
                Some(Value::Text(format!(
                    "partial {}, full {}",
                    many(partial),
                    many(full)
                )))
            }
            act => {
                if let Do::Kill(unit) | Do::Shutdown(unit) = act {
                    copies[unit] = (0, 0);
                }
                world.act(act).await.map(Value::Text)
            }
        };
        notes.extend(value.map(|value| (*step, value)));
    }
    notes
}
