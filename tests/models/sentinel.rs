//! One Sentinel: what it knows, what it keeps in its file, and its timer.
//!
//! The order of things is Valkey's own: in each round first the primary, then its replicas, then
//! the other Sentinels, and for each of them connect, ask, judge.

use super::api::{Millis, SentinelStart};
use super::cluster::{Cluster, Contact};
use super::mail::Letter;
use super::server::{Addr, Host};

/// Number from which a Sentinel's or a caller's id is made.
pub type Id = u64;

/// A loop that was blocked for longer than this puts Sentinel into TILT.
const TILT_TRIGGER: Millis = 2_000;

/// A Sentinel, running or not.
#[derive(Debug)]
pub struct Sentinel {
    pub process: Option<u32>,
    pub frozen_at: Option<Millis>,
    pub id: Id,
    pub current_epoch: u64,
    pub tilt_since: Option<Millis>,
    /// How long it stays in TILT.
    pub tilt_period: Millis,
    pub info_period: Millis,
    pub hello_period: Millis,
    pub ping_period: Millis,
    pub group: Option<Group>,
    pub wake: Millis,
    /// Letters that wait while it is frozen.
    pub inbox: Vec<Letter>,
}

/// What it thinks of the primary that it monitors and of everybody around it.
#[derive(Debug)]
pub struct Group {
    pub primary: Instance,
    pub config_epoch: u64,
    pub quorum: usize,
    pub down_after: Millis,
    pub agreed_down: bool,
    pub agreed_down_since: Millis,
    /// Whom it voted for, and in which epoch.
    pub leader: Option<Id>,
    pub leader_epoch: u64,
    pub state: State,
    pub failover_epoch: u64,
    pub failover_start: Millis,
    pub state_since: Millis,
    /// Whether a person asked for the failover, so that nobody elects.
    pub forced: bool,
    pub promoted: Option<Addr>,
    pub replicas: Vec<Instance>,
    pub others: Vec<Peer>,
}

/// How far a failover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    None,
    WaitStart,
    SelectReplica,
    SendNoOne,
    WaitPromotion,
    Reconfigure,
    UpdateConfig,
}

/// A connection to an instance, as a Sentinel sees it.
#[derive(Debug, Clone)]
pub struct Line {
    pub connected: bool,
    /// Which process it talks to; none while it connects or after the process ended.
    pub process: Option<u32>,
    pub tried: Millis,
    pub pinged: Millis,
    /// Oldest ping without an answer.
    pub unanswered: Option<Millis>,
    /// When something answered to a ping, acceptably or not.
    pub answered: Millis,
    /// When it answered acceptably.
    pub available: Millis,
}

/// A server as a Sentinel sees it.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Instance {
    pub addr: Addr,
    pub line: Line,
    pub published: Millis,
    pub down: bool,
    pub down_since: Millis,
    /// When it was asked for `INFO` last; 0 for never.
    pub info_at: Millis,
    pub says_primary: bool,
    pub role_since: Millis,
    pub run_id: Option<u64>,
    pub follows: Option<Addr>,
    pub follows_since: Millis,
    pub link_up: bool,
    /// `None` while the link is up; 0 if it never was.
    pub link_down_for: Option<Millis>,
    pub priority: u64,
    pub offset: u64,
    pub failing_over: bool,
    pub reconf: Reconf,
    pub reconf_at: Millis,
}

/// How far a replica is on its way to a new primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconf {
    None,
    Sent,
    Under,
    Done,
}

/// Another Sentinel.
#[derive(Debug, Clone)]
pub struct Peer {
    pub addr: Addr,
    pub id: Id,
    pub line: Line,
    pub published: Millis,
    pub down: bool,
    pub down_since: Millis,
    pub heard: Millis,
    pub says_down: bool,
    pub said_at: Millis,
    pub leader: Option<Id>,
    pub leader_epoch: u64,
}

/// What a Sentinel keeps in its file.
#[derive(Debug, Clone)]
pub struct SentinelFile {
    pub id: Id,
    pub current_epoch: u64,
    pub group: Option<FileGroup>,
}

/// What it keeps of the primary that it monitors.
#[derive(Debug, Clone)]
pub struct FileGroup {
    pub primary: Addr,
    pub quorum: usize,
    pub down_after: Millis,
    pub config_epoch: u64,
    pub leader_epoch: u64,
    pub replicas: Vec<Addr>,
    pub others: Vec<(Addr, Id)>,
}

impl FileGroup {
    fn into_group(self, now: Millis) -> Group {
        let mut group = Group::new(self.primary, self.quorum, self.down_after, now);
        group.config_epoch = self.config_epoch;
        group.leader_epoch = self.leader_epoch;
        let replicas = self.replicas.into_iter();
        group.replicas = replicas
            .map(|addr| Instance::new(addr, false, now))
            .collect();
        let others = self.others.into_iter();
        group.others = others.map(|(addr, id)| Peer::new(addr, id, now)).collect();
        group
    }
}

impl Line {
    pub const fn new(now: Millis) -> Self {
        Self {
            connected: false,
            process: None,
            tried: 0,
            pinged: 0,
            unanswered: Some(now),
            answered: now,
            available: now,
        }
    }

    const fn silence(&self, now: Millis) -> Millis {
        match self.unanswered {
            Some(since) => now - since,
            None if self.connected => 0,
            None => now - self.available,
        }
    }
}

impl Instance {
    pub const fn new(addr: Addr, is_primary: bool, now: Millis) -> Self {
        Self {
            addr,
            line: Line::new(now),
            published: 0,
            down: false,
            down_since: 0,
            info_at: 0,
            says_primary: is_primary,
            role_since: now,
            run_id: None,
            follows: None,
            follows_since: now,
            link_up: false,
            link_down_for: None,
            priority: 100,
            offset: 0,
            failing_over: false,
            reconf: Reconf::None,
            reconf_at: 0,
        }
    }

    /// Returns whether it was not down in the last while.
    pub const fn no_down_for(&self, for_ms: Millis, now: Millis) -> bool {
        self.down_since == 0 || now - self.down_since > for_ms
    }
}

impl Peer {
    pub const fn new(addr: Addr, id: Id, now: Millis) -> Self {
        Self {
            addr,
            id,
            line: Line::new(now),
            published: 0,
            down: false,
            down_since: 0,
            heard: 0,
            says_down: false,
            said_at: 0,
            leader: None,
            leader_epoch: 0,
        }
    }
}

impl Group {
    pub const fn new(primary: Addr, quorum: usize, down_after: Millis, now: Millis) -> Self {
        Self {
            primary: Instance::new(primary, true, now),
            config_epoch: 0,
            quorum,
            down_after,
            agreed_down: false,
            agreed_down_since: 0,
            leader: None,
            leader_epoch: 0,
            state: State::None,
            failover_epoch: 0,
            failover_start: 0,
            state_since: 0,
            forced: false,
            promoted: None,
            replicas: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Returns the address that it names to others.
    pub fn named(&self) -> Addr {
        self.named_instance().addr
    }

    /// Returns what it knows of the server that it names to others.
    pub fn named_instance(&self) -> &Instance {
        let mut replicas = self.replicas.iter();
        let promoted = replicas.find(|replica| Some(replica.addr) == self.promoted);
        promoted
            .filter(|_| self.has_promoted())
            .unwrap_or(&self.primary)
    }

    /// Returns whether the failover under way has promoted a replica.
    pub fn has_promoted(&self) -> bool {
        self.promoted.is_some() && self.state >= State::Reconfigure
    }

    /// Returns whether the primary can be relied upon.
    pub const fn is_sane(&self, info_period: Millis, now: Millis) -> bool {
        self.primary.says_primary
            && !self.primary.down
            && !self.agreed_down
            && now - self.primary.info_at < info_period * 2
    }

    /// Forgets what is known of the primary, its replicas, and the other Sentinels if `all`.
    pub fn reset(&mut self, all: bool, now: Millis) {
        self.replicas.clear();
        if all {
            self.others.clear();
        }
        let primary = &mut self.primary;
        let tried = primary.line.tried;
        primary.line = Line {
            tried,
            ..Line::new(now)
        };
        primary.down = false;
        primary.says_primary = true;
        primary.role_since = now;
        primary.run_id = None;
        self.agreed_down = false;
        self.leader = None;
        self.state = State::None;
        self.state_since = 0;
        self.failover_start = 0;
        self.forced = false;
        self.promoted = None;
    }
}

impl Sentinel {
    /// Makes a Sentinel that does not run.
    pub const fn stopped() -> Self {
        Self {
            process: None,
            frozen_at: None,
            id: 0,
            current_epoch: 0,
            tilt_since: None,
            tilt_period: 0,
            info_period: 0,
            hello_period: 0,
            ping_period: 0,
            group: None,
            wake: Millis::MAX,
            inbox: Vec::new(),
        }
    }

    /// Returns whether its process runs and is not frozen.
    pub const fn works(&self) -> bool {
        self.process.is_some() && self.frozen_at.is_none()
    }

    /// Sees to it that its timer runs by a time.
    pub fn wake_by(&mut self, at: Millis) {
        if self.works() {
            self.wake = self.wake.min(at);
        }
    }

    pub fn freeze(&mut self, now: Millis) {
        if self.process.is_some() {
            self.frozen_at = self.frozen_at.or(Some(now));
            self.wake = Millis::MAX;
        }
    }

    /// Returns what its file holds.
    pub fn file(&self) -> SentinelFile {
        SentinelFile {
            id: self.id,
            current_epoch: self.current_epoch,
            group: self.group.as_ref().map(|group| {
                let named = group.named();
                FileGroup {
                    primary: named,
                    quorum: group.quorum,
                    down_after: group.down_after,
                    config_epoch: group.config_epoch,
                    leader_epoch: group.leader_epoch,
                    replicas: group
                        .replicas
                        .iter()
                        .map(|replica| {
                            if replica.addr == named {
                                group.primary.addr
                            } else {
                                replica.addr
                            }
                        })
                        .collect(),
                    others: group
                        .others
                        .iter()
                        .map(|other| (other.addr, other.id))
                        .collect(),
                }
            }),
        }
    }
}

impl Cluster {
    /// Starts Sentinel from its file, or from what is given.
    pub(super) fn begin_sentinel(&mut self, host: Host, start: &SentinelStart) {
        let (now, process, new_id) = (self.now, self.next_process(), self.random_id());
        let monitor = self.addr(&start.monitor);
        let (tilt_period, info_period, hello_period, ping_period) = (
            self.timings.tilt_period_default,
            self.timings.info_period_default,
            self.timings.hello_period_default,
            self.timings.ping_period_default,
        );
        let down_after = self.timings.down_after;
        let wake = now + self.timings.start + self.random.u64(0..100);
        let machine = &mut self.hosts[host];
        let file = machine.disk.sentinel.clone().filter(|_| !start.fresh);
        let Some(sentinel) = machine
            .sentinel
            .as_deref_mut()
            .filter(|s| s.process.is_none())
        else {
            return;
        };
        *sentinel = Sentinel {
            process: Some(process),
            tilt_period,
            info_period,
            hello_period,
            ping_period,
            wake,
            ..Sentinel::stopped()
        };
        if let Some(file) = file {
            sentinel.id = file.id;
            sentinel.current_epoch = file.current_epoch;
            sentinel.group = file.group.map(|kept| kept.into_group(now));
        } else {
            sentinel.id = new_id;
            sentinel.group = Some(Group::new(monitor, start.quorum, down_after, now));
        }
        machine.disk.sentinel = Some(sentinel.file());
        self.stirred += 1;
    }

    pub(super) fn end_sentinel(&mut self, host: Host) {
        self.stirred += 1;
        if let Some(sentinel) = &mut self.hosts[host].sentinel {
            **sentinel = Sentinel::stopped();
        }
    }

    pub(super) fn unfreeze_sentinel(&mut self, host: Host) {
        let now = self.now;
        let Some(sentinel) = &mut self.hosts[host].sentinel else {
            return;
        };
        let Some(since) = sentinel.frozen_at.take() else {
            return;
        };
        if now - since > TILT_TRIGGER {
            sentinel.tilt_since = Some(now);
            sentinel.wake = now;
        }
        sentinel.wake = now;
        let tilted = sentinel.tilt_since == Some(now);
        let inbox = std::mem::take(&mut sentinel.inbox);
        let about = sentinel.group.as_ref().map(|group| group.primary.addr);
        if let Some(about) = about.filter(|_| tilted) {
            self.say(host, "+tilt", about);
        }
        for letter in inbox {
            self.deliver(letter);
        }
    }

    /// Runs a Sentinel's timer once.
    pub(super) fn sentinel_tick(&mut self, host: Host) {
        let Some(mut sentinel) = self.hosts[host].sentinel.take() else {
            return;
        };
        if sentinel.works() {
            if sentinel.group.is_some() {
                self.round(host, &mut sentinel);
            }
            sentinel.wake = self.next_round(&sentinel);
        } else {
            sentinel.wake = Millis::MAX;
        }
        self.hosts[host].sentinel = Some(sentinel);
    }

    /// Writes Sentinel's file.
    pub(super) fn flush(&mut self, host: Host, sentinel: &Sentinel) {
        if !self.hosts[host].full_disk {
            self.hosts[host].disk.sentinel = Some(sentinel.file());
        }
    }

    fn round(&mut self, host: Host, sentinel: &mut Sentinel) {
        let Some(mut group) = sentinel.group.take() else {
            return;
        };
        self.keep_primary_line(host, sentinel, &mut group);
        if !self.tilted(host, sentinel, group.primary.addr) {
            judge(
                self,
                host,
                &mut group.primary.line,
                &mut group.primary.down,
                &mut group.primary.down_since,
                group.primary.addr,
                {
                    let late = group.down_after + sentinel.info_period * 2;
                    !group.primary.says_primary && self.now - group.primary.role_since > late
                },
                group.down_after,
            );
            self.lead(host, sentinel, &mut group);
        }
        for index in 0..group.replicas.len() {
            self.keep_replica_line(host, sentinel, &mut group, index);
            if sentinel.tilt_since.is_none() && index < group.replicas.len() {
                let replica = &mut group.replicas[index];
                judge(
                    self,
                    host,
                    &mut replica.line,
                    &mut replica.down,
                    &mut replica.down_since,
                    replica.addr,
                    false,
                    group.down_after,
                );
            }
        }
        for index in 0..group.others.len() {
            self.keep_peer_line(host, sentinel, &mut group, index);
            if sentinel.tilt_since.is_none() {
                let peer = &mut group.others[index];
                judge(
                    self,
                    host,
                    &mut peer.line,
                    &mut peer.down,
                    &mut peer.down_since,
                    peer.addr,
                    false,
                    group.down_after,
                );
            }
        }
        let switch = group.state == State::UpdateConfig;
        sentinel.group = Some(group);
        if switch {
            self.switch_to_promoted(host, sentinel);
        }
    }

    fn tilted(&mut self, host: Host, sentinel: &mut Sentinel, about: Addr) -> bool {
        let Some(since) = sentinel.tilt_since else {
            return false;
        };
        if self.now - since < sentinel.tilt_period {
            return true;
        }
        sentinel.tilt_since = None;
        self.say(host, "-tilt", about);
        false
    }

    fn keep_primary_line(&mut self, host: Host, sentinel: &mut Sentinel, group: &mut Group) {
        let contact = self.over_line(host, self.contact_server(host, group.primary.addr));
        self.keep_line(
            &mut group.primary.line,
            contact,
            false,
            sentinel.ping_period,
        );
        if !group.primary.line.connected {
            return;
        }
        let now = self.now;
        if let Contact::Answers(at) = contact {
            if now - group.primary.info_at > sentinel.info_period || group.primary.info_at == 0 {
                self.read_primary(host, sentinel, group, at);
            }
            self.ping_server(&mut group.primary.line, at, sentinel.ping_period);
            if now - group.primary.published > sentinel.hello_period && !group.primary.failing_over
            {
                group.primary.published = now;
                self.publish(host, sentinel, group, at);
            }
        } else {
            self.ping_nobody(&mut group.primary.line, sentinel.ping_period);
        }
    }

    fn keep_replica_line(
        &mut self,
        host: Host,
        sentinel: &mut Sentinel,
        group: &mut Group,
        index: usize,
    ) {
        let addr = group.replicas[index].addr;
        let contact = self.over_line(host, self.contact_server(host, addr));
        self.keep_line(
            &mut group.replicas[index].line,
            contact,
            false,
            sentinel.ping_period,
        );
        let replica = &mut group.replicas[index];
        if !replica.line.connected {
            return;
        }
        let now = self.now;
        if let Contact::Answers(at) = contact {
            let close =
                group.agreed_down || group.state != State::None || replica.link_down_for.is_some();
            let period = if close { 1_000 } else { sentinel.info_period };
            if now - replica.info_at > period || replica.info_at == 0 {
                self.read_replica(host, sentinel, group, index, at);
            }
            self.ping_server(&mut group.replicas[index].line, at, sentinel.ping_period);
            let replica = &mut group.replicas[index];
            if now - replica.published > sentinel.hello_period && !replica.failing_over {
                replica.published = now;
                self.publish(host, sentinel, group, at);
            }
        } else {
            self.ping_nobody(&mut replica.line, sentinel.ping_period);
        }
    }

    fn keep_peer_line(&mut self, host: Host, sentinel: &Sentinel, group: &mut Group, index: usize) {
        let addr = group.others[index].addr;
        let contact = self.over_line(host, self.contact_sentinel(host, addr));
        let peer = &mut group.others[index];
        self.keep_line(&mut peer.line, contact, true, sentinel.ping_period);
        if !peer.line.connected {
            return;
        }
        let now = self.now;
        if let Contact::Answers(at) = contact {
            ping(&mut peer.line, now, sentinel.ping_period, (true, true));
            if now - peer.published > sentinel.hello_period {
                peer.published = now;
                self.hand_hello(host, sentinel, group, at);
            }
        } else {
            self.ping_nobody(&mut peer.line, sentinel.ping_period);
        }
    }

    /// A connection that a cut left hanging carries nothing yet.
    fn over_line(&self, host: Host, contact: Contact) -> Contact {
        match contact {
            Contact::Answers(at) if !self.net.carries(host, at, self.now) => Contact::Silent,
            contact => contact,
        }
    }

    /// Connects, and notices the end of a connection.
    fn keep_line(&self, line: &mut Line, contact: Contact, sentinel: bool, period: Millis) {
        let now = self.now;
        let process = |at: Host| {
            let machine = &self.hosts[at];
            if sentinel {
                machine
                    .sentinel
                    .as_ref()
                    .and_then(|sentinel| sentinel.process)
            } else {
                machine.server.process
            }
        };
        if line.connected {
            let ended = match contact {
                Contact::Refused => true,
                Contact::Answers(at) => line.process.is_some() && line.process != process(at),
                Contact::Silent => false,
            };
            if ended {
                line.connected = false;
                line.process = None;
            }
        }
        if !line.connected && now - line.tried >= period.min(now) {
            line.tried = now;
            line.unanswered = line.unanswered.or(Some(now));
            line.pinged = now;
            line.connected = contact != Contact::Refused;
            line.process = None;
        }
        if line.connected
            && line.process.is_none()
            && let Contact::Answers(at) = contact
        {
            line.process = process(at);
        }
    }

    fn ping_server(&self, line: &mut Line, at: Host, period: Millis) {
        let acceptable = !self.hosts[at].full_disk;
        ping(line, self.now, period, (true, acceptable));
    }

    fn ping_nobody(&self, line: &mut Line, period: Millis) {
        ping(line, self.now, period, (false, false));
    }

    /// Returns when the timer has to run next: soon while something is going on.
    fn next_round(&mut self, sentinel: &Sentinel) -> Millis {
        let now = self.now;
        let beat = now + self.random.u64(53..=100);
        let Some(group) = &sentinel.group else {
            return Millis::MAX;
        };
        let busy = |line: &Line| !line.connected || line.unanswered.is_some();
        let is_busy = group.state != State::None
            || group.primary.down
            || !group.primary.says_primary
            || busy(&group.primary.line)
            || group.replicas.iter().any(|replica| busy(&replica.line))
            || group
                .others
                .iter()
                .any(|peer| busy(&peer.line) || peer.says_down);
        if is_busy {
            return beat;
        }
        let hello = sentinel.hello_period;
        let ping = sentinel.ping_period;
        let server = |instance: &Instance| {
            let period = if instance.link_down_for.is_some() {
                1_000
            } else {
                sentinel.info_period
            };
            (instance.line.answered + ping)
                .min(instance.published + hello)
                .min(instance.info_at + period)
        };
        let mut due = server(&group.primary);
        for replica in &group.replicas {
            due = due.min(server(replica));
        }
        for peer in &group.others {
            due = due
                .min(peer.line.answered + ping)
                .min(peer.published + hello);
        }
        if let Some(since) = sentinel.tilt_since {
            due = due.min(since + sentinel.tilt_period);
        }
        // As if the timer had run all the time, at its uneven pace.
        beat.max(due + 1 + self.random.u64(0..80))
    }
}

/// Sends a ping when one is due, and takes the answer: whether there is one, and whether it is as it should be.
fn ping(line: &mut Line, now: Millis, period: Millis, (answers, acceptable): (bool, bool)) {
    if now - line.answered > period && now - line.pinged > period / 2 {
        line.pinged = now;
        line.unanswered = line.unanswered.or(Some(now));
    }
    if answers && line.unanswered.is_some() {
        line.answered = now;
        if acceptable {
            line.available = now;
            line.unanswered = None;
        }
    }
}

/// Judges whether an instance is down for this Sentinel.
#[allow(
    clippy::too_many_arguments,
    reason = "fields of two kinds of instances"
)]
fn judge(
    all: &mut Cluster,
    host: Host,
    line: &mut Line,
    down: &mut bool,
    down_since: &mut Millis,
    addr: Addr,
    lies: bool,
    down_after: Millis,
) {
    let now = all.now;
    let is_down = line.silence(now) > down_after || lies;
    if is_down == *down {
        return;
    }
    *down = is_down;
    if is_down {
        *down_since = now;
    }
    all.say(host, if is_down { "+sdown" } else { "-sdown" }, addr);
}
