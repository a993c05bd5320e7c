//! The status of a model, serialised as `juju status --format json` does.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Everything that `status` shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusReport {
    /// The model.
    pub model: ModelReport,
    /// Machines by id.
    pub machines: IndexMap<String, MachineReport>,
    /// Applications by name.
    pub applications: IndexMap<String, ApplicationReport>,
    /// Storage.
    #[serde(default, skip_serializing_if = "StorageReport::is_empty")]
    pub storage: StorageReport,
    /// The controller.
    pub controller: ControllerReport,
}

/// The model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelReport {
    /// Name.
    pub name: String,
    /// `iaas`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Controller's name.
    pub controller: String,
    /// Cloud's name.
    pub cloud: String,
    /// Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Version of Juju that is emulated.
    pub version: String,
    /// Status of the model.
    pub model_status: StatusText,
}

/// A status with the time of its last change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusText {
    /// Word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current: String,
    /// Message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it changed last, such as `01 Aug 2026 10:11:12Z`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Agent's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `dying` or `dead`; empty when alive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
}

/// A machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineReport {
    /// Status of the machine's agent.
    pub juju_status: StatusText,
    /// Host name.
    pub hostname: String,
    /// Address.
    pub dns_name: String,
    /// Addresses.
    pub ip_addresses: Vec<String>,
    /// Instance id.
    pub instance_id: String,
    /// Status of the instance.
    pub machine_status: StatusText,
    /// Status of the last modification.
    pub modification_status: StatusText,
    /// Base.
    pub base: BaseReport,
    /// Interfaces by name.
    pub network_interfaces: BTreeMap<String, InterfaceReport>,
}

/// A network interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InterfaceReport {
    /// Addresses.
    pub ip_addresses: Vec<String>,
    /// Hardware address.
    pub mac_address: String,
    /// Whether it is up.
    pub is_up: bool,
}

/// A base.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BaseReport {
    /// Such as `ubuntu`.
    pub name: String,
    /// Such as `24.04`.
    pub channel: String,
}

/// An application.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ApplicationReport {
    /// Such as `local:app-0`.
    pub charm: String,
    /// Base.
    pub base: BaseReport,
    /// `local`.
    pub charm_origin: String,
    /// Charm's name.
    pub charm_name: String,
    /// Charm's revision.
    pub charm_rev: u32,
    /// Charm's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub charm_version: String,
    /// Always false here.
    pub exposed: bool,
    /// `dying`; empty when alive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
    /// Status.
    pub application_status: StatusText,
    /// Related applications by endpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<String, Vec<RelatedReport>>,
    /// Units by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub units: IndexMap<String, UnitReport>,
    /// Workload's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Space by endpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_bindings: BTreeMap<String, String>,
}

/// The other end of a relation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RelatedReport {
    /// Application.
    pub related_application: String,
    /// Interface.
    pub interface: String,
    /// `global` or `container`.
    pub scope: String,
}

/// A unit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitReport {
    /// What the charm says.
    pub workload_status: StatusText,
    /// What the agent does.
    pub juju_status: StatusText,
    /// Whether it is the leader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leader: bool,
    /// Machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// Open ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_ports: Vec<String>,
    /// Address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub public_address: String,
}

/// Storage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StorageReport {
    /// Instances by id.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub storage: IndexMap<String, StorageInstanceReport>,
}

impl StorageReport {
    /// Tells whether there is no storage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.storage.is_empty()
    }
}

/// A storage instance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StorageInstanceReport {
    /// `filesystem` or `block`.
    pub kind: String,
    /// `dying`; empty when alive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
    /// `attached`, `detaching`, `detached` or `pending`.
    pub status: StatusText,
    /// Whether it outlives its machine.
    pub persistent: bool,
    /// Where it is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<AttachmentsReport>,
}

/// Attachments of a storage instance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AttachmentsReport {
    /// By unit.
    pub units: IndexMap<String, AttachmentReport>,
}

/// One attachment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AttachmentReport {
    /// Machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// Mount point.
    pub location: String,
    /// `dying`; empty when alive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
}

/// The controller.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ControllerReport {
    /// Time of the report, such as `10:11:12Z`.
    pub timestamp: String,
}
