//! What all clients that write in tests have in common: what they write, whom they ask and as whom they act, and how
//! what they wrote is looked for.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    model::SENTINEL_PORT,
    names::Book,
    wire::{Reply, Wire},
};

/// How many keys are read at a time when everything is looked for.
const BATCH: usize = 500;

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there as it was written.
    Right,
    /// It is there with another value.
    Wrong(String),
    /// It is not there.
    Missing,
}

/// Returns the value of a key: derived from it, so that a wrong or torn value shows.
pub fn payload(key: &str) -> String {
    // FNV-1a, 64 bit.
    let sum = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{key}={sum:016x}")
}

/// Looks for keys on a server; the answers are in their order.
///
/// # Panics
///
/// When the server does not answer.
pub fn look_for(wire: &mut Wire, keys: &[String]) -> Vec<Found> {
    let mut found = Vec::with_capacity(keys.len());
    for batch in keys.chunks(BATCH) {
        let command: Vec<&str> = ["MGET"]
            .into_iter()
            .chain(batch.iter().map(String::as_str))
            .collect();
        let values = wire.call(&command).expect("cannot read what was written");
        assert_eq!(values.list().len(), batch.len(), "MGET: {values}");
        found.extend(
            batch
                .iter()
                .zip(values.list())
                .map(|(key, value)| match value {
                    Reply::Text(text) if *text == payload(key) => Found::Right,
                    Reply::Text(text) => Found::Wrong(text.clone()),
                    _ => Found::Missing,
                }),
        );
    }
    found
}

/// Returns the longest time between acknowledgements since `since`, and until now.
pub fn longest_gap(acknowledged: impl Iterator<Item = Instant>, since: Instant) -> Duration {
    let mut previous = since;
    let mut longest = Duration::ZERO;
    for at in acknowledged.filter(|at| *at >= since) {
        longest = longest.max(at.duration_since(previous));
        previous = at;
    }
    longest.max(previous.elapsed())
}

/// Tells whether a server says that it is the primary.
///
/// # Errors
///
/// When it does not answer.
pub fn is_primary(wire: &mut Wire) -> io::Result<bool> {
    let role = wire.call(&["ROLE"])?;
    Ok(role.list().first().and_then(Reply::text).as_deref() == Some("master"))
}

/// Goes on as a user of its own: what the charm does to its clients, it does not do to itself.
///
/// # Errors
///
/// When the server refuses that.
pub fn act_as_client(wire: &mut Wire, user: &str) -> io::Result<()> {
    let make = [
        "ACL", "SETUSER", user, "reset", "on", ">client", "~*", "+@all",
    ];
    for command in [&make[..], &["AUTH", user, "client"]] {
        match wire.call(command)? {
            Reply::Text(text) if text == "OK" => {}
            other => return Err(io::Error::other(format!("cannot act as a client: {other}"))),
        }
    }
    Ok(())
}

/// Asks the Sentinel at an address who is the primary, as Sentinel's clients do; looks a name up where it names one.
///
/// # Errors
///
/// When it does not answer in time, or names nobody.
pub fn ask_sentinel(
    address: IpAddr,
    password: &str,
    patience: Duration,
    names: Option<&Book>,
) -> io::Result<IpAddr> {
    let address = SocketAddr::new(address, SENTINEL_PORT);
    let mut wire = Wire::connect(address, "charmed-sentinel-operator", password, patience)?;
    let reply = wire.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "primary"])?;
    let host = reply.list().first().and_then(Reply::text);
    let host = host.ok_or_else(|| io::Error::other(format!("{address} names no primary")))?;
    match (host.parse(), names) {
        (Ok(address), _) => Ok(address),
        (Err(_), Some(names)) => names.find(&host),
        (Err(error), None) => Err(io::Error::other(format!("{address} names {host}: {error}"))),
    }
}

/// Returns what is inside, also when a writer's thread has ended in a panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
