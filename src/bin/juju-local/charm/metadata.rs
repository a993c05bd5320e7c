//! `metadata.yaml`: name, endpoints, storage, resources. Unknown keys are ignored, as Juju does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::manifest::Manifest;
use super::names::{is_application, is_endpoint, is_reserved};
use super::yaml::go_syntax;
use super::{CharmError, invalid};

/// Where Juju itself mounts storage; no charm may.
const STORAGE_DIR: &str = "/var/lib/juju/storage";

/// What `metadata.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The charm's name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// More about it.
    pub description: String,
    /// Every endpoint by name, without the implicit `juju-info`.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Names of bindings that are no endpoints.
    pub extra_bindings: BTreeSet<String>,
    /// Storage by name.
    pub storage: BTreeMap<String, StorageSpec>,
    /// Resources by name.
    pub resources: BTreeMap<String, Resource>,
    /// Names of the containers; a charm with some is for Kubernetes.
    pub containers: BTreeSet<String>,
    /// Whether it lives beside another charm's units.
    pub subordinate: bool,
}

/// One end of relations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Which end.
    pub role: Role,
    /// What both ends must speak.
    pub interface: String,
    /// Most relations at this endpoint; `None` is no limit.
    pub limit: Option<u64>,
    /// Whether the charm works without.
    pub optional: bool,
    /// Whose units see each other.
    pub scope: Scope,
}

/// Which end of a relation an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Offers the interface.
    Provider,
    /// Uses the interface.
    Requirer,
    /// Relates the units of one application.
    Peer,
}

/// Whose units see each other over a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of them.
    Global,
    /// Only those on one machine.
    Container,
}

/// What kind of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A directory.
    Filesystem,
    /// A device.
    Block,
}

/// One declared storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSpec {
    /// What kind.
    pub kind: StorageKind,
    /// Fewest instances per unit.
    pub count_min: u32,
    /// Most instances per unit; `None` is no limit.
    pub count_max: Option<u32>,
    /// Where the charm wants it mounted; `None` leaves it to Juju.
    pub location: Option<String>,
    /// Whether `multiple` was given: the location then holds one directory per instance.
    pub multiple: bool,
}

/// One declared resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// `file` or `oci-image`.
    pub kind: String,
    /// Name of the file in the unit's resource directory; empty for images.
    pub filename: String,
}

/// What a person asks for with `--storage name=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageDirective {
    /// Kind of storage at the cloud; `None` for the default.
    pub pool: Option<String>,
    /// Size in MiB; `None` for the charm's least.
    pub size_mib: Option<u64>,
    /// Number of instances; `None` for the charm's least.
    pub count: Option<u32>,
}

impl Metadata {
    /// Parses the document; the manifest decides the format.
    ///
    /// # Errors
    ///
    /// With Juju's text for the first rule that is broken.
    pub fn parse(document: &Value, manifest: &Manifest) -> Result<Self, CharmError> {
        let Some(map) = document.as_object() else {
            return invalid("metadata: expected a map");
        };
        let name = required(map, "name")?;
        if !is_application(&name) {
            return invalid(format!("metadata: invalid charm name {name:?}"));
        }
        check_format(map, manifest)?;
        let mut endpoints = BTreeMap::new();
        for (section, role) in [
            ("provides", Role::Provider),
            ("requires", Role::Requirer),
            ("peers", Role::Peer),
        ] {
            for (endpoint, spec) in section_of(map, section)? {
                let spec = Endpoint::parse(&name, endpoint, spec, role)?;
                if endpoints.insert(endpoint.clone(), spec).is_some() {
                    return invalid(format!(
                        "charm {name:?} using a duplicated relation name: {endpoint:?}"
                    ));
                }
            }
        }
        let extra_bindings = extra_bindings(map, &endpoints)?;
        let mut storage = BTreeMap::new();
        for (store, spec) in section_of(map, "storage")? {
            storage.insert(store.clone(), StorageSpec::parse(&name, store, spec)?);
        }
        let mut resources = BTreeMap::new();
        for (resource, spec) in section_of(map, "resources")? {
            resources.insert(resource.clone(), Resource::parse(resource, spec)?);
        }
        let subordinate = map
            .get("subordinate")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let contained = |endpoint: &Endpoint| {
            endpoint.role == Role::Requirer && endpoint.scope == Scope::Container
        };
        if subordinate && !endpoints.values().any(contained) {
            return invalid(format!(
                "subordinate charm {name:?} lacks \"requires\" relation with container scope"
            ));
        }
        Ok(Self {
            summary: required(map, "summary")?,
            description: required(map, "description")?,
            endpoints,
            extra_bindings,
            storage,
            resources,
            containers: section_of(map, "containers")?
                .map(|(container, _)| container.clone())
                .collect(),
            subordinate,
            name,
        })
    }
}

impl Endpoint {
    fn parse(charm: &str, name: &str, spec: &Value, role: Role) -> Result<Self, CharmError> {
        if !is_endpoint(name) {
            return invalid(format!("metadata: invalid relation name {name:?}"));
        }
        let mut endpoint = Self {
            role,
            interface: String::new(),
            limit: None,
            optional: false,
            scope: Scope::Global,
        };
        match spec {
            Value::String(interface) => endpoint.interface.clone_from(interface),
            Value::Object(spec) => {
                endpoint.interface = text(spec, "interface");
                endpoint.optional = spec
                    .get("optional")
                    .and_then(Value::as_bool)
                    .unwrap_or(false);
                endpoint.limit = match spec.get("limit") {
                    None | Some(Value::Null) => None,
                    Some(limit) => match limit.as_u64() {
                        Some(limit) => Some(limit),
                        None => {
                            return invalid(format!(
                                "metadata: relation {name:?}: limit: expected int, got {}",
                                go_syntax(limit)
                            ));
                        }
                    },
                };
                endpoint.scope = match text(spec, "scope").as_str() {
                    "" | "global" => Scope::Global,
                    "container" => Scope::Container,
                    other => {
                        return invalid(format!(
                            "metadata: relation {name:?}: unexpected scope {other:?}"
                        ));
                    }
                };
            }
            _ => {
                return invalid(format!(
                    "metadata: relation {name:?}: expected an interface"
                ));
            }
        }
        if endpoint.interface.is_empty() {
            return invalid(format!(
                "metadata: relation {name:?}: expected an interface"
            ));
        }
        if !is_reserved(charm) {
            if is_reserved(name) {
                return invalid(format!(
                    "charm {charm:?} using a reserved relation name: {name:?}"
                ));
            }
            // A charm may require `juju-info` of others, but not pose as Juju.
            if role != Role::Requirer && is_reserved(&endpoint.interface) {
                let interface = &endpoint.interface;
                return invalid(format!(
                    "charm {charm:?} relation {name:?} using a reserved interface: {interface:?}"
                ));
            }
        }
        Ok(endpoint)
    }
}

impl StorageSpec {
    fn parse(charm: &str, name: &str, spec: &Value) -> Result<Self, CharmError> {
        let prefix = format!("charm {charm:?} storage {name:?}:");
        if !is_application(name) {
            return invalid(format!("metadata: invalid storage name {name:?}"));
        }
        let Some(spec) = spec.as_object() else {
            return invalid(format!("{prefix} type must be specified"));
        };
        let kind = match text(spec, "type").as_str() {
            "filesystem" => StorageKind::Filesystem,
            "block" => StorageKind::Block,
            "" => return invalid(format!("{prefix} type must be specified")),
            other => return invalid(format!("{prefix} unknown type {other:?}")),
        };
        let location = Some(text(spec, "location")).filter(|location| !location.is_empty());
        if let Some(location) = &location {
            if kind == StorageKind::Block {
                return invalid(format!(
                    "{prefix} location may not be specified for \"type: block\""
                ));
            }
            if location == STORAGE_DIR || location.starts_with(&format!("{STORAGE_DIR}/")) {
                return invalid(format!(
                    "{prefix} invalid location {location:?}: must not fall within {STORAGE_DIR:?}"
                ));
            }
        }
        let multiple = spec.get("multiple").filter(|value| !value.is_null());
        let (count_min, count_max) = match multiple {
            None => (1, Some(1)),
            Some(multiple) => range(multiple.get("range").unwrap_or(&Value::Null))?,
        };
        Ok(Self {
            kind,
            count_min,
            count_max,
            location,
            multiple: multiple.is_some(),
        })
    }
}

impl Resource {
    fn parse(name: &str, spec: &Value) -> Result<Self, CharmError> {
        let empty = Map::new();
        let spec = spec.as_object().unwrap_or(&empty);
        let kind = Some(text(spec, "type"))
            .filter(|kind| !kind.is_empty())
            .unwrap_or_else(|| "file".to_owned());
        let filename = text(spec, "filename");
        match kind.as_str() {
            "file" if filename.is_empty() => {
                return invalid(format!("resource {name:?}: resource missing filename"));
            }
            "file" if filename.contains('/') || filename == ".." || filename == "." => {
                return invalid(format!(
                    "resource {name:?}: filename cannot contain \"/\" (got {filename:?})"
                ));
            }
            "file" | "oci-image" => {}
            _ => {
                return invalid(format!(
                    "resource {name:?}: unsupported resource type {kind:?}"
                ));
            }
        }
        Ok(Self { kind, filename })
    }
}

impl StorageDirective {
    /// Parses `pool,count,size` in any order, each part optional: `1G`, `3`, `loop,2,10G`.
    ///
    /// # Errors
    ///
    /// With Juju's text when a part is none of the three.
    pub fn parse(text: &str) -> Result<Self, CharmError> {
        let mut directive = Self {
            pool: None,
            size_mib: None,
            count: None,
        };
        for (place, part) in text.split(',').enumerate() {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            match size_mib(part) {
                _ if digits => match part.parse() {
                    Ok(count) if count > 0 => directive.count = Some(count),
                    _ => {
                        return invalid(format!(
                            "cannot parse count: count must be greater than zero, got {part:?}"
                        ));
                    }
                },
                Some(size) => directive.size_mib = Some(size),
                None if place == 0 && part.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    directive.pool = Some(part.to_owned());
                }
                None => return invalid(format!("unrecognized storage directive {part:?}")),
            }
        }
        Ok(directive)
    }
}

/// Parses a size like `512M` or `1.5G` into MiB, rounded up.
fn size_mib(text: &str) -> Option<u64> {
    let unit = text
        .trim_end_matches("iB")
        .trim_end_matches('B')
        .chars()
        .last()?;
    let number = &text[..text.find(unit)?];
    let factor: u64 = match unit {
        'M' => 1,
        'G' => 1 << 10,
        'T' => 1 << 20,
        'P' => 1 << 30,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut size = whole.checked_mul(factor)?;
    if !part.is_empty() {
        // Three places are enough: a size is a wish, not an account.
        let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
        size = size.checked_add((thousandths * factor).div_ceil(1000))?;
    }
    Some(size)
}

/// Parses `m`, `m-n`, `m+` or `m-`.
fn range(value: &Value) -> Result<(u32, Option<u32>), CharmError> {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let parsed = if let Some(least) = text.strip_suffix(['+', '-']) {
        least.parse().ok().map(|least| (least, None))
    } else if let Some((least, most)) = text.split_once('-') {
        least
            .parse()
            .ok()
            .zip(most.parse().ok())
            .map(|(least, most)| (least, Some(most)))
    } else {
        text.parse().ok().map(|exactly| (exactly, Some(exactly)))
    };
    match parsed {
        Some((least, most)) if most.is_none_or(|most| most >= least && most > 0) => {
            Ok((least, most))
        }
        _ => invalid(format!("value {text:?} does not match 'm', 'm-n', or 'm+'")),
    }
}

/// Checks that keys of the old and the new format are not mixed.
fn check_format(map: &Map<String, Value>, manifest: &Manifest) -> Result<(), CharmError> {
    let given = |keys: &[&str]| {
        let given = keys.iter().filter(|key| map.contains_key(**key));
        given
            .map(|key| format!("{key:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let old = given(&["series", "deployment", "min-juju-version"]);
    let new = given(&["assumes", "charm-user", "containers"]);
    if !old.is_empty() && !new.is_empty() {
        return invalid(format!(
            "ambiguous metadata: keys {old} cannot be used with {new}"
        ));
    }
    if map.contains_key("containers") && manifest.bases.is_empty() {
        return invalid("containers without a manifest.yaml not valid");
    }
    match map.get("charm-user").map(|user| (user.as_str(), user)) {
        None | Some((Some("root" | "sudoer" | "non-root"), _)) => Ok(()),
        Some((_, user)) => invalid(format!(
            "invalid charm-user {} expected one of root, sudoer or non-root",
            go_syntax(user)
        )),
    }
}

fn extra_bindings(
    map: &Map<String, Value>,
    endpoints: &BTreeMap<String, Endpoint>,
) -> Result<BTreeSet<String>, CharmError> {
    let bindings: BTreeSet<String> = section_of(map, "extra-bindings")?
        .map(|(name, _)| name.clone())
        .collect();
    if map.contains_key("extra-bindings") && bindings.is_empty() {
        return invalid("extra-bindings cannot be empty");
    }
    if let Some(name) = bindings.iter().find(|name| endpoints.contains_key(*name)) {
        return invalid(format!(
            "relation names ({name}) cannot be used in extra bindings"
        ));
    }
    Ok(bindings)
}

/// Returns the entries of the map under `key`; none when it is absent or null.
fn section_of<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, CharmError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(section)) => Ok(Some(section.iter()).into_iter().flatten()),
        Some(other) => invalid(format!(
            "metadata: {key}: expected map, got {}",
            go_syntax(other)
        )),
    }
}

/// Returns the text under `key`, or an empty one.
fn text(map: &Map<String, Value>, key: &str) -> String {
    map.get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn required(map: &Map<String, Value>, key: &str) -> Result<String, CharmError> {
    match map.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        None | Some(Value::Null) => {
            invalid(format!("metadata: {key}: expected string, got nothing"))
        }
        Some(other) => invalid(format!(
            "metadata: {key}: expected string, got {}",
            go_syntax(other)
        )),
    }
}

#[cfg(test)]
mod tests {
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
}
