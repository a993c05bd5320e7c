//! The Sentinels during a hand-over: gathering them, winning their votes, telling them.

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

use super::{HandoverError, Tally};
use crate::limits::{HANDOVER_VOTE_ATTEMPTS, VOTE_EPOCH_STEP, VOTE_PATIENCE};
use crate::valkey::credentials::hexadecimal;
use crate::valkey::hello::Hello;
use crate::valkey::{
    Credentials, Endpoint, InternalUser, PrimaryView, SentinelClient, SentinelPeer, ValkeyError,
};

/// A Sentinel that answers, and what it said when it was gathered.
struct Member {
    client: SentinelClient,
    view: Option<PrimaryView>,
    peers: Vec<SentinelPeer>,
    known_epoch: u64,
}

/// All Sentinels that belong to the application, as far as they answer.
pub(super) struct Sentinels {
    /// How many belong to it, dead or alive.
    all: usize,
    members: Vec<Member>,
    silent: Vec<Endpoint>,
}

impl Sentinels {
    /// Asks all at the same time; dead ones cost one connection's time limit together.
    pub(super) async fn gather(endpoints: &[Endpoint], credentials: &Credentials) -> Self {
        let user = InternalUser::CharmedSentinelOperator;
        let password = credentials.password(user);
        let asked = join_all(endpoints.iter().map(async |endpoint| {
            let client = SentinelClient::connect(endpoint, user, password).await?;
            let view = client.primary().await?;
            let peers = client.sentinels().await?;
            let known_epoch = match &view {
                Some(view) => client.known_epoch(view).await?,
                None => 0,
            };
            Ok::<_, ValkeyError>(Member {
                client,
                view,
                peers,
                known_epoch,
            })
        }))
        .await;
        let mut gathered = Self {
            all: endpoints.len(),
            members: Vec::new(),
            silent: Vec::new(),
        };
        for (endpoint, answer) in endpoints.iter().zip(asked) {
            match answer {
                Ok(member) => gathered.members.push(member),
                Err(err) => {
                    tracing::warn!(sentinel = %endpoint, error = %err, "Sentinel does not take part");
                    gathered.silent.push(endpoint.clone());
                }
            }
        }
        gathered
    }

    /// Votes that are needed: the majority of all that belong, as for Sentinel's own failover.
    pub(super) const fn needed(&self) -> usize {
        self.all / 2 + 1
    }

    /// Makes sure that everybody names one of `primaries` and nobody is failing over.
    pub(super) fn agree_on(&self, primaries: &[&Endpoint]) -> Result<(), HandoverError> {
        for member in &self.members {
            let Some(view) = &member.view else { continue };
            let problem = if view.flags.failover_in_progress() {
                "a failover is under way".to_owned()
            } else if !primaries.contains(&&view.address) {
                format!("it names {} as the primary", view.address)
            } else {
                continue;
            };
            return Err(disagrees(member, problem));
        }
        Ok(())
    }

    /// Returns the other primaries that are named, once each.
    pub(super) fn others_named(&self, primary: &Endpoint) -> Vec<Endpoint> {
        let mut named: Vec<Endpoint> = self
            .members
            .iter()
            .filter_map(|member| member.view.as_ref())
            .map(|view| view.address.clone())
            .filter(|address| address != primary)
            .collect();
        named.sort();
        named.dedup();
        named
    }

    /// Wins the votes of a majority in a new epoch.
    ///
    /// Having voted, a Sentinel starts no failover of its own for twice the failover time limit,
    /// unless it is told of a new primary before. So no more than a majority is asked, beginning
    /// with those `beside` the servers that may be in trouble: whoever was not asked fails over as
    /// usual if the hand-over is given up and the primary dies, and is voted for by the others.
    pub(super) async fn win(
        &self,
        allow_minority: bool,
        beside: &[&Endpoint],
    ) -> Result<Tally, HandoverError> {
        let mut voters: Vec<(&Member, &PrimaryView)> = self
            .members
            .iter()
            .filter_map(|member| Some((member, member.view.as_ref()?)))
            .collect();
        voters.sort_by_key(|(member, _)| {
            let host = member.client.endpoint().host();
            !beside.iter().any(|server| server.host() == host)
        });
        let needed = self.needed();
        let no_majority = |votes| HandoverError::NoMajority {
            votes,
            needed,
            reachable: voters.len(),
        };
        // Without a majority that answers nobody else can win a failover either.
        let enough = if voters.len() >= needed {
            needed
        } else {
            voters.len()
        };
        if voters.is_empty() || (voters.len() < needed && !allow_minority) {
            return Err(no_majority(0));
        }
        let candidate = random_id()?;
        let mut epoch = voters
            .iter()
            .map(|(member, _)| member.known_epoch)
            .max()
            .unwrap_or(0)
            + 1;
        let mut best = 0;
        for attempt in 1..=HANDOVER_VOTE_ATTEMPTS {
            // Who was refused once has no time to be modest.
            let first = if attempt == 1 { enough } else { voters.len() };
            let poll = poll(&voters, first, enough, epoch, &candidate).await;
            if poll.given >= enough {
                return Ok(Tally {
                    epoch,
                    votes: poll.given,
                    needed,
                    attempts: attempt,
                    ..Tally::default()
                });
            }
            best = best.max(poll.given);
            // Who refused is in a later epoch than it can be asked for, or somebody else was first.
            self.no_failover_now().await?;
            epoch = poll.highest + VOTE_EPOCH_STEP.pow(u32::try_from(attempt).unwrap_or(1));
        }
        Err(no_majority(best))
    }

    /// Makes sure, by asking again, that no Sentinel has begun a failover.
    async fn no_failover_now(&self) -> Result<(), HandoverError> {
        for member in &self.members {
            let busy = member.client.primary().await.ok().flatten();
            if busy.is_some_and(|view| view.flags.failover_in_progress()) {
                return Err(disagrees(member, "it has begun a failover".to_owned()));
            }
        }
        Ok(())
    }

    /// Tells everybody that `primary` won `tally.epoch`, and asks whom they name now.
    pub(super) async fn tell(&self, primary: &Endpoint, tally: &mut Tally) {
        let epoch = tally.epoch;
        let told = join_all(
            self.members
                .iter()
                .map(|member| member.tell(primary, epoch)),
        )
        .await;
        for (member, told) in self.members.iter().zip(told) {
            let endpoint = member.client.endpoint().clone();
            match told {
                Ok(true) => tally.told.push(endpoint),
                Ok(false) => tally.untold.push(endpoint),
                Err(err) => {
                    tracing::warn!(sentinel = %endpoint, error = %err, "Cannot tell the new primary");
                    tally.untold.push(endpoint);
                }
            }
        }
        tally.untold.extend(self.silent.iter().cloned());
    }
}

/// What came of asking for votes in one epoch.
struct Poll {
    given: usize,
    /// The highest epoch that was heard of.
    highest: u64,
}

/// Asks the first so many voters, and the others when one of those is slow or refuses.
async fn poll(
    voters: &[(&Member, &PrimaryView)],
    first: usize,
    enough: usize,
    epoch: u64,
    candidate: &str,
) -> Poll {
    let ask = |(member, view): &(&Member, &PrimaryView)| {
        let (client, address) = (member.client.clone(), view.address.clone());
        async move { client.vote(&address, epoch, candidate).await }
    };
    let mut waiting = voters.iter();
    let mut asked: FuturesUnordered<_> = waiting.by_ref().take(first).map(ask).collect();
    let mut poll = Poll {
        given: 0,
        highest: epoch,
    };
    loop {
        let answer = match timeout(VOTE_PATIENCE, asked.next()).await {
            Ok(Some(answer)) => Some(answer),
            Ok(None) => return poll,
            Err(_) => None,
        };
        let voted = match answer {
            Some(Ok(answer)) => {
                poll.highest = poll.highest.max(answer.epoch);
                answer.epoch == epoch && answer.leader.as_deref() == Some(candidate)
            }
            Some(Err(_)) | None => false,
        };
        if voted {
            poll.given += 1;
        } else {
            // Nobody waits for a Sentinel whose disk is slow: it votes, too, but later.
            asked.extend(waiting.by_ref().map(ask));
        }
        if poll.given >= enough {
            return poll;
        }
    }
}

impl Member {
    /// Returns whether it names `primary` afterwards.
    async fn tell(&self, primary: &Endpoint, epoch: u64) -> Result<bool, ValkeyError> {
        if self.client.primary_address().await?.as_ref() == Some(primary) {
            return Ok(true);
        }
        // A hello counts only if it comes from a Sentinel that this one knows.
        let Some(peer) = self.peers.first() else {
            return Ok(false);
        };
        let hello = Hello {
            sentinel: peer.address.clone(),
            sentinel_id: peer.id.clone(),
            current_epoch: epoch,
            primary: primary.clone(),
            config_epoch: epoch,
        };
        self.client.publish_hello(&hello).await?;
        Ok(self.client.primary_address().await?.as_ref() == Some(primary))
    }
}

fn disagrees(member: &Member, why: String) -> HandoverError {
    HandoverError::Sentinels {
        who: member.client.endpoint().clone(),
        why,
    }
}

/// Makes an id like those of servers and Sentinels: 40 hexadecimal digits.
fn random_id() -> Result<String, HandoverError> {
    let mut random = [0_u8; 20];
    getrandom::fill(&mut random).map_err(|err| HandoverError::Random(err.to_string()))?;
    Ok(hexadecimal(&random))
}
