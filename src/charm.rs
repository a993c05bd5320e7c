//! What one run of the charm knows and will write: Juju's side, read once, and what this hook adds.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    juju::{Environment, HookTools},
    kubernetes::Access,
    limits::LEADERSHIP_ASSURED,
    planner::{
        UnitName,
        observation::{Storage, Unit, Users},
        peer_data::{AppData, Databag, TurnRequest, UnitData},
        turn,
    },
    valkey::{Credentials, UsersSecret, configuration::Options, membership::Unproven},
    workload::{Kind, Workload},
};

/// Endpoint of the peer relation.
pub const PEERS: &str = "valkey-peers";

/// Name of the storage in the charm's metadata.
pub const STORAGE: &str = "data";

/// Environment variable that chooses the workload backend.
pub const WORKLOAD_VARIABLE: &str = "VALKEY_OPERATOR_WORKLOAD";

/// One run of the charm.
pub struct Charm {
    /// What Juju told this process.
    pub env: Environment,
    /// The way back to Juju.
    pub tools: HookTools,
    /// Juju's side, as it was when the run began.
    pub juju: JujuSide,
    /// The options, checked; the defaults where they cannot be used.
    pub options: Options,
    /// What is wrong with the options, if anything; then nothing that runs is changed.
    pub option_problem: Option<String>,
    /// Passwords of the internal users, once they are there.
    pub credentials: Option<Credentials>,
    /// The local processes and files, once there is storage.
    pub workload: Option<Workload>,
    /// Whether a primary that answers refused the lease, so that only evidence is left.
    pub lease_refused: Option<String>,
    /// Sentinels that this run has reset and not seen whole since.
    pub unproven: Unproven,
    /// A wish of a person that cannot be carried out, to be shown when all else is well.
    pub unheeded: Option<String>,
    /// What keeps labels and Services of Kubernetes from being right, to be shown when all else is well.
    pub services_note: Option<String>,
    /// The secret of the passwords, once it is there.
    pub users_secret: Option<UsersSecret>,
    /// Passwords that a person wants instead of those in use; known to the leader alone.
    pub users_wanted: Option<Credentials>,
    /// Whether the passwords are being changed, so that there is more to do soon.
    pub users_busy: bool,
    /// Units that the change of the passwords waits for.
    pub users_awaited: Option<String>,
}

/// Juju's side, as it was when the run began, and what this run will write.
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts that are independent of each other"
)]
pub struct JujuSide {
    /// This unit.
    pub me: UnitName,
    /// Name of the application.
    pub application: String,
    /// Id of the peer relation, once it exists.
    pub relation: Option<String>,
    /// Whether this unit was the leader.
    pub leader: bool,
    /// When that was asked, before anything was read.
    pub leader_asked: Instant,
    /// The options as they were given.
    pub config: Map<String, Value>,
    /// The application's databag.
    pub app_bag: Databag,
    /// What it holds.
    pub app: AppData,
    /// What it will hold when this hook succeeds.
    pub app_wanted: AppData,
    /// Whether the databag lacks something that `app` stands in for, so that the leader writes it.
    pub app_damaged: bool,
    /// This unit's databag.
    pub unit_bag: Databag,
    /// What it will hold when this hook succeeds.
    pub mine: UnitData,
    /// Whether this unit is being removed.
    pub dying: bool,
    /// Whether Juju told who there is and who is leaving.
    pub complete: bool,
    /// The other units that are not provably gone.
    pub peers: BTreeMap<UnitName, Unit>,
    /// Databag values that could not be read.
    pub malformed: Vec<String>,
    /// This unit's storage.
    pub storage: Storage,
    /// Where it is mounted.
    pub location: Option<PathBuf>,
    /// Address or name of this unit.
    pub address: String,
    /// Whether the passwords are at hand.
    pub users: Users,
    /// Number of the change of the passwords that this unit has carried out.
    pub users_number: u64,
    /// As the other units have it.
    pub users_numbers: BTreeMap<UnitName, u64>,
    /// Number that the application's databag will hold when this hook succeeds.
    pub app_users_number: u64,
}

/// What the watcher is told; the file is readable by this user alone.
#[derive(Serialize, Deserialize)]
pub struct WatchFile {
    /// The unit that it wakes.
    pub unit: String,
    /// Where the charm is.
    pub charm_dir: PathBuf,
    /// Address of the local Sentinel and server.
    pub address: String,
    /// Where storage is mounted.
    pub storage: PathBuf,
    /// Where pid files are.
    pub run: PathBuf,
    /// How the processes are run.
    #[serde(default)]
    pub workload: Kind,
    /// How the API server of Kubernetes is reached, where there is one.
    #[serde(default)]
    pub kubernetes: Option<Access>,
    /// Passwords of the internal users.
    pub credentials: BTreeMap<String, String>,
}

impl JujuSide {
    /// Returns whether this unit has surely been the leader since the databags were read.
    ///
    /// Juju checks at the commit that the writer leads, not that it led all the time: what is decided on
    /// an old application databag would undo what another leader wrote in between.
    #[must_use]
    pub fn leads_still(&self) -> bool {
        self.leader && self.leader_asked.elapsed() < LEADERSHIP_ASSURED
    }

    /// Returns a number above every one that this unit used or was granted, even if its databag was lost.
    #[must_use]
    pub fn next_turn_number(&self) -> u64 {
        turn::next_number(self.app.turn.as_ref(), &self.me, &self.mine.turn)
    }

    /// Gives the turn back by letting the number rise beyond the granted one.
    pub fn release_turn(&mut self) {
        self.mine.turn = TurnRequest {
            number: self.next_turn_number(),
            wants: None,
            asked_at: 0,
        };
    }
}

impl Charm {
    /// Returns how the API server of Kubernetes is reached, if this unit is a pod.
    ///
    /// A machine can be a pod as well, of somebody else: only what the workload is run by counts.
    #[must_use]
    pub fn api_server(&self) -> Option<Access> {
        let kind = self.workload.as_ref().map(Workload::kind)?;
        Access::from_variables(|name| self.env.extra(name)).filter(|_| kind.is_pod())
    }

    /// Returns the label of the secret with the internal users' passwords, known to users of the charm.
    #[must_use]
    pub fn users_label(application: &str) -> String {
        format!("{PEERS}.{application}.app.internal_users_secret")
    }
}

/// Returns the seconds since 1970, by this machine's clock.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
