//! What many tests do to an application and wait for: its primary is lost and another follows, the role is handed
//! over, a client is on the wrong side of a cut.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::{
    model::{Ended, Model, SERVER_PORT, Unit},
    oracles,
    wire::Wire,
};

/// Longest from a loss to the promotion of a replica: detection (5 s), election, and slack for
/// two cores that run several tests.
pub const FAILOVER: Duration = Duration::from_secs(25);

/// Longest that writes may stand still while the primary's role goes round. Far above what it takes
/// on an idle machine: here tests share two cores with debug builds of everything.
pub const HANDOVER_GAP: Duration = Duration::from_secs(3);

/// Acknowledged writes that a crash may take along: what was on its way to the replicas.
pub const IN_FLIGHT: usize = 8;

/// Longest that a client inside a cut waits for an answer.
const INSIDE: Duration = Duration::from_secs(2);

impl Model {
    /// Waits until a unit other than `lost` is the only primary; returns it.
    pub fn promoted(&self, lost: &Unit) -> Unit {
        self.wait_until(
            "another unit was promoted",
            FAILOVER,
            || match &oracles::primaries(self)[..] {
                [one] if one.name != lost.name => Ok(one.clone()),
                others => Err(format!(
                    "primaries: {:?}",
                    others.iter().map(|unit| &unit.name).collect::<Vec<_>>()
                )),
            },
        )
    }

    /// Hands the role over, to `target` or to whom the charm chooses; the action has to complete.
    pub fn switch_over(&self, target: Option<&str>) -> Ended {
        let parameter = target.map(|target| format!("target={target}"));
        let parameters: Vec<&str> = parameter.iter().map(String::as_str).collect();
        let ended = self.run("valkey/leader", "switchover", &parameters);
        assert!(
            ended.completed(),
            "cannot hand over to {target:?}: {}{}",
            ended.all(),
            self.describe()
        );
        ended
    }

    /// Returns the name of a unit's storage.
    pub fn storage_of(&self, unit: &str) -> String {
        self.status()["storage"]["storage"]
            .as_object()
            .into_iter()
            .flatten()
            .find(|(_, storage)| storage["attachments"]["units"].get(unit).is_some())
            .map_or_else(
                || panic!("{unit} has no storage{}", self.describe()),
                |(id, _)| id.clone(),
            )
    }

    /// Connects to a unit's server from its own address: that way stays open when the unit is cut off.
    pub fn connect_inside(&self, unit: &Unit) -> io::Result<Wire> {
        let inside = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&inside, &SocketAddr::new(unit.address, 0))?;
        connect(&inside, &SocketAddr::new(unit.address, SERVER_PORT))?;
        let password = &self.passwords().server;
        Wire::over(
            TcpStream::from(inside),
            "charmed-operator",
            password,
            INSIDE,
        )
    }
}
