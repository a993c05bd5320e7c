//! Steps that start and stop the local processes, as `src/executor/processes.rs`.

use valkey_operator::{
    limits::{POLL_MIN, SERVER_START_LIMIT, SERVER_STOP_LIMIT},
    planner::{Intent, Observation, observation::Process},
};

use super::ms;
use crate::{
    hook::{Run, Trouble, trouble},
    machine::Watch,
    models::{Failure, Reply, SentinelCommand, SentinelStart, ServerCommand, ServerStart},
    watcher,
    world::{Ctx, World},
};

/// Copies the data set aside.
pub async fn keep_aside(run: &Run) -> Result<(), Trouble> {
    run.ctx.sleep(20).await;
    run.ctx.with(|world| {
        world.note(60, || format!("{} keeps its data aside", run.me));
        world.cluster.keep_aside(&run.host, false);
    });
    run.point().await;
    Ok(())
}

/// Starts the server and waits for its first answer.
pub async fn start_server(
    run: &Run,
    follow: Option<&str>,
    min_replicas: usize,
    from_snapshot: bool,
) -> Result<(), Trouble> {
    run.ctx.sleep(5).await;
    run.point().await;
    run.ctx.with(|world| {
        if let Some(position) = world
            .machines
            .get_mut(&run.unit)
            .and_then(|machine| machine.identity.as_mut())
            .and_then(|identity| identity.position.as_mut())
        {
            position.clean = false;
        }
        let facts = world.cluster.local(&run.host);
        if facts.server == Process::Running {
            return;
        }
        crate::oracles::server_starts(world, run.unit, follow, facts.has_data);
        let start = ServerStart {
            follow: follow.map(str::to_owned),
            min_replicas: min_replicas as u64,
            priority: 0,
            from_snapshot: from_snapshot && facts.has_snapshot,
        };
        world.cluster.start_server(&run.host, &start);
    });
    run.point().await;
    let deadline = run.ctx.sim.now() + ms(SERVER_START_LIMIT);
    loop {
        match run.server(&run.host, ServerCommand::Ping).await {
            Ok(_) | Err(Failure::Loading) => return Ok(()),
            Err(failure) => {
                let running = run
                    .ctx
                    .with(|world| world.cluster.local(&run.host).server == Process::Running);
                if !running {
                    return trouble("the server ended after its start");
                }
                if run.ctx.sim.now() >= deadline {
                    return Err(failure.into());
                }
            }
        }
        run.ctx.sleep(ms(POLL_MIN)).await;
    }
}

/// Stops the server in order; returns whether its data was saved.
pub async fn stop_server(run: &Run, seen: &Observation) -> Result<bool, Trouble> {
    let spare =
        seen.intent == Intent::Leave && seen.primary().is_some_and(|primary| primary != seen.me);
    let saved = match run
        .server(&run.host, ServerCommand::Shutdown { save: true })
        .await
    {
        Ok(_) => true,
        Err(Failure::Refused | Failure::Unreachable | Failure::Silent) => false,
        Err(_) if spare => {
            run.server(&run.host, ServerCommand::Shutdown { save: false })
                .await?;
            false
        }
        // It said why it goes on: nothing is gained by waiting.
        Err(failure) => return Err(failure.into()),
    };
    // Nothing kills the server before it has ended by itself.
    let deadline = run.ctx.sim.now() + ms(SERVER_STOP_LIMIT);
    loop {
        let running = run
            .ctx
            .with(|world| world.cluster.local(&run.host).server == Process::Running);
        if !running {
            return Ok(saved);
        }
        if run.ctx.sim.now() >= deadline {
            return trouble("the server does not end");
        }
        run.ctx.sleep(100).await;
    }
}

/// Starts Sentinel and gives it the charm's periods.
pub async fn start_sentinel(
    run: &Run,
    primary: &str,
    quorum: usize,
    fresh: bool,
) -> Result<(), Trouble> {
    run.ctx.sleep(5).await;
    run.point().await;
    run.ctx.with(|world| {
        if world.cluster.local(&run.host).sentinel == Process::Stopped {
            let start = SentinelStart {
                monitor: primary.to_owned(),
                quorum,
                fresh,
            };
            world.cluster.start_sentinel(&run.host, &start);
        }
    });
    run.point().await;
    let deadline = run.ctx.sim.now() + ms(SERVER_START_LIMIT);
    while let Err(failure) = tune_sentinel(run).await {
        let running = run
            .ctx
            .with(|world| world.cluster.local(&run.host).sentinel == Process::Running);
        if !running {
            return trouble("Sentinel ended after its start");
        }
        if run.ctx.sim.now() >= deadline {
            return Err(failure.into());
        }
        run.ctx.sleep(ms(POLL_MIN)).await;
    }
    Ok(())
}

/// Gives the local Sentinel what it does not keep in its file.
pub async fn tune_sentinel(run: &Run) -> Result<(), Failure> {
    run.sentinel(&run.host, SentinelCommand::ShortenPeriods)
        .await?;
    if let Reply::Sentinel(facts) = run.sentinel(&run.host, SentinelCommand::Look).await?
        && facts.view.is_some()
    {
        let down_after = run.ctx.with(|world| world.cluster.timings().down_after);
        run.sentinel(&run.host, SentinelCommand::SetDownAfter(down_after))
            .await?;
    }
    Ok(())
}

/// Stops Sentinel, by force if it does not end.
pub async fn stop_sentinel(run: &Run) {
    run.ctx.sleep(10).await;
    run.ctx.with(|world| world.cluster.stop_sentinel(&run.host));
    run.point().await;
}

/// Starts the watcher.
pub async fn start_watch(run: &Run) {
    run.ctx.sleep(20).await;
    watch(&run.ctx, run.unit, &run.host);
    run.point().await;
}

/// Starts the watcher of a unit that could not leave and serves on.
pub async fn watch_who_still_serves(ctx: &Ctx, unit: u8, host: &str) {
    ctx.sleep(20).await;
    if ctx.with(|world| world.cluster.local(host).server == Process::Running) {
        watch(ctx, unit, host);
    }
}

fn watch(ctx: &Ctx, unit: u8, host: &str) {
    ctx.with(|world| {
        if world.machines[&unit].watch.is_none() {
            let task = ctx.sim.spawn(Some(unit), watcher::run(ctx.clone(), unit));
            if let Some(machine) = world.machines.get_mut(&unit) {
                let address = host.to_owned();
                machine.watch = Some(Watch { task, address });
            }
        }
    });
}

/// Stops the watcher, where one runs.
pub fn stop_watch(world: &mut World, unit: u8) {
    if let Some(watch) = world
        .machines
        .get_mut(&unit)
        .and_then(|machine| machine.watch.take())
    {
        world.sim.cancel(watch.task);
    }
}

/// Stops a watcher that was told what is no longer true.
pub fn refresh_watch(world: &mut World, unit: u8) {
    let stale = world.machines.get(&unit).is_some_and(|machine| {
        machine
            .watch
            .as_ref()
            .is_some_and(|watch| watch.address != machine.host)
    });
    if stale {
        stop_watch(world, unit);
    }
}
