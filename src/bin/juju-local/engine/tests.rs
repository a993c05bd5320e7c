//! Databags, hook tools and commits against a model in memory, without any process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::commit;
use super::context::Context;
use super::deploy::deploy;
use super::model::{Databag, Map, Model, Variant};
use super::paths::Paths;
use super::resolver::{Hook, Kind, RelationFacts};
use super::state::Engine;
use super::tools;
use crate::api::{Deploy, HookToolCall, ToolEnd};

/// An engine without agents, with three units `app/0` to `app/2` in their peer relation 0; `app/0` leads.
struct Bench {
    engine: Arc<Engine>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(variant: Variant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let charm = folder.path().join("charm");
        std::fs::create_dir(&charm).unwrap();
        for (name, text) in [
            (
                "metadata.yaml",
                "name: app\nsummary: s\ndescription: d\npeers:\n  peers: {interface: p}\n\
                 storage:\n  data: {type: filesystem}\n  more: {type: filesystem, multiple: {range: 0-2}}\n",
            ),
            (
                "config.yaml",
                "options:\n  n: {type: int, default: 3}\n  t: {type: string}\n",
            ),
        ] {
            std::fs::write(charm.join(name), text).unwrap();
        }
        let root = folder.path().join("state");
        std::fs::create_dir(&root).unwrap();
        let mut model = Model::new("m", "u", [9, 9]);
        model.variant = variant;
        let engine = Arc::new(Engine::new(
            Paths::new(&root),
            PathBuf::from("/bin/true"),
            model,
        ));
        let wanted = Deploy {
            path: charm,
            name: None,
            units: 3,
            config: Map::new(),
            env: Map::new(),
            storage: Map::new(),
            resources: BTreeMap::new(),
            trust: false,
            attach_storage: Vec::new(),
        };
        deploy(&engine, &wanted).unwrap();
        let bench = Self {
            engine,
            _folder: folder,
        };
        {
            let mut state = bench.engine.lock();
            for unit in ["app/0", "app/1", "app/2"] {
                state.enter_scope(unit, 0);
                for other in ["app/0", "app/1", "app/2"]
                    .into_iter()
                    .filter(|other| *other != unit)
                {
                    let local = &mut state.model.units.get_mut(unit).unwrap().local;
                    local
                        .relations
                        .get_mut(&0)
                        .unwrap()
                        .members
                        .insert(other.to_owned(), 1);
                }
            }
        }
        bench.lead("app/0");
        bench
    }

    fn lead(&self, unit: &str) {
        let handle = crate::api::Handle::Leader(unit.to_owned());
        super::handles::handle(&self.engine, handle).unwrap();
    }

    /// Begins a run of a unit; its name is its id.
    fn begin(&self, id: &str, unit: &str) {
        let hook = Hook::plain(Kind::ConfigChanged);
        self.begin_hook(id, unit, &hook);
    }

    fn begin_hook(&self, id: &str, unit: &str, hook: &Hook) {
        let context = Context::of_hook(id.to_owned(), unit, hook);
        self.engine.lock().contexts.insert(id.to_owned(), context);
    }

    /// Ends a run well.
    fn commit(&self, id: &str) -> Result<(), String> {
        let mut state = self.engine.lock();
        let context = state.contexts.remove(id).unwrap();
        commit::apply(&mut state.model, &context, &self.engine.paths)
    }

    fn end(&self, id: &str, line: &str, stdin: Option<&str>) -> ToolEnd {
        let mut words = shlex::split(line).unwrap();
        let call = HookToolCall {
            context: id.to_owned(),
            tool: words.remove(0),
            arguments: words,
            directory: PathBuf::from("/"),
            stdin: stdin.map(ToOwned::to_owned),
        };
        tools::answer(&self.engine, &mut self.engine.lock(), call, None)
    }

    /// Calls a tool; returns what it prints, or its exit status and error.
    fn call(&self, id: &str, line: &str) -> String {
        let end = self.end(id, line, None);
        match end.code {
            0 => end.stdout,
            code => format!("{code} {}", end.stderr.trim_end()),
        }
    }
}

#[test]
fn versions_count_changes_in_one_and_name_the_content_in_the_other() {
    let mut bag = Databag::default();
    let version = |bag: &Databag| (bag.version(Variant::V36), bag.version(Variant::V40));
    assert_eq!(version(&bag), (0, 0));
    bag.apply(&Map::from([("a".to_owned(), "1".to_owned())]));
    let (first, content) = version(&bag);
    bag.apply(&Map::from([("a".to_owned(), "1".to_owned())]));
    assert_eq!(
        version(&bag),
        (first, content),
        "writing what is there changes nothing"
    );
    bag.apply(&Map::from([("a".to_owned(), "2".to_owned())]));
    assert_ne!(version(&bag).1, content);
    bag.apply(&Map::from([("a".to_owned(), "1".to_owned())]));
    assert_eq!(
        version(&bag),
        (first + 2, content),
        "4.0 does not see a change and its undoing"
    );
    bag.apply(&Map::from([("a".to_owned(), String::new())]));
    assert!(bag.values.is_empty(), "an empty value removes the key");
}

#[test]
fn writes_are_seen_by_the_writer_at_once_and_by_others_after_the_commit() {
    for variant in [Variant::V36, Variant::V40] {
        let bench = Bench::new(variant);
        bench.begin("w", "app/0");
        bench.begin("r", "app/1");
        assert_eq!(bench.call("w", "relation-set -r peers:0 k=v"), "");
        assert_eq!(bench.call("w", "relation-set -r 0 --app shared=1"), "");
        assert_eq!(bench.call("w", "relation-get -r 0 k app/0"), "v\n");
        assert_eq!(
            bench.call("w", "relation-get -r 0 --app --format=json - app/0"),
            "{\"shared\":\"1\"}\n"
        );
        assert_eq!(
            bench.call("r", "relation-get -r 0 --format=json k app/0"),
            "null\n"
        );
        assert_eq!(
            bench.call("r", "relation-get -r 0 --app --format=json - app"),
            "{}\n"
        );
        bench.commit("w").unwrap();
        // What a run has read once it goes on reading; the next run reads a member's old data too, until its own
        // relation-changed, while application data are read anew.
        assert_eq!(
            bench.call("r", "relation-get -r 0 --format=json k app/0"),
            "null\n"
        );
        assert_eq!(
            bench.call("r", "relation-get -r 0 --app --format=json - app"),
            "{}\n"
        );
        bench.commit("r").unwrap();
        bench.begin("r", "app/1");
        assert_eq!(
            bench.call("r", "relation-get -r 0 --format=json k app/0"),
            "null\n"
        );
        assert_eq!(
            bench.call("r", "relation-get -r 0 --app --format=json - app"),
            "{\"shared\":\"1\"}\n"
        );
        bench.begin("other", "app/2");
        assert_eq!(bench.call("other", "relation-get -r 0 k app/0"), "v\n");
    }
}

#[test]
fn application_data_need_the_lease_at_the_call_and_at_the_commit() {
    let bench = Bench::new(Variant::V36);
    bench.begin("a", "app/1");
    assert_eq!(
        bench.call("a", "relation-set -r 0 --app k=v"),
        "1 ERROR cannot write relation settings"
    );
    assert_eq!(bench.call("a", "is-leader"), "False\n");
    bench.begin("b", "app/0");
    assert_eq!(bench.call("b", "is-leader --format=json"), "true\n");
    assert_eq!(bench.call("b", "relation-set -r 0 --app k=v"), "");
    assert_eq!(bench.call("b", "relation-set -r 0 own=1"), "");
    bench.lead("app/1");
    assert_eq!(bench.call("b", "is-leader"), "False\n");
    assert!(bench.commit("b").unwrap_err().contains("not leader"));
    let state = bench.engine.lock();
    assert!(state.model.relations[&0].applications.is_empty());
    let own = &state.model.relations[&0].units["app/0"].values;
    assert!(
        !own.contains_key("own"),
        "nothing of a refused commit is applied"
    );
}

#[test]
fn members_are_those_that_the_unit_has_been_told_of() {
    let bench = Bench::new(Variant::V36);
    let hook = |kind, unit: &str| Hook {
        relation: Some(RelationFacts {
            id: 0,
            endpoint: "peers".to_owned(),
            application: "app".to_owned(),
            unit: Some(unit.to_owned()),
            departing: None,
            version: 1,
        }),
        ..Hook::plain(kind)
    };
    bench.begin_hook("joined", "app/0", &hook(Kind::RelationJoined, "app/7"));
    assert_eq!(
        bench.call("joined", "relation-list"),
        "app/1\napp/2\napp/7\n"
    );
    bench.begin_hook("departed", "app/0", &hook(Kind::RelationDeparted, "app/1"));
    assert_eq!(
        bench.call("departed", "relation-list --format=json"),
        "[\"app/2\"]\n"
    );
    assert_eq!(
        bench.call("departed", "relation-get ingress-address"),
        "127.9.9.11\n"
    );
    assert_eq!(bench.call("departed", "relation-list --app"), "app\n");
}

// One long table reads better than several.
#[allow(clippy::too_many_lines)]
#[test]
fn tools_word_their_errors_as_juju_does() {
    let bench = Bench::new(Variant::V36);
    bench.begin("c", "app/0");
    for (line, expected) in [
        ("relation-list", "2 ERROR no relation id specified"),
        (
            "relation-list -r x",
            "2 ERROR invalid value \"x\" for flag -r: invalid relation id",
        ),
        (
            "relation-list -r 9",
            "2 ERROR invalid value \"9\" for flag -r: relation not found",
        ),
        (
            "relation-get -r 0",
            "2 ERROR no unit or application specified",
        ),
        (
            "relation-get -r 0 - app",
            "1 ERROR expected unit name, got application name \"app\"",
        ),
        ("relation-get -r 0 - other/0", "1 ERROR permission denied"),
        ("relation-ids", "2 ERROR no endpoint name specified"),
        ("relation-ids nothing", ""),
        ("relation-ids peers", "peers:0\n"),
        (
            "relation-set -r 0 k",
            "2 ERROR expected \"key=value\", got \"k\"",
        ),
        (
            "relation-set -r 0 k=1 k=2",
            "2 ERROR key \"k\" specified more than once",
        ),
        ("config-get", "n: 3\n"),
        ("config-get --all --format=json", "{\"n\":3,\"t\":null}\n"),
        ("config-get n", "3\n"),
        ("config-get t --format=json", "null\n"),
        (
            "config-get --format=toml",
            "2 ERROR unknown format \"toml\"",
        ),
        (
            "config-get --nothing",
            "2 ERROR flag provided but not defined: --nothing",
        ),
        (
            "status-set ready",
            "2 ERROR invalid status \"ready\", expected one of [maintenance blocked waiting active]",
        ),
        (
            "status-set",
            "2 ERROR invalid args, require <status> [message]",
        ),
        ("status-set active fine", ""),
        ("status-get", "active\n"),
        (
            "status-get --include-data --format=json --application=false",
            "{\"message\":\"fine\",\"status\":\"active\",\"status-data\":{}}\n",
        ),
        ("action-get", "1 ERROR not running an action"),
        ("action-fail", "1 ERROR not running an action"),
        ("unit-get private-address", "127.9.9.10\n"),
        ("unit-get home", "2 ERROR unknown setting \"home\""),
        ("network-get", "2 ERROR no arguments specified"),
        (
            "network-get nothing",
            "1 ERROR binding name \"nothing\" not defined by the unit's charm",
        ),
        ("network-get peers --ingress-address", "127.9.9.10\n"),
        (
            "network-get peers --egress-subnets --format=json",
            "[\"127.9.9.10/32\"]\n",
        ),
        ("open-port", "2 ERROR no port or range specified"),
        ("open-port 6379", ""),
        ("open-port 80-82/udp", ""),
        (
            "opened-ports --format=json",
            "[\"6379/tcp\",\"80-82/udp\"]\n",
        ),
        ("storage-list", "data/0\n"),
        ("storage-get kind", "2 ERROR no storage instance specified"),
        ("storage-get -s data/0 kind", "filesystem\n"),
        (
            "storage-get -s data",
            "2 ERROR invalid value \"data\" for flag -s: invalid storage ID \"data\"",
        ),
        (
            "storage-get -s data/0 size",
            "2 ERROR invalid storage attribute \"size\"",
        ),
        (
            "storage-add",
            "2 ERROR storage add requires a storage directive",
        ),
        ("state-get --format=json", "{}\n"),
        ("state-set a=1", ""),
        ("state-get a", "1\n"),
        ("state-get --strict b", "1 ERROR \"b\" not found"),
        ("state-get b --format=json", "\"\"\n"),
        ("resource-get", "2 ERROR missing required resource name"),
        ("secret-get", "2 ERROR require either a secret URI or label"),
        (
            "secret-get x --peek --refresh",
            "2 ERROR specify one of --peek or --refresh but not both",
        ),
        ("secret-add", "2 ERROR missing secret value or filename"),
        ("secret-add ab=1", "2 ERROR key \"ab\" not valid"),
        ("juju-log", "2 ERROR no message specified"),
        (
            "credential-get",
            "1 ERROR cannot access cloud credentials: permission denied",
        ),
    ] {
        assert_eq!(bench.call("c", line), expected, "{line}");
    }
    assert_eq!(
        bench.call("zz", "is-leader"),
        "1 ERROR bad request: wrong context ID; got \"zz\""
    );
    let bench = Bench::new(Variant::V40);
    bench.begin("c", "app/0");
    assert_eq!(bench.call("c", "state-get --format=json"), "null\n");
    let data = bench.call("c", "relation-get -r 0 --format=json - app/1");
    assert!(!data.contains("private-address"), "{data}");
}

#[test]
fn settings_come_from_standard_input_only_when_asked_for() {
    let bench = Bench::new(Variant::V36);
    bench.begin("c", "app/0");
    assert!(
        bench
            .end("c", "relation-set -r 0 --file -", None)
            .wants_stdin
    );
    let end = bench.end(
        "c",
        "relation-set -r 0 --file - b=arg",
        Some("{\"a\": \"x\\ny\", \"b\": \"file\"}"),
    );
    assert_eq!((end.code, end.stderr.as_str()), (0, ""));
    assert_eq!(bench.call("c", "relation-get -r 0 a app/0"), "x\ny\n");
    assert_eq!(bench.call("c", "relation-get -r 0 b app/0"), "arg\n");
}

#[test]
fn secrets_are_followed_from_the_first_read_and_moved_on_by_refresh() {
    let bench = Bench::new(Variant::V36);
    bench.begin("w", "app/0");
    let uri = bench
        .call("w", "secret-add --label admin pass=one")
        .trim()
        .to_owned();
    assert_eq!(
        bench.call("w", &format!("secret-get {uri} pass --peek")),
        "one\n"
    );
    bench.begin("r", "app/1");
    assert!(
        bench
            .call("r", &format!("secret-get {uri}"))
            .starts_with("1 ERROR secret")
    );
    bench.commit("w").unwrap();
    assert_eq!(
        bench.call("r", &format!("secret-get {uri} pass --label mine")),
        "one\n"
    );
    assert!(
        bench
            .call("r", &format!("secret-set {uri} pass=no"))
            .starts_with("1 ERROR permission denied")
    );
    bench.commit("r").unwrap();

    bench.begin("w", "app/0");
    assert_eq!(bench.call("w", &format!("secret-set {uri} pass=two")), "");
    bench.commit("w").unwrap();
    {
        let state = bench.engine.lock();
        let due = |unit: &str| -> Vec<String> {
            let hooks = super::secrets::due(&state.model, &state.model.units[unit]);
            hooks
                .iter()
                .map(|hook| hook.kind.name().to_owned())
                .collect()
        };
        assert_eq!(due("app/1"), ["secret-changed"]);
        assert!(due("app/2").is_empty(), "it has never read the secret");
        assert!(due("app/0").is_empty(), "the owner knows");
    }
    bench.begin("r", "app/1");
    assert_eq!(bench.call("r", "secret-get --label mine pass"), "one\n");
    assert_eq!(
        bench.call("r", "secret-get --label mine pass --peek"),
        "two\n"
    );
    assert_eq!(bench.call("r", "secret-get --label mine pass"), "one\n");
    assert_eq!(
        bench.call("r", "secret-get --label admin pass --refresh"),
        "two\n"
    );
    assert_eq!(bench.call("r", "secret-get --label mine pass"), "two\n");
    bench.commit("r").unwrap();
    let state = bench.engine.lock();
    assert!(super::secrets::due(&state.model, &state.model.units["app/1"]).is_empty());
}

#[test]
fn secret_contents_are_private_and_go_with_their_secret() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new(Variant::V36);
    bench.begin("w", "app/0");
    let uri = bench
        .call("w", "secret-add --owner unit pass=hush")
        .trim()
        .to_owned();
    bench.commit("w").unwrap();
    let id = uri.strip_prefix("secret:").unwrap().to_owned();
    let file = bench.engine.paths.secret(&id, 1);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let saved = serde_json::to_string(&bench.engine.lock().model).unwrap();
    assert!(!saved.contains("hush"), "the saved model holds no content");
    super::removal::sweep(&bench.engine, &mut bench.engine.lock());
    bench.begin("w", "app/0");
    assert_eq!(bench.call("w", &format!("secret-remove {uri}")), "");
    bench.commit("w").unwrap();
    super::removal::sweep(&bench.engine, &mut bench.engine.lock());
    assert!(!file.exists());
}

#[test]
fn a_hook_may_add_storage_within_the_charms_range() {
    let bench = Bench::new(Variant::V36);
    bench.begin("a", "app/0");
    assert_eq!(bench.call("a", "storage-add more=2"), "");
    bench.commit("a").unwrap();
    bench.begin("a", "app/0");
    assert_eq!(bench.call("a", "storage-list more"), "more/3\nmore/4\n");
    assert_eq!(bench.call("a", "storage-add more"), "");
    assert!(
        bench
            .commit("a")
            .unwrap_err()
            .contains("at most 2 instances")
    );
}

#[test]
fn goal_state_tells_who_leaves() {
    let bench = Bench::new(Variant::V36);
    super::removal::destroy_unit(&mut bench.engine.lock().model, "app/2", None, false);
    bench.begin("a", "app/0");
    let goal = bench.call("a", "goal-state --format=json");
    let goal: serde_json::Value = serde_json::from_str(&goal).unwrap();
    assert_eq!(goal["units"]["app/2"]["status"], "dying");
    assert_eq!(goal["units"]["app/0"]["status"], "waiting");
    assert!(goal["relations"].as_object().unwrap().is_empty());
}

#[test]
fn survivors_lose_a_leaver_at_once_in_3_6_and_late_in_4_0() {
    for (variant, expected) in [(Variant::V36, 1), (Variant::V40, 2), (Variant::V40Bug, 2)] {
        let bench = Bench::new(variant);
        let mut state = bench.engine.lock();
        super::removal::destroy_unit(&mut state.model, "app/2", None, false);
        let relation = &state.model.relations[&0];
        let members = state
            .model
            .remote_members(relation, &state.model.units["app/0"]);
        assert_eq!(members.len(), expected, "{variant:?}");
    }
}

#[test]
fn a_saved_model_is_loaded_as_it_was() {
    let bench = Bench::new(Variant::V40);
    bench.begin("w", "app/0");
    bench.call("w", "relation-set -r 0 k=v");
    bench.call("w", "state-set s=1");
    bench.commit("w").unwrap();
    let state = bench.engine.lock();
    bench.engine.paths.save(&state.model).unwrap();
    let loaded = bench.engine.paths.load().unwrap().unwrap();
    let text = |model: &Model| serde_json::to_value(model).unwrap();
    assert_eq!(text(&loaded), text(&state.model));
}

/// The engine serves any charm; the workload of this repository's charm is unknown to it.
#[test]
fn the_sources_know_no_workload() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/bin/juju-local");
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
            for word in [
                concat!("val", "key"),
                concat!("sent", "inel"),
                concat!("red", "is"),
            ] {
                assert!(!text.contains(word), "{} says {word:?}", path.display());
            }
        }
    }
}
