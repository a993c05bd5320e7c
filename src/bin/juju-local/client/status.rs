//! `status`: the tables that people read, and the documents that programs read.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;

use super::arguments::{Status, StatusFormat};
use super::connect::Model;
use super::output::{self, Document};
use super::table::{Cell, Style, Table, colours, cut, natural, plain, status as word, styled};
use super::{Done, storage};
use crate::api::{Request, Response};
use crate::report::{ApplicationReport, StatusReport, StatusText, UnitReport};

/// Longest version that is shown whole.
const VERSION_MAX: usize = 15;

/// Longest message that is shown whole.
const MESSAGE_MAX: usize = 120;

/// Clears the terminal and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Asks the engine for the status.
///
/// # Errors
///
/// When it cannot be asked.
pub fn fetch(model: &Model) -> Result<StatusReport> {
    match model.ask(&Request::Status)? {
        Response::Status(report) => Ok(*report),
        other => anyhow::bail!("cannot understand the engine's answer: {other:?}"),
    }
}

/// Prints the status, again and again with `--watch`.
///
/// # Errors
///
/// When the engine cannot be asked.
pub fn status(model: &Model, given: &Status) -> Done {
    loop {
        let report = if model.exists() {
            fetch(model)?
        } else {
            nothing(model)
        };
        let report = only(report, &given.only);
        let text = match given.format {
            StatusFormat::Tabular => tabular(&report, given),
            StatusFormat::Short => short(&report),
            StatusFormat::Json | StatusFormat::Yaml => String::new(),
        };
        let clear = given.watch.is_some() && std::io::stdout().is_terminal();
        output::print(&format!("{}{text}", if clear { CLEAR } else { "" }))?;
        match given.format {
            StatusFormat::Json => output::document(&report, Document::Json)?,
            StatusFormat::Yaml => output::document(&report, Document::Yaml)?,
            StatusFormat::Tabular if report.applications.is_empty() && given.only.is_empty() => {
                let name = &report.model.name;
                output::note(&format!(
                    "Model {name:?} is empty; `juju-local deploy PATH` deploys a charm."
                ));
            }
            StatusFormat::Tabular | StatusFormat::Short => {}
        }
        let Some(pause) = given.watch else {
            return Ok(ExitCode::SUCCESS);
        };
        std::thread::sleep(pause);
    }
}

/// Returns the status of a model that was never begun.
fn nothing(model: &Model) -> StatusReport {
    let mut report = StatusReport::default();
    let name = model.state().file_name().unwrap_or_default();
    report.model.name = name.to_string_lossy().into_owned();
    "iaas".clone_into(&mut report.model.kind);
    "local".clone_into(&mut report.model.controller);
    "local".clone_into(&mut report.model.cloud);
    report.model.region = Some("localhost".to_owned());
    report
}

/// Keeps only what is asked for: applications and units by name, units by status word.
fn only(mut report: StatusReport, wanted: &[String]) -> StatusReport {
    if wanted.is_empty() {
        return report;
    }
    let is_wanted = |text: &str| wanted.iter().any(|wanted| wanted == text);
    report.applications.retain(|name, application| {
        if !is_wanted(name) {
            application.units.retain(|unit, report| {
                is_wanted(unit)
                    || is_wanted(&report.workload_status.current)
                    || is_wanted(&report.juju_status.current)
            });
        }
        is_wanted(name) || !application.units.is_empty()
    });
    let used = |machine: &String| {
        let mut units = report
            .applications
            .values()
            .flat_map(|application| application.units.values());
        units.any(|unit| unit.machine == *machine)
    };
    report.machines.retain(|machine, _| used(machine));
    let is_shown = |unit: &String| {
        let mut applications = report.applications.values();
        applications.any(|application| application.units.contains_key(unit))
    };
    report.storage.storage.retain(|_, storage| {
        let units = storage
            .attachments
            .as_ref()
            .map(|attachments| &attachments.units);
        units.is_some_and(|units| units.keys().any(is_shown))
    });
    report
}

/// Formats the status as tables.
fn tabular(report: &StatusReport, given: &Status) -> String {
    let colour = colours(given.color, given.no_color);
    let mut sections = vec![
        model(report),
        applications(report),
        units(report),
        machines(report),
    ];
    if given.storage {
        sections.push(storage::table(report, "Storage Unit"));
    }
    if given.relations {
        sections.push(relations(report));
    }
    let sections = sections
        .iter()
        .filter(|table| !table.is_empty())
        .map(|table| table.render(colour));
    sections.collect::<Vec<_>>().join("\n")
}

fn model(report: &StatusReport) -> Table {
    let mut table = Table::new(&[
        "Model",
        "Controller",
        "Cloud/Region",
        "Version",
        "Timestamp",
    ]);
    let region = report
        .model
        .region
        .as_ref()
        .map(|region| format!("/{region}"))
        .unwrap_or_default();
    table.row(vec![
        plain(&report.model.name),
        plain(&report.model.controller),
        plain(format!("{}{region}", report.model.cloud)),
        plain(&report.model.version),
        plain(&report.controller.timestamp),
    ]);
    table
}

fn applications(report: &StatusReport) -> Table {
    let headers = [
        "App", "Version", "Status", ">Scale", "Charm", "Channel", ">Rev", "Exposed", "Message",
    ];
    let mut table = Table::new(&headers);
    for (name, application) in sorted(report.applications.iter()) {
        table.row(vec![
            plain(name),
            plain(cut(&application.version, VERSION_MAX)),
            word(&application.application_status.current),
            scale(application),
            plain(&application.charm_name),
            plain(""),
            plain(application.charm_rev.to_string()),
            plain(if application.exposed { "yes" } else { "no" }),
            message(&application.application_status.message),
        ]);
    }
    table
}

/// Returns the number of units that are there, and of how many if some are not.
fn scale(application: &ApplicationReport) -> Cell {
    let there = |unit: &&UnitReport| {
        matches!(unit.juju_status.current.as_str(), "idle" | "executing")
            && unit.workload_status.current != "terminated"
    };
    let (there, all) = (
        application.units.values().filter(there).count(),
        application.units.len(),
    );
    if there == all {
        plain(all.to_string())
    } else {
        styled(format!("{there}/{all}"), Style::Warning)
    }
}

fn units(report: &StatusReport) -> Table {
    let mut table = Table::new(&[
        "Unit",
        "Workload",
        "Agent",
        "Machine",
        "Public address",
        "Ports",
        "Message",
    ]);
    for (name, unit) in sorted(
        report
            .applications
            .values()
            .flat_map(|application| application.units.iter()),
    ) {
        table.row(vec![
            plain(if unit.leader {
                format!("{name}*")
            } else {
                name.clone()
            }),
            word(&unit.workload_status.current),
            word(&unit.juju_status.current),
            plain(&unit.machine),
            styled(&unit.public_address, Style::Address),
            styled(ports(&unit.open_ports), Style::Ports),
            message(&unit_message(unit)),
        ]);
    }
    table
}

fn machines(report: &StatusReport) -> Table {
    let mut table = Table::new(&[
        "Machine", "State", "Address", "Inst id", "Base", "AZ", "Message",
    ]);
    for (id, machine) in sorted(report.machines.iter()) {
        table.row(vec![
            plain(id),
            word(&machine.juju_status.current),
            styled(&machine.dns_name, Style::Address),
            plain(&machine.instance_id),
            plain(format!("{}@{}", machine.base.name, machine.base.channel)),
            plain(""),
            message(&machine.machine_status.message),
        ]);
    }
    table
}

/// Lists relations, each once. The report does not say which end provides; ends stand in the order of their names.
fn relations(report: &StatusReport) -> Table {
    let mut table = Table::new(&[
        "Integration provider",
        "Requirer",
        "Interface",
        "Type",
        "Message",
    ]);
    for (name, application) in sorted(report.applications.iter()) {
        for (endpoint, others) in &application.relations {
            for other in others {
                let own = format!("{name}:{endpoint}");
                if other.related_application == *name {
                    table.row(vec![
                        plain(&own),
                        plain(&own),
                        plain(&other.interface),
                        plain("peer"),
                        plain(""),
                    ]);
                    continue;
                }
                let far = report
                    .applications
                    .get(&other.related_application)
                    .and_then(|far| {
                        let back = |(_, ends): &(&String, &Vec<crate::report::RelatedReport>)| {
                            ends.iter().any(|end| {
                                end.related_application == *name && end.interface == other.interface
                            })
                        };
                        far.relations
                            .iter()
                            .find(back)
                            .map(|(endpoint, _)| endpoint.clone())
                    });
                if natural(name, &other.related_application).is_lt() {
                    let far = format!("{}:{}", other.related_application, far.unwrap_or_default());
                    table.row(vec![
                        plain(own),
                        plain(far),
                        plain(&other.interface),
                        plain("regular"),
                        plain(""),
                    ]);
                }
            }
        }
    }
    table
}

/// Formats one line per unit.
fn short(report: &StatusReport) -> String {
    let mut text = String::new();
    for (name, unit) in sorted(
        report
            .applications
            .values()
            .flat_map(|application| application.units.iter()),
    ) {
        let ports = ports(&unit.open_ports);
        let (agent, workload) = (&unit.juju_status.current, &unit.workload_status.current);
        let line = format!(
            "- {name}: {} (agent:{agent}, workload:{workload}) {ports}",
            unit.public_address
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn message(text: &str) -> Cell {
    styled(cut(text, MESSAGE_MAX), Style::Message)
}

/// Returns what to show beside a unit: the charm's message, after what the agent is at.
#[must_use]
pub fn unit_message(unit: &UnitReport) -> String {
    let said = &unit.workload_status.message;
    match doing(&unit.juju_status) {
        Some(doing) if said.is_empty() => format!("({doing})"),
        Some(doing) => format!("({doing}) {said}"),
        None if said.is_empty() && unit.juju_status.current == "allocating" => {
            unit.juju_status.message.clone()
        }
        None => said.clone(),
    }
}

/// Takes the hook or action out of the agent's message `running X hook …` or `running action X`.
fn doing(agent: &StatusText) -> Option<&str> {
    if agent.current != "executing" {
        return None;
    }
    let running = agent.message.strip_prefix("running ")?;
    if let Some(action) = running.strip_prefix("action ") {
        return Some(action);
    }
    running.split_once(" hook").map(|(hook, _)| hook)
}

/// Formats open ports: neighbours as a range, one list per protocol.
fn ports(open: &[String]) -> String {
    let mut lists: Vec<(&str, Vec<(u32, u32)>)> = Vec::new();
    let mut other: Vec<&str> = Vec::new();
    for port in open {
        let parsed = port.split_once('/').and_then(|(numbers, protocol)| {
            let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
            Some((first.parse().ok()?, last.parse().ok()?, protocol))
        });
        let Some((first, last, protocol)) = parsed else {
            other.push(port);
            continue;
        };
        match lists.iter_mut().find(|(known, _)| *known == protocol) {
            Some((_, ranges)) => ranges.push((first, last)),
            None => lists.push((protocol, vec![(first, last)])),
        }
    }
    lists.sort_unstable();
    let mut texts: Vec<String> = Vec::new();
    for (protocol, mut ranges) in lists {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        let show = |(first, last): &(u32, u32)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        };
        texts.push(format!(
            "{}/{protocol}",
            merged.iter().map(show).collect::<Vec<_>>().join(",")
        ));
    }
    texts.extend(other.into_iter().map(str::to_owned));
    texts.join(" ")
}

/// Sorts named things by name, numbers as numbers.
fn sorted<'a, T>(named: impl Iterator<Item = (&'a String, &'a T)>) -> Vec<(&'a String, &'a T)> {
    let mut named: Vec<_> = named.collect();
    named.sort_by(|(left, _), (right, _)| natural(left, right));
    named
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
