//! Decides a unit's next operation from what its agent has committed and what the controller says now.
//!
//! Pure: no clock, no files, no locks. Snapshots are compared, nothing is queued, so many changes that come
//! while a unit is busy end as one hook. The order of the questions is that of Juju's uniter.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::Life;

pub use super::hook::{Hook, Kind, RelationFacts, WorkloadFacts};

/// What a unit's agent has committed.
///
/// The flags are Juju's own, each independent of the others.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Local {
    /// `install` is done.
    pub installed: bool,
    /// `start` is done.
    pub started: bool,
    /// `stop` is done.
    pub stopped: bool,
    /// `remove` is done.
    pub removed: bool,
    /// `leader-elected` is done and leadership not given up since.
    pub leader: bool,
    /// The machine has rebooted and `start` has not run since.
    pub rebooted: bool,
    /// The hook in progress.
    pub flight: Option<Flight>,
    /// Hash of options, trust and addresses as the last `config-changed` saw them.
    pub settings_hash: String,
    /// Revision of the charm files in place.
    pub charm_revision: u32,
    /// Relations whose scope was entered.
    pub relations: BTreeMap<u64, LocalRelation>,
    /// Storage whose `storage-attached` is done.
    pub storage: BTreeSet<String>,
    /// Secret to the latest revision that the charm was told of.
    pub secrets: BTreeMap<String, u64>,
}

/// What was committed of a relation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalRelation {
    /// `relation-created` is done.
    pub created: bool,
    /// Members with the version of their databag that was told last.
    pub members: BTreeMap<String, u64>,
    /// Version of the application databag that was told last.
    pub application_version: u64,
    /// Member whose `relation-joined` is done and `relation-changed` is owed.
    pub owed: Option<String>,
}

/// A hook in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The hook.
    pub hook: Hook,
    /// How far it is.
    pub step: Step,
    /// Its process and the time at which that started, in clock ticks.
    pub process: Option<(u32, u64)>,
}

/// How far a hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Decided, not begun.
    Queued,
    /// Begun; when nobody runs it, it has failed.
    Pending,
    /// Ended well, not committed.
    Done,
}

/// What a person wants done with a failed hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// Run it again.
    Retry,
    /// Count it as done.
    Skip,
}

/// What the controller says to one unit's agent.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// The unit's name.
    pub me: String,
    /// The unit's life.
    pub life: Life,
    /// The application's life.
    pub application_life: Life,
    /// Whether the unit leads.
    pub leader: bool,
    /// Hash of options, trust and addresses.
    pub settings_hash: String,
    /// Revision of the charm that is wanted.
    pub charm_revision: u32,
    /// The charm is wanted even on units in error.
    pub force_charm: bool,
    /// Relations, in the order in which equals are handled.
    pub relations: Vec<RemoteRelation>,
    /// Storage attachments: id to life.
    pub storage: BTreeMap<String, Life>,
    /// Secret hooks that are due, in order.
    pub secrets: Vec<Hook>,
    /// What a container has to tell next.
    pub workload: Option<Hook>,
    /// The unit is a pod: its charm files come with the pod, and nothing waits for storage.
    pub pod: bool,
    /// The unit's pod ends and comes again: it stops.
    pub leaving: bool,
    /// Next queued action.
    pub action: Option<u64>,
    /// A shell command waits.
    pub command: bool,
    /// The failed hook's delay is over.
    pub retry_due: bool,
    /// What a person wants done with the failed hook.
    pub resolution: Option<Resolution>,
    /// It is time for `update-status`.
    pub update_status_due: bool,
}

/// What the controller says of a relation.
#[derive(Debug, Clone, Default)]
pub struct RemoteRelation {
    /// Number.
    pub id: u64,
    /// Own endpoint.
    pub endpoint: String,
    /// Whether it is a peer relation.
    pub peer: bool,
    /// Life.
    pub life: Life,
    /// Application on the other side; of peers the own.
    pub application: String,
    /// Units on the other side with the versions of their databags.
    pub members: BTreeMap<String, u64>,
    /// Version of the other side's application databag.
    pub application_version: u64,
}

/// The next operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do; with everything done, the agent is idle.
    Idle,
    /// The failed hook waits for its delay or for a person.
    Stuck,
    /// Run the hook.
    Run(Hook),
    /// Count the failed hook as done.
    Skip(Hook),
    /// Commit a hook that has ended well.
    Commit(Hook),
    /// Run an action.
    Action(u64),
    /// Run a shell command.
    Command,
    /// Enter a relation's scope.
    EnterScope(u64),
    /// Leave a relation's scope without a hook, since none ever ran for it.
    LeaveScope(u64),
    /// Forget leadership.
    Resign,
    /// Forget a reboot, since the unit had never started.
    ForgetReboot,
    /// Drop an attachment that the charm never saw.
    DropStorage(String),
    /// Put the wanted charm files in place, and run `upgrade-charm` unless a failed hook goes first.
    Upgrade {
        /// Whether `upgrade-charm` is queued.
        hook: bool,
    },
    /// Torn down.
    Die,
}

/// Decides the next operation.
#[must_use]
pub fn next(local: &Local, remote: &Remote) -> Next {
    let dying = remote.life != Life::Alive;
    let step = local.flight.as_ref().map(|flight| flight.step);
    let free = step.is_none();
    if remote.life == Life::Dead {
        return Next::Idle;
    }
    if local.rebooted {
        if !local.started {
            return Next::ForgetReboot;
        }
        if free {
            return Next::Run(Hook::plain(Kind::Start));
        }
    }
    if step == Some(Step::Pending)
        && remote.force_charm
        && remote.charm_revision != local.charm_revision
    {
        return Next::Upgrade { hook: false };
    }
    if free && local.installed && !dying {
        if let Some(created) = next_created(local, remote) {
            return created;
        }
        if remote.leader && !local.leader {
            return Next::Run(Hook::plain(Kind::LeaderElected));
        }
    }
    if local.leader && (dying || !remote.leader) {
        return Next::Resign;
    }
    if free
        && local.installed
        && !local.removed
        && let Some(hook) = &remote.workload
    {
        return Next::Run(hook.clone());
    }
    if free
        && local.installed
        && !dying
        && let Some(hook) = remote.secrets.first()
    {
        return Next::Run(hook.clone());
    }
    if (free || step == Some(Step::Pending))
        && let Some(task) = remote.action
    {
        return Next::Action(task);
    }
    if remote.command {
        return Next::Command;
    }
    let installing = local
        .flight
        .as_ref()
        .is_some_and(|flight| flight.step == Step::Queued && flight.hook.kind == Kind::Install);
    let looks_at_storage = if remote.pod {
        free && (local.started || dying)
    } else {
        free || installing
    };
    if looks_at_storage && let Some(storage) = next_storage(local, remote, dying) {
        return storage;
    }
    if let Some(flight) = &local.flight
        && !remote.leaving
    {
        let hook = flight.hook.clone();
        match flight.step {
            Step::Done => return Next::Commit(hook),
            Step::Queued if installing && dying => {}
            Step::Queued => return Next::Run(hook),
            Step::Pending => {
                return match remote.resolution {
                    Some(Resolution::Skip) => Next::Skip(hook),
                    Some(Resolution::Retry) => Next::Run(hook),
                    None if remote.retry_due => Next::Run(hook),
                    None => Next::Stuck,
                };
            }
        }
    }
    if dying {
        next_dying(local, remote)
    } else if remote.leaving {
        next_leaving(local)
    } else {
        next_alive(local, remote)
    }
}

/// Decides what a unit that is wanted does when nothing is in progress.
fn next_alive(local: &Local, remote: &Remote) -> Next {
    if !local.installed && !local.started {
        return Next::Run(Hook::plain(Kind::Install));
    }
    if local.charm_revision != remote.charm_revision {
        return Next::Upgrade { hook: true };
    }
    if local.settings_hash != remote.settings_hash {
        return Next::Run(Hook::plain(Kind::ConfigChanged));
    }
    if let Some(next) = next_relation(local, remote, false) {
        return next;
    }
    if remote.update_status_due && local.started {
        return Next::Run(Hook::plain(Kind::UpdateStatus));
    }
    Next::Idle
}

/// Decides what a unit does whose pod ends and comes again.
fn next_leaving(local: &Local) -> Next {
    // A hook in error stays as it is; the next pod runs it again.
    if local.started && !local.stopped && local.flight.is_none() {
        return Next::Run(Hook::plain(Kind::Stop));
    }
    Next::Idle
}

/// Decides how the teardown of a unit goes on, storage being gone.
fn next_dying(local: &Local, remote: &Remote) -> Next {
    if let Some(next) = next_relation(local, remote, true) {
        return next;
    }
    if local.started && !local.stopped {
        return Next::Run(Hook::plain(Kind::Stop));
    }
    if local.installed && !local.removed {
        return Next::Run(Hook::plain(Kind::Remove));
    }
    Next::Die
}

/// Decides whether a scope is entered or a `relation-created` is due.
fn next_created(local: &Local, remote: &Remote) -> Option<Next> {
    for relation in remote
        .relations
        .iter()
        .filter(|relation| relation.life == Life::Alive)
    {
        match local.relations.get(&relation.id) {
            None => return Some(Next::EnterScope(relation.id)),
            Some(known) if !known.created => {
                return Some(Next::Run(about(relation, Kind::RelationCreated, None, 0)));
            }
            Some(_) => {}
        }
    }
    None
}

/// Decides which storage hook is due.
fn next_storage(local: &Local, remote: &Remote, dying: bool) -> Option<Next> {
    for (id, life) in &remote.storage {
        let seen = local.storage.contains(id);
        let hook = |kind| {
            Some(Next::Run(Hook {
                storage: Some(id.clone()),
                ..Hook::plain(kind)
            }))
        };
        match (dying || *life != Life::Alive, seen) {
            (false, false) => return hook(Kind::StorageAttached),
            (true, true) => return hook(Kind::StorageDetaching),
            (true, false) => return Some(Next::DropStorage(id.clone())),
            (false, true) => {}
        }
    }
    None
}

/// Decides which relation hook is due; peers come after all others.
fn next_relation(local: &Local, remote: &Remote, dying: bool) -> Option<Next> {
    for peers in [false, true] {
        for relation in remote
            .relations
            .iter()
            .filter(|relation| relation.peer == peers)
        {
            let Some(known) = local.relations.get(&relation.id) else {
                continue;
            };
            let leaving = dying || relation.life != Life::Alive;
            if !known.created {
                if leaving && !peers {
                    return Some(Next::LeaveScope(relation.id));
                }
                continue;
            }
            if let Some(hook) = relation_hook(known, relation, leaving, remote) {
                return Some(Next::Run(hook));
            }
        }
    }
    None
}

/// Decides which hook of one relation is due.
fn relation_hook(
    known: &LocalRelation,
    relation: &RemoteRelation,
    leaving: bool,
    remote: &Remote,
) -> Option<Hook> {
    if let Some(unit) = &known.owed {
        let told = known.members.get(unit).copied().unwrap_or(0);
        let version = relation.members.get(unit).copied().unwrap_or(told);
        return Some(about(relation, Kind::RelationChanged, Some(unit), version));
    }
    if let Some(gone) = known
        .members
        .keys()
        .find(|unit| leaving || !relation.members.contains_key(*unit))
    {
        let own_end = remote.life != Life::Alive || remote.application_life != Life::Alive;
        let departing = if own_end {
            remote.me.clone()
        } else {
            gone.clone()
        };
        let mut hook = about(relation, Kind::RelationDeparted, Some(gone), 0);
        if let Some(facts) = &mut hook.relation {
            facts.departing = Some(departing);
        }
        return Some(hook);
    }
    if leaving {
        return (!relation.peer).then(|| about(relation, Kind::RelationBroken, None, 0));
    }
    if relation.application_version != known.application_version {
        return Some(about(
            relation,
            Kind::RelationChanged,
            None,
            relation.application_version,
        ));
    }
    if let Some((unit, version)) = relation
        .members
        .iter()
        .find(|(unit, _)| !known.members.contains_key(*unit))
    {
        return Some(about(relation, Kind::RelationJoined, Some(unit), *version));
    }
    relation
        .members
        .iter()
        .find(|(unit, version)| known.members.get(*unit) != Some(version))
        .map(|(unit, version)| about(relation, Kind::RelationChanged, Some(unit), *version))
}

/// Makes a hook about a relation.
fn about(relation: &RemoteRelation, kind: Kind, unit: Option<&String>, version: u64) -> Hook {
    Hook {
        relation: Some(RelationFacts {
            id: relation.id,
            endpoint: relation.endpoint.clone(),
            application: relation.application.clone(),
            unit: unit.cloned(),
            departing: None,
            version,
        }),
        ..Hook::plain(kind)
    }
}

/// Commits what a hook's success means to the unit's agent.
///
/// `settings_hash` is the one that was in force when the hook began.
pub fn commit(local: &mut Local, hook: &Hook, settings_hash: &str) {
    local.flight = None;
    let queue = |kind| {
        Some(Flight {
            hook: Hook::plain(kind),
            step: Step::Queued,
            process: None,
        })
    };
    match hook.kind {
        Kind::Install => local.installed = true,
        Kind::Start => {
            local.started = true;
            local.stopped = false;
            local.rebooted = false;
        }
        Kind::Stop => local.stopped = true,
        Kind::Remove => local.removed = true,
        Kind::LeaderElected => local.leader = true,
        Kind::UpgradeCharm => local.flight = queue(Kind::ConfigChanged),
        Kind::ConfigChanged => {
            settings_hash.clone_into(&mut local.settings_hash);
            if !local.started {
                local.flight = queue(Kind::Start);
            }
        }
        Kind::RelationCreated
        | Kind::RelationJoined
        | Kind::RelationChanged
        | Kind::RelationDeparted
        | Kind::RelationBroken => {
            if let Some(facts) = &hook.relation {
                commit_relation(local, hook.kind, facts);
            }
        }
        Kind::StorageAttached => {
            local.storage.extend(hook.storage.clone());
        }
        Kind::StorageDetaching => {
            if let Some(id) = &hook.storage {
                local.storage.remove(id);
            }
        }
        Kind::SecretChanged => {
            if let Some((id, revision)) = &hook.secret {
                local.secrets.insert(id.clone(), *revision);
            }
        }
        Kind::UpdateStatus
        | Kind::SecretRotate
        | Kind::SecretExpired
        | Kind::SecretRemove
        | Kind::PebbleReady
        | Kind::PebbleCustomNotice
        | Kind::PebbleCheckFailed
        | Kind::PebbleCheckRecovered => {}
    }
}

/// Commits a relation hook.
fn commit_relation(local: &mut Local, kind: Kind, facts: &RelationFacts) {
    if kind == Kind::RelationBroken {
        local.relations.remove(&facts.id);
        return;
    }
    let Some(known) = local.relations.get_mut(&facts.id) else {
        return;
    };
    match (kind, &facts.unit) {
        (Kind::RelationCreated, _) => known.created = true,
        (Kind::RelationJoined, Some(unit)) => {
            known.members.insert(unit.clone(), facts.version);
            known.owed = Some(unit.clone());
        }
        (Kind::RelationChanged, Some(unit)) => {
            known.members.insert(unit.clone(), facts.version);
            if known.owed.as_ref() == Some(unit) {
                known.owed = None;
            }
        }
        (Kind::RelationChanged, None) => known.application_version = facts.version,
        (Kind::RelationDeparted, Some(unit)) => {
            known.members.remove(unit);
            if known.owed.as_ref() == Some(unit) {
                known.owed = None;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
