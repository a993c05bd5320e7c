//! What holds for every plan, whatever was seen.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{
    Intent, Observation, Plan, Step,
    fixture::{seen, unit},
    invariants, leader,
    observation::{Lease, Progress, Role, Seen, Storage},
    peer_data::FoundingReason,
    plan, refresh,
    view::Naming,
};

/// Any description in the small language, also of what should never be.
fn description() -> impl Strategy<Value = String> {
    let letters = prop::sample::select(vec!["P", "R", "R", "R", "S", "N", "J", "X", "L"]);
    let marks = prop::collection::vec(
        prop::sample::select(vec!["d", "s", "z", "e", "o", "n"]),
        0..3,
    );
    let units = prop::collection::vec((letters, marks), 1..6);
    let words = prop::sample::subsequence(
        vec![
            "leader",
            "asks",
            "slow",
            "rebooted",
            "old",
            "leaving",
            "bin=9.1.2",
            "voter=9.1.2",
            "restart=1",
        ],
        0..5,
    );
    let lease = prop::sample::select(vec!["free", "mine", "unknown", "valkey/1"]);
    let names = prop::option::of(0_u8..6);
    let turn = prop::option::of(0_u8..6);
    let founding = prop::option::of((prop::sample::select(vec!["founding", "chosen"]), 0_u8..6));
    (
        units,
        words,
        lease,
        names,
        turn,
        founding,
        any::<prop::sample::Index>(),
    )
        .prop_map(|(units, words, lease, names, turn, founding, me)| {
            let mut text = format!("me={} lease={lease}", me.index(units.len()));
            for word in words {
                let _ = write!(text, " {word}");
            }
            for (name, value) in [("names", names), ("turn", turn)] {
                if let Some(value) = value {
                    let _ = write!(text, " {name}={value}");
                }
            }
            if let Some((name, value)) = founding {
                let _ = write!(text, " {name}={value}");
            }
            for (number, (letter, marks)) in units.iter().enumerate() {
                let _ = write!(text, " {number}:{letter}{}", marks.concat());
            }
            text
        })
}

/// What one unit's processes say differently from what the description says.
#[derive(Debug, Clone)]
enum Twist {
    Named(u8),
    Bare,
    SentinelDead,
    Down,
    FailingOver,
    Promoted,
    Loading,
    Primary,
    Priority,
    Nameless,
    Detached,
}

fn twists() -> impl Strategy<Value = Vec<(u8, Twist)>> {
    let twist = prop_oneof![
        (0_u8..6).prop_map(Twist::Named),
        Just(Twist::Bare),
        Just(Twist::SentinelDead),
        Just(Twist::Down),
        Just(Twist::FailingOver),
        Just(Twist::Promoted),
        Just(Twist::Loading),
        Just(Twist::Primary),
        Just(Twist::Priority),
        Just(Twist::Nameless),
        Just(Twist::Detached),
    ];
    prop::collection::vec((0_u8..5, twist), 0..4)
}

fn apply(observation: &mut Observation, number: u8, twist: &Twist) {
    let name = unit(number);
    if let Some(Seen::Known(sentinel)) = observation.sentinels.get_mut(&name)
        && let Some(monitor) = &mut sentinel.monitor
    {
        match twist {
            Twist::Named(other) => monitor.primary = format!("10.0.0.{other}"),
            Twist::Down => {
                monitor.down = true;
                monitor.agreed_down = true;
                monitor.down_for_ms = 100_000;
            }
            Twist::FailingOver => monitor.failing_over = true,
            Twist::Promoted => {
                monitor.failing_over = true;
                monitor.promoted = true;
            }
            Twist::Bare => sentinel.monitor = None,
            _ => {}
        }
    }
    if let Some(Seen::Known(server)) = observation.servers.get_mut(&name) {
        match twist {
            Twist::Loading => {
                server.loading = Some(Progress {
                    done: 1,
                    total: None,
                });
            }
            Twist::Primary => server.role = Role::Primary,
            Twist::Priority => server.priority = 0,
            _ => {}
        }
    }
    match twist {
        Twist::SentinelDead => {
            if let Some(seen) = observation.sentinels.get_mut(&name) {
                *seen = Seen::Unknown("timed out".to_owned());
            }
        }
        Twist::Nameless => {
            if let Some(unit) = observation.units.get_mut(&name) {
                unit.data.address = None;
            }
        }
        Twist::Detached if observation.me == name => observation.storage = Storage::Missing,
        _ => {}
    }
}

/// Checks what must hold for the plan of any observation.
fn sound(text: &str, seen: &Observation) {
    let decided = plan(seen);
    assert_eq!(decided, plan(seen), "not a function: {text}");
    assert_eq!(invariants::permit(seen, &decided), Ok(()), "{text}");
    let duties = leader::duties(seen);
    assert!(seen.leader || duties.is_empty(), "{text}");
    let ordered = seen
        .app
        .founding
        .as_ref()
        .is_some_and(|founding| founding.reason == FoundingReason::Override);
    let mut leased = seen.lease == Lease::Mine;
    let starts_server = |step: &Step| matches!(step, Step::StartServer { .. });
    assert!(
        refresh::downgrade(seen).is_none() || !decided.steps().iter().any(starts_server),
        "starts an older version: {text}"
    );
    // A displaced primary stops at any time; a Sentinel that moved forgets; one whose failover cannot end begins anew.
    let stops = |step: &Step| matches!(step, Step::StopServer | Step::StopSentinel);
    let starts = |step: &Step| {
        matches!(
            step,
            Step::StartServer { .. } | Step::StartSentinel { fresh: false, .. }
        )
    };
    assert!(
        !decided.steps().iter().any(starts)
            || !decided.steps().iter().any(stops)
            || seen.holds_turn()
            || seen
                .monitor(&seen.me)
                .is_some_and(|monitor| monitor.promoted && monitor.down),
        "restarts without the turn: {text}"
    );
    for step in decided.steps() {
        match step {
            Step::TakeLease => leased = true,
            Step::ReleaseLease => leased = false,
            Step::StartServer { follow: None, .. } => {
                assert!(
                    seen.intent == Intent::Reconcile || seen.serving().is_empty(),
                    "{text}"
                );
                let others = seen.serving().into_iter().filter(|unit| *unit != seen.me);
                assert_eq!(others.count(), 0, "another serves: {text}");
                let elsewhere = matches!(
                    seen.naming(),
                    Naming::Agreed { host, .. } if host != seen.local.address
                );
                // Alone, and named by an address that is nobody's: its own, before it moved.
                let moved = matches!(
                    seen.naming(),
                    Naming::Agreed { host, .. } if seen.unit_at(&host).is_none()
                ) && seen.voters() == 1;
                assert!(
                    ordered || moved || !elsewhere,
                    "a majority names another: {text}"
                );
            }
            Step::StartServer {
                follow: Some(host), ..
            }
            | Step::Follow { primary: host } => {
                assert_ne!(*host, seen.local.address, "follows itself: {text}");
            }
            Step::HandOver { from, to, .. } => {
                assert!(seen.can_take_over(to, from).is_ok(), "{text}");
                // Nobody newer, while somebody could who leaves nobody behind.
                let other = seen.belonging().into_iter().find(|unit| {
                    seen.can_take_over(unit, from).is_ok() && seen.left_behind(unit, from).is_none()
                });
                assert!(
                    seen.left_behind(to, from).is_none() || other.is_none(),
                    "{text}"
                );
            }
            Step::Promote { to } => {
                // What is promoted answers, holds a whole data set, and nobody else serves.
                let server = seen.server(to);
                assert!(
                    server.is_some_and(|server| server.loading.is_none()
                        && !matches!(
                            server.role,
                            Role::Replica {
                                syncing: Some(_),
                                ..
                            }
                        )),
                    "{text}"
                );
                assert!(seen.serving().is_empty(), "another serves: {text}");
            }
            Step::Forget { .. } => assert!(leased, "{text}"),
            _ => {}
        }
    }
    if let Plan::Act { steps, .. } = &decided {
        assert!(!steps.is_empty(), "acts without steps for ever: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_plan_is_sound(
        text in description(),
        twists in twists(),
        incomplete: bool,
        no_file: bool,
    ) {
        let mut observation = seen(&text);
        for (number, twist) in &twists {
            apply(&mut observation, *number, twist);
        }
        observation.local.complete_data &= !incomplete;
        observation.local.has_sentinel_file &= !no_file;
        sound(&text, &observation);
    }
}

#[test]
fn a_primary_does_not_restart_as_one_while_another_serves() {
    let text = "me=1 old restart=1 lease=mine 0:S 1:P 2:S 3:J";
    let starts = |seen: &Observation| {
        let is_start = |step: &Step| matches!(step, Step::StartServer { follow: None, .. });
        plan(seen).steps().iter().any(is_start)
    };
    assert!(starts(&seen(text)), "nobody can take over, so it restarts");
    for other in [0, 2, 3] {
        let mut observation = seen(text);
        apply(&mut observation, other, &Twist::Primary);
        sound(text, &observation);
        assert!(!starts(&observation), "{other} serves, too");
    }
}
