//! What is checked: sets of units, and what may happen to them.

use std::time::Instant;

use stateright::{Checker as _, Model as _};
use valkey_operator::planner::{self, leader};

use crate::{
    hook::Rules,
    memo::Memo,
    model::{ALWAYS, Lock},
    progress,
    world::{Bag, Budget, Id, Life, State, Unit, Units, World},
};

/// The planner's own functions, and the executor as it is.
pub fn real() -> Rules {
    Rules {
        plan: planner::plan,
        duties: leader::duties,
        give_up: planner::give_up,
        commit_is_checked: true,
        tenure_is_checked: true,
        lease_is_checked: true,
        release_is_checked: true,
        memo: Memo::default(),
    }
}

/// Makes a world of `members` members and `new` units that have not joined.
pub fn world(members: Id, new: Id, budget: Budget) -> World {
    let member = Bag {
        written: true,
        state: State::Member,
        number: 0,
        wants: None,
        settings: 1,
    };
    let bags: Vec<Bag> = (0..members + new)
        .map(|id| if id < members { member } else { Bag::EMPTY })
        .collect();
    let units = bags
        .iter()
        .map(|bag| {
            let joined = bag.state == State::Member;
            Unit {
                life: Life::Alive,
                lost: false,
                bag: *bag,
                cache: bags.clone(),
                server: joined,
                sentinel: joined,
                data: joined,
                clean: false,
                lease: None,
                hook: None,
            }
        })
        .collect();
    World {
        units,
        turn: None,
        leader: Some(0),
        primary: 0,
        listed: Units::of(0..members),
        settings: 1,
        budget,
        to_remove: Units::default(),
        to_force: Units::default(),
        broken: std::collections::BTreeSet::new(),
    }
}

pub fn lock(start: World) -> Lock {
    let mut start = start;
    // A unit's own databag is not among what its agent shows of others.
    for id in start.ids() {
        start.unit_mut(id).cache[usize::from(id)] = Bag::EMPTY;
    }
    Lock {
        start: vec![start],
        rules: real(),
        frozen: true,
        slow_begin: false,
    }
}

/// Whether the larger bounds are asked for.
fn large() -> bool {
    std::env::var_os("VALKEY_LOCK_LARGE").is_some()
}

/// Checks all properties and progress; prints what it took.
fn check(name: &str, lock: &Lock) {
    let begun = Instant::now();
    let checker = lock.clone().checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} transitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    for (property, path) in checker.discoveries() {
        println!("broken: {property}");
        for event in path.into_actions() {
            println!("   {event:?}");
        }
    }
    checker.assert_properties();
    let begun = Instant::now();
    let progress = progress::check(lock);
    println!(
        "{name}: progress from {} states to {} settled ones, {} different looks, {:.1} s",
        progress.states,
        progress.settled,
        lock.rules.memo.looks(),
        begun.elapsed().as_secs_f64()
    );
    if let Some(way) = &progress.stuck {
        for (event, _) in way {
            println!("   {event:?}");
        }
        println!("{:?}", way.last().map(|(_, world)| world));
    }
    assert!(progress.stuck.is_none(), "{name}: stuck");
    assert!(progress.settled > 0, "{name}: nothing is ever settled");
}

#[test]
fn two_join_whatever_is_killed_and_whoever_leads() {
    let times = if large() { ALWAYS } else { 1 };
    let budget = Budget {
        moves: times,
        kills: times,
        ..Budget::default()
    };
    check("two join", &lock(world(1, 2, budget)));
}

#[test]
fn two_join_although_a_step_fails() {
    let budget = Budget {
        moves: u8::from(large()),
        failures: 1,
        ..Budget::default()
    };
    check("two join, steps fail", &lock(world(1, 2, budget)));
}

#[test]
fn three_restart_one_after_another() {
    let budget = Budget {
        moves: 1,
        kills: 1,
        changes: 1 + u8::from(large()),
        ..Budget::default()
    };
    check("three restart", &lock(world(3, 0, budget)));
}
