//! Turns what a unit can see of the model into the planner's own observation.

use std::collections::BTreeMap;

use valkey_operator::planner::{
    UnitName,
    observation::{
        Attached, Intent, Known, Lease, Local, Monitor, Observation, Process, Role, Seen, Sentinel,
        Server, Settings, Storage, Unit, Users,
    },
    peer_data::{
        AppData, Founding, FoundingReason, Grant, Identity, Position, TurnRequest, UnitData,
    },
};

use crate::world::{Bag, Hook, Id, State, Turn, World};

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
        primary: world.primary == id,
        clean: !unit.server && unit.clean,
        recorded_at: 1,
    }
}

fn app(turn: Turn) -> AppData {
    AppData {
        deployment_id: Some("d".to_owned()),
        founding: Some(Founding {
            unit: name(0),
            generation: 1,
            reason: FoundingReason::Found,
            done: true,
        }),
        turn: turn.map(|(holder, number)| Grant {
            holder: name(holder),
            number: u64::from(number),
        }),
        users_secret: Some("secret:1".to_owned()),
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

fn server(world: &World, id: Id) -> Seen<Server> {
    if !world.unit(id).server {
        return Seen::Unknown("connection refused".to_owned());
    }
    let primary = world.primary == id;
    let replicas = world
        .ids()
        .filter(|other| primary && *other != id && world.unit(*other).server);
    Seen::Known(Server {
        role: if primary {
            Role::Primary
        } else {
            Role::Replica {
                of: host(world.primary),
                link_up: world.serves(),
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

fn sentinel(world: &World, id: Id) -> Seen<Sentinel> {
    if !world.unit(id).sentinel {
        return Seen::Unknown("connection refused".to_owned());
    }
    let known = |other: Id| Known {
        host: host(other),
        id: format!("id{other}"),
        down: !world.unit(other).sentinel,
    };
    let introduced = world.listed.has(id);
    let listed = || world.listed.ids().filter(move |_| introduced);
    let down = !world.serves();
    Seen::Known(Sentinel {
        id: format!("id{id}"),
        monitor: Some(Monitor {
            primary: host(world.primary),
            epoch: 1,
            down,
            down_for_ms: 0,
            agreed_down: down,
            failing_over: false,
            quorum: usize::from(world.unit(id).quorum),
            down_after_ms: 5000,
            others: listed().filter(|other| *other != id).map(known).collect(),
            replicas: listed()
                .filter(|other| *other != world.primary)
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
            servers.insert(name(id), server(world, id));
            sentinels.insert(name(id), sentinel(world, id));
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
        users: Users::Ready,
        storage: Storage::Ready,
        local: Local {
            address: host(me),
            server: process(own.server),
            sentinel: process(own.sentinel),
            watch: Process::Running,
            identity: own.data.then(|| Identity {
                deployment_id: "d".to_owned(),
                unit: name(me),
                generation: 1,
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
