//! The server's farewell: what is done when its machine goes down in order.
//!
//! Run by systemd whenever the server's service stops, while the server still runs. Only when the
//! whole machine goes down there is something to do: the role of primary is handed over, so that
//! nobody has to find out that it is gone, and the data is saved so that replication resumes
//! partially after the reboot. Whoever stops the service for another reason has decided already.

use std::path::Path;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::offline;
use crate::{
    charm::Charm,
    executor,
    limits::{FAREWELL_LIMIT, POLL_MAX},
    planner::{Observation, Plan, Step, invariants, observation::Role},
    workload::systemd,
};

/// Hands over and saves, if the machine goes down.
///
/// # Errors
///
/// When what the last hook knew cannot be read, or the server does not save; it is told to end after this, anyway.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    // Not set by systemd once the server has ended by itself.
    if std::env::var_os("MAINPID").is_none() || !systemd::machine_goes_down().await? {
        return Ok(());
    }
    info!("The machine goes down");
    let known = offline::read(file).await?;
    let systemd = known.systemd();
    let mut charm = known.charm(systemd)?;
    let deadline = Instant::now() + FAREWELL_LIMIT;
    let handed = timeout_at(deadline, hand_over(&mut charm)).await;
    if handed.is_err() {
        warn!(
            limit_s = FAREWELL_LIMIT.as_secs(),
            "Cannot hand the role over in time"
        );
    }
    match offline::look(&mut charm).await {
        Ok(seen) => executor::end_server(&mut charm, &seen).await,
        Err(why) => anyhow::bail!("cannot save in order: {why}"),
    }
}

/// Hands the role of primary over, if this unit has it and somebody can take it.
async fn hand_over(charm: &mut Charm) {
    loop {
        let why = match offline::look(charm).await {
            Ok(seen) => match decide(&seen) {
                Decision::Nothing(why) => {
                    info!(reason = why, "Nothing to hand over");
                    return;
                }
                Decision::HandOver(step) => match executor::execute(charm, &seen, &step).await {
                    // Looked at again: it is proof of it that there is nothing left to do.
                    Ok(()) => continue,
                    Err(error) => format!("{error:#}"),
                },
            },
            Err(why) => why,
        };
        warn!(reason = why, "Cannot hand the role over yet");
        sleep(POLL_MAX).await;
    }
}

/// What a unit does whose machine goes down.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// It has no role to hand over, or nobody to hand it to.
    Nothing(String),
    /// It hands over.
    HandOver(Step),
}

fn decide(seen: &Observation) -> Decision {
    let serves = seen
        .server(&seen.me)
        .is_some_and(|server| server.role == Role::Primary && server.loading.is_none());
    if !serves {
        return Decision::Nothing("this unit is no primary".to_owned());
    }
    let to = match seen.takeover_target(&seen.me) {
        Ok(to) => to,
        Err(why) => return Decision::Nothing(format!("nobody can take over: {why}")),
    };
    let step = Step::HandOver {
        from: seen.me.clone(),
        to,
        leaving: false,
    };
    let plan = Plan::Act {
        steps: vec![step.clone()],
        why: "the machine goes down".to_owned(),
    };
    match invariants::permit(seen, &plan) {
        Ok(()) => Decision::HandOver(step),
        Err(breach) => Decision::Nothing(format!("refused to break an invariant: {breach}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    #[test]
    fn only_a_primary_hands_over_and_only_to_who_has_everything() {
        for (cluster, expected) in [
            ("me=0 0:P 1:R 2:R", "hand over from valkey/0 to valkey/1"),
            ("me=0 0:P 1:Rs 2:R", "to valkey/2"),
            ("me=1 0:P 1:R 2:R", "this unit is no primary"),
            ("me=0 0:Ps 1:R 2:R", "this unit is no primary"),
            (
                "me=0 0:P",
                "nobody can take over: no other unit is a member",
            ),
            ("me=0 0:P 1:X 2:X", "nobody can take over"),
        ] {
            let found = match decide(&seen(cluster)) {
                Decision::Nothing(why) => why,
                Decision::HandOver(step) => step.to_string(),
            };
            assert!(found.contains(expected), "{cluster}: {found}");
        }
    }
}
