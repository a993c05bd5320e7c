//! Action `switchover`: hands the primary's role to another unit, or says why not.

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    charm::Charm,
    executor, history,
    juju::hook_tools::LogLevel,
    limits::{
        POLL_MAX, POLL_MIN, SWITCHOVER_READY_LIMIT, SWITCHOVER_SETTLE_LIMIT, TARGET_SILENCE_MAX_S,
    },
    observer,
    planner::{
        Intent, Observation, Plan, Step, UnitName, invariants, observation::Lease,
        peer_data::TurnKind, view::Naming,
    },
    valkey::handover::HandoverError,
};

use super::{
    answer::{Answer, with_unit_names},
    probe::{Probes, probe},
    table,
    verify::{Verdict, assess},
};

/// Who hands over to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The present primary.
    pub from: UnitName,
    /// The next one.
    pub to: UnitName,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome {
    /// Whether the role changed hands.
    done: bool,
    /// The primary before.
    from: Option<UnitName>,
    /// The primary now.
    to: Option<UnitName>,
    /// The way in which the role changed hands.
    path: Option<String>,
    /// For how long writes were held back, in milliseconds.
    pause_ms: Option<u64>,
    /// Last offset of the old primary, in bytes.
    old_offset: Option<u64>,
    /// Offset at which the new primary went on, in bytes.
    new_offset: Option<u64>,
    /// Epoch of the new configuration.
    epoch: Option<u64>,
    /// What the Sentinels say afterwards.
    sentinels: Option<String>,
    /// Why it was refused or given up, or what is not complete.
    reasons: Vec<String>,
}

impl Outcome {
    const fn refused(reasons: Vec<String>) -> Self {
        Self {
            done: false,
            from: None,
            to: None,
            path: None,
            pause_ms: None,
            old_offset: None,
            new_offset: None,
            epoch: None,
            sentinels: None,
            reasons,
        }
    }
}

/// Returns who changes the set of members or restarts now, so that the roles have to stay.
#[must_use]
pub fn busy(seen: &Observation) -> Option<String> {
    if seen.failing_over() {
        return Some("a failover is under way; try again when it has ended".to_owned());
    }
    if let Some(holder) = seen.turn_holder() {
        let wants = seen.units.get(holder).and_then(|unit| unit.data.turn.wants);
        let what = match wants {
            Some(TurnKind::Restart) => "is restarting",
            Some(TurnKind::Start) | None => "is starting",
        };
        return Some(format!("{holder} {what}; try again when it is done"));
    }
    match &seen.lease {
        Lease::Other(holder) => Some(format!(
            "{holder} changes the membership; try again when it is done"
        )),
        Lease::Mine => Some(format!(
            "{} changes the membership; try again when it is done",
            seen.me
        )),
        Lease::Free | Lease::Unknown => None,
    }
}

/// Decides who hands over to whom, or why nobody does now.
///
/// # Errors
///
/// Every reason against it, in words for a person.
pub fn choose(
    seen: &Observation,
    probes: &Probes,
    target: Option<&UnitName>,
) -> Result<Choice, Vec<String>> {
    if let Some(target) = target
        && !seen.units.contains_key(target)
    {
        return Err(vec![format!("{target} is not a unit of this application")]);
    }
    let fatal = || -> Vec<String> {
        assess(seen, probes)
            .findings
            .into_iter()
            .filter(|finding| finding.verdict == Verdict::Fail && !finding.cured_by_switchover)
            .map(|finding| finding.text)
            .collect()
    };
    let Some(from) = seen.primary() else {
        let mut reasons = fatal();
        if reasons.is_empty() {
            reasons.push("there is no primary".to_owned());
        }
        return Err(reasons);
    };
    if target == Some(&from) {
        return Err(vec![format!("{from} is the primary already")]);
    }
    let mut reasons: Vec<String> = busy(seen).into_iter().collect();
    let to = match target {
        Some(target) => fit(seen, target, &from)
            .map(|_| target.clone())
            .map_err(|why| format!("{target} {why}")),
        None => furthest(seen, &from),
    };
    let to = match to {
        Ok(to) => Some(to),
        Err(why) => {
            reasons.push(why);
            None
        }
    };
    // Without a target the verdict says the same in other words.
    if to.is_some() {
        reasons.extend(fatal());
    }
    match to {
        Some(to) if reasons.is_empty() => Ok(Choice { from, to }),
        _ => Err(reasons),
    }
}

/// Returns how far `unit` has come if it can take over at once.
fn fit(seen: &Observation, unit: &UnitName, from: &UnitName) -> Result<u64, String> {
    let offset = seen.can_take_over(unit, from)?;
    let attached = seen.server(from).and_then(|server| {
        server
            .replicas
            .iter()
            .find(|replica| Some(replica.host.as_str()) == seen.host_of(unit))
    });
    match attached {
        None => Err("is not known to the primary as its replica".to_owned()),
        Some(replica) if !replica.online => Err("is still being copied to".to_owned()),
        Some(replica) if replica.lag_s > TARGET_SILENCE_MAX_S => Err(format!(
            "lags behind: it has acknowledged nothing for {} s",
            replica.lag_s
        )),
        Some(_) => Ok(offset),
    }
}

fn furthest(seen: &Observation, from: &UnitName) -> Result<UnitName, String> {
    let mut obstacles = Vec::new();
    let mut best: Option<(u64, UnitName)> = None;
    for unit in seen.members().into_iter().filter(|unit| unit != from) {
        match fit(seen, &unit, from) {
            Ok(offset) if best.as_ref().is_none_or(|(most, _)| offset > *most) => {
                best = Some((offset, unit));
            }
            Ok(_) => {}
            Err(why) => obstacles.push(format!("{unit} {why}")),
        }
    }
    best.map(|(_, unit)| unit).ok_or_else(|| {
        if obstacles.is_empty() {
            "no other unit is a member".to_owned()
        } else {
            obstacles.join(", ")
        }
    })
}

/// Hands over.
///
/// # Errors
///
/// When a hook tool fails. What speaks against the hand-over is an answer and no error.
pub async fn run(charm: &mut Charm, target: Option<&UnitName>) -> anyhow::Result<Answer> {
    let (seen, choice) = match chosen(charm, target).await {
        (seen, Ok(choice)) => (seen, choice),
        (_, Err(reasons)) => return refusal(reasons),
    };
    let step = Step::HandOver {
        from: choice.from.clone(),
        to: choice.to.clone(),
        leaving: false,
    };
    let plan = Plan::Act {
        steps: vec![step.clone()],
        why: "a person asked for it".to_owned(),
    };
    if let Err(breach) = invariants::permit(&seen, &plan) {
        return refusal(vec![breach]);
    }
    charm
        .tools
        .juju_log(LogLevel::Info, &format!("Action switchover: {step}"))
        .await?;
    let mut reasons = Vec::new();
    if let Err(error) = executor::execute(charm, &seen, &step).await {
        let why = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<HandoverError>())
            .map_or_else(|| format!("{error:#}"), ToString::to_string);
        reasons.push(with_unit_names(&seen, &why));
    }
    let after = settle(charm, &choice.to).await;
    let done = after.serving().contains(&choice.to);
    executor::flush(charm).await?;
    if !done {
        return refusal(reasons);
    }
    let naming = match after.naming() {
        Naming::Agreed { host, votes } => format!(
            "{votes} of {} name {}",
            after.members().len(),
            after.show_host(&host)
        ),
        Naming::Split | Naming::Bare | Naming::TooFew { .. } => "they do not agree yet".to_owned(),
    };
    if !told(&after, &choice.to) {
        reasons.push(format!(
            "not every Sentinel that answers names {} yet; they tell each other, see show-topology",
            choice.to
        ));
    }
    let entry = charm
        .juju
        .mine
        .last_change
        .as_deref()
        .and_then(history::Entry::read)
        .filter(|entry| entry.to == choice.to.as_str());
    let outcome = Outcome {
        done: true,
        from: Some(choice.from),
        to: Some(choice.to),
        path: entry.as_ref().map(|entry| entry.path.clone()),
        pause_ms: entry.as_ref().and_then(|entry| entry.pause_ms),
        old_offset: entry.as_ref().and_then(|entry| entry.old_offset),
        new_offset: entry.as_ref().and_then(|entry| entry.new_offset),
        epoch: entry.as_ref().map(|entry| entry.epoch),
        sentinels: Some(naming),
        reasons,
    };
    let line = serde_json::to_string(&outcome).context("cannot write the outcome")?;
    charm
        .tools
        .juju_log(
            LogLevel::Info,
            &format!("Action switchover: role handed over {line}"),
        )
        .await?;
    Answer::new(show(&outcome), &outcome)
}

/// Chooses, and waits a moment for a replica that only the primary has not heard of yet.
async fn chosen(
    charm: &Charm,
    target: Option<&UnitName>,
) -> (Observation, Result<Choice, Vec<String>>) {
    let end = Instant::now() + SWITCHOVER_READY_LIMIT;
    loop {
        let seen = observer::look(charm, Intent::Look).await;
        let probes = probe(charm, &seen).await;
        let choice = choose(&seen, &probes, target);
        let waits = choice.is_err() && comes_at_once(&seen, target);
        if !waits || Instant::now() + POLL_MAX >= end {
            return (seen, choice);
        }
        tokio::time::sleep(POLL_MAX).await;
    }
}

/// Returns whether a replica that could take over has said that it is in sync, and the primary does not know it yet.
///
/// A replica acknowledges once a second; so it is in the first second after a hand-over.
fn comes_at_once(seen: &Observation, target: Option<&UnitName>) -> bool {
    let Some(from) = seen.primary() else {
        return false;
    };
    let members = seen.members();
    let mut units = members.iter().filter(|unit| match target {
        Some(target) => *unit == target,
        None => **unit != from,
    });
    units.any(|unit| seen.can_take_over(unit, &from).is_ok() && fit(seen, unit, &from).is_err())
}

fn refusal(mut reasons: Vec<String>) -> anyhow::Result<Answer> {
    if reasons.is_empty() {
        reasons.push("the target did not become the primary".to_owned());
    }
    let text = reasons.join("; ");
    let why = if text.starts_with("cannot hand over") {
        text
    } else {
        format!("cannot hand over: {text}")
    };
    Ok(Answer::new(String::new(), &Outcome::refused(reasons))?.failed(why))
}

/// Returns whether every Sentinel that answers names `unit`.
fn told(seen: &Observation, unit: &UnitName) -> bool {
    seen.primary().as_ref() == Some(unit)
        && seen
            .host_of(unit)
            .is_some_and(|host| seen.votes_for(host) == seen.voices())
}

/// Looks again until all Sentinels that answer name the new primary, or it has taken too long.
async fn settle(charm: &Charm, to: &UnitName) -> Observation {
    let end = Instant::now() + SWITCHOVER_SETTLE_LIMIT;
    let mut pause = POLL_MIN;
    loop {
        let seen = observer::look(charm, Intent::Look).await;
        // A role that never changed hands does not do so later either.
        let unchanged = !seen.serving().is_empty() && !seen.serving().contains(to);
        if told(&seen, to) || unchanged || Instant::now() + pause >= end {
            return seen;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

fn show(outcome: &Outcome) -> String {
    let number = |value: Option<u64>, unit: &str| {
        value.map_or_else(String::new, |value| format!("{value}{unit}"))
    };
    let unit =
        |unit: &Option<UnitName>| unit.as_ref().map_or_else(String::new, ToString::to_string);
    let mut text = table::pairs(&[
        ("From", unit(&outcome.from)),
        ("To", unit(&outcome.to)),
        ("Path", outcome.path.clone().unwrap_or_default()),
        ("Writes held back", number(outcome.pause_ms, " ms")),
        ("Old primary ended at", number(outcome.old_offset, "")),
        ("New primary went on at", number(outcome.new_offset, "")),
        ("Epoch", number(outcome.epoch, "")),
        ("Sentinels", outcome.sentinels.clone().unwrap_or_default()),
    ]);
    text.push_str(&table::list("What is not complete:", &outcome.reasons));
    text
}

#[cfg(test)]
mod tests;
