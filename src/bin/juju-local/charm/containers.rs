//! Containers that a charm declares: what runs beside it in its pod.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resource::Resource;
use super::storage::StorageSpec;
use super::yaml::text;
use super::{CharmError, invalid};

/// First user or group id that a container may not have, being people's.
const RESERVED_FIRST: u64 = 1000;

/// Last such id.
const RESERVED_LAST: u64 = 9999;

/// One declared container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Resource of its image; empty when none is named.
    pub resource: String,
    /// Storage that it sees.
    pub mounts: Vec<Mount>,
    /// User that its processes run as; `None` is root.
    pub uid: Option<u32>,
    /// Group that its processes run as; `None` is root's.
    pub gid: Option<u32>,
}

/// Storage that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Name of the storage.
    pub storage: String,
    /// Absolute path in the container.
    pub location: String,
}

/// What of the metadata a container may name.
pub struct Known<'a> {
    /// Declared storage.
    pub storage: &'a BTreeMap<String, StorageSpec>,
    /// Declared resources.
    pub resources: &'a BTreeMap<String, Resource>,
}

impl Container {
    /// Parses the declaration `spec` of container `name`.
    ///
    /// # Errors
    ///
    /// With Juju's text for the first rule that is broken.
    pub fn parse(name: &str, spec: &Value, known: &Known<'_>) -> Result<Self, CharmError> {
        let empty = Map::new();
        let spec = match spec {
            Value::Null => &empty,
            Value::Object(spec) => spec,
            _ => return invalid(format!("container {name:?}: expected a map")),
        };
        let resource = text(spec, "resource");
        if !resource.is_empty() {
            match known.resources.get(&resource) {
                None => {
                    return invalid(format!(
                        "container {name:?}: referenced resource {resource:?} not found"
                    ));
                }
                Some(found) if found.kind != "oci-image" => {
                    return invalid(format!(
                        "container {name:?}: referenced resource {resource:?} is not a oci-image"
                    ));
                }
                Some(_) => {}
            }
        }
        let mounts = spec
            .get("mounts")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|mount| Mount::parse(name, mount, known))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            resource,
            mounts,
            uid: id(name, spec, "uid")?,
            gid: id(name, spec, "gid")?,
        })
    }
}

impl Mount {
    fn parse(container: &str, spec: &Value, known: &Known<'_>) -> Result<Self, CharmError> {
        let empty = Map::new();
        let spec = spec.as_object().unwrap_or(&empty);
        let (storage, location) = (text(spec, "storage"), text(spec, "location"));
        if storage.is_empty() {
            return invalid(format!(
                "container {container:?}: storage must be specified on mount"
            ));
        }
        if location.is_empty() {
            return invalid(format!(
                "container {container:?}: location must be specified on mount"
            ));
        }
        if !known.storage.contains_key(&storage) {
            return invalid(format!(
                "container {container:?}: storage {storage:?} not valid"
            ));
        }
        Ok(Self { storage, location })
    }
}

/// Reads a user or group id.
fn id(container: &str, spec: &Map<String, Value>, key: &str) -> Result<Option<u32>, CharmError> {
    let Some(value) = spec.get(key).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let number = value.as_u64();
    match number.and_then(|number| u32::try_from(number).ok().map(|id| (number, id))) {
        Some((RESERVED_FIRST..=RESERVED_LAST, id)) => invalid(format!(
            "container {container:?} has invalid {key} {id}: {key} cannot be in reserved range 1000-9999"
        )),
        Some((_, id)) => Ok(Some(id)),
        None => invalid(format!(
            "container {container:?} has invalid {key} {value}: it is no number of a user or group"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_name_only_what_is_declared() {
        let filesystem = json!({"type": "filesystem"});
        let storage = StorageSpec::parse("c", "data", &filesystem).unwrap();
        let storage = BTreeMap::from([("data".to_owned(), storage)]);
        let resource = |kind: &str| Resource {
            kind: kind.to_owned(),
            filename: String::new(),
        };
        let resources = BTreeMap::from([
            ("image".to_owned(), resource("oci-image")),
            ("file".to_owned(), resource("file")),
        ]);
        let known = Known {
            storage: &storage,
            resources: &resources,
        };
        for (spec, said) in [
            (json!({"resource": "other"}), "resource \"other\" not found"),
            (json!({"resource": "file"}), "is not a oci-image"),
            (json!({"mounts": [{"location": "/x"}]}), "storage must be"),
            (json!({"mounts": [{"storage": "data"}]}), "location must be"),
            (
                json!({"mounts": [{"storage": "d", "location": "/x"}]}),
                "storage \"d\" not valid",
            ),
            (
                json!({"uid": 1000}),
                "uid cannot be in reserved range 1000-9999",
            ),
            (
                json!({"gid": 9999}),
                "gid cannot be in reserved range 1000-9999",
            ),
            (json!({"uid": -1}), "no number of a user"),
            (json!("image"), "expected a map"),
        ] {
            let error = Container::parse("c", &spec, &known).unwrap_err();
            assert!(error.to_string().contains(said), "{spec}: {error}");
        }
        let spec = json!({"resource": "image", "uid": 10000, "gid": 999,
            "mounts": [{"storage": "data", "location": "/srv"}]});
        let container = Container::parse("c", &spec, &known).unwrap();
        assert_eq!((container.uid, container.gid), (Some(10000), Some(999)));
        assert_eq!(container.mounts[0].location, "/srv");
        assert_eq!(
            Container::parse("c", &Value::Null, &known).unwrap(),
            Container::default()
        );
    }
}
