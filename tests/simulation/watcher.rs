//! The watcher, as `src/watch`: wakes the charm, and writes down how far the local data is.

use valkey_operator::{
    limits::{WAKE_RETRY_MAX, WAKE_SPACING, WATCH_PERIOD},
    planner::{
        observation::Process,
        record::{Watched, watched},
    },
};

use crate::{
    models::Millis,
    steps::ms,
    time::Bell,
    world::{Ctx, World},
};

/// Within which time the model of the watcher notices something; the real one is told at once.
const PERIOD: Millis = 100;

/// The waker: one call at a time, repeated until it worked.
#[derive(Default)]
struct Waker {
    wanted_at: Option<Millis>,
    in_flight: bool,
    pause: Millis,
}

/// Lets the watchers look around if anything was announced, or a process started or ended, since `stirred`.
pub fn tell(world: &World, stirred: &mut u64) {
    if *stirred == world.cluster.stirred() {
        return;
    }
    *stirred = world.cluster.stirred();
    for machine in world.machines.values() {
        if let Some(watch) = &machine.watch {
            world.sim.wake(watch.task);
        }
    }
}

/// Watches until it is stopped.
pub async fn run(ctx: Ctx, unit: u8) {
    let mut waker = Waker {
        pause: 1_000,
        ..Waker::default()
    };
    let mut before = (Process::Stopped, Process::Stopped);
    let begun = ctx.sim.now();
    let mut heard = ctx.with(|world| {
        let host = world.host(unit).unwrap_or_default().to_owned();
        if let Some(known) = world.juju.units.get_mut(&unit) {
            known.exec_done = None;
        }
        world.cluster.announced(&host)
    });
    let mut tick_at = begun + PERIOD;
    let mut bell = Bell::default();
    loop {
        let due = waker.due().map_or(tick_at, |wake_at| wake_at.min(tick_at));
        bell.wait(&ctx.sim, due).await;
        let late = (ctx.sim.now() - begun) % PERIOD;
        if late > 0 {
            ctx.sleep(PERIOD - late).await;
        }
        let going = ctx.with(|world| {
            let now = world.now();
            let Some(machine) = world.machines.get(&unit) else {
                return false;
            };
            let host = machine.host.as_str();
            let processes = world.cluster.processes_on(host);
            let ended = |before, after| before == Process::Running && after == Process::Stopped;
            let mut wake = ended(before.0, processes.0)
                || ended(before.1, processes.1)
                // What was announced while nobody listened is lost: look again.
                || (before.1 == Process::Stopped && processes.1 == Process::Running);
            before = processes;
            let announced = world.cluster.announced(host);
            if announced != heard {
                heard = announced;
                wake |= world
                    .cluster
                    .announcements(host)
                    .iter()
                    .any(|announcement| matters(announcement.channel));
            }
            if now >= tick_at {
                tick_at = now + ms(WATCH_PERIOD);
                let seconds = world.unix_now();
                if let Some(machine) = world.machines.get_mut(&unit)
                    && machine.wake.is_some_and(|at| at <= seconds)
                {
                    machine.wake = None;
                    wake = true;
                }
                record(world, unit);
            }
            if wake && waker.wanted_at.is_none() {
                waker.wanted_at = Some(now + ms(WAKE_SPACING));
            }
            waker.serve(world, unit, now);
            true
        });
        if !going {
            return;
        }
    }
}

impl Waker {
    /// Returns when it calls next, if nothing happens before.
    fn due(&self) -> Option<Millis> {
        self.wanted_at.filter(|_| !self.in_flight)
    }

    fn serve(&mut self, world: &mut World, unit: u8, now: Millis) {
        let deaf = world.machines[&unit].deaf_until > now;
        let Some(known) = world.juju.units.get_mut(&unit) else {
            return;
        };
        if self.in_flight {
            match known.exec_done.take() {
                Some(true) => {
                    self.in_flight = false;
                    self.pause = 1_000;
                }
                Some(false) => {
                    self.in_flight = false;
                    self.wanted_at = Some(now + self.pause);
                    self.pause = (self.pause * 2).min(ms(WAKE_RETRY_MAX));
                }
                None => return,
            }
        }
        if self.wanted_at.is_some_and(|at| at <= now) {
            if deaf {
                self.wanted_at = Some(now + self.pause);
                self.pause = (self.pause * 2).min(ms(WAKE_RETRY_MAX));
                return;
            }
            self.wanted_at = None;
            self.in_flight = true;
            known.exec_wanted = true;
            known.exec_done = None;
            world.wake_agents();
        }
    }
}

/// Returns whether an announcement has to be looked at, as `matters` of the real watcher.
fn matters(channel: &str) -> bool {
    !matches!(
        channel,
        "+try-failover"
            | "+elected-leader"
            | "+promoted-slave"
            | "+failover-end"
            | "+failover-end-for-timeout"
            | "+config-update-from"
            | "+new-epoch"
            | "+vote-for-leader"
    )
}

/// Writes down how far the local data is, as `src/watch/position.rs`.
fn record(world: &mut World, unit: u8) {
    let now = world.unix_now();
    let Some(machine) = world.machines.get_mut(&unit) else {
        return;
    };
    if !machine.mounted {
        return;
    }
    let Some(facts) = world.cluster.watched(&machine.host) else {
        return;
    };
    let seen = Watched {
        history: &facts.history,
        offset: facts.offset,
        primary: facts.primary,
        cut_off: false,
        loading: false,
    };
    let known = machine.position.as_ref();
    if let Some(mut position) = watched(&seen, &machine.host, facts.named, known, now) {
        (world.deciders.position)(&mut position);
        machine.position = Some(position);
    }
}
