//! The Sentinels during a hand-over, as `src/valkey/handover/sentinels.rs`.

use futures::future::{FutureExt as _, join_all, select_all};
use valkey_operator::limits::{HANDOVER_VOTE_ATTEMPTS, VOTE_EPOCH_STEP};

use crate::{
    hook::{Run, Trouble, trouble},
    models::{Failure, Hello, Reply, SentinelCommand, SentinelFacts, SentinelView},
};

/// A Sentinel that answers.
struct Member {
    host: String,
    view: Option<SentinelView>,
    known_epoch: u64,
}

/// All Sentinels that belong, as far as they answer.
pub struct Sentinels {
    all: usize,
    members: Vec<Member>,
}

/// What the votes and the telling led to.
#[derive(Debug, Default)]
pub struct Tally {
    /// The epoch that was won.
    pub epoch: u64,
    /// How many votes were needed.
    pub needed: usize,
    /// How many Sentinels name the new primary.
    pub told: usize,
}

/// Reads what a Sentinel says.
pub async fn look(run: &Run, host: &str) -> Result<SentinelFacts, Failure> {
    match run.sentinel(host, SentinelCommand::Look).await? {
        Reply::Sentinel(facts) => Ok(*facts),
        other => Err(Failure::Error(format!("{other:?}"))),
    }
}

impl Sentinels {
    /// Asks all at the same time.
    pub async fn gather(run: &Run, hosts: &[String]) -> Self {
        let asked = join_all(hosts.iter().map(async |host| {
            let facts = look(run, host).await?;
            let known_epoch = match run.sentinel(host, SentinelCommand::KnownEpoch).await? {
                Reply::Epoch(epoch) => epoch,
                _ => 0,
            };
            Ok::<_, Failure>(Member {
                host: host.clone(),
                view: facts.view,
                known_epoch,
            })
        }))
        .await;
        Self {
            all: hosts.len(),
            members: asked.into_iter().flatten().collect(),
        }
    }

    /// Votes that are needed.
    pub const fn needed(&self) -> usize {
        self.all / 2 + 1
    }

    /// Makes sure that everybody names `primary` and nobody is failing over.
    pub fn agree_on(&self, primary: &str) -> Result<(), Trouble> {
        for member in &self.members {
            let Some(view) = &member.view else { continue };
            if view.failing_over {
                return trouble(format!("{}: a failover is under way", member.host));
            }
            if view.primary != primary {
                return trouble(format!("{} names {}", member.host, view.primary));
            }
        }
        Ok(())
    }

    /// Returns the other primaries that are named, once each.
    pub fn others_named(&self, primary: &str) -> Vec<String> {
        let mut named: Vec<String> = self
            .members
            .iter()
            .filter_map(|member| Some(member.view.as_ref()?.primary.clone()))
            .filter(|host| host != primary)
            .collect();
        named.sort();
        named.dedup();
        named
    }

    /// Wins the votes of a majority in a new epoch.
    pub async fn win(&self, run: &Run, allow_minority: bool) -> Result<Tally, Trouble> {
        let voters: Vec<(&Member, &SentinelView)> = self
            .members
            .iter()
            .filter_map(|member| Some((member, member.view.as_ref()?)))
            .collect();
        let needed = self.needed();
        let enough = needed.min(voters.len());
        if voters.is_empty() || (voters.len() < needed && !allow_minority) {
            return trouble("no majority answers");
        }
        let candidate = run.ctx.with(|world| format!("{:040x}", world.rng.u64(..)));
        let mut epoch = voters
            .iter()
            .map(|(member, _)| member.known_epoch)
            .max()
            .unwrap_or(0)
            + 1;
        for attempt in 1..=HANDOVER_VOTE_ATTEMPTS {
            let mut asked: Vec<_> = voters
                .iter()
                .map(|(member, view)| {
                    run.sentinel(
                        &member.host,
                        SentinelCommand::Vote {
                            primary: view.primary.clone(),
                            epoch,
                            candidate: candidate.clone(),
                        },
                    )
                    .boxed_local()
                })
                .collect();
            let mut given = 0;
            let mut highest = epoch;
            while !asked.is_empty() {
                let (answer, _, rest) = select_all(asked).await;
                asked = rest;
                let Ok(Reply::Vote {
                    epoch: voted,
                    leader,
                }) = answer
                else {
                    continue;
                };
                highest = highest.max(voted);
                if voted == epoch && leader.as_deref() == Some(&candidate) {
                    given += 1;
                }
                if given >= enough {
                    return Ok(Tally {
                        epoch,
                        needed,
                        told: 0,
                    });
                }
            }
            for member in &self.members {
                let busy = look(run, &member.host).await.ok();
                if busy
                    .and_then(|facts| facts.view)
                    .is_some_and(|view| view.failing_over)
                {
                    return trouble(format!("{} has begun a failover", member.host));
                }
            }
            epoch = highest + VOTE_EPOCH_STEP.pow(u32::try_from(attempt).unwrap_or(1));
        }
        trouble("no majority of votes")
    }

    /// Tells everybody that `primary` won.
    pub async fn tell(&self, run: &Run, primary: &str, tally: &mut Tally) {
        let epoch = tally.epoch;
        let told = join_all(
            self.members
                .iter()
                .map(|member| member.tell(run, primary, epoch)),
        )
        .await;
        tally.told = told.into_iter().filter(|told| *told).count();
    }
}

impl Member {
    async fn names(&self, run: &Run, primary: &str) -> Result<bool, Failure> {
        let facts = look(run, &self.host).await?;
        Ok(facts.view.is_some_and(|view| view.primary == primary))
    }

    async fn tell(&self, run: &Run, primary: &str, epoch: u64) -> bool {
        if matches!(self.names(run, primary).await, Ok(true)) {
            return true;
        }
        let Some(peer) = self.view.as_ref().and_then(|view| view.others.first()) else {
            return false;
        };
        let hello = Hello {
            host: peer.host.clone(),
            id: peer.id.clone(),
            current_epoch: epoch,
            primary: primary.to_owned(),
            config_epoch: epoch,
        };
        if run
            .sentinel(&self.host, SentinelCommand::Hello(hello))
            .await
            .is_err()
        {
            return false;
        }
        self.names(run, primary).await.unwrap_or(false)
    }
}
