//! A model whose units are pods, in a network of the test's own.

use std::fs;
use std::ops::Deref;

use super::local::Local;
use super::pebble;
use super::pods::Net;

/// A service that only lives, and a check that looks for a file.
pub const LAYER: &str = "services:
  work:
    override: replace
    command: sleep 100000
    startup: enabled
    on-failure: ignore
";

/// A model of pods.
pub struct Pods {
    // Ends before its network does.
    local: Local,
    _net: Net,
}

impl Deref for Pods {
    type Target = Local;

    fn deref(&self) -> &Local {
        &self.local
    }
}

impl Pods {
    /// Begins an empty model that behaves as `variant` of Juju.
    pub fn new(variant: &str) -> Self {
        let net = Net::enter();
        let local = Local::new(variant);
        let notes = serde_json::to_string(&[local.notes()]).unwrap();
        local.ok(&[
            "handle",
            "setting",
            "substrate=kubernetes",
            &format!("pebble={}", pebble::program().display()),
            &format!("host-paths={notes}"),
            "pebble-poll-seconds=0.5",
        ]);
        fs::write(local.notes().join("layer.yaml"), LAYER).unwrap();
        Self { local, _net: net }
    }

    /// Begins a model and deploys units of the charm as `app`.
    pub fn deployed(variant: &str, units: u32) -> Self {
        let pods = Self::new(variant);
        pods.deploy_charm("pods", "app", units);
        pods.settle();
        for unit in 0..units {
            pods.until_again(&format!("app/{unit}"), 0, "end work-pebble-ready");
        }
        pods
    }

    /// Returns a unit's address.
    pub fn address(&self, unit: &str) -> String {
        self.unit(unit)["public-address"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Runs shell text in the workload container of a unit.
    pub fn within(&self, unit: &str, command: &str) -> String {
        let quoted = command.replace('\'', r"'\''");
        self.exec(
            unit,
            &format!("PEBBLE_SOCKET=/charm/containers/work/pebble.socket /charm/bin/pebble exec -- sh -c '{quoted}'"),
        )
    }

    /// Waits until a unit has had an event again, after `before` events.
    pub fn until_again(&self, unit: &str, before: usize, event: &str) {
        self.until(&format!("{unit} has had {event} again"), || {
            self.trace(unit)
                .iter()
                .skip(before)
                .any(|line| line == event)
        });
    }
}
