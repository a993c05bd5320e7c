//! Applies what a run wanted changed, all of it or nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::limits::{DATABAG_MAX, STATE_TOTAL_MAX, STORAGE_INSTANCES_MAX};

use super::context::Context;
use super::model::{Attachment, Life, Map, Model, Storage};
use super::paths::Paths;
use super::secrets::{Change, Secret};

/// Applies the changes of a run to the model.
///
/// # Errors
///
/// With the controller's text, when one of them is refused; then none is applied.
pub fn apply(model: &mut Model, context: &Context, paths: &Paths) -> Result<(), String> {
    let mut next = model.clone();
    let mut contents = Vec::new();
    databags(&mut next, context)?;
    ports(&mut next, context)?;
    charm_state(&mut next, context)?;
    storage(&mut next, context)?;
    for change in &context.secrets {
        secret(&mut next, context, change, &mut contents)?;
    }
    for (id, revision, content) in contents {
        paths
            .store_secret(&id, revision, &content)
            .map_err(|error| format!("{error:#}"))?;
    }
    *model = next;
    Ok(())
}

fn databags(model: &mut Model, context: &Context) -> Result<(), String> {
    let application = model
        .units
        .get(&context.unit)
        .map(|unit| unit.application.clone());
    let Some(application) = application else {
        return Err(format!("unit {:?} not found", context.unit));
    };
    if context
        .own_application
        .values()
        .any(|own| !own.changes.is_empty())
        && !model.is_leader(&context.unit)
    {
        return Err(format!(
            "cannot write relation settings: {:?} is not leader of {application:?}",
            context.unit
        ));
    }
    let units = context
        .own_unit
        .iter()
        .map(|entry| (entry, context.unit.clone(), true));
    let bags = units.chain(
        context
            .own_application
            .iter()
            .map(|entry| (entry, application.clone(), false)),
    );
    for ((id, own), owner, is_unit) in bags {
        if own.changes.is_empty() {
            continue;
        }
        let relation = model
            .relations
            .get_mut(id)
            .ok_or_else(|| format!("relation {id} not found"))?;
        let bags = if is_unit {
            &mut relation.units
        } else {
            &mut relation.applications
        };
        let bag = bags.entry(owner).or_default();
        bag.apply(&own.changes);
        if bag.size() > DATABAG_MAX {
            return Err(format!(
                "relation settings of {id} exceed {DATABAG_MAX} bytes"
            ));
        }
    }
    Ok(())
}

fn ports(model: &mut Model, context: &Context) -> Result<(), String> {
    let unit = model.units.get_mut(&context.unit).ok_or("unit not found")?;
    for (port, endpoint, open) in &context.ports {
        let key = (port.clone(), endpoint.clone());
        if *open {
            unit.ports.insert(key);
        } else if endpoint.is_empty() {
            unit.ports.retain(|(other, _)| other != port);
        } else {
            unit.ports.remove(&key);
        }
    }
    Ok(())
}

fn charm_state(model: &mut Model, context: &Context) -> Result<(), String> {
    let Some((state, true)) = &context.state else {
        return Ok(());
    };
    let size: usize = state
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if !model.variant.is_four() && size > STATE_TOTAL_MAX {
        return Err(format!(
            "max allowed size of charm state ({STATE_TOTAL_MAX}) exceeded: {size}"
        ));
    }
    let unit = model.units.get_mut(&context.unit).ok_or("unit not found")?;
    state.clone_into(&mut unit.charm_state);
    Ok(())
}

fn storage(model: &mut Model, context: &Context) -> Result<(), String> {
    let dying = model
        .units
        .get(&context.unit)
        .is_none_or(|unit| unit.life != Life::Alive);
    if dying && model.variant.is_four() {
        return Ok(());
    }
    for (name, count) in &context.storage {
        add_storage(model, &context.unit, name, *count)?;
    }
    Ok(())
}

/// Makes storage instances for a unit and attaches them; returns their ids.
///
/// # Errors
///
/// When the charm does not declare it, or the unit would have too many.
pub fn add_storage(
    model: &mut Model,
    unit: &str,
    name: &str,
    count: u32,
) -> Result<Vec<String>, String> {
    let (found, application) = model
        .unit(unit)
        .ok_or_else(|| format!("unit {unit:?} not found"))?;
    let spec = application
        .charm
        .metadata
        .storage
        .get(name)
        .ok_or_else(|| {
            format!(
                "charm {:?} has no store called {name:?}",
                application.charm.metadata.name
            )
        })?;
    let present = model.storage.values().filter(|storage| {
        storage.name == name
            && storage
                .attachment
                .as_ref()
                .is_some_and(|at| at.unit == unit)
    });
    let present = u32::try_from(present.count()).unwrap_or(u32::MAX);
    if spec
        .count_max
        .is_some_and(|most| present.saturating_add(count) > most)
    {
        return Err(format!(
            "cannot add storage {name:?} to {unit:?}: charm {:?} store {name:?}: at most {} instances supported, {} specified",
            application.charm.metadata.name,
            spec.count_max.unwrap_or_default(),
            present.saturating_add(count)
        ));
    }
    if present.saturating_add(count) > STORAGE_INSTANCES_MAX {
        return Err(format!(
            "cannot add {count} instances of storage {name:?} to {unit:?}: it may have {STORAGE_INSTANCES_MAX}"
        ));
    }
    let kind = match spec.kind {
        crate::charm::StorageKind::Filesystem => "filesystem",
        crate::charm::StorageKind::Block => "block",
    };
    let application = found.application.clone();
    let mut made = Vec::new();
    for _ in 0..count {
        let id = format!("{name}/{}", model.next_storage);
        model.next_storage += 1;
        model.storage.insert(
            id.clone(),
            Storage {
                id: id.clone(),
                name: name.to_owned(),
                kind: kind.to_owned(),
                life: Life::Alive,
                attachment: Some(Attachment {
                    unit: unit.to_owned(),
                    life: Life::Alive,
                }),
                since: Timestamp::now(),
                application: application.clone(),
                made_for: unit.to_owned(),
            },
        );
        made.push(id);
    }
    Ok(made)
}

fn secret(
    model: &mut Model,
    context: &Context,
    change: &Change,
    contents: &mut Vec<(String, u64, Map)>,
) -> Result<(), String> {
    let leads = model.is_leader(&context.unit);
    match change {
        Change::Add { id, owner, fields } => {
            let mut secret = Secret::new(id, owner.clone());
            if !secret.is_managed_by(&context.unit, leads) {
                return Err("permission denied".to_owned());
            }
            secret.label = fields.label.clone().unwrap_or_default();
            let taken = |other: &Secret| other.owner == *owner && other.label == secret.label;
            if !secret.label.is_empty() && model.secrets.values().any(taken) {
                return Err(format!(
                    "secret with label {:?} already exists",
                    secret.label
                ));
            }
            contents.extend(
                secret
                    .set(fields)
                    .map(|(revision, map)| (id.clone(), revision, map)),
            );
            model.secrets.insert(id.clone(), secret);
        }
        Change::Set { id, fields } => {
            let secret = managed(&mut model.secrets, id, &context.unit, leads)?;
            contents.extend(
                secret
                    .set(fields)
                    .map(|(revision, map)| (id.clone(), revision, map)),
            );
        }
        Change::Grant {
            id,
            target,
            relation,
        } => {
            let secret = managed(&mut model.secrets, id, &context.unit, leads)?;
            secret.grants.insert(target.clone(), *relation);
        }
        Change::Revoke { id, target } => {
            let secret = managed(&mut model.secrets, id, &context.unit, leads)?;
            secret.grants.remove(target);
        }
        Change::Remove { id, revision } => {
            let secret = managed(&mut model.secrets, id, &context.unit, leads)?;
            if let Some(revision) = revision {
                secret.revisions.remove(revision);
            }
            if revision.is_none() || secret.revisions.is_empty() {
                model.secrets.remove(id);
            }
        }
        Change::Follow {
            id,
            label,
            revision,
        } => {
            let Some(secret) = model.secrets.get_mut(id) else {
                return Ok(());
            };
            let consumer = secret.consumers.entry(context.unit.clone()).or_default();
            if let Some(label) = label {
                label.clone_into(&mut consumer.label);
            }
            if let Some(revision) = revision {
                consumer.revision = *revision;
            }
        }
    }
    Ok(())
}

fn managed<'a>(
    secrets: &'a mut BTreeMap<String, Secret>,
    id: &str,
    unit: &str,
    leads: bool,
) -> Result<&'a mut Secret, String> {
    let secret = secrets
        .get_mut(id)
        .ok_or_else(|| format!("secret {id:?} not found"))?;
    if secret.is_managed_by(unit, leads) {
        Ok(secret)
    } else {
        Err("permission denied".to_owned())
    }
}
