//! Secrets of the charm and of the person.

use std::os::unix::fs::PermissionsExt as _;

use super::local::Local;

const PEERS: &str = "-r $(relation-ids peers)";

#[test]
fn a_leaders_secret_reaches_its_peers_and_its_changes_are_announced() {
    let local = Local::deployed("4.0", 2);
    let uri = local.exec("app/0", "secret-add --label token password=one");
    let uri = uri.trim();
    assert!(
        uri.starts_with("secret:") && uri.len() == "secret:".len() + 20,
        "{uri}"
    );
    local.exec("app/0", &format!("relation-set {PEERS} --app token={uri}"));
    local.until_event("app/1", "peers-relation-changed app");
    // Units of the owning application may read without a grant.
    assert_eq!(
        local.exec("app/1", &format!("secret-get {uri} password --label mine")),
        "one\n"
    );
    local.on("app/1", "secret-changed", "echo \"$JUJU_SECRET_ID $JUJU_SECRET_LABEL\" >$SHELL_CHARM/changed; secret-get --label \"$JUJU_SECRET_LABEL\" password --refresh >>$SHELL_CHARM/changed");
    local.exec("app/0", &format!("secret-set {uri} password=two"));
    local.until("the change is announced", || {
        let text = std::fs::read_to_string(local.notes().join("changed")).unwrap_or_default();
        text.lines().nth(1) == Some("two")
    });
    local.settle();
    // The same content again is no new revision.
    local.exec("app/0", &format!("secret-set {uri} password=two"));
    let info: serde_json::Value =
        serde_json::from_str(&local.exec("app/0", &format!("secret-info-get {uri} --format json")))
            .unwrap();
    assert_eq!(info[uri.trim_start_matches("secret:")]["revision"], 2);
    assert_eq!(info[uri.trim_start_matches("secret:")]["label"], "token");
    // A unit that does not lead cannot make one for the application.
    let refused = local.run(&["exec", "--unit", "app/1", "--", "secret-add a-key=b"]);
    assert_eq!(refused.status.code(), Some(1));
    // The person sees it too, but its content only on purpose.
    let shown = local.ok(&["show-secret", "token"]);
    assert!(
        shown.contains("label: token") && !shown.contains("two"),
        "{shown}"
    );
    assert!(
        local
            .ok(&["show-secret", "--reveal", "token"])
            .contains("password: two")
    );
    assert!(!local.ok(&["secrets"]).contains("two"));
}

#[test]
fn a_failed_hook_makes_no_secret() {
    let local = Local::deployed("4.0", 1);
    let ended = local.run(&["exec", "--unit", "app/0", "--", "true"]);
    assert!(ended.status.success());
    local.on(
        "app/0",
        "config-changed",
        "secret-add --label lost a-key=b; exit 1",
    );
    local.ok(&["config", "app", "count=5"]);
    local.until_workload("app/0", "error");
    local.on("app/0", "config-changed", "");
    local.settle();
    assert_eq!(local.exec("app/0", "secret-ids"), "");
}

#[test]
fn a_persons_secret_is_read_only_with_a_grant() {
    let local = Local::deployed("4.0", 1);
    let file = local.scratch().join("password");
    std::fs::write(&file, "hunter2").unwrap();
    let uri = local.ok(&[
        "add-secret",
        "mine",
        &format!("password#file={}", file.display()),
    ]);
    let uri = uri.trim();
    local.ok(&["config", "app", &format!("token={uri}")]);
    let refused = local.run(&[
        "exec",
        "--unit",
        "app/0",
        "--",
        "secret-get $(config-get token) password",
    ]);
    assert!(
        refused.stdout.contains("permission denied"),
        "{}",
        refused.stdout
    );
    local.ok(&["grant-secret", "mine", "app"]);
    assert_eq!(
        local.exec("app/0", "secret-get $(config-get token) password"),
        "hunter2\n"
    );
    local.ok(&["update-secret", "mine", "password=hunter3"]);
    local.until_event("app/0", "secret-changed");
    assert_eq!(
        local.exec("app/0", "secret-get $(config-get token) password --peek"),
        "hunter3\n"
    );
    assert!(
        local
            .ok(&["show-secret", "--reveal", "mine"])
            .contains("hunter3")
    );
    local.ok(&["revoke-secret", "mine", "app"]);
    let refused = local.run(&[
        "exec",
        "--unit",
        "app/0",
        "--",
        "secret-get $(config-get token) password --refresh",
    ]);
    assert!(!refused.status.success(), "{}", refused.stdout);
    // It stands nowhere but where only the owner can read it.
    let found = super::local::finish(
        std::process::Command::new("grep")
            .args(["-rl", "hunter"])
            .arg(local.state()),
    )
    .stdout;
    for path in found.lines() {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}");
        assert!(!path.contains(".log"), "{path}");
    }
}
