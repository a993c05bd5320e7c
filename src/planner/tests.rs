//! Decisions as tables: one line a case, the expected answer in plain text.

use super::{
    Observation, Plan, Step,
    fixture::{monitor_of, seen},
    invariants, leader,
    observation::{Attached, Lease, Seen, Server},
    plan,
};
use crate::limits::FENCE_HELD;

/// Writes a plan as a table shows it.
pub(super) fn show(plan: &Plan) -> String {
    let steps: Vec<String> = plan.steps().iter().map(ToString::to_string).collect();
    let steps = steps.join("; ");
    match plan {
        Plan::Act { .. } => format!("act: {steps}"),
        Plan::ActAndPoll { reason, .. } => format!("act: {steps}; poll: {reason}"),
        Plan::ActAndWait { reason, .. } => format!("act: {steps}; wait: {reason}"),
        Plan::Poll(reason) => format!("poll: {reason}"),
        Plan::Wait(reason) => format!("wait: {reason}"),
        Plan::Refuse(reason) => format!("refuse: {reason}"),
        Plan::Settled => "settled".to_owned(),
    }
}

pub(super) fn check(cases: &[(&str, &str)]) {
    for (case, expected) in cases {
        let observation = seen(case);
        let plan = plan(&observation);
        assert_eq!(show(&plan), *expected, "{case}");
        assert_eq!(invariants::permit(&observation, &plan), Ok(()), "{case}");
    }
}

#[test]
fn a_new_set_has_one_founder_and_everybody_else_waits() {
    check(&[
        ("me=0 founding=0 0:N", "act: ask for the turn to start"),
        (
            "me=0 founding=0 0:N asks",
            "wait: waiting for the leader to grant the turn",
        ),
        (
            "me=0 founding=0 turn=0 0:N 1:N",
            "act: claim the data for decision 1; start the server as primary",
        ),
        (
            "me=1 founding=0 turn=1 0:N 1:N",
            "act: give the turn back; wait: waiting for valkey/0 to start the first primary",
        ),
        (
            "me=1 founding=0 turn=0 0:N 1:N asks",
            "wait: waiting for the turn: valkey/0 is starting",
        ),
        // It had begun to follow a founder that is gone for good.
        (
            "me=1 founding=1 turn=1 1:So",
            "act: save and stop the server",
        ),
    ]);
}

#[test]
fn a_unit_joins_under_turn_and_lease_and_counts_only_when_everybody_knows_it() {
    check(&[
        (
            "me=1 turn=1 0:P 1:N",
            "act: take the lease on membership changes",
        ),
        (
            "me=1 turn=1 0:P 1:N lease=valkey/2",
            "poll: waiting for valkey/2, which changes the membership",
        ),
        (
            "me=1 turn=1 0:P 1:N lease=mine",
            "act: claim the data for decision 1; start the server as replica of 10.0.0.0",
        ),
        (
            "me=1 turn=1 0:P 1:S lease=mine",
            "poll: syncing from valkey/0: 1 B of 2 B",
        ),
        (
            "me=1 turn=1 0:P 1:Jz lease=mine",
            "act: start Sentinel for primary 10.0.0.0; announce Sentinel to the others",
        ),
        (
            "me=1 turn=1 0:P 1:Jo lease=mine",
            "poll: syncing from valkey/0",
        ),
        (
            "me=1 turn=1 0:P 1:J lease=mine",
            "act: set quorum 2 on valkey/0, valkey/1; set min-replicas-to-write 0 on valkey/0, valkey/1; \
             set the state to Member; record the position of the data; give the turn back; give the lease back",
        ),
        ("me=1 0:P 1:J", "act: ask for the turn to start"),
    ]);
}

#[test]
fn a_dead_member_does_not_keep_others_from_joining() {
    check(&[(
        "me=3 turn=3 0:P 1:R 2:X 3:J lease=mine",
        "act: set quorum 3 on valkey/0, valkey/1, valkey/3; set min-replicas-to-write 1 on valkey/0, valkey/1, valkey/3; \
         set the state to Member; record the position of the data; give the turn back; give the lease back",
    )]);
}

#[test]
fn a_stopped_member_comes_back_only_as_what_it_may_be() {
    check(&[
        (
            "me=1 0:P 1:Rsz 2:R",
            "act: start Sentinel for primary 10.0.0.1",
        ),
        (
            "me=1 0:P 1:Rs 2:R",
            "act: start the server as replica of 10.0.0.0",
        ),
        // Killed and quickly back: nobody was elected meanwhile, and its log holds every write.
        ("me=0 0:Ps 1:R 2:R", "act: start the server as primary"),
        ("me=0 0:Ps 1:R 2:R slow", "act: promote valkey/1"),
        // Its disk is gone: a replica holds more.
        ("me=0 0:Pse 1:R 2:R", "act: promote valkey/1"),
        // Another was elected: what it had is kept before it is overwritten.
        (
            "me=2 names=0 0:P 1:R 2:Rs",
            "act: start the server as replica of 10.0.0.0",
        ),
        // Not enough Sentinels to know.
        (
            "me=0 0:Ps 1:X 2:X",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
        ("me=0 0:Ps 1:X", "act: start the server as primary"),
        ("me=0 0:Ps", "act: start the server as primary"),
        ("me=0 0:Pse 1:X 2:R names=0", "act: promote valkey/2"),
    ]);
}

#[test]
fn a_primary_does_not_come_back_in_the_moment_in_which_it_is_missed() {
    let waits = show(&super::Plan::Poll(super::Reason::FailingOver));
    for (cluster, gone_s, expected) in [
        ("me=0 0:Ps 1:R 2:R", 2, "act: start the server as primary"),
        ("me=0 0:Ps 1:R 2:R", 3, &waits),
        ("me=0 0:Ps 1:R 2:R", 6, &waits),
        // By now the Sentinels would say so.
        ("me=0 0:Ps 1:R 2:R", 7, "act: start the server as primary"),
        // Nobody can replace it: no replica answers, or none may be promoted.
        ("me=0 0:Ps 1:X", 4, "act: start the server as primary"),
        ("me=0 0:Ps 1:Ro 2:Ro", 4, "act: start the server as primary"),
        // It does not want the role back.
        ("me=0 0:Pse 1:R 2:R", 4, "act: promote valkey/1"),
    ] {
        let mut observation = seen(cluster);
        observation.now = 1 + gone_s;
        assert_eq!(
            show(&plan(&observation)),
            expected,
            "{cluster}, gone for {gone_s} s"
        );
    }
}

#[test]
fn a_former_primary_keeps_its_data_aside_before_it_follows() {
    let mut observation = seen("me=2 0:P 1:R 2:Rs");
    if let Some(position) = observation
        .local
        .identity
        .as_mut()
        .and_then(|identity| identity.position.as_mut())
    {
        position.primary = true;
    }
    let known = observation.units.get_mut(&super::fixture::unit(2)).unwrap();
    known.data.position.as_mut().unwrap().primary = true;
    assert_eq!(
        show(&plan(&observation)),
        "act: keep the data set aside; start the server as replica of 10.0.0.0"
    );
}

#[test]
fn foreign_data_is_never_mixed_in() {
    let mut observation = seen("me=1 turn=1 0:P 1:N lease=mine");
    observation.local.has_data = true;
    assert!(
        show(&plan(&observation)).starts_with("wait: the storage holds foreign data"),
        "{observation:?}"
    );
}

#[test]
fn roles_are_repaired_on_the_word_of_a_majority() {
    check(&[
        ("me=0 0:P 1:R 2:R", "settled"),
        ("me=1 0:P 1:R 2:R", "settled"),
        // Sentinels name 1, which follows 0, which serves: a hand-over whose caller died.
        (
            "me=0 names=1 0:P 1:R 2:R",
            "act: complete the hand-over to valkey/0",
        ),
        (
            "me=2 names=1 0:P 1:R 2:R",
            "poll: waiting for a failover to end",
        ),
        ("me=2 0:Px 1:R 2:Ro", "poll: syncing from valkey/0"),
    ]);
    let mut displaced = seen("me=2 0:P 1:R 2:R");
    if let Some(super::observation::Seen::Known(server)) =
        displaced.servers.get_mut(&super::fixture::unit(2))
    {
        server.role = super::observation::Role::Primary;
    }
    assert_eq!(
        show(&plan(&displaced)),
        "act: keep the data set aside; follow 10.0.0.0"
    );
}

#[test]
fn a_primary_that_was_replaced_steps_down_although_the_new_one_is_silent() {
    // 0 was the primary of configuration 1 and is back from a cut; 1 was elected in 2, and is silent by now.
    let replaced = || {
        let mut seen = seen("me=0 names=1 0:P 1:X 2:Ro");
        for unit in [0, 2] {
            monitor_of(&mut seen, &super::fixture::unit(unit)).epoch = 2;
        }
        with_server(&mut seen, 0, |server| server.replicas.clear());
        seen
    };
    let down = "act: keep the data set aside; follow 10.0.0.1";
    let waits = "poll: waiting for a primary";
    assert_eq!(show(&plan(&replaced())), down);
    // The replica of the new one does not wait for it.
    let mut other = replaced();
    other.me = super::fixture::unit(2);
    other.local.address = "10.0.0.2".to_owned();
    assert_eq!(show(&plan(&other)), waits);
    // Somebody follows it, so that it may have accepted writes.
    let mut followed = replaced();
    with_server(&mut followed, 0, |server| {
        server.replicas = vec![Attached {
            host: "10.0.0.2".to_owned(),
            online: true,
            offset: 100,
            lag_s: 1,
        }];
    });
    assert_eq!(show(&plan(&followed)), waits);
    // It was promoted, and the Sentinels were not told: nothing is newer than that.
    let mut promoted = replaced();
    for unit in [0, 2] {
        monitor_of(&mut promoted, &super::fixture::unit(unit)).epoch = 1;
    }
    assert_eq!(show(&plan(&promoted)), waits);
    // A failover is under way: whoever leads it decides.
    let mut busy = replaced();
    monitor_of(&mut busy, &super::fixture::unit(2)).failing_over = true;
    assert_eq!(show(&plan(&busy)), "poll: waiting for a failover to end");
}

fn with_server(seen: &mut Observation, unit: u8, change: impl FnOnce(&mut Server)) {
    match seen.servers.get_mut(&super::fixture::unit(unit)) {
        Some(Seen::Known(server)) => change(server),
        other => panic!("no server of unit {unit}: {other:?}"),
    }
}

#[test]
fn departed_members_are_cleared_by_the_leader_under_the_lease() {
    let with_ghost = |text: &str| {
        let mut observation = seen(text);
        observation.units.remove(&super::fixture::unit(2));
        observation.servers.remove(&super::fixture::unit(2));
        observation.sentinels.remove(&super::fixture::unit(2));
        for monitor in observation.sentinels.values_mut() {
            if let super::observation::Seen::Known(sentinel) = monitor {
                let monitor = sentinel.monitor.as_mut().unwrap();
                monitor.quorum = 2;
                let known = monitor.others.iter_mut().chain(&mut monitor.replicas);
                for ghost in known.filter(|known| known.host == "10.0.0.2") {
                    ghost.down = true;
                }
            }
        }
        for server in observation.servers.values_mut() {
            if let super::observation::Seen::Known(server) = server {
                server.min_replicas = Some(0);
            }
        }
        observation
    };
    for (case, expected) in [
        ("me=1 0:P 1:R 2:X", "settled"),
        (
            "me=1 leader 0:P 1:R 2:X",
            "act: take the lease on membership changes",
        ),
        ("me=1 leader turn=0 0:P 1:R 2:X", "settled"),
        (
            "me=1 leader 0:P 1:R 2:X lease=mine",
            "act: clear departed members from the Sentinels of valkey/0, valkey/1; set quorum 2 on valkey/0, valkey/1; give the lease back",
        ),
    ] {
        assert_eq!(show(&plan(&with_ghost(case))), expected, "{case}");
    }
}

/// The same set as if its units had names: `10.0.0.1` becomes `valkey-1.m`.
fn named(text: &str) -> Observation {
    let json = serde_json::to_string(&seen(text)).unwrap();
    let mut json = json;
    for number in 0..3 {
        json = json.replace(&format!("10.0.0.{number}"), &format!("valkey-{number}.m"));
    }
    serde_json::from_str(&json).unwrap()
}

#[test]
fn an_address_that_leaked_is_named_and_cleared() {
    use super::observation::{Known, Seen};
    let leak = |observation: &mut Observation, announced: bool| {
        for sentinel in observation.sentinels.values_mut() {
            if let Seen::Known(sentinel) = sentinel {
                sentinel.monitor.as_mut().unwrap().replicas.push(Known {
                    host: "10.1.2.3".to_owned(),
                    id: "r".to_owned(),
                    down: false,
                });
            }
        }
        for server in observation.servers.values_mut() {
            if let Seen::Known(server) = server
                && let Some(replica) = server.replicas.first_mut()
                && announced
            {
                replica.host = "10.1.2.3".to_owned();
            }
        }
    };
    for (case, announced, expected) in [
        (
            "me=1 leader 0:P 1:R 2:R",
            false,
            "act: take the lease on membership changes",
        ),
        (
            "me=1 leader 0:P 1:R 2:R lease=mine",
            false,
            "act: clear departed members from the Sentinels of valkey/0, valkey/1, valkey/2; set quorum 2 on valkey/0, valkey/1, valkey/2; give the lease back",
        ),
        // It would be learned anew: the unit itself has to announce its name first.
        ("me=1 leader 0:P 1:R 2:R", true, "settled"),
        ("me=1 0:P 1:R 2:R", false, "settled"),
    ] {
        let mut observation = named(case);
        assert_eq!(observation.leaks(), Vec::<String>::new(), "{case}");
        leak(&mut observation, announced);
        assert_eq!(show(&plan(&observation)), expected, "{case} {announced}");
        let violations = super::invariants::violations(&observation).join("; ");
        let said = "Sentinel of valkey/0 knows the address 10.1.2.3 instead of a name";
        assert!(violations.contains(said), "{violations}");
        let said = "a replica of valkey/0 announces the address 10.1.2.3";
        assert_eq!(violations.contains(said), announced, "{violations}");
    }
    // Who follows an address follows the name from then on.
    let mut observation = named("me=1 0:P 1:R 2:R");
    let me = observation.me.clone();
    let Some(Seen::Known(server)) = observation.servers.get_mut(&me) else {
        panic!("it answers");
    };
    server.role = super::observation::Role::Replica {
        of: "10.1.2.3".to_owned(),
        link_up: true,
        syncing: None,
    };
    assert_eq!(show(&plan(&observation)), "act: follow valkey-0.m");
    // Where units have addresses, none is a leak.
    let mut observation = seen("me=1 0:P 1:R 2:R");
    leak(&mut observation, true);
    assert_eq!(observation.leaks(), Vec::<String>::new());
}

#[test]
fn who_leaves_hands_over_first_and_never_takes_the_last_copy_along() {
    check(&[
        (
            "me=0 leaving 0:Pd 1:R 2:R",
            "act: take the lease on membership changes",
        ),
        (
            "me=0 leaving lease=mine 0:Pd 1:R 2:R",
            "act: hand over from valkey/0 to valkey/1",
        ),
        // Who leaves too is no target.
        (
            "me=0 leaving lease=mine 0:Pd 1:Rd 2:R",
            "act: hand over from valkey/0 to valkey/2",
        ),
        (
            "me=0 leaving lease=valkey/1 0:Pd 1:Rd 2:R",
            "poll: waiting for valkey/1, which changes the membership",
        ),
        (
            "me=1 leaving lease=mine 0:P 1:Rd 2:R",
            "act: set min-replicas-to-write 0 on valkey/0, valkey/2; stop Sentinel; save and stop the server",
        ),
        (
            "me=1 leaving lease=mine 0:P 1:Rdsz 2:R",
            "act: clear departed members from the Sentinels of valkey/0, valkey/2",
        ),
        (
            "me=0 leaving lease=mine 0:Pd 1:X",
            "act: give the lease back; poll: cannot leave: no unit that stays holds all data: valkey/1 does not answer; \
             bring one in sync, or remove this unit with --force and lose what only it holds",
        ),
        // Everybody goes: saved and stopped, nobody to tell.
        (
            "me=0 leaving 0:Pd 1:Rd",
            "act: stop Sentinel; save and stop the server",
        ),
        ("me=0 leaving 0:Pdsz 1:Rd", "act: set the state to Left"),
        (
            "me=0 leaving 0:Pd",
            "act: stop Sentinel; save and stop the server",
        ),
    ]);
}

#[test]
fn whoever_left_is_done() {
    let mut observation = seen("me=1 leaving 0:P 1:Ld 2:R");
    observation.lease = Lease::Free;
    assert_eq!(plan(&observation), Plan::Settled);
}

#[test]
fn the_leader_names_grants_and_frees() {
    let show = |text: &str| {
        let steps: Vec<String> = leader::duties(&seen(text))
            .iter()
            .map(Step::to_string)
            .collect();
        steps.join("; ")
    };
    for (case, expected) in [
        ("me=0 leader 0:P 1:R", ""),
        ("me=0 0:P 1:N asks", ""),
        ("me=1 leader 0:P 1:N asks", "grant the turn to valkey/1"),
        ("me=0 leader founding=0 0:N 1:N", ""),
        (
            "me=0 leader founding=0 0:N asks",
            "grant the turn to valkey/0",
        ),
        (
            "me=0 leader founding=0 0:P 1:N",
            "let valkey/0 serve (decision 1)",
        ),
        // The founder is gone before it founded.
        (
            "me=1 leader founding=0 1:N",
            "let valkey/1 serve (decision 2)",
        ),
        // Who is being removed names another, and does not name itself anew with every hook.
        (
            "me=0 leader founding=0 0:Nd 1:N",
            "let valkey/1 serve (decision 2)",
        ),
        ("me=0 leader founding=0 0:Nd 1:Nd", ""),
        // Everybody left, and new units came: the best recorded copy, or a new beginning.
        ("me=1 leader 1:N", "let valkey/1 serve (decision 2)"),
        // The only copy went with its storage: a person decides.
        ("me=1 leader chosen=0 1:N asks", ""),
        // Whoever leaves still has the data.
        ("me=1 leader 0:Xsd 1:N asks", "grant the turn to valkey/1"),
    ] {
        assert_eq!(show(case), expected, "{case}");
    }
}

#[test]
fn data_that_is_away_is_said_where_it_is() {
    let show = |text: &str| show(&plan(&seen(text)));
    let away = "wait: the data left with the storage of valkey/0: add a unit with that storage, or begin anew with action `confirm-data-source`";
    assert_eq!(show("me=1 chosen=0 1:N asks"), away);
    assert_eq!(
        show("me=1 chosen=0 turn=1 1:N"),
        format!("act: give the turn back; {away}")
    );
    assert_eq!(
        show("me=1 chosen=1 turn=1 1:N"),
        "act: claim the data for decision 1; start the server as primary"
    );
}

#[test]
fn a_healthy_set_violates_nothing_and_each_fault_is_named() {
    for (case, expected) in [
        ("me=0 0:P 1:R 2:R", ""),
        (
            "me=0 0:P 1:R 2:X",
            "2 of 3 Sentinels name the primary|server of valkey/2 does not answer: connection refused|\
             Sentinel of valkey/2 does not answer: connection refused",
        ),
        (
            "me=0 0:P 1:Ro",
            "valkey/1 has no link to valkey/0|valkey/1 is not promotable yet",
        ),
        (
            "me=0 names=1 0:P 1:R",
            "the primary valkey/1 does not serve|Sentinel of valkey/0 knows 1 replicas, not 1",
        ),
    ] {
        let found = invariants::violations(&seen(case)).join("|");
        if case.contains("names=1") {
            assert!(
                found.starts_with("the primary valkey/1 does not serve"),
                "{found}"
            );
        } else {
            assert_eq!(found, expected, "{case}");
        }
    }
}

#[test]
fn whose_data_a_person_chose_serves_and_the_sentinels_that_are_there_are_told() {
    check(&[
        // Too few Sentinels for a vote: the restart gate lets it serve, stopped first if need be.
        (
            "me=2 chosen=2 0:X 1:X 2:Rs names=0",
            "act: claim the data for decision 1; start the server as primary",
        ),
        (
            "me=2 chosen=2 0:X 1:X 2:R names=0",
            "act: save and stop the server",
        ),
        // A majority can vote.
        ("me=2 chosen=2 0:X 1:R 2:R names=0", "act: promote valkey/2"),
        // It serves, and its Sentinel still names another.
        (
            "me=2 chosen=2 0:X 1:X 2:P names=0",
            "act: complete the hand-over to valkey/2",
        ),
        // Nobody else follows the order.
        (
            "me=1 chosen=2 0:X 1:R 2:X names=0",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
        // Another unit serves: the order is void.
        ("me=2 chosen=2 0:P 1:R 2:R", "settled"),
        (
            "me=2 chosen=2 0:P 1:R 2:Rs",
            "act: start the server as replica of 10.0.0.0",
        ),
    ]);
}

#[test]
fn an_order_ends_once_a_primary_serves_that_nobody_contradicts() {
    for (case, expected) in [
        ("me=2 leader chosen=2 0:X 1:X 2:Rs names=0", ""),
        ("me=2 leader chosen=2 0:X 1:X 2:P names=0", ""),
        (
            "me=2 leader chosen=2 0:X 1:X 2:P",
            "let valkey/2 serve (decision 1)",
        ),
        (
            "me=0 leader chosen=2 0:P 1:R 2:R",
            "let valkey/2 serve (decision 1)",
        ),
    ] {
        let duties = leader::duties(&seen(case));
        let text: Vec<String> = duties.iter().map(ToString::to_string).collect();
        assert_eq!(text.join("; "), expected, "{case}");
        for step in &duties {
            let Step::NameFounder(founding) = step else {
                continue;
            };
            assert!(founding.done, "{case}");
        }
    }
}

#[test]
fn the_units_that_are_left_promote_one_when_the_primary_was_removed_by_force() {
    for (case, down_for_ms, expected) in [
        (
            "me=2 leader names=9 2:R",
            1_000,
            "poll: waiting for a primary",
        ),
        ("me=2 leader names=9 2:R", 60_000, "act: promote valkey/2"),
        (
            "me=2 names=9 1:R 2:R",
            60_000,
            "poll: waiting for a primary",
        ),
        (
            "me=2 leader names=9 1:R 2:R",
            60_000,
            "act: promote valkey/1",
        ),
    ] {
        let mut observation = seen(case);
        for sentinel in observation.sentinels.values_mut() {
            if let super::observation::Seen::Known(sentinel) = sentinel
                && let Some(monitor) = &mut sentinel.monitor
            {
                monitor.down = true;
                monitor.down_for_ms = down_for_ms;
            }
        }
        assert_eq!(show(&plan(&observation)), expected, "{case} {down_for_ms}");
    }
}

/// Makes an observation in which `change` was applied to what its Sentinels say.
fn with_monitors(text: &str, change: impl Fn(&mut super::observation::Monitor)) -> Observation {
    let mut observation = seen(text);
    for seen in observation.sentinels.values_mut() {
        if let Seen::Known(sentinel) = seen
            && let Some(monitor) = sentinel.monitor.as_mut()
        {
            change(monitor);
        }
    }
    observation
}

#[test]
fn a_fence_that_is_held_is_left_alone_until_all_confirm() {
    let held = |text: &str| {
        let mut observation = seen(text);
        for server in observation.servers.values_mut() {
            if let Seen::Known(server) = server {
                server.min_replicas = Some(FENCE_HELD);
            }
        }
        observation
    };
    let lower = "act: set min-replicas-to-write 1 on";
    let me = super::fixture::unit(0);
    for (case, expected) in [
        // All confirm, and a replica is back: who holds it may be gone.
        ("me=0 0:P 1:R 2:R", format!("{lower} valkey/0")),
        // A replica takes no writes, and must take some once it is promoted.
        ("me=1 0:P 1:R 2:R", format!("{lower} valkey/1")),
        // Not all can be asked.
        ("me=0 0:P 1:R 2:X", "settled".to_owned()),
    ] {
        assert_eq!(show(&plan(&held(case))), expected, "{case}");
        let told = invariants::violations(&held(case)).join("|");
        let says = "valkey/0 takes no writes until the Sentinels confirm it";
        assert!(told.contains(says), "{case}: {told}");
    }
    for change in [
        (|monitor| monitor.down = true) as fn(&mut super::observation::Monitor),
        |monitor| monitor.failing_over = true,
        |monitor| "10.0.0.2".clone_into(&mut monitor.primary),
    ] {
        let mut observation = held("me=0 0:P 1:R 2:R");
        change(monitor_of(&mut observation, &super::fixture::unit(1)));
        let plan = plan(&observation);
        let lowers = plan
            .steps()
            .iter()
            .any(|step| matches!(step, Step::SetMinReplicas { on, .. } if on.contains(&me)));
        assert!(!lowers, "{}", show(&plan));
    }
    // No replica is there that a write would need.
    let mut alone = held("me=0 0:P 1:R 2:R");
    if let Some(Seen::Known(server)) = alone.servers.get_mut(&me) {
        server.replicas.clear();
    }
    assert_eq!(show(&plan(&alone)), "settled");
}

#[test]
fn who_leaves_does_not_take_the_votes_for_a_failover_along() {
    check(&[
        // The others need this unit's vote to replace the primary.
        (
            "me=2 leaving lease=unknown names=0 0:X 1:R 2:Rd",
            "poll: waiting for a failover to end",
        ),
        // Too few can vote with it as well: it goes, if a unit that stays holds as much.
        (
            "me=3 leaving lease=unknown names=0 0:X 1:X 2:R 3:Rd 4:X",
            "act: set min-replicas-to-write 1 on valkey/2; stop Sentinel; save and stop the server",
        ),
        (
            "me=2 leaving lease=unknown names=0 0:X 1:X 2:Rd 3:R 4:X",
            "poll: cannot leave: no unit that stays holds as much, so this one may hold the last copy; \
             bring another back, or remove this unit with --force",
        ),
        // A hand-over whose caller died is completed first.
        (
            "me=1 leaving lease=unknown names=1 0:P 1:Rd 2:R",
            "act: complete the hand-over to valkey/0",
        ),
    ]);
    let away = |monitor: &mut super::observation::Monitor| {
        monitor.down = true;
        monitor.agreed_down = true;
        monitor.down_for_ms = super::OUTAGE_PATIENCE_MS;
    };
    for (case, expected) in [
        // No replica was promotable for Sentinel, so the one that leaves sees to it.
        (
            "me=2 leaving lease=unknown names=0 0:X 1:Ro 2:Rd",
            "act: promote valkey/1",
        ),
        // Gone from here, the primary dead: the survivors clear up when they can.
        (
            "me=2 leaving lease=unknown names=0 0:X 1:R 2:Rdsz",
            "act: set the state to Left",
        ),
        // The best copy sees to itself; the leader may be gone too.
        ("me=1 names=0 0:X 1:R 2:R", "act: promote valkey/1"),
        (
            "me=2 names=0 0:X 1:R 2:R",
            "poll: waiting for a failover to end",
        ),
        ("me=2 leader names=0 0:X 1:R 2:R", "act: promote valkey/1"),
    ] {
        let mut observation = with_monitors(case, away);
        if let Some(identity) = observation.local.identity.as_mut() {
            identity.position.as_mut().unwrap().clean = true;
        }
        let me = observation.me.clone();
        if let Some(known) = observation.units.get_mut(&me) {
            known.data.position.as_mut().unwrap().clean = true;
        }
        assert_eq!(show(&plan(&observation)), expected, "{case}");
    }
}

#[test]
fn the_last_member_waits_for_a_unit_that_is_about_to_join() {
    check(&[
        (
            "me=0 leaving 0:Pd 1:N",
            "poll: cannot leave: valkey/1 has not joined yet and would begin without the data; \
             wait until it has, or remove it too",
        ),
        (
            "me=0 leaving lease=mine 0:Pd 1:N",
            "act: give the lease back",
        ),
        // The leader may be the one that waits: the lease alone keeps the order.
        (
            "me=1 asks turn=0 0:Pd 1:N",
            "act: take the lease on membership changes",
        ),
        (
            "me=1 asks 0:Pd 1:N",
            "act: take the lease on membership changes",
        ),
        (
            "me=1 asks 0:Pd 1:N lease=mine",
            "act: claim the data for decision 1; start the server as replica of 10.0.0.0",
        ),
        (
            "me=1 asks 0:P 1:N",
            "wait: waiting for the leader to grant the turn",
        ),
        // A dead member that stays grants nothing and takes nothing over.
        (
            "me=2 asks 0:Pd 1:X 2:N",
            "act: take the lease on membership changes",
        ),
        (
            "me=2 asks 0:Pd 1:R 2:N",
            "wait: waiting for the leader to grant the turn",
        ),
        (
            "me=0 leaving 0:Pd 1:Nd",
            "act: stop Sentinel; save and stop the server",
        ),
    ]);
    // It leaves and does not answer just now: no reason to begin anew.
    assert_eq!(leader::duties(&seen("me=1 leader 0:Xd 1:N")), vec![]);
}

#[test]
fn a_unit_that_cannot_start_keeps_nobody_waiting() {
    let blocked = |text: &str| {
        let mut observation = seen(text);
        observation.storage = super::observation::Storage::Problem("read-only".to_owned());
        observation
    };
    for (case, expected) in [
        (
            "me=1 turn=1 0:P 1:N",
            "act: give the turn back; wait: cannot use the storage: read-only",
        ),
        ("me=1 0:P 1:N", "wait: cannot use the storage: read-only"),
        (
            "me=0 founding=0 0:N 1:N",
            "act: give the turn back; wait: cannot use the storage: read-only",
        ),
    ] {
        assert_eq!(show(&plan(&blocked(case))), expected, "{case}");
    }
    // A step that does not work.
    let failing = seen("me=1 turn=1 0:P 1:N lease=mine");
    assert_eq!(
        super::give_up(&failing),
        vec![Step::ReleaseTurn, Step::ReleaseLease]
    );
    assert_eq!(super::give_up(&seen("me=1 asks 0:P 1:N")), vec![]);
    // The leader names another founder once the first has given its turn back.
    let mut observation = seen("me=1 leader asks founding=0 0:N 1:N");
    assert_eq!(leader::duties(&observation), vec![]);
    let founder = observation.units.get_mut(&super::fixture::unit(0)).unwrap();
    founder.data.turn.number = 2;
    let duties: Vec<String> = leader::duties(&observation)
        .iter()
        .map(Step::to_string)
        .collect();
    assert_eq!(
        duties,
        [
            "let valkey/1 serve (decision 2)",
            "grant the turn to valkey/1"
        ]
    );
}

#[test]
fn a_sentinel_without_state_neither_votes_nor_contradicts() {
    let mut observation = seen("me=1 0:P 1:R 2:X");
    if let Some(Seen::Known(sentinel)) = observation.sentinels.get_mut(&super::fixture::unit(1)) {
        sentinel.monitor = None;
    }
    assert_eq!(
        show(&plan(&observation)),
        "act: let Sentinel monitor 10.0.0.0 with quorum 2; announce Sentinel to the others"
    );
}

#[test]
fn a_primary_that_the_sentinels_already_miss_waits_for_its_successor() {
    let missed_by = |case: &str, units: &[u8], for_ms: u64| {
        let mut observation = seen(case);
        for number in units {
            let unit = super::fixture::unit(*number);
            let monitor = monitor_of(&mut observation, &unit);
            monitor.down = true;
            monitor.down_for_ms = for_ms;
            monitor.agreed_down = for_ms > 0;
        }
        show(&plan(&observation))
    };
    let serves = "act: start the server as primary";
    let waits = show(&super::Plan::Poll(super::Reason::FailingOver));
    for (case, units, for_ms, expected) in [
        ("me=0 0:Ps 1:R 2:R", &[][..], 0, serves),
        ("me=0 0:Ps 1:R 2:R", &[1], 0, serves),
        ("me=0 0:Ps 1:R 2:R", &[1, 2], 0, &waits),
        ("me=0 0:Ps 1:R 2:R", &[0, 1, 2], 2_000, &waits),
        // Nobody can be promoted, or the Sentinels cannot agree.
        ("me=0 0:Ps 1:Ro 2:X", &[0, 1], 2_000, serves),
        (
            "me=0 0:Ps 1:R 2:R",
            &[1, 2],
            super::OUTAGE_PATIENCE_MS,
            serves,
        ),
    ] {
        assert_eq!(missed_by(case, units, for_ms), expected, "{case} {units:?}");
    }
}

#[test]
fn a_server_that_returns_serves_only_what_is_surely_the_best() {
    check(&[
        // A power cut takes the last second of the log along; the replica has it.
        ("me=0 rebooted 0:Ps 1:R", "act: promote valkey/1"),
        (
            "me=0 rebooted 0:Ps 1:X 2:Ro names=0",
            "act: start the server as primary",
        ),
        // Its disk is gone, and the other never synced since it started: somebody must wait.
        (
            "me=0 0:Pse 1:X 2:Ro names=0",
            "poll: waiting for valkey/1, which may hold the newest data; action `confirm-data-source` overrides",
        ),
        // Two that leave may be cut off, and may have elected one of them.
        (
            "me=2 names=2 0:Xd 1:Xd 2:Rs",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
    ]);
    // Elected, but its databag was never written.
    let mut elected = seen("me=1 turn=1 0:X 1:J 2:R names=1 lease=unknown");
    if let Some(Seen::Known(server)) = elected.servers.get_mut(&super::fixture::unit(1)) {
        server.role = super::observation::Role::Primary;
    }
    for number in [0, 2] {
        let vote = super::fixture::unit(number);
        elected
            .sentinels
            .insert(vote, elected.sentinels[&elected.me].clone());
    }
    // It counts once they know its Sentinel.
    assert_eq!(
        show(&plan(&elected)),
        "act: announce Sentinel to the others; poll: waiting for Sentinels to discover this unit: 0 of 2"
    );
    let me = elected.local.address.clone();
    for number in [0, 2] {
        let monitor = monitor_of(&mut elected, &super::fixture::unit(number));
        monitor.others[0].host.clone_from(&me);
    }
    assert!(show(&plan(&elected)).contains("set the state to Member"));
    // The others' Sentinels name the address that this unit has now: it was another's before the reboot.
    let mut moved = seen("me=1 0:X 1:Rs 2:Ro names=1");
    let epoch = moved.epoch();
    let old = moved.units.get_mut(&super::fixture::unit(0)).unwrap();
    let theirs = old.data.position.as_mut().unwrap();
    (theirs.primary, theirs.epoch) = (true, epoch);
    let own = moved.local.identity.as_mut().unwrap();
    let mine = own.position.as_mut().unwrap();
    (mine.primary, mine.epoch) = (false, epoch);
    assert_eq!(
        show(&plan(&moved)),
        "poll: waiting for valkey/0, which may hold the newest data; action `confirm-data-source` overrides"
    );
    // It was elected since it was recorded.
    let own = moved.local.identity.as_mut().unwrap();
    own.position.as_mut().unwrap().epoch = epoch - 1;
    let known = own.position.clone();
    moved.units.get_mut(&moved.me).unwrap().data.position = known;
    assert_eq!(show(&plan(&moved)), "act: start the server as primary");
    // An order of the leader ends where a majority knows better.
    let mut observation = seen("me=2 founding=2 0:X 1:R 2:Rs names=0");
    observation.app.founding.as_mut().unwrap().reason = super::peer_data::FoundingReason::Restore;
    assert_eq!(
        show(&plan(&observation)),
        "act: start the server as replica of 10.0.0.0"
    );
}

#[test]
fn storage_that_stayed_is_compared_before_anybody_serves() {
    let mut observation = seen("me=1 leader founding=0 1:N 2:N");
    observation.app.founding.as_mut().unwrap().done = true;
    let position = |offset| super::peer_data::Position {
        history: "h".to_owned(),
        offset,
        epoch: 1,
        primary: true,
        clean: true,
        recorded_at: 1,
    };
    observation.local.has_data = true;
    observation.local.identity = Some(super::peer_data::Identity {
        deployment_id: "d".to_owned(),
        unit: super::fixture::unit(0),
        generation: 1,
        position: Some(position(5)),
    });
    assert_eq!(
        show(&plan(&observation)),
        "act: record the position of the data"
    );
    // The better copy is at the higher number.
    for (number, offset) in [(1, 5), (2, 7)] {
        let known = observation.units.get_mut(&super::fixture::unit(number));
        known.unwrap().data.position = Some(position(offset));
    }
    observation.app_wanted = observation.app.clone();
    let duties: Vec<String> = leader::duties(&observation)
        .iter()
        .map(Step::to_string)
        .collect();
    assert_eq!(duties, ["let valkey/2 serve (decision 2)"]);
    // Too late to be asked: what may be newer is kept aside before it is overwritten.
    let mut late = seen("me=1 turn=1 0:P 1:N lease=mine");
    late.local = super::observation::Local {
        address: late.local.address.clone(),
        ..observation.local.clone()
    };
    late.local.identity.as_mut().unwrap().position = Some(super::peer_data::Position {
        primary: false,
        epoch: 9,
        history: "other".to_owned(),
        ..position(5)
    });
    late.units
        .get_mut(&super::fixture::unit(1))
        .unwrap()
        .data
        .position = late.local.identity.as_ref().unwrap().position.clone();
    assert_eq!(
        show(&plan(&late)),
        "act: claim the data for decision 1; keep the data set aside; start the server as replica of 10.0.0.0"
    );
}

#[test]
fn who_joined_since_the_databags_were_read_is_not_forgotten() {
    for (case, remaining) in [
        // Unit 2 has left: its Sentinel is stopped and still known. Unit 3 joined while it waited.
        (
            "me=2 leaving lease=mine 0:P 1:R 2:Rdsz 3:J",
            "valkey/0, valkey/1, valkey/3",
        ),
        (
            "me=2 leaving lease=mine 0:P 1:R 2:Rdsz 3:S",
            "valkey/0, valkey/1",
        ),
        (
            "me=2 leaving lease=mine 0:P 1:R 2:Rdsz 3:N",
            "valkey/0, valkey/1",
        ),
    ] {
        let plan = show(&plan(&seen(case)));
        assert!(
            plan.ends_with(&format!("from the Sentinels of {remaining}")),
            "{case}: {plan}"
        );
    }
    // The unit that the Sentinels list and nobody has heard of may have joined a moment ago, or be
    // a member at a new address; one that answers would introduce itself again anyway.
    for (stranger_is_down, address, expected) in [
        (true, true, "act: take the lease on membership changes"),
        (false, true, "settled"),
        (true, false, "act: take the lease on membership changes"),
        (false, false, "settled"),
    ] {
        let mut observation = seen("me=0 leader 0:P 1:R 2:N 3:J");
        observation.units.remove(&super::fixture::unit(3));
        observation.sentinels.remove(&super::fixture::unit(3));
        observation.servers.remove(&super::fixture::unit(3));
        for sentinel in observation.sentinels.values_mut() {
            if let Seen::Known(sentinel) = sentinel
                && let Some(monitor) = &mut sentinel.monitor
            {
                let known = monitor.others.iter_mut().chain(&mut monitor.replicas);
                for it in known.filter(|it| it.host == "10.0.0.3") {
                    it.down = stranger_is_down;
                }
            }
        }
        if !address && let Some(unit) = observation.units.get_mut(&super::fixture::unit(2)) {
            unit.data.address = None;
        }
        assert_eq!(
            show(&plan(&observation)),
            expected,
            "down {stranger_is_down}, address {address}"
        );
    }
}

#[test]
fn the_last_to_go_learns_of_who_joined_by_running_again() {
    for (joined, expected) in [
        (
            true,
            "refuse: cannot leave: valkey/1 joined after this hook began; its next run hands the data over",
        ),
        (
            false,
            "poll: cannot leave: valkey/1 has not joined yet and would begin without the data; \
             wait until it has, or remove it too",
        ),
    ] {
        let mut observation = seen("me=0 leaving lease=free 0:Pd 1:N");
        let newcomer = super::fixture::unit(1);
        observation.servers.remove(&newcomer);
        observation.sentinels.remove(&newcomer);
        if let Some(unit) = observation.units.get_mut(&newcomer) {
            unit.data.address = None;
        }
        if joined {
            let monitor = monitor_of(&mut observation, &super::fixture::unit(0));
            monitor.others.push(super::observation::Known {
                host: "10.0.0.1".to_owned(),
                id: "1".to_owned(),
                down: false,
            });
        }
        assert_eq!(show(&plan(&observation)), expected, "joined {joined}");
    }
}

#[test]
fn a_leaving_primary_that_is_out_of_reach_still_counts() {
    check(&[
        // It may serve, and this unit be the one that is cut off.
        (
            "me=1 0:Xd 1:P",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
        (
            "me=1 0:Xd 1:P 2:Xd",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
    ]);
    // With a majority of all that are members, who is dying and gone has left.
    let numbers = seen("me=1 0:Xd 1:P 2:R");
    assert_eq!(numbers.members().len(), 2);
    // So has one that no Sentinel knows any more.
    let mut forgotten = seen("me=1 0:Xd 1:P");
    let me = forgotten.me.clone();
    let monitor = monitor_of(&mut forgotten, &me);
    monitor.others.clear();
    monitor.replicas.clear();
    assert_eq!(forgotten.members().len(), 1);
}

#[test]
fn who_is_cut_off_is_not_promotable_and_is_again_once_nobody_holds_more() {
    check(&[
        (
            "me=2 0:X 1:X 2:R names=0",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
        // Two units elect nobody without each other.
        (
            "me=1 0:X 1:R names=0",
            "poll: waiting for Sentinels: 1 of the needed 2 answer",
        ),
    ]);
    // Its own Sentinel has to miss the primary first.
    let mut sure = seen("me=2 0:X 1:X 2:R names=0");
    let me = sure.me.clone();
    monitor_of(&mut sure, &me).down = true;
    assert_eq!(
        show(&plan(&sure)),
        "act: make the server not promotable; record the position of the data"
    );
}

#[test]
fn a_unit_is_found_where_its_sentinel_went() {
    let mut moved = seen("me=0 leaving 0:P 1:X");
    assert_eq!(moved.moved(), []);
    let me = moved.me.clone();
    "10.0.0.9".clone_into(&mut monitor_of(&mut moved, &me).others[0].host);
    let other = super::fixture::unit(1);
    assert_eq!(moved.moved(), [(other.clone(), "10.0.0.9".to_owned())]);
    // Whoever else is known to be there has that address.
    if let Some(unit) = moved.units.get_mut(&other) {
        unit.data.sentinel = Some("another".to_owned());
    }
    assert_eq!(moved.moved(), []);
}
