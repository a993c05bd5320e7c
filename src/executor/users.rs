//! Changes the internal users' passwords while everything runs: see [`rotation`].

use std::collections::BTreeMap;

use anyhow::Context as _;
use tracing::{info, warn};

use crate::{
    charm::Charm,
    juju::{
        SecretId,
        hook_tools::{SecretContent, SecretSpec},
    },
    observer::{self, sentinel_client, server_client},
    planner::{
        UnitName,
        peer_data::UnitState,
        rotation::{self, Next, Phase},
    },
    valkey::{
        Credentials, InternalUser, SentinelClient, ServerClient, UsersSecret,
        configuration::{sentinel_users, server_users},
    },
    workload::{Backend as _, Service},
};

use super::{processes::PRIVATE, workload};

/// Carries out what the secret of the passwords says, where that is not done yet.
///
/// What does not answer now is tried again with the next hook: nobody goes on without this unit.
pub async fn apply_users(charm: &mut Charm) {
    let Some(secret) = charm.users_secret.clone() else {
        return;
    };
    if secret.number == charm.juju.users_number || charm.workload.is_none() {
        return;
    }
    match apply(charm, &secret).await {
        Ok(()) => {
            info!(number = secret.number, "Passwords taken up");
            charm.juju.users_number = secret.number;
        }
        Err(error) => warn!(
            error = format!("{error:#}"),
            "Cannot take up the passwords yet"
        ),
    }
}

async fn apply(charm: &Charm, secret: &UsersSecret) -> anyhow::Result<()> {
    let workload = workload(charm)?;
    let layout = workload.layout();
    let (current, other) = (&secret.current, secret.other.as_ref());
    // Who does not run reads the files when it starts, and those are written anew before that.
    if workload.status(Service::Server).await?.is_running() {
        let users = server_users(current, other);
        workload
            .write(&layout.server_users(), users.as_bytes(), PRIVATE)
            .await?;
        let client = server(charm, current, other).await?;
        client.set_users(&users).await?;
        let replication = current.password(InternalUser::CharmedReplication);
        client
            .config_set(&[("masterauth", replication.expose())])
            .await?;
    }
    if workload.status(Service::Sentinel).await?.is_running() {
        let users = sentinel_users(current, other);
        workload
            .write(&layout.sentinel_users(), users.as_bytes(), PRIVATE)
            .await?;
        let client = sentinel(charm, current, other).await?;
        client.set_users(&users).await?;
        let peers = current.password(InternalUser::CharmedSentinelPeers);
        client.set_peer_password(peers).await?;
        let server = current.password(InternalUser::CharmedSentinelValkey);
        if client.primary().await?.is_some() {
            client.set(&[("auth-pass", server.expose())]).await?;
        }
    }
    Ok(())
}

/// Logs in with the passwords in use, or with the others if a phase went by unseen.
async fn server(
    charm: &Charm,
    current: &Credentials,
    other: Option<&Credentials>,
) -> anyhow::Result<ServerClient> {
    let host = &charm.juju.address;
    match (server_client(host, current).await, other) {
        (Err(_), Some(other)) => server_client(host, other).await,
        (result, _) => result,
    }
}

async fn sentinel(
    charm: &Charm,
    current: &Credentials,
    other: Option<&Credentials>,
) -> anyhow::Result<SentinelClient> {
    let host = &charm.juju.address;
    match (sentinel_client(host, current).await, other) {
        (Err(_), Some(other)) => sentinel_client(host, other).await,
        (result, _) => result,
    }
}

/// Begins the next phase of a change of the passwords, as the leader, once all have carried out the last.
///
/// # Errors
///
/// When the secret cannot be written.
pub async fn advance_users(charm: &mut Charm) -> anyhow::Result<()> {
    charm.users_busy = charm
        .users_secret
        .as_ref()
        .is_some_and(|secret| secret.number != charm.juju.users_number);
    let (Some(secret), Some(id), true) = (
        charm.users_secret.clone(),
        charm.juju.app_wanted.users_secret.clone(),
        charm.juju.leads_still(),
    ) else {
        return Ok(());
    };
    let number = secret.number;
    let wanted = charm.users_wanted.clone();
    let next = rotation::next(
        Phase::of(number),
        number,
        wanted.is_some(),
        &carried_out(charm),
    );
    let phase = match next {
        Next::Nothing => return Ok(()),
        // Whoever is done says so in its databag, and that wakes this unit.
        Next::WaitFor(units) => {
            let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
            charm.users_awaited = Some(names.join(", "));
            return Ok(());
        }
        Next::Begin(phase) => phase,
    };
    let number = number.saturating_add(1);
    let next = match (phase, secret.other, wanted) {
        (Phase::Accept, _, wanted) => UsersSecret {
            current: secret.current,
            other: wanted,
            number,
        },
        (Phase::Move, Some(new), _) => UsersSecret {
            current: new,
            other: Some(secret.current),
            number,
        },
        (Phase::Move | Phase::Settled, _, _) => UsersSecret {
            current: secret.current,
            other: None,
            number,
        },
    };
    let id: SecretId = id.parse().context("the databag names no secret")?;
    let content: SecretContent = next.to_content().into_iter().collect();
    let spec = SecretSpec {
        content: Some(&content),
        ..SecretSpec::default()
    };
    charm
        .tools
        .secret_set(&id, &spec)
        .await
        .context("cannot write the secret of the passwords")?;
    info!(?phase, number, "The passwords are changed");
    charm.juju.app_users_number = number;
    charm.juju.app_wanted.system_users = observer::system_users(charm).map(str::to_owned);
    charm.users_busy = true;
    Ok(())
}

/// Returns every unit whose processes may run, with the number that it has carried out.
fn carried_out(charm: &Charm) -> BTreeMap<UnitName, u64> {
    let juju = &charm.juju;
    let others = juju.peers.iter().filter(|(_, unit)| {
        let runs = matches!(unit.data.state, UnitState::New | UnitState::Member);
        // Written when the server started for the first time.
        runs && unit.data.server_version.is_some()
    });
    let number = |unit: &UnitName| juju.users_numbers.get(unit).copied().unwrap_or(0);
    let mut done: BTreeMap<UnitName, u64> = others
        .map(|(unit, _)| (unit.clone(), number(unit)))
        .collect();
    done.insert(juju.me.clone(), juju.users_number);
    done
}
