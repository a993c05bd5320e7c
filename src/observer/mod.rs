//! Looks at Juju, the servers, the Sentinels and this machine; what cannot be seen stays unknown.

mod juju_side;
mod live;
mod local;
mod mend;
mod users;

pub(crate) use self::local::{is_of_this_machine, kind, run_dir};
pub(crate) use self::users::{SystemUsersProblem, system_users, with_system_users};
pub use self::{
    juju_side::{begin, refresh_leaving},
    live::{endpoint, look, sentinel_client, server_client},
};
