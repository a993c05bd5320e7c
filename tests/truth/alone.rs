//! Each rule of the models alone.

use crate::models::{
    Cluster, Disk, Failure, Reply, SentinelCommand, SentinelStart, SentinelView, ServerCommand,
    ServerFacts, ServerStart, Timings, WriteId,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const C: &str = "10.0.0.3";
const ALL: [&str; 3] = [A, B, C];

/// Three units as the charm leaves them: A is the primary, all know each other.
fn trio(seed: u64) -> Cluster {
    let mut all = Cluster::new(Timings::charm(), seed);
    for host in ALL {
        all.add_host(host);
        let start = ServerStart {
            follow: (host != A).then(|| A.to_owned()),
            min_replicas: 1,
            ..ServerStart::default()
        };
        all.start_server(host, &start);
    }
    all.advance(1_000);
    for host in ALL {
        let start = SentinelStart {
            monitor: A.into(),
            quorum: 2,
            fresh: true,
        };
        all.start_sentinel(host, &start);
        tune(&mut all, host);
    }
    run(&mut all, 3_000);
    for host in ALL {
        all.server_command(host, host, &ServerCommand::SetPriority(100))
            .unwrap();
    }
    run(&mut all, 3_000);
    all
}

fn tune(all: &mut Cluster, host: &str) {
    all.sentinel_command(host, host, &SentinelCommand::ShortenPeriods)
        .unwrap();
}

fn run(all: &mut Cluster, ms: u64) {
    all.advance(all.now() + ms);
}

fn write(all: &mut Cluster, at: &str) -> Result<WriteId, Failure> {
    match all.server_command(at, at, &ServerCommand::Write { client: 1 })? {
        Reply::Written(id) => Ok(id),
        other => panic!("{other:?}"),
    }
}

fn view(all: &mut Cluster, at: &str) -> SentinelView {
    match all
        .sentinel_command(at, at, &SentinelCommand::Look)
        .unwrap()
    {
        Reply::Sentinel(facts) => facts.view.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn server(all: &mut Cluster, at: &str) -> ServerFacts {
    match all.server_command(at, at, &ServerCommand::Info).unwrap() {
        Reply::Server(facts) => *facts,
        other => panic!("{other:?}"),
    }
}

/// Runs until `done`, at most `within` ms; returns how long it took.
fn until(all: &mut Cluster, within: u64, mut done: impl FnMut(&mut Cluster) -> bool) -> u64 {
    let start = all.now();
    while !done(all) {
        assert!(
            all.now() - start < within,
            "not within {within} ms: {all:#?}"
        );
        run(all, 10);
    }
    all.now() - start
}

fn full_view(all: &mut Cluster, at: &str) -> bool {
    let view = view(all, at);
    view.others.len() == 2
        && view.replicas.len() == 2
        && view
            .replicas
            .iter()
            .all(|replica| replica.link_up && !replica.down && replica.priority == 100)
}

#[test]
fn three_units_find_each_other() {
    let mut all = trio(1);
    for host in ALL {
        assert!(full_view(&mut all, host), "{:?}", view(&mut all, host));
    }
    let id = write(&mut all, A).unwrap();
    assert!(ALL.iter().all(|host| all.contains(host, id)));
    assert_eq!(write(&mut all, B), Err(Failure::ReadOnly));
}

#[test]
fn a_killed_primary_is_replaced_after_the_detection_time_and_nothing_is_lost() {
    for seed in 0..50 {
        let mut all = trio(seed);
        for _ in 0..10 {
            write(&mut all, A).unwrap();
        }
        all.kill_server(A);
        let took = until(&mut all, 30_000, |all| {
            ["", B, C].iter().skip(1).any(|host| all.takes_writes(host))
        });
        assert!((5_000..7_500).contains(&took), "seed {seed}: {took} ms");
        let new = if all.is_primary(B) { B } else { C };
        assert_eq!(all.missing_on(new), [], "seed {seed}");
        until(&mut all, 10_000, |all| {
            ALL.iter().all(|host| view(all, host).primary == new)
        });
        // It returns as a primary, which it must not stay.
        all.start_server(
            A,
            &ServerStart {
                min_replicas: 1,
                ..ServerStart::default()
            },
        );
        let took = until(&mut all, 10_000, |all| !all.is_primary(A));
        assert!(
            (2_000..5_000).contains(&took),
            "seed {seed}: converted after {took} ms"
        );
    }
}

#[test]
fn a_primary_that_is_cut_off_closes_its_fence_and_others_take_over() {
    for seed in 0..20 {
        let mut all = trio(seed);
        all.cut_off(A);
        let took = until(&mut all, 10_000, |all| {
            write(all, A) == Err(Failure::NoReplicas)
        });
        assert!((1_900..4_000).contains(&took), "seed {seed}: {took} ms");
        until(&mut all, 10_000, |all| {
            all.takes_writes(B) || all.takes_writes(C)
        });
        let new = if all.is_primary(B) { B } else { C };
        let lost = all.missing_on(new).len();
        assert!(lost > 0, "what was written behind the cut is lost");
        all.heal_all();
        until(&mut all, 30_000, |all| {
            server(all, A).follows.as_deref() == Some(new) && server(all, A).link_up
        });
        assert_eq!(all.missing_on(A).len(), lost);
        assert!(all.resyncs().1 > 2, "its own writes force a full copy");
    }
}

#[test]
fn a_frozen_primary_may_acknowledge_what_waited_when_it_wakes() {
    let mut all = trio(3);
    all.freeze_server(A);
    assert_eq!(write(&mut all, A), Err(Failure::Silent));
    until(&mut all, 30_000, |all| {
        all.takes_writes(B) || all.takes_writes(C)
    });
    run(&mut all, 5_000);
    all.thaw_server(A);
    let late: Vec<_> = all
        .acknowledged()
        .iter()
        .filter(|entry| entry.late)
        .collect();
    assert_eq!(late.len(), 1);
    assert_eq!(
        write(&mut all, A),
        Err(Failure::NoReplicas),
        "its replicas have hung up"
    );
    until(&mut all, 10_000, |all| !all.is_primary(A));
}

#[test]
fn an_empty_primary_takes_everybody_with_it() {
    let mut all = trio(4);
    let id = write(&mut all, A).unwrap();
    all.reboot(A, Disk::Lost);
    run(&mut all, 300);
    all.start_server(A, &ServerStart::default());
    run(&mut all, 5_000);
    assert!(ALL.iter().all(|host| !all.contains(host, id)), "{all:#?}");
}

#[test]
fn a_restart_from_the_log_needs_full_copies_and_one_from_the_snapshot_does_not() {
    for (from_snapshot, full) in [(false, true), (true, false)] {
        let mut all = trio(5);
        let id = write(&mut all, A).unwrap();
        all.server_command(A, A, &ServerCommand::Shutdown { save: true })
            .unwrap();
        let before = all.resyncs();
        all.start_server(
            A,
            &ServerStart {
                from_snapshot,
                ..ServerStart::default()
            },
        );
        until(&mut all, 5_000, |all| {
            [B, C].iter().all(|host| server(all, host).link_up)
                && server(all, A).replicas.len() == 2
        });
        let after = all.resyncs();
        assert_eq!(
            after.1 > before.1,
            full,
            "from the snapshot: {from_snapshot}, {before:?} {after:?}"
        );
        assert!(ALL.iter().all(|host| all.contains(host, id)));
    }
}

#[test]
fn a_power_cut_loses_at_most_the_last_second_and_a_kill_nothing() {
    for seed in 0..20 {
        let mut all = trio(seed);
        let early = write(&mut all, A).unwrap();
        run(&mut all, 1_100);
        let late = write(&mut all, A).unwrap();
        all.kill_server(A);
        assert!(all.contains(A, late), "a kill loses nothing");
        all.start_server(A, &ServerStart::default());
        run(&mut all, 4_000);
        let last = write(&mut all, A).unwrap();
        all.reboot(A, Disk::Kept);
        assert!(all.contains(A, early) && all.contains(A, late));
        assert!(
            !all.contains(A, last),
            "seed {seed}: it was not on the disk yet"
        );
        assert!(all.anywhere(last), "but a replica has it");
    }
}

#[test]
fn a_planned_failover_moves_the_role_without_loss() {
    let mut all = trio(6);
    let id = write(&mut all, A).unwrap();
    let command = ServerCommand::FailoverTo {
        target: B.into(),
        timeout: 3_000,
    };
    all.server_command(C, A, &command).unwrap();
    assert_eq!(write(&mut all, A), Err(Failure::Paused));
    all.server_command(C, B, &ServerCommand::GetAck).unwrap();
    run(&mut all, 50);
    assert_eq!(all.primaries(), [B]);
    assert!(all.contains(B, id));
    let before = server(&mut all, A);
    assert_eq!((before.follows.as_deref(), before.link_up), (Some(B), true));
    assert_eq!(server(&mut all, B).history, before.history);
    assert_eq!(write(&mut all, A), Err(Failure::ReadOnly));
    // C went with the old primary, as a replica of a replica.
    until(&mut all, 2_000, |all| server(all, C).link_up);
    let next = write(&mut all, B).unwrap();
    assert!(all.contains(C, next));
    // The Sentinels were not told: they put the old order back, which the charm prevents.
    assert_eq!(view(&mut all, C).primary, A);
}

#[test]
fn a_planned_failover_to_a_frozen_target_is_given_up() {
    let mut all = trio(7);
    all.freeze_server(B);
    let command = ServerCommand::FailoverTo {
        target: B.into(),
        timeout: 3_000,
    };
    all.server_command(C, A, &command).unwrap();
    let took = until(&mut all, 5_000, |all| write(all, A).is_ok());
    assert!((2_500..3_300).contains(&took), "{took}");
    assert!(all.is_primary(A) && !all.is_primary(B));
}

#[test]
fn votes_are_given_once_in_an_epoch_and_survive_a_restart() {
    let mut all = trio(8);
    let ask = |all: &mut Cluster, epoch, candidate: &str| {
        let command = SentinelCommand::Vote {
            primary: A.into(),
            epoch,
            candidate: candidate.into(),
        };
        match all.sentinel_command(A, B, &command).unwrap() {
            Reply::Vote { epoch, leader } => (
                epoch,
                leader.map(|leader| leader.trim_start_matches('0').to_owned()),
            ),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&mut all, 7, "abc"), (7, Some("abc".into())));
    assert_eq!(ask(&mut all, 7, "def"), (7, Some("abc".into())));
    all.stop_sentinel(B);
    let start = SentinelStart {
        monitor: A.into(),
        quorum: 2,
        fresh: false,
    };
    all.start_sentinel(B, &start);
    run(&mut all, 1_000);
    assert_eq!(
        ask(&mut all, 7, "def"),
        (7, None),
        "it knows the epoch, but not for whom"
    );
    assert_eq!(ask(&mut all, 8, "def"), (8, Some("def".into())));
}

#[test]
fn a_reset_sentinel_learns_all_again_within_about_a_second() {
    for seed in 0..20 {
        let mut all = trio(seed);
        all.sentinel_command(A, B, &SentinelCommand::Reset).unwrap();
        assert_eq!(view(&mut all, B).others.len(), 0);
        let took = until(&mut all, 5_000, |all| full_view(all, B));
        assert!(took <= 2_600, "seed {seed}: {took} ms");
    }
}

#[test]
fn after_a_reset_of_all_nobody_is_promoted() {
    let mut all = trio(9);
    for host in ALL {
        all.sentinel_command(host, host, &SentinelCommand::Reset)
            .unwrap();
    }
    all.kill_server(A);
    run(&mut all, 60_000);
    assert!(all.primaries().is_empty(), "{:?}", all.primaries());
}

#[test]
fn the_plain_failover_promotes_by_priority_and_loses_writes() {
    let mut all = trio(10);
    all.server_command(C, C, &ServerCommand::SetPriority(7))
        .unwrap();
    run(&mut all, 1_500);
    all.sentinel_command(A, B, &SentinelCommand::Failover)
        .unwrap();
    let took = until(&mut all, 5_000, |all| {
        let _ = write(all, A);
        all.is_primary(C)
    });
    assert!(took < 1_000, "{took}");
    until(&mut all, 20_000, |all| {
        let _ = write(all, A);
        !all.is_primary(A)
    });
    assert!(!all.missing_on(C).is_empty());
}

#[test]
fn a_sentinel_that_slept_takes_no_decisions_for_ten_seconds() {
    let mut all = trio(11);
    for host in ALL {
        all.freeze_sentinel(host);
    }
    run(&mut all, 3_000);
    for host in ALL {
        all.thaw_sentinel(host);
    }
    all.kill_server(A);
    run(&mut all, 9_000);
    assert!(all.primaries().is_empty());
    until(&mut all, 25_000, |all| !all.primaries().is_empty());
}

#[test]
fn a_minority_elects_nobody() {
    let mut all = trio(12);
    all.power_off(A, Disk::Kept);
    all.stop_sentinel(B);
    run(&mut all, 120_000);
    assert!(all.primaries().is_empty());
}

#[test]
fn a_full_disk_refuses_writes_and_counts_as_down() {
    let mut all = trio(13);
    all.fill_disk(A, true);
    assert_eq!(write(&mut all, A), Err(Failure::Misconf));
    until(&mut all, 15_000, |all| {
        all.takes_writes(B) || all.takes_writes(C)
    });
}

#[test]
fn the_lease_is_one_holders_and_a_failover_that_lost_it_frees_it() {
    let mut all = trio(14);
    let take = |all: &mut Cluster, at: &str, token: &str| {
        all.server_command(
            at,
            at,
            &ServerCommand::LeaseTake {
                token: token.into(),
                ttl: 30_000,
            },
        )
    };
    let reply = take(&mut all, A, "u/1").unwrap();
    assert_eq!(format!("{reply:?}"), "Lease(Taken)");
    assert_eq!(
        format!("{:?}", take(&mut all, A, "u/1").unwrap()),
        "Lease(Renewed)"
    );
    assert_eq!(
        format!("{:?}", take(&mut all, A, "u/2").unwrap()),
        "Lease(HeldBy(\"u/1\"))"
    );
    assert_eq!(take(&mut all, B, "u/1"), Err(Failure::ReadOnly));
    all.server_command(
        A,
        A,
        &ServerCommand::LeaseRelease {
            token: "u/1".into(),
        },
    )
    .unwrap();
    // Held behind a cut, where nobody else hears of it.
    all.cut_off(A);
    take(&mut all, A, "u/3").unwrap();
    until(&mut all, 15_000, |all| {
        all.takes_writes(B) || all.takes_writes(C)
    });
    let new = if all.is_primary(B) { B } else { C };
    assert_eq!(
        all.server_command(new, new, &ServerCommand::LeaseHolder),
        Ok(Reply::Holder(None))
    );
}

#[test]
fn equal_seeds_live_equal_lives() {
    let life = |seed| {
        let mut all = trio(seed);
        all.kill_server(A);
        run(&mut all, 20_000);
        all.start_server(A, &ServerStart::default());
        all.cut_off(B);
        run(&mut all, 40_000);
        all.heal_all();
        run(&mut all, 40_000);
        all.digest()
    };
    assert_eq!(life(20), life(20));
    assert_ne!(life(20), life(21));
}

#[test]
fn ten_quiet_minutes_cost_little() {
    let start = std::time::Instant::now();
    let lives = 20;
    for seed in 0..lives {
        let mut all = trio(seed);
        for _ in 0..600 {
            write(&mut all, A).unwrap();
            run(&mut all, 1_000);
        }
    }
    let each = start.elapsed() / u32::try_from(lives).unwrap();
    println!("ten minutes of three units: {each:?}");
    assert!(each.as_millis() < 1_000, "{each:?}");
}
