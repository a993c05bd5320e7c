//! What must hold: of the set once it has settled, and of every plan before it is carried out.

use std::collections::BTreeSet;

use super::{
    Plan,
    numbers::{min_replicas_to_write, sentinel_quorum},
    observation::{Observation, Role, Seen},
    step::Step,
    view::Naming,
};
use crate::limits::FENCE_HELD;

/// Returns what is so wrong in the set that writes or the failover do not work, or data is in danger.
///
/// These are the first of [`violations`].
#[must_use]
pub fn grave(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let serving = seen.serving();
    if serving.len() > 1 {
        let names: Vec<_> = serving.iter().map(ToString::to_string).collect();
        found.push(format!(
            "more than one unit accepts writes: {}",
            names.join(", ")
        ));
    }
    match seen.naming() {
        Naming::Agreed { host, .. } => {
            if !seen
                .unit_at(&host)
                .is_some_and(|unit| serving.contains(unit))
            {
                found.push(format!(
                    "the primary {} does not serve",
                    seen.show_host(&host)
                ));
            }
        }
        Naming::Split => found.push("the Sentinels do not agree who is primary".to_owned()),
        Naming::Bare => found.push("the Sentinels monitor nothing".to_owned()),
        Naming::TooFew { answering, needed } => {
            found.push(format!(
                "{answering} of {} Sentinels answer, {needed} are needed for a failover",
                seen.members().len()
            ));
        }
    }
    found
}

/// Returns what is not as it should be in the set, each in words for a person.
///
/// An empty answer means: one primary, named by all Sentinels, followed by all others; every
/// Sentinel knows exactly the others and the replicas; quorum and fence fit the number of members.
#[must_use]
pub fn violations(seen: &Observation) -> Vec<String> {
    let members = seen.members();
    let mut found = grave(seen);
    if let Naming::Agreed { votes, .. } = seen.naming()
        && votes < members.len()
    {
        found.push(format!(
            "{votes} of {} Sentinels name the primary",
            members.len()
        ));
    }
    for unit in &members {
        server_violations(seen, unit, members.len(), &mut found);
        sentinel_violations(seen, unit, &members, &mut found);
    }
    found.extend(seen.leaks());
    found
}

fn server_violations(
    seen: &Observation,
    unit: &super::names::UnitName,
    members: usize,
    found: &mut Vec<String>,
) {
    let server = match seen.servers.get(unit) {
        Some(Seen::Known(server)) => server,
        Some(Seen::Unknown(why)) => {
            found.push(format!("server of {unit} does not answer: {why}"));
            return;
        }
        None => {
            found.push(format!("address of {unit} is not known"));
            return;
        }
    };
    if let Some(progress) = server.loading {
        found.push(format!("{unit} is loading: {progress}"));
        return;
    }
    if let Role::Replica {
        of,
        link_up,
        syncing,
    } = &server.role
    {
        if let Some(progress) = syncing {
            found.push(format!("{unit} is syncing: {progress}"));
        } else if !link_up {
            found.push(format!("{unit} has no link to {}", seen.show_host(of)));
        }
        if let Some(primary) = seen.primary()
            && seen.host_of(&primary) != Some(of.as_str())
        {
            found.push(format!(
                "{unit} follows {}, not {primary}",
                seen.show_host(of)
            ));
        }
    }
    if server.priority == 0 {
        found.push(format!("{unit} is not promotable yet"));
    }
    let fence = u64::try_from(min_replicas_to_write(members)).unwrap_or(u64::MAX);
    if server.min_replicas == Some(FENCE_HELD) {
        found.push(format!(
            "{unit} takes no writes until the Sentinels confirm it"
        ));
    } else if server.min_replicas.is_some_and(|value| value != fence) {
        found.push(format!("min-replicas-to-write of {unit} is not {fence}"));
    }
}

fn sentinel_violations(
    seen: &Observation,
    unit: &super::names::UnitName,
    members: &[super::names::UnitName],
    found: &mut Vec<String>,
) {
    let monitor = match seen.sentinels.get(unit) {
        Some(Seen::Known(sentinel)) => {
            let Some(monitor) = &sentinel.monitor else {
                found.push(format!("Sentinel of {unit} monitors nothing"));
                return;
            };
            monitor
        }
        Some(Seen::Unknown(why)) => {
            found.push(format!("Sentinel of {unit} does not answer: {why}"));
            return;
        }
        None => return,
    };
    let quorum = sentinel_quorum(members.len());
    if monitor.quorum != quorum {
        found.push(format!(
            "quorum of {unit} is {}, not {quorum}",
            monitor.quorum
        ));
    }
    if monitor.failing_over {
        found.push(format!("Sentinel of {unit} works on a failover"));
    }
    if monitor.down {
        found.push(format!("Sentinel of {unit} cannot reach the primary"));
    }
    let host = |name: &super::names::UnitName| seen.host_of(name).unwrap_or_default().to_owned();
    let others: BTreeSet<String> = members
        .iter()
        .filter(|other| *other != unit)
        .map(host)
        .collect();
    let known: BTreeSet<String> = monitor
        .others
        .iter()
        .map(|other| other.host.clone())
        .collect();
    if others != known || monitor.others.len() != known.len() {
        found.push(format!(
            "Sentinel of {unit} knows {} other Sentinels, not {}",
            monitor.others.len(),
            others.len()
        ));
    }
    let replicas: BTreeSet<String> = members
        .iter()
        .map(host)
        .filter(|replica| *replica != monitor.primary)
        .collect();
    let known: BTreeSet<String> = monitor
        .replicas
        .iter()
        .map(|other| other.host.clone())
        .collect();
    if replicas != known {
        found.push(format!(
            "Sentinel of {unit} knows {} replicas, not {}",
            known.len(),
            replicas.len()
        ));
    }
}

/// Checks that a plan breaks no invariant, whatever led to it.
///
/// # Errors
///
/// Which one it would break.
pub fn permit(seen: &Observation, plan: &Plan) -> Result<(), String> {
    let mut leased = seen.lease == super::observation::Lease::Mine;
    for step in plan.steps() {
        match step {
            Step::TakeLease => leased = true,
            Step::ReleaseLease => leased = false,
            Step::NameDeployment
            | Step::CreateUsers
            | Step::NameFounder(_)
            | Step::GrantTurn(_)
                if !seen.leader =>
            {
                return Err(format!("only the leader may {step}"));
            }
            Step::StartServer { follow: None, .. } => {
                let other = seen.serving().into_iter().find(|unit| *unit != seen.me);
                if let Some(other) = other {
                    return Err(format!(
                        "{other} serves already, so this unit must not {step}"
                    ));
                }
            }
            // Without a primary there is no lease; then only the evidence counts.
            Step::Forget { .. } if !leased && seen.lease != super::observation::Lease::Unknown => {
                return Err(format!("nobody may {step} without the lease"));
            }
            Step::HandOver { from, to, .. } => {
                if let Err(why) = seen.can_take_over(to, from) {
                    return Err(format!("cannot {step}: {to} {why}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
