//! A small, faithful Juju for one machine.

// Not everything that is agreed on is used by both sides yet.
#![allow(dead_code, unused_imports)]

mod api;
mod charm;
mod client;
mod limits;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    client::main(|_state| anyhow::bail!("there is no engine yet"))
}
