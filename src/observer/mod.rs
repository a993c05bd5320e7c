//! Looks at Juju, the servers, the Sentinels and this machine; what cannot be seen stays unknown.

mod juju_side;
mod live;
mod local;

pub(crate) use self::juju_side::with_system_users;
pub use self::{
    juju_side::begin,
    live::{endpoint, look, sentinel_client, server_client},
    local::memory_bytes,
};
