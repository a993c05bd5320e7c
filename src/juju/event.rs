//! What Juju dispatches the charm for.

use std::fmt;
use std::path::PathBuf;

use super::environment::{Environment, RelationContext, SecretContext};
use super::names::is_endpoint_name;

/// A storage instance that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageEvent {
    /// Name of the storage in the charm's metadata, as in `data`.
    pub name: String,
    /// Id of the instance, as in `data/0`; none if Juju has not provisioned it.
    pub id: Option<String>,
    /// Where it is mounted; none if Juju has not provisioned it.
    pub location: Option<PathBuf>,
}

/// What the charm is run for. Events are hints: nearly all lead to the same look at the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The unit is set up; comes once.
    Install,
    /// The unit may begin to work; comes again after a reboot.
    Start,
    /// The unit ends, or its pod is replaced.
    Stop,
    /// The unit's last hook.
    Remove,
    /// Options, trust or addresses changed.
    ConfigChanged,
    /// The timer ticked.
    UpdateStatus,
    /// The charm was replaced, or its pod came back.
    UpgradeCharm,
    /// This unit became Juju's leader.
    LeaderElected,
    /// A relation was made.
    RelationCreated(RelationContext),
    /// A unit came to a relation.
    RelationJoined(RelationContext),
    /// A databag changed.
    RelationChanged(RelationContext),
    /// A unit left a relation, or this one does.
    RelationDeparted(RelationContext),
    /// A relation ended.
    RelationBroken(RelationContext),
    /// Storage came.
    StorageAttached(StorageEvent),
    /// Storage goes; the first hook of a unit that is removed.
    StorageDetaching(StorageEvent),
    /// A secret that this unit reads has a newer revision.
    SecretChanged(SecretContext),
    /// An own secret should get a new revision.
    SecretRotate(SecretContext),
    /// An own secret's revision has expired.
    SecretExpired(SecretContext),
    /// Nobody reads an own secret's revision any more.
    SecretRemove(SecretContext),
    /// A workload container (re)started.
    PebbleReady(String),
    /// A notice was recorded in a workload container.
    PebbleCustomNotice(String),
    /// A health check of a workload container fails.
    PebbleCheckFailed(String),
    /// A health check of a workload container succeeds again.
    PebbleCheckRecovered(String),
    /// A person runs an action.
    Action(String),
    /// An event that the charm dispatches to itself through `juju-exec`, in `snake_case`.
    Custom(String),
    /// An event that this charm does not know: nothing to do, and no failure.
    Unknown(String),
    /// Commands run by `juju-exec`, without an event.
    JujuExec,
}

/// The ending of a hook's name, and the event that it stands for.
type Kind<T> = (&'static str, fn(T) -> Event);

impl Event {
    /// Reads the event out of a dispatch path such as `hooks/config-changed`.
    ///
    /// Never fails: what is not known, and an event whose context is missing, is
    /// [`Event::Unknown`], since new versions of Juju add hooks. Juju's own hooks never have
    /// underscores and no hyphens; such names are the charm's own, [`Event::Custom`].
    #[must_use]
    pub fn parse(dispatch_path: Option<&str>, env: &Environment) -> Self {
        let Some(path) = dispatch_path.filter(|path| !path.is_empty()) else {
            return Self::JujuExec;
        };
        if let Some(action) = path.strip_prefix("actions/") {
            return if action.is_empty() {
                Self::Unknown(path.to_owned())
            } else {
                Self::Action(action.to_owned())
            };
        }
        let name = path.strip_prefix("hooks/").unwrap_or(path);
        Self::simple(name)
            .or_else(|| Self::of_relation(name, env))
            .or_else(|| Self::of_storage(name, env))
            .or_else(|| Self::of_secret(name, env))
            .or_else(|| Self::of_container(name))
            .or_else(|| is_custom_name(name).then(|| Self::Custom(name.to_owned())))
            .unwrap_or_else(|| Self::Unknown(name.to_owned()))
    }

    fn simple(name: &str) -> Option<Self> {
        Some(match name {
            "install" => Self::Install,
            "start" => Self::Start,
            "stop" => Self::Stop,
            "remove" => Self::Remove,
            "config-changed" => Self::ConfigChanged,
            "update-status" => Self::UpdateStatus,
            "upgrade-charm" => Self::UpgradeCharm,
            "leader-elected" => Self::LeaderElected,
            _ => return None,
        })
    }

    fn of_relation(name: &str, env: &Environment) -> Option<Self> {
        const KINDS: [Kind<RelationContext>; 5] = [
            ("-relation-created", Event::RelationCreated),
            ("-relation-joined", Event::RelationJoined),
            ("-relation-changed", Event::RelationChanged),
            ("-relation-departed", Event::RelationDeparted),
            ("-relation-broken", Event::RelationBroken),
        ];
        let (endpoint, event) = KINDS
            .iter()
            .find_map(|(suffix, event)| Some((name.strip_suffix(suffix)?, event)))?;
        let relation = env
            .relation
            .clone()
            .filter(|relation| relation.endpoint == endpoint)?;
        Some(event(relation))
    }

    fn of_storage(name: &str, env: &Environment) -> Option<Self> {
        const KINDS: [Kind<StorageEvent>; 2] = [
            ("-storage-attached", Event::StorageAttached),
            ("-storage-detaching", Event::StorageDetaching),
        ];
        let (storage, event) = KINDS
            .iter()
            .find_map(|(suffix, event)| Some((name.strip_suffix(suffix)?, event)))?;
        if !is_endpoint_name(storage) {
            return None;
        }
        let context = env.storage.as_ref();
        Some(event(StorageEvent {
            name: storage.to_owned(),
            id: context.map(|context| context.id.clone()),
            location: context.map(|context| context.location.clone()),
        }))
    }

    fn of_secret(name: &str, env: &Environment) -> Option<Self> {
        let event: fn(SecretContext) -> Self = match name {
            "secret-changed" => Self::SecretChanged,
            "secret-rotate" => Self::SecretRotate,
            "secret-expired" => Self::SecretExpired,
            "secret-remove" => Self::SecretRemove,
            _ => return None,
        };
        env.secret.clone().map(event)
    }

    fn of_container(name: &str) -> Option<Self> {
        const KINDS: [Kind<String>; 4] = [
            ("-pebble-ready", Event::PebbleReady),
            ("-pebble-custom-notice", Event::PebbleCustomNotice),
            ("-pebble-check-failed", Event::PebbleCheckFailed),
            ("-pebble-check-recovered", Event::PebbleCheckRecovered),
        ];
        let (container, event) = KINDS
            .iter()
            .find_map(|(suffix, event)| Some((name.strip_suffix(suffix)?, event)))?;
        is_endpoint_name(container).then(|| event(container.to_owned()))
    }
}

/// Says whether `name` has the form of the charm's own events: words joined by underscores.
fn is_custom_name(name: &str) -> bool {
    name.contains('_') && !name.contains('-') && is_endpoint_name(name)
}

/// Writes the event as Juju names the hook; what the hook is about is left out.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install => f.write_str("install"),
            Self::Start => f.write_str("start"),
            Self::Stop => f.write_str("stop"),
            Self::Remove => f.write_str("remove"),
            Self::ConfigChanged => f.write_str("config-changed"),
            Self::UpdateStatus => f.write_str("update-status"),
            Self::UpgradeCharm => f.write_str("upgrade-charm"),
            Self::LeaderElected => f.write_str("leader-elected"),
            Self::RelationCreated(relation) => write!(f, "{}-relation-created", relation.endpoint),
            Self::RelationJoined(relation) => write!(f, "{}-relation-joined", relation.endpoint),
            Self::RelationChanged(relation) => write!(f, "{}-relation-changed", relation.endpoint),
            Self::RelationDeparted(relation) => {
                write!(f, "{}-relation-departed", relation.endpoint)
            }
            Self::RelationBroken(relation) => write!(f, "{}-relation-broken", relation.endpoint),
            Self::StorageAttached(storage) => write!(f, "{}-storage-attached", storage.name),
            Self::StorageDetaching(storage) => write!(f, "{}-storage-detaching", storage.name),
            Self::SecretChanged(_) => f.write_str("secret-changed"),
            Self::SecretRotate(_) => f.write_str("secret-rotate"),
            Self::SecretExpired(_) => f.write_str("secret-expired"),
            Self::SecretRemove(_) => f.write_str("secret-remove"),
            Self::PebbleReady(container) => write!(f, "{container}-pebble-ready"),
            Self::PebbleCustomNotice(container) => write!(f, "{container}-pebble-custom-notice"),
            Self::PebbleCheckFailed(container) => write!(f, "{container}-pebble-check-failed"),
            Self::PebbleCheckRecovered(container) => {
                write!(f, "{container}-pebble-check-recovered")
            }
            Self::Action(name) => write!(f, "action {name}"),
            Self::Custom(name) | Self::Unknown(name) => f.write_str(name),
            Self::JujuExec => f.write_str("juju-exec"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(extra: &str) -> Environment {
        let text = format!("JUJU_UNIT_NAME=valkey/0 JUJU_CHARM_DIR=/charm {extra}");
        Environment::from_vars(text.split_whitespace().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        }))
        .unwrap()
    }

    const RELATION: &str =
        "JUJU_RELATION=valkey-peers JUJU_RELATION_ID=valkey-peers:0 JUJU_REMOTE_UNIT=";
    const STORAGE: &str =
        "JUJU_STORAGE_ID=data/0 JUJU_STORAGE_LOCATION=/srv/0 JUJU_STORAGE_KIND=filesystem";
    const SECRET: &str = "JUJU_SECRET_ID=secret:9m4e JUJU_SECRET_LABEL=admin";

    #[test]
    fn every_hook_of_juju_is_known() {
        for (path, context, variant) in [
            ("hooks/install", "", "Install"),
            ("install", "", "Install"),
            ("hooks/start", "", "Start"),
            ("hooks/stop", "", "Stop"),
            ("hooks/remove", "", "Remove"),
            ("hooks/config-changed", "", "ConfigChanged"),
            ("hooks/update-status", "", "UpdateStatus"),
            ("hooks/upgrade-charm", "", "UpgradeCharm"),
            ("hooks/leader-elected", "", "LeaderElected"),
            (
                "hooks/valkey-peers-relation-created",
                RELATION,
                "RelationCreated",
            ),
            (
                "hooks/valkey-peers-relation-joined",
                RELATION,
                "RelationJoined",
            ),
            (
                "hooks/valkey-peers-relation-changed",
                RELATION,
                "RelationChanged",
            ),
            (
                "hooks/valkey-peers-relation-departed",
                RELATION,
                "RelationDeparted",
            ),
            (
                "hooks/valkey-peers-relation-broken",
                RELATION,
                "RelationBroken",
            ),
            ("hooks/data-storage-attached", STORAGE, "StorageAttached"),
            ("hooks/data-storage-detaching", STORAGE, "StorageDetaching"),
            ("hooks/data-storage-detaching", "", "StorageDetaching"),
            ("hooks/secret-changed", SECRET, "SecretChanged"),
            ("hooks/secret-rotate", SECRET, "SecretRotate"),
            ("hooks/secret-expired", SECRET, "SecretExpired"),
            ("hooks/secret-remove", SECRET, "SecretRemove"),
            ("hooks/valkey-pebble-ready", "", "PebbleReady"),
            (
                "hooks/valkey-pebble-custom-notice",
                "",
                "PebbleCustomNotice",
            ),
            ("hooks/valkey-pebble-check-failed", "", "PebbleCheckFailed"),
            (
                "hooks/valkey-pebble-check-recovered",
                "",
                "PebbleCheckRecovered",
            ),
            ("actions/switchover", "", "Action"),
            ("hooks/topology_changed", "", "Custom"),
            ("hooks/leader-settings-changed", "", "Unknown"),
            ("hooks/collect-metrics", "", "Unknown"),
            ("hooks/valkey-peers-relation-changed", "", "Unknown"),
            ("hooks/other-relation-changed", RELATION, "Unknown"),
            ("hooks/-relation-changed", RELATION, "Unknown"),
            ("hooks/-storage-attached", STORAGE, "Unknown"),
            ("hooks/secret-changed", "", "Unknown"),
            ("hooks/", "", "Unknown"),
            ("actions/", "", "Unknown"),
            ("hooks/_", "", "Unknown"),
            ("", "", "JujuExec"),
        ] {
            let event = Event::parse(Some(path), &environment(context));
            let debug = format!("{event:?}");
            assert_eq!(
                debug.split(['(', ' ']).next(),
                Some(variant),
                "{path} with {context:?}"
            );
            if !matches!(
                event,
                Event::Unknown(_) | Event::JujuExec | Event::Action(_)
            ) {
                assert_eq!(event.to_string(), path.trim_start_matches("hooks/"));
            }
        }
        assert_eq!(Event::parse(None, &environment("")), Event::JujuExec);
    }

    #[test]
    fn a_storage_event_carries_where_the_data_is() {
        let Event::StorageDetaching(storage) =
            Event::parse(Some("hooks/data-storage-detaching"), &environment(STORAGE))
        else {
            panic!("not a storage event");
        };
        assert_eq!(storage.name, "data");
        assert_eq!(storage.id.as_deref(), Some("data/0"));
        assert_eq!(storage.location, Some(PathBuf::from("/srv/0")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(
            path in proptest::option::of(".{0,40}|(hooks/|actions/)?[a-z_-]{0,12}(-relation-changed|-storage-attached|-pebble-ready)?"),
            vars in proptest::collection::vec(
                ("JUJU_(RELATION|RELATION_ID|REMOTE_UNIT|SECRET_ID|SECRET_REVISION|STORAGE_ID|STORAGE_LOCATION|VERSION)", ".{0,12}"),
                0..6,
            ),
        ) {
            let always = [("JUJU_UNIT_NAME", "valkey/0"), ("JUJU_CHARM_DIR", "/charm")];
            let always = always.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let env = Environment::from_vars(vars.into_iter().chain(always))
                .unwrap_or_else(|_| environment(RELATION));
            let event = Event::parse(path.as_deref(), &env);
            proptest::prop_assert!(!event.to_string().is_empty() || path.is_some_and(|path| path.ends_with("hooks/")));
        }
    }
}
