//! What a unit knows while Juju is away: as the last hook knew it, in a file beside the charm.
//!
//! Who uses it asks everything else anew, and decides by the planner's rules as a hook would.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    charm::{Charm, JujuSide},
    juju::{Environment, HookTools},
    limits::OFFLINE_LOOKS,
    observer,
    planner::{
        Intent, Observation, UnitName,
        observation::{Storage, Unit, Users},
        peer_data::{AppData, UnitData, UnitState},
    },
    valkey::{UsersSecret, configuration::Options, membership::Unproven},
    workload::{Backend as _, Layout, SystemdWorkload, Workload},
};

/// What the last hook knew of Juju's side. The file is readable by root alone.
#[derive(Serialize, Deserialize)]
pub(super) struct Known {
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

/// Writes down what is needed without a hook.
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
    let known = Known {
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
    let bytes = serde_json::to_vec(&known)?;
    let path = layout.gate_file();
    if workload.read(&path).await?.as_deref() != Some(bytes.as_slice()) {
        workload.write(&path, &bytes, 0o600).await?;
    }
    Ok(())
}

/// Reads what the last hook wrote down.
///
/// # Errors
///
/// When there is no such file, or it cannot be understood.
pub(super) async fn read(file: &Path) -> anyhow::Result<Known> {
    let bytes = tokio::fs::read(file)
        .await
        .with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&bytes).context("cannot understand what the charm last knew")
}

impl Known {
    /// Returns the services of the unit.
    pub(super) fn systemd(&self) -> SystemdWorkload {
        let layout = Layout::new(&self.storage, &self.run);
        SystemdWorkload::new(layout, self.unit.as_str())
    }

    /// Puts together what a hook would know.
    ///
    /// # Errors
    ///
    /// When the unit is no member, so that only its charm decides what it does; or when the machine
    /// came back under another address, so that what answers at the unit's is not this unit.
    pub(super) fn charm(self, systemd: SystemdWorkload) -> anyhow::Result<Charm> {
        anyhow::ensure!(
            self.mine.state == UnitState::Member,
            "{} does not belong to the set; its charm starts the server when it does",
            self.unit
        );
        anyhow::ensure!(
            observer::is_of_this_machine(&self.address),
            "this machine does not have the address {} any more; Juju tells the charm the new one",
            self.address
        );
        let env = Environment::from_vars([
            ("JUJU_UNIT_NAME".to_owned(), self.unit.to_string()),
            (
                "JUJU_CHARM_DIR".to_owned(),
                self.charm_dir.to_string_lossy().into_owned(),
            ),
        ])?;
        let secret =
            UsersSecret::from_content(&self.credentials).context("cannot use the passwords")?;
        let (options, option_problem) = match Options::from_config(&self.config) {
            Ok(options) => (options, None),
            Err(problem) => (Options::default(), Some(problem.to_string())),
        };
        let mut app = self.app;
        if let Some(founding) = &mut app.founding {
            // Carried out in a hook or not at all: it may have been taken back since.
            founding.done = true;
        }
        Ok(Charm {
            juju: JujuSide {
                me: self.unit,
                application: self.application,
                relation: None,
                leader: false,
                leader_asked: Instant::now().into_std(),
                config: self.config,
                app_bag: BTreeMap::new(),
                app_wanted: app.clone(),
                app,
                app_damaged: false,
                unit_bag: BTreeMap::new(),
                mine: self.mine,
                dying: false,
                complete: false,
                peers: self.peers,
                malformed: Vec::new(),
                storage: Storage::Ready,
                location: Some(self.storage),
                address: self.address,
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
            unproven: Unproven::default(),
            unheeded: None,
            services_note: None,
            users_secret: Some(secret),
            users_wanted: None,
            users_busy: false,
            users_awaited: None,
        })
    }
}

/// Looks around.
///
/// # Errors
///
/// Why what is seen is nothing to decide on: there are members of which too little is known yet.
pub(super) async fn look(charm: &mut Charm) -> Result<Observation, String> {
    for _ in 0..OFFLINE_LOOKS {
        let seen = observer::look(charm, Intent::Reconcile).await;
        if !learn(charm, &seen) {
            return Ok(seen);
        }
    }
    Err("the Sentinels tell of more and more members".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::{seen, unit};

    #[test]
    fn members_that_joined_since_are_learned_from_the_sentinels() {
        let mut observation = seen("me=0 0:Ps 1:R 2:R");
        assert!(unknown_hosts(&observation).is_empty());
        observation.units.remove(&unit(2));
        assert_eq!(unknown_hosts(&observation), ["10.0.0.2"]);
    }
}
