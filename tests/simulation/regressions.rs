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

/// Who waited in its hook to leave took a unit that had joined meanwhile for a ghost, and reset
/// every Sentinel again and again.
#[test]
fn who_leaves_knows_a_unit_that_came_while_it_waited() {
    holds(
        "seed=874 units=5 juju=4.0
         66000 freeze-server 4 963
         66000 remove-unit 3
         67000 add-unit-reusing",
    );
}

/// The same with a unit whose storage came back.
#[test]
fn who_leaves_knows_a_unit_that_came_back_while_it_waited() {
    holds(
        "seed=1749 units=5 juju=4.0
         30000 detach-storage 4 52000
         80000 reboot 2 17000
         90000 remove-unit 0",
    );
}

/// The leader took a member at a new address for a ghost and reset Sentinels for minutes.
#[test]
fn a_member_at_a_new_address_is_no_ghost() {
    holds(
        "seed=1281 units=3 juju=4.0
         70000 move-address 2 870
         70000 add-unit
         70000 move-address 1 734",
    );
    holds(
        "seed=677 units=3 juju=4.0
         260000 add-unit-reusing
         320000 reboot 1 750
         320000 move-address 3 738",
    );
}

/// The last member took the newest data along while a unit waited for its older storage.
#[test]
fn the_newest_data_stays_while_older_storage_is_to_come_back() {
    holds(
        "seed=1243 units=3 juju=silent
         80000 remove-unit 0
         130000 detach-storage 1 10000
         139000 remove-unit 2",
    );
}

/// Who left last waited ten minutes for a unit that had long joined: its databag was read before.
#[test]
fn the_last_to_go_does_not_wait_for_who_has_joined() {
    holds(
        "seed=1 units=1 juju=3.6
         60000 add-unit
         60000 remove-unit 0",
    );
}

/// One had the turn before another was chosen to serve first; each waited for the other.
#[test]
fn who_has_the_turn_makes_way_for_who_serves_first() {
    holds(
        "seed=2 units=3 juju=3.6
         60000 remove-unit 2
         110000 remove-unit 0
         120000 remove-unit 1
         150000 add-unit-reusing
         150000 add-unit-reusing
         150000 add-unit-reusing",
    );
}

/// A Sentinel counted as whole while no replica was attached yet; the next one was reset, and for
/// a moment no Sentinel knew any replica.
#[test]
fn no_sentinel_is_reset_while_another_knows_no_replica() {
    holds(
        "seed=1257 units=3 juju=silent
         39719 reboot-all 29119 693
         50000 remove-unit 1",
    );
}

/// The only member, whose storage was to be detached, waited in its hook for a newcomer, and the
/// newcomer for the leader, which was the only member.
#[test]
fn who_lives_on_without_storage_waits_for_no_newcomer() {
    holds(
        "seed=2332 units=1 juju=silent
         100910 detach-storage 0 691
         100968 add-unit",
    );
}

/// A unit waited ten minutes for another to take over whose storage had been detached meanwhile.
#[test]
fn storage_is_let_go_when_nobody_else_answers() {
    holds(
        "seed=1948 units=3 juju=3.6
         130000 detach-storage 0 750
         130000 remove-unit 1
         130000 detach-storage 2 3000",
    );
}

/// Its hooks were killed while others left and rebooted, and a unit waited for ever.
#[test]
fn hooks_that_are_killed_while_others_leave_keep_nobody_waiting() {
    holds(
        "seed=1 units=4 juju=4.0
         60000 reboot 2 90000
         61000 remove-unit 1
         62000 kill-hook 1 3
         70000 kill-hook 1 6",
    );
}

/// The primary went alone with its storage and came back with it; meanwhile another had returned as its replica,
/// and each waited for the other.
#[test]
fn who_was_primary_and_comes_back_with_its_storage_serves_those_who_wait_for_it() {
    holds(
        "seed=951 units=3 juju=4.0
         50000 lose-machine 1 972
         140000 kill-unit 0
         230000 detach-storage 2 743",
    );
    holds(
        "seed=6034 units=2 juju=4.0
         50000 kill-unit 0
         80000 detach-storage 1 909",
    );
    holds(
        "seed=1948 units=3 juju=3.6
         10000 full-disk 1 29200
         132918 detach-storage 0 839
         134326 detach-storage 2 882
         134512 remove-unit 1",
    );
}
