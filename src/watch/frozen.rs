//! Ends a primary that froze and was replaced, before it can wake and acknowledge what waits in its sockets.
//!
//! Valkey counts its replicas once a second and serves its sockets before its timers: a server that
//! wakes from a long freeze acknowledges everything that waits, the fence notwithstanding, and all of
//! that is lost. A process that is stopped can still be killed, so nobody has to wake first.
//!
//! Nothing is done on mere suspicion: a majority of all Sentinels, asked directly, has to name another
//! primary by a later configuration, and that one has to say itself that it is the primary.
//!
//! If the whole machine froze, the watcher froze with it. It finds out by the clock that goes on
//! meanwhile, and then does the same at once instead of waiting for silence.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{
    limits::{FREEZE_NOTICED, FROZEN_ASK_LIMIT, FROZEN_LOOK, FROZEN_SILENCE},
    observer::server_client,
    planner::peer_data::{Identity, Position},
    valkey::{Credentials, Role, ServerClient, ValkeyError},
    workload::{Backend as _, Service, ServiceStatus, Signal, Workload},
};

use super::{position, sentinels, wake::Waker};

/// Watches the local server for as long as it is polled.
pub(super) async fn guard(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
    waker: &Waker,
) {
    let mut pulse = Pulse {
        address,
        credentials,
        client: None,
        silent_since: None,
    };
    let mut before = machine_time();
    loop {
        sleep(FROZEN_LOOK).await;
        let now = machine_time();
        let away = now.saturating_sub(before);
        before = now;
        let running = workload
            .status(Service::Server)
            .await
            .is_ok_and(ServiceStatus::is_running);
        if !running {
            pulse.silent_since = None;
            continue;
        }
        // Asked first after a freeze: every moment counts then, and its answer would decide nothing.
        let woke = away >= FREEZE_NOTICED;
        if woke {
            info!(
                away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX),
                "Time went by unnoticed"
            );
        } else if pulse.silence().await < FROZEN_SILENCE {
            continue;
        }
        if let Some(successor) = displaced_by(workload, address, credentials).await {
            end(workload, &successor, waker).await;
            pulse.silent_since = None;
        }
        // What went by while asking is no freeze.
        before = machine_time();
    }
}

/// Returns the time since the machine started, with the time in which it was suspended.
pub(super) fn machine_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Whether the local server answers.
struct Pulse<'a> {
    address: &'a str,
    credentials: &'a Credentials,
    client: Option<ServerClient>,
    silent_since: Option<Duration>,
}

impl Pulse<'_> {
    /// Asks the server, and returns for how long it has been silent.
    async fn silence(&mut self) -> Duration {
        if self.answers().await {
            self.silent_since = None;
            return Duration::ZERO;
        }
        self.client = None;
        let now = machine_time();
        let since = *self.silent_since.get_or_insert(now);
        now.saturating_sub(since)
    }

    /// Returns whether it answers within a moment; a refusal is an answer, also of the connection.
    async fn answers(&mut self) -> bool {
        let asked = timeout(FROZEN_LOOK, async {
            let client = match self.client.take() {
                Some(client) => client,
                None => server_client(self.address, self.credentials).await?,
            };
            let answer = client.ping().await;
            self.client = Some(client);
            answer.map_err(anyhow::Error::from)
        });
        match asked.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => !matches!(error.downcast_ref(), Some(ValkeyError::Timeout { .. })),
            Err(_) => false,
        }
    }
}

/// Returns the host of the primary that replaced the local server, if it was one and is surely replaced.
async fn displaced_by(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
) -> Option<String> {
    // A replica acknowledges no writes, whenever it wakes.
    let last = position::recorded(workload)
        .await
        .filter(|last| last.primary)?;
    // One that handed over and is now stopped in order is silent while it saves.
    let told = workload.read_identity::<Identity>().await.ok().flatten();
    if let Some(since) = told.and_then(|told| told.position)
        && handed_over(&last, &since)
    {
        return None;
    }
    let views = sentinels::views(workload, address, credentials).await?;
    let all = views.len();
    let named: Vec<String> = views
        .into_iter()
        .flatten()
        .filter(|view| view.config_epoch > last.epoch)
        .map(|view| view.address.host().to_owned())
        .collect();
    let successor = majority(&named, all).filter(|host| *host != address)?;
    let info = timeout(FROZEN_ASK_LIMIT, async {
        server_client(successor, credentials)
            .await
            .ok()?
            .replication()
            .await
            .ok()
    });
    let serves = info
        .await
        .ok()
        .flatten()
        .is_some_and(|info| info.role == Role::Primary);
    serves.then(|| successor.to_owned())
}

/// Returns whether a hook has seen since `last` that the server became a replica.
fn handed_over(last: &Position, since: &Position) -> bool {
    !since.primary && since.epoch > last.epoch
}

/// Returns the host that more than half of `all` name.
fn majority(named: &[String], all: usize) -> Option<&str> {
    named
        .iter()
        .find(|host| named.iter().filter(|other| other == host).count() > all / 2)
        .map(String::as_str)
}

/// Kills the server; the restart gate brings it back as a replica.
async fn end(workload: &Workload, successor: &str, waker: &Waker) {
    match workload.signal(Service::Server, Signal::Kill).await {
        Ok(()) => {
            warn!(
                successor,
                "The server froze as the primary and was replaced: it was ended"
            );
            waker.wake("a frozen primary was ended");
        }
        Err(error) => warn!(
            error = format!("{error:#}"),
            "Cannot end a frozen primary that was replaced"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_is_of_all_that_belong() {
        for (named, all, expected) in [
            ("a a", 3, Some("a")),
            ("a", 3, None),
            ("a b", 3, None),
            ("a a b", 3, Some("a")),
            ("a a", 4, None),
            ("a a b b b", 5, Some("b")),
            ("", 1, None),
            ("a", 1, Some("a")),
        ] {
            let hosts: Vec<String> = named.split_whitespace().map(str::to_owned).collect();
            assert_eq!(majority(&hosts, all), expected, "{named} of {all}");
        }
    }

    #[test]
    fn only_a_later_configuration_makes_a_primary_a_replica() {
        let at = |primary, epoch| Position {
            history: "h".to_owned(),
            offset: 1,
            epoch,
            primary,
            clean: false,
            recorded_at: 1,
        };
        for (last, since, expected) in [
            (at(true, 3), at(false, 4), true),
            // From before it was promoted.
            (at(true, 4), at(false, 3), false),
            (at(true, 3), at(false, 3), false),
            (at(true, 3), at(true, 4), false),
        ] {
            assert_eq!(handed_over(&last, &since), expected, "{last:?} {since:?}");
        }
    }
}
