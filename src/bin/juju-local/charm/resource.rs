//! Resources: files and images that come beside the charm.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::yaml::text;
use super::{CharmError, invalid};

/// One declared resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// `file` or `oci-image`.
    pub kind: String,
    /// Name of the file in the unit's resource directory; empty for images.
    pub filename: String,
}

impl Resource {
    pub(super) fn parse(name: &str, spec: &Value) -> Result<Self, CharmError> {
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
