//! What the leader alone decides: it names the deployment and the founder, and grants the turn.
//!
//! These decisions are writes to the application's databag. They take effect for everybody, the
//! leader included, only when the hook has succeeded, so nobody acts on one that was never committed.

use std::collections::BTreeMap;

use super::{
    names::UnitName,
    observation::{Observation, Storage},
    peer_data::{Founding, FoundingReason, UnitData, UnitState},
    step::Step,
    turn::{self, Claim},
    view::{Naming, compare},
};

/// Decides what to write into the application's databag at the end of this pass.
#[must_use]
pub fn duties(seen: &Observation) -> Vec<Step> {
    if !seen.leader {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if seen.app_wanted.deployment_id.is_none() {
        steps.push(Step::NameDeployment);
    }
    if seen.app_wanted.users_secret.is_none() {
        steps.push(Step::CreateUsers);
    }
    let founding = founding(seen);
    if founding != seen.app_wanted.founding
        && let Some(founding) = &founding
    {
        steps.push(Step::NameFounder(founding.clone()));
    }
    let wanted = turn::next_grant(
        seen.app_wanted.turn.as_ref(),
        &claims(seen, founding.as_ref()),
    );
    if wanted != seen.app_wanted.turn {
        steps.push(Step::GrantTurn(wanted));
    }
    steps
}

/// Collects who may be granted the turn; until somebody has founded, only the founder.
fn claims(seen: &Observation, founding: Option<&Founding>) -> BTreeMap<UnitName, Claim> {
    let founder = founding
        .filter(|founding| !founding.done)
        .map(|founding| &founding.unit);
    seen.units
        .iter()
        .map(|(name, unit)| {
            let mut request = unit.data.turn.clone();
            if founder.is_some_and(|founder| founder != name) {
                request.wants = None;
            }
            (
                name.clone(),
                Claim {
                    request,
                    dying: unit.dying,
                },
            )
        })
        .collect()
}

/// Decides who may serve without having been elected.
fn founding(seen: &Observation) -> Option<Founding> {
    let Some(current) = &seen.app_wanted.founding else {
        return Some(Founding {
            unit: newcomer(seen)?,
            generation: 1,
            reason: FoundingReason::Found,
            done: false,
        });
    };
    if !current.done {
        let carried_out = match current.reason {
            FoundingReason::Found => seen
                .units
                .values()
                .any(|unit| unit.data.state == UnitState::Member),
            FoundingReason::Restore => seen.serving().contains(&current.unit),
            // Its own Sentinel has to name it first: see the repair of the roles. Any other
            // primary makes the order void, or it would be carried out in a later outage.
            FoundingReason::Override => seen.primary().is_some(),
        };
        if carried_out {
            return Some(Founding {
                done: true,
                ..current.clone()
            });
        }
        let lost = seen.units.get(&current.unit).is_none_or(|unit| unit.dying);
        if !lost {
            return Some(passed_on(seen, current).unwrap_or_else(|| current.clone()));
        }
        if current.reason == FoundingReason::Found {
            return Some(newcomer(seen).map_or_else(
                || current.clone(),
                |unit| Founding {
                    unit,
                    generation: current.generation.saturating_add(1),
                    ..current.clone()
                },
            ));
        }
    }
    restore(seen, current).or_else(|| Some(current.clone()))
}

/// Returns who is to found: this unit, or another that stays when this one is being removed.
fn newcomer(seen: &Observation) -> Option<UnitName> {
    if !seen.mine().dying {
        return Some(seen.me.clone());
    }
    let staying = || seen.units.iter().filter(|(_, unit)| !unit.dying);
    let asking = staying().find(|(_, unit)| unit.data.turn.wants.is_some());
    asking
        .or_else(|| staying().next())
        .map(|(name, _)| name.clone())
}

/// Names another founder when the present one has given its turn back because it cannot start.
///
/// Safe, since it founds only under a turn, and until this is decided it gets none.
fn passed_on(seen: &Observation, current: &Founding) -> Option<Founding> {
    let founder = &seen.units.get(&current.unit)?.data;
    let request = &founder.turn;
    let in_force =
        seen.app_wanted.turn.as_ref().is_some_and(|grant| {
            grant.holder == current.unit && turn::in_force(grant, Some(request))
        });
    // A first request has number 1: what is above it, or a number without a wish, gave one back.
    let gave_back = request.number > u64::from(request.wants.is_some());
    let silent = seen.server(&current.unit).is_none() && seen.sentinel(&current.unit).is_none();
    if current.reason != FoundingReason::Found || in_force || !gave_back || !silent {
        return None;
    }
    let (next, _) = seen
        .units
        .iter()
        .filter(|(name, unit)| **name != current.unit && !unit.dying)
        .find(|(_, unit)| unit.data.turn.wants.is_some())?;
    Some(Founding {
        unit: next.clone(),
        generation: current.generation.saturating_add(1),
        ..current.clone()
    })
}

/// Decides whose copy everybody starts from again, when no process knows a primary any more.
///
/// Only when every unit has said what it holds: a unit that has not might hold more.
fn restore(seen: &Observation, current: &Founding) -> Option<Founding> {
    // Without its storage it may not know what itself holds.
    let blind = seen.storage != Storage::Ready && seen.mine().data.position.is_none();
    if !seen.serving().is_empty() || blind {
        return None;
    }
    // Whose record cannot be read might hold the most; its owner writes it again.
    if !seen.malformed.is_empty() {
        return None;
    }
    let members = seen.members();
    // A member that leaves and does not answer now may still hold everything.
    if seen.voters() > members.len() {
        return None;
    }
    let nobody_knows = members.is_empty() || seen.naming() == Naming::Bare;
    if !nobody_knows {
        return None;
    }
    let candidates: Vec<(&UnitName, _)> = seen
        .units
        .iter()
        .filter(|(_, unit)| !unit.dying)
        .map(|(name, unit)| (name, &unit.data))
        .collect();
    if candidates.iter().any(|(_, data)| data.address.is_none()) {
        return None;
    }
    // Members that are back say so through their Sentinel; without it they have not looked yet.
    if members.iter().any(|unit| seen.sentinel(unit).is_none()) {
        return None;
    }
    let (unit, data) = candidates.into_iter().max_by(|one, other| {
        compare(one.1.position.as_ref(), other.1.position.as_ref()).then_with(|| other.0.cmp(one.0))
    })?;
    let reason = if data.position.is_some() {
        FoundingReason::Restore
    } else {
        FoundingReason::Found
    };
    if reason == FoundingReason::Found && (!members.is_empty() || data_exists(seen, current)) {
        return None;
    }
    Some(Founding {
        unit: unit.clone(),
        generation: current.generation.saturating_add(1),
        reason,
        done: false,
    })
}

/// Returns whether the deployment's data is on some storage, so that nobody may begin with nothing.
///
/// Either a unit is still here that holds it, leaving or not, or the copy that everybody was to start from
/// went with its unit: then its storage has to come back, or a person has to say that it does not count.
fn data_exists(seen: &Observation, current: &Founding) -> bool {
    let holds = |data: &UnitData| data.state != UnitState::Left && data.position.is_some();
    seen.gone_with_data(current).is_some() || seen.units.values().any(|unit| holds(&unit.data))
}
