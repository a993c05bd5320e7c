//! Progress: from every state that can be reached, ordinary life alone leads to a settled one.
//!
//! In a finite model that is what fairness needs: who may always take a step that leads on, and is
//! not kept from it for ever, arrives. Stateright's own `eventually` does not follow cycles.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use stateright::Model as _;

use crate::{
    model::{Event, Lock},
    world::World,
};

/// What became of the search.
pub struct Progress {
    pub states: usize,
    pub settled: usize,
    /// A shortest way into a state from which nothing leads to a settled one.
    pub stuck: Option<Vec<(Event, World)>>,
}

fn fingerprint(world: &World) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(world)
}

/// Explores everything and looks for states from which ordinary life cannot settle.
pub fn check(lock: &Lock) -> Progress {
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let mut came_from: Vec<Option<(u32, Event)>> = Vec::new();
    let mut backwards: Vec<Vec<u32>> = Vec::new();
    let mut good: Vec<u32> = Vec::new();
    let mut waiting: VecDeque<(u32, World)> = VecDeque::new();
    let mut ends: Vec<bool> = Vec::new();
    let mut add = |world: &World, from: Option<(u32, Event)>, back: &mut Vec<Vec<u32>>| {
        let next = u32::try_from(back.len()).expect("few states");
        match numbers.entry(fingerprint(world)) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(place) => {
                place.insert(next);
                came_from.push(from);
                back.push(Vec::new());
                (next, true)
            }
        }
    };
    for world in lock.init_states() {
        let (number, new) = add(&world, None, &mut backwards);
        if new {
            waiting.push_back((number, world));
        }
    }
    let mut events = Vec::new();
    while let Some((number, world)) = waiting.pop_front() {
        let settled = Lock::is_settled(&world);
        if settled {
            good.push(number);
        }
        ends.push(settled);
        lock.actions(&world, &mut events);
        for event in events.drain(..) {
            let Some(next) = lock.next_state(&world, event) else {
                continue;
            };
            let (target, new) = add(&next, Some((number, event)), &mut backwards);
            if Lock::is_benign(&world, event) {
                backwards[target as usize].push(number);
            }
            if new {
                waiting.push_back((target, next));
            }
        }
    }
    let settled = good.len();
    let mut reaches = vec![false; backwards.len()];
    while let Some(number) = good.pop() {
        if !std::mem::replace(&mut reaches[number as usize], true) {
            good.extend(&backwards[number as usize]);
        }
    }
    let stuck = reaches
        .iter()
        .position(|reaches| !reaches)
        .map(|number| replay(lock, &came_from, number));
    Progress {
        states: backwards.len(),
        settled,
        stuck,
    }
}

/// Goes on by ordinary life alone from `world`, and returns a state in which that comes to an end.
pub fn dead_end(lock: &Lock, world: &World) -> (Vec<Event>, World) {
    let mut known = std::collections::HashSet::from([fingerprint(world)]);
    let mut waiting = VecDeque::from([(Vec::new(), world.clone())]);
    let mut last = (Vec::new(), world.clone());
    let mut events = Vec::new();
    while let Some((way, world)) = waiting.pop_front() {
        lock.actions(&world, &mut events);
        let benign: Vec<Event> = events
            .drain(..)
            .filter(|event| Lock::is_benign(&world, *event))
            .collect();
        for event in benign {
            if let Some(next) = lock.next_state(&world, event)
                && known.insert(fingerprint(&next))
            {
                let mut way: Vec<Event> = way.clone();
                way.push(event);
                waiting.push_back((way, next));
            }
        }
        last = (way, world);
    }
    last
}

fn replay(
    lock: &Lock,
    came_from: &[Option<(u32, Event)>],
    mut number: usize,
) -> Vec<(Event, World)> {
    let mut events = Vec::new();
    while let Some((before, event)) = came_from[number] {
        events.push(event);
        number = before as usize;
    }
    let mut world = lock.start[number.min(lock.start.len() - 1)].clone();
    let mut way = Vec::new();
    for event in events.into_iter().rev() {
        world = lock.next_state(&world, event).expect("it was taken before");
        way.push((event, world.clone()));
    }
    way
}
