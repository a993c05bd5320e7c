//! Steps that write: the databags, the secret, the file beside the data.

use anyhow::Context as _;

use crate::{
    charm::{Charm, unix_now},
    juju::hook_tools::{PortRange, SecretContent, SecretOwner, SecretSpec},
    limits::{SENTINEL_PORT, SERVER_PORT},
    observer::{self, SystemUsersProblem},
    planner::{
        Observation,
        peer_data::{Databag, Identity, TurnKind, TurnRequest, UnitState, changed_keys},
        rotation::NUMBER_KEY,
    },
    valkey::Credentials,
};

use super::workload;

/// Makes the internal users' passwords and keeps them in a secret of the application.
pub(super) async fn create_users(charm: &mut Charm) -> anyhow::Result<()> {
    // If only the secret was lost, whatever runs goes on with the passwords that it knows.
    let credentials = if let Some(known) = charm.credentials.clone() {
        known
    } else {
        let generated = Credentials::generate().context("cannot generate passwords")?;
        match observer::with_system_users(charm, generated).await {
            Ok(credentials) => credentials,
            Err(error) if error.is::<SystemUsersProblem>() => {
                // A person has to act; the next hook looks again.
                charm.option_problem = Some(format!("{error:#}"));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    };
    let content: SecretContent = credentials.to_secret().into_iter().collect();
    let label = Charm::users_label(&charm.juju.application);
    let spec = SecretSpec {
        content: Some(&content),
        label: Some(&label),
        description: Some("passwords of the internal users of Valkey and Sentinel"),
        owner: Some(SecretOwner::Application),
        ..SecretSpec::default()
    };
    let id = charm.tools.secret_add(&spec).await?;
    charm.juju.app_wanted.users_secret = Some(id.as_str().to_owned());
    charm.juju.app_wanted.system_users = observer::system_users(charm).map(str::to_owned);
    Ok(())
}

/// Gives the deployment its random name.
pub(super) fn name_deployment(charm: &mut Charm) -> anyhow::Result<()> {
    let mut random = [0_u8; 12];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("cannot draw a random name: {error}"))?;
    charm.juju.app_wanted.deployment_id =
        Some(random.iter().fold(String::new(), |mut name, byte| {
            use std::fmt::Write as _;
            let _ = write!(name, "{byte:02x}");
            name
        }));
    Ok(())
}

/// Sets the unit's state, and shows in Juju on which ports a member serves.
pub(super) async fn set_state(charm: &mut Charm, state: UnitState) -> anyhow::Result<()> {
    for port in [SERVER_PORT, SENTINEL_PORT] {
        match state {
            UnitState::Member => charm.tools.open_port(PortRange::tcp(port)).await?,
            UnitState::Detached => charm.tools.close_port(PortRange::tcp(port)).await?,
            // Juju closes the ports of a unit that goes away itself.
            UnitState::New | UnitState::Left => {}
        }
    }
    charm.juju.mine.state = state;
    Ok(())
}

/// Asks for the turn under a number that was never used before.
pub(super) fn request_turn(charm: &mut Charm, kind: TurnKind) {
    charm.juju.mine.turn = TurnRequest {
        number: charm.juju.next_turn_number(),
        wants: Some(kind),
        asked_at: unix_now(),
    };
}

/// Marks the data as this deployment's and this unit's, and as following a founding decision.
pub(super) async fn claim_data(
    charm: &Charm,
    seen: &Observation,
    generation: u64,
) -> anyhow::Result<()> {
    let deployment_id = seen
        .app
        .deployment_id
        .clone()
        .context("the deployment has no name yet")?;
    let identity = Identity {
        deployment_id,
        unit: seen.me.clone(),
        generation,
        position: seen.recorded().cloned(),
    };
    workload(charm)?.write_identity(&identity).await?;
    Ok(())
}

/// Records which data this unit holds, beside the data and for the others.
///
/// # Errors
///
/// When the file beside the data cannot be written.
pub async fn record_position(
    charm: &mut Charm,
    seen: &Observation,
    clean: bool,
) -> anyhow::Result<()> {
    let Some(position) = seen.position_to_record(clean, unix_now()) else {
        // It does not run: what stands beside the data is what it holds.
        if let Some(known) = seen.recorded() {
            charm.juju.mine.position = Some(known.clone());
        }
        return Ok(());
    };
    if let Some(identity) = seen.identity_at(&position) {
        workload(charm)?.write_identity(&identity).await?;
    }
    charm.juju.mine.position = Some(position);
    if let Some(sentinel) = seen.sentinel(&seen.me) {
        charm.juju.mine.sentinel = Some(sentinel.id.clone());
    }
    if let Some(version) = seen.server(&seen.me).and_then(|it| it.version.clone()) {
        charm.juju.mine.server_version = Some(version);
    }
    Ok(())
}

/// Writes the number of the last change of the passwords; the first ones have none.
fn put_number(bag: &mut Databag, number: u64) {
    if number > 0 {
        bag.insert(NUMBER_KEY.to_owned(), number.to_string());
    }
}

/// Hands what this run wants to write to Juju, which commits it when the hook succeeds.
///
/// # Errors
///
/// When a hook tool fails, for example because the leadership was lost.
pub async fn flush(charm: &mut Charm) -> anyhow::Result<()> {
    let Some(relation) = charm.juju.relation.clone() else {
        return Ok(());
    };
    let mut unit = charm.juju.mine.to_databag();
    put_number(&mut unit, charm.juju.users_number);
    let changes = changed_keys(&charm.juju.unit_bag, &unit);
    charm
        .tools
        .relation_set(&relation, &changes)
        .await
        .context("cannot write this unit's databag")?;
    charm.juju.unit_bag.extend(changes);
    // Asked again: a hook can be longer than the lease that made this unit the leader.
    let damaged = charm.juju.app_damaged && charm.juju.leads_still();
    let mut wanted = charm.juju.app_wanted.to_databag();
    put_number(&mut wanted, charm.juju.app_users_number);
    let renumbered = wanted.get(NUMBER_KEY) != charm.juju.app_bag.get(NUMBER_KEY);
    if charm.juju.app_wanted != charm.juju.app || damaged || renumbered {
        let changes = changed_keys(&charm.juju.app_bag, &wanted);
        charm
            .tools
            .relation_set_app(&relation, &changes)
            .await
            .context("cannot write the application's databag")?;
        charm.juju.app_bag.extend(changes);
    }
    Ok(())
}
