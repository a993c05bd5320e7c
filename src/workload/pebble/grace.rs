//! Time for the charm to hand the role over before Pebble ends the server.
//!
//! Kubernetes tells all containers of a pod at the same moment to end. Pebble would end the server at once, before the
//! charm in the other container has even begun. So the plan has one more service, which does nothing but be the first
//! one that Pebble stops: server and Sentinel require it, and it is after them, so that Pebble waits for its end before
//! it turns to them. It ends as soon as the mark is gone that the charm made when it started the server, or when the
//! time is over. The server itself knows nothing of this, and nothing stands between it and Pebble.

use std::path::Path;

use super::words::command_line;
use super::{PebbleError, ServiceSpec};
use crate::limits::{POD_GRACE_LIMIT, SMALL_STOP_LIMIT};
use crate::workload::{Launch, Service};

/// Its name in the plan.
pub(super) const NAME: &str = "grace";

/// Waits to be told to end; then until the file `$1` is gone, at most `$2` tenths of a second.
///
/// Pebble tells the whole group of processes, so that the long sleep ends, too.
const SCRIPT: &str = "trap 'asked=1' TERM; \
    until [ \"$asked\" ]; do sleep 86400 & wait; done; \
    left=$2; \
    while [ -e \"$1\" ] && [ \"$left\" -gt 0 ]; do sleep 0.1; left=$((left - 1)); done";

/// Returns the service, which waits for the end of the file `mark`.
pub(super) fn service(mark: &Path) -> Result<ServiceSpec, PebbleError> {
    let tenths = (POD_GRACE_LIMIT.as_millis() / 100).to_string();
    let launch = Launch::new(
        "/bin/sh",
        [
            "-c".as_ref(),
            SCRIPT.as_ref(),
            NAME.as_ref(),
            mark.as_os_str(),
            tenths.as_ref(),
        ],
    );
    let command = command_line(&launch)?;
    let summary = "lets the charm hand over before the pod ends";
    Ok(ServiceSpec {
        after: [Service::Server, Service::Sentinel]
            .map(|service| service.name().to_owned())
            .into(),
        ..ServiceSpec::when_told(summary, command, POD_GRACE_LIMIT + SMALL_STOP_LIMIT)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process_group};

    use super::*;
    use crate::limits::{FAREWELL_LIMIT, POD_STOP_LIMIT};

    /// Longest that a shell may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The script as Pebble runs it: a group of its own.
    struct Group(Child);

    impl Group {
        fn of(mark: &Path, tenths: &str) -> Self {
            let shell = Command::new("/bin/sh")
                .args(["-c", SCRIPT, NAME])
                .arg(mark)
                .arg(tenths)
                .process_group(0)
                .spawn()
                .unwrap();
            let group = Self(shell);
            // It has set its trap once it sleeps.
            let children = format!("/proc/{0}/task/{0}/children", group.0.id());
            let begun = Instant::now();
            while std::fs::read_to_string(&children).unwrap().is_empty() {
                assert!(begun.elapsed() < PATIENCE, "it does not wait");
                std::thread::sleep(Duration::from_millis(5));
            }
            group
        }

        fn signal(&self, signal: Signal) {
            let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
            let _ = kill_process_group(pid, signal);
        }

        fn ends(&mut self) -> bool {
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status.success();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            false
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            self.signal(Signal::KILL);
            let _ = self.0.wait();
        }
    }

    #[test]
    fn it_ends_with_the_mark_or_with_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("a mark");
        let mut without = Group::of(&mark, "100000");
        without.signal(Signal::TERM);
        assert!(without.ends(), "nothing to wait for");
        std::fs::write(&mark, "").unwrap();
        let mut in_time = Group::of(&mark, "3");
        in_time.signal(Signal::TERM);
        assert!(in_time.ends(), "the time is over");
        let mut waits = Group::of(&mark, "100000");
        waits.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(300));
        assert!(waits.0.try_wait().unwrap().is_none(), "it waits");
        std::fs::remove_file(&mark).unwrap();
        assert!(waits.ends(), "the mark is gone");
    }

    #[test]
    fn all_of_a_farewell_fits_into_the_time_that_kubernetes_gives() {
        let given = Duration::from_secs(30);
        assert!(FAREWELL_LIMIT < POD_GRACE_LIMIT);
        assert!(POD_GRACE_LIMIT + POD_STOP_LIMIT < given);
    }
}
