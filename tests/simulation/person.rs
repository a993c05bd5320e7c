//! A person who does what the documentation says, where only a person can decide.
//!
//! With one or two units nobody inside can tell whether the data of a lost disk still exists somewhere. The
//! status says so, and whoever is responsible runs `confirm-data-source` once all machines are back.

use valkey_operator::{
    handlers::actions::confirm_data_source::{Order, decide},
    planner::{Intent, Step, UnitName, observation::Process, view::compare},
};

use crate::{
    hook::Run,
    juju::agent::Staged,
    models::Millis,
    oracles,
    script::Fault,
    steps,
    world::{Ctx, World, number},
};

/// How long nobody could write until a person looks, and how long after the last machine came back.
const PATIENCE: Millis = 90_000;

/// Time between two looks.
const LOOK: Millis = 5_000;

/// Looks now and then whether somebody has to decide; only in lives in which a disk is lost or taken away.
pub async fn run(ctx: Ctx) {
    let calm_from = ctx.with(|world| {
        let takes_disk = |(_, fault): &(Millis, Fault)| {
            matches!(fault, Fault::LoseDisk { .. } | Fault::DetachStorage { .. })
        };
        let faults = &world.script.faults;
        let last = faults.iter().map(|(at, fault)| at + fault.duration()).max();
        last.filter(|_| faults.iter().any(takes_disk))
    });
    let Some(calm_from) = calm_from else { return };
    loop {
        ctx.sleep(LOOK).await;
        let now = ctx.sim.now();
        ctx.with(|world| {
            if now >= calm_from.max(world.oracles.written_at) + PATIENCE {
                order(world);
            }
        });
    }
}

/// Has the leader told which unit's data counts, where no server is primary.
fn order(world: &mut World) {
    if !world.cluster.primaries().is_empty() {
        return;
    }
    let Some(leader) = world.juju.leader else {
        return;
    };
    let holds = |world: &World, unit: u8| {
        let machine = &world.machines[&unit];
        machine.on && world.cluster.local(&machine.host).has_data
    };
    let recorded = |world: &World, unit: u8| world.juju.units[&unit].bag.position.clone();
    let told = world
        .juju
        .alive()
        .into_iter()
        .filter(|unit| recorded(world, *unit).is_some());
    let answers = |world: &World, unit: u8| {
        let host = &world.machines[&unit].host;
        world.cluster.local(host).server == Process::Running
    };
    // Who has data before who only says so; who answers before who fell silent and knows what it held then; then
    // what the records say.
    let best = told.max_by(|one, other| {
        let (first, second) = (recorded(world, *one), recorded(world, *other));
        holds(world, *one)
            .cmp(&holds(world, *other))
            .then_with(|| answers(world, *one).cmp(&answers(world, *other)))
            .then_with(|| compare(first.as_ref(), second.as_ref()))
    });
    // The data went with its storage: the deployment begins anew.
    let best = best.or_else(|| world.juju.alive().into_iter().next());
    if let Some(best) = best
        && let Some(known) = world.juju.units.get_mut(&leader)
        && known.confirm.is_none()
    {
        known.confirm = Some(best);
        world.note_of(best, 97, || {
            format!("a person decides for the data of valkey/{best}")
        });
        world.wake_agents();
    }
}

/// The action, as `src/handlers/actions/confirm_data_source.rs`.
pub async fn confirm(mut run: Run, unit: u8) -> Result<Staged, String> {
    let seen = run.look(Intent::Look).await;
    let unit: UnitName = World::name(unit);
    let step = match decide(&seen, &unit)? {
        Order::Promote(to) => Step::Promote { to },
        Order::Write(founding) => Step::NameFounder(founding),
        Order::Written(_) => return Ok(Staged::default()),
    };
    run.ctx.with(oracles::given_up);
    if let Err(trouble) = steps::execute(&mut run, &seen, &step).await {
        return Err(format!("cannot {step}: {trouble:?}"));
    }
    let related = run
        .ctx
        .with(|world| world.juju.units[&number(&seen.me)].entered);
    run.flush(related)
}
