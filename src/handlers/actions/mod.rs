//! The actions: each looks once, prints a table for people or JSON for programs.

use crate::juju::{Environment, HookTools};

/// Runs an action.
///
/// # Errors
///
/// When a hook tool fails.
pub async fn run(_env: Environment, tools: HookTools, name: &str) -> anyhow::Result<()> {
    tools
        .action_fail(&format!("action {name} is unknown"))
        .await?;
    Ok(())
}

/// Checks the whole set.
///
/// # Errors
///
/// When Juju cannot be asked.
pub async fn verify_now(env: Environment) -> anyhow::Result<std::process::ExitCode> {
    let _charm = crate::observer::begin(env, HookTools::new()).await?;
    Ok(std::process::ExitCode::SUCCESS)
}
