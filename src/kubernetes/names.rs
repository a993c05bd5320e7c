//! Which pod a unit or a host is.

/// Returns the pod of a unit: `valkey-0` of `valkey/0`.
#[must_use]
pub fn pod_of_unit(unit: &str) -> String {
    unit.replace('/', "-")
}

/// Returns the application of a unit: `valkey` of `valkey/0`.
#[must_use]
pub fn application_of_unit(unit: &str) -> &str {
    unit.rsplit_once('/')
        .map_or(unit, |(application, _)| application)
}

/// Returns the pod of an application that has this name in the cluster's name service; none of an
/// address, or where the name is that of something else.
#[must_use]
pub fn pod_of_host(application: &str, host: &str) -> Option<String> {
    let (pod, _) = host.split_once('.')?;
    let number = pod.strip_prefix(application)?.strip_prefix('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| pod.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_name_alone() {
        for (host, expected) in [
            (
                "valkey-0.valkey-endpoints.prod.svc.cluster.local",
                Some("valkey-0"),
            ),
            ("valkey-12.valkey-endpoints", Some("valkey-12")),
            ("valkey-0", None),
            ("valkey-x.valkey-endpoints", None),
            ("valkey-.valkey-endpoints", None),
            ("valkey-b-0.valkey-b-endpoints", None),
            ("10.1.2.3", None),
            ("fd00::1", None),
            ("", None),
        ] {
            assert_eq!(pod_of_host("valkey", host).as_deref(), expected, "{host}");
        }
        assert_eq!(pod_of_unit("valkey/10"), "valkey-10");
        assert_eq!(application_of_unit("my-valkey/1"), "my-valkey");
    }
}
