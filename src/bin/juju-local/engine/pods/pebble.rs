//! What the agent asks the Pebble of a container.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::limits::{PEBBLE_ANSWER_MAX, PEBBLE_TIMEOUT};

use super::super::link;

/// One notice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// Number, as a text.
    pub id: String,
    /// `custom`, `change-update` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub key: String,
    /// When it came last.
    pub last_repeated: String,
    /// More about it.
    #[serde(default)]
    pub last_data: Value,
}

/// One change.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// `perform-check`, `recover-check` and others.
    pub kind: String,
    /// `Doing`, `Done`, `Error` and others.
    pub status: String,
}

/// Returns what a Pebble calls its present life.
///
/// # Errors
///
/// When it does not answer.
pub fn boot_id(socket: &Path) -> Result<String> {
    let info = get(socket, "/v1/system-info")?;
    let id = info.get("boot-id").and_then(Value::as_str);
    id.map(str::to_owned).context("Pebble tells no boot id")
}

/// Tells whether a container is healthy in the sense of its Pebble's checks.
///
/// # Errors
///
/// When Pebble does not answer.
pub fn healthy(socket: &Path) -> Result<bool> {
    let health = get(socket, "/v1/health?level=ready")?;
    Ok(health.get("healthy").and_then(Value::as_bool) == Some(true))
}

/// Returns the notices that agents care for, of all users, after a time.
///
/// # Errors
///
/// When Pebble does not answer.
pub fn notices(socket: &Path, after: &str) -> Result<Vec<Notice>> {
    let mut path = "/v1/notices?users=all&types=custom,change-update".to_owned();
    if !after.is_empty() {
        path = format!("{path}&after={}", after.replace('+', "%2B"));
    }
    // No notices at all are null.
    let found: Option<Vec<Notice>> =
        serde_json::from_value(get(socket, &path)?).context("cannot understand notices")?;
    Ok(found.unwrap_or_default())
}

/// Returns a change.
///
/// # Errors
///
/// When Pebble does not answer or there is none.
pub fn change(socket: &Path, id: &str) -> Result<Change> {
    let found = get(socket, &format!("/v1/changes/{id}"))?;
    serde_json::from_value(found).context("cannot understand a change")
}

/// Asks for something; returns the result.
///
/// The question is one of HTTP 1.0, so that the answer ends where the connection does.
fn get(socket: &Path, path: &str) -> Result<Value> {
    let mut stream = link::connect(socket)?;
    stream
        .set_read_timeout(Some(PEBBLE_TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(PEBBLE_TIMEOUT)))
        .context("cannot limit the wait for Pebble")?;
    let question = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream
        .write_all(question.as_bytes())
        .context("cannot ask Pebble")?;
    let mut answer = String::new();
    stream
        .take(PEBBLE_ANSWER_MAX)
        .read_to_string(&mut answer)
        .context("cannot read Pebble's answer")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("Pebble's answer has no end: {answer:?}");
    };
    let mut body: Value = serde_json::from_str(body)
        .with_context(|| format!("cannot understand Pebble's answer {head:?}"))?;
    ensure!(
        body.get("type").and_then(Value::as_str) != Some("error"),
        "Pebble refuses {path}: {body}"
    );
    Ok(body.get_mut("result").map(Value::take).unwrap_or_default())
}
