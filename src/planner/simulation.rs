//! Plans carried out on a small pure model of the set, cut off after every step and planned again.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Intent, Observation, Plan, Step, UnitName,
    fixture::{seen, unit},
    invariants, leader,
    numbers::majority,
    observation::{Attached, Known, Lease, Monitor, Process, Role, Seen, Sentinel, Server},
    peer_data::{AppData, Identity, Position, TurnRequest, UnitData, UnitState},
    plan,
};

/// Most rounds in which every unit runs a hook until all must be settled.
const ROUNDS_MAX: usize = 40;
/// Most looks of one hook.
const LOOKS_MAX: usize = 60;

#[derive(Clone)]
struct Member {
    data: UnitData,
    dying: bool,
    dead: bool,
    server: Option<Server>,
    sentinel: Option<Monitor>,
    file: Option<Monitor>,
    identity: Option<Identity>,
    /// Whether the data set holds what clients were told is written.
    full: bool,
    /// Version of its Sentinel.
    voter: Option<String>,
}

struct World {
    units: BTreeMap<UnitName, Member>,
    app: AppData,
    lease: Option<UnitName>,
    leader: UnitName,
    digest: String,
    /// Version that is there to be run.
    version: String,
    /// Steps until a hook is cut off.
    fuse: Option<usize>,
    steps: usize,
}

/// A hook was cut off, or a step did not work.
struct Cut;

fn address(name: &UnitName) -> String {
    name.as_str().replace("valkey/", "10.0.0.")
}

impl World {
    /// Makes a set as a description shows it.
    fn new(text: &str) -> Self {
        let shown = seen(text);
        let units = shown.units.iter().map(|(name, known)| {
            let server = shown.server(name).cloned();
            let sentinel = shown.monitor(name).cloned();
            let member = known.data.state == UnitState::Member;
            let identity = member.then(|| Identity {
                deployment_id: "d".to_owned(),
                unit: name.clone(),
                generation: 1,
                position: known.data.position.clone(),
            });
            let member = Member {
                data: known.data.clone(),
                dying: known.dying,
                dead: member && server.is_none(),
                full: server.is_some(),
                voter: Some("8.0.1".to_owned()),
                file: sentinel.clone(),
                server,
                sentinel,
                identity,
            };
            (name.clone(), member)
        });
        Self {
            units: units.collect(),
            app: shown.app.clone(),
            lease: None,
            leader: shown.me.clone(),
            digest: "new".to_owned(),
            version: "8.0.1".to_owned(),
            fuse: None,
            steps: 0,
        }
    }

    fn serving(&self) -> Vec<UnitName> {
        let primary = |member: &Member| {
            let server = member.server.as_ref();
            server.is_some_and(|server| server.role == Role::Primary)
        };
        let serving = self.units.iter().filter(|(_, member)| primary(member));
        serving.map(|(name, _)| name.clone()).collect()
    }

    fn look(&self, me: &UnitName, intent: Intent, mine: &UnitData) -> Observation {
        let number: u8 = me.as_str()[7..].parse().unwrap();
        let mut view = seen(&format!("me={number} {number}:N"));
        view.intent = intent;
        view.leader = *me == self.leader;
        view.app = self.app.clone();
        view.app_wanted = self.app.clone();
        view.settings.start_digest.clone_from(&self.digest);
        let own = &self.units[me];
        view.local.identity.clone_from(&own.identity);
        view.local.has_data = own.full;
        view.local.complete_data = own.full;
        view.local.has_sentinel_file = own.file.is_some();
        view.local.server_version = Some(self.version.clone());
        view.local.sentinel_version.clone_from(&own.voter);
        let process = |runs| {
            if runs {
                Process::Running
            } else {
                Process::Stopped
            }
        };
        view.local.server = process(own.server.is_some());
        view.local.sentinel = process(own.sentinel.is_some());
        for (name, member) in &self.units {
            let data = if name == me { mine } else { &member.data };
            let known = super::observation::Unit {
                data: data.clone(),
                dying: member.dying,
            };
            view.units.insert(name.clone(), known);
            let silent = || "connection refused".to_owned();
            let server = member.server.clone();
            let server = server.map_or_else(|| Seen::Unknown(silent()), Seen::Known);
            view.servers.insert(name.clone(), server);
            let sentinel = member.sentinel.clone().map(|monitor| Sentinel {
                id: name.to_string(),
                monitor: Some(monitor),
            });
            let sentinel = sentinel.map_or_else(|| Seen::Unknown(silent()), Seen::Known);
            view.sentinels.insert(name.clone(), sentinel);
        }
        view.lease = match (&self.lease, view.primary()) {
            (_, None) => Lease::Unknown,
            (None, _) => Lease::Free,
            (Some(holder), _) if holder == me => Lease::Mine,
            (Some(holder), _) => Lease::Other(holder.to_string()),
        };
        view
    }

    /// Runs one hook of a unit; returns whether it ended settled.
    fn hook(&mut self, me: &UnitName, intent: &Intent) -> bool {
        let mut mine = self.units[me].data.clone();
        mine.address = Some(address(me));
        for _ in 0..LOOKS_MAX {
            let view = self.look(me, intent.clone(), &mine);
            let decided = plan(&view);
            assert_eq!(invariants::permit(&view, &decided), Ok(()), "{decided:?}");
            for step in decided.steps() {
                if self.carry_out(me, step, &mut mine, &view).is_err() {
                    return false;
                }
            }
            assert!(self.serving().len() < 2, "two serve after {decided:?}");
            if matches!(decided, Plan::Act { .. }) {
                continue;
            }
            let settled = decided == Plan::Settled;
            if *intent == Intent::Leave && !settled {
                return false;
            }
            for step in leader::duties(&self.look(me, intent.clone(), &mine)) {
                match step {
                    Step::NameFounder(founding) => self.app.founding = Some(founding),
                    Step::GrantTurn(grant) => self.app.turn = grant,
                    other => panic!("unexpected {other:?}"),
                }
            }
            self.units.get_mut(me).unwrap().data = mine;
            return settled;
        }
        panic!("{me} never ends");
    }

    fn own(&mut self, me: &UnitName) -> &mut Member {
        self.units.get_mut(me).unwrap()
    }

    #[allow(clippy::too_many_lines, reason = "one short arm for each step")]
    fn carry_out(
        &mut self,
        me: &UnitName,
        step: &Step,
        mine: &mut UnitData,
        view: &Observation,
    ) -> Result<(), Cut> {
        self.steps += 1;
        match self.fuse {
            // The longest step is cut off in its middle too: roles changed, nobody told.
            Some(0) => {
                self.fuse = None;
                if let Step::HandOver { to, .. } = step {
                    self.change_roles(to);
                }
                return Err(Cut);
            }
            Some(left) => self.fuse = Some(left - 1),
            None => {}
        }
        match step {
            Step::RequestTurn(kind) => {
                mine.turn = TurnRequest {
                    number: mine.turn.number + 1,
                    wants: Some(*kind),
                    asked_at: 0,
                }
            }
            Step::ReleaseTurn => {
                mine.turn = TurnRequest {
                    number: mine.turn.number + 1,
                    ..TurnRequest::default()
                }
            }
            Step::SetState(state) => mine.state = *state,
            Step::ClaimData { generation } => {
                let position = self.own(me).identity.take().and_then(|old| old.position);
                self.own(me).identity = Some(Identity {
                    deployment_id: "d".to_owned(),
                    unit: me.clone(),
                    generation: *generation,
                    position,
                });
            }
            Step::RecordPosition => self.record(me, mine, false),
            Step::TakeLease => {
                if view.primary().is_none() || self.lease.as_ref().is_some_and(|it| it != me) {
                    return Err(Cut);
                }
                self.lease = Some(me.clone());
            }
            Step::ReleaseLease => self.lease = None,
            Step::StartServer { follow, .. } => {
                let founds = self.units.values().all(|member| !member.full);
                let of = follow.clone();
                assert!(
                    of.is_some() || founds || self.own(me).full,
                    "an empty start"
                );
                let version = Some(self.version.clone());
                let server = Server {
                    version: version.clone(),
                    ..a_server(of.as_deref())
                };
                self.own(me).server = Some(server);
                self.own(me).full |= founds;
                mine.settings = Some(self.digest.clone());
                mine.server_version = version;
            }
            Step::StopServer => {
                self.record(me, mine, true);
                self.own(me).server = None;
            }
            Step::StartSentinel {
                monitor, quorum, ..
            } => {
                self.own(me).voter = Some(self.version.clone());
                let known = self.own(me).file.clone();
                self.own(me).sentinel = known.or_else(|| Some(a_monitor(monitor, *quorum)));
            }
            Step::StopSentinel => self.own(me).sentinel = None,
            Step::Announce => self.introduce(&members_and(view, me)),
            Step::SetPromotable(yes) => {
                let priority = if *yes { 100 } else { 0 };
                if let Some(server) = &mut self.own(me).server {
                    server.priority = priority;
                }
            }
            Step::SetQuorum { on, quorum } => {
                for name in on {
                    if let Some(monitor) = &mut self.own(name).sentinel {
                        monitor.quorum = *quorum;
                    }
                }
            }
            Step::SetMinReplicas { on, value } => {
                for name in on {
                    if let Some(server) = &mut self.own(name).server {
                        server.min_replicas = u64::try_from(*value).ok();
                    }
                }
            }
            Step::Follow { primary } => {
                if let Some(server) = &mut self.own(me).server {
                    server.role = a_server(Some(primary)).role;
                    server.priority = 0;
                }
            }
            Step::HandOver { to, .. } | Step::Promote { to } => {
                self.change_roles(to);
                self.tell(to);
            }
            Step::CompleteHandOver { to } => self.tell(to),
            Step::Forget { remaining } => {
                let hosts: BTreeSet<String> = remaining.iter().map(address).collect();
                for name in remaining {
                    if let Some(monitor) = &mut self.own(name).sentinel {
                        monitor.others.retain(|known| hosts.contains(&known.host));
                        monitor.replicas.retain(|known| hosts.contains(&known.host));
                    }
                }
            }
            Step::KeepAside | Step::StartWatch | Step::ApplySettings => {}
            other => panic!("{other} is not the unit's own"),
        }
        // What a Sentinel writes down, and what replicas receive, at once.
        let serving: Vec<String> = self.serving().iter().map(address).collect();
        for member in self.units.values_mut() {
            if let Some(monitor) = &member.sentinel {
                member.file = Some(monitor.clone());
            }
            if let Some(Server {
                role: Role::Replica { of, link_up, .. },
                ..
            }) = &mut member.server
            {
                *link_up = serving.contains(of);
                member.full |= *link_up;
            }
        }
        self.attach();
        Ok(())
    }

    fn record(&mut self, me: &UnitName, mine: &mut UnitData, clean: bool) {
        let own = self.own(me);
        let known = own.identity.as_ref().and_then(|it| it.position.clone());
        let position = own.server.as_ref().map(|server| Position {
            history: server.history.clone(),
            offset: server.offset,
            epoch: 1,
            primary: server.role == Role::Primary,
            clean,
            recorded_at: 1,
        });
        mine.position = position.or(known);
        if own.sentinel.is_some() {
            mine.sentinel = Some(me.to_string());
        }
        if let Some(server) = &own.server {
            mine.server_version.clone_from(&server.version);
        }
        if let Some(identity) = &mut own.identity {
            identity.position.clone_from(&mine.position);
        }
    }

    /// Lets `to` serve and every other server follow it.
    fn change_roles(&mut self, to: &UnitName) {
        assert!(self.units[to].full, "{to} does not hold all data");
        let version = |member: &Member| member.server.as_ref().and_then(|it| it.version.clone());
        let newest = self.units.values().filter_map(version).max();
        let behind = self
            .units
            .iter()
            .filter(|(name, member)| *name != to && version(member) < newest)
            .count();
        // The one that hands over is the last.
        assert!(
            version(&self.units[to]) < newest || behind < 2,
            "{to} is newer than those that would follow it"
        );
        for (name, member) in &mut self.units {
            if let Some(server) = &mut member.server {
                server.role = if name == to {
                    Role::Primary
                } else {
                    a_server(Some(&address(to))).role
                };
            }
        }
    }

    /// Tells every Sentinel who is primary.
    fn tell(&mut self, to: &UnitName) {
        for member in self.units.values_mut() {
            if let Some(monitor) = &mut member.sentinel {
                let old = std::mem::replace(&mut monitor.primary, address(to));
                monitor.down = false;
                monitor.replicas.retain(|known| known.host != address(to));
                if old != address(to) {
                    monitor.replicas.push(known(&old));
                }
            }
        }
    }

    fn introduce(&mut self, names: &[UnitName]) {
        let running: Vec<String> = names
            .iter()
            .filter(|name| self.units[*name].sentinel.is_some())
            .map(address)
            .collect();
        for name in names {
            if let Some(monitor) = &mut self.own(name).sentinel {
                for host in running.iter().filter(|host| **host != address(name)) {
                    learn(&mut monitor.others, host);
                }
            }
        }
    }

    /// Lets each primary see who follows it.
    fn attach(&mut self) {
        let follows = |server: &Server| match &server.role {
            Role::Replica { of, link_up, .. } => link_up.then(|| of.clone()),
            Role::Primary => None,
        };
        let followers: Vec<(String, String)> = self
            .units
            .iter()
            .filter_map(|(name, member)| Some((address(name), follows(member.server.as_ref()?)?)))
            .collect();
        for (name, member) in &mut self.units {
            let Some(server) = &mut member.server else {
                continue;
            };
            let own = followers.iter().filter(|(_, of)| *of == address(name));
            server.replicas = own
                .map(|(host, _)| Attached {
                    host: host.clone(),
                    online: true,
                    offset: server.offset,
                    lag_s: 0,
                })
                .collect();
        }
    }

    /// What happens by itself: Sentinels discover replicas, and replace a primary that is gone.
    fn time_passes(&mut self) {
        let replicas: Vec<(String, String)> = self
            .units
            .iter()
            .filter_map(|(name, member)| match &member.server.as_ref()?.role {
                Role::Replica { of, .. } => Some((address(name), of.clone())),
                Role::Primary => None,
            })
            .collect();
        let serving: Vec<String> = self.serving().iter().map(address).collect();
        let running = self
            .units
            .values()
            .filter(|it| it.sentinel.is_some())
            .count();
        let mut needed = 0;
        for member in self.units.values_mut() {
            if let Some(monitor) = &mut member.sentinel {
                monitor.down = !serving.contains(&monitor.primary);
                for (replica, _) in replicas.iter().filter(|(_, of)| *of == monitor.primary) {
                    learn(&mut monitor.replicas, replica);
                }
                needed = needed
                    .max(majority(monitor.others.len() + 1))
                    .max(monitor.quorum);
            }
        }
        if serving.is_empty() && running >= needed && needed > 0 {
            let able = |member: &Member| member.server.as_ref().is_some_and(|it| it.priority > 0);
            let next = self.units.iter().find(|(_, it)| able(it) && it.full);
            if let Some((next, _)) = next.map(|(name, it)| (name.clone(), it.full)) {
                self.change_roles(&next);
                self.tell(&next);
            }
        }
        // A unit that has left is gone from Juju soon.
        let leader = self.leader.clone();
        if let Some(other) = self
            .units
            .iter()
            .find(|(name, it)| **name != leader && !it.dying)
            && self
                .units
                .get(&leader)
                .is_none_or(|it| it.data.state == UnitState::Left)
        {
            self.leader = other.0.clone();
        }
        self.units.retain(|_, it| it.data.state != UnitState::Left);
    }

    /// Runs hooks of all units until all are settled; returns how many steps that took.
    fn settle(&mut self, what: &str) -> usize {
        for _ in 0..ROUNDS_MAX {
            let names: Vec<UnitName> = self.units.keys().cloned().collect();
            let mut all = true;
            for name in &names {
                if self.units[name].dead {
                    continue;
                }
                let leaves = self.units[name].dying;
                let intent = if leaves {
                    Intent::Leave
                } else {
                    Intent::Reconcile
                };
                all &= self.hook(name, &intent) && !leaves;
            }
            self.time_passes();
            if all && self.fuse.is_none() {
                break;
            }
        }
        let alive = self.units.iter().find(|(_, member)| !member.dead);
        let Some((name, member)) = alive else {
            return self.steps;
        };
        let (name, data) = (name.clone(), member.data.clone());
        let view = self.look(&name, Intent::Reconcile, &data);
        if self.units.values().all(|member| !member.dead) {
            assert_eq!(
                invariants::violations(&view),
                Vec::<String>::new(),
                "{what}"
            );
        }
        assert_eq!(self.serving().len(), 1, "{what}");
        assert!(
            self.units[&self.serving()[0]].full,
            "the data is lost: {what}"
        );
        assert!(self.lease.is_none(), "the lease is still held: {what}");
        assert!(self.units.values().all(|it| !it.dying), "not left: {what}");
        self.steps
    }
}

fn known(host: &str) -> Known {
    Known {
        host: host.to_owned(),
        id: host.to_owned(),
        down: false,
    }
}

fn learn(list: &mut Vec<Known>, host: &str) {
    if list.iter().all(|known| known.host != host) {
        list.push(known(host));
    }
}

fn members_and(view: &Observation, me: &UnitName) -> Vec<UnitName> {
    let mut names = view.members();
    names.retain(|name| name != me);
    names.push(me.clone());
    names
}

fn a_server(of: Option<&str>) -> Server {
    let shown = seen("me=0 0:P 1:R");
    let mut server = shown.server(&unit(0)).unwrap().clone();
    server.min_replicas = Some(0);
    if let Some(of) = of {
        server.priority = 0;
        server.role = Role::Replica {
            of: of.to_owned(),
            link_up: true,
            syncing: None,
        };
    }
    server
}

fn a_monitor(primary: &str, quorum: usize) -> Monitor {
    let shown = seen("me=0 0:P");
    Monitor {
        primary: primary.to_owned(),
        quorum,
        ..shown.monitor(&unit(0)).unwrap().clone()
    }
}

/// Settles `text`, then again with a hook cut off at each of the steps that this took; returns what
/// it led to without a cut.
fn whatever_is_cut_off(text: &str, prepare: impl Fn(&mut World)) -> World {
    let mut world = World::new(text);
    prepare(&mut world);
    let steps = world.settle(text);
    assert!(steps > 0, "nothing happened: {text}");
    for cut in 0..steps {
        let mut world = World::new(text);
        prepare(&mut world);
        world.fuse = Some(cut);
        world.settle(&format!("{text}, cut off at step {cut}"));
    }
    world
}

#[test]
fn founding_and_joining_end_settled_wherever_they_are_cut_off() {
    for text in [
        "me=0 leader founding=0 0:N",
        "me=0 leader founding=0 0:N 1:N 2:N",
        "me=1 leader founding=1 0:N 1:N",
        "me=0 leader 0:P 1:R 2:N 3:N",
    ] {
        whatever_is_cut_off(text, |_| {});
    }
}

#[test]
fn leaving_ends_settled_wherever_it_is_cut_off() {
    for text in [
        "me=0 leader 0:P 1:R 2:Rd",
        "me=0 leader 0:Pd 1:R 2:R",
        "me=2 leader 0:Pd 1:R 2:R",
        "me=0 leader 0:Pd 1:Rd 2:R",
        "me=0 leader 0:Pd 1:R",
        "me=0 leader 0:Pd 1:R 2:Rd 3:R 4:Rd",
        // Everybody leaves but one that is about to join.
        "me=0 leader 0:Pd 1:N",
        "me=0 leader 0:Pd 1:Rd 2:N",
    ] {
        whatever_is_cut_off(text, |_| {});
    }
}

#[test]
fn leaving_although_others_are_dead_ends_settled() {
    for text in [
        "me=0 leader 0:Pd 1:R 2:X",
        "me=0 leader 0:P 1:Rd 2:X",
        "me=1 leader names=0 0:X 1:R 2:Rd",
    ] {
        whatever_is_cut_off(text, |_| {});
    }
}

#[test]
fn restarting_ends_settled_wherever_it_is_cut_off() {
    for text in ["me=0 leader 0:P 1:R 2:R", "me=0 leader 0:P"] {
        whatever_is_cut_off(text, |world| "other".clone_into(&mut world.digest));
    }
}

#[test]
fn another_version_ends_settled_wherever_it_is_cut_off() {
    for text in [
        "me=0 leader 0:P 1:R 2:R",
        "me=1 leader 0:P 1:R",
        "me=0 leader 0:P",
    ] {
        let world = whatever_is_cut_off(text, |world| {
            "9.1.2".clone_into(&mut world.version);
        });
        for (name, member) in &world.units {
            let server = member.server.as_ref().and_then(|it| it.version.as_deref());
            let both = (server, member.voter.as_deref());
            assert_eq!(both, (Some("9.1.2"), Some("9.1.2")), "{name} of {text}");
        }
    }
}
