//! A real Pebble, in a directory of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use valkey_operator::workload::pebble::Client;

use super::pebble;

/// Longest that anything here may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// User of the image, as whom Pebble runs its services in a pod.
pub const IMAGE_USER: u32 = 584_792;

/// Says whether this is root, who can be anybody.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A container, as far as Pebble is concerned: it and what it runs end with it.
pub struct Daemon {
    pub client: Client,
    directory: tempfile::TempDir,
    child: Option<Child>,
    user: Option<u32>,
    /// Where programs are found, if not as usual.
    programs: Option<String>,
}

impl Daemon {
    /// Starts Pebble as whoever runs the test.
    pub async fn start() -> Self {
        Self::start_as(None).await
    }

    /// Starts Pebble as `user`.
    pub async fn start_as(user: Option<u32>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = directory.path().join("pebble");
        fs::create_dir(&home).unwrap();
        if let Some(user) = user {
            chown(&home, Some(user), Some(user)).unwrap();
        }
        let mut daemon = Self {
            client: Client::new(home.join("socket")),
            directory,
            child: None,
            user,
            programs: None,
        };
        daemon.run().await;
        daemon
    }

    /// Returns a directory of the test's own.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn run(&mut self) {
        let home = self.path().join("pebble");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("pebble.log"))
            .unwrap();
        let mut command = Command::new(pebble::program());
        command
            .args(["run", "--create-dirs", "--hold"])
            .env("PEBBLE", &home)
            .env("PEBBLE_SOCKET", self.client.socket())
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        if let Some(programs) = &self.programs {
            command.env("PATH", programs);
        }
        self.child = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while self.client.system_info().await.is_err() {
            assert!(
                begun.elapsed() < DEADLINE,
                "Pebble does not answer: {}",
                fs::read_to_string(self.path().join("pebble.log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets the container die, as Kubernetes does, with all that runs in it.
    pub fn die(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let children = children(child.id());
        let _ = child.kill();
        let _ = child.wait();
        for pid in children {
            // A service is a group of its own.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Tells the container to end, as Kubernetes does when a pod goes.
    pub fn ask_to_end(&self) {
        let child = self.child.as_ref().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Returns whether the container has ended.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        child.try_wait().unwrap().is_some()
    }

    /// Starts the container again: nothing of what it was told is left.
    pub async fn come_back(&mut self) {
        self.die();
        self.run().await;
    }

    /// Starts the container again, of an image that has its programs in `programs`.
    pub async fn come_back_with_path(&mut self, programs: &str) {
        self.programs = Some(programs.to_owned());
        self.come_back().await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.die();
    }
}

/// Returns the processes that a process started.
fn children(parent: u32) -> Vec<Pid> {
    let of_all_threads = fs::read_dir(format!("/proc/{parent}/task"));
    of_all_threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}
