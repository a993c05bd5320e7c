//! The restart gate: as what a server that does not run may start.
//!
//! A server that was the primary and died does not simply come back as primary. First it looks who
//! is primary now, whether its own data is the best copy, and whether a majority could have elected
//! somebody else meanwhile. An empty or older data set never overwrites a fuller one.

use super::{
    Plan,
    names::UnitName,
    numbers::{blocking, majority, min_replicas_to_write, sentinel_quorum},
    observation::{Observation, Process},
    peer_data::{FoundingReason, Identity, Position, TurnKind, UnitState},
    reason::Reason,
    refresh, repair,
    step::Step,
    view::{Naming, compare},
};

/// Longest that a server needs from the decision until it answers the Sentinels, in milliseconds.
///
/// It listens before it loads its data; the rest is the gate's own work on a busy machine.
const COMING_UP_MS: u64 = 2_000;

/// Plans the start of the local server.
#[must_use]
pub fn plan(seen: &Observation) -> Plan {
    let Some(deployment) = &seen.app.deployment_id else {
        return Plan::Wait(Reason::NotFounded);
    };
    if let Some(foreign) = foreign_data(seen, deployment) {
        return Plan::Wait(Reason::ForeignData(foreign));
    }
    // Not every start goes through a hook, where the same is seen before.
    if let Some(reason) = refresh::downgrade(seen) {
        return Plan::Wait(reason);
    }
    if seen.mine().data.state == UnitState::Member {
        restart(seen)
    } else {
        join(seen)
    }
}

/// Returns why the data may not be used, if so.
fn foreign_data(seen: &Observation, deployment: &str) -> Option<String> {
    match &seen.local.identity {
        Some(identity) if identity.deployment_id != deployment => Some(format!(
            "it belongs to deployment {} of {}, this is {deployment}",
            identity.deployment_id, identity.unit
        )),
        None if seen.local.has_data => Some("a data set without this deployment's mark".to_owned()),
        Some(_) | None => None,
    }
}

/// Plans the first start of a unit, or of one that comes back from outside the set.
fn join(seen: &Observation) -> Plan {
    if !seen.may_join() {
        return ask_for_turn(seen);
    }
    if let Some(primary) = seen.primary() {
        let Some(host) = seen.host_of(&primary) else {
            return Plan::Wait(Reason::NoPrimary);
        };
        if let Some(wait) = lease_first(seen) {
            return wait;
        }
        return Plan::act(follow(seen, host), "join as a replica");
    }
    if let Some(generation) = decision_for_me(seen) {
        let steps = vec![Step::ClaimData { generation }, serve(seen)];
        return Plan::act(steps, "serve, as the leader decided");
    }
    if awaited(seen) {
        return named_myself(seen, seen.members().len().max(seen.voters()));
    }
    match &seen.app.founding {
        Some(founding) if !founding.done => {
            let waits = || Reason::FounderNotReady(founding.unit.clone());
            let reason = data_away(seen).unwrap_or_else(waits);
            if seen.holds_turn() {
                // The turn was granted before the decision: whoever is to serve needs it.
                let steps = vec![Step::ReleaseTurn];
                return Plan::ActAndWait { steps, reason };
            }
            Plan::Wait(reason)
        }
        Some(_) => {
            // What stands beside the data after an orderly stop is all that it holds.
            let known = !seen.local.has_data || seen.recorded().is_some_and(|last| last.clean);
            let here = seen.recorded();
            yield_turn(seen, |theirs| known && compare(Some(theirs), here).is_gt())
                .unwrap_or(Plan::Wait(Reason::NoPrimary))
        }
        None => Plan::Wait(Reason::NotFounded),
    }
}

/// Plans how the turn is given up while nobody serves, to somebody who asks for it and whose data `holds_more` than what
/// is here: it may be the one that everybody waits for. Nothing when there is nobody.
///
/// What units hold is in one order, so that no two of them give the turn to each other.
pub(super) fn yield_turn(
    seen: &Observation,
    holds_more: impl Fn(&Position) -> bool,
) -> Option<Plan> {
    if !seen.holds_turn() || !seen.serving().is_empty() {
        return None;
    }
    let (fuller, _) = seen.units.iter().find(|(name, unit)| {
        let waits = !unit.dying && unit.data.turn.wants == Some(TurnKind::Start);
        let position = unit.data.position.as_ref();
        **name != seen.me && waits && position.is_some_and(&holds_more)
    })?;
    Some(Plan::ActAndWait {
        steps: vec![Step::ReleaseTurn],
        reason: Reason::BestCopyMissing(fuller.clone()),
    })
}

/// Returns whether the members wait for this unit: it was the primary when it left, and a majority of them still
/// names it.
///
/// It went alone, with its storage, and came back with it; whoever stayed holds less, or was not there.
fn awaited(seen: &Observation) -> bool {
    seen.recorded().is_some_and(|position| position.primary)
        && matches!(seen.naming(), Naming::Agreed { host, .. } if host == seen.local.address)
}

/// Returns that the data is on a storage that left with its unit, if so: only a person can go on.
fn data_away(seen: &Observation) -> Option<Reason> {
    let unit = seen.gone_with_data(seen.app.founding.as_ref()?)?;
    Some(Reason::DataAway(unit.clone()))
}

/// Plans how a unit without the turn gets it.
pub(super) fn ask_for_turn(seen: &Observation) -> Plan {
    let request = &seen.mine().data.turn;
    if request.wants == Some(TurnKind::Start) {
        if let Some(reason) = data_away(seen) {
            return Plan::Wait(reason);
        }
        let holder = seen
            .turn_holder()
            .filter(|holder| **holder != seen.me)
            .cloned();
        return Plan::Wait(Reason::Turn {
            holder,
            kind: TurnKind::Start,
        });
    }
    Plan::act(vec![Step::RequestTurn(TurnKind::Start)], "ask for the turn")
}

/// Plans how the lease is had before the set changes; nothing when it is.
pub(super) fn lease_first(seen: &Observation) -> Option<Plan> {
    use super::observation::Lease;
    match &seen.lease {
        Lease::Mine => None,
        Lease::Free => Some(Plan::act(
            vec![Step::TakeLease],
            "keep others from changing the set",
        )),
        Lease::Other(holder) => Some(Plan::Poll(Reason::LeaseHeld(holder.clone()))),
        Lease::Unknown => Some(Plan::Poll(Reason::LeaseUnavailable)),
    }
}

/// Returns the generation of a founding decision that this unit has still to carry out.
pub(super) fn decision_for_me(seen: &Observation) -> Option<u64> {
    let founding = seen.app.founding.as_ref()?;
    let carried_out = seen
        .local
        .identity
        .as_ref()
        .map_or(0, |identity| identity.generation);
    let mine = founding.unit == seen.me && !founding.done;
    // A majority knows another primary: only a person may decide against it, and not while it serves.
    let contradicted = !seen.serving().is_empty()
        || founding.reason != FoundingReason::Override
            && matches!(seen.naming(), Naming::Agreed { host, .. } if host != seen.local.address);
    // A data directory that lost its mark has also lost what it held: an empty start is right only
    // for a deployment that never had data.
    let empty_start_allowed =
        founding.reason != FoundingReason::Restore || seen.local.identity.is_some();
    // The same decision may be carried out again until the leader has noted it: the start may have
    // failed after the data was claimed.
    (mine && !contradicted && carried_out <= founding.generation && empty_start_allowed)
        .then_some(founding.generation)
}

/// Plans the return of a member whose server stopped.
fn restart(seen: &Observation) -> Plan {
    // Sentinel's own file holds its vote and what it knows: let it speak first.
    if seen.local.sentinel == Process::Stopped && seen.local.has_sentinel_file {
        let step = Step::StartSentinel {
            monitor: seen.local.address.clone(),
            quorum: 1,
            fresh: false,
        };
        return Plan::act(vec![step], "let Sentinel say who is primary");
    }
    if let Some(primary) = seen.primary().filter(|primary| *primary != seen.me) {
        let Some(host) = seen.host_of(&primary) else {
            return Plan::Wait(Reason::NoPrimary);
        };
        return Plan::act(follow(seen, host), "come back as a replica");
    }
    if let Some(generation) = decision_for_me(seen) {
        let steps = vec![Step::ClaimData { generation }, serve(seen)];
        return Plan::act(steps, "serve, as the leader decided");
    }
    // Those that are leaving may be cut off rather than gone: they could still have voted.
    let members = seen.members().len().max(seen.voters());
    match seen.naming() {
        Naming::Agreed { host, .. } if host == seen.local.address || moved(seen, &host) => {
            named_myself(seen, members)
        }
        // The one that is named does not serve. Following it is harmless: a server that could not
        // yet sync is not promotable, and whoever is promoted next is followed then.
        Naming::Agreed { host, .. } => Plan::act(follow(seen, &host), "wait as a replica"),
        Naming::TooFew { answering, needed } => {
            let alone = members == 1 && seen.local.identity.is_some();
            let still_mine = seen.votes_for(&seen.local.address) >= blocking(members);
            if still_mine || (alone && !seen.local.has_sentinel_file) {
                return named_myself(seen, members);
            }
            Plan::Poll(Reason::TooFewSentinels { answering, needed })
        }
        Naming::Split => Plan::Poll(Reason::NoPrimary),
        Naming::Bare => Plan::Wait(Reason::NoPrimary),
    }
}

/// Returns whether `host`, which this unit's Sentinel names, can only be this unit's earlier address.
///
/// Alone, and the primary when it was last seen: nobody else could have been elected.
fn moved(seen: &Observation, host: &str) -> bool {
    repair::names_nobody(seen, host) && seen.recorded().is_some_and(|position| position.primary)
}

/// Plans the return of the server that the Sentinels still name as primary.
fn named_myself(seen: &Observation, members: usize) -> Plan {
    if seen.may_be_replaced(&seen.local.address) {
        return Plan::Poll(Reason::FailingOver);
    }
    if let Some(plan) = another_serves(seen, members) {
        return plan;
    }
    let naming = seen.votes_for(&seen.local.address);
    let needed = blocking(members);
    if naming < needed && members > 1 {
        return Plan::Poll(Reason::TooFewSentinels {
            answering: naming,
            needed,
        });
    }
    if let Some(plan) = vote_needed(seen, members) {
        return plan;
    }
    let candidate = seen.best_replica();
    let former = address_of_another(seen);
    let best_copy = seen.local.has_data
        && seen.local.complete_data
        && seen.local.identity.is_some()
        && former.is_none();
    // A replica that has not synced since it started may hold less than what is here.
    let promotable = candidate.as_ref().is_some_and(|to| {
        seen.server(to).is_some_and(|server| server.priority > 0) || repair::overdue(seen)
    });
    // What it accepted before the others turn to the replica would be lost.
    if promotable && about_to_be_replaced(seen, members) {
        return Plan::Poll(Reason::FailingOver);
    }
    match candidate.filter(|_| promotable) {
        // Loading would take longer than promoting, or a replica holds more.
        Some(to) if !best_copy || seen.local.slow_to_load || seen.local.rebooted => Plan::act(
            vec![Step::Promote { to }],
            "a replica serves sooner or holds more",
        ),
        Some(_) if soon_missed(seen) => Plan::Poll(Reason::FailingOver),
        Some(_) | None if best_copy => Plan::act(vec![serve(seen)], "this is the best copy"),
        Some(_) | None => {
            // Not the best copy, and no replica that surely is. Alone, nothing better exists.
            let others_exist = members > 1;
            if others_exist {
                let missing = former
                    .or_else(|| seen.other_members().into_iter().next())
                    .unwrap_or_else(|| seen.me.clone());
                return Plan::Poll(Reason::BestCopyMissing(missing));
            }
            if seen.local.identity.is_some() {
                return Plan::act(vec![serve(seen)], "this is the only copy");
            }
            Plan::Wait(Reason::BestCopyMissing(seen.me.clone()))
        }
    }
}

/// Returns the unit that the Sentinels mean when they name this one's address, if it is another.
///
/// Machines that reboot together can come back with each other's addresses. Within one epoch nobody else
/// becomes primary: who followed in it does not serve for the one that was primary in it.
fn address_of_another(seen: &Observation) -> Option<UnitName> {
    let mine = seen.recorded()?;
    if mine.primary || mine.epoch != seen.epoch() {
        return None;
    }
    seen.other_members().into_iter().find(|unit| {
        let position = seen
            .units
            .get(unit)
            .and_then(|it| it.data.position.as_ref());
        position.is_some_and(|theirs| theirs.primary && theirs.epoch == mine.epoch)
    })
}

/// Returns whether so many Sentinels miss this server that they replace it any moment.
///
/// They begin within a second, and do not look again whether it has come back. When they have not
/// done it for long, something keeps them from it.
fn about_to_be_replaced(seen: &Observation, members: usize) -> bool {
    let monitors = || {
        seen.members()
            .into_iter()
            .filter_map(|unit| seen.monitor(&unit))
            .filter(|monitor| monitor.down && !monitor.promoted)
    };
    let missing = monitors().count();
    let agreed = monitors().any(|monitor| missing >= monitor.quorum);
    missing >= majority(members) && agreed && !repair::overdue(seen)
}

/// Returns whether the Sentinels are just about to miss this server, by how long it has been gone.
///
/// What is decided now answers them only a moment later, and then they have begun. Once they should
/// have noticed, what they say counts.
fn soon_missed(seen: &Observation) -> bool {
    let Some(seconds) = seen
        .recorded()
        .and_then(|last| seen.now.checked_sub(last.recorded_at))
    else {
        return false;
    };
    let detected_ms = seen.settings.down_after_ms;
    let from_ms = detected_ms.saturating_sub(COMING_UP_MS);
    let until_ms = detected_ms.saturating_add(COMING_UP_MS);
    (from_ms..until_ms).contains(&seconds.saturating_mul(1000))
}

/// Plans for when another unit serves although the Sentinels name this one; nothing when none does.
///
/// It is the end of a hand-over whose caller died, if that unit holds all that is here, or nothing is here since the
/// disk is gone; otherwise it went its own way, and the Sentinels elect somebody soon.
fn another_serves(seen: &Observation, members: usize) -> Option<Plan> {
    let serving = seen.serving();
    let (only, rest) = serving.split_first()?;
    let covered = seen.recorded().map_or_else(
        || !seen.local.has_data && seen.members().contains(only),
        |position| covers(seen, only, position),
    );
    if !covered || !rest.is_empty() {
        return Some(Plan::Poll(Reason::FailingOver));
    }
    if let Some(plan) = vote_needed(seen, members) {
        return Some(plan);
    }
    let mut steps = Vec::new();
    // One that has just begun anew knows nobody, and who knows nobody cannot be told either.
    if seen.stranger().is_some() {
        steps.push(Step::Announce);
    }
    steps.push(Step::CompleteHandOver { to: only.clone() });
    Some(Plan::act(steps, "the Sentinels were not told"))
}

/// Plans the start of the local Sentinel before that of the server: its file is gone with the disk, and without its
/// vote nobody is promoted.
fn vote_needed(seen: &Observation, members: usize) -> Option<Plan> {
    let needed = seen.local.sentinel == Process::Stopped
        && !seen.local.has_sentinel_file
        && seen.voices() < majority(members)
        && members > 1;
    let steps = vec![sentinel_of_this_unit(seen, true)];
    needed.then(|| Plan::act(steps, "its vote is needed"))
}

/// Returns whether the server of `unit` holds everything up to `position`.
fn covers(seen: &Observation, unit: &UnitName, position: &Position) -> bool {
    seen.server(unit).is_some_and(|server| {
        let same = server.history == position.history && position.offset <= server.offset;
        let before = server.earlier.as_ref().is_some_and(|(history, until)| {
            *history == position.history && position.offset <= *until
        });
        same || before
    })
}

fn serve(seen: &Observation) -> Step {
    let members = seen.members().len().max(1);
    Step::StartServer {
        follow: None,
        min_replicas: min_replicas_to_write(members),
        from_snapshot: false,
    }
}

/// Returns the steps that start the local server as a replica of `host`.
pub(super) fn follow(seen: &Observation, host: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let identity: Option<&Identity> = seen.local.identity.as_ref();
    let position = seen.recorded();
    let generation = seen
        .app
        .founding
        .as_ref()
        .map_or(1, |founding| founding.generation);
    if identity.is_none_or(|identity| identity.generation < generation || identity.unit != seen.me)
    {
        steps.push(Step::ClaimData { generation });
    }
    if seen.local.has_data && position.is_some_and(|position| endangered(seen, host, position)) {
        steps.push(Step::KeepAside);
    }
    steps.push(Step::StartServer {
        follow: Some(host.to_owned()),
        min_replicas: min_replicas_to_write(seen.members().len().max(1)),
        from_snapshot: position.is_some_and(|position| position.clean),
    });
    steps
}

/// Returns whether following `host` may overwrite data that exists nowhere else.
fn endangered(seen: &Observation, host: &str, position: &Position) -> bool {
    let primary = seen.unit_at(host);
    let covered = primary.is_some_and(|unit| covers(seen, unit, position));
    if position.primary {
        return !(position.clean && covered);
    }
    // Storage that was away may hold more than what was begun without it.
    let theirs = primary
        .and_then(|unit| seen.units.get(unit))
        .and_then(|unit| unit.data.position.as_ref());
    seen.mine().data.state != UnitState::Member
        && !covered
        && compare(Some(position), theirs).is_gt()
}

/// Returns the step that starts Sentinel for this unit's own server, with what it knew or anew.
pub(super) fn sentinel_of_this_unit(seen: &Observation, fresh: bool) -> Step {
    Step::StartSentinel {
        monitor: seen.local.address.clone(),
        quorum: quorum_now(seen),
        fresh,
    }
}

/// Returns the quorum that fits the members as they are.
pub(super) fn quorum_now(seen: &Observation) -> usize {
    sentinel_quorum(seen.members().len().max(1))
}
