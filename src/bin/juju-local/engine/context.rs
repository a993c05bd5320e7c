//! What one run of a hook, action or command sees and wants changed.
//!
//! Changes wait here until the process ends well; then they are applied at one instant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::model::{Map, Model};
use super::resolver::{Hook, Kind};
use super::secrets::Change;

/// A run's view and its pending changes.
#[derive(Debug, Default)]
pub struct Context {
    /// `JUJU_CONTEXT_ID`.
    pub id: String,
    /// Unit.
    pub unit: String,
    /// Hook, unless it is an action or a command.
    pub hook: Option<Hook>,
    /// Task, if it is an action or a command that came as a task.
    pub task: Option<u64>,
    /// Whether it is an action (then `action-*` work).
    pub is_action: bool,
    /// Relation that it is about.
    pub relation: Option<u64>,
    /// Remote unit that it is about.
    pub remote_unit: Option<String>,
    /// Remote application that it is about.
    pub remote_application: Option<String>,
    /// Relation to the own unit databag.
    pub own_unit: BTreeMap<u64, Own>,
    /// Relation to the own application databag.
    pub own_application: BTreeMap<u64, Own>,
    /// Relation and name to databags of others that are read anew in each run.
    pub others: BTreeMap<(u64, String), Map>,
    /// Options, once read.
    pub config: Option<serde_json::Map<String, Value>>,
    /// Charm's state, once read, and whether it was changed.
    pub state: Option<(Map, bool)>,
    /// Port changes in order: port, endpoint, open.
    pub ports: Vec<(String, String, bool)>,
    /// Storage to be added: name and count.
    pub storage: Vec<(String, u32)>,
    /// Changes to secrets in order.
    pub secrets: Vec<Change>,
    /// Results of the action.
    pub results: serde_json::Map<String, Value>,
    /// `action-fail` was called.
    pub failed: Option<String>,
    /// `juju-reboot`: `Some(true)` at once.
    pub reboot: Option<bool>,
}

/// An own databag: as first seen, and the changes since.
#[derive(Debug, Default)]
pub struct Own {
    /// As first seen.
    pub seen: Map,
    /// Changes; an empty value removes the key.
    pub changes: Map,
}

impl Own {
    /// Returns the databag with the changes applied.
    #[must_use]
    pub fn view(&self) -> Map {
        let mut view = self.seen.clone();
        for (key, value) in &self.changes {
            if value.is_empty() {
                view.remove(key);
            } else {
                view.insert(key.clone(), value.clone());
            }
        }
        view
    }
}

impl Context {
    /// Makes the context of a hook.
    #[must_use]
    pub fn of_hook(id: String, unit: &str, hook: &Hook) -> Self {
        let mut context = Self {
            id,
            unit: unit.to_owned(),
            hook: Some(hook.clone()),
            ..Self::default()
        };
        if let Some(relation) = &hook.relation {
            context.relation = Some(relation.id);
            context.remote_unit.clone_from(&relation.unit);
            context.remote_application = Some(relation.application.clone());
        }
        context
    }

    /// Returns the members of a relation as this run sees them.
    ///
    /// Those whose `joined` is committed, the unit whose `joined` runs, and not the one whose `departed` has begun.
    #[must_use]
    pub fn members(&self, model: &Model, relation: u64) -> BTreeSet<String> {
        let Some(unit) = model.units.get(&self.unit) else {
            return BTreeSet::new();
        };
        let mut members: BTreeSet<String> = unit
            .local
            .relations
            .get(&relation)
            .map(|known| known.members.keys().cloned().collect())
            .unwrap_or_default();
        let begun = unit
            .local
            .flight
            .iter()
            .map(|flight| &flight.hook)
            .chain(&self.hook);
        for hook in begun {
            let Some(facts) = hook.relation.as_ref().filter(|facts| facts.id == relation) else {
                continue;
            };
            let Some(other) = &facts.unit else { continue };
            match hook.kind {
                Kind::RelationDeparted => {
                    members.remove(other);
                }
                Kind::RelationJoined | Kind::RelationChanged => {
                    members.insert(other.clone());
                }
                _ => {}
            }
        }
        members
    }
}
