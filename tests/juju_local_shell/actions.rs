//! Actions, commands in the hook context, and the exit statuses of the command line.

use super::local::Local;

#[test]
fn an_actions_results_come_back_in_every_form() {
    let local = Local::deployed("4.0", 1);
    let ended = local.run(&["run", "app/0", "greet", "name=you"]);
    assert_eq!(
        ended.stdout, "about:\n  unit: app/0\ngreeting: hello you\n\nsaid hello\n",
        "{}",
        ended.stderr
    );
    for part in [
        "Running operation ",
        "  - task ",
        " on unit-app-0",
        "greeting you",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let json: serde_json::Value =
        serde_json::from_str(&local.ok(&["run", "app/leader", "greet", "--format", "json"]))
            .unwrap();
    let task = &json["app/0"];
    assert_eq!(
        (&task["status"], &task["unit"]),
        (&"completed".into(), &"app/0".into())
    );
    assert_eq!(task["results"]["greeting"], "hello world");
    assert_eq!(task["results"]["return-code"], 0);
    assert_eq!(task["results"]["stdout"], "said hello\n");
    assert!(
        task["log"][0].as_str().unwrap().ends_with("greeting world"),
        "{task}"
    );
    let id = task["id"].as_str().unwrap();
    assert!(
        local
            .ok(&["show-task", id])
            .contains("greeting: hello world")
    );
    assert!(local.ok(&["operations"]).contains("completed"));
}

#[test]
fn wrong_parameters_are_refused_before_anything_runs() {
    let local = Local::deployed("4.0", 1);
    for (arguments, expected) in [
        (
            &["run", "app/0", "greet", "times=0"][..],
            "validation failed: (root).times",
        ),
        (
            &["run", "app/0", "greet", "name=5"],
            "validation failed: (root).name : must be of type string, given 5",
        ),
        (
            &["run", "app/0", "greet", "nmae=x"],
            "additional property \"nmae\" is not allowed",
        ),
        (
            &["run", "app/0", "break"],
            "\"how\" property is missing and required",
        ),
        (&["run", "app/0", "dance"], "\"dance\" not defined"),
        (&["run", "app/7", "greet"], "app/7"),
        (&["run", "greet"], "no unit specified"),
        (&["run", "app/0"], "no action specified"),
    ] {
        let said = local.refused(arguments);
        assert!(
            said.contains("ERROR ") && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }
    assert!(
        !local
            .events("app/0")
            .iter()
            .any(|event| event.starts_with("actions/"))
    );
    assert!(
        local
            .ok(&["run", "app/0", "greet", "name=5", "--string-args"])
            .contains("hello 5")
    );
}

#[test]
fn failing_by_word_keeps_the_changes_and_failing_by_exit_drops_them() {
    let local = Local::deployed("4.0", 1);
    let read = || {
        local.exec(
            "app/0",
            "relation-get -r $(relation-ids peers) broken-by app/0",
        )
    };
    let ended = local.run(&["run", "app/0", "break", "how=exit"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stdout.contains("failed: exit status 3"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.contains("with return code 3"),
        "{}",
        ended.stderr
    );
    assert_eq!(read(), "");
    let ended = local.run(&["run", "app/0", "break", "how=fail"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(
        ended.stdout.contains("failed: as asked"),
        "{}",
        ended.stdout
    );
    assert_eq!(read(), "fail\n");
    assert_eq!(local.unit("app/0")["workload-status"]["current"], "active");
}

#[test]
fn actions_wait_for_the_running_hook_and_can_be_left_alone() {
    let local = Local::deployed("4.0", 1);
    let gate = local.scratch().join("gate");
    local.on(
        "app/0",
        "config-changed",
        &format!(
            "touch {0}.in; while [ ! -e {0} ]; do sleep 0.05; done",
            gate.display()
        ),
    );
    local.ok(&["config", "app", "count=5"]);
    let inside = local.scratch().join("gate.in");
    local.until("the hook runs", || inside.exists());
    let said = local.refused(&["run", "app/0", "greet", "--wait", "300ms"]);
    assert!(
        said.contains("timed out waiting for results from: unit app/0"),
        "{said}"
    );
    let background = local.run(&["run", "--background", "app/0", "greet"]);
    assert!(
        background.stderr.contains("Check task status with"),
        "{}",
        background.stderr
    );
    assert!(!local.events("app/0").contains(&"actions/greet".to_owned()));
    std::fs::write(gate, "").unwrap();
    local.until("both ran", || {
        local
            .events("app/0")
            .iter()
            .filter(|event| *event == "actions/greet")
            .count()
            == 2
    });
    // The hook had ended before the first action began.
    let trace = local.trace("app/0");
    let end = trace
        .iter()
        .rposition(|line| line == "end config-changed")
        .unwrap();
    assert!(
        end < trace
            .iter()
            .position(|line| line == "actions/greet")
            .unwrap()
    );
}

#[test]
fn commands_commit_whatever_their_exit_status_and_hand_it_on() {
    let local = Local::deployed("4.0", 2);
    let ended = local.run(&[
        "exec",
        "--unit",
        "app/0",
        "--",
        "relation-set -r $(relation-ids peers) n=1; echo out; echo err >&2; exit 4",
    ]);
    assert_eq!(
        (ended.status.code(), ended.stdout.as_str()),
        (Some(1), "out\nerr\n"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("return code 4"), "{}", ended.stderr);
    assert_eq!(
        local.exec("app/1", "relation-get -r $(relation-ids peers) n app/0"),
        "1\n"
    );
    let all = local.ok(&[
        "exec", "-a", "app", "--format", "json", "--", "echo", "a  b",
    ]);
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    for unit in ["app/0", "app/1"] {
        assert_eq!(all[unit]["results"]["stdout"], "a  b\n");
    }
    assert_eq!(
        local.exec("app/0", "env | grep JUJU_DISPATCH_PATH || echo none"),
        "none\n"
    );
}

#[test]
fn a_daemon_on_the_machine_reaches_the_hook_context_through_juju_exec() {
    let local = Local::deployed("4.0", 2);
    let program = local.state().join("tools/unit-app-1/juju-exec");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.args(arguments).env_remove("JUJU_CONTEXT_ID");
        super::local::finish(&mut command)
    };
    let ended = run(&["app/1", "echo $JUJU_UNIT_NAME; pwd >&2; exit 5"]);
    assert_eq!(
        (ended.status.code(), ended.stdout.as_str()),
        (Some(5), "app/1\n"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.trim_end().ends_with("agents/unit-app-1/charm"),
        "{}",
        ended.stderr
    );
    let ended = run(&["-u", "app/1", "echo", "a  b"]);
    assert_eq!(ended.stdout, "a  b\n", "{}", ended.stderr);
    let ended = run(&["-r", "0", "app/1", "echo $JUJU_RELATION $JUJU_REMOTE_UNIT"]);
    assert_eq!(ended.stdout, "peers app/0\n", "{}", ended.stderr);
    // The idiom of a watcher: any event of the charm's own making.
    let ended = run(&["app/1", "JUJU_DISPATCH_PATH=hooks/woken ./dispatch"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(local.events("app/1").last().unwrap(), "woken");
    assert_ne!(run(&["app/9", "true"]).status.code(), Some(0));
}

#[test]
fn a_running_task_can_be_cancelled_and_a_hook_cannot_call_juju_exec() {
    let local = Local::deployed("4.0", 1);
    local.on(
        "app/0",
        "actions/greet",
        "touch $SHELL_CHARM/began; sleep 1000",
    );
    local.ok(&["run", "--background", "app/0", "greet"]);
    let began = local.notes().join("began");
    local.until("the action runs", || began.exists());
    local.ok(&["cancel-task", "2"]);
    local.until("it is aborted", || {
        let task = local.ok(&["show-task", "2", "--format", "json"]);
        serde_json::from_str::<serde_json::Value>(&task).unwrap()["status"] == "aborted"
    });
    assert!(local.refused(&["cancel-task", "99"]).contains("99"));
    let ended = local.run(&["exec", "--unit", "app/0", "--", "juju-exec app/0 true"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .stdout
            .contains("juju-exec cannot be called from within a hook"),
        "{}",
        ended.stdout
    );
}
