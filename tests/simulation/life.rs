//! One life from the first unit to the verdict.

use crate::{
    clients::{self, CLIENT_HOST, Kind},
    faults,
    juju::{self, Juju},
    models::{Cluster, Millis, Timings},
    oracles::{self, Breach, Oracles},
    person,
    script::Script,
    time::Sim,
    watcher,
    world::{Ctx, Deciders, Trace, World},
};

/// How long after the last fault has ended everything must have settled.
///
/// Longest known way: a leave that ends at its limit of ten minutes, and then goes on with what it sees anew.
pub const SETTLE_LIMIT: Millis = 800_000;

/// How long clients write on once everything has settled.
const AFTERMATH: Millis = 8_000;

/// Time between two looks at a life that goes on although everything has settled.
const CALM_LOOK: Millis = 60_000;

/// How a life went.
#[derive(Debug)]
pub struct Outcome {
    /// What must not have been.
    pub breaches: Vec<Breach>,
    /// A number over all that happened.
    pub digest: u64,
    /// When it ended.
    pub ended_at: Millis,
    /// What happened, where it was asked for.
    pub text: Vec<String>,
    /// Acknowledged writes.
    pub writes: usize,
    /// Looks of all hooks.
    pub looks: u64,
    /// Hooks.
    pub hooks: u64,
}

/// Plays a script; `until` is how long the life goes on at least.
pub fn play(script: &Script, deciders: Deciders, verbose: bool, until: Millis) -> Outcome {
    let sim = Sim::new();
    let timings = Timings::charm();
    let world = World {
        cluster: Cluster::new(timings, script.seed ^ 0x5eed),
        juju: Juju::new(script.variant),
        machines: std::collections::BTreeMap::new(),
        shelf: Vec::new(),
        cuts: std::collections::BTreeMap::new(),
        addresses: 0,
        deletions: Vec::new(),
        rng: fastrand::Rng::with_seed(script.seed),
        deciders,
        trace: Trace::new(verbose),
        oracles: Oracles::default(),
        script: script.clone(),
        sim: sim.clone(),
    };
    let ctx = Ctx::new(world);
    begin(&ctx, script);
    let last = script
        .faults
        .iter()
        .map(|(at, fault)| at + fault.duration())
        .max()
        .unwrap_or(0)
        .max(45_000);
    // A longer life has to be settled when it ends, and may never be unsettled for longer than the limit.
    let deadline = last.max(until) + SETTLE_LIMIT;
    let mut look_at = last + 5_000;
    let mut settled_since: Option<Millis> = None;
    let mut unsettled_since = last;
    let mut stirred = 0;
    loop {
        let now = sim.next().unwrap_or(deadline).min(deadline);
        ctx.with(|world| world.cluster.advance(now));
        sim.run_until(now);
        ctx.with(|world| watcher::tell(world, &mut stirred));
        if now < look_at && now < deadline {
            continue;
        }
        let why = ctx.with(oracles::unsettled);
        // Once all is well and nothing more befalls it, it is enough to look now and then.
        let well = settled_since.is_some_and(|since| why.is_none() && now >= since + AFTERMATH);
        look_at = if well && now < until {
            until.min(now + CALM_LOOK)
        } else {
            now + 2_000
        };
        let late = now >= deadline || (why.is_some() && now >= unsettled_since + SETTLE_LIMIT);
        if late {
            ctx.with(|world| {
                world.breach("unsettled", why.unwrap_or_else(|| "only now".to_owned()));
            });
            break;
        }
        match (why, settled_since) {
            (None, Some(since)) if now >= since + AFTERMATH && now >= until => break,
            (None, None) => settled_since = Some(now),
            (None, Some(_)) => {}
            (Some(_), since) => {
                if since.is_some() {
                    unsettled_since = now;
                }
                settled_since = None;
            }
        }
    }
    ctx.with(|world| {
        oracles::losses(world);
        oracles::gaps(world);
        let digest = world.trace.digest()
            ^ world.cluster.digest()
            ^ (world.cluster.acknowledged().len() as u64) << 32;
        Outcome {
            breaches: std::mem::take(&mut world.oracles.breaches),
            digest,
            ended_at: sim.now(),
            text: world.trace.text.take().unwrap_or_default(),
            writes: world.cluster.acknowledged().len(),
            looks: world.oracles.looks,
            hooks: world.oracles.hooks,
        }
    })
}

fn begin(ctx: &Ctx, script: &Script) {
    ctx.with(|world| world.cluster.add_host(CLIENT_HOST));
    for _ in 0..script.units {
        faults::add_unit(ctx, None);
    }
    ctx.with(|world| {
        let first = world.rng.u8(0..script.units.max(1));
        world.lead(first);
    });
    ctx.sim.spawn(None, juju::controller(ctx.clone()));
    ctx.sim.spawn(None, faults::play(ctx.clone()));
    ctx.sim.spawn(None, oracles::watch(ctx.clone()));
    ctx.sim.spawn(None, person::run(ctx.clone()));
    for (kind, client) in [(Kind::Follows, 0), (Kind::Polls, 1), (Kind::Stays, 2)] {
        ctx.sim.spawn(None, clients::run(ctx.clone(), kind, client));
    }
}
