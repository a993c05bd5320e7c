//! The pods' network: a bridge of the model's own, and a cable from it to each pod.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::limits::POD_COMMAND_TIMEOUT;

use super::super::driver::complete;

/// Where system programs lie that a person's `PATH` may lack.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Finds a program.
///
/// # Errors
///
/// When it is not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(SYSTEM.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.with_context(|| format!("cannot find program {name:?}; install it"))
}

/// Runs a program to its end; returns what it printed.
///
/// # Errors
///
/// When it fails or takes too long.
pub fn call(name: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program(name)?);
    command.args(arguments);
    let line = format!("`{name} {}`", arguments.join(" "));
    complete(&mut command, &line, POD_COMMAND_TIMEOUT)
}

/// The bridge of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    network: [u8; 2],
}

impl Bridge {
    /// Returns the bridge of the model with that network.
    #[must_use]
    pub fn new(network: [u8; 2]) -> Self {
        Self { network }
    }

    /// Its name; model and pods of other models have other ones.
    #[must_use]
    pub fn name(self) -> String {
        let [second, third] = self.network;
        format!("jl{second:02x}{third:02x}")
    }

    /// Its address, under which the resolver listens.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.host(1)
    }

    fn host(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.network[0], self.network[1], host)
    }

    /// Name of this machine's end of the cable to a pod.
    #[must_use]
    pub fn cable(self, pod: Ipv4Addr) -> String {
        format!("{}h{}", self.name(), pod.octets()[3])
    }

    /// Makes the bridge unless it is there.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or this machine uses its network for something else.
    pub fn up(self) -> Result<()> {
        let name = self.name();
        let network = format!("{}/24", self.host(0));
        let routes = call("ip", &["-o", "-4", "route", "show", &network])?;
        if routes.lines().any(|line| !line.contains(&name)) {
            bail!(
                "cannot give pods addresses in {network}: this machine has a network of that range; use another state directory"
            );
        }
        if call("ip", &["link", "show", "dev", &name]).is_err() {
            // Without an own one it would take that of a cable, another one whenever a pod comes or goes, and pods
            // would for seconds look for the resolver where it was.
            let [second, third] = self.network;
            let hardware = format!("02:6a:6c:{second:02x}:{third:02x}:01");
            call(
                "ip",
                &["link", "add", &name, "address", &hardware, "type", "bridge"],
            )?;
        }
        let address = format!("{}/24", self.address());
        call("ip", &["addr", "replace", &address, "dev", &name])?;
        call("ip", &["link", "set", &name, "up"]).map(drop)
    }

    /// Removes the bridge.
    pub fn down(self) {
        let _ = call("ip", &["link", "del", &self.name()]);
    }

    /// Lays a cable to the pod whose first process is `pause`, and gives it its address.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn connect(self, pause: u32, pod: Ipv4Addr) -> Result<()> {
        let (cable, pause) = (self.cable(pod), pause.to_string());
        // One of the same name belongs to a pod that is gone, whose network goes a moment later.
        let _ = call("ip", &["link", "del", &cable]);
        call(
            "ip",
            &[
                "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &pause,
            ],
        )?;
        self.plug(pod, true)?;
        call("ip", &["link", "set", &cable, "up"])?;
        let address = format!("{pod}/24");
        let gateway = self.address().to_string();
        for line in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", &address, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", &gateway],
        ] {
            let ip = program("ip")?.display().to_string();
            let within = ["--target", &pause, "--net", "--", &ip];
            call("nsenter", &[&within, line].concat())?;
        }
        Ok(())
    }

    /// Plugs the pod's cable into the bridge, or pulls it out: who sends hears nothing either way.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn plug(self, pod: Ipv4Addr, on: bool) -> Result<()> {
        let (cable, name) = (self.cable(pod), self.name());
        if on {
            call("ip", &["link", "set", &cable, "master", &name]).map(drop)
        } else {
            call("ip", &["link", "set", &cable, "nomaster"]).map(drop)
        }
    }
}
