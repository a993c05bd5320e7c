//! Hook tools about relations.

use serde_json::{Value, json};

use super::super::context::Own;
use super::super::model::{Life, Map, Relation, application_of};
use super::{Call, Fault, Flags, failed, parse, usage};

/// Returns the relation that the flags name, or the hook's.
fn relation_of(call: &Call<'_>, flags: &Flags) -> Result<u64, Fault> {
    let Some(text) = flags.value("relation") else {
        return call
            .context
            .relation
            .ok_or_else(|| Fault::Usage("no relation id specified".into()));
    };
    relation_id(call, text)
}

/// Understands a relation's id; the endpoint in front of it is not looked at.
pub fn relation_id(call: &Call<'_>, text: &str) -> Result<u64, Fault> {
    let wrong = |why: &str| Fault::Usage(format!("invalid value {text:?} for flag -r: {why}"));
    let number = text.rsplit(':').next().unwrap_or_default();
    let id: u64 = number.parse().map_err(|_| wrong("invalid relation id"))?;
    let (unit, _) = call.unit()?;
    if unit.local.relations.contains_key(&id) || call.context.relation == Some(id) {
        Ok(id)
    } else {
        Err(wrong("relation not found"))
    }
}

/// Returns a relation that is known to exist.
fn relation<'a>(call: &'a Call<'_>, id: u64) -> Result<&'a Relation, Fault> {
    let found = call.model().relations.get(&id);
    found.ok_or_else(|| Fault::Failed(format!("relation {id} not found")))
}

/// `relation-ids`
pub fn relation_ids(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    let (unit, _) = call.unit()?;
    let endpoint = match (
        flags.at(0),
        call.context.hook.as_ref().and_then(|h| h.relation.as_ref()),
    ) {
        (Some(name), _) => name.to_owned(),
        (None, Some(facts)) => facts.endpoint.clone(),
        (None, None) => return usage("no endpoint name specified"),
    };
    let mut ids: Vec<String> = unit
        .local
        .relations
        .keys()
        .filter_map(|id| call.model().relations.get(id))
        .filter(|relation| {
            relation
                .own(&unit.application)
                .is_some_and(|end| end.name == endpoint)
        })
        .filter(|relation| {
            let broken = !relation.is_peer() && relation.life != Life::Alive;
            !broken || !call.context.members(call.model(), relation.id).is_empty()
        })
        .map(|relation| relation.shown_id(&unit.application))
        .collect();
    ids.sort();
    call.print(&flags, &json!(ids), "smart")
}

/// `relation-list`
pub fn relation_list(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(
        call.arguments,
        &["app"],
        &["format", "output o", "relation r"],
    )?;
    if let Some(extra) = flags.at(0) {
        return usage(format!("unrecognized args: [{extra:?}]"));
    }
    let id = relation_of(call, &flags)?;
    let value = if flags.is_set("app") {
        let other = relation(call, id)?.other(&call.application());
        json!(other.map(|end| end.application.clone()).unwrap_or_default())
    } else {
        json!(call.context.members(call.model(), id))
    };
    call.print(&flags, &value, "smart")
}

/// `relation-model-get`
pub fn relation_model_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o", "relation r"])?;
    relation_of(call, &flags)?;
    call.print(&flags, &json!({ "uuid": call.model().uuid }), "smart")
}

/// `relation-get`
pub fn relation_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(
        call.arguments,
        &["app"],
        &["format", "output o", "relation r"],
    )?;
    let id = relation_of(call, &flags)?;
    if let Some(extra) = flags.at(2) {
        return usage(format!("unrecognized args: [{extra:?}]"));
    }
    let key = flags.at(0).filter(|key| *key != "-").map(ToOwned::to_owned);
    let hook_relation = call.context.relation == Some(id);
    let mut app = flags.is_set("app");
    let target = match flags.at(1) {
        Some(name) => name.to_owned(),
        None => match (&call.context.remote_unit, &call.context.remote_application) {
            (Some(unit), _) if hook_relation => unit.clone(),
            (None, Some(application)) if hook_relation && !application.is_empty() => {
                app = true;
                application.clone()
            }
            _ => return usage("no unit or application specified"),
        },
    };
    let values = if app {
        application_bag(call, id, application_of(&target))?
    } else if target.contains('/') {
        unit_bag(call, id, &target)?
    } else if crate::charm::names::is_application(&target) {
        return failed(format!(
            "expected unit name, got application name {target:?}"
        ));
    } else {
        return failed(format!("invalid unit name {target:?}"));
    };
    let value = match key {
        Some(key) => values.get(&key).map_or(Value::Null, |value| json!(value)),
        None => json!(values),
    };
    call.print(&flags, &value, "smart")
}

/// Returns a unit's databag as the caller sees it.
fn unit_bag(call: &mut Call<'_>, id: u64, target: &str) -> Result<Map, Fault> {
    if target == call.context.unit {
        return own_unit(call, id).map(|own| own.view());
    }
    let relation = relation(call, id)?;
    let application = call.application();
    let other = relation
        .other(&application)
        .map(|end| end.application.clone());
    if other.as_deref() != Some(application_of(target)) {
        return failed("permission denied");
    }
    let found = relation.units.get(target).map(|bag| bag.values.clone());
    let unit = call.context.unit.clone();
    let key = (id, target.to_owned());
    // A member's databag is kept until that unit's own joined or changed; others' only for this run.
    if call.context.members(call.model(), id).contains(target) {
        let cache = call.state.caches.entry(unit).or_default();
        if let Some(values) = cache.get(&key) {
            return Ok(values.clone());
        }
        let values = found.unwrap_or_default();
        cache.insert(key, values.clone());
        return Ok(values);
    }
    if let Some(values) = call.context.others.get(&key) {
        return Ok(values.clone());
    }
    match found {
        Some(values) => {
            call.context.others.insert(key, values.clone());
            Ok(values)
        }
        None => failed(format!(
            "settings for unit {target:?} in relation {id} not found"
        )),
    }
}

/// Returns an application's databag as the caller sees it.
fn application_bag(call: &mut Call<'_>, id: u64, target: &str) -> Result<Map, Fault> {
    let own = call.application();
    let relation = relation(call, id)?;
    if relation.own(target).is_none() {
        return failed("permission denied");
    }
    if target == own {
        if call.leads() {
            return own_application(call, id).map(|own| own.view());
        }
        if !relation.is_peer() && !call.model().variant.is_four() {
            return failed("permission denied");
        }
    }
    let key = (id, target.to_owned());
    if let Some(values) = call.context.others.get(&key) {
        return Ok(values.clone());
    }
    let bag = relation.applications.get(target);
    let values = bag.map(|bag| bag.values.clone()).unwrap_or_default();
    call.context.others.insert(key, values.clone());
    Ok(values)
}

/// Returns the own unit databag, fetched at its first use in a run.
fn own_unit<'a>(call: &'a mut Call<'_>, id: u64) -> Result<&'a mut Own, Fault> {
    let bag = relation(call, id)?.units.get(&call.context.unit);
    let seen = bag.map(|bag| bag.values.clone()).unwrap_or_default();
    Ok(call.context.own_unit.entry(id).or_insert(Own {
        seen,
        changes: Map::new(),
    }))
}

/// Returns the own application databag, fetched at its first use in a run.
fn own_application<'a>(call: &'a mut Call<'_>, id: u64) -> Result<&'a mut Own, Fault> {
    let bag = relation(call, id)?.applications.get(&call.application());
    let seen = bag.map(|bag| bag.values.clone()).unwrap_or_default();
    Ok(call.context.own_application.entry(id).or_insert(Own {
        seen,
        changes: Map::new(),
    }))
}

/// `relation-set`
pub fn relation_set(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["app"], &["file", "format", "relation r"])?;
    let id = relation_of(call, &flags)?;
    if flags.value("format").is_some() {
        call.notes
            .push_str("--format flag deprecated for command \"relation-set\"\n");
    }
    let changes = call.settings(&flags)?;
    if changes.is_empty() {
        return Ok(String::new());
    }
    let own = if flags.is_set("app") {
        if !call.leads() {
            return failed("cannot write relation settings");
        }
        own_application(call, id)?
    } else {
        own_unit(call, id)?
    };
    own.changes.extend(changes);
    Ok(String::new())
}
