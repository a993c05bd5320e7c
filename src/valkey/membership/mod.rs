//! Changing the membership of the Sentinels: making a new one known, having old ones forgotten.
//!
//! A Sentinel never forgets by itself. `SENTINEL RESET` makes it forget everything, and until it
//! has learned its replicas and the others again it can take no part in a failover. So one is reset
//! at a time, only while nothing is down anywhere, and the next one only when the one before knows
//! exactly those that it should, and at least one replica that it could promote.

mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::limits::{ANNOUNCE_LIMIT, FORGET_LIMIT, MEMBERSHIP_POLL, RESET_PROOF_LIMIT};
use crate::valkey::{Credentials, Endpoint, InternalUser, Role, ServerClient, ValkeyError};
use members::{Member, Members, Wanted};

/// Who belongs to the application after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The primary.
    pub primary: Endpoint,
    /// All replicas that shall remain, dead ones too. A Sentinel lists no others, and of these at
    /// least those that are attached to the primary.
    pub replicas: Vec<Endpoint>,
    /// All Sentinels that shall remain, dead ones too. A Sentinel lists no others, and of these at
    /// least those that answer.
    pub sentinels: Vec<Endpoint>,
    /// Longest for all Sentinels together.
    pub within: Duration,
}

impl Membership {
    /// Makes a membership with the usual time limit.
    #[must_use]
    pub const fn new(primary: Endpoint, replicas: Vec<Endpoint>, sentinels: Vec<Endpoint>) -> Self {
        Self {
            primary,
            replicas,
            sentinels,
            within: FORGET_LIMIT,
        }
    }
}

/// Sentinels that were reset and have not been seen whole since, each with when it was reset.
///
/// Kept from one call of [`forget`] to the next: whoever was cut off right after it had been reset may know no replica,
/// for as long as that lasts.
#[derive(Debug, Clone, Default)]
pub struct Unproven(BTreeMap<Endpoint, Instant>);

impl Unproven {
    /// Returns whether one of these `silent` Sentinels was reset so lately that the next one has to wait for it.
    fn awaits(&self, silent: &[Endpoint]) -> bool {
        silent.iter().any(|endpoint| {
            let reset = self.0.get(endpoint);
            reset.is_some_and(|since| since.elapsed() < RESET_PROOF_LIMIT)
        })
    }
}

/// What became of a change of membership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MembershipReport {
    /// Sentinels that know exactly the expected others and replicas.
    pub settled: Vec<Endpoint>,
    /// Of these, the ones that had to be reset.
    pub reset: Vec<Endpoint>,
    /// Sentinels that do not answer; they were skipped and still know the old members.
    pub skipped: Vec<Endpoint>,
}

/// Why a change of membership is not (yet) done. Calling again goes on where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// A reset would be dangerous now; nothing was reset.
    #[error("cannot reset Sentinels now: {who} {why}")]
    Unsafe {
        /// Who is in the way.
        who: Endpoint,
        /// What it is or says.
        why: String,
    },
    /// A Sentinel does not know what it should within the time limit.
    #[error("cannot finish in time: Sentinel {who} {missing}")]
    Unfinished {
        /// Which one.
        who: Endpoint,
        /// What it lacks or knows too much.
        missing: String,
    },
    /// A Sentinel refused something.
    #[error("cannot change what Sentinel {who} knows: {source}")]
    Valkey {
        /// Which one.
        who: Endpoint,
        /// What went wrong.
        source: ValkeyError,
    },
}

/// Says whether a Sentinel may be reset now: a living primary, and nothing down anywhere.
///
/// Members that are dead are no obstacle, and neither are the ghosts that the reset is to remove.
///
/// # Errors
///
/// [`MembershipError::Unsafe`] with the first reason why not.
pub async fn safe_to_reset(
    membership: &Membership,
    credentials: &Credentials,
) -> Result<(), MembershipError> {
    let members = Members::gather(&membership.sentinels, credentials).await;
    attached_if_safe(membership, &members, credentials)
        .await
        .map(drop)
}

/// As [`safe_to_reset`]; returns the replicas that are attached to the primary.
async fn attached_if_safe(
    membership: &Membership,
    members: &Members,
    credentials: &Credentials,
) -> Result<BTreeSet<Endpoint>, MembershipError> {
    let not_safe = |who: &Endpoint, why: String| MembershipError::Unsafe {
        who: who.clone(),
        why,
    };
    for member in &members.alive {
        let Some(look) = member.look().await? else {
            continue;
        };
        let flags = &look.view.flags;
        let why = if flags.failover_in_progress() {
            "has a failover under way".to_owned()
        } else if flags.is_down() {
            "takes the primary for down".to_owned()
        } else if look.view.address != membership.primary {
            format!("names {} as the primary", look.view.address)
        } else if member
            .client
            .is_tilted()
            .await
            .map_err(valkey(member.endpoint()))?
        {
            "is in TILT mode and takes no decisions".to_owned()
        } else {
            continue;
        };
        return Err(not_safe(member.endpoint(), why));
    }
    attached(membership, credentials).await
}

/// Asks the primary for its replicas, which proves that it lives.
async fn attached(
    membership: &Membership,
    credentials: &Credentials,
) -> Result<BTreeSet<Endpoint>, MembershipError> {
    let primary = &membership.primary;
    let not_safe = |why: String| MembershipError::Unsafe {
        who: primary.clone(),
        why,
    };
    let user = InternalUser::CharmedOperator;
    let asked = async {
        let server = ServerClient::connect(primary, user, credentials.password(user)).await?;
        server.replication().await
    };
    match asked.await {
        // From a living primary alone a Sentinel learns its replicas again.
        Err(err) => Err(not_safe(format!(
            "is the primary and does not answer ({err})"
        ))),
        Ok(info) if info.role != Role::Primary => {
            Err(not_safe("does not say that it is the primary".to_owned()))
        }
        Ok(info) => Ok(info
            .replicas
            .into_iter()
            .filter(crate::valkey::server_info::AttachedReplica::is_online)
            .map(|replica| replica.address)
            .collect()),
    }
}

/// Makes a new Sentinel known to all others and them to it, without waiting for their hellos.
///
/// Returns once every living Sentinel lists the new one, and it lists all of them.
///
/// # Errors
///
/// [`MembershipError`] if the new Sentinel itself does not answer or does not monitor the primary,
/// or if somebody lacks somebody within [`ANNOUNCE_LIMIT`].
pub async fn announce(
    new: &Endpoint,
    membership: &Membership,
    credentials: &Credentials,
) -> Result<MembershipReport, MembershipError> {
    let deadline = Instant::now() + ANNOUNCE_LIMIT.min(membership.within);
    let members = Members::gather(&membership.sentinels, credentials).await;
    let unfinished = |who: &Endpoint, missing: String| MembershipError::Unfinished {
        who: who.clone(),
        missing,
    };
    if !members.alive.iter().any(|member| member.endpoint() == new) {
        return Err(unfinished(new, "does not answer".to_owned()));
    }
    let ids = members.ids(membership).await;
    let mut report = MembershipReport {
        skipped: members.silent.clone(),
        ..Default::default()
    };
    let mut looks = Vec::new();
    for member in &members.alive {
        let Some(look) = member.look().await? else {
            return Err(unfinished(
                member.endpoint(),
                "monitors no primary".to_owned(),
            ));
        };
        looks.push((member, look));
    }
    let newest = looks
        .iter()
        .find(|(member, look)| member.endpoint() == new && look.view.address == membership.primary)
        .map(|(_, look)| look.view.clone());
    for (member, look) in looks {
        let is_new = member.endpoint() == new;
        // It was away while another was made primary, and nobody whom it knows is left to tell it.
        let behind = newest
            .as_ref()
            .filter(|newest| newest.config_epoch > look.view.config_epoch);
        if let Some(newest) = behind.filter(|_| look.view.address != membership.primary) {
            let told = ids.iter().filter(|(sentinel, _)| *sentinel == new);
            member.introduce(newest, told).await?;
            continue;
        }
        if look.view.address != membership.primary {
            let missing = format!("names {} as the primary", look.view.address);
            return Err(unfinished(member.endpoint(), missing));
        }
        // The new one is told of all, the others only of the new one.
        let told = ids
            .iter()
            .filter(|(sentinel, _)| is_new || *sentinel == new);
        member.introduce(&look.view, told).await?;
    }
    let alive: BTreeSet<&Endpoint> = members.alive.iter().map(Member::endpoint).collect();
    for member in &members.alive {
        loop {
            let peers = member
                .client
                .sentinels()
                .await
                .map_err(valkey(member.endpoint()))?;
            let lists = |wanted: &&Endpoint| peers.iter().any(|peer| peer.address == **wanted);
            let all = if member.endpoint() == new {
                alive.iter().filter(|other| **other != new).all(lists)
            } else {
                lists(&new)
            };
            if all {
                report.settled.push(member.endpoint().clone());
                break;
            }
            if Instant::now() >= deadline {
                return Err(unfinished(
                    member.endpoint(),
                    "does not list all Sentinels".to_owned(),
                ));
            }
            tokio::time::sleep(MEMBERSHIP_POLL).await;
        }
    }
    Ok(report)
}

/// Makes every Sentinel know exactly the members, resetting one after another where needed.
///
/// Whoever is to be forgotten has to be stopped before, or it introduces itself again.
///
/// # Errors
///
/// [`MembershipError`]; safe to call again, it goes on where it stopped.
pub async fn forget(
    membership: &Membership,
    credentials: &Credentials,
    unproven: &mut Unproven,
) -> Result<MembershipReport, MembershipError> {
    let deadline = Instant::now() + membership.within;
    let members = Members::gather(&membership.sentinels, credentials).await;
    // From before the first reset, so that dead members stay known and keep counting.
    let ids = members.ids(membership).await;
    let mut report = MembershipReport {
        skipped: members.silent.clone(),
        ..Default::default()
    };
    let mut wanted = Wanted {
        membership,
        attached: attached(membership, credentials).await?,
        alive: members
            .alive
            .iter()
            .map(|member| member.endpoint().clone())
            .collect(),
    };
    for member in &members.alive {
        let mut was_reset = false;
        loop {
            let Some(look) = member.look().await? else {
                return Err(MembershipError::Unfinished {
                    who: member.endpoint().clone(),
                    missing: "monitors no primary".to_owned(),
                });
            };
            let Some(missing) = wanted.missing(member.endpoint(), &look) else {
                break;
            };
            if Instant::now() >= deadline {
                return Err(MembershipError::Unfinished {
                    who: member.endpoint().clone(),
                    missing,
                });
            }
            let ghosts = wanted.ghosts(&look);
            if !ghosts.is_empty() && !was_reset {
                // Asked anew right before each reset: what was safe a moment ago may not be now.
                wanted.attached = attached_if_safe(membership, &members, credentials).await?;
                // A replica may have been attached only after the one before had been looked at.
                // So may a Sentinel that did not answer have come back, without what it knew.
                let back = Members::gather(&members.silent, credentials).await;
                let others = members.alive.iter().chain(&back.alive);
                let others = others.filter(|other| other.endpoint() != member.endpoint());
                if unproven.awaits(&back.silent)
                    || unready(&wanted, others, &report.settled).await?
                {
                    tokio::time::sleep(MEMBERSHIP_POLL).await;
                    continue;
                }
                member
                    .client
                    .reset()
                    .await
                    .map_err(valkey(member.endpoint()))?;
                unproven.0.insert(member.endpoint().clone(), Instant::now());
                tracing::info!(sentinel = %member.endpoint(), ?ghosts, "Sentinel reset");
                was_reset = true;
            }
            // Hellos come by themselves, but later; replicas are learned from the primary only.
            member.introduce(&look.view, ids.iter()).await?;
            member
                .client
                .shorten_periods()
                .await
                .map_err(valkey(member.endpoint()))?;
            tokio::time::sleep(MEMBERSHIP_POLL).await;
        }
        unproven.0.remove(member.endpoint());
        if was_reset {
            report.reset.push(member.endpoint().clone());
        }
        report.settled.push(member.endpoint().clone());
    }
    Ok(report)
}

/// Returns whether no further Sentinel must be reset yet, as the `others` are.
///
/// That is so while one of the `settled` lacks somebody whom it listed, or need not list, before, and while any
/// knows no replica that belongs: until that one is attached again nobody learns of it, and the next to be reset
/// may be the last that could promote it.
async fn unready(
    wanted: &Wanted<'_>,
    others: impl Iterator<Item = &Member>,
    settled: &[Endpoint],
) -> Result<bool, MembershipError> {
    for other in others {
        let Some(look) = other.look().await? else {
            return Ok(true);
        };
        let done = settled.contains(other.endpoint());
        if done && wanted.missing(other.endpoint(), &look).is_some()
            || !wanted.knows_a_replica(&look)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn valkey(who: &Endpoint) -> impl FnOnce(ValkeyError) -> MembershipError + use<> {
    let who = who.clone();
    move |source| MembershipError::Valkey { who, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_since_its_reset_is_waited_for_a_while() {
        let [reset, other] =
            ["10.0.0.1", "10.0.0.2"].map(|host| Endpoint::new(host, 26379).unwrap());
        let at = |since: Instant| Unproven(BTreeMap::from([(reset.clone(), since)]));
        let now = Instant::now();
        assert!(at(now).awaits(&[other.clone(), reset.clone()]));
        // It answers, and can be seen; who was never reset still knows what it knew.
        assert!(!at(now).awaits(&[other]));
        let long_ago = now.checked_sub(RESET_PROOF_LIMIT).unwrap();
        assert!(!at(long_ago).awaits(&[reset]));
    }
}
