//! Real servers and Sentinels on loopback addresses of their own, ended when the test ends.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use valkey_operator::limits::{SENTINEL_PORT, SERVER_PORT};
use valkey_operator::valkey::configuration::{
    LogLevel, Options, SentinelSettings, ServerSettings, StartFrom, sentinel_users, server_users,
};
use valkey_operator::valkey::{
    Credentials, Endpoint, InternalUser, Role, SentinelClient, ServerClient, Version,
};

/// Program to test: `VALKEY_SERVER` if that is set, else the one in `PATH`.
pub fn server_program() -> PathBuf {
    std::env::var_os("VALKEY_SERVER").map_or_else(|| "valkey-server".into(), PathBuf::from)
}

/// The newest Valkey.
///
/// # Panics
///
/// When it was not fetched: a test that needs it must not pass without it.
pub fn newest_program() -> PathBuf {
    let fetched = || {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
        target
            .unwrap_or_else(|| Path::new("target"))
            .join("valkey-newest/valkey-server")
    };
    let path = std::env::var_os("VALKEY_NEWEST_SERVER").map_or_else(fetched, PathBuf::from);
    assert!(
        path.exists(),
        "the newest Valkey is missing at {}: run scripts/valkey-newest",
        path.display()
    );
    path
}

/// Its version.
pub fn server_version() -> Version {
    version_of(&server_program())
}

/// The version of a program.
pub fn version_of(program: &Path) -> Version {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .expect("cannot start valkey-server: install it, or name it in VALKEY_SERVER");
    String::from_utf8_lossy(&output.stdout)
        .parse()
        .expect("a version")
}

/// A child process that is killed when the test ends.
pub struct Process(Child);

impl Process {
    fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("valkey-server starts");
        Self(child)
    }

    /// Sends a signal by name to this process alone.
    pub fn signal(&self, name: &str) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let signal = match name {
            "STOP" => rustix::process::Signal::STOP,
            "CONT" => rustix::process::Signal::CONT,
            "KILL" => rustix::process::Signal::KILL,
            other => panic!("no signal {other}"),
        };
        rustix::process::kill_process(pid, signal).expect("the process exists");
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One server and one Sentinel, as a unit has them.
pub struct Node {
    pub server: Endpoint,
    pub sentinel: Endpoint,
    pub dir: PathBuf,
    pub server_process: Option<Process>,
    pub sentinel_process: Option<Process>,
}

/// Some nodes with their credentials.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub credentials: Credentials,
    pub options: Options,
    pub version: Version,
    pub program: PathBuf,
    network: String,
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!(
                "the files of the failed test are in {}",
                self.dir.path().display()
            );
        }
    }
}

/// Polls `done` until it returns something, at most `within`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut done: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done().await {
            return value;
        }
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where files of tests go: to memory if there is room.
///
/// A Sentinel writes through to the disk before it answers; a disk that other tests keep busy
/// would decide what is tested here.
fn fast_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if free > 1 << 30 {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Finds a loopback network whose first addresses nobody uses.
fn free_network() -> String {
    for _ in 0..100 {
        let mut random = [0_u8; 2];
        getrandom::fill(&mut random).unwrap();
        let network = format!("127.{}.{}", 64 + random[0] % 128, random[1]);
        let free = |host: u8| {
            [SERVER_PORT, SENTINEL_PORT].iter().all(|port| {
                std::net::TcpListener::bind((format!("{network}.{host}").as_str(), *port)).is_ok()
            })
        };
        if (1..9).all(free) {
            return network;
        }
    }
    panic!("no free loopback network");
}

impl Cluster {
    /// Makes a cluster without any process.
    pub fn empty() -> Self {
        Self::empty_of(server_program())
    }

    /// As [`Cluster::empty`], with another program than the usual one.
    pub fn empty_of(program: PathBuf) -> Self {
        Self {
            nodes: Vec::new(),
            credentials: Credentials::generate().unwrap(),
            options: Options::default(),
            version: version_of(&program),
            program,
            network: free_network(),
            dir: tempfile::Builder::new()
                .prefix("valkey-test-")
                .tempdir_in(fast_directory())
                .unwrap(),
        }
    }

    /// Starts `count` servers, the first as primary and the others as its synced, promotable
    /// replicas, and a Sentinel beside each; returns when all of them know each other.
    ///
    /// Sentinels have the charm's periods, as always in the charm.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, true).await
    }

    /// As [`Cluster::start`], with Sentinel's default periods if `fast` is not set.
    pub async fn start_with(count: usize, fast: bool) -> Self {
        let mut cluster = Self::servers(count).await;
        for index in 0..count {
            cluster.start_sentinel(index, 0, count / 2 + 1);
        }
        for index in 0..if fast { count } else { 0 } {
            eventually("the Sentinel answers", Duration::from_secs(5), || async {
                cluster
                    .try_sentinel(index)
                    .await?
                    .shorten_periods()
                    .await
                    .ok()
            })
            .await;
        }
        cluster.settle_sentinels(count - 1, count - 1).await;
        cluster
    }

    /// Starts servers only.
    pub async fn servers(count: usize) -> Self {
        let mut cluster = Self::empty();
        for index in 0..count {
            cluster.add_node();
            let primary = (index > 0).then(|| cluster.nodes[0].server.clone());
            cluster.start_server(index, primary);
            cluster.serving(index).await;
        }
        cluster
    }

    /// Adds a node without processes; returns its index.
    pub fn add_node(&mut self) -> usize {
        let host = format!("{}.{}", self.network, self.nodes.len() + 1);
        self.add_node_at(&host)
    }

    /// As [`Cluster::add_node`], at a host of the caller's choice: an address or a name.
    pub fn add_node_at(&mut self, host: &str) -> usize {
        let index = self.nodes.len();
        let dir = self.dir.path().join(format!("node-{index}"));
        std::fs::create_dir_all(&dir).unwrap();
        self.nodes.push(Node {
            server: Endpoint::new(host, SERVER_PORT).unwrap(),
            sentinel: Endpoint::new(host, SENTINEL_PORT).unwrap(),
            dir,
            server_process: None,
            sentinel_process: None,
        });
        index
    }

    /// Returns the settings of a server.
    pub fn settings(&self, index: usize, replicaof: Option<Endpoint>) -> ServerSettings {
        let node = &self.nodes[index];
        ServerSettings {
            version: self.version,
            endpoint: node.server.clone(),
            data_dir: node.dir.clone(),
            users_file: node.dir.join("users.acl"),
            replication_password: self
                .credentials
                .password(InternalUser::CharmedReplication)
                .clone(),
            replicaof,
            min_replicas_to_write: 0,
            start_from: StartFrom::Persistence,
            memory_total_bytes: None,
            options: self.options.clone(),
        }
    }

    /// Writes a server's files anew and starts it.
    pub fn start_server(&mut self, index: usize, replicaof: Option<Endpoint>) {
        let settings = self.settings(index, replicaof);
        self.start_server_with(index, &settings);
    }

    /// As [`Cluster::start_server`], with settings of the caller's own.
    pub fn start_server_with(&mut self, index: usize, settings: &ServerSettings) {
        self.write_server(index, settings);
        self.run_server(index);
    }

    /// Writes a server's files; returns that of its configuration.
    pub fn write_server(&self, index: usize, settings: &ServerSettings) -> PathBuf {
        let text = settings.render().unwrap();
        let node = &self.nodes[index];
        let file = node.dir.join("valkey.conf");
        std::fs::write(&file, text).unwrap();
        std::fs::write(
            node.dir.join("users.acl"),
            server_users(&self.credentials, None),
        )
        .unwrap();
        file
    }

    /// Starts a server with the files that were written.
    pub fn run_server(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let file = node.dir.join("valkey.conf");
        let log = node.dir.join("server.log");
        node.server_process = Some(Process::start(
            &self.program,
            &[file.to_str().unwrap()],
            &log,
        ));
    }

    /// Waits until a server serves and, as a replica, is synced; then makes it promotable.
    pub async fn serving(&self, index: usize) {
        let what = format!("server {index} serves (log: {})", self.log(index));
        eventually(&what, Duration::from_secs(20), || async {
            let client = self.try_server(index).await?;
            let info = client.info().await.ok()?;
            let ready =
                info.loading.is_none() && (info.role == Role::Primary || info.is_synced_replica());
            if !ready {
                return None;
            }
            if info.role == Role::Replica {
                // Whoever is primary by now.
                let own = &self.nodes[index].server;
                let mut streams = false;
                for other in (0..self.nodes.len()).filter(|other| *other != index) {
                    if let Some(client) = self.try_server(other).await
                        && let Ok(primary) = client.replication().await
                    {
                        let mut replicas = primary.replicas.iter();
                        streams |= replicas.any(|r| r.address == *own && r.is_streaming());
                    }
                }
                if !streams {
                    return None;
                }
            }
            client.config_set(&[("replica-priority", "100")]).await.ok()
        })
        .await;
    }

    fn log(&self, index: usize) -> String {
        self.nodes[index]
            .dir
            .join("server.log")
            .display()
            .to_string()
    }

    /// Starts a Sentinel; its file is written only if it has none.
    pub fn start_sentinel(&mut self, index: usize, primary: usize, quorum: usize) {
        let node = &self.nodes[index];
        let file = node.dir.join("sentinel.conf");
        let users = node.dir.join("sentinel.acl");
        if !file.exists() {
            let settings = SentinelSettings {
                endpoint: node.sentinel.clone(),
                data_dir: node.dir.clone(),
                users_file: users.clone(),
                primary: self.nodes[primary].server.clone(),
                quorum: u64::try_from(quorum).unwrap(),
                detection: Duration::from_secs(1),
                credentials: self.credentials.clone(),
                log_level: LogLevel::Notice,
            };
            std::fs::write(&file, settings.render().unwrap()).unwrap();
            std::fs::write(&users, sentinel_users(&self.credentials, None)).unwrap();
        }
        let log = node.dir.join("sentinel.log");
        let process = Process::start(&self.program, &[file.to_str().unwrap(), "--sentinel"], &log);
        self.nodes[index].sentinel_process = Some(process);
    }

    /// Waits until every running Sentinel knows so many others and so many promotable replicas.
    pub async fn settle_sentinels(&self, others: usize, replicas: usize) {
        for (index, node) in self.nodes.iter().enumerate() {
            if node.sentinel_process.is_none() {
                continue;
            }
            let what = format!("Sentinel {index} knows all");
            eventually(&what, Duration::from_secs(25), || async {
                let client = self.try_sentinel(index).await?;
                let seen = client.replicas().await.ok()?;
                let good = seen.iter().filter(|r| r.is_promotable()).count() == replicas;
                let all = client.sentinels().await.ok()?;
                let peers = all.len() == others && all.iter().all(|s| !s.flags.is_down());
                (good && seen.len() == replicas && peers).then_some(())
            })
            .await;
        }
    }

    /// Connects to a server as the charm.
    pub async fn try_server(&self, index: usize) -> Option<ServerClient> {
        let user = InternalUser::CharmedOperator;
        let password = self.credentials.password(user);
        ServerClient::connect(&self.nodes[index].server, user, password)
            .await
            .ok()
    }

    /// Connects to a server that has to be there.
    pub async fn server(&self, index: usize) -> ServerClient {
        self.try_server(index).await.expect("the server answers")
    }

    /// Writes so many keys to a server.
    pub async fn fill(&self, index: usize, keys: u32) {
        use redis::IntoConnectionInfo as _;
        let user = InternalUser::CharmedOperator;
        let settings = redis::RedisConnectionInfo::default()
            .set_username(user.name())
            .set_password(self.credentials.password(user).expose())
            .set_skip_set_lib_name();
        let host = self.nodes[index].server.host().to_owned();
        let info = (host, SERVER_PORT).into_connection_info().unwrap();
        let client = redis::Client::open(info.set_redis_settings(settings)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for key in 0..keys {
            let mut set = redis::cmd("SET");
            set.arg(format!("filled-{key}")).arg(key);
            set.query_async::<()>(&mut connection).await.unwrap();
        }
    }

    /// Connects to a Sentinel as the charm.
    pub async fn try_sentinel(&self, index: usize) -> Option<SentinelClient> {
        let user = InternalUser::CharmedSentinelOperator;
        let password = self.credentials.password(user);
        SentinelClient::connect(&self.nodes[index].sentinel, user, password)
            .await
            .ok()
    }

    /// Connects to a Sentinel that has to be there.
    pub async fn sentinel(&self, index: usize) -> SentinelClient {
        self.try_sentinel(index)
            .await
            .expect("the Sentinel answers")
    }

    /// All Sentinels' endpoints.
    pub fn sentinels(&self) -> Vec<Endpoint> {
        self.nodes
            .iter()
            .map(|node| node.sentinel.clone())
            .collect()
    }
}
