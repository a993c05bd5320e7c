//! The charm in pods, under writes that never stop: real servers and Sentinels under real Pebble, known by name, in
//! pods that come back elsewhere.
//!
//! Needs root: `juju-local` makes pods of namespaces. Each test has a network of its own. The clients find everything
//! by name, as they would in a cluster. What each case cost is printed; `docs/benchmarks.md` has the figures.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    ops::Deref,
    time::{Duration, Instant},
};

use support::{
    drills::{FAILOVER, HANDOVER_GAP, IN_FLIGHT},
    hooks,
    model::{A_UNIT, Model, Unit},
    oracles::Settled,
    pods::Net,
    rolling::{Story, watched},
    writers::Writers,
};

/// The application in pods, and clients that write.
struct Pods {
    // End before their network does, and the clients before the model.
    writers: Option<Writers>,
    model: Model,
    _net: Net,
}

/// What something that happened to pods cost.
struct Cost {
    settled: Settled,
    gap: Duration,
    story: Story,
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
        let writers = Some(Writers::start_usual(&model));
        let pods = Self {
            writers,
            model,
            _net: net,
        };
        (pods, settled)
    }

    fn writers(&self) -> &Writers {
        self.writers.as_ref().expect("the clients write")
    }

    /// Lets something happen, waits until `units` pods have settled, and tells what it cost.
    fn cost(&self, what: &str, units: usize, event: impl FnOnce()) -> Cost {
        let begun = Instant::now();
        let (settled, story) = watched(&self.model, || {
            event();
            self.writers().flowing(&self.model);
            self.settled(units, A_UNIT * 3)
        });
        let whole = begun.elapsed();
        self.writers().flowing(&self.model);
        let gap = self.writers().longest_gap(begun);
        println!(
            "pods | {what} | writes stood still for {} ms | whole after {:.1} s | {} partial, {} full copies",
            gap.as_millis(),
            whole.as_secs_f64(),
            story.partial,
            story.full,
        );
        Cost {
            settled,
            gap,
            story,
        }
    }

    /// Evicts pods and waits until they are there again, with other addresses.
    fn evict(&self, options: &[&str], pods: &[Unit]) {
        let names: Vec<&str> = pods.iter().map(|unit| unit.name.as_str()).collect();
        self.handle(&[&["evict"], options, &names].concat());
        self.wait_until("the pods have come back", A_UNIT * 2, || {
            let now = self.units();
            let stays = |unit: &Unit| {
                now.iter()
                    .any(|one| one.name == unit.name && one.address != unit.address)
            };
            if pods.iter().all(stays) {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        });
    }

    /// Ends a unit's server as a crash would.
    fn kill_server(&self, unit: &Unit) {
        hooks::exec(
            self,
            &unit.name,
            "PEBBLE_SOCKET=/charm/containers/valkey/pebble.socket /charm/bin/pebble signal SIGKILL server",
        );
    }

    /// Stops the clients, and expects that at most `most` of the writes that were acknowledged are missing.
    fn expect_lost_at_most(mut self, most: usize, settled: &Settled) {
        let writers = self.writers.take().expect("the clients write");
        let verdict = writers.verify(&self.model, settled.primary.address);
        println!(
            "pods | acknowledged writes lost: {} of {}",
            verdict.lost, verdict.acknowledged
        );
        verdict.expect_lost_at_most(most);
    }
}

impl Cost {
    fn expect_gap(&self, most: Duration) -> &Self {
        assert!(self.gap < most, "writes stood still for {:?}", self.gap);
        self
    }
}

#[test]
fn pods_come_and_go_and_lose_nothing() {
    let (pods, _) = Pods::deployed(3);
    pods.cost("3 to 5 units", 5, || {
        pods.juju(&["scale-application", "valkey", "5"]);
    });
    let highest = pods.unit("valkey/4");
    let cost = pods.cost("hand-over by action", 5, || {
        pods.switch_over(Some(&highest.name));
    });
    cost.expect_gap(HANDOVER_GAP);
    assert_eq!(cost.settled.primary.name, highest.name);
    // The primary's pod is among those that go, all at the same time.
    let cost = pods.cost("5 to 2 units, the primary among those that go", 2, || {
        pods.juju(&["scale-application", "valkey", "2"]);
        pods.wait_until("the others are gone", A_UNIT * 3, || {
            match pods.units().len() {
                2 => Ok(()),
                left => Err(format!("{left} units")),
            }
        });
    });
    cost.expect_gap(HANDOVER_GAP);
    // The same numbers come back to the storage that they had.
    let cost = pods.cost("2 to 3 units, to storage that stayed", 3, || {
        pods.juju(&["scale-application", "valkey", "3"]);
    });
    pods.expect_lost_at_most(0, &cost.settled);
}

#[test]
fn an_evicted_primary_hands_over_and_a_refresh_rolls() {
    let (pods, settled) = Pods::deployed(3);
    let primary = settled.primary;
    let cost = pods.cost("the primary's pod is evicted", 3, || {
        pods.evict(&[], std::slice::from_ref(&primary));
    });
    assert_ne!(cost.settled.primary.name, primary.name);
    cost.expect_gap(HANDOVER_GAP).story.expect_partial(1);
    let before = pods.units();
    let cost = pods.cost("all pods are replaced by a refresh, one by one", 3, || {
        let charm = support::charm::folder().display().to_string();
        pods.juju(&["refresh", "valkey", "--path", &charm]);
        pods.wait_until("all pods are new", A_UNIT * 3, || {
            let now = pods.units();
            let same = |unit: &Unit| before.iter().any(|one| one.address == unit.address);
            if now.len() == 3 && !now.iter().any(same) {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        });
    });
    cost.expect_gap(HANDOVER_GAP).story.expect_partial(3);
    assert_eq!(cost.story.order(), ["valkey/2", "valkey/1", "valkey/0"]);
    pods.expect_lost_at_most(0, &cost.settled);
}

#[test]
fn servers_and_containers_that_crash_come_back_and_lose_next_to_nothing() {
    let (pods, settled) = Pods::deployed(3);
    let restart = |unit: &Unit| pods.handle(&["container-restart", &unit.name, "valkey"]);
    let replica = &settled.replicas[0];
    let cost = pods.cost("a replica's container restarts", 3, || restart(replica));
    assert_eq!(cost.settled.primary.name, settled.primary.name);
    cost.expect_gap(HANDOVER_GAP);
    // Who is primary then depends on who is faster: the gate of the restart, or the failover.
    let primary = cost.settled.primary.clone();
    let cost = pods.cost("the primary's server is killed", 3, || {
        pods.kill_server(&primary);
    });
    cost.expect_gap(FAILOVER);
    let primary = cost.settled.primary.clone();
    let cost = pods.cost("the primary's container restarts", 3, || restart(&primary));
    cost.expect_gap(FAILOVER);
    let primary = cost.settled.primary.clone();
    let cost = pods.cost("the primary's pod is lost, with no time to end", 3, || {
        pods.evict(&["--now"], std::slice::from_ref(&primary));
    });
    cost.expect_gap(FAILOVER);
    pods.expect_lost_at_most(3 * IN_FLIGHT, &cost.settled);
}

#[test]
fn all_pods_at_once_come_back_elsewhere_with_their_data() {
    let (pods, _) = Pods::deployed(3);
    let before = pods.units();
    let cost = pods.cost("all pods are lost at once", 3, || {
        pods.evict(&["--now"], &before);
    });
    pods.expect_lost_at_most(IN_FLIGHT, &cost.settled);
}
