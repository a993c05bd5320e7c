//! Reads Juju's side once: as few hook tools as possible, as many at the same time as possible.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures::future::{join, join_all};
use tracing::warn;

use crate::{
    charm::{Charm, JujuSide, PEERS, STORAGE},
    juju::{
        Databag, Environment, HookTools, SecretId, ToolError, UnitName as JujuUnit,
        hook_tools::{GoalState, SecretRead, SecretRef},
    },
    planner::{
        UnitName,
        observation::{Storage, Unit, Users},
        peer_data::{AppData, UnitData},
    },
    valkey::{Credentials, InternalUser, Password, configuration::Options},
};

use super::local;

/// Turns Juju's name of a unit into the planner's.
fn name(unit: &JujuUnit) -> UnitName {
    UnitName::new(unit.to_string())
}

/// Reads Juju's side and prepares a run of the charm.
///
/// # Errors
///
/// When a hook tool fails, so that nothing can be known; Juju then runs the hook again.
pub async fn begin(env: Environment, tools: HookTools) -> anyhow::Result<Charm> {
    let me = env.unit.clone();
    let relation = async {
        let ids = tools
            .relation_ids(PEERS)
            .await
            .context("cannot find the peer relation")?;
        anyhow::Ok(ids.into_iter().next())
    };
    let storage = async {
        let ids = tools
            .storage_list(Some(STORAGE))
            .await
            .context("cannot list the storage")?;
        match ids.first() {
            Some(id) => match tools.storage_get(id).await {
                Ok(info) => Ok(Some(info.location)),
                Err(error) if error.not_found() => Ok(None),
                Err(error) => Err(anyhow::Error::new(error).context("cannot find the storage")),
            },
            None => Ok(None),
        }
    };
    let leader = async {
        tools
            .is_leader()
            .await
            .context("cannot ask for the leadership")
    };
    let config = async {
        tools
            .config_get()
            .await
            .context("cannot read the configuration")
    };
    let goal = async { tools.goal_state().await };
    let network = async {
        tools
            .network_get(PEERS, None)
            .await
            .context("cannot find the unit's address")
    };
    let (relation, leader, config, goal, network, location) =
        tokio::join!(relation, leader, config, goal, network, storage);
    let relation = relation?;
    let network = network?;
    let config = config?;
    let address = network
        .bind_address()
        .or_else(|| network.ingress_address())
        .context("cannot find the unit's address: Juju names none for the peer relation")?
        .to_owned();
    let bags = read_bags(&tools, relation.as_deref(), &me, goal).await?;
    let (options, option_problem) = match Options::from_config(&config) {
        Ok(options) => (options, None),
        Err(problem) => (Options::default(), Some(problem.to_string())),
    };
    let location = location?;
    let mut charm = Charm {
        juju: JujuSide {
            me: name(&me),
            application: me.application().to_owned(),
            leader: leader?,
            config,
            storage: if location.is_some() {
                Storage::Ready
            } else {
                Storage::Missing
            },
            location,
            address: address.clone(),
            users: Users::Missing,
            relation,
            app: bags.app.clone(),
            app_wanted: bags.app,
            app_bag: bags.app_bag,
            unit_bag: bags.unit_bag,
            mine: UnitData {
                address: Some(address),
                ..bags.mine
            },
            dying: bags.dying,
            peers: bags.peers,
            malformed: bags.malformed,
        },
        env,
        tools,
        options,
        option_problem,
        credentials: None,
        workload: None,
        lease_refused: false,
    };
    read_users(&mut charm).await;
    local::open(&mut charm).await;
    Ok(charm)
}

/// What the databags of the peer relation hold.
#[derive(Default)]
struct Bags {
    app_bag: Databag,
    app: AppData,
    unit_bag: Databag,
    mine: UnitData,
    dying: bool,
    peers: BTreeMap<UnitName, Unit>,
    malformed: Vec<String>,
}

async fn read_bags(
    tools: &HookTools,
    relation: Option<&str>,
    me: &JujuUnit,
    goal: Result<GoalState, ToolError>,
) -> anyhow::Result<Bags> {
    let Some(relation) = relation else {
        return Ok(Bags::default());
    };
    let goal: BTreeMap<JujuUnit, bool> = match goal {
        Ok(goal) => goal
            .units
            .iter()
            .map(|(unit, status)| (unit.clone(), status.is_dying()))
            .collect(),
        // Without the goal state the members of the relation are the next best answer.
        Err(error) => {
            warn!(error = %error, "Cannot read the goal state");
            let list = tools
                .relation_list(relation)
                .await
                .context("cannot list the peers")?;
            list.into_iter().map(|unit| (unit, false)).collect()
        }
    };
    let others: Vec<JujuUnit> = goal.keys().filter(|unit| *unit != me).cloned().collect();
    let own = join(
        tools.relation_get(relation, me),
        tools.relation_get_app(relation, me.application()),
    );
    let peers = join_all(others.iter().map(|unit| tools.relation_get(relation, unit)));
    let ((unit_bag, app_bag), peer_bags) = join(own, peers).await;
    let unit_bag = unit_bag.context("cannot read this unit's databag")?;
    let app_bag = app_bag.context("cannot read the application's databag")?;
    let (mine, problems) = UnitData::from_databag(&unit_bag);
    let mut malformed: Vec<String> = problems
        .iter()
        .map(|problem| format!("{problem} of {me}"))
        .collect();
    let (app, problems) = AppData::from_databag(&app_bag);
    malformed.extend(
        problems
            .iter()
            .map(|problem| format!("{problem} of the application")),
    );
    // The turn of a holder whose databag cannot be read stays granted: a default would free it.
    let mut peers = BTreeMap::new();
    for (unit, bag) in others.iter().zip(peer_bags) {
        // A unit that has not entered the relation yet has no databag.
        let bag = match bag {
            Ok(bag) => bag,
            Err(error) if error.not_found() || matches!(error, ToolError::Failed { .. }) => {
                Databag::default()
            }
            Err(error) => {
                return Err(
                    anyhow::Error::new(error).context(format!("cannot read the databag of {unit}"))
                );
            }
        };
        let (data, problems) = UnitData::from_databag(&bag);
        malformed.extend(
            problems
                .iter()
                .map(|problem| format!("{problem} of {unit}")),
        );
        let dying = goal.get(unit).copied().unwrap_or(false);
        peers.insert(name(unit), Unit { data, dying });
    }
    let dying = goal.get(me).copied().unwrap_or(false);
    Ok(Bags {
        app_bag,
        app,
        unit_bag,
        mine,
        dying,
        peers,
        malformed,
    })
}

/// Reads the passwords of the internal users, if the leader has made them.
async fn read_users(charm: &mut Charm) {
    let Some(id) = charm.juju.app.users_secret.clone() else {
        return;
    };
    match users(charm, &id).await {
        Ok(credentials) => {
            charm.credentials = Some(credentials);
            charm.juju.users = Users::Ready;
        }
        Err(error) => charm.juju.users = Users::Unreadable(format!("{error:#}")),
    }
}

async fn users(charm: &Charm, id: &str) -> anyhow::Result<Credentials> {
    let id: SecretId = id.parse().context("the databag names no secret")?;
    let content = charm
        .tools
        .secret_get(SecretRef::Id(&id), SecretRead::Refresh)
        .await
        .context("cannot read the secret")?;
    Credentials::from_secret(&content.0).context("the secret is incomplete")
}

/// Reads the passwords that a person gave with option `system-users`, over those of `base`.
///
/// # Errors
///
/// When the secret cannot be read or names a user that does not exist.
pub(crate) async fn with_system_users(
    charm: &Charm,
    base: Credentials,
) -> anyhow::Result<Credentials> {
    let uri = charm
        .juju
        .config
        .get("system-users")
        .and_then(serde_json::Value::as_str);
    let Some(uri) = uri.filter(|uri| !uri.is_empty()) else {
        return Ok(base);
    };
    let id: SecretId = uri.parse().context("option `system-users` is no secret")?;
    let content = charm
        .tools
        .secret_get(SecretRef::Id(&id), SecretRead::Refresh)
        .await
        .context("cannot read the secret of option `system-users`: grant it to the application")?;
    let mut credentials = base;
    for (key, value) in &content.0 {
        let user = InternalUser::ALL
            .into_iter()
            .find(|user| user.name() == key || format!("{}-password", user.name()) == *key)
            .with_context(|| {
                format!("the secret of option `system-users` names the unknown user `{key}`")
            })?;
        let password = Password::new(value.clone()).with_context(|| {
            format!("the secret of option `system-users` has no usable password for `{key}`")
        })?;
        credentials.set_password(user, password);
    }
    Ok(credentials)
}
