//! On Kubernetes: labels and Services as the Sentinels and servers say.

use std::collections::BTreeMap;

use tracing::warn;

use crate::{
    charm::Charm,
    kubernetes::{self, ApiError, Change, Report, Role, Wanted, application_of_unit, pod_of_unit},
    observer,
    planner::{
        Observation, UnitName,
        observation::{self, Process, Server},
        view::Naming,
    },
};

/// Returns what labels and Services have to be, as far as this look tells.
#[must_use]
pub fn wanted(seen: &Observation) -> Wanted {
    let primary = certain_primary(seen);
    let keeper = seen.leader || primary.as_ref() == Some(&seen.me);
    let mut roles = BTreeMap::new();
    for unit in seen.units.keys() {
        let role = if primary.as_ref() == Some(unit) {
            Some(Some(Role::Primary))
        } else if *unit == seen.me {
            own(seen, primary.is_some())
        } else if keeper {
            primary
                .as_ref()
                .and_then(|primary| of_other(seen, unit, primary))
        } else {
            None
        };
        if let Some(role) = role {
            roles.insert(pod_of_unit(unit.as_str()), role);
        }
    }
    Wanted {
        application: application_of_unit(seen.me.as_str()).to_owned(),
        me: pod_of_unit(seen.me.as_str()),
        roles,
        services: keeper,
    }
}

/// Returns the primary if it is certain enough to lead every client to it.
///
/// Of three and more units a majority of the Sentinels has to name it: a primary that is cut off from
/// them may have been replaced.
fn certain_primary(seen: &Observation) -> Option<UnitName> {
    let agreed = matches!(seen.naming(), Naming::Agreed { .. });
    seen.primary().filter(|_| agreed || seen.voters() <= 2)
}

/// Whether clients may read from a server.
fn readable(server: &Server) -> bool {
    let syncing = match &server.role {
        observation::Role::Primary => false,
        observation::Role::Replica { syncing, .. } => syncing.is_some(),
    };
    server.loading.is_none() && !syncing
}

#[allow(
    clippy::option_option,
    reason = "not known, known to have none, known to have this one"
)]
fn own(seen: &Observation, primary_known: bool) -> Option<Option<Role>> {
    let Some(server) = seen.server(&seen.me) else {
        return (seen.local.server == Process::Stopped).then_some(None);
    };
    match &server.role {
        observation::Role::Replica { .. } => Some(readable(server).then_some(Role::Replica)),
        // Somebody else is: this one was displaced.
        observation::Role::Primary => primary_known.then_some(None),
    }
}

#[allow(clippy::option_option, reason = "as for the own role")]
fn of_other(seen: &Observation, unit: &UnitName, primary: &UnitName) -> Option<Option<Role>> {
    let Some(server) = seen.server(unit) else {
        // That this unit cannot reach it says little; that its primary does not either, enough.
        let host = seen.host_of(unit)?;
        let replicas = &seen.server(primary)?.replicas;
        let attached = replicas.iter().any(|it| it.host == host && it.online);
        return (!attached).then_some(None);
    };
    match &server.role {
        observation::Role::Replica { .. } => Some(readable(server).then_some(Role::Replica)),
        observation::Role::Primary => Some(None),
    }
}

/// Makes labels and Services right, on Kubernetes; what could not be done is told in the status.
pub async fn keep(charm: &mut Charm, seen: &Observation) {
    let Some(access) = charm.api_server() else {
        return;
    };
    let intent = seen.intent.clone();
    let result = {
        let charm = &*charm;
        let again = async || wanted(&observer::look(charm, intent.clone()).await);
        kubernetes::keep(&access, wanted(seen), again).await
    };
    charm.services_note = note(&charm.juju.application, &result);
    if let Some(note) = &charm.services_note {
        warn!(unit = %seen.me, reason = note, "Labels and Services are not right");
    }
}

/// Says in a status what could not be made right.
fn note(application: &str, result: &Result<Report, ApiError>) -> Option<String> {
    match result {
        Ok(report) if report.is_right() => None,
        Ok(report) if report.needs_trust() => Some(needs_trust(application)),
        Ok(report) => Some(format!("Services: {report}")),
        Err(error) if error.is_forbidden() => Some(needs_trust(application)),
        Err(error) => Some(format!("Services: {error}")),
    }
}

fn needs_trust(application: &str) -> String {
    format!("Services need `juju trust {application} --scope=cluster`")
}

/// What `verify` has to tell about labels and Services.
pub struct Findings {
    /// What is not right.
    pub wrong: Vec<String>,
    /// What a person may do for more.
    pub advice: Vec<String>,
}

/// Compares labels and Services with what they have to be, without changing them.
pub async fn check(charm: &Charm, seen: &Observation) -> Findings {
    let mut found = Findings {
        wrong: Vec::new(),
        advice: Vec::new(),
    };
    let Some(access) = charm.api_server() else {
        return found;
    };
    // Whoever asks wants to hear of all of it.
    let everything = Wanted {
        services: true,
        ..wanted(seen)
    };
    match kubernetes::compare(&access, &everything).await {
        Ok(report) => {
            for (name, manager) in report.foreign {
                found.wrong.push(format!(
                    "Service {name} belongs to somebody else ({manager}): rename that one"
                ));
            }
            for change in report.left {
                if let Change::Create(role) = change {
                    let name = role.service(&charm.juju.application);
                    let advice = needs_trust(&charm.juju.application);
                    found
                        .advice
                        .push(format!("Service {name} is missing; {advice}"));
                } else {
                    found.wrong.push(format!(
                        "clients may be led wrong until the charm did this: {change}"
                    ));
                }
            }
        }
        Err(error) => found.wrong.push(format!("Services: {error}")),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    fn text(wanted: &Wanted) -> String {
        let roles = wanted.roles.iter().map(|(pod, role)| {
            let number = pod.strip_prefix("valkey-").unwrap();
            format!("{number} {}", role.map_or("-", Role::label))
        });
        let mut text = roles.collect::<Vec<_>>().join(", ");
        if wanted.services {
            text.push_str(" +services");
        }
        text
    }

    #[test]
    fn a_unit_says_what_it_knows_and_no_more() {
        for (look, expected) in [
            // A replica: itself, and whom the majority names.
            ("me=1 0:P 1:R 2:R", "0 primary, 1 replica"),
            // The primary, or the leader: everybody.
            (
                "me=0 0:P 1:R 2:R",
                "0 primary, 1 replica, 2 replica +services",
            ),
            (
                "me=1 leader 0:P 1:R 2:R",
                "0 primary, 1 replica, 2 replica +services",
            ),
            // Who copies or joins is not read from before it has all.
            ("me=0 0:P 1:R 2:S", "0 primary, 1 replica, 2 - +services"),
            ("me=2 0:P 1:R 2:S", "0 primary, 2 -"),
            ("me=2 0:P 1:R 2:N", "0 primary, 2 -"),
            // Dead: neither this unit nor the primary hears from it.
            ("me=0 0:P 1:R 2:X", "0 primary, 1 replica, 2 - +services"),
            ("me=1 0:P 1:R 2:X", "0 primary, 1 replica"),
            // The Sentinels name another than the one that still takes itself for the primary.
            ("me=0 0:P 1:R 2:R names=1", ""),
            ("me=2 0:P 1:R 2:R names=1", "2 replica"),
            // Cut off from the majority: it may have been replaced.
            ("me=0 0:P 1:X 2:X", ""),
            ("me=0 leader 0:P 1:X 2:X", " +services"),
            ("me=1 0:X 1:R 2:X", "1 replica"),
            // One or two units have no majority to lose.
            ("me=0 0:P", "0 primary +services"),
            ("me=0 0:P 1:X", "0 primary, 1 - +services"),
            // It has stopped.
            ("me=0 0:Rs 1:P 2:R", "0 -, 1 primary"),
        ] {
            assert_eq!(text(&wanted(&seen(look))), expected, "{look}");
        }
    }

    #[test]
    fn a_displaced_primary_loses_its_label_as_soon_as_the_other_serves() {
        let mut look = seen("me=0 0:P 1:R 2:R names=1");
        let other = UnitName::new("valkey/1");
        if let Some(observation::Seen::Known(server)) = look.servers.get_mut(&other) {
            server.role = observation::Role::Primary;
        }
        assert_eq!(text(&wanted(&look)), "0 -, 1 primary");
    }

    #[test]
    fn verify_tells_what_leads_clients_wrong_and_what_a_person_may_do() {
        use super::super::actions::{
            probe::Probes,
            verify::{Verdict, assess},
        };
        let healthy = || assess(&seen("me=0 0:P 1:R 2:R"), &Probes::new());
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        for (wrong, advice, expected) in [
            (&[][..], &[][..], Verdict::Ok),
            (&[], &["Services need trust"], Verdict::Ok),
            (&["label"], &["Services need trust"], Verdict::Degraded),
        ] {
            let found = Findings {
                wrong: texts(wrong),
                advice: texts(advice),
            };
            let verification = healthy().with_services(found);
            assert_eq!(verification.verdict, expected, "{wrong:?} {advice:?}");
            let said: Vec<&str> = verification
                .findings
                .iter()
                .map(|finding| finding.text.as_str())
                .collect();
            assert_eq!(said, [wrong, advice].concat(), "the worst first");
        }
    }

    #[test]
    fn the_status_says_what_is_missing_once() {
        let trust = Some("Services need `juju trust valkey --scope=cluster`");
        let forbidden = Report {
            forbidden: vec![Change::Create(Role::Primary), Change::Create(Role::Replica)],
            ..Report::default()
        };
        let foreign = Report {
            foreign: vec![("valkey-primary".to_owned(), "juju".to_owned())],
            ..Report::default()
        };
        let refused = |code| ApiError::Refused {
            what: "list the pods".to_owned(),
            code,
            reason: "no".to_owned(),
        };
        for (result, expected) in [
            (Ok(Report::default()), None),
            (Ok(forbidden), trust),
            (Err(refused(403)), trust),
            (
                Ok(foreign),
                Some("Services: Service valkey-primary belongs to somebody else (juju)"),
            ),
            (
                Err(refused(500)),
                Some("Services: cannot list the pods: the Kubernetes API answers 500: no"),
            ),
        ] {
            assert_eq!(note("valkey", &result).as_deref(), expected);
        }
    }
}
