//! What a Sentinel announces, as a stream for the watcher.

use futures::StreamExt as _;
use redis::aio::PubSub;
use tokio::time::timeout;

use crate::limits::{COMMAND_TIMEOUT, MONITOR_NAME};
use crate::valkey::connection::connected;
use crate::valkey::{Endpoint, InternalUser, Password, ValkeyError};

/// What kind of instance an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceKind {
    /// The primary.
    Primary,
    /// A replica.
    Replica,
    /// A Sentinel.
    Sentinel,
}

/// What a Sentinel announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentinelEvent {
    /// Clients are sent to another primary from now on.
    SwitchPrimary {
        /// Where it was.
        from: Endpoint,
        /// Where it is.
        to: Endpoint,
    },
    /// Something happened to one instance.
    Instance {
        /// What.
        what: InstanceEvent,
        /// Which kind of instance.
        kind: InstanceKind,
        /// Which one.
        address: Endpoint,
    },
    /// A failover was given up, with Sentinel's own word for the reason.
    FailoverAborted(String),
    /// A failover of another phase: tried, elected, ended; with Sentinel's word.
    Failover(String),
    /// It takes no decisions (true) or does so again (false).
    Tilt(bool),
    /// Anything else, with its channel.
    Other(String),
}

/// What happened to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceEvent {
    /// This Sentinel takes it for down.
    SubjectivelyDown,
    /// This Sentinel takes it for up again.
    SubjectivelyUp,
    /// A quorum takes it for down.
    ObjectivelyDown,
    /// A quorum takes it for up again.
    ObjectivelyUp,
    /// It was found.
    Found,
    /// It restarted.
    Rebooted,
    /// It reports another role than before.
    RoleChanged,
    /// It was a second primary and is told to follow.
    ConvertedToReplica,
    /// It was told to follow the new primary, or does so.
    Reconfigured,
    /// It was dropped or came back under another address or id.
    Replaced,
    /// All that was known of it was forgotten.
    Reset,
}

/// Channels to subscribe; hellos and what concerns scripts are left out.
const CHANNELS: &[&str] = &[
    "+switch-master",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+slave",
    "+sentinel",
    "+reboot",
    "+role-change",
    "-role-change",
    "+convert-to-slave",
    "+fix-slave-config",
    "+slave-reconf-sent",
    "+slave-reconf-done",
    "+reset-master",
    "+monitor",
    "-monitor",
    "-dup-sentinel",
    "+sentinel-address-switch",
    "+sentinel-address-update",
    "+try-failover",
    "+elected-leader",
    "+promoted-slave",
    "+failover-end",
    "+failover-end-for-timeout",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-x-sdown",
    "-failover-abort-master-is-back",
    "+tilt",
    "-tilt",
    "+config-update-from",
];

/// A subscription to one Sentinel's announcements.
pub struct SentinelEvents {
    endpoint: Endpoint,
    subscription: PubSub,
}

impl SentinelEvents {
    /// Connects, logs in and subscribes.
    ///
    /// # Errors
    ///
    /// As [`crate::valkey::SentinelClient::connect`].
    pub async fn subscribe(
        endpoint: &Endpoint,
        user: InternalUser,
        password: &Password,
    ) -> Result<Self, ValkeyError> {
        let unreachable = |reason: &str| ValkeyError::Unreachable {
            endpoint: endpoint.clone(),
            reason: reason.to_owned(),
        };
        let mut subscription = connected(endpoint, user.name(), password, |client| async move {
            client.get_async_pubsub().await
        })
        .await?;
        timeout(COMMAND_TIMEOUT, subscription.subscribe(CHANNELS))
            .await
            .map_err(|_| unreachable("no answer to SUBSCRIBE in time"))?
            .map_err(|err| ValkeyError::sort(endpoint, "SUBSCRIBE", &err))?;
        Ok(Self {
            endpoint: endpoint.clone(),
            subscription,
        })
    }

    /// Returns whose announcements these are.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits for the next announcement, without limit; `None` once the connection has ended.
    ///
    /// A Sentinel that vanished without closing the connection is noticed by [`Self::is_alive`].
    pub async fn next(&mut self) -> Option<SentinelEvent> {
        let message = self.subscription.on_message().next().await?;
        let payload = String::from_utf8_lossy(message.get_payload_bytes()).into_owned();
        Some(parse(message.get_channel_name(), &payload))
    }

    /// Asks over the subscription whether the Sentinel still answers.
    pub async fn is_alive(&mut self) -> bool {
        let answer = timeout(COMMAND_TIMEOUT, self.subscription.ping::<redis::Value>()).await;
        matches!(answer, Ok(Ok(_)))
    }
}

/// Reads an announcement; what it does not understand becomes [`SentinelEvent::Other`].
#[must_use]
pub fn parse(channel: &str, payload: &str) -> SentinelEvent {
    use InstanceEvent as E;
    let what = match channel {
        "+switch-master" => return switch(payload).unwrap_or_else(|| other(channel)),
        "+tilt" => return SentinelEvent::Tilt(true),
        "-tilt" => return SentinelEvent::Tilt(false),
        "+try-failover"
        | "+elected-leader"
        | "+promoted-slave"
        | "+failover-end"
        | "+failover-end-for-timeout" => return SentinelEvent::Failover(channel[1..].to_owned()),
        "+sdown" => E::SubjectivelyDown,
        "-sdown" => E::SubjectivelyUp,
        "+odown" => E::ObjectivelyDown,
        "-odown" => E::ObjectivelyUp,
        "+slave" | "+sentinel" | "+monitor" => E::Found,
        "+reboot" => E::Rebooted,
        "+role-change" | "-role-change" => E::RoleChanged,
        "+convert-to-slave" => E::ConvertedToReplica,
        "+fix-slave-config" | "+slave-reconf-sent" | "+slave-reconf-done" => E::Reconfigured,
        "-dup-sentinel" | "+sentinel-address-switch" | "+sentinel-address-update" => E::Replaced,
        "+reset-master" | "-monitor" => E::Reset,
        _ => {
            return channel.strip_prefix("-failover-abort-").map_or_else(
                || other(channel),
                |reason| SentinelEvent::FailoverAborted(reason.to_owned()),
            );
        }
    };
    instance(what, payload).unwrap_or_else(|| other(channel))
}

fn other(channel: &str) -> SentinelEvent {
    SentinelEvent::Other(channel.chars().take(80).collect())
}

/// Reads `<name> <old host> <old port> <new host> <new port>`.
fn switch(payload: &str) -> Option<SentinelEvent> {
    let words: Vec<&str> = payload.split(' ').take(6).collect();
    let [MONITOR_NAME, old_host, old_port, new_host, new_port] = words[..] else {
        return None;
    };
    Some(SentinelEvent::SwitchPrimary {
        from: Endpoint::new(old_host, old_port.parse().ok()?).ok()?,
        to: Endpoint::new(new_host, new_port.parse().ok()?).ok()?,
    })
}

/// Reads `<kind> <name> <host> <port> …`.
fn instance(what: InstanceEvent, payload: &str) -> Option<SentinelEvent> {
    let mut words = payload.split(' ');
    let kind = match words.next()? {
        "master" | "primary" => InstanceKind::Primary,
        "slave" | "replica" => InstanceKind::Replica,
        "sentinel" => InstanceKind::Sentinel,
        _ => return None,
    };
    let (_name, host, port) = (words.next()?, words.next()?, words.next()?);
    let address = Endpoint::new(host, port.parse().ok()?).ok()?;
    Some(SentinelEvent::Instance {
        what,
        kind,
        address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn announcements_are_understood() {
        let at = |text: &str| text.parse::<Endpoint>().unwrap();
        let seen = |what, kind, address| SentinelEvent::Instance {
            what,
            kind,
            address: at(address),
        };
        for (channel, payload, expected) in [
            (
                "+switch-master",
                "primary 10.0.0.1 6379 10.0.0.2 6379",
                SentinelEvent::SwitchPrimary {
                    from: at("10.0.0.1:6379"),
                    to: at("10.0.0.2:6379"),
                },
            ),
            (
                "+sdown",
                "slave 10.0.0.2:6379 10.0.0.2 6379 @ primary 10.0.0.1 6379",
                seen(
                    InstanceEvent::SubjectivelyDown,
                    InstanceKind::Replica,
                    "10.0.0.2:6379",
                ),
            ),
            (
                "+odown",
                "master primary 10.0.0.1 6379 #quorum 2/2",
                seen(
                    InstanceEvent::ObjectivelyDown,
                    InstanceKind::Primary,
                    "10.0.0.1:6379",
                ),
            ),
            (
                "+sentinel",
                "sentinel ab 10.0.0.3 26379 @ primary 10.0.0.1 6379",
                seen(
                    InstanceEvent::Found,
                    InstanceKind::Sentinel,
                    "10.0.0.3:26379",
                ),
            ),
            (
                "-failover-abort-no-good-slave",
                "master primary 10.0.0.1 6379",
                SentinelEvent::FailoverAborted("no-good-slave".to_owned()),
            ),
            // Somebody made it forget everything.
            (
                "-monitor",
                "master primary 10.0.0.1 6379",
                seen(InstanceEvent::Reset, InstanceKind::Primary, "10.0.0.1:6379"),
            ),
            ("+tilt", "#tilt mode entered", SentinelEvent::Tilt(true)),
            (
                "+switch-master",
                "other 1 2 3 4",
                SentinelEvent::Other("+switch-master".to_owned()),
            ),
            (
                "+new-thing",
                "",
                SentinelEvent::Other("+new-thing".to_owned()),
            ),
        ] {
            assert_eq!(parse(channel, payload), expected, "{channel} {payload}");
        }
    }

    proptest! {
        #[test]
        fn any_announcement_is_read_without_panic(
            channel in prop::sample::select(CHANNELS), payload in ".{0,80}"
        ) {
            let _ = parse(channel, &payload);
        }
    }
}
