//! What follows from an observation alone: who belongs, who is primary, who could be.

use super::{
    names::UnitName,
    numbers::majority,
    observation::{Lease, Monitor, Observation, Role, Sentinel, Server, Unit},
    peer_data::{Founding, FoundingReason, Position, UnitData, UnitState},
    turn,
};

/// Whom the members' Sentinels name as primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// A majority names this host.
    Agreed {
        /// The host.
        host: String,
        /// How many Sentinels name it.
        votes: usize,
    },
    /// A majority answers, but does not agree.
    Split,
    /// A majority answers and none of them monitors anything.
    Bare,
    /// Too few answer, or too few of those that answer monitor anything.
    TooFew {
        /// How many answer and monitor something.
        answering: usize,
        /// How many are needed.
        needed: usize,
    },
}

static NO_UNIT: Unit = Unit {
    data: UnitData {
        address: None,
        state: UnitState::New,
        turn: super::peer_data::TurnRequest {
            number: 0,
            wants: None,
            asked_at: 0,
        },
        position: None,
        settings: None,
        server_version: None,
        sentinel: None,
        last_change: None,
    },
    dying: false,
};

impl Observation {
    /// Returns what is known of this unit itself.
    #[must_use]
    pub fn mine(&self) -> &Unit {
        self.units.get(&self.me).unwrap_or(&NO_UNIT)
    }

    /// Returns the host of a unit.
    #[must_use]
    pub fn host_of(&self, unit: &UnitName) -> Option<&str> {
        if *unit == self.me {
            return Some(&self.local.address);
        }
        self.units.get(unit)?.data.address.as_deref()
    }

    /// Returns the unit at a host.
    #[must_use]
    pub fn unit_at(&self, host: &str) -> Option<&UnitName> {
        self.units
            .keys()
            .find(|unit| self.host_of(unit) == Some(host))
    }

    /// Returns the name to show for a host: the unit's if it is known.
    #[must_use]
    pub fn show_host(&self, host: &str) -> String {
        self.unit_at(host)
            .map_or_else(|| host.to_owned(), ToString::to_string)
    }

    /// Returns the answer of a unit's server.
    #[must_use]
    pub fn server(&self, unit: &UnitName) -> Option<&Server> {
        self.servers.get(unit)?.known()
    }

    /// Returns the answer of a unit's Sentinel.
    #[must_use]
    pub fn sentinel(&self, unit: &UnitName) -> Option<&Sentinel> {
        self.sentinels.get(unit)?.known()
    }

    /// Returns what a unit's Sentinel monitors.
    #[must_use]
    pub fn monitor(&self, unit: &UnitName) -> Option<&Monitor> {
        self.sentinel(unit)?.monitor.as_ref()
    }

    /// Returns the units that belong to the set.
    ///
    /// A unit that crashed still belongs. One that is being removed and whose processes are gone
    /// has left, even where its databag does not say so yet, if it surely is not only out of reach.
    #[must_use]
    pub fn members(&self) -> Vec<UnitName> {
        self.units
            .iter()
            .filter(|(_, unit)| unit.data.state == UnitState::Member)
            .filter(|(name, unit)| !unit.dying || self.is_there(name) || !self.has_left(name))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns the members other than this unit.
    #[must_use]
    pub fn other_members(&self) -> Vec<UnitName> {
        self.members()
            .into_iter()
            .filter(|unit| *unit != self.me)
            .collect()
    }

    /// Returns the units that belong to the set as its processes show it: the members, and who has
    /// joined since this hook read the databags.
    ///
    /// A hook reads the databags once, and a unit that is being removed is told of no change any
    /// more. To go by them alone would forget a unit whose Sentinel votes by now.
    #[must_use]
    pub fn belonging(&self) -> Vec<UnitName> {
        let members = self.members();
        let serving = self.serving();
        let lists = |one: &UnitName, other: &UnitName| {
            let host = self.host_of(other);
            self.monitor(one).is_some_and(|it| {
                it.others
                    .iter()
                    .any(|known| Some(known.host.as_str()) == host)
            })
        };
        // One side is enough: the other Sentinel may be stopped by now.
        let joined = |unit: &UnitName, known: &Unit| {
            *unit != self.me
                && matches!(known.data.state, UnitState::New | UnitState::Detached)
                && self.monitor(unit).is_some()
                && (serving.contains(unit)
                    || members
                        .iter()
                        .any(|member| lists(member, unit) || lists(unit, member)))
        };
        self.units
            .iter()
            .filter(|(unit, known)| members.contains(unit) || joined(unit, known))
            .map(|(unit, _)| unit.clone())
            .collect()
    }

    /// Returns whom the Sentinels of the members name.
    #[must_use]
    pub fn naming(&self) -> Naming {
        let members = self.members();
        let needed = majority(members.len());
        let answering: Vec<&Sentinel> = members
            .iter()
            .filter_map(|unit| self.sentinel(unit))
            .collect();
        if members.is_empty() || answering.len() < needed {
            return Naming::TooFew {
                answering: answering.len(),
                needed,
            };
        }
        let hosts: Vec<&str> = answering
            .iter()
            .filter_map(|sentinel| sentinel.monitor.as_ref())
            .map(|monitor| monitor.primary.as_str())
            .collect();
        if hosts.is_empty() {
            return Naming::Bare;
        }
        for host in &hosts {
            let votes = hosts.iter().filter(|other| other == &host).count();
            if votes >= needed {
                return Naming::Agreed {
                    host: (*host).to_owned(),
                    votes,
                };
            }
        }
        // One that lost its state contradicts nobody: it is only not there.
        if hosts.len() < needed {
            return Naming::TooFew {
                answering: hosts.len(),
                needed,
            };
        }
        Naming::Split
    }

    /// Returns how many members' Sentinels answer.
    #[must_use]
    pub fn voices(&self) -> usize {
        let members = self.members();
        let answering = members.iter().filter(|unit| self.sentinel(unit).is_some());
        answering.count()
    }

    /// Returns how many Sentinels name `host`.
    #[must_use]
    pub fn votes_for(&self, host: &str) -> usize {
        self.members()
            .iter()
            .filter(|unit| {
                self.monitor(unit)
                    .is_some_and(|monitor| monitor.primary == host)
            })
            .count()
    }

    /// Returns the units whose server says that it is a primary and has its data loaded.
    #[must_use]
    pub fn serving(&self) -> Vec<UnitName> {
        self.servers
            .iter()
            .filter_map(|(unit, seen)| Some((unit, seen.known()?)))
            .filter(|(_, server)| server.role == Role::Primary && server.loading.is_none())
            .map(|(unit, _)| unit.clone())
            .collect()
    }

    /// Returns the primary that can be followed: named by a majority of Sentinels and serving.
    ///
    /// Where no majority answers, a single serving primary counts unless a Sentinel that answers
    /// names somebody else.
    #[must_use]
    pub fn primary(&self) -> Option<UnitName> {
        let serving = self.serving();
        match self.naming() {
            Naming::Agreed { host, .. } => {
                let unit = self.unit_at(&host)?;
                serving.contains(unit).then(|| unit.clone())
            }
            Naming::Split => None,
            Naming::Bare | Naming::TooFew { .. } => {
                let [only] = serving.as_slice() else {
                    return None;
                };
                let host = self.host_of(only)?;
                let contradicted = self
                    .sentinels
                    .values()
                    .filter_map(|seen| seen.known()?.monitor.as_ref())
                    .any(|monitor| monitor.primary != host);
                (!contradicted).then(|| only.clone())
            }
        }
    }

    /// Returns the primary, or whom this unit's own Sentinel names where the Sentinels do not agree.
    #[must_use]
    pub fn primary_or_named(&self) -> Option<UnitName> {
        let named = || self.unit_at(&self.monitor(&self.me)?.primary).cloned();
        self.primary().or_else(named)
    }

    /// Returns a member whose Sentinel answers and does not know the local one, or the other way round.
    #[must_use]
    pub fn stranger(&self) -> Option<UnitName> {
        let mine = self.monitor(&self.me)?;
        self.other_members().into_iter().find(|unit| {
            self.monitor(unit).is_some_and(|theirs| {
                let host = self.host_of(unit).unwrap_or_default();
                let knows = |monitor: &Monitor, host: &str| {
                    monitor.others.iter().any(|other| other.host == host)
                };
                !knows(theirs, &self.local.address) || !knows(mine, host)
            })
        })
    }

    /// Returns whether a Sentinel works on a failover now.
    #[must_use]
    pub fn failing_over(&self) -> bool {
        self.members()
            .iter()
            .filter_map(|unit| self.monitor(unit))
            .any(|monitor| monitor.failing_over)
    }

    /// Returns whether a Sentinel works on a failover that may end in another server than that of `host`.
    ///
    /// One that has promoted that server waits for nothing but its answer.
    #[must_use]
    pub fn may_be_replaced(&self, host: &str) -> bool {
        self.members()
            .iter()
            .filter_map(|unit| self.monitor(unit))
            .any(|monitor| monitor.failing_over && !(monitor.promoted && monitor.primary == host))
    }

    /// Returns the highest epoch that any Sentinel shows.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.sentinels
            .values()
            .filter_map(|seen| seen.known()?.monitor.as_ref())
            .map(|monitor| monitor.epoch)
            .max()
            .unwrap_or(0)
    }

    /// Returns how many units say that they are members, those among them that are leaving too.
    ///
    /// What could have voted without this unit knowing, because it is cut off from them.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.units
            .values()
            .filter(|unit| unit.data.state == UnitState::Member)
            .count()
    }

    /// Returns whether this unit may join: it holds the turn, or all members that answer are leaving.
    ///
    /// Who leaves waits for somebody to take the data over, and its hook may be what keeps the
    /// leader from granting the turn; the lease still lets only one unit change the set.
    #[must_use]
    pub fn may_join(&self) -> bool {
        if self.holds_turn() {
            return true;
        }
        let members = self.belonging();
        let leaves = |unit: &UnitName| self.units.get(unit).is_some_and(|known| known.dying);
        let all_leave = members.iter().any(leaves)
            && members
                .iter()
                .all(|unit| leaves(unit) || self.server(unit).is_none());
        // One that leaves has no use for its turn, and its hook may fail until somebody has joined.
        let free = self.turn_holder().is_none_or(leaves);
        all_leave && self.mine().data.turn.wants.is_some() && free
    }

    /// Returns the unit whose copy was to count in a decision that nobody carried out, if it is gone with it.
    #[must_use]
    pub fn gone_with_data<'a>(&self, decision: &'a Founding) -> Option<&'a UnitName> {
        let has_copy = decision.reason != FoundingReason::Found;
        let gone = !self.units.contains_key(&decision.unit);
        (!decision.done && has_copy && gone).then_some(&decision.unit)
    }

    /// Returns whether this unit holds the turn, by what was committed before this hook.
    #[must_use]
    pub fn holds_turn(&self) -> bool {
        turn::held_by(self.app.turn.as_ref(), &self.me, &self.mine().data.turn)
    }

    /// Returns the unit that has the turn, if the grant is still in force.
    #[must_use]
    pub fn turn_holder(&self) -> Option<&UnitName> {
        let grant = self.app.turn.as_ref()?;
        let holder = self.units.get(&grant.holder)?;
        turn::in_force(grant, Some(&holder.data.turn)).then_some(&grant.holder)
    }

    /// Returns whether another unit changes the set of members now.
    ///
    /// One that has the turn and has not started yet may wait for what the members have to put right first.
    #[must_use]
    pub fn membership_busy(&self) -> bool {
        let joining = self.turn_holder().is_some_and(|holder| {
            let joins = |unit: &Unit| unit.data.state != UnitState::Member;
            *holder != self.me && self.units.get(holder).is_some_and(joins) && self.is_there(holder)
        });
        joining || matches!(self.lease, Lease::Other(_))
    }

    /// Returns a unit that can take the role of primary over from `from` without losing a write.
    ///
    /// # Errors
    ///
    /// Why nobody can, in words for a person.
    pub fn takeover_target(&self, from: &UnitName) -> Result<UnitName, String> {
        let mut obstacles = Vec::new();
        let mut best: Option<((bool, u64), UnitName)> = None;
        for unit in self.belonging().into_iter().filter(|unit| unit != from) {
            match self.can_take_over(&unit, from) {
                Ok(offset) => {
                    // Offsets are made equal in a hand-over, versions are not.
                    let rank = (self.left_behind(&unit, from).is_none(), offset);
                    if best.as_ref().is_none_or(|(highest, _)| rank > *highest) {
                        best = Some((rank, unit));
                    }
                }
                Err(obstacle) => obstacles.push(format!("{unit} {obstacle}")),
            }
        }
        best.map(|(_, unit)| unit).ok_or_else(|| {
            if obstacles.is_empty() {
                "no other unit is a member".to_owned()
            } else {
                obstacles.join(", ")
            }
        })
    }

    /// Returns the offset of `unit` if it can take over from `from`.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn can_take_over(&self, unit: &UnitName, from: &UnitName) -> Result<u64, &'static str> {
        let Some(known) = self.units.get(unit) else {
            return Err("is not a unit of this application");
        };
        if !self.belonging().contains(unit) {
            return Err("is not a member yet");
        }
        if known.dying {
            return Err("is leaving");
        }
        let Some(server) = self.server(unit) else {
            return Err("does not answer");
        };
        if server.loading.is_some() {
            return Err("is loading its data");
        }
        let Role::Replica {
            of,
            link_up,
            syncing,
        } = &server.role
        else {
            return Err("is no replica");
        };
        if syncing.is_some() {
            return Err("is syncing");
        }
        if !link_up || Some(of.as_str()) != self.host_of(from) {
            return Err("is not in sync with the primary");
        }
        if server.priority == 0 {
            return Err("is not promotable");
        }
        Ok(server.offset)
    }

    /// Returns the host of the primary that `to` is to replace: whom the Sentinels name, or whom it follows.
    #[must_use]
    pub fn former_primary(&self, to: &UnitName) -> Option<String> {
        let following = self.server(to).and_then(|server| match &server.role {
            Role::Replica { of, .. } => Some(of.clone()),
            Role::Primary => None,
        });
        self.members()
            .iter()
            .find_map(|unit| self.monitor(unit).map(|monitor| monitor.primary.clone()))
            .filter(|host| self.host_of(to) != Some(host.as_str()))
            .or(following)
    }

    /// Returns the best copy among the replicas that answer, for when the primary is gone: one that is promotable, or
    /// else the one whose record says the most.
    #[must_use]
    pub fn best_replica(&self) -> Option<UnitName> {
        self.copies()
            .into_iter()
            .filter_map(|unit| {
                let server = self.server(&unit)?;
                // A replica that was never made promotable since it started may lack data that
                // one which was has; its own record tells how far it had come.
                let recorded = self
                    .units
                    .get(&unit)
                    .and_then(|known| known.data.position.clone());
                Some((unit, server.priority > 0, recorded, server.offset))
            })
            .max_by(|one, other| {
                one.1
                    .cmp(&other.1)
                    .then_with(|| {
                        if one.1 {
                            one.3.cmp(&other.3)
                        } else {
                            compare(one.2.as_ref(), other.2.as_ref())
                        }
                    })
                    .then_with(|| other.0.cmp(&one.0))
            })
            .map(|(unit, ..)| unit)
    }
}

/// Compares what two units recorded of their data: the later configuration, then the primary of
/// it, then the offset if it is one history, then the later record.
#[must_use]
pub fn compare(one: Option<&Position>, other: Option<&Position>) -> std::cmp::Ordering {
    match (one, other) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (Some(_), None) => std::cmp::Ordering::Greater,
        (Some(one), Some(other)) => one
            .epoch
            .cmp(&other.epoch)
            .then_with(|| one.primary.cmp(&other.primary))
            .then_with(|| {
                if one.history == other.history {
                    one.offset.cmp(&other.offset)
                } else {
                    one.recorded_at.cmp(&other.recorded_at)
                }
            }),
    }
}
