//! How a unit that loses its storage leaves the set: hand over, save and stop, be forgotten.
//!
//! The handler may be cut off after any step and run again, so every question is asked anew: what
//! is done is seen to be done. A dead peer is skipped, not waited for.

use super::{
    Plan, gate,
    names::UnitName,
    numbers::{majority, min_replicas_to_write, sentinel_quorum},
    observation::{Lease, Monitor, Observation, Process, Role, Server, Storage, Unit, Users},
    peer_data::UnitState,
    reason::Reason,
    repair,
    step::Step,
    view::{Naming, compare},
};

/// Plans the next steps of leaving.
#[must_use]
pub fn plan(seen: &Observation) -> Plan {
    let data = &seen.mine().data;
    if data.state == UnitState::Detached && brings_the_data(seen) {
        let steps = vec![Step::SetState(UnitState::Member)];
        return Plan::act(steps, "its storage is back, with the data that others need");
    }
    if matches!(data.state, UnitState::Left | UnitState::Detached) && stopped(seen) {
        return Plan::Settled;
    }
    let mut remaining = seen.belonging();
    remaining.retain(|unit| *unit != seen.me);
    let staying: Vec<UnitName> = remaining
        .iter()
        .filter(|unit| seen.units.get(unit).is_some_and(|known| !known.dying))
        .cloned()
        .collect();
    // Nobody stays: the whole application goes, or everything is scaled away. The data is saved
    // for whoever attaches the storage again; there is nobody to tell.
    if data.state != UnitState::Member {
        return stop_only(seen);
    }
    if staying.is_empty() {
        return last_to_go(seen);
    }
    // Its data may be the newest, and nobody serves: it comes back before it leaves.
    if seen.local.server == Process::Stopped && !saved(seen) && seen.serving().is_empty() {
        match gate::plan(seen) {
            plan if was_primary(seen) => return plan,
            // To hear its Sentinel is no help to a replica that would stop it again.
            Plan::Act { steps, .. } if matches!(*steps, [Step::StartSentinel { .. }]) => {}
            plan @ (Plan::Act { .. } | Plan::ActAndPoll { .. }) => return plan,
            // What a replica waits for may never come: the evidence decides below.
            _ => {}
        }
    }
    if let Some(wait) = no_target(seen) {
        return wait;
    }
    if let Some(wait) = lease(seen) {
        return wait;
    }
    // A hand-over whose caller died: until the Sentinels know the primary, they might elect another.
    if let Some(to) = repair::unfinished(seen) {
        return Plan::act(
            vec![Step::CompleteHandOver { to }],
            "the Sentinels were not told",
        );
    }
    if seen.local.server == Process::Running {
        return part(seen, &remaining, &staying);
    }
    if seen.local.sentinel == Process::Running {
        if let Some(wait) = untold(seen, &remaining) {
            return wait;
        }
        return Plan::act(vec![Step::StopSentinel], "the server is stopped");
    }
    if let Some(plan) = forget(seen, &remaining) {
        return plan;
    }
    finish(seen, true)
}

fn stopped(seen: &Observation) -> bool {
    seen.local.server == Process::Stopped && seen.local.sentinel == Process::Stopped
}

/// Returns whether the data was saved in order when the server stopped.
fn saved(seen: &Observation) -> bool {
    !seen.local.has_data || seen.recorded().is_some_and(|position| position.clean)
}

fn was_primary(seen: &Observation) -> bool {
    seen.recorded().is_some_and(|position| position.primary)
}

/// Returns the units that wait to join and stay.
fn newcomers(seen: &Observation) -> impl Iterator<Item = (&UnitName, &Unit)> {
    seen.units.iter().filter(|(name, unit)| {
        let waits = matches!(unit.data.state, UnitState::New | UnitState::Detached);
        **name != seen.me && !unit.dying && waits
    })
}

/// Returns whether this unit was the last primary and has all that it needs to serve again.
fn could_serve(seen: &Observation) -> bool {
    let usable = seen.storage == Storage::Ready && seen.users == Users::Ready;
    usable && seen.local.has_data && was_primary(seen)
}

/// Returns whether this unit, whose storage went and came back before it was removed, has the data that those
/// who wait to join would begin without: it serves once more, for them to take over.
///
/// It needs no turn, since the leader lets nobody begin anew while this unit is here.
fn brings_the_data(seen: &Observation) -> bool {
    let less = |unit: &Unit| compare(unit.data.position.as_ref(), seen.recorded()).is_lt();
    let mut waiting = newcomers(seen).peekable();
    let needed = waiting.peek().is_some() && waiting.all(|(_, unit)| less(unit));
    seen.mine().dying
        && could_serve(seen)
        && needed
        && seen.members().is_empty()
        && seen.serving().is_empty()
}

/// Plans for when no member stays: a unit that is about to join takes the data over first.
///
/// Without it that unit would begin anew with nothing, while the data left with this one.
fn last_to_go(seen: &Observation) -> Plan {
    // Storage that was detached may come back and hold less. A unit that lives on takes nothing
    // along: it keeps nobody waiting, and is waited for itself.
    let Some((newcomer, unit)) = newcomers(seen).next().filter(|_| seen.mine().dying) else {
        return stop_only(seen);
    };
    if seen.local.server == Process::Stopped {
        // Nobody else has the data of the last primary: it serves once more, for the other to take over.
        return match gate::plan(seen) {
            plan @ Plan::Act { .. } if could_serve(seen) => plan,
            _ => stop_only(seen),
        };
    }
    if seen.lease == Lease::Mine {
        return Plan::act(vec![Step::ReleaseLease], "a unit that joins needs it");
    }
    if let Some(plan) = serve_on(seen) {
        return plan;
    }
    // Juju shows a hook the databags as they were when it first read them; a Sentinel that nobody
    // has heard of is the newcomer's. Only the next run of the hook can hand over to it.
    let stranger = seen.monitor(&seen.me).is_some_and(|monitor| {
        let mut others = monitor.others.iter();
        others.any(|other| !other.down && seen.unit_at(&other.host).is_none())
    });
    if stranger && unit.data.address.is_none() {
        return Plan::Refuse(Reason::LastCopy(format!(
            "{newcomer} joined after this hook began; its next run hands the data over"
        )));
    }
    Plan::Poll(Reason::LastCopy(format!(
        "{newcomer} has not joined yet and would begin without the data; wait until it has, or remove it too"
    )))
}

/// Plans what a member would do that stays: a newcomer can join only where somebody serves.
fn serve_on(seen: &Observation) -> Option<Plan> {
    let server = seen.server(&seen.me)?;
    let unheard = seen.local.sentinel == Process::Stopped && seen.local.has_sentinel_file;
    if unheard && seen.serving().is_empty() {
        let step = gate::sentinel_of_this_unit(seen, false);
        return Some(Plan::act(vec![step], "its vote is needed again"));
    }
    repair::plan(seen, server).filter(|plan| matches!(plan, Plan::Act { .. }))
}

/// Plans an orderly stop without telling anybody.
fn stop_only(seen: &Observation) -> Plan {
    let mut steps = Vec::new();
    if seen.local.sentinel == Process::Running {
        steps.push(Step::StopSentinel);
    }
    if seen.local.server == Process::Running {
        steps.push(Step::StopServer);
    }
    if steps.is_empty() {
        finish(seen, false)
    } else {
        Plan::act(steps, "nobody stays behind")
    }
}

/// Plans the last writes into the databag.
fn finish(seen: &Observation, lease: bool) -> Plan {
    let state = if seen.mine().dying {
        UnitState::Left
    } else {
        UnitState::Detached
    };
    let mut steps = vec![Step::SetState(state)];
    if seen.mine().data.turn.wants.is_some() {
        steps.push(Step::ReleaseTurn);
    }
    if lease && seen.lease == Lease::Mine {
        steps.push(Step::ReleaseLease);
    }
    Plan::act(steps, "this unit has left")
}

/// Returns what a primary waits for that nobody can follow; meanwhile the lease is free.
///
/// Who could take over may have to join first, for which it needs the lease.
fn no_target(seen: &Observation) -> Option<Plan> {
    let server = seen.server(&seen.me)?;
    let is_primary = server.role == Role::Primary
        && server.loading.is_none()
        && seen.primary().is_none_or(|primary| primary == seen.me);
    if !is_primary || repair::unfinished(seen).is_some() {
        return None;
    }
    let why = seen.takeover_target(&seen.me).err()?;
    // Its data stays on its storage, and nobody is there who could take over: to wait would only keep
    // the storage. They may have been detached too, of which this hook does not hear.
    let silent = |unit: &UnitName| seen.server(unit).is_none() && seen.sentinel(unit).is_none();
    if !seen.mine().dying && seen.other_members().iter().all(silent) {
        let steps = vec![Step::StopSentinel, Step::StopServer];
        return Some(Plan::act(
            steps,
            "nobody else answers, and the storage keeps the data",
        ));
    }
    let reason = Reason::LastCopy(format!(
        "no unit that stays holds all data: {why}; bring one in sync, or remove this unit with --force and lose what only it holds"
    ));
    Some(if seen.lease == Lease::Mine {
        Plan::ActAndPoll {
            steps: vec![Step::ReleaseLease],
            reason,
        }
    } else {
        Plan::Poll(reason)
    })
}

/// Returns what has to be waited for until this unit may leave.
fn lease(seen: &Observation) -> Option<Plan> {
    let dying_before_me = || {
        seen.other_members().into_iter().find(|unit| {
            *unit < seen.me
                && seen.units.get(unit).is_some_and(|known| known.dying)
                && seen.sentinel(unit).is_some()
        })
    };
    match &seen.lease {
        Lease::Mine => None,
        Lease::Free => Some(Plan::act(vec![Step::TakeLease], "leaving changes the set")),
        Lease::Other(holder) => Some(Plan::Poll(Reason::LeaseHeld(holder.clone()))),
        // No primary can be asked. The set must still be able to shrink, so evidence decides:
        // those who leave do it in order of their names, and nobody does while a unit joins.
        Lease::Unknown => {
            // The primary may be a unit that this hook knows no address of; the next one reads it.
            if seen.unheard_of() {
                return Some(Plan::Poll(Reason::NoPrimary));
            }
            if seen.failing_over() {
                return Some(Plan::Poll(Reason::FailingOver));
            }
            let belonging = seen.belonging();
            if let Some(joining) = seen.turn_holder().filter(|holder| {
                // It may have joined since this hook read the databags.
                **holder != seen.me
                    && !belonging.contains(holder)
                    && seen
                        .units
                        .get(holder)
                        .is_some_and(|unit| unit.data.state == UnitState::New)
                    && seen.server(holder).is_some()
            }) {
                return Some(Plan::Poll(Reason::LeaseHeld(joining.to_string())));
            }
            dying_before_me().map(|first| Plan::Poll(Reason::LeaseHeld(first.to_string())))
        }
    }
}

/// Plans the part in which this unit still serves.
fn part(seen: &Observation, remaining: &[UnitName], staying: &[UnitName]) -> Plan {
    let Some(server) = seen.server(&seen.me) else {
        // It runs but does not answer. A replica may be stopped; a primary might hold the only copy.
        let another = seen.primary().is_some_and(|primary| primary != seen.me);
        if another {
            return Plan::act(
                vec![Step::StopSentinel, Step::StopServer],
                "another unit is primary",
            );
        }
        return Plan::Refuse(Reason::LastCopy(
            "the server does not answer, and no other unit is primary; see its log".to_owned(),
        ));
    };
    if let Some(progress) = server.loading {
        return Plan::Poll(Reason::Loading(progress));
    }
    match &server.role {
        Role::Primary if seen.primary().is_none_or(|primary| primary == seen.me) => {
            match seen.takeover_target(&seen.me) {
                Ok(to) => {
                    let step = Step::HandOver {
                        from: seen.me.clone(),
                        to,
                        leaving: true,
                    };
                    Plan::act(vec![step], "the primary leaves")
                }
                Err(_) => Plan::Poll(Reason::NoPrimary),
            }
        }
        Role::Primary => {
            let Some(host) = seen
                .primary()
                .and_then(|primary| seen.host_of(&primary).map(str::to_owned))
            else {
                return Plan::Poll(Reason::NoPrimary);
            };
            let steps = vec![Step::KeepAside, Step::Follow { primary: host }];
            Plan::act(steps, "another unit is primary")
        }
        Role::Replica { .. } => {
            if let Some(wait) = without_primary(seen, server, staying) {
                return wait;
            }
            if let Some(wait) = untold(seen, remaining) {
                return wait;
            }
            // The fence falls first: with this replica gone the primary could miss it.
            let fence = min_replicas_to_write(remaining.len());
            let lower: Vec<UnitName> = remaining
                .iter()
                .filter(|unit| {
                    seen.server(unit)
                        .and_then(|server| server.min_replicas)
                        .is_some_and(|value| value > u64::try_from(fence).unwrap_or(u64::MAX))
                })
                .cloned()
                .collect();
            let mut steps = Vec::new();
            if !lower.is_empty() {
                steps.push(Step::SetMinReplicas {
                    on: lower,
                    value: fence,
                });
            }
            steps.extend([Step::StopSentinel, Step::StopServer]);
            Plan::act(steps, "a replica leaves")
        }
    }
}

/// Returns what has to be waited for while most of the Sentinels that stay still name this unit, which handed over.
///
/// The local Sentinel tells them; without that they would wait for this unit's for ever.
fn untold(seen: &Observation, remaining: &[UnitName]) -> Option<Plan> {
    let primary = seen.primary().filter(|primary| *primary != seen.me)?;
    // It has nothing to tell, or is stopped.
    let knows = seen
        .monitor(&seen.me)
        .is_some_and(|mine| Some(mine.primary.as_str()) == seen.host_of(&primary));
    let monitors: Vec<&Monitor> = remaining
        .iter()
        .filter_map(|unit| seen.monitor(unit))
        .collect();
    let unaware = monitors
        .iter()
        .filter(|monitor| monitor.primary == seen.local.address)
        .count();
    (knows && unaware >= majority(monitors.len())).then_some(Plan::Poll(Reason::FailingOver))
}

/// Returns what a replica has to wait for because no primary serves; nothing when it may leave.
///
/// While a majority of Sentinels answers, one of them will promote a replica: leaving before would
/// take away the votes, and perhaps the newest copy.
fn without_primary(seen: &Observation, server: &Server, staying: &[UnitName]) -> Option<Plan> {
    if seen.primary().is_some_and(|primary| primary != seen.me) {
        return None;
    }
    if !matches!(seen.naming(), Naming::TooFew { .. }) {
        let to = seen
            .fullest_replica()
            .filter(|_| repair::overdue(seen) && seen.serving().is_empty());
        return Some(to.map_or(Plan::Poll(Reason::FailingOver), |to| {
            Plan::act(vec![Step::Promote { to }], "the primary stays away")
        }));
    }
    let held = staying.iter().any(|unit| {
        seen.server(unit).is_some_and(|other| {
            other.loading.is_none()
                && match &other.role {
                    Role::Primary => true,
                    Role::Replica { syncing, .. } => {
                        syncing.is_none()
                            && other.priority > 0
                            && other.history == server.history
                            && other.offset >= server.offset
                    }
                }
        })
    });
    if held {
        return None;
    }
    // Its vote may be what a promotion lacks.
    if seen.local.sentinel == Process::Stopped && seen.local.has_sentinel_file {
        let step = gate::sentinel_of_this_unit(seen, false);
        return Some(Plan::act(vec![step], "its vote is needed again"));
    }
    Some(Plan::Poll(Reason::LastCopy(
        "no unit that stays holds as much, so this one may hold the last copy; bring another back, or remove this unit with --force".to_owned(),
    )))
}

/// Plans how the Sentinels that remain forget this unit; nothing when they have.
fn forget(seen: &Observation, remaining: &[UnitName]) -> Option<Plan> {
    // Somebody may have joined of whom nothing is known here: the survivors' leader knows better.
    if seen.unheard_of() || seen.may_have_moved() {
        return None;
    }
    let me = seen.local.address.as_str();
    let answering: Vec<UnitName> = remaining
        .iter()
        .filter(|unit| seen.monitor(unit).is_some())
        .cloned()
        .collect();
    let still_known = answering
        .iter()
        .filter_map(|unit| seen.monitor(unit))
        .any(|monitor| {
            monitor
                .others
                .iter()
                .chain(&monitor.replicas)
                .any(|known| known.host == me)
        });
    if still_known {
        let busy = answering
            .iter()
            .filter_map(|unit| seen.monitor(unit))
            .any(|monitor| monitor.down || monitor.agreed_down || monitor.failing_over);
        if busy {
            // A primary that stays away must not keep this unit: a RESET would only make the
            // survivors forget each other, and their leader clears what is left over later.
            let hopeless = seen.primary().is_none()
                && !seen.failing_over()
                && (matches!(seen.naming(), Naming::TooFew { .. }) || repair::overdue(seen));
            return (!hopeless).then_some(Plan::Poll(Reason::FailingOver));
        }
        if seen.primary().is_none() {
            return Some(Plan::Poll(Reason::NoPrimary));
        }
        // Their leader clears what is left over once somebody follows again.
        if !seen.is_followed_by(remaining) {
            return None;
        }
        let mut steps = Vec::new();
        // One that was lost since the look is not taken again for a plan that was made under it.
        if seen.lease != Lease::Mine {
            steps.push(Step::TakeLease);
        }
        steps.push(Step::Forget {
            remaining: remaining.to_vec(),
        });
        return Some(Plan::act(steps, "the Sentinels still know this unit"));
    }
    let quorum = sentinel_quorum(remaining.len());
    let wrong: Vec<UnitName> = answering
        .into_iter()
        .filter(|unit| {
            seen.monitor(unit)
                .is_some_and(|monitor| monitor.quorum != quorum)
        })
        .collect();
    let fence = min_replicas_to_write(remaining.len());
    let unfenced: Vec<UnitName> = remaining
        .iter()
        .filter(|unit| {
            seen.server(unit)
                .and_then(|server| server.min_replicas)
                .is_some_and(|value| value != u64::try_from(fence).unwrap_or(u64::MAX))
        })
        .cloned()
        .collect();
    let mut steps = Vec::new();
    if !wrong.is_empty() {
        steps.push(Step::SetQuorum { on: wrong, quorum });
    }
    if !unfenced.is_empty() {
        steps.push(Step::SetMinReplicas {
            on: unfenced,
            value: fence,
        });
    }
    (!steps.is_empty()).then(|| Plan::act(steps, "the set is smaller now"))
}
