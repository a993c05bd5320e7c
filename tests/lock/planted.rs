//! Wrong versions of what decides: each must be found, and by the property that is named.

use std::collections::BTreeMap;

use stateright::{Checker as _, HasDiscoveries, Model as _};
use valkey_operator::planner::{
    self, Observation, Plan, Step, leader,
    peer_data::Grant,
    turn::{self, Claim},
};

use crate::{
    hook::Rules,
    model::Lock,
    scenarios::{lock, real, world},
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
