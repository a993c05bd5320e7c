//! Hook tools about storage, resources and the charm's own state.

use serde_json::{Value, json};

use crate::limits::{STATE_KEY_MAX, STATE_VALUE_MAX};

use super::super::model::{Map, Storage};
use super::{Call, Fault, failed, parse, usage};

/// Returns the storage that is attached to the calling unit.
fn attached<'a>(call: &'a Call<'_>) -> Vec<&'a Storage> {
    let unit = &call.context.unit;
    let storage = call.model().storage.values();
    storage
        .filter(|one| one.attachment.as_ref().is_some_and(|at| at.unit == *unit))
        .collect()
}

/// `storage-list`
pub fn storage_list(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    let name = flags.at(0);
    let ids: Vec<_> = attached(call)
        .into_iter()
        .filter(|storage| name.is_none_or(|name| storage.name == name))
        .map(|storage| storage.id.clone())
        .collect();
    call.print(&flags, &json!(ids), "smart")
}

/// `storage-get`
pub fn storage_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o", "storage s"])?;
    let id = match flags.value("storage") {
        Some(id) => {
            let valid = id.split_once('/').is_some_and(|(name, number)| {
                crate::charm::names::is_application(name) && number.parse::<u64>().is_ok()
            });
            if !valid {
                return usage(format!(
                    "invalid value {id:?} for flag -s: invalid storage ID {id:?}"
                ));
            }
            id.to_owned()
        }
        None => match call
            .context
            .hook
            .as_ref()
            .and_then(|hook| hook.storage.clone())
        {
            Some(id) => id,
            None => return usage("no storage instance specified"),
        },
    };
    let found = attached(call).into_iter().find(|storage| storage.id == id);
    let Some(storage) = found else {
        return usage(format!(
            "invalid value {id:?} for flag -s: storage not found"
        ));
    };
    let location = super::super::pods::storage_location(call.model(), &call.engine.paths, storage);
    let location = location.display().to_string();
    let value = match flags.at(0) {
        None => json!({ "kind": storage.kind, "location": location }),
        Some("kind") => json!(storage.kind),
        Some("location") => json!(location),
        Some(other) => return usage(format!("invalid storage attribute {other:?}")),
    };
    call.print(&flags, &value, "smart")
}

/// `storage-add`
pub fn storage_add(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    if flags.rest.is_empty() {
        return usage("storage add requires a storage directive");
    }
    let mut wanted = Vec::new();
    for directive in &flags.rest {
        let (name, count) = directive.split_once('=').unwrap_or((directive, "1"));
        match count.parse::<u32>() {
            Ok(count) if count > 0 => wanted.push((name.to_owned(), count)),
            _ => return usage(format!("only count can be specified for {name:?}")),
        }
    }
    call.context.storage.extend(wanted);
    Ok(String::new())
}

/// `resource-get`: the file is copied anew into the unit's directory.
pub fn resource_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    let Some(name) = flags.at(0) else {
        return usage("missing required resource name");
    };
    let (_, application) = call.unit()?;
    let refused = |why: String| Fault::Failed(format!("could not download resource: {why}"));
    let declared = application.charm.metadata.resources.get(name);
    let declared = declared.ok_or_else(|| refused(format!("resource {name:?} not found")))?;
    let from = application.resources.get(name);
    let from = from.ok_or_else(|| refused(format!("resource {name:?} has no file")))?;
    let folder = call
        .engine
        .paths
        .agent(&call.context.unit)
        .join("resources")
        .join(name);
    let to = folder.join(&declared.filename);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(from, &to))
        .map_err(|error| refused(error.to_string()))?;
    Ok(to.display().to_string())
}

/// Returns the charm's state, read at its first use in a run.
fn state<'a>(call: &'a mut Call<'_>) -> Result<&'a mut (Map, bool), Fault> {
    let saved = call.unit()?.0.charm_state.clone();
    Ok(call.context.state.get_or_insert((saved, false)))
}

/// `state-get`
pub fn state_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["strict"], &["format", "output o"])?;
    let four = call.model().variant.is_four();
    let (values, _) = state(call)?;
    let value = match flags.at(0).filter(|key| *key != "-") {
        None if values.is_empty() && four => Value::Null,
        None => json!(values),
        Some(key) => match values.get(key) {
            Some(value) => json!(value),
            None if flags.is_set("strict") => return failed(format!("{key:?} not found")),
            None => json!(""),
        },
    };
    call.print(&flags, &value, "smart")
}

/// `state-set`
pub fn state_set(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["file"])?;
    let changes = call.settings(&flags)?;
    for (key, value) in &changes {
        if key.len() > STATE_KEY_MAX {
            return failed(format!(
                "max allowed key length ({STATE_KEY_MAX}): {} exceeded",
                key.len()
            ));
        }
        if value.len() > STATE_VALUE_MAX {
            return failed(format!(
                "max allowed value length ({STATE_VALUE_MAX}): {} exceeded",
                value.len()
            ));
        }
    }
    let (values, dirty) = state(call)?;
    for (key, value) in changes {
        if values.get(&key) != Some(&value) {
            values.insert(key, value);
            *dirty = true;
        }
    }
    Ok(String::new())
}

/// `state-delete`
pub fn state_delete(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    let Some(key) = flags.at(0) else {
        return usage("no key specified");
    };
    let (values, changed) = state(call)?;
    *changed |= values.remove(key).is_some();
    Ok(String::new())
}
