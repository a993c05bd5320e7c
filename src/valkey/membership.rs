//! Changing the membership of the Sentinels: making a new one known, having old ones forgotten.
//!
//! A Sentinel never forgets by itself. `SENTINEL RESET` makes it forget everything, and until it
//! has learned its replicas and the others again it can take no part in a failover. So one is reset
//! at a time, only while nothing is down anywhere, and the next one only when the one before knows
//! exactly those that it should.

use std::time::Duration;

use serde::Serialize;

use crate::limits::FORGET_LIMIT;
use crate::valkey::{Credentials, Endpoint, ValkeyError};

/// Who belongs to the application after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The primary.
    pub primary: Endpoint,
    /// The replicas that each Sentinel shall list, neither more nor less.
    pub replicas: Vec<Endpoint>,
    /// All Sentinels that shall remain.
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
/// # Errors
///
/// [`MembershipError::Unsafe`] with the first reason why not.
#[allow(clippy::unused_async)]
pub async fn safe_to_reset(
    membership: &Membership,
    _credentials: &Credentials,
) -> Result<(), MembershipError> {
    Err(MembershipError::Unsafe {
        who: membership.primary.clone(),
        why: "not written".to_owned(),
    })
}

/// Makes a new Sentinel known to all others and them to it, without waiting for their hellos.
///
/// # Errors
///
/// [`MembershipError`] if the new Sentinel itself does not answer or does not monitor the primary.
#[allow(clippy::unused_async)]
pub async fn announce(
    new: &Endpoint,
    membership: &Membership,
    _credentials: &Credentials,
) -> Result<MembershipReport, MembershipError> {
    let _ = membership;
    Err(MembershipError::Unsafe {
        who: new.clone(),
        why: "not written".to_owned(),
    })
}

/// Makes every Sentinel know exactly the members, resetting one after another where needed.
///
/// # Errors
///
/// [`MembershipError`]; safe to call again.
#[allow(clippy::unused_async)]
pub async fn forget(
    membership: &Membership,
    _credentials: &Credentials,
) -> Result<MembershipReport, MembershipError> {
    Err(MembershipError::Unsafe {
        who: membership.primary.clone(),
        why: "not written".to_owned(),
    })
}
