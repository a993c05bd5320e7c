//! One unit's pod: made, looked at, ended.
//!
//! A first process holds network and host name; each container has its own processes and its own view of the file
//! system, made by [`super::inside`]. All of a pod's processes are known by its network, whatever they call themselves.

mod view;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::limits::{COMMAND_POLL, POD_END_TIMEOUT, POD_START_TIMEOUT};

use super::super::model::{Model, tag};
use super::super::paths::Paths;
use super::super::processes;
use super::inside::Inside;
use super::network::{Bridge, program};
use super::storage_location;

/// Name of the container in which hooks run.
pub const CHARM: &str = "charm";

/// Port of Pebble in the charm container; those of the others follow.
const CHARM_PORT: u16 = 38812;

/// Path of containers' programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A unit's pod, whether it is there or not.
#[derive(Debug, Clone)]
pub struct Pod {
    unit: String,
    folder: PathBuf,
    state: PathBuf,
    tools: PathBuf,
    pebble: PathBuf,
    bridge: Bridge,
    namespace: String,
    containers: BTreeMap<String, Container>,
    host_paths: Vec<PathBuf>,
    service_account: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

/// What is special to one container.
#[derive(Debug, Clone)]
struct Container {
    user: (u32, u32),
    port: u16,
    /// Storage: its directory, and where the container sees it.
    storage: Vec<(PathBuf, PathBuf)>,
}

/// What is remembered of a pod that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// First process.
    pause: u32,
    /// Its network, which marks all processes of the pod.
    network: String,
    /// Address.
    address: Ipv4Addr,
}

impl Pod {
    /// Returns the pod of a unit of a model whose units are pods.
    #[must_use]
    pub fn of(paths: &Paths, model: &Model, unit: &str) -> Option<Self> {
        let (found, application) = model.unit(unit)?;
        let metadata = &application.charm.metadata;
        let attached: Vec<_> = model
            .storage
            .values()
            .filter(|one| {
                let has = one.attachment.as_ref().is_some_and(|at| at.unit == unit);
                // A container that starts again during the teardown still sees it.
                has || (one.attachment.is_none() && found.left_storage.contains(&one.id))
            })
            .collect();
        let charm = Container {
            user: (0, 0),
            port: CHARM_PORT,
            storage: attached
                .iter()
                .map(|one| (paths.storage(&one.id), storage_location(model, paths, one)))
                .collect(),
        };
        let mut containers = BTreeMap::from([(CHARM.to_owned(), charm)]);
        for (port, (name, container)) in (CHARM_PORT + 1..).zip(&metadata.containers) {
            let storage = container
                .mounts
                .iter()
                .flat_map(|mount| {
                    attached
                        .iter()
                        .filter(|one| one.name == mount.storage)
                        .map(|one| {
                            let multiple = metadata
                                .storage
                                .get(&one.name)
                                .is_some_and(|spec| spec.multiple);
                            let location = PathBuf::from(&mount.location);
                            let to = if multiple {
                                location.join(&one.id)
                            } else {
                                location
                            };
                            (paths.storage(&one.id), to)
                        })
                })
                .collect();
            let user = (container.uid.unwrap_or(0), container.gid.unwrap_or(0));
            containers.insert(
                name.clone(),
                Container {
                    user,
                    port,
                    storage,
                },
            );
        }
        Some(Self {
            unit: found.name.clone(),
            folder: paths.root.join("pods").join(tag(unit)),
            state: paths.root.clone(),
            tools: paths.tools(unit),
            pebble: model.settings.pebble.clone().unwrap_or_default(),
            bridge: Bridge::new(model.network),
            namespace: model.name.clone(),
            containers,
            host_paths: model.settings.host_paths.clone(),
            service_account: model.settings.service_account.clone(),
            environment: super::service_environment(model),
        })
    }

    /// Names of the containers beside the charm's.
    pub fn workloads(&self) -> impl Iterator<Item = &String> {
        self.containers.keys().filter(|name| *name != CHARM)
    }

    /// The socket of a container's Pebble, as the engine reaches it.
    #[must_use]
    pub fn socket(&self, container: &str) -> PathBuf {
        self.shared(container).join("pebble.socket")
    }

    /// Directory that a container and the charm's share.
    fn shared(&self, container: &str) -> PathBuf {
        self.folder.join("containers").join(container)
    }

    fn note(&self, container: &str) -> PathBuf {
        self.folder.join(format!("{container}.pid"))
    }

    fn record(&self) -> Option<Record> {
        let text = fs::read(self.folder.join("pod.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Returns the address of the pod if it is there.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let record = self.record()?;
        (processes::network(record.pause).as_ref() == Some(&record.network))
            .then_some(record.address)
    }

    /// Returns a container's first process, if it lives.
    #[must_use]
    pub fn first(&self, container: &str) -> Option<u32> {
        let network = self.record()?.network;
        let pid = fs::read_to_string(self.note(container))
            .ok()?
            .parse()
            .ok()?;
        (processes::network(pid) == Some(network) && processes::started(pid).is_some())
            .then_some(pid)
    }

    /// Makes the pod anew under an address.
    ///
    /// # Errors
    ///
    /// When it cannot be made; what was made of it is ended.
    pub fn make(&self, engine_program: &Path, address: Ipv4Addr) -> Result<()> {
        self.end()?;
        self.make_parts(engine_program, address).inspect_err(|_| {
            let _ = self.end();
        })
    }

    fn make_parts(&self, engine_program: &Path, address: Ipv4Addr) -> Result<()> {
        fs::create_dir_all(self.folder.join("containers"))
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let note = self.note("pause");
        let spec = Inside::Pause {
            hostname: self.hostname(),
            note: note.clone(),
        };
        let spec = self.specify("pause", &spec)?;
        let mut command = Command::new(program("unshare")?);
        command
            .args(["--net", "--uts", "--ipc", "--"])
            .arg(engine_program)
            .arg("inside")
            .arg(&spec);
        self.spawn(command, "pause")?;
        let pause: u32 = self.await_note("pause")?;
        let network = processes::network(pause).context("cannot find the network of the pod")?;
        let record = Record {
            pause,
            network,
            address,
        };
        let text = serde_json::to_vec(&record).context("cannot note the pod")?;
        fs::write(self.folder.join("pod.json"), text).context("cannot note the pod")?;
        self.bridge.connect(pause, address)?;
        for container in self.containers.keys() {
            self.start(engine_program, container)?;
        }
        Ok(())
    }

    /// Starts a container of a pod that is there.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or the pod is gone.
    pub fn start(&self, engine_program: &Path, container: &str) -> Result<()> {
        let record = self.record().context("the pod is gone")?;
        let view = self.view(engine_program, container, record.address)?;
        let _ = fs::remove_file(self.note(container));
        let spec = self.specify(container, &Inside::Container(Box::new(view)))?;
        let mut command = Command::new(program("nsenter")?);
        command
            .args([
                "--target",
                &record.pause.to_string(),
                "--net",
                "--uts",
                "--ipc",
                "--",
            ])
            .arg(program("unshare")?)
            .args(["--mount", "--pid", "--fork", "--kill-child", "--"])
            .arg(engine_program)
            .arg("inside")
            .arg(&spec);
        let process = self.spawn(command, container)?;
        let started = self.await_note(container).map(drop);
        let stays = self
            .record()
            .is_some_and(|now| now.network == record.network);
        if (started.is_err() || !stays)
            && processes::network(process).as_ref() == Some(&record.network)
        {
            // The pod has ended meanwhile; with this process ends the container.
            processes::signal(process, Signal::KILL);
        }
        started
    }

    fn specify(&self, name: &str, inside: &Inside) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.json"));
        let text = serde_json::to_vec(inside).context("cannot write what a container sees")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a process of the pod that lives on without the engine; returns its id.
    fn spawn(&self, mut command: Command, name: &str) -> Result<u32> {
        let log = self.folder.join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = command
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot pass a file on")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start container {name} of {}", self.unit))?;
        let process = child.id();
        std::thread::spawn(move || {
            let _ = child.wait();
        });
        Ok(process)
    }

    /// Waits until a process of the pod has told its id.
    fn await_note(&self, name: &str) -> Result<u32> {
        let deadline = Instant::now() + POD_START_TIMEOUT;
        loop {
            if let Ok(text) = fs::read_to_string(self.note(name))
                && let Ok(pid) = text.parse()
            {
                return Ok(pid);
            }
            if Instant::now() > deadline {
                let log = self.folder.join(format!("{name}.log"));
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!(
                    "cannot start container {name} of {}: {}",
                    self.unit,
                    said.trim()
                );
            }
            std::thread::sleep(COMMAND_POLL);
        }
    }

    fn hostname(&self) -> String {
        self.unit.replace('/', "-")
    }

    /// Returns program and arguments that run a command in the charm container.
    #[must_use]
    pub fn wrap(
        &self,
        program_there: &Path,
        arguments: &[&str],
        directory: &Path,
    ) -> (PathBuf, Vec<String>) {
        // Without a container nothing runs: a process of that number never is.
        let target = self.first(CHARM).unwrap_or(u32::MAX);
        let mut all = words(&format!(
            "--target {target} --net --uts --ipc --mount --pid"
        ));
        all.push(format!("--wdns={}", directory.display()));
        all.push("--".to_owned());
        all.push(program_there.display().to_string());
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let nsenter = program("nsenter").unwrap_or_else(|_| PathBuf::from("nsenter"));
        (nsenter, all)
    }

    /// Returns all processes of the pod.
    fn processes(&self) -> Vec<u32> {
        let Some(record) = self.record() else {
            return Vec::new();
        };
        processes::in_network(&record.network)
    }

    /// Sends a signal to all processes of the pod.
    pub fn signal(&self, signal: Signal) {
        processes::sweep(signal, || self.processes());
    }

    /// Pulls the pod's cable, or plugs it in again.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn plug(&self, on: bool) -> Result<()> {
        let record = self.record().context("the pod is gone")?;
        self.bridge.plug(record.address, on)
    }

    /// Ends all processes of the pod at once, and forgets it.
    ///
    /// # Errors
    ///
    /// When some would not end.
    pub fn end(&self) -> Result<()> {
        let deadline = Instant::now() + POD_END_TIMEOUT;
        let network = self.record().map(|record| record.network);
        loop {
            let left = network.as_deref().map(processes::in_network);
            let left = left.unwrap_or_default();
            if left.is_empty() {
                match fs::remove_dir_all(&self.folder) {
                    // A container that was just being started may have written something meanwhile.
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        if Instant::now() > deadline {
                            return Err(error).with_context(|| {
                                format!("cannot remove {}", self.folder.display())
                            });
                        }
                    }
                    _ => return Ok(()),
                }
            } else if Instant::now() > deadline {
                bail!("cannot end processes {left:?} of {}", self.unit);
            }
            for pid in left {
                processes::signal(pid, Signal::KILL);
            }
            std::thread::sleep(COMMAND_POLL);
        }
    }
}

/// Splits a line at its blanks.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
