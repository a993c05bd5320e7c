//! Writes the model down as `status` and `show-unit` show it.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value, json};

use crate::report::{
    ApplicationReport, AttachmentReport, AttachmentsReport, BaseReport, ControllerReport,
    InterfaceReport, MachineReport, ModelReport, RelatedReport, StatusReport, StatusText,
    StorageInstanceReport, StorageReport, UnitReport,
};

use super::model::{Application, Life, Machine, Model, Status, Unit};
use super::paths::Paths;

/// Words of statuses from worst to best, for an application whose leader sets none.
const SEVERITY: [&str; 8] = [
    "error",
    "blocked",
    "maintenance",
    "waiting",
    "active",
    "terminated",
    "unknown",
    "",
];

/// Writes a time as `status` does.
#[must_use]
pub fn since(at: Timestamp) -> String {
    at.strftime("%d %b %Y %H:%M:%SZ").to_string()
}

/// Writes a status.
fn text(status: &Status) -> StatusText {
    StatusText {
        current: status.current.clone(),
        message: status.message.clone(),
        since: since(status.since),
        ..StatusText::default()
    }
}

/// Returns what is shown of a unit's two statuses.
fn shown(model: &Model, unit: &Unit) -> (StatusText, StatusText) {
    let (mut workload, mut agent) = (text(&unit.workload), text(&unit.agent));
    if unit.agent.current == "error" {
        workload = text(&unit.agent);
        "idle".clone_into(&mut agent.current);
        agent.message.clear();
    }
    if unit.state != Machine::Up || unit.cut {
        "lost".clone_into(&mut agent.current);
        "agent is not communicating with the server".clone_into(&mut agent.message);
        "unknown".clone_into(&mut workload.current);
        workload.message = format!("agent lost, see 'juju show-status-log {}'", unit.name);
    }
    model.variant.version().clone_into(&mut agent.version);
    agent.life = unit.life.word();
    workload.life = unit.life.word();
    (workload, agent)
}

/// Reports everything.
#[must_use]
pub fn report(model: &Model, paths: &Paths) -> StatusReport {
    let now = Timestamp::now();
    let available = StatusText {
        current: "available".to_owned(),
        since: model
            .applications
            .values()
            .map(|app| app.created)
            .min()
            .map(since)
            .unwrap_or_default(),
        ..StatusText::default()
    };
    let mut machines: Vec<&Unit> = model.units.values().collect();
    machines.sort_by_key(|unit| unit.machine);
    StatusReport {
        model: ModelReport {
            name: model.name.clone(),
            kind: "iaas".to_owned(),
            controller: "local".to_owned(),
            cloud: "local".to_owned(),
            region: Some("localhost".to_owned()),
            version: model.variant.version().to_owned(),
            model_status: available,
        },
        machines: machines
            .into_iter()
            .map(|unit| (unit.machine.to_string(), machine(model, unit)))
            .collect(),
        applications: model
            .applications
            .iter()
            .map(|(name, app)| (name.clone(), application(model, name, app)))
            .collect(),
        storage: storage(model, paths),
        controller: ControllerReport {
            timestamp: now.strftime("%H:%M:%SZ").to_string(),
        },
    }
}

fn base(application: &Application) -> BaseReport {
    let base = application.charm.manifest.base();
    let channel = base
        .channel
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    BaseReport {
        name: base.name,
        channel,
    }
}

fn machine(model: &Model, unit: &Unit) -> MachineReport {
    let address = model.shown_address(unit);
    let created = model
        .applications
        .get(&unit.application)
        .map(|app| app.created);
    let when = created.map(since).unwrap_or_default();
    let status = |current: &str, message: &str| StatusText {
        current: current.to_owned(),
        message: message.to_owned(),
        since: when.clone(),
        ..StatusText::default()
    };
    let state = if unit.state == Machine::Up {
        "started"
    } else {
        "down"
    };
    let mut agent = status(state, "");
    model.variant.version().clone_into(&mut agent.version);
    let identity = model.uuid.get(..6).unwrap_or_default();
    let name = format!("juju-{identity}-{}", unit.machine);
    MachineReport {
        juju_status: agent,
        hostname: name.clone(),
        dns_name: address.clone(),
        ip_addresses: vec![address.clone()],
        instance_id: name,
        machine_status: status("running", "Running"),
        modification_status: status("idle", ""),
        base: model
            .applications
            .get(&unit.application)
            .map(base)
            .unwrap_or_default(),
        network_interfaces: BTreeMap::from([(
            "lo".to_owned(),
            InterfaceReport {
                ip_addresses: vec![address],
                mac_address: "00:00:00:00:00:00".to_owned(),
                is_up: unit.state == Machine::Up && !unit.cut,
            },
        )]),
    }
}

fn application(model: &Model, name: &str, app: &Application) -> ApplicationReport {
    let mut relations: BTreeMap<String, Vec<RelatedReport>> = BTreeMap::new();
    for relation in model.relations.values() {
        let (Some(own), Some(other)) = (relation.own(name), relation.other(name)) else {
            continue;
        };
        relations
            .entry(own.name.clone())
            .or_default()
            .push(RelatedReport {
                related_application: other.application.clone(),
                interface: own.interface.clone(),
                scope: "global".to_owned(),
            });
    }
    let units: IndexMap<String, UnitReport> = model
        .units_of(name)
        .into_iter()
        .map(|one| (one.name.clone(), unit(model, one)))
        .collect();
    let status = match &app.status {
        Some(status) => text(status),
        None => derived(&units, app),
    };
    let endpoints = app
        .charm
        .metadata
        .endpoints
        .keys()
        .cloned()
        .chain([String::new()]);
    ApplicationReport {
        charm: format!("local:{}-{}", app.charm.metadata.name, app.revision),
        base: base(app),
        charm_origin: "local".to_owned(),
        charm_name: app.charm.metadata.name.clone(),
        charm_rev: app.revision,
        charm_version: app.charm.version.clone(),
        exposed: false,
        life: app.life.word(),
        application_status: status,
        relations,
        units,
        version: app.version.clone(),
        endpoint_bindings: endpoints.map(|name| (name, "alpha".to_owned())).collect(),
    }
}

/// Derives an application's status from its units: the worst one.
fn derived(units: &IndexMap<String, UnitReport>, app: &Application) -> StatusText {
    let rank = |word: &str| {
        SEVERITY
            .iter()
            .position(|other| *other == word)
            .unwrap_or(SEVERITY.len())
    };
    let worst = units
        .values()
        .map(|unit| &unit.workload_status)
        .min_by_key(|s| rank(&s.current));
    let mut status = worst.cloned().unwrap_or_else(|| StatusText {
        current: "unknown".to_owned(),
        since: since(app.created),
        ..StatusText::default()
    });
    status.life.clear();
    status
}

/// Returns a unit's open ports, each once.
fn ports(unit: &Unit) -> Vec<String> {
    let mut ports: Vec<String> = unit.ports.iter().map(|(port, _)| port.clone()).collect();
    ports.dedup();
    ports
}

fn unit(model: &Model, unit: &Unit) -> UnitReport {
    let (workload_status, juju_status) = shown(model, unit);
    UnitReport {
        workload_status,
        juju_status,
        leader: model.is_leader(&unit.name),
        machine: unit.machine.to_string(),
        open_ports: ports(unit),
        public_address: model.shown_address(unit),
    }
}

fn storage(model: &Model, paths: &Paths) -> StorageReport {
    let mut report = StorageReport::default();
    for one in model.storage.values() {
        let attachment = one.attachment.as_ref();
        let unit = attachment.and_then(|at| model.units.get(&at.unit));
        let dying = attachment.is_some_and(|at| at.life != Life::Alive)
            || unit.is_some_and(|unit| unit.life != Life::Alive);
        let seen = unit.is_some_and(|unit| unit.local.storage.contains(&one.id));
        let word = match (attachment, dying, seen) {
            (None, _, _) => "detached",
            (Some(_), true, _) => "detaching",
            (Some(_), false, true) => "attached",
            (Some(_), false, false) => "pending",
        };
        let attachments = attachment.zip(unit).map(|(at, unit)| AttachmentsReport {
            units: IndexMap::from([(
                at.unit.clone(),
                AttachmentReport {
                    machine: unit.machine.to_string(),
                    location: super::pods::storage_location(model, paths, one)
                        .display()
                        .to_string(),
                    life: if dying {
                        "dying".to_owned()
                    } else {
                        String::new()
                    },
                },
            )]),
        });
        report.storage.insert(
            one.id.clone(),
            StorageInstanceReport {
                kind: one.kind.clone(),
                life: one.life.word(),
                status: StatusText {
                    current: word.to_owned(),
                    since: since(one.since),
                    ..StatusText::default()
                },
                persistent: true,
                attachments,
            },
        );
    }
    report
}

/// Shows a unit with its databags.
///
/// # Errors
///
/// When there is no such unit.
pub fn show_unit(model: &Model, name: &str) -> Result<Value, String> {
    let (unit, app) = model
        .unit(name)
        .ok_or_else(|| format!("unit {name:?} not found"))?;
    let mut shown = JsonMap::new();
    if !app.version.is_empty() {
        shown.insert("workload-version".to_owned(), json!(app.version));
    }
    let address = model.shown_address(unit);
    shown.insert("machine".to_owned(), json!(unit.machine.to_string()));
    shown.insert("opened-ports".to_owned(), json!(ports(unit)));
    shown.insert("public-address".to_owned(), json!(address));
    shown.insert(
        "charm".to_owned(),
        json!(format!(
            "local:{}-{}",
            app.charm.metadata.name, app.revision
        )),
    );
    shown.insert("leader".to_owned(), json!(model.is_leader(name)));
    if unit.life != Life::Alive {
        shown.insert("life".to_owned(), json!(unit.life.word()));
    }
    let mut relations = Vec::new();
    for relation in model.relations.values() {
        let (Some(own), Some(other)) = (
            relation.own(&unit.application),
            relation.other(&unit.application),
        ) else {
            continue;
        };
        let values = |unit: &str| {
            let bag = relation
                .units
                .get(unit)
                .map(|bag| bag.values.clone())
                .unwrap_or_default();
            json!({ "in-scope": relation.scope.contains(unit), "data": bag })
        };
        let related: JsonMap<String, Value> = model
            .units_of(&other.application)
            .into_iter()
            .filter(|one| one.name != name && relation.scope.contains(&one.name))
            .map(|one| (one.name.clone(), values(&one.name)))
            .collect();
        let data = relation
            .applications
            .get(&other.application)
            .map(|bag| bag.values.clone());
        let mut info = json!({
            "relation-id": relation.id,
            "endpoint": own.name,
            "related-endpoint": other.name,
            "application-data": data.unwrap_or_default(),
            "local-unit": values(name),
        });
        if !related.is_empty() {
            info["related-units"] = Value::Object(related);
        }
        relations.push(info);
    }
    if !relations.is_empty() {
        shown.insert("relation-info".to_owned(), json!(relations));
    }
    shown.insert("address".to_owned(), json!(address));
    Ok(json!({ name: shown }))
}
