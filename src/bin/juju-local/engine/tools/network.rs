//! Hook tools about addresses, ports and goals.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value, json};

use super::super::model::{Life, Status};
use super::{Call, Fault, failed, parse, usage};

/// `unit-get`
pub fn unit_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    match flags.at(0) {
        Some("private-address" | "public-address") => {}
        Some(other) => return usage(format!("unknown setting {other:?}")),
        None => return usage("no setting specified"),
    }
    let (unit, _) = call.unit()?;
    let address = call.model().address(unit).to_string();
    call.print(&flags, &json!(address), "smart")
}

/// `network-get`
pub fn network_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(
        call.arguments,
        &[
            "bind-address",
            "ingress-address",
            "egress-subnets",
            "primary-address",
        ],
        &["format", "output o", "relation r"],
    )?;
    let binding = match flags.at(0) {
        None => return usage("no arguments specified"),
        Some("") => return usage("no binding name specified"),
        Some(name) => name.to_owned(),
    };
    if let Some(text) = flags.value("relation") {
        super::relations::relation_id(call, text)?;
    }
    let (unit, application) = call.unit()?;
    let metadata = &application.charm.metadata;
    let known = binding == "juju-info"
        || metadata.endpoints.contains_key(&binding)
        || metadata.extra_bindings.contains(&binding);
    if !known {
        return failed(format!(
            "binding name {binding:?} not defined by the unit's charm"
        ));
    }
    let address = call.model().address(unit);
    let [first, second, third, _] = address.octets();
    let pods = call.model().settings.has_pods();
    let (interface, mac) = match (pods, address.is_loopback()) {
        (true, _) => ("", ""),
        (false, true) => ("lo", "00:00:00:00:00:00"),
        (false, false) => ("eth0", "00:00:00:00:00:00"),
    };
    let ingress = call.model().ingress(unit).to_string();
    let (ip, subnet) = (address.to_string(), format!("{ingress}/32"));
    let names = [
        "bind-address",
        "ingress-address",
        "egress-subnets",
        "primary-address",
    ];
    let wanted: Vec<_> = names
        .into_iter()
        .filter(|name| flags.is_set(name))
        .collect();
    if wanted.len() > 1 && wanted.contains(&"primary-address") {
        return usage("--primary-address must be the only flag specified");
    }
    let one = |name: &str| match name {
        "egress-subnets" => json!([subnet]),
        "ingress-address" => json!(ingress),
        _ => json!(ip),
    };
    let value = match wanted.as_slice() {
        [] => json!({
            "bind-addresses": [{
                "mac-address": mac,
                "interface-name": interface,
                "addresses": [{
                    "hostname": "",
                    "value": ip,
                    "cidr": format!("{first}.{second}.{third}.0/24"),
                }],
            }],
            "egress-subnets": [subnet],
            "ingress-addresses": [ingress],
        }),
        [name] => one(name),
        several => {
            let map: BTreeMap<_, _> = several.iter().map(|name| (*name, one(name))).collect();
            json!(map)
        }
    };
    call.print(&flags, &value, "smart")
}

/// Understands a port or range; a lone port has no hyphen.
pub(super) fn port(text: &str) -> Result<String, String> {
    if text == "icmp" {
        return Ok("icmp".to_owned());
    }
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return Err(format!(
            "invalid protocol {protocol:?}, expected \"tcp\", \"udp\", or \"icmp\""
        ));
    }
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from == to => Ok(format!("{from}/{protocol}")),
        (Some(from), Some(to)) if from < to => Ok(format!("{from}-{to}/{protocol}")),
        _ => Err(format!("invalid port {range:?}")),
    }
}

/// Opens or closes a port.
fn change_port(call: &mut Call<'_>, open: bool) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "endpoints"])?;
    let Some(text) = flags.at(0) else {
        return usage("no port or range specified");
    };
    let port = port(text).map_err(Fault::Usage)?;
    let endpoints = flags.value("endpoints").unwrap_or("*");
    for endpoint in endpoints.split(',') {
        let endpoint = if endpoint == "*" { "" } else { endpoint };
        call.context
            .ports
            .push((port.clone(), endpoint.to_owned(), open));
    }
    Ok(String::new())
}

/// `open-port`
pub fn open_port(call: &mut Call<'_>) -> Result<String, Fault> {
    change_port(call, true)
}

/// `close-port`
pub fn close_port(call: &mut Call<'_>) -> Result<String, Fault> {
    change_port(call, false)
}

/// `opened-ports`
pub fn opened_ports(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["endpoints"], &["format", "output o"])?;
    let mut ports = call.unit()?.0.ports.clone();
    for (port, endpoint, open) in &call.context.ports {
        let key = (port.clone(), endpoint.clone());
        if *open {
            ports.insert(key);
        } else if endpoint.is_empty() {
            ports.retain(|(other, _)| other != port);
        } else {
            ports.remove(&key);
        }
    }
    let mut by_port: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (port, endpoint) in ports {
        by_port.entry(port).or_default().push(endpoint);
    }
    let lines: Vec<String> = by_port
        .into_iter()
        .map(|(port, endpoints)| {
            if !flags.is_set("endpoints") {
                port
            } else if endpoints.iter().any(String::is_empty) {
                format!("{port} (*)")
            } else {
                format!("{port} ({})", endpoints.join(", "))
            }
        })
        .collect();
    call.print(&flags, &json!(lines), "smart")
}

/// Writes a goal's status.
fn goal(word: &str, since: Timestamp) -> Value {
    json!({ "status": word, "since": since.strftime("%Y-%m-%d %H:%M:%SZ").to_string() })
}

/// `goal-state`
pub fn goal_state(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    let model = call.model();
    let own = call.application();
    let word = |life: Life, status: &Status| {
        if life == Life::Dying {
            "dying".to_owned()
        } else {
            status.current.clone()
        }
    };
    let units_of = |application: &str| -> JsonMap<String, Value> {
        model
            .units_of(application)
            .into_iter()
            .filter(|unit| unit.life != Life::Dead)
            .map(|unit| {
                let shown = goal(&word(unit.life, &unit.workload), unit.workload.since);
                (unit.name.clone(), shown)
            })
            .collect()
    };
    let mut relations: BTreeMap<String, JsonMap<String, Value>> = BTreeMap::new();
    for relation in model
        .relations
        .values()
        .filter(|relation| !relation.is_peer())
    {
        let (Some(end), Some(other)) = (relation.own(&own), relation.other(&own)) else {
            continue;
        };
        let since = model
            .applications
            .get(&other.application)
            .map(|app| app.created);
        let entry = relations.entry(end.name.clone()).or_default();
        entry.insert(
            other.application.clone(),
            goal("joined", since.unwrap_or_default()),
        );
        entry.extend(units_of(&other.application));
    }
    let value = json!({ "units": units_of(&own), "relations": relations });
    call.print(&flags, &value, "yaml")
}

/// `credential-get`: this engine has no cloud.
pub fn credential_get(call: &mut Call<'_>) -> Result<String, Fault> {
    parse(call.arguments, &[], &["format", "output o"])?;
    failed("cannot access cloud credentials: permission denied")
}
