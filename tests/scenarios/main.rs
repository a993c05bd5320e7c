//! Scenarios of `docs/guarantees.md` that need real servers and Sentinels, but no units around them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/valkey_cluster.rs"]
mod cluster;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::{Cluster, eventually, newest_program, version_of};
use redis::{Commands as _, ConnectionAddr, ConnectionLike as _};
use valkey_operator::valkey::configuration::server_users;
use valkey_operator::valkey::handover::{HandoverPlan, hand_over};
use valkey_operator::valkey::server::ShutdownSave;
use valkey_operator::valkey::{
    Endpoint, InternalUser, Role, SentinelClient, ServerClient, ValkeyError, Version,
};

const SOON: Duration = Duration::from_secs(20);

/// Connects as the charm with a client that knows nothing of Sentinel and never looks again.
fn stubborn_client(cluster: &Cluster, index: usize) -> redis::Connection {
    let user = InternalUser::CharmedOperator;
    let password = cluster.credentials.password(user);
    client_of(&cluster.nodes[index].server, user.name(), password.expose())
}

fn client_of(server: &Endpoint, user: &str, password: &str) -> redis::Connection {
    let settings = redis::RedisConnectionInfo::default()
        .set_username(user)
        .set_password(password);
    let address = ConnectionAddr::Tcp(server.host().to_owned(), server.port());
    let info = redis::IntoConnectionInfo::into_connection_info(address)
        .unwrap()
        .set_redis_settings(settings);
    redis::Client::open(info).unwrap().get_connection().unwrap()
}

/// Returns the addresses from which TCP connections of this machine come.
fn sources() -> Vec<Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = |line: &str| {
        let (address, _) = line.split_whitespace().nth(1)?.split_once(':')?;
        let bytes = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        Some(Ipv4Addr::from(bytes))
    };
    table.lines().skip(1).filter_map(local).collect()
}

/// Lets what a process sends come from another address than its own, as a network that translates addresses does.
fn translate(file: &Path, own: &str, shown: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let line = format!("bind-source-addr {own}");
    // Sentinel puts what it writes in quotes.
    let quoted = format!("bind-source-addr \"{own}\"");
    assert!(text.contains(&line) || text.contains(&quoted), "{text}");
    let other = format!("bind-source-addr {shown}");
    std::fs::write(file, text.replace(&line, &other).replace(&quoted, &other)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_addresses_count_whatever_the_network_shows() {
    let mut cluster = Cluster::servers(1).await;
    cluster.start_sentinel(0, 0, 1);
    let replica = cluster.add_node();
    let own = cluster.nodes[replica].server.host().to_owned();
    let shown = format!("{}.200", own.rsplit_once('.').unwrap().0);
    let primary = cluster.nodes[0].server.clone();
    let settings = cluster.settings(replica, Some(primary));
    let file = cluster.write_server(replica, &settings);
    translate(&file, &own, &shown);
    cluster.run_server(replica);
    cluster.serving(replica).await;
    let source: Ipv4Addr = shown.parse().unwrap();
    assert!(sources().contains(&source), "nothing comes from {shown}");

    cluster.start_sentinel(replica, 0, 1);
    eventually("the Sentinel answers", SOON, || {
        cluster.try_sentinel(replica)
    })
    .await;
    let node = &mut cluster.nodes[replica];
    node.sentinel_process.take().unwrap().kill();
    translate(&node.dir.join("sentinel.conf"), &own, &shown);
    cluster.start_sentinel(replica, 0, 1);
    cluster.settle_sentinels(1, 1).await;

    let server = cluster.nodes[replica].server.clone();
    let attached = cluster.server(0).await.info().await.unwrap().replicas;
    assert_eq!(
        attached.iter().map(|r| &r.address).collect::<Vec<_>>(),
        [&server]
    );
    let view = cluster.sentinel(0).await;
    let replicas = view.replicas().await.unwrap();
    assert_eq!(
        replicas.iter().map(|r| &r.address).collect::<Vec<_>>(),
        [&server]
    );
    let sentinels = view.sentinels().await.unwrap();
    assert_eq!(
        sentinels.iter().map(|s| &s.address).collect::<Vec<_>>(),
        [&cluster.nodes[replica].sentinel]
    );
    // A second connection for a full copy would show a replica that is none.
    for index in [0, replica] {
        let settings = cluster
            .server(index)
            .await
            .config_get(&["dual-channel-replication-enabled"])
            .await;
        assert!(settings.unwrap().values().all(|value| value == "no"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_another_application_are_let_in_nowhere() {
    let (ours, theirs) = (Cluster::start(2).await, Cluster::start(1).await);
    let user = InternalUser::CharmedOperator;
    let refused = ServerClient::connect(
        &ours.nodes[0].server,
        user,
        theirs.credentials.password(user),
    )
    .await;
    assert!(matches!(refused.err(), Some(ValkeyError::Auth { .. })));
    let user = InternalUser::CharmedSentinelOperator;
    let refused = SentinelClient::connect(
        &ours.nodes[0].sentinel,
        user,
        theirs.credentials.password(user),
    )
    .await;
    assert!(matches!(refused.err(), Some(ValkeyError::Auth { .. })));

    // An address was given away: their Sentinel takes our primary, which has the same name, for its own.
    let stray = theirs.sentinel(0).await;
    stray.remove().await.unwrap();
    stray.monitor(&ours.nodes[0].server, 1).await.unwrap();
    let password = theirs
        .credentials
        .password(InternalUser::CharmedSentinelValkey);
    stray
        .set(&[
            ("down-after-milliseconds", "1000"),
            ("auth-user", InternalUser::CharmedSentinelValkey.name()),
            ("auth-pass", password.expose()),
        ])
        .await
        .unwrap();
    eventually("it finds no way in", SOON, || async {
        let view = stray.primary().await.ok()??;
        view.flags.is_down().then_some(())
    })
    .await;
    assert_eq!(
        (
            stray.replicas().await.unwrap().len(),
            stray.sentinels().await.unwrap().len()
        ),
        (0, 0)
    );
    for index in 0..2 {
        let known = ours.sentinel(index).await.sentinels().await.unwrap();
        assert_eq!(
            known.iter().map(|s| &s.address).collect::<Vec<_>>(),
            [&ours.nodes[1 - index].sentinel]
        );
    }
    let info = ours.server(0).await.info().await.unwrap();
    assert_eq!((info.role, info.replicas.len()), (Role::Primary, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_sentinel_lacks_is_found_beforehand() {
    let cluster = Cluster::servers(1).await;
    let server = cluster.server(0).await;
    assert_eq!(
        server.sentinel_rights_missing().await.unwrap(),
        Vec::<String>::new()
    );
    let users = server_users(&cluster.credentials, None);
    for (right, named) in [
        ("+failover ", "failover"),
        ("+multi ", "multi"),
        ("+client|kill ", "client|kill"),
    ] {
        assert!(users.contains(right));
        server.apply_users(&users.replace(right, "")).await.unwrap();
        let missing = server.sentinel_rights_missing().await.unwrap();
        assert!(
            missing.iter().any(|text| text.contains(named)),
            "{named}: {missing:?}"
        );
    }
    server.apply_users(&users).await.unwrap();
    assert_eq!(
        server.sentinel_rights_missing().await.unwrap(),
        Vec::<String>::new()
    );
}

/// A client that knows no Sentinel is told to look again: its connection ends, and no write goes astray.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stays_is_sent_away_by_a_hand_over() {
    let cluster = Cluster::start(3).await;
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "application", "on", ">secret", "~*", "+@all"]);
    stubborn_client(&cluster, 0).req_command(&user).unwrap();
    let mut client = client_of(&cluster.nodes[0].server, "application", "secret");
    client.set::<_, _, ()>("before", "1").unwrap();
    let server = |index: usize| cluster.nodes[index].server.clone();
    let plan = HandoverPlan::new(server(0), server(1), vec![server(2)], cluster.sentinels());
    hand_over(&plan, &cluster.credentials).await.unwrap();
    let error = client.set::<_, _, ()>("after", "1").unwrap_err();
    assert!(
        error.is_connection_dropped() || error.is_io_error(),
        "{error}"
    );
    assert!(
        !client.is_open(),
        "the connection is open and would go on reading old data"
    );
    assert_eq!(cluster.server(1).await.dbsize().await.unwrap(), 1);
}

/// A primary of a newer version with data that an older replica cannot hold: the replica keeps its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_sent_costs_the_replica_nothing() {
    let newest = newest_program();
    let mut cluster = Cluster::empty();
    let (primary, replica) = (cluster.add_node(), cluster.add_node());
    // The distribution's server, whichever the others use: files of the newest version it cannot read.
    let older = PathBuf::from("valkey-server");
    cluster.version = version_of(&older);
    assert!(cluster.version < Version::new(9, 0, 0));
    cluster.program = newest;
    cluster.start_server(primary, None);
    cluster.program = older;
    cluster.start_server(replica, None);
    for index in [primary, replica] {
        eventually("the server answers", SOON, || cluster.try_server(index)).await;
    }
    let mut client = stubborn_client(&cluster, replica);
    for key in 0..50 {
        client.set::<_, _, ()>(key, "own").unwrap();
    }
    drop(client);
    // Fields that expire are new in 9.0.
    let mut client = stubborn_client(&cluster, primary);
    let mut new = redis::cmd("HSETEX");
    new.arg(&["h", "EX", "1000", "FIELDS", "1", "f", "v"]);
    client.req_command(&new).unwrap();
    let server = cluster.server(replica).await;
    server
        .replicaof(Some(&cluster.nodes[primary].server))
        .await
        .unwrap();
    let log = cluster.nodes[replica].dir.join("server.log");
    eventually("a full copy was tried more than once", SOON, || async {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.matches("Full resync from primary").count() > 2).then_some(())
    })
    .await;
    let info = server.info().await.unwrap();
    assert!(!info.is_synced_replica(), "{info:?}");
    assert_eq!(
        server.dbsize().await.unwrap(),
        50,
        "its own data set stays while it cannot get another"
    );
    server.shutdown(ShutdownSave::Save, SOON).await.unwrap();
    cluster.nodes[replica].server_process = None;
    cluster.start_server(replica, None);
    let own: Endpoint = cluster.nodes[replica].server.clone();
    eventually(&format!("{own} serves again"), SOON, || {
        cluster.try_server(replica)
    })
    .await;
    assert_eq!(
        cluster.server(replica).await.dbsize().await.unwrap(),
        50,
        "what it saved is what it had"
    );
}
