//! Hook tools about secrets.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::limits::SECRET_MAX;

use super::super::model::{Map, application_of, later};
use super::super::secrets::{Change, Fields, Owner, Secret, rotation_seconds};
use super::super::state::random;
use super::{Call, Fault, Flags, failed, parse, usage, yaml_map};

/// Flags that `secret-add` and `secret-set` share.
const FIELDS: [&str; 6] = ["label", "description", "expire", "rotate", "owner", "file"];

/// Returns the id in a URI.
pub(super) fn id_of(text: &str) -> String {
    text.strip_prefix("secret:")
        .unwrap_or(text)
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Makes a secret's id.
pub fn new_id() -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuv";
    let mut bits = random();
    let mut id = String::new();
    for place in 0..20 {
        if place == 10 {
            bits = random();
        }
        let letter = usize::try_from(bits & 31)
            .ok()
            .and_then(|at| LETTERS.get(at))
            .copied();
        id.push(char::from(letter.unwrap_or(b'0')));
        bits >>= 5;
    }
    id
}

/// Tells whether a text can be a key of a secret's content.
#[must_use]
pub fn is_key(key: &str) -> bool {
    let letters = key.bytes().filter(|byte| *byte != b'-').count();
    letters >= 3
        && key.starts_with(|first: char| first.is_ascii_lowercase())
        && !key.ends_with('-')
        && !key.contains("--")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Reads content from `--file` and `key[#kind]=value` arguments.
fn content(call: &Call<'_>, flags: &Flags, from: usize) -> Result<Option<Map>, Fault> {
    let mut raw = match flags.value("file") {
        Some(path) => yaml_map(&call.read(path)?)?,
        None => Map::new(),
    };
    for argument in flags.rest.iter().skip(from) {
        let Some((key, value)) = argument.split_once('=') else {
            return usage(format!("key value {argument:?} not valid"));
        };
        raw.insert(key.to_owned(), value.to_owned());
    }
    if raw.is_empty() {
        return Ok(None);
    }
    let mut content = Map::new();
    for (key, value) in raw {
        let (name, kind) = key.split_once('#').unwrap_or((&key, ""));
        let value = match kind {
            "" => value,
            "file" => call.read(&value)?,
            "base64" => STANDARD
                .decode(value.as_bytes())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| {
                    Fault::Usage(format!("value of key {name:?} is no base64 of text"))
                })?,
            _ => return usage(format!("key {key:?} not valid")),
        };
        if !is_key(name) {
            return usage(format!("key {name:?} not valid"));
        }
        content.insert(name.to_owned(), value);
    }
    let size: usize = content
        .values()
        .map(|value| value.len().div_ceil(3) * 4)
        .sum();
    if size > SECRET_MAX {
        return failed(format!(
            "base64 encoded secret content too large: {size} bytes"
        ));
    }
    Ok(Some(content))
}

/// Reads the fields of `secret-add` and `secret-set`.
fn fields(call: &Call<'_>, flags: &Flags, from: usize) -> Result<Fields, Fault> {
    let rotate = flags.value("rotate").map(ToOwned::to_owned);
    if let Some(policy) = &rotate
        && policy != "never"
        && rotation_seconds(policy).is_none()
    {
        return usage(format!("secret rotate policy {policy:?} not valid"));
    }
    let expire = flags.value("expire").map(expiry).transpose()?;
    Ok(Fields {
        label: flags.value("label").map(ToOwned::to_owned),
        description: flags.value("description").map(ToOwned::to_owned),
        rotate,
        expire,
        content: content(call, flags, from)?,
    })
}

/// Understands a duration such as `1h30m`, or a time.
pub(super) fn expiry(text: &str) -> Result<Timestamp, Fault> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let wrong = || Fault::Usage(format!("expire time or duration {text:?} not valid"));
    let (mut seconds, mut number) = (0.0, String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() || letter == '.' {
            number.push(letter);
            continue;
        }
        let unit = match letter {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return Err(wrong()),
        };
        let value: f64 = number.parse().map_err(|_| wrong())?;
        seconds += value * unit;
        number.clear();
    }
    if seconds <= 0.0 || !number.is_empty() {
        return Err(wrong());
    }
    Ok(later(Timestamp::now(), seconds))
}

/// `secret-add`
pub fn secret_add(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &FIELDS)?;
    let fields = fields(call, &flags, 0)?;
    if fields.content.is_none() {
        return usage("missing secret value or filename");
    }
    let owner = match flags.value("owner").unwrap_or("application") {
        "application" => {
            if !call.leads() {
                return failed("permission denied");
            }
            Owner::Application(call.application())
        }
        "unit" => Owner::Unit(call.context.unit.clone()),
        other => return usage(format!("secret owner {other:?} not valid")),
    };
    if let Some(label) = fields.label.as_ref().filter(|label| !label.is_empty()) {
        let pending = call.context.secrets.iter().any(|change| {
            matches!(change, Change::Add { fields, .. } if fields.label.as_ref() == Some(label))
        });
        let taken = call
            .model()
            .secrets
            .values()
            .any(|s| s.owner == owner && s.label == *label);
        if pending || taken {
            return failed(format!("secret with label {label:?} already exists"));
        }
    }
    let id = new_id();
    call.context.secrets.push(Change::Add {
        id: id.clone(),
        owner,
        fields,
    });
    Ok(format!("secret:{id}\n"))
}

/// Returns the committed secret, or none when it is still pending in this run.
fn managed<'a>(call: &'a Call<'_>, id: &str) -> Result<Option<&'a Secret>, Fault> {
    if let Some(secret) = call.model().secrets.get(id) {
        if !secret.is_managed_by(&call.context.unit, call.leads()) {
            return failed("permission denied");
        }
        return Ok(Some(secret));
    }
    let pending = call
        .context
        .secrets
        .iter()
        .any(|c| matches!(c, Change::Add { id: other, .. } if other == id));
    if pending {
        Ok(None)
    } else {
        failed(format!("secret {id:?} not found"))
    }
}

/// Returns the id in the first argument.
fn first_id(flags: &Flags) -> Result<String, Fault> {
    flags
        .at(0)
        .map(id_of)
        .ok_or_else(|| Fault::Usage("missing secret URI".to_owned()))
}

/// `secret-set`
pub fn secret_set(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &FIELDS)?;
    let id = first_id(&flags)?;
    let fields = fields(call, &flags, 1)?;
    managed(call, &id)?;
    call.context.secrets.push(Change::Set { id, fields });
    Ok(String::new())
}

/// `secret-grant`
pub fn secret_grant(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["relation r", "unit"])?;
    let id = first_id(&flags)?;
    managed(call, &id)?;
    let Some(text) = flags.value("relation") else {
        return usage("missing relation id");
    };
    let relation = super::relations::relation_id(call, text)?;
    let other = call
        .model()
        .relations
        .get(&relation)
        .and_then(|r| r.other(&call.application()));
    let target = match (flags.value("unit"), other) {
        (Some(unit), _) => unit.to_owned(),
        (None, Some(end)) => end.application.clone(),
        (None, None) => return failed(format!("relation {relation} not found")),
    };
    call.context.secrets.push(Change::Grant {
        id,
        target,
        relation: Some(relation),
    });
    Ok(String::new())
}

/// `secret-revoke`
pub fn secret_revoke(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(
        call.arguments,
        &[],
        &["relation r", "unit", "app application"],
    )?;
    let id = first_id(&flags)?;
    managed(call, &id)?;
    let target = match (
        flags.value("unit"),
        flags.value("app"),
        flags.value("relation"),
    ) {
        (Some(unit), _, _) => unit.to_owned(),
        (None, Some(application), _) => application.to_owned(),
        (None, None, Some(text)) => {
            let relation = super::relations::relation_id(call, text)?;
            let found = call.model().relations.get(&relation);
            let other = found.and_then(|relation| relation.other(&call.application()));
            other.map(|end| end.application.clone()).unwrap_or_default()
        }
        (None, None, None) => return usage("missing relation or application or unit"),
    };
    call.context.secrets.push(Change::Revoke { id, target });
    Ok(String::new())
}

/// `secret-remove`
pub fn secret_remove(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["revision"])?;
    let id = first_id(&flags)?;
    managed(call, &id)?;
    let revision = match flags.value("revision").map(str::parse::<u64>) {
        None => None,
        Some(Ok(revision)) if revision > 0 => Some(revision),
        Some(_) => return usage("revision must be a positive integer"),
    };
    call.context.secrets.push(Change::Remove { id, revision });
    Ok(String::new())
}

/// `secret-ids`
pub fn secret_ids(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    let leads = call.leads();
    let secrets = call.model().secrets.values();
    let ids: Vec<_> = secrets
        .filter(|s| s.is_managed_by(&call.context.unit, leads))
        .map(|s| s.id.clone())
        .collect();
    call.print(&flags, &json!(ids), "smart")
}

/// Returns the id that a label stands for to the calling unit.
fn by_label(call: &Call<'_>, label: &str) -> Option<String> {
    let unit = &call.context.unit;
    for change in call.context.secrets.iter().rev() {
        match change {
            Change::Add { id, fields, .. } | Change::Set { id, fields }
                if fields.label.as_deref() == Some(label) =>
            {
                return Some(id.clone());
            }
            Change::Follow {
                id,
                label: Some(own),
                ..
            } if own == label => return Some(id.clone()),
            _ => {}
        }
    }
    let secrets = &call.model().secrets;
    let owned = secrets.values().find(|s| {
        let owned = match &s.owner {
            Owner::Person => false,
            Owner::Application(owner) => owner == application_of(unit),
            Owner::Unit(owner) => owner == unit,
        };
        owned && s.label == label
    });
    owned
        .or_else(|| {
            secrets
                .values()
                .find(|s| s.consumers.get(unit).is_some_and(|c| c.label == label))
        })
        .map(|secret| secret.id.clone())
}

/// `secret-info-get`
pub fn secret_info_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o", "label"])?;
    let id = match (flags.at(0), flags.value("label")) {
        (Some(id), _) => id_of(id),
        (None, Some(label)) => match by_label(call, label) {
            Some(id) => id,
            None => return failed(format!("secret {label:?} not found")),
        },
        (None, None) => return usage("require either a secret URI or label"),
    };
    let mut shown = match managed(call, &id)? {
        Some(secret) => secret.clone(),
        None => Secret::new(&id, Owner::Unit(call.context.unit.clone())),
    };
    for change in &call.context.secrets {
        match change {
            Change::Add {
                id: other,
                owner,
                fields,
            } if *other == id => {
                owner.clone_into(&mut shown.owner);
                shown.set(fields);
            }
            Change::Set { id: other, fields } if *other == id => {
                shown.set(fields);
            }
            Change::Grant {
                id: other,
                target,
                relation,
            } if *other == id => {
                shown.grants.insert(target.clone(), *relation);
            }
            Change::Revoke { id: other, target } if *other == id => {
                shown.grants.remove(target);
            }
            _ => {}
        }
    }
    let owner = match shown.owner {
        Owner::Unit(_) => "unit",
        Owner::Person | Owner::Application(_) => "application",
    };
    let mut info = json!({
        "revision": shown.latest,
        "label": shown.label,
        "owner": owner,
        "description": shown.description,
        "rotation": shown.rotate,
    });
    let text = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if let Some(at) = shown.expire {
        info["expiry"] = json!(text(at));
    }
    if let Some(at) = shown.next_rotate {
        info["rotates"] = json!(text(at));
    }
    let access: Vec<Value> = shown
        .grants
        .iter()
        .map(|(target, relation)| {
            let kind = if target.contains('/') {
                "unit"
            } else {
                "application"
            };
            let target = format!("{kind}-{}", target.replace('/', "-"));
            let scope = relation
                .map(|id| format!("relation-{id}"))
                .unwrap_or_default();
            json!({ "target": target, "scope": scope, "role": "view" })
        })
        .collect();
    if !access.is_empty() {
        info["access"] = json!(access);
    }
    call.print(&flags, &json!({ id: info }), "yaml")
}

/// Returns the content that is pending in this run for a secret.
fn pending<'a>(call: &'a Call<'_>, id: &str) -> Option<&'a Map> {
    call.context
        .secrets
        .iter()
        .rev()
        .find_map(|change| match change {
            Change::Add {
                id: other, fields, ..
            }
            | Change::Set { id: other, fields }
                if other == id =>
            {
                fields.content.as_ref()
            }
            _ => None,
        })
}

/// `secret-get`
pub fn secret_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(
        call.arguments,
        &["peek", "refresh"],
        &["format", "output o", "label"],
    )?;
    let (peek, refresh) = (flags.is_set("peek"), flags.is_set("refresh"));
    if peek && refresh {
        return usage("specify one of --peek or --refresh but not both");
    }
    let label = flags.value("label").map(ToOwned::to_owned);
    // With a label, the first argument is the secret only if it looks like one; else it is the key.
    let is_id =
        |text: &str| text.starts_with("secret:") || (text.len() == 20 && !text.contains('-'));
    let (id, key) = match (flags.at(0), &label) {
        (Some(first), None) => (id_of(first), flags.at(1)),
        (Some(first), Some(_)) if is_id(first) => (id_of(first), flags.at(1)),
        (first, Some(label)) => match by_label(call, label) {
            Some(id) => (id, first),
            None => return failed(format!("secret with label {label:?} not found")),
        },
        (None, None) => return usage("require either a secret URI or label"),
    };
    let values = secret_content(call, &id, label, peek, refresh)?;
    let Some(key) = key else {
        return call.print(&flags, &json!(values), "yaml");
    };
    let (name, encoded) = match key.strip_suffix("#base64") {
        Some(name) => (name, true),
        None => (key, false),
    };
    let Some(value) = values.get(name) else {
        return failed(format!("key {name:?} not found in secret"));
    };
    let value = if encoded {
        STANDARD.encode(value)
    } else {
        value.clone()
    };
    call.print(&flags, &json!(value), "yaml")
}

/// Returns a secret's content and notes which revision the reader follows from now on.
fn secret_content(
    call: &mut Call<'_>,
    id: &str,
    label: Option<String>,
    peek: bool,
    refresh: bool,
) -> Result<BTreeMap<String, String>, Fault> {
    let unit = call.context.unit.clone();
    let mine = pending(call, id).cloned();
    let Some(secret) = call.model().secrets.get(id) else {
        return match mine {
            Some(content) => Ok(content),
            None => failed(format!("secret {id:?} not found")),
        };
    };
    if !secret.readable_by(call.model(), &unit) {
        return failed("permission denied");
    }
    if (peek || refresh)
        && let Some(content) = mine
    {
        return Ok(content);
    }
    let followed = call
        .context
        .secrets
        .iter()
        .rev()
        .find_map(|change| match change {
            Change::Follow {
                id: other,
                revision,
                ..
            } if other == id => *revision,
            _ => None,
        });
    let tracked = followed.or_else(|| secret.consumers.get(&unit).map(|c| c.revision));
    let tracked = tracked.filter(|revision| secret.revisions.contains_key(revision));
    let revision = match tracked {
        Some(revision) if !peek && !refresh => revision,
        _ => secret.latest,
    };
    let follows = (!peek && tracked != Some(revision)).then_some(revision);
    if follows.is_some() || label.is_some() {
        // Without a revision in it a label alone would follow nothing; the first read always sets both.
        let revision = follows.or(tracked).or(Some(revision));
        call.context.secrets.push(Change::Follow {
            id: id.to_owned(),
            label,
            revision,
        });
    }
    call.engine
        .paths
        .read_secret(id, revision)
        .map_err(|error| Fault::Failed(format!("{error:#}")))
}
