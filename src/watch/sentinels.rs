//! Asks all Sentinels that belong, when the local server's word is not enough.

use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    limits::FROZEN_ASK_LIMIT,
    observer::sentinel_client,
    valkey::{Credentials, PrimaryView},
    workload::{Backend as _, Workload},
};

/// Asks the local Sentinel and all that it ever learned of who is the primary, all at the same time.
///
/// One answer for each; none at all if it is not known which Sentinels there are.
pub(super) async fn views(
    workload: &Workload,
    address: &str,
    credentials: &Credentials,
) -> Option<Vec<Option<PrimaryView>>> {
    let mut sentinels = known(workload).await?;
    sentinels.push(address.to_owned());
    let asked = sentinels.iter().map(|host| async move {
        let view = timeout(FROZEN_ASK_LIMIT, async {
            sentinel_client(host, credentials)
                .await
                .ok()?
                .primary()
                .await
                .ok()?
        });
        view.await.ok().flatten()
    });
    Some(join_all(asked).await)
}

/// Returns the hosts of the other Sentinels that the local one ever learned of.
///
/// From its own file, which can be read while it is frozen, too. None if there is no such file.
pub(super) async fn known(workload: &Workload) -> Option<Vec<String>> {
    let path = workload.layout().sentinel_config();
    let bytes = workload.read(&path).await.ok().flatten()?;
    Some(others_in(&String::from_utf8_lossy(&bytes)))
}

fn others_in(file: &str) -> Vec<String> {
    let mut hosts: Vec<String> = file
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let known = words.next() == Some("sentinel") && words.next() == Some("known-sentinel");
            // The name of the primary, then the address.
            known.then(|| words.nth(1)).flatten().map(str::to_owned)
        })
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_are_found_in_the_file_of_one() {
        let file = "port 26379\nsentinel monitor primary 10.0.0.1 6379 2\n\
            sentinel known-replica primary 10.0.0.2 6379\n\
            sentinel known-sentinel primary 10.0.0.3 26379 ab\n\
            sentinel known-sentinel primary valkey-2.m 26379 cd\n\
            sentinel known-sentinel primary\nsentinel\n";
        assert_eq!(others_in(file), ["10.0.0.3", "valkey-2.m"]);
        assert!(others_in("").is_empty());
    }
}
