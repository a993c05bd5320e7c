//! How an application begins: one unit, and never two, starts with nothing; the others join it.

use crate::{
    model::Lock,
    scenarios::{check, large, lock, removing, world},
    world::{Budget, Id, Units},
};

/// Makes `units` units of an application that has only just been deployed.
pub fn deployed(units: Id, budget: Budget) -> Lock {
    let mut lock = lock(world(0, units, budget));
    let world = &mut lock.start[0];
    world.app.founder = None;
    world.app.deployment = None;
    lock
}

#[test]
fn one_founds_whatever_is_killed_and_whoever_leads() {
    let budget = Budget {
        kills: 1,
        moves: 1 + u8::from(large()),
        ..Budget::default()
    };
    check("two found", &deployed(2, budget));
}

#[test]
fn one_founds_although_steps_fail_after_all() {
    let budget = Budget {
        failures: 1 + u8::from(large()),
        moves: 1,
        ..Budget::default()
    };
    check("two found, steps fail", &deployed(2, budget));
}

#[test]
fn one_of_three_founds() {
    let budget = Budget {
        moves: u8::from(large()),
        ..Budget::default()
    };
    check("three found", &deployed(3, budget));
}

#[test]
fn a_founder_that_leaves_is_replaced() {
    for frozen in [true, false] {
        let budget = Budget {
            kills: 1,
            moves: u8::from(large()),
            ..Budget::default()
        };
        let lock = removing(deployed(2, budget), [0]);
        let name = format!("the founder leaves, frozen {frozen}");
        check(&name, &Lock { frozen, ..lock });
    }
}

#[test]
fn a_founder_that_is_lost_is_replaced() {
    let budget = Budget {
        losses: 1,
        moves: 1,
        ..Budget::default()
    };
    check("the founder's machine is lost", &deployed(2, budget));
    let mut lock = deployed(
        2,
        Budget {
            losses: 0,
            ..budget
        },
    );
    lock.start[0].to_force = Units::of([0]);
    check("the founder is removed by force", &lock);
}

#[test]
fn a_founder_whose_storage_is_broken_is_replaced() {
    let budget = Budget {
        moves: 1,
        kills: 1,
        ..Budget::default()
    };
    let units = 2 + u8::from(large());
    let mut lock = deployed(units, budget);
    lock.start[0].broken_storage = Units::of([0]);
    check("the founder's storage is broken", &lock);
}
