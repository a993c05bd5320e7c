//! Tables of what is judged, one line a case.

use super::super::probe::Probe;
use super::*;
use crate::planner::{fixture::seen, observation::Seen};

fn show(verification: &Verification) -> String {
    let texts: Vec<&str> = verification
        .findings
        .iter()
        .map(|finding| finding.text.as_str())
        .collect();
    format!("{}: {}", verification.verdict, texts.join("; "))
}

#[test]
fn the_worst_finding_is_the_verdict() {
    for (case, expected) in [
        ("me=0 0:P 1:R 2:R", "OK: "),
        ("me=0 0:P 1:R 2:R 3:R 4:R", "OK: "),
        (
            "me=0 0:P",
            "DEGRADED: one unit: there is no copy of the data and no failover",
        ),
        (
            "me=0 0:P 1:R",
            "DEGRADED: two units: there is no automatic failover; add a third",
        ),
        (
            "me=0 0:P 1:R 2:R 3:N",
            "DEGRADED: valkey/3 has not joined yet",
        ),
        ("me=0 0:P 1:R 2:Rd", "DEGRADED: valkey/2 is leaving"),
        (
            "me=0 0:P 1:R 2:X",
            "DEGRADED: 2 of 3 Sentinels name the primary; server of valkey/2 does not answer: connection refused; Sentinel of valkey/2 does not answer: connection refused",
        ),
        (
            "me=0 0:N",
            "FAIL: no unit is a member yet; valkey/0 has not joined yet",
        ),
    ] {
        assert_eq!(
            show(&assess(&seen(case), &Probes::default())),
            expected,
            "{case}"
        );
    }
}

#[test]
fn writes_or_failover_that_do_not_work_are_a_failure() {
    for (case, expected) in [
        ("me=1 0:X 1:R 2:R names=0", "no unit accepts writes"),
        (
            "me=1 0:X 1:R 2:R names=0",
            "the primary valkey/0 does not serve",
        ),
        (
            "me=0 0:P 1:P 2:R",
            "more than one unit accepts writes: valkey/0, valkey/1",
        ),
        (
            "me=0 0:P 1:Rz 2:X",
            "1 of 3 Sentinels answer, 2 are needed for a failover",
        ),
        (
            "me=0 0:P 1:Rs 2:Rs",
            "valkey/0 refuses writes: 0 of the 1 needed replicas are in touch with it",
        ),
        (
            "me=0 0:P 1:Ro 2:Rs",
            "no replica could become the primary: valkey/1 is not in sync with the primary, valkey/2 does not answer",
        ),
    ] {
        let verification = assess(&seen(case), &Probes::default());
        let text = show(&verification);
        assert_eq!(verification.verdict, Verdict::Fail, "{case}: {text}");
        assert!(
            verification
                .findings
                .iter()
                .any(|finding| finding.text == expected && finding.verdict == Verdict::Fail),
            "{case}: {expected}: {text}"
        );
    }
}

#[test]
fn the_closer_look_counts() {
    let unit = |number: u8| UnitName::new(format!("valkey/{number}"));
    let probe = |no_quorum: Option<&str>, rights: &[&str]| Probe {
        no_quorum: no_quorum.map(str::to_owned),
        rights_missing: rights.iter().map(|text| (*text).to_owned()).collect(),
    };
    for (probes, expected) in [
        (
            vec![probe(None, &[]), probe(None, &[]), probe(None, &[])],
            Verdict::Ok,
        ),
        (
            vec![
                probe(None, &[]),
                probe(Some("NOQUORUM"), &[]),
                probe(None, &[]),
            ],
            Verdict::Degraded,
        ),
        (
            vec![
                probe(None, &[]),
                probe(Some("NOQUORUM"), &[]),
                probe(Some("NOQUORUM"), &[]),
            ],
            Verdict::Fail,
        ),
        (
            vec![
                probe(None, &[]),
                probe(None, &["no slaveof"]),
                probe(None, &[]),
            ],
            Verdict::Degraded,
        ),
        (
            vec![
                probe(None, &[]),
                probe(None, &["no slaveof"]),
                probe(None, &["no slaveof"]),
            ],
            Verdict::Fail,
        ),
    ] {
        let probes: Probes = probes
            .into_iter()
            .zip(0..)
            .map(|(probe, number)| (unit(number), probe))
            .collect();
        let verification = assess(&seen("me=0 0:P 1:R 2:R"), &probes);
        assert_eq!(verification.verdict, expected, "{}", show(&verification));
    }
}

#[test]
fn a_disk_that_takes_nothing_is_a_failure_on_the_primary_alone() {
    for (unit, expected) in [("valkey/0", Verdict::Fail), ("valkey/1", Verdict::Degraded)] {
        let mut seen = seen("me=0 0:P 1:R 2:R");
        if let Some(Seen::Known(server)) = seen.servers.get_mut(&UnitName::new(unit)) {
            server.disk_trouble = Some("full".to_owned());
        }
        assert_eq!(
            assess(&seen, &Probes::default()).verdict,
            expected,
            "{unit}"
        );
    }
}

#[test]
fn the_answer_fails_with_the_worst() {
    let failed = answer(&assess(
        &seen("me=1 0:X 1:R 2:R names=0"),
        &Probes::default(),
    ));
    let failure = failed
        .ok()
        .and_then(|answer| answer.failure)
        .unwrap_or_default();
    assert!(
        failure.starts_with("FAIL: no unit accepts writes (and "),
        "{failure}"
    );
    let fine = answer(&assess(&seen("me=0 0:P 1:R 2:R"), &Probes::default()));
    let fine = fine
        .map(|answer| (answer.text, answer.failure))
        .unwrap_or_default();
    assert_eq!(
        fine,
        (
            "OK

Primary  valkey/0
Margin   1 more unit may be lost
"
            .to_owned(),
            None
        )
    );
}
