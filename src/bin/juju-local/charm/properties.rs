//! Properties of what a charm brings along: YAML files, archives, directories, and what a person says to them.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::ignore::Ignored;
use super::{Actions, Charm, CharmError, Config, StorageDirective, copy_stored, unpack, yaml};
use crate::limits::{CHARM_DEPTH_MAX, STORAGE_INSTANCES_MAX, YAML_VALUES_MAX};
use crate::mutate::{config, hostile, hostile_text};

const METADATA: &[&str] = &[
    include_str!("../../../../metadata.yaml"),
    include_str!("../../../../tests/charms/shell/metadata.yaml"),
    include_str!("../../../../tests/charms/ops/metadata.yaml"),
    "name: a\nsummary: s\ndescription: d\nstorage:\n  data: {type: filesystem, multiple: {range: 1-3}}\n",
];
const ACTIONS: &[&str] = &[
    include_str!("../../../../actions.yaml"),
    include_str!("../../../../tests/charms/shell/actions.yaml"),
    "go:\n  params:\n    a: {type: string, pattern: '^(a+)+$', default: x}\n    b: {type: object, properties: {c: {default: 1}}}\n",
];
const CONFIG: &[&str] = &[
    include_str!("../../../../config.yaml"),
    include_str!("../../../../tests/charms/shell/config.yaml"),
];
const MANIFEST: &[&str] = &[
    include_str!("../../../../tests/charms/shell/manifest.yaml"),
    "bases: [{name: ubuntu, channel: 24.04}]",
];

fn clear(error: &CharmError) {
    let text = error.to_string();
    assert!(!text.is_empty());
}

/// Counts all values of a document.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

/// A few lines that stand for a billion values end as an error, and soon.
#[test]
fn aliases_cannot_fill_the_memory() {
    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        "1,".repeat(4000),
        "*a,".repeat(4000)
    );
    let mut deep = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        deep.extend(
            ["a", "&a"]
                .iter()
                .zip([": ", " ["])
                .map(|(key, end)| format!("{key}{level}{end}")),
        );
        deep.extend([before.as_str(), "]\n"]);
    }
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1_000_000),
        "*a,".repeat(100)
    );
    for text in [wide, deep, long] {
        let begun = Instant::now();
        let error = yaml::parse("metadata.yaml", &text).unwrap_err();
        assert_eq!(error.to_string(), "cannot parse metadata.yaml");
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
    }
    // Aliases as people use them are fine.
    let document = yaml::parse("f", "a: &a {b: 1}\nc: [*a, *a]\n").unwrap();
    assert_eq!(
        document.to_string(),
        r#"{"a":{"b":1},"c":[{"b":1},{"b":1}]}"#
    );
}

/// Time does not grow with the square of the brackets; brackets in texts do no harm.
#[test]
fn brackets_cannot_take_for_ever() {
    let begun = Instant::now();
    for open in ["[", "{a: ", "[{b: "] {
        let error = yaml::read(&open.repeat(500_000)).unwrap_err().to_string();
        assert!(error.contains("nested too deeply"), "{error}");
    }
    let text = format!("{{\"a\":\"{}\"}}", "[".repeat(500_000));
    assert!(yaml::read(&text).is_ok());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

/// Patterns of `.jujuignore` are matched in time, whatever they are.
#[test]
fn patterns_cannot_take_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let patterns = [format!("{}b", "*a".repeat(60)), "*".repeat(2_000_000)].join("\n");
    fs::write(dir.path().join(".jujuignore"), patterns).unwrap();
    let ignored = Ignored::read(dir.path()).unwrap();
    let begun = Instant::now();
    assert!(ignored.matches(Path::new(&"a".repeat(255)), false));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn patterns_match_as_before() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join(".jujuignore"),
        "*.log\nx?y\na*b*c\n!keep.log\n",
    )
    .unwrap();
    let ignored = Ignored::read(dir.path()).unwrap();
    for (name, expected) in [
        ("a.log", true),
        (".log", true),
        ("log", false),
        ("keep.log", false),
        ("xzy", true),
        ("xy", false),
        ("abc", true),
        ("a-b-c", true),
        ("abcb", false),
        ("ac", false),
        ("abbcc", true),
    ] {
        assert_eq!(ignored.matches(Path::new(name), false), expected, "{name}");
    }
}

/// One entry of an archive.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    content: Content,
    mode: u32,
}

#[derive(Debug, Clone)]
enum Content {
    File(Vec<u8>),
    Directory,
    Link(String),
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let metadata = SimpleFileOptions::default().unix_permissions(0o644);
    zip.start_file("metadata.yaml", metadata).unwrap();
    zip.write_all(METADATA[1].as_bytes()).unwrap();
    for entry in entries {
        let options = SimpleFileOptions::default().unix_permissions(entry.mode);
        // What the writer itself refuses (a name twice) is left out.
        let _ = match &entry.content {
            Content::File(bytes) => zip
                .start_file(entry.name.as_str(), options)
                .map(|()| zip.write_all(bytes).unwrap()),
            Content::Directory => zip.add_directory(entry.name.as_str(), options),
            Content::Link(target) => zip.add_symlink(entry.name.as_str(), target.as_str(), options),
        };
    }
    zip.finish().unwrap().into_inner()
}

const NAMES: &[&str] = &[
    "dispatch",
    "hooks/install",
    "../outside",
    "/outside",
    "a/../../outside",
    "a",
    "a/b",
    "a/b/c",
    "./x",
    "a//b",
    "",
    "..",
    "hooks",
    "C:\\x",
    "a\\..\\..\\x",
];
const TARGETS: &[&str] = &[
    "dispatch",
    "a/b",
    "..",
    "../..",
    "/etc/passwd",
    "a/../../..",
    ".",
    "",
    "hooks/../../x",
];

fn entry() -> impl Strategy<Value = Entry> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(Content::File),
        Just(Content::Directory),
        proptest::sample::select(TARGETS).prop_map(|target| Content::Link(target.to_owned())),
    ];
    (proptest::sample::select(NAMES), content, 0..0o10_000_u32).prop_map(|(name, content, mode)| {
        Entry {
            name: name.to_owned(),
            content,
            mode,
        }
    })
}

/// Lists what lies below `dir`, links as themselves.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Unpacks bytes as an archive in a directory of its own; whatever it holds, nothing may appear beside the target.
fn unpack_alone(bytes: &[u8]) -> Result<Vec<PathBuf>, CharmError> {
    let root = tempfile::tempdir().unwrap();
    let (file, target) = (
        root.path().join("x.charm"),
        root.path().join("in/the/middle"),
    );
    fs::write(&file, bytes).unwrap();
    let result = unpack(&file, &target);
    let mut beside: Vec<_> = below(root.path());
    beside.retain(|path| !path.starts_with(&target) && *path != file && !target.starts_with(path));
    assert!(beside.is_empty(), "files beside the target: {beside:?}");
    let inside = below(&target);
    for path in &inside {
        if let Ok(to) = fs::read_link(path) {
            assert!(to.is_relative(), "{path:?} -> {to:?}");
        }
    }
    result.map(|_| {
        inside
            .iter()
            .map(|path| path.strip_prefix(&target).unwrap().to_owned())
            .collect()
    })
}

/// A link that leads out, a file behind a link, a directory behind a link: nothing is written outside.
#[test]
fn an_archive_cannot_write_outside() {
    let link = |name: &str, target: &str| Entry {
        name: name.into(),
        content: Content::Link(target.into()),
        mode: 0o777,
    };
    let file = |name: &str| Entry {
        name: name.into(),
        content: Content::File(b"x".to_vec()),
        mode: 0o644,
    };
    for (entries, expected) in [
        (vec![file("../../../outside")], None),
        (vec![link("a", "/tmp")], Some("symlink")),
        (vec![link("a/b", "../../x")], Some("leads out of scope")),
        (
            vec![link("a", "hooks"), file("a/x")],
            Some("a link lies on the way"),
        ),
        (
            vec![link("a", "."), file("a/x")],
            Some("a link lies on the way"),
        ),
        (
            vec![link("long", &"x/".repeat(3000))],
            Some("more than 4095 bytes"),
        ),
        (
            vec![file(&"d/".repeat(CHARM_DEPTH_MAX + 1))],
            Some("levels deep"),
        ),
    ] {
        let result = unpack_alone(&archive(&entries)).map_err(|error| error.to_string());
        match expected {
            None => assert!(result.is_ok(), "{entries:?}: {result:?}"),
            Some(text) => assert!(
                result.as_ref().is_err_and(|error| error.contains(text)),
                "{entries:?}: {result:?}"
            ),
        }
    }
}

/// Directories deeper than any charm's are refused before the stack is used up.
#[test]
fn a_very_deep_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("charm");
    fs::create_dir_all(source.join("d/".repeat(1500))).unwrap();
    fs::write(source.join("metadata.yaml"), METADATA[1]).unwrap();
    for result in [
        unpack(&source, &root.path().join("a")),
        copy_stored(&source, &root.path().join("b")),
    ] {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("levels deep"), "{text}");
    }
    symlink("..", source.join("up")).unwrap();
    assert!(unpack(&source, &root.path().join("c")).is_err());
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn any_yaml_is_read_within_bounds(text in hostile_text(METADATA)) {
        match yaml::parse("f", &text) {
            Ok(document) => {
                prop_assert!(size(&document) <= YAML_VALUES_MAX);
                // The engine keeps it as JSON.
                let stored = serde_json::to_string(&document).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), document);
            }
            Err(error) => clear(&error),
        }
    }

}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_charm_is_read_or_refused(
        metadata in hostile(METADATA.iter().map(|text| (*text).into()).collect()),
        manifest in hostile(MANIFEST.iter().map(|text| (*text).into()).collect()),
        options in hostile(CONFIG.iter().map(|text| (*text).into()).collect()),
        spoil_all in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metadata.yaml"), metadata).unwrap();
        fs::write(dir.path().join("version"), &manifest).unwrap();
        if spoil_all {
            fs::write(dir.path().join("manifest.yaml"), manifest).unwrap();
            fs::write(dir.path().join("config.yaml"), options).unwrap();
        }
        match Charm::read(dir.path()) {
            Ok(charm) => {
                let stored = serde_json::to_string(&charm).unwrap();
                prop_assert_eq!(serde_json::from_str::<Charm>(&stored).unwrap(), charm);
            }
            Err(error) => clear(&error),
        }
    }

    #[test]
    fn any_option_is_taken_or_refused(
        file in hostile_text(CONFIG),
        text in hostile_text(&["5", "true", "1.5", "secret:9m4e2mr0", "text"]),
    ) {
        let document = yaml::parse("config.yaml", &file);
        let Ok(options) = document.and_then(|document| Config::parse(&document)) else { return Ok(()) };
        for name in options.options.keys().take(20) {
            match options.parse_text(name, &text) {
                Ok(value) => {
                    let set = Map::from_iter([(name.clone(), value.clone())]);
                    prop_assert_eq!(&options.effective(&set)[name], &value);
                }
                Err(error) => clear(&error),
            }
        }
    }

    #[test]
    fn any_storage_directive_is_read_or_refused(text in hostile_text(&["1G", "3", "loop,2,10G", "1.5T", "ebs,1", "512MiB"])) {
        match StorageDirective::parse(&text) {
            Ok(directive) => {
                let again: StorageDirective = serde_json::from_value(serde_json::to_value(&directive).unwrap()).unwrap();
                prop_assert_eq!(again, directive);
            }
            Err(error) => clear(&error),
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_actions_are_read_and_any_parameters_checked(
        file in hostile_text(ACTIONS),
        given in hostile_text(&[r#"{"target":"store/0","format":"json"}"#, r#"{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!","b":{}}"#]),
        strict in any::<bool>(),
    ) {
        let document = yaml::parse("actions.yaml", &file);
        let actions = match document.and_then(|document| Actions::parse(&document)) {
            Ok(actions) => actions,
            Err(error) => {
                clear(&error);
                return Ok(());
            }
        };
        let given: Map<String, Value> = serde_json::from_str(&given).unwrap_or_default();
        for action in actions.0.values().take(10) {
            match action.check(&given, strict) {
                Ok(filled) => prop_assert!(given.keys().all(|name| filled.contains_key(name))),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn any_archive_stays_in_its_directory(entries in proptest::collection::vec(entry(), 0..8)) {
        if let Err(error) = unpack_alone(&archive(&entries)) {
            clear(&error);
        }
    }

    #[test]
    fn any_bytes_as_an_archive_are_unpacked_or_refused(
        bytes in hostile(vec![archive(&[
            Entry { name: "hooks/install".into(), content: Content::File(b"#!/bin/sh\n".repeat(50)), mode: 0o755 },
            Entry { name: "d".into(), content: Content::Directory, mode: 0o755 },
            Entry { name: "l".into(), content: Content::Link("hooks".into()), mode: 0o777 },
        ])]),
    ) {
        match unpack_alone(&bytes) {
            Ok(files) => prop_assert!(files.len() < 100),
            Err(error) => clear(&error),
        }
    }
}

#[test]
fn no_charm_has_more_storage_than_can_be_made() {
    let directive = StorageDirective::parse("4294967295").unwrap();
    assert!(
        directive
            .count
            .is_some_and(|count| count > STORAGE_INSTANCES_MAX),
        "the engine has to refuse it"
    );
}
