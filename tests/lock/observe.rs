//! Turns what a unit can see of the model into the planner's own observation.

use std::collections::BTreeMap;

use valkey_operator::planner::{
    OUTAGE_PATIENCE_MS, UnitName,
    observation::{
        Attached, Intent, Known, Lease, Local, Monitor, Observation, Process, Role, Seen, Sentinel,
        Server, Settings, Storage, Unit, Users,
    },
    peer_data::{AppData, Founding, Grant, Identity, Position, TurnRequest, UnitData},
};

use crate::world::{App, Bag, Hook, Id, State, Units, World};

pub fn name(id: Id) -> UnitName {
    UnitName::new(format!("valkey/{id}"))
}

pub fn id_of(name: &UnitName) -> Id {
    name.as_str()[7..].parse().expect("a unit of the model")
}

fn host(id: Id) -> String {
    format!("10.0.0.{id}")
}

fn position(world: &World, id: Id) -> Position {
    let unit = world.unit(id);
    Position {
        history: "h".to_owned(),
        offset: 100,
        epoch: 1,
        primary: world.leads(id),
        clean: !unit.server && unit.clean,
        recorded_at: 1,
    }
}

/// Returns the name of the deployment that `id` named.
fn deployment(id: Id) -> String {
    format!("d{id}")
}

fn app(app: App) -> AppData {
    AppData {
        deployment_id: app.deployment.map(deployment),
        founding: app.founder.map(|founder| Founding {
            unit: name(founder.unit),
            generation: u64::from(founder.generation),
            reason: founder.reason.into(),
            done: founder.done,
        }),
        turn: app.turn.map(|(holder, number)| Grant {
            holder: name(holder),
            number: u64::from(number),
        }),
        users_secret: app.deployment.map(|id| format!("secret:{id}")),
        system_users: None,
    }
}

fn data(world: &World, id: Id, bag: &Bag, address: bool) -> UnitData {
    UnitData {
        address: (bag.written || address).then(|| host(id)),
        state: bag.state.into(),
        turn: TurnRequest {
            number: u64::from(bag.number),
            wants: bag.wants.map(Into::into),
            asked_at: 0,
        },
        position: (bag.state == State::Member).then(|| position(world, id)),
        settings: (bag.settings > 0).then(|| bag.settings.to_string()),
        server_version: Some("8.0.1".to_owned()),
        sentinel: bag.written.then(|| format!("id{id}")),
        last_change: None,
    }
}

fn server(world: &World, viewer: Id, id: Id) -> Seen<Server> {
    if !world.unit(id).server || !world.cut.reaches(viewer, id) {
        return Seen::Unknown("connection refused".to_owned());
    }
    let primary = world.leads(id);
    // Whoever was replaced without its knowledge is followed by nobody.
    let replicas = world.ids().filter(|other| {
        world.primary == id
            && !world.leads(*other)
            && world.unit(*other).server
            && world.cut.reaches(*other, id)
    });
    Seen::Known(Server {
        role: if primary {
            Role::Primary
        } else {
            Role::Replica {
                of: host(world.primary),
                link_up: world.answers(id, Some(world.primary)),
                syncing: None,
            }
        },
        loading: None,
        history: "h".to_owned(),
        earlier: None,
        offset: 100,
        priority: 100,
        min_replicas: None,
        replicas: replicas
            .map(|other| Attached {
                host: host(other),
                online: true,
                offset: 100,
                lag_s: 0,
            })
            .collect(),
        disk_trouble: None,
        keys: 1,
        version: None,
    })
}

/// Returns whom the Sentinel of `id` names, and whom it lists.
fn view(world: &World, id: Id) -> (Id, Units) {
    match world.displaced {
        Some(old) if old.unit == id => (id, old.listed),
        _ => (world.primary, world.listed),
    }
}

/// Returns whether the Sentinel of `id` misses the primary that it names.
fn misses(world: &World, id: Id) -> bool {
    !world.answers(id, Some(view(world, id).0))
}

fn sentinel(world: &World, viewer: Id, id: Id) -> Seen<Sentinel> {
    let reaches = |from, to| world.cut.reaches(from, to);
    if !world.unit(id).sentinel || !reaches(viewer, id) {
        return Seen::Unknown("connection refused".to_owned());
    }
    let (named, listed) = view(world, id);
    let known = |other: Id| Known {
        host: host(other),
        id: format!("id{other}"),
        down: !world.unit(other).sentinel || !reaches(id, other),
    };
    let introduced = listed.has(id);
    let down = misses(world, id);
    let quorum = usize::from(world.unit(id).quorum);
    let agreeing = listed.ids().filter(|other| {
        world.unit(*other).sentinel && reaches(id, *other) && misses(world, *other)
    });
    let listed = || listed.ids().filter(move |_| introduced);
    Seen::Known(Sentinel {
        id: format!("id{id}"),
        monitor: Some(Monitor {
            primary: host(named),
            epoch: 1,
            down,
            // Whoever waits for a machine that is lost may wait for as long as it takes.
            down_for_ms: if world.primary_is_gone() {
                OUTAGE_PATIENCE_MS
            } else {
                0
            },
            agreed_down: down && (world.cut.is_none() || agreeing.count() >= quorum),
            failing_over: false,
            promoted: false,
            quorum,
            down_after_ms: 5000,
            others: listed().filter(|other| *other != id).map(known).collect(),
            replicas: listed()
                .filter(|other| *other != named)
                .map(known)
                .collect(),
        }),
    })
}

/// Looks at the model with the eyes of `me`; `mine` is its databag as its hook has it.
pub fn look(world: &World, me: Id, hook: &Hook, mine: &Bag) -> Observation {
    let own = world.unit(me);
    let mut units = BTreeMap::new();
    let mut servers = BTreeMap::new();
    let mut sentinels = BTreeMap::new();
    for id in hook.present.ids() {
        let bag = if id == me {
            mine
        } else {
            &own.cache[usize::from(id)]
        };
        let known = data(world, id, bag, id == me);
        if known.address.is_some() {
            servers.insert(name(id), server(world, me, id));
            sentinels.insert(name(id), sentinel(world, me, id));
        }
        let dying = hook.dying.has(id);
        units.insert(name(id), Unit { data: known, dying });
    }
    let process = |runs| {
        if runs {
            Process::Running
        } else {
            Process::Stopped
        }
    };
    let mut seen = Observation {
        me: name(me),
        intent: if hook.leaves {
            Intent::Leave
        } else {
            Intent::Reconcile
        },
        leader: hook.leader,
        app: app(hook.app),
        app_wanted: app(hook.app),
        units,
        malformed: Vec::new(),
        settings: Settings {
            down_after_ms: 5000,
            start_digest: world.settings.to_string(),
            ..Settings::default()
        },
        users: if hook.app.deployment.is_some() {
            Users::Ready
        } else {
            Users::Missing
        },
        storage: if world.broken_storage.has(me) {
            Storage::Problem("no such device".to_owned())
        } else {
            Storage::Ready
        },
        local: Local {
            address: host(me),
            server: process(own.server),
            sentinel: process(own.sentinel),
            watch: Process::Running,
            identity: own.mark.map(|mark| Identity {
                deployment_id: deployment(mark.deployment),
                unit: name(me),
                generation: u64::from(mark.generation),
                position: (mine.state == State::Member).then(|| position(world, me)),
            }),
            has_data: own.data,
            complete_data: own.data,
            slow_to_load: false,
            rebooted: false,
            has_sentinel_file: mine.state == State::Member,
            server_version: Some("8.0.1".to_owned()),
            sentinel_version: None,
            sentinel_differs: false,
            runtime: BTreeMap::new(),
        },
        servers,
        sentinels,
        lease: Lease::Unknown,
        now: 1,
    };
    seen.lease = lease(world, me, hook, &seen);
    seen
}

/// As the observer asks for it: the primary in its eyes says who holds the lease.
fn lease(world: &World, me: Id, hook: &Hook, seen: &Observation) -> Lease {
    let Some(primary) = seen.primary().filter(|_| !hook.refused) else {
        return Lease::Unknown;
    };
    match world.unit(id_of(&primary)).lease {
        None => Lease::Free,
        Some(holder) if holder == me => Lease::Mine,
        Some(holder) => Lease::Other(name(holder).to_string()),
    }
}
