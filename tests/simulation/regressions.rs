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

/// Who left handed over to a unit of whose joining it had not read, did not tell its Sentinel, and stopped: the new
/// primary waited for the old one's vote for ever, and the old one for the end of the joining.
#[test]
fn who_leaves_tells_the_sentinel_of_who_has_just_joined() {
    for script in [
        "seed=12019 units=1 juju=3.6
         139000 add-unit
         139633 cut-pair 0 1 1322
         140000 remove-unit 0",
        "seed=43501 units=1 juju=4.0
         22671 remove-unit 0
         37000 add-unit
         51000 add-unit
         52538 remove-unit 1",
    ] {
        holds(script);
    }
}

/// A new unit had the turn and found nobody to join, while the unit with the data waited for the turn.
#[test]
fn a_newcomer_does_not_keep_the_turn_from_the_unit_with_the_data() {
    for script in [
        "seed=14081 units=2 juju=4.0
         65000 cut-pair 0 1 1000
         65000 detach-storage 0 833
         70000 add-unit",
        "seed=47421 units=2 juju=4.0
         71815 add-unit
         72841 force-remove 1
         80000 detach-storage 0 788",
    ] {
        holds(script);
    }
}

/// The last member was to leave and did not serve: it waited for a newcomer, which waited for a primary.
#[test]
fn the_last_to_go_serves_for_the_newcomer_that_it_waits_for() {
    for script in [
        "seed=19387 units=1 juju=3.6
         20000 move-address 0 544
         20000 add-unit
         20000 remove-unit 0",
        "seed=25395 units=2 juju=silent
         70000 force-remove 0
         70000 add-unit
         90000 remove-unit 1",
        "seed=25395 units=2 juju=silent
         74617 remove-unit 1
         74653 remove-unit 1
         74778 force-remove 0
         74960 add-unit",
    ] {
        holds(script);
    }
}

/// The replica that was promotable held less than two that had been cut off: it was to be promoted, and each time
/// that was refused.
#[test]
fn a_promotable_replica_that_holds_less_keeps_nobody_from_serving() {
    holds(
        "seed=37327 units=5 juju=3.6
         130000 remove-unit 4
         165000 freeze-server 3 7000
         165000 detach-storage 3 541
         170000 lose-machine 2 5000",
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

/// One was cut off right after its reset; when it was back, the next was reset before it knew any replica.
#[test]
fn no_sentinel_is_reset_while_one_that_was_is_out_of_sight() {
    holds(
        "seed=46000 units=3 juju=3.6
         65000 remove-unit 1
         65944 cut-off 0 4000",
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

/// It was cut off, took the leaving primary for gone, and became a majority of its own: two served, and writes were lost.
#[test]
fn who_is_cut_off_does_not_count_a_leaving_primary_out() {
    holds(
        "seed=4777 units=3 juju=silent
         30000 cut-off 1 52000
         30000 remove-unit 2
         70000 remove-unit 0",
    );
}

/// A replica that had been cut off for long came back in the moment of a failover, and its own Sentinel promoted it.
#[test]
fn who_was_cut_off_is_not_promoted_before_it_is_in_sync() {
    holds(
        "seed=3952 units=3 juju=3.6
         90000 cut-off 0 22000
         100000 move-address 2 6000",
    );
    holds(
        "seed=8815 units=3 juju=3.6
         10495 cut-off 2 19990
         25270 freeze-server 0 5519",
    );
}

/// A machine stood still while one unit joined and another left; on waking it knew nobody who was there.
#[test]
fn who_was_away_while_others_came_and_went_is_told_of_the_primary() {
    holds(
        "seed=6570 units=2 juju=4.0
         20000 freeze-machine 0 43000
         20000 add-unit
         40000 remove-unit 1",
    );
}

/// A replica was attached between the look and the reset; for a moment no Sentinel knew any replica.
#[test]
fn no_sentinel_is_reset_in_the_moment_in_which_a_replica_comes_back() {
    holds(
        "seed=2937 units=3 juju=4.0
         75000 freeze-server 2 9615
         76000 remove-unit 0",
    );
    holds(
        "seed=4409 units=3 juju=3.6
         68000 freeze-server 0 11000
         70000 remove-unit 0
         90000 lose-disk 0 875
         90000 freeze-server 2 7000",
    );
    holds(
        "seed=1474 units=3 juju=4.0
         32578 cut-pair 0 2 7635
         60000 kill-server 2
         115301 start-option 2
         115500 detach-storage 2 763",
    );
}

/// A Sentinel that was killed right after its reset came back without what it had known, while the next was reset.
#[test]
fn no_sentinel_is_reset_while_one_that_comes_back_knows_no_replica() {
    holds(
        "seed=2090 units=5 juju=4.0
         66190 remove-unit 2
         66333 kill-sentinel 0",
    );
}

/// Who left did not know a member's new address, took it for a ghost and reset Sentinels for ever.
#[test]
fn who_leaves_does_not_clear_a_member_at_an_address_that_it_does_not_know() {
    for script in [
        "seed=5867 units=5 juju=3.6
         50000 reboot 4 49000
         50000 remove-unit 4
         80000 move-address 3 701",
        "seed=6096 units=5 juju=4.0
         80000 add-unit
         110000 move-address 5 978
         110000 remove-unit 1",
        "seed=6644 units=5 juju=3.6
         10000 move-address 2 10000
         17000 detach-storage 1 790",
        "seed=7399 units=3 juju=3.6
         50000 add-unit-reusing
         136000 move-address 3 4000
         140000 remove-unit 0",
        "seed=9333 units=5 juju=4.0
         40000 move-address 4 750
         40000 remove-unit 1",
    ] {
        holds(script);
    }
}

/// The disk of one of two units was lost with its Sentinel's file, and nobody could be promoted without its vote.
#[test]
fn who_lost_its_disk_votes_again() {
    holds(
        "seed=5738 units=3 juju=4.0
         40000 remove-unit 1
         60000 lose-disk 0 786
         80000 add-unit
         80000 add-unit-reusing",
    );
}

/// Who left had stopped its Sentinel when the only other unit lost its disk.
#[test]
fn who_leaves_with_the_last_copy_votes_again() {
    holds(
        "seed=2352 units=2 juju=4.0
         60180 detach-storage 0 580
         60337 lose-disk 1 971",
    );
}

/// The last member was removed right after a reboot, before its server ran again: a newcomer began with nothing.
#[test]
fn the_last_to_go_serves_once_more_for_a_newcomer() {
    holds(
        "seed=9969 units=1 juju=4.0
         130000 reboot 0 12000
         140000 add-unit
         140000 remove-unit 0",
    );
}

/// The primary was lost and removed by force, and the leader was a unit that waited to join: nobody was promoted.
#[test]
fn the_best_copy_serves_although_the_leader_has_not_joined() {
    holds(
        "seed=16323 units=2 juju=3.6
         80000 lose-machine 1 6000
         87449 add-unit",
    );
    holds(
        "seed=21350 units=3 juju=silent
         100000 force-remove 1
         100000 lose-machine 0 3000
         100000 add-unit",
    );
}

/// A replica without its server, which left, started its Sentinel and stopped it again until its time was over.
#[test]
fn a_replica_that_leaves_without_its_server_starts_no_sentinel() {
    holds(
        "seed=29860 units=2 juju=4.0
         10000 kill-unit 0
         10000 remove-unit 1
         10000 kill-server 1",
    );
}

/// Two units that restart handed the role of primary to each other, since each kept the lease from the other.
#[test]
fn who_gives_the_turn_back_gives_the_lease_back() {
    holds(
        "seed=26607 units=3 juju=silent
         5000 add-unit
         5000 start-option 2
         5230 detach-storage 2 47000",
    );
}

/// Who left did not know the new address of the unit that was to take over, and waited for ever.
#[test]
fn who_leaves_finds_a_unit_that_moved() {
    for script in [
        "seed=5245 units=3 juju=4.0
         50000 remove-unit 0
         51000 move-address 2 520
         57000 remove-unit 1",
        "seed=11390 units=2 juju=4.0
         50000 move-address 1 9000
         60000 remove-unit 0",
        "seed=15270 units=2 juju=4.0
         50000 move-address 0 665
         50000 remove-unit 1",
        "seed=22767 units=1 juju=3.6
         120000 add-unit
         160000 move-address 0 3000
         170000 remove-unit 1",
    ] {
        holds(script);
    }
}

/// The last member's storage went and came back, and it was removed: who waited to join began with nothing.
#[test]
fn nobody_begins_anew_while_a_unit_that_leaves_has_the_data() {
    holds(
        "seed=37052 units=2 juju=4.0
         80000 remove-unit 0
         100000 detach-storage 1 994
         100000 add-unit
         101000 remove-unit 1",
    );
}

/// The last member was removed while its storage was away, with the data: who waited to join began with nothing.
#[test]
fn nobody_begins_anew_because_the_data_is_away() {
    holds(
        "seed=25503 units=2 juju=3.6
         10000 agent-away 0 21000
         10000 add-unit
         20000 remove-unit 1
         90000 detach-storage 0 13000
         100000 remove-unit 0",
    );
}

/// A hook failed because a primary with a full disk did not delete the lease, which would have ended by itself.
#[test]
fn a_lease_that_cannot_be_given_back_fails_no_hook() {
    holds(
        "seed=42427 units=5 juju=3.6
         0 lose-disk 1 527
         5000 full-disk 4 7000",
    );
}

/// A primary that was cut off or stood still came back when the new one was just gone. A Sentinel that does not know
/// whether a server that says "primary" may be promoted chose it over a replica that held more.
#[test]
fn a_replaced_primary_is_not_promoted_over_a_replica_that_holds_more() {
    for script in [
        "seed=11197 units=3 juju=silent
         90000 freeze-machine 1 23000
         100000 lose-disk 0 539",
        "seed=21049 units=3 juju=3.6
         39000 cut-off 2 51000
         80000 freeze-machine 1 29000",
        "seed=37328 units=3 juju=4.0
         5000 freeze-machine 0 29000
         20000 kill-unit 1",
        "seed=41098 units=3 juju=3.6
         80000 cut-off 2 27000
         100000 reboot 1 2851",
    ] {
        holds(script);
    }
}

/// `SENTINEL FAILOVER` holds nothing back: what the promoted server had not received goes, and nothing else.
#[test]
fn a_failover_by_hand_loses_no_more_than_is_said_of_it() {
    for script in [
        "seed=19279 units=3 juju=4.0
         45692 plain-failover 1
         45799 freeze-machine 2 7000",
        "seed=35688 units=3 juju=3.6
         62000 cut-off 1 3000
         62000 plain-failover 1",
    ] {
        holds(script);
    }
}

/// The gate of a promoted server that had died waited for the end of the failover, and Sentinel for the server.
#[test]
fn a_promoted_server_that_dies_comes_back_although_the_failover_has_not_ended() {
    for script in [
        "seed=25983 units=3 juju=4.0
         11000 lose-machine 2 735
         18000 kill-server 0",
        "seed=38598 units=3 juju=4.0
         18636 lose-machine 1 622
         25000 kill-server 0",
        "seed=45245 units=3 juju=3.6
         60000 set-priority 2 0
         68000 reboot 1 7000
         74576 kill-server 0",
    ] {
        holds(script);
    }
}

/// A Sentinel waited for ever for the server that it had promoted, and nobody was promoted in its place.
#[test]
fn a_failover_ends_although_whom_it_promoted_is_gone() {
    holds(
        "seed=10103 units=3 juju=silent
         60000 plain-failover 2
         60432 lose-machine 0 617
         60550 cut-off 2 3042",
    );
}

/// One Sentinel promoted whom the others were just replacing: each named another in the same configuration.
#[test]
fn no_two_sentinels_name_different_primaries_for_good() {
    holds(
        "seed=43213 units=5 juju=4.0
         24337 plain-failover 1
         27000 kill-unit 2",
    );
    holds(
        "seed=54479 units=3 juju=4.0
         71000 cut-off 0 5913
         73318 full-disk 2 13000",
    );
}

/// Of two units one lost its disk, with its Sentinel, and the other was promoted, but no Sentinel was told.
#[test]
fn who_was_promoted_serves_when_the_other_of_two_lost_its_disk() {
    holds(
        "seed=34487 units=3 juju=silent
         82256 remove-unit 1
         157881 plain-failover 2
         158057 lose-disk 2 829",
    );
    holds(
        "seed=55146 units=3 juju=silent
         70000 remove-unit 2
         110000 lose-disk 0 750
         110000 reset-sentinel 1",
    );
}

/// A unit that was elected before it had joined counted itself, and raised the quorum, before anybody knew its Sentinel.
#[test]
fn who_is_elected_before_it_has_joined_is_known_before_it_counts() {
    holds(
        "seed=142733 units=3 juju=silent
         40000 cut-pair 1 0 2000
         40000 remove-unit 2
         40000 detach-storage 0 736
         40000 reset-sentinel 1",
    );
}

/// The only unit came back at another address while it was being removed: whoever was to relieve it looked for it at the old one, since
/// a hook that fails writes nothing.
#[test]
fn who_cannot_leave_yet_is_found_where_it_is() {
    holds(
        "seed=19387 units=1 juju=3.6
         19963 remove-unit 0
         20000 move-address 0 544
         20000 add-unit",
    );
}
