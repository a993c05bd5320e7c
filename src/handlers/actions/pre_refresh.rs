//! Action `pre-refresh-check`: would a refresh be safe now, and in which order would the units restart?

use serde::Serialize;

use crate::planner::{
    Observation, UnitName,
    peer_data::TurnKind,
    refresh::{self, Standing},
};

use super::{
    answer::Answer,
    probe::Probes,
    switchover::busy,
    table,
    verify::{Verdict, assess},
};

/// Whether a refresh would be safe now, and how it would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Readiness {
    /// Whether it is safe now.
    pub safe: bool,
    /// Why not; for a person.
    pub reasons: Vec<String>,
    /// What to know before it.
    pub notes: Vec<String>,
    /// Whose server restarts, in this order, if the refresh changes something that it reads at start.
    pub order: Vec<UnitName>,
    /// Who becomes the primary before the present one restarts.
    pub hands_over_to: Option<UnitName>,
    /// What happens, step by step.
    pub steps: Vec<String>,
}

/// Judges whether a refresh is safe now.
#[must_use]
pub fn judge(seen: &Observation, probes: &Probes) -> Readiness {
    let mut reasons: Vec<String> = busy(seen).into_iter().collect();
    let members = seen.members();
    // Fewer than three are never wholly in order, and can be refreshed all the same.
    let few = members.len() < 3;
    let findings = assess(seen, probes).findings;
    reasons.extend(
        findings
            .into_iter()
            .filter(|finding| finding.verdict == Verdict::Fail || !few)
            .map(|finding| finding.text),
    );
    if few {
        reasons.extend(refresh::obstacle(seen).map(|reason| reason.to_string()));
    }
    reasons.extend(refresh::downgrade(seen).map(|reason| reason.to_string()));
    let primary = seen.primary();
    let mut order = members.clone();
    order.retain(|unit| Some(unit) != primary.as_ref());
    order.extend(primary.clone());
    let mut hands_over_to = None;
    match (&primary, members.len()) {
        (_, 0) => reasons.push("no unit has joined yet".to_owned()),
        (Some(_), 1) => reasons.push(
            "this is the only unit: if its server restarts, clients can neither read nor write meanwhile"
                .to_owned(),
        ),
        (Some(primary), _) => match seen.takeover_target(primary) {
            Ok(to) => hands_over_to = Some(to),
            Err(why) => reasons.push(format!("nobody can take over from {primary}: {why}")),
        },
        (None, _) => {}
    }
    reasons.dedup();
    Readiness {
        safe: reasons.is_empty(),
        reasons,
        notes: notes(seen, &members),
        steps: steps(&order, primary.as_ref(), hands_over_to.as_ref()),
        order,
        hands_over_to,
    }
}

/// What a person should know before.
fn notes(seen: &Observation, members: &[UnitName]) -> Vec<String> {
    let mut notes = Vec::new();
    if members.len() == 2 {
        notes.push("two units: while one restarts, the other is the only copy, and nobody could take over from it".to_owned());
    }
    let versions: Vec<String> = members
        .iter()
        .filter_map(|unit| Some(format!("{unit} runs {}", seen.version_of(unit)?)))
        .collect();
    let found = seen.local.server_version.as_deref();
    let mixed = members
        .iter()
        .any(|unit| refresh::standing(seen.version_of(unit), found) != Standing::Same);
    if mixed {
        notes.push(format!(
            "versions differ: {}; {} is installed here",
            versions.join(", "),
            found.unwrap_or("none")
        ));
    }
    for (unit, known) in &seen.units {
        if known.data.turn.wants == Some(TurnKind::Restart) {
            notes.push(format!("{unit} waits for a restart already"));
        }
    }
    notes
}

/// What happens, in words.
fn steps(order: &[UnitName], primary: Option<&UnitName>, to: Option<&UnitName>) -> Vec<String> {
    let mut steps = vec![
        "all units: the charm and its watcher are exchanged; nothing else restarts unless Valkey's program, its service or a setting that it reads at start has changed".to_owned(),
    ];
    for unit in order {
        steps.push(match (Some(unit) == primary, to) {
            (true, Some(to)) => {
                format!("{unit}: hands over to {to}, restarts as a replica, then its Sentinel")
            }
            (true, None) => format!("{unit}: restarts as the primary, then its Sentinel"),
            (false, _) => format!("{unit}: restarts, gets what it missed, then its Sentinel"),
        });
    }
    steps
}

/// Says whether it is safe; the action fails when it is not, so that a script stops there.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub fn answer(readiness: &Readiness) -> anyhow::Result<Answer> {
    let verdict = if readiness.safe {
        "SAFE: a refresh\n"
    } else {
        "NOT SAFE now: a refresh\n"
    };
    let mut text = verdict.to_owned();
    text.push_str(&table::list("Why not:", &readiness.reasons));
    text.push_str(&table::list("To know:", &readiness.notes));
    text.push_str(&table::list(
        "What happens, one after another:",
        &readiness.steps,
    ));
    let answer = Answer::new(text, readiness)?;
    Ok(if readiness.safe {
        answer
    } else {
        answer.failed(readiness.reasons.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    #[test]
    fn a_refresh_needs_all_units_in_order_and_names_their_order() {
        for (case, expected) in [
            (
                "me=1 0:P 1:R 2:R",
                "safe: valkey/1 valkey/2 valkey/0 by valkey/1",
            ),
            (
                "me=0 1:P 0:R 2:R",
                "safe: valkey/0 valkey/2 valkey/1 by valkey/0",
            ),
            (
                "me=0 bin=9.1.2 0:P 1:Rn 2:R",
                "safe: valkey/1 valkey/2 valkey/0 by valkey/2",
            ),
            ("me=0 0:P 1:R", "safe: valkey/1 valkey/0 by valkey/1"),
            ("me=0 0:P", "this is the only unit"),
            ("me=1 0:P 1:R 2:X", "valkey/2"),
            ("me=1 0:P 1:R 2:Ro", "valkey/2"),
            ("me=1 0:P 1:R 2:Rz", "valkey/2"),
            ("me=1 restart=2 0:P 1:R 2:R", "valkey/2 is restarting"),
            (
                "me=1 lease=valkey/2 0:P 1:R 2:R",
                "valkey/2 changes the membership",
            ),
            ("me=1 0:Pn 1:Rn 2:Rn", "cannot use valkey-server 8.0.1"),
        ] {
            let readiness = judge(&seen(case), &Probes::default());
            let shown = if readiness.safe {
                let order: Vec<&str> = readiness.order.iter().map(UnitName::as_str).collect();
                let to = readiness
                    .hands_over_to
                    .as_ref()
                    .map_or("-", UnitName::as_str);
                format!("safe: {} by {to}", order.join(" "))
            } else {
                readiness.reasons.join("; ")
            };
            assert!(shown.contains(expected), "{case}: {shown}");
            assert_eq!(readiness.safe, expected.starts_with("safe"), "{case}");
        }
    }
}
