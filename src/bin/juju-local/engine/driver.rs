//! The machine driver: a program of the person's that gives each unit a machine of its own.
//!
//! ```text
//! PROGRAM up UNIT                        makes the machine, or finds it; prints its IPv4 address
//! PROGRAM run UNIT -- COMMAND ARGUMENT…  runs a command on it: becomes it, or waits and passes its exit status on
//! PROGRAM down UNIT                      ends the machine; also when it is gone already
//! PROGRAM reboot UNIT                    starts it anew; prints its address, which may be another one
//! PROGRAM kill|freeze|thaw|cut|heal UNIT what the handle of that name means to the machine itself
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::limits::{COMMAND_POLL, DRIVER_OUTPUT_MAX, DRIVER_TIMEOUT};

use super::model::Model;
use super::processes;

/// A machine driver, as it is called for one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    program: PathBuf,
    unit: String,
}

impl Driver {
    /// Returns the model's driver for a unit, if the model has one.
    #[must_use]
    pub fn of(model: &Model, unit: &str) -> Option<Self> {
        let program = model.settings.machine_driver.clone()?;
        let unit = unit.to_owned();
        Some(Self { program, unit })
    }

    /// Makes the unit's machine, or finds it; returns its address.
    ///
    /// # Errors
    ///
    /// When the driver fails, takes too long, or prints no IPv4 address.
    pub fn up(&self) -> Result<Ipv4Addr> {
        self.address("up")
    }

    /// Starts the unit's machine anew; returns its address.
    ///
    /// # Errors
    ///
    /// As [`Self::up`].
    pub fn reboot(&self) -> Result<Ipv4Addr> {
        self.address("reboot")
    }

    /// Tells the driver to do one of `down`, `kill`, `freeze`, `thaw`, `cut` and `heal`.
    ///
    /// # Errors
    ///
    /// When the driver fails or takes too long.
    pub fn tell(&self, verb: &str) -> Result<()> {
        self.call(verb, DRIVER_TIMEOUT).map(drop)
    }

    /// Returns program and arguments that run a command on the unit's machine.
    #[must_use]
    pub fn wrap(&self, program: &Path, arguments: &[&str]) -> (PathBuf, Vec<String>) {
        let mut all = vec!["run".to_owned(), self.unit.clone(), "--".to_owned()];
        all.push(program.display().to_string());
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        (self.program.clone(), all)
    }

    fn address(&self, verb: &str) -> Result<Ipv4Addr> {
        let printed = self.call(verb, DRIVER_TIMEOUT)?;
        let text = printed.trim();
        text.parse().with_context(|| {
            format!(
                "cannot use what {} printed: {text:?} is no IPv4 address",
                self.line(verb)
            )
        })
    }

    /// Shows the call as a person would type it.
    fn line(&self, verb: &str) -> String {
        format!("`{} {verb} {}`", self.program.display(), self.unit)
    }

    /// Runs the driver to its end and returns what it printed.
    fn call(&self, verb: &str, limit: Duration) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args([verb, &self.unit]);
        complete(&mut command, &self.line(verb), limit)
    }
}

/// Runs a command, which a person knows as `line`, to its end; returns what it printed.
///
/// # Errors
///
/// When it fails or does not end within `limit`; then it is ended with what it started.
pub fn complete(command: &mut Command, line: &str, limit: Duration) -> Result<String> {
    // Files instead of pipes: what the command leaves running may keep them open.
    let mut stdout = tempfile::tempfile().context("cannot make a file for output")?;
    let mut stderr = tempfile::tempfile().context("cannot make a file for output")?;
    let mut child = command
        // The marks of a hook's processes would make the machine itself look like one of them.
        .env_remove("JUJU_MODEL_UUID")
        .env_remove("JUJU_UNIT_NAME")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().context("cannot pass a file on")?)
        .stderr(stderr.try_clone().context("cannot pass a file on")?)
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    let deadline = Instant::now() + limit;
    let status: ExitStatus = loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("cannot wait for {line}"))?
        {
            break status;
        }
        if Instant::now() >= deadline {
            processes::signal_group(child.id(), Signal::KILL);
            let _ = child.wait();
            bail!("{line} did not end within {} s", limit.as_secs_f32());
        }
        std::thread::sleep(COMMAND_POLL);
    };
    let said = text(&mut stderr)?;
    ensure!(
        status.success(),
        "{line} failed ({status}): {}",
        said.trim()
    );
    text(&mut stdout)
}

/// Reads a file from its beginning, as far as the bound goes.
fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind().context("cannot read a driver's output")?;
    file.take(DRIVER_OUTPUT_MAX)
        .read_to_end(&mut bytes)
        .context("cannot read a driver's output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Checks that a program can be the model's driver from now on.
///
/// # Errors
///
/// When there are units already, or the program cannot be run.
pub fn check(model: &Model, program: Option<&Path>) -> Result<()> {
    if model.settings.machine_driver.as_deref() == program {
        return Ok(());
    }
    ensure!(
        model.units.is_empty(),
        "cannot change the machine driver: units have their machines already; remove them first"
    );
    let Some(program) = program else {
        return Ok(());
    };
    let shown = program.display();
    ensure!(
        program.is_absolute(),
        "cannot take machine driver {shown}: give its absolute path"
    );
    let data = std::fs::metadata(program)
        .with_context(|| format!("cannot take machine driver {shown}"))?;
    ensure!(
        data.is_file() && data.permissions().mode() & 0o111 != 0,
        "cannot take machine driver {shown}: it is no program; make it executable"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::POLL;

    fn driver(folder: &Path, body: &str) -> Driver {
        let program = folder.join("driver");
        std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Driver {
            program,
            unit: "app/0".to_owned(),
        }
    }

    #[test]
    fn what_a_driver_says_is_taken_or_explained() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        for (body, expected) in [
            ("echo 10.1.2.3", "10.1.2.3"),
            ("echo nowhere", "\"nowhere\" is no IPv4 address"),
            (
                "echo no room >&2; exit 4",
                "failed (exit status: 4): no room",
            ),
            // What it leaves running does not keep the engine waiting.
            ("sleep 20 & echo 10.1.2.3; kill $!", "10.1.2.3"),
        ] {
            let said = match driver(folder.path(), body).up() {
                Ok(address) => address.to_string(),
                Err(error) => format!("{error:#}"),
            };
            assert!(said.contains(expected), "{body}: {said}");
            assert!(!said.contains("cannot") || said.contains(&place), "{said}");
        }
    }

    #[test]
    fn a_driver_that_hangs_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("pid");
        let body = format!("sleep 300 & echo $! >{}; wait", note.display());
        let error = driver(folder.path(), &body)
            .call("down", Duration::from_millis(500))
            .unwrap_err();
        assert!(error.to_string().contains("did not end within 0.5 s"));
        let pid: u32 = std::fs::read_to_string(note)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while processes::started(pid).is_some() {
            assert!(Instant::now() < deadline, "process {pid} lives on");
            std::thread::sleep(POLL);
        }
    }
}
