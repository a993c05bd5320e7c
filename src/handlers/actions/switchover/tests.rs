//! Tables of what is judged, one line a case.

use super::*;
use crate::planner::{fixture::seen, observation::Seen};

fn show(choice: Result<Choice, Vec<String>>) -> String {
    match choice {
        Ok(choice) => format!("{} to {}", choice.from, choice.to),
        Err(reasons) => format!("no: {}", reasons.join("; ")),
    }
}

fn target(text: &str) -> Option<UnitName> {
    (!text.is_empty()).then(|| UnitName::new(text))
}

#[test]
fn only_a_safe_switchover_is_chosen() {
    for (case, wanted, expected) in [
        // The fixture's replicas are one byte apart: the lower number is further along.
        ("me=2 0:P 1:R 2:R", "", "valkey/0 to valkey/1"),
        ("me=0 0:P 1:R 2:R", "valkey/2", "valkey/0 to valkey/2"),
        (
            "me=0 0:P 1:R 2:R",
            "valkey/9",
            "no: valkey/9 is not a unit of this application",
        ),
        (
            "me=0 0:P 1:R 2:R",
            "other/0",
            "no: other/0 is not a unit of this application",
        ),
        (
            "me=0 0:P 1:R 2:R",
            "valkey/0",
            "no: valkey/0 is the primary already",
        ),
        (
            "me=0 0:P 1:R 2:X",
            "valkey/2",
            "no: valkey/2 does not answer",
        ),
        ("me=0 0:P 1:R 2:X", "", "valkey/0 to valkey/1"),
        (
            "me=0 0:P 1:R 2:Ro",
            "valkey/2",
            "no: valkey/2 is not in sync with the primary",
        ),
        ("me=0 0:P 1:R 2:Rd", "valkey/2", "no: valkey/2 is leaving"),
        ("me=0 0:P 1:Rd 2:R", "", "valkey/0 to valkey/2"),
        ("me=0 0:P 1:R", "", "valkey/0 to valkey/1"),
        ("me=0 0:P", "", "no: no other unit is a member"),
        (
            "me=0 0:P 1:R 2:R 3:N turn=3",
            "",
            "no: valkey/3 is starting; try again when it is done",
        ),
        (
            "me=0 old 0:P 1:R 2:R turn=2",
            "",
            "no: valkey/2 is restarting; try again when it is done",
        ),
        (
            "me=0 0:P 1:R 2:R lease=valkey/2",
            "",
            "no: valkey/2 changes the membership; try again when it is done",
        ),
        (
            "me=0 0:P 1:X 2:X",
            "",
            "no: valkey/1 does not answer, valkey/2 does not answer",
        ),
        (
            "me=1 0:X 1:R 2:R",
            "",
            "no: no unit accepts writes; the primary 10.0.0.99 does not serve",
        ),
    ] {
        let choice = choose(&seen(case), &Probes::default(), target(wanted).as_ref());
        assert_eq!(show(choice), expected, "{case} {wanted}");
    }
}

#[test]
fn a_target_that_lags_is_refused_and_passed_over() {
    let mut seen = seen("me=0 0:P 1:R 2:R");
    if let Some(Seen::Known(server)) = seen.servers.get_mut(&seen.me.clone()) {
        server.replicas[0].lag_s = 7;
    }
    let probes = Probes::default();
    assert_eq!(
        show(choose(&seen, &probes, target("valkey/1").as_ref())),
        "no: valkey/1 lags behind: it has acknowledged nothing for 7 s"
    );
    assert_eq!(show(choose(&seen, &probes, None)), "valkey/0 to valkey/2");
}

#[test]
fn only_what_the_primary_hears_of_within_a_second_is_waited_for() {
    let mut attached = seen("me=0 0:P 1:R 2:R");
    if let Some(Seen::Known(server)) = attached.servers.get_mut(&attached.me.clone()) {
        server.replicas[0].online = false;
    }
    assert!(comes_at_once(&attached, target("valkey/1").as_ref()));
    assert!(comes_at_once(&attached, None));
    assert!(!comes_at_once(&attached, target("valkey/2").as_ref()));
    for (case, wanted) in [
        ("me=0 0:P 1:R 2:R", ""),
        ("me=0 0:P 1:R 2:X", "valkey/2"),
        ("me=0 0:P 1:R 2:Ro", "valkey/2"),
        ("me=0 0:P 1:R 2:R", "valkey/0"),
        ("me=1 0:X 1:R 2:R", ""),
    ] {
        assert!(
            !comes_at_once(&seen(case), target(wanted).as_ref()),
            "{case}"
        );
    }
}

#[test]
fn a_primary_that_cannot_write_to_disk_may_hand_over() {
    let mut seen = seen("me=0 0:P 1:R 2:R");
    if let Some(Seen::Known(server)) = seen.servers.get_mut(&seen.me.clone()) {
        server.disk_trouble = Some("full".to_owned());
    }
    assert_eq!(
        show(choose(&seen, &Probes::default(), None)),
        "valkey/0 to valkey/1"
    );
}
