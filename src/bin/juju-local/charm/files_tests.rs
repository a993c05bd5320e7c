//! Tests of the room `files`.

use super::*;
use zip::write::{SimpleFileOptions, ZipWriter};

const METADATA: &str = "name: a\nsummary: s\ndescription: d\n";

/// Writes files into a new directory; a name that ends in `*` is executable, `->` makes a link.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        if let Some((link, target)) = file.split_once("->") {
            symlink(target, dir.path().join(link)).unwrap();
            continue;
        }
        let (name, mode) = file
            .strip_suffix('*')
            .map_or((*file, 0o600), |name| (name, 0o700));
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            &path,
            if name == "metadata.yaml" {
                METADATA
            } else {
                name
            },
        )
        .unwrap();
        set_mode(&path, mode).unwrap();
    }
    dir
}

/// Writes an archive; each entry is name, mode with type bits, content.
fn archive(entries: &[(&str, u32, &str)]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut zip = ZipWriter::new(file.reopen().unwrap());
    for (name, mode, content) in entries {
        let options = SimpleFileOptions::default().unix_permissions(mode & 0o777);
        if mode & 0o170_000 == 0o120_000 {
            zip.add_symlink(*name, *content, options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
    }
    zip.finish().unwrap();
    file
}

/// Lists what `unpack` put down as `path mode`, links as `path->target`.
fn listing(source: &Path) -> Result<String, String> {
    let into = tempfile::tempdir().unwrap();
    let deployed = unpack(source, into.path()).map_err(|error| error.to_string())?;
    let show = |path: &PathBuf| {
        let full = into.path().join(path);
        let kind = fs::symlink_metadata(&full).unwrap();
        if kind.is_symlink() {
            let target = fs::read_link(&full).unwrap();
            return format!("{}->{}", path.display(), target.display());
        }
        format!("{} {:o}", path.display(), kind.permissions().mode() & 0o777)
    };
    Ok(deployed.iter().map(show).collect::<Vec<_>>().join(", "))
}

#[test]
fn a_directory_is_copied_with_plain_modes_and_without_what_is_ignored() {
    let dir = tree(&[
        "metadata.yaml",
        "dispatch*",
        "src/charm.py",
        "hooks/install",
        ".git/config",
        "target/debug/big",
        "build/x",
        "version",
        "sub/target/kept",
        "sub/.tox/x",
        "link->src/charm.py",
    ]);
    assert_eq!(
        listing(dir.path()).unwrap(),
        "dispatch 755, hooks 755, hooks/install 744, link->src/charm.py, metadata.yaml 644, src 755, src/charm.py 644, \
         sub 755, sub/target 755, sub/target/kept 644"
    );
}

#[test]
fn jujuignore_leaves_out_and_takes_back() {
    let dir = tree(&[
        "metadata.yaml",
        "a.log",
        "keep.log",
        "docs/b.log",
        "docs/c.md",
        "tmp/x",
    ]);
    fs::write(
        dir.path().join(".jujuignore"),
        "# logs\n*.log\n!keep.log\n/tmp/\ndocs/*.md\n",
    )
    .unwrap();
    assert_eq!(
        listing(dir.path()).unwrap(),
        "docs 755, keep.log 644, metadata.yaml 644"
    );
}

#[test]
fn links_must_stay_inside() {
    for (link, expected) in [
        ("x->/etc/passwd", "symlink \"x\" is absolute"),
        (
            "x->../y",
            "symlink \"x\" links to \"../y\" outside of charm: leads out of scope",
        ),
    ] {
        let dir = tree(&["metadata.yaml", link]);
        assert_eq!(listing(dir.path()).unwrap_err(), expected);
        let (name, target) = link.split_once("->").unwrap();
        let file = archive(&[(name, 0o120_777, target)]);
        assert_eq!(listing(file.path()).unwrap_err(), expected);
    }
}

#[test]
fn a_socket_is_refused() {
    let dir = tree(&["metadata.yaml"]);
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    assert!(
        listing(dir.path())
            .unwrap_err()
            .starts_with("file is of unknown type")
    );
}

#[test]
fn an_archive_keeps_its_modes_and_cannot_escape() {
    let file = archive(&[
        ("metadata.yaml", 0o644, METADATA),
        ("dispatch", 0o755, "x"),
        ("/abs", 0o600, "x"),
        ("../../up", 0o644, "x"),
        ("hooks/start", 0o644, "x"),
        ("hooks/other", 0o644, "x"),
        ("bin/link", 0o120_777, "../dispatch"),
    ]);
    assert_eq!(
        listing(file.path()).unwrap(),
        "abs 600, bin/link->../dispatch, dispatch 755, hooks/other 644, hooks/start 744, metadata.yaml 644, up 644"
    );
}

#[test]
fn an_archive_cannot_write_through_its_own_link() {
    let file = archive(&[
        ("dir/x", 0o644, "x"),
        ("link", 0o120_777, "dir"),
        ("link/y", 0o644, "x"),
    ]);
    assert!(
        listing(file.path())
            .unwrap_err()
            .contains("a link lies on the way")
    );
}

#[test]
fn what_is_no_charm_is_named() {
    let empty = tree(&[]);
    assert!(
        listing(empty.path())
            .unwrap_err()
            .starts_with("archive file \"metadata.yaml\" not found in")
    );
    assert!(
        listing(&empty.path().join("none"))
            .unwrap_err()
            .starts_with("no charm was found at")
    );
    let text = tree(&["x"]);
    assert!(
        listing(&text.path().join("x"))
            .unwrap_err()
            .contains("is it a zip file?")
    );
}

#[test]
fn an_upgrade_removes_what_vanished_and_keeps_what_the_charm_made() {
    let old = tree(&["metadata.yaml", "gone/a", "both"]);
    let new = tree(&["metadata.yaml", "both", "new"]);
    let unit = tempfile::tempdir().unwrap();
    let before = copy_stored(old.path(), unit.path()).unwrap();
    fs::write(unit.path().join("made"), "x").unwrap();
    let now = copy_stored(new.path(), unit.path()).unwrap();
    remove_vanished(unit.path(), &before, &now).unwrap();
    let mut names: Vec<_> = fs::read_dir(unit.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["both", "made", "metadata.yaml", "new"]);
}
