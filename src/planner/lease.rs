//! What the lease on membership changes is needed for, and who holds it up.

use super::{
    numbers::majority,
    observation::{Intent, Observation},
    peer_data::UnitState,
    step::Step,
};

impl Observation {
    /// Returns whether `step` changes who belongs to the set, so that the lease is made sure of
    /// right before it: it may have run out, or have been lost with a failover, since the look.
    #[must_use]
    pub fn changes_the_set(&self, step: &Step) -> bool {
        match step {
            Step::Forget { .. } => true,
            // Its own quorum each unit keeps right by itself, and again with every look.
            Step::SetQuorum { on, .. } => on.iter().any(|unit| *unit != self.me),
            Step::StartServer { follow, .. } => {
                follow.is_some() && self.mine().data.state != UnitState::Member
            }
            // A restart goes under the turn.
            Step::HandOver { .. } | Step::StopSentinel | Step::StopServer => {
                self.intent == Intent::Leave || self.holds_turn()
            }
            Step::CreateUsers
            | Step::NameDeployment
            | Step::NameFounder(_)
            | Step::GrantTurn(_)
            | Step::RequestTurn(_)
            | Step::ReleaseTurn
            | Step::SetState(_)
            | Step::RecordPosition
            | Step::ClaimData { .. }
            | Step::TakeLease
            | Step::ReleaseLease
            | Step::KeepAside
            | Step::StartSentinel { .. }
            | Step::Monitor { .. }
            | Step::Announce
            | Step::StartWatch
            | Step::SetPromotable(_)
            | Step::SetMinReplicas { .. }
            | Step::ApplySettings
            | Step::Follow { .. }
            | Step::Promote { .. }
            | Step::CompleteHandOver { .. } => false,
        }
    }

    /// Returns how many replicas must acknowledge the lease, so that a majority of what answers holds it.
    ///
    /// Dead members cannot acknowledge, and only replicas that receive the stream of writes can.
    #[must_use]
    pub fn lease_witnesses(&self) -> usize {
        let servers = self.servers.values();
        let answering = servers.filter(|server| server.known().is_some()).count();
        let primary = self.primary();
        let server = primary.as_ref().and_then(|primary| self.server(primary));
        let online = server.map_or(0, |server| {
            let replicas = server.replicas.iter();
            replicas.filter(|replica| replica.online).count()
        });
        (majority(answering.max(1)) - 1).min(online)
    }

    /// Returns the hosts of the units that belong to the set: one of them takes writes, whoever is primary by then.
    #[must_use]
    pub fn member_hosts(&self) -> Vec<String> {
        self.belonging()
            .iter()
            .filter_map(|unit| self.host_of(unit))
            .map(str::to_owned)
            .collect()
    }
}
