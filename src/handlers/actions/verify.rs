//! Action `verify`: is everything as it should be, and if not, what is the worst of it?

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::future::join_all;
use serde::Serialize;

use crate::{
    charm::Charm,
    observer::{sentinel_client, server_client},
    planner::{
        Observation, UnitName, invariants,
        numbers::majority,
        observation::{Storage, Users},
        peer_data::UnitState,
    },
    valkey::configuration::max_lag_seconds,
};

use super::{answer::Answer, margin::Margin, table};

/// What came of the check, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Everything is as it should be.
    Ok,
    /// It works, but one more failure may hurt.
    Degraded,
    /// Writes or the failover do not work, or data is in danger.
    Fail,
}

impl Verdict {
    /// Returns the exit status of `valkey-operator verify`.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Degraded => 1,
            Self::Fail => 2,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::Fail => "FAIL",
        })
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is, in words for a person.
    pub text: String,
    /// Whether another primary would be the cure, so that it must not stand in the way of one.
    #[serde(skip)]
    pub cured_by_switchover: bool,
}

/// The whole check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// The primary, if there is one that can be followed.
    pub primary: Option<UnitName>,
    /// How much may still go wrong.
    pub margin: Margin,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

/// What only a closer look at one unit tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Why its Sentinel says that no failover is possible, if it does.
    pub no_quorum: Option<String>,
    /// Commands that Sentinel's user may not use on its server, though it needs them.
    pub rights_missing: Vec<String>,
}

/// The closer look at every member that answers.
pub type Probes = BTreeMap<UnitName, Probe>;

/// Asks every Sentinel whether a failover is possible, and every server whether Sentinel may do it.
pub async fn probe(charm: &Charm, seen: &Observation) -> Probes {
    let Some(credentials) = &charm.credentials else {
        return Probes::default();
    };
    let members = seen.members();
    let asked = members.iter().filter_map(|unit| {
        let host = seen.host_of(unit)?;
        Some(async move {
            // A unit that has not answered the first look would only cost its deadline again.
            let no_quorum = async {
                seen.monitor(unit)?;
                match sentinel_client(host, credentials).await {
                    Ok(client) => match client.ckquorum().await {
                        Ok(answer) => answer.err(),
                        Err(error) => Some(error.to_string()),
                    },
                    Err(error) => Some(format!("{error:#}")),
                }
            };
            let rights_missing = async {
                if seen
                    .server(unit)
                    .is_none_or(|server| server.loading.is_some())
                {
                    return Vec::new();
                }
                match server_client(host, credentials).await {
                    Ok(client) => client
                        .sentinel_rights_missing()
                        .await
                        .unwrap_or_else(|error| vec![error.to_string()]),
                    Err(error) => vec![format!("{error:#}")],
                }
            };
            let (no_quorum, rights_missing) = tokio::join!(no_quorum, rights_missing);
            let probe = Probe {
                no_quorum,
                rights_missing,
            };
            (unit.clone(), probe)
        })
    });
    join_all(asked).await.into_iter().collect()
}

/// Collects findings.
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, text: impl Into<String>) {
        let text = text.into();
        if self.0.iter().all(|finding| finding.text != text) {
            self.0.push(Finding {
                verdict,
                text,
                cured_by_switchover: false,
            });
        }
    }
}

/// Judges a look.
#[must_use]
pub fn assess(seen: &Observation, probes: &Probes) -> Verification {
    let mut found = Findings(Vec::new());
    let members = seen.members();
    this_unit(seen, &mut found);
    if members.is_empty() {
        found.add(Verdict::Fail, "no unit is a member yet");
    } else {
        if seen.serving().is_empty() {
            found.add(Verdict::Fail, "no unit accepts writes");
        }
        for text in invariants::grave(seen) {
            found.add(Verdict::Fail, text);
        }
        primary(seen, &mut found);
        failover(seen, probes, &mut found);
        for text in invariants::violations(seen) {
            found.add(Verdict::Degraded, text);
        }
        match members.len() {
            1 => found.add(
                Verdict::Degraded,
                "one unit: there is no copy of the data and no failover",
            ),
            2 => found.add(
                Verdict::Degraded,
                "two units: there is no automatic failover; add a third",
            ),
            _ => {}
        }
    }
    membership(seen, &mut found);
    for problem in &seen.malformed {
        found.add(
            Verdict::Degraded,
            format!("cannot read the peer data: {problem}"),
        );
    }
    let mut findings = found.0;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    Verification {
        verdict: findings
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap_or(Verdict::Ok),
        primary: seen.primary(),
        margin: Margin::of(seen),
        findings,
    }
}

/// What keeps this unit from looking or working.
fn this_unit(seen: &Observation, found: &mut Findings) {
    match &seen.users {
        Users::Ready => {}
        Users::Missing => found.add(
            Verdict::Fail,
            "cannot look at servers and Sentinels: the leader has not made the passwords yet",
        ),
        Users::Unreadable(why) => found.add(
            Verdict::Fail,
            format!("cannot look at servers and Sentinels: the passwords cannot be read: {why}"),
        ),
    }
    if let Storage::Problem(problem) = &seen.storage {
        found.add(
            Verdict::Degraded,
            format!("{} cannot use its storage: {problem}", seen.me),
        );
    }
    for problem in &seen.settings.problems {
        found.add(Verdict::Degraded, problem.clone());
    }
}

/// Whether the primary takes writes and can keep them.
fn primary(seen: &Observation, found: &mut Findings) {
    for unit in seen.members() {
        let Some(server) = seen.server(&unit) else {
            continue;
        };
        let is_primary = seen.serving().contains(&unit);
        if let Some(trouble) = &server.disk_trouble {
            found.0.push(Finding {
                verdict: if is_primary {
                    Verdict::Fail
                } else {
                    Verdict::Degraded
                },
                text: format!("{unit} cannot write its data to disk: {trouble}"),
                cured_by_switchover: is_primary,
            });
        }
        if !is_primary {
            continue;
        }
        let lag_max = max_lag_seconds(Duration::from_millis(seen.settings.down_after_ms));
        let good = server
            .replicas
            .iter()
            .filter(|replica| replica.online && replica.lag_s <= lag_max)
            .count();
        let needed = server.min_replicas.unwrap_or(0);
        if u64::try_from(good).unwrap_or(u64::MAX) < needed {
            found.add(
                Verdict::Fail,
                format!("{unit} refuses writes: {good} of the {needed} needed replicas are in touch with it"),
            );
        }
    }
}

/// Whether the Sentinels could replace the primary.
fn failover(seen: &Observation, probes: &Probes, found: &mut Findings) {
    let members = seen.members();
    let rights = |unit: &UnitName| {
        probes
            .get(unit)
            .is_none_or(|probe| probe.rights_missing.is_empty())
    };
    if let Some(primary) = seen.primary().filter(|_| members.len() > 2) {
        let possible = members
            .iter()
            .any(|unit| seen.can_take_over(unit, &primary).is_ok() && rights(unit));
        if !possible {
            let why = seen
                .takeover_target(&primary)
                .err()
                .unwrap_or_else(|| "Sentinel's user lacks rights".to_owned());
            found.add(
                Verdict::Fail,
                format!("no replica could become the primary: {why}"),
            );
        }
    }
    let without: Vec<(&UnitName, &String)> = probes
        .iter()
        .filter_map(|(unit, probe)| Some((unit, probe.no_quorum.as_ref()?)))
        .collect();
    let able = members
        .iter()
        .filter(|unit| {
            probes
                .get(*unit)
                .is_some_and(|probe| probe.no_quorum.is_none())
        })
        .filter(|unit| seen.monitor(unit).is_some())
        .count();
    // With one or two units a failover is not promised, and that is said elsewhere.
    let fatal = able < majority(members.len()) && members.len() > 2;
    for (unit, why) in without {
        let verdict = if fatal {
            Verdict::Fail
        } else {
            Verdict::Degraded
        };
        found.add(
            verdict,
            format!("Sentinel of {unit} could not replace the primary: {why}"),
        );
    }
    for (unit, probe) in probes {
        if !probe.rights_missing.is_empty() {
            found.add(
                Verdict::Degraded,
                format!(
                    "Sentinel's user lacks rights on {unit}: {}",
                    probe.rights_missing.join("; ")
                ),
            );
        }
    }
}

/// Whether as many units belong to the set as there are.
fn membership(seen: &Observation, found: &mut Findings) {
    for (unit, known) in &seen.units {
        let what = match (known.data.state, known.dying) {
            (UnitState::Left, _) | (UnitState::Member, false) | (UnitState::New, true) => continue,
            (UnitState::Member, true) => "is leaving",
            (UnitState::New, false) => "has not joined yet",
            (UnitState::Detached, _) => "runs nothing: its storage was detached",
        };
        found.add(Verdict::Degraded, format!("{unit} {what}"));
    }
}

/// Says what was found.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub fn answer(verification: &Verification) -> anyhow::Result<Answer> {
    let Verification {
        verdict,
        primary,
        margin,
        findings,
    } = verification;
    let mut text = format!("{verdict}\n");
    text.push_str(&table::list(
        "What is wrong, the worst first:",
        &findings
            .iter()
            .map(|finding| format!("{}: {}", finding.verdict, finding.text))
            .collect::<Vec<_>>(),
    ));
    text.push('\n');
    text.push_str(&table::pairs(&[
        (
            "Primary",
            primary
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string),
        ),
        ("Margin", margin.text()),
    ]));
    let answer = Answer::new(text, verification)?;
    let Some(worst) = findings
        .first()
        .filter(|finding| finding.verdict == Verdict::Fail)
    else {
        return Ok(answer);
    };
    let more = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail)
        .count()
        - 1;
    let more = if more == 0 {
        String::new()
    } else {
        format!(" (and {more} more)")
    };
    Ok(answer.failed(format!("FAIL: {}{more}", worst.text)))
}

#[cfg(test)]
mod tests {
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
}
