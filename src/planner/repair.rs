//! Repairs of who follows whom: only on the word of a majority of Sentinels and of the servers themselves.

use super::{
    Plan, fence,
    names::UnitName,
    numbers::min_replicas_to_write,
    observation::{Monitor, Observation, Role, Server},
    peer_data::FoundingReason,
    reason::Reason,
    step::Step,
    view::Naming,
};
use crate::limits::FAILOVER_TIMEOUT;

/// How long a primary may be gone without Sentinel promoting anybody before the leader does, in milliseconds.
///
/// Sentinel needs the detection time and a few seconds. What is left after that is the case in
/// which it cannot: after an outage of all units no replica is promotable, since none has synced
/// since it started. Waiting gives the missing unit, which may hold more, time to come back.
pub const OUTAGE_PATIENCE_MS: u64 = 60_000;

/// Plans the repair of the roles, if they need one.
#[must_use]
pub fn plan(seen: &Observation, server: &Server) -> Option<Plan> {
    if seen.failing_over() {
        return Some(Plan::Poll(Reason::FailingOver));
    }
    if let Some(plan) = ordered(seen, server) {
        return Some(plan);
    }
    match seen.naming() {
        Naming::Agreed { host, .. } => agreed(seen, server, &host),
        Naming::Bare => bare(seen),
        Naming::Split => Some(split(seen)),
        // A Sentinel that lost its state may be the one that is missing.
        Naming::TooFew { .. } => (seen.primary().is_some()
            && seen.sentinel(&seen.me).is_some()
            && seen.monitor(&seen.me).is_none())
        .then(|| bare(seen))
        .flatten(),
    }
}

/// Plans how the local Sentinel is freed from a failover that cannot end: it is started anew.
///
/// Sentinel ends none whose promoted server is down, and takes no part in another one meanwhile; where the others are
/// no majority without it, nobody is ever promoted. It keeps the promoted one as the primary in its file, with its
/// votes, and begins with that.
pub(super) fn hanging_failover(seen: &Observation) -> Option<Plan> {
    let monitor = seen.monitor(&seen.me)?;
    let hangs = monitor.promoted
        && monitor.down
        && u128::from(monitor.down_for_ms) >= FAILOVER_TIMEOUT.as_millis();
    let steps = vec![
        Step::StopSentinel,
        Step::StartSentinel {
            monitor: monitor.primary.clone(),
            quorum: monitor.quorum,
            fresh: false,
        },
    ];
    hangs.then(|| Plan::act(steps, "its failover cannot end without whom it promoted"))
}

/// Returns the primary in fact, where the Sentinels name a server that follows it: a hand-over
/// that stopped half-way.
pub(super) fn unfinished(seen: &Observation) -> Option<UnitName> {
    let Naming::Agreed { host, .. } = seen.naming() else {
        return None;
    };
    let named = seen.server(seen.unit_at(&host)?)?;
    let Role::Replica { of, .. } = &named.role else {
        return None;
    };
    let in_fact = seen.unit_at(of)?;
    seen.serving().contains(in_fact).then(|| in_fact.clone())
}

/// Returns whether the primary has been away for so long that Sentinel will not replace it any more.
pub(super) fn overdue(seen: &Observation) -> bool {
    seen.members()
        .iter()
        .filter_map(|unit| seen.monitor(unit))
        .any(|monitor| monitor.agreed_down && monitor.down_for_ms >= OUTAGE_PATIENCE_MS)
}

/// A person decided that this unit's data counts: it serves, and the Sentinels that are there are told.
///
/// In force until the leader has seen a primary that nobody contradicts.
fn ordered(seen: &Observation, server: &Server) -> Option<Plan> {
    let order = seen.app.founding.as_ref()?;
    if order.reason != FoundingReason::Override || order.done || order.unit != seen.me {
        return None;
    }
    let serving = seen.serving();
    match &server.role {
        Role::Replica { syncing: None, .. } if serving.is_empty() => {
            let step = match seen.naming() {
                Naming::Agreed { .. } => Step::Promote {
                    to: seen.me.clone(),
                },
                // Nobody can be asked for votes: the restart gate lets it serve.
                Naming::Split | Naming::Bare | Naming::TooFew { .. } => Step::StopServer,
            };
            Some(Plan::act(vec![step], "a person chose this unit's data"))
        }
        Role::Primary if serving == [seen.me.clone()] => {
            let contradicted = seen
                .members()
                .iter()
                .filter_map(|unit| seen.monitor(unit))
                .any(|monitor| monitor.primary != seen.local.address);
            let step = Step::CompleteHandOver {
                to: seen.me.clone(),
            };
            contradicted.then(|| Plan::act(vec![step], "a person chose this unit's data"))
        }
        Role::Replica { .. } | Role::Primary => None,
    }
}

fn agreed(seen: &Observation, server: &Server, host: &str) -> Option<Plan> {
    let Some(named) = seen.unit_at(host).cloned() else {
        if names_nobody(seen, host) && seen.serving() == [seen.me.clone()] {
            return Some(begin_anew(seen));
        }
        return removed(seen);
    };
    let named_server = seen.server(&named);
    let mine = seen.monitor(&seen.me);
    if mine.is_none() && seen.sentinel(&seen.me).is_some() {
        let step = Step::Monitor {
            primary: host.to_owned(),
            quorum: super::gate::quorum_now(seen),
        };
        return Some(Plan::act(
            vec![step, Step::Announce],
            "Sentinel lost its state",
        ));
    }
    match named_server.map(|server| (&server.role, server.loading)) {
        Some((Role::Primary, None)) if named == seen.me => is_contradicted(seen)
            .then(|| confirmed(seen, "a Sentinel names another in the same configuration")),
        Some((Role::Primary, None)) => follow_named(server, host),
        // It loads its data: the Sentinels wait, and so does everybody.
        Some((_, Some(progress))) => Some(Plan::Poll(Reason::Loading(progress))),
        Some((Role::Replica { .. }, None)) => Some(not_serving(seen, &named)),
        None => Some(gone(seen, server, host)),
    }
}

/// Returns whether this unit, a replica without its primary, is cut off from most of the others.
///
/// They go on without it. A Sentinel of its own that votes in the moment in which it is back would see no other
/// replica yet, and promote this one. One and two units elect nobody without each other.
pub(super) fn is_cut_off(seen: &Observation) -> bool {
    let silent = seen.monitor(&seen.me).is_some_and(|monitor| monitor.down);
    silent && seen.members().len() > 2 && matches!(seen.naming(), Naming::TooFew { .. })
}

/// Returns whether this unit was taken for cut off and holds the most after all: everybody answers but the
/// primary, which is missing.
fn holds_the_most(seen: &Observation, server: &Server, missing: Option<&UnitName>) -> bool {
    // One that was started anew holds what it had read from its disk, and waits for who may hold more.
    let lived_on = seen
        .recorded()
        .is_some_and(|position| position.history == server.history && !position.clean);
    let all_there = seen
        .members()
        .iter()
        .all(|unit| Some(unit) == missing || seen.server(unit).is_some());
    server.priority == 0
        && lived_on
        && all_there
        && matches!(server.role, Role::Replica { syncing: None, .. })
        && seen.fullest_replica().as_ref() == Some(&seen.me)
}

/// Returns whether Sentinels name this unit and another one in the same, newest configuration.
///
/// They never agree by themselves: a hello counts only with a newer one. It comes about when one promotes anew
/// whom another is just about to replace.
fn is_contradicted(seen: &Observation) -> bool {
    let members = seen.members();
    let newest = || {
        let monitors = members.iter().filter_map(|unit| seen.monitor(unit));
        monitors.filter(|monitor| monitor.epoch == seen.epoch())
    };
    let is_mine = |monitor: &Monitor| monitor.primary == seen.local.address;
    newest().any(is_mine) && newest().any(|monitor| !is_mine(monitor))
}

/// Returns the plan by which this unit, a primary, is named by all Sentinels in a new configuration.
fn confirmed(seen: &Observation, why: &str) -> Plan {
    let step = Step::CompleteHandOver {
        to: seen.me.clone(),
    };
    Plan::act(vec![step], why)
}

/// The Sentinels name different primaries: usually until the next hello.
///
/// Where none of them is newer, the only server that serves is confirmed. One that was away while others joined and left knows nobody who is still there. Who has the newest
/// configuration introduces itself to it.
fn split(seen: &Observation) -> Plan {
    let mut members = seen.members().into_iter();
    if is_contradicted(seen)
        && seen.serving() == [seen.me.clone()]
        && members.all(|unit| seen.server(&unit).is_some())
    {
        return confirmed(seen, "no Sentinel that names another is newer");
    }
    let newest = |monitor: &Monitor| monitor.epoch == seen.epoch();
    let unknown = seen.other_members().into_iter().any(|unit| {
        seen.monitor(&unit).is_some_and(|monitor| {
            let mut others = monitor.others.iter();
            monitor.epoch < seen.epoch() && !others.any(|other| other.host == seen.local.address)
        })
    });
    if unknown && seen.monitor(&seen.me).is_some_and(newest) {
        return Plan::ActAndPoll {
            steps: vec![Step::Announce],
            reason: Reason::NoPrimary,
        };
    }
    Plan::Poll(Reason::NoPrimary)
}

/// The named primary serves: this server follows it.
fn follow_named(server: &Server, host: &str) -> Option<Plan> {
    let follow = Step::Follow {
        primary: host.to_owned(),
    };
    match &server.role {
        Role::Primary => Some(step_down(host)),
        Role::Replica { of, .. } if of != host => {
            Some(Plan::act(vec![follow], "it followed another"))
        }
        Role::Replica { .. } => None,
    }
}

/// What a displaced primary accepted since then exists nowhere else, so it is kept.
fn step_down(host: &str) -> Plan {
    let follow = Step::Follow {
        primary: host.to_owned(),
    };
    Plan::act(vec![Step::KeepAside, follow], "another unit is primary")
}

/// Returns whether this unit's server is a primary that a majority has replaced in a later configuration.
///
/// It takes no writes, since too few follow it. While it says that it is a primary, no Sentinel knows whether it
/// may be promoted, and takes it for a replica that may: over one that holds more.
fn was_replaced(seen: &Observation, server: &Server) -> bool {
    let fenced = fence::good_replicas(server) < min_replicas_to_write(seen.members().len());
    let earlier = seen
        .recorded()
        .is_some_and(|position| position.primary && position.epoch < seen.epoch());
    server.role == Role::Primary && fenced && earlier
}

/// The named primary is a replica: a hand-over stopped half-way, or a promotion never happened.
fn not_serving(seen: &Observation, named: &UnitName) -> Plan {
    match unfinished(seen) {
        Some(to) if to == seen.me || seen.leader => Plan::act(
            vec![Step::CompleteHandOver { to }],
            "the Sentinels were not told",
        ),
        Some(_) => Plan::Poll(Reason::FailingOver),
        None if seen.serving().is_empty() => {
            // One that is still receiving its data, or was cut off since its start, is no primary.
            let whole = seen.server(named).is_some_and(|server| {
                server.priority > 0 && matches!(server.role, Role::Replica { syncing: None, .. })
            });
            let to = Some(named.clone()).filter(|_| whole);
            match to.or_else(|| seen.fullest_replica()) {
                Some(to) if to == seen.me || seen.leader => {
                    Plan::act(vec![Step::Promote { to }], "nobody serves")
                }
                _ => Plan::Poll(Reason::NoPrimary),
            }
        }
        None => Plan::Poll(Reason::NoPrimary),
    }
}

/// The named primary does not answer: that is Sentinel's business, unless it cannot.
///
/// The best copy sees to it itself, so that nobody depends on a leader that may be gone too.
fn gone(seen: &Observation, server: &Server, host: &str) -> Plan {
    if was_replaced(seen, server) {
        return step_down(host);
    }
    if !seen.serving().is_empty() {
        return Plan::Poll(Reason::NoPrimary);
    }
    let missing = seen.unit_at(host).cloned();
    if holds_the_most(seen, server, missing.as_ref()) {
        return Plan::act(vec![Step::SetPromotable(true)], "nobody holds more");
    }
    match seen.fullest_replica().filter(|_| overdue(seen)) {
        Some(to) if to == seen.me || seen.leader => {
            Plan::act(vec![Step::Promote { to }], "the primary stays away")
        }
        Some(_) => Plan::Poll(Reason::FailingOver),
        None => Plan::Poll(missing.map_or(Reason::NoPrimary, Reason::BestCopyMissing)),
    }
}

/// The only Sentinel watches an address that is nobody's: nobody can tell it otherwise, so it forgets.
fn begin_anew(seen: &Observation) -> Plan {
    let steps = vec![
        Step::StopSentinel,
        super::gate::sentinel_of_this_unit(seen, true),
    ];
    Plan::act(steps, "Sentinel watches an address that is gone")
}

/// Returns whether this unit is the only member, and `host` is none of any unit.
pub(super) fn names_nobody(seen: &Observation, host: &str) -> bool {
    // Its Sentinel would list the one that was elected, or that it handed the role to.
    let alone = seen
        .monitor(&seen.me)
        .is_some_and(|monitor| monitor.others.is_empty());
    let known = alone || seen.units.values().all(|unit| unit.data.address.is_some());
    seen.members() == [seen.me.clone()]
        && seen.voters() == 1
        && known
        && seen.unit_at(host).is_none()
}

/// The named primary is no unit any more: it was removed by force, and nobody waits for it.
///
/// The Sentinels' quorum may still count units that were removed with it, so that they never agree.
fn removed(seen: &Observation) -> Option<Plan> {
    // A unit that has not told its address yet may be the one that is named.
    let unknown = seen.units.values().any(|unit| unit.data.address.is_none());
    if unknown {
        return None;
    }
    let serving = seen.serving();
    let mut members = seen.members().into_iter();
    if serving == [seen.me.clone()] && members.all(|unit| seen.server(&unit).is_some()) {
        return Some(confirmed(
            seen,
            "whom the Sentinels promoted was removed by force",
        ));
    }
    if !serving.is_empty() {
        return None;
    }
    let long_gone = seen
        .members()
        .iter()
        .filter_map(|unit| seen.monitor(unit))
        .any(|monitor| monitor.down && monitor.down_for_ms >= OUTAGE_PATIENCE_MS);
    match seen.fullest_replica() {
        // The leader may be one that waits to join.
        Some(to) if (to == seen.me || seen.leader) && long_gone => Some(Plan::act(
            vec![Step::Promote { to }],
            "the primary was removed by force",
        )),
        Some(_) | None => Some(Plan::Poll(Reason::NoPrimary)),
    }
}

/// A majority of Sentinels lost its state, but a server serves: they monitor it again.
fn bare(seen: &Observation) -> Option<Plan> {
    let Some(primary) = seen.primary() else {
        return Some(Plan::Wait(Reason::NoPrimary));
    };
    let host = seen.host_of(&primary)?.to_owned();
    if seen.monitor(&seen.me).is_some() {
        return None;
    }
    let step = Step::Monitor {
        primary: host,
        quorum: super::gate::quorum_now(seen),
    };
    Some(Plan::act(
        vec![step, Step::Announce],
        "Sentinel lost its state",
    ))
}
