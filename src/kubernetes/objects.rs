//! The objects of Kubernetes that the charm reads and writes, with the fields that it needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::limits::SERVER_PORT;

/// Label with the name of the application, on its pods and Services.
pub const APPLICATION_LABEL: &str = "application-name";

/// Label with the role of a pod.
pub const ROLE_LABEL: &str = "role";

/// Label that says by Kubernetes' own convention who looks after an object.
const MANAGER_LABEL: &str = "app.kubernetes.io/managed-by";

/// Name under which the charm writes: Kubernetes notes it for every field.
pub const MANAGER: &str = "valkey-operator";

/// Role of a pod as Services select it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes reads and writes.
    Primary,
    /// Takes reads.
    Replica,
}

impl Role {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Replica];

    /// Returns the label's value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }

    /// Returns the name of the Service of an application that leads to this role.
    #[must_use]
    pub fn service(self, application: &str) -> String {
        match self {
            Self::Primary => format!("{application}-primary"),
            Self::Replica => format!("{application}-replicas"),
        }
    }
}

/// What every object has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Changes with every change of the object.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Objects with which it goes.
    pub owner_references: Vec<Owner>,
    /// When it is to be gone, if it is being deleted.
    pub deletion_timestamp: Option<String>,
}

/// An object with which another goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// Group and version of its kind.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its id; another object of the same name has another.
    pub uid: String,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// What every object has.
    pub metadata: Metadata,
}

impl Pod {
    /// Returns the value of the role's label.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.metadata.labels.get(ROLE_LABEL).map(String::as_str)
    }

    /// Returns whether the label with the application's name is right.
    #[must_use]
    pub fn is_of(&self, application: &str) -> bool {
        self.metadata
            .labels
            .get(APPLICATION_LABEL)
            .map(String::as_str)
            == Some(application)
    }

    /// Returns the `StatefulSet` that made the pod.
    #[must_use]
    pub fn stateful_set(&self) -> Option<&Owner> {
        self.metadata
            .owner_references
            .iter()
            .find(|owner| owner.kind == "StatefulSet")
    }
}

/// A list of pods.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pods {
    /// The pods.
    pub items: Vec<Pod>,
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// What every object has.
    pub metadata: Metadata,
    /// What it leads to.
    pub spec: ServiceSpec,
}

/// What a Service leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Labels of the pods.
    pub selector: BTreeMap<String, String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name.
    pub name: String,
    /// `TCP` or another.
    pub protocol: String,
    /// Its number.
    pub port: u16,
    /// Number or name of the port of the pod.
    pub target_port: Value,
}

impl Service {
    /// Returns who else looks after it, if somebody does: that Service is not the charm's.
    #[must_use]
    pub fn foreign(&self) -> Option<&str> {
        let manager = self.metadata.labels.get(MANAGER_LABEL)?.as_str();
        (manager != MANAGER).then_some(manager)
    }

    /// Returns whether it leads where it has to, and goes with the application.
    #[must_use]
    pub fn is_right(&self, application: &str, role: Role, owner: Option<&Owner>) -> bool {
        let [port] = self.spec.ports.as_slice() else {
            return false;
        };
        let goes_along = owner.is_none_or(|owner| {
            let mut owners = self.metadata.owner_references.iter();
            owners.any(|known| known.uid == owner.uid)
        });
        goes_along
            && self.metadata.labels.get(MANAGER_LABEL).map(String::as_str) == Some(MANAGER)
            && self.spec.selector == selector(application, role)
            && *port
                == ServicePort {
                    name: PORT_NAME.to_owned(),
                    protocol: "TCP".to_owned(),
                    port: SERVER_PORT,
                    target_port: json!(SERVER_PORT),
                }
    }
}

/// Name of the port of the Services.
const PORT_NAME: &str = "valkey";

/// Returns the labels of the pods to which the Service of a role leads.
fn selector(application: &str, role: Role) -> BTreeMap<String, String> {
    [(APPLICATION_LABEL, application), (ROLE_LABEL, role.label())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Returns the Service of a role as it has to be.
#[must_use]
pub fn service(application: &str, role: Role, owner: Option<&Owner>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": role.service(application),
            "labels": { MANAGER_LABEL: MANAGER, APPLICATION_LABEL: application },
            "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "selector": selector(application, role),
            "ports": [{
                "name": PORT_NAME, "protocol": "TCP", "port": SERVER_PORT, "targetPort": SERVER_PORT,
            }],
        },
    })
}

/// Returns what makes a Service right: a merge patch that leaves everything else of it alone.
///
/// It counts only for the Service as it was read, so that nobody's change is undone unseen.
#[must_use]
pub fn service_patch(
    application: &str,
    role: Role,
    owner: Option<&Owner>,
    found: &Service,
) -> Value {
    let mut patch = service(application, role, owner);
    let wanted = selector(application, role);
    for name in found
        .spec
        .selector
        .keys()
        .filter(|name| !wanted.contains_key(*name))
    {
        patch["spec"]["selector"][name] = Value::Null;
    }
    // Whoever else owns it keeps it.
    let mut owners: Vec<&Owner> = found.metadata.owner_references.iter().collect();
    if let Some(owner) = owner
        && owners.iter().all(|known| known.uid != owner.uid)
    {
        owners.retain(|known| known.kind != owner.kind || known.name != owner.name);
        owners.push(owner);
    }
    patch["metadata"]["ownerReferences"] = json!(owners);
    patch["metadata"]["resourceVersion"] = json!(found.metadata.resource_version);
    patch
}

/// Returns what gives a pod its role, or takes it away: a merge patch of these labels alone.
///
/// It counts only for the pod as it was read.
#[must_use]
pub fn role_patch(application: &str, role: Option<Role>, resource_version: &str) -> Value {
    let mut labels = json!({ ROLE_LABEL: role.map(Role::label) });
    if role.is_some() {
        labels[APPLICATION_LABEL] = json!(application);
    }
    json!({ "metadata": { "resourceVersion": resource_version, "labels": labels } })
}
