//! Valkey and Sentinel as the charm sees them: clients, reply parsers, configuration text, and the
//! two procedures that need several processes at once (handing the primary's role over, changing
//! the membership of the Sentinels).
//!
//! Nothing here knows of Juju, of how processes are run, or of the planner.

pub mod configuration;
mod connection;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod handover;
pub mod hello;
pub mod lease;
pub mod membership;
pub mod names;
#[cfg(test)]
mod properties;
pub mod sentinel;
pub mod sentinel_view;
pub mod server;
pub mod server_info;
pub mod users_secret;
pub mod version;

pub use credentials::{Credentials, InternalUser, Password};
pub use endpoint::Endpoint;
pub use error::ValkeyError;
pub use sentinel::SentinelClient;
pub use sentinel_view::{PrimaryView, ReplicaView, SentinelPeer};
pub use server::ServerClient;
pub use server_info::{Role, ServerInfo};
pub use users_secret::UsersSecret;
pub use version::Version;
