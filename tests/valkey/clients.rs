//! Clients, configuration and rights against real processes.

use std::time::Duration;

use valkey_operator::valkey::configuration::Persistence;
use valkey_operator::valkey::events::{SentinelEvent, SentinelEvents};
use valkey_operator::valkey::lease::LeaseOutcome;
use valkey_operator::valkey::sentinel::SentinelPeriod;
use valkey_operator::valkey::server::ShutdownSave;
use valkey_operator::valkey::server_info::RoleReply;
use valkey_operator::valkey::{
    Endpoint, InternalUser, Password, Role, SentinelClient, ServerClient, ValkeyError,
};

use crate::cluster::{Cluster, eventually};

#[tokio::test]
async fn servers_take_the_files_and_tell_their_state() {
    let cluster = Cluster::servers(2).await;
    let (primary, replica) = (cluster.server(0).await, cluster.server(1).await);

    let info = primary.info().await.unwrap();
    assert_eq!(
        (info.role, info.version),
        (Role::Primary, Some(cluster.version))
    );
    assert_eq!(info.replicas.len(), 1);
    assert_eq!(info.replicas[0].address, cluster.nodes[1].server);
    assert!(info.persistence.aof_enabled);
    let info = replica.info().await.unwrap();
    assert_eq!(info.follows(), Some(&cluster.nodes[0].server));
    assert!(info.is_synced_replica());
    assert_eq!(info.priority, Some(100));
    assert!(matches!(
        primary.role().await.unwrap(),
        RoleReply::Primary { .. }
    ));
    assert!(matches!(
        replica.role().await.unwrap(),
        RoleReply::Replica { .. }
    ));

    // The file's settings are what the server says it has.
    let settings = cluster.settings(1, None);
    let names: Vec<&str> = settings.run_time().iter().map(|(name, _)| *name).collect();
    let current = replica.config_get(&names).await.unwrap();
    assert_eq!(settings.differing(&current), []);

    // Changed options are told apart and taken.
    let mut changed = settings.clone();
    changed.options.max_clients = 500;
    changed.options.persistence = Persistence::Rdb;
    let differing = changed.differing(&current);
    assert_eq!(differing.len(), 3, "{differing:?}");
    let texts: Vec<(&str, &str)> = differing.iter().map(|(n, v)| (*n, v.as_str())).collect();
    replica.config_set(&texts).await.unwrap();
    assert_eq!(
        changed.differing(&replica.config_get(&names).await.unwrap()),
        []
    );

    assert_eq!(
        primary.sentinel_rights_missing().await.unwrap(),
        Vec::<String>::new()
    );
    assert!(primary.is_empty().await.unwrap());
    primary.bgsave().await.unwrap();
    eventually("a snapshot is done", Duration::from_secs(5), || async {
        let info = primary.info().await.unwrap();
        (info.persistence.rdb_last_save_at_s > 0 && !info.persistence.rdb_in_progress).then_some(())
    })
    .await;
    replica
        .shutdown(ShutdownSave::Save, Duration::from_secs(12))
        .await
        .unwrap();
    assert!(cluster.try_server(1).await.is_none());
}

#[tokio::test]
async fn the_lease_has_one_holder_and_ends_by_itself() {
    let cluster = Cluster::servers(2).await;
    let (primary, replica) = (cluster.server(0).await, cluster.server(1).await);
    let ttl = Duration::from_secs(30);
    assert_eq!(primary.lease_holder().await.unwrap(), None);
    assert_eq!(
        primary.lease_take("a", ttl).await.unwrap(),
        LeaseOutcome::Taken
    );
    assert_eq!(
        primary.lease_renew("a", ttl).await.unwrap(),
        LeaseOutcome::Renewed
    );
    let LeaseOutcome::HeldBy(holder) = primary.lease_take("b", ttl).await.unwrap() else {
        panic!("taken twice");
    };
    assert_eq!(holder.token, "a");
    assert!(holder.ttl_ms.is_some_and(|ms| ms <= 30_000));
    assert!(
        primary
            .lease_confirm("a", ttl, 1, Duration::from_secs(2))
            .await
            .unwrap()
    );
    assert!(
        !primary
            .lease_confirm("a", ttl, 2, Duration::from_millis(50))
            .await
            .unwrap()
    );
    assert!(
        !primary
            .lease_confirm("b", ttl, 1, Duration::from_millis(50))
            .await
            .unwrap()
    );
    assert_eq!(replica.lease_holder().await.unwrap().unwrap().token, "a");
    assert!(matches!(
        replica.lease_take("a", ttl).await,
        Err(ValkeyError::ReadOnly { .. })
    ));
    assert!(!primary.lease_release("b").await.unwrap());
    assert!(primary.lease_release("a").await.unwrap());
    assert!(
        primary
            .lease_take("b", Duration::from_millis(50))
            .await
            .unwrap()
            .is_mine()
    );
    eventually("the lease ends", Duration::from_secs(2), || async {
        primary
            .lease_holder()
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;

    // Full memory does not keep anybody from leaving, a missing replica is told.
    primary.config_set(&[("maxmemory", "1")]).await.unwrap();
    assert!(primary.lease_take("c", ttl).await.unwrap().is_mine());
    primary
        .config_set(&[("maxmemory", "0"), ("min-replicas-to-write", "2")])
        .await
        .unwrap();
    assert!(matches!(
        primary.lease_take("c", ttl).await,
        Err(ValkeyError::NoReplicas { .. })
    ));
}

#[tokio::test]
async fn whoever_does_not_answer_or_refuses_is_told_apart() {
    let mut cluster = Cluster::servers(1).await;
    let endpoint = cluster.nodes[0].server.clone();
    let user = InternalUser::CharmedOperator;
    let wrong = ServerClient::connect(&endpoint, user, &Password::new("wrong").unwrap()).await;
    assert!(matches!(wrong.err(), Some(ValkeyError::Auth { .. })));
    let nobody = Endpoint::new(endpoint.host(), 1).unwrap();
    let password = cluster.credentials.password(user).clone();
    let dead = ServerClient::connect(&nobody, user, &password).await;
    assert!(matches!(dead.err(), Some(ValkeyError::Unreachable { .. })));
    let stats = cluster
        .credentials
        .password(InternalUser::CharmedStats)
        .clone();
    let stats = ServerClient::connect(&endpoint, InternalUser::CharmedStats, &stats)
        .await
        .unwrap();
    stats.info().await.unwrap();
    let denied = stats.config_get(&["primaryauth"]).await;
    assert!(
        matches!(denied, Err(ValkeyError::NoPermission { .. })),
        "{denied:?}"
    );
    let server = cluster.server(0).await;
    let refused = server.config_set(&[("maxclients", "none")]).await;
    assert!(
        matches!(refused, Err(ValkeyError::Refused { .. })),
        "{refused:?}"
    );
    let target = Endpoint::new(endpoint.host(), 2).unwrap();
    let refused = server
        .failover_to(&target, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(refused.refusal().is_some(), "{refused}");
    server.failover_abort().await.unwrap();

    cluster.nodes[0]
        .server_process
        .as_ref()
        .unwrap()
        .signal("STOP");
    let frozen = server.ping().await;
    assert!(
        matches!(frozen, Err(ValkeyError::Timeout { .. })),
        "{frozen:?}"
    );
    let frozen = ServerClient::connect(&endpoint, user, &password).await;
    assert!(matches!(
        frozen.err(),
        Some(ValkeyError::Unreachable { .. })
    ));
    cluster.nodes[0].server_process.as_mut().unwrap().kill();
}

#[tokio::test]
async fn sentinels_tell_their_view_and_announce_a_failover() {
    let mut cluster = Cluster::start(3).await;
    let sentinel = cluster.sentinel(1).await;
    let view = sentinel.primary().await.unwrap().unwrap();
    assert_eq!(view.address, cluster.nodes[0].server);
    assert_eq!(
        (view.quorum, view.other_sentinels, view.replicas),
        (2, 2, 2)
    );
    assert_eq!(
        (view.down_after_ms, view.failover_timeout_ms),
        (1000, 10_000)
    );
    assert!(!view.flags.is_down());
    assert_eq!(
        sentinel.primary_address().await.unwrap().unwrap(),
        view.address
    );
    assert!(sentinel.ckquorum().await.unwrap().is_ok());
    assert_eq!(sentinel.myid().await.unwrap().len(), 40);
    assert!(!sentinel.is_tilted().await.unwrap());
    assert_eq!(sentinel.known_epoch(&view).await.unwrap(), 0);
    sentinel.set_quorum(3).await.unwrap();
    assert_eq!(sentinel.primary().await.unwrap().unwrap().quorum, 3);
    sentinel.set_quorum(2).await.unwrap();
    sentinel
        .set_period(SentinelPeriod::Info, Duration::from_secs(1))
        .await
        .unwrap();

    let user = InternalUser::CharmedSentinelOperator;
    let password = cluster.credentials.password(user).clone();
    let mut events = SentinelEvents::subscribe(&cluster.nodes[1].sentinel, user, &password)
        .await
        .unwrap();
    assert!(events.is_alive().await);
    cluster.nodes[0].server_process.as_mut().unwrap().kill();
    let to = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let event = events.next().await.expect("the subscription lives");
            if let SentinelEvent::SwitchPrimary { from, to } = event {
                assert_eq!(from, cluster.nodes[0].server);
                break to;
            }
        }
    })
    .await
    .expect("a switch is announced");
    assert!(cluster.nodes[1..].iter().any(|node| node.server == to));

    sentinel.remove().await.unwrap();
    sentinel.remove().await.unwrap();
    assert_eq!(sentinel.primary().await.unwrap(), None);
    assert_eq!(sentinel.primary_address().await.unwrap(), None);
    assert_eq!(sentinel.replicas().await.unwrap(), []);
    sentinel.shutdown().await.unwrap();
    let gone = SentinelClient::connect(&cluster.nodes[1].sentinel, user, &password).await;
    assert!(matches!(gone.err(), Some(ValkeyError::Unreachable { .. })));
    // What was announced before is still read, then the stream ends.
    let ended = async { while events.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("the stream ends");
}
