//! Action `verify`: is everything as it should be, and if not, what is the worst of it?

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    limits::FENCE_HELD,
    planner::{
        Observation, UnitName, invariants,
        numbers::majority,
        observation::{Storage, Users},
        peer_data::UnitState,
    },
    valkey::configuration::max_lag_seconds,
};

use super::super::services;
use super::{answer::Answer, margin::Margin, probe::Probes, table};

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

impl Verification {
    /// Adds what is to be said of labels and Services on Kubernetes.
    #[must_use]
    pub fn with_services(mut self, found: services::Findings) -> Self {
        let wrong = found.wrong.into_iter().map(|it| (Verdict::Degraded, it));
        let advice = found.advice.into_iter().map(|it| (Verdict::Ok, it));
        for (verdict, text) in wrong.chain(advice) {
            self.findings.push(Finding {
                verdict,
                text,
                cured_by_switchover: false,
            });
            self.verdict = self.verdict.max(verdict);
        }
        self.findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        self
    }
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
        if needed == FENCE_HELD {
            found.add(
                Verdict::Fail,
                format!("{unit} refuses writes until the Sentinels confirm it"),
            );
        } else if u64::try_from(good).unwrap_or(u64::MAX) < needed {
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
mod tests;
