//! Files of users: of the server and of Sentinel.
//!
//! Passwords stand there as SHA-256 only. While passwords change, both sets are accepted, so that
//! no moment exists in which somebody is locked out.

use std::fmt::Write as _;

use crate::valkey::{Credentials, InternalUser};

/// Rights on the server, with the reason of each at its user.
const SERVER: &[(InternalUser, &str)] = &[
    // The charm does everything.
    (InternalUser::CharmedOperator, "~* &* +@all"),
    // What Sentinel sends, no more: in particular it may not read settings, which hold a password.
    (
        InternalUser::CharmedSentinelValkey,
        "resetchannels &__sentinel__:hello -@all +ping +info +role +subscribe +publish +multi +exec \
         +slaveof +replicaof +failover +config|rewrite +client|setname +client|kill +client|pause \
         +client|unpause +script|kill",
    ),
    (
        InternalUser::CharmedReplication,
        "resetchannels -@all +psync +replconf +ping",
    ),
    // Figures for an exporter. It sees no key's value, and no settings.
    (
        InternalUser::CharmedStats,
        "resetchannels -@all +ping +info +dbsize +client|setname +client|list +client|id +latency \
         +slowlog|get +slowlog|len +memory|stats +memory|doctor +cluster|info +type +strlen +llen \
         +hlen +scard +zcard +xlen +xinfo +pfcount +scan",
    ),
];

const SENTINEL: &[(InternalUser, &str)] = &[
    // What Sentinels send each other.
    (
        InternalUser::CharmedSentinelPeers,
        "resetchannels &__sentinel__:hello -@all +ping +publish +subscribe +client|setname \
         +sentinel|is-master-down-by-addr",
    ),
    (InternalUser::CharmedSentinelOperator, "~* &* +@all"),
];

/// Writes the server's file of users; `previous` are passwords that are still accepted.
#[must_use]
pub fn server_users(current: &Credentials, previous: Option<&Credentials>) -> String {
    render(SERVER, current, previous)
}

/// Writes Sentinel's file of users; `previous` are passwords that are still accepted.
#[must_use]
pub fn sentinel_users(current: &Credentials, previous: Option<&Credentials>) -> String {
    render(SENTINEL, current, previous)
}

fn render(
    users: &[(InternalUser, &str)],
    current: &Credentials,
    previous: Option<&Credentials>,
) -> String {
    // Whoever does not log in is nobody.
    let mut text = String::from("user default off resetpass resetkeys resetchannels -@all\n");
    for (user, rules) in users {
        let new = current.password(*user).sha256_hex();
        let old = previous
            .map(|old| old.password(*user).sha256_hex())
            .filter(|old| *old != new);
        let old = old.map_or_else(String::new, |old| format!(" #{old}"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "user {} on #{new}{old} {rules}", user.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_hashes_of_new_and_old_and_no_password() {
        let (new, old) = (
            Credentials::generate().unwrap(),
            Credentials::generate().unwrap(),
        );
        for text in [
            server_users(&new, Some(&old)),
            sentinel_users(&new, Some(&old)),
        ] {
            assert!(text.starts_with("user default off "));
            for line in text.lines().skip(1) {
                assert_eq!(line.matches(" #").count(), 2, "{line}");
                assert!(!line.contains("  "), "{line}");
            }
            let secrets = new
                .to_secret()
                .into_values()
                .chain(old.to_secret().into_values());
            assert!(
                secrets
                    .into_iter()
                    .all(|password| !text.contains(&password))
            );
        }
        let same = server_users(&new, Some(&new));
        assert!(
            same.lines()
                .skip(1)
                .all(|line| line.matches(" #").count() == 1),
            "{same}"
        );
    }
}
