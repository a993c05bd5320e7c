//! Judges from outside whether an application has settled: straight from its servers and Sentinels.

use std::{collections::BTreeSet, io};

use super::{
    model::{Model, SERVER_PORT, Unit},
    wire::{Reply, Wire, info_field},
};

/// Name under which the Sentinels know the primary.
const MONITOR: &str = "primary";

/// What a settled application looks like.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The one primary.
    pub primary: Unit,
    /// All others.
    pub replicas: Vec<Unit>,
}

/// Tells whether exactly `expected` units are there and everything holds that must hold.
///
/// One primary; every replica follows it with its link up and may be promoted; every Sentinel
/// names it, knows exactly the others, has the right quorum and could fail over; every server is
/// fenced as its number of peers demands; and the statuses say that all is well.
///
/// # Errors
///
/// The first thing that does not hold.
pub fn examine(model: &Model, expected: usize) -> Result<Settled, String> {
    let units = model.units();
    if units.len() != expected {
        return Err(format!("{} units instead of {expected}", units.len()));
    }
    // Statuses last: they must not be ahead of the facts.
    let settled = examine_servers(model, &units)?;
    for unit in &units {
        examine_sentinel(model, unit, &settled, &units)?;
    }
    for unit in &units {
        if unit.workload != "active" || unit.agent != "idle" {
            return Err(format!(
                "{} is {}/{}: {}",
                unit.name, unit.workload, unit.agent, unit.message
            ));
        }
    }
    let status = &model.status()["applications"]["valkey"]["application-status"];
    if status["current"] != "active" {
        return Err(format!("the application's status is {status}"));
    }
    Ok(settled)
}

/// Tells who is primary and that all others follow it.
fn examine_servers(model: &Model, units: &[Unit]) -> Result<Settled, String> {
    let mut primaries = Vec::new();
    let mut replicas = Vec::new();
    for unit in units {
        let mut wire = reach(model.server(unit.address), unit)?;
        let replication = info(&mut wire, "replication", unit)?;
        match field(&replication, "role", unit)?.as_str() {
            "master" => primaries.push((unit.clone(), replication)),
            _ => replicas.push((unit.clone(), replication)),
        }
        let fence = units.len().div_ceil(2).saturating_sub(1);
        expect_setting(&mut wire, unit, "min-replicas-to-write", &fence.to_string())?;
        expect_setting(&mut wire, unit, "replica-priority", "100")?;
    }
    let [(primary, view)] = &primaries[..] else {
        return Err(format!(
            "{} primaries: {:?}",
            primaries.len(),
            names(primaries.iter().map(|(unit, _)| unit))
        ));
    };
    expect(
        primary,
        "connected_slaves",
        &field(view, "connected_slaves", primary)?,
        &replicas.len().to_string(),
    )?;
    for (unit, view) in &replicas {
        expect(
            unit,
            "master_host",
            &field(view, "master_host", unit)?,
            &primary.host,
        )?;
        expect(
            unit,
            "master_link_status",
            &field(view, "master_link_status", unit)?,
            "up",
        )?;
    }
    Ok(Settled {
        primary: primary.clone(),
        replicas: replicas.into_iter().map(|(unit, _)| unit).collect(),
    })
}

/// Tells whether a unit's Sentinel sees what is really there.
fn examine_sentinel(
    model: &Model,
    unit: &Unit,
    settled: &Settled,
    units: &[Unit],
) -> Result<(), String> {
    let sentinel = Unit {
        name: format!("{}'s Sentinel", unit.name),
        ..unit.clone()
    };
    let mut wire = reach(model.sentinel(unit.address), &sentinel)?;
    let view = ask(&mut wire, &["SENTINEL", "MASTER", MONITOR], &sentinel)?;
    let quorum = units.len() / 2 + 1;
    let others = units.len() - 1;
    for (name, wanted) in [
        ("ip", settled.primary.host.clone()),
        ("port", SERVER_PORT.to_string()),
        ("flags", "master".to_owned()),
        ("quorum", quorum.to_string()),
        ("num-other-sentinels", others.to_string()),
        ("num-slaves", others.to_string()),
    ] {
        expect(
            &sentinel,
            name,
            &view.field(name).unwrap_or_default(),
            &wanted,
        )?;
    }
    let replicas = ask(&mut wire, &["SENTINEL", "REPLICAS", MONITOR], &sentinel)?;
    expect_members(
        &sentinel,
        "replicas",
        &replicas,
        settled.replicas.iter().map(|unit| &unit.host),
    )?;
    for replica in replicas.list() {
        expect(
            &sentinel,
            "flags of a replica",
            &replica.field("flags").unwrap_or_default(),
            "slave",
        )?;
        expect(
            &sentinel,
            "priority of a replica",
            &replica.field("slave-priority").unwrap_or_default(),
            "100",
        )?;
    }
    let sentinels = ask(&mut wire, &["SENTINEL", "SENTINELS", MONITOR], &sentinel)?;
    let peers = units
        .iter()
        .map(|unit| &unit.host)
        .filter(|host| **host != unit.host);
    expect_members(&sentinel, "Sentinels", &sentinels, peers)?;
    for peer in sentinels.list() {
        expect(
            &sentinel,
            "flags of a Sentinel",
            &peer.field("flags").unwrap_or_default(),
            "sentinel",
        )?;
    }
    match ask(&mut wire, &["SENTINEL", "CKQUORUM", MONITOR], &sentinel)? {
        Reply::Text(text) if text.starts_with("OK") => Ok(()),
        other => Err(format!("{}: CKQUORUM: {other}", sentinel.name)),
    }
}

fn expect_members<'a>(
    unit: &Unit,
    what: &str,
    seen: &Reply,
    wanted: impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    let seen: BTreeSet<String> = seen
        .list()
        .iter()
        .filter_map(|member| member.field("ip"))
        .collect();
    let wanted: BTreeSet<String> = wanted.cloned().collect();
    if seen == wanted {
        Ok(())
    } else {
        Err(format!(
            "{} knows the {what} {seen:?} instead of {wanted:?}",
            unit.name
        ))
    }
}

/// Returns the units whose servers say that they are primary; unreachable ones are left out.
pub fn primaries(model: &Model) -> Vec<Unit> {
    let role = |unit: &Unit| {
        model
            .server(unit.address)
            .and_then(|mut wire| wire.call(&["ROLE"]))
            .ok()
    };
    let is_primary =
        |reply: Reply| reply.list().first().and_then(Reply::text).as_deref() == Some("master");
    model
        .units()
        .into_iter()
        .filter(|unit| role(unit).is_some_and(is_primary))
        .collect()
}

/// Returns a setting of a unit's server.
///
/// # Errors
///
/// When the server does not answer.
pub fn setting(model: &Model, unit: &Unit, name: &str) -> Result<String, String> {
    let mut wire = reach(model.server(unit.address), unit)?;
    read_setting(&mut wire, unit, name)
}

fn read_setting(wire: &mut Wire, unit: &Unit, name: &str) -> Result<String, String> {
    ask(wire, &["CONFIG", "GET", name], unit)?
        .field(name)
        .ok_or_else(|| format!("{} has no setting {name}", unit.name))
}

fn expect_setting(wire: &mut Wire, unit: &Unit, name: &str, wanted: &str) -> Result<(), String> {
    expect(unit, name, &read_setting(wire, unit, name)?, wanted)
}

fn names<'a>(units: impl Iterator<Item = &'a Unit>) -> Vec<&'a str> {
    units.map(|unit| unit.name.as_str()).collect()
}

fn reach(wire: io::Result<Wire>, unit: &Unit) -> Result<Wire, String> {
    wire.map_err(|error| format!("cannot reach {}: {error}", unit.name))
}

fn ask(wire: &mut Wire, command: &[&str], unit: &Unit) -> Result<Reply, String> {
    wire.call(command)
        .map_err(|error| format!("cannot ask {}: {error}", unit.name))
}

fn info(wire: &mut Wire, section: &str, unit: &Unit) -> Result<String, String> {
    ask(wire, &["INFO", section], unit)?
        .text()
        .ok_or_else(|| format!("{} gave no INFO", unit.name))
}

fn field(info: &str, name: &str, unit: &Unit) -> Result<String, String> {
    info_field(info, name).ok_or_else(|| format!("{} does not tell {name}", unit.name))
}

fn expect(unit: &Unit, what: &str, seen: &str, wanted: &str) -> Result<(), String> {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!(
            "{}: {what} is {seen:?} instead of {wanted:?}",
            unit.name
        ))
    }
}
