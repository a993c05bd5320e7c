//! Gives each model a loopback network of its own, and cuts single addresses off for tests.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::limits::{CONTROLLER_PORT, HOST_FIRST, HOST_LAST, NETWORK_TRIES};

use super::model::{Model, Unit};

/// Returns the name of the packet filter's table for a unit.
#[must_use]
pub fn table(model: &Model, unit: &Unit) -> String {
    let [_, second, third, host] = model.address(unit).octets();
    format!("juju_local_{second}_{third}_{host}")
}

/// Takes a free network 127.a.b.0/24; it stays taken as long as the listener lives.
///
/// # Errors
///
/// When no free network is found.
pub fn reserve() -> Result<([u8; 2], TcpListener)> {
    for _ in 0..NETWORK_TRIES {
        let mut bytes = [0_u8; 2];
        getrandom::fill(&mut bytes).context("cannot get random bytes")?;
        // 127.0.x.x is where other programs of the machine live.
        let network = [bytes[0].max(1), bytes[1]];
        if let Ok(listener) = take(network) {
            return Ok((network, listener));
        }
    }
    bail!("cannot find a free loopback network 127.a.b.0/24; end other models first")
}

/// Takes a certain network.
///
/// # Errors
///
/// When it is taken already.
pub fn take(network: [u8; 2]) -> Result<TcpListener> {
    let address = Ipv4Addr::new(127, network[0], network[1], 1);
    TcpListener::bind((address, CONTROLLER_PORT))
        .with_context(|| format!("cannot reserve the network of {address}"))
}

/// Takes the next host number of a ring that is free.
#[must_use]
pub fn next_free(next: &mut u8, used: impl Fn(u8) -> bool) -> Option<u8> {
    for _ in HOST_FIRST..=HOST_LAST {
        let host = (*next).clamp(HOST_FIRST, HOST_LAST);
        *next = if host == HOST_LAST {
            HOST_FIRST
        } else {
            host + 1
        };
        if !used(host) {
            return Some(host);
        }
    }
    None
}

/// Takes the next host number for a unit of an application, none that it has had before.
///
/// # Errors
///
/// When all are in use.
pub fn next_host(model: &mut Model, application: &str) -> Result<u8> {
    let had = model.applications.get(application).map(|app| &app.hosts);
    let used = |host| {
        model.units.values().any(|unit| unit.host == host)
            || had.is_some_and(|hosts| hosts.contains(&host))
    };
    next_free(&mut model.next_host, used).with_context(|| {
        format!(
            "cannot find a free address for a unit of {application:?}; the model's network is full"
        )
    })
}

/// Drops, or lets pass again, all traffic between an address and every other one.
///
/// # Errors
///
/// When the caller is not root, or none of `nft`, `iptables`, `tc` and `ip` works.
pub fn cut(address: Ipv4Addr, table: &str, on: bool) -> Result<()> {
    let ip = address.to_string();
    let tools: [(&str, Vec<Vec<String>>); 3] = [
        ("nft", nft(&ip, table, on)),
        ("iptables", iptables(&ip, on)),
        ("tc", tc(address, on)),
    ];
    let mut refused = Vec::new();
    'tools: for (tool, steps) in tools {
        for (number, arguments) in steps.iter().enumerate() {
            let output = Command::new(tool)
                .args(arguments)
                .stdin(Stdio::null())
                .output();
            match output {
                Ok(output) if output.status.success() => {}
                // The first step of tc makes what may be there already.
                Ok(_) if tool == "tc" && number == 0 => {}
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output.stderr);
                    refused.push(format!("{tool}: {}", text.trim()));
                    continue 'tools;
                }
                Err(error) => {
                    refused.push(format!("{tool}: {error}"));
                    continue 'tools;
                }
            }
        }
        return Ok(());
    }
    match rules(&ip, on) {
        Ok(()) => return Ok(()),
        Err(error) => refused.push(format!("{error:#}")),
    }
    bail!(
        "cannot {} the traffic of {ip}: it needs root and one of nft, iptables, tc or ip ({})",
        if on { "cut" } else { "heal" },
        refused.join("; ")
    )
}

/// Splits a command line at its blanks.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Returns the steps for nft: one table per address.
fn nft(ip: &str, table: &str, on: bool) -> Vec<Vec<String>> {
    if !on {
        return vec![words(&format!("delete table ip {table}"))];
    }
    let mut steps = vec![words(&format!("add table ip {table}"))];
    let mut chain = words(&format!("add chain ip {table} output"));
    chain.push("{ type filter hook output priority 0 ; }".to_owned());
    steps.push(chain);
    steps.push(words(&format!(
        "add rule ip {table} output ip saddr {ip} ip daddr != {ip} drop"
    )));
    steps.push(words(&format!(
        "add rule ip {table} output ip daddr {ip} ip saddr != {ip} drop"
    )));
    steps
}

/// Returns the steps for iptables.
fn iptables(ip: &str, on: bool) -> Vec<Vec<String>> {
    let verb = if on { "-I" } else { "-D" };
    vec![
        words(&format!("-w 5 {verb} OUTPUT -s {ip} ! -d {ip} -j DROP")),
        words(&format!("-w 5 {verb} OUTPUT -d {ip} ! -s {ip} -j DROP")),
    ]
}

/// Returns the steps for tc on the loopback interface; the address gives the filters' numbers.
fn tc(address: Ipv4Addr, on: bool) -> Vec<Vec<String>> {
    let [_, second, third, host] = address.octets();
    let hash = (u32::from(second) * 256 + u32::from(third)) % 80;
    let base = 1 + (hash * 256 + u32::from(host)) * 3;
    let filter = |number: u32, matches: &str, action: &str| {
        words(&format!(
            "filter add dev lo egress protocol ip prio {} u32 {matches} action {action}",
            base + number
        ))
    };
    let mut steps = vec![words("qdisc add dev lo clsact")];
    for number in 0..3 {
        if !on {
            let prio = base + number;
            steps.push(words(&format!(
                "filter del dev lo egress protocol ip prio {prio}"
            )));
        }
    }
    if on {
        let (from, to) = (
            format!("match ip src {address}/32"),
            format!("match ip dst {address}/32"),
        );
        steps.push(filter(0, &format!("{from} {to}"), "ok"));
        steps.push(filter(1, &from, "drop"));
        steps.push(filter(2, &to, "drop"));
    }
    steps
}

/// Priority at which the table of local addresses is asked once rules stand before it.
const LOCAL_LATER: &str = "900";

/// Runs `ip` with a line of arguments; returns what it prints.
fn ip(line: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(words(line))
        .stdin(Stdio::null())
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        bail!(
            "ip {line}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Cuts or heals by routing rules that lead to nothing, before the table of local addresses.
///
/// Those who send learn of it at once (an error instead of silence), unlike with a packet filter. The local table
/// keeps its later place until the machine reboots; that changes nothing for others.
fn rules(address: &str, on: bool) -> Result<()> {
    let lines = [
        format!("pref 100 from {address} to {address} lookup local"),
        format!("pref 101 blackhole from {address}"),
        format!("pref 101 blackhole to {address}"),
    ];
    if !on {
        for line in lines.iter().rev() {
            ip(&format!("rule del {line}"))?;
        }
        return Ok(());
    }
    let local = |pref: &str| -> Result<bool> {
        let start = format!("{pref}:");
        let listing = ip("rule list")?;
        Ok(listing
            .lines()
            .any(|line| line.starts_with(&start) && line.contains("lookup local")))
    };
    if !local(LOCAL_LATER)? {
        ip(&format!("rule add pref {LOCAL_LATER} lookup local"))?;
    }
    // Without a local table at all the machine would lose its loopback: look before the first one goes.
    if local(LOCAL_LATER)? && local("0")? {
        ip("rule del pref 0 lookup local")?;
    }
    for line in &lines {
        ip(&format!("rule add {line}"))?;
    }
    Ok(())
}
