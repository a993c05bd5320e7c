//! The actions: each looks once, lets a pure function judge, and prints a table or JSON.
//!
//! A refusal is an answer: the action fails with the reason and exit status 0, so that Juju shows
//! the reason instead of a number.

pub mod answer;
pub mod confirm_data_source;
pub mod failover_history;
pub mod margin;
pub mod pre_check;
pub mod pre_refresh;
pub mod probe;
pub mod status_detail;
pub mod switchover;
pub mod table;
pub mod topology;
pub mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Map, Value};
use tracing::error;

use crate::{
    charm::Charm,
    history,
    juju::{Environment, HookTools},
    observer,
    planner::Intent,
};

use super::services;

use self::{
    answer::{Answer, Format, unit_parameter},
    pre_check::Operation,
};

/// Runs an action.
///
/// # Errors
///
/// When Juju cannot even be told what went wrong.
pub async fn run(env: Environment, tools: HookTools, name: &str) -> anyhow::Result<()> {
    let result = Box::pin(answer(env, tools.clone(), name)).await;
    if let Err(error) = &result {
        let why = format!("{error:#}");
        error!(action = name, error = why, "Action failed");
        tools.action_fail(&why).await?;
    }
    Ok(())
}

async fn answer(env: Environment, tools: HookTools, name: &str) -> anyhow::Result<()> {
    let parameters = tools
        .action_get()
        .await
        .context("cannot read the parameters")?;
    let format = Format::from_parameters(&parameters).map_err(anyhow::Error::msg)?;
    let mut charm = observer::begin(env, tools.clone())
        .await
        .context("cannot look around")?;
    let answer = carry_out(&mut charm, name, &parameters).await?;
    answer.give(&tools, format).await
}

async fn carry_out(
    charm: &mut Charm,
    name: &str,
    parameters: &Map<String, Value>,
) -> anyhow::Result<Answer> {
    match name {
        "switchover" => {
            let target = unit_parameter(parameters, "target").map_err(anyhow::Error::msg)?;
            switchover::run(charm, target.as_ref()).await
        }
        "show-topology" => {
            let seen = observer::look(charm, Intent::Look).await;
            let probes = probe::probe(charm, &seen).await;
            topology::answer(&topology::describe(&seen, &probes))
        }
        "verify" => {
            let seen = observer::look(charm, Intent::Look).await;
            let probes = probe::probe(charm, &seen).await;
            let services = services::check(charm, &seen).await;
            verify::answer(&verify::assess(&seen, &probes).with_services(services))
        }
        "status-detail" => {
            let seen = observer::look(charm, Intent::Reconcile).await;
            let kept = match &charm.workload {
                Some(workload) => workload.kept_sets().await?,
                None => Vec::new(),
            };
            status_detail::answer(&status_detail::of(charm, &seen, &kept))
        }
        "pre-check" => {
            let operation = parameters.get("operation").and_then(Value::as_str);
            let operation = Operation::parse(operation).map_err(anyhow::Error::msg)?;
            let seen = observer::look(charm, Intent::Look).await;
            let probes = probe::probe(charm, &seen).await;
            pre_check::answer(&pre_check::judge(&seen, &probes, operation))
        }
        "pre-refresh-check" => {
            let seen = observer::look(charm, Intent::Look).await;
            let probes = probe::probe(charm, &seen).await;
            pre_refresh::answer(&pre_refresh::judge(&seen, &probes))
        }
        "failover-history" => {
            let workload = charm
                .workload
                .clone()
                .context("cannot read the history: the unit has no storage")?;
            let seen = observer::look(charm, Intent::Look).await;
            // What others noted since the last hook belongs to it; without it, the rest still counts.
            if let Err(error) = history::note(&workload, &seen).await {
                error!(
                    error = format!("{error:#}"),
                    "Cannot note the latest change"
                );
            }
            failover_history::answer(history::read(&workload).await)
        }
        "confirm-data-source" => {
            let unit = unit_parameter(parameters, "unit")
                .map_err(anyhow::Error::msg)?
                .context("parameter `unit` is missing")?;
            confirm_data_source::run(charm, &unit).await
        }
        other => anyhow::bail!("cannot run action `{other}`: this charm has no such action"),
    }
}

/// Checks the whole set, prints the verdict and returns 0 for OK, 1 for DEGRADED, 2 for FAIL.
///
/// # Errors
///
/// When Juju cannot be asked: run it through `juju exec --unit`.
pub async fn verify_now(env: Environment) -> anyhow::Result<ExitCode> {
    let charm = observer::begin(env, HookTools::new())
        .await
        .context("cannot look around; run this through `juju exec --unit NAME -- ./bin/valkey-operator verify`")?;
    let seen = observer::look(&charm, Intent::Look).await;
    let probes = probe::probe(&charm, &seen).await;
    let services = services::check(&charm, &seen).await;
    let verification = verify::assess(&seen, &probes).with_services(services);
    answer::print(&verify::answer(&verification)?.text)?;
    Ok(ExitCode::from(verification.verdict.exit_status()))
}
