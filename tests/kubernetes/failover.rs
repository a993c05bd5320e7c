//! The watchers of real servers and Sentinels lead clients to the new primary, without any hook.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use valkey_operator::{charm::WatchFile, workload::Kind};

use crate::{
    cluster::Cluster,
    isolation::{Resolver, inside},
    link::State,
    namespace::Namespace,
    servers::{self, eventually},
};

/// Longest that anything may take, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(index: usize) -> String {
    format!("valkey-{index}.valkey-endpoints.m.svc.cluster.local")
}

/// A watcher, ended with the test.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(pods: &servers::Cluster, index: usize, namespace: &Namespace, dir: &Path) -> Watcher {
    let node = &pods.nodes[index];
    let run = dir.join(format!("run-{index}"));
    fs::create_dir_all(&run).unwrap();
    let file = WatchFile {
        unit: format!("valkey/{index}"),
        charm_dir: run.clone(),
        address: node.server.host().to_owned(),
        storage: node.dir.clone(),
        run: run.clone(),
        workload: Kind::Process,
        kubernetes: Some(namespace.access()),
        credentials: pods.credentials.to_secret(),
    };
    let path = run.join("watch.json");
    fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let log = fs::File::create(run.join("watch.log")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_valkey-operator"))
        .arg("watch")
        .arg("--file")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Watcher(child)
}

async fn three_pods(resolver: &Resolver) -> servers::Cluster {
    let mut pods = servers::Cluster::empty();
    for index in 0..3 {
        let last = u8::try_from(index).unwrap() + 1;
        resolver.set(&name(index), Ipv4Addr::new(127, 1, 1, last));
        pods.add_node_at(&name(index));
        let primary = (index > 0).then(|| pods.nodes[0].server.clone());
        pods.start_server(index, primary);
        pods.serving(index).await;
    }
    for index in 0..3 {
        pods.start_sentinel(index, 0, 2);
    }
    for index in 0..3 {
        eventually("the Sentinel answers", LONG, || async {
            pods.try_sentinel(index).await?.shorten_periods().await.ok()
        })
        .await;
    }
    pods.settle_sentinels(2, 2).await;
    pods
}

/// Waits until the pods have these roles and no other; returns how long it took.
async fn labelled(namespace: &Namespace, expected: &str) -> Duration {
    let began = Instant::now();
    eventually(expected, LONG, || async {
        (namespace.roles() == expected).then_some(())
    })
    .await;
    began.elapsed()
}

/// Kills a pod's processes, and returns who is primary as soon as another's Sentinel says so.
async fn fail(pods: &mut servers::Cluster, dead: usize, ask: usize) -> usize {
    let node = &mut pods.nodes[dead];
    node.server_process.take().unwrap().kill();
    node.sentinel_process.take().unwrap().kill();
    eventually("another is named", LONG, || async {
        let named = pods
            .try_sentinel(ask)
            .await?
            .primary_address()
            .await
            .ok()??;
        (0..3).find(|index| *index != dead && pods.nodes[*index].server == named)
    })
    .await
}

fn expected(primary: usize, replicas: &[usize]) -> String {
    let mut roles: Vec<String> = replicas
        .iter()
        .map(|index| format!("valkey-{index} replica"))
        .chain([format!("valkey-{primary} primary")])
        .collect();
    roles.sort();
    roles.join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watchers_lead_to_the_new_primary_without_a_hook() {
    let test = "failover::the_watchers_lead_to_the_new_primary_without_a_hook";
    let Some(resolver) = inside(test) else {
        return;
    };
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    namespace.trust(true);
    let mut pods = three_pods(&resolver).await;
    let dir = tempfile::tempdir().unwrap();
    let mut watchers: Vec<Option<Watcher>> = (0..3)
        .map(|index| Some(watch(&pods, index, &namespace, dir.path())))
        .collect();
    labelled(&namespace, &expected(0, &[1, 2])).await;
    eventually("the Services are there", LONG, || async {
        namespace.get("services/valkey-primary")?;
        namespace.get("services/valkey-replicas")
    })
    .await;

    // A pod dies with all that is in it; its label is still there.
    watchers[0] = None;
    let first = fail(&mut pods, 0, 1).await;
    let other = 3 - first;
    let elapsed = labelled(&namespace, &expected(first, &[other])).await;
    println!("labels are right {elapsed:?} after a Sentinel named the new primary");

    // It comes back, as a replica.
    let follow = pods.nodes[first].server.clone();
    pods.start_server(0, Some(follow));
    pods.start_sentinel(0, 0, 2);
    watchers[0] = Some(watch(&pods, 0, &namespace, dir.path()));
    labelled(&namespace, &expected(first, &[0, other])).await;
    eventually("the replica may be promoted", LONG, || async {
        let client = pods.try_server(0).await?;
        client.config_set(&[("replica-priority", "100")]).await.ok()
    })
    .await;
    eventually("the Sentinel answers", LONG, || async {
        pods.try_sentinel(0).await?.shorten_periods().await.ok()
    })
    .await;
    pods.settle_sentinels(2, 2).await;

    // Nobody can be labelled while the API server is away; it is made up for when it is back.
    namespace.link.set(State::Closed);
    watchers[first] = None;
    let second = fail(&mut pods, first, other).await;
    let last = 3 - first - second;
    // The former primary still has its label: that is what there is to be made up for.
    assert_eq!(namespace.roles(), expected(first, &[0, other]));
    namespace.link.set(State::Up);
    let elapsed = labelled(&namespace, &expected(second, &[last])).await;
    println!("labels are right {elapsed:?} after the API server came back");

    // A person deletes a Service: the watcher of the primary makes it again.
    namespace.delete("services/valkey-replicas");
    eventually("the Service is back", LONG, || async {
        namespace.get("services/valkey-replicas")
    })
    .await;
}
