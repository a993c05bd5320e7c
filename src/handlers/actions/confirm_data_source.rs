//! Action `confirm-data-source`: a person decides whose data counts after an outage.
//!
//! The one order that may give up data on purpose, so it is refused while anything else could help
//! by itself, and it is logged.

use serde::Serialize;

use crate::{
    charm::Charm,
    executor,
    juju::hook_tools::LogLevel,
    observer,
    planner::{
        Intent, Observation, Step, UnitName,
        observation::Role,
        peer_data::{Founding, FoundingReason},
        view::Naming,
    },
};

use super::answer::{Answer, with_unit_names};

/// What is to be done about the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A majority of Sentinels is there: the unit is promoted now.
    Promote(UnitName),
    /// The decision is written down, and the unit carries it out.
    Write(Founding),
    /// It was written down before.
    Written(Founding),
}

/// What became of the decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome<'a> {
    /// Unit whose data counts.
    unit: &'a UnitName,
    /// `promoted`, `decided` or `refused`.
    result: &'static str,
    /// What happens next, or why it was refused.
    text: String,
}

/// Decides what the order of a person leads to.
///
/// # Errors
///
/// Why it is refused, in words for a person.
pub fn decide(seen: &Observation, unit: &UnitName) -> Result<Order, String> {
    if !seen.leader {
        let application = seen
            .me
            .as_str()
            .split_once('/')
            .map_or("valkey", |(application, _)| application);
        return Err(format!(
            "only the leader can write the decision: juju run {application}/leader confirm-data-source unit={unit}"
        ));
    }
    let Some(known) = seen.units.get(unit) else {
        return Err(format!("{unit} is not a unit of this application"));
    };
    if known.dying {
        return Err(format!("{unit} is being removed"));
    }
    if let Some(serving) = seen.serving().first() {
        return Err(format!(
            "{serving} serves, so nothing waits for this decision"
        ));
    }
    if seen.failing_over() {
        return Err("the Sentinels work on a failover; look again when it has ended".to_owned());
    }
    let Some(current) = &seen.app_wanted.founding else {
        return Err(
            "the application has no data yet, so nothing waits for this decision".to_owned(),
        );
    };
    let holds = |name: &UnitName| {
        seen.server(name).is_some_and(|server| server.keys > 0)
            || seen
                .units
                .get(name)
                .is_some_and(|known| known.data.position.is_some())
    };
    // A copy that is gone with its unit: a person may let the deployment begin anew.
    let anew = seen.gone_with_data(current).is_some() && !seen.units.keys().any(holds);
    if !holds(unit) && !anew {
        return Err(match seen.units.keys().find(|other| holds(other)) {
            Some(other) => format!("{unit} holds no data that it told of; {other} does"),
            None => {
                "the application has no data yet, so nothing waits for this decision".to_owned()
            }
        });
    }
    if let Some(server) = seen.server(unit) {
        if let Some(progress) = server.loading {
            return Err(format!(
                "{unit} is loading its data ({progress}); decide when it has ended"
            ));
        }
        if matches!(
            server.role,
            Role::Replica {
                syncing: Some(_),
                ..
            }
        ) {
            return Err(format!(
                "{unit} is being copied to, so its data is not complete"
            ));
        }
        if matches!(seen.naming(), Naming::Agreed { .. }) {
            return Ok(Order::Promote(unit.clone()));
        }
    }
    if current.reason == FoundingReason::Override && !current.done && current.unit == *unit {
        return Ok(Order::Written(current.clone()));
    }
    Ok(Order::Write(Founding {
        unit: unit.clone(),
        generation: current.generation.saturating_add(1),
        reason: FoundingReason::Override,
        done: false,
    }))
}

/// Carries the order out.
///
/// # Errors
///
/// When a hook tool fails.
pub async fn run(charm: &mut Charm, unit: &UnitName) -> anyhow::Result<Answer> {
    let seen = observer::look(charm, Intent::Look).await;
    let order = match decide(&seen, unit) {
        Ok(order) => order,
        Err(why) => return refusal(unit, why),
    };
    let line = format!(
        "Action confirm-data-source: a person decided that the data of {unit} counts; what only missing units hold is given up"
    );
    charm.tools.juju_log(LogLevel::Warning, &line).await?;
    let (result, text) = match order {
        Order::Promote(to) => {
            let step = Step::Promote { to };
            if let Err(error) = executor::execute(charm, &seen, &step).await {
                return refusal(unit, with_unit_names(&seen, &format!("{error:#}")));
            }
            ("promoted", format!("{unit} is the primary now"))
        }
        Order::Write(founding) => {
            executor::execute(charm, &seen, &Step::NameFounder(founding)).await?;
            ("decided", next(&seen, unit))
        }
        Order::Written(_) => ("decided", next(&seen, unit)),
    };
    executor::flush(charm).await?;
    let document = Outcome {
        unit,
        result,
        text: text.clone(),
    };
    Answer::new(format!("{text}\n"), &document)
}

/// Says what happens next, and what a person may have to do for it.
fn next(seen: &Observation, unit: &UnitName) -> String {
    let there = seen.server(unit).is_some() || seen.sentinel(unit).is_some();
    let mut text = if there {
        format!("decided: {unit} becomes the primary within some seconds")
    } else {
        format!("decided: {unit} becomes the primary as soon as it is back; it does not answer now")
    };
    let members = seen.members();
    let fence = crate::planner::numbers::min_replicas_to_write(members.len());
    if fence > 0 {
        use std::fmt::Write as _;
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "; it takes writes when {fence} of the other {} units are in sync with it: remove those that will not come back with `juju remove-unit --force`",
            members.len().saturating_sub(1)
        );
    }
    text
}

fn refusal(unit: &UnitName, why: String) -> anyhow::Result<Answer> {
    let failure = format!("cannot go on with the data of {unit}: {why}");
    let document = Outcome {
        unit,
        result: "refused",
        text: why,
    };
    Ok(Answer::new(String::new(), &document)?.failed(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    #[test]
    fn the_order_is_taken_only_when_something_waits_for_it() {
        for (case, unit, expected) in [
            (
                "me=0 0:P 1:R 2:R",
                "valkey/1",
                "no: only the leader can write the decision: juju run valkey/leader confirm-data-source unit=valkey/1",
            ),
            (
                "me=0 leader 0:P 1:R 2:R",
                "valkey/9",
                "no: valkey/9 is not a unit of this application",
            ),
            (
                "me=0 leader 0:P 1:R 2:R",
                "valkey/1",
                "no: valkey/0 serves, so nothing waits for this decision",
            ),
            (
                "me=2 leader 0:X 1:X 2:Rs names=0",
                "valkey/2",
                "write: valkey/2 generation 2",
            ),
            (
                "me=2 leader 0:X 1:Xd 2:Rs names=0",
                "valkey/1",
                "no: valkey/1 is being removed",
            ),
            (
                "me=2 leader 0:X 1:R 2:R names=0",
                "valkey/1",
                "promote valkey/1",
            ),
            // Too few Sentinels for a promotion: the unit itself carries the decision out.
            (
                "me=2 leader 0:X 1:X 2:R names=0",
                "valkey/2",
                "write: valkey/2 generation 2",
            ),
            (
                "me=2 leader 0:X 1:N 2:Rs names=0",
                "valkey/1",
                "no: valkey/1 holds no data that it told of; valkey/0 does",
            ),
            (
                "me=1 leader chosen=0 1:N 2:N",
                "valkey/2",
                "write: valkey/2 generation 2",
            ),
            (
                "me=1 leader chosen=0 1:N 2:Rs",
                "valkey/1",
                "no: valkey/1 holds no data that it told of; valkey/2 does",
            ),
            (
                "me=0 leader founding=0 0:N 1:N",
                "valkey/0",
                "no: the application has no data yet, so nothing waits for this decision",
            ),
        ] {
            let text = match decide(&seen(case), &UnitName::new(unit)) {
                Ok(Order::Promote(unit)) => format!("promote {unit}"),
                Ok(Order::Write(founding)) => {
                    format!(
                        "write: {} generation {}",
                        founding.unit, founding.generation
                    )
                }
                Ok(Order::Written(_)) => "written".to_owned(),
                Err(why) => format!("no: {why}"),
            };
            assert_eq!(text, expected, "{case} {unit}");
        }
    }
}
