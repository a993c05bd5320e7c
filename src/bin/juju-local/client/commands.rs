//! Commands that ask the engine for one thing and print little.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use super::arguments::{
    self, AddUnit, Config, Deploy, Refresh, RemoveApplication, RemoveUnit, ScaleApplication, Wait,
};
use super::connect::{Model, unexpected};
use super::output::{self, Document};
use super::wait::{Goal, wait};
use super::{Done, input};
use crate::api::{self, ConfigReport, Removal, Removing, Request, Response};
use crate::limits::{END_TIMEOUT, WAIT_POLL};

fn waits(model: &Model, given: &Wait, goal: &Goal) -> Done {
    if let Some(longest) = given.wait {
        wait(model, goal, longest)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the absolute path of a charm, since the engine works elsewhere.
fn charm_path(given: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(given).with_context(|| format!("cannot find charm {}", given.display()))
}

/// Deploys a charm.
///
/// # Errors
///
/// When the charm or what is given cannot be used, or the wait fails.
pub fn deploy(model: &Model, given: Deploy) -> Done {
    let path = charm_path(&given.path)?;
    let name_in_file = given
        .name
        .clone()
        .map_or_else(|| charm_name(&path, &given.config), Ok)?;
    let request = Request::Deploy(Box::new(api::Deploy {
        config: input::options(&given.config, &name_in_file)?,
        path,
        name: given.name,
        units: given.num_units,
        env: given.env.into_iter().collect(),
        storage: given.storage.into_iter().collect(),
        resources: input::resources(given.resource)?,
        trust: given.trust,
        attach_storage: given.attach_storage,
    }));
    let Response::Deployed {
        application,
        charm,
        revision,
        base,
    } = model.ask_or_begin(&request)?
    else {
        return unexpected();
    };
    output::note(&format!(
        "Located local charm {charm:?}, revision {revision}"
    ));
    output::note(&format!(
        "Deploying {application:?} from local charm {charm:?}, revision {revision} on {base}"
    ));
    waits(model, &given.wait, &Goal::Ready(vec![application]))
}

/// Returns the charm's own name if a file of options needs it to find its section.
fn charm_name(path: &Path, config: &[String]) -> Result<String> {
    if config.iter().all(|option| option.contains('=')) {
        return Ok(String::new());
    }
    if path.is_file() {
        bail!(
            "cannot tell the application's name in the options file: give the name after the charm"
        );
    }
    let charm = crate::charm::Charm::read(path).context("cannot read the charm's name")?;
    Ok(charm.metadata.name)
}

/// Adds units.
///
/// # Errors
///
/// When the engine refuses, or the wait fails.
pub fn add_unit(model: &Model, given: AddUnit) -> Done {
    let request = Request::AddUnit {
        application: given.application,
        count: given.num_units,
        attach_storage: given.attach_storage,
    };
    let Response::Names(units) = model.ask(&request)? else {
        return unexpected();
    };
    waits(model, &given.wait, &Goal::Ready(units))
}

fn removal(given: &arguments::Removal) -> Removal {
    Removal {
        force: given.force,
        no_wait: given.no_wait,
        destroy_storage: given.destroy_storage,
    }
}

/// Removes units.
///
/// # Errors
///
/// When the engine refuses, or the wait fails.
pub fn remove_unit(model: &Model, given: RemoveUnit) -> Done {
    if let Some(units) = given.num_units {
        let [application] = given.units.as_slice() else {
            bail!("cannot take --num-units with several names; give one application");
        };
        let request = Request::Scale {
            application: application.clone(),
            units,
            fewer: true,
            how: removal(&given.removal),
        };
        return rescale(model, &request, &given.wait);
    }
    let request = Request::RemoveUnit {
        units: given.units.clone(),
        how: removal(&given.removal),
    };
    remove(model, &request, given.units, &given.wait)
}

/// Gives an application another number of units.
///
/// # Errors
///
/// When the engine refuses, or the wait fails.
pub fn scale(model: &Model, given: &ScaleApplication) -> Done {
    let request = Request::Scale {
        application: given.application.clone(),
        units: given.scale,
        fewer: false,
        how: Removal::default(),
    };
    rescale(model, &request, &given.wait)
}

fn rescale(model: &Model, request: &Request, given: &Wait) -> Done {
    match model.ask(request)? {
        Response::Names(units) if units.is_empty() => Ok(ExitCode::SUCCESS),
        Response::Names(units) => waits(model, given, &Goal::Ready(units)),
        Response::Removing(removing) => {
            output::print(&removing.iter().map(removing_text).collect::<String>())?;
            let names = removing.into_iter().map(|one| one.name).collect();
            waits(model, given, &Goal::Gone(names))
        }
        _ => unexpected(),
    }
}

/// Removes an application.
///
/// # Errors
///
/// When the engine refuses, or the wait fails.
pub fn remove_application(model: &Model, given: RemoveApplication) -> Done {
    let request = Request::RemoveApplication {
        application: given.application.clone(),
        how: removal(&given.removal),
    };
    remove(model, &request, vec![given.application], &given.wait)
}

fn remove(model: &Model, request: &Request, names: Vec<String>, given: &Wait) -> Done {
    let Response::Removing(removing) = model.ask(request)? else {
        return unexpected();
    };
    output::print(&removing.iter().map(removing_text).collect::<String>())?;
    waits(model, given, &Goal::Gone(names))
}

/// Says what goes and what becomes of its storage.
fn removing_text(removing: &Removing) -> String {
    let kind = if removing.is_application {
        "application"
    } else {
        "unit"
    };
    let mut text = format!("will remove {kind} {}\n", removing.name);
    for (what, names) in [
        ("remove unit", &removing.units),
        ("remove storage", &removing.removes),
        ("detach storage", &removing.detaches),
    ] {
        for name in names {
            let _ = writeln!(text, "- will {what} {name}");
        }
    }
    text
}

/// Puts other charm files in place.
///
/// # Errors
///
/// When the charm cannot be used, the engine refuses, or the wait fails.
pub fn refresh(model: &Model, given: Refresh) -> Done {
    let request = Request::Refresh {
        application: given.application.clone(),
        path: charm_path(&given.path)?,
        force_units: given.force_units,
        resources: input::resources(given.resource)?,
    };
    let Response::Deployed {
        charm, revision, ..
    } = model.ask(&request)?
    else {
        return unexpected();
    };
    output::note(&format!(
        "Added local charm {charm:?}, revision {revision}, to the model"
    ));
    waits(model, &given.wait, &Goal::Ready(vec![given.application]))
}

fn two(endpoints: Vec<String>) -> Result<[String; 2]> {
    endpoints
        .try_into()
        .map_err(|_| anyhow::anyhow!("a relation has two ends"))
}

/// Relates two applications.
///
/// # Errors
///
/// When the engine refuses, or the wait fails.
pub fn integrate(model: &Model, endpoints: Vec<String>, given: &Wait) -> Done {
    let applications = endpoints
        .iter()
        .filter_map(|end| end.split(':').next())
        .map(str::to_owned)
        .collect();
    model.order(&Request::Integrate {
        endpoints: two(endpoints)?,
    })?;
    waits(model, given, &Goal::Ready(applications))
}

/// Removes a relation.
///
/// # Errors
///
/// When the engine refuses.
pub fn remove_relation(model: &Model, endpoints: Vec<String>) -> Done {
    model.order(&Request::RemoveRelation {
        endpoints: two(endpoints)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows, sets or resets options.
///
/// # Errors
///
/// When options are both shown and set, or the engine refuses.
pub fn config(model: &Model, given: Config) -> Done {
    let application = given.application;
    let (setting, keys): (Vec<String>, Vec<String>) = given
        .options
        .into_iter()
        .partition(|option| option.contains('='));
    if setting.is_empty() && given.reset.is_empty() && given.file.is_none() {
        return show_config(model, &application, &keys, given.format);
    }
    if let Some(key) = keys.first() {
        bail!("cannot set and retrieve config values simultaneously: {key:?} has no value");
    }
    let mut set = match &given.file {
        Some(file) => input::options_file(file, &application)?,
        None => std::collections::BTreeMap::new(),
    };
    set.extend(input::options(&setting, &application)?);
    if let Some(key) = given.reset.iter().find(|key| set.contains_key(*key)) {
        bail!("cannot set and reset key {key:?} simultaneously");
    }
    model.order(&Request::SetConfig {
        application,
        set,
        reset: given.reset,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn show_config(model: &Model, application: &str, keys: &[String], form: Document) -> Done {
    let Response::Config(report) = model.ask(&Request::GetConfig {
        application: application.to_owned(),
    })?
    else {
        return unexpected();
    };
    match keys {
        [] => output::document(&report, form)?,
        [key] => output::print(&one_option(&report, key)?)?,
        _ => bail!("can only retrieve a single value, or all values"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the bare value of one option with a line end.
fn one_option(report: &ConfigReport, key: &str) -> Result<String> {
    let option = report
        .settings
        .get(key)
        .or_else(|| report.application_config.get(key));
    let option = option.with_context(|| {
        format!(
            "key {key:?} not found in {:?} application config or charm settings.",
            report.application
        )
    })?;
    Ok(match &option.value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => format!("{text}\n"),
        Some(value) => format!("{value}\n"),
    })
}

/// Shows units with their databags.
///
/// # Errors
///
/// When a unit is not there.
pub fn show_unit(model: &Model, units: &[String], form: Document) -> Done {
    let mut shown = Map::new();
    for unit in units {
        match model.ask(&Request::ShowUnit { unit: unit.clone() })? {
            // The engine may answer with the unit's name around it or without.
            Response::Value(Value::Object(map)) if map.contains_key(unit) => shown.extend(map),
            Response::Value(value) => drop(shown.insert(unit.clone(), value)),
            _ => return unexpected(),
        }
    }
    output::document(&shown, form)?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves failed hooks.
///
/// # Errors
///
/// When a unit is not in error.
pub fn resolved(model: &Model, units: Vec<String>, all: bool, no_retry: bool) -> Done {
    model.order(&Request::Resolved {
        units,
        all,
        no_retry,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Uses a handle.
///
/// # Errors
///
/// When the engine refuses.
pub fn handle(model: &Model, given: arguments::Handle) -> Done {
    use arguments::Handle as Given;
    let handle = match given {
        Given::Leader { unit } => api::Handle::Leader(unit),
        Given::Freeze { unit } => api::Handle::Freeze(unit),
        Given::Thaw { unit } => api::Handle::Thaw(unit),
        Given::Kill { unit } => api::Handle::Kill(unit),
        Given::Reboot { unit, lose_disk } => api::Handle::Reboot { unit, lose_disk },
        Given::Cut { unit } => api::Handle::Cut(unit),
        Given::Heal { unit } => api::Handle::Heal(unit),
        Given::Variant { version } => api::Handle::Variant(version),
        Given::Setting { settings } if settings.is_empty() => api::Handle::Settings,
        Given::Setting { settings } => api::Handle::Setting(settings.into_iter().collect()),
        Given::Evict { units, now } => api::Handle::Evict { units, now },
        Given::ContainerRestart { unit, container } => {
            api::Handle::ContainerRestart { unit, container }
        }
        Given::AgentRestart { unit } => api::Handle::AgentRestart(unit),
        Given::CrashEngine => return crash_engine(model),
    };
    // Settings may come before the first deployment.
    if let Response::Value(value) = model.ask_or_begin(&Request::Handle(handle))? {
        output::document(&value, Document::Yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the engine; that it cannot answer any more is what was wanted.
fn crash_engine(model: &Model) -> Done {
    if model.is_running() {
        let _ = model.order(&Request::Handle(api::Handle::CrashEngine));
        until_stopped(model)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends everything.
///
/// # Errors
///
/// When the engine cannot end a process or remove a file.
pub fn destroy(model: &Model) -> Done {
    if !model.exists() {
        output::note(&format!(
            "Nothing to destroy: there is no model in {}",
            model.state().display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    model.order(&Request::Destroy)?;
    until_stopped(model)?;
    Ok(ExitCode::SUCCESS)
}

fn until_stopped(model: &Model) -> Result<()> {
    let begin = Instant::now();
    while model.is_running() {
        if begin.elapsed() > END_TIMEOUT {
            bail!(
                "cannot end the engine within {} s; its log is in {}",
                END_TIMEOUT.as_secs(),
                model.state().display()
            );
        }
        std::thread::sleep(WAIT_POLL / 10);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_say_what_becomes_of_units_and_storage() {
        let removing = Removing {
            name: "a".into(),
            is_application: true,
            units: vec!["a/0".into()],
            detaches: vec!["data/0".into()],
            removes: vec!["logs/1".into()],
        };
        let expected = "will remove application a\n- will remove unit a/0\n- will remove storage logs/1\n- will detach storage data/0\n";
        assert_eq!(removing_text(&removing), expected);
    }
}
