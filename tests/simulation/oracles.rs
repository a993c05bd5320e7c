//! What must hold of a life: checked as it goes on, and whole at its end.

use std::collections::{BTreeMap, BTreeSet};

use valkey_operator::{
    juju::hook_tools::StatusKind,
    limits::{FAILOVER_TIMEOUT, LEASE_TTL, LEAVE_LIMIT, PASS_LIMIT},
    planner::{
        Intent, Observation, Plan, Step,
        invariants::violations,
        numbers::sentinel_quorum,
        observation::{Lease, Role},
        peer_data::UnitState,
        turn,
    },
    status,
};

use crate::{
    juju::{Attachment, Hook, Life},
    models::{Acknowledged, Millis, WriteId},
    observe,
    script::Fault,
    steps::ms,
    world::{Ctx, World, seconds},
};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// When it was noticed.
    pub at: Millis,
    /// Which promise it breaks.
    pub oracle: &'static str,
    /// What.
    pub what: String,
}

/// A time in which acknowledged writes can be lost.
#[derive(Debug, Clone, Copy)]
pub struct Harmful {
    /// When it began.
    pub begin: Millis,
    /// When it ended.
    pub end: Millis,
    /// Whether the set was large enough for a cut-off primary to stop by itself.
    pub fenced: bool,
}

/// What was noticed so far.
#[derive(Default)]
pub struct Oracles {
    /// Everything that must not have been; the first counts.
    pub breaches: Vec<Breach>,
    /// Whether any unit ever joined.
    pub joined: bool,
    /// Unplanned faults.
    pub harmful: Vec<Harmful>,
    /// When a user last emptied the database.
    pub flushed: Option<Millis>,
    /// When a user last reset a Sentinel.
    pub user_reset: Millis,
    /// When a user told a Sentinel to fail over: it holds nothing back.
    pub by_hand: Vec<Millis>,
    /// When a client's write was last acknowledged.
    pub written_at: Millis,
    /// When all machines' data was last gone by people's own doing: everything before is excused.
    pub gone_at: Option<Millis>,
    /// The same, where somebody has begun anew since, without what is on the shelf.
    pub abandoned_at: Option<Millis>,
    /// Each moment at which a server became primary, and which.
    pub promoted: Vec<(Millis, String)>,
    /// Servers that were primary at the last look.
    primaries: Vec<String>,
    /// Whether a disk was slow at any time.
    pub slow_disk: bool,
    /// Servers that were cut off from all others: which, from when, until when.
    pub isolated: Vec<(String, Millis, Millis)>,
    /// Writes that no server which could have been promoted had when another was.
    nobodys: BTreeSet<WriteId>,
    /// Writes that went with the only disk that held them, where nothing promises that another does.
    vanished: BTreeSet<WriteId>,
    /// When a disk was last lost.
    disk_lost_at: Option<Millis>,
    /// Who took the lease last, and when.
    lease: Option<(u8, Millis)>,
    /// Units whose running hook acts under the turn.
    acting: BTreeSet<u8>,
    /// Looks taken, steps planned, hooks run.
    pub looks: u64,
    /// Hooks run.
    pub hooks: u64,
}

/// Most breaches that are kept; the first one matters.
const BREACHES_MAX: usize = 20;

/// What a pass may take beyond its limit: the last step that it began.
const HOOK_SLACK: Millis = 150_000;

/// How long after a loss begins its writes are still acknowledged: max lag, and the count once a second.
const FENCE: Millis = 4_000;

/// How long before a crash writes can be lost: what had not reached a replica or the disk.
const BEFORE: Millis = 2_500;

/// How long after a fault Sentinel may still act on it: an election that failed is repeated after 20 s.
const CONSEQUENCES: Millis = 60_000;

/// Time between two looks at who is primary.
const LOOK: Millis = 100;

/// How long the last unit goes on after it was removed: one that is added within that time is not seen any more.
const LAST_MOMENT: Millis = 1_000;

/// How much longer what is written needs to reach a slow disk.
const SLOW: Millis = 5_000;

/// How long a displaced primary that nothing fences can go on after the end of a cut.
const CONVERTED: Millis = 14_000;

impl Oracles {
    /// Notes that something is wrong.
    pub fn breach(&mut self, at: Millis, oracle: &'static str, what: String) {
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(Breach { at, oracle, what });
        }
    }

    /// Notes how long a hook took.
    pub fn hook_took(&mut self, unit: u8, hook: Hook, begun: Millis, now: Millis) {
        self.hooks += 1;
        self.acting.remove(&unit);
        let limit = if hook == Hook::StorageDetaching {
            ms(LEAVE_LIMIT)
        } else {
            ms(PASS_LIMIT)
        };
        let _ = (unit, limit);
        if now - begun > limit + HOOK_SLACK {
            self.breach(
                now,
                "time",
                format!(
                    "{hook:?} of valkey/{unit} took {:.1} s",
                    seconds(now - begun)
                ),
            );
        }
    }

    /// Notes that a hook failed; only leaving may, and who lost the leadership meanwhile.
    pub fn hook_failed(&mut self, now: Millis, unit: u8, hook: Hook, why: &str) {
        if hook == Hook::StorageDetaching || why.contains("leader") {
            return;
        }
        // A primary that does not answer while the lease is given back fails the step that a pass ends with.
        self.breach(
            now,
            "failed-hook",
            format!("{hook:?} of valkey/{unit}: {why}"),
        );
    }
}

/// Looks at a decision: the set is counted larger only once every active Sentinel knows the new one.
pub fn decided(world: &mut World, unit: u8, seen: &Observation, plan: &Plan) {
    world.oracles.looks += 1;
    holds_turn(world, unit, seen);
    let me = seen.local.address.as_str();
    let member = seen.mine().data.state == UnitState::Member;
    let unaware = seen
        .other_members()
        .into_iter()
        .filter(|unit| {
            seen.monitor(unit).is_some_and(|monitor| {
                let sentinel = monitor.others.iter().any(|other| other.host == me);
                let replica = monitor.replicas.iter().any(|other| other.host == me);
                !sentinel || !(replica || monitor.primary == me)
            })
        })
        .collect::<Vec<_>>();
    let joined = member || unaware.is_empty();
    let belong = seen.voters() + usize::from(!member && joined);
    for step in plan.steps() {
        match step {
            Step::SetQuorum { quorum, .. } if *quorum > sentinel_quorum(belong) => {
                world.breach(
                    "quorum",
                    format!("{} sets quorum {quorum} for {belong} Sentinels", seen.me),
                );
            }
            Step::SetState(UnitState::Member) if !joined => {
                let why = format!(
                    "{} counts itself, and {} does not know it",
                    seen.me, unaware[0]
                );
                world.breach("joined", why);
            }
            _ => {}
        }
    }
}

/// Notes who acts under the turn: never two at the same time.
fn holds_turn(world: &mut World, unit: u8, seen: &Observation) {
    if !seen.holds_turn() {
        world.oracles.acting.remove(&unit);
        return;
    }
    let other = world.oracles.acting.iter().copied().find(|other| {
        let there = world.juju.units.get(other);
        *other != unit && there.is_some_and(|known| known.life == Life::Alive)
    });
    if let Some(other) = other {
        world.breach(
            "turn",
            format!("valkey/{unit} and valkey/{other} both act under it"),
        );
    }
    world.oracles.acting.insert(unit);
}

/// Looks at the status that a pass leads to: never active while two serve or nobody does.
pub fn status(
    world: &mut World,
    seen: &Observation,
    plan: &Plan,
    failure: Option<&str>,
    leaving: bool,
) {
    if leaving || (failure.is_some() && plan.reason().is_none()) {
        return;
    }
    if status::of_look(seen, plan, None).kind != StatusKind::Active {
        return;
    }
    let serving = seen.serving();
    let truth: Vec<String> = world
        .cluster
        .primaries()
        .into_iter()
        .filter(|host| {
            world
                .machines
                .values()
                .any(|machine| machine.host == *host && machine.on)
        })
        .map(str::to_owned)
        .collect();
    let same = truth.len() == 1
        && serving
            .first()
            .and_then(|unit| seen.host_of(unit))
            .is_some_and(|host| host == truth[0]);
    if !same {
        // The world may have changed in the moments since the look; then the watcher has been told.
        let now = world.now();
        world.oracles.suspicious(now, truth.len());
    }
}

impl Oracles {
    fn suspicious(&mut self, now: Millis, primaries: usize) {
        let recent = self
            .harmful
            .iter()
            .any(|harm| now >= harm.begin && now <= harm.end + CONVERTED);
        if primaries > 1 && !recent {
            self.breach(
                now,
                "O6",
                format!("a unit is active while {primaries} servers are primary"),
            );
        }
    }
}

/// Looks at the start of a server.
pub fn server_starts(world: &mut World, unit: u8, follow: Option<&str>, has_data: bool) {
    world.note_of(unit, 96, || {
        format!(
            "valkey/{unit} starts its server {} data, {}",
            if has_data { "with" } else { "without" },
            follow.map_or_else(
                || "as a primary".to_owned(),
                |host| format!("following {host}")
            )
        )
    });
    if follow.is_some() || has_data || world.cluster.acknowledged().is_empty() {
        return;
    }
    let oracles = &mut world.oracles;
    oracles.abandoned_at = oracles.gone_at.max(oracles.abandoned_at);
    let hosts: Vec<(u8, String)> = world
        .machines
        .iter()
        .filter(|(other, _)| **other != unit)
        .map(|(other, machine)| (*other, machine.host.clone()))
        .collect();
    for (other, host) in hosts {
        let alive = world
            .juju
            .units
            .get(&other)
            .is_some_and(|known| known.life == Life::Alive);
        if alive && world.cluster.local(&host).has_data {
            world.breach(
                "O7",
                format!("valkey/{unit} starts empty as a primary while valkey/{other} has data"),
            );
        }
    }
}

/// Looks at the taking of the lease: not from another that took it and has neither returned nor lost it.
pub fn leased(world: &mut World, unit: u8) {
    world.note(u64::from(unit) << 8 | 0x61, || {
        format!("valkey/{unit} holds the lease")
    });
    let now = world.now();
    if let Some((other, at)) = world.oracles.lease.replace((unit, now)) {
        let ended = now >= at + ms(LEASE_TTL);
        // A failover, or a user's FLUSHALL, may have taken the key along.
        let lost = world
            .oracles
            .promoted
            .last()
            .is_some_and(|(moment, _)| *moment >= at)
            || world.oracles.flushed.is_some_and(|moment| moment >= at);
        if other != unit && !ended && !lost {
            world.breach(
                "lease",
                format!("valkey/{unit} takes the lease that valkey/{other} holds"),
            );
        }
    }
}

/// Notes that the lease was given back.
pub fn lease_returned(world: &mut World, unit: u8) {
    if world
        .oracles
        .lease
        .is_some_and(|(holder, _)| holder == unit)
    {
        world.oracles.lease = None;
    }
}

/// Looks at a reset: no other Sentinel may be without its replicas at that moment.
pub fn reset(world: &mut World, unit: u8, host: &str) {
    let now = world.now();
    let members: Vec<(u8, String)> = world
        .machines
        .iter()
        .filter(|(other, machine)| {
            machine.on
                && machine.host != host
                && world
                    .juju
                    .units
                    .get(other)
                    .is_some_and(|known| known.bag.state == UnitState::Member)
        })
        .map(|(other, machine)| (*other, machine.host.clone()))
        .collect();
    let bare: Vec<u8> = members
        .iter()
        .filter(|(_, other)| {
            world
                .cluster
                .look_at_sentinel(other, other)
                .ok()
                .and_then(|sentinel| sentinel.monitor)
                .is_some_and(|monitor| monitor.replicas.is_empty())
        })
        .map(|(other, _)| *other)
        .collect();
    world.note_of(unit, 98, || {
        format!("valkey/{unit} resets the Sentinel at {host}")
    });
    // A primary that has no replica has nothing to tell.
    let attached = world
        .cluster
        .primaries()
        .first()
        .map(|&primary| primary.to_owned())
        .and_then(|primary| world.cluster.look_at_server(&primary, &primary).ok())
        .is_some_and(|primary| {
            primary.replicas.iter().any(|replica| {
                replica.online
                    && (replica.host == host
                        || members.iter().any(|(_, member)| *member == replica.host))
            })
        });
    if attached && members.len() >= 2 && !bare.is_empty() && now > world.oracles.user_reset + 20_000
    {
        world.breach(
            "reset",
            format!(
                "the Sentinel at {host} is reset while that of valkey/{} knows no replica",
                bare[0]
            ),
        );
    }
}

/// Returns what keeps the application from being settled; nothing when it is.
pub fn unsettled(world: &mut World) -> Option<String> {
    let now = world.now();
    let alive = world.juju.alive();
    for (number, unit) in &world.juju.units {
        match unit.life {
            Life::Dying | Life::Dead => return Some(format!("valkey/{number} is not gone yet")),
            Life::Gone => continue,
            Life::Alive => {}
        }
        if unit.failed.is_some() {
            return Some(format!("a hook of valkey/{number} failed"));
        }
        if unit.storage != Attachment::Attached {
            return Some(format!("valkey/{number} has no storage"));
        }
        if unit.bag.state != UnitState::Member {
            return Some(format!("valkey/{number} is {:?}", unit.bag.state));
        }
        if unit.bag.turn.wants.is_some() {
            return Some(format!("valkey/{number} still wants a turn"));
        }
    }
    if alive.is_empty() {
        return None;
    }
    if let Some(grant) = &world.juju.app.turn
        && turn::in_force(
            grant,
            world
                .known(&grant.holder)
                .map(|unit| &world.juju.units[&unit].bag.turn),
        )
    {
        return Some(format!("{} holds a turn", grant.holder));
    }
    for unit in &alive {
        let seen = observe::truth(world, *unit, Intent::Reconcile)?;
        if let Some(first) = violations(&seen).first() {
            return Some(format!("seen from valkey/{unit}: {first}"));
        }
        let plan = valkey_operator::planner::plan(&seen);
        if plan != Plan::Settled {
            return Some(format!("valkey/{unit} still plans {plan:?}"));
        }
        if seen.lease != Lease::Free {
            return Some(format!("the lease is {:?}", seen.lease));
        }
    }
    let watched = alive
        .iter()
        .find(|unit| world.machines[unit].watch.is_none());
    if let Some(unit) = watched {
        return Some(format!("no watcher runs on valkey/{unit}"));
    }
    (now > world.oracles.written_at + 3_000).then(|| "no write is acknowledged".to_owned())
}

/// Longest that clients may be without an answer where all that happened was planned.
///
/// A hand-over takes milliseconds, a client half a second to look for the primary anew; the rest is for
/// a fence that is lowered just in time.
const PLANNED_GAP: Millis = 1_500;

/// Checks at the end how long clients could not write, where only planned operations ran.
pub fn gaps(world: &mut World) {
    let planned = world.script.faults.iter().all(|(_, fault)| {
        matches!(
            fault,
            Fault::AddUnit {}
                | Fault::RemoveUnit { .. }
                | Fault::MoveLeader { .. }
                | Fault::StartOption { .. }
                | Fault::AgentAway { .. }
                | Fault::LoseWakeups { .. }
                | Fault::KillWatcher { .. }
        )
    });
    // Where all units went, nobody is there to answer until another one comes.
    let gone = world.oracles.gone_at.max(world.oracles.abandoned_at);
    if !planned || world.script.units < 3 || gone.is_some() {
        return;
    }
    let writes = world.cluster.acknowledged();
    let worst = writes
        .windows(2)
        .filter(|pair| pair[0].at >= DEPLOYED)
        .map(|pair| (pair[1].at.saturating_sub(pair[0].at), pair[0].at))
        .max();
    if let Some((gap, at)) = worst.filter(|(gap, _)| *gap > PLANNED_GAP) {
        world.breach(
            "O5",
            format!(
                "no write was acknowledged for {gap} ms from {:.3} s on",
                seconds(at)
            ),
        );
    }
}

/// When every deployment is done.
const DEPLOYED: Millis = 45_000;

/// Checks at the end which acknowledged writes were lost, and whether that was promised.
pub fn losses(world: &mut World) {
    let primaries: Vec<String> = world
        .cluster
        .primaries()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let [primary] = primaries.as_slice() else {
        if !world.juju.alive().is_empty() {
            world.breach("O2", format!("{} servers are primary", primaries.len()));
        }
        return;
    };
    let lost: Vec<Acknowledged> = world.cluster.missing_on(primary);
    let mut unexcused: BTreeMap<usize, Vec<Acknowledged>> = BTreeMap::new();
    for write in &lost {
        if !world
            .oracles
            .excuses(write, world.cluster.host_name(write.by))
        {
            unexcused.entry(write.by).or_default().push(*write);
        }
    }
    for (by, writes) in unexcused {
        let host = world.cluster.host_name(by).to_owned();
        let (begin, end) = (writes[0].at, writes[writes.len() - 1].at);
        world.breach(
            "O1",
            format!(
                "{} acknowledged writes of {host} are lost, from {:.3} to {:.3} s",
                writes.len(),
                seconds(begin),
                seconds(end)
            ),
        );
    }
}

impl Oracles {
    /// Returns whether the loss of a write, acknowledged by `host`, was promised to be possible.
    fn excuses(&self, write: &Acknowledged, host: &str) -> bool {
        if self.flushed.is_some_and(|at| write.at <= at + BEFORE)
            || self
                .gone_at
                .max(self.abandoned_at)
                .is_some_and(|at| write.at <= at + LAST_MOMENT)
            || self.vanished.contains(&write.write)
            || self.given_up_by_hand(write, host)
        {
            return true;
        }
        let before = if self.slow_disk {
            BEFORE + SLOW
        } else {
            BEFORE
        };
        let near = |moment: Millis| write.at + before >= moment && write.at <= moment + FENCE;
        self.harmful.iter().any(|harm| {
            let consequences = harm.begin..harm.end + CONSEQUENCES;
            // What the fault itself took away, or what stood still and woke up.
            let direct = near(harm.begin) || near(harm.end) && write.late;
            // Another server was promoted because of it: the displaced one stops soon after.
            let displaced = self
                .promoted
                .iter()
                .any(|(at, other)| other != host && consequences.contains(at) && near(*at));
            let unfenced =
                !harm.fenced && write.at >= harm.begin && write.at <= harm.end + CONVERTED;
            let unlucky = write.at + BEFORE >= harm.begin.saturating_sub(CONSEQUENCES)
                && self.nobodys.contains(&write.write);
            direct || displaced || unfenced || unlucky
        })
    }

    /// Returns whether a failover by hand took a write away: it was acknowledged by the old primary between the
    /// order and the moment in which that one could hear of the new one.
    ///
    /// Only the first promotion after an order is its consequence.
    fn given_up_by_hand(&self, write: &Acknowledged, host: &str) -> bool {
        self.by_hand.iter().any(|ordered| {
            let ends = ordered + ms(FAILOVER_TIMEOUT) + LOOK;
            let first = self.promoted.iter().find(|(at, _)| at >= ordered);
            let Some((promoted, _)) = first.filter(|(at, to)| *at <= ends && to != host) else {
                return false;
            };
            let meanwhile = |harm: &&Harmful| harm.begin <= *promoted && harm.end >= *ordered;
            let faults = self.harmful.iter().filter(meanwhile);
            let heard = faults.map(|harm| harm.end).fold(*promoted, Millis::max);
            write.at + BEFORE >= *ordered && write.at <= heard + FENCE
        })
    }

    /// Notes who is primary now.
    fn primaries_are(&mut self, now: Millis, primaries: &[&str]) {
        for host in primaries {
            if !self.primaries.iter().any(|known| known == host) {
                self.promoted.push((now, (*host).to_owned()));
            }
        }
        self.primaries = primaries.iter().map(|&host| host.to_owned()).collect();
    }
}

/// Notes which acknowledged writes no server had that could have been promoted instead of `host`.
fn had_by_nobody(world: &mut World, host: &str) {
    let now = world.now();
    let missing = world.cluster.missing_on(host);
    if missing.is_empty() {
        return;
    }
    let others: Vec<String> = world
        .machines
        .values()
        .filter(|machine| machine.on && !machine.frozen && machine.host != host)
        .map(|machine| machine.host.clone())
        .collect();
    let promotable: Vec<String> = others
        .into_iter()
        .filter(|other| {
            world
                .cluster
                .look_at_server(other, other)
                .is_ok_and(|server| {
                    server.priority > 0 && matches!(server.role, Role::Replica { .. })
                })
        })
        .collect();
    for write in missing {
        let isolated = world.oracles.isolated.iter().any(|(by, begin, end)| {
            *by == world.cluster.host_name(write.by) && write.at > begin + FENCE && write.at < *end
        });
        let had = promotable
            .iter()
            .any(|other| world.cluster.contains(other, write.write));
        if !had && !isolated && write.at <= now {
            world.oracles.nobodys.insert(write.write);
        }
    }
}

/// Notes which writes go with the disk of a unit.
///
/// Three units and more are fenced: what a single disk takes along there, another one has. With fewer units,
/// or when a second disk goes before the first is filled again, nobody promises that.
pub fn disk_lost(world: &mut World, unit: u8) {
    let now = world.now();
    let Some(host) = world.host(unit).map(str::to_owned) else {
        return;
    };
    let fenced = world
        .oracles
        .harmful
        .last()
        .is_some_and(|harm| harm.fenced && harm.begin == now);
    let second = world
        .oracles
        .disk_lost_at
        .replace(now)
        .is_some_and(|at| now <= at + CONSEQUENCES);
    if second || !fenced {
        let only = world.cluster.only_on(&host);
        let only = only.into_iter().map(|write| write.write);
        world.oracles.vanished.extend(only);
    }
}

/// Notes that a unit is removed right after its storage was taken away, which alone had the data: nobody else
/// has heard of it, and another unit may begin without it.
pub fn taken_away(world: &mut World, unit: u8) {
    let now = world.now();
    let taken = world.script.faults.iter().any(|(at, fault)| {
        matches!(fault, Fault::DetachStorage { unit: other, .. } if *other == unit)
            && (*at..=at + LAST_MOMENT).contains(&now)
    });
    let away = world
        .machines
        .get(&unit)
        .is_some_and(|machine| !machine.mounted);
    let others = world
        .juju
        .alive()
        .into_iter()
        .filter(|other| *other != unit);
    let mut hosts = others.filter_map(|other| world.host(other));
    if taken && away && !hosts.any(|host| world.cluster.local(host).has_data) {
        world.oracles.gone_at = Some(now);
    }
}

/// Notes what a person gives up with the order to go on: writes that no unit has which stays.
pub fn given_up(world: &mut World) {
    let staying: Vec<String> = world
        .juju
        .alive()
        .iter()
        .filter_map(|unit| world.host(*unit).map(str::to_owned))
        .collect();
    let lost = world.cluster.missing_on_all(&staying);
    world
        .oracles
        .vanished
        .extend(lost.into_iter().map(|write| write.write));
}

/// Looks from time to time at what needs no hook.
pub async fn watch(ctx: Ctx) {
    loop {
        ctx.sleep(LOOK).await;
        ctx.with(|world| {
            let now = world.now();
            if world.juju.none_alive() {
                world.oracles.gone_at = Some(now);
            }
            let known = world.oracles.primaries.iter().map(String::as_str);
            if known.eq(world.cluster.each_primary()) {
                return;
            }
            let World {
                cluster,
                oracles,
                trace,
                ..
            } = world;
            let before = oracles.promoted.len();
            oracles.primaries_are(now, &cluster.primaries());
            if before != oracles.promoted.len() {
                trace.note(now, 110, || format!("primaries: {:?}", cluster.primaries()));
                let promoted: Vec<String> = oracles.promoted[before..]
                    .iter()
                    .map(|(_, host)| host.clone())
                    .collect();
                for host in promoted {
                    had_by_nobody(world, &host);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the loss of a write is excused that `old` acknowledged at `at`.
    fn excused(oracles: &Oracles, at: Millis) -> bool {
        let write = Acknowledged {
            write: WriteId(0),
            at,
            client: 0,
            by: 0,
            late: false,
        };
        oracles.excuses(&write, "old")
    }

    #[test]
    fn a_failover_by_hand_excuses_what_was_written_until_the_old_primary_heard_of_it() {
        let fault = |begin, end| Harmful {
            begin,
            end,
            fenced: true,
        };
        let promoted = |at: Millis, host: &str| (at, host.to_owned());
        let cut = vec![fault(100_000, 100_000), fault(100_100, 107_000)];
        for (harmful, promotions, at, expected) in [
            // Before the order, in the middle of the fault that it met, and after it.
            (cut.clone(), vec![promoted(107_000, "new")], 97_000, false),
            (cut.clone(), vec![promoted(107_000, "new")], 104_200, true),
            (cut.clone(), vec![promoted(107_000, "new")], 110_900, true),
            (cut.clone(), vec![promoted(107_000, "new")], 111_100, false),
            // Nobody was promoted in its time, or the same one.
            (cut.clone(), vec![], 104_200, false),
            (cut.clone(), vec![promoted(111_000, "new")], 104_200, false),
            (cut.clone(), vec![promoted(101_000, "old")], 104_200, false),
            // The second promotion is not its doing.
            (
                cut,
                vec![promoted(100_200, "old"), promoted(107_000, "new")],
                104_200,
                false,
            ),
        ] {
            let oracles = Oracles {
                by_hand: vec![100_000],
                harmful,
                promoted: promotions,
                ..Oracles::default()
            };
            let case = (at, &oracles.promoted);
            assert_eq!(excused(&oracles, at), expected, "{case:?}");
        }
    }
}
