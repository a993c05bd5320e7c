//! What tests with pods need: a network of their own.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Longest that a network may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network namespace that lives as long as this; the thread that makes it is in it, with all that it starts.
#[derive(Debug)]
pub struct Net(Child);

impl Net {
    /// Makes a network with a loopback device and lets the calling thread enter it.
    pub fn enter() -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let net = Self(holder);
        let place = format!("/proc/{}/ns/net", net.0.id());
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let begin = Instant::now();
        while fs::read_link(&place).ok().as_ref() == Some(&own) {
            assert!(begin.elapsed() < PATIENCE, "no network: this needs root");
            std::thread::sleep(Duration::from_millis(2));
        }
        let file = File::open(&place).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
