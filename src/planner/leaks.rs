//! Addresses that stand where names belong: where units are pods, an address is somebody else's tomorrow.

use core::net::IpAddr;

use super::observation::{Known, Observation, Role};

impl Observation {
    /// Returns whether `host` is an address while this unit, and so all of them, has a name.
    #[must_use]
    pub fn is_leak(&self, host: &str) -> bool {
        let address = |text: &str| text.parse::<IpAddr>().is_ok();
        address(host) && !self.local.address.is_empty() && !address(&self.local.address)
    }

    /// Returns where addresses stand instead of names, each in words for a person.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        let mut found = Vec::new();
        for unit in self.units.keys() {
            if let Some(server) = self.server(unit) {
                if let Role::Replica { of, .. } = &server.role
                    && self.is_leak(of)
                {
                    found.push(format!("{unit} follows the address {of} instead of a name"));
                }
                for replica in server.replicas.iter().filter(|it| self.is_leak(&it.host)) {
                    let host = &replica.host;
                    found.push(format!("a replica of {unit} announces the address {host}"));
                }
            }
            let Some(monitor) = self.monitor(unit) else {
                continue;
            };
            let known = monitor.others.iter().chain(&monitor.replicas);
            let hosts = known.map(|known| &known.host).chain([&monitor.primary]);
            for host in hosts.filter(|host| self.is_leak(host)) {
                found.push(format!(
                    "Sentinel of {unit} knows the address {host} instead of a name"
                ));
            }
        }
        found
    }

    /// Returns whether a replica that a Sentinel lists can be cleared although it answers.
    ///
    /// That is so for an address under which a unit was known once, if all replicas announce names by
    /// now: the Sentinel then learns the unit anew, by its name. No unit is known by an address alone.
    #[must_use]
    pub fn is_leaked_replica(&self, known: &Known) -> bool {
        self.is_leak(&known.host)
            && self
                .primary()
                .and_then(|primary| self.server(&primary))
                .is_some_and(|server| server.replicas.iter().all(|it| !self.is_leak(&it.host)))
    }
}
