//! Reads Juju's side once: as few hook tools as possible, as many at the same time as possible.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::Context as _;
use futures::future::{join, join_all};
use tracing::warn;

use crate::{
    charm::{Charm, JujuSide, PEERS, STORAGE},
    juju::{
        Databag, Environment, HookTools, ToolError, UnitName as JujuUnit, hook_tools::GoalState,
        pod,
    },
    limits::{GOAL_STATE_TRIES, POLL_MAX},
    planner::{
        UnitName,
        observation::{Storage, Unit, Users},
        peer_data::{AppData, Malformed, UnitData},
        rotation::NUMBER_KEY,
    },
    valkey::{configuration::Options, membership::Unproven},
    workload::PebbleWorkload,
};

use super::{local, mend, users};

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
    let leader_asked = Instant::now();
    let relation = async {
        let ids = tools
            .relation_ids(PEERS)
            .await
            .context("cannot find the peer relation")?;
        anyhow::Ok(ids.into_iter().next())
    };
    let storage = storage_location(&tools);
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
    let goal = goal_state(&tools);
    let address = unit_address(&env, &tools);
    let (relation, leader, config, goal, address, location) =
        tokio::join!(relation, leader, config, goal, address, storage);
    let relation = relation?;
    let address = address?;
    let config = config?;
    let bags = read_bags(&tools, relation.as_deref(), &me, goal).await?;
    let (options, option_problem) = match Options::from_config(&config) {
        Ok(options) => (options, None),
        Err(problem) => (Options::default(), Some(problem.to_string())),
    };
    let location = location?;
    let mut peers = bags.peers;
    forget_stale_addresses(&mut peers, &address);
    let mut charm = Charm {
        juju: JujuSide {
            me: name(&me),
            application: me.application().to_owned(),
            // Who is not listed could still be leaving and hold the turn: nothing is granted on that.
            leader: leader? && bags.complete,
            leader_asked,
            config,
            storage: if location.is_some() {
                Storage::Ready
            } else {
                Storage::Missing
            },
            location,
            address: address.clone(),
            users: Users::Missing,
            users_number: number(&bags.unit_bag),
            users_numbers: bags.users_numbers,
            app_users_number: number(&bags.app_bag),
            relation,
            app: bags.app.clone(),
            app_wanted: bags.app,
            app_damaged: false,
            app_bag: bags.app_bag,
            unit_bag: bags.unit_bag,
            mine: UnitData {
                address: Some(address),
                ..bags.mine
            },
            dying: bags.dying,
            complete: bags.complete,
            peers,
            malformed: bags.malformed,
        },
        env,
        tools,
        options,
        option_problem,
        credentials: None,
        workload: None,
        lease_refused: None,
        unproven: Unproven::default(),
        unheeded: None,
        services_note: None,
        users_secret: None,
        users_wanted: None,
        users_busy: false,
        users_awaited: None,
    };
    local::open(&mut charm).await;
    mend::mend(&mut charm, &bags.own_problems, &bags.app_problems).await;
    users::read(&mut charm).await;
    Ok(charm)
}

/// Finds where the other units reach this one: its binding's address, or its pod's name.
///
/// A pod has another address each time it is made, and what Juju names as the address for others is
/// the one that all units have in common.
async fn unit_address(env: &Environment, tools: &HookTools) -> anyhow::Result<String> {
    if PebbleWorkload::is_possible() {
        let resolv_conf = tokio::fs::read_to_string(pod::RESOLV_CONF)
            .await
            .unwrap_or_default();
        return Ok(pod::pod_name(&env.unit, &env.model_name, &resolv_conf));
    }
    let network = tools
        .network_get(PEERS, None)
        .await
        .context("cannot find the unit's address")?;
    network
        .bind_address()
        .or_else(|| network.ingress_address())
        .map(str::to_owned)
        .context("cannot find the unit's address: Juju names none for the peer relation")
}

/// Reads who there is and who is leaving; asks again when a unit vanishes while Juju answers.
async fn goal_state(tools: &HookTools) -> Result<GoalState, ToolError> {
    for _ in 1..GOAL_STATE_TRIES {
        if let Ok(goal) = tools.goal_state().await {
            return Ok(goal);
        }
        tokio::time::sleep(POLL_MAX).await;
    }
    tools.goal_state().await
}

/// Finds where this unit's storage is mounted, if it is attached.
async fn storage_location(tools: &HookTools) -> anyhow::Result<Option<PathBuf>> {
    let ids = tools
        .storage_list(Some(STORAGE))
        .await
        .context("cannot list the storage")?;
    let Some(id) = ids.first() else {
        return Ok(None);
    };
    match tools.storage_get(id).await {
        Ok(info) => Ok(Some(info.location)),
        Err(error) if error.not_found() => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context("cannot find the storage")),
    }
}

/// Looks again who is leaving, who is gone and who came, as far as Juju answers; the rest stays as it was.
pub async fn refresh_leaving(charm: &mut Charm) {
    let Ok(goal) = charm.tools.goal_state().await else {
        return;
    };
    let dying: BTreeMap<UnitName, bool> = goal
        .units
        .iter()
        .map(|(unit, status)| (name(unit), status.is_dying()))
        .collect();
    charm.juju.peers.retain(|unit, _| dying.contains_key(unit));
    for (unit, known) in &mut charm.juju.peers {
        known.dying = dying.get(unit).copied().unwrap_or(known.dying);
    }
    let Some(relation) = charm.juju.relation.clone() else {
        return;
    };
    // Who came meanwhile joins the set while this unit waits to leave it.
    for (unit, status) in &goal.units {
        let other = name(unit);
        if other == charm.juju.me || charm.juju.peers.contains_key(&other) {
            continue;
        }
        if let Ok(bag) = charm.tools.relation_get(&relation, unit).await {
            let (data, _) = UnitData::from_databag(&bag);
            let dying = status.is_dying();
            charm.juju.peers.insert(other, Unit { data, dying });
        }
    }
}

/// Takes no unit's word for an address that another unit has, too.
///
/// Machines that reboot together can come back with each other's addresses. One of two units that
/// name the same has not told its new one yet, and whoever took it for the other would mix up whose
/// data is whose. This unit's own is surely right.
fn forget_stale_addresses(peers: &mut BTreeMap<UnitName, Unit>, own: &str) {
    let mut claims: BTreeMap<String, usize> = BTreeMap::from([(own.to_owned(), 1)]);
    for address in peers.values().filter_map(|unit| unit.data.address.clone()) {
        *claims.entry(address).or_default() += 1;
    }
    for (unit, known) in peers {
        if let Some(address) = &known.data.address
            && claims.get(address).is_some_and(|claims| *claims > 1)
        {
            warn!(%unit, address, "The address of a unit is another one's by now");
            known.data.address = None;
        }
    }
}

/// Returns which change of the passwords a databag tells of.
fn number(bag: &Databag) -> u64 {
    bag.get(NUMBER_KEY)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// What the databags of the peer relation hold.
#[derive(Default)]
struct Bags {
    app_bag: Databag,
    app: AppData,
    unit_bag: Databag,
    mine: UnitData,
    dying: bool,
    /// Whether Juju told who there is and who is leaving.
    complete: bool,
    peers: BTreeMap<UnitName, Unit>,
    users_numbers: BTreeMap<UnitName, u64>,
    malformed: Vec<String>,
    own_problems: Vec<Malformed>,
    app_problems: Vec<Malformed>,
}

async fn read_bags(
    tools: &HookTools,
    relation: Option<&str>,
    me: &JujuUnit,
    goal: Result<GoalState, ToolError>,
) -> anyhow::Result<Bags> {
    let Some(relation) = relation else {
        return Ok(Bags {
            complete: true,
            ..Bags::default()
        });
    };
    let complete = goal.is_ok();
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
    let (mine, own_problems) = UnitData::from_databag(&unit_bag);
    let mut malformed: Vec<String> = own_problems
        .iter()
        .map(|problem| format!("{problem} of {me}"))
        .collect();
    let (app, app_problems) = AppData::from_databag(&app_bag);
    malformed.extend(
        app_problems
            .iter()
            .map(|problem| format!("{problem} of the application")),
    );
    // The turn of a holder whose databag cannot be read stays granted: a default would free it.
    let mut peers = BTreeMap::new();
    let mut users_numbers = BTreeMap::new();
    for (unit, bag) in others.iter().zip(peer_bags) {
        let bag = match bag {
            Ok(bag) => bag,
            Err(error) => no_bag(tools, relation, unit, error).await?,
        };
        users_numbers.insert(name(unit), number(&bag));
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
        complete,
        peers,
        users_numbers,
        malformed,
        own_problems,
        app_problems,
    })
}

/// Returns the empty databag of a unit that has not entered the relation yet.
///
/// # Errors
///
/// When it has entered: without what it wrote it would look new, and would be taken off the set.
async fn no_bag(
    tools: &HookTools,
    relation: &str,
    unit: &JujuUnit,
    error: ToolError,
) -> anyhow::Result<Databag> {
    let refused = matches!(error, ToolError::Failed { .. });
    if refused
        && !tools
            .relation_list(relation)
            .await
            .context("cannot list the peers")?
            .contains(unit)
    {
        return Ok(Databag::default());
    }
    Err(anyhow::Error::new(error).context(format!("cannot read the databag of {unit}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::peer_data::UnitData;

    #[test]
    fn an_address_that_two_units_claim_is_nobodys_but_ones_own() {
        let unit = |address: &str| Unit {
            data: UnitData {
                address: Some(address.to_owned()),
                ..UnitData::default()
            },
            dying: false,
        };
        for (own, others, expected) in [
            ("1", ["2", "3"], [Some("2"), Some("3")]),
            ("1", ["1", "3"], [None, Some("3")]),
            ("1", ["2", "2"], [None, None]),
        ] {
            let mut peers: BTreeMap<UnitName, Unit> = others
                .iter()
                .zip(["valkey/1", "valkey/2"])
                .map(|(address, name)| (UnitName::new(name.to_owned()), unit(address)))
                .collect();
            forget_stale_addresses(&mut peers, own);
            let found: Vec<Option<&str>> = peers
                .values()
                .map(|unit| unit.data.address.as_deref())
                .collect();
            assert_eq!(found, expected, "{own} {others:?}");
        }
    }
}
