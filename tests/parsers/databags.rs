//! What units write into the peer databags: read key by key, whatever a unit of another version, or a broken one, wrote.

use proptest::prelude::*;
use valkey_operator::planner::UnitName;
use valkey_operator::planner::peer_data::{
    AppData, Databag, Founding, FoundingReason, Grant, Malformed, Position, TurnKind, TurnRequest,
    UnitData, UnitState,
};

use super::mutate::{config, hostile_text};

/// Values as this charm writes them, by key.
const VALUES: &[(&str, &[&str])] = &[
    ("deployment-id", &["5f0c2e7a9b1d4c3e"]),
    (
        "founding",
        &[r#"{"unit":"valkey/3","generation":2,"reason":"restore","done":true}"#],
    ),
    (
        "turn",
        &[
            r#"{"holder":"valkey/1","number":7}"#,
            r#"{"number":4,"wants":"restart","asked_at":1790000000}"#,
        ],
    ),
    ("users-secret", &["secret:9m4e2mr0ui3e8a215n4g"]),
    ("system-users", &["secret:9m4e2mr0ui3e8a215n4h"]),
    (
        "address",
        &["10.1.2.3", "valkey-0.valkey-endpoints.m.svc.cluster.local"],
    ),
    (
        "state",
        &[r#""member""#, r#""left""#, r#""new""#, r#""detached""#],
    ),
    (
        "position",
        &[
            r#"{"history":"8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb","offset":4711,"epoch":3,"primary":true,"clean":false,"recorded_at":1790000000}"#,
        ],
    ),
    ("settings", &["databases=16 io-threads=1"]),
    ("server-version", &["8.0.1"]),
    ("sentinel", &["0f6c9e3a1b7d4258c0e9f8a7b6d5c4e3f2a1b0c9"]),
    (
        "last-change",
        &[
            r#"{"at":1790000000,"from":"valkey/0","to":"valkey/1","planned":true,"path":"server","epoch":4}"#,
        ],
    ),
];

fn databag() -> impl Strategy<Value = Databag> {
    let one = |(key, values): &(&'static str, &'static [&'static str])| {
        let (key, values) = (*key, *values);
        prop_oneof![
            4 => proptest::sample::select(values).prop_map(|value| Some(value.to_owned())),
            1 => Just(None),
            2 => hostile_text(values).prop_map(Some),
        ]
        .prop_map(move |value| Some((key.to_owned(), value?)))
    };
    let each: Vec<_> = VALUES.iter().map(one).collect();
    each.prop_map(|pairs| pairs.into_iter().flatten().collect())
}

/// What is shown of a databag goes into statuses, which are arguments of programs.
fn assert_shown(shown: &str) {
    assert!(
        !shown.contains(char::is_control),
        "control characters reach a status: {shown:?}"
    );
    assert!(shown.len() < 1000, "{} bytes reach a status", shown.len());
}

fn assert_named(problems: &[Malformed]) {
    for problem in problems {
        assert!(!problem.problem.is_empty());
        assert_shown(&problem.to_string());
    }
}

fn position() -> impl Strategy<Value = Position> {
    (
        "[0-9a-f]{40}",
        0..u64::MAX / 4,
        any::<u32>(),
        any::<bool>(),
        any::<bool>(),
        any::<u32>(),
    )
        .prop_map(
            |(history, offset, epoch, primary, clean, recorded_at)| Position {
                history,
                offset,
                epoch: epoch.into(),
                primary,
                clean,
                recorded_at: recorded_at.into(),
            },
        )
}

fn unit_data() -> impl Strategy<Value = UnitData> {
    let state = proptest::sample::select(vec![
        UnitState::New,
        UnitState::Member,
        UnitState::Detached,
        UnitState::Left,
    ]);
    let wants = proptest::option::of(proptest::sample::select(vec![
        TurnKind::Start,
        TurnKind::Restart,
    ]));
    let text = || proptest::option::of("[!-~][ -~]{0,40}");
    (
        text(),
        state,
        0..u64::MAX / 4,
        wants,
        proptest::option::of(position()),
        text(),
        text(),
        (text(), text()),
    )
        .prop_map(
            |(
                address,
                state,
                number,
                wants,
                position,
                settings,
                server_version,
                (sentinel, last_change),
            )| {
                UnitData {
                    address,
                    state,
                    turn: TurnRequest {
                        number,
                        wants,
                        asked_at: 5,
                    },
                    position,
                    settings,
                    server_version,
                    sentinel,
                    last_change,
                }
            },
        )
}

fn app_data() -> impl Strategy<Value = AppData> {
    let unit = || (0_u32..500).prop_map(|number| UnitName::new(format!("valkey/{number}")));
    let reason = proptest::sample::select(vec![
        FoundingReason::Found,
        FoundingReason::Restore,
        FoundingReason::Override,
    ]);
    let founding = (unit(), 0..u64::MAX / 4, reason, any::<bool>()).prop_map(
        |(unit, generation, reason, done)| Founding {
            unit,
            generation,
            reason,
            done,
        },
    );
    let turn = (unit(), 0..u64::MAX / 4).prop_map(|(holder, number)| Grant { holder, number });
    let text = || proptest::option::of("[!-~][ -~]{0,40}");
    (
        text(),
        proptest::option::of(founding),
        proptest::option::of(turn),
        text(),
        text(),
    )
        .prop_map(
            |(deployment_id, founding, turn, users_secret, system_users)| AppData {
                deployment_id,
                founding,
                turn,
                users_secret,
                system_users,
            },
        )
}

#[test]
fn values_as_they_are_written_are_understood() {
    for at in 0..2 {
        let bag: Databag = VALUES
            .iter()
            .map(|(key, values)| {
                (
                    (*key).to_owned(),
                    values[at.min(values.len() - 1)].to_owned(),
                )
            })
            .collect();
        // The two databags share one key, `turn`: of a unit a wish, of the application a grant.
        let problems = if at == 0 {
            AppData::from_databag(&bag).1
        } else {
            UnitData::from_databag(&bag).1
        };
        assert_eq!(problems, []);
    }
}

/// What a unit wrote must not keep its peers' hooks from working: a status with a NUL byte cannot be set.
#[test]
fn a_databag_cannot_put_control_characters_into_a_status() {
    for (key, value) in [
        ("state", r#""\u0000""#),
        ("state", r#""\u001b[31m""#),
        ("turn", r#"{"holder":"valkey/1\u0000","number":1}"#),
        (
            "founding",
            r#"{"unit":"\n","generation":1,"reason":"found","done":false}"#,
        ),
        (
            "position",
            r#"{"history":"a\u0000b","offset":1,"epoch":1,"primary":true,"clean":true,"recorded_at":1}"#,
        ),
    ] {
        let bag = Databag::from([(key.to_owned(), value.to_owned())]);
        let (app, mut problems) = AppData::from_databag(&bag);
        let (unit, more) = UnitData::from_databag(&bag);
        problems.extend(more);
        assert!(!problems.is_empty(), "{value} was taken");
        assert_named(&problems);
        assert!(!format!("{app:?}{unit:?}").contains("\\0"));
    }
}

/// Numbers that only rise cannot stand at their end: the next one would be the smallest.
#[test]
fn a_number_that_cannot_rise_is_refused() {
    let largest = u64::MAX;
    for (key, value) in [
        (
            "founding",
            format!(r#"{{"unit":"valkey/1","generation":{largest},"reason":"found","done":true}}"#),
        ),
        (
            "turn",
            format!(r#"{{"holder":"valkey/1","number":{largest}}}"#),
        ),
        (
            "turn",
            format!(r#"{{"number":{largest},"wants":null,"asked_at":1}}"#),
        ),
    ] {
        let bag = Databag::from([(key.to_owned(), value.clone())]);
        let problems = [
            AppData::from_databag(&bag).1,
            UnitData::from_databag(&bag).1,
        ]
        .concat();
        assert!(!problems.is_empty(), "{value} was taken");
        let (app, unit) = (
            AppData::from_databag(&bag).0,
            UnitData::from_databag(&bag).0,
        );
        assert!(
            app.founding.is_none() && app.turn.is_none() && unit.turn.number == 0,
            "{value}"
        );
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_databag_is_read_and_its_problems_are_named(bag in databag()) {
        let (app, problems) = AppData::from_databag(&bag);
        assert_named(&problems);
        let (unit, problems) = UnitData::from_databag(&bag);
        assert_named(&problems);
        // What was understood is written, and is then understood in the same way.
        prop_assert_eq!(AppData::from_databag(&app.to_databag()), (app, vec![]));
        prop_assert_eq!(UnitData::from_databag(&unit.to_databag()), (unit, vec![]));
    }

    #[test]
    fn what_a_unit_writes_is_read_back(data in unit_data()) {
        prop_assert_eq!(UnitData::from_databag(&data.to_databag()), (data, vec![]));
    }

    #[test]
    fn what_the_leader_writes_is_read_back(data in app_data()) {
        prop_assert_eq!(AppData::from_databag(&data.to_databag()), (data, vec![]));
    }
}
