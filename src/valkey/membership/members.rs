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
        let known = join_all(self.alive.iter().map(|member| member.client.sentinels())).await;
        let told = known
            .into_iter()
            .flat_map(Result::unwrap_or_default)
            .filter(|peer| membership.sentinels.contains(&peer.address) && is_run_id(&peer.id))
            .map(|peer| (peer.address, peer.id));
        let own = self
            .alive
            .iter()
            .map(|member| (member.endpoint().clone(), member.id.clone()));
        ids_of(told, own.collect())
    }
}

/// Puts together whose id is whose: what a Sentinel says of itself counts more than what others say.
///
/// One that answers at a new address is not at its old one any more, whoever has that by now: it
/// would be introduced to itself, and take itself for another.
fn ids_of(
    told: impl Iterator<Item = (Endpoint, String)>,
    own: BTreeMap<Endpoint, String>,
) -> BTreeMap<Endpoint, String> {
    let found: BTreeSet<String> = own.values().cloned().collect();
    let mut ids: BTreeMap<Endpoint, String> = told.filter(|(_, id)| !found.contains(id)).collect();
    ids.extend(own);
    ids
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

    /// Returns whether a Sentinel lists a replica that belongs, reachable or not; also where there is none.
    pub(super) fn knows_a_replica(&self, look: &Look) -> bool {
        let belonging = &self.membership.replicas;
        let mut listed = look.replicas.iter();
        belonging.is_empty() || listed.any(|replica| belonging.contains(&replica.address))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_that_moved_is_not_looked_for_at_its_old_address() {
        let read = |text: &str| -> BTreeMap<Endpoint, String> {
            let pairs = text
                .split_whitespace()
                .filter_map(|pair| pair.split_once('='));
            pairs
                .map(|(host, id)| (Endpoint::new(host, 26379).unwrap(), id.to_owned()))
                .collect()
        };
        for (told, own, expected) in [
            // The dead ones' ids are known from others.
            ("h2=b h3=c", "h1=a", "h1=a h2=b h3=c"),
            // Each answers where the other was.
            ("h1=b h2=a h3=c", "h1=a h2=b", "h1=a h2=b h3=c"),
            // It has another one's address, who is dead or has moved and not been heard of.
            ("h1=b h2=a", "h1=a", "h1=a"),
            ("h2=b", "h2=x", "h2=x"),
        ] {
            assert_eq!(
                ids_of(read(told).into_iter(), read(own)),
                read(expected),
                "{told}"
            );
        }
    }
}
