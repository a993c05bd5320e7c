//! Secrets of the person who works with the model.

use std::collections::BTreeMap;

use crate::api::{Request, Response, SecretReport};

use super::find;
use super::secrets::{Fields, Owner, Secret};
use super::state::{Engine, State};
use super::status::since;
use super::tools::{is_secret_key, new_secret_id};

/// Answers a request about secrets.
///
/// # Errors
///
/// With a text for the person.
pub fn secret(engine: &Engine, state: &mut State, request: Request) -> Result<Response, String> {
    match request {
        Request::AddSecret {
            name,
            content,
            description,
        } => {
            check(&content)?;
            if content.is_empty() {
                return Err("missing secret value or filename".to_owned());
            }
            let taken = |secret: &&Secret| secret.owner == Owner::Person && secret.label == name;
            if state.model.secrets.values().any(|secret| taken(&secret)) {
                return Err(format!("secret with name {name:?} already exists"));
            }
            let id = new_secret_id();
            let mut secret = Secret::new(&id, Owner::Person);
            let fields = Fields {
                label: Some(name),
                description,
                content: Some(content),
                ..Fields::default()
            };
            store(engine, &mut secret, &fields)?;
            state.model.secrets.insert(id.clone(), secret);
            Ok(Response::Names(vec![format!("secret:{id}")]))
        }
        Request::UpdateSecret {
            secret,
            content,
            description,
        } => {
            check(&content)?;
            let id = own(state, &secret)?;
            let content = (!content.is_empty()).then_some(content);
            let fields = Fields {
                description,
                content,
                ..Fields::default()
            };
            if let Some(secret) = state.model.secrets.get_mut(&id) {
                store(engine, secret, &fields)?;
            }
            Ok(Response::Done)
        }
        Request::GrantSecret {
            secret,
            applications,
        } => {
            let id = own(state, &secret)?;
            for application in &applications {
                find::application(&state.model, application)?;
            }
            if let Some(secret) = state.model.secrets.get_mut(&id) {
                secret
                    .grants
                    .extend(applications.into_iter().map(|name| (name, None)));
            }
            Ok(Response::Done)
        }
        Request::RevokeSecret {
            secret,
            applications,
        } => {
            let id = own(state, &secret)?;
            if let Some(secret) = state.model.secrets.get_mut(&id) {
                secret
                    .grants
                    .retain(|target, _| !applications.contains(target));
            }
            Ok(Response::Done)
        }
        Request::RemoveSecret { secret } => {
            let id = own(state, &secret)?;
            state.model.secrets.remove(&id);
            let _ = std::fs::remove_dir_all(engine.paths.root.join("secrets").join(&id));
            Ok(Response::Done)
        }
        Request::Secrets => {
            let all = state.model.secrets.values().map(report).collect();
            Ok(Response::Secrets(all))
        }
        Request::ShowSecret {
            secret,
            reveal,
            revision,
        } => show(engine, state, &secret, reveal, revision),
        _ => Err("cannot answer this request; is the engine of another version?".to_owned()),
    }
}

/// Shows one secret.
fn show(
    engine: &Engine,
    state: &State,
    secret: &str,
    reveal: bool,
    revision: Option<u64>,
) -> Result<Response, String> {
    let found = any(state, secret)?;
    let mut shown = report(found);
    if let Some(revision) = revision {
        if !found.revisions.contains_key(&revision) {
            return Err(format!("secret {secret:?} has no revision {revision}"));
        }
        shown.revision = revision;
    }
    if reveal {
        let content = engine.paths.read_secret(&found.id, shown.revision);
        shown.content = Some(content.map_err(|error| format!("{error:#}"))?);
    }
    Ok(Response::Secrets(vec![shown]))
}

/// Sets fields and stores new content.
fn store(engine: &Engine, secret: &mut Secret, fields: &Fields) -> Result<(), String> {
    let Some((revision, content)) = secret.set(fields) else {
        return Ok(());
    };
    engine
        .paths
        .store_secret(&secret.id, revision, &content)
        .map_err(|error| format!("{error:#}"))
}

/// Checks the keys of a content.
fn check(content: &BTreeMap<String, String>) -> Result<(), String> {
    match content.keys().find(|key| !is_secret_key(key)) {
        Some(key) => Err(format!("key {key:?} not valid")),
        None => Ok(()),
    }
}

/// Finds a secret by name, label, id or URI.
fn any<'a>(state: &'a State, text: &str) -> Result<&'a Secret, String> {
    let id = text.strip_prefix("secret:").unwrap_or(text);
    let secrets = &state.model.secrets;
    secrets
        .get(id)
        .or_else(|| secrets.values().find(|secret| secret.label == text))
        .ok_or_else(|| format!("secret {text:?} not found"))
}

/// Finds a secret of the person.
fn own(state: &State, text: &str) -> Result<String, String> {
    let found = any(state, text)?;
    if found.owner == Owner::Person {
        Ok(found.id.clone())
    } else {
        Err("permission denied".to_owned())
    }
}

/// Reports a secret without its content.
fn report(secret: &Secret) -> SecretReport {
    let owner = match &secret.owner {
        Owner::Person => "<model>".to_owned(),
        Owner::Application(name) | Owner::Unit(name) => name.clone(),
    };
    SecretReport {
        id: secret.id.clone(),
        name: (!secret.label.is_empty()).then(|| secret.label.clone()),
        owner,
        revision: secret.latest,
        rotation: secret.rotate.clone(),
        description: secret.description.clone(),
        created: since(secret.created),
        updated: since(secret.updated),
        access: secret.grants.keys().cloned().collect(),
        content: None,
    }
}
