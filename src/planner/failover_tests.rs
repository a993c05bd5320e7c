//! Decisions about Sentinel's own failovers that do not end, or end in two answers.

use super::{
    Observation, Step,
    fixture::{monitor_of, seen, unit},
    observation::Seen,
    plan,
    tests::show,
};

/// Makes an observation in which the Sentinel of `voter` has promoted unit `to`, which it has missed for so long.
fn promoted(text: &str, voter: u8, to: u8, missed_ms: u64) -> Observation {
    let mut observation = seen(text);
    let monitor = monitor_of(&mut observation, &unit(voter));
    monitor.primary = format!("10.0.0.{to}");
    monitor.failing_over = true;
    monitor.promoted = true;
    monitor.down = missed_ms > 0;
    monitor.down_for_ms = missed_ms;
    observation
}

#[test]
fn a_sentinel_whose_failover_cannot_end_is_started_anew() {
    let waits = "poll: waiting for a failover to end";
    let begins = "act: stop Sentinel; start Sentinel for primary 10.0.0.0";
    for (case, voter, missed_ms, expected) in [
        ("me=1 0:X 1:R 2:R names=0", 1, 10_000, begins),
        // It ends by itself once who was promoted answers, or others promote anew.
        ("me=1 0:X 1:R 2:R names=0", 1, 9_999, waits),
        ("me=1 0:X 1:R 2:R names=0", 1, 0, waits),
        // Each unit sees to its own.
        ("me=1 0:X 1:R 2:R names=0", 2, 10_000, waits),
    ] {
        let observation = promoted(case, voter, 0, missed_ms);
        let decided = show(&plan(&observation));
        assert_eq!(decided, expected, "{case} {voter} {missed_ms}");
    }
    // A failover that has promoted nobody yet ends by its own time limits.
    let mut begun = promoted("me=1 0:X 1:R 2:R names=0", 1, 0, 100_000);
    monitor_of(&mut begun, &unit(1)).promoted = false;
    assert_eq!(show(&plan(&begun)), waits);
}

#[test]
fn a_promoted_server_that_died_does_not_wait_for_the_failover_that_waits_for_it() {
    let serves = "act: start the server as primary";
    let waits = "poll: waiting for a failover to end";
    for (case, voter, to, expected) in [
        ("me=0 0:Ps 1:R 2:R", 0, 0, serves),
        ("me=0 0:Ps 1:R 2:R", 1, 0, serves),
        // It has promoted another.
        ("me=0 0:Ps 1:R 2:R", 1, 2, waits),
    ] {
        let observation = promoted(case, voter, to, 1_000);
        assert_eq!(show(&plan(&observation)), expected, "{case} {voter} {to}");
    }
    // The two others miss it, and replace it any moment.
    let mut missed = promoted("me=0 0:Ps 1:R 2:R", 0, 0, 2_000);
    for voter in [1, 2] {
        monitor_of(&mut missed, &unit(voter)).down = true;
    }
    assert_eq!(show(&plan(&missed)), waits);
    // One of them alone cannot, and the third takes no part.
    monitor_of(&mut missed, &unit(2)).down = false;
    assert_eq!(show(&plan(&missed)), serves);
}

#[test]
fn the_primary_is_confirmed_where_sentinels_name_two_in_one_configuration() {
    let confirms = "act: complete the hand-over to valkey/0";
    // How Sentinel 2 differs: whom it names, and by how much its configuration is newer.
    for (case, named, newer, expected) in [
        ("me=0 0:P 1:R 2:R", 1, 0, confirms),
        ("me=1 0:P 1:R 2:R", 1, 0, "settled"),
        // A newer one is right, and soon all know; an older one is told by the others' hellos.
        ("me=0 0:P 1:R 2:R", 1, 1, ""),
        ("me=0 0:P 1:R 2:R", 1, -1, "settled"),
        // Of two Sentinels neither is a majority.
        ("me=0 0:P 2:R", 2, 0, confirms),
        ("me=0 0:P 2:R", 2, 1, "poll: waiting for a primary"),
        ("me=2 0:P 2:R", 2, 0, "poll: waiting for a primary"),
    ] {
        let mut observation = seen(case);
        for (voter, at) in [(0, 5_i64), (1, 5), (2, 5 + newer)] {
            if observation.monitor(&unit(voter)).is_some() {
                monitor_of(&mut observation, &unit(voter)).epoch = at.unsigned_abs();
            }
        }
        monitor_of(&mut observation, &unit(2)).primary = format!("10.0.0.{named}");
        let me = observation.me.clone();
        let epoch = observation.epoch();
        if let Some(mine) = observation.units.get_mut(&me)
            && let Some(position) = mine.data.position.as_mut()
        {
            position.epoch = epoch;
        }
        let decided = plan(&observation);
        let confirmed = |step: &Step| matches!(step, Step::CompleteHandOver { .. });
        if expected.is_empty() {
            assert!(
                !decided.steps().iter().any(confirmed),
                "{case} {named} {newer}"
            );
        } else {
            assert_eq!(show(&decided), expected, "{case} {named} {newer}");
        }
    }
    // A member that cannot be asked may be the one that serves.
    let mut silent = seen("me=0 0:P 2:R");
    monitor_of(&mut silent, &unit(2)).primary = "10.0.0.2".to_owned();
    silent
        .servers
        .insert(unit(2), Seen::Unknown("timed out".to_owned()));
    assert_eq!(show(&plan(&silent)), "poll: waiting for a primary");
}

#[test]
fn who_still_serves_is_confirmed_when_whom_the_sentinels_promoted_was_removed() {
    for (case, expected) in [
        (
            "me=1 names=9 1:P 2:R",
            "act: complete the hand-over to valkey/1",
        ),
        // Not while a member is silent: it may have been promoted since.
        ("me=1 names=9 1:P 2:Rs 3:R", "settled"),
    ] {
        let mut observation = seen(case);
        observation.servers.remove(&unit(9));
        let decided = show(&plan(&observation));
        assert!(
            decided == expected || expected == "settled" && !decided.contains("hand-over"),
            "{case}: {decided}"
        );
    }
}

#[test]
fn who_lost_its_disk_lets_the_other_serve_that_was_promoted() {
    let completes = "complete the hand-over to valkey/1";
    let decided = |case: &str, is_new: bool| {
        let mut observation = seen(case);
        observation.local.has_sentinel_file = false;
        if is_new {
            monitor_of(&mut observation, &unit(0)).others.clear();
        }
        show(&plan(&observation))
    };
    for (case, is_new, expected) in [
        // Without its vote nobody is told, and neither is one who knows nobody.
        (
            "me=0 0:Rsez 1:P names=0",
            false,
            "act: start Sentinel for primary 10.0.0.0".to_owned(),
        ),
        (
            "me=0 0:Rse 1:P names=0",
            true,
            format!("act: announce Sentinel to the others; {completes}"),
        ),
        ("me=0 0:Rse 1:P names=0", false, format!("act: {completes}")),
    ] {
        assert_eq!(decided(case, is_new), expected, "{case} {is_new}");
    }
}
