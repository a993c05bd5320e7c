//! Clients that write without pause and remember every write that was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;
use valkey_operator::limits::MONITOR_NAME;
use valkey_operator::valkey::{Endpoint, InternalUser};

use crate::cluster::Cluster;

/// What one writer has seen.
#[derive(Default)]
struct Log {
    acknowledged: Vec<String>,
    /// Longest time between two acknowledged writes since the last mark.
    gap: Duration,
    last: Option<Instant>,
}

/// Some writers that follow Sentinel.
pub struct Writers {
    stop: Arc<AtomicBool>,
    logs: Vec<Arc<Mutex<Log>>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Access {
    sentinels: Vec<Endpoint>,
    sentinel_password: String,
    server_password: String,
}

async fn connect(
    at: &Endpoint,
    user: InternalUser,
    password: &str,
) -> Option<MultiplexedConnection> {
    use redis::IntoConnectionInfo as _;
    let settings = redis::RedisConnectionInfo::default()
        .set_username(user.name())
        .set_password(password)
        .set_skip_set_lib_name();
    let info = (at.host(), at.port())
        .into_connection_info()
        .ok()?
        .set_redis_settings(settings);
    let client = redis::Client::open(info).ok()?;
    let connecting = client.get_multiplexed_async_connection();
    tokio::time::timeout(Duration::from_millis(500), connecting)
        .await
        .ok()?
        .ok()
}

impl Access {
    async fn primary(&self) -> Option<MultiplexedConnection> {
        for sentinel in &self.sentinels {
            let user = InternalUser::CharmedSentinelOperator;
            let Some(mut asked) = connect(sentinel, user, &self.sentinel_password).await else {
                continue;
            };
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("GET-MASTER-ADDR-BY-NAME").arg(MONITOR_NAME);
            let Ok((host, port)) = ask.query_async::<(String, u16)>(&mut asked).await else {
                continue;
            };
            let endpoint = Endpoint::new(host, port).ok()?;
            return connect(
                &endpoint,
                InternalUser::CharmedOperator,
                &self.server_password,
            )
            .await;
        }
        None
    }
}

impl Writers {
    /// Starts writers.
    pub fn start(cluster: &Cluster, count: usize) -> Self {
        let access = Access {
            sentinels: cluster.sentinels(),
            sentinel_password: expose(cluster, InternalUser::CharmedSentinelOperator),
            server_password: expose(cluster, InternalUser::CharmedOperator),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let logs: Vec<_> = (0..count)
            .map(|_| Arc::new(Mutex::new(Log::default())))
            .collect();
        let tasks = logs
            .iter()
            .enumerate()
            .map(|(writer, log)| {
                let (stop, log, access) = (stop.clone(), log.clone(), access.clone());
                tokio::spawn(async move { write(writer, &access, &stop, &log).await })
            })
            .collect();
        Self { stop, logs, tasks }
    }

    /// Forgets the gaps seen so far.
    pub fn mark(&self) {
        for log in &self.logs {
            log.lock().unwrap().gap = Duration::ZERO;
        }
    }

    /// Returns the longest gap of any writer since the last mark.
    pub fn gap(&self) -> Duration {
        self.logs
            .iter()
            .map(|log| log.lock().unwrap().gap)
            .max()
            .unwrap_or_default()
    }

    /// Returns how many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.logs
            .iter()
            .map(|log| log.lock().unwrap().acknowledged.len())
            .sum()
    }

    /// Stops, and returns how many acknowledged writes there were and how many `primary` lacks.
    pub async fn lost_on(self, cluster: &Cluster, primary: usize) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let at = &cluster.nodes[primary].server;
        let password = expose(cluster, InternalUser::CharmedOperator);
        let mut server = connect(at, InternalUser::CharmedOperator, &password)
            .await
            .unwrap();
        let (mut all, mut lost) = (0, 0);
        for log in &self.logs {
            let keys = std::mem::take(&mut log.lock().unwrap().acknowledged);
            all += keys.len();
            for keys in keys.chunks(1000) {
                let mut ask = redis::cmd("EXISTS");
                ask.arg(keys);
                let there: usize = ask.query_async(&mut server).await.unwrap();
                lost += keys.len() - there;
            }
        }
        (all, lost)
    }
}

fn expose(cluster: &Cluster, user: InternalUser) -> String {
    cluster.credentials.password(user).expose().to_owned()
}

async fn write(writer: usize, access: &Access, stop: &AtomicBool, log: &Mutex<Log>) {
    let mut connection = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let Some(server) = &mut connection else {
            connection = access.primary().await;
            if connection.is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            continue;
        };
        number += 1;
        let key = format!("w{writer}:{number}");
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(number);
        let done =
            tokio::time::timeout(Duration::from_secs(4), set.query_async::<()>(server)).await;
        if matches!(done, Ok(Ok(()))) {
            let mut log = log.lock().unwrap();
            let now = Instant::now();
            if let Some(last) = log.last.replace(now) {
                log.gap = log.gap.max(now - last);
            }
            log.acknowledged.push(key);
        } else {
            connection = None;
        }
    }
}
