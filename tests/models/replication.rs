//! What happens between servers: links, copies, promotions, planned failovers.

use super::api::{FailoverState, Millis};
use super::cluster::{Cluster, Contact};
use super::data::{Data, Event};
use super::server::{Addr, Attached, Follow, Host, Link, Queued, second_before};

/// Bytes of a ping in the stream.
const PING_BYTES: u64 = 14;

/// Time from a command to follow to the first question to the primary.
const DIAL: Millis = 10;

/// Least time in which a replica writes its log anew after a copy.
const LOG_ANEW: Millis = 200;

/// Pause between two looks at something that has to change soon.
const SOON: Millis = 100;

impl Cluster {
    /// Adds something to a primary's stream and hands it to the replicas that hear it at once.
    pub(super) fn append(&mut self, host: Host, bytes: u64, event: Event) {
        let now = self.now;
        let is_data = !matches!(event, Event::Filler);
        let data = self.hosts[host].server.data;
        self.hosts[host].server.data = self.histories.append(data, now, bytes, event);
        self.spread(host);
        if is_data {
            self.stop_full_replicas(host);
        }
    }

    /// A replica that cannot write its log ends when it gets a write.
    fn stop_full_replicas(&mut self, host: Host) {
        let full = self.hosts[host].server.attached.iter().find(|replica| {
            self.hosts[replica.host].full_disk
                && replica.online
                && replica.flows
                && replica.stream_from <= self.now
        });
        if let Some(host) = full.map(|replica| replica.host) {
            self.disturb(|all| all.end_server(host, false));
        }
    }

    /// Hands over what `host` has to the replicas that hear it.
    pub(super) fn spread(&mut self, host: Host) {
        for index in 0..self.hosts[host].server.attached.len() {
            let server = &self.hosts[host].server;
            let replica = &server.attached[index];
            if !(replica.online && replica.flows) {
                continue;
            }
            let (to, stream_from, data) = (replica.host, replica.stream_from, server.data);
            let delay = self.hosts[to].replication_delay;
            if stream_from > self.now || delay > 0 {
                let due = stream_from.max(self.now + SOON.min(delay.max(1)));
                self.wake_server(host, due);
            }
            if stream_from > self.now {
                continue;
            }
            let offset = if delay == 0 {
                data.offset
            } else {
                self.histories
                    .offset_at(data.branch, self.now.saturating_sub(delay))
            };
            let held = &mut self.hosts[to].server.data;
            if held.branch == data.branch && held.offset < offset {
                held.offset = offset;
                if !self.hosts[to].server.attached.is_empty() {
                    self.spread(to);
                }
            }
        }
    }

    pub(super) fn wake_server(&mut self, host: Host, at: Millis) {
        let wake = &mut self.hosts[host].server.wake;
        *wake = (*wake).min(at);
    }

    /// Writes down what flowed until now, before something changes it.
    pub(super) fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            for index in 0..self.hosts[host].server.attached.len() {
                let (at, acked) = self.acknowledged_by(host, index);
                let replica = &mut self.hosts[host].server.attached[index];
                replica.acked_at = at;
                replica.acked = acked;
            }
        }
    }

    /// Returns when a replica acknowledged last, and what.
    pub(super) fn acknowledged_by(&self, host: Host, index: usize) -> (Millis, u64) {
        let server = &self.hosts[host].server;
        let replica = &server.attached[index];
        let peer = &self.hosts[replica.host];
        let at = replica.ack(peer.server.phase, self.now);
        if at <= replica.acked_at || at < replica.stream_from || !replica.online {
            return (at.max(replica.acked_at), replica.acked);
        }
        let seen = at.saturating_sub(peer.replication_delay);
        (
            at,
            self.histories
                .offset_at(server.data.branch, seen)
                .max(replica.acked),
        )
    }

    /// Finds out anew which links carry data, and lets everybody look.
    pub(super) fn relink(&mut self) {
        for host in 0..self.hosts.len() {
            for index in 0..self.hosts[host].server.attached.len() {
                let replica = &self.hosts[host].server.attached[index];
                let flows = self.flows(host, replica);
                let now = self.now;
                let replica = &mut self.hosts[host].server.attached[index];
                if replica.flows && !flows {
                    replica.broken_at = now;
                }
                replica.flows = flows;
            }
            self.hosts[host].server.wake = self.now;
        }
    }

    /// Lets all servers react to what just changed.
    pub(super) fn react(&mut self) {
        // Twice: the second one may have to see what the first one did.
        for _ in 0..2 {
            for host in 0..self.hosts.len() {
                if self.hosts[host].server.wake <= self.now {
                    self.server_tick(host);
                }
            }
        }
    }

    fn flows(&self, host: Host, replica: &Attached) -> bool {
        let (server, peer) = (&self.hosts[host].server, &self.hosts[replica.host].server);
        server.works()
            && peer.works()
            && peer.process == Some(replica.process)
            && self.net.carries(host, replica.host, self.now)
            && self.linked(replica.host, host)
    }

    /// Returns whether the replica's side holds a connection to this process of `primary`.
    fn linked(&self, replica: Host, primary: Host) -> bool {
        let wanted = self.hosts[primary].server.process;
        matches!(
            &self.hosts[replica].server.follow,
            Some(Follow {
                link: Link::Up { from, process, .. }
                    | Link::Transfer { from, process, .. }
                    | Link::Loading { from, process, .. },
                ..
            }) if *from == primary && Some(*process) == wanted
        )
    }

    /// What a server does by itself at its wake-up.
    pub(super) fn server_tick(&mut self, host: Host) {
        self.hosts[host].server.wake = Millis::MAX;
        let server = &mut self.hosts[host].server;
        if !server.works() {
            return;
        }
        if let Some(until) = server.loading_until {
            if until <= self.now {
                server.loading_until = None;
            } else {
                server.wake = until;
                return;
            }
        }
        self.drop_replicas(host);
        self.follow_on(host);
        self.spread(host);
        self.failover_on(host);
        self.ping_replicas(host);
    }

    fn ping_replicas(&mut self, host: Host) {
        let period = self.timings.repl_ping;
        let server = &self.hosts[host].server;
        if server.is_primary() && !server.attached.is_empty() {
            if server.pinged_at + period <= self.now
                && server.paused_until <= self.now
                && server.failover.is_none()
            {
                self.hosts[host].server.pinged_at = self.now;
                self.append(host, PING_BYTES, Event::Filler);
            }
            let due = (self.hosts[host].server.pinged_at + period).max(self.now + SOON);
            self.wake_server(host, due);
        }
    }

    /// Drops replicas that hung up, or that were silent for too long.
    fn drop_replicas(&mut self, host: Host) {
        let mut index = 0;
        while index < self.hosts[host].server.attached.len() {
            let replica = &self.hosts[host].server.attached[index];
            let peer = &self.hosts[replica.host];
            let alive =
                peer.server.process == Some(replica.process) && self.linked(replica.host, host);
            let told =
                !alive && peer.answers_packets() && self.net.carries(host, replica.host, self.now);
            let silent = !replica.flows
                && replica.broken_at.max(replica.acked_at) + self.timings.repl_timeout <= self.now;
            if told || silent {
                let server = &mut self.hosts[host].server;
                server.attached.remove(index);
                server.recount(self.now);
            } else {
                if !replica.flows {
                    self.wake_server(host, self.now + SOON);
                }
                index += 1;
            }
        }
        // A link that was hanging may carry again.
        let mut revived = false;
        for index in 0..self.hosts[host].server.attached.len() {
            let replica = &self.hosts[host].server.attached[index];
            if !replica.flows && self.flows(host, replica) {
                let now = self.now;
                let replica = &mut self.hosts[host].server.attached[index];
                replica.flows = true;
                replica.stream_from = replica.stream_from.min(now);
                revived = true;
            }
        }
        if revived {
            self.wake_server(host, self.now + 1);
        }
    }

    /// A replica's part: connecting, copying, noticing that the primary is gone.
    fn follow_on(&mut self, host: Host) {
        let Some(follow) = self.hosts[host].server.follow.clone() else {
            return;
        };
        let now = self.now;
        match follow.link {
            Link::Connect(at) if at <= now => self.dial(host, follow.of, now),
            Link::Connect(at) => self.wake_server(host, at),
            Link::Asking(since) => self.dial(host, follow.of, since),
            Link::Transfer {
                until,
                copy,
                from,
                process,
            } => {
                if !self.source_lives(from, process, host) {
                    self.lose_link(host);
                } else if until <= now {
                    let was_empty = self.histories.keys(self.hosts[host].server.data) == 0;
                    let load = self.load_time(copy);
                    let server = &mut self.hosts[host].server;
                    server.data = copy;
                    self.set_link(
                        host,
                        Link::Loading {
                            until: now + load,
                            copy,
                            from,
                            process,
                            was_empty,
                        },
                    );
                    self.wake_server(host, now + load.max(1));
                } else {
                    self.wake_server(host, until.min(now + SOON));
                }
            }
            Link::Loading {
                until,
                copy,
                from,
                process,
                was_empty,
            } if until <= now => {
                self.loaded(host, copy, from, process, was_empty);
            }
            Link::Up {
                from,
                process,
                silent_since,
            } => {
                if self.source_lives(from, process, host) {
                    let flows =
                        self.hosts[from].server.works() && self.net.carries(from, host, now);
                    match (flows, silent_since) {
                        (true, None) => {}
                        (true, Some(_)) => self.set_link(
                            host,
                            Link::Up {
                                from,
                                process,
                                silent_since: None,
                            },
                        ),
                        (false, Some(since)) if since + self.timings.repl_timeout <= now => {
                            self.lose_link(host);
                        }
                        (false, since) => {
                            let since = since.unwrap_or(now);
                            self.set_link(
                                host,
                                Link::Up {
                                    from,
                                    process,
                                    silent_since: Some(since),
                                },
                            );
                            self.wake_server(host, now + SOON);
                        }
                    }
                } else {
                    self.primary_ended(host, from);
                }
            }
            Link::Drain { rest, until } if until <= now => {
                let server = &mut self.hosts[host].server;
                if server.data.branch == rest.branch {
                    server.data.offset = server.data.offset.max(rest.offset);
                }
                self.lose_link(host);
            }
            Link::Loading { until, .. } | Link::Drain { until, .. } => {
                self.wake_server(host, until);
            }
        }
    }

    /// Returns false once the replica has been told that its connection is at an end.
    fn source_lives(&self, from: Host, process: u32, host: Host) -> bool {
        let source = &self.hosts[from];
        let same = source.server.process == Some(process)
            && source.server.attached.iter().any(|replica| {
                replica.host == host && Some(replica.process) == self.hosts[host].server.process
            });
        same || !source.answers_packets() || !self.net.carries(from, host, self.now)
    }

    /// The primary's end was seen; what was on the way is read first.
    fn primary_ended(&mut self, host: Host, from: Host) {
        let delay = self.hosts[host].replication_delay;
        let last = self.hosts[from].last_stream;
        let held = self.hosts[host].server.data;
        match last.filter(|last| last.branch == held.branch && last.offset > held.offset) {
            Some(rest) => {
                let until = self.now + delay;
                self.set_link(host, Link::Drain { rest, until });
                self.wake_server(host, until.max(self.now + 1));
            }
            None => self.lose_link(host),
        }
    }

    fn set_link(&mut self, host: Host, link: Link) {
        if let Some(follow) = &mut self.hosts[host].server.follow {
            follow.link = link;
        }
    }

    fn lose_link(&mut self, host: Host) {
        let now = self.now;
        let server = &mut self.hosts[host].server;
        let next = second_before(now, server.phase) + 1_000;
        if let Some(follow) = &mut server.follow {
            if matches!(follow.link, Link::Up { .. } | Link::Drain { .. }) {
                follow.resumable = true;
                follow.down_since = Some(now);
            }
            follow.link = Link::Connect(next);
        }
        self.wake_server(host, next);
        self.settle();
        self.refresh_flows();
    }

    /// Recomputes who hears whom after one link changed.
    fn refresh_flows(&mut self) {
        for host in 0..self.hosts.len() {
            for index in 0..self.hosts[host].server.attached.len() {
                let flows = self.flows(host, &self.hosts[host].server.attached[index]);
                let now = self.now;
                let replica = &mut self.hosts[host].server.attached[index];
                if replica.flows && !flows {
                    replica.broken_at = now;
                }
                if replica.flows != flows {
                    replica.flows = flows;
                    self.wake_server(host, now);
                }
            }
        }
    }

    /// Asks the primary to be its replica.
    fn dial(&mut self, host: Host, of: Addr, since: Millis) {
        let now = self.now;
        let next = second_before(now, self.hosts[host].server.phase) + 1_000;
        let again = |all: &mut Self| {
            all.set_link(host, Link::Connect(next));
            all.wake_server(host, next);
        };
        match self.contact_server(host, of) {
            Contact::Refused => again(self),
            Contact::Silent if since + self.timings.repl_timeout <= now => again(self),
            Contact::Silent => {
                self.set_link(host, Link::Asking(since));
                self.wake_server(host, now + SOON);
            }
            Contact::Answers(primary) => {
                let server = &self.hosts[primary].server;
                if primary == host
                    || server.is_loading()
                    || !matches!(
                        &server.follow,
                        None | Some(Follow {
                            link: Link::Up { .. },
                            ..
                        })
                    )
                {
                    again(self);
                } else if self.may_resume(host, primary) {
                    self.resume(host, primary);
                } else {
                    self.full_copy(host, primary);
                }
            }
        }
    }

    fn may_resume(&self, host: Host, primary: Host) -> bool {
        let (replica, server) = (&self.hosts[host].server, &self.hosts[primary].server);
        let held = replica.data;
        let same = held.branch == server.data.branch && held.offset <= server.data.offset;
        let earlier = server
            .earlier
            .is_some_and(|(branch, first)| branch == held.branch && held.offset < first);
        let oldest = server.backlog_from.map(|from| {
            from.max(
                server
                    .data
                    .offset
                    .saturating_sub(self.timings.backlog_bytes),
            )
        });
        replica
            .follow
            .as_ref()
            .is_some_and(|follow| follow.resumable)
            && (same || earlier)
            && oldest.is_some_and(|oldest| held.offset + 1 >= oldest)
    }

    fn attach(&mut self, host: Host, primary: Host, online: bool, stream_from: Millis) {
        let (addr, process) = (self.hosts[host].addr, self.hosts[host].server.process);
        let now = self.now;
        let server = &mut self.hosts[primary].server;
        server.attached.retain(|replica| replica.host != host);
        server.attached.push(Attached {
            host,
            process: process.unwrap_or(0),
            addr,
            online,
            stream_from,
            flows: true,
            acked_at: now,
            // Even one that goes on where it was shows 0 until it acknowledges something.
            acked: 0,
            broken_at: now,
        });
        server.recount(now);
        self.wake_server(primary, now);
    }

    fn resume(&mut self, host: Host, primary: Host) {
        let to = self.hosts[primary].server.data;
        let process = self.hosts[primary].server.process.unwrap_or(0);
        let server = &mut self.hosts[host].server;
        if server.data.branch != to.branch {
            server.earlier = Some((server.data.branch, server.data.offset + 1));
            server.data.branch = to.branch;
            // Replicas of its own have to learn the new id.
            server.attached.clear();
        }
        server.backlog_from = server.backlog_from.or(Some(server.data.offset + 1));
        if let Some(follow) = &mut server.follow {
            follow.link = Link::Up {
                from: primary,
                process,
                silent_since: None,
            };
            follow.down_since = None;
            follow.resumable = true;
        }
        self.resyncs_partial += 1;
        self.hosts[primary].server.gave.0 += 1;
        self.attach(host, primary, true, self.now);
        self.spread(primary);
    }

    fn full_copy(&mut self, host: Host, primary: Host) {
        let now = self.now;
        if self.hosts[primary].server.backlog_from.is_none() {
            // The first replica ever: the history gets a new name.
            let id = self.random_id();
            let server = &mut self.hosts[primary].server;
            server.data = self.histories.promote(server.data, id);
            server.earlier = None;
            server.backlog_from = Some(server.data.offset + 1);
        }
        let copy = self.hosts[primary].server.data;
        let process = self.hosts[primary].server.process.unwrap_or(0);
        // Some versions begin with a timer's next round only.
        let begins = self.random.u64(0..=self.timings.full_sync_delay);
        let until = now + begins + self.timings.full_sync + self.load_time(copy);
        let server = &mut self.hosts[host].server;
        if let Some(follow) = &mut server.follow {
            follow.link = Link::Transfer {
                until,
                copy,
                from: primary,
                process,
            };
            follow.resumable = false;
        }
        server.attached.clear();
        server.backlog_from = None;
        self.resyncs_full += 1;
        self.hosts[primary].server.gave.1 += 1;
        self.attach(host, primary, false, Millis::MAX);
        self.wake_server(host, until.min(now + SOON));
    }

    /// A full copy has been read.
    fn loaded(&mut self, host: Host, copy: Data, from: Host, process: u32, was_empty: bool) {
        let now = self.now;
        let phase = self.hosts[host].server.phase;
        // Read straight from the socket, the stream begins with the next acknowledgement only.
        let stream_from = if was_empty {
            second_before(now, phase) + 1_000
        } else {
            now
        };
        let load = self.load_time(copy);
        let lives = self.hosts[from].server.process == Some(process)
            && self.hosts[from]
                .server
                .attached
                .iter()
                .any(|replica| replica.host == host);
        let server = &mut self.hosts[host].server;
        server.data = copy;
        server.log_busy_until = now + LOG_ANEW + load;
        server.earlier = None;
        server.backlog_from = Some(copy.offset + 1);
        if let Some(follow) = &mut server.follow {
            follow.link = Link::Up {
                from,
                process,
                silent_since: None,
            };
            follow.down_since = None;
            follow.resumable = true;
        }
        if lives {
            let server = &mut self.hosts[from].server;
            for replica in server
                .attached
                .iter_mut()
                .filter(|replica| replica.host == host)
            {
                replica.online = true;
                replica.stream_from = stream_from;
                replica.acked_at = now;
                replica.acked = if was_empty { 0 } else { copy.offset };
            }
            server.recount(now);
            self.wake_server(from, now);
        }
        self.wake_server(host, now);
        self.refresh_flows();
    }

    /// Makes a server a primary; nothing if it is one.
    pub(super) fn promote(&mut self, host: Host) {
        if self.hosts[host].server.is_primary() {
            return;
        }
        let id = self.random_id();
        let server = &mut self.hosts[host].server;
        server.earlier = Some((server.data.branch, server.data.offset + 1));
        server.data = self.histories.promote(server.data, id);
        server.backlog_from = server.backlog_from.or(Some(server.data.offset + 1));
        server.follow = None;
        server.attached.clear();
        server.recount(self.now);
        self.settle();
        self.relink();
    }

    /// Makes a server follow another.
    pub(super) fn demote(&mut self, host: Host, of: Addr) {
        let server = &mut self.hosts[host].server;
        let at = self.now + DIAL;
        let was_primary = server.is_primary();
        match &mut server.follow {
            Some(follow) if follow.of == of => return,
            Some(follow) => {
                if matches!(follow.link, Link::Up { .. } | Link::Drain { .. }) {
                    follow.down_since = Some(self.now);
                    follow.resumable = true;
                }
                follow.of = of;
                follow.link = Link::Connect(at);
            }
            none => {
                *none = Some(Follow {
                    of,
                    link: Link::Connect(at),
                    down_since: Some(self.now),
                    resumable: true,
                });
            }
        }
        if was_primary {
            server.backlog_from = server.backlog_from.or(Some(server.data.offset + 1));
            self.hosts[host].was_primary_until = Some(self.now);
        }
        self.settle();
        self.relink();
        self.wake_server(host, at);
    }

    /// Carries on with a planned failover of a server's own.
    pub(super) fn failover_on(&mut self, host: Host) {
        let Some(failover) = self.hosts[host].server.failover.clone() else {
            return;
        };
        self.wake_server(host, self.now + SOON / 2);
        if failover.state == FailoverState::WaitingForSync {
            let server = &self.hosts[host].server;
            let target = server
                .attached
                .iter()
                .position(|replica| replica.addr == failover.target);
            let done = target.is_some_and(|index| {
                self.acknowledged_by(host, index).1 >= server.data.offset
                    && server.attached[index].online
            });
            if !done {
                if failover.deadline <= self.now {
                    self.hosts[host].server.failover = None;
                }
                return;
            }
            if let Some(own) = &mut self.hosts[host].server.failover {
                own.state = FailoverState::InProgress;
            }
            self.demote(host, failover.target);
        }
        match self.contact_server(host, failover.target) {
            Contact::Answers(target)
                if self.hosts[target].server.data.branch == self.hosts[host].server.data.branch
                    || self.hosts[target].server.is_primary() =>
            {
                self.promote(target);
                self.hosts[host].server.failover = None;
                self.hosts[host].server.paused_until = 0;
                self.set_link(host, Link::Connect(self.now));
                self.wake_server(host, self.now);
            }
            Contact::Answers(_) => self.failover_abort(host),
            Contact::Silent => {
                // It reached the target's connection and waits there, if packets get through.
                let target = self.at[failover.target];
                if let Some(target) = target.filter(|target| {
                    self.net.open(host, *target) && self.hosts[*target].server.process.is_some()
                }) {
                    self.hosts[target].server.queued_promotion = true;
                }
            }
            Contact::Refused => {}
        }
    }

    /// Gives a planned failover up: the server goes on as a primary.
    pub(super) fn failover_abort(&mut self, host: Host) {
        if let Some(failover) = self.hosts[host].server.failover.take()
            && failover.state == FailoverState::InProgress
        {
            self.promote(host);
        }
    }

    /// Does what waited in the connections of a server that wakes.
    pub(super) fn wake_up(&mut self, host: Host) {
        self.hosts[host].server.keep_count(self.now);
        self.hosts[host].server.frozen_at = None;
        let queued = std::mem::take(&mut self.hosts[host].server.queued);
        if std::mem::take(&mut self.hosts[host].server.queued_promotion) {
            self.promote(host);
        }
        for command in queued {
            match command {
                Queued::Write(client) => {
                    let _ = self.write(host, client, true);
                }
                Queued::ReplicaOf(Some(of)) => self.demote(host, of),
                Queued::ReplicaOf(None) => self.promote(host),
            }
        }
    }

    /// Returns how long a data set takes to be read or sent.
    pub(super) fn load_time(&self, data: Data) -> Millis {
        let bytes = self.timings.base_bytes + self.histories.keys(data) * self.timings.write_bytes;
        bytes / self.timings.load_bytes_per_ms.max(1)
    }
}
