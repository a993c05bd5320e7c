//! Action `show-topology`: who is primary, who follows how far behind, and what the Sentinels believe.

use serde::Serialize;

use crate::planner::{
    Observation, UnitName, bytes,
    observation::{Progress, Role, Seen},
    peer_data::UnitState,
    view::Naming,
};

use super::{
    answer::Answer,
    margin::Margin,
    probe::Probes,
    table::{self, Table},
    verify::assess,
};

/// The whole set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Topology {
    /// The primary, if there is one that can be followed.
    pub primary: Option<UnitName>,
    /// What the Sentinels say about it.
    pub naming: String,
    /// All units.
    pub units: Vec<UnitRow>,
    /// The Sentinels of the members.
    pub sentinels: Vec<SentinelRow>,
    /// How much may still go wrong.
    pub margin: Margin,
    /// What a person should know of.
    pub attention: Vec<String>,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitRow {
    /// Its name.
    pub unit: UnitName,
    /// Its address or name.
    pub address: Option<String>,
    /// How far it is in its life, by its own word.
    pub state: UnitState,
    /// Whether it is being removed.
    pub leaving: bool,
    /// `primary`, `replica`, `loading` or `down`.
    pub role: &'static str,
    /// Unit or host that it follows.
    pub follows: Option<String>,
    /// Whether the link to that one is up.
    pub link_up: Option<bool>,
    /// Bytes of the primary's writes that it has not acknowledged.
    pub behind_bytes: Option<u64>,
    /// Seconds since it acknowledged anything.
    pub behind_seconds: Option<u64>,
    /// How far a copy or the loading of its data is.
    pub progress: Option<Progress>,
    /// `replica-priority`; 0 is never promoted.
    pub priority: Option<u64>,
    /// Keys in its first database.
    pub keys: Option<u64>,
    /// Why nothing is known of it.
    pub problem: Option<String>,
}

/// One Sentinel's view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SentinelRow {
    /// Unit that it belongs to.
    pub unit: UnitName,
    /// Whom it names as primary.
    pub primary: Option<String>,
    /// Epoch of that configuration.
    pub epoch: Option<u64>,
    /// Its quorum.
    pub quorum: Option<usize>,
    /// Other Sentinels that it knows.
    pub others: Option<usize>,
    /// Of those, the ones that it can reach.
    pub others_up: Option<usize>,
    /// Replicas that it knows.
    pub replicas: Option<usize>,
    /// Of those, the ones that it can reach.
    pub replicas_up: Option<usize>,
    /// `ok`, or what it sees or suffers.
    pub sees: String,
}

/// Describes what was seen.
#[must_use]
pub fn describe(seen: &Observation, probes: &Probes) -> Topology {
    let primary = seen.primary();
    let naming = match seen.naming() {
        Naming::Agreed { host, votes } => format!(
            "{votes} of {} Sentinels name {}",
            seen.members().len(),
            seen.show_host(&host)
        ),
        Naming::Split => "the Sentinels do not agree".to_owned(),
        Naming::Bare => "the Sentinels monitor nothing".to_owned(),
        Naming::TooFew { answering, needed } => {
            format!(
                "{answering} of {} Sentinels answer, {needed} are needed",
                seen.members().len()
            )
        }
    };
    Topology {
        naming,
        units: seen
            .units
            .keys()
            .map(|unit| unit_row(seen, unit, primary.as_ref()))
            .collect(),
        sentinels: seen
            .units
            .keys()
            .filter(|unit| seen.members().contains(unit) || seen.sentinel(unit).is_some())
            .map(|unit| sentinel_row(seen, unit))
            .collect(),
        margin: Margin::of(seen),
        attention: assess(seen, probes)
            .findings
            .into_iter()
            .map(|finding| finding.text)
            .collect(),
        primary,
    }
}

fn unit_row(seen: &Observation, unit: &UnitName, primary: Option<&UnitName>) -> UnitRow {
    let known = seen.units.get(unit);
    let mut row = UnitRow {
        unit: unit.clone(),
        address: seen.host_of(unit).map(str::to_owned),
        state: known.map_or(UnitState::New, |known| known.data.state),
        leaving: known.is_some_and(|known| known.dying),
        role: "down",
        follows: None,
        link_up: None,
        behind_bytes: None,
        behind_seconds: None,
        progress: None,
        priority: None,
        keys: None,
        problem: None,
    };
    let server = match seen.servers.get(unit) {
        Some(Seen::Known(server)) => server,
        Some(Seen::Unknown(why)) => {
            row.problem = Some(why.clone());
            return row;
        }
        None => {
            row.problem = Some("was not asked".to_owned());
            return row;
        }
    };
    row.priority = Some(server.priority);
    if let Some(progress) = server.loading {
        row.role = "loading";
        row.progress = Some(progress);
        return row;
    }
    row.keys = Some(server.keys);
    let Role::Replica {
        of,
        link_up,
        syncing,
    } = &server.role
    else {
        row.role = "primary";
        return row;
    };
    row.role = "replica";
    row.follows = Some(seen.show_host(of));
    row.link_up = Some(*link_up);
    row.progress = *syncing;
    if let Some(head) = primary.and_then(|primary| seen.server(primary)) {
        let attached = head
            .replicas
            .iter()
            .find(|replica| Some(replica.host.as_str()) == seen.host_of(unit));
        // What the primary says is of one moment; the two answers are not.
        let has = attached
            .map(|replica| replica.offset)
            .or((head.history == server.history).then_some(server.offset));
        row.behind_bytes = has.map(|has| head.offset.saturating_sub(has));
        row.behind_seconds = attached.map(|replica| replica.lag_s);
    }
    row
}

fn sentinel_row(seen: &Observation, unit: &UnitName) -> SentinelRow {
    let mut row = SentinelRow {
        unit: unit.clone(),
        primary: None,
        epoch: None,
        quorum: None,
        others: None,
        others_up: None,
        replicas: None,
        replicas_up: None,
        sees: "was not asked".to_owned(),
    };
    let sentinel = match seen.sentinels.get(unit) {
        Some(Seen::Known(sentinel)) => sentinel,
        Some(Seen::Unknown(why)) => {
            row.sees.clone_from(why);
            return row;
        }
        None => return row,
    };
    let Some(monitor) = &sentinel.monitor else {
        "monitors nothing".clone_into(&mut row.sees);
        return row;
    };
    let up = |known: &[crate::planner::observation::Known]| {
        known.iter().filter(|other| !other.down).count()
    };
    row.primary = Some(seen.show_host(&monitor.primary));
    row.epoch = Some(monitor.epoch);
    row.quorum = Some(monitor.quorum);
    row.others = Some(monitor.others.len());
    row.others_up = Some(up(&monitor.others));
    row.replicas = Some(monitor.replicas.len());
    row.replicas_up = Some(up(&monitor.replicas));
    row.sees = if monitor.failing_over {
        "works on a failover".to_owned()
    } else if monitor.agreed_down {
        format!(
            "the primary is down for {} s, as the others say too",
            monitor.down_for_ms / 1000
        )
    } else if monitor.down {
        format!(
            "cannot reach the primary for {} s",
            monitor.down_for_ms / 1000
        )
    } else {
        "ok".to_owned()
    };
    row
}

fn shown<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn of_all(up: Option<usize>, all: Option<usize>) -> String {
    match (up, all) {
        (Some(up), Some(all)) => format!("{up} of {all}"),
        _ => String::new(),
    }
}

/// Says what is there.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub fn answer(topology: &Topology) -> anyhow::Result<Answer> {
    let mut units = Table::new([
        "Unit", "Address", "Role", "Follows", "Link", "Behind", "Priority", "Keys", "Note",
    ]);
    for row in &topology.units {
        let behind = match (row.behind_bytes, row.behind_seconds) {
            (Some(count), Some(seconds)) => format!("{}, {seconds} s", bytes(count)),
            (Some(count), None) => bytes(count),
            (None, _) => String::new(),
        };
        units.row([
            row.unit.to_string(),
            row.address.clone().unwrap_or_default(),
            row.role.to_owned(),
            row.follows.clone().unwrap_or_default(),
            row.link_up
                .map_or("", |up| if up { "up" } else { "down" })
                .to_owned(),
            behind,
            shown(row.priority.as_ref()),
            shown(row.keys.as_ref()),
            note(row),
        ]);
    }
    let mut sentinels = Table::new([
        "Sentinel", "Primary", "Epoch", "Quorum", "Others", "Replicas", "Sees",
    ]);
    for row in &topology.sentinels {
        sentinels.row([
            row.unit.to_string(),
            row.primary.clone().unwrap_or_default(),
            shown(row.epoch.as_ref()),
            shown(row.quorum.as_ref()),
            of_all(row.others_up, row.others),
            of_all(row.replicas_up, row.replicas),
            row.sees.clone(),
        ]);
    }
    let head = table::pairs(&[
        (
            "Primary",
            format!(
                "{} ({})",
                shown(topology.primary.as_ref())
                    .split_whitespace()
                    .next()
                    .unwrap_or("none"),
                topology.naming
            ),
        ),
        ("Margin", topology.margin.text()),
    ]);
    let attention = table::list("What needs attention:", &topology.attention);
    let text = format!(
        "{head}\n{}\n{}{attention}",
        units.render(),
        sentinels.render()
    );
    Answer::new(text, topology)
}

fn note(row: &UnitRow) -> String {
    let mut notes = Vec::new();
    if row.leaving {
        notes.push("leaving".to_owned());
    }
    match row.state {
        UnitState::Member => {}
        UnitState::New => notes.push("not joined yet".to_owned()),
        UnitState::Detached => notes.push("storage detached".to_owned()),
        UnitState::Left => notes.push("has left".to_owned()),
    }
    match (row.role, row.progress) {
        ("loading", Some(progress)) => notes.push(format!("loaded {progress}")),
        (_, Some(progress)) => notes.push(format!("syncing: {progress}")),
        (_, None) => {}
    }
    if row.role != "down" && row.priority == Some(0) {
        notes.push("not promotable".to_owned());
    }
    notes.extend(row.problem.clone());
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    fn text(case: &str) -> String {
        answer(&describe(&seen(case), &Probes::default()))
            .map(|answer| answer.text)
            .unwrap_or_default()
    }

    #[test]
    fn a_settled_set_is_shown_whole() {
        assert_eq!(
            text("me=1 0:P 1:R 2:R"),
            "\
Primary  valkey/0 (3 of 3 Sentinels name valkey/0)
Margin   1 more unit may be lost

Unit      Address   Role     Follows   Link  Behind    Priority  Keys  Note
valkey/0  10.0.0.0  primary  -         -     -         100       5     -
valkey/1  10.0.0.1  replica  valkey/0  up    0 B, 0 s  100       5     -
valkey/2  10.0.0.2  replica  valkey/0  up    0 B, 0 s  100       5     -

Sentinel  Primary   Epoch  Quorum  Others  Replicas  Sees
valkey/0  valkey/0  1      2       2 of 2  2 of 2    ok
valkey/1  valkey/0  1      2       2 of 2  2 of 2    ok
valkey/2  valkey/0  1      2       2 of 2  2 of 2    ok
"
        );
    }

    #[test]
    fn what_is_wrong_stands_at_its_unit_and_below() {
        for (case, expected) in [
            ("me=0 0:P 1:R 2:X", "valkey/2  10.0.0.2  down"),
            ("me=0 0:P 1:R 2:X", "connection refused"),
            (
                "me=0 0:P 1:R 2:X",
                "What needs attention:\n- 2 of 3 Sentinels name the primary\n- server of valkey/2",
            ),
            (
                "me=0 0:P 1:S",
                "not joined yet, syncing: 1 B of 2 B, not promotable",
            ),
            ("me=0 0:P 1:Rd 2:R", "leaving"),
            ("me=0 0:P 1:R 2:Ro", "not promotable"),
            (
                "me=0 0:X 1:X 2:R names=0",
                "Primary  none (1 of 3 Sentinels answer, 2 are needed)",
            ),
        ] {
            let text = text(case);
            assert!(text.contains(expected), "{case}: {expected}\n{text}");
        }
    }
}
