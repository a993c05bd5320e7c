//! Holds the documentation against the charm: every option and action is described as it is, and
//! every link leads somewhere.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/files.rs"]
mod files;

use std::{fs, path::Path};

use serde_yaml::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path} is no YAML: {error}"))
}

fn keys(map: &Value) -> Vec<String> {
    map.as_mapping()
        .expect("a map")
        .keys()
        .map(|key| key.as_str().expect("a name").to_owned())
        .collect()
}

/// Returns the row of a table that describes `name`.
fn row<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    table
        .lines()
        .find(|line| line.starts_with(&format!("| `{name}` |")))
}

#[test]
fn every_option_is_described_with_its_type_and_default() {
    let page = read("docs/reference/options.md");
    let options = yaml("config.yaml")["options"].clone();
    for name in keys(&options) {
        let option = &options[name.as_str()];
        assert!(
            option["description"]
                .as_str()
                .is_some_and(|text| text.len() > 40),
            "{name} is not described"
        );
        let row = row(&page, &name).unwrap_or_else(|| panic!("options.md has no row for {name}"));
        let kind = option["type"].as_str().expect("a type");
        let default = match &option["default"] {
            Value::String(text) if text.is_empty() => "`\"\"`".to_owned(),
            Value::String(text) => format!("`{text}`"),
            Value::Number(number) => format!("`{number}`"),
            _ => "none".to_owned(),
        };
        let wanted = format!("| {kind}, {default} |");
        assert!(
            row.contains(&wanted),
            "options.md does not say {wanted} of {name}: {row}"
        );
    }
    let described = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(
        described,
        keys(&options).len(),
        "options.md describes options that do not exist"
    );
}

#[test]
fn every_action_is_described_and_takes_a_format() {
    let page = read("docs/reference/actions.md");
    let actions = yaml("actions.yaml");
    for name in keys(&actions) {
        let action = &actions[name.as_str()];
        assert!(
            action["description"]
                .as_str()
                .is_some_and(|text| text.len() > 40),
            "{name} is not described"
        );
        assert_eq!(
            action["additionalProperties"].as_bool(),
            Some(false),
            "{name} takes any parameter"
        );
        let row = row(&page, &name).unwrap_or_else(|| panic!("actions.md has no row for {name}"));
        for parameter in keys(&action["params"]) {
            assert!(
                parameter == "format" || row.contains(&format!("`{parameter}`")),
                "actions.md does not name {parameter} of {name}"
            );
        }
        assert_eq!(
            action["params"]["format"]["default"].as_str(),
            Some("table"),
            "{name} has no format"
        );
    }
    let described = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(
        described,
        keys(&actions).len(),
        "actions.md describes actions that do not exist"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let places = ["docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let pages = files::below(places.map(|name| root().join(name)).into(), "md");
    let mut broken = Vec::new();
    for page in &pages {
        let text = read(page);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            let is_remote = target.is_empty() || target.contains("://");
            if !is_remote && !page.parent().expect("a folder").join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(pages.len() > 10, "hardly any page was found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
