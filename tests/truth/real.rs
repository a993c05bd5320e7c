//! Scripts on real servers and Sentinels.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use valkey_operator::limits::SERVER_PORT;
use valkey_operator::valkey::configuration::StartFrom;
use valkey_operator::valkey::hello::Hello;
use valkey_operator::valkey::server::ShutdownSave;
use valkey_operator::valkey::{Endpoint, InternalUser, Role};

use crate::cluster::{Cluster, eventually};
use crate::cuts;
use crate::script::{Do, SentinelLook, ServerLook, World};

/// Longest that a write may take to be answered.
const ANSWER: Duration = Duration::from_millis(500);

/// Longest that a write to a frozen server waits for it to wake.
const LATE: Duration = Duration::from_secs(60);

/// Units of real processes.
pub struct Real {
    cluster: Cluster,
    start: Instant,
    epoch: u64,
    /// Keys that were acknowledged.
    acknowledged: Vec<String>,
    written: u32,
    /// Connections for writes, made anew when they break.
    writers: Vec<Option<MultiplexedConnection>>,
    /// Writes that wait in the connection of a frozen server.
    later: Vec<tokio::task::JoinHandle<Option<String>>>,
}

impl Real {
    /// Three units that know each other.
    pub async fn new(program: PathBuf) -> Self {
        let mut cluster = Cluster::empty_of(program);
        for unit in 0..3 {
            cluster.add_node();
            let primary = (unit > 0).then(|| cluster.nodes[0].server.clone());
            cluster.start_server(unit, primary);
            cluster.serving(unit).await;
        }
        for unit in 0..3 {
            cluster.start_sentinel(unit, 0, 2);
        }
        let world = Self {
            cluster,
            start: Instant::now(),
            epoch: 0,
            acknowledged: Vec::new(),
            written: 0,
            writers: vec![None, None, None],
            later: Vec::new(),
        };
        for unit in 0..3 {
            world.tune(unit).await;
        }
        world.cluster.settle_sentinels(2, 2).await;
        world
    }

    async fn tune(&self, unit: usize) {
        eventually("the Sentinel answers", Duration::from_secs(10), || async {
            let client = self.cluster.try_sentinel(unit).await?;
            client.shorten_periods().await.ok()
        })
        .await;
    }

    fn number(&self, endpoint: &Endpoint) -> usize {
        let mut nodes = self.cluster.nodes.iter();
        nodes
            .position(|node| node.server.host() == endpoint.host())
            .unwrap_or(usize::MAX)
    }

    async fn connect(&self, unit: usize) -> Option<MultiplexedConnection> {
        use redis::IntoConnectionInfo as _;
        let user = InternalUser::CharmedOperator;
        let settings = redis::RedisConnectionInfo::default()
            .set_username(user.name())
            .set_password(self.cluster.credentials.password(user).expose())
            .set_skip_set_lib_name();
        let host = self.cluster.nodes[unit].server.host().to_owned();
        let info = (host, SERVER_PORT)
            .into_connection_info()
            .ok()?
            .set_redis_settings(settings);
        let client = redis::Client::open(info).ok()?;
        let connecting = client.get_multiplexed_async_connection();
        tokio::time::timeout(ANSWER, connecting).await.ok()?.ok()
    }

    async fn ask<T: redis::FromRedisValue>(&self, unit: usize, words: &[&str]) -> Option<T> {
        let mut connection = self.connect(unit).await?;
        let mut command = redis::cmd(words.first()?);
        command.arg(&words[1..]);
        let asked = command.query_async::<T>(&mut connection);
        tokio::time::timeout(Duration::from_secs(3), asked)
            .await
            .ok()?
            .ok()
    }

    fn start(&mut self, unit: usize, of: Option<usize>, from: StartFrom) {
        let of = of.map(|of| self.cluster.nodes[of].server.clone());
        let mut settings = self.cluster.settings(unit, of);
        settings.start_from = from;
        self.cluster.start_server_with(unit, &settings);
    }

    async fn votes(&mut self, ahead: u64) -> usize {
        let mut known = 0;
        let mut voters = Vec::new();
        for unit in 0..self.units() {
            let Some(client) = self.cluster.try_sentinel(unit).await else {
                continue;
            };
            let Ok(Some(view)) = client.primary().await else {
                continue;
            };
            known = known.max(client.known_epoch(&view).await.unwrap_or(0));
            voters.push((client, view));
        }
        self.epoch = known + 1 + ahead;
        let candidate = format!("{:040x}", self.epoch + 1_000_000);
        let mut given = 0;
        for (client, view) in voters {
            let vote = client.vote(&view.address, self.epoch, &candidate).await;
            given += usize::from(vote.is_ok_and(|vote| {
                vote.epoch == self.epoch && vote.leader.as_ref() == Some(&candidate)
            }));
        }
        given
    }

    async fn hello(&self, primary: usize) {
        for unit in 0..self.units() {
            let Some(client) = self.cluster.try_sentinel(unit).await else {
                continue;
            };
            let Some(peer) = client
                .sentinels()
                .await
                .ok()
                .and_then(|peers| peers.into_iter().next())
            else {
                continue;
            };
            let hello = Hello {
                sentinel: peer.address,
                sentinel_id: peer.id,
                current_epoch: self.epoch,
                primary: self.cluster.nodes[primary].server.clone(),
                config_epoch: self.epoch,
            };
            client.publish_hello(&hello).await.unwrap();
        }
    }

    fn process(&self, unit: usize, sentinel: bool) -> &crate::cluster::Process {
        let node = &self.cluster.nodes[unit];
        let process = if sentinel {
            &node.sentinel_process
        } else {
            &node.server_process
        };
        process.as_ref().expect("the process was started")
    }

    fn cut_off(&self, unit: usize) {
        let nodes = self.cluster.nodes.iter().enumerate();
        let (one, others): (Vec<_>, Vec<_>) = nodes.partition(|(number, _)| *number == unit);
        let others: Vec<&str> = others.iter().map(|(_, node)| node.server.host()).collect();
        cuts::cut_off(one[0].1.server.host(), &others);
    }

    /// Starts, stops or freezes a process, if that is what is to be done.
    async fn act_on_process(&mut self, act: Do) -> bool {
        match act {
            Do::Kill(unit) => {
                self.cluster.nodes[unit]
                    .server_process
                    .as_mut()
                    .expect("the process was started")
                    .kill();
                self.writers[unit] = None;
            }
            Do::Start(unit, of) => self.start(unit, of, StartFrom::Persistence),
            Do::StartEmpty(unit) => {
                let dir = self.cluster.nodes[unit].dir.clone();
                let _ = std::fs::remove_dir_all(dir.join("appendonlydir"));
                let _ = std::fs::remove_file(dir.join("dump.rdb"));
                self.start(unit, None, StartFrom::Persistence);
            }
            Do::StartSnapshot(unit, of) => self.start(unit, of, StartFrom::Snapshot),
            Do::Shutdown(unit) => {
                // Refused as long as the log is written anew after a copy.
                eventually("the server stops", Duration::from_secs(20), || async {
                    let client = self.cluster.try_server(unit).await?;
                    let stopped = client.shutdown(ShutdownSave::Save, Duration::from_secs(20));
                    stopped.await.ok()
                })
                .await;
                self.cluster.nodes[unit]
                    .server_process
                    .as_mut()
                    .expect("the process was started")
                    .kill();
                self.writers[unit] = None;
            }
            Do::Freeze(unit) => self.process(unit, false).signal("STOP"),
            Do::Thaw(unit) => self.process(unit, false).signal("CONT"),
            Do::FreezeSentinel(unit) => self.process(unit, true).signal("STOP"),
            Do::ThawSentinel(unit) => self.process(unit, true).signal("CONT"),
            Do::StopSentinel(unit) => self.cluster.nodes[unit]
                .sentinel_process
                .as_mut()
                .expect("the process was started")
                .kill(),
            Do::StartSentinel(unit) => {
                self.cluster.start_sentinel(unit, 0, 2);
                self.tune(unit).await;
            }
            _ => return false,
        }
        true
    }

    /// Collects the answers of writes that had to wait.
    async fn collect(&mut self) {
        for task in std::mem::take(&mut self.later) {
            if task.is_finished() {
                self.acknowledged.extend(task.await.ok().flatten());
            } else {
                self.later.push(task);
            }
        }
    }

    async fn try_write(&mut self, unit: usize) -> Result<(), String> {
        if self.writers[unit].is_none() {
            self.writers[unit] = self.connect(unit).await;
        }
        self.written += 1;
        let key = format!("key-{}", self.written);
        let Some(writer) = &mut self.writers[unit] else {
            return Err("no answer".to_owned());
        };
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(1);
        match tokio::time::timeout(ANSWER, set.query_async::<()>(writer)).await {
            Ok(Ok(())) => {
                self.acknowledged.push(key);
                Ok(())
            }
            Ok(Err(error)) => {
                let code = error.code().map(str::to_owned);
                if code.is_none() {
                    self.writers[unit] = None;
                }
                Err(code.unwrap_or_else(|| "no answer".to_owned()))
            }
            Err(_) => {
                self.writers[unit] = None;
                Err("no answer".to_owned())
            }
        }
    }

    /// Changes a setting of a server.
    async fn set(&self, unit: usize, name: &str, value: u64) {
        let value = value.to_string();
        let server = self.cluster.server(unit).await;
        server.config_set(&[(name, value.as_str())]).await.unwrap();
    }
}

impl World for Real {
    async fn act(&mut self, act: Do) -> Option<String> {
        if self.act_on_process(act).await {
            return None;
        }
        match act {
            Do::ReplicaOf(unit, of) => {
                let of = of.map(|of| self.cluster.nodes[of].server.clone());
                self.cluster
                    .server(unit)
                    .await
                    .replicaof(of.as_ref())
                    .await
                    .unwrap();
            }
            Do::Failover(unit) => {
                let client = self.cluster.sentinel(unit).await;
                let answer = client
                    .failover(valkey_operator::valkey::sentinel::SentinelFailover::Plain)
                    .await;
                return Some(match answer {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => error
                        .refusal()
                        .and_then(|text| text.split(' ').next())
                        .unwrap_or("no answer")
                        .trim_start_matches('-')
                        .to_owned(),
                });
            }
            Do::Reset(unit) => self.cluster.sentinel(unit).await.reset().await.unwrap(),
            Do::Quorum(unit, quorum) => {
                let quorum = u64::try_from(quorum).unwrap();
                self.cluster
                    .sentinel(unit)
                    .await
                    .set_quorum(quorum)
                    .await
                    .unwrap();
            }
            Do::Priority(unit, priority) => {
                self.set(unit, "replica-priority", priority).await;
            }
            Do::MinReplicas(number) => {
                for unit in 0..self.units() {
                    self.set(unit, "min-replicas-to-write", number).await;
                }
            }
            Do::Votes(ahead) => return Some(format!("{} votes", self.votes(ahead).await)),
            Do::FailoverTo(from, to) => {
                let target = self.cluster.nodes[to].server.clone();
                let client = self.cluster.server(from).await;
                client
                    .failover_to(&target, Duration::from_secs(3))
                    .await
                    .unwrap();
            }
            Do::GetAck(unit) => {
                let mut connection = self.connect(unit).await?;
                let mut getack = redis::cmd("REPLCONF");
                getack.arg("GETACK").arg("*");
                let asked = getack.query_async::<()>(&mut connection);
                // Nobody answers it.
                let _ = tokio::time::timeout(Duration::from_millis(100), asked).await;
            }
            Do::Hello(unit) => self.hello(unit).await,
            Do::CutOff(unit) => self.cut_off(unit),
            Do::Heal(unit) => cuts::heal(self.cluster.nodes[unit].server.host()),
            Do::WriteLater(unit) => {
                let mut writer = match &self.writers[unit] {
                    Some(writer) => writer.clone(),
                    None => self.connect(unit).await?,
                };
                self.written += 1;
                let key = format!("key-{}", self.written);
                self.later.push(tokio::spawn(async move {
                    let mut set = redis::cmd("SET");
                    set.arg(&key).arg(1);
                    let asked = set.query_async::<()>(&mut writer);
                    let answer = tokio::time::timeout(LATE, asked).await;
                    matches!(answer, Ok(Ok(()))).then_some(key)
                }));
            }
            other => panic!("{other:?} is no act"),
        }
        None
    }

    async fn wait(&mut self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn server(&mut self, unit: usize) -> Option<ServerLook> {
        let text = self.ask::<String>(unit, &["INFO", "everything"]).await?;
        let info = valkey_operator::valkey::ServerInfo::parse(&text)?;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .unwrap_or(0)
        };
        if info.loading.is_some() {
            return None;
        }
        Some(ServerLook {
            follows: (info.role == Role::Replica)
                .then(|| info.follows().map_or(usize::MAX, |of| self.number(of))),
            link_up: info.link.as_ref().is_none_or(|link| link.up),
            streams: info
                .replicas
                .iter()
                .filter(|replica| replica.is_streaming())
                .count(),
            copies: (number("sync_partial_ok:"), number("sync_full:")),
        })
    }

    async fn sentinel(&mut self, unit: usize) -> Option<SentinelLook> {
        let look = async {
            let client = self.cluster.try_sentinel(unit).await?;
            let view = client.primary().await.ok()??;
            let named = client.primary_address().await.ok()??;
            let others = client.sentinels().await.ok()?;
            let replicas = client.replicas().await.ok()?;
            Some(SentinelLook {
                names: self.number(&named),
                epoch: view.config_epoch,
                down: view.flags.is_down(),
                others: others.iter().filter(|other| !other.flags.is_down()).count(),
                replicas: replicas
                    .iter()
                    .filter(|replica| replica.is_promotable())
                    .count(),
                listed: (others.len(), replicas.len()),
                priorities: replicas.iter().map(|replica| replica.priority).collect(),
            })
        };
        tokio::time::timeout(Duration::from_secs(1), look)
            .await
            .ok()?
    }

    async fn write(&mut self, unit: usize) -> String {
        match self.try_write(unit).await {
            Ok(()) => "ok".to_owned(),
            Err(why) => why,
        }
    }

    async fn missing(&mut self, unit: usize) -> usize {
        self.collect().await;
        let keys: Vec<String> = self
            .ask(unit, &["KEYS", "key-*"])
            .await
            .expect("the server answers");
        let held: std::collections::BTreeSet<String> = keys.into_iter().collect();
        self.acknowledged
            .iter()
            .filter(|key| !held.contains(*key))
            .count()
    }

    fn units(&self) -> usize {
        self.cluster.nodes.len()
    }
}
