//! Scenarios of `docs/guarantees.md` as scripts: every unit takes the part of the primary once, with each variant of Juju.
//!
//! What a life has to keep is said by the oracles; a scenario that breaks a promise prints the script that does.

use crate::{
    life,
    script::Script,
    world::{Deciders, seconds},
};

/// What all randomness of a life comes from; more of them find no more here, seeds without scripts do.
const SEED: u64 = 1;

/// Plays `faults` on so many units: in the text, `P` is each unit once, `A`, `B`, `C`, `D` are those behind it.
fn keeps_its_promises(units: u8, faults: &str) {
    for juju in ["3.6", "4.0", "silent"] {
        for first in 0..units {
            let mut text = format!("seed={SEED} units={units} juju={juju}\n");
            for word in faults.split_inclusive(char::is_whitespace) {
                let place = "PABCD".find(word.trim()).filter(|_| word.trim().len() == 1);
                match place.and_then(|place| u8::try_from(place).ok()) {
                    Some(place) => {
                        text += &word.replace(word.trim(), &((first + place) % units).to_string());
                    }
                    None => text += word,
                }
            }
            let script: Script = text.parse().unwrap();
            let outcome = life::play(&script, Deciders::real(), false, 0);
            let breaches: Vec<String> = outcome
                .breaches
                .iter()
                .map(|breach| {
                    format!(
                        "{:.3} {}: {}",
                        seconds(breach.at),
                        breach.oracle,
                        breach.what
                    )
                })
                .collect();
            assert!(breaches.is_empty(), "{script}{}", breaches.join("\n"));
            assert!(
                outcome.writes > 100,
                "hardly anything was written: {}\n{script}",
                outcome.writes
            );
        }
    }
}

#[test]
fn s01_all_start_at_once_while_the_leader_changes_and_a_machine_reboots() {
    keeps_its_promises(
        5,
        "500 move-leader A\n1500 reboot P 4000\n3000 move-leader B\n9000 kill-hook C 2\n",
    );
}

#[test]
fn s02_all_lose_power_and_the_replicas_lag() {
    keeps_its_promises(
        3,
        "60000 slow-replication A 400 6000\n62000 kill-unit B\n64000 reboot-all 10000 5000\n",
    );
}

#[test]
fn s03_all_lose_power_and_one_never_returns() {
    keeps_its_promises(
        3,
        "60000 reboot-all 10000 2000\n60500 lose-machine P 150000\n",
    );
}

#[test]
fn s06_all_leave_and_come_back_from_their_storage() {
    keeps_its_promises(
        3,
        "60000 remove-unit P\n60000 remove-unit A\n60000 remove-unit B\n\
         150000 add-unit-reusing\n150000 add-unit-reusing\n150000 add-unit-reusing\n",
    );
}

#[test]
fn s07_the_founder_is_gone_for_good_and_then_all_lose_power() {
    keeps_its_promises(
        3,
        "60000 lose-machine P 60000\n200000 add-unit\n280000 reboot-all 8000 3000\n",
    );
}

#[test]
fn s08_a_unit_returns_without_its_disk_before_anybody_notices() {
    keeps_its_promises(3, "60000 lose-disk P 1500\n");
}

#[test]
fn s09_the_primary_is_lost_while_a_unit_takes_its_first_copy() {
    keeps_its_promises(
        3,
        "60000 slow-replication A 800 40000\n60000 add-unit\n66000 reboot P 8000\n",
    );
}

#[test]
fn s13_a_displaced_primary_and_then_all_lose_power() {
    keeps_its_promises(3, "60000 cut-off P 40000\n100500 reboot-all 12000 4000\n");
}

#[test]
fn s14_a_unit_returns_under_another_address() {
    keeps_its_promises(3, "60000 move-address P 3000\n");
}

#[test]
fn s15_two_units_change_their_addresses_one_after_the_other() {
    keeps_its_promises(
        3,
        "60000 move-address P 12000\n110000 move-address A 3000\n",
    );
}

#[test]
fn s17_addresses_change_again_and_again_and_leave_no_ghost() {
    keeps_its_promises(
        3,
        "60000 move-address P 4000\n120000 move-address A 4000\n180000 move-address B 4000\n\
         240000 move-address P 4000\n300000 move-address A 4000\n360000 move-address B 4000\n",
    );
}

#[test]
fn s23_a_sentinel_returns_with_another_id() {
    keeps_its_promises(3, "60000 lose-disk P 4000\n130000 kill-unit A\n");
}

#[test]
fn s25_a_user_resets_sentinels_while_the_primary_is_dead() {
    keeps_its_promises(
        3,
        "60000 reboot P 30000\n61000 reset-sentinel A\n63000 reset-sentinel A\n65000 reset-sentinel B\n",
    );
}

#[test]
fn s26_the_primary_dies_right_after_all_sentinels_were_reset() {
    keeps_its_promises(
        3,
        "60000 reset-sentinel P\n60000 reset-sentinel A\n60000 reset-sentinel B\n60300 reboot P 20000\n",
    );
}

#[test]
fn s27_a_hand_over_and_then_a_crash() {
    keeps_its_promises(
        3,
        "60000 start-option 17\n76000 reset-sentinel A\n78000 reboot P 20000\n",
    );
}

#[test]
fn s28_one_of_four_leaves() {
    keeps_its_promises(4, "60000 remove-unit P\n");
}

#[test]
fn s31_a_pair_is_cut_off_from_each_other_and_agents_go_on() {
    keeps_its_promises(
        3,
        "60000 cut-pair P A 20000\n62000 move-leader A\n90000 cut-one-way A P 15000\n",
    );
}

#[test]
fn s32_a_failover_in_the_middle_of_everybodys_hooks() {
    keeps_its_promises(
        3,
        "60000 start-option 17\n60500 plain-failover A\n60700 kill-hook P 2\n60900 kill-hook B 3\n",
    );
}

#[test]
fn s33_a_restart_of_all_loses_nothing() {
    keeps_its_promises(3, "60000 start-option 17\n120000 start-option 18\n");
}

#[test]
fn s34_the_target_of_a_hand_over_freezes() {
    keeps_its_promises(
        3,
        "60000 start-option 17\n62000 freeze-server A 4000\n66000 freeze-server B 3000\n",
    );
}

#[test]
fn s36_five_restart_one_after_another() {
    keeps_its_promises(5, "60000 start-option 17\n");
}

#[test]
fn s37_a_hand_over_right_after_a_failover() {
    keeps_its_promises(3, "60000 reboot P 8000\n75000 start-option 17\n");
}

#[test]
fn s42_a_hand_over_while_a_replica_lags() {
    keeps_its_promises(
        3,
        "60000 slow-replication A 500 60000\n65000 start-option 17\n",
    );
}

#[test]
fn s46_a_sentinel_sleeps_through_a_failover() {
    keeps_its_promises(3, "60000 freeze-sentinel A 20000\n61000 reboot P 15000\n");
}

#[test]
fn s47_three_grow_to_five() {
    keeps_its_promises(3, "60000 add-unit\n60000 add-unit\n");
}

#[test]
fn s48_two_of_five_leave_and_then_one_is_lost() {
    keeps_its_promises(
        5,
        "60000 remove-unit A\n60000 remove-unit B\n170000 reboot P 20000\n",
    );
}

#[test]
fn s49_three_shrink_to_one_at_once() {
    keeps_its_promises(3, "60000 remove-unit P\n60000 remove-unit A\n");
}

#[test]
fn s50_a_lost_unit_is_replaced_and_another_one_fails() {
    keeps_its_promises(
        3,
        "60000 lose-machine A 20000\n130000 add-unit\n220000 reboot P 15000\n",
    );
}

#[test]
fn s51_a_removal_is_cut_off_and_another_unit_is_dead() {
    keeps_its_promises(
        4,
        "60000 reboot B 90000\n61000 remove-unit A\n62000 kill-hook A 3\n90000 kill-hook A 2\n",
    );
}

#[test]
fn s52_a_primary_is_cut_off() {
    keeps_its_promises(3, "60000 cut-off P 60000\n");
}

#[test]
fn s54_both_sides_of_a_cut_have_writes_and_the_agent_is_away() {
    keeps_its_promises(3, "60000 cut-off P 30000\n60000 agent-away P 60000\n");
}

#[test]
fn s55_the_disk_of_a_unit_fills_up() {
    keeps_its_promises(3, "60000 full-disk P 30000\n");
}

#[test]
fn s56_a_replica_receives_slowly_for_long() {
    keeps_its_promises(3, "60000 slow-replication A 300 120000\n100000 add-unit\n");
}

#[test]
fn s58_answers_are_lost_and_hooks_killed_while_a_unit_leaves() {
    keeps_its_promises(
        3,
        "60000 remove-unit P\n60000 lose-answer P 3\n61000 kill-hook P 4\n64000 lose-answer P 2\n66000 kill-hook P 7\n",
    );
}

#[test]
fn s64_a_frozen_server_or_machine_wakes() {
    keeps_its_promises(
        3,
        "60000 freeze-server P 20000\n140000 freeze-machine A 20000\n",
    );
}
