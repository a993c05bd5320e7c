//! A small language for observations, so that a test case is one line.
//!
//! `me=1 leader 0:P 1:R 2:X` means: seen from unit 1, which is the leader, unit 0 is the primary,
//! unit 1 a replica in sync, unit 2 a member that does not answer. Kinds of units: `P` primary, `R`
//! replica, `S` replica in its first sync, `N` new unit without processes, `J` joining replica in
//! sync with Sentinel running, `X` member that is dead, `L` has left. Marks behind a kind: `d` is being
//! removed, `s` its server is stopped, `z` its Sentinel is stopped, `e` its data is gone, `o` follows
//! nobody that serves, `n` its server is version 9.1.2, not 8.0.1. Further words: `turn=1` unit 1 holds the turn, `restart=1` for a restart, `asks` this unit asks for it,
//! `lease=free|mine|unknown|valkey/2`, `names=2` all Sentinels name unit 2, `old` settings need a
//! restart, `founding=0` that unit is to found, `chosen=1` a person chose that unit's data, `leaving`
//! the storage is taken away, `bin=9.1.2` that version is there to be run, `voter=9.1.2` this unit's
//! Sentinel is that version, `rebuilt` it would be started as another build.

use std::collections::BTreeMap;

use super::{
    UnitName,
    numbers::{min_replicas_to_write, sentinel_quorum},
    observation::{
        Attached, Intent, Known, Lease, Local, Monitor, Observation, Process, Progress, Role, Seen,
        Sentinel, Server, Settings, Storage, Unit, Users,
    },
    peer_data::{
        AppData, Founding, FoundingReason, Grant, Identity, Position, TurnKind, TurnRequest,
        UnitData, UnitState,
    },
};

/// What the Sentinel of a unit says of its primary; it has to be there.
pub fn monitor_of<'a>(seen: &'a mut Observation, unit: &UnitName) -> &'a mut Monitor {
    match seen.sentinels.get_mut(unit) {
        Some(Seen::Known(Sentinel {
            monitor: Some(monitor),
            ..
        })) => monitor,
        other => panic!("no Sentinel of {unit} that monitors: {other:?}"),
    }
}

pub fn unit(number: u8) -> UnitName {
    UnitName::new(format!("valkey/{number}"))
}

fn host(number: u8) -> String {
    format!("10.0.0.{number}")
}

#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "marks of the small language")]
struct Kind {
    number: u8,
    letter: char,
    dying: bool,
    server_stopped: bool,
    sentinel_stopped: bool,
    empty: bool,
    orphan: bool,
    new: bool,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        let (number, marks) = word.split_once(':')?;
        let letter = marks.chars().next()?;
        let has = |mark| marks.chars().skip(1).any(|other| other == mark);
        let absent = matches!(letter, 'N' | 'X' | 'L');
        Some(Self {
            number: number.parse().ok()?,
            letter,
            dying: has('d'),
            server_stopped: absent || has('s'),
            sentinel_stopped: absent || letter == 'S' || has('z'),
            empty: has('e') || letter == 'N',
            orphan: has('o'),
            new: has('n'),
        })
    }

    fn version(self) -> String {
        if self.new { "9.1.2" } else { "8.0.1" }.to_owned()
    }

    fn member(self) -> bool {
        matches!(self.letter, 'P' | 'R' | 'X')
    }
}

fn position(primary: bool) -> Position {
    Position {
        history: "h".to_owned(),
        offset: 100,
        epoch: 1,
        primary,
        clean: false,
        recorded_at: 1,
    }
}

/// Makes an observation from its description.
#[allow(clippy::too_many_lines, reason = "one literal, field by field")]
pub fn seen(text: &str) -> Observation {
    let words: Vec<&str> = text.split_whitespace().collect();
    let value = |name: &str| {
        words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str| value(name).map(|text| text.parse::<u8>().unwrap());
    let flag = |name: &str| words.contains(&name);
    let kinds: Vec<Kind> = words.iter().filter_map(|word| Kind::parse(word)).collect();
    let me = number("me").unwrap_or(0);
    let mine = *kinds.iter().find(|kind| kind.number == me).unwrap();
    let members: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.member()).collect();
    let primary = kinds
        .iter()
        .find(|kind| kind.letter == 'P')
        .map(|kind| kind.number);
    let named = number("names").or(primary).unwrap_or(99);
    let holder = number("turn").or(number("restart"));
    let asks = flag("asks") || holder == Some(me);
    let wants = if flag("old") || number("restart").is_some() {
        TurnKind::Restart
    } else {
        TurnKind::Start
    };

    let mut units = BTreeMap::new();
    let mut servers = BTreeMap::new();
    let mut sentinels = BTreeMap::new();
    for kind in &kinds {
        let asking = if kind.number == me {
            asks
        } else {
            holder == Some(kind.number)
        };
        let data = UnitData {
            address: Some(host(kind.number)),
            state: match kind.letter {
                'P' | 'R' | 'X' => UnitState::Member,
                'L' => UnitState::Left,
                _ => UnitState::New,
            },
            turn: TurnRequest {
                number: u64::from(asking),
                wants: asking.then_some(wants),
                asked_at: 0,
            },
            position: kind.member().then(|| position(kind.letter == 'P')),
            settings: kind
                .member()
                .then(|| if flag("old") { "old" } else { "new" }.to_owned()),
            server_version: Some(kind.version()),
            sentinel: Some(format!("id{}", kind.number)),
            last_change: None,
        };
        units.insert(
            unit(kind.number),
            Unit {
                data,
                dying: kind.dying,
            },
        );
        servers.insert(unit(kind.number), server(*kind, primary, &members));
        sentinels.insert(unit(kind.number), sentinel(*kind, named, &kinds, &members));
    }
    let app = AppData {
        deployment_id: Some("d".to_owned()),
        founding: Some(Founding {
            unit: unit(number("founding").or(number("chosen")).unwrap_or(0)),
            generation: 1,
            reason: if number("chosen").is_some() {
                FoundingReason::Override
            } else {
                FoundingReason::Found
            },
            done: number("founding").or(number("chosen")).is_none(),
        }),
        turn: holder.map(|holder| Grant {
            holder: unit(holder),
            number: 1,
        }),
        users_secret: Some("secret:1".to_owned()),
        system_users: None,
    };
    Observation {
        me: unit(me),
        intent: if flag("leaving") {
            Intent::Leave
        } else {
            Intent::Reconcile
        },
        leader: flag("leader"),
        app: app.clone(),
        app_wanted: app,
        units,
        malformed: Vec::new(),
        settings: Settings {
            down_after_ms: 5000,
            start_digest: "new".to_owned(),
            ..Settings::default()
        },
        users: Users::Ready,
        storage: Storage::Ready,
        local: Local {
            address: host(me),
            server: if mine.server_stopped {
                Process::Stopped
            } else {
                Process::Running
            },
            sentinel: if mine.sentinel_stopped {
                Process::Stopped
            } else {
                Process::Running
            },
            watch: Process::Running,
            identity: (!mine.empty).then(|| Identity {
                deployment_id: "d".to_owned(),
                unit: unit(me),
                generation: 1,
                position: mine.member().then(|| position(mine.letter == 'P')),
            }),
            has_data: !mine.empty,
            complete_data: !mine.empty,
            slow_to_load: flag("slow"),
            rebooted: flag("rebooted"),
            has_sentinel_file: mine.member() && !mine.empty,
            server_version: Some(value("bin").unwrap_or("8.0.1").to_owned()),
            sentinel_version: Some(value("voter").unwrap_or("8.0.1").to_owned()),
            sentinel_differs: flag("rebuilt"),
            runtime: BTreeMap::new(),
        },
        servers,
        sentinels,
        lease: match value("lease") {
            None | Some("free") => Lease::Free,
            Some("mine") => Lease::Mine,
            Some("unknown") => Lease::Unknown,
            Some(holder) => Lease::Other(holder.to_owned()),
        },
        now: 10,
    }
}

fn server(kind: Kind, primary: Option<u8>, members: &[Kind]) -> Seen<Server> {
    if kind.server_stopped {
        return Seen::Unknown("connection refused".to_owned());
    }
    let syncing = kind.letter == 'S';
    let role = if kind.letter == 'P' {
        Role::Primary
    } else {
        Role::Replica {
            of: host(primary.unwrap_or(99)),
            link_up: !syncing && !kind.orphan,
            syncing: syncing.then_some(Progress {
                done: 1,
                total: Some(2),
            }),
        }
    };
    let attached = members
        .iter()
        .filter(|member| member.letter == 'R' && !member.server_stopped && kind.letter == 'P')
        .map(|member| Attached {
            host: host(member.number),
            online: true,
            offset: 100,
            lag_s: 0,
        })
        .collect();
    Seen::Known(Server {
        role,
        loading: None,
        history: "h".to_owned(),
        earlier: None,
        offset: 100 - u64::from(kind.number),
        priority: if matches!(kind.letter, 'S') || kind.orphan {
            0
        } else {
            100
        },
        min_replicas: u64::try_from(min_replicas_to_write(members.len())).ok(),
        replicas: attached,
        disk_trouble: None,
        keys: 5,
        version: Some(kind.version()),
    })
}

fn sentinel(kind: Kind, named: u8, kinds: &[Kind], members: &[Kind]) -> Seen<Sentinel> {
    if kind.sentinel_stopped {
        return Seen::Unknown("connection refused".to_owned());
    }
    let known = |number: u8| Known {
        host: host(number),
        id: format!("id{number}"),
        down: false,
    };
    let vote = |other: &&Kind| other.member() || (other.letter == 'J' && !other.orphan);
    let others = kinds
        .iter()
        .filter(vote)
        .filter(|other| other.number != kind.number);
    let replicas = kinds
        .iter()
        .filter(vote)
        .filter(|other| other.number != named);
    Seen::Known(Sentinel {
        id: format!("id{}", kind.number),
        monitor: Some(Monitor {
            primary: host(named),
            epoch: 1,
            down: false,
            down_for_ms: 0,
            agreed_down: false,
            failing_over: false,
            promoted: false,
            quorum: sentinel_quorum(members.len()),
            down_after_ms: 5000,
            others: others.map(|other| known(other.number)).collect(),
            replicas: replicas.map(|other| known(other.number)).collect(),
        }),
    })
}
