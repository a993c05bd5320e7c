//! Sentinels as the changes of membership see them.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use super::{Membership, MembershipError, valkey};
use crate::valkey::hello::{Hello, is_run_id};
use crate::valkey::{
    Credentials, Endpoint, InternalUser, PrimaryView, ReplicaView, SentinelClient, SentinelPeer,
    ValkeyError,
};

/// What a Sentinel says, read at one time.
pub(super) struct Look {
    pub(super) view: PrimaryView,
    pub(super) replicas: Vec<ReplicaView>,
    pub(super) peers: Vec<SentinelPeer>,
}

/// A Sentinel that answers.
pub(super) struct Member {
    pub(super) client: SentinelClient,
    pub(super) id: String,
}

/// The Sentinels of the application, the dead ones by name only.
pub(super) struct Members {
    pub(super) alive: Vec<Member>,
    pub(super) silent: Vec<Endpoint>,
}

impl Members {
    pub(super) async fn gather(endpoints: &[Endpoint], credentials: &Credentials) -> Self {
        let user = InternalUser::CharmedSentinelOperator;
        let password = credentials.password(user);
        let asked = join_all(endpoints.iter().map(async |endpoint| {
            let client = SentinelClient::connect(endpoint, user, password).await?;
            let id = client.myid().await?;
            Ok::<_, ValkeyError>(Member { client, id })
        }))
        .await;
        let mut members = Self {
            alive: Vec::new(),
            silent: Vec::new(),
        };
        for (endpoint, answer) in endpoints.iter().zip(asked) {
            match answer {
                Ok(member) => members.alive.push(member),
                Err(err) => {
                    tracing::warn!(sentinel = %endpoint, error = %err, "Sentinel is skipped");
                    members.silent.push(endpoint.clone());
                }
            }
        }
        members
    }

    /// Collects the ids of all members, the dead ones' from what others know of them.
    pub(super) async fn ids(&self, membership: &Membership) -> BTreeMap<Endpoint, String> {
        let mut ids = BTreeMap::new();
        for known in join_all(self.alive.iter().map(|member| member.client.sentinels())).await {
            for peer in known.unwrap_or_default() {
                if membership.sentinels.contains(&peer.address) && is_run_id(&peer.id) {
                    ids.insert(peer.address, peer.id);
                }
            }
        }
        // What a Sentinel says of itself counts more.
        for member in &self.alive {
            ids.insert(member.endpoint().clone(), member.id.clone());
        }
        ids
    }
}

impl Member {
    pub(super) const fn endpoint(&self) -> &Endpoint {
        self.client.endpoint()
    }

    /// Reads everything, `None` if it monitors no primary.
    pub(super) async fn look(&self) -> Result<Option<Look>, MembershipError> {
        let (view, replicas, peers) = tokio::join!(
            self.client.primary(),
            self.client.replicas(),
            self.client.sentinels()
        );
        let valkey = valkey(self.endpoint());
        let read = || Ok((view?, replicas?, peers?));
        let (view, replicas, peers) = read().map_err(valkey)?;
        Ok(view.map(|view| Look {
            view,
            replicas,
            peers,
        }))
    }

    /// Introduces the given Sentinels to this one, without changing what it thinks of the primary.
    pub(super) async fn introduce(
        &self,
        view: &PrimaryView,
        sentinels: impl Iterator<Item = (&Endpoint, &String)>,
    ) -> Result<(), MembershipError> {
        for (sentinel, id) in sentinels {
            if sentinel == self.endpoint() {
                continue;
            }
            let hello = Hello {
                sentinel: sentinel.clone(),
                sentinel_id: id.clone(),
                current_epoch: view.config_epoch,
                primary: view.address.clone(),
                config_epoch: view.config_epoch,
            };
            self.client
                .publish_hello(&hello)
                .await
                .map_err(valkey(self.endpoint()))?;
        }
        Ok(())
    }
}

/// What a Sentinel has to list.
pub(super) struct Wanted<'a> {
    pub(super) membership: &'a Membership,
    /// Replicas that are attached to the primary now.
    pub(super) attached: BTreeSet<Endpoint>,
    /// Sentinels that answer.
    pub(super) alive: BTreeSet<Endpoint>,
}

impl Wanted<'_> {
    /// Returns members that are listed and do not belong.
    pub(super) fn ghosts(&self, look: &Look) -> Vec<Endpoint> {
        let replicas = look.replicas.iter().map(|replica| &replica.address);
        let peers = look.peers.iter().map(|peer| &peer.address);
        replicas
            .filter(|address| !self.membership.replicas.contains(address))
            .chain(peers.filter(|address| !self.membership.sentinels.contains(address)))
            .cloned()
            .collect()
    }

    /// Says what a Sentinel lacks or knows too much, `None` if its view is as it should be.
    pub(super) fn missing(&self, sentinel: &Endpoint, look: &Look) -> Option<String> {
        if look.view.address != self.membership.primary {
            return Some(format!("names {} as the primary", look.view.address));
        }
        if let Some(ghost) = self.ghosts(look).first() {
            return Some(format!("still lists {ghost}"));
        }
        let lists_replica = |address: &Endpoint| {
            look.replicas.iter().any(|replica| {
                replica.address == *address && replica.link_up && !replica.flags.is_down()
            })
        };
        let replicas = self
            .membership
            .replicas
            .iter()
            .filter(|r| self.attached.contains(r));
        if let Some(replica) = replicas.into_iter().find(|replica| !lists_replica(replica)) {
            return Some(format!("does not list the replica {replica} as linked yet"));
        }
        let lists_peer = |address: &Endpoint| {
            let mut peers = look.peers.iter();
            peers.any(|peer| peer.address == *address && !peer.flags.is_down())
        };
        let mut peers = self.alive.iter().filter(|peer| *peer != sentinel);
        let peer = peers.find(|peer| !lists_peer(peer))?;
        Some(format!("does not list the Sentinel {peer} yet"))
    }
}
