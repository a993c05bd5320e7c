//! Remembers what was decided on what was seen: most states differ in what a unit cannot see.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::world::{App, Bag, Cut, Displaced, Hook, Id, Mark, Op, Stage, Units, World};

/// Everything that an observation is made of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sight {
    me: Id,
    leaves: bool,
    leader: bool,
    app: App,
    present: Units,
    dying: Units,
    mine: Bag,
    others: Vec<Bag>,
    servers: Units,
    sentinels: Units,
    quorums: Vec<u8>,
    data: bool,
    mark: Option<Mark>,
    storage: bool,
    clean: bool,
    primary: Id,
    primary_is_gone: bool,
    listed: Units,
    settings: u8,
    refused: bool,
    lease: Option<Id>,
    cut: Cut,
    displaced: Option<(Displaced, Option<Id>)>,
}

impl Sight {
    pub fn new(world: &World, me: Id, hook: &Hook, leader: bool) -> Self {
        let own = world.unit(me);
        Self {
            me,
            leaves: hook.leaves,
            leader,
            app: hook.app,
            present: hook.present,
            dying: hook.dying,
            mine: hook.mine,
            others: own.cache.clone(),
            servers: Units::of(world.ids().filter(|id| world.unit(*id).server)),
            sentinels: Units::of(world.ids().filter(|id| world.unit(*id).sentinel)),
            quorums: world.units.iter().map(|unit| unit.quorum).collect(),
            data: own.data,
            mark: own.mark,
            storage: !world.broken_storage.has(me),
            clean: own.clean,
            primary: world.primary,
            primary_is_gone: world.primary_is_gone(),
            listed: world.listed,
            settings: world.settings,
            refused: hook.refused,
            lease: world.lease(),
            cut: world.cut,
            displaced: world.displaced.map(|old| (old, world.unit(old.unit).lease)),
        }
    }
}

/// What follows from a look.
#[derive(Clone)]
pub struct Decision {
    pub stage: Stage,
    pub ops: Vec<(Op, bool)>,
    pub leased: bool,
    pub asked: Option<Id>,
    pub permitted: bool,
}

/// What was decided before.
#[derive(Clone, Default)]
pub struct Memo {
    plans: Arc<Mutex<HashMap<Sight, Decision>>>,
    duties: Arc<Mutex<HashMap<Sight, App>>>,
}

fn remember<V: Clone>(
    known: &Mutex<HashMap<Sight, V>>,
    sight: Sight,
    decide: impl FnOnce() -> V,
) -> V {
    let found = known
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&sight)
        .cloned();
    found.unwrap_or_else(|| {
        let decided = decide();
        known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sight, decided.clone());
        decided
    })
}

impl Memo {
    pub fn plan(&self, sight: Sight, decide: impl FnOnce() -> Decision) -> Decision {
        remember(&self.plans, sight, decide)
    }

    pub fn duties(&self, sight: Sight, decide: impl FnOnce() -> App) -> App {
        remember(&self.duties, sight, decide)
    }

    /// Returns how many different looks were decided on by the planner.
    pub fn looks(&self) -> usize {
        self.plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
