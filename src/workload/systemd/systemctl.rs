//! systemd's own programs, each call with a deadline.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::limits::{JOURNAL_LINES, LOG_TAIL_BYTES, SYSTEMCTL_LIMIT};
use crate::workload::WorkloadError;

/// What systemd says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`.
    pub active: String,
    /// More exactly, as in `start-pre` or `auto-restart`.
    pub sub: String,
    /// The main process, if there is one.
    pub main_pid: Option<u32>,
    /// Whether something is still to be done with the unit.
    pub job: bool,
    /// How the main process ended last: its exit code or signal.
    pub exit: i32,
}

impl Shown {
    /// Reads what `systemctl show` prints.
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .trim()
        };
        let number = |name: &str| value(name).parse::<u32>().ok().filter(|found| *found != 0);
        Self {
            active: value("ActiveState").to_owned(),
            sub: value("SubState").to_owned(),
            main_pid: number("MainPID"),
            job: number("Job").is_some(),
            exit: value("ExecMainStatus").parse().unwrap_or_default(),
        }
    }

    /// Says whether nothing runs and nothing is about to.
    pub fn is_down(&self) -> bool {
        !self.job
            && self.main_pid.is_none()
            && matches!(self.active.as_str(), "inactive" | "failed")
    }

    /// Says whether the last start went wrong, and none is under way.
    pub fn has_failed(&self) -> bool {
        !self.job && (self.active == "failed" || self.sub == "auto-restart")
    }
}

/// Asks for the state of a unit; one that systemd does not know is inactive.
pub async fn show(unit: &str) -> Result<Shown, WorkloadError> {
    let properties = "--property=ActiveState,SubState,MainPID,Job,ExecMainStatus";
    Ok(Shown::parse(
        &systemctl(&["show", properties, "--", unit]).await?,
    ))
}

/// Runs `systemctl` and returns what it printed.
pub async fn systemctl(arguments: &[&str]) -> Result<String, WorkloadError> {
    run("systemctl", arguments, SYSTEMCTL_LIMIT).await
}

/// Runs a program and returns what it printed.
///
/// # Errors
///
/// [`WorkloadError::Tool`] if it cannot be run, fails, or takes longer than `limit`.
pub async fn run(
    program: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<String, WorkloadError> {
    let fail = |reason: String| WorkloadError::Tool {
        command: format!("{program} {}", arguments.join(" ")),
        reason,
    };
    let output = output(program, arguments, limit).await.map_err(fail)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(fail(format!(
        "{}: {}",
        output.status,
        one_line(&said, LOG_TAIL_BYTES)
    )))
}

/// Runs a program to its end, however it ends; fails with why that was not possible.
async fn output(program: &str, arguments: &[&str], limit: Duration) -> Result<Output, String> {
    let answer = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(limit, answer)
        .await
        .map_err(|_| format!("it did not end within {} s", limit.as_secs()))?
        .map_err(|error| error.to_string())
}

/// Returns the state of the whole system: `running`, `degraded`, `stopping`, …
pub async fn state() -> Result<String, WorkloadError> {
    // Its exit status says only that the state is another one than `running`.
    let output = output("systemctl", &["is-system-running"], SYSTEMCTL_LIMIT)
        .await
        .map_err(|reason| WorkloadError::Tool {
            command: "systemctl is-system-running".to_owned(),
            reason,
        })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the last lines that a unit wrote to the journal since a time, on one line.
pub async fn journal(unit: &str, since_s: u64) -> String {
    let since = format!("--since=@{since_s}");
    let lines = format!("--lines={JOURNAL_LINES}");
    let unit = format!("--unit={unit}");
    let arguments = [
        unit.as_str(),
        &since,
        &lines,
        "--output=cat",
        "--no-pager",
        "--quiet",
    ];
    match run("journalctl", &arguments, SYSTEMCTL_LIMIT).await {
        Ok(text) => one_line(&text, LOG_TAIL_BYTES),
        Err(error) => format!("({error})"),
    }
}

/// Puts the end of a text on one line.
fn one_line(text: &str, bytes_max: u64) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join(" | ");
    if line.is_empty() {
        return "(empty)".to_owned();
    }
    let surplus = line
        .len()
        .saturating_sub(usize::try_from(bytes_max).unwrap_or(usize::MAX));
    let begin = (surplus..line.len())
        .find(|at| line.is_char_boundary(*at))
        .unwrap_or(0);
    line[begin..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_understood() {
        for (text, down, failed, pid) in [
            (
                "ActiveState=active\nSubState=running\nMainPID=42\nExecMainStatus=0\nJob=",
                false,
                false,
                Some(42),
            ),
            (
                "ActiveState=activating\nSubState=start-pre\nMainPID=0\nJob=77",
                false,
                false,
                None,
            ),
            (
                "ActiveState=activating\nSubState=auto-restart\nMainPID=0\nExecMainStatus=1",
                false,
                true,
                None,
            ),
            (
                "ActiveState=activating\nSubState=auto-restart\nMainPID=0\nJob=5",
                false,
                false,
                None,
            ),
            (
                "ActiveState=failed\nSubState=failed\nMainPID=0\nExecMainStatus=9",
                true,
                true,
                None,
            ),
            (
                "ActiveState=inactive\nSubState=dead\nMainPID=0\nJob=0",
                true,
                false,
                None,
            ),
            (
                "ActiveState=inactive\nSubState=dead\nMainPID=0\nJob=12",
                false,
                false,
                None,
            ),
        ] {
            let shown = Shown::parse(text);
            assert_eq!(
                (shown.is_down(), shown.has_failed(), shown.main_pid),
                (down, failed, pid),
                "{text}"
            );
        }
    }

    #[test]
    fn only_the_end_of_a_long_text_is_shown() {
        assert_eq!(one_line("\n a \n\nb\n", 100), "a | b");
        assert_eq!(one_line("", 100), "(empty)");
        assert_eq!(one_line("äöü", 3), "ü");
    }

    #[tokio::test]
    async fn a_program_that_fails_or_is_missing_is_told_with_what_it_said() {
        let second = Duration::from_secs(5);
        let error = run("sh", &["-c", "echo no >&2; exit 3"], second)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("exit status: 3: no"), "{error}");
        assert!(run("/no/such/program", &[], second).await.is_err());
        let error = run("sleep", &["60"], Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
