//! A model of `juju-local` in a temporary directory, driven by the real command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that any command may take. Machines that build at the same time are slow.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(200);

/// Longest that a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// Settings under which nothing takes longer than a test can wait.
const QUICK: [&str; 6] = [
    "lease-seconds=4",
    "retry-seconds=0.3",
    "retry-max-seconds=1",
    "update-status-seconds=0",
    "removal-seconds=0.5",
    "force-wait-seconds=0.5",
];

/// What a command printed and how it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A model with the shell charm at hand. Dropping it destroys it, also when a test fails.
pub struct Local {
    directory: tempfile::TempDir,
}

impl Local {
    /// Begins an empty model that behaves as `variant` of Juju.
    pub fn new(variant: &str) -> Self {
        let local = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(local.notes().join("do")).unwrap();
        local.ok(&["handle", "variant", variant]);
        let settings: Vec<&str> = ["handle", "setting"].into_iter().chain(QUICK).collect();
        local.ok(&settings);
        local
    }

    /// Begins a model and deploys `units` units of the shell charm as `app`.
    pub fn deployed(variant: &str, units: u32) -> Self {
        let local = Self::new(variant);
        local.deploy("app", units);
        local.settle();
        local
    }

    /// Deploys the shell charm without waiting.
    pub fn deploy(&self, name: &str, units: u32) {
        self.deploy_charm("shell", name, units);
    }

    /// Deploys a test charm without waiting.
    pub fn deploy_charm(&self, which: &str, name: &str, units: u32) {
        let env = format!("SHELL_CHARM={}", self.notes().display());
        self.ok(&[
            "deploy",
            charm(which).to_str().unwrap(),
            name,
            "-n",
            &units.to_string(),
            "--env",
            &env,
        ]);
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Where the charm writes its traces and finds its scripts.
    pub fn notes(&self) -> PathBuf {
        self.directory.path().join("notes")
    }

    /// A directory for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a command, whatever comes of it.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_juju-local"));
        command
            .arg("--state")
            .arg(self.state())
            .args(arguments)
            .env_remove("JUJU_LOCAL_STATE")
            .env("NO_COLOR", "1");
        finish(&mut command)
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert!(
            ended.status.success(),
            "{arguments:?}: {}\n{}\n{}",
            ended.status,
            ended.stdout,
            ended.stderr
        );
        ended.stdout
    }

    /// Runs a command that must fail with exit status 1, and returns what it said.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{arguments:?}: {}\n{}",
            ended.stdout,
            ended.stderr
        );
        ended.stderr
    }

    /// Waits until everything is active and idle.
    pub fn settle(&self) {
        let ended = self.run(&["wait-for", "--timeout", "180s"]);
        assert!(ended.status.success(), "{}\n{}", ended.stderr, self.log());
    }

    /// Runs shell text in the hook context of a unit and returns what it printed.
    pub fn exec(&self, unit: &str, command: &str) -> String {
        self.ok(&["exec", "--unit", unit, "--", command])
    }

    /// Puts down what the charm does on an event of a unit (`all` for every unit); an empty text takes it back.
    pub fn on(&self, unit: &str, event: &str, script: &str) {
        let who = if unit == "all" {
            "all".to_owned()
        } else {
            tag(unit)
        };
        let path = self.notes().join("do").join(who).join(event);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if script.is_empty() {
            let _ = fs::remove_file(path);
            return;
        }
        // Renamed into place: a hook may be reading it.
        let fresh = self.scratch().join("script");
        fs::write(&fresh, format!("{script}\n")).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    /// Returns the events of a unit so far, each with what it is about.
    pub fn events(&self, unit: &str) -> Vec<String> {
        self.trace(unit)
            .into_iter()
            .filter(|line| !line.starts_with("end "))
            .collect()
    }

    /// Returns the events of a unit since it had `before` of them.
    pub fn since(&self, unit: &str, before: usize) -> Vec<String> {
        self.events(unit).split_off(before)
    }

    /// Returns events and their ends.
    pub fn trace(&self, unit: &str) -> Vec<String> {
        let text = fs::read_to_string(self.notes().join(format!("{}.trace", tag(unit))))
            .unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the status as Juju's JSON.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--format", "json"])).unwrap()
    }

    /// Returns a unit's part of the status; null if it is gone.
    pub fn unit(&self, unit: &str) -> Value {
        let application = unit.split('/').next().unwrap();
        self.status()["applications"][application]["units"][unit].clone()
    }

    /// Waits until a unit's workload has a status.
    pub fn until_workload(&self, unit: &str, word: &str) {
        self.until(&format!("{unit} is {word}"), || {
            self.unit(unit)["workload-status"]["current"] == word
        });
    }

    /// Waits until a unit has had an event.
    pub fn until_event(&self, unit: &str, event: &str) {
        self.until(&format!("{unit} has had {event}"), || {
            self.events(unit).iter().any(|line| line == event)
        });
    }

    /// Waits until a unit is gone.
    pub fn until_gone(&self, unit: &str) {
        self.until(&format!("{unit} is gone"), || self.unit(unit).is_null());
    }

    /// Waits for a condition.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(
                begin.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}\n{}\n{}",
                self.run(&["status"]).stdout,
                self.log()
            );
            std::thread::sleep(POLL);
        }
    }

    /// Returns the end of the model's log.
    pub fn log(&self) -> String {
        let engine = fs::read_to_string(self.state().join("engine.log")).unwrap_or_default();
        format!(
            "{}\nengine: {engine}",
            self.run(&["debug-log", "--tail", "60"]).stdout
        )
    }

    /// Returns the pids of all processes that belong to the model or its engine.
    pub fn processes(&self) -> Vec<String> {
        let state = self.state().display().to_string();
        let notes = self.notes().display().to_string();
        let belongs = |directory: &Path| {
            let environment = fs::read(directory.join("environ")).unwrap_or_default();
            let arguments = fs::read(directory.join("cmdline")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            environment.contains(&notes) || String::from_utf8_lossy(&arguments).contains(&state)
        };
        let entries = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        let own = std::process::id().to_string();
        let found = entries.filter(|path| belongs(path));
        found
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .filter(|name| name.parse::<u32>().is_ok() && *name != own)
            .collect()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let ended = self.run(&["destroy"]);
        // A second panic would hide the first.
        let told = ended.status.success() || std::thread::panicking();
        assert!(told, "cannot destroy the model: {}", ended.stderr);
    }
}

/// Returns the directory of a test charm.
pub fn charm(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/charms")
        .join(name)
}

/// Returns a unit's tag.
pub fn tag(unit: &str) -> String {
    format!("unit-{}", unit.replace('/', "-"))
}

/// Runs a process to its end, within a time limit; its output goes through files, so that nothing can block.
pub fn finish(command: &mut Command) -> Ended {
    let output = tempfile::tempdir().unwrap();
    let (out, err) = (output.path().join("out"), output.path().join("err"));
    command
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > COMMAND_TIMEOUT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end within {COMMAND_TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Ended {
        status,
        stdout: text(&out),
        stderr: text(&err),
    }
}
