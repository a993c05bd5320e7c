//! The machines of one test: their network, their driver, and what is done to them from outside.
//!
//! Everything carries the owner's process id and start time in its name; what a crashed run left
//! behind is recognised by that and removed.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::{
    model::{Model, number},
    owners::{is_orphaned, own_name},
};

/// Begins the name of everything that these tests make.
const MARK: &str = "vomachine";
/// Where all of it is: not below a directory that hardened services get one of their own of.
const PLACE: &str = "/var/lib";
/// Longest that a machine may take until its services answer.
const BOOT: Duration = Duration::from_secs(60);
/// Longest that a command on a machine may take that only looks.
const LOOK: Duration = Duration::from_secs(10);
/// Longest that any command on a machine may take.
const COMMAND: Duration = Duration::from_secs(60);

/// The machines of one test; removed when it is dropped. Drop the model before.
#[derive(Debug)]
pub struct Machines {
    prefix: String,
    folder: PathBuf,
}

impl Machines {
    /// Makes the network of machines to come, and moves the calling thread with all that it starts
    /// from now on into it. Removes first what crashed runs left.
    ///
    /// # Panics
    ///
    /// When a prerequisite is missing: root, systemd-nspawn, the root file system.
    pub fn new() -> Self {
        Self::with_release(chosen_release().as_deref())
    }

    /// Makes machines of a release, as `scripts/machine-root` names them; of this system's own if
    /// none is given.
    ///
    /// # Panics
    ///
    /// As [`Machines::new`].
    pub fn with_release(release: Option<&str>) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the tests on booted machines start containers and need root: run them as root"
        );
        for tool in ["systemd-nspawn", "nsenter", "ip"] {
            let found = std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(tool).exists()));
            assert!(
                found,
                "the tests on booted machines need `{tool}`: run scripts/setup"
            );
        }
        remove_leftovers();
        let root = root_file_system(release);
        let prefix = own_name(MARK);
        let folder = Path::new(PLACE).join(&prefix);
        fs::create_dir(&folder).expect("cannot make a folder for machines");
        let machines = Self { prefix, folder };
        // A copy at a place that hardened services see too: they get directories of their own over
        // those for temporary files.
        fs::copy(env!("CARGO_BIN_EXE_juju-local"), machines.juju_local())
            .expect("cannot copy juju-local");
        let write = |name: &str, text: String| {
            fs::write(machines.folder.join(name), text).expect("cannot write the driver's files");
        };
        write("driver", include_str!("driver").to_owned());
        write("prefix", format!("{}\n", machines.prefix));
        write(
            "settings",
            format!(
                "root_file_system='{}'\nspace='{}'\nshared=('{}' '{}')\n",
                root.display(),
                machines.space(),
                machines.state().display(),
                machines.juju_local().display(),
            ),
        );
        fs::create_dir(machines.state()).expect("cannot make a folder for the model");
        fs::set_permissions(machines.driver(), fs::Permissions::from_mode(0o755))
            .expect("cannot make the machine driver a program");
        machines.drive(&["begin"]);
        let space = Path::new("/run/netns").join(machines.space());
        let space = File::open(space).expect("cannot open the network namespace");
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("cannot enter the network namespace");
        machines
    }

    /// Gives a shell script that runs on each machine that comes from now on, before all else.
    pub fn prepare(&self, script: &str) {
        fs::write(self.folder.join("prepare"), script).expect("cannot write a machine's script");
    }

    /// Makes an empty model whose units get machines.
    pub fn model(&self, charm: PathBuf) -> Model {
        let model = Model::on_machines(self.juju_local(), &self.state(), charm);
        model.handle(&[
            "setting",
            &format!("machine-driver={}", self.driver().display()),
        ]);
        model
    }

    /// Returns what begins the name of everything that belongs to this test.
    pub fn name(&self) -> &str {
        &self.prefix
    }

    fn space(&self) -> String {
        format!("{}-net", self.prefix)
    }

    fn driver(&self) -> PathBuf {
        self.folder.join("driver")
    }

    fn juju_local(&self) -> PathBuf {
        self.folder.join("juju-local")
    }

    /// Folder of models: machines see it under the same path.
    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Folder of a unit's machine.
    fn of(&self, unit: &str) -> PathBuf {
        self.folder.join(format!("u{}", number(unit)))
    }

    fn try_drive(&self, arguments: &[&str]) -> io::Result<Output> {
        Command::new(self.driver())
            .args(arguments)
            // Commands run in the directory of the same name on the machine.
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
    }

    fn drive(&self, arguments: &[&str]) -> String {
        let output = self
            .try_drive(arguments)
            .unwrap_or_else(|error| panic!("cannot call the machine driver: {error}"));
        assert!(
            output.status.success(),
            "machine driver {arguments:?} ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell command that only looks on a unit's machine, whatever becomes of it.
    pub fn try_on(&self, unit: &str, command: &str) -> Result<String, String> {
        self.run_on(unit, command, LOOK)
    }

    /// Runs a shell command on a unit's machine for so long at most.
    ///
    /// A machine that shuts down stops all its processes for a moment, and the one that entered it from
    /// outside stops with the command, for ever: then the machine could not end either.
    fn run_on(&self, unit: &str, command: &str, limit: Duration) -> Result<String, String> {
        let seconds = limit.as_secs().to_string();
        let output = Command::new("timeout")
            .args(["--signal=KILL", &seconds])
            .arg(self.driver())
            .args(["run", unit, "--", "sh", "-c", command])
            // Commands run in the directory of the same name on the machine.
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot call the machine driver: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!(
                "`{command}` on {unit} ({}): {}{}",
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            ))
        }
    }

    /// Runs a shell command on a unit's machine that must succeed; returns what it printed.
    pub fn on(&self, unit: &str, command: &str) -> String {
        self.run_on(unit, command, COMMAND)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sets the last number of the address that a unit's machine has from its next boot on.
    pub fn readdress(&self, unit: &str, host: u8) {
        fs::write(
            self.of(unit).join("next-address"),
            format!("10.78.0.{host}\n"),
        )
        .expect("cannot set a machine's next address");
    }

    /// Lets the next reboot of a unit's machine begin with a shutdown by systemd, not a power cut.
    pub fn shut_down_next(&self, unit: &str) {
        fs::write(self.of(unit).join("orderly"), "").expect("cannot ask for a shutdown");
    }

    /// Lets a machine come up without Juju's agent, until what is returned is dropped.
    pub fn hold_agent(&self, unit: &str) -> Hold {
        let file = self.of(unit).join("hold");
        fs::write(&file, "").expect("cannot hold the agent");
        Hold(file)
    }

    /// Waits until a condition holds on a machine that may be booting.
    pub fn until(&self, unit: &str, command: &str) -> String {
        let deadline = Instant::now() + BOOT;
        loop {
            match self.try_on(unit, command) {
                Ok(printed) => return printed,
                Err(error) => assert!(Instant::now() < deadline, "not within {BOOT:?}: {error}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns how often a unit's machine has booted.
    pub fn boots(&self, unit: &str) -> usize {
        fs::read_to_string(self.of(unit).join("boots")).map_or(0, |lines| lines.lines().count())
    }

    /// Waits until a unit's machine has booted more often than `before`.
    pub fn wait_for_boot(&self, unit: &str, before: usize) {
        let deadline = Instant::now() + BOOT;
        while self.boots(unit) <= before {
            assert!(Instant::now() < deadline, "{unit} does not come up");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns a file of the machine of a removed unit if it differs from a fresh one's, else nothing.
    pub fn left_in(&self, unit: &str, path: &str) -> String {
        let root = self.folder.join("left").join(format!("u{}", number(unit)));
        fs::read_to_string(root.join(path)).unwrap_or_default()
    }

    /// Returns the files by which the machine of a removed unit differs from a fresh one, below
    /// the given directories; waits until the machine is gone.
    pub fn left_by(&self, unit: &str, below: &[&str]) -> Vec<String> {
        let deadline = Instant::now() + BOOT;
        while self.of(unit).exists() {
            assert!(
                Instant::now() < deadline,
                "the machine of {unit} is not removed"
            );
            thread::sleep(Duration::from_millis(50));
        }
        let root = self.folder.join("left").join(format!("u{}", number(unit)));
        let mut found = Vec::new();
        for folder in below {
            list(&root.join(folder), &mut found);
        }
        found
            .iter()
            .filter_map(|path| path.strip_prefix(&root).ok())
            .map(|path| path.display().to_string())
            .collect()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::env::var_os("E2E_KEEP").is_some() {
            eprintln!("kept: {}", self.folder.display());
            return;
        }
        clear(&self.folder);
    }
}

/// Keeps Juju's agent away from a machine that has booted.
#[derive(Debug)]
pub struct Hold(PathBuf);

impl Drop for Hold {
    fn drop(&mut self) {
        // The machine may be gone with all of its files.
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns the release that a person wants the machines to have.
pub fn chosen_release() -> Option<String> {
    std::env::var("MACHINES_RELEASE").ok()
}

/// Makes the root file system of a release, or finds it.
pub fn root_file_system(release: Option<&str>) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/machine-root");
    let output = Command::new(script)
        .args(release)
        .stdin(Stdio::null())
        .output()
        .expect("cannot run scripts/machine-root");
    assert!(
        output.status.success(),
        "scripts/machine-root failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// Collects all but directories below a folder.
fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            list(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Ends and removes all that belongs to a run, by its folder.
fn clear(folder: &Path) {
    for state in fs::read_dir(folder.join("state"))
        .into_iter()
        .flatten()
        .flatten()
    {
        // Only a run that crashed has a model left.
        if state.path().join("model.json").exists() {
            let _ = Command::new(folder.join("juju-local"))
                .arg("--state")
                .arg(state.path())
                .arg("destroy")
                .stdin(Stdio::null())
                .output();
        }
    }
    match Command::new(folder.join("driver")).arg("end").output() {
        Ok(output) if output.status.success() => {
            if let Err(error) = fs::remove_dir_all(folder) {
                eprintln!("cannot remove {}: {error}", folder.display());
            }
        }
        Ok(output) => eprintln!(
            "cannot end machines: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => eprintln!("cannot end machines: {error}"),
    }
}

/// Removes what runs left behind whose process is gone.
fn remove_leftovers() {
    for entry in fs::read_dir(PLACE).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| is_orphaned(name, MARK))
        {
            clear(&entry.path());
        }
    }
}
