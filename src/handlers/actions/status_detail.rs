//! Action `status-detail`: everything that this unit's status sums up.

use serde::Serialize;

use crate::{
    charm::Charm,
    planner::{
        self, Observation, Reason, UnitName, invariants, leader,
        observation::{Lease, Process, Role, Storage, Users},
        peer_data::{FoundingReason, TurnKind, UnitState},
        refresh::{self, Work},
    },
    status,
    watch::Former,
    workload::KeptSet,
};

use super::{answer::Answer, table};

/// Everything behind a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detail {
    /// This unit.
    pub unit: UnitName,
    /// The status as it would be shown now.
    pub status: String,
    /// Name and value of everything else, in the order in which it is shown.
    #[serde(serialize_with = "as_map")]
    pub facts: Vec<(&'static str, String)>,
    /// What this unit would do next.
    pub next_steps: Vec<String>,
    /// What is not as it should be.
    pub violations: Vec<String>,
    /// What a person can do.
    pub advice: Vec<String>,
}

fn as_map<S: serde::Serializer>(
    facts: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        facts
            .iter()
            .map(|(name, value)| (name.to_lowercase().replace(' ', "-"), value)),
    )
}

/// Describes this unit; the intent of `seen` is to reconcile.
#[must_use]
pub fn of(charm: &Charm, seen: &Observation, kept: &[KeptSet]) -> Detail {
    let plan = planner::plan(seen);
    let status = status::of_unit(charm, seen, &plan);
    let mut detail = describe(
        seen,
        &plan,
        format!("{}: {}", status.kind.as_str(), status.message),
    );
    detail.facts.push(("Kept aside", kept_aside(kept)));
    detail
}

/// Describes the data sets of this unit that were displaced.
fn kept_aside(kept: &[KeptSet]) -> String {
    let sets: Vec<String> = kept
        .iter()
        .map(|set| {
            let former = set
                .about
                .as_deref()
                .and_then(|about| serde_json::from_slice::<Former>(about).ok());
            let lost = match former.map(|former| (former.lost_writes, former.lost_bytes)) {
                Some((_, Some(0))) => "nothing in it is known to be lost".to_owned(),
                Some((Some(writes), _)) => {
                    format!("about {writes} writes in it are nowhere else")
                }
                Some((None, Some(lost))) => {
                    format!("{} of writes in it are nowhere else", planner::bytes(lost))
                }
                Some((None, None)) | None => "what in it is nowhere else is not known".to_owned(),
            };
            format!("{} ({lost})", set.path.display())
        })
        .collect();
    if sets.is_empty() {
        "nothing".to_owned()
    } else {
        sets.join("; ")
    }
}

fn describe(seen: &Observation, plan: &planner::Plan, status: String) -> Detail {
    let mut advice: Vec<String> = plan
        .reason()
        .and_then(self::advice)
        .map(str::to_owned)
        .into_iter()
        .collect();
    if !seen.settings.problems.is_empty() {
        advice.push(
            "mend the option with `juju config`; until then nothing that runs is changed"
                .to_owned(),
        );
    }
    let mut next_steps: Vec<String> = plan.steps().iter().map(ToString::to_string).collect();
    next_steps.extend(
        leader::duties(seen)
            .iter()
            .map(|step| format!("as leader: {step}")),
    );
    Detail {
        unit: seen.me.clone(),
        status,
        facts: facts(seen, plan),
        next_steps,
        violations: invariants::violations(seen),
        advice,
    }
}

fn facts(seen: &Observation, plan: &planner::Plan) -> Vec<(&'static str, String)> {
    let mine = &seen.mine().data;
    let server = seen.server(&seen.me);
    let state = match (mine.state, seen.mine().dying) {
        (UnitState::New, _) => "new: has not joined",
        (UnitState::Member, false) => "member",
        (UnitState::Member, true) => "member, being removed",
        (UnitState::Detached, _) => "storage detached",
        (UnitState::Left, _) => "has left",
    };
    let role = match server.map(|server| &server.role) {
        Some(Role::Primary) => "primary".to_owned(),
        Some(Role::Replica { of, link_up, .. }) => format!(
            "replica of {}, link {}",
            seen.show_host(of),
            if *link_up { "up" } else { "down" }
        ),
        None => "unknown: the server does not answer".to_owned(),
    };
    let plan_text = match plan.reason() {
        Some(reason) => reason.to_string(),
        None if plan.steps().is_empty() => "settled".to_owned(),
        None => "something is to be done".to_owned(),
    };
    vec![
        ("State", state.to_owned()),
        ("Role", role),
        ("Leader", yes(seen.leader)),
        ("Plan", plan_text),
        ("Turn", turn(seen)),
        ("Lease", lease(seen)),
        ("Founding", founding(seen)),
        ("Position", position(seen)),
        ("Processes", processes(seen)),
        ("Storage", storage(seen)),
        ("Passwords", users(seen)),
        ("Settings pending", settings_pending(seen)),
        ("Option problems", seen.settings.problems.join("; ")),
        ("Unreadable peer data", seen.malformed.join("; ")),
        (
            "Disk",
            server
                .and_then(|server| server.disk_trouble.clone())
                .unwrap_or_else(|| "no trouble known".to_owned()),
        ),
        ("Server version", versions(seen)),
        ("Charm version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "Deployment",
            seen.app.deployment_id.clone().unwrap_or_default(),
        ),
    ]
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn turn(seen: &Observation) -> String {
    let mine = match seen.mine().data.turn.wants {
        Some(TurnKind::Start) => "; this unit asks for it to start",
        Some(TurnKind::Restart) => "; this unit asks for it to restart",
        None => "",
    };
    match seen.turn_holder() {
        Some(holder) => format!("{holder}{mine}"),
        None => format!("nobody{mine}"),
    }
}

fn lease(seen: &Observation) -> String {
    match &seen.lease {
        Lease::Unknown => "unknown: no primary could be asked".to_owned(),
        Lease::Free => "free".to_owned(),
        Lease::Mine => "held by this unit".to_owned(),
        Lease::Other(holder) => format!("held by {holder}"),
    }
}

fn founding(seen: &Observation) -> String {
    let Some(founding) = &seen.app.founding else {
        return "not decided yet".to_owned();
    };
    let why = match founding.reason {
        FoundingReason::Found => "founds",
        FoundingReason::Restore => "holds the best copy",
        FoundingReason::Override => "was chosen by a person",
    };
    let done = if founding.done {
        "done"
    } else {
        "not carried out yet"
    };
    format!(
        "{} {why} (decision {}, {done})",
        founding.unit, founding.generation
    )
}

fn position(seen: &Observation) -> String {
    let recorded = seen.recorded().or(seen.mine().data.position.as_ref());
    match (seen.server(&seen.me), recorded) {
        (Some(server), _) => format!(
            "{} bytes of history {}, epoch {}",
            server.offset,
            server.history,
            seen.epoch()
        ),
        (None, Some(position)) => format!(
            "recorded: {} bytes of history {}, epoch {}, as {}, {}",
            position.offset,
            position.history,
            position.epoch,
            if position.primary {
                "primary"
            } else {
                "replica"
            },
            if position.clean {
                "stopped in order"
            } else {
                "not stopped in order"
            }
        ),
        (None, None) => "none".to_owned(),
    }
}

fn processes(seen: &Observation) -> String {
    let state = |process: Process| match process {
        Process::Running => "runs",
        Process::Stopped => "stopped",
    };
    let mut text = format!(
        "server {}, Sentinel {}, watcher {}",
        state(seen.local.server),
        state(seen.local.sentinel),
        state(seen.local.watch)
    );
    if let Some(progress) = seen.server(&seen.me).and_then(|server| server.loading) {
        text.push_str("; loading ");
        text.push_str(&progress.to_string());
    }
    text
}

fn storage(seen: &Observation) -> String {
    match &seen.storage {
        Storage::Ready if seen.local.has_data => "attached, holds data".to_owned(),
        Storage::Ready => "attached, empty".to_owned(),
        Storage::Missing => "not attached".to_owned(),
        Storage::Problem(problem) => format!("cannot be used: {problem}"),
    }
}

fn users(seen: &Observation) -> String {
    match &seen.users {
        Users::Ready => "ready".to_owned(),
        Users::Missing => "not made yet".to_owned(),
        Users::Unreadable(why) => format!("cannot be read: {why}"),
    }
}

/// Names what differs; values stay out, since some are secret.
fn settings_pending(seen: &Observation) -> String {
    let mut pending: Vec<String> = seen
        .settings
        .runtime
        .iter()
        .filter(|(name, value)| {
            seen.local
                .runtime
                .get(*name)
                .is_some_and(|current| current != *value)
        })
        .map(|(name, _)| name.clone())
        .collect();
    let restart = seen
        .server(&seen.me)
        .and_then(|server| refresh::pending(seen, server));
    match restart {
        Some(Work::Settings) => pending.push("a restart".to_owned()),
        Some(Work::Version) => pending.push("a restart into another version".to_owned()),
        Some(Work::Sentinel) => pending.push("a restart of Sentinel".to_owned()),
        None => {}
    }
    if pending.is_empty() {
        "none".to_owned()
    } else {
        pending.join(", ")
    }
}

fn versions(seen: &Observation) -> String {
    let found = seen.local.server_version.as_deref();
    let runs = seen.server(&seen.me).and_then(|it| it.version.as_deref());
    let mine = match (runs, found) {
        (Some(runs), Some(found)) if runs != found => format!("{runs}, {found} is installed"),
        (Some(version), _) | (None, Some(version)) => version.to_owned(),
        (None, None) => "valkey-server was not found".to_owned(),
    };
    let others: Vec<String> = seen
        .units
        .iter()
        .filter(|(unit, _)| **unit != seen.me)
        .filter_map(|(unit, _)| {
            let version = seen.version_of(unit)?;
            (runs.or(found) != Some(version)).then(|| format!("{unit} runs {version}"))
        })
        .collect();
    if others.is_empty() {
        mine
    } else {
        format!("{mine} ({})", others.join(", "))
    }
}

/// Returns what a person can do about a reason; nothing where waiting is right.
const fn advice(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::NoStorage => Some("wait for the storage; if it does not come, see `juju storage`"),
        Reason::StorageProblem(_) => {
            Some("mend what the message names (owner, read-only, full) on the unit's machine")
        }
        Reason::Downgrade { .. } => Some(
            "attach or install a version that is not older than the one that the message names; the charm looks again by itself",
        ),
        Reason::NoServerBinary => {
            Some("install Valkey on the unit's machine; the charm looks again by itself")
        }
        Reason::UsersUnreadable(_) => Some(
            "grant the secret with `juju grant-secret`, or mend the one that `system-users` names",
        ),
        Reason::ForeignData(_) => Some("attach another storage, or empty this one"),
        Reason::DataAway(_) => Some(
            "add a unit with the storage that has the data (`juju storage`, `juju add-unit --attach-storage`); if it is lost, begin anew with action `confirm-data-source` on the leader",
        ),
        Reason::BestCopyMissing(_) => Some(
            "bring the missing unit back; if that is impossible, decide with action `confirm-data-source` on the leader",
        ),
        Reason::TooFewSentinels { .. } => Some(
            "bring the missing units back; remove those that will not come back with `juju remove-unit --force`",
        ),
        Reason::NoPrimary => Some(
            "if it stays, see action `show-topology` for what the Sentinels believe; after a full outage action `confirm-data-source` decides",
        ),
        Reason::NoTarget(_) => Some("bring a replica in sync: see action `show-topology`"),
        Reason::LastCopy(_) => Some(
            "add or mend a unit and let it copy the data; `juju remove-unit --force` gives the data up",
        ),
        Reason::DiskTrouble(_) => Some("make room on the disk or mend it; see the server's log"),
        Reason::Detached => Some("attach storage to run again, or remove the unit"),
        Reason::ServerSilent(_) => Some("if it stays, see the server's log on the unit's machine"),
        Reason::Turn { .. }
        | Reason::LeaseHeld(_)
        | Reason::FounderNotReady(_)
        | Reason::LeaseUnavailable => {
            Some("if it stays, look at the unit that is named, with `juju status`")
        }
        Reason::NoPeerRelation
        | Reason::NotFounded
        | Reason::Loading(_)
        | Reason::Syncing { .. }
        | Reason::Discovery { .. }
        | Reason::FailingOver
        | Reason::Degraded(_)
        | Reason::Leaving => None,
    }
}

/// Says it.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub fn answer(detail: &Detail) -> anyhow::Result<Answer> {
    let mut pairs = vec![
        ("Unit", detail.unit.to_string()),
        ("Status", detail.status.clone()),
    ];
    pairs.extend(detail.facts.iter().cloned());
    let mut text = table::pairs(&pairs);
    text.push_str(&table::list(
        "What this unit would do next:",
        &detail.next_steps,
    ));
    text.push_str(&table::list("What does not hold:", &detail.violations));
    text.push_str(&table::list("What you can do:", &detail.advice));
    Answer::new(text, detail)
}

#[cfg(test)]
mod tests;
