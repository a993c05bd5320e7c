//! What is checked: sets of units, and what may happen to them.

use std::time::Instant;

use stateright::{Checker as _, Model as _};
use valkey_operator::planner::{self, leader};

use crate::{
    hook::Rules,
    memo::Memo,
    model::{ALWAYS, Lock},
    progress,
    world::{App, Bag, Budget, Cut, Founder, Id, Life, Mark, State, Unit, Units, Why, World},
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
        blind_leaders_wait: true,
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
                quorum: if joined { members / 2 + 1 } else { 0 },
                data: joined,
                mark: joined.then_some(Mark {
                    deployment: 0,
                    generation: 1,
                }),
                clean: false,
                lease: None,
                hook: None,
            }
        })
        .collect();
    World {
        units,
        app: App {
            turn: None,
            founder: Some(Founder {
                unit: 0,
                generation: 1,
                reason: Why::Found,
                done: true,
            }),
            deployment: Some(0),
        },
        leader: Some(0),
        primary: 0,
        listed: Units::of(0..members),
        settings: 1,
        budget,
        to_remove: Units::default(),
        to_force: Units::default(),
        cut: Cut::default(),
        silent: Units::default(),
        displaced: None,
        broken_storage: Units::default(),
        founded: Units::default(),
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
pub fn large() -> bool {
    std::env::var_os("VALKEY_LOCK_LARGE").is_some()
}

/// Checks all properties and progress; prints what it took.
pub fn check(name: &str, lock: &Lock) {
    safe(name, lock);
    progresses(name, lock);
}

/// Checks that nothing happens that must never happen.
pub fn safe(name: &str, lock: &Lock) {
    let begun = Instant::now();
    let checker = lock.clone().checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} transitions, depth {}, {} different looks, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        lock.rules.memo.looks(),
        begun.elapsed().as_secs_f64()
    );
    for (property, path) in checker.discoveries() {
        println!("broken: {property}");
        let (worlds, events): (Vec<World>, Vec<_>) = path.into_vec().into_iter().unzip();
        for event in events.into_iter().flatten() {
            println!("   {event:?}");
        }
        for world in &worlds[worlds.len().saturating_sub(2)..] {
            println!("{:?} listed {:?}", world.app, world.listed);
            for unit in &world.units {
                println!("{unit:?}");
            }
        }
    }
    checker.assert_properties();
}

/// Checks that everything can still be settled from everywhere.
pub fn progresses(name: &str, lock: &Lock) {
    let begun = Instant::now();
    let progress = progress::check(lock);
    println!(
        "{name}: progress from {} states to {} settled ones, {:.1} s",
        progress.states,
        progress.settled,
        begun.elapsed().as_secs_f64()
    );
    if let Some(way) = &progress.stuck {
        for (event, _) in way {
            println!("   {event:?}");
        }
        let start = &lock.start[0];
        let stuck = way.last().map_or(start, |(_, world)| world);
        let (after, end) = progress::dead_end(lock, stuck);
        println!("   … and by itself at most:");
        for event in after {
            println!("   {event:?}");
        }
        println!(
            "{:?} leader {:?} primary {} listed {:?}",
            end.app, end.leader, end.primary, end.listed
        );
        for unit in &end.units {
            println!("{unit:?}");
        }
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

/// Lets these units be removed, whenever it happens.
pub fn removing(mut lock: Lock, units: impl IntoIterator<Item = Id>) -> Lock {
    lock.start[0].to_remove = Units::of(units);
    lock
}

#[test]
fn two_of_three_leave_at_once() {
    for (name, leavers) in [("replicas", [1, 2]), ("the primary and one", [0, 1])] {
        let budget = Budget {
            kills: 1,
            ..Budget::default()
        };
        let lock = removing(lock(world(3, 0, budget)), leavers);
        check(&format!("two leave: {name}"), &lock);
    }
}

#[test]
fn one_is_replaced_by_another() {
    for frozen in [true, false] {
        let budget = Budget {
            kills: 1,
            ..Budget::default()
        };
        let lock = removing(lock(world(1, 1, budget)), [0]);
        let name = format!("replaced, frozen {frozen}");
        check(&name, &Lock { frozen, ..lock });
    }
}

#[test]
fn one_joins_while_another_leaves() {
    for (leaver, frozen) in [(1, true), (0, true), (1, false)] {
        let lock = removing(lock(world(2, 1, Budget::default())), [leaver]);
        let name = format!("one joins, {leaver} leaves, frozen {frozen}");
        check(&name, &Lock { frozen, ..lock });
    }
}

#[test]
fn one_of_three_leaves_while_a_fourth_joins() {
    let lock = removing(lock(world(3, 1, Budget::default())), [1]);
    safe("four units, one joins, one leaves", &lock);
    if large() {
        progresses("four units, one joins, one leaves", &lock);
        let budget = Budget {
            moves: 1,
            kills: 1,
            ..Budget::default()
        };
        let two = removing(self::lock(world(3, 1, budget)), [0, 1]);
        safe("four units, one joins, two leave", &two);
    }
}

#[test]
fn what_happens_between_reading_and_looking_changes_nothing() {
    let lock = removing(lock(world(2, 1, Budget::default())), [1]);
    let slow_begin = true;
    let lock = Lock { slow_begin, ..lock };
    safe("slow begin", &lock);
    if large() {
        progresses("slow begin", &lock);
    }
}

#[test]
fn the_lease_is_lost_while_one_joins_and_another_leaves() {
    let none = Budget::default();
    let flush = Budget { flushes: 1, ..none };
    let failover = Budget {
        failovers: 1,
        ..none
    };
    let of = |name: &str, budget| {
        let lock = removing(lock(world(2, 1, budget)), [1]);
        (format!("lease lost by {name}"), lock)
    };
    let (name, lock) = of("FLUSHALL", flush);
    check(&name, &lock);
    let (name, lock) = of("failover", failover);
    safe(&name, &lock);
    if large() {
        progresses(&name, &lock);
        // To the lock, a lease that ran out is one that was deleted.
        let both = Budget {
            expiries: 1,
            ..flush
        };
        let (name, lock) = of("FLUSHALL and expiry", both);
        check(&name, &lock);
    }
}

#[test]
fn a_lost_machine_is_cleared() {
    let budget = Budget {
        losses: 1,
        ..Budget::default()
    };
    check("lost machine", &lock(world(3, 0, budget)));
    let budget = Budget::default();
    let mut lock = lock(world(2, 1, budget));
    lock.start[0].to_force = Units::of([1]);
    check("forced removal while one joins", &lock);
}

#[test]
fn juju_does_not_tell_who_leaves() {
    let budget = Budget {
        blind: 1,
        ..Budget::default()
    };
    let lock = removing(lock(world(2, 1, budget)), [1]);
    check("blind", &lock);
}

#[test]
fn a_leader_that_cannot_leave_yet_starves_nobody() {
    // Unit 1 is dead and stays so; the leader and primary is to go; unit 2 could take its place.
    let mut lock = removing(lock(world(2, 1, Budget::default())), [0]);
    let world = &mut lock.start[0];
    let dead = world.unit_mut(1);
    dead.lost = true;
    dead.server = false;
    dead.sentinel = false;
    check("the leader leaves, another is dead", &lock);
}
