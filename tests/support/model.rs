//! A model of the real `juju-local` with the charm under test, destroyed when it is dropped.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    charm,
    names::Book,
    oracles,
    slots::Slot,
    wire::{Wire, info_field},
};

/// Name of the application under test.
pub const APPLICATION: &str = "valkey";
/// Port of the servers.
pub const SERVER_PORT: u16 = 6379;
/// Port of the Sentinels.
pub const SENTINEL_PORT: u16 = 26379;
/// Longest that one command of `juju-local` may take; waiting is done here, not there.
const COMMAND: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longest that a server or Sentinel may take to answer a check.
const ANSWER: Duration = Duration::from_secs(2);

/// Time for one unit to come or go, generous because tests share two cores.
pub const A_UNIT: Duration = Duration::from_secs(60);

/// A unit as `status` shows it.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Name, for example `valkey/0`.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// What others call it: its address, or the name of its pod.
    pub host: String,
    /// Status word of the charm.
    pub workload: String,
    /// Status message of the charm.
    pub message: String,
    /// Status word of the agent.
    pub agent: String,
    /// Whether it is the leader.
    pub leader: bool,
}

/// How an action ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// `completed` or `failed`.
    pub status: String,
    /// Why it failed.
    pub message: String,
    /// Its results.
    pub results: Value,
}

impl Ended {
    /// Tells whether the action completed.
    pub fn completed(&self) -> bool {
        self.status == "completed"
    }

    /// Returns all of it as text, to look for words.
    pub fn all(&self) -> String {
        format!("{} {} {}", self.status, self.message, self.results)
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Printed {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Passwords of the users that the tests act as.
#[derive(Debug)]
pub struct Passwords {
    /// Of `charmed-operator`, on the servers.
    pub server: String,
    /// Of `charmed-sentinel-operator`, on the Sentinels.
    pub sentinel: String,
}

/// A model; `destroy` runs when it is dropped, also when the test fails.
#[derive(Debug)]
pub struct Model {
    state: TempDir,
    program: PathBuf,
    charm: PathBuf,
    environment: Vec<String>,
    passwords: OnceLock<Passwords>,
    /// Of the pods, where units are pods.
    namespace: Option<String>,
    _slot: Slot,
}

impl Model {
    /// Makes an empty model with the system's Valkey.
    pub fn new() -> Self {
        Self::with_server(None)
    }

    /// Makes an empty model with the newest Valkey that `scripts/valkey-newest` fetched.
    pub fn with_newest() -> Self {
        Self::with_server(Some(newest_server()))
    }

    /// Makes an empty model with a Valkey, or the system's.
    pub fn with_server(server: Option<PathBuf>) -> Self {
        let mut environment = vec!["VALKEY_OPERATOR_WORKLOAD=process".to_owned()];
        environment
            .extend(server.map(|server| format!("VALKEY_OPERATOR_SERVER={}", server.display())));
        let program = PathBuf::from(env!("CARGO_BIN_EXE_juju-local"));
        let place = env::temp_dir();
        Self::placed(program, &place, charm::folder().to_owned(), environment)
    }

    /// Makes an empty model of `program`, a `juju-local`, with its state below `place`, for a charm
    /// that finds its own way of running processes, as on Juju's machines.
    pub fn on_machines(program: PathBuf, place: &Path, charm: PathBuf) -> Self {
        let model = Self::placed(program, place, charm, Vec::new());
        // Services run as users of their own and have to come through to their storage.
        fs::set_permissions(model.state(), fs::Permissions::from_mode(0o755))
            .expect("cannot open the state folder");
        model
    }

    /// Makes an empty model whose units are pods; the calling thread has to be in a network of its own.
    pub fn in_pods() -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_juju-local"));
        let place = env::temp_dir();
        let mut model = Self::placed(program, &place, charm::folder().to_owned(), Vec::new());
        let name = model.state().file_name().and_then(|name| name.to_str());
        model.namespace = name.map(str::to_lowercase);
        model.handle(&[
            "setting",
            "substrate=kubernetes",
            &format!("pebble={}", super::pebble::program().display()),
            "pebble-poll-seconds=1",
        ]);
        model
    }

    fn placed(program: PathBuf, place: &Path, charm: PathBuf, environment: Vec<String>) -> Self {
        let slot = Slot::take();
        // The path is short, because the sockets of the engine live below it.
        let state = tempfile::Builder::new()
            .prefix("vo-")
            .tempdir_in(place)
            .expect("cannot make a state folder");
        Self {
            state,
            program,
            charm,
            environment,
            passwords: OnceLock::new(),
            namespace: None,
            _slot: slot,
        }
    }

    /// Deploys another charm than the one under test from now on.
    pub fn use_charm(&mut self, charm: PathBuf) {
        self.charm = charm;
    }

    /// Deploys `units` units in a new model and waits until they have settled.
    pub fn deployed(units: usize) -> Self {
        let model = Self::new();
        model.deploy(units, &[]);
        model.settled(units, A_UNIT * u32::try_from(units).unwrap_or(1));
        model
    }

    /// Deploys `units` units with options, without waiting.
    pub fn deploy(&self, units: usize, options: &[(&str, &str)]) {
        self.deploy_as(APPLICATION, units, options);
    }

    /// Deploys the charm under another name, without waiting.
    pub fn deploy_as(&self, application: &str, units: usize, options: &[(&str, &str)]) {
        let charm = self.charm.display().to_string();
        let units = units.to_string();
        let mut arguments: Vec<String> = ["deploy", &charm, application, "-n", &units]
            .map(str::to_owned)
            .to_vec();
        for variable in &self.environment {
            arguments.extend(["--env".to_owned(), variable.clone()]);
        }
        for (option, value) in options {
            arguments.extend(["--config".to_owned(), format!("{option}={value}")]);
        }
        self.juju(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Runs `juju-local` and expects success; returns what it printed.
    pub fn juju(&self, arguments: &[&str]) -> String {
        let printed = self.try_juju(arguments);
        assert!(
            printed.status.success(),
            "`juju-local {}` failed ({}): {}{}",
            arguments.join(" "),
            printed.status,
            printed.stderr,
            self.describe()
        );
        printed.stdout
    }

    /// Runs `juju-local`, whatever becomes of it.
    pub fn try_juju(&self, arguments: &[&str]) -> Printed {
        run_bounded(&self.program, self.state.path(), arguments, COMMAND).unwrap_or_else(|error| {
            panic!("cannot run `juju-local {}`: {error}", arguments.join(" "))
        })
    }

    /// Adds units, without waiting.
    pub fn add_units(&self, count: usize) {
        self.juju(&["add-unit", APPLICATION, "-n", &count.to_string()]);
    }

    /// Removes units at the same time, without waiting.
    pub fn remove_units(&self, units: &[&str]) {
        self.juju(&[&["remove-unit"], units].concat());
    }

    /// Removes a unit by force, without waiting.
    pub fn force_remove(&self, unit: &str) {
        self.juju(&["remove-unit", unit, "--force", "--no-wait"]);
    }

    /// Sets options.
    pub fn configure(&self, options: &[(&str, &str)]) {
        let mut arguments = vec!["config".to_owned(), APPLICATION.to_owned()];
        arguments.extend(
            options
                .iter()
                .map(|(option, value)| format!("{option}={value}")),
        );
        self.juju(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Uses one of the handles that only `juju-local` has.
    pub fn handle(&self, arguments: &[&str]) {
        self.juju(&[&["handle"], arguments].concat());
    }

    /// Ends the engine at once, as `kill -9` would; the next command starts it again.
    pub fn crash_engine(&self) {
        // It cannot answer any more, so how the command ends does not matter.
        self.try_juju(&["handle", "crash-engine"]);
    }

    /// Runs an action and waits for its end.
    pub fn run(&self, unit: &str, action: &str, parameters: &[&str]) -> Ended {
        let printed = self.try_juju(
            &[
                &["run", "--format", "json", "--wait", "100s", unit, action],
                parameters,
            ]
            .concat(),
        );
        let report: Value = serde_json::from_str(&printed.stdout).unwrap_or_else(|error| {
            panic!(
                "`run {unit} {action}` printed no report ({error}): {}{}",
                printed.stdout, printed.stderr
            )
        });
        let task = report
            .as_object()
            .and_then(|units| units.values().next())
            .unwrap_or(&Value::Null);
        let text = |key: &str| task[key].as_str().unwrap_or_default().to_owned();
        Ended {
            status: text("status"),
            message: text("message"),
            results: task["results"].clone(),
        }
    }

    /// Returns the status as JSON.
    pub fn status(&self) -> Value {
        let text = self.juju(&["status", "--format", "json"]);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("status is no JSON ({error}): {text}"))
    }

    /// Returns the units of the application that have an address, by number.
    pub fn units(&self) -> Vec<Unit> {
        let status = self.status();
        let units = status["applications"][APPLICATION]["units"].as_object();
        let mut units: Vec<Unit> = units
            .into_iter()
            .flatten()
            .filter_map(|(name, unit)| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let address: IpAddr = unit["public-address"].as_str()?.parse().ok()?;
                Some(Unit {
                    name: name.clone(),
                    address,
                    host: self.host(name, address),
                    workload: text(&unit["workload-status"]["current"]),
                    message: text(&unit["workload-status"]["message"]),
                    agent: text(&unit["juju-status"]["current"]),
                    leader: unit["leader"].as_bool().unwrap_or(false),
                })
            })
            .collect();
        units.sort_by_key(|unit| number(&unit.name));
        units
    }

    /// Returns what units call each other.
    fn host(&self, unit: &str, address: IpAddr) -> String {
        let Some(namespace) = &self.namespace else {
            return address.to_string();
        };
        let pod = unit.replace('/', "-");
        format!("{pod}.{APPLICATION}-endpoints.{namespace}.svc.cluster.local")
    }

    /// Returns where units are looked up by name; `None` where they are known by address.
    ///
    /// # Panics
    ///
    /// When the first pod does not know its resolver.
    pub fn names(&self) -> Option<Book> {
        let namespace = self.namespace.as_ref()?;
        let first = self.units().into_iter().next().expect("a unit");
        let text = self.juju(&["exec", "--unit", &first.name, "--", "cat /etc/resolv.conf"]);
        let resolver = text
            .lines()
            .find_map(|line| line.strip_prefix("nameserver "))
            .and_then(|address| address.trim().parse().ok())
            .expect("a pod knows its resolver");
        let all = format!("{APPLICATION}-endpoints.{namespace}.svc.cluster.local");
        Some(Book::new(resolver, all))
    }

    /// Tells whether units are pods.
    pub fn are_pods(&self) -> bool {
        self.namespace.is_some()
    }

    /// Returns the log in which a unit's server writes; in pods it is that of its container, and goes with the pod.
    pub fn server_log(&self, unit: &str) -> PathBuf {
        let tag = format!("unit-{}", unit.replace('/', "-"));
        if self.are_pods() {
            return self.state().join("pods").join(tag).join("valkey.log");
        }
        self.state()
            .join("agents")
            .join(tag)
            .join("valkey/logs/server.log")
    }

    /// Returns one unit.
    pub fn unit(&self, name: &str) -> Unit {
        self.units()
            .into_iter()
            .find(|unit| unit.name == name)
            .unwrap_or_else(|| panic!("{name} is not there{}", self.describe()))
    }

    /// Returns the passwords that the charm made.
    ///
    /// # Panics
    ///
    /// When it has made none yet.
    pub fn passwords(&self) -> &Passwords {
        self.try_passwords()
            .unwrap_or_else(|error| panic!("{error}{}", self.describe()))
    }

    /// Returns the passwords, if the charm has made them already.
    fn try_passwords(&self) -> io::Result<&Passwords> {
        if let Some(passwords) = self.passwords.get() {
            return Ok(passwords);
        }
        let label = format!("valkey-peers.{APPLICATION}.app.internal_users_secret");
        let printed = self.try_juju(&["show-secret", &label, "--reveal", "--format", "json"]);
        if !printed.status.success() {
            return Err(io::Error::other(format!(
                "no passwords yet: {}",
                printed.stderr.trim()
            )));
        }
        let secret: Value = serde_json::from_str(&printed.stdout)?;
        let password = |user: &str| {
            find_text(&secret, &format!("{user}-password")).ok_or_else(|| {
                io::Error::other(format!("the secret {label} holds no password of {user}"))
            })
        };
        let passwords = Passwords {
            server: password("charmed-operator")?,
            sentinel: password("charmed-sentinel-operator")?,
        };
        Ok(self.passwords.get_or_init(|| passwords))
    }

    /// Reads the passwords anew from now on: they were changed.
    pub fn forget_passwords(&mut self) {
        self.passwords = OnceLock::new();
    }

    /// Connects to the server at an address.
    pub fn server(&self, address: IpAddr) -> io::Result<Wire> {
        let address = SocketAddr::new(address, SERVER_PORT);
        Wire::connect(
            address,
            "charmed-operator",
            &self.try_passwords()?.server,
            ANSWER,
        )
    }

    /// Asks the server at an address for `INFO replication`; empty if it refuses to tell.
    pub fn replication(&self, address: IpAddr) -> io::Result<String> {
        let info = self.server(address)?.call(&["INFO", "replication"])?;
        Ok(info.text().unwrap_or_default())
    }

    /// Connects to the Sentinel at an address.
    pub fn sentinel(&self, address: IpAddr) -> io::Result<Wire> {
        let address = SocketAddr::new(address, SENTINEL_PORT);
        Wire::connect(
            address,
            "charmed-sentinel-operator",
            &self.try_passwords()?.sentinel,
            ANSWER,
        )
    }

    /// Returns the process of the server at an address.
    pub fn server_process(&self, address: IpAddr) -> i32 {
        process_of(self.server(address))
    }

    /// Returns the process of the Sentinel at an address.
    pub fn sentinel_process(&self, address: IpAddr) -> i32 {
        process_of(self.sentinel(address))
    }

    /// Waits until `condition` holds; it says why it does not hold yet.
    ///
    /// # Panics
    ///
    /// When it does not hold within `limit`: with the last reason, the status and the latest logs.
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<T, String>,
    ) -> T {
        let deadline = Instant::now() + limit;
        loop {
            match condition() {
                Ok(value) => return value,
                Err(reason) if Instant::now() >= deadline => {
                    panic!(
                        "waited {limit:?} in vain for this: {what}; last: {reason}{}",
                        self.describe()
                    )
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// Waits until `units` units have settled, as the oracles see it.
    pub fn settled(&self, units: usize, limit: Duration) -> oracles::Settled {
        self.wait_until(&format!("{units} units have settled"), limit, || {
            oracles::examine(self, units)
        })
    }

    /// Returns the status and the latest log lines, for a failure's message.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for arguments in [&["status"][..], &["debug-log", "-n", "80"]] {
            let printed = run_bounded(
                &self.program,
                self.state.path(),
                arguments,
                Duration::from_secs(10),
            );
            if let Some(printed) = printed.ok().filter(|printed| printed.status.success()) {
                let _ = write!(text, "\n--- {}\n{}", arguments.join(" "), printed.stdout);
            }
        }
        text
    }

    /// Returns the folder of the model's state.
    pub fn state(&self) -> &Path {
        self.state.path()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if env::var_os("E2E_KEEP").is_some() {
            self.state.disable_cleanup(true);
            eprintln!("kept: juju-local --state {}", self.state.path().display());
            return;
        }
        match run_bounded(&self.program, self.state.path(), &["destroy"], COMMAND) {
            Ok(printed) if printed.status.success() => {}
            Ok(printed) => eprintln!("cannot destroy the model: {}", printed.stderr),
            Err(error) => eprintln!("cannot destroy the model: {error}"),
        }
    }
}

/// Returns the newest Valkey's server.
///
/// # Panics
///
/// When it was not fetched: a test that needs it must not pass without it.
pub fn newest_server() -> PathBuf {
    let path = env::var_os("VALKEY_NEWEST_SERVER").map_or_else(
        || {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .parent()
                .unwrap_or_else(|| Path::new("target"));
            target.join("valkey-newest/valkey-server")
        },
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "the newest Valkey is missing at {}: run scripts/valkey-newest",
        path.display()
    );
    path
}

/// Returns the number of a unit.
pub fn number(unit: &str) -> u32 {
    unit.rsplit_once('/')
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(u32::MAX)
}

fn process_of(wire: io::Result<Wire>) -> i32 {
    let info = wire
        .and_then(|mut wire| wire.call(&["INFO", "server"]))
        .expect("cannot ask for the process");
    let info = info.text().expect("INFO is no text");
    info_field(&info, "process_id")
        .and_then(|id| id.parse().ok())
        .expect("INFO names no process")
}

/// Finds the text under `key`, however deep.
fn find_text(value: &Value, key: &str) -> Option<String> {
    let map = value.as_object()?;
    map.get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .or_else(|| map.values().find_map(|inner| find_text(inner, key)))
}

/// Runs `juju-local`; ends it when it takes longer than `limit`.
fn run_bounded(
    program: &Path,
    state: &Path,
    arguments: &[&str],
    limit: Duration,
) -> io::Result<Printed> {
    // Files instead of pipes: whatever the command leaves running cannot hold them open.
    let output = TempDir::new()?;
    let (stdout, stderr) = (output.path().join("stdout"), output.path().join("stderr"));
    let mut child = Command::new(program)
        .args(arguments)
        .env("JUJU_LOCAL_STATE", state)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        .spawn()?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no end within {limit:?}"),
            ));
        }
        thread::sleep(Duration::from_millis(5));
    };
    let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Printed {
        status,
        stdout: read(&stdout)?,
        stderr: read(&stderr)?,
    })
}
