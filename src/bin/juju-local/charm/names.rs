//! The patterns of Juju's names, written out by hand: they are few and need no engine.

use super::{CharmError, invalid};

/// Tells whether `name` can name a charm, an application or a storage: parts of lower-case letters and
/// digits with single hyphens between them, the first starting with a letter, every later one holding at least one.
#[must_use]
pub fn is_application(name: &str) -> bool {
    let plain = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default();
    first.starts_with(|c: char| c.is_ascii_lowercase())
        && plain(first)
        && parts.all(|part| plain(part) && part.bytes().any(|b| b.is_ascii_lowercase()))
}

/// Splits `name` into application and number if it is a unit's name.
#[must_use]
pub fn unit(name: &str) -> Option<(&str, u32)> {
    let (application, number) = name.split_once('/')?;
    let canonical =
        number == "0" || (!number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit()));
    (canonical && is_application(application)).then(|| Some((application, number.parse().ok()?)))?
}

/// Tells whether `name` can name an endpoint: `[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*`.
#[must_use]
pub fn is_endpoint(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.split(['-', '_']).all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}

/// Tells whether `name` can name an action, a parameter or a part of a result's key: `[a-z0-9](?:[a-z0-9-]*[a-z0-9])?`.
#[must_use]
pub fn is_action(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Tells whether `name` is kept for Juju itself.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name == "juju" || name.starts_with("juju-")
}

/// Checks an application's name that a person chose.
///
/// # Errors
///
/// With Juju's text when it breaks the pattern.
pub fn check_application(name: &str) -> Result<(), CharmError> {
    if is_application(name) {
        return Ok(());
    }
    invalid(format!("invalid application name {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn application_names_have_a_letter_in_every_part() {
        for (name, good) in [
            ("store", true),
            ("store-k8s", true),
            ("a1", true),
            ("a-1a", true),
            ("a-1", false),
            ("1a", false),
            ("", false),
            ("a-", false),
            ("-a", false),
            ("A", false),
            ("a--b", false),
            ("a_b", false),
            ("a/0", false),
        ] {
            assert_eq!(is_application(name), good, "{name}");
        }
    }

    #[test]
    fn unit_numbers_have_no_leading_zero() {
        for (name, expected) in [
            ("store/0", Some(("store", 0))),
            ("store/12", Some(("store", 12))),
            ("store/01", None),
            ("store/", None),
            ("store", None),
            ("store/x", None),
            ("Store/0", None),
            ("store/99999999999", None),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }

    #[test]
    fn endpoints_and_actions_follow_their_patterns() {
        for (name, endpoint, action) in [
            ("database-peers", true, true),
            ("a_b", true, false),
            ("a", true, true),
            ("1a", false, true),
            ("a-", false, false),
            ("-a", false, false),
            ("", false, false),
            ("a--b", false, true),
            ("A", false, false),
        ] {
            assert_eq!(
                (is_endpoint(name), is_action(name)),
                (endpoint, action),
                "{name}"
            );
        }
    }
}
