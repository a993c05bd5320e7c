//! What stands in for databag values that were lost or cannot be read.
//!
//! The shared state decides whose data counts and who may change the set, so a missing value must
//! never look like a new deployment. What only one place writes is put back by its owner: this
//! unit's values by this unit, the application's by the leader, with what lies beside the data.

use tracing::warn;

use crate::{
    charm::Charm,
    planner::peer_data::{AppData, Founding, FoundingReason, Identity, Malformed, UnitState},
    workload::Backend as _,
};

use super::local;

/// Mends what this unit and the leader own; `own` and `app` are what could not be read of it.
pub(super) async fn mend(charm: &mut Charm, own: &[Malformed], app: &[Malformed]) {
    if charm.juju.relation.is_none() {
        return;
    }
    let without_state = !charm.juju.unit_bag.contains_key("state");
    let incomplete = charm.juju.app.deployment_id.is_none() || charm.juju.app.founding.is_none();
    if own.is_empty() && app.is_empty() && !without_state && !incomplete {
        return;
    }
    let (identity, has_sentinel) = beside_the_data(charm).await;
    // Who has a mark of its own and a Sentinel has joined once, whatever its databag says.
    let joined = has_sentinel && identity.is_some();
    // A new application has none of this, and nothing to mend.
    let begun = joined
        || !app.is_empty()
        || charm.juju.app != AppData::default()
        || charm.juju.mine.state == UnitState::Member
        || charm
            .juju
            .peers
            .values()
            .any(|unit| unit.data.state == UnitState::Member);
    if !app.is_empty() || (incomplete && begun) {
        mend_application(charm, identity.as_ref());
    }
    if without_state || own.iter().any(|problem| problem.key == "state") {
        let here = identity.as_ref().is_some_and(|identity| {
            Some(&identity.deployment_id) == charm.juju.app.deployment_id.as_ref()
        });
        charm.juju.mine.state = if joined && here {
            UnitState::Member
        } else {
            UnitState::New
        };
    }
    if own.iter().any(|problem| problem.key == "turn") {
        // Gives back whatever turn this unit holds: numbers only rise, and the next is beyond the granted one.
        charm.juju.release_turn();
    }
    if charm.juju.mine.position.is_none() {
        charm.juju.mine.position = identity.and_then(|identity| identity.position);
    }
    for problem in own {
        warn!(%problem, "A value of this unit's databag could not be read and is written again");
    }
    charm.juju.malformed.drain(..own.len());
    if charm.juju.app_damaged && charm.juju.leader {
        warn!("Values of the application's databag were lost and are written again");
        charm.juju.malformed.drain(..app.len());
    }
}

/// Returns this unit's own mark beside its data, and whether it has a Sentinel of an earlier life.
async fn beside_the_data(charm: &Charm) -> (Option<Identity>, bool) {
    let Some(workload) = &charm.workload else {
        return (None, false);
    };
    let identity = local::identity(workload)
        .await
        .filter(|identity| identity.unit == charm.juju.me);
    let has_sentinel = tokio::fs::try_exists(workload.layout().sentinel_config())
        .await
        .unwrap_or(false);
    (identity, has_sentinel)
}

/// Puts stand-ins in place that let everything go on as it is, and found nothing anew.
fn mend_application(charm: &mut Charm, identity: Option<&Identity>) {
    let app = &mut charm.juju.app;
    if app.deployment_id.is_none() {
        match identity {
            Some(identity) => app.deployment_id = Some(identity.deployment_id.clone()),
            // A new name would make everybody's data foreign: leave it to a unit that knows it.
            None => charm.juju.leader = false,
        }
    }
    if app.founding.is_none() {
        app.founding = Some(Founding {
            unit: charm.juju.me.clone(),
            generation: identity.map_or(1, |identity| identity.generation),
            reason: FoundingReason::Found,
            done: true,
        });
    }
    charm.juju.app_wanted = charm.juju.app.clone();
    charm.juju.app_damaged = true;
}
