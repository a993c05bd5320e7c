//! Decides what to do next: no I/O, no clock, no randomness, no `async`.
//!
//! Everything that a decision needs is in the [`Observation`]; what is not known stays unknown there.
//! A plan ends where knowledge ends: after a hand-over nobody knows the primary, so the next look
//! decides the rest. Every step is safe to repeat, since a hook may be cut off after any of them.

mod copies;
pub mod fence;
mod forgetting;
mod gate;
pub mod invariants;
pub mod leader;
mod leaks;
mod lease;
mod leave;
mod names;
pub mod numbers;
pub mod observation;
pub mod peer_data;
mod peer_values;
mod reason;
mod reconcile;
pub mod record;
pub mod refresh;
mod repair;
pub mod rotation;
mod step;
pub mod turn;
mod upkeep;
pub mod view;

#[cfg(test)]
mod failover_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refresh_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting_tests;

use serde::{Deserialize, Serialize};

pub use self::{
    gate::plan as plan_start,
    names::UnitName,
    observation::{Intent, Observation},
    reason::{Reason, Severity, bytes},
    reconcile::give_up,
    repair::OUTAGE_PATIENCE_MS,
    step::Step,
};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Carry out these steps, then look again.
    Act {
        /// In this order; the first that fails ends the plan.
        steps: Vec<Step>,
        /// Why, in words for a person.
        why: String,
    },
    /// Carry out these steps, then wait a moment and look again.
    ActAndPoll {
        /// In this order.
        steps: Vec<Step>,
        /// What is awaited.
        reason: Reason,
    },
    /// Carry out these steps; the rest is for a later hook.
    ActAndWait {
        /// In this order.
        steps: Vec<Step>,
        /// What is awaited.
        reason: Reason,
    },
    /// Wait a moment and look again: it should come within this hook.
    Poll(Reason),
    /// Nothing to do until something else happens.
    Wait(Reason),
    /// The hook must fail: going on would lose data.
    Refuse(Reason),
    /// Everything is as it should be.
    Settled,
}

impl Plan {
    /// Makes a plan of steps.
    fn act(steps: Vec<Step>, why: &str) -> Self {
        Self::Act {
            steps,
            why: why.to_owned(),
        }
    }

    /// Returns the steps of the plan.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Act { steps, .. }
            | Self::ActAndPoll { steps, .. }
            | Self::ActAndWait { steps, .. } => steps,
            Self::Poll(_) | Self::Wait(_) | Self::Refuse(_) | Self::Settled => &[],
        }
    }

    /// Returns what is awaited, if anything.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::ActAndPoll { reason, .. }
            | Self::ActAndWait { reason, .. }
            | Self::Poll(reason)
            | Self::Wait(reason)
            | Self::Refuse(reason) => Some(reason),
            Self::Act { .. } | Self::Settled => None,
        }
    }
}

/// Decides what this unit does next.
#[must_use]
pub fn plan(seen: &Observation) -> Plan {
    match seen.intent {
        Intent::Reconcile => reconcile::plan(seen),
        Intent::Leave => leave::plan(seen),
        Intent::Look => Plan::Settled,
    }
}
