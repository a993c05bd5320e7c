//! A network of namespaces: one for each unit, one for the clients, one for the person who looks
//! on, and a router between them that loses or rejects what a test wants it to.
//!
//! Everything carries the owner's process id and start time in its name; what a crashed run left
//! behind is recognised by that and removed.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tempfile::TempDir;

use crate::support::{
    owners::{is_orphaned, own_name},
    writes::lock,
};

/// Begins the name of everything that these tests make.
const MARK: &str = "vochaos";
/// Where named namespaces stand.
const NAMESPACES: &str = "/run/netns";
/// Place of a rule among the router's: before its ordinary ones.
const RULE: &str = "100";

/// The one who looks on, and whom no fault touches: tests and engine are there.
pub const PERSON: &str = "person";
/// Where ordinary clients are.
pub const CLIENT: &str = "client";
/// Address of the clients.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// Address of the person.
pub const PERSON_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// What the router does with a packet that it must not pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It vanishes.
    Drop,
    /// Who sent it is told that this is prohibited.
    Reject,
}

/// Which packets of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Both directions.
    Both,
    /// What it sends.
    Out,
    /// What is sent to it.
    In,
}

/// The network of one test; removed when it is dropped.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    folder: TempDir,
    rules: Mutex<Vec<String>>,
}

impl Net {
    /// Makes router, clients and person, after removing what crashed runs left.
    ///
    /// # Panics
    ///
    /// When a prerequisite is missing: root, `ip` with network namespaces, and `nsenter`.
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the chaos tests make network namespaces and need root: run them as root"
        );
        for tool in ["ip", "nsenter", "mount", "umount"] {
            assert!(
                Command::new(tool)
                    .arg("-V")
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok(),
                "the chaos tests need `{tool}`: install iproute2, util-linux and mount"
            );
        }
        remove_leftovers();
        let prefix = own_name(MARK);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir()
            .expect("cannot make a folder for the network");
        let net = Self {
            prefix: prefix.clone(),
            folder,
            rules: Mutex::new(Vec::new()),
        };
        let driver = net.driver();
        fs::write(&driver, include_str!("driver")).expect("cannot write the machine driver");
        fs::set_permissions(&driver, fs::Permissions::from_mode(0o755))
            .expect("cannot make the machine driver a program");
        fs::write(net.folder.path().join("prefix"), format!("{prefix}\n"))
            .expect("cannot write the prefix");
        net.drive(&["begin"]);
        net.drive(&["attach", PERSON, &PERSON_ADDRESS.to_string()]);
        net.drive(&["attach", CLIENT, &CLIENT_ADDRESS.to_string()]);
        net
    }

    /// Returns the machine driver that puts each unit into a namespace of this network.
    pub fn driver(&self) -> PathBuf {
        self.folder.path().join("driver")
    }

    fn drive(&self, arguments: &[&str]) {
        run(Command::new(self.driver()).args(arguments))
            .unwrap_or_else(|error| panic!("cannot make the network: {error}"));
    }

    /// Returns the name under which mounts of this test are known.
    pub fn name(&self) -> &str {
        &self.prefix
    }

    /// Returns a way for threads to enter a namespace later.
    pub fn door(&self, place: &str) -> Door {
        Door(Path::new(NAMESPACES).join(format!("{}-{place}", self.prefix)))
    }

    /// Returns the door of a unit's namespace, by the unit's number.
    pub fn door_of(&self, unit: u32) -> Door {
        self.door(&format!("u{unit}"))
    }

    /// Stops what `from` sends to `to`.
    pub fn stop(&self, from: Ipv4Addr, to: Ipv4Addr, how: How) {
        let action = match how {
            How::Drop => "blackhole",
            How::Reject => "prohibit",
        };
        let rule = format!("pref {RULE} from {from} to {to} {action}");
        self.rule("add", &rule)
            .unwrap_or_else(|error| panic!("cannot cut: {error}"));
        lock(&self.rules).push(rule);
    }

    /// Cuts between one and each of the others.
    pub fn cut(&self, one: Ipv4Addr, others: &[Ipv4Addr], way: Way, how: How) {
        for other in others {
            if way != Way::In {
                self.stop(one, *other, how);
            }
            if way != Way::Out {
                self.stop(*other, one, how);
            }
        }
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        let rules = std::mem::take(&mut *lock(&self.rules));
        for rule in rules {
            self.rule("del", &rule)
                .unwrap_or_else(|error| panic!("cannot heal: {error}"));
        }
    }

    fn rule(&self, verb: &str, rule: &str) -> io::Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &format!("{}-router", self.prefix), "rule", verb]);
        run(command.args(rule.split(' ')))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in names() {
            if name.starts_with(&format!("{}-", self.prefix)) {
                remove(&name);
            }
        }
    }
}

/// Where threads can go in.
#[derive(Debug, Clone)]
pub struct Door(PathBuf);

impl Door {
    /// Moves the calling thread, and all that it starts from now on, into the namespace.
    pub fn enter(&self) {
        let file = File::open(&self.0)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", self.0.display()));
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.0.display()));
    }
}

/// A small file system over a folder; unmounted when it is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Puts a file system of so many MiB over a folder.
    pub fn over(folder: &Path, size_mib: u32, net: &Net) -> Self {
        fs::create_dir_all(folder).expect("cannot make a folder for a disk");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m,mode=755")])
            .arg(net.name())
            .arg(folder))
        .unwrap_or_else(|error| panic!("cannot mount a small disk: {error}"));
        Self(folder.to_owned())
    }

    /// Writes a file until nothing more fits.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join("ballast")).expect("cannot begin to fill a disk");
        let mut size = 1024 * 1024;
        while size > 0 {
            if io::Write::write_all(&mut file, &vec![0; size]).is_err() {
                size /= 16;
            }
        }
    }

    /// Removes what [`Self::fill`] wrote.
    pub fn clear(&self) {
        fs::remove_file(self.0.join("ballast")).expect("cannot clear a disk");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: processes that are about to end may still work there.
        if let Err(error) = run(Command::new("umount").arg("-l").arg(&self.0)) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// Runs a program to its end; its standard error becomes the error.
fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!(
        "{command:?} ({}): {said}",
        output.status
    )))
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Ends what still runs in a namespace of these tests, and removes it.
fn remove(name: &str) {
    let inside = Command::new("ip").args(["netns", "pids", name]).output();
    let own = std::process::id().cast_signed();
    for pid in String::from_utf8_lossy(&inside.map(|output| output.stdout).unwrap_or_default())
        .lines()
        .filter_map(|line| line.trim().parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(Pid::from_raw)
    {
        let _ = kill_process(pid, Signal::KILL);
    }
    // Another test may remove the same leftover.
    let _ = run(Command::new("ip").args(["netns", "del", name]));
}

/// Removes what runs left behind whose process is gone: mounts, namespaces, folders.
pub fn remove_leftovers() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        if let (Some(source), Some(place)) = (fields.next(), fields.next())
            && is_orphaned(source, MARK)
        {
            let _ = run(Command::new("umount").args(["-l", place]));
        }
    }
    for name in names().iter().filter(|name| is_orphaned(name, MARK)) {
        remove(name);
    }
    let folders = fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    for folder in folders {
        if folder
            .file_name()
            .to_str()
            .is_some_and(|name| is_orphaned(name, MARK))
        {
            // The model of a run whose namespaces were just removed has no process any more.
            if let Ok(state) = fs::read_to_string(folder.path().join("state")) {
                let _ = fs::remove_dir_all(state);
            }
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

impl Net {
    /// Notes where the test's model is, for whoever has to clear up after a crash.
    pub fn note_state(&self, state: &Path) {
        fs::write(
            self.folder.path().join("state"),
            state.display().to_string(),
        )
        .expect("cannot note the model's folder");
    }
}
