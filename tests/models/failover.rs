//! Sentinel's own failover: agreeing that the primary is down, election, promotion, switch.

use std::cmp::Reverse;

use super::api::Millis;
use super::cluster::{Cluster, Contact};
use super::sentinel::{Group, Id, Instance, Reconf, Sentinel, State};
use super::server::{Addr, Host, Queued};

/// Most by which the start of a failover is put off at random.
const DESYNC_MAX: Millis = 1_000;

/// Longest that an election may take.
const ELECTION_TIMEOUT: Millis = 10_000;

/// Longest that a replica may take to take up the new primary's address before it is left alone.
const RECONF_TIMEOUT: Millis = 10_000;

impl Cluster {
    /// What a Sentinel does in each round for the primary alone.
    pub(super) fn lead(&mut self, host: Host, sentinel: &mut Sentinel, group: &mut Group) {
        self.agree(host, group);
        if self.starts(group) {
            self.start_failover(host, sentinel, group);
            self.ask_others(host, sentinel, group, true);
        }
        self.step(host, sentinel, group);
        self.ask_others(host, sentinel, group, false);
    }

    fn agree(&mut self, host: Host, group: &mut Group) {
        let others = group.others.iter().filter(|peer| peer.says_down).count();
        let agreed = group.primary.down && others + 1 >= group.quorum;
        if agreed != group.agreed_down {
            group.agreed_down = agreed;
            if agreed {
                group.agreed_down_since = self.now;
            }
            self.say(
                host,
                if agreed { "+odown" } else { "-odown" },
                group.primary.addr,
            );
        }
    }

    fn starts(&self, group: &Group) -> bool {
        let earliest = group.failover_start + 2 * self.timings.failover_timeout;
        group.agreed_down
            && group.state == State::None
            && (group.failover_start == 0 || self.now >= earliest)
    }

    pub(super) fn start_failover(
        &mut self,
        host: Host,
        sentinel: &mut Sentinel,
        group: &mut Group,
    ) {
        sentinel.current_epoch += 1;
        group.failover_epoch = sentinel.current_epoch;
        group.failover_start = self.now + self.random.u64(0..DESYNC_MAX);
        self.enter(group, State::WaitStart);
        self.say(host, "+try-failover", group.primary.addr);
    }

    pub(super) const fn enter(&self, group: &mut Group, state: State) {
        group.state = state;
        group.state_since = self.now;
    }

    fn abort(&mut self, host: Host, group: &mut Group, why: &'static str) {
        self.say(host, why, group.primary.addr);
        self.enter(group, State::None);
        group.forced = false;
        group.promoted = None;
    }

    fn step(&mut self, host: Host, sentinel: &mut Sentinel, group: &mut Group) {
        match group.state {
            State::None | State::UpdateConfig => {}
            State::WaitStart => self.wait_start(host, sentinel, group),
            State::SelectReplica => match select(group, self.now, sentinel.info_period) {
                None => self.abort(host, group, "-failover-abort-no-good-slave"),
                Some(addr) => {
                    group.promoted = Some(addr);
                    self.enter(group, State::SendNoOne);
                }
            },
            State::SendNoOne => self.send_no_one(host, group),
            State::WaitPromotion => {
                if self.now - group.state_since > self.timings.failover_timeout {
                    self.abort(host, group, "-failover-abort-slave-timeout");
                }
            }
            State::Reconfigure => self.reconfigure(host, group),
        }
    }

    fn wait_start(&mut self, host: Host, sentinel: &mut Sentinel, group: &mut Group) {
        let winner = self.leader(host, sentinel, group);
        if winner == Some(sentinel.id) || group.forced {
            self.say(host, "+elected-leader", group.primary.addr);
            self.enter(group, State::SelectReplica);
            return;
        }
        let limit = ELECTION_TIMEOUT.min(self.timings.failover_timeout);
        if self.now.saturating_sub(group.failover_start) > limit {
            self.abort(host, group, "-failover-abort-not-elected");
        }
    }

    /// Returns who has the votes of a majority of all Sentinels known, and of the quorum.
    fn leader(&mut self, host: Host, sentinel: &mut Sentinel, group: &mut Group) -> Option<Id> {
        let mut votes: Vec<(Id, usize)> = Vec::with_capacity(4);
        let mut count = |id: Id| match votes.iter_mut().find(|(known, _)| *known == id) {
            Some((_, number)) => *number += 1,
            None => votes.push((id, 1)),
        };
        let cast = group
            .others
            .iter()
            .filter(|peer| peer.leader_epoch == sentinel.current_epoch);
        cast.filter_map(|peer| peer.leader).for_each(&mut count);
        let most = votes
            .iter()
            .max_by_key(|(_, number)| *number)
            .map(|(id, _)| *id);
        let epoch = group.failover_epoch;
        let (mine, mine_epoch) =
            self.vote(host, sentinel, group, epoch, most.unwrap_or(sentinel.id));
        if let Some(mine) = mine.filter(|_| mine_epoch == epoch) {
            match votes.iter_mut().find(|(known, _)| *known == mine) {
                Some((_, number)) => *number += 1,
                None => votes.push((mine, 1)),
            }
        }
        let all = group.others.len() + 1;
        let needed = (all / 2 + 1).max(group.quorum);
        votes
            .iter()
            .max_by_key(|(_, number)| *number)
            .filter(|(_, number)| *number >= needed)
            .map(|(id, _)| *id)
    }

    /// Votes, once in an epoch. Returns whom it voted for, and when.
    pub(super) fn vote(
        &mut self,
        host: Host,
        sentinel: &mut Sentinel,
        group: &mut Group,
        epoch: u64,
        candidate: Id,
    ) -> (Option<Id>, u64) {
        let mut changed = epoch > sentinel.current_epoch;
        sentinel.current_epoch = sentinel.current_epoch.max(epoch);
        if group.leader_epoch < epoch && sentinel.current_epoch <= epoch {
            group.leader = Some(candidate);
            group.leader_epoch = sentinel.current_epoch;
            changed = true;
            if candidate != sentinel.id {
                group.failover_start = self.now + self.random.u64(0..DESYNC_MAX);
            }
        }
        if changed {
            self.flush_with(host, sentinel, group);
        }
        (group.leader, group.leader_epoch)
    }

    fn send_no_one(&mut self, host: Host, group: &mut Group) {
        let Some(promoted) = group.promoted else {
            return;
        };
        let connected = group
            .replicas
            .iter()
            .any(|replica| replica.addr == promoted && replica.line.connected);
        if !connected {
            if self.now - group.state_since > self.timings.failover_timeout {
                self.abort(host, group, "-failover-abort-slave-timeout");
            }
            return;
        }
        self.send_to(host, promoted, None);
        self.enter(group, State::WaitPromotion);
    }

    fn reconfigure(&mut self, host: Host, group: &mut Group) {
        let now = self.now;
        let Some(promoted) = group.promoted else {
            return;
        };
        let under_way =
            |replica: &&Instance| matches!(replica.reconf, Reconf::Sent | Reconf::Under);
        let mut busy = group.replicas.iter().filter(under_way).count();
        for index in 0..group.replicas.len() {
            if busy >= self.timings.parallel_syncs {
                break;
            }
            let replica = &mut group.replicas[index];
            if replica.addr == promoted || replica.reconf == Reconf::Done {
                continue;
            }
            if replica.reconf == Reconf::Sent && now - replica.reconf_at > RECONF_TIMEOUT {
                replica.reconf = Reconf::Done;
            }
            if replica.reconf != Reconf::None || !replica.line.connected {
                continue;
            }
            replica.reconf = Reconf::Sent;
            replica.reconf_at = now;
            let addr = replica.addr;
            busy += 1;
            self.send_to(host, addr, Some(promoted));
            self.say(host, "+slave-reconf-sent", addr);
        }
        self.detect_end(host, group, promoted);
    }

    fn detect_end(&mut self, host: Host, group: &mut Group, promoted: Addr) {
        if group
            .replicas
            .iter()
            .any(|replica| replica.addr == promoted && replica.down)
        {
            return;
        }
        let late = self.now - group.state_since > self.timings.failover_timeout;
        let waiting = |replica: &&Instance| {
            replica.addr != promoted && replica.reconf != Reconf::Done && !replica.down
        };
        if !late && group.replicas.iter().any(|replica| waiting(&replica)) {
            return;
        }
        if late {
            self.say(host, "+failover-end-for-timeout", group.primary.addr);
            for index in 0..group.replicas.len() {
                let replica = &mut group.replicas[index];
                if replica.addr != promoted
                    && replica.reconf == Reconf::None
                    && replica.line.connected
                {
                    replica.reconf = Reconf::Sent;
                    let addr = replica.addr;
                    self.send_to(host, addr, Some(promoted));
                }
            }
        }
        self.say(host, "+failover-end", group.primary.addr);
        self.enter(group, State::UpdateConfig);
    }

    pub(super) fn switch_to_promoted(&mut self, host: Host, sentinel: &mut Sentinel) {
        let Some(group) = &sentinel.group else { return };
        let to = group.promoted.unwrap_or(group.primary.addr);
        self.say(host, "+switch-master", to);
        self.move_to(host, sentinel, to);
    }

    /// Sends `REPLICAOF` over a Sentinel's connection; a frozen server does it when it wakes.
    fn send_to(&mut self, host: Host, to: Addr, of: Option<Addr>) {
        match self.contact_server(host, to) {
            Contact::Answers(at) => {
                self.send_replica_of(at, of);
            }
            Contact::Silent => {
                let frozen = self.at[to].filter(|at| {
                    self.net.open(host, *at) && self.hosts[*at].server.frozen_at.is_some()
                });
                if let Some(at) = frozen {
                    self.hosts[at].server.queued.push(Queued::ReplicaOf(of));
                }
            }
            Contact::Refused => {}
        }
    }

    /// A server does what a Sentinel tells it, unless it loads or fails over by itself.
    pub(super) fn send_replica_of(&mut self, at: Host, of: Option<Addr>) -> bool {
        let server = &self.hosts[at].server;
        if server.is_loading() || server.failover.is_some() {
            return true;
        }
        match of {
            Some(of) => self.demote(at, of),
            None => self.promote(at),
        }
        true
    }
}

/// Chooses the replica to promote: priority, then offset, then run id.
pub fn select(group: &Group, now: Millis, info_period: Millis) -> Option<Addr> {
    const PING_PERIOD: Millis = 1_000;
    let mut down_max = group.down_after * 10;
    if group.primary.down {
        down_max += now - group.primary.down_since;
    }
    let info_max = if group.primary.down {
        PING_PERIOD * 5
    } else {
        info_period * 3
    };
    let good = group.replicas.iter().filter(|replica| {
        !replica.down
            && replica.line.connected
            && now - replica.line.available <= PING_PERIOD * 5
            && replica.priority > 0
            && replica.info_at > 0
            && now - replica.info_at <= info_max
            && replica.link_down_for.unwrap_or(0) <= down_max
    });
    good.min_by_key(|replica| (replica.priority, Reverse(replica.offset), replica.run_id))
        .map(|replica| replica.addr)
}
