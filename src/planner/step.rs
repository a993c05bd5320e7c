//! The steps that a plan is made of: each is one call of an adapter and safe to repeat.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    names::UnitName,
    peer_data::{Founding, Grant, TurnKind, UnitState},
};

/// One thing to do, with nothing left to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Makes the passwords of the internal users and keeps them in a Juju secret.
    CreateUsers,
    /// Names this deployment.
    NameDeployment,
    /// Says which unit may serve without having been elected.
    NameFounder(Founding),
    /// Grants the turn, or takes it back.
    GrantTurn(Option<Grant>),
    /// Asks for the turn.
    RequestTurn(TurnKind),
    /// Gives the turn back, or withdraws the request.
    ReleaseTurn,
    /// Writes this unit's state into its databag.
    SetState(UnitState),
    /// Writes which data this unit holds into its databag and beside the data.
    RecordPosition,
    /// Claims an empty data directory, or one that a decision made ours, for this deployment.
    ClaimData {
        /// Generation of the founding decision that this follows.
        generation: u64,
    },
    /// Takes or renews the lease on membership changes.
    TakeLease,
    /// Gives the lease back.
    ReleaseLease,
    /// Copies the data set aside before it may be overwritten.
    KeepAside,
    /// Starts the local server.
    StartServer {
        /// Host of the primary to follow; nothing for a primary.
        follow: Option<String>,
        /// Value of `min-replicas-to-write`.
        min_replicas: usize,
        /// Whether to load the snapshot of an orderly stop, so that replication resumes partially.
        from_snapshot: bool,
    },
    /// Stops the local server in order, with its data saved.
    StopServer,
    /// Starts the local Sentinel, with its own file if it has one.
    StartSentinel {
        /// Host of the primary to monitor if it has no file.
        monitor: String,
        /// Quorum if it has no file.
        quorum: usize,
        /// Whether to forget an earlier life: the file is written anew.
        fresh: bool,
    },
    /// Stops the local Sentinel.
    StopSentinel,
    /// Lets a Sentinel that lost its state monitor again.
    Monitor {
        /// Host of the primary.
        primary: String,
        /// Quorum.
        quorum: usize,
    },
    /// Tells every Sentinel of the local one, and the local one of the others.
    Announce,
    /// Starts the watcher.
    StartWatch,
    /// Makes the local server promotable, or not.
    SetPromotable(bool),
    /// Sets the quorum on the Sentinels of these units.
    SetQuorum {
        /// Units whose Sentinel is set.
        on: Vec<UnitName>,
        /// Value.
        quorum: usize,
    },
    /// Sets `min-replicas-to-write` on the servers of these units.
    SetMinReplicas {
        /// Units whose server is set.
        on: Vec<UnitName>,
        /// Value.
        value: usize,
    },
    /// Applies settings to the running server and Sentinel.
    ApplySettings,
    /// Lets the local server follow the primary.
    Follow {
        /// Host of the primary.
        primary: String,
    },
    /// Hands the role of primary over, without losing a write.
    HandOver {
        /// The present primary.
        from: UnitName,
        /// The next one.
        to: UnitName,
        /// Whether `from` leaves the set afterwards.
        leaving: bool,
    },
    /// Promotes a replica of a primary that is gone.
    Promote {
        /// The next primary.
        to: UnitName,
    },
    /// Tells the Sentinels of a hand-over whose caller died on the way.
    CompleteHandOver {
        /// The primary in fact.
        to: UnitName,
    },
    /// Clears departed members from the Sentinels, one Sentinel after another.
    Forget {
        /// Units whose Sentinel and server belong to the set afterwards.
        remaining: Vec<UnitName>,
    },
}

fn join(units: &[UnitName]) -> String {
    units
        .iter()
        .map(UnitName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateUsers => f.write_str("create the internal users' passwords"),
            Self::NameDeployment => f.write_str("name the deployment"),
            Self::NameFounder(founding) => {
                write!(
                    f,
                    "let {} serve (decision {})",
                    founding.unit, founding.generation
                )
            }
            Self::GrantTurn(Some(grant)) => write!(f, "grant the turn to {}", grant.holder),
            Self::GrantTurn(None) => f.write_str("free the turn"),
            Self::RequestTurn(TurnKind::Start) => f.write_str("ask for the turn to start"),
            Self::RequestTurn(TurnKind::Restart) => f.write_str("ask for the turn to restart"),
            Self::ReleaseTurn => f.write_str("give the turn back"),
            Self::SetState(state) => write!(f, "set the state to {state:?}"),
            Self::RecordPosition => f.write_str("record the position of the data"),
            Self::ClaimData { generation } => write!(f, "claim the data for decision {generation}"),
            Self::TakeLease => f.write_str("take the lease on membership changes"),
            Self::ReleaseLease => f.write_str("give the lease back"),
            Self::KeepAside => f.write_str("keep the data set aside"),
            Self::StartServer {
                follow: Some(host), ..
            } => write!(f, "start the server as replica of {host}"),
            Self::StartServer { follow: None, .. } => f.write_str("start the server as primary"),
            Self::StopServer => f.write_str("save and stop the server"),
            Self::StartSentinel { monitor, .. } => {
                write!(f, "start Sentinel for primary {monitor}")
            }
            Self::StopSentinel => f.write_str("stop Sentinel"),
            Self::Monitor { primary, quorum } => {
                write!(f, "let Sentinel monitor {primary} with quorum {quorum}")
            }
            Self::Announce => f.write_str("announce Sentinel to the others"),
            Self::StartWatch => f.write_str("start the watcher"),
            Self::SetPromotable(true) => f.write_str("make the server promotable"),
            Self::SetPromotable(false) => f.write_str("make the server not promotable"),
            Self::SetQuorum { on, quorum } => write!(f, "set quorum {quorum} on {}", join(on)),
            Self::SetMinReplicas { on, value } => {
                write!(f, "set min-replicas-to-write {value} on {}", join(on))
            }
            Self::ApplySettings => f.write_str("apply the settings"),
            Self::Follow { primary } => write!(f, "follow {primary}"),
            Self::HandOver { from, to, .. } => write!(f, "hand over from {from} to {to}"),
            Self::Promote { to } => write!(f, "promote {to}"),
            Self::CompleteHandOver { to } => write!(f, "complete the hand-over to {to}"),
            Self::Forget { remaining } => write!(
                f,
                "clear departed members from the Sentinels of {}",
                join(remaining)
            ),
        }
    }
}
