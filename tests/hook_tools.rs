//! Hook tools and `juju-exec` against stand-ins: arguments, input, answers and everything that fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

#[path = "support/again.rs"]
mod again;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use valkey_operator::juju::hook_tools::{
    LogLevel, PortRange, Revoke, Rotation, SecretContent, SecretOwner, SecretRead, SecretRef,
    SecretSpec, Status, StatusKind,
};
use valkey_operator::juju::juju_exec::JujuExecError;
use valkey_operator::juju::{HookTools, JujuExec, SecretId, ToolError, UnitName};
use valkey_operator::limits::{HOOK_TOOL_ARGUMENT_BYTES_MAX, HOOK_TOOL_STDERR_BYTES_MAX};

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_ins/hook-tool");

const SECRET: &str = "secret:9m4e2mr0ui3e8a215n4g";

/// A directory of stand-ins for hook tools.
struct Tools {
    directory: tempfile::TempDir,
    tools: HookTools,
}

impl Tools {
    /// Makes stand-ins that do what the shell text beside each name says.
    fn new(tools: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (tool, text) in tools {
            symlink(STAND_IN, directory.path().join(tool)).unwrap();
            fs::write(directory.path().join(format!("{tool}.do")), text).unwrap();
        }
        let tools = HookTools::with_path(directory.path());
        Self { directory, tools }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Returns the calls since the last look, one line each.
    fn calls(&self) -> String {
        let calls = self.read("calls");
        let _ = fs::remove_file(self.path("calls"));
        calls.trim_end().to_owned()
    }
}

fn unit(text: &str) -> UnitName {
    text.parse().unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Makes one call and checks its result and the arguments that the tool saw.
macro_rules! check {
    ($tools:ident . $method:ident ( $($arg:expr),* ) => $expected:pat, $calls:expr) => {
        let found = $tools.tools.$method($($arg),*).await.unwrap();
        assert!(matches!(found, $expected), "{}: {found:?}", stringify!($method));
        assert_eq!($tools.calls(), $calls, "{}", stringify!($method));
    };
}

#[tokio::test]
async fn relations_are_asked_in_jujus_words() {
    let t = Tools::new(&[
        ("relation-ids", r#"echo '["valkey-peers:0"]'"#),
        (
            "relation-list",
            r#"case "$*" in *--app*) echo '"valkey"' ;; *) echo '["valkey/1","valkey/10"]' ;; esac"#,
        ),
        (
            "relation-get",
            r#"case "$*" in *--app*) echo null ;; *) echo '{"state":"started"}' ;; esac"#,
        ),
        ("relation-set", ""),
    ]);
    let peer = unit("valkey/1");
    check!(t.relation_ids("valkey-peers") => _, "relation-ids|--format=json|valkey-peers");
    assert_eq!(
        t.tools.relation_list("p:0").await.unwrap(),
        [peer.clone(), unit("valkey/10")]
    );
    assert_eq!(t.calls(), "relation-list|--format=json|-r|p:0");
    assert_eq!(t.tools.relation_list_app("p:0").await.unwrap(), "valkey");
    assert_eq!(t.calls(), "relation-list|--format=json|-r|p:0|--app");
    assert_eq!(
        t.tools.relation_get("p:0", &peer).await.unwrap(),
        map(&[("state", "started")])
    );
    assert_eq!(t.calls(), "relation-get|--format=json|-r|p:0|-|valkey/1");
    assert_eq!(
        t.tools.relation_get_app("p:0", "valkey").await.unwrap(),
        map(&[])
    );
    assert_eq!(
        t.calls(),
        "relation-get|--format=json|-r|p:0|--app|-|valkey"
    );

    let values = map(&[("a", ""), ("b", "x=\"1\"\n- ü\t:")]);
    check!(t.relation_set("p:0", &values) => (), "relation-set|-r|p:0|--file|-");
    assert_eq!(
        serde_json::from_str::<BTreeMap<String, String>>(&t.read("relation-set.stdin")).unwrap(),
        values
    );
    check!(t.relation_set_app("p:0", &values) => (), "relation-set|-r|p:0|--app|--file|-");
    check!(t.relation_set("p:0", &map(&[])) => (), "");
    assert_eq!(t.tools.calls(), 7);
}

#[tokio::test]
async fn a_unit_and_its_application_are_asked_in_jujus_words() {
    let t = Tools::new(&[
        ("is-leader", "echo true"),
        (
            "config-get",
            r#"echo '{"maxmemory":0,"tls":false,"name":"a"}'"#,
        ),
        ("status-set", ""),
        (
            "status-get",
            r#"case "$*" in *=true*) echo '{"application-status":{"status":"active","message":"m","units":{}}}' ;; *) echo '{"message":"","status":"blocked","status-data":{}}' ;; esac"#,
        ),
        ("juju-log", ""),
        ("application-version-set", ""),
        (
            "network-get",
            r#"echo '{"bind-addresses":[{"mac-address":"00:16","interface-name":"eth0","addresses":[{"hostname":"","value":"10.1.0.5","cidr":"10.1.0.0/24"}]}],"ingress-addresses":["10.1.0.6"]}'"#,
        ),
        ("open-port", ""),
        ("close-port", ""),
        (
            "opened-ports",
            r#"echo '["6379/tcp","icmp","8000-8010/udp"]'"#,
        ),
        ("juju-reboot", ""),
    ]);
    assert!(t.tools.is_leader().await.unwrap());
    assert_eq!(t.calls(), "is-leader|--format=json");
    assert_eq!(t.tools.config_get().await.unwrap()["maxmemory"], 0);
    assert_eq!(t.calls(), "config-get|--format=json");
    let status = Status::new(StatusKind::Waiting, "--for the turn: valkey/1");
    check!(t.status_set(&status) => (), "status-set|--application=false|--|waiting|--for the turn: valkey/1");
    check!(t.status_set_app(&status) => (), "status-set|--application=true|--|waiting|--for the turn: valkey/1");
    assert_eq!(t.tools.status_get().await.unwrap().status, "blocked");
    assert_eq!(
        t.calls(),
        "status-get|--format=json|--include-data|--application=false"
    );
    assert_eq!(t.tools.status_get_app().await.unwrap().message, "m");
    t.calls();
    check!(t.juju_log(LogLevel::Warning, "-x y") => (), "juju-log|--log-level|WARNING|--|-x y");
    check!(t.application_version_set("8.0.1") => (), "application-version-set|--|8.0.1");
    let network = t
        .tools
        .network_get("valkey-peers", Some("p:0"))
        .await
        .unwrap();
    assert_eq!(
        (network.bind_address(), network.ingress_address()),
        (Some("10.1.0.5"), Some("10.1.0.6"))
    );
    assert_eq!(t.calls(), "network-get|--format=json|valkey-peers|-r|p:0");
    check!(t.open_port(PortRange::tcp(6379)) => (), "open-port|6379/tcp");
    check!(t.close_port(PortRange::Icmp) => (), "close-port|icmp");
    let ports: Vec<String> = t
        .tools
        .opened_ports()
        .await
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ports, ["6379/tcp", "icmp", "8000-8010/udp"]);
    t.calls();
    check!(t.juju_reboot(true) => (), "juju-reboot|--now");
    check!(t.juju_reboot(false) => (), "juju-reboot");
}

#[tokio::test]
async fn storage_state_resources_and_actions_are_asked_in_jujus_words() {
    let t = Tools::new(&[
        ("storage-list", r#"echo '["data/0"]'"#),
        (
            "storage-get",
            r#"echo '{"kind":"filesystem","location":"/srv/data/0"}'"#,
        ),
        ("state-get", "echo null"),
        ("state-set", ""),
        ("state-delete", ""),
        ("resource-get", "printf /agents/resources/a/b"),
        (
            "action-get",
            r#"echo '{"target":"valkey/1","force":false}'"#,
        ),
        ("action-set", ""),
        ("action-fail", ""),
        ("action-log", ""),
    ]);
    assert_eq!(
        t.tools.storage_list(Some("data")).await.unwrap(),
        ["data/0"]
    );
    assert_eq!(t.calls(), "storage-list|--format=json|data");
    let storage = t.tools.storage_get("data/0").await.unwrap();
    assert_eq!(storage.location, Path::new("/srv/data/0"));
    assert_eq!(t.calls(), "storage-get|--format=json|-s|data/0");
    assert!(
        t.tools.state_get().await.unwrap().is_empty(),
        "Juju 4.0 prints null for nothing"
    );
    t.calls();
    check!(t.state_set(&map(&[("a", "1")])) => (), "state-set|--file|-");
    assert_eq!(t.read("state-set.stdin"), r#"{"a":"1"}"#);
    check!(t.state_delete("a") => (), "state-delete|--|a");
    assert_eq!(
        t.tools.resource_get("a").await.unwrap(),
        Path::new("/agents/resources/a/b")
    );
    t.calls();
    assert_eq!(t.tools.action_get().await.unwrap()["target"], "valkey/1");
    t.calls();
    check!(t.action_set(&[("topology.primary", "valkey/0"), ("ok", "-")]) => (),
        "action-set|--|topology.primary=valkey/0|ok=-");
    check!(t.action_set(&[]) => (), "");
    check!(t.action_fail("-no") => (), "action-fail|--|-no");
    check!(t.action_log("step 1") => (), "action-log|--|step 1");
}

#[tokio::test]
async fn secrets_go_in_by_a_private_file_and_never_by_argument() {
    let t = Tools::new(&[
        ("secret-add", "echo secret:9m4e2mr0ui3e8a215n4g"),
        ("secret-set", ""),
        ("secret-get", r#"echo '{"operator-password":"hunter2"}'"#),
        (
            "secret-info-get",
            r#"echo '{"9m4e2mr0ui3e8a215n4g":{"revision":2,"label":"admin","owner":"application","rotation":"never","access":[]}}'"#,
        ),
        ("secret-ids", r#"echo '["9m4e2mr0ui3e8a215n4g"]'"#),
        ("secret-grant", ""),
        ("secret-revoke", ""),
        ("secret-remove", ""),
    ]);
    let id: SecretId = SECRET.parse().unwrap();
    let content: SecretContent = [("operator-password", "hunter2 \"ü\"\n")]
        .into_iter()
        .collect();
    let spec = SecretSpec {
        content: Some(&content),
        label: Some("internal"),
        rotate: Some(Rotation::Monthly),
        owner: Some(SecretOwner::Application),
        ..SecretSpec::default()
    };
    assert_eq!(t.tools.secret_add(&spec).await.unwrap(), id);
    let path = t.read("secret-add.path");
    assert_eq!(
        t.calls(),
        format!("secret-add|--label|internal|--rotate|monthly|--owner|application|--file|{path}")
    );
    assert_eq!(t.read("secret-add.mode").trim(), "600");
    assert_eq!(
        serde_json::from_str::<BTreeMap<String, String>>(&t.read("secret-add.file")).unwrap(),
        content.0
    );
    assert!(!Path::new(&path).exists(), "the private file is deleted");
    assert!(
        !format!("{content:?} {spec:?}").contains("hunter2"),
        "no value in debug output"
    );

    let label_only = SecretSpec {
        label: Some("new"),
        ..SecretSpec::default()
    };
    check!(t.secret_set(&id, &label_only) => (), format!("secret-set|{SECRET}|--label|new"));
    let found = t
        .tools
        .secret_get(SecretRef::Named(&id, "internal"), SecretRead::Refresh)
        .await
        .unwrap();
    assert_eq!(found.get("operator-password"), Some("hunter2"));
    assert_eq!(
        t.calls(),
        format!("secret-get|--format=json|--refresh|{SECRET}|--label|internal")
    );
    check!(t.secret_get(SecretRef::Id(&id), SecretRead::Peek) => _, format!("secret-get|--format=json|--peek|{SECRET}"));
    check!(t.secret_get(SecretRef::Label("a"), SecretRead::Tracked) => _, "secret-get|--format=json|--label|a");
    let info = t.tools.secret_info_get(SecretRef::Id(&id)).await.unwrap();
    assert_eq!(
        (info.id.as_ref(), info.revision, info.label.as_str()),
        (Some(&id), 2, "admin")
    );
    assert_eq!(
        t.tools.secret_ids().await.unwrap(),
        std::slice::from_ref(&id)
    );
    t.calls();
    let peer = unit("app/3");
    check!(t.secret_grant(&id, "db:1", None) => (), format!("secret-grant|{SECRET}|-r|db:1"));
    check!(t.secret_grant(&id, "db:1", Some(&peer)) => (), format!("secret-grant|{SECRET}|-r|db:1|--unit|app/3"));
    check!(t.secret_revoke(&id, Revoke::Relation("db:1")) => (), format!("secret-revoke|{SECRET}|-r|db:1"));
    check!(t.secret_revoke(&id, Revoke::Unit(&peer)) => (), format!("secret-revoke|{SECRET}|--unit|app/3"));
    check!(t.secret_remove(&id, Some(2)) => (), format!("secret-remove|{SECRET}|--revision|2"));
    check!(t.secret_remove(&id, None) => (), format!("secret-remove|{SECRET}"));
}

#[tokio::test]
async fn a_secret_of_the_wrong_shape_is_not_repeated_in_the_error() {
    for answer in [
        r#"echo '{"a":["hunter2"]}'"#,
        "echo hunter2",
        r#"echo '"hunter2"'"#,
        "printf '{\"a\":\"hunter2'",
    ] {
        let t = Tools::new(&[("secret-get", answer), ("secret-add", answer)]);
        let error = t
            .tools
            .secret_get(SecretRef::Label("a"), SecretRead::Tracked)
            .await
            .unwrap_err();
        let text = format!("{error:?} {error}");
        assert!(
            text.contains("secret-get") && !text.contains("hunter2"),
            "{answer}: {text}"
        );
        let content: SecretContent = [("password", "x")].into_iter().collect();
        let spec = SecretSpec {
            content: Some(&content),
            ..SecretSpec::default()
        };
        if let Err(error) = t.tools.secret_add(&spec).await {
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error}");
        }
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    // (what the tool says, exit status, not found, permission denied, leadership lost)
    for (said, code, expected) in [
        ("ERROR permission denied", 1, (false, true, false)),
        ("ERROR secret \"9m4e\" not found", 1, (true, false, false)),
        (
            "ERROR invalid value \"p:9\" for flag -r: relation not found",
            2,
            (true, false, false),
        ),
        (
            "ERROR cannot write relation settings",
            1,
            (false, false, true),
        ),
        ("ERROR this unit is not the leader", 1, (false, false, true)),
        (
            "ERROR finding application status: this unit is not the leader",
            1,
            (false, false, true),
        ),
        ("ERROR something else", 1, (false, false, false)),
        ("", 1, (false, false, false)),
    ] {
        let t = Tools::new(&[("is-leader", &format!("echo '{said}' >&2; exit {code}"))]);
        let error = t.tools.is_leader().await.unwrap_err();
        assert_eq!(
            (
                error.not_found(),
                error.permission_denied(),
                error.leadership_lost()
            ),
            expected,
            "{said}"
        );
        let ToolError::Failed { status, stderr, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(status.code(), Some(code));
        assert_eq!(stderr, said.trim_start_matches("ERROR "));
    }
}

#[tokio::test]
async fn a_goal_state_that_loses_a_unit_meanwhile_is_asked_again_once() {
    let answer = r#"if [ "$(grep -c . "$here/calls")" -lt 2 ]; then echo 'ERROR unit "valkey/3" not found' >&2; exit 1; fi
        echo '{"units":{"valkey/0":{"status":"active","since":"2026-08-01 10:00:00Z"},"valkey/2":{"status":"dying","since":""}},"relations":{}}'"#;
    let t = Tools::new(&[("goal-state", answer)]);
    let goal = t.tools.goal_state().await.unwrap();
    assert_eq!(goal.staying().collect::<Vec<_>>(), [&unit("valkey/0")]);
    assert_eq!(goal.leaving().collect::<Vec<_>>(), [&unit("valkey/2")]);
    let t = Tools::new(&[("goal-state", "echo 'ERROR not found' >&2; exit 1")]);
    assert!(t.tools.goal_state().await.unwrap_err().not_found());
    assert_eq!(t.tools.calls(), 2);
}

#[tokio::test]
async fn wrong_answers_are_errors_and_never_panics() {
    for answer in [
        "",
        "echo",
        "echo '{'",
        "echo '[]'",
        "echo '\"x\"'",
        "echo 17",
        "echo null",
        "printf '\\377\\376'",
    ] {
        let t = Tools::new(&[
            ("is-leader", answer),
            ("relation-list", answer),
            ("network-get", answer),
        ]);
        assert!(
            matches!(t.tools.is_leader().await, Err(ToolError::Shape { .. })),
            "{answer}"
        );
        if answer != "echo '[]'" {
            assert!(
                matches!(
                    t.tools.relation_list("p:0").await,
                    Err(ToolError::Shape { .. })
                ),
                "{answer}"
            );
        }
    }
    let t = Tools::new(&[
        ("relation-list", r#"echo '["valkey/1","Bad Name/x"]'"#),
        ("resource-get", "printf '\\377'"),
    ]);
    assert!(matches!(
        t.tools.relation_list("p:0").await,
        Err(ToolError::Shape { .. })
    ));
    assert!(matches!(
        t.tools.resource_get("a").await,
        Err(ToolError::NotText { .. })
    ));
}

#[tokio::test]
async fn a_tool_that_hangs_is_killed_at_the_deadline() {
    let t = Tools::new(&[("is-leader", "echo $$ > \"$here/pid\"; exec sleep 60")]);
    let tools = t.tools.clone().with_timeout(Duration::from_millis(500));
    let started = Instant::now();
    assert!(matches!(
        tools.is_leader().await,
        Err(ToolError::Timeout {
            tool: "is-leader",
            ..
        })
    ));
    assert!(started.elapsed() < Duration::from_secs(10));
    let proc = format!("/proc/{}/stat", t.read("pid").trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    // Gone, or ended and not collected yet.
    while fs::read_to_string(&proc).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < deadline, "the tool still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_has_no_end_is_bounded() {
    let t = Tools::new(&[
        ("is-leader", "head -c 40000000 /dev/zero"),
        (
            "config-get",
            "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1",
        ),
    ]);
    assert!(matches!(
        t.tools.is_leader().await,
        Err(ToolError::TooMuch { .. })
    ));
    let Err(ToolError::Failed { stderr, .. }) = t.tools.config_get().await else {
        panic!("no failure")
    };
    assert!(
        stderr.len() <= HOOK_TOOL_STDERR_BYTES_MAX + 8,
        "{}",
        stderr.len()
    );
    let long = "x".repeat(HOOK_TOOL_ARGUMENT_BYTES_MAX + 1);
    assert!(matches!(
        t.tools.action_set(&[("key", &long)]).await,
        Err(ToolError::ArgumentTooLong { .. })
    ));
    assert!(matches!(
        t.tools.action_set(&[("key", "a\0b")]).await,
        Err(ToolError::ArgumentNul { .. })
    ));
    assert_eq!(t.tools.calls(), 2, "a call that cannot work is not made");
}

#[tokio::test]
async fn a_tool_that_does_not_read_its_input_says_itself_why() {
    let t = Tools::new(&[("relation-set", "")]);
    fs::write(
        t.path("relation-set.before"),
        "echo 'ERROR relation not found' >&2; exit 1",
    )
    .unwrap();
    let error = t
        .tools
        .relation_set("p:0", &map(&[("key", &"x".repeat(4_000_000))]))
        .await
        .unwrap_err();
    assert!(error.not_found(), "{error}");
}

#[tokio::test]
async fn a_missing_tool_and_one_that_is_no_program_are_named() {
    let t = Tools::new(&[]);
    fs::write(t.path("config-get"), "no program").unwrap();
    for error in [
        t.tools.is_leader().await.unwrap_err(),
        t.tools.config_get().await.unwrap_err(),
    ] {
        assert!(matches!(error, ToolError::Start { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with("cannot start hook tool"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn tools_run_at_the_same_time_and_are_counted() {
    // Each waits until all are there, so one after another would never end.
    let meet = "touch \"$here/here.$$\"; while [ $(ls \"$here\" | grep -c '^here\\.') -lt 8 ]; do sleep 0.02; done; echo '{}'";
    let t = Tools::new(&[("relation-get", meet)]);
    let tools = t.tools.clone().with_timeout(Duration::from_secs(20));
    let peers: Vec<UnitName> = (0..8)
        .map(|number| UnitName::new("valkey", number).unwrap())
        .collect();
    let asked = peers.iter().map(|peer| tools.relation_get("p:0", peer));
    for answer in futures::future::join_all(asked).await {
        assert!(answer.unwrap().is_empty());
    }
    assert_eq!(tools.calls(), 8);
}

#[tokio::test]
async fn juju_exec_runs_outside_of_the_hook_that_it_was_started_from() {
    // The variable can only be set for a whole process, so this test runs itself again with it.
    if std::env::var_os("JUJU_CONTEXT_ID").is_none() {
        again::again(
            "juju_exec_runs_outside_of_the_hook_that_it_was_started_from",
            &[],
            &[("JUJU_CONTEXT_ID", OsStr::new("valkey/0-x"))],
        );
        return;
    }
    let t = Tools::new(&[(
        "juju-exec",
        "echo \"context ${JUJU_CONTEXT_ID-none}\"; echo careful >&2; exit 3",
    )]);
    let exec = JujuExec::new().with_program(t.path("juju-exec"));
    let output = exec
        .run(
            &unit("valkey/0"),
            "JUJU_DISPATCH_PATH=hooks/topology_changed ./dispatch",
        )
        .await
        .unwrap();
    assert_eq!(
        t.calls(),
        "juju-exec|valkey/0|JUJU_DISPATCH_PATH=hooks/topology_changed ./dispatch"
    );
    assert_eq!(
        (
            output.status.code(),
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (Some(3), "context none", "careful")
    );
}

#[tokio::test]
async fn juju_exec_that_hangs_or_is_missing_is_an_error() {
    let t = Tools::new(&[("juju-exec", "exec sleep 60")]);
    let exec = JujuExec::new()
        .with_program(t.path("juju-exec"))
        .with_timeout(Duration::from_millis(300));
    assert!(matches!(
        exec.run(&unit("valkey/0"), "true").await,
        Err(JujuExecError::Timeout { .. })
    ));
    let exec = exec.with_program(t.path("nothing"));
    assert!(matches!(
        exec.run(&unit("valkey/0"), "true").await,
        Err(JujuExecError::Start { .. })
    ));
}
