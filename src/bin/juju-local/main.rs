//! A small, faithful Juju for one machine.
//!
//! One program in several roles: the command line that people use, the engine behind it (command `engine`), and, by
//! the name it is called by, each hook tool and `juju-exec`.

mod api;
mod charm;
mod client;
mod engine;
mod hook_tools;
mod limits;
#[cfg(test)]
#[path = "../../../tests/parsers/mutate.rs"]
mod mutate;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().map(PathBuf::from).unwrap_or_default();
    let name = called_as
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let rest = || {
        arguments
            .map(|text| text.to_string_lossy().into_owned())
            .collect()
    };
    if name == hook_tools::JUJU_EXEC {
        let rest: Vec<String> = rest();
        return hook_tools::juju_exec(&called_as, &rest);
    }
    if engine::is_hook_tool(name) {
        return hook_tools::run(name, rest());
    }
    client::main(engine::run, engine::pods::inside::run)
}
