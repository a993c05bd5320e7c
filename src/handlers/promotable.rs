//! Makes a replica promotable that came up without Juju, by the planner's own rule.
//!
//! A server starts unpromotable, since its data may be old; the hook that sees it in sync makes it
//! promotable. After a reboot of all machines while Juju is away no hook does, and nobody could
//! take over from a primary that then dies.

use std::path::Path;

use tracing::info;

use super::offline;
use crate::{
    executor,
    planner::{self, Plan, Step, invariants},
};

/// Makes the local server promotable, if a hook would do it now.
///
/// # Errors
///
/// When it would not, with its reason, or the server does not take it.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    let known = offline::read(file).await?;
    let systemd = known.systemd();
    let mut charm = known.charm(systemd)?;
    let seen = match offline::look(&mut charm).await {
        Ok(seen) => seen,
        Err(why) => anyhow::bail!("cannot make the server promotable: {why}"),
    };
    let step = Step::SetPromotable(true);
    let plan = planner::plan(&seen);
    anyhow::ensure!(
        plan.steps().contains(&step),
        "cannot make the server promotable: {}",
        reason(&plan)
    );
    let alone = Plan::Act {
        steps: vec![step.clone()],
        why: "no hook has done it".to_owned(),
    };
    invariants::permit(&seen, &alone)
        .map_err(|breach| anyhow::anyhow!("refused to break an invariant: {breach}"))?;
    executor::execute(&mut charm, &seen, &step).await?;
    info!("The server may be promoted");
    Ok(())
}

/// Says what comes first.
fn reason(plan: &Plan) -> String {
    match (plan, plan.reason()) {
        (_, Some(reason)) => reason.to_string(),
        (Plan::Act { why, .. }, None) => format!("first: {why}"),
        (_, None) => "nothing is to be done".to_owned(),
    }
}
