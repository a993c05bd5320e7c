//! What callers can ask of servers and Sentinels.

use super::api::{
    Acknowledged, FailoverState, Failure, LeaseReply, Millis, Reply, SentinelCommand,
    ServerCommand, WriteId,
};
use super::cluster::{Cluster, Contact};
use super::data::{Event, hex};
use super::failover::select;
use super::knowledge::Heard;
use super::sentinel::{Group, Id, State};
use super::server::{Failover, Host, Link, Queued};

/// Bytes that setting or dropping the lease adds to the stream.
const LEASE_BYTES: u64 = 120;

/// Longest that a server waits for its replicas before it stops in order.
const SHUTDOWN_WAIT: Millis = 10_000;

/// Longest that a vote or a hello takes to be written on a slow disk.
const SLOW_WRITE_MAX: Millis = 6_000;

/// Number from which a caller's id is made, for ids that are text outside.
pub fn id_of(text: &str) -> Id {
    u64::from_str_radix(text.trim_start_matches('0'), 16).unwrap_or_else(|_| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    })
}

fn unknown_group() -> Failure {
    Failure::Error("No such master with that name".into())
}

impl Cluster {
    /// Sends a command to the server at the address `at`.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn server_command(
        &mut self,
        from: &str,
        at: &str,
        command: &ServerCommand,
    ) -> Result<Reply, Failure> {
        self.took = 1;
        let host = self.server_for(from, at, command)?;
        if self.hosts[host].server.is_loading() && !matches!(command, ServerCommand::Info) {
            return Err(Failure::Loading);
        }
        let reply = self.do_server(host, command);
        self.react();
        reply
    }

    pub(super) fn server_for(
        &mut self,
        from: &str,
        at: &str,
        command: &ServerCommand,
    ) -> Result<Host, Failure> {
        let (from, to) = (self.host(from), self.addr(at));
        match self.contact_server(from, to) {
            Contact::Answers(host) => Ok(host),
            Contact::Refused => Err(Failure::Refused),
            Contact::Silent => {
                let frozen = self.at[to].filter(|host| {
                    self.net.open(from, *host)
                        && !self.hosts[*host].paused
                        && self.hosts[*host].server.frozen_at.is_some()
                });
                let Some(host) = frozen else {
                    return Err(Failure::Unreachable);
                };
                match command {
                    ServerCommand::Write { client } => {
                        self.hosts[host].server.queued.push(Queued::Write(*client));
                    }
                    ServerCommand::ReplicaOf(of) => {
                        let of = of.as_deref().map(|of| self.addr(of));
                        self.hosts[host].server.queued.push(Queued::ReplicaOf(of));
                    }
                    _ => {}
                }
                Err(Failure::Silent)
            }
        }
    }

    fn do_server(&mut self, host: Host, command: &ServerCommand) -> Result<Reply, Failure> {
        let now = self.now;
        match command {
            ServerCommand::Ping if self.hosts[host].full_disk => return Err(Failure::Misconf),
            ServerCommand::Ping => {}
            ServerCommand::Info => return Ok(Reply::Server(Box::new(self.server_facts(host)))),
            ServerCommand::SetPriority(priority) => self.hosts[host].server.priority = *priority,
            ServerCommand::SetMinReplicas(number) => self.hosts[host].server.min_replicas = *number,
            ServerCommand::ReplicaOf(of) => {
                if self.hosts[host].server.failover.is_some() {
                    return Err(Failure::Error(
                        "REPLICAOF not allowed while failing over.".into(),
                    ));
                }
                match of.as_deref() {
                    Some(of) => {
                        let of = self.addr(of);
                        self.demote(host, of);
                    }
                    None => self.promote(host),
                }
            }
            ServerCommand::FailoverTo { target, timeout } => {
                return self.begin_failover(host, target, *timeout);
            }
            ServerCommand::FailoverAbort => {
                if self.hosts[host].server.failover.is_none() {
                    return Err(Failure::Error("No failover in progress.".into()));
                }
                self.failover_abort(host);
            }
            ServerCommand::PauseWrites(for_ms) => {
                let server = &mut self.hosts[host].server;
                server.paused_until = server.paused_until.max(now + for_ms);
            }
            ServerCommand::Unpause => self.hosts[host].server.paused_until = 0,
            ServerCommand::GetAck => self.acknowledge(host),
            ServerCommand::Write { client } => {
                return self.write(host, *client, false).map(Reply::Written);
            }
            ServerCommand::Wait => return self.wait(host),
            ServerCommand::LeaseTake { token, ttl } => return self.lease_take(host, token, *ttl),
            ServerCommand::LeaseRelease { token } => {
                self.may_write(host)?;
                let data = self.hosts[host].server.data;
                let mine = self
                    .histories
                    .lease(data, now)
                    .is_some_and(|(held, _)| held == token);
                if mine {
                    self.append(host, LEASE_BYTES, Event::NoLease);
                }
                return Ok(Reply::Bool(mine));
            }
            ServerCommand::LeaseHolder => {
                let data = self.hosts[host].server.data;
                let holder = self.histories.lease(data, now);
                return Ok(Reply::Holder(
                    holder.map(|(token, until)| (token.to_owned(), until - now)),
                ));
            }
            ServerCommand::FlushAll => {
                self.may_write(host)?;
                self.append(host, LEASE_BYTES, Event::Flush);
            }
            ServerCommand::Save => {
                if self.hosts[host].full_disk {
                    return Err(Failure::Misconf);
                }
                let server = &self.hosts[host].server;
                self.hosts[host].disk.snapshot = Some((server.data, server.earlier));
            }
            ServerCommand::Shutdown { save } => return self.shutdown(host, *save),
        }
        Ok(Reply::Done)
    }

    /// Says why a write would be refused, in the server's own order of questions.
    pub(super) fn may_write(&self, host: Host) -> Result<(), Failure> {
        let server = &self.hosts[host].server;
        if self.hosts[host].full_disk {
            return Err(Failure::Misconf);
        }
        if server.is_primary() && server.min_replicas > 0 {
            let phase = |replica: Host| self.hosts[replica].server.phase;
            if server.good_replicas(self.now, self.timings.max_lag, phase) < server.min_replicas {
                return Err(Failure::NoReplicas);
            }
        }
        // During a planned failover even the one that is a replica already holds writes back.
        if server.paused_until > self.now || server.failover.is_some() {
            return Err(Failure::Paused);
        }
        if !server.is_primary() {
            return Err(Failure::ReadOnly);
        }
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        host: Host,
        client: u32,
        late: bool,
    ) -> Result<WriteId, Failure> {
        if self.hosts[host].server.is_loading() {
            return Err(Failure::Loading);
        }
        self.may_write(host)?;
        let write = self.histories.next_write();
        self.append(host, self.timings.write_bytes, Event::Write(write));
        self.acknowledged.push(Acknowledged {
            write,
            at: self.now,
            client,
            by: host,
            late,
        });
        Ok(write)
    }

    fn lease_take(&mut self, host: Host, token: &str, ttl: Millis) -> Result<Reply, Failure> {
        let now = self.now;
        // The script reads first, but it counts as one that writes.
        self.may_write(host)?;
        let data = self.hosts[host].server.data;
        let outcome = match self.histories.lease(data, now) {
            None => LeaseReply::Taken,
            Some((held, _)) if held == token => LeaseReply::Renewed,
            Some((held, _)) => return Ok(Reply::Lease(LeaseReply::HeldBy(held.to_owned()))),
        };
        self.append(host, LEASE_BYTES, Event::Lease(token.to_owned(), now + ttl));
        Ok(Reply::Lease(outcome))
    }

    /// A replica tells its primary at once what it has.
    fn acknowledge(&mut self, host: Host) {
        let server = &self.hosts[host].server;
        let (offset, now) = (server.data.offset, self.now);
        let Some(Link::Up { from, .. }) = server.follow.as_ref().map(|follow| follow.link.clone())
        else {
            return;
        };
        for replica in &mut self.hosts[from].server.attached {
            if replica.host == host && replica.flows && replica.online {
                replica.acked_at = now;
                replica.acked = offset;
                // An acknowledgement starts the stream after a copy from socket to memory.
                replica.stream_from = replica.stream_from.min(now);
            }
        }
        self.spread(from);
        self.failover_on(from);
    }

    /// Has all replicas acknowledge, and counts those that have everything.
    fn wait(&mut self, host: Host) -> Result<Reply, Failure> {
        if !self.hosts[host].server.is_primary() {
            return Err(Failure::Error(
                "WAIT cannot be used with replica instances.".into(),
            ));
        }
        self.spread(host);
        let (now, offset) = (self.now, self.hosts[host].server.data.offset);
        let mut count = 0;
        for index in 0..self.hosts[host].server.attached.len() {
            let replica = &self.hosts[host].server.attached[index];
            let peer = &self.hosts[replica.host];
            let ready = replica.flows && replica.online && replica.stream_from <= now;
            let (delay, has) = (peer.replication_delay, peer.server.data.offset);
            if ready && delay == 0 {
                let replica = &mut self.hosts[host].server.attached[index];
                replica.acked_at = now;
                replica.acked = has;
            }
            if self.acknowledged_by(host, index).1 >= offset {
                count += 1;
            }
        }
        Ok(Reply::Count(count))
    }

    fn begin_failover(
        &mut self,
        host: Host,
        target: &str,
        timeout: Millis,
    ) -> Result<Reply, Failure> {
        let target = self.addr(target);
        let error = |text: &str| Err(Failure::Error(text.to_owned()));
        let server = &self.hosts[host].server;
        if server.failover.is_some() {
            return error("FAILOVER already in progress.");
        }
        if !server.is_primary() {
            return error("FAILOVER is not valid when server is a replica.");
        }
        if server.attached.is_empty() {
            return error("FAILOVER requires connected replicas.");
        }
        match server
            .attached
            .iter()
            .find(|replica| replica.addr == target)
        {
            None => return error("FAILOVER target HOST and PORT is not a replica."),
            Some(replica) if !replica.online => {
                return error("FAILOVER target replica is not online.");
            }
            Some(_) => {}
        }
        self.hosts[host].server.failover = Some(Failover {
            target,
            deadline: self.now + timeout,
            state: FailoverState::WaitingForSync,
        });
        self.wake_server(host, self.now);
        Ok(Reply::Done)
    }

    fn shutdown(&mut self, host: Host, save: bool) -> Result<Reply, Failure> {
        if save && self.hosts[host].full_disk {
            return Err(Failure::Error(
                "Errors trying to SHUTDOWN. Check logs.".into(),
            ));
        }
        let server = &self.hosts[host].server;
        // The server refuses as long as its log is not complete, and the charm asks again.
        self.took = server.log_busy_until.saturating_sub(self.now).max(1);
        let data = server.data;
        if server
            .attached
            .iter()
            .any(|replica| replica.online && !replica.flows)
        {
            self.took = self.took.max(SHUTDOWN_WAIT);
        }
        let reached: Vec<Host> = server
            .attached
            .iter()
            .filter(|replica| replica.online && replica.flows && replica.stream_from <= self.now)
            .map(|replica| replica.host)
            .collect();
        for replica in reached {
            let delay = self.hosts[replica].replication_delay;
            self.took = self.took.max(delay.min(SHUTDOWN_WAIT));
            let held = &mut self.hosts[replica].server.data;
            if held.branch == data.branch {
                held.offset = held.offset.max(data.offset);
            }
        }
        let known = self.hosts[host].server.earlier;
        self.disturb(|all| {
            if save {
                all.hosts[host].disk.snapshot = Some((data, known));
            }
            all.end_server(host, false);
        });
        Ok(Reply::Done)
    }

    /// Sends a command to the Sentinel at the address `at`.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn sentinel_command(
        &mut self,
        from: &str,
        at: &str,
        command: &SentinelCommand,
    ) -> Result<Reply, Failure> {
        self.took = 1;
        let host = self.sentinel_for(from, at)?;
        let writes = matches!(
            command,
            SentinelCommand::Vote { .. } | SentinelCommand::Hello(_)
        );
        if writes && self.hosts[host].slow_disk {
            self.took = self.random.u64(50..SLOW_WRITE_MAX);
        }
        let reply = self.do_sentinel(host, command);
        let soon = self.now + self.random.u64(1..100);
        if let Some(sentinel) = &mut self.hosts[host].sentinel {
            sentinel.wake_by(soon);
        }
        reply
    }

    pub(super) fn sentinel_for(&mut self, from: &str, at: &str) -> Result<Host, Failure> {
        let (from, to) = (self.host(from), self.addr(at));
        match self.contact_sentinel(from, to) {
            Contact::Answers(host) => Ok(host),
            Contact::Refused => Err(Failure::Refused),
            Contact::Silent => match self.at[to] {
                Some(host) if self.net.open(from, host) && self.hosts[host].answers_packets() => {
                    Err(Failure::Silent)
                }
                _ => Err(Failure::Unreachable),
            },
        }
    }

    fn do_sentinel(&mut self, host: Host, command: &SentinelCommand) -> Result<Reply, Failure> {
        match command {
            SentinelCommand::Look => {
                return Ok(Reply::Sentinel(Box::new(self.sentinel_facts(host))));
            }
            SentinelCommand::Vote {
                primary,
                epoch,
                candidate,
            } => {
                let primary = self.addr(primary);
                let answer = self.judge_and_vote(host, primary, *epoch, Some(id_of(candidate)));
                let (_, leader, epoch) = answer.ok_or_else(unknown_group)?;
                return Ok(Reply::Vote {
                    epoch,
                    leader: leader.map(hex),
                });
            }
            SentinelCommand::Hello(hello) => {
                let heard = Heard {
                    addr: self.addr(&hello.host),
                    id: id_of(&hello.id),
                    current_epoch: hello.current_epoch,
                    primary: self.addr(&hello.primary),
                    config_epoch: hello.config_epoch,
                };
                self.hear(host, heard);
                return Ok(Reply::Done);
            }
            _ => {}
        }
        self.change_sentinel(host, command)
    }

    fn change_sentinel(&mut self, host: Host, command: &SentinelCommand) -> Result<Reply, Failure> {
        let Some(mut sentinel) = self.hosts[host].sentinel.take() else {
            return Err(Failure::Silent);
        };
        let now = self.now;
        let monitored = sentinel.group.as_ref().map(|group| group.primary.addr);
        let reply = match (command, sentinel.group.as_mut()) {
            (SentinelCommand::ShortenPeriods, _) => {
                sentinel.info_period = self.timings.info_period;
                sentinel.hello_period = self.timings.hello_period;
                sentinel.ping_period = self.timings.ping_period;
                sentinel.tilt_period = self.timings.tilt_period;
                Ok(Reply::Done)
            }
            (SentinelCommand::Monitor { .. }, Some(_)) => {
                Err(Failure::Error("Duplicate master name.".into()))
            }
            (SentinelCommand::Monitor { primary, quorum }, None) => {
                let primary = self.addr(primary);
                sentinel.group = Some(Group::new(primary, *quorum, 30_000, now));
                Ok(Reply::Done)
            }
            (_, None) => Err(unknown_group()),
            (SentinelCommand::KnownEpoch, Some(group)) => {
                let told = group
                    .others
                    .iter()
                    .map(|peer| peer.leader_epoch)
                    .max()
                    .unwrap_or(0);
                Ok(Reply::Epoch(
                    group.config_epoch.max(group.leader_epoch).max(told),
                ))
            }
            (SentinelCommand::Reset, Some(group)) => {
                group.reset(true, now);
                Ok(Reply::Done)
            }
            (SentinelCommand::SetQuorum(quorum), Some(group)) => {
                group.quorum = *quorum;
                Ok(Reply::Done)
            }
            (SentinelCommand::SetDownAfter(down_after), Some(group)) => {
                group.down_after = *down_after;
                Ok(Reply::Done)
            }
            (SentinelCommand::Remove, Some(_)) => {
                sentinel.group = None;
                Ok(Reply::Done)
            }
            (SentinelCommand::Failover, Some(group)) if group.state != State::None => {
                Err(Failure::Error("INPROG Failover already in progress".into()))
            }
            (SentinelCommand::Failover, Some(group))
                if select(group, now, sentinel.info_period).is_none() =>
            {
                Err(Failure::Error(
                    "NOGOODSLAVE No suitable replica to promote".into(),
                ))
            }
            (SentinelCommand::Failover, Some(_)) => {
                if let Some(mut group) = sentinel.group.take() {
                    self.start_failover(host, &mut sentinel, &mut group);
                    group.forced = true;
                    sentinel.group = Some(group);
                }
                Ok(Reply::Done)
            }
            (
                SentinelCommand::Look | SentinelCommand::Vote { .. } | SentinelCommand::Hello(_),
                Some(_),
            ) => Ok(Reply::Done),
        };
        // What RESET forgets is written down with the next change only.
        if reply.is_ok()
            && !matches!(
                command,
                SentinelCommand::Reset
                    | SentinelCommand::KnownEpoch
                    | SentinelCommand::ShortenPeriods
            )
        {
            self.flush(host, &sentinel);
        }
        let channel = match command {
            SentinelCommand::Reset => Some("+reset-master"),
            SentinelCommand::Monitor { .. } => Some("+monitor"),
            _ => None,
        };
        let about = sentinel
            .group
            .as_ref()
            .map(|group| group.primary.addr)
            .or(monitored);
        self.hosts[host].sentinel = Some(sentinel);
        if let (Some(channel), Some(about), true) = (channel, about, reply.is_ok()) {
            self.say(host, channel, about);
        }
        reply
    }
}
