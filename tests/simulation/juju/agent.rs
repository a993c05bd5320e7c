//! A unit's agent: runs one hook after another, commits what succeeded, tries again what failed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use valkey_operator::planner::peer_data::{AppData, UnitData};

use super::{Attachment, Failed, Hook, Life, Member, UPDATE_STATUS};
use crate::{
    hook,
    models::Millis,
    script::Variant,
    time::Bell,
    world::{Ctx, World},
};

/// What a run of the charm handed to Juju.
#[derive(Debug, Default, Clone)]
pub struct Staged {
    /// The unit's databag.
    pub unit: Option<UnitData>,
    /// The application's databag.
    pub app: Option<AppData>,
}

/// How a run of the charm ended.
pub enum Ended {
    /// Exit 0.
    Well(Box<Staged>),
    /// Another exit.
    Failed(String),
    /// Killed from outside.
    Killed,
}

/// A run of the charm that can be killed at any of its commands.
struct Killable {
    ctx: Ctx,
    unit: u8,
    run: Pin<Box<dyn Future<Output = Result<Staged, String>>>>,
}

impl Future for Killable {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let polled = self.run.as_mut().poll(cx);
        let unit = self.unit;
        let killed = self.ctx.with(|world| {
            world
                .machines
                .get_mut(&unit)
                .is_some_and(|machine| machine.fuse == Some(0) && machine.fuse.take().is_some())
        });
        if killed {
            return Poll::Ready(Ended::Killed);
        }
        polled.map(|ended| ended.map_or_else(Ended::Failed, |staged| Ended::Well(Box::new(staged))))
    }
}

/// First pause after a hook that failed.
const RETRY_MIN: Millis = 5_000;
/// Longest one.
const RETRY_MAX: Millis = 300_000;

/// Runs the hooks of a unit until it is dead.
pub async fn run(ctx: Ctx, unit: u8) {
    let mut bell = Bell::default();
    loop {
        let (next, look_at) = ctx.with(|world| {
            let now = world.now();
            (
                world.juju.next_hook(unit, now),
                world.juju.next_look(unit).max(now + 1),
            )
        });
        let Some(hook) = next else {
            if ctx.with(|world| world.juju.units[&unit].life >= Life::Dead) {
                return;
            }
            bell.wait(&ctx.sim, look_at).await;
            continue;
        };
        // What the agent needs to get the hook going.
        let latency = ctx.draw(20, 150);
        ctx.with(|world| {
            let now = world.now();
            if let Some(known) = world.juju.units.get_mut(&unit) {
                known.busy = Some((hook, now));
            }
        });
        ctx.sleep(latency).await;
        ctx.with(|world| begin(world, unit, hook));
        let run = Box::pin(hook::dispatch(ctx.clone(), unit, hook));
        let ended = Killable {
            ctx: ctx.clone(),
            unit,
            run,
        }
        .await;
        ctx.with(|world| {
            conclude(world, unit, hook, ended);
            world.wake_agents();
        });
    }
}

/// What the charm is told by the hook itself is read anew from here on.
fn begin(world: &mut World, unit: u8, hook: Hook) {
    world.note_of(unit, 30, || format!("valkey/{unit} begins {hook:?}"));
    let of = |world: &World, other: u8| {
        let known = &world.juju.units[&other];
        (known.bag.clone(), known.version)
    };
    match hook {
        Hook::Joined(other) => {
            let (cached, seen) = of(world, other);
            let member = Member {
                cached,
                seen,
                changed_due: true,
            };
            if let Some(known) = world.juju.units.get_mut(&unit) {
                known.members.insert(other, member);
            }
        }
        Hook::Changed(other) => {
            let (cached, seen) = of(world, other);
            if let Some(member) = world
                .juju
                .units
                .get_mut(&unit)
                .and_then(|known| known.members.get_mut(&other))
            {
                member.cached = cached;
                member.seen = seen;
            }
        }
        Hook::Departed(other) => {
            if let Some(known) = world.juju.units.get_mut(&unit) {
                known.members.remove(&other);
            }
        }
        Hook::RelationCreated => {
            if let Some(known) = world.juju.units.get_mut(&unit) {
                known.entered = true;
            }
        }
        _ => {}
    }
    let versions = (world.juju.app_version, world.juju.config_version);
    if let Some(known) = world.juju.units.get_mut(&unit) {
        known.begun_with = versions;
    }
}

fn conclude(world: &mut World, unit: u8, hook: Hook, ended: Ended) {
    let now = world.now();
    let begun = world.juju.units[&unit].busy.map_or(now, |(_, at)| at);
    world.oracles.hook_took(unit, hook, begun, now);
    if let Some(known) = world.juju.units.get_mut(&unit) {
        known.busy = None;
    }
    if matches!(hook, Hook::Confirm(_))
        && let Some(known) = world.juju.units.get_mut(&unit)
    {
        known.confirm = None;
    }
    let (committed, why) = match ended {
        Ended::Well(staged) => match commit(world, unit, &staged) {
            Ok(()) => (true, String::new()),
            Err(why) => (false, why),
        },
        Ended::Failed(why) => (false, why),
        Ended::Killed => {
            world.note_of(unit, 31, || format!("valkey/{unit} {hook:?} killed"));
            if hook == Hook::Exec {
                exec_ended(world, unit, false);
            } else if matches!(hook, Hook::Confirm(_)) {
                // An action is not tried again; the person is.
            } else if let Some(known) = world.juju.units.get_mut(&unit) {
                // A hook that was killed is simply queued again.
                known.failed = Some(Failed {
                    hook,
                    until: now,
                    pause: RETRY_MIN,
                });
            }
            return;
        }
    };
    if hook == Hook::Exec {
        world.note_of(unit, 32, || format!("valkey/{unit} woken pass ends {why}"));
        exec_ended(world, unit, committed);
        return;
    }
    if matches!(hook, Hook::Confirm(_)) {
        world.note_of(unit, 36, || format!("valkey/{unit} action ends {why}"));
        return;
    }
    if committed {
        world.note_of(unit, 33, || format!("valkey/{unit} commits {hook:?}"));
        take_effect(world, unit, hook);
    } else {
        world.note_of(unit, 34, || format!("valkey/{unit} {hook:?} fails: {why}"));
        world.oracles.hook_failed(now, unit, hook, &why);
        if let Some(known) = world.juju.units.get_mut(&unit) {
            let pause = known
                .failed
                .map_or(RETRY_MIN, |failed| (failed.pause * 2).min(RETRY_MAX));
            known.failed = Some(Failed {
                hook,
                until: now + pause,
                pause,
            });
        }
    }
}

fn exec_ended(world: &mut World, unit: u8, well: bool) {
    if let Some(known) = world.juju.units.get_mut(&unit) {
        known.exec_wanted = false;
        known.exec_done = Some(well);
    }
    let watch = world
        .machines
        .get(&unit)
        .and_then(|machine| machine.watch.as_ref())
        .map(|watch| watch.task);
    if let Some(task) = watch {
        world.sim.wake(task);
    }
}

/// Makes what a run handed over visible to all at one instant.
fn commit(world: &mut World, unit: u8, staged: &Staged) -> Result<(), String> {
    if staged.app.is_some() && !world.juju.is_leader(unit) && !world.deciders.late_leader_writes {
        return Err("the leadership was lost before the commit".to_owned());
    }
    if let Some(bag) = &staged.unit
        && let Some(known) = world.juju.units.get_mut(&unit)
        && known.bag != *bag
    {
        known.bag.clone_from(bag);
        known.version += 1;
    }
    if let Some(app) = &staged.app
        && world.juju.app != *app
    {
        world.juju.app.clone_from(app);
        world.juju.app_version += 1;
        world.note_of(unit, 35, || {
            format!(
                "application: founding {:?} turn {:?}",
                app.founding.as_ref().map(|founding| (
                    founding.unit.to_string(),
                    founding.reason,
                    founding.done
                )),
                app.turn
            )
        });
    }
    Ok(())
}

fn take_effect(world: &mut World, unit: u8, hook: Hook) {
    let now = world.now();
    let variant = world.juju.variant;
    let pause = match variant {
        Variant::Juju36 => world.rng.u64(100..2_000),
        Variant::Juju40 | Variant::Silent => world.rng.u64(500..10_000),
    };
    let Some(known) = world.juju.units.get_mut(&unit) else {
        return;
    };
    known.failed = None;
    match hook {
        Hook::StorageAttached => known.storage = Attachment::Attached,
        Hook::StorageDetaching => known.storage = Attachment::None,
        Hook::Install => known.installed = true,
        Hook::RelationCreated => known.created = true,
        Hook::LeaderElected => known.told_leader = true,
        Hook::ConfigChanged => known.config_seen = known.begun_with.1,
        Hook::Start => {
            known.started = true;
            known.rebooted = false;
        }
        Hook::Changed(other) => {
            if let Some(member) = known.members.get_mut(&other) {
                member.changed_due = false;
            }
        }
        Hook::AppChanged => known.app_seen = known.begun_with.0,
        Hook::UpdateStatus => known.update_at = now + UPDATE_STATUS,
        Hook::Stop => known.stopped = true,
        Hook::Remove => {
            known.removed = true;
            known.life = Life::Dead;
        }
        Hook::Joined(_) | Hook::Departed(_) | Hook::Exec | Hook::Confirm(_) => {}
    }
    match hook {
        Hook::StorageDetaching => crate::faults::shelve(world, unit),
        Hook::Remove => {
            let at = now + pause;
            world.juju_later(unit, at);
        }
        _ => {}
    }
}
