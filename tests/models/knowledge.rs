//! How Sentinels learn: from `INFO`, and from each other's hellos.

use super::api::Millis;
use super::cluster::Cluster;
use super::data::Event;
use super::sentinel::{Group, Id, Instance, Peer, Reconf, Sentinel, State};
use super::server::{Addr, Follow, Host};

/// Bytes that a hello adds to the stream of the primary on which it was published.
const HELLO_BYTES: u64 = 190;

/// A hello on its way.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub addr: Addr,
    pub id: Id,
    pub current_epoch: u64,
    pub primary: Addr,
    pub config_epoch: u64,
}

impl Cluster {
    /// Takes what every `INFO` tells.
    fn read(&mut self, host: Host, instance: &mut Instance, at: Host) -> bool {
        let now = self.now;
        let server = &self.hosts[at].server;
        let is_primary = server.is_primary();
        let rebooted = instance.run_id.is_some_and(|known| known != server.run_id);
        instance.run_id = Some(server.run_id);
        instance.info_at = now.max(1);
        instance.failing_over = server.failover.is_some();
        instance.link_down_for = None;
        if let Some(follow) = &server.follow {
            if instance.follows != Some(follow.of) {
                instance.follows = Some(follow.of);
                instance.follows_since = now;
            }
            instance.link_up = server.link_up();
            instance.link_down_for =
                (!instance.link_up).then(|| follow.down_since.map_or(0, |since| now - since));
            instance.priority = server.priority;
            instance.offset = seen_offset(server.data.offset, follow);
        }
        let changed = instance.says_primary != is_primary;
        if changed {
            instance.says_primary = is_primary;
            instance.role_since = now;
            if !is_primary {
                instance.follows_since = now;
            }
        }
        let addr = instance.addr;
        if rebooted {
            self.say(host, "+reboot", addr);
        }
        changed
    }

    pub(super) fn read_primary(
        &mut self,
        host: Host,
        sentinel: &mut Sentinel,
        group: &mut Group,
        at: Host,
    ) {
        if self.read(host, &mut group.primary, at) {
            let channel = if group.primary.says_primary {
                "+role-change"
            } else {
                "-role-change"
            };
            self.say(host, channel, group.primary.addr);
        }
        let mut found = false;
        for index in 0..self.hosts[at].server.attached.len() {
            let addr = self.hosts[at].server.attached[index].addr;
            if !group.replicas.iter().any(|known| known.addr == addr) {
                group.replicas.push(Instance::new(addr, false, self.now));
                self.say(host, "+slave", addr);
                found = true;
            }
        }
        if found {
            self.flush_with(host, sentinel, group);
        }
    }

    pub(super) fn read_replica(
        &mut self,
        host: Host,
        sentinel: &mut Sentinel,
        group: &mut Group,
        index: usize,
        at: Host,
    ) {
        let now = self.now;
        let changed = self.read(host, &mut group.replicas[index], at);
        let replica = &group.replicas[index];
        let (addr, is_primary) = (replica.addr, replica.says_primary);
        if changed {
            self.say(
                host,
                if is_primary {
                    "-role-change"
                } else {
                    "+role-change"
                },
                addr,
            );
        }
        if sentinel.tilt_since.is_some() {
            return;
        }
        let is_promoted = group.promoted == Some(addr);
        if is_primary {
            if is_promoted && group.state == State::WaitPromotion {
                group.config_epoch = group.failover_epoch;
                self.enter(group, State::Reconfigure);
                self.flush_with(host, sentinel, group);
                self.say(host, "+promoted-slave", addr);
                force_hellos(group);
            } else {
                let wait = sentinel.hello_period * 4;
                let replica = &group.replicas[index];
                if !is_promoted
                    && group.is_sane(sentinel.info_period, now)
                    && replica.no_down_for(wait, now)
                    && now - replica.role_since > wait
                    && self.send_replica_of(at, Some(group.primary.addr))
                {
                    self.say(host, "+convert-to-slave", addr);
                }
            }
            return;
        }
        let wait = self.timings.failover_timeout;
        let replica = &group.replicas[index];
        if replica.follows != Some(group.primary.addr)
            && group.is_sane(sentinel.info_period, now)
            && replica.no_down_for(wait, now)
            && now - replica.follows_since > wait
            && self.send_replica_of(at, Some(group.primary.addr))
        {
            self.say(host, "+fix-slave-config", addr);
        }
        let replica = &mut group.replicas[index];
        if replica.reconf == Reconf::Sent
            && group.promoted.is_some()
            && replica.follows == group.promoted
        {
            replica.reconf = Reconf::Under;
        }
        if replica.reconf == Reconf::Under && replica.link_up {
            replica.reconf = Reconf::Done;
            self.say(host, "+slave-reconf-done", addr);
        }
    }

    /// Writes the file while the group is taken out.
    pub(super) fn flush_with(&mut self, host: Host, sentinel: &mut Sentinel, group: &mut Group) {
        let empty = Group::new(group.primary.addr, 1, 1, 0);
        sentinel.group = Some(std::mem::replace(group, empty));
        self.flush(host, sentinel);
        if let Some(full) = sentinel.group.take() {
            *group = full;
        }
    }

    fn hello_of(&self, host: Host, sentinel: &Sentinel, group: &Group) -> Heard {
        Heard {
            addr: self.hosts[host].addr,
            id: sentinel.id,
            current_epoch: sentinel.current_epoch,
            primary: group.named(),
            config_epoch: group.config_epoch,
        }
    }

    /// Publishes a hello on a server: all Sentinels hear it that listen there, or on its replicas
    /// if it is a primary, since its stream carries it on.
    pub(super) fn publish(&mut self, host: Host, sentinel: &Sentinel, group: &Group, on: Host) {
        let server = &self.hosts[on].server;
        if server.paused_until > self.now || server.failover.is_some() {
            return;
        }
        let hello = self.hello_of(host, sentinel, group);
        let is_primary = server.is_primary();
        for to in 0..self.hosts.len() {
            if to != host && self.listens(to, on, is_primary) {
                self.hear(to, hello);
            }
        }
        if is_primary && self.hosts[on].server.backlog_from.is_some() {
            self.append(on, HELLO_BYTES, Event::Filler);
        }
    }

    /// Returns whether the Sentinel of a host hears what is published on a server.
    fn listens(&self, host: Host, on: Host, is_primary: bool) -> bool {
        let Some(sentinel) = self.hosts[host]
            .sentinel
            .as_deref()
            .filter(|sentinel| sentinel.works())
        else {
            return false;
        };
        let Some(group) = &sentinel.group else {
            return false;
        };
        let hears = |server: Host| {
            let machine = &self.hosts[server];
            let line = if group.primary.addr == machine.addr {
                Some(&group.primary.line)
            } else {
                group
                    .replicas
                    .iter()
                    .find(|replica| replica.addr == machine.addr)
                    .map(|replica| &replica.line)
            };
            line.is_some_and(|line| {
                line.connected && line.process.is_some() && line.process == machine.server.process
            }) && self.net.open(server, host)
        };
        hears(on)
            || (is_primary
                && self.hosts[on].server.attached.iter().any(|replica| {
                    replica.online
                        && replica.flows
                        && replica.stream_from <= self.now
                        && hears(replica.host)
                }))
    }

    /// Hands a hello to a Sentinel directly.
    pub(super) fn hand_hello(&mut self, host: Host, sentinel: &Sentinel, group: &Group, to: Host) {
        let hello = self.hello_of(host, sentinel, group);
        if to != host {
            self.hear(to, hello);
        }
    }

    /// What a Sentinel does with a hello.
    pub(super) fn hear(&mut self, to: Host, hello: Heard) {
        let Some(mut sentinel) = self.hosts[to].sentinel.take() else {
            return;
        };
        if sentinel.group.is_some() && sentinel.id != hello.id {
            self.take_hello(to, &mut sentinel, hello);
        }
        self.hosts[to].sentinel = Some(sentinel);
    }

    fn take_hello(&mut self, to: Host, sentinel: &mut Sentinel, hello: Heard) {
        let now = self.now;
        let Some(group) = &mut sentinel.group else {
            return;
        };
        let mut new = false;
        let known = group
            .others
            .iter()
            .position(|peer| peer.addr == hello.addr && peer.id == hello.id);
        let index = known.unwrap_or_else(|| {
            let moved = group.others.iter().any(|peer| peer.id == hello.id);
            group
                .others
                .retain(|peer| peer.id != hello.id && peer.addr != hello.addr);
            group.others.push(Peer::new(hello.addr, hello.id, now));
            new = true;
            let _ = moved;
            group.others.len() - 1
        });
        group.others[index].heard = now;
        let newer_epoch = hello.current_epoch > sentinel.current_epoch;
        let newer_config = hello.config_epoch > group.config_epoch;
        let elsewhere = newer_config && group.primary.addr != hello.primary;
        if newer_config {
            group.config_epoch = hello.config_epoch;
        }
        if newer_epoch {
            sentinel.current_epoch = hello.current_epoch;
        }
        if new {
            self.say(to, "+sentinel", hello.addr);
        }
        if elsewhere {
            self.say(to, "+config-update-from", hello.addr);
            self.say(to, "+switch-master", hello.primary);
            self.move_to(to, sentinel, hello.primary);
        }
        if new || newer_epoch || newer_config {
            self.flush(to, sentinel);
            let soon = now + self.random.u64(1..100);
            sentinel.wake_by(soon);
        }
    }

    /// Begins anew with another primary; the old one is kept as a replica.
    pub(super) fn move_to(&mut self, host: Host, sentinel: &mut Sentinel, primary: Addr) {
        let now = self.now;
        let Some(group) = &mut sentinel.group else {
            return;
        };
        let old = group.primary.addr;
        let mut replicas: Vec<Addr> = group
            .replicas
            .iter()
            .map(|replica| replica.addr)
            .filter(|addr| *addr != primary)
            .collect();
        if old != primary {
            replicas.push(old);
        }
        group.reset(false, now);
        group.primary.addr = primary;
        group.primary.down_since = 0;
        group.agreed_down_since = 0;
        group.replicas = replicas
            .iter()
            .map(|addr| Instance::new(*addr, false, now))
            .collect();
        for addr in replicas {
            self.say(host, "+slave", addr);
        }
        self.flush(host, sentinel);
    }
}

/// Lets the next round say hello to everybody.
fn force_hellos(group: &mut Group) {
    let force = |published: &mut Millis| *published = 0;
    force(&mut group.primary.published);
    group
        .replicas
        .iter_mut()
        .for_each(|replica| force(&mut replica.published));
    group
        .others
        .iter_mut()
        .for_each(|peer| force(&mut peer.published));
}

/// Returns the offset that a replica tells of itself: none until it was linked once.
const fn seen_offset(offset: u64, follow: &Follow) -> u64 {
    use super::server::Link;
    match follow.link {
        Link::Up { .. } | Link::Drain { .. } => offset,
        _ if follow.resumable => offset,
        _ => 0,
    }
}
