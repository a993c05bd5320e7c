//! Handing the primary's role to another server without losing a write.
//!
//! The order is: checks that change nothing → votes of a majority of the Sentinels, so that none
//! of them fails over at the same time → the server's own `FAILOVER`, which holds writes back until
//! the target has everything → a hello to every Sentinel in the epoch that was won → the other
//! replicas are pointed to the new primary → proof. Until the promotion every failure leaves the old
//! primary serving; after it the procedure goes forward only, and [`complete_hello`] finishes what
//! a caller that died left undone.

mod record;

pub use record::{HandoverError, HandoverPath, HandoverPlan, HandoverRecord, Phases, Tally};

use crate::valkey::{Credentials, Endpoint};

/// Hands the role of `plan.from` over to `plan.to`.
///
/// # Errors
///
/// [`HandoverError`]; [`HandoverError::is_promoted`] tells whether the target is primary already.
#[allow(clippy::unused_async)]
pub async fn hand_over(
    plan: &HandoverPlan,
    _credentials: &Credentials,
) -> Result<HandoverRecord, HandoverError> {
    Err(HandoverError::Unfit {
        who: plan.to.clone(),
        why: "not written yet".to_owned(),
    })
}

/// Promotes `plan.to` when the old primary `plan.from` is dead; the caller chose the best replica.
///
/// # Errors
///
/// As [`hand_over`]. Refused if the old primary answers after all.
#[allow(clippy::unused_async)]
pub async fn promote_best(
    plan: &HandoverPlan,
    _credentials: &Credentials,
) -> Result<HandoverRecord, HandoverError> {
    Err(HandoverError::Unfit {
        who: plan.to.clone(),
        why: "not written yet".to_owned(),
    })
}

/// Tells Sentinels that `primary` is the primary, after a promotion whose caller could not.
///
/// Needs the votes of a majority like a hand-over, so that it never overrules a newer election.
///
/// # Errors
///
/// As [`hand_over`]. Refused if `primary` does not report itself as one.
#[allow(clippy::unused_async)]
pub async fn complete_hello(
    primary: &Endpoint,
    _sentinels: &[Endpoint],
    _allow_minority: bool,
    _credentials: &Credentials,
) -> Result<Tally, HandoverError> {
    Err(HandoverError::Unfit {
        who: primary.clone(),
        why: "not written yet".to_owned(),
    })
}
