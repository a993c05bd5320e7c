//! The model: from each state, whatever can happen next.

use stateright::{Model, Property};
use valkey_operator::planner::numbers::sentinel_quorum;

use crate::{
    hook::{self, Luck, Rules},
    world::{Broken, Cut, Id, Life, Stage, State, Units, World},
};

/// A model to check: where it begins, and what decides.
#[derive(Clone)]
pub struct Lock {
    pub start: Vec<World>,
    pub rules: Rules,
    /// Whether a leaving unit reads the others' databags as they were before it began to leave.
    pub frozen: bool,
    /// Whether something can happen between a hook's reading of the databags and its first look.
    pub slow_begin: bool,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A hook begins; what its Juju agent shows of one peer is brought up to date before.
    Begin {
        unit: Id,
        news_of: Option<Id>,
        leaves: bool,
    },
    /// The same, and Juju does not tell the goal state.
    BeginBlind {
        unit: Id,
        leaves: bool,
    },
    Look(Id),
    Step(Id),
    /// A step does not work.
    StepFails(Id),
    Commit(Id),
    /// The hook fails or is killed: what it wrote vanishes.
    Kill(Id),
    Lead(Id),
    /// A unit is added.
    Add(Id),
    /// A unit is to be removed.
    Remove(Id),
    /// A unit that has left is gone from Juju.
    Gone(Id),
    /// A unit is taken away by force.
    Force(Id),
    /// A machine is lost.
    Lose(Id),
    /// Sentinels elect a primary because theirs does not answer.
    Elect(Id),
    /// The primary hangs and is replaced; it comes back as a replica.
    Failover(Id),
    /// A replica receives what the primary has.
    Replicate(Id),
    /// The lease runs out.
    Expire,
    /// A user deletes all keys.
    Flush,
    /// Settings change that need a restart.
    Change,
    /// The network between units is cut.
    Cut(Cut),
    /// An agent loses its controller.
    Silence(Id),
    /// All cuts end.
    Heal,
    /// A primary that was replaced behind a cut is told.
    Demote,
    /// The lease runs out at a primary that was replaced.
    ExpireThere,
}

/// How much of a budget means: any number of times.
pub const ALWAYS: u8 = u8::MAX;

fn spend(budget: &mut u8) {
    if *budget != ALWAYS {
        *budget -= 1;
    }
}

impl Lock {
    /// Returns whether an event is part of ordinary life, on which progress may rely.
    pub fn is_benign(world: &World, event: Event) -> bool {
        match event {
            Event::Begin { .. }
            | Event::Look(_)
            | Event::Step(_)
            | Event::Commit(_)
            | Event::Gone(_)
            | Event::Elect(_)
            | Event::Replicate(_)
            | Event::Expire
            | Event::Heal
            | Event::Demote
            | Event::ExpireThere => true,
            Event::Lead(_) => world.leader.is_none_or(|leader| world.silent.has(leader)),
            // Who is lost with its machine may be waited for until a person removes it.
            Event::Force(unit) => world.unit(unit).lost,
            Event::BeginBlind { .. }
            | Event::StepFails(_)
            | Event::Kill(_)
            | Event::Add(_)
            | Event::Remove(_)
            | Event::Lose(_)
            | Event::Failover(_)
            | Event::Flush
            | Event::Cut(_)
            | Event::Silence(_)
            | Event::Change => false,
        }
    }

    /// Returns whether everything that was asked for is done.
    pub fn is_settled(world: &World) -> bool {
        let members = world
            .ids()
            .filter(|id| world.unit(*id).life == Life::Alive && !world.broken_storage.has(*id));
        let members = Units::of(members);
        let quorum = sentinel_quorum(members.ids().count());
        world.units.iter().all(|unit| unit.hook.is_none())
            && (0..).zip(&world.units).all(|(id, unit)| match unit.life {
                Life::Future | Life::Gone => true,
                Life::Dying => unit.lost,
                Life::Alive => {
                    unit.lost
                        || world.broken_storage.has(id)
                        || unit.bag.state == State::Member
                            && unit.bag.wants.is_none()
                            && unit.server
                            && unit.sentinel
                            && usize::from(unit.quorum) == quorum
                            && unit.bag.settings == world.settings
                }
            })
            && world.lease().is_none()
            && world.cut.is_none()
            && world.silent == Units::default()
            && world.displaced.is_none()
            && world.app.founder.is_some_and(|founder| founder.done)
            && (world.units.iter().any(|unit| unit.lost) || world.listed == members)
    }

    fn hooks(&self, world: &World, unit: Id, events: &mut Vec<Event>) {
        let known = world.unit(unit);
        if let Some(hook) = &known.hook {
            match hook.stage {
                Stage::Look => events.push(Event::Look(unit)),
                Stage::Poll => events.extend([Event::Look(unit), Event::Commit(unit)]),
                Stage::Steps { .. } => {
                    events.push(Event::Step(unit));
                    if world.budget.failures > 0 {
                        events.push(Event::StepFails(unit));
                    }
                }
                Stage::End { .. } => events.push(Event::Commit(unit)),
            }
            if world.budget.kills > 0 {
                events.push(Event::Kill(unit));
            }
            return;
        }
        let left = matches!(known.bag.state, State::Left | State::Detached);
        let leaves = match known.life {
            Life::Alive => false,
            Life::Dying => !left,
            Life::Future | Life::Gone => return,
        };
        if known.lost || world.silent.has(unit) {
            return;
        }
        events.push(Event::Begin {
            unit,
            news_of: None,
            leaves,
        });
        if world.budget.blind > 0 && !leaves {
            events.push(Event::BeginBlind { unit, leaves });
        }
        // A unit that is being removed runs no more hooks for its peers' changes.
        if known.life == Life::Alive || !self.frozen {
            for other in world.ids().filter(|other| *other != unit) {
                if known.cache[usize::from(other)] != world.unit(other).bag {
                    events.push(Event::Begin {
                        unit,
                        news_of: Some(other),
                        leaves,
                    });
                }
            }
        }
    }

    /// Reads anew what Juju keeps no copy of: the databags of units that had not come yet.
    fn read_strangers(&self, world: &mut World, unit: Id) {
        for other in world.ids().filter(|other| *other != unit) {
            let copy = world.unit(unit).cache[usize::from(other)];
            if !self.frozen || !copy.written {
                let bag = world.unit(other).bag;
                world.unit_mut(unit).cache[usize::from(other)] = bag;
            }
        }
    }

    fn begin(&self, world: &mut World, unit: Id, leaves: bool, blind: bool) -> bool {
        let mut hook = hook::begin(&self.rules, world, unit, leaves, blind);
        if !self.slow_begin {
            hook::look(&self.rules, world, unit, &mut hook);
        }
        if matches!(hook.stage, Stage::End { .. }) && !leaves {
            // It ends at once; where it changes nothing either, it was no hook worth the name.
            let before = world.clone();
            hook::commit(&self.rules, world, unit, hook.clone());
            if *world == before {
                return false;
            }
            *world = before;
        }
        world.unit_mut(unit).hook = Some(hook);
        true
    }
}

impl Model for Lock {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        self.start.clone()
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if !world.broken.is_empty() {
            return;
        }
        for unit in world.ids() {
            self.hooks(world, unit, events);
            let founding = world.app.founder.is_none_or(|founder| !founder.done);
            let known = world.unit(unit);
            let there = matches!(known.life, Life::Alive | Life::Dying) && !known.lost;
            match known.life {
                Life::Future => events.push(Event::Add(unit)),
                Life::Alive if world.to_remove.has(unit) => events.push(Event::Remove(unit)),
                Life::Dying if known.hook.is_none() => {
                    let never_was = !known.bag.written;
                    if !known.lost && (never_was || known.bag.state == State::Left) {
                        events.push(Event::Gone(unit));
                    }
                }
                Life::Alive | Life::Dying | Life::Gone => {}
            }
            if world.to_force.has(unit) && matches!(known.life, Life::Alive | Life::Dying) {
                events.push(Event::Force(unit));
            }
            if there && world.leader != Some(unit) {
                let vacant = world.leader.is_none_or(|leader| world.silent.has(leader));
                let elected = vacant && known.life == Life::Alive;
                if (elected || world.budget.moves > 0) && !world.silent.has(unit) {
                    events.push(Event::Lead(unit));
                }
            }
            if there && world.budget.losses > 0 && (known.bag.state == State::Member || founding) {
                events.push(Event::Lose(unit));
            }
            if unit != world.primary && known.server && world.listed.has(unit) {
                let voters = world.listed.ids().count();
                let missed = |id: Id| !world.answers(id, Some(world.primary));
                let voting = world.listed.ids().filter(|id| {
                    world.unit(*id).sentinel && world.cut.reaches(*id, unit) && missed(*id)
                });
                let again = world.serves() && world.displaced.is_some();
                if missed(unit) && !again && known.sentinel && voting.count() > voters / 2 {
                    events.push(Event::Elect(unit));
                }
                if world.serves() && world.budget.failovers > 0 && known.bag.state == State::Member
                {
                    events.push(Event::Failover(unit));
                }
                if world.serves()
                    && (world.budget.failovers > 0 || world.budget.cuts > 0)
                    && known.lease != world.unit(world.primary).lease
                {
                    events.push(Event::Replicate(unit));
                }
            }
        }
        if let Some(holder) = world.lease() {
            let idle = world.unit(holder).hook.is_none();
            if idle || world.budget.expiries > 0 {
                events.push(Event::Expire);
            }
            if world.budget.flushes > 0 {
                events.push(Event::Flush);
            }
        }
        if world.budget.changes > 0 {
            events.push(Event::Change);
        }
        cuts(world, events);
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each event")]
    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        match event {
            Event::Begin {
                unit,
                news_of,
                leaves,
            } => {
                if let Some(other) = news_of {
                    let bag = world.unit(other).bag;
                    world.unit_mut(unit).cache[usize::from(other)] = bag;
                }
                if leaves {
                    self.read_strangers(&mut world, unit);
                }
                if !self.begin(&mut world, unit, leaves, false) && news_of.is_none() {
                    return None;
                }
            }
            Event::BeginBlind { unit, leaves } => {
                spend(&mut world.budget.blind);
                if !self.begin(&mut world, unit, leaves, true) {
                    return None;
                }
            }
            Event::Look(unit) => {
                let mut hook = world.unit_mut(unit).hook.take()?;
                hook::look(&self.rules, &mut world, unit, &mut hook);
                world.unit_mut(unit).hook = Some(hook);
            }
            Event::Step(unit) | Event::StepFails(unit) => {
                let luck = if matches!(event, Event::Step(_)) {
                    Luck::Good
                } else {
                    spend(&mut world.budget.failures);
                    Luck::Bad
                };
                let mut hook = world.unit_mut(unit).hook.take()?;
                hook::step(&self.rules, &mut world, unit, &mut hook, luck);
                world.unit_mut(unit).hook = Some(hook);
            }
            Event::Commit(unit) if world.silent.has(unit) => {
                world.unit_mut(unit).hook.take()?;
            }
            Event::Commit(unit) => {
                let hook = world.unit_mut(unit).hook.take()?;
                hook::commit(&self.rules, &mut world, unit, hook);
            }
            Event::Kill(unit) => {
                spend(&mut world.budget.kills);
                world.unit_mut(unit).hook = None;
            }
            Event::Lead(unit) => {
                if world.leader.is_some_and(|leader| !world.silent.has(leader)) {
                    spend(&mut world.budget.moves);
                }
                if let Some(old) = world.leader
                    && let Some(hook) = &mut world.unit_mut(old).hook
                    && hook.leader
                {
                    hook.deposed = true;
                }
                world.leader = Some(unit);
            }
            Event::Add(unit) => world.unit_mut(unit).life = Life::Alive,
            Event::Remove(unit) => {
                world.to_remove = world.to_remove.without(unit);
                world.unit_mut(unit).life = Life::Dying;
            }
            Event::Gone(unit) => vanish(&mut world, unit),
            Event::Force(unit) => {
                world.to_force = world.to_force.without(unit);
                vanish(&mut world, unit);
            }
            Event::Lose(unit) => {
                spend(&mut world.budget.losses);
                world.unit_mut(unit).lost = true;
                stop(&mut world, unit);
                world.to_force = world.to_force.with(unit);
            }
            Event::Elect(unit) => {
                if world.serves() {
                    hook::displace(&mut world);
                }
                world.primary = unit;
            }
            Event::Cut(cut) => {
                spend(&mut world.budget.cuts);
                world.cut = cut;
            }
            Event::Silence(unit) => {
                spend(&mut world.budget.silences);
                world.silent = world.silent.with(unit);
            }
            Event::Heal => {
                world.cut = Cut::default();
                world.silent = Units::default();
            }
            Event::Demote => {
                let old = world.displaced.take()?;
                world.unit_mut(old.unit).lease = world.lease();
            }
            Event::ExpireThere => {
                let old = world.displaced?;
                world.unit_mut(old.unit).lease = None;
            }
            Event::Failover(unit) => {
                spend(&mut world.budget.failovers);
                world.primary = unit;
            }
            Event::Replicate(unit) => {
                let lease = world.lease();
                world.unit_mut(unit).lease = lease;
            }
            Event::Expire => {
                let holder = world.lease()?;
                if world.unit(holder).hook.is_some() {
                    spend(&mut world.budget.expiries);
                }
                for unit in &mut world.units {
                    if unit.lease == Some(holder) {
                        unit.lease = None;
                    }
                }
            }
            Event::Flush => {
                spend(&mut world.budget.flushes);
                let primary = world.primary;
                world.unit_mut(primary).lease = None;
            }
            Event::Change => {
                spend(&mut world.budget.changes);
                world.settings += 1;
            }
        }
        let holders = world.ids().filter(|id| holds_turn(&world, *id)).count();
        if holders > 1 {
            world.broken.insert(Broken::TwoTurns);
        }
        let world = world.canonical();
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one unit holds the turn", |_, world: &World| {
                !world.broken.contains(&Broken::TwoTurns)
            }),
            Property::always("nobody starts without the turn", |_, world: &World| {
                !world.broken.contains(&Broken::WithoutTurn)
            }),
            Property::always(
                "no grant to a unit that leaves or is gone",
                |_, world: &World| !world.broken.contains(&Broken::GrantToTheDead),
            ),
            Property::always(
                "nobody changes the set on an old look",
                |_, world: &World| !world.broken.contains(&Broken::Stale),
            ),
            Property::always(
                "nobody changes the set while another holds the lease",
                |_, world: &World| !world.broken.contains(&Broken::Intrusion),
            ),
            Property::always("no member is forgotten", |_, world: &World| {
                !world.broken.contains(&Broken::Forgotten)
            }),
            Property::always("nobody deletes the lease of another", |_, world: &World| {
                !world.broken.contains(&Broken::StolenLease)
            }),
            Property::always("never two founders", |_, world: &World| {
                !world.broken.contains(&Broken::TwoFounders)
            }),
            Property::always("no plan breaks an invariant", |_, world: &World| {
                !world.broken.contains(&Broken::Refused)
            }),
        ]
    }
}

/// What can happen to the network.
fn cuts(world: &World, events: &mut Vec<Event>) {
    if world.budget.cuts > 0 && world.cut.is_none() {
        for one in world.ids() {
            events.push(Event::Cut(Cut::isolating(one)));
            let others = world.ids().filter(|other| one < *other);
            events.extend(others.map(|other| Event::Cut(Cut::between(one, other))));
        }
    }
    if world.budget.silences > 0 {
        events.extend(world.ids().map(Event::Silence));
    }
    if !world.cut.is_none() || world.silent != Units::default() {
        events.push(Event::Heal);
    }
    if let Some(old) = world.displaced {
        if world.answers(old.unit, Some(world.primary)) {
            events.push(Event::Demote);
        }
        let holder = world.unit(old.unit).lease;
        if holder.is_some_and(|holder| world.unit(holder).hook.is_none()) {
            events.push(Event::ExpireThere);
        }
    }
}

fn holds_turn(world: &World, id: Id) -> bool {
    let unit = world.unit(id);
    if unit.lost || unit.life == Life::Gone {
        return false;
    }
    let by_view = unit
        .hook
        .as_ref()
        .is_some_and(|hook| hook::holds(hook.app.turn, id, &hook.mine));
    by_view || hook::holds(world.app.turn, id, &unit.bag)
}

fn vanish(world: &mut World, unit: Id) {
    stop(world, unit);
    world.unit_mut(unit).life = Life::Gone;
    if world.leader == Some(unit) {
        world.leader = None;
    }
    for other in world.ids() {
        world.unit_mut(other).cache[usize::from(unit)] = crate::world::Bag::EMPTY;
    }
    world.unit_mut(unit).bag = crate::world::Bag::EMPTY;
    world.unit_mut(unit).cache.fill(crate::world::Bag::EMPTY);
}

fn stop(world: &mut World, unit: Id) {
    let unit = world.unit_mut(unit);
    unit.hook = None;
    unit.server = false;
    unit.sentinel = false;
    unit.quorum = 0;
    unit.lease = None;
}
