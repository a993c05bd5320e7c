//! Units that would wait for each other: who goes on, as tables.

use super::{
    Observation, Step,
    fixture::{monitor_of, seen, unit},
    observation::{Role, Seen, Server},
    plan,
    tests::show,
};

fn server_of(seen: &mut Observation, number: u8) -> &mut Server {
    match seen.servers.get_mut(&unit(number)) {
        Some(Seen::Known(server)) => server,
        other => panic!("no server of {number}: {other:?}"),
    }
}

/// Lets a unit ask for the turn to start, with a copy of which it says that it was the primary's.
fn returns_with_data(seen: &mut Observation, number: u8) {
    let primary = super::fixture::seen("me=0 0:P")
        .mine()
        .data
        .position
        .clone();
    if let Some(known) = seen.units.get_mut(&unit(number)) {
        known.data.position = primary;
        known.data.turn.number = 1;
        known.data.turn.wants = Some(super::peer_data::TurnKind::Start);
    }
}

#[test]
fn who_finds_nobody_to_join_gives_the_turn_to_who_holds_more() {
    let yields = "act: give the turn back; \
                  wait: waiting for valkey/0, which may hold the newest data; action `confirm-data-source` overrides";
    let waits = "wait: waiting for a primary";
    for (case, returns, expected) in [
        ("me=2 turn=2 0:N 1:X 2:N", true, yields),
        // Nobody asks who holds anything.
        ("me=2 turn=2 0:N 1:X 2:N", false, waits),
        // It is being removed, and starts nothing any more.
        ("me=2 turn=2 0:Nd 1:X 2:N", true, waits),
        // Somebody serves.
        (
            "me=2 turn=2 0:N 1:P 2:N",
            true,
            "act: take the lease on membership changes",
        ),
    ] {
        let mut observation = seen(case);
        if returns {
            returns_with_data(&mut observation, 0);
        }
        assert_eq!(show(&plan(&observation)), expected, "{case}, {returns}");
    }
    // Who holds more keeps it: they do not give it to each other.
    let mut fuller = seen("me=0 turn=0 0:N 1:X 2:N");
    returns_with_data(&mut fuller, 0);
    if let Some(other) = fuller.units.get_mut(&unit(2)) {
        other.data.turn.number = 1;
        other.data.turn.wants = Some(super::peer_data::TurnKind::Start);
    }
    assert_eq!(show(&plan(&fuller)), waits);
    // Data of which it is not known how far it came may be the most.
    for (clean, expected) in [(false, waits), (true, yields)] {
        let mut unsure = seen("me=2 turn=2 0:N 1:X 2:N");
        returns_with_data(&mut unsure, 0);
        unsure.local.has_data = true;
        unsure.local.identity = seen("me=0 0:R").local.identity;
        if let Some(identity) = &mut unsure.local.identity {
            identity.unit = unit(2);
            if let Some(position) = &mut identity.position {
                position.clean = clean;
            }
            if let Some(known) = unsure.units.get_mut(&unit(2)) {
                known.data.position = identity.position.clone();
            }
        }
        assert_eq!(show(&plan(&unsure)), expected, "clean {clean}");
    }
}

#[test]
fn a_joiner_gives_the_turn_only_to_who_surely_holds_all_that_it_received() {
    let yields = "act: give the turn back; \
                  wait: waiting for valkey/0, which may hold the newest data; action `confirm-data-source` overrides";
    let keeps = "poll: waiting for a primary that can grant the membership lease";
    // The other recorded offset 100 of history h.
    for (history, offset, keys, expected) in [
        ("own", 0, 0, yields),
        // Started anew, a server counts from 0 whatever it holds.
        ("own", 0, 5, keeps),
        ("h", 99, 5, yields),
        ("h", 100, 5, yields),
        ("h", 101, 5, keeps),
        ("own", 7, 5, keeps),
    ] {
        let mut observation = seen("me=2 turn=2 lease=unknown 0:N 1:X 2:Jzo");
        let server = server_of(&mut observation, 2);
        history.clone_into(&mut server.history);
        (server.offset, server.keys) = (offset, keys);
        returns_with_data(&mut observation, 0);
        assert_eq!(
            show(&plan(&observation)),
            expected,
            "{history} {offset} {keys}"
        );
    }
}

#[test]
fn the_last_to_go_does_what_a_member_would_until_somebody_has_joined() {
    let case = "me=0 leaving lease=unknown names=7 0:Rd 1:N";
    let waits = "poll: cannot leave: valkey/1 has not joined yet and would begin without the data; \
                 wait until it has, or remove it too";
    for (down_for_ms, expected) in [(10_000, waits), (60_000, "act: promote valkey/0")] {
        let mut observation = seen(case);
        let monitor = monitor_of(&mut observation, &unit(0));
        monitor.down = true;
        monitor.down_for_ms = down_for_ms;
        assert_eq!(show(&plan(&observation)), expected, "{down_for_ms}");
    }
    // It had stopped its Sentinel already, to leave as a replica of a primary that is gone since.
    assert_eq!(
        show(&plan(&seen("me=0 leaving lease=unknown names=7 0:Rdz 1:N"))),
        "act: start Sentinel for primary 10.0.0.0"
    );
    // While others stay, nobody that leaves is promoted.
    let mut others = seen("me=1 names=7 0:Rd 1:R");
    for number in 0..2 {
        let monitor = monitor_of(&mut others, &unit(number));
        monitor.down = true;
        monitor.down_for_ms = 60_000;
    }
    assert_eq!(show(&plan(&others)), "act: promote valkey/1");
}

#[test]
fn a_lone_unit_knows_its_earlier_address_although_somebody_has_not_told_one() {
    for (alone, expected) in [
        (true, "act: start the server as primary"),
        // It may be the one that is named.
        (
            false,
            "act: keep the data set aside; start the server as replica of 10.0.0.9",
        ),
    ] {
        let mut observation = seen("me=0 leaving lease=unknown names=9 0:Pds 1:N");
        if let Some(newcomer) = observation.units.get_mut(&unit(1)) {
            newcomer.data.address = None;
        }
        let monitor = monitor_of(&mut observation, &unit(0));
        monitor.others.clear();
        if !alone {
            monitor.others.push(super::observation::Known {
                host: "10.0.0.9".to_owned(),
                id: "id9".to_owned(),
                down: true,
            });
        }
        assert_eq!(show(&plan(&observation)), expected, "alone {alone}");
    }
}

#[test]
fn who_leaves_stays_until_those_who_joined_know_that_it_handed_over() {
    // Unit 1 joined since the databags were read, and serves now.
    let handed_over = |named: &str| {
        let mut observation = seen("me=0 leaving lease=mine names=1 0:Rd 1:J");
        let other = server_of(&mut observation, 1);
        other.role = Role::Primary;
        if let Role::Replica { of, .. } = &mut server_of(&mut observation, 0).role {
            "10.0.0.1".clone_into(of);
        }
        named.clone_into(&mut monitor_of(&mut observation, &unit(1)).primary);
        observation
    };
    for (named, expected) in [
        ("10.0.0.0", "poll: waiting for a failover to end"),
        ("10.0.0.1", "act: stop Sentinel; save and stop the server"),
    ] {
        assert_eq!(show(&plan(&handed_over(named))), expected, "{named}");
    }
    // It is told, and its vote counts.
    assert_eq!(
        handed_over("10.0.0.0").member_hosts(),
        ["10.0.0.0", "10.0.0.1"]
    );
}

#[test]
fn who_joined_since_the_databags_were_read_does_not_change_the_set_any_more() {
    for (case, expected) in [
        (
            "me=0 leaving lease=unknown turn=2 names=1 0:Rdsz 1:R 2:J",
            "act: set the state to Left",
        ),
        (
            "me=0 leaving lease=unknown turn=2 names=1 0:Rdsz 1:R 2:S",
            "poll: waiting for valkey/2, which changes the membership",
        ),
    ] {
        let mut observation = seen(case);
        for number in 0..3 {
            if let Some(Seen::Known(sentinel)) = observation.sentinels.get_mut(&unit(number))
                && let Some(monitor) = &mut sentinel.monitor
            {
                monitor.others.retain(|other| other.host != "10.0.0.0");
                monitor.replicas.retain(|other| other.host != "10.0.0.0");
            }
        }
        let shown = show(&plan(&observation));
        assert!(shown.starts_with(expected), "{case}: {shown}");
    }
}

#[test]
fn who_holds_more_is_promoted_although_another_is_promotable() {
    let mut observation = seen("me=0 leader names=7 0:R 1:R 2:R");
    for number in 0..3 {
        let monitor = monitor_of(&mut observation, &unit(number));
        monitor.down = true;
        monitor.down_for_ms = 60_000;
        // The fixture's offsets fall with the number.
        server_of(&mut observation, number).priority = u64::from(number == 2) * 100;
    }
    assert_eq!(observation.best_replica(), Some(unit(2)));
    assert_eq!(plan(&observation).steps(), [Step::Promote { to: unit(0) }]);
    // Of another history nothing can be said.
    "other".clone_into(&mut server_of(&mut observation, 2).history);
    assert_eq!(plan(&observation).steps(), [Step::Promote { to: unit(2) }]);
}
