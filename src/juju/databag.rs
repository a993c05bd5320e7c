//! Databags: the relation settings of a unit or an application.

use std::collections::BTreeMap;

/// The settings of one unit or application on one relation. Juju stores text only.
pub type Databag = BTreeMap<String, String>;

/// Returns what has to be set so that `current` becomes `wanted`.
///
/// A key that goes is set to the empty text, which is how Juju deletes one. Only keys in `wanted` or
/// accepted by `mine` are touched, since Juju keeps keys of its own in a unit's databag
/// (`ingress-address` and others). Nothing to set: the result is empty.
#[must_use]
pub fn changes(current: &Databag, wanted: &Databag, mine: impl Fn(&str) -> bool) -> Databag {
    let written = wanted
        .iter()
        .filter(|(key, value)| current.get(*key).map_or("", String::as_str) != value.as_str())
        .map(|(key, value)| (key.clone(), value.clone()));
    let deleted = current
        .keys()
        .filter(|key| !wanted.contains_key(*key) && mine(key))
        .map(|key| (key.clone(), String::new()));
    written.chain(deleted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(text: &str) -> Databag {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn only_what_differs_is_set_and_only_own_keys_are_deleted() {
        for (current, wanted, expected) in [
            ("", "", ""),
            ("state=a", "state=a", ""),
            ("state=a", "state=b", "state=b"),
            ("", "state=b", "state=b"),
            ("state=a ingress-address=10.0.0.1", "", "state="),
            (
                "ingress-address=10.0.0.1",
                "ingress-address=10.0.0.2",
                "ingress-address=10.0.0.2",
            ),
            ("", "state=", ""),
        ] {
            let found = changes(&bag(current), &bag(wanted), |key| key == "state");
            assert_eq!(found, bag(expected), "{current} -> {wanted}");
        }
    }
}
