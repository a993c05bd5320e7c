//! Compares what labels and Services have to be with what they are: pure.

use std::{collections::BTreeMap, fmt};

use super::objects::{Pod, Role, Service};

/// What labels and Services have to be, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The application.
    pub application: String,
    /// This unit's pod.
    pub me: String,
    /// Role of each pod of which it is known; pods that are not named are left alone, except that
    /// none is labelled as the primary beside the one that is.
    pub roles: BTreeMap<String, Option<Role>>,
    /// Whether this unit looks after the Services as well.
    pub services: bool,
}

impl Wanted {
    /// Returns the pod of the primary, if it is known.
    #[must_use]
    pub fn primary(&self) -> Option<&str> {
        self.roles
            .iter()
            .find(|(_, role)| **role == Some(Role::Primary))
            .map(|(pod, _)| pod.as_str())
    }
}

/// What labels and Services are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// This unit's pod, the primary's, and every pod with the application's label.
    pub pods: Vec<Pod>,
    /// The Services that are there.
    pub services: BTreeMap<Role, Service>,
}

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Give a pod its role, or take it away.
    Label {
        /// The pod.
        pod: String,
        /// The pod as it was read.
        resource_version: String,
        /// Its role.
        role: Option<Role>,
    },
    /// Make the Service of a role.
    Create(Role),
    /// Make the Service of a role right.
    Mend(Role),
}

impl Change {
    /// Returns whether it asks the same of the same object, whatever changed about it meanwhile.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Label { pod, role, .. },
                Self::Label {
                    pod: of, role: to, ..
                },
            ) => (pod, role) == (of, to),
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label { pod, role, .. } => {
                write!(
                    formatter,
                    "label {pod} {}",
                    role.map_or("nothing", Role::label)
                )
            }
            Self::Create(role) => write!(formatter, "create the Service of role {}", role.label()),
            Self::Mend(role) => write!(formatter, "mend the Service of role {}", role.label()),
        }
    }
}

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// What is to be done, in this order: a role is taken away before it is given.
    pub changes: Vec<Change>,
    /// Services that somebody else looks after: their name and that of who does.
    pub foreign: Vec<(String, String)>,
}

/// Returns what makes labels and Services right.
#[must_use]
pub fn difference(wanted: &Wanted, actual: &Actual) -> Difference {
    let labels = actual.pods.iter().filter_map(|pod| wrong(wanted, pod));
    let mut found = Difference {
        changes: labels.collect(),
        ..Difference::default()
    };
    found.changes.sort_by_key(|change| {
        matches!(
            change,
            Change::Label {
                role: Some(Role::Primary),
                ..
            }
        )
    });
    if wanted.services {
        services(wanted, actual, &mut found);
    }
    found
}

/// Returns what makes a pod's labels right, if they are known to be wrong.
fn wrong(wanted: &Wanted, pod: &Pod) -> Option<Change> {
    let role = match wanted.roles.get(&pod.metadata.name) {
        Some(role) => *role,
        // Nothing is known of it but that another is the primary.
        None if wanted.primary().is_some() && pod.role() == Some(Role::Primary.label()) => None,
        None => return None,
    };
    let labelled = pod.role() == role.map(Role::label);
    let right = labelled && (role.is_none() || pod.is_of(&wanted.application));
    (!right).then(|| Change::Label {
        pod: pod.metadata.name.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        role,
    })
}

fn services(wanted: &Wanted, actual: &Actual, found: &mut Difference) {
    let me = actual
        .pods
        .iter()
        .find(|pod| pod.metadata.name == wanted.me);
    let owner = me.and_then(Pod::stateful_set);
    for role in Role::ALL {
        let Some(service) = actual.services.get(&role) else {
            found.changes.push(Change::Create(role));
            continue;
        };
        if let Some(manager) = service.foreign() {
            let name = role.service(&wanted.application);
            found.foreign.push((name, manager.to_owned()));
        } else if service.metadata.deletion_timestamp.is_none()
            && !service.is_right(&wanted.application, role, owner)
        {
            found.changes.push(Change::Mend(role));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::objects::{
        APPLICATION_LABEL, Metadata, Owner, ROLE_LABEL, service, service_patch,
    };
    use super::*;

    const APP: &str = "valkey";

    /// `0 primary`: pod 0 labelled so; `0 -`: without a role; `0 primary@other`: of another application.
    fn pods(text: &str) -> Vec<Pod> {
        text.split(',')
            .map(str::trim)
            .filter(|pod| !pod.is_empty())
            .map(|pod| {
                let (number, label) = pod.split_once(' ').unwrap();
                let (role, application) = label.split_once('@').unwrap_or((label, APP));
                let mut labels = BTreeMap::new();
                if role != "-" {
                    labels.insert(ROLE_LABEL.to_owned(), role.to_owned());
                    labels.insert(APPLICATION_LABEL.to_owned(), application.to_owned());
                }
                Pod {
                    metadata: Metadata {
                        name: format!("valkey-{number}"),
                        labels,
                        owner_references: vec![owner()],
                        ..Metadata::default()
                    },
                }
            })
            .collect()
    }

    fn owner() -> Owner {
        Owner {
            api_version: "apps/v1".to_owned(),
            kind: "StatefulSet".to_owned(),
            name: APP.to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn wanted(roles: &str) -> Wanted {
        let roles = roles
            .split(',')
            .map(str::trim)
            .filter(|role| !role.is_empty())
            .map(|role| {
                let (number, role) = role.split_once(' ').unwrap();
                let role = Role::ALL.into_iter().find(|known| known.label() == role);
                (format!("valkey-{number}"), role)
            });
        Wanted {
            application: APP.to_owned(),
            me: "valkey-0".to_owned(),
            roles: roles.collect(),
            services: false,
        }
    }

    fn text(changes: &[Change]) -> String {
        changes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn labels_follow_what_is_known_and_nothing_else() {
        for (known, labels, expected) in [
            (
                "0 primary, 1 replica",
                "0 -, 1 -",
                "label valkey-1 replica, label valkey-0 primary",
            ),
            ("0 primary, 1 replica", "0 primary, 1 replica", ""),
            // A failover: the former primary loses the label before the new one gets it.
            (
                "1 primary, 0 replica",
                "0 primary, 1 replica",
                "label valkey-0 replica, label valkey-1 primary",
            ),
            // The former primary is dead: nothing is known but that it is no primary.
            (
                "1 primary",
                "0 primary, 1 replica",
                "label valkey-0 nothing, label valkey-1 primary",
            ),
            (
                "1 primary, 0 -",
                "0 primary, 1 primary",
                "label valkey-0 nothing",
            ),
            // Nobody knows who is primary: nobody's label goes on a guess.
            ("", "0 primary, 1 replica", ""),
            (
                "2 replica",
                "0 primary, 1 primary, 2 -",
                "label valkey-2 replica",
            ),
            // This one surely is not.
            ("0 replica", "0 primary", "label valkey-0 replica"),
            ("0 -", "0 replica", "label valkey-0 nothing"),
            // A label of another application, or of a person.
            ("0 primary", "0 primary@other", "label valkey-0 primary"),
            (
                "0 primary",
                "0 leader, 7 primary",
                "label valkey-7 nothing, label valkey-0 primary",
            ),
            // Replicas of which nothing is known stay.
            ("0 primary", "0 primary, 1 replica, 2 odd", ""),
        ] {
            let actual = Actual {
                pods: pods(labels),
                ..Actual::default()
            };
            let found = difference(&wanted(known), &actual);
            assert_eq!(text(&found.changes), expected, "{known} | {labels}");
        }
    }

    fn found(value: serde_json::Value) -> Service {
        let mut value = value;
        value["metadata"]["resourceVersion"] = serde_json::json!("7");
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn services_are_made_mended_and_left_to_their_owners() {
        type Edit = fn(&mut serde_json::Value);
        let edits: [(&str, Edit, &str); 9] = [
            ("nothing", |_| {}, ""),
            (
                "a selector",
                |it| it["spec"]["selector"]["role"] = "x".into(),
                "mend",
            ),
            (
                "one more selector",
                |it| it["spec"]["selector"]["x"] = "y".into(),
                "mend",
            ),
            (
                "the port",
                |it| it["spec"]["ports"][0]["port"] = 6380.into(),
                "mend",
            ),
            (
                "the target",
                |it| it["spec"]["ports"][0]["targetPort"] = "web".into(),
                "mend",
            ),
            (
                "its owner",
                |it| it["metadata"]["ownerReferences"][0]["uid"] = "u0".into(),
                "mend",
            ),
            (
                "no labels",
                |it| it["metadata"]["labels"] = serde_json::json!({}),
                "mend",
            ),
            (
                "an annotation and a type",
                |it| {
                    it["metadata"]["annotations"]["x"] = "y".into();
                    it["spec"]["type"] = "LoadBalancer".into();
                },
                "",
            ),
            (
                "another's",
                |it| {
                    it["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "juju".into();
                },
                "foreign",
            ),
        ];
        let wanted = Wanted {
            services: true,
            ..wanted("0 primary")
        };
        for (name, edit, expected) in edits {
            let services = Role::ALL.into_iter().map(|role| {
                let mut value = service(APP, role, Some(&owner()));
                if role == Role::Primary {
                    edit(&mut value);
                }
                (role, found(value))
            });
            let actual = Actual {
                pods: pods("0 primary"),
                services: services.collect(),
            };
            let difference = difference(&wanted, &actual);
            let done = match (difference.changes.as_slice(), difference.foreign.as_slice()) {
                ([], []) => "",
                ([Change::Mend(Role::Primary)], []) => "mend",
                ([], [(name, manager)]) if name == "valkey-primary" && manager == "juju" => {
                    "foreign"
                }
                _ => "something else",
            };
            assert_eq!(done, expected, "{name}");
        }
        let actual = Actual {
            pods: pods("0 primary"),
            ..Actual::default()
        };
        let both = [Change::Create(Role::Primary), Change::Create(Role::Replica)];
        assert_eq!(difference(&wanted, &actual).changes, both);
        let labels_only = Wanted {
            services: false,
            ..wanted
        };
        assert_eq!(difference(&labels_only, &actual), Difference::default());
    }

    #[test]
    fn a_patch_takes_away_what_does_not_belong_and_keeps_other_owners() {
        let mut value = service(APP, Role::Primary, None);
        value["spec"]["selector"]["x"] = "y".into();
        value["metadata"]["ownerReferences"] = serde_json::json!([
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "o"},
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": APP, "uid": "before"},
        ]);
        let patch = service_patch(APP, Role::Primary, Some(&owner()), &found(value));
        assert_eq!(patch["spec"]["selector"]["x"], serde_json::Value::Null);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let owners: Vec<&str> = patch["metadata"]["ownerReferences"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|owner| owner["uid"].as_str())
            .collect();
        assert_eq!(owners, ["o", "u1"]);
    }

    fn apply(pods: &mut [Pod], change: &Change) {
        let Change::Label { pod, role, .. } = change else {
            return;
        };
        let pod = pods.iter_mut().find(|it| it.metadata.name == *pod).unwrap();
        pod.metadata.labels.remove(ROLE_LABEL);
        if let Some(role) = role {
            pod.metadata
                .labels
                .insert(ROLE_LABEL.to_owned(), role.label().to_owned());
            pod.metadata
                .labels
                .insert(APPLICATION_LABEL.to_owned(), APP.to_owned());
        }
    }

    fn primaries(pods: &[Pod]) -> usize {
        pods.iter()
            .filter(|pod| pod.role() == Some("primary"))
            .count()
    }

    proptest! {
        /// From whatever labels there are: after each change there are not more primaries than
        /// before or one, afterwards there is the one that is wanted, and nothing is left to do.
        #[test]
        fn every_start_leads_to_one_primary(
            labels in prop::collection::vec(0_usize..4, 1..6),
            known in prop::collection::vec(0_usize..4, 1..6),
        ) {
            let names = ["-", "primary", "replica", "odd"];
            let text = labels.iter().enumerate().map(|(at, it)| format!("{at} {}", names[*it]));
            let mut pods = pods(&text.collect::<Vec<_>>().join(", "));
            let mut has_primary = false;
            let mut roles = BTreeMap::new();
            for (at, kind) in known.iter().enumerate() {
                let role = match kind {
                    0 => continue,
                    1 if has_primary => None,
                    1 => { has_primary = true; Some(Role::Primary) }
                    2 => Some(Role::Replica),
                    _ => None,
                };
                roles.insert(format!("valkey-{at}"), role);
            }
            let wanted = Wanted { roles, ..wanted("") };
            let actual = Actual { pods: pods.clone(), ..Actual::default() };
            for change in difference(&wanted, &actual).changes {
                let before = primaries(&pods);
                apply(&mut pods, &change);
                prop_assert!(primaries(&pods) <= before.max(1));
            }
            let there = wanted.primary().is_some_and(|it| pods.iter().any(|pod| pod.metadata.name == it));
            if there {
                prop_assert_eq!(primaries(&pods), 1);
            }
            let actual = Actual { pods, ..Actual::default() };
            prop_assert_eq!(difference(&wanted, &actual), Difference::default());
        }
    }
}
