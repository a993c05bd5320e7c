//! The charm's one binary: Juju dispatches every hook and action to it.
//!
//! Without arguments it runs what the environment says. `watch` is its only long-lived mode; `plan`
//! and `verify` explain without acting.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use valkey_operator::{handlers, juju::Environment, logging, watch};

/// Operates Valkey with high availability, as a Juju charm.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Wakes the charm when Sentinel announces a change; started by the charm itself.
    Watch {
        /// What to watch, written by the charm.
        #[arg(long)]
        file: PathBuf,
    },
    /// Decides as what the local server may start, without Juju; run by its service before each start.
    Gate {
        /// What the charm last knew, written by the charm.
        #[arg(long)]
        file: PathBuf,
    },
    /// Hands the role of primary over and saves if the machine goes down; run by the server's service when it stops.
    Farewell {
        /// What the charm last knew, written by the charm.
        #[arg(long)]
        file: PathBuf,
    },
    /// Makes a replica in sync promotable, without Juju; run by the watcher where no hook does it.
    Promotable {
        /// What the charm last knew, written by the charm.
        #[arg(long)]
        file: PathBuf,
    },
    /// Prints what the charm sees and would do, without doing it; run it through `juju exec`.
    Plan,
    /// Checks the whole set and says OK, DEGRADED or FAIL; run it through `juju exec`.
    Verify,
}

fn main() -> ExitCode {
    // Also for what is started: Sentinel writes its file anew with its passwords in it, and so anew its mode.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Juju shows an action's stderr to whoever runs it: only what is wrong belongs there.
    let in_action = std::env::var_os("JUJU_ACTION_NAME").is_some_and(|name| !name.is_empty());
    logging::init(in_action.then_some("error"));
    // One thread is enough: a hook waits for others most of its time.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Dispatched hooks have no arguments; parsing them is left out of every hook's way.
    let command = if std::env::args_os().len() > 1 {
        Arguments::parse().command
    } else {
        None
    };
    let result = runtime.block_on(async {
        match command {
            Some(Command::Watch { file }) => watch::run(&file).await.map(|()| ExitCode::SUCCESS),
            Some(Command::Gate { file }) => Box::pin(handlers::start_gate::run(&file))
                .await
                .map(|()| ExitCode::SUCCESS),
            Some(Command::Farewell { file }) => Box::pin(handlers::farewell::run(&file))
                .await
                .map(|()| ExitCode::SUCCESS),
            Some(Command::Promotable { file }) => Box::pin(handlers::promotable::run(&file))
                .await
                .map(|()| ExitCode::SUCCESS),
            Some(Command::Plan) => handlers::explain(Environment::from_process()?)
                .await
                .map(|()| ExitCode::SUCCESS),
            Some(Command::Verify) => {
                Box::pin(handlers::actions::verify_now(Environment::from_process()?)).await
            }
            // Its error is logged already, with the event that failed.
            None => Box::pin(handlers::dispatch(Environment::from_process()?))
                .await
                .map(|()| ExitCode::SUCCESS),
        }
    });
    // What still runs in the background must not keep a hook from ending.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
