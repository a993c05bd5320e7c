//! Scripts on the models.

use crate::models::{
    Cluster, Failure, Hello, Reply, SentinelCommand, SentinelFacts, SentinelStart, ServerCommand,
    ServerFacts, ServerStart, Timings,
};
use crate::script::{Do, SentinelLook, ServerLook, World};

/// Units on the models.
pub struct Modelled {
    all: Cluster,
    names: Vec<String>,
    epoch: u64,
}

impl Modelled {
    /// Three units that know each other, with a detection time of a second.
    pub fn new(seed: u64) -> Self {
        let timings = Timings {
            down_after: 1_000,
            ..Timings::charm()
        };
        let mut world = Self {
            all: Cluster::new(timings, seed),
            names: Vec::new(),
            epoch: 0,
        };
        for unit in 0..3 {
            let name = format!("10.0.0.{}", unit + 1);
            world.all.add_host(&name);
            world.names.push(name);
            world.start(unit, (unit > 0).then_some(0), false);
            let now = world.all.now();
            world.all.advance(now + 2_000);
            let _ = world.server_command(unit, &ServerCommand::SetPriority(100));
        }
        for unit in 0..3 {
            world.start_sentinel(unit);
        }
        let now = world.all.now();
        // The time at which a script begins is any.
        world.all.advance(now + 5_000 + seed * 37 % 1_000);
        world
    }

    fn start(&mut self, unit: usize, follow: Option<usize>, from_snapshot: bool) {
        let start = ServerStart {
            follow: follow.map(|of| self.names[of].clone()),
            from_snapshot,
            priority: 0,
            min_replicas: 0,
        };
        self.all.start_server(&self.names[unit], &start);
    }

    fn start_sentinel(&mut self, unit: usize) {
        let name = self.names[unit].clone();
        let start = SentinelStart {
            monitor: self.names[0].clone(),
            quorum: 2,
            fresh: false,
        };
        self.all.start_sentinel(&name, &start);
        self.sentinel_command(unit, &SentinelCommand::ShortenPeriods);
    }

    fn server_command(&mut self, unit: usize, command: &ServerCommand) -> Result<Reply, Failure> {
        let name = self.names[unit].clone();
        self.all.server_command(&name, &name, command)
    }

    fn sentinel_command(&mut self, unit: usize, command: &SentinelCommand) -> Option<Reply> {
        let name = self.names[unit].clone();
        self.all.sentinel_command(&name, &name, command).ok()
    }

    fn facts(&mut self, unit: usize) -> Option<ServerFacts> {
        match self.server_command(unit, &ServerCommand::Info) {
            Ok(Reply::Server(facts)) => Some(*facts),
            _ => None,
        }
    }

    fn view(&mut self, unit: usize) -> Option<SentinelFacts> {
        match self.sentinel_command(unit, &SentinelCommand::Look)? {
            Reply::Sentinel(facts) => Some(*facts),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> usize {
        self.names
            .iter()
            .position(|known| known == name)
            .unwrap_or(usize::MAX)
    }

    fn votes(&mut self, ahead: u64) -> usize {
        let mut known = 0;
        for unit in 0..self.names.len() {
            if let Some(Reply::Epoch(epoch)) =
                self.sentinel_command(unit, &SentinelCommand::KnownEpoch)
            {
                known = known.max(epoch);
            }
        }
        self.epoch = known + 1 + ahead;
        let candidate = format!("{:040x}", self.epoch + 1_000_000);
        let mut given = 0;
        for unit in 0..self.names.len() {
            let Some(view) = self.view(unit).and_then(|facts| facts.view) else {
                continue;
            };
            let command = SentinelCommand::Vote {
                primary: view.primary,
                epoch: self.epoch,
                candidate: candidate.clone(),
            };
            if let Some(Reply::Vote { epoch, leader }) = self.sentinel_command(unit, &command) {
                given += usize::from(epoch == self.epoch && leader.as_ref() == Some(&candidate));
            }
        }
        given
    }

    fn hello(&mut self, primary: usize) {
        for unit in 0..self.names.len() {
            let Some(view) = self.view(unit).and_then(|facts| facts.view) else {
                continue;
            };
            let Some(peer) = view.others.first() else {
                continue;
            };
            let hello = Hello {
                host: peer.host.clone(),
                id: peer.id.clone(),
                current_epoch: self.epoch,
                primary: self.names[primary].clone(),
                config_epoch: self.epoch,
            };
            self.sentinel_command(unit, &SentinelCommand::Hello(hello));
        }
    }
}

impl World for Modelled {
    async fn act(&mut self, act: Do) -> Option<String> {
        match act {
            Do::Kill(unit) => self.all.kill_server(&self.names[unit]),
            Do::Start(unit, of) => self.start(unit, of, false),
            Do::StartEmpty(unit) => {
                self.all.keep_aside(&self.names[unit], true);
                self.start(unit, None, false);
            }
            Do::StartSnapshot(unit, of) => self.start(unit, of, true),
            Do::Shutdown(unit) => {
                let _ = self.server_command(unit, &ServerCommand::Shutdown { save: true });
            }
            Do::Freeze(unit) => self.all.freeze_server(&self.names[unit]),
            Do::Thaw(unit) => self.all.thaw_server(&self.names[unit]),
            Do::FreezeSentinel(unit) => self.all.freeze_sentinel(&self.names[unit]),
            Do::ThawSentinel(unit) => self.all.thaw_sentinel(&self.names[unit]),
            Do::StopSentinel(unit) => self.all.stop_sentinel(&self.names[unit]),
            Do::StartSentinel(unit) => self.start_sentinel(unit),
            Do::ReplicaOf(unit, of) => {
                let of = of.map(|of| self.names[of].clone());
                let _ = self.server_command(unit, &ServerCommand::ReplicaOf(of));
            }
            Do::Failover(unit) => {
                let name = self.names[unit].clone();
                let answer = self
                    .all
                    .sentinel_command(&name, &name, &SentinelCommand::Failover);
                return Some(match answer {
                    Ok(_) => "ok".to_owned(),
                    Err(Failure::Error(text)) => {
                        text.split(' ').next().unwrap_or_default().to_owned()
                    }
                    Err(other) => format!("{other:?}"),
                });
            }
            Do::Reset(unit) => {
                self.sentinel_command(unit, &SentinelCommand::Reset);
            }
            Do::Quorum(unit, quorum) => {
                self.sentinel_command(unit, &SentinelCommand::SetQuorum(quorum));
            }
            Do::Priority(unit, priority) => {
                let _ = self.server_command(unit, &ServerCommand::SetPriority(priority));
            }
            Do::MinReplicas(number) => {
                for unit in 0..self.names.len() {
                    let _ = self.server_command(unit, &ServerCommand::SetMinReplicas(number));
                }
            }
            Do::Votes(ahead) => return Some(format!("{} votes", self.votes(ahead))),
            Do::FailoverTo(from, to) => {
                let target = self.names[to].clone();
                let _ = self.server_command(
                    from,
                    &ServerCommand::FailoverTo {
                        target,
                        timeout: 3_000,
                    },
                );
            }
            Do::GetAck(unit) => {
                let _ = self.server_command(unit, &ServerCommand::GetAck);
            }
            Do::Hello(unit) => self.hello(unit),
            Do::CutOff(unit) => self.all.cut_off(&self.names[unit]),
            Do::Heal(_) => self.all.heal_all(),
            Do::WriteLater(unit) => {
                let _ = self.server_command(unit, &ServerCommand::Write { client: 9 });
            }
            other => panic!("{other:?} is no act"),
        }
        None
    }

    async fn wait(&mut self, ms: u64) {
        let now = self.all.now();
        self.all.advance(now + ms);
    }

    fn now(&self) -> u64 {
        self.all.now()
    }

    async fn server(&mut self, unit: usize) -> Option<ServerLook> {
        let facts = self.facts(unit).filter(|facts| !facts.loading)?;
        Some(ServerLook {
            follows: facts.follows.map(|of| self.number(&of)),
            link_up: facts.link_up,
            streams: facts
                .replicas
                .iter()
                .filter(|replica| replica.online && replica.offset > 0)
                .count(),
            copies: self.all.gave(&self.names[unit]),
        })
    }

    async fn sentinel(&mut self, unit: usize) -> Option<SentinelLook> {
        let view = self.view(unit)?.view?;
        Some(SentinelLook {
            names: self.number(&view.primary),
            epoch: view.config_epoch,
            down: view.down,
            others: view.others.iter().filter(|other| !other.down).count(),
            replicas: view
                .replicas
                .iter()
                .filter(|replica| !replica.down && replica.link_up && replica.priority > 0)
                .count(),
            listed: (view.others.len(), view.replicas.len()),
            priorities: view
                .replicas
                .iter()
                .map(|replica| replica.priority)
                .collect(),
        })
    }

    async fn write(&mut self, unit: usize) -> String {
        match self.server_command(unit, &ServerCommand::Write { client: 1 }) {
            Ok(_) => "ok".to_owned(),
            Err(Failure::NoReplicas) => "NOREPLICAS".to_owned(),
            Err(Failure::ReadOnly) => "READONLY".to_owned(),
            Err(Failure::Misconf) => "MISCONF".to_owned(),
            _ => "no answer".to_owned(),
        }
    }

    async fn missing(&mut self, unit: usize) -> usize {
        self.all.missing_on(&self.names[unit]).len()
    }

    fn units(&self) -> usize {
        self.names.len()
    }
}
