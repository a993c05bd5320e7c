//! The leave lease: one key in Valkey that says which unit leaves (`docs/architecture.md`).
//!
//! The key has a time limit, so that a holder that died does not block the others for ever, and
//! only its owner's token renews or deletes it. Scripts make each change one atomic step; they are
//! allowed when memory is full, because leaving must stay possible then.

use std::time::Duration;

use redis::cmd;
use serde::Serialize;

use crate::limits::LEASE_KEY;
use crate::valkey::connection::{list_of, number_of, text_of};
use crate::valkey::server::millis;
use crate::valkey::{ServerClient, ValkeyError};

/// Who holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseHolder {
    /// The holder's token.
    pub token: String,
    /// Milliseconds until it ends by itself; `None` if it never does, which the charm never sets.
    pub ttl_ms: Option<u64>,
}

/// What became of an attempt to take or renew the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseOutcome {
    /// Nobody held it; now the caller does. On a renewal: it had been lost meanwhile.
    Taken,
    /// The caller held it already; its time limit starts anew.
    Renewed,
    /// Somebody else holds it; nothing changed.
    HeldBy(LeaseHolder),
}

impl LeaseOutcome {
    /// Whether the caller holds the lease now.
    #[must_use]
    pub const fn is_mine(&self) -> bool {
        matches!(self, Self::Taken | Self::Renewed)
    }
}

const TAKE: &str = "#!lua flags=allow-oom
local held = redis.call('GET', KEYS[1])
if held == false or held == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  if held == false then return {1, '', 0} end
  return {2, '', 0}
end
return {0, held, redis.call('PTTL', KEYS[1])}";

const RELEASE: &str = "#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

const HOLDER: &str = "#!lua flags=no-writes
local held = redis.call('GET', KEYS[1])
if held == false then return {} end
return {held, redis.call('PTTL', KEYS[1])}";

impl ServerClient {
    /// Takes the lease if nobody holds it, or renews it if `token` does.
    ///
    /// # Errors
    ///
    /// [`ValkeyError::ReadOnly`] on a replica, [`ValkeyError::NoReplicas`] on a fenced primary.
    pub async fn lease_take(
        &self,
        token: &str,
        ttl: Duration,
    ) -> Result<LeaseOutcome, ValkeyError> {
        let mut eval = cmd("EVAL");
        eval.arg(TAKE)
            .arg(1)
            .arg(LEASE_KEY)
            .arg(token)
            .arg(millis(ttl));
        let value = self.connection().ask("EVAL (lease)", &eval).await?;
        match (list_of(&value), list_of(&value).first().and_then(number_of)) {
            (_, Some(1)) => Ok(LeaseOutcome::Taken),
            (_, Some(2)) => Ok(LeaseOutcome::Renewed),
            ([_, held, ttl], Some(0)) => Ok(LeaseOutcome::HeldBy(LeaseHolder {
                token: text_of(held).unwrap_or_default(),
                ttl_ms: number_of(ttl).and_then(|ms| u64::try_from(ms).ok()),
            })),
            _ => Err(self.connection().misfit("EVAL (lease)", "no outcome")),
        }
    }

    /// Renews the lease; [`LeaseOutcome::Taken`] says that it had been lost and was taken again.
    ///
    /// # Errors
    ///
    /// As [`ServerClient::lease_take`].
    pub async fn lease_renew(
        &self,
        token: &str,
        ttl: Duration,
    ) -> Result<LeaseOutcome, ValkeyError> {
        self.lease_take(token, ttl).await
    }

    /// Renews the lease and waits until `replicas` of the server's replicas have it too.
    ///
    /// With `replicas` = ⌊n/2⌋ of n instances, the primary and they are a majority. Returns whether
    /// the lease is the caller's and that many have acknowledged it.
    ///
    /// # Errors
    ///
    /// As [`ServerClient::lease_take`].
    pub async fn lease_confirm(
        &self,
        token: &str,
        ttl: Duration,
        replicas: u64,
        within: Duration,
    ) -> Result<bool, ValkeyError> {
        let mine = self.lease_take(token, ttl).await?.is_mine();
        Ok(mine && (replicas == 0 || self.wait_replicas(replicas, within).await? >= replicas))
    }

    /// Gives the lease back. Returns whether it was the caller's.
    ///
    /// # Errors
    ///
    /// As [`ServerClient::lease_take`].
    pub async fn lease_release(&self, token: &str) -> Result<bool, ValkeyError> {
        let mut eval = cmd("EVAL");
        eval.arg(RELEASE).arg(1).arg(LEASE_KEY).arg(token);
        let value = self.connection().ask("EVAL (release)", &eval).await?;
        Ok(number_of(&value) == Some(1))
    }

    /// Reads who holds the lease; works on replicas too, which may lag behind.
    ///
    /// # Errors
    ///
    /// Any [`ValkeyError`].
    pub async fn lease_holder(&self) -> Result<Option<LeaseHolder>, ValkeyError> {
        let mut eval = cmd("EVAL");
        eval.arg(HOLDER).arg(1).arg(LEASE_KEY);
        let value = self.connection().ask("EVAL (holder)", &eval).await?;
        match list_of(&value) {
            [] => Ok(None),
            [token, ttl, ..] => Ok(Some(LeaseHolder {
                token: text_of(token).unwrap_or_default(),
                ttl_ms: number_of(ttl).and_then(|ms| u64::try_from(ms).ok()),
            })),
            [_] => Err(self
                .connection()
                .misfit("EVAL (holder)", "a token without its time")),
        }
    }
}
