//! Properties of what a person types: times, pairs, parameters, options, whole command lines.

use clap::Parser as _;
use proptest::prelude::*;
use serde_json::Value;

use super::arguments::Arguments;
use super::input::{duration, options, pair, parameters, yaml_map};
use crate::limits::KEY_DEPTH_MAX;
use crate::mutate::{config, hostile, hostile_text};

const LINES: &[&str] = &[
    "deploy\n./charm\napp\n-n\n3\n--wait\n--env\nA=b\n--config\nx=1\n--storage\ndata=1G\n--trust",
    "add-unit\napp\n-n\n2\n--wait=5m",
    "remove-unit\napp/0\napp/1\n--force\n--no-wait",
    "run\napp/0\napp/leader\nbackup\ntarget=x\n--wait\n5m\n--format\njson",
    "exec\n--unit\napp/0\n--\nsh\n-c\necho --x",
    "config\napp\nx=1\n--reset\ny,z",
    "handle\nsetting\nlease-seconds=2",
];

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Each part of a key is a map in a map: as many as an argument can name would use the stack up.
#[test]
fn a_key_of_very_many_parts_is_refused() {
    let key = |parts: usize| format!("{}=1", vec!["a"; parts].join("."));
    let error = parameters(None, &[key(60_000)], true)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot take a parameter's key"),
        "{error}"
    );
    let most = parameters(None, &[key(KEY_DEPTH_MAX)], true).unwrap();
    assert_eq!(depth(&Value::Object(most)), KEY_DEPTH_MAX);
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn any_time_is_understood_or_refused(text in hostile_text(&["90s", "1h30m", "500ms", "7"])) {
        if let Err(error) = duration(&text) {
            prop_assert!(error.contains("is no time"));
        }
    }

    #[test]
    fn any_pair_is_split_or_refused(text in hostile_text(&["key=value", "a=b=c", " a =b"])) {
        match pair(&text) {
            Ok((key, value)) => {
                prop_assert!(!key.is_empty() && key.trim() == key);
                prop_assert!(text.ends_with(&value));
            }
            Err(error) => prop_assert!(error.contains("expected \"key=value\"")),
        }
    }

}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_parameters_are_taken_or_refused(
        one in hostile_text(&["a=1", "b.c=true", "b.d=[x, y]", "e=x: y", "a.b.c.d=&x {y: *x}"]),
        other in hostile_text(&["a=1", "a.b=2"]),
        as_text in any::<bool>(),
    ) {
        match parameters(None, &[one, other], as_text) {
            Ok(map) => {
                // They cross a socket as JSON, which is read 128 levels deep.
                let sent = serde_json::to_string(&map).unwrap();
                prop_assert!(serde_json::from_str::<Value>(&sent).is_ok());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn any_command_line_is_understood_or_refused(line in hostile_text(LINES)) {
        let words = std::iter::once("juju-local").chain(line.split('\n'));
        if let Err(error) = Arguments::try_parse_from(words) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_file_of_options_is_taken_or_refused(
        bytes in hostile(vec![
            b"app:\n  n: 5\n  b: true\n  s: x\n".to_vec(),
            b"application: app\nsettings: {n: {value: 5, source: user}, m: {value: 1, source: default}}\n".to_vec(),
        ]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("options.yaml");
        std::fs::write(&path, bytes).unwrap();
        for outcome in [
            yaml_map(&path).map(drop),
            options(&[path.display().to_string()], "app").map(drop),
            options(&[format!("n=@{}", path.display())], "app").map(drop),
            parameters(Some(&path), &["a.b=1".to_owned()], false).map(drop),
        ] {
            if let Err(error) = outcome {
                let error = format!("{error:#}");
                prop_assert!(!error.is_empty());
            }
        }
    }
}
