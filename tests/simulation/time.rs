//! Virtual time: a single-threaded executor whose clock jumps from one appointment to the next.
//!
//! Nothing here depends on real time or on addresses in memory, so that equal seeds give equal lives.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::models::Millis;

/// What lives on one machine and stands still with it: a unit's number, or nothing.
pub type Group = Option<u8>;

/// A running task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    slot: u32,
    generation: u32,
}

/// A moment at which a task looks around; those at the same moment come in the order of their making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Appointment {
    at: Millis,
    sequence: u64,
    task: TaskId,
}

impl TaskId {
    const fn slot(self) -> usize {
        self.slot as usize
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    generation: u32,
    group: Group,
    future: Option<Boxed>,
    alive: bool,
}

struct Core {
    now: Cell<Millis>,
    sequence: Cell<u64>,
    current: Cell<Option<TaskId>>,
    timers: RefCell<BinaryHeap<Reverse<Appointment>>>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    frozen: RefCell<BTreeMap<u8, Vec<TaskId>>>,
}

/// The clock and everything that waits for it.
#[derive(Clone)]
pub struct Sim(Rc<Core>);

impl Sim {
    /// Makes a clock that stands at 0.
    pub fn new() -> Self {
        Self(Rc::new(Core {
            now: Cell::new(0),
            sequence: Cell::new(0),
            current: Cell::new(None),
            timers: RefCell::default(),
            slots: RefCell::default(),
            free: RefCell::default(),
            frozen: RefCell::default(),
        }))
    }

    /// Returns the present.
    pub fn now(&self) -> Millis {
        self.0.now.get()
    }

    /// Starts a task; it runs for the first time in a moment.
    pub fn spawn(&self, group: Group, future: impl Future<Output = ()> + 'static) -> TaskId {
        let boxed: Boxed = Box::pin(future);
        let slot = self.0.free.borrow_mut().pop();
        let mut slots = self.0.slots.borrow_mut();
        let slot = slot.unwrap_or_else(|| {
            slots.push(Slot {
                generation: 0,
                group: None,
                future: None,
                alive: false,
            });
            slots.len() - 1
        });
        let entry = &mut slots[slot];
        entry.generation += 1;
        entry.group = group;
        entry.future = Some(boxed);
        entry.alive = true;
        let task = TaskId {
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            generation: entry.generation,
        };
        drop(slots);
        self.appoint(self.now(), task);
        task
    }

    /// Ends a task wherever it stands; what it did stays done.
    pub fn cancel(&self, task: TaskId) {
        let gone = {
            let mut slots = self.0.slots.borrow_mut();
            let entry = &mut slots[task.slot()];
            if entry.generation != task.generation || !entry.alive {
                return;
            }
            entry.alive = false;
            entry.future.take()
        };
        // A task that runs now gives its slot back itself.
        if gone.is_some() {
            self.0.free.borrow_mut().push(task.slot());
        }
        drop(gone);
    }

    /// Lets a task look around again now.
    pub fn wake(&self, task: TaskId) {
        self.appoint(self.now(), task);
    }

    fn appoint(&self, at: Millis, task: TaskId) {
        let sequence = self.0.sequence.get();
        self.0.sequence.set(sequence + 1);
        self.0
            .timers
            .borrow_mut()
            .push(Reverse(Appointment { at, sequence, task }));
    }

    /// Stops the time of a group; what falls due meanwhile waits.
    pub fn freeze(&self, group: u8) {
        self.0.frozen.borrow_mut().entry(group).or_default();
    }

    /// Lets a group go on.
    pub fn thaw(&self, group: u8) {
        let waiting = self.0.frozen.borrow_mut().remove(&group);
        for task in waiting.unwrap_or_default() {
            self.appoint(self.now(), task);
        }
    }

    /// Returns the next appointment.
    pub fn next(&self) -> Option<Millis> {
        self.0.timers.borrow().peek().map(|Reverse(next)| next.at)
    }

    /// Runs every task whose appointment is due at `now`, in order.
    pub fn run_until(&self, now: Millis) {
        self.0.now.set(now.max(self.now()));
        loop {
            let due = {
                let mut timers = self.0.timers.borrow_mut();
                match timers.peek() {
                    Some(Reverse(next)) if next.at <= now => {
                        timers.pop().map(|Reverse(next)| next.task)
                    }
                    _ => None,
                }
            };
            let Some(task) = due else { return };
            self.poll(task);
        }
    }

    fn poll(&self, task: TaskId) {
        let taken = {
            let mut slots = self.0.slots.borrow_mut();
            let entry = &mut slots[task.slot()];
            if entry.generation != task.generation || !entry.alive {
                return;
            }
            if let Some(group) = entry.group
                && let Some(waiting) = self.0.frozen.borrow_mut().get_mut(&group)
            {
                waiting.push(task);
                return;
            }
            entry.future.take()
        };
        let Some(mut future) = taken else { return };
        let before = self.0.current.replace(Some(task));
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        self.0.current.set(before);
        let mut slots = self.0.slots.borrow_mut();
        let entry = &mut slots[task.slot()];
        if polled.is_pending() && entry.alive {
            entry.future = Some(future);
        } else {
            entry.alive = false;
            drop(slots);
            self.0.free.borrow_mut().push(task.slot());
            drop(future);
        }
    }

    /// Waits for `duration`.
    pub fn sleep(&self, duration: Millis) -> Sleep {
        Sleep {
            sim: self.clone(),
            until: self.now() + duration,
            appointed: false,
        }
    }

    /// Returns the task that runs now.
    pub fn me(&self) -> Option<TaskId> {
        self.0.current.get()
    }
}

/// A wait for a moment.
pub struct Sleep {
    sim: Sim,
    until: Millis,
    appointed: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.sim.now() >= self.until {
            return Poll::Ready(());
        }
        if !self.appointed
            && let Some(me) = self.sim.me()
        {
            self.sim.appoint(self.until, me);
            self.appointed = true;
        }
        Poll::Pending
    }
}

/// The moments at which a task asked to be woken, so that it asks once for each.
#[derive(Debug, Default)]
pub struct Bell {
    appointed: Vec<Millis>,
}

impl Bell {
    /// Waits until somebody calls [`Sim::wake`], at most until `until`; earlier moments that were asked for wake, too.
    pub async fn wait(&mut self, sim: &Sim, until: Millis) {
        let now = sim.now();
        self.appointed.retain(|at| *at > now);
        if !self.appointed.contains(&until)
            && let Some(me) = sim.me()
        {
            self.appointed.push(until);
            sim.appoint(until, me);
        }
        Told { polled: false }.await;
    }
}

/// A wait for the next moment at which the task looks around.
struct Told {
    polled: bool,
}

impl Future for Told {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.polled, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sim: &Sim) {
        while let Some(at) = sim.next() {
            sim.run_until(at);
        }
    }

    #[test]
    fn appointments_are_kept_in_order_and_frozen_groups_wait() {
        let sim = Sim::new();
        let log: Rc<RefCell<Vec<(Millis, &str)>>> = Rc::default();
        let note = |name: &'static str, group, after| {
            let (own, log) = (sim.clone(), Rc::clone(&log));
            sim.spawn(group, async move {
                own.sleep(after).await;
                log.borrow_mut().push((own.now(), name));
            })
        };
        note("late", None, 30);
        note("early", None, 10);
        note("frozen", Some(1), 5);
        let cancelled = note("cancelled", None, 5);
        sim.freeze(1);
        sim.run_until(0);
        sim.cancel(cancelled);
        let own = sim.clone();
        sim.spawn(None, async move {
            own.sleep(20).await;
            own.thaw(1);
        });
        run(&sim);
        assert_eq!(
            *log.borrow(),
            vec![(10, "early"), (25, "frozen"), (30, "late")]
        );
    }
}
