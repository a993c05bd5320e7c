//! Says in Juju's statuses what is true: nothing is `active` while something does not hold.

use crate::{
    charm::Charm,
    juju::hook_tools::{Status, StatusKind},
    planner::{
        Observation, Plan, Reason, Severity, invariants, observation::Role, peer_data::UnitState,
    },
    workload::{Workload, WorkloadError, systemd::kernel_complaints},
};

/// Returns the unit's status after a pass that ended with `plan`.
#[must_use]
pub fn of_unit(charm: &Charm, seen: &Observation, plan: &Plan) -> Status {
    if let Some(problem) = &charm.option_problem {
        return Status::new(StatusKind::Blocked, problem.clone());
    }
    let own = match (&charm.unheeded, &charm.users_awaited) {
        (Some(wish), _) => Some(Status::new(StatusKind::Blocked, wish.clone())),
        (None, Some(units)) => Some(Status::new(
            StatusKind::Maintenance,
            format!("changing the passwords: waiting for {units}"),
        )),
        (None, None) => None,
    };
    let mut status = of_look(seen, plan, own);
    if status.kind == StatusKind::Active && seen.members().len() != 2 {
        status.message = with_advice(charm, &status.message);
    }
    // Said once, by the leader: it concerns the whole application.
    if status.kind == StatusKind::Active
        && let Some(note) = charm.services_note.as_ref().filter(|_| seen.leader)
    {
        status.message = format!("{}; {note}", status.message);
    }
    status
}

/// Returns what a look and the plan made on it say; `own` is what else this unit has to tell.
#[must_use]
pub fn of_look(seen: &Observation, plan: &Plan, own: Option<Status>) -> Status {
    if let Some(reason) = plan.reason() {
        return of_reason(reason);
    }
    if let Some(trouble) = seen
        .server(&seen.me)
        .and_then(|server| server.disk_trouble.clone())
    {
        return of_reason(&Reason::DiskTrouble(trouble));
    }
    if let Some(problem) = seen.malformed.first() {
        return Status::new(
            StatusKind::Waiting,
            format!("cannot read the peer data: {problem}; waiting until it is written again"),
        );
    }
    if let Some(own) = own {
        return own;
    }
    if seen.mine().data.state != UnitState::Member {
        return Status::new(StatusKind::Waiting, "waiting to join");
    }
    let role = match seen.server(&seen.me).map(|server| &server.role) {
        Some(Role::Primary) => "primary",
        Some(Role::Replica { .. }) => "replica",
        None => "server does not answer",
    };
    match invariants::violations(seen).as_slice() {
        [] if seen.members().len() == 2 => Status::new(
            StatusKind::Active,
            format!("{role}; no automatic failover with two units"),
        ),
        [] => Status::new(StatusKind::Active, role),
        [first] => Status::new(StatusKind::Waiting, format!("{role}, degraded: {first}")),
        [first, rest @ ..] => Status::new(
            StatusKind::Waiting,
            format!("{role}, degraded: {first} (and {} more)", rest.len()),
        ),
    }
}

/// Adds what only whoever runs the machine can change.
fn with_advice(charm: &Charm, role: &str) -> String {
    let complaints = match &charm.workload {
        Some(Workload::Systemd(_)) => kernel_complaints(),
        Some(Workload::Process(_) | Workload::Pebble(_)) | None => Vec::new(),
    };
    match complaints.first() {
        Some(first) => format!("{role}; kernel setting {first}"),
        None => role.to_owned(),
    }
}

/// Returns how a reason is shown.
#[must_use]
pub fn of_reason(reason: &Reason) -> Status {
    let kind = match reason.severity() {
        Severity::Working => StatusKind::Maintenance,
        Severity::Waiting => StatusKind::Waiting,
        Severity::Blocked => StatusKind::Blocked,
    };
    Status::new(kind, reason.to_string())
}

/// Returns how a step that did not work is shown: in one line, and blocked where a person has to act.
#[must_use]
pub fn of_failure(error: &anyhow::Error) -> Status {
    let blocked = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<WorkloadError>())
        .any(WorkloadError::needs_person);
    let text = format!("{error:#}");
    // The end of a log is for the log: what it means stands before it.
    let text = text.split(WorkloadError::LOG_MARK).next().unwrap_or(&text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let kind = if blocked {
        StatusKind::Blocked
    } else {
        StatusKind::Waiting
    };
    Status::new(kind, line)
}

/// Returns the application's status, which the leader sets.
#[must_use]
pub fn of_application(charm: &Charm, seen: &Observation) -> Status {
    if let Some(problem) = &charm.option_problem {
        return Status::new(StatusKind::Blocked, problem.clone());
    }
    let trouble = seen.members().into_iter().find_map(|unit| {
        let trouble = seen.server(&unit)?.disk_trouble.clone()?;
        Some(format!("{unit} cannot write data to disk: {trouble}"))
    });
    if let Some(trouble) = trouble {
        return Status::new(StatusKind::Blocked, trouble);
    }
    let members = seen.members().len();
    let expected = seen.units.values().filter(|unit| !unit.dying).count();
    match seen.primary() {
        None => Status::new(StatusKind::Waiting, "no primary"),
        Some(primary) => {
            let found = invariants::violations(seen);
            if members < expected {
                Status::new(
                    StatusKind::Waiting,
                    format!("primary {primary}; {members} of {expected} units are members"),
                )
            } else if let Some(first) = found.first() {
                Status::new(
                    StatusKind::Waiting,
                    format!("primary {primary}, degraded: {first}"),
                )
            } else {
                Status::new(StatusKind::Active, format!("primary {primary}"))
            }
        }
    }
}
