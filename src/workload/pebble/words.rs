//! How commands, signals and ends are written down for Pebble and by it.

use super::PebbleError;
use crate::workload::{Launch, Signal};

/// Returns the name that Pebble knows a signal by.
pub(super) fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Terminate => "SIGTERM",
        Signal::Interrupt => "SIGINT",
        Signal::Hangup => "SIGHUP",
        Signal::User1 => "SIGUSR1",
        Signal::Kill => "SIGKILL",
        Signal::Freeze => "SIGSTOP",
        Signal::Thaw => "SIGCONT",
    }
}

/// Writes program and arguments as Pebble takes them apart.
pub(super) fn command_line(launch: &Launch) -> Result<String, PebbleError> {
    const WHAT: &str = "write down what Pebble has to run";
    let fail = |reason: &str| PebbleError::Failed {
        what: WHAT,
        reason: reason.to_owned(),
    };
    let words: Option<Vec<&str>> = std::iter::once(launch.program.as_os_str())
        .chain(launch.args.iter().map(AsRef::as_ref))
        .map(|word| word.to_str())
        .collect();
    let words = words.ok_or_else(|| fail("a path is not text"))?;
    // Pebble takes what stands in brackets for defaults.
    if words.iter().any(|word| matches!(*word, "[" | "]")) {
        return Err(fail("an argument is a bracket"));
    }
    shlex::try_join(words).map_err(|_| fail("a path has a zero byte"))
}

/// Finds the exit code in what Pebble says of a service that ended at once.
pub(super) fn exit_code(reason: &str) -> Option<i32> {
    let (_, rest) = reason.split_once("exited quickly with code ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_is_no_argument() {
        let bracket = Launch::new("/bin/echo", ["["]);
        assert!(command_line(&bracket).is_err());
    }

    #[test]
    fn exit_codes_are_found_in_what_pebble_says() {
        for (reason, expected) in [
            (
                "service start attempt: exited quickly with code 3, will restart",
                Some(3),
            ),
            ("x\n- Start (exited quickly with code 137)", Some(137)),
            ("exited quickly with code ", None),
            ("fork/exec /nowhere: no such file or directory", None),
        ] {
            assert_eq!(exit_code(reason), expected, "{reason}");
        }
    }
}
