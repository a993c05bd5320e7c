//! Scripts that once broke a promise, each under the name of what was wrong.

use crate::{life, world::Deciders};

/// Plays a script and expects every promise to be kept.
fn holds(script: &str) {
    let script = script.parse().unwrap();
    let outcome = life::play(&script, Deciders::real(), true, 0);
    let text = outcome.text.join("\n");
    assert!(
        outcome.breaches.is_empty(),
        "{text}\n{script}\n{:?}",
        outcome.breaches
    );
}

/// It waited as a replica of its own earlier address, and its Sentinel never learned the new one.
#[test]
fn a_lone_unit_serves_at_its_new_address() {
    holds(
        "seed=104 units=1 juju=silent
         20000 move-address 0 552",
    );
}

/// The hook waited five minutes for a server that had said that it could not save.
#[test]
fn a_server_that_refuses_to_stop_is_not_waited_for() {
    holds(
        "seed=158 units=1 juju=silent
         10000 full-disk 0 750
         10000 start-option 3",
    );
}
