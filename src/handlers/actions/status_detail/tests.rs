//! Tables of what is judged, one line a case.

use super::*;
use crate::planner::fixture::seen;

fn detail(case: &str) -> Detail {
    let seen = seen(case);
    let plan = planner::plan(&seen);
    describe(&seen, &plan, "active: primary".to_owned())
}

#[test]
fn facts_say_what_is_behind_the_status() {
    for (case, name, expected) in [
        ("me=0 0:P 1:R 2:R", "Role", "primary"),
        ("me=1 0:P 1:R 2:R", "Role", "replica of valkey/0, link up"),
        ("me=0 0:P 1:R 2:R", "Plan", "settled"),
        (
            "me=0 0:P 1:R 2:R lease=valkey/2",
            "Lease",
            "held by valkey/2",
        ),
        ("me=0 0:P 1:N turn=1", "Turn", "valkey/1"),
        (
            "me=1 0:P 1:N asks",
            "Turn",
            "nobody; this unit asks for it to start",
        ),
        ("me=1 old 0:P 1:R 2:R", "Settings pending", "a restart"),
        (
            "me=0 0:P 1:R 2:R",
            "Founding",
            "valkey/0 founds (decision 1, done)",
        ),
        (
            "me=1 0:P 1:X 2:R",
            "Processes",
            "server stopped, Sentinel stopped, watcher runs",
        ),
        (
            "me=1 0:P 1:X 2:R",
            "Position",
            "recorded: 100 bytes of history h, epoch 1, as replica, not stopped in order",
        ),
    ] {
        let detail = detail(case);
        let value = detail
            .facts
            .iter()
            .find(|(fact, _)| *fact == name)
            .map(|(_, value)| value.as_str());
        assert_eq!(value, Some(expected), "{case} {name}");
    }
}

#[test]
fn who_can_do_something_is_told_what() {
    let waits = detail("me=2 0:X 1:X 2:Rs names=0");
    assert!(!waits.advice.is_empty(), "{waits:?}");
    assert!(!waits.violations.is_empty());
    let settled = detail("me=0 0:P 1:R 2:R");
    assert_eq!(settled.advice, Vec::<String>::new());
    let json = answer(&settled)
        .map(|answer| answer.json)
        .unwrap_or_default();
    assert_eq!(json["facts"]["settings-pending"], "none");
}

#[test]
fn kept_data_sets_are_shown_with_what_they_alone_hold() {
    let set = |about: Option<Former>| KeptSet {
        path: "/kept/1".into(),
        about: about.and_then(|about| serde_json::to_vec(&about).ok()),
    };
    let former = |lost_bytes, lost_writes| {
        Some(Former {
            lost_bytes,
            lost_writes,
            ..Former::default()
        })
    };
    assert_eq!(kept_aside(&[]), "nothing");
    for (about, expected) in [
        (None, "what in it is nowhere else is not known"),
        (
            former(None, None),
            "what in it is nowhere else is not known",
        ),
        (
            former(Some(0), Some(0)),
            "nothing in it is known to be lost",
        ),
        (
            former(Some(90), Some(3)),
            "about 3 writes in it are nowhere else",
        ),
        (
            former(Some(90), None),
            "90 B of writes in it are nowhere else",
        ),
    ] {
        assert_eq!(kept_aside(&[set(about)]), format!("/kept/1 ({expected})"));
    }
}
