//! Storage: the table, adding, attaching, detaching and removing.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Done;
use super::connect::{Model, unexpected};
use super::output::{self, Format, as_document};
use super::table::{Table, colours, natural, plain, status};
use crate::api::{Request, Response};
use crate::report::StatusReport;

/// Makes the table of all storage; `first` is the header of its first column.
#[must_use]
pub fn table(report: &StatusReport, first: &str) -> Table {
    let mut table = Table::new(&[
        first,
        "Storage ID",
        "Type",
        "Mountpoint",
        "Status",
        "Message",
    ]);
    let mut rows = Vec::new();
    for (id, storage) in &report.storage.storage {
        let units = storage
            .attachments
            .as_ref()
            .map(|attachments| &attachments.units);
        let mut attached = units
            .into_iter()
            .flatten()
            .map(|(unit, attachment)| (unit.clone(), attachment.location.clone()));
        let first = attached.next().unwrap_or_default();
        for (unit, location) in std::iter::once(first).chain(attached) {
            rows.push((unit, id, location, storage));
        }
    }
    rows.sort_by(|left, right| natural(&left.0, &right.0).then_with(|| natural(left.1, right.1)));
    for (unit, id, location, storage) in rows {
        let word = &storage.status.current;
        table.row(vec![
            plain(unit),
            plain(id),
            plain(&storage.kind),
            plain(location),
            status(word),
            plain(&storage.status.message),
        ]);
    }
    table
}

/// Lists storage.
///
/// # Errors
///
/// When the engine cannot be asked.
pub fn list(model: &Model, format: Format) -> Done {
    let Response::Status(report) = model.ask(&Request::Storage)? else {
        return unexpected();
    };
    match as_document(format) {
        Some(form) => output::document(&json!({"storage": report.storage.storage}), form)?,
        None if report.storage.is_empty() => output::note("No storage to display."),
        None => output::print(&table(&report, "Unit").render(colours(false, false)))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds storage to a unit; `given` is `NAME` or `NAME=COUNT`.
///
/// # Errors
///
/// When the count is no number, or the engine refuses.
pub fn add(model: &Model, unit: &str, given: &str) -> Done {
    let (name, count) = given.split_once('=').unwrap_or((given, "1"));
    let count = count
        .parse()
        .with_context(|| format!("cannot add {count:?} instances of storage {name:?}"))?;
    let request = Request::AddStorage {
        unit: unit.to_owned(),
        name: name.to_owned(),
        count,
    };
    let Response::Names(ids) = model.ask(&request)? else {
        return unexpected();
    };
    for id in ids {
        output::note(&format!("added storage {id} to {unit}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Attaches storage.
///
/// # Errors
///
/// When the engine refuses.
pub fn attach(model: &Model, unit: String, storage: &[String]) -> Done {
    each(
        storage,
        "attaching",
        model.order(&Request::AttachStorage {
            unit,
            storage: storage.to_vec(),
        }),
    )
}

/// Detaches storage.
///
/// # Errors
///
/// When the engine refuses.
pub fn detach(model: &Model, storage: &[String]) -> Done {
    each(
        storage,
        "detaching",
        model.order(&Request::DetachStorage {
            storage: storage.to_vec(),
        }),
    )
}

/// Removes storage with its data.
///
/// # Errors
///
/// When the engine refuses.
pub fn remove(model: &Model, storage: &[String], force: bool) -> Done {
    each(
        storage,
        "removing",
        model.order(&Request::RemoveStorage {
            storage: storage.to_vec(),
            force,
        }),
    )
}

fn each(storage: &[String], what: &str, outcome: Result<()>) -> Done {
    outcome?;
    for id in storage {
        output::note(&format!("{what} {id}"));
    }
    Ok(ExitCode::SUCCESS)
}
