//! The upkeep of a member that is in order: numbers, settings, restarts, members that are gone.

use std::collections::BTreeSet;

use super::{
    Plan, fence, gate,
    names::UnitName,
    numbers::{min_replicas_to_write, sentinel_quorum},
    observation::{Lease, Observation, Role, Server},
    peer_data::UnitState,
    reason::Reason,
    reconcile, refresh,
    step::Step,
};

/// Plans the upkeep of this unit.
#[must_use]
pub fn plan(seen: &Observation, server: &Server) -> Plan {
    let mut steps = Vec::new();
    if server.priority == 0 {
        steps.push(Step::SetPromotable(true));
    }
    // A restart brings all settings; a server may refuse one of them just because of what it was
    // started with, as with more clients than its limit of open files allows.
    let restart = refresh::plan(seen, server);
    let restarts_now = matches!(restart, Some(Plan::Act { .. }));
    if settings_differ(seen) && !restarts_now {
        steps.push(Step::ApplySettings);
    }
    if !seen.membership_busy() {
        steps.extend(numbers(seen, server));
    }
    if record_differs(seen, server) {
        steps.push(Step::RecordPosition);
    }
    if !steps.is_empty() {
        return Plan::act(steps, "upkeep");
    }
    if let Some(plan) = restart {
        return plan;
    }
    if let Some(plan) = introductions(seen) {
        return plan;
    }
    if let Some(plan) = departed(seen) {
        return plan;
    }
    if let Some(plan) = reconcile::hand_back(seen) {
        return plan;
    }
    if let Some(reason) = refresh::downgrade(seen) {
        return Plan::Wait(reason);
    }
    seen.local
        .server_version
        .as_ref()
        .and(server.disk_trouble.clone())
        .map_or(Plan::Settled, |trouble| {
            Plan::Wait(Reason::DiskTrouble(trouble))
        })
}

fn settings_differ(seen: &Observation) -> bool {
    let server = seen.settings.runtime.iter().any(|(name, value)| {
        seen.local
            .runtime
            .get(name)
            .is_some_and(|current| current != value)
    });
    let sentinel = seen
        .monitor(&seen.me)
        .is_some_and(|monitor| monitor.down_after_ms != seen.settings.down_after_ms);
    server || sentinel
}

/// Returns the steps that set this unit's quorum and fence to what the members need.
fn numbers(seen: &Observation, server: &Server) -> Vec<Step> {
    let members = seen.members().len();
    let mut steps = Vec::new();
    if seen
        .monitor(&seen.me)
        .is_some_and(|monitor| monitor.quorum != sentinel_quorum(members))
    {
        steps.push(Step::SetQuorum {
            on: vec![seen.me.clone()],
            quorum: sentinel_quorum(members),
        });
    }
    let wanted = min_replicas_to_write(members);
    let current = server
        .min_replicas
        .and_then(|value| usize::try_from(value).ok());
    // What the watcher holds it lets go itself, as soon as that is safe.
    let held = fence::is_held(seen, server, wanted);
    if !held && current.is_some_and(|current| current != wanted) {
        steps.push(Step::SetMinReplicas {
            on: vec![seen.me.clone()],
            value: wanted,
        });
    }
    steps
}

/// Whether what the others know of this unit's data is of another history, role or version.
fn record_differs(seen: &Observation, server: &Server) -> bool {
    // systemd may have started another version than the last hook did.
    let version = server.version.is_some() && server.version != seen.mine().data.server_version;
    let known = seen.mine().data.sentinel.as_ref();
    let sentinel = seen
        .sentinel(&seen.me)
        .is_some_and(|it| Some(&it.id) != known);
    let recorded = seen.mine().data.position.as_ref();
    version
        || sentinel
        || recorded.is_none_or(|position| {
            position.history != server.history
                || position.primary != (server.role == Role::Primary)
                || position.epoch != seen.epoch()
                || position.clean
        })
}

/// Plans the introduction of the local Sentinel to members whose Sentinel does not know it.
fn introductions(seen: &Observation) -> Option<Plan> {
    let stranger = seen.stranger().filter(|_| !seen.membership_busy())?;
    let reason = Reason::Degraded(format!("Sentinel is not known to {stranger} yet"));
    Some(Plan::ActAndPoll {
        steps: vec![Step::Announce],
        reason,
    })
}

/// Plans the removal of members that are gone from the Sentinels, by the leader alone.
fn departed(seen: &Observation) -> Option<Plan> {
    if !seen.leader || seen.turn_holder().is_some_and(|holder| *holder != seen.me) {
        return None;
    }
    // A unit that has asked for a turn, but whose address cannot be read, might be the stranger.
    // One that has never written anything has started nothing.
    let nameless = |unit: &super::observation::Unit| {
        unit.data.address.is_none()
            && (unit.data.turn.number > 0 || unit.data.state != UnitState::New)
    };
    if !seen.malformed.is_empty() || seen.units.values().any(nameless) {
        return None;
    }
    let members = seen.members();
    let hosts: BTreeSet<&str> = seen
        .units
        .iter()
        .filter(|(_, unit)| unit.data.state != UnitState::Left)
        .filter(|(name, unit)| !unit.dying || members.contains(name))
        .filter_map(|(name, _)| seen.host_of(name))
        .collect();
    let strangers = |sentinels: bool| {
        members
            .iter()
            .filter_map(|unit| seen.monitor(unit))
            .flat_map(move |monitor| {
                if sentinels {
                    &monitor.others
                } else {
                    &monitor.replicas
                }
            })
            .filter(|known| !hosts.contains(known.host.as_str()))
    };
    // One that answers cannot be cleared: it would introduce itself again. It may be a member at
    // an address, or a unit, that this one has not heard of yet, so that nobody else is cleared
    // either until its databag has been read.
    if strangers(true).any(|known| !known.down)
        || strangers(false).any(|known| !known.down && !seen.is_leaked_replica(known))
    {
        return None;
    }
    let ghosts: BTreeSet<String> = strangers(true)
        .chain(strangers(false))
        .map(|known| known.host.clone())
        .collect();
    if ghosts.is_empty() {
        return None;
    }
    let unsafe_now = members
        .iter()
        .filter_map(|unit| seen.monitor(unit))
        .any(|monitor| monitor.down || monitor.agreed_down || monitor.failing_over);
    let remaining = seen.belonging();
    if unsafe_now || !seen.is_followed_by(&remaining) {
        let reason = format!(
            "departed member {} is still known to the Sentinels",
            list(&ghosts)
        );
        return Some(Plan::Poll(Reason::Degraded(reason)));
    }
    match &seen.lease {
        Lease::Other(holder) => return Some(Plan::Wait(Reason::LeaseHeld(holder.clone()))),
        Lease::Unknown => return Some(Plan::Wait(Reason::LeaseUnavailable)),
        Lease::Free => return gate::lease_first(seen),
        Lease::Mine => {}
    }
    let quorum = sentinel_quorum(remaining.len());
    let answering: Vec<UnitName> = remaining
        .iter()
        .filter(|unit| seen.monitor(unit).is_some())
        .cloned()
        .collect();
    let steps = vec![
        Step::Forget { remaining },
        Step::SetQuorum {
            on: answering,
            quorum,
        },
        Step::ReleaseLease,
    ];
    Some(Plan::act(steps, "clear departed members"))
}

fn list(hosts: &BTreeSet<String>) -> String {
    hosts
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
