//! Decisions on what restarts, and when, as tables.

use super::{
    UnitName,
    fixture::{monitor_of, seen, unit},
    observation::Role,
    peer_data::{TurnKind, UnitState},
    plan,
    tests::{check, show},
};

#[test]
fn restarts_go_one_at_a_time_replicas_first_and_never_as_primary() {
    check(&[
        ("me=1 old 0:P 1:R 2:R", "act: ask for the turn to restart"),
        (
            "me=0 old 0:P 1:R 2:R",
            "wait: restart pending: first valkey/1, valkey/2",
        ),
        (
            "me=1 old 0:P 1:R 2:X",
            "wait: restart pending: valkey/2 does not answer",
        ),
        (
            "me=1 old turn=1 0:P 1:R 2:X",
            "act: give the turn back; wait: restart pending: valkey/2 does not answer",
        ),
        (
            "me=1 old lease=mine turn=1 0:P 1:R 2:R",
            "act: save and stop the server; start the server as replica of 10.0.0.0; give the turn back",
        ),
        (
            "me=0 old lease=mine turn=0 0:P 1:R 2:R",
            "act: hand over from valkey/0 to valkey/1",
        ),
        (
            "me=0 old turn=0 0:P",
            "act: save and stop the server; start the server as primary; give the turn back",
        ),
    ]);
}

#[test]
fn nobody_restarts_while_another_leaves() {
    check(&[
        (
            "me=1 old turn=1 0:P 1:R 2:R",
            "act: take the lease on membership changes",
        ),
        (
            "me=1 old turn=1 lease=valkey/2 0:P 1:R 2:R",
            "poll: waiting for valkey/2, which changes the membership",
        ),
        // Who joins may be what the primary lacks to give it, and needs the turn.
        (
            "me=1 old turn=1 lease=unknown 0:P 1:R 2:R",
            "act: give the turn back; wait: waiting for a primary that can grant the membership lease",
        ),
        (
            "me=0 old turn=0 lease=valkey/2 0:P",
            "poll: waiting for valkey/2, which changes the membership",
        ),
        ("me=1 lease=mine 0:P 1:R 2:R", "act: give the lease back"),
    ]);
}

#[test]
fn nobody_takes_itself_for_alone_by_an_old_databag() {
    let mut observation = seen("me=1 old turn=1 0:P 1:R");
    observation.units.entry(unit(0)).or_default().data.state = UnitState::New;
    monitor_of(&mut observation, &unit(1)).quorum = 1;
    assert_eq!(
        show(&plan(&observation)),
        "act: take the lease on membership changes"
    );
}

#[test]
fn a_member_that_does_not_know_what_its_server_has_read_restarts() {
    let mut observation = seen("me=1 0:P 1:R");
    if let Some(unit) = observation.units.get_mut(&unit(1)) {
        unit.data.settings = None;
    }
    assert_eq!(
        show(&plan(&observation)),
        "act: ask for the turn to restart"
    );
}

#[test]
fn another_version_goes_round_as_settings_do_and_sentinel_follows_its_server() {
    check(&[
        (
            "me=1 bin=9.1.2 0:P 1:R 2:R",
            "act: ask for the turn to restart",
        ),
        (
            "me=0 bin=9.1.2 0:P 1:Rn 2:R",
            "wait: restart pending: first valkey/2",
        ),
        // It will say so itself, once it is back; nothing restarts meanwhile.
        (
            "me=0 bin=9.1.2 0:P 1:Rn 2:X",
            "wait: restart pending: valkey/2 does not answer",
        ),
        (
            "me=0 bin=9.1.2 0:P 1:Rn 2:Rn",
            "act: ask for the turn to restart",
        ),
        // Sentinel is restarted under the same turn, when the server is back in sync.
        (
            "me=1 bin=9.1.2 lease=mine restart=1 0:P 1:R 2:R",
            "act: save and stop the server; start the server as replica of 10.0.0.0",
        ),
        (
            "me=1 bin=9.1.2 lease=mine restart=1 0:P 1:Rn 2:R",
            "act: stop Sentinel; start Sentinel for primary 10.0.0.0; give the turn back",
        ),
        (
            "me=1 bin=9.1.2 voter=9.1.2 lease=mine restart=1 0:P 1:R 2:R",
            "act: save and stop the server; start the server as replica of 10.0.0.0; give the turn back",
        ),
        (
            "me=1 bin=9.1.2 voter=9.1.2 restart=1 0:P 1:Rn 2:R",
            "act: give the turn back",
        ),
        (
            "me=0 bin=9.1.2 lease=mine restart=0 0:P 1:Rn 2:Rn",
            "act: hand over from valkey/0 to valkey/1",
        ),
        // A Sentinel alone that is behind asks for its turn, too; a primary need not wait for that.
        (
            "me=0 bin=9.1.2 0:Pn 1:Rn",
            "act: ask for the turn to restart",
        ),
        ("me=1 bin=9.1.2 voter=9.1.2 0:P 1:Rn 2:R", "settled"),
    ]);
}

#[test]
fn another_build_of_the_same_version_goes_round_with_sentinel_after_its_server() {
    check(&[
        // What its server is started with differs, as a setting does.
        (
            "me=1 old rebuilt lease=mine turn=1 0:P 1:R 2:R",
            "act: save and stop the server; start the server as replica of 10.0.0.0",
        ),
        (
            "me=1 rebuilt lease=mine restart=1 0:P 1:R 2:R",
            "act: stop Sentinel; start Sentinel for primary 10.0.0.0; give the turn back",
        ),
        (
            "me=1 rebuilt 0:P 1:R 2:R",
            "act: ask for the turn to restart",
        ),
        (
            "me=1 rebuilt 0:P 1:R 2:X",
            "wait: restart pending: valkey/2 does not answer",
        ),
    ]);
}

#[test]
fn a_setting_that_the_server_refuses_until_its_restart_does_not_keep_it_from_restarting() {
    for (case, expected) in [
        ("me=1 0:P 1:R 2:R", "act: apply the settings"),
        ("me=1 old 0:P 1:R 2:R", "act: ask for the turn to restart"),
        (
            "me=1 old lease=mine turn=1 0:P 1:R 2:R",
            "act: save and stop the server; start the server as replica of 10.0.0.0; give the turn back",
        ),
        // Until its turn comes, what the server does take is taken up.
        (
            "me=1 old asks turn=2 0:P 1:R 2:R",
            "act: apply the settings",
        ),
        ("me=1 old 0:P 1:R 2:X", "act: apply the settings"),
    ] {
        let mut observation = seen(case);
        for (settings, value) in [
            (&mut observation.settings.runtime, "10000"),
            (&mut observation.local.runtime, "4064"),
        ] {
            settings.insert("maxclients".to_owned(), value.to_owned());
        }
        assert_eq!(show(&plan(&observation)), expected, "{case}");
    }
}

#[test]
fn no_vote_is_given_up_while_another_is_missing() {
    check(&[
        (
            "me=1 bin=9.1.2 restart=1 0:P 1:Rn 2:Rz",
            "act: give the turn back; wait: restart pending: Sentinel of valkey/2 does not answer",
        ),
        (
            "me=1 bin=9.1.2 restart=1 0:P 1:Rn 2:Ro",
            "act: give the turn back; wait: restart pending: valkey/2 is not in sync",
        ),
    ]);
    for (case, expected) in [
        (
            "down",
            "wait: restart pending: Sentinel of valkey/2 cannot reach the primary",
        ),
        ("failing over", "poll: waiting for a failover to end"),
        (
            "loading",
            "wait: restart pending: valkey/2 is loading its data",
        ),
    ] {
        let mut observation = seen("me=1 bin=9.1.2 0:P 1:Rn 2:R");
        let monitor = monitor_of(&mut observation, &unit(2));
        monitor.down = case == "down";
        monitor.failing_over = case == "failing over";
        if let Some(super::observation::Seen::Known(server)) = observation.servers.get_mut(&unit(2))
        {
            server.loading = (case == "loading").then_some(super::observation::Progress {
                done: 1,
                total: None,
            });
        }
        assert_eq!(show(&plan(&observation)), expected, "{case}");
    }
}

#[test]
fn an_older_version_never_takes_the_place_of_a_newer_one() {
    let refused = "cannot use valkey-server 8.0.1: the data is of 9.1.2, which an older one may not read; provide 9.1.2 or newer";
    check(&[
        ("me=1 voter=9.1.2 0:Pn 1:Rn", &format!("wait: {refused}")),
        // Neither for settings, which would restart it, nor after a crash.
        (
            "me=1 voter=9.1.2 old 0:Pn 1:Rn",
            &format!("wait: {refused}"),
        ),
        ("me=1 0:Pn 1:Rns", &format!("wait: {refused}")),
        (
            "me=1 restart=1 0:Pn 1:Rns",
            &format!("act: give the turn back; wait: {refused}"),
        ),
        // Without data there is nothing that it could not read.
        (
            "me=1 turn=1 0:Pn 1:N",
            "act: take the lease on membership changes",
        ),
    ]);
}

#[test]
fn nobody_newer_takes_over_while_an_older_replica_is_left_unless_there_is_no_choice() {
    for (case, expected) in [
        ("me=0 leaving lease=mine 0:Pd 1:Rn 2:R", "valkey/2"),
        ("me=0 leaving lease=mine 0:Pd 1:Rn 2:R 3:Rn", "valkey/2"),
        ("me=0 leaving lease=mine 0:Pd 1:Rn 2:Rn", "valkey/1"),
        // The older one leaves too, or cannot take over.
        ("me=0 leaving lease=mine 0:Pd 1:Rn 2:Rd", "valkey/1"),
        ("me=0 leaving lease=mine 0:Pd 1:Rn 2:Ro", "valkey/1"),
    ] {
        let observation = seen(case);
        let target: Result<UnitName, String> = observation.takeover_target(&unit(0));
        assert_eq!(
            target.as_ref().map(UnitName::as_str),
            Ok(expected),
            "{case}"
        );
    }
}

#[test]
fn a_replica_that_is_too_old_for_its_primary_restarts_first_whoever_else_is_missing() {
    // `o`: without a link.
    check(&[
        (
            "me=1 bin=9.1.2 0:Pn 1:Ro 2:Ro",
            "act: ask for the turn to restart",
        ),
        (
            "me=1 bin=9.1.2 restart=1 0:Pn 1:Ro 2:Ro",
            "act: save and stop the server; start the server as replica of 10.0.0.0",
        ),
        // Without a newer version here there is nothing to restart into.
        ("me=1 0:Pn 1:Ro 2:Ro", "poll: syncing from valkey/0"),
        // One that its primary could serve only waits.
        ("me=1 bin=9.1.2 0:P 1:Ro 2:R", "poll: syncing from valkey/0"),
    ]);
    let mut syncing = seen("me=1 bin=9.1.2 0:Pn 1:Ro 2:R");
    if let Some(super::observation::Seen::Known(server)) = syncing.servers.get_mut(&unit(1))
        && let Role::Replica { syncing, .. } = &mut server.role
    {
        *syncing = Some(super::observation::Progress {
            done: 1,
            total: None,
        });
    }
    assert!(show(&plan(&syncing)).starts_with("poll: syncing"));
    let request = seen("me=1 bin=9.1.2 restart=2 asks 0:Pn 1:Ro 2:Ro");
    assert_eq!(
        request.mine().data.turn.wants,
        Some(TurnKind::Restart),
        "the fixture asks"
    );
    assert_eq!(
        show(&plan(&request)),
        "wait: waiting for the turn: valkey/2 is restarting"
    );
}
