//! The common pass: what brings this unit to what the application needs.

use super::{
    Plan, gate,
    names::UnitName,
    numbers::{min_replicas_to_write, sentinel_quorum},
    observation::{Lease, Observation, Process, Role, Server, Storage, Users},
    peer_data::{Position, TurnKind, UnitState},
    reason::{Reason, Severity},
    refresh, repair,
    step::Step,
    upkeep,
    view::Naming,
};

/// Plans the next steps of this unit.
#[must_use]
pub fn plan(seen: &Observation) -> Plan {
    let running = seen.local.server == Process::Running;
    // What a stopped server holds is told before anything is decided on it.
    if !running && unpublished(seen) {
        return Plan::act(vec![Step::RecordPosition], "others compare what they hold");
    }
    if let Some(reason) = obstacle(seen) {
        return blocked(seen, reason);
    }
    let member = seen.mine().data.state == UnitState::Member;
    // The watcher wakes the charm when what it waits for comes, so it runs as soon as there is something to watch.
    let concerned = running || member || seen.holds_turn();
    if seen.local.watch == Process::Stopped && concerned {
        return Plan::act(vec![Step::StartWatch], "the watcher does not run");
    }
    if let Some(plan) = repair::hanging_failover(seen) {
        return plan;
    }
    if !running {
        return gate::plan(seen);
    }
    let Some(server) = seen.server(&seen.me) else {
        let why = match seen.servers.get(&seen.me) {
            Some(super::observation::Seen::Unknown(why)) => why.clone(),
            _ => "it was not asked".to_owned(),
        };
        return Plan::Poll(Reason::ServerSilent(why));
    };
    if let Some(progress) = server.loading {
        return Plan::Poll(Reason::Loading(progress));
    }
    if member {
        self::member(seen, server)
    } else {
        join(seen, server)
    }
}

/// Returns whether the record beside the data is this deployment's, and the others do not have it.
fn unpublished(seen: &Observation) -> bool {
    let mine = seen.mine();
    seen.local.identity.as_ref().is_some_and(|identity| {
        seen.app.deployment_id.as_ref() == Some(&identity.deployment_id)
            && identity.position.is_some()
            && identity.position != mine.data.position
            && mine.data.state != UnitState::Left
    })
}

/// Plans for a unit that cannot go on for a reason of its own: it keeps nobody else waiting.
fn blocked(seen: &Observation, reason: Reason) -> Plan {
    let turn = &seen.mine().data.turn;
    // A founder that never asked says so by a number, so that the leader names another.
    let founder = turn.number == 0
        && seen
            .app
            .founding
            .as_ref()
            .is_some_and(|founding| !founding.done && founding.unit == seen.me);
    let stopped = seen.local.server == Process::Stopped;
    if reason.severity() == Severity::Blocked && stopped && (turn.wants.is_some() || founder) {
        return Plan::ActAndWait {
            steps: vec![Step::ReleaseTurn],
            reason,
        };
    }
    Plan::Wait(reason)
}

/// Returns what this unit gives back when its steps do not work, so that others can go on.
///
/// It asks anew with the next event, and stands behind everybody who waited.
#[must_use]
pub fn give_up(seen: &Observation) -> Vec<Step> {
    let mut steps = Vec::new();
    if seen.holds_turn() {
        steps.push(Step::ReleaseTurn);
        if seen.lease == Lease::Mine {
            steps.push(Step::ReleaseLease);
        }
    }
    steps
}

/// Returns what must be there before anything can be done.
fn obstacle(seen: &Observation) -> Option<Reason> {
    match (seen.mine().data.state, &seen.storage) {
        (UnitState::Left, _) => return Some(Reason::Leaving),
        (UnitState::Detached, Storage::Missing) => return Some(Reason::Detached),
        (_, Storage::Missing) => return Some(Reason::NoStorage),
        (_, Storage::Problem(problem)) => return Some(Reason::StorageProblem(problem.clone())),
        (_, Storage::Ready) => {}
    }
    if seen.mine().dying {
        return Some(Reason::Leaving);
    }
    if seen.local.server_version.is_none() {
        return Some(Reason::NoServerBinary);
    }
    if seen.local.server == Process::Stopped
        && let Some(reason) = refresh::downgrade(seen)
    {
        return Some(reason);
    }
    match &seen.users {
        Users::Ready => None,
        Users::Missing => Some(Reason::NotFounded),
        Users::Unreadable(why) => Some(Reason::UsersUnreadable(why.clone())),
    }
}

/// Plans how a unit whose server runs joins the set.
fn join(seen: &Observation, server: &Server) -> Plan {
    if !seen.may_join() {
        return gate::ask_for_turn(seen);
    }
    let Role::Replica {
        of,
        link_up,
        syncing,
    } = &server.role
    else {
        // Promoted after everything was done but saying so.
        if matches!(seen.naming(), Naming::Agreed { host, .. } if host == seen.local.address) {
            return elected(seen);
        }
        return found(seen);
    };
    // Whom it was to join is gone for good: the restart gate lets it serve what it has.
    if gate::decision_for_me(seen).is_some() {
        return Plan::act(vec![Step::StopServer], "the leader decided that it serves");
    }
    // What is not surely held by the other stays, even if nobody else has heard of it.
    let empty = server.offset == 0 && server.keys == 0;
    let covers = |theirs: &Position| {
        empty || theirs.history == server.history && theirs.offset >= server.offset
    };
    if let Some(yielded) = gate::yield_turn(seen, covers) {
        return yielded;
    }
    if let Some(wait) = gate::lease_first(seen) {
        return wait;
    }
    let Some(primary) = seen.primary() else {
        return Plan::Poll(Reason::NoPrimary);
    };
    let Some(host) = seen.host_of(&primary) else {
        return Plan::Poll(Reason::NoPrimary);
    };
    if of != host {
        return Plan::act(
            vec![Step::Follow {
                primary: host.to_owned(),
            }],
            "the primary changed",
        );
    }
    if !link_up || syncing.is_some() {
        return Plan::Poll(Reason::Syncing {
            from: primary.to_string(),
            progress: *syncing,
        });
    }
    let members = seen.members();
    let mut steps = Vec::new();
    if server.priority == 0 {
        steps.push(Step::SetPromotable(true));
    }
    if seen.local.sentinel == Process::Stopped {
        steps.push(Step::StartSentinel {
            monitor: host.to_owned(),
            quorum: sentinel_quorum(members.len()),
            fresh: true,
        });
        steps.push(Step::Announce);
    }
    if !steps.is_empty() {
        return Plan::act(steps, "first sync is complete");
    }
    // By the processes, too: the databag of a member can be older than what it has become.
    if let Some(wait) = discovered(seen, &seen.belonging()) {
        return wait;
    }
    Plan::act(joined(seen), "every active Sentinel knows this unit")
}

/// Plans the rest of joining for a unit that is primary already: all know it first, as they know a replica.
fn elected(seen: &Observation) -> Plan {
    let why = "the Sentinels elected this unit";
    if seen.local.sentinel == Process::Stopped {
        let fresh = !seen.local.has_sentinel_file;
        let steps = vec![gate::sentinel_of_this_unit(seen, fresh), Step::Announce];
        return Plan::act(steps, why);
    }
    discovered(seen, &seen.belonging()).unwrap_or_else(|| Plan::act(joined(seen), why))
}

/// Returns the steps that make this unit a member.
fn joined(seen: &Observation) -> Vec<Step> {
    let mut everybody = seen.members();
    everybody.push(seen.me.clone());
    let mut steps = raise(seen, &everybody);
    steps.extend([
        Step::SetState(UnitState::Member),
        Step::RecordPosition,
        Step::ReleaseTurn,
        Step::ReleaseLease,
    ]);
    steps
}

/// Returns the steps that set the quorum and the fence for `everybody`.
fn raise(seen: &Observation, everybody: &[UnitName]) -> Vec<Step> {
    let sentinels: Vec<UnitName> = everybody
        .iter()
        .filter(|unit| seen.sentinel(unit).is_some())
        .cloned()
        .collect();
    let servers: Vec<UnitName> = everybody
        .iter()
        .filter(|unit| seen.server(unit).is_some())
        .cloned()
        .collect();
    vec![
        Step::SetQuorum {
            on: sentinels,
            quorum: sentinel_quorum(everybody.len()),
        },
        Step::SetMinReplicas {
            on: servers,
            value: min_replicas_to_write(everybody.len()),
        },
    ]
}

/// Returns what is missing until every active Sentinel knows the local one and the other way round.
fn discovered(seen: &Observation, members: &[UnitName]) -> Option<Plan> {
    let me = seen.local.address.as_str();
    let active: Vec<&UnitName> = members
        .iter()
        .filter(|unit| seen.monitor(unit).is_some())
        .collect();
    let mine = seen.monitor(&seen.me);
    let primary = seen.primary();
    let mut done = 0;
    let mut unheard = false;
    for unit in &active {
        let Some(monitor) = seen.monitor(unit) else {
            continue;
        };
        let hears_me = monitor.others.iter().any(|other| other.host == me);
        let sees_replica =
            monitor.primary == me || monitor.replicas.iter().any(|replica| replica.host == me);
        let heard = mine.is_some_and(|mine| {
            seen.host_of(unit).is_some_and(|host| {
                mine.others.iter().any(|other| other.host == host)
                    && (primary.as_ref() == Some(unit)
                        || mine.primary == me
                        || mine.replicas.iter().any(|replica| replica.host == host))
            })
        });
        unheard |= !hears_me;
        if hears_me && sees_replica && heard {
            done += 1;
        }
    }
    if done == active.len() && mine.is_some() {
        return None;
    }
    if unheard && mine.is_some() {
        let reason = Reason::Discovery {
            done,
            of: active.len(),
        };
        return Some(Plan::ActAndPoll {
            steps: vec![Step::Announce],
            reason,
        });
    }
    Some(Plan::Poll(Reason::Discovery {
        done,
        of: active.len(),
    }))
}

/// Plans the rest of a founding: the first primary runs, its Sentinel follows.
fn found(seen: &Observation) -> Plan {
    let decided = seen
        .app
        .founding
        .as_ref()
        .is_some_and(|founding| founding.unit == seen.me);
    if !decided {
        // The members handed over to it, or it was elected, and all of them are gone by now.
        let left_alone = seen.members().is_empty()
            && seen.serving() == [seen.me.clone()]
            && seen
                .monitor(&seen.me)
                .is_some_and(|monitor| monitor.primary == seen.local.address);
        if left_alone {
            return Plan::act(joined(seen), "all data is here, and nobody else is left");
        }
        return Plan::Wait(Reason::NoPrimary);
    }
    let mut steps = Vec::new();
    if seen.local.sentinel == Process::Stopped {
        steps.push(Step::StartSentinel {
            monitor: seen.local.address.clone(),
            quorum: sentinel_quorum(1),
            fresh: true,
        });
    }
    steps.extend([
        Step::SetPromotable(true),
        Step::SetState(UnitState::Member),
        Step::RecordPosition,
        Step::ReleaseTurn,
    ]);
    Plan::act(steps, "the first primary runs")
}

/// Plans for a member whose server runs, most urgent first.
fn member(seen: &Observation, server: &Server) -> Plan {
    if seen.local.sentinel == Process::Stopped {
        let primary = seen.primary().unwrap_or_else(|| seen.me.clone());
        let monitor = seen
            .host_of(&primary)
            .unwrap_or(&seen.local.address)
            .to_owned();
        let fresh = !seen.local.has_sentinel_file;
        if fresh && seen.primary().is_none() {
            return Plan::Poll(Reason::NoPrimary);
        }
        let mut steps = vec![Step::StartSentinel {
            monitor,
            quorum: gate::quorum_now(seen),
            fresh,
        }];
        if fresh {
            steps.push(Step::Announce);
        }
        return Plan::act(steps, "Sentinel does not run");
    }
    if let Some(plan) = repair::plan(seen, server) {
        return plan;
    }
    // Its link may still seem to be up: nothing ends it for a minute.
    if server.role != Role::Primary && server.priority != 0 && repair::is_cut_off(seen) {
        let steps = vec![Step::SetPromotable(false), Step::RecordPosition];
        return Plan::act(steps, "cut off, so that others hold more");
    }
    if let Role::Replica {
        of,
        link_up,
        syncing,
    } = &server.role
        && (!link_up || syncing.is_some())
    {
        if let Some(plan) = refresh::rescue(seen, server) {
            return plan;
        }
        if syncing.is_some() && server.priority != 0 {
            return Plan::act(
                vec![Step::SetPromotable(false)],
                "a full synchronisation is under way",
            );
        }
        let from = seen.show_host(of);
        return Plan::Poll(Reason::Syncing {
            from,
            progress: *syncing,
        });
    }
    if let Naming::TooFew { answering, needed } = seen.naming() {
        return Plan::Poll(Reason::TooFewSentinels { answering, needed });
    }
    upkeep::plan(seen, server)
}

/// Plans what is left over when there is nothing else to do: a turn or lease that is not needed.
pub(super) fn hand_back(seen: &Observation) -> Option<Plan> {
    let mut steps = Vec::new();
    if seen.mine().data.turn.wants == Some(TurnKind::Start) {
        steps.push(Step::ReleaseTurn);
    }
    if seen.lease == Lease::Mine {
        steps.push(Step::ReleaseLease);
    }
    (!steps.is_empty()).then(|| Plan::act(steps, "nothing is left to do with it"))
}
