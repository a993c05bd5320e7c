//! Runs a test once more in a process of its own, for what only a whole process can have.

use std::ffi::OsStr;
use std::process::Command;

/// Runs the test `name` of this program by way of the command `before`, with these variables.
///
/// # Panics
///
/// When it fails there, or when there is no such test.
pub fn again(name: &str, before: &[&str], variables: &[(&str, &OsStr)]) {
    let program = std::env::current_exe().expect("the path of this program");
    let mut words: Vec<&OsStr> = before.iter().map(AsRef::as_ref).collect();
    words.push(program.as_os_str());
    let output = Command::new(words[0])
        .args(&words[1..])
        .args(["--exact", name, "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .expect("a process starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
