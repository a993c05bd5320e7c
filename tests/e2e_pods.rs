//! The charm in pods: real servers and Sentinels under real Pebble, known by name, in pods that come back elsewhere.
//!
//! Needs root: `juju-local` makes pods of namespaces. Each test has a network of its own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::ops::Deref;

use support::{
    model::{A_UNIT, Model, Unit},
    oracles::Settled,
    pods::Net,
    wire::Reply,
};

/// Keys that are written before something happens.
const KEYS: u32 = 500;

/// The application in pods.
struct Pods {
    // Ends before its network does.
    model: Model,
    _net: Net,
}

impl Deref for Pods {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl Pods {
    fn deployed(units: usize) -> (Self, Settled) {
        let net = Net::enter();
        let model = Model::in_pods();
        model.deploy(units, &[]);
        let settled = model.settled(units, A_UNIT * u32::try_from(units).unwrap_or(1));
        let pods = Self { model, _net: net };
        (pods, settled)
    }

    /// Writes keys; every one is acknowledged by all replicas.
    fn write(&self, primary: &Unit, replicas: usize) {
        let mut wire = self.server(primary.address).expect("the primary answers");
        for number in 0..KEYS {
            let key = format!("key:{number}");
            let reply = wire.call(&["SET", &key, &key]).expect("a write");
            assert_eq!(reply.text().as_deref(), Some("OK"));
        }
        let wanted = replicas.to_string();
        let reached = wire.call(&["WAIT", &wanted, "5000"]).expect("an answer");
        assert_eq!(
            reached.to_string(),
            Reply::Number(i64::try_from(replicas).unwrap_or(0)).to_string()
        );
    }

    /// Expects all keys on a unit.
    fn expect_keys(&self, unit: &Unit) {
        let mut wire = self.server(unit.address).expect("the server answers");
        let size = wire.call(&["DBSIZE"]).expect("an answer").to_string();
        let wanted = Reply::Number(i64::from(KEYS)).to_string();
        assert_eq!(size, wanted, "keys of {}", unit.name);
    }

    /// Waits until all pods have other addresses than before, and all has settled.
    fn settled_elsewhere(&self, before: &[Unit], units: usize) -> Settled {
        self.wait_until("all pods have come back", A_UNIT * 2, || {
            let now = self.units();
            let stays = |unit: &Unit| {
                now.iter()
                    .any(|one| one.name == unit.name && one.address != unit.address)
            };
            if before.iter().all(stays) {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        });
        self.settled(units, A_UNIT * 3)
    }
}

#[test]
fn three_pods_know_each_other_by_name_and_leave_together() {
    let (pods, settled) = Pods::deployed(3);
    pods.write(&settled.primary, 2);
    for unit in pods.units() {
        pods.expect_keys(&unit);
    }
    pods.juju(&["scale-application", "valkey", "1"]);
    pods.wait_until("two units are gone", A_UNIT * 2, || {
        match pods.units().len() {
            1 => Ok(()),
            left => Err(format!("{left} units")),
        }
    });
    let alone = pods.settled(1, A_UNIT);
    pods.expect_keys(&alone.primary);
    // The same numbers come back to the storage that they had.
    pods.juju(&["scale-application", "valkey", "3"]);
    pods.settled(3, A_UNIT * 3);
    for unit in pods.units() {
        pods.expect_keys(&unit);
    }
}

#[test]
fn an_evicted_primary_hands_over_and_comes_back_as_a_replica_elsewhere() {
    let (pods, settled) = Pods::deployed(3);
    let primary = settled.primary;
    pods.write(&primary, 2);
    pods.handle(&["evict", &primary.name]);
    let settled = pods.settled_elsewhere(std::slice::from_ref(&primary), 3);
    assert_eq!(settled.replicas.len(), 2);
    for unit in pods.units() {
        pods.expect_keys(&unit);
    }
}

#[test]
fn all_pods_at_once_come_back_elsewhere_with_their_data() {
    let (pods, settled) = Pods::deployed(3);
    pods.write(&settled.primary, 2);
    let before = pods.units();
    pods.handle(&["evict", "--now", "valkey/0", "valkey/1", "valkey/2"]);
    pods.settled_elsewhere(&before, 3);
    for unit in pods.units() {
        pods.expect_keys(&unit);
    }
}
