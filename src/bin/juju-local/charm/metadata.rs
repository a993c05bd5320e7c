//! `metadata.yaml`: name, endpoints, storage, resources. Unknown keys are ignored, as Juju does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::containers::{Container, Known};
use super::manifest::Manifest;
use super::names::{is_application, is_endpoint, is_reserved};
use super::resource::Resource;
use super::storage::StorageSpec;
use super::yaml::{go_syntax, text};
use super::{CharmError, invalid};

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
    /// Containers by name: what runs beside it on Kubernetes.
    pub containers: BTreeMap<String, Container>,
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
        let known = Known {
            storage: &storage,
            resources: &resources,
        };
        let mut containers = BTreeMap::new();
        for (container, spec) in section_of(map, "containers")? {
            let spec = Container::parse(container, spec, &known)?;
            containers.insert(container.clone(), spec);
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
            containers,
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
#[path = "metadata_tests.rs"]
mod tests;
