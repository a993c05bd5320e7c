//! Action `pre-check`: would an operation on this unit be safe now, by what the charm itself would do?

use serde::Serialize;

use crate::planner::{
    self, Intent, Observation, Plan, Step, UnitName, invariants,
    numbers::{majority, min_replicas_to_write},
    observation::{Lease, Role},
    peer_data::UnitState,
};

use super::{
    answer::Answer,
    probe::Probes,
    switchover::{busy, choose},
    table,
};

/// What may be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// The primary's role goes to another unit.
    Switchover,
    /// This unit is removed.
    Remove,
    /// This unit's server restarts.
    Restart,
}

impl Operation {
    /// Reads the parameter.
    ///
    /// # Errors
    ///
    /// When it names no operation.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            None | Some("switchover") => Ok(Self::Switchover),
            Some("remove") => Ok(Self::Remove),
            Some("restart") => Ok(Self::Restart),
            Some(_) => {
                Err("parameter `operation` must be `switchover`, `remove` or `restart`".to_owned())
            }
        }
    }
}

/// Whether it would be safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Safety {
    /// The operation.
    pub operation: Operation,
    /// The unit that it is about.
    pub unit: UnitName,
    /// Whether it is safe now.
    pub safe: bool,
    /// What would be done.
    pub would: Option<String>,
    /// Why it is not safe now.
    pub reasons: Vec<String>,
    /// What to know before doing it all the same.
    pub notes: Vec<String>,
}

/// What was found out about an operation.
#[derive(Default)]
struct Case {
    would: Option<String>,
    reasons: Vec<String>,
    notes: Vec<String>,
}

/// Judges an operation.
#[must_use]
pub fn judge(seen: &Observation, probes: &Probes, operation: Operation) -> Safety {
    let case = match operation {
        Operation::Switchover => switchover(seen, probes),
        Operation::Remove => remove(seen, probes),
        Operation::Restart => restart(seen, probes),
    };
    Safety {
        operation,
        unit: seen.me.clone(),
        safe: case.reasons.is_empty(),
        would: case.would,
        reasons: case.reasons,
        notes: case.notes,
    }
}

fn is_primary(seen: &Observation) -> bool {
    seen.server(&seen.me)
        .is_some_and(|server| server.role == Role::Primary)
}

fn switchover(seen: &Observation, probes: &Probes) -> Case {
    let mut case = Case::default();
    match choose(seen, probes, None) {
        Ok(choice) => case.would = Some(format!("hand over from {} to {}", choice.from, choice.to)),
        Err(reasons) => case.reasons = reasons,
    }
    if let Some(primary) = seen.primary().filter(|primary| *primary != seen.me) {
        case.notes.push(format!(
            "{} is no primary; the role would go away from {primary}",
            seen.me
        ));
    }
    case
}

fn remove(seen: &Observation, probes: &Probes) -> Case {
    let mut case = Case::default();
    if seen.mine().data.state != UnitState::Member {
        case.would = Some("stop this unit, which is no member".to_owned());
        return case;
    }
    let staying: Vec<UnitName> = seen
        .other_members()
        .into_iter()
        .filter(|unit| seen.units.get(unit).is_some_and(|known| !known.dying))
        .collect();
    if staying.is_empty() {
        case.reasons.push(
            "no other member stays: the application would end, and its data would exist in this unit's storage only".to_owned(),
        );
        return case;
    }
    case.reasons.extend(busy(seen));
    // What the unit would do in earnest, once it had the lease.
    let mut leaving = seen.clone();
    leaving.intent = Intent::Leave;
    if let Some(unit) = leaving.units.get_mut(&leaving.me) {
        unit.dying = true;
    }
    if leaving.lease == Lease::Free {
        leaving.lease = Lease::Mine;
    }
    let plan = planner::plan(&leaving);
    if let Err(breach) = invariants::permit(&leaving, &plan) {
        case.reasons.push(breach);
    }
    match &plan {
        Plan::Act { steps, .. } => {
            let target = steps.iter().find_map(|step| match step {
                Step::HandOver { to, .. } => Some(to),
                _ => None,
            });
            case.would = Some(target.map_or_else(
                || "leave the vote and stop".to_owned(),
                |to| format!("hand over to {to}, leave the vote and stop"),
            ));
            if target.is_some()
                && let Err(reasons) = choose(seen, probes, None)
            {
                case.reasons.extend(reasons);
            }
        }
        Plan::Settled => case.would = Some("do nothing: it has left already".to_owned()),
        Plan::ActAndPoll { reason, .. }
        | Plan::ActAndWait { reason, .. }
        | Plan::Poll(reason)
        | Plan::Wait(reason)
        | Plan::Refuse(reason) => case.reasons.push(reason.to_string()),
    }
    afterwards(seen, &staying, &mut case);
    case.reasons.dedup();
    case
}

/// What the set could still do when this unit has left.
fn afterwards(seen: &Observation, staying: &[UnitName], case: &mut Case) {
    let count = staying.len();
    let votes = staying
        .iter()
        .filter(|unit| seen.monitor(unit).is_some())
        .count();
    if votes < majority(count) {
        case.reasons.push(format!(
            "{votes} of the {count} Sentinels that stay answer, {} would be needed for a failover",
            majority(count)
        ));
    }
    let primary = seen.primary();
    let without: Vec<&str> = staying
        .iter()
        .filter(|unit| {
            primary.as_ref() != Some(*unit)
                && primary
                    .as_ref()
                    .is_none_or(|primary| seen.can_take_over(unit, primary).is_err())
        })
        .map(UnitName::as_str)
        .collect();
    let copies = count - without.len();
    // One of them is or becomes the primary; the others count for its fence.
    if copies < min_replicas_to_write(count) + 1 || (count > 1 && copies < 2) {
        case.reasons.push(format!(
            "{copies} of the {count} units that stay would have all data; first bring back {}",
            without.join(", ")
        ));
    }
    match count {
        1 => case
            .notes
            .push("one unit stays: no copy of the data and no failover".to_owned()),
        2 => case
            .notes
            .push("two units stay: no automatic failover".to_owned()),
        _ if count.is_multiple_of(2) => case.notes.push(format!(
            "{count} units stay, which bear no more losses than {}",
            count - 1
        )),
        _ => {}
    }
}

fn restart(seen: &Observation, probes: &Probes) -> Case {
    let mut case = Case {
        reasons: busy(seen).into_iter().collect(),
        ..Case::default()
    };
    if seen.mine().data.state != UnitState::Member {
        case.reasons.push(format!("{} has not joined", seen.me));
        return case;
    }
    if seen.members().len() == 1 {
        case.reasons.push(
            "this is the only unit: clients can neither read nor write until it is back".to_owned(),
        );
    }
    if let Some(reason) = planner::refresh::obstacle(seen) {
        case.reasons.push(reason.to_string());
    }
    if is_primary(seen) && seen.members().len() > 1 {
        match choose(seen, probes, None) {
            Ok(choice) => {
                case.would = Some(format!("hand over to {}, restart, follow it", choice.to));
            }
            Err(reasons) if case.reasons.is_empty() => case.reasons = reasons,
            Err(_) => {}
        }
    } else {
        case.would = Some("restart".to_owned());
    }
    case
}

/// Says whether it is safe.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub fn answer(safety: &Safety) -> anyhow::Result<Answer> {
    let what = match safety.operation {
        Operation::Switchover => "a switchover".to_owned(),
        Operation::Remove => format!("removing {}", safety.unit),
        Operation::Restart => format!("restarting the server of {}", safety.unit),
    };
    let mut text = if safety.safe {
        format!("SAFE: {what}\n")
    } else {
        format!("NOT SAFE now: {what}\n")
    };
    if safety.safe
        && let Some(would) = &safety.would
    {
        text.push_str(&table::list(
            "What would be done:",
            std::slice::from_ref(would),
        ));
    }
    text.push_str(&table::list("Why not:", &safety.reasons));
    text.push_str(&table::list("To know:", &safety.notes));
    Answer::new(text, safety)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    fn check(operation: Operation, cases: &[(&str, &str)]) {
        for (case, expected) in cases {
            let safety = judge(&seen(case), &Probes::default(), operation);
            let text = if safety.safe {
                format!("yes: {}", safety.would.unwrap_or_default())
            } else {
                format!("no: {}", safety.reasons.join("; "))
            };
            assert_eq!(text, *expected, "{operation:?} {case}");
        }
    }

    #[test]
    fn a_switchover_is_judged_as_it_would_be_done() {
        check(
            Operation::Switchover,
            &[
                (
                    "me=0 0:P 1:R 2:R",
                    "yes: hand over from valkey/0 to valkey/1",
                ),
                (
                    "me=2 0:P 1:R 2:R",
                    "yes: hand over from valkey/0 to valkey/1",
                ),
                ("me=0 0:P", "no: no other unit is a member"),
            ],
        );
    }

    #[test]
    fn a_removal_is_judged_by_what_it_does_and_leaves() {
        check(
            Operation::Remove,
            &[
                ("me=2 0:P 1:R 2:R", "yes: leave the vote and stop"),
                (
                    "me=0 0:P 1:R 2:R",
                    "yes: hand over to valkey/1, leave the vote and stop",
                ),
                (
                    "me=3 0:P 1:R 2:R 3:N",
                    "yes: stop this unit, which is no member",
                ),
                (
                    "me=0 0:P",
                    "no: no other member stays: the application would end, and its data would exist in this unit's storage only",
                ),
                (
                    "me=1 0:P 1:R 2:X",
                    "no: 1 of the 2 Sentinels that stay answer, 2 would be needed for a failover; 1 of the 2 units that stay would have all data; first bring back valkey/2",
                ),
                (
                    "me=1 0:P 1:R 2:R lease=valkey/2",
                    "no: valkey/2 changes the membership; try again when it is done; waiting for valkey/2, which changes the membership",
                ),
                ("me=1 0:P 1:R", "yes: leave the vote and stop"),
                ("me=4 0:P 1:R 2:R 3:R 4:R", "yes: leave the vote and stop"),
            ],
        );
        let two = judge(
            &seen("me=2 0:P 1:R 2:R"),
            &Probes::default(),
            Operation::Remove,
        );
        assert_eq!(two.notes, ["two units stay: no automatic failover"]);
    }

    #[test]
    fn a_restart_needs_the_others() {
        check(
            Operation::Restart,
            &[
                ("me=1 0:P 1:R 2:R", "yes: restart"),
                (
                    "me=0 0:P 1:R 2:R",
                    "yes: hand over to valkey/1, restart, follow it",
                ),
                ("me=1 0:P 1:R 2:X", "no: valkey/2 does not answer"),
                ("me=1 0:P 1:R 2:Ro", "no: valkey/2 is not in sync"),
                (
                    "me=0 0:P",
                    "no: this is the only unit: clients can neither read nor write until it is back",
                ),
                ("me=1 0:P 1:N", "no: valkey/1 has not joined"),
            ],
        );
    }
}
