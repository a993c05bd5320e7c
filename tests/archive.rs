//! The charm's archive: what Juju requires of it, that it is the same each time, that charmcraft
//! would build the same, and that it deploys.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::Duration,
};

use serde_yaml::Value;

use support::model::{A_UNIT, APPLICATION, Model};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_valkey-operator");

/// What Juju and Charmhub look for, apart from the charm's own files.
const FILES: [&str; 13] = [
    "LICENSE",
    "README.md",
    "actions.yaml",
    "bin/valkey-operator",
    "config.yaml",
    "dispatch",
    "hooks/install",
    "hooks/start",
    "hooks/upgrade-charm",
    "icon.svg",
    "manifest.yaml",
    "metadata.yaml",
    "version",
];

/// What Juju runs.
const PROGRAMS: [&str; 5] = [
    "bin/valkey-operator",
    "dispatch",
    "hooks/install",
    "hooks/start",
    "hooks/upgrade-charm",
];

/// Returns the archive with the program of this test run, which is packed once.
fn packed() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| pack(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive")))
}

/// Packs the program of this test run; returns the archive.
fn pack(place: &Path) -> PathBuf {
    let output = Command::new("scripts/build-charm")
        .current_dir(ROOT)
        .args(["--program", PROGRAM, "--to"])
        .arg(place)
        .output()
        .unwrap();
    printed(output)
}

/// Returns the archive that `scripts/build-charm` says it has made.
fn printed(output: Output) -> PathBuf {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A file of an archive: its mode and content.
#[derive(Debug, PartialEq, Eq)]
struct File {
    mode: u32,
    bytes: Vec<u8>,
}

/// Reads an archive as Juju does; its entries in their order.
fn read(archive: &Path) -> Vec<(String, File)> {
    let mut zip = zip::ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
    let mut files = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        assert!(entry.is_file(), "{name} is neither a directory nor a link");
        let mode = entry.unix_mode().expect("a mode, or nothing could be run");
        assert_eq!(mode & 0o170_000, 0o100_000, "{name}");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let mode = mode & 0o7777;
        files.push((name, File { mode, bytes }));
    }
    files
}

/// Reads a directory tree in the same form.
fn tree(root: &Path) -> BTreeMap<String, File> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            let file = File {
                mode: mode & 0o7777,
                bytes: fs::read(&path).unwrap(),
            };
            files.insert(name.to_owned(), file);
        }
    }
    files
}

fn yaml(bytes: &[u8]) -> Value {
    serde_yaml::from_slice(bytes).unwrap()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[test]
fn the_archive_is_as_juju_wants_it() {
    let archive = packed();
    assert_eq!(
        archive.file_name().unwrap().to_str().unwrap(),
        format!("valkey_ubuntu@24.04-{}.charm", architecture())
    );
    let files = read(archive);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, FILES, "every file, in order, and nothing else");
    for (name, file) in &files {
        let expected = if PROGRAMS.contains(&name.as_str()) {
            0o755
        } else {
            0o644
        };
        assert_eq!(file.mode, expected, "{name}: {:o}", file.mode);
    }
    let files: BTreeMap<String, File> = files.into_iter().collect();
    assert_eq!(
        files["bin/valkey-operator"].bytes,
        fs::read(PROGRAM).unwrap()
    );
    for name in ["metadata.yaml", "config.yaml", "actions.yaml", "LICENSE"] {
        let source = fs::read(Path::new(ROOT).join(name)).unwrap();
        assert_eq!(files[name].bytes, source, "{name}");
    }
    let version = String::from_utf8(files["version"].bytes.clone()).unwrap();
    assert_eq!(version.lines().count(), 1);
    assert!((1..=100).contains(&version.trim().len()), "{version}");

    let manifest = yaml(&files["manifest.yaml"].bytes);
    let bases = manifest["bases"].as_sequence().unwrap();
    assert!(!bases.is_empty());
    for base in bases {
        assert_eq!(base["name"].as_str(), Some("ubuntu"));
        assert!(base["channel"].as_str().is_some(), "{base:?}");
        let architectures = base["architectures"].as_sequence().unwrap();
        assert_eq!(architectures, &[Value::from(architecture())]);
    }
    let metadata = yaml(&files["metadata.yaml"].bytes);
    assert!(
        metadata.get("series").is_none(),
        "a charm of the second format"
    );
    let resource = &metadata["resources"]["valkey-server"];
    assert_eq!(resource["type"].as_str(), Some("file"));
    let filename = resource["filename"].as_str().unwrap();
    assert!(!filename.contains('/'), "{filename}");
}

#[test]
fn the_same_sources_give_the_same_archive() {
    let mut archives = BTreeSet::new();
    for umask in ["022", "077"] {
        let place = tempfile::tempdir().unwrap();
        let output = Command::new("sh")
            .current_dir(ROOT)
            .args(["-c", "umask \"$1\" && TZ=Asia/Tokyo exec scripts/build-charm --program \"$2\" --to \"$3\"", "sh"])
            .args([umask, PROGRAM])
            .arg(place.path())
            .output()
            .unwrap();
        archives.insert(fs::read(printed(output)).unwrap());
        // Zip keeps times in steps of two seconds.
        std::thread::sleep(Duration::from_secs(3));
    }
    assert_eq!(archives.len(), 1, "each run packs other bytes");
}

#[test]
fn a_program_that_a_base_cannot_run_is_not_packed() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("program");
    fs::write(&program, b"\x7fELF\0GLIBC_2.17\0GLIBC_2.99\0").unwrap();
    let output = Command::new("scripts/build-charm")
        .current_dir(ROOT)
        .arg("--program")
        .arg(&program)
        .arg("--to")
        .arg(place.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("it needs C library 2.99"), "{said}");
}

#[test]
fn charmcraft_would_build_the_same() {
    let place = tempfile::tempdir().unwrap();
    let packed: BTreeMap<String, File> = read(packed()).into_iter().collect();
    let charmcraft = yaml(&fs::read(Path::new(ROOT).join("charmcraft.yaml")).unwrap());

    // The platforms are those of the manifest, for both architectures.
    let platforms: BTreeSet<String> = charmcraft["platforms"]
        .as_mapping()
        .unwrap()
        .iter()
        .map(|(name, _)| name.as_str().unwrap().to_owned())
        .collect();
    let manifest = yaml(&packed["manifest.yaml"].bytes);
    let expected: BTreeSet<String> = manifest["bases"]
        .as_sequence()
        .unwrap()
        .iter()
        .flat_map(|base| {
            let channel = base["channel"].as_str().unwrap();
            let name = base["name"].as_str().unwrap();
            ["amd64", "arm64"].map(|on| format!("{name}@{channel}:{on}"))
        })
        .collect();
    assert_eq!(platforms, expected);

    // Its build script, with a compiler that has finished already.
    let source = place.path().join("source");
    let tools = place.path().join("tools");
    let built = place.path().join("built");
    for directory in [&source.join("target/release"), &tools, &built] {
        fs::create_dir_all(directory).unwrap();
    }
    for name in ["dispatch", "LICENSE", "README.md", "icon.svg"] {
        fs::copy(Path::new(ROOT).join(name), source.join(name)).unwrap();
    }
    fs::copy(PROGRAM, source.join("target/release/valkey-operator")).unwrap();
    for tool in ["cargo", "rustup"] {
        fs::write(tools.join(tool), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tools.join(tool), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = charmcraft["parts"]["charm"]["override-build"]
        .as_str()
        .unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let status = Command::new("bash")
        .args(["-euc", script])
        .current_dir(&source)
        .env("PATH", path)
        .env("CRAFT_PART_INSTALL", &built)
        // The sources beside this place are not what is built.
        .env("GIT_CEILING_DIRECTORIES", place.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mut built = tree(&built);
    // Its own git describes another tree.
    assert!(
        built
            .remove("version")
            .is_some_and(|file| file.mode == 0o644)
    );
    // What charmcraft puts in by itself.
    let of_charmcraft = |name: &str| {
        matches!(
            name,
            "metadata.yaml" | "config.yaml" | "actions.yaml" | "manifest.yaml" | "version"
        )
    };
    let packed: BTreeMap<String, File> = packed
        .into_iter()
        .filter(|(name, _)| !of_charmcraft(name))
        .collect();
    let names = |files: &BTreeMap<String, File>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&built), names(&packed));
    for (name, file) in &packed {
        assert!(built[name] == *file, "{name} differs");
    }
}

#[test]
fn the_archive_deploys() {
    let archive = packed();
    let model = Model::new();
    model.juju(&[
        "deploy",
        archive.to_str().unwrap(),
        APPLICATION,
        "--env",
        "VALKEY_OPERATOR_WORKLOAD=process",
    ]);
    let settled = model.settled(1, A_UNIT * 2);
    assert_eq!(settled.primary.name, format!("{APPLICATION}/0"));
}
