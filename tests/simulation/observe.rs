//! One look, as `src/observer` takes it: real observation types, filled from the models.

use std::collections::BTreeMap;

use valkey_operator::planner::{
    Intent, UnitName,
    observation::{Lease, Local, Observation, Process, Seen, Settings, Storage, Unit, Users},
    view::Naming,
};

use crate::{
    hook::Side,
    models::{Failure, Millis, Reply, ServerCommand},
    world::World,
};

/// How long an answer that does not come is waited for.
pub const fn cost(failure: &Failure) -> Millis {
    match failure {
        Failure::Unreachable => 1_000,
        Failure::Silent => 2_000,
        _ => 0,
    }
}

fn words(failure: &Failure) -> String {
    match failure {
        Failure::Refused => "connection refused".to_owned(),
        Failure::Unreachable => "no connection in time".to_owned(),
        Failure::Silent => "no answer in time".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Asks all servers and Sentinels, and again those that moved; returns what the slowest cost, too.
pub fn processes(world: &mut World, run: &Side, intent: Intent) -> (Observation, Millis) {
    let (seen, cost) = ask(world, run, intent.clone(), &run.peers);
    let moved = seen.moved();
    if moved.is_empty() {
        return (seen, cost);
    }
    let mut peers = run.peers.clone();
    for (unit, host) in moved {
        if let Some(known) = peers.get_mut(&unit) {
            known.data.address = Some(host);
        }
    }
    let (seen, again) = ask(world, run, intent, &peers);
    (seen, cost + again)
}

/// Asks everybody at the same time, at the addresses that `peers` have.
fn ask(
    world: &mut World,
    run: &Side,
    intent: Intent,
    peers: &BTreeMap<UnitName, Unit>,
) -> (Observation, Millis) {
    let mut units = peers.clone();
    units.insert(
        run.me.clone(),
        Unit {
            data: run.mine.clone(),
            dying: run.dying,
        },
    );
    let users = run.users();
    let mut servers = BTreeMap::new();
    let mut sentinels = BTreeMap::new();
    let mut slowest = 0;
    if users == Users::Ready {
        for (unit, known) in &units {
            let host = if *unit == run.me {
                run.host.as_str()
            } else {
                match known.data.address.as_deref() {
                    Some(host) => host,
                    None => continue,
                }
            };
            let mut unknown = |failure: &Failure| {
                slowest = slowest.max(cost(failure));
                words(failure)
            };
            let server = match world.cluster.look_at_server(&run.host, host) {
                Ok(server) => Seen::Known(server),
                Err(failure) => Seen::Unknown(unknown(&failure)),
            };
            let sentinel = match world.cluster.look_at_sentinel(&run.host, host) {
                Ok(sentinel) => Seen::Known(sentinel),
                Err(failure) => Seen::Unknown(unknown(&failure)),
            };
            servers.insert(unit.clone(), server);
            sentinels.insert(unit.clone(), sentinel);
        }
    }
    let seen = Observation {
        me: run.me.clone(),
        intent,
        leader: run.leader,
        app: run.app.clone(),
        app_wanted: run.app_wanted.clone(),
        units,
        malformed: Vec::new(),
        settings: Settings {
            down_after_ms: world.cluster.timings().down_after,
            runtime: BTreeMap::new(),
            start_digest: world.juju.start_digest.clone(),
            problems: Vec::new(),
        },
        users,
        storage: if run.storage {
            Storage::Ready
        } else {
            Storage::Missing
        },
        local: Local::bare(run.host.clone()),
        servers,
        sentinels,
        lease: Lease::Unknown,
        now: world.unix_now(),
    };
    (seen, slowest)
}

/// Looks at the local machine.
pub fn local(world: &mut World, run: &Side, seen: &mut Observation) {
    seen.now = world.unix_now();
    if !run.storage {
        return;
    }
    let facts = world.cluster.local(&run.host);
    let Some(machine) = world.machines.get(&run.unit) else {
        return;
    };
    let identity = machine.identity();
    let position = identity
        .as_ref()
        .and_then(|identity| identity.position.as_ref());
    let booted = World::unix(machine.booted_at);
    let rebooted =
        position.is_some_and(|position| !position.clean && position.recorded_at < booted);
    let clean = position.is_some_and(|position| position.clean);
    seen.local = Local {
        address: run.host.clone(),
        server: facts.server,
        sentinel: facts.sentinel,
        watch: if machine.watch.is_some() {
            Process::Running
        } else {
            Process::Stopped
        },
        has_data: facts.has_data,
        complete_data: clean || facts.has_log,
        slow_to_load: false,
        rebooted,
        has_sentinel_file: facts.has_sentinel_file,
        server_version: Some("8.0.1".to_owned()),
        sentinel_differs: false,
        sentinel_version: None,
        runtime: BTreeMap::new(),
        identity,
    };
}

/// Asks who holds the lease; returns what waiting cost.
pub fn lease(world: &mut World, run: &Side, seen: &mut Observation) -> Millis {
    if seen.users != Users::Ready || seen.naming() == Naming::Split {
        return 0;
    }
    let Some(primary) = seen.primary() else {
        return 0;
    };
    let Some(host) = seen.host_of(&primary).map(str::to_owned) else {
        return 0;
    };
    match world
        .cluster
        .server_command(&run.host, &host, &ServerCommand::LeaseHolder)
    {
        // Fenced, it gives the lease to nobody.
        Ok(Reply::Holder(None)) if run.lease_refused.as_deref() == Some(host.as_str()) => {}
        Ok(Reply::Holder(None)) => seen.lease = Lease::Free,
        Ok(Reply::Holder(Some((token, _)))) if token == seen.me.as_str() => {
            seen.lease = Lease::Mine;
        }
        Ok(Reply::Holder(Some((token, _)))) => seen.lease = Lease::Other(token),
        Ok(_) => {}
        Err(failure) => return cost(&failure),
    }
    0
}

/// Returns what a look from a unit that knows every databag as it is shows, without waiting.
pub fn truth(world: &mut World, unit: u8, intent: Intent) -> Option<Observation> {
    world.juju.units.get(&unit)?;
    let run = Side::new(world, unit, |juju, other| {
        Some(juju.units.get(&other)?.bag.clone())
    })?;
    let (mut seen, _) = processes(world, &run, intent);
    local(world, &run, &mut seen);
    lease(world, &run, &mut seen);
    Some(seen)
}
