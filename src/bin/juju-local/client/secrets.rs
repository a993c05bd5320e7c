//! Secrets of the person: adding, changing, granting, listing and showing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::arguments::{AddSecret, ShowSecret, UpdateSecret};
use super::connect::{Model, unexpected};
use super::output::{self, Format, as_document};
use super::table::{Table, colours, plain};
use super::{Done, input};
use crate::api::{Request, Response, SecretReport};

/// Owner that stands for the person.
const PERSON: &str = "<model>";

/// Adds a secret and prints its URI.
///
/// # Errors
///
/// When the content cannot be read, or the engine refuses.
pub fn add(model: &Model, given: AddSecret) -> Done {
    let content = content(given.with.file.as_deref(), &given.with.content)?;
    if content.is_empty() {
        bail!("missing secret value or filename");
    }
    let request = Request::AddSecret {
        name: given.name,
        content,
        description: given.with.description,
    };
    let Response::Names(uris) = model.ask_or_begin(&request)? else {
        return unexpected();
    };
    output::print(&format!("{}\n", uris.join("\n")))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a new revision of a secret.
///
/// # Errors
///
/// When the content cannot be read, or the engine refuses.
pub fn update(model: &Model, given: UpdateSecret) -> Done {
    let content = content(given.with.file.as_deref(), &given.with.content)?;
    model.order(&Request::UpdateSecret {
        secret: given.secret,
        content,
        description: given.with.description,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lets applications read a secret.
///
/// # Errors
///
/// When the engine refuses.
pub fn grant(model: &Model, secret: String, applications: Vec<String>) -> Done {
    model.order(&Request::GrantSecret {
        secret,
        applications,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lets applications no longer read a secret.
///
/// # Errors
///
/// When the engine refuses.
pub fn revoke(model: &Model, secret: String, applications: Vec<String>) -> Done {
    model.order(&Request::RevokeSecret {
        secret,
        applications,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Removes a secret.
///
/// # Errors
///
/// When the engine refuses.
pub fn remove(model: &Model, secret: String) -> Done {
    model.order(&Request::RemoveSecret { secret })?;
    Ok(ExitCode::SUCCESS)
}

/// Lists all secrets, never their content.
///
/// # Errors
///
/// When the engine cannot be asked.
pub fn list(model: &Model, format: Format) -> Done {
    let Response::Secrets(secrets) = model.ask(&Request::Secrets)? else {
        return unexpected();
    };
    if let Some(form) = as_document(format) {
        output::document(&by_id(&secrets), form)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "ID",
        "Name",
        "Owner",
        "Rotation",
        ">Revision",
        "Last updated",
    ]);
    for secret in &secrets {
        table.row(vec![
            plain(&secret.id),
            plain(secret.name.as_deref().unwrap_or("-")),
            plain(&secret.owner),
            plain(&secret.rotation),
            plain(secret.revision.to_string()),
            plain(&secret.updated),
        ]);
    }
    output::print(&table.render(colours(false, false)))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows a secret, with its content only when that is asked for.
///
/// # Errors
///
/// When there is no such secret.
pub fn show(model: &Model, given: ShowSecret) -> Done {
    let request = Request::ShowSecret {
        secret: given.secret,
        reveal: given.reveal,
        revision: given.revision,
    };
    let Response::Secrets(secrets) = model.ask(&request)? else {
        return unexpected();
    };
    output::document(&by_id(&secrets), given.format)?;
    Ok(ExitCode::SUCCESS)
}

/// Brings secrets into the shape that `juju show-secret` prints.
fn by_id(secrets: &[SecretReport]) -> Value {
    let shape = |secret: &SecretReport| {
        let mut shape = Map::new();
        shape.insert("revision".into(), json!(secret.revision));
        if secret.rotation != "never" && !secret.rotation.is_empty() {
            shape.insert("rotation".into(), json!(secret.rotation));
        }
        shape.insert("owner".into(), json!(secret.owner));
        if !secret.description.is_empty() {
            shape.insert("description".into(), json!(secret.description));
        }
        if let Some(name) = &secret.name {
            shape.insert(
                if secret.owner == PERSON {
                    "name"
                } else {
                    "label"
                }
                .into(),
                json!(name),
            );
        }
        shape.insert("created".into(), json!(secret.created));
        shape.insert("updated".into(), json!(secret.updated));
        if !secret.access.is_empty() {
            shape.insert("access".into(), json!(secret.access));
        }
        if let Some(content) = &secret.content {
            shape.insert("content".into(), json!({"Data": content}));
        }
        (secret.id.clone(), Value::Object(shape))
    };
    Value::Object(secrets.iter().map(shape).collect())
}

/// Collects content from a YAML file and from `key=value` or `key#file=PATH`.
fn content(file: Option<&Path>, given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut content = BTreeMap::new();
    for (key, value) in file.map(input::yaml_map).transpose()?.unwrap_or_default() {
        let Value::String(value) = value else {
            bail!("cannot use secret key {key:?}: its value must be text")
        };
        content.insert(key, value);
    }
    for text in given {
        let (key, value) = input::pair(text)
            // The text may hold the secret itself: it stays out of the error.
            .map_err(|_| {
                anyhow::anyhow!(
                    "cannot use the secret's content: expected KEY=VALUE or KEY#file=FILE"
                )
            })?;
        let (key, value) = match key.strip_suffix("#file") {
            Some(key) => {
                let path = Path::new(&value);
                (
                    key.to_owned(),
                    input::file(path).with_context(|| format!("cannot use secret key {key:?}"))?,
                )
            }
            None => (key, value),
        };
        if content.insert(key.clone(), value).is_some() && file.is_none() {
            bail!("key {key:?} specified more than once");
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_from_files_and_arguments_and_errors_keep_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "from-file").unwrap();
        let given = [
            "user=admin".to_owned(),
            format!("password#file={}", path.display()),
        ];
        let expected = [
            ("password".to_owned(), "from-file".to_owned()),
            ("user".to_owned(), "admin".to_owned()),
        ];
        assert_eq!(content(None, &given).unwrap(), expected.into());
        std::fs::write(&path, "user: {a: b}").unwrap();
        assert!(content(Some(&path), &[]).is_err());
        let error = content(None, &["s3cret".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(content(None, &["a=1".to_owned(), "a=2".to_owned()]).is_err());
    }
}
