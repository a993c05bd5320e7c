//! Cuts: units that do not reach each other while Juju's databags still flow, and the other way round.

use crate::{
    founding::deployed,
    scenarios::{check, lock, removing, world},
    world::Budget,
};

#[test]
fn an_application_begins_while_the_network_is_cut() {
    let budget = Budget {
        cuts: 1,
        failures: 1,
        ..Budget::default()
    };
    check("cut, two found", &deployed(2, budget));
}

#[test]
fn juju_is_out_of_reach_for_one_while_valkey_is_not() {
    let budget = Budget {
        silences: 1,
        ..Budget::default()
    };
    let lock = removing(lock(world(2, 1, budget)), [1]);
    check("silent agent, one joins, one leaves", &lock);
}
