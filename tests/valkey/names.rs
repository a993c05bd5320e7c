//! Servers and Sentinels that know each other by names, as in pods whose addresses change.
//!
//! `VALKEY_MEASURE=1 cargo test --test valkey names -- --nocapture` prints figures of what is not promised, too.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use valkey_operator::limits::CONNECT_TIMEOUT;
use valkey_operator::valkey::handover::{hand_over, promote_best};
use valkey_operator::valkey::{Endpoint, InternalUser, Role, ServerClient, ValkeyError};

use crate::cluster::{Cluster, eventually, newest_program, server_program};
use crate::handover::{plan, settled_on, told_all};
use crate::namespace::{Resolver, inside};

const LONG: Duration = Duration::from_secs(60);

fn name(index: usize) -> String {
    format!("valkey-{index}.valkey-endpoints.m.svc.cluster.local")
}

/// Units in pods.
struct Pods {
    cluster: Cluster,
    resolver: Resolver,
    /// How often each pod was made.
    made: Vec<u8>,
}

impl Pods {
    /// Starts three units that settle, the first as primary.
    async fn start(program: PathBuf, resolver: &Resolver) -> Self {
        let mut pods = Self {
            cluster: Cluster::empty_of(program),
            resolver: resolver.clone(),
            made: vec![0; 3],
        };
        for index in 0..3 {
            pods.cluster.add_node_at(&name(index));
            pods.place(index);
            let primary = (index > 0).then(|| pods.cluster.nodes[0].server.clone());
            pods.cluster.start_server(index, primary);
            pods.cluster.serving(index).await;
        }
        for index in 0..3 {
            pods.cluster.start_sentinel(index, 0, 2);
            pods.quicken(index).await;
        }
        pods.cluster.settle_sentinels(2, 2).await;
        pods
    }

    /// Gives a pod an address that it never had.
    fn place(&mut self, index: usize) -> Ipv4Addr {
        self.made[index] += 1;
        let last = u8::try_from(index).unwrap() + 1;
        let address = Ipv4Addr::new(127, 1, self.made[index], last);
        self.resolver.set(&name(index), address);
        address
    }

    async fn quicken(&self, index: usize) {
        eventually("the Sentinel answers", LONG, || async {
            let client = self.cluster.try_sentinel(index).await?;
            client.shorten_periods().await.ok()
        })
        .await;
    }

    /// Ends a pod: its processes are gone, and so is its name, at once.
    fn end(&mut self, index: usize) {
        let node = &mut self.cluster.nodes[index];
        node.server_process.take().unwrap().kill();
        node.sentinel_process.take().unwrap().kill();
        self.resolver.forget(&name(index));
    }

    /// Makes a pod anew at another address, with the storage that it had.
    async fn again(&mut self, index: usize, follow: Option<usize>) {
        self.place(index);
        let follow = follow.map(|primary| self.cluster.nodes[primary].server.clone());
        self.cluster.start_server(index, follow);
        self.cluster.start_sentinel(index, 0, 2);
        self.quicken(index).await;
    }

    /// The one that all Sentinels of `asked` name, once it is not `old`.
    async fn promoted(&self, asked: &[usize], old: usize) -> usize {
        let server = |index: usize| self.cluster.nodes[index].server.clone();
        eventually("another is named by all", LONG, || async {
            let mut named = Vec::new();
            for index in asked {
                let client = self.cluster.try_sentinel(*index).await?;
                named.push(client.primary_address().await.ok()??);
            }
            let new = (0..3).find(|index| server(*index) == named[0])?;
            (new != old && named.iter().all(|other| *other == named[0])).then_some(new)
        })
        .await
    }

    /// Looks everywhere where a host stands: all of them are names.
    async fn only_names(&self) {
        let named = |at: &str, endpoint: &Endpoint| {
            assert_eq!(
                endpoint.address(),
                None,
                "{at} holds an address: {endpoint}"
            );
        };
        for index in 0..3 {
            let node = &self.cluster.nodes[index];
            if node.server_process.is_none() {
                continue;
            }
            let info = self.cluster.server(index).await.info().await.unwrap();
            if let Some(primary) = info.follows() {
                named("INFO of a replica", primary);
            }
            for replica in &info.replicas {
                named("INFO of the primary", &replica.address);
            }
            let sentinel = self.cluster.sentinel(index).await;
            named(
                "SENTINEL MASTER",
                &sentinel.primary().await.unwrap().unwrap().address,
            );
            for replica in sentinel.replicas().await.unwrap() {
                named("SENTINEL REPLICAS", &replica.address);
                if let Some(primary) = &replica.primary {
                    named("a replica's primary", primary);
                }
            }
            for other in sentinel.sentinels().await.unwrap() {
                named("SENTINEL SENTINELS", &other.address);
            }
            for file in ["valkey.conf", "sentinel.conf"] {
                let text = std::fs::read_to_string(node.dir.join(file)).unwrap();
                let leaked = text.lines().find(|line| line.contains("127."));
                assert_eq!(leaked, None, "{file} of {index} holds an address");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_back_with_other_addresses_under_their_names() {
    let Some(resolver) = inside("names::pods_come_back_with_other_addresses_under_their_names")
    else {
        return;
    };
    for program in [server_program(), newest_program()] {
        let mut pods = Pods::start(program, &resolver).await;
        println!("{}", pods.cluster.version);
        pods.only_names().await;
        let asked = resolver.asked();
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("{} questions in 2 s", resolver.asked() - asked);

        // A replica's pod is made anew.
        pods.end(1);
        pods.again(1, Some(0)).await;
        let start = Instant::now();
        pods.cluster.serving(1).await;
        pods.cluster.settle_sentinels(2, 2).await;
        println!(
            "a replica's pod made anew: full view after {:?}",
            start.elapsed()
        );
        settled_on(&pods.cluster, 0).await;

        // The role changes hands by names, votes and hello included.
        let record = hand_over(&plan(&pods.cluster, 0, 1), &pods.cluster.credentials)
            .await
            .unwrap();
        told_all(&record, 3);
        settled_on(&pods.cluster, 1).await;
        pods.only_names().await;

        // The primary's pod is made anew so soon that nobody takes it for down.
        pods.cluster.nodes[1]
            .sentinel_process
            .as_mut()
            .unwrap()
            .kill();
        pods.cluster.nodes[1]
            .server_process
            .as_mut()
            .unwrap()
            .kill();
        pods.again(1, None).await;
        let start = Instant::now();
        pods.cluster.settle_sentinels(2, 2).await;
        println!(
            "the primary's pod made anew: full view after {:?}",
            start.elapsed()
        );
        pods.cluster
            .server(1)
            .await
            .config_set(&[("replica-priority", "100")])
            .await
            .unwrap();
        settled_on(&pods.cluster, 1).await;

        // It goes, and its name with it: Sentinel replaces it.
        let start = Instant::now();
        pods.end(1);
        let new = pods.promoted(&[0, 2], 1).await;
        println!(
            "a primary without a name replaced after {:?}",
            start.elapsed()
        );
        pods.again(1, Some(new)).await;
        pods.cluster.serving(1).await;
        pods.cluster.settle_sentinels(2, 2).await;
        settled_on(&pods.cluster, new).await;
        pods.only_names().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_gone_stands_in_nobodys_way() {
    let Some(resolver) = inside("names::a_name_that_is_gone_stands_in_nobodys_way") else {
        return;
    };
    for program in [server_program(), newest_program()] {
        let mut pods = Pods::start(program, &resolver).await;
        println!("{}", pods.cluster.version);
        // A replica's pod is gone for good; the others start again with its name in their files.
        pods.end(2);
        for index in 0..2 {
            pods.cluster.nodes[index]
                .sentinel_process
                .as_mut()
                .unwrap()
                .kill();
            pods.cluster.start_sentinel(index, 0, 2);
            pods.quicken(index).await;
        }
        // A server starts as a replica of a name that is not there.
        let gone = pods.cluster.nodes[2].server.clone();
        let mut process = pods.cluster.nodes[1].server_process.take().unwrap();
        process.kill();
        pods.cluster.start_server(1, Some(gone));
        let client = eventually("it answers", LONG, || pods.cluster.try_server(1)).await;
        assert_eq!(client.info().await.unwrap().role, Role::Replica);
        client
            .replicaof(Some(&pods.cluster.nodes[0].server))
            .await
            .unwrap();
        pods.cluster.serving(1).await;
        for index in 0..2 {
            eventually("each knows the other and the replica", LONG, || async {
                let seen = pods
                    .cluster
                    .try_sentinel(index)
                    .await?
                    .replicas()
                    .await
                    .ok()?;
                let good = seen
                    .iter()
                    .any(|replica| replica.is_promotable() && replica.address.host() == name(1));
                good.then_some(())
            })
            .await;
        }
        // The primary dies, too; the charm promotes the last one by votes for a name without address.
        pods.cluster.nodes[0].server_process.take().unwrap().kill();
        pods.resolver.forget(&name(0));
        let mut plan = plan(&pods.cluster, 0, 1);
        plan.sentinels = vec![pods.cluster.nodes[1].sentinel.clone()];
        plan.allow_minority = true;
        let start = Instant::now();
        let record = promote_best(&plan, &pods.cluster.credentials)
            .await
            .unwrap();
        println!("promoted by the charm after {:?}", start.elapsed());
        assert_eq!(record.tally.told.len(), 1, "{record:?}");
        let client = pods.cluster.server(1).await;
        assert_eq!(client.info().await.unwrap().role, Role::Primary);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_resolver_keeps_the_charm_for_one_deadline() {
    let Some(resolver) = inside("names::a_silent_resolver_keeps_the_charm_for_one_deadline") else {
        return;
    };
    let silent = Endpoint::new(name(7), 6379).unwrap();
    resolver.silence(&name(7), true);
    let credentials = valkey_operator::valkey::Credentials::generate().unwrap();
    let user = InternalUser::CharmedOperator;
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for _ in 0..3 {
        let start = Instant::now();
        let asked =
            (0..100).map(|_| ServerClient::connect(&silent, user, credentials.password(user)));
        for refused in futures::future::join_all(asked).await {
            let refused = refused.err().unwrap();
            assert!(
                matches!(refused, ValkeyError::Unreachable { .. }),
                "{refused}"
            );
            assert!(
                refused.to_string().contains("name is not resolved within"),
                "{refused}"
            );
        }
        assert!(
            start.elapsed() < CONNECT_TIMEOUT * 2,
            "{:?}",
            start.elapsed()
        );
    }
    // However often it is asked for, one name costs one thread.
    assert!(
        threads() <= before + 1,
        "{before} threads became {}",
        threads()
    );
    // The answer comes with the next question after the resolver is back.
    resolver.silence(&name(7), false);
    eventually("the resolver answers", LONG, || async {
        let refused = ServerClient::connect(&silent, user, credentials.password(user)).await;
        let text = refused.err().unwrap().to_string();
        (!text.contains("within")).then_some(())
    })
    .await;
}
