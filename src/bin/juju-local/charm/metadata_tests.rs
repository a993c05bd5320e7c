//! Tests of the room `metadata`.

use super::super::storage::StorageDirective;
use super::super::yaml;
use super::*;

fn metadata(rest: &str) -> Result<Metadata, CharmError> {
    let text = format!("name: a\nsummary: s\ndescription: d\n{rest}\n");
    Metadata::parse(&yaml::parse("metadata.yaml", &text)?, &Manifest::default())
}

#[test]
fn wrong_files_are_refused_with_jujus_words() {
    for (rest, expected) in [
        ("", "ok"),
        ("display-name: X\nunknown: [1]", "ok"),
        (
            "provides: {r: i}\nrequires: {r: j}",
            "charm \"a\" using a duplicated relation name: \"r\"",
        ),
        (
            "peers: {juju-x: i}",
            "charm \"a\" using a reserved relation name: \"juju-x\"",
        ),
        (
            "provides: {r: juju-x}",
            "charm \"a\" relation \"r\" using a reserved interface: \"juju-x\"",
        ),
        (
            "requires: {r: {interface: juju-info, scope: container}}\nsubordinate: true",
            "ok",
        ),
        (
            "subordinate: true",
            "subordinate charm \"a\" lacks \"requires\" relation with container scope",
        ),
        (
            "storage: {data: {}}",
            "charm \"a\" storage \"data\": type must be specified",
        ),
        (
            "storage: {data: {type: block, location: /x}}",
            "charm \"a\" storage \"data\": location may not be specified for \"type: block\"",
        ),
        (
            "storage: {data: {type: filesystem, location: /var/lib/juju/storage/x}}",
            "charm \"a\" storage \"data\": invalid location \"/var/lib/juju/storage/x\": must not fall within \"/var/lib/juju/storage\"",
        ),
        (
            "storage: {data: {type: filesystem, multiple: {range: x}}}",
            "value \"x\" does not match 'm', 'm-n', or 'm+'",
        ),
        (
            "containers: {c: {}}",
            "containers without a manifest.yaml not valid",
        ),
        (
            "series: [jammy]\nassumes: [juju]",
            "ambiguous metadata: keys \"series\" cannot be used with \"assumes\"",
        ),
        (
            "charm-user: x",
            "invalid charm-user \"x\" expected one of root, sudoer or non-root",
        ),
        (
            "resources: {r: {type: file, filename: a/b}}",
            "resource \"r\": filename cannot contain \"/\" (got \"a/b\")",
        ),
        ("peers: [x]", "metadata: peers: expected map, got [\"x\"]"),
        ("extra-bindings: {}", "extra-bindings cannot be empty"),
        (
            "peers: {r: i}\nextra-bindings: {r: null}",
            "relation names (r) cannot be used in extra bindings",
        ),
    ] {
        assert_eq!(
            metadata(rest).map_or_else(|error| error.to_string(), |_| "ok".into()),
            expected,
            "{rest}"
        );
    }
    let bad = Metadata::parse(
        &yaml::parse("metadata.yaml", "name: A\n").unwrap(),
        &Manifest::default(),
    );
    assert_eq!(
        bad.unwrap_err().to_string(),
        "metadata: invalid charm name \"A\""
    );
}

#[test]
fn endpoints_are_read_in_both_forms() {
    let read = metadata("provides: {db: sql}\nrequires: {x: {interface: y, limit: 1, optional: true}}\npeers: {p: {interface: q}}").unwrap();
    let db = Endpoint {
        role: Role::Provider,
        interface: "sql".into(),
        limit: None,
        optional: false,
        scope: Scope::Global,
    };
    assert_eq!(read.endpoints["db"], db);
    assert_eq!(
        (read.endpoints["x"].limit, read.endpoints["x"].optional),
        (Some(1), true)
    );
    assert_eq!(read.endpoints["p"].role, Role::Peer);
}

#[test]
fn ranges_of_storage_are_understood() {
    for (text, expected) in [
        ("type: filesystem", (1, Some(1))),
        ("type: filesystem, multiple: {range: 0-1}", (0, Some(1))),
        ("type: filesystem, multiple: {range: 2}", (2, Some(2))),
        ("type: filesystem, multiple: {range: 1+}", (1, None)),
        ("type: filesystem, multiple: {range: 3-}", (3, None)),
        ("type: block, multiple: {range: 1-10}", (1, Some(10))),
    ] {
        let spec = &metadata(&format!("storage: {{data: {{{text}}}}}"))
            .unwrap()
            .storage["data"];
        assert_eq!((spec.count_min, spec.count_max), expected, "{text}");
    }
}

#[test]
fn storage_directives_take_their_parts_in_any_order() {
    for (text, expected) in [
        ("1G", Some((None, Some(1024), None))),
        ("3", Some((None, None, Some(3)))),
        ("loop,2,10G", Some((Some("loop"), Some(10240), Some(2)))),
        ("1.5G,2", Some((None, Some(1536), Some(2)))),
        ("512MiB", Some((None, Some(512), None))),
        ("0", None),
        ("1G,loop", None),
        ("", Some((None, None, None))),
    ] {
        let got = StorageDirective::parse(text).ok();
        let expected =
            expected.map(
                |(pool, size_mib, count): (Option<&str>, _, _)| StorageDirective {
                    pool: pool.map(str::to_owned),
                    size_mib,
                    count,
                },
            );
        assert_eq!(got, expected, "{text}");
    }
}
