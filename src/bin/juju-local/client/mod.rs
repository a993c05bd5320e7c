//! The command line: `juju`'s commands, columns and shapes, spoken to the engine of this model.
//!
//! ```text
//! arguments   what may be typed
//! connect     the state directory, the engine's socket, starting the engine
//! commands    one function per command that asks and prints little
//! tasks       run, exec and what belongs to operations and tasks
//! wait        waiting for units, with progress
//! status      the tables of status; table, style: how tables look
//! secrets, storage, debug_log    what their commands print
//! output      JSON, YAML, and text that survives a closed pipe
//! ```

mod arguments;
mod commands;
mod connect;
mod debug_log;
mod input;
mod output;
#[cfg(test)]
mod properties;
mod secrets;
mod status;
mod storage;
mod table;
mod tasks;
mod wait;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

/// How a command ended when it did not fail.
type Done = anyhow::Result<ExitCode>;

/// Reads the command line, does what it says and returns the exit status.
///
/// `engine` runs the engine for a state directory until it ends; it is what the hidden command `engine` calls.
/// `inside` begins a container; it is what the hidden command `inside` calls.
pub fn main(
    engine: impl Fn(&Path) -> anyhow::Result<()>,
    inside: impl Fn(&Path) -> anyhow::Result<()>,
) -> ExitCode {
    // Errors of usage are clap's to print; it exits with 2 as Juju does.
    let arguments = Arguments::parse();
    match run(arguments, engine, inside) {
        Ok(code) => code,
        Err(error) => {
            output::note(&format!("ERROR {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(
    arguments: Arguments,
    engine: impl Fn(&Path) -> anyhow::Result<()>,
    inside: impl Fn(&Path) -> anyhow::Result<()>,
) -> Done {
    if let Command::Inside { spec } = &arguments.command {
        inside(spec)?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = connect::state_directory(arguments.state)?;
    if matches!(arguments.command, Command::Engine) {
        engine(&state)?;
        return Ok(ExitCode::SUCCESS);
    }
    let model = connect::Model::new(state);
    match arguments.command {
        Command::Engine | Command::Inside { .. } => Ok(ExitCode::SUCCESS),
        Command::Deploy(given) => commands::deploy(&model, given),
        Command::AddUnit(given) => commands::add_unit(&model, given),
        Command::RemoveUnit(given) => commands::remove_unit(&model, given),
        Command::ScaleApplication(given) => commands::scale(&model, &given),
        Command::RemoveApplication(given) => commands::remove_application(&model, given),
        Command::Refresh(given) => commands::refresh(&model, given),
        Command::Integrate { endpoints, wait } => commands::integrate(&model, endpoints, &wait),
        Command::RemoveRelation { endpoints } => commands::remove_relation(&model, endpoints),
        Command::Config(given) => commands::config(&model, given),
        Command::Status(given) => status::status(&model, &given),
        Command::WaitFor(given) => wait::wait_for(&model, &given),
        Command::ShowUnit { units, format } => commands::show_unit(&model, &units, format),
        Command::Run(given) => tasks::run(&model, &given),
        Command::Exec(given) => tasks::exec(&model, given),
        Command::Actions {
            application,
            format,
        } => tasks::actions(&model, &application, format),
        Command::Operations { format } => tasks::operations(&model, format),
        Command::ShowOperation { id, format } => tasks::show_operation(&model, id, format),
        Command::ShowTask { id, format } => tasks::show_task(&model, id, format),
        Command::CancelTask { ids } => tasks::cancel(&model, ids),
        Command::Resolved {
            units,
            all,
            no_retry,
        } => commands::resolved(&model, units, all, no_retry),
        Command::DebugLog(given) => debug_log::debug_log(&model, &given),
        Command::AddSecret(given) => secrets::add(&model, given),
        Command::UpdateSecret(given) => secrets::update(&model, given),
        Command::GrantSecret {
            secret,
            applications,
        } => secrets::grant(&model, secret, applications),
        Command::RevokeSecret {
            secret,
            applications,
        } => secrets::revoke(&model, secret, applications),
        Command::RemoveSecret { secret } => secrets::remove(&model, secret),
        Command::Secrets { format } => secrets::list(&model, format),
        Command::ShowSecret(given) => secrets::show(&model, given),
        Command::Storage { format } => storage::list(&model, format),
        Command::AddStorage { unit, storage } => storage::add(&model, &unit, &storage),
        Command::AttachStorage { unit, storage } => storage::attach(&model, unit, &storage),
        Command::DetachStorage { storage } => storage::detach(&model, &storage),
        Command::RemoveStorage { storage, force } => storage::remove(&model, &storage, force),
        Command::Handle { handle } => commands::handle(&model, handle),
        Command::Destroy => commands::destroy(&model),
    }
}
