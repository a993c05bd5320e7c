//! Storage that people attach, detach and remove.

use jiff::Timestamp;

use crate::api::Response;

use super::model::{Attachment, Life, Model};
use super::removal;
use super::state::{Engine, State};

/// Makes the directories of all attached storage.
///
/// # Errors
///
/// When one cannot be made.
pub fn make_storage(engine: &Engine, model: &Model) -> Result<(), String> {
    for storage in model
        .storage
        .values()
        .filter(|storage| storage.attachment.is_some())
    {
        let path = engine.paths.storage(&storage.id);
        std::fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Attaches detached storage to a unit.
///
/// # Errors
///
/// When an instance does not exist, is in use, or does not fit the charm.
pub fn attach(model: &mut Model, unit: &str, ids: &[String]) -> Result<(), String> {
    let (found, app) = model
        .unit(unit)
        .ok_or_else(|| format!("unit {unit:?} not found"))?;
    if found.life != Life::Alive {
        return Err(format!(
            "cannot attach storage to unit {unit:?}: it is being removed"
        ));
    }
    for id in ids {
        let storage = model
            .storage
            .get(id)
            .ok_or_else(|| format!("storage {id:?} not found"))?;
        if let Some(attachment) = &storage.attachment {
            return Err(format!(
                "cannot attach storage {id:?} to {unit:?}: it is attached to {:?}",
                attachment.unit
            ));
        }
        let spec = app.charm.metadata.storage.get(&storage.name);
        let Some(spec) = spec else {
            return Err(format!(
                "charm {:?} has no store called {:?}",
                app.charm.metadata.name, storage.name
            ));
        };
        let present = model.storage.values().filter(|other| {
            other.name == storage.name
                && other.attachment.as_ref().is_some_and(|at| at.unit == unit)
        });
        let present = u32::try_from(present.count()).unwrap_or(u32::MAX);
        if spec.count_max.is_some_and(|most| present >= most) {
            return Err(format!(
                "cannot attach storage {id:?} to {unit:?}: it has as many {:?} as its charm takes",
                storage.name
            ));
        }
    }
    for id in ids {
        if let Some(storage) = model.storage.get_mut(id) {
            storage.attachment = Some(Attachment {
                unit: unit.to_owned(),
                life: Life::Alive,
            });
            storage.since = Timestamp::now();
        }
    }
    Ok(())
}

/// Begins to detach storage.
///
/// # Errors
///
/// When an instance does not exist or is not attached.
pub fn detach(model: &mut Model, ids: &[String]) -> Result<Response, String> {
    for id in ids {
        let storage = model
            .storage
            .get(id)
            .ok_or_else(|| format!("storage {id:?} not found"))?;
        if storage.attachment.is_none() {
            return Err(format!("storage {id:?} is not attached"));
        }
    }
    for id in ids {
        if let Some(at) = model
            .storage
            .get_mut(id)
            .and_then(|storage| storage.attachment.as_mut())
        {
            at.life = Life::Dying;
        }
    }
    Ok(Response::Done)
}

/// Removes storage with its data.
///
/// # Errors
///
/// When an instance does not exist, or is attached and `force` is not given.
pub fn remove_storage(
    engine: &Engine,
    state: &mut State,
    ids: &[String],
    force: bool,
) -> Result<Response, String> {
    for id in ids {
        let storage = state.model.storage.get(id);
        let storage = storage.ok_or_else(|| format!("storage {id:?} not found"))?;
        if storage.attachment.is_some() && !force {
            return Err(format!(
                "storage {id:?} is attached; detach it first or use --force"
            ));
        }
    }
    for id in ids {
        match state.model.storage.get_mut(id) {
            Some(storage) if storage.attachment.is_some() => {
                storage.life = Life::Dying;
                if let Some(attachment) = storage.attachment.as_mut() {
                    attachment.life = Life::Dying;
                }
            }
            _ => removal::delete_storage(engine, state, id),
        }
    }
    Ok(Response::Done)
}
