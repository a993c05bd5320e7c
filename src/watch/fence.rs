//! Holds the local primary's fence closed until the Sentinels confirm it: does what [`planner::fence`] decides.
//!
//! [`planner::fence`]: crate::planner::fence

use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    limits::{FENCE_HELD, FREEZE_NOTICED, FROZEN_LOOK},
    observer::server_client,
    planner::{
        fence::{Act, Guard, Look, Voice},
        numbers::min_replicas_to_write,
    },
    valkey::{Credentials, PrimaryView, Role, ServerClient, ValkeyError},
    workload::Workload,
};

use super::{frozen::machine_time, sentinels, wake::Waker};

/// Name of the fence among the server's settings.
const FENCE: &str = "min-replicas-to-write";

/// Watches the local server's fence for as long as it is polled.
pub(super) async fn guard(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
    waker: &Waker,
) {
    let mut guard = Guard::default();
    let mut connection = Connection {
        address,
        credentials,
        client: None,
    };
    let mut before = machine_time();
    let mut answered = before;
    loop {
        sleep(FROZEN_LOOK).await;
        let now = machine_time();
        let away = now.saturating_sub(before);
        before = now;
        // The machine froze: closed first, asked afterwards. Every moment counts.
        if away >= FREEZE_NOTICED && guard.lost_touch(away) == Act::Hold {
            connection.set(FENCE_HELD).await;
        }
        let act = match connection.look().await {
            Seen::Answer(look) => {
                answered = now;
                let usual = if look.setting == FENCE_HELD {
                    usual(workload).await
                } else {
                    0
                };
                match guard.look(now, look, usual) {
                    Act::Ask => {
                        let voices = voices(workload, address, credentials).await;
                        guard.heard(machine_time(), &voices)
                    }
                    act => act,
                }
            }
            Seen::Silence => guard.lost_touch(now.saturating_sub(answered)),
            // No server, or one that has just started: its fence is that of its file.
            Seen::Refusal => {
                answered = now;
                Act::Nothing
            }
        };
        match act {
            Act::Nothing | Act::Ask => {}
            Act::Hold => {
                warn!("Writes are held back until the Sentinels confirm this primary");
                // To a frozen server it goes all the same: it is the first that it does after what waits already.
                connection.set(FENCE_HELD).await;
            }
            Act::Release(fence) => {
                info!(fence, "Writes are no longer held back");
                if connection.set(fence).await {
                    waker.wake("writes are no longer held back");
                }
            }
        }
    }
}

/// What came of a look at the server.
enum Seen {
    Answer(Look),
    /// It is there and does not answer.
    Silence,
    /// It cannot be asked.
    Refusal,
}

/// The connection to the local server. It stays open while the server is silent, so that an order can wait in it.
struct Connection<'a> {
    address: &'a str,
    credentials: &'a Credentials,
    client: Option<ServerClient>,
}

impl Connection<'_> {
    async fn look(&mut self) -> Seen {
        if self.client.is_none() {
            let client = server_client(self.address, self.credentials);
            match timeout(FROZEN_LOOK, client).await {
                Ok(Ok(client)) => self.client = Some(client),
                Ok(Err(_)) => return Seen::Refusal,
                Err(_) => return Seen::Silence,
            }
        }
        let Some(client) = &self.client else {
            return Seen::Refusal;
        };
        let asked = timeout(FROZEN_LOOK, async {
            let info = client.replication().await?;
            let settings = client.config_get(&[FENCE]).await?;
            let setting = settings.get(FENCE).and_then(|value| value.parse().ok());
            Ok::<Look, ValkeyError>(Look {
                primary: info.role == Role::Primary,
                setting: setting.unwrap_or(0),
                good: info.good_replicas.unwrap_or(0),
            })
        });
        match asked.await {
            Ok(Ok(look)) => Seen::Answer(look),
            Ok(Err(error)) => {
                debug!(error = %error, "Cannot look at the fence");
                self.client = None;
                Seen::Refusal
            }
            Err(_) => Seen::Silence,
        }
    }

    /// Sets the fence; returns whether the server said so in time.
    async fn set(&mut self, fence: u64) -> bool {
        let Some(client) = &self.client else {
            return false;
        };
        let value = fence.to_string();
        let settings = [(FENCE, value.as_str())];
        let set = timeout(FROZEN_LOOK, client.config_set(&settings));
        matches!(set.await, Ok(Ok(())))
    }
}

/// Returns the fence that the server should have, by the number of Sentinels that belong.
async fn usual(workload: &Workload) -> u64 {
    let others = sentinels::known(workload).await.unwrap_or_default().len();
    u64::try_from(min_replicas_to_write(others + 1)).unwrap_or(0)
}

/// Asks all Sentinels about the local server.
async fn voices(workload: &Workload, address: &str, credentials: &Credentials) -> Vec<Voice> {
    let views = sentinels::views(workload, address, credentials).await;
    let voice = |view: &Option<_>| match view {
        None => Voice::Silent,
        Some(view) => voice_of(view, address),
    };
    views.unwrap_or_default().iter().map(voice).collect()
}

fn voice_of(view: &PrimaryView, address: &str) -> Voice {
    Voice::of(
        view.address.host() == address,
        view.flags.is_down(),
        view.flags.failover_in_progress(),
    )
}
