//! Waiting for units, with a line of progress for every change.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::arguments::WaitFor;
use super::connect::Model;
use super::status::{fetch, unit_message};
use super::{Done, output};
use crate::limits::{BLOCKED_PATIENCE, SETTLED, WAIT_POLL};
use crate::report::{StatusReport, UnitReport};

/// What is waited for.
#[derive(Debug, Clone)]
pub enum Goal {
    /// These applications or units are active and idle; an empty list means every application.
    Ready(Vec<String>),
    /// These applications or units are gone.
    Gone(Vec<String>),
}

/// What one look at the status says about a goal.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Reached.
    Reached,
    /// Not yet, and why.
    NotYet(String),
    /// Nothing moves any more, and somebody must do something.
    Stuck(String),
}

/// Does what `wait-for` says.
///
/// # Errors
///
/// As [`wait`].
pub fn wait_for(model: &Model, given: &WaitFor) -> Done {
    // `juju wait-for` wants to be told the kind; it says nothing that the name does not.
    let kinds = ["application", "unit", "model"];
    let names = match given.names.split_first() {
        Some((first, rest)) if kinds.contains(&first.as_str()) && !rest.is_empty() => rest.to_vec(),
        _ => given.names.clone(),
    };
    wait(model, &Goal::Ready(names), given.timeout)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for the goal and prints progress to standard error.
///
/// # Errors
///
/// When the time is over, nothing moves any more, or the engine cannot be asked; the text says what is missing.
pub fn wait(model: &Model, goal: &Goal, longest: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut progress = Progress {
        begin,
        shown: BTreeMap::new(),
    };
    let (mut reached_since, mut stuck_since) = (None::<Instant>, None::<Instant>);
    loop {
        let report = fetch(model)?;
        progress.show(goal, &report);
        let missing = match look(goal, &report) {
            Look::Reached => {
                stuck_since = None;
                let settled = matches!(goal, Goal::Gone(_))
                    || reached_since.get_or_insert_with(Instant::now).elapsed() >= SETTLED;
                if settled {
                    return Ok(());
                }
                "it has not settled yet".to_owned()
            }
            Look::NotYet(missing) => {
                (reached_since, stuck_since) = (None, None);
                missing
            }
            Look::Stuck(missing) => {
                reached_since = None;
                if stuck_since.get_or_insert_with(Instant::now).elapsed() >= BLOCKED_PATIENCE {
                    bail!("cannot wait any longer: {missing}");
                }
                missing
            }
        };
        if begin.elapsed() >= longest {
            bail!("timed out after {} s: {missing}", longest.as_secs());
        }
        std::thread::sleep(WAIT_POLL);
    }
}

/// Tells whether `name` of a goal means the unit.
fn covers(names: &[String], application: &str, unit: &str) -> bool {
    names.is_empty() || names.iter().any(|name| name == application || name == unit)
}

/// Judges a status. Pure.
fn look(goal: &Goal, report: &StatusReport) -> Look {
    let units = || {
        let applications = report.applications.iter();
        applications.flat_map(|(name, application)| {
            application
                .units
                .iter()
                .map(move |(unit, report)| (name, unit, report))
        })
    };
    let names = match goal {
        Goal::Ready(names) => names,
        Goal::Gone(names) => {
            let there = |name: &&String| {
                report.applications.contains_key(*name) || units().any(|(_, unit, _)| unit == *name)
            };
            let Some(first) = names.iter().find(there) else {
                return Look::Reached;
            };
            let failed = units().find(|(application, unit, report)| {
                covers(names, application, unit) && report.workload_status.current == "error"
            });
            return Look::NotYet(match failed {
                Some((_, unit, report)) => {
                    format!("{unit} is in error: {}", report.workload_status.message)
                }
                None => format!("{first} is still there"),
            });
        }
    };
    for name in names {
        if !report.applications.contains_key(name) && !units().any(|(_, unit, _)| unit == name) {
            return Look::NotYet(format!("{name} is not there"));
        }
    }
    let wanted: Vec<_> = units()
        .filter(|(application, unit, _)| covers(names, application, unit))
        .collect();
    let Some((_, unit, lacking)) = wanted.iter().find(|(_, _, report)| !is_ready(report)) else {
        return Look::Reached;
    };
    // A person is asked for only when no unit is at anything.
    let resting = |report: &UnitReport| report.juju_status.current == "idle";
    let blocked = wanted
        .iter()
        .find(|(_, _, report)| report.workload_status.current == "blocked");
    match blocked {
        Some((_, unit, report)) if wanted.iter().all(|(_, _, report)| resting(report)) => {
            Look::Stuck(format!(
                "{unit} is blocked: {}",
                report.workload_status.message
            ))
        }
        _ => Look::NotYet(format!(
            "{unit} is {}/{} {}",
            lacking.workload_status.current,
            lacking.juju_status.current,
            unit_message(lacking)
        )),
    }
}

/// Tells whether a unit is done with starting. A charm that never sets a status stays `unknown`.
fn is_ready(unit: &UnitReport) -> bool {
    unit.juju_status.current == "idle"
        && matches!(unit.workload_status.current.as_str(), "active" | "unknown")
}

/// What was shown last, unit by unit.
struct Progress {
    begin: Instant,
    shown: BTreeMap<String, String>,
}

impl Progress {
    fn show(&mut self, goal: &Goal, report: &StatusReport) {
        let (Goal::Ready(names) | Goal::Gone(names)) = goal;
        let seconds = self.begin.elapsed().as_secs();
        let mut present = BTreeMap::new();
        for (application, applied) in &report.applications {
            for (name, unit) in applied
                .units
                .iter()
                .filter(|(name, _)| covers(names, application, name))
            {
                let (workload, agent) = (&unit.workload_status.current, &unit.juju_status.current);
                let line = format!("{workload}/{agent} {}", unit_message(unit));
                if self.shown.get(name) != Some(&line) {
                    output::note(format!("{seconds:>4} s  {name}  {line}").trim_end());
                }
                present.insert(name.clone(), line);
            }
        }
        for gone in self
            .shown
            .keys()
            .filter(|name| !present.contains_key(*name))
        {
            output::note(&format!("{seconds:>4} s  {gone}  is gone"));
        }
        self.shown = present;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ApplicationReport, StatusText};

    /// Builds a report from lines such as `a/0 active idle`.
    fn report(lines: &str) -> StatusReport {
        let mut report = StatusReport::default();
        for line in lines.split(", ").filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let text = |current: &str| StatusText {
                current: current.into(),
                message: "m".into(),
                ..StatusText::default()
            };
            let unit = UnitReport {
                workload_status: text(words[1]),
                juju_status: text(words[2]),
                ..UnitReport::default()
            };
            let application = words[0].split('/').next().unwrap();
            let application = report
                .applications
                .entry(application.into())
                .or_insert_with(ApplicationReport::default);
            application.units.insert(words[0].into(), unit);
        }
        report
    }

    #[test]
    fn a_look_says_what_is_missing() {
        for (goal, lines, expected) in [
            ("ready", "a/0 active idle, a/1 unknown idle", "Reached"),
            (
                "ready",
                "a/0 active executing",
                "NotYet(\"a/0 is active/executing m\")",
            ),
            (
                "ready",
                "a/0 blocked idle, a/1 active idle",
                "Stuck(\"a/0 is blocked: m\")",
            ),
            (
                "ready",
                "a/0 blocked idle, a/1 waiting executing",
                "NotYet(\"a/0 is blocked/idle m\")",
            ),
            ("ready a", "b/0 active idle", "NotYet(\"a is not there\")"),
            ("ready a/1", "a/0 waiting idle, a/1 active idle", "Reached"),
            (
                "gone a/1",
                "a/0 waiting idle, a/1 active idle",
                "NotYet(\"a/1 is still there\")",
            ),
            (
                "gone a/1",
                "a/1 error idle",
                "NotYet(\"a/1 is in error: m\")",
            ),
            ("gone a/1", "a/0 active idle", "Reached"),
            ("gone a", "a/0 active idle", "NotYet(\"a is still there\")"),
            ("gone a", "", "Reached"),
        ] {
            let mut words = goal.split(' ').map(str::to_owned);
            let kind = words.next().unwrap();
            let goal = if kind == "ready" {
                Goal::Ready(words.collect())
            } else {
                Goal::Gone(words.collect())
            };
            assert_eq!(
                format!("{:?}", look(&goal, &report(lines))),
                expected,
                "{kind}: {lines}"
            );
        }
    }
}
