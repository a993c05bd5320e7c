//! Hook tools about status, log, options, leadership and actions.

use serde_json::{Map as JsonMap, Value, json};

use crate::limits::KEY_DEPTH_MAX;

use super::super::model::Status;
use super::{Call, Fault, failed, parse, usage};

/// `is-leader`
pub fn is_leader(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    call.print(&flags, &json!(call.leads()), "smart")
}

/// `config-get`
pub fn config_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["all a"], &["format", "output o"])?;
    if call.context.config.is_none() {
        let (_, application) = call.unit()?;
        call.context.config = Some(application.charm.config.effective(&application.config));
    }
    let config = call.context.config.as_ref();
    let value = match (flags.at(0), flags.is_set("all")) {
        (Some(key), true) => {
            return usage(format!(
                "cannot use argument --all together with key {key:?}"
            ));
        }
        (Some(key), false) => config
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or(Value::Null),
        (None, all) => {
            let mut sorted: Vec<_> = config
                .iter()
                .flat_map(|map| map.iter())
                .filter(|(_, value)| all || !value.is_null())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            sorted.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(sorted.into_iter().collect())
        }
    };
    call.print(&flags, &value, "smart")
}

/// `status-set`
pub fn status_set(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["application"], &[])?;
    let Some(word) = flags.at(0) else {
        return usage("invalid args, require <status> [message]");
    };
    if !["maintenance", "blocked", "waiting", "active"].contains(&word) {
        return usage(format!(
            "invalid status {word:?}, expected one of [maintenance blocked waiting active]"
        ));
    }
    if let Some(extra) = flags.at(2) {
        return usage(format!("unrecognized args: [{extra:?}]"));
    }
    let mut status = Status::now(word, flags.at(1).unwrap_or_default());
    let keep_since = |old: &Status, new: &mut Status| {
        if old.current == new.current && old.message == new.message {
            new.since = old.since;
        }
    };
    if flags.is_set("application") {
        if !call.leads() {
            return failed("this unit is not the leader");
        }
        let name = call.application();
        if let Some(application) = call.state.model.applications.get_mut(&name) {
            if let Some(old) = &application.status {
                keep_since(old, &mut status);
            }
            application.status = Some(status);
        }
    } else {
        let unit = call.unit_mut()?;
        keep_since(&unit.workload, &mut status);
        unit.workload = status;
        unit.workload_set = true;
    }
    call.engine.save(call.state);
    Ok(String::new())
}

/// Writes a status as a document.
fn document(status: &Status, with_data: bool) -> Value {
    if with_data {
        json!({ "message": status.message, "status": status.current, "status-data": {} })
    } else {
        json!({ "status": status.current })
    }
}

/// `status-get`
pub fn status_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(
        call.arguments,
        &["application", "include-data"],
        &["format", "output o"],
    )?;
    let smart = flags.value("format").unwrap_or("smart") == "smart";
    let with_data = flags.is_set("include-data");
    let (unit, application) = call.unit()?;
    if !flags.is_set("application") {
        let value = if smart && !with_data {
            json!(unit.workload.current)
        } else {
            document(&unit.workload, with_data)
        };
        return call.print(&flags, &value, "smart");
    }
    if !call.leads() {
        return failed("finding application status: this unit is not the leader");
    }
    let unset = Status::now("unknown", "");
    let status = application.status.as_ref().unwrap_or(&unset);
    if smart && !with_data {
        return call.print(&flags, &json!(status.current), "smart");
    }
    let mut whole = document(status, true);
    let units: JsonMap<String, Value> = call
        .model()
        .units_of(&unit.application)
        .into_iter()
        .map(|unit| (unit.name.clone(), document(&unit.workload, true)))
        .collect();
    whole["units"] = Value::Object(units);
    call.print(&flags, &json!({ "application-status": whole }), "smart")
}

/// `application-version-set`
pub fn application_version_set(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    let Some(version) = flags.at(0) else {
        return usage("no version specified");
    };
    if let Some(extra) = flags.at(1) {
        return usage(format!("unrecognized args: [{extra:?}]"));
    }
    let name = call.application();
    if let Some(application) = call.state.model.applications.get_mut(&name) {
        version.clone_into(&mut application.version);
    }
    call.engine.save(call.state);
    Ok(String::new())
}

/// `juju-log`
pub fn juju_log(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["debug"], &["log-level l", "format"])?;
    if flags.rest.is_empty() {
        return usage("no message specified");
    }
    let unit = call.context.unit.clone();
    let logger = format!("unit.{unit}.juju-log");
    let wanted = flags.value("log-level").unwrap_or("INFO").to_uppercase();
    let mut level = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]
        .into_iter()
        .find(|level| *level == wanted);
    if level.is_none() {
        let text = format!("Specified log level of {wanted:?} is not valid");
        call.engine.log.write(&unit, "WARNING", &logger, &text);
    }
    if flags.is_set("debug") {
        level = Some("DEBUG");
    }
    let prefix = match call
        .context
        .relation
        .and_then(|id| call.model().relations.get(&id))
    {
        Some(relation) => format!("{}: ", relation.shown_id(&call.application())),
        None => String::new(),
    };
    let text = format!("{prefix}{}", flags.rest.join(" "));
    call.engine
        .log
        .write(&unit, level.unwrap_or("INFO"), &logger, &text);
    Ok(String::new())
}

/// `juju-reboot`
pub fn juju_reboot(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &["now"], &[])?;
    if call.context.is_action {
        return failed("juju-reboot is not supported when running an action.");
    }
    call.context.reboot = Some(flags.is_set("now"));
    if flags.is_set("now") {
        let flight = call.unit()?.0.local.flight.clone();
        if let Some((pid, _)) = flight.and_then(|flight| flight.process) {
            super::super::processes::signal_group(pid, rustix::process::Signal::KILL);
        }
    }
    Ok(String::new())
}

/// Checks that an action runs.
fn in_action(call: &Call<'_>) -> Result<(), Fault> {
    if call.context.is_action {
        Ok(())
    } else {
        failed("not running an action")
    }
}

/// `action-get`
pub fn action_get(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &["format", "output o"])?;
    in_action(call)?;
    let task = call.context.task.and_then(|id| call.model().tasks.get(&id));
    let mut value = task.map_or(Value::Null, |task| Value::Object(task.parameters.clone()));
    for part in flags.at(0).iter().flat_map(|key| key.split('.')) {
        value = value.get(part).cloned().unwrap_or(Value::Null);
    }
    call.print(&flags, &value, "smart")
}

/// `action-set`
pub fn action_set(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    in_action(call)?;
    let mut entries = Vec::new();
    for argument in &flags.rest {
        let Some((path, value)) = argument.split_once('=') else {
            return usage(format!(
                "argument {argument:?} must be of the form key...=value"
            ));
        };
        let keys: Vec<String> = path.split('.').map(ToOwned::to_owned).collect();
        if keys.len() > KEY_DEPTH_MAX {
            return usage(format!("a key may have {KEY_DEPTH_MAX} parts at most"));
        }
        for key in &keys {
            if !crate::charm::names::is_action(key) {
                return usage(format!(
                    "key {key:?} must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric and hyphens"
                ));
            }
        }
        let reserved = ["stdout", "stdout-encoding", "stderr", "stderr-encoding"];
        if keys.len() == 1 && reserved.contains(&path) {
            return usage(format!("cannot set reserved action key {path:?}"));
        }
        entries.push((keys, value.to_owned()));
    }
    for (keys, value) in entries {
        put(&mut call.context.results, &keys, value);
    }
    Ok(String::new())
}

/// Puts a value at a nested place; what is in the way is replaced.
fn put(map: &mut JsonMap<String, Value>, keys: &[String], value: String) {
    match keys {
        [] => {}
        [last] => {
            map.insert(last.clone(), Value::String(value));
        }
        [first, rest @ ..] => {
            let inner = map.entry(first.clone()).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// `action-fail`
pub fn action_fail(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    in_action(call)?;
    if let Some(extra) = flags.at(1) {
        return usage(format!("unrecognized args: [{extra:?}]"));
    }
    let text = flags
        .at(0)
        .unwrap_or("action failed without reason given, check action for errors")
        .to_owned();
    call.context.failed = Some(text);
    Ok(String::new())
}

/// `action-log`
pub fn action_log(call: &mut Call<'_>) -> Result<String, Fault> {
    let flags = parse(call.arguments, &[], &[])?;
    in_action(call)?;
    if flags.rest.is_empty() {
        return usage("no message specified");
    }
    let text = flags.rest.join(" ");
    let (id, unit) = (call.context.task, call.context.unit.clone());
    if let Some(task) = id.and_then(|id| call.state.model.tasks.get_mut(&id)) {
        task.log.push((jiff::Timestamp::now(), text.clone()));
    }
    let logger = format!("unit.{unit}.action-log");
    call.engine.log.write(&unit, "INFO", &logger, &text);
    Ok(String::new())
}
