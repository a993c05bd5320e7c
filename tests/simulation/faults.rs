//! Faults carried out on the world, and what ends them.

use valkey_operator::planner::{observation::Process, peer_data::UnitState};

use crate::{
    clients::CLIENT_HOST,
    juju::{Attachment, Failed, Hook, Life, agent},
    machine::{Machine, Shelved},
    models::{Disk, Millis, SentinelCommand, ServerCommand},
    oracles::{self, Harmful},
    script::{Fault, Harm},
    steps::processes::stop_watch,
    world::{Ctx, World},
};

/// Plays the script.
pub async fn play(ctx: Ctx) {
    let faults = ctx.with(|world| world.script.faults.clone());
    for (at, fault) in faults {
        let now = ctx.sim.now();
        if at > now {
            ctx.sleep(at - now).await;
        }
        befall(&ctx, &fault);
    }
}

/// Does something later.
fn later(ctx: &Ctx, after: Millis, act: impl FnOnce(&Ctx) + 'static) {
    let own = ctx.clone();
    ctx.sim.spawn(None, async move {
        own.sleep(after).await;
        act(&own);
    });
}

fn heal(ctx: &Ctx, after: Millis, what: &'static str, act: impl FnOnce(&mut World) + 'static) {
    later(ctx, after, move |ctx| {
        ctx.with(|world| {
            world.note(90, || format!("healed: {what}"));
            act(world);
        });
    });
}

/// Returns the host of a unit that runs on a machine with power.
fn powered(world: &World, unit: u8) -> Option<String> {
    let machine = world.machines.get(&unit)?;
    machine.on.then(|| machine.host.clone())
}

/// Lets a fault happen.
#[allow(clippy::too_many_lines, reason = "one short arm for each fault")]
pub fn befall(ctx: &Ctx, fault: &Fault) {
    let exists = |unit: u8| ctx.with(|world| powered(world, unit));
    ctx.with(|world| {
        world.note(91, || format!("FAULT {fault}"));
        let now = world.now();
        if let Harm::Writes(duration) = fault.harm() {
            let member = |unit: &&u8| world.juju.units[*unit].bag.state == UnitState::Member;
            let fenced = world.juju.alive().iter().filter(member).count() >= 3
                && !world
                    .script
                    .faults
                    .iter()
                    .any(|(_, fault)| matches!(fault, Fault::SetMinReplicas { .. }));
            world.oracles.harmful.push(Harmful {
                begin: now,
                end: now + duration,
                fenced,
            });
        }
        if fault.harm() == Harm::Everything {
            world.oracles.flushed = Some(now);
        }
    });
    match *fault {
        Fault::KillServer { unit } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| world.cluster.kill_server(&host));
            }
        }
        Fault::KillSentinel { unit } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| world.cluster.stop_sentinel(&host));
            }
        }
        Fault::KillUnit { unit } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| {
                    world.cluster.kill_server(&host);
                    world.cluster.stop_sentinel(&host);
                    stop_watch(world, unit);
                });
            }
        }
        Fault::KillWatcher { unit } => ctx.with(|world| stop_watch(world, unit)),
        Fault::FreezeServer { unit, duration } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| world.cluster.freeze_server(&host));
                heal(ctx, duration, "server", move |world| {
                    if let Some(host) = world.host(unit).map(str::to_owned) {
                        world.cluster.thaw_server(&host);
                    }
                });
            }
        }
        Fault::FreezeSentinel { unit, duration } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| world.cluster.freeze_sentinel(&host));
                heal(ctx, duration, "sentinel", move |world| {
                    if let Some(host) = world.host(unit).map(str::to_owned) {
                        world.cluster.thaw_sentinel(&host);
                    }
                });
            }
        }
        Fault::FreezeMachine { unit, duration } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| {
                    world.cluster.freeze_host(&host);
                    world.sim.freeze(unit);
                    if let Some(machine) = world.machines.get_mut(&unit) {
                        machine.frozen = true;
                    }
                });
                heal(ctx, duration, "machine", move |world| {
                    if let Some(machine) = world.machines.get_mut(&unit) {
                        machine.frozen = false;
                    }
                    if let Some(host) = world.host(unit).map(str::to_owned) {
                        world.cluster.thaw_host(&host);
                    }
                    world.sim.thaw(unit);
                });
            }
        }
        Fault::Reboot { unit, duration } => reboot(ctx, unit, duration, Disk::Kept, false),
        Fault::LoseDisk { unit, duration } => {
            ctx.with(|world| oracles::disk_lost(world, unit));
            reboot(ctx, unit, duration, Disk::Lost, false);
        }
        Fault::MoveAddress { unit, duration } => reboot(ctx, unit, duration, Disk::Kept, true),
        Fault::RebootAll { duration, apart } => {
            let units = ctx.with(|world| world.juju.alive());
            let mut after = duration;
            for unit in units {
                reboot(ctx, unit, after, Disk::Kept, false);
                after += apart;
            }
        }
        Fault::LoseMachine { unit, duration } => {
            if exists(unit).is_some() {
                ctx.with(|world| oracles::disk_lost(world, unit));
                power_off(ctx, unit, Disk::Lost);
                later(ctx, duration, move |ctx| {
                    ctx.with(|world| force_remove(world, unit));
                });
            }
        }
        Fault::CutOff { unit, duration } => cut_off(ctx, unit, duration),
        Fault::CutPair {
            unit,
            other,
            duration,
        } => {
            cut(ctx, unit, other, duration);
            cut(ctx, other, unit, duration);
        }
        Fault::CutOneWay {
            unit,
            other,
            duration,
        } => cut(ctx, unit, other, duration),
        Fault::SlowDisk { unit, duration } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| {
                    world.oracles.slow_disk = true;
                    world.cluster.set_slow_disk(&host, true);
                });
                heal(ctx, duration, "disk", move |world| {
                    if let Some(host) = world.host(unit).map(str::to_owned) {
                        world.cluster.set_slow_disk(&host, false);
                    }
                });
            }
        }
        Fault::FullDisk { unit, duration } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| world.cluster.fill_disk(&host, true));
                heal(ctx, duration, "disk", move |world| {
                    if let Some(host) = world.host(unit).map(str::to_owned) {
                        world.cluster.fill_disk(&host, false);
                    }
                });
            }
        }
        Fault::SlowReplication {
            unit,
            delay,
            duration,
        } => {
            if let Some(host) = exists(unit) {
                ctx.with(|world| world.cluster.slow_replication(&host, delay));
                heal(ctx, duration, "replication", move |world| {
                    if let Some(host) = world.host(unit).map(str::to_owned) {
                        world.cluster.slow_replication(&host, 0);
                    }
                });
            }
        }
        Fault::AgentAway { unit, duration } => ctx.with(|world| {
            let until = world.now() + duration;
            if let Some(known) = world.juju.units.get_mut(&unit) {
                known.away_until = until;
            }
        }),
        Fault::LoseWakeups { unit, duration } => ctx.with(|world| {
            let until = world.now() + duration;
            if let Some(machine) = world.machines.get_mut(&unit) {
                machine.deaf_until = until;
            }
        }),
        Fault::KillHook { unit, after } => ctx.with(|world| {
            if let Some(machine) = world.machines.get_mut(&unit) {
                machine.fuse = Some(after + 1);
            }
        }),
        Fault::LoseAnswer { unit, after } => ctx.with(|world| {
            if let Some(machine) = world.machines.get_mut(&unit) {
                machine.lose_answer = Some(after);
            }
        }),
        Fault::MoveLeader { unit } => ctx.with(|world| {
            if world.juju.alive().contains(&unit) {
                world.lead(unit);
            }
        }),
        Fault::AddUnit {} => add_unit(ctx, None),
        Fault::AddUnitReusing {} => {
            let shelved = ctx.with(|world| {
                // The latest: whoever brings back an older copy wants that.
                let gone = |world: &World, unit: u8| {
                    let known = world.juju.units.get(&unit);
                    known.is_none_or(|unit| unit.life == Life::Gone)
                };
                let free = world
                    .shelf
                    .iter()
                    .rposition(|shelved| gone(world, shelved.of))?;
                let last = free + 1 == world.shelf.len();
                let leaving =
                    |unit: &&u8| !world.juju.alive().contains(unit) && !gone(world, **unit);
                let newest = last && world.juju.units.keys().filter(leaving).count() == 0;
                if newest && world.cluster.primaries().is_empty() {
                    // What it holds is not gone after all, unless somebody has begun anew without it.
                    world.oracles.gone_at = None;
                }
                Some(world.shelf.remove(free))
            });
            add_unit(ctx, shelved);
        }
        Fault::RemoveUnit { unit } => ctx.with(|world| {
            oracles::taken_away(world, unit);
            if let Some(known) = world.juju.units.get_mut(&unit)
                && known.life == Life::Alive
            {
                known.life = Life::Dying;
                world.wake_agents();
            }
        }),
        Fault::ForceRemove { unit } => ctx.with(|world| force_remove(world, unit)),
        Fault::DetachStorage { unit, duration } => {
            let detaching = ctx.with(|world| {
                let known = world.juju.units.get_mut(&unit);
                let known = known.filter(|known| {
                    known.life == Life::Alive && known.storage == Attachment::Attached
                });
                let Some(known) = known else { return false };
                known.storage = Attachment::Detaching;
                world.wake_agents();
                true
            });
            if detaching {
                later(ctx, duration, move |ctx| reattach(ctx, unit));
            }
        }
        Fault::StartOption { value } => ctx.with(|world| {
            world.juju.start_digest = format!("options-{value}");
            world.juju.config_version += 1;
            world.wake_agents();
        }),
        Fault::FlushAll {} => ctx.with(|world| {
            let primary = world
                .cluster
                .primaries()
                .first()
                .map(|&host| host.to_owned());
            if let Some(host) = primary {
                let _ = world
                    .cluster
                    .server_command(&host, &host, &ServerCommand::FlushAll);
            }
        }),
        Fault::SetMinReplicas { unit, value } => {
            user_server(ctx, unit, &ServerCommand::SetMinReplicas(value));
        }
        Fault::SetPriority { unit, value } => {
            user_server(ctx, unit, &ServerCommand::SetPriority(value));
        }
        Fault::ResetSentinel { unit } => {
            ctx.with(|world| world.oracles.user_reset = world.now());
            user_sentinel(ctx, unit, &SentinelCommand::Reset);
        }
        Fault::PlainFailover { unit } => {
            ctx.with(|world| {
                let now = world.now();
                world.oracles.by_hand.push(now);
            });
            user_sentinel(ctx, unit, &SentinelCommand::Failover);
        }
    }
}

fn user_server(ctx: &Ctx, unit: u8, command: &ServerCommand) {
    ctx.with(|world| {
        if let Some(host) = powered(world, unit) {
            let _ = world.cluster.server_command(&host, &host, command);
        }
    });
}

fn user_sentinel(ctx: &Ctx, unit: u8, command: &SentinelCommand) {
    ctx.with(|world| {
        if let Some(host) = powered(world, unit) {
            let _ = world.cluster.sentinel_command(&host, &host, command);
        }
    });
}

/// The machine of the clients, as an end of a cut.
const CLIENTS: u8 = u8::MAX;

/// Cuts the way from one machine to another; cuts that overlap end with the last of them.
fn cut(ctx: &Ctx, from: u8, to: u8, duration: Millis) {
    if from == to || !ctx.with(|world| world.change_cut(from, to, 1)) {
        return;
    }
    heal(ctx, duration, "cut", move |world| {
        world.change_cut(from, to, -1);
    });
}

fn cut_off(ctx: &Ctx, unit: u8, duration: Millis) {
    ctx.with(|world| {
        let now = world.now();
        if let Some(host) = world.host(unit).map(str::to_owned) {
            world.oracles.isolated.push((host, now, now + duration));
        }
    });
    let others: Vec<u8> = ctx.with(|world| world.machines.keys().copied().collect());
    for other in others.into_iter().chain([CLIENTS]) {
        if other != unit {
            cut(ctx, unit, other, duration);
            cut(ctx, other, unit, duration);
        }
    }
}

fn reboot(ctx: &Ctx, unit: u8, duration: Millis, disk: Disk, moved: bool) {
    if ctx.with(|world| powered(world, unit)).is_none() {
        return;
    }
    power_off(ctx, unit, disk);
    later(ctx, duration, move |ctx| power_on(ctx, unit, moved));
}

fn power_off(ctx: &Ctx, unit: u8, disk: Disk) {
    ctx.with(|world| {
        stop_watch(world, unit);
        let now = world.now();
        if let Some(known) = world.juju.units.get_mut(&unit) {
            if let Some(agent) = known.agent.take() {
                world.sim.cancel(agent);
            }
            // A hook that the agent began and never finished counts as failed.
            if let Some((hook, _)) = known.busy.take()
                && !matches!(hook, Hook::Exec | Hook::Confirm(_))
            {
                known.failed = Some(Failed {
                    hook,
                    until: now + 5_000,
                    pause: 5_000,
                });
            }
            known.exec_wanted = false;
            known.confirm = None;
            known.exec_done = None;
        }
        let Some(machine) = world.machines.get_mut(&unit) else {
            return;
        };
        machine.on = false;
        machine.frozen = false;
        machine.fuse = None;
        machine.lose_answer = None;
        if disk == Disk::Lost {
            machine.identity = None;
            machine.position = None;
        }
        let host = machine.host.clone();
        world.sim.thaw(unit);
        world.cluster.power_off(&host, disk);
    });
}

fn power_on(ctx: &Ctx, unit: u8, moved: bool) {
    ctx.with(|world| {
        let now = world.now();
        let fresh = moved.then(|| world.new_address());
        let Some(machine) = world.machines.get_mut(&unit) else {
            return;
        };
        machine.on = true;
        machine.booted_at = now;
        let old = machine.host.clone();
        if let Some(new) = fresh {
            machine.host.clone_from(&new);
            world.cluster.move_host(&old, &new);
            if let Some(known) = world.juju.units.get_mut(&unit) {
                known.config_seen = 0;
            }
        }
        let host = world.machines[&unit].host.clone();
        world.note(92, || format!("valkey/{unit} has power again at {host}"));
        world.cluster.power_on(&host);
        if let Some(known) = world.juju.units.get_mut(&unit) {
            known.rebooted = true;
            known.agent = Some(ctx.sim.spawn(Some(unit), agent::run(ctx.clone(), unit)));
        }
    });
}

/// Adds a unit with its machine, with storage that was left or with new one.
pub fn add_unit(ctx: &Ctx, shelved: Option<Shelved>) {
    ctx.with(|world| {
        let now = world.now();
        if world.juju.none_alive() && !world.cluster.acknowledged().is_empty() {
            world.oracles.gone_at = world.oracles.gone_at.or(shelved.is_none().then_some(now));
        }
        let unit = world.juju.add(now);
        let host = world.new_address();
        world.cluster.add_host(&host);
        let mut machine = Machine {
            host: host.clone(),
            on: true,
            mounted: true,
            booted_at: now,
            ..Machine::default()
        };
        if let Some(shelved) = shelved {
            world.cluster.attach_disk(&host, shelved.disk);
            machine.identity = shelved.identity;
            machine.position = shelved.position;
        }
        world.machines.insert(unit, machine);
        let agent = ctx.sim.spawn(Some(unit), agent::run(ctx.clone(), unit));
        if let Some(known) = world.juju.units.get_mut(&unit) {
            known.agent = Some(agent);
        }
        world.wake_agents();
    });
}

fn force_remove(world: &mut World, unit: u8) {
    let Some(known) = world.juju.units.get_mut(&unit) else {
        return;
    };
    if known.life >= Life::Dead {
        return;
    }
    known.life = Life::Gone;
    known.busy = None;
    if let Some(agent) = known.agent.take() {
        world.sim.cancel(agent);
    }
    world.note(93, || format!("valkey/{unit} is removed by force"));
    stop_watch(world, unit);
    world.sim.thaw(unit);
    if let Some(machine) = world.machines.remove(&unit) {
        world.cluster.remove_host(&machine.host);
    }
    world.wake_agents();
}

fn reattach(ctx: &Ctx, unit: u8) {
    let again = ctx.with(|world| {
        let Some(known) = world.juju.units.get_mut(&unit) else {
            return false;
        };
        if known.life != Life::Alive {
            return false;
        }
        if known.storage != Attachment::None {
            // It still leaves: a person attaches the storage once it is free.
            return true;
        }
        let Some(at) = world.shelf.iter().position(|shelved| shelved.of == unit) else {
            return false;
        };
        known.storage = Attachment::New;
        let shelved = world.shelf.remove(at);
        if let Some(machine) = world.machines.get_mut(&unit) {
            machine.mounted = true;
            machine.identity = shelved.identity;
            machine.position = shelved.position;
            world.cluster.attach_disk(&machine.host, shelved.disk);
        }
        world.note(94, || format!("valkey/{unit} has its storage again"));
        world.wake_agents();
        false
    });
    if again {
        later(ctx, 5_000, move |ctx| reattach(ctx, unit));
    }
}

/// Takes the storage of a unit away, whose hook agreed.
pub fn shelve(world: &mut World, unit: u8) {
    let Some(machine) = world.machines.get_mut(&unit) else {
        return;
    };
    let host = machine.host.clone();
    machine.mounted = false;
    machine.wake = None;
    let (identity, position) = (machine.identity.take(), machine.position.take());
    let facts = world.cluster.local(&host);
    if facts.server == Process::Running || facts.sentinel == Process::Running {
        world.breach(
            "storage",
            format!("valkey/{unit} lets its storage go while its processes use it"),
        );
        world.cluster.kill_server(&host);
        world.cluster.stop_sentinel(&host);
    }
    let disk = world.cluster.detach_disk(&host);
    world.shelf.push(Shelved {
        disk,
        identity,
        position,
        of: unit,
    });
}

impl World {
    fn end_of_cut(&self, unit: u8) -> Option<String> {
        if unit == CLIENTS {
            return Some(CLIENT_HOST.to_owned());
        }
        self.host(unit).map(str::to_owned)
    }

    /// Begins (1) or ends (-1) a cut; false if one of the machines does not exist.
    fn change_cut(&mut self, from: u8, to: u8, by: i8) -> bool {
        let (Some(source), Some(target)) = (self.end_of_cut(from), self.end_of_cut(to)) else {
            return false;
        };
        let count = self.cuts.entry((from, to)).or_default();
        *count += by;
        if *count > 0 {
            self.cluster.cut(&source, &target);
        } else {
            self.cluster.heal(&source, &target);
        }
        true
    }

    /// Returns whether a machine has this address.
    pub fn exists(&self, host: &str) -> bool {
        self.machines.values().any(|machine| machine.host == host)
    }

    /// Returns an address that was never used.
    pub fn new_address(&mut self) -> String {
        self.addresses += 1;
        format!("10.0.0.{}", self.addresses)
    }

    /// Deletes a unit that is dead, at `at`.
    pub fn juju_later(&mut self, unit: u8, at: Millis) {
        self.deletions.push((at, unit));
    }

    /// Deletes the units whose time has come.
    pub fn delete_units(&mut self) {
        let now = self.now();
        let due: Vec<u8> = self
            .deletions
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, unit)| *unit)
            .collect();
        if due.is_empty() {
            return;
        }
        self.deletions.retain(|(at, _)| *at > now);
        for unit in due {
            if let Some(known) = self.juju.units.get_mut(&unit) {
                known.life = Life::Gone;
                known.agent = None;
            }
            self.note(95, || format!("valkey/{unit} is gone"));
            if let Some(machine) = self.machines.remove(&unit) {
                let facts = self.cluster.local(&machine.host);
                if facts.server == Process::Running || facts.sentinel == Process::Running {
                    self.breach(
                        "left-over",
                        format!("processes of valkey/{unit} outlive it"),
                    );
                }
                self.cluster.remove_host(&machine.host);
            }
        }
        self.wake_agents();
    }
}
