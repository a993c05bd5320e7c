//! What Sentinels ask each other while the primary is down; it takes a moment to arrive.

use std::cmp::Reverse;

use super::api::Millis;
use super::cluster::{Cluster, Contact};
use super::sentinel::{Group, Id, Sentinel, State};
use super::server::{Addr, Host};

/// Time between two questions to the same Sentinel.
const ASK_PERIOD: Millis = 1_000;

/// Longest way of a letter, in milliseconds: processes on a busy machine, and the file that is
/// written before the answer.
const WAY_MAX: Millis = 6;

/// Longest that a vote takes on a slow disk.
const SLOW_VOTE_MAX: Millis = 6_000;

/// A question or an answer on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Letter {
    /// Whether the primary is down, and for a vote if there is a candidate.
    Ask {
        from: Host,
        process: u32,
        to: Addr,
        primary: Addr,
        epoch: u64,
        candidate: Option<Id>,
    },
    /// The answer.
    Answer {
        to: Host,
        process: u32,
        from: Id,
        down: bool,
        leader: Option<Id>,
        epoch: u64,
    },
}

impl Cluster {
    fn send(&mut self, after: Millis, letter: Letter) {
        self.mailed += 1;
        self.mail
            .push(Reverse((self.now + after, self.mailed, letter)));
    }

    /// Asks the others what they think of the primary while it is down.
    pub(super) fn ask_others(
        &mut self,
        host: Host,
        sentinel: &Sentinel,
        group: &mut Group,
        forced: bool,
    ) {
        let now = self.now;
        for index in 0..group.others.len() {
            let peer = &mut group.others[index];
            let age = now - peer.said_at;
            if age > ASK_PERIOD * 5 {
                peer.says_down = false;
                peer.leader = None;
            }
            if !group.primary.down || !peer.line.connected || (!forced && age < ASK_PERIOD) {
                continue;
            }
            let letter = Letter::Ask {
                from: host,
                process: sentinel.process.unwrap_or(0),
                to: peer.addr,
                primary: group.primary.addr,
                epoch: sentinel.current_epoch,
                candidate: (group.state > State::None).then_some(sentinel.id),
            };
            let way = 1 + self.random.u64(0..WAY_MAX);
            self.send(way, letter);
        }
    }

    /// Hands a letter over; one to a frozen Sentinel waits there.
    pub(super) fn deliver(&mut self, letter: Letter) {
        match letter {
            Letter::Ask { from, to, .. } => match self.contact_sentinel(from, to) {
                Contact::Answers(at) => self.answer(at, &letter),
                Contact::Silent => {
                    if let Some(at) = self.at[to] {
                        self.keep(from, at, letter);
                    }
                }
                Contact::Refused => {}
            },
            Letter::Answer {
                to,
                process,
                from,
                down,
                leader,
                epoch,
            } => {
                let now = self.now;
                let Some(sentinel) = self.hosts[to].sentinel.as_deref_mut() else {
                    return;
                };
                if sentinel.process != Some(process) {
                    return;
                }
                if sentinel.frozen_at.is_some() {
                    sentinel.inbox.push(letter);
                    return;
                }
                let Some(group) = &mut sentinel.group else {
                    return;
                };
                if let Some(peer) = group.others.iter_mut().find(|peer| peer.id == from) {
                    peer.said_at = now;
                    peer.says_down = down;
                    if leader.is_some() {
                        peer.leader = leader;
                        peer.leader_epoch = epoch;
                    }
                }
            }
        }
    }

    fn keep(&mut self, from: Host, at: Host, letter: Letter) {
        if self.net.open(from, at)
            && let Some(sentinel) = self.hosts[at].sentinel.as_deref_mut()
            && sentinel.frozen_at.is_some()
        {
            sentinel.inbox.push(letter);
        }
    }

    fn answer(&mut self, at: Host, letter: &Letter) {
        let Letter::Ask {
            from,
            process,
            primary,
            epoch,
            candidate,
            ..
        } = *letter
        else {
            return;
        };
        let Some((down, leader, voted)) = self.judge_and_vote(at, primary, epoch, candidate) else {
            return;
        };
        let slow = self.hosts[at].slow_disk && candidate.is_some();
        let way = 1 + self
            .random
            .u64(0..if slow { SLOW_VOTE_MAX } else { WAY_MAX });
        let id = self.hosts[at]
            .sentinel
            .as_ref()
            .map_or(0, |sentinel| sentinel.id);
        if self.net.open(at, from) {
            let answer = Letter::Answer {
                to: from,
                process,
                from: id,
                down,
                leader,
                epoch: voted,
            };
            self.send(way, answer);
        }
    }

    /// What `IS-PRIMARY-DOWN-BY-ADDR` does: whether it is down here, and a vote if asked for.
    pub(super) fn judge_and_vote(
        &mut self,
        at: Host,
        primary: Addr,
        epoch: u64,
        candidate: Option<Id>,
    ) -> Option<(bool, Option<Id>, u64)> {
        let mut sentinel = self.hosts[at].sentinel.take()?;
        let mut result = (false, None, 0);
        if let Some(mut group) = sentinel.group.take() {
            if group.primary.addr == primary {
                result.0 = group.primary.down && sentinel.tilt_since.is_none();
                if let Some(candidate) = candidate {
                    let (leader, voted) =
                        self.vote(at, &mut sentinel, &mut group, epoch, candidate);
                    result = (result.0, leader, voted);
                }
            }
            sentinel.group = Some(group);
        }
        self.hosts[at].sentinel = Some(sentinel);
        Some(result)
    }
}
