//! What Juju tells a hook: the environment, the event in it, names.

use proptest::prelude::*;
use proptest::sample::select;
use valkey_operator::juju::databag::changes;
use valkey_operator::juju::environment::JujuVersion;
use valkey_operator::juju::{Environment, Event, SecretId, UnitName};

use super::mutate::{assert_clear, config, hostile_text};

/// Variables of a hook, each as Juju sets it in some hook.
const VARIABLES: &[(&str, &str)] = &[
    ("JUJU_UNIT_NAME", "valkey/12"),
    ("JUJU_MODEL_NAME", "production"),
    ("JUJU_MODEL_UUID", "6f3e1c3a-4b1d-4b7e-8a52-1d7f8a0b9c11"),
    (
        "JUJU_CHARM_DIR",
        "/var/lib/juju/agents/unit-valkey-12/charm",
    ),
    ("JUJU_VERSION", "3.6.28"),
    ("JUJU_DISPATCH_PATH", "hooks/valkey-peers-relation-departed"),
    ("JUJU_RELATION", "valkey-peers"),
    ("JUJU_RELATION_ID", "valkey-peers:3"),
    ("JUJU_REMOTE_UNIT", "valkey/2"),
    ("JUJU_REMOTE_APP", "valkey"),
    ("JUJU_DEPARTING_UNIT", "valkey/2"),
    ("JUJU_STORAGE_ID", "data/4"),
    ("JUJU_STORAGE_LOCATION", "/var/lib/juju/storage/data/0"),
    ("JUJU_STORAGE_KIND", "filesystem"),
    ("JUJU_ACTION_NAME", "switchover"),
    ("JUJU_ACTION_UUID", "17"),
    ("JUJU_SECRET_ID", "secret:9m4e2mr0ui3e8a215n4g"),
    ("JUJU_SECRET_LABEL", "internal"),
    ("JUJU_SECRET_REVISION", "3"),
    ("JUJU_WORKLOAD_NAME", "valkey"),
    ("JUJU_CONTEXT_ID", "valkey/12-run-commands-1"),
];

const PATHS: &[&str] = &[
    "hooks/install",
    "hooks/config-changed",
    "hooks/valkey-peers-relation-changed",
    "hooks/data-storage-detaching",
    "hooks/secret-changed",
    "hooks/topology_changed",
    "hooks/valkey-pebble-ready",
    "actions/switchover",
    "",
];

/// Some variables as they are, some spoilt, some missing.
fn environment() -> impl Strategy<Value = Vec<(String, String)>> {
    let one = |(name, value): &(&'static str, &'static str)| {
        let (name, value) = (*name, *value);
        prop_oneof![
            6 => Just(Some(value.to_owned())),
            1 => Just(None),
            1 => hostile_text(&[value]).prop_map(Some),
        ]
        .prop_map(move |value| Some((name.to_owned(), value?)))
    };
    let each: Vec<_> = VARIABLES.iter().map(one).collect();
    each.prop_map(|pairs| pairs.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_environment_is_read_or_refused(vars in environment(), called in hostile_text(PATHS)) {
        match Environment::from_vars(vars) {
            Ok(environment) => {
                let environment = environment.called_as(&called);
                let _ = environment.event().to_string();
                prop_assert_eq!(environment.unit.to_string().parse::<UnitName>().unwrap(), environment.unit.clone());
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                assert_clear(&format!("{error:#}"));
            }
        }
    }

    #[test]
    fn any_dispatch_path_is_an_event(vars in environment(), path in hostile_text(PATHS)) {
        let sound = VARIABLES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::from_vars(vars)
            .or_else(|_| Environment::from_vars(sound))
            .unwrap();
        let event = Event::parse(Some(&path), &environment);
        // Nothing that a path can say becomes an event of something that the environment does not know.
        if let Event::RelationChanged(relation) | Event::RelationDeparted(relation) = &event {
            prop_assert_eq!(Some(relation), environment.relation.as_ref());
        }
        if let Event::StorageDetaching(storage) = &event {
            prop_assert_eq!(storage.id.as_ref(), environment.storage.as_ref().map(|known| &known.id));
        }
    }

    #[test]
    fn any_name_is_read_or_refused(text in hostile_text(&["valkey/0", "valkey-k8s/4294967295", "a1-2b/7"])) {
        match text.parse::<UnitName>() {
            Ok(name) => prop_assert_eq!(name.to_string(), text),
            Err(error) => assert_clear(&error.to_string()),
        }
    }

    #[test]
    fn any_secret_id_is_read_or_refused(
        text in hostile_text(&["secret:9m4e2mr0ui3e8a215n4g", "secret://0a-1b/9m4e2mr0", "9m4e2mr0ui3e8a215n4g"]),
    ) {
        match text.parse::<SecretId>() {
            // It becomes an argument of a program: never a flag.
            Ok(id) => {
                prop_assert!(id.as_str().starts_with("secret:"));
                prop_assert_eq!(id.as_str().parse::<SecretId>().unwrap(), id.clone());
            }
            Err(error) => assert_clear(&error.to_string()),
        }
    }

    #[test]
    fn any_juju_version_is_read_or_refused(text in hostile_text(&["3.6.28", "4.0-beta2", "4.0.1.3", "3.6-rc1.1"])) {
        match text.parse::<JujuVersion>() {
            Ok(version) => prop_assert_eq!(version.to_string().parse::<JujuVersion>().unwrap(), version),
            Err(reason) => prop_assert!(!reason.is_empty()),
        }
    }

    #[test]
    fn what_changes_makes_one_databag_the_other(
        current in proptest::collection::btree_map("[a-c]", "[a-b]{0,1}", 0..4),
        wanted in proptest::collection::btree_map("[a-c]", "[a-b]{0,1}", 0..4),
        foreign in select(vec!["a", "b", "z"]),
    ) {
        let changed = changes(&current, &wanted, |key| key != foreign);
        let mut after = current.clone();
        after.extend(changed);
        after.retain(|_, value| !value.is_empty());
        let mut expected = wanted.clone();
        if let Some(value) = current.get(foreign).filter(|_| !wanted.contains_key(foreign)) {
            expected.insert(foreign.to_owned(), value.clone());
        }
        expected.retain(|_, value| !value.is_empty());
        prop_assert_eq!(after, expected);
    }
}
