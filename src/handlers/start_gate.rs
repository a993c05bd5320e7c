//! The restart gate of the server's service: decides without Juju as what the server may start.
//!
//! Run by systemd before every start that no hook has decided: with the machine, or after a fault.
//! What Juju would tell stands in a file as the last hook knew it; everything else is asked anew,
//! and the planner's gate decides on it as in a hook. It serves only where a hook would, too; while
//! it cannot know, it waits for a while and then fails, and systemd tries again.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{
    charm::{Charm, JujuSide},
    executor,
    juju::{Environment, HookTools},
    limits::{POLL_MAX, START_GATE_LIMIT},
    observer,
    planner::{
        self, Intent, Observation, Plan, Step, UnitName, invariants,
        observation::{Storage, Unit, Users},
        peer_data::{AppData, UnitData, UnitState},
    },
    valkey::{UsersSecret, configuration::Options},
    workload::{Backend as _, Layout, SystemdWorkload, Workload},
};

/// What the last hook knew of Juju's side. The file is readable by root alone.
#[derive(Serialize, Deserialize)]
struct GateFile {
    unit: UnitName,
    application: String,
    charm_dir: PathBuf,
    storage: PathBuf,
    run: PathBuf,
    address: String,
    config: Map<String, Value>,
    app: AppData,
    mine: UnitData,
    peers: BTreeMap<UnitName, Unit>,
    credentials: BTreeMap<String, String>,
}

/// Writes down what the gate needs, for the next start without a hook.
///
/// # Errors
///
/// When the file cannot be written; the older one stays, which may know fewer units.
pub async fn note(charm: &Charm) -> anyhow::Result<()> {
    let (Some(workload @ Workload::Systemd(_)), Some(credentials)) =
        (&charm.workload, &charm.credentials)
    else {
        return Ok(());
    };
    let layout = workload.layout();
    let file = GateFile {
        unit: charm.juju.me.clone(),
        application: charm.juju.application.clone(),
        charm_dir: charm.env.charm_dir.clone(),
        storage: layout.storage().to_owned(),
        run: layout.run().to_owned(),
        address: charm.juju.address.clone(),
        config: charm.juju.config.clone(),
        app: charm.juju.app.clone(),
        mine: charm.juju.mine.clone(),
        peers: charm.juju.peers.clone(),
        // While passwords are changed, those that are accepted beside these, too.
        credentials: charm
            .users_secret
            .as_ref()
            .map_or_else(|| credentials.to_secret(), UsersSecret::to_content),
    };
    let bytes = serde_json::to_vec(&file)?;
    let path = layout.gate_file();
    if workload.read(&path).await?.as_deref() != Some(bytes.as_slice()) {
        workload.write(&path, &bytes, 0o600).await?;
    }
    Ok(())
}

/// Decides, and renders the server's configuration accordingly.
///
/// # Errors
///
/// When the server must not start, or nobody can say in time as what it may.
pub async fn run(file: &Path) -> anyhow::Result<()> {
    let bytes = tokio::fs::read(file)
        .await
        .with_context(|| format!("cannot read {}", file.display()))?;
    let file: GateFile =
        serde_json::from_slice(&bytes).context("cannot understand what the charm last knew")?;
    let systemd = SystemdWorkload::new(Layout::new(&file.storage, &file.run), file.unit.as_str());
    // Without a look around: whoever gave it has just looked.
    if systemd.take_permit() {
        info!("A hook has decided");
        return Ok(());
    }
    let mut charm = charm(file, systemd.clone())?;
    let deadline = Instant::now() + START_GATE_LIMIT;
    let mut awaited = String::new();
    while Instant::now() < deadline {
        let seen = observer::look(&charm, Intent::Reconcile).await;
        if learn(&mut charm, &seen) {
            continue;
        }
        if systemd.take_permit() {
            info!("A hook has decided");
            return Ok(());
        }
        let why = match decide(&seen) {
            Decision::Start(steps, why) => {
                start(&mut charm, &seen, &steps).await?;
                info!(reason = why, "The server may start");
                return Ok(());
            }
            Decision::Promote(step, why) => {
                match executor::execute(&mut charm, &seen, &step).await {
                    Ok(()) => why,
                    Err(error) => format!("{error:#}"),
                }
            }
            Decision::Wait(why) => why,
        };
        if why != awaited {
            info!(reason = why, "Waiting");
            awaited = why;
        }
        sleep(POLL_MAX).await;
    }
    anyhow::bail!(
        "the server does not start: within {} s nobody could say as what it may: {awaited}",
        START_GATE_LIMIT.as_secs()
    )
}

/// Puts together what a hook would know.
fn charm(file: GateFile, systemd: SystemdWorkload) -> anyhow::Result<Charm> {
    anyhow::ensure!(
        file.mine.state == UnitState::Member,
        "{} does not belong to the set; its charm starts the server when it does",
        file.unit
    );
    let env = Environment::from_vars([
        ("JUJU_UNIT_NAME".to_owned(), file.unit.to_string()),
        (
            "JUJU_CHARM_DIR".to_owned(),
            file.charm_dir.to_string_lossy().into_owned(),
        ),
    ])?;
    let secret =
        UsersSecret::from_content(&file.credentials).context("cannot use the passwords")?;
    let (options, option_problem) = match Options::from_config(&file.config) {
        Ok(options) => (options, None),
        Err(problem) => (Options::default(), Some(problem.to_string())),
    };
    let mut app = file.app;
    if let Some(founding) = &mut app.founding {
        // Carried out in a hook or not at all: it may have been taken back since.
        founding.done = true;
    }
    Ok(Charm {
        juju: JujuSide {
            me: file.unit,
            application: file.application,
            relation: None,
            leader: false,
            leader_asked: Instant::now().into_std(),
            config: file.config,
            app_bag: BTreeMap::new(),
            app_wanted: app.clone(),
            app,
            app_damaged: false,
            unit_bag: BTreeMap::new(),
            mine: file.mine,
            dying: false,
            complete: false,
            peers: file.peers,
            malformed: Vec::new(),
            storage: Storage::Ready,
            location: Some(file.storage),
            address: file.address,
            users: Users::Ready,
            users_number: secret.number,
            users_numbers: BTreeMap::new(),
            app_users_number: secret.number,
        },
        env,
        tools: HookTools::new(),
        options,
        option_problem,
        credentials: Some(secret.current.clone()),
        workload: Some(Workload::Systemd(systemd)),
        lease_refused: None,
        unheeded: None,
        users_secret: Some(secret),
        users_wanted: None,
        users_busy: false,
        users_awaited: None,
    })
}

/// Adds members that joined since the file was written: those that a Sentinel knows as Sentinels.
///
/// With fewer members than there are, too few votes would look like a majority. Returns whether
/// there were any.
fn learn(charm: &mut Charm, seen: &Observation) -> bool {
    let unknown: Vec<String> = unknown_hosts(seen);
    for host in &unknown {
        warn!(host, "A Sentinel knows a member that the charm did not");
        let unit = Unit {
            data: UnitData {
                address: Some(host.clone()),
                state: UnitState::Member,
                ..UnitData::default()
            },
            dying: false,
        };
        let name = UnitName::new(format!("{}/at-{host}", charm.juju.application));
        charm.juju.peers.insert(name, unit);
    }
    !unknown.is_empty()
}

/// Returns hosts of Sentinels that are of no unit.
fn unknown_hosts(seen: &Observation) -> Vec<String> {
    let mut hosts: Vec<String> = seen
        .sentinels
        .values()
        .filter_map(|sentinel| sentinel.known()?.monitor.as_ref())
        .flat_map(|monitor| &monitor.others)
        .map(|other| other.host.clone())
        .filter(|host| seen.unit_at(host).is_none())
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// What the gate does.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The server starts, with these steps.
    Start(Vec<Step>, String),
    /// A replica takes the role first.
    Promote(Step, String),
    /// Look again.
    Wait(String),
}

/// Takes of the planner's decision what can be done without Juju.
fn decide(seen: &Observation) -> Decision {
    // A member has a mark beside its data: without it, the storage is not there yet.
    if seen.local.identity.is_none() {
        return Decision::Wait("the data is not there: is the storage mounted?".to_owned());
    }
    let plan = planner::plan_start(seen);
    if let Err(breach) = invariants::permit(seen, &plan) {
        return Decision::Wait(format!("refused to break an invariant: {breach}"));
    }
    match plan {
        Plan::Act { steps, why } => match steps.as_slice() {
            [step @ (Step::Promote { .. } | Step::CompleteHandOver { .. })] => {
                Decision::Promote(step.clone(), why)
            }
            _ if steps.iter().all(is_local) && steps.iter().any(is_start) => {
                Decision::Start(steps, why)
            }
            // Sentinel's own service starts it.
            _ => Decision::Wait(why),
        },
        other => Decision::Wait(
            other
                .reason()
                .map_or_else(|| "nothing is decided".to_owned(), ToString::to_string),
        ),
    }
}

fn is_start(step: &Step) -> bool {
    matches!(step, Step::StartServer { .. })
}

fn is_local(step: &Step) -> bool {
    is_start(step) || matches!(step, Step::ClaimData { .. } | Step::KeepAside)
}

/// Carries the steps out, but for the start itself, which is systemd's.
async fn start(charm: &mut Charm, seen: &Observation, steps: &[Step]) -> anyhow::Result<()> {
    for step in steps {
        if let Step::StartServer {
            follow,
            min_replicas,
            from_snapshot,
        } = step
        {
            executor::prepare_server(charm, follow.as_deref(), *min_replicas, *from_snapshot)
                .await?;
        } else {
            executor::execute(charm, seen, step).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::{seen, unit};

    /// Says in a line what the gate does.
    fn shown(seen: &Observation) -> String {
        match decide(seen) {
            Decision::Start(steps, _) => {
                let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
                format!("start: {}", steps.join("; "))
            }
            Decision::Promote(step, _) => format!("first: {step}"),
            Decision::Wait(why) => format!("wait: {why}"),
        }
    }

    #[test]
    fn without_juju_a_server_starts_only_as_what_the_planner_allows() {
        for (cluster, expected) in [
            ("me=0 0:Ps 1:R 2:R", "start: start the server as primary"),
            (
                "me=1 0:P 1:Rs 2:R",
                "start: start the server as replica of 10.0.0.0",
            ),
            // Another was elected meanwhile.
            (
                "me=0 names=1 0:Ps 1:P 2:R",
                "start: keep the data set aside; start the server as replica of 10.0.0.1",
            ),
            ("me=0 0:Ps 1:R 2:R slow", "first: promote valkey/1"),
            // Too few say anything.
            ("me=0 0:Ps 1:X 2:X", "wait: waiting for Sentinels"),
            // Sentinel has a service of its own, which comes up first.
            (
                "me=1 0:P 1:Rsz 2:R",
                "wait: let Sentinel say who is primary",
            ),
            // Its mark is gone: the storage is not mounted.
            ("me=0 0:Pse 1:R 2:R", "wait: the data is not there"),
        ] {
            let found = shown(&seen(cluster));
            assert!(found.starts_with(expected), "{cluster}: {found}");
        }
    }

    #[test]
    fn members_that_joined_since_are_learned_from_the_sentinels() {
        let mut observation = seen("me=0 0:Ps 1:R 2:R");
        assert!(unknown_hosts(&observation).is_empty());
        observation.units.remove(&unit(2));
        assert_eq!(unknown_hosts(&observation), ["10.0.0.2"]);
    }
}
