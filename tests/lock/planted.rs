//! Wrong versions of what decides: each must be found, and by the property that is named.

use std::collections::BTreeMap;

use stateright::{Checker as _, HasDiscoveries, Model as _};
use valkey_operator::planner::{
    self, Intent, Observation, Plan, Step, leader,
    observation::Lease,
    peer_data::{Grant, UnitState},
    turn::{self, Claim},
};

use crate::{
    founding::deployed,
    hook::Rules,
    model::Lock,
    scenarios::{lock, real, removing, world},
    world::Budget,
};

/// Asserts that the checker breaks `property` when `rules` decide.
fn must_break(property: &'static str, rules: Rules, scenario: Lock) {
    let checker = Lock { rules, ..scenario }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf(std::iter::once(property).collect()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(property);
    println!(
        "{property}: {} states, {} events",
        checker.unique_state_count(),
        path.as_ref()
            .map_or(0, |path| path.clone().into_actions().len()),
    );
    assert!(path.is_some(), "not found: {property}");
}

fn two_join() -> Lock {
    lock(world(
        1,
        2,
        Budget {
            moves: 2,
            ..Budget::default()
        },
    ))
}

/// Grants the turn to whoever asks, though another holds it.
fn grant_two_turns(seen: &Observation) -> Vec<Step> {
    let claims: BTreeMap<_, _> = seen
        .units
        .iter()
        .map(|(name, unit)| {
            let request = unit.data.turn.clone();
            let dying = unit.dying;
            (name.clone(), Claim { request, dying })
        })
        .collect();
    let wanted = turn::next_grant(None, &claims);
    if !seen.leader || wanted == seen.app_wanted.turn {
        return Vec::new();
    }
    vec![Step::GrantTurn(wanted)]
}

#[test]
fn two_turns_are_found() {
    let rules = Rules {
        duties: grant_two_turns,
        ..real()
    };
    must_break("at most one unit holds the turn", rules, two_join());
}

/// Takes every grant to this unit for one of its present request.
fn ignore_the_number(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    let number = seen.mine().data.turn.number;
    let me = seen.me.clone();
    if let Some(grant) = &mut seen.app.turn
        && grant.holder == me
    {
        *grant = Grant { holder: me, number };
    }
    planner::plan(&seen)
}

#[test]
fn a_number_that_is_ignored_is_found() {
    let rules = Rules {
        plan: ignore_the_number,
        ..real()
    };
    let budget = Budget {
        failures: 1,
        ..Budget::default()
    };
    must_break(
        "nobody starts without the turn",
        rules,
        lock(world(1, 2, budget)),
    );
}

#[test]
fn what_a_deposed_leader_writes_is_found() {
    let rules = Rules {
        commit_is_checked: false,
        tenure_is_checked: false,
        ..real()
    };
    must_break("at most one unit holds the turn", rules, two_join());
}

#[test]
fn a_leader_that_was_deposed_in_between_is_found() {
    let rules = Rules {
        tenure_is_checked: false,
        ..real()
    };
    must_break("at most one unit holds the turn", rules, two_join());
}

/// One joins, one leaves, and the lease may be lost on the way.
fn lease_is_lost() -> Lock {
    let budget = Budget {
        flushes: 1,
        ..Budget::default()
    };
    removing(lock(world(2, 1, budget)), [1])
}

#[test]
fn a_lease_that_is_not_made_sure_of_is_found() {
    let rules = Rules {
        lease_is_checked: false,
        ..real()
    };
    must_break(
        "nobody changes the set on an old look",
        rules,
        lease_is_lost(),
    );
}

#[test]
fn deleting_the_lease_of_another_is_found() {
    let rules = Rules {
        release_is_checked: false,
        ..real()
    };
    must_break(
        "nobody deletes the lease of another",
        rules,
        lease_is_lost(),
    );
}

/// Takes the lease for its own, whoever holds it.
fn ignore_the_lease(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    if let Lease::Other(_) = seen.lease {
        seen.lease = Lease::Unknown;
    }
    planner::plan(&seen)
}

#[test]
fn leaving_without_the_lease_is_found() {
    let rules = Rules {
        plan: ignore_the_lease,
        ..real()
    };
    must_break(
        "nobody changes the set while another holds the lease",
        rules,
        lease_is_lost(),
    );
}

/// Grants the turn to units that are being removed, too.
fn grant_to_the_dying(seen: &Observation) -> Vec<Step> {
    let mut seen = seen.clone();
    for unit in seen.units.values_mut() {
        unit.dying = false;
    }
    leader::duties(&seen)
}

#[test]
fn a_grant_to_a_dying_unit_is_found() {
    let rules = Rules {
        duties: grant_to_the_dying,
        ..real()
    };
    let scenario = removing(lock(world(1, 2, Budget::default())), [2]);
    must_break("no grant to a unit that leaves or is gone", rules, scenario);
}

/// Clears from the Sentinels whoever is no member by the databags.
fn forget_by_the_databags(seen: &Observation) -> Plan {
    let mut plan = planner::plan(seen);
    let mut members = seen.members();
    members.retain(|unit| seen.intent != Intent::Leave || *unit != seen.me);
    if let Plan::Act { steps, .. } = &mut plan {
        for step in steps {
            if let Step::Forget { remaining } = step {
                remaining.clone_from(&members);
            }
        }
    }
    plan
}

#[test]
fn forgetting_who_joined_meanwhile_is_found() {
    let rules = Rules {
        plan: forget_by_the_databags,
        ..real()
    };
    must_break("no member is forgotten", rules, lease_is_lost());
}

#[test]
fn a_leader_that_cannot_see_who_leaves_is_found() {
    let rules = Rules {
        blind_leaders_wait: false,
        ..real()
    };
    let budget = Budget {
        blind: 1,
        ..Budget::default()
    };
    let scenario = removing(lock(world(1, 2, budget)), [1]);
    must_break("at most one unit holds the turn", rules, scenario);
}

/// Founds whenever the turn is there, whoever serves already.
fn found_without_looking(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    let me = seen.me.clone();
    if seen.mine().data.state == UnitState::New {
        seen.servers.retain(|unit, _| *unit == me);
        seen.sentinels.retain(|unit, _| *unit == me);
        if let Some(founding) = &mut seen.app.founding {
            founding.unit = me;
            founding.done = false;
        }
    }
    planner::plan(&seen)
}

#[test]
fn founding_without_looking_is_found() {
    let rules = Rules {
        plan: found_without_looking,
        ..real()
    };
    must_break("never two founders", rules, deployed(2, Budget::default()));
}

#[test]
fn the_real_rules_are_those_of_the_planner() {
    let real = real();
    assert!(std::ptr::fn_addr_eq(
        real.plan,
        planner::plan as fn(&Observation) -> Plan
    ));
    assert!(std::ptr::fn_addr_eq(
        real.duties,
        leader::duties as fn(&Observation) -> Vec<Step>
    ));
}
