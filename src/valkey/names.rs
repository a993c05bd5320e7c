//! Turns the name of a host into addresses, without ever keeping anybody who cannot wait.
//!
//! The system's resolver may take half a minute to say that nobody answers, and nothing interrupts it.
//! So it runs in a thread of its own, one for each name at most: whoever asks meanwhile waits for the
//! same answer, and gives up when its own deadline comes. The thread keeps no hook from ending.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{LazyLock, Mutex, PoisonError};

use tokio::sync::watch;

use crate::limits::ADDRESSES_MAX;

/// What the resolver said of a name, once it has.
type Answer = Option<Result<Vec<IpAddr>, String>>;

/// Names that are being resolved.
static ASKED: LazyLock<Mutex<HashMap<String, watch::Receiver<Answer>>>> =
    LazyLock::new(Mutex::default);

/// Returns what to connect to for `host`: itself if it is an address, else its addresses.
///
/// Without a limit of time: the caller has one.
///
/// # Errors
///
/// What the resolver says: that there is no such name, or that nobody answers.
pub(super) async fn resolve(host: &str) -> Result<Vec<String>, String> {
    // An IPv6 address may name a network device, which an address alone cannot hold.
    if host.contains(':') || host.parse::<IpAddr>().is_ok() {
        return Ok(vec![host.to_owned()]);
    }
    let found = addresses(host).await?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Returns the addresses of a name, those of the older kind first, at most [`ADDRESSES_MAX`].
///
/// # Errors
///
/// What the resolver says: that there is no such name, or that nobody answers.
pub async fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let mut answer = ask(name)?;
    match answer.wait_for(Option::is_some).await {
        Ok(found) => found.clone().unwrap_or_else(|| Ok(Vec::new())),
        Err(_) => Err("the resolver ended without an answer".to_owned()),
    }
}

/// Asks the resolver, unless it is being asked already.
fn ask(name: &str) -> Result<watch::Receiver<Answer>, String> {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pending) = asked.get(name) {
        return Ok(pending.clone());
    }
    let (sender, receiver) = watch::channel(None);
    let owned = name.to_owned();
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let found = look_up(&owned);
            // Who asks from now on asks anew: a pod may have another address by then.
            ASKED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&owned);
            let _ = sender.send(Some(found));
        })
        .map_err(|error| format!("cannot start a thread for the resolver: {error}"))?;
    asked.insert(name.to_owned(), receiver.clone());
    Ok(receiver)
}

/// Asks the system's resolver, which takes as long as it takes.
fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    let mut found: Vec<IpAddr> = (name, 0)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .map(|address| address.ip())
        .collect();
    // A server that is bound to a name listens on its address of the older kind.
    found.sort_by_key(IpAddr::is_ipv6);
    found.dedup();
    found.truncate(ADDRESSES_MAX);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_taken_as_they_are_and_names_looked_up() {
        for address in ["10.0.0.1", "fd00::1", "fe80::1%eth0"] {
            assert_eq!(resolve(address).await.unwrap(), [address]);
        }
        let local = resolve("localhost").await.unwrap();
        assert_eq!(local.first().map(String::as_str), Some("127.0.0.1"));
        let many = futures::future::join_all((0..50).map(|_| addresses("localhost"))).await;
        assert!(many.iter().all(Result::is_ok));
        assert!(!ASKED.lock().unwrap().contains_key("localhost"));
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_is_none() {
        assert!(addresses("no..such..host").await.is_err());
    }
}
