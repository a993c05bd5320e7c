//! The name of a unit's pod on Kubernetes.

use super::names::UnitName;

/// The pod's own list of search domains.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Domain of a cluster whose resolver does not say another one.
const DEFAULT_DOMAIN: &str = "cluster.local";

/// Returns the name under which the other units find `unit`'s pod, whatever address it has.
///
/// Juju gives each application a service without an address of its own, `<application>-endpoints`,
/// through which pods are found before they are ready and while they go. Its namespace is the
/// model's, except for the controller's own; so the search domains in `resolv_conf`, the text of the pod's
/// `/etc/resolv.conf`, have the last word on the namespace, and on the cluster's domain.
///
/// A search domain that no host name could hold is passed over.
#[must_use]
pub fn pod_name(unit: &UnitName, model: &str, resolv_conf: &str) -> String {
    let (namespace, domain) =
        searched(resolv_conf).unwrap_or_else(|| (model.to_owned(), DEFAULT_DOMAIN.to_owned()));
    let application = unit.application();
    let number = unit.number();
    format!("{application}-{number}.{application}-endpoints.{namespace}.svc.{domain}")
}

/// Finds the namespace and the cluster's domain among the search domains.
fn searched(resolv_conf: &str) -> Option<(String, String)> {
    resolv_conf
        .lines()
        // Of several `search` lines the last one counts.
        .rfind(|line| line.split_whitespace().next() == Some("search"))?
        .split_whitespace()
        .skip(1)
        .find_map(|found| {
            let found = found.trim_end_matches('.');
            let (namespace, rest) = found.split_once('.')?;
            let domain = rest.strip_prefix("svc.")?;
            let plain = |text: &str| {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            };
            (plain(namespace) && plain(domain)).then(|| (namespace.to_owned(), domain.to_owned()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_unit_application_namespace_and_domain() {
        const USUAL: &str = "nameserver 10.152.183.10\n\
            search prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        for (unit, model, resolv_conf, expected) in [
            (
                "valkey/0",
                "prod",
                USUAL,
                "valkey-0.valkey-endpoints.prod.svc.cluster.local",
            ),
            // The namespace of a controller's model is not called as the model.
            (
                "my-store/12",
                "controller",
                "search controller-k8s.svc.corp.example svc.corp.example\n",
                "my-store-12.my-store-endpoints.controller-k8s.svc.corp.example",
            ),
            // The node's own domains may stand anywhere, and a later line replaces an earlier one.
            (
                "valkey/1",
                "m",
                "search a.svc.first\nsearch lan.example m.svc.zone. svc.zone\n",
                "valkey-1.valkey-endpoints.m.svc.zone",
            ),
            (
                "valkey/2",
                "m",
                "nameserver 1.1.1.1\n",
                "valkey-2.valkey-endpoints.m.svc.cluster.local",
            ),
            (
                "valkey/2",
                "m",
                "search svc.cluster.local bad,name.svc.x\n",
                "valkey-2.valkey-endpoints.m.svc.cluster.local",
            ),
            (
                "valkey/2",
                "m",
                "",
                "valkey-2.valkey-endpoints.m.svc.cluster.local",
            ),
        ] {
            let unit: UnitName = unit.parse().unwrap();
            assert_eq!(pod_name(&unit, model, resolv_conf), expected);
        }
    }
}
