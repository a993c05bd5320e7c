//! Deploying, growing, configuration, leadership, storage and charms that change.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use super::local::{Local, charm, tag};

#[test]
fn a_unit_starts_in_jujus_order() {
    let local = Local::deployed("4.0", 1);
    assert_eq!(
        local.events("app/0"),
        [
            "data-storage-attached data/0",
            "install",
            "peers-relation-created app",
            "leader-elected",
            "config-changed",
            "start"
        ]
    );
    local.ok(&["add-unit", "app", "--wait"]);
    let events = local.events("app/1");
    assert_eq!(
        events[..5],
        [
            "data-storage-attached data/1",
            "install",
            "peers-relation-created app",
            "config-changed",
            "start"
        ]
    );
    assert_eq!(
        events[5..],
        [
            "peers-relation-joined app/0",
            "peers-relation-changed app/0"
        ]
    );
    local.until_event("app/0", "peers-relation-changed app/1");
    assert_eq!(
        local.events("app/0")[6..],
        [
            "peers-relation-joined app/1",
            "peers-relation-changed app/1"
        ]
    );
}

#[test]
fn hooks_get_jujus_environment_and_nothing_else() {
    for (variant, own) in [("4.0", "JUJU_CHARM_TRACE_CONFIG_HTTP"), ("3.6", "JUJU_SLA")] {
        let local = Local::new(variant);
        let dump = local.scratch().join("environment");
        local.on(
            "all",
            "install",
            &format!(
                "env >{0}; pwd -P >{0}.cwd; readlink /proc/self/fd/0 >{0}.stdin",
                dump.display()
            ),
        );
        local.deploy("app", 1);
        local.settle();
        let text = fs::read_to_string(&dump).unwrap();
        let names: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .collect();
        for name in [
            "CHARM_DIR",
            "JUJU_CHARM_DIR",
            "JUJU_CONTEXT_ID",
            "JUJU_HOOK_NAME",
            "JUJU_AGENT_SOCKET_ADDRESS",
            "JUJU_AGENT_SOCKET_NETWORK",
            "JUJU_UNIT_NAME",
            "JUJU_MODEL_UUID",
            "JUJU_MODEL_NAME",
            "JUJU_API_ADDRESSES",
            "JUJU_MACHINE_ID",
            "JUJU_PRINCIPAL_UNIT",
            "JUJU_AVAILABILITY_ZONE",
            "JUJU_VERSION",
            "CLOUD_API_VERSION",
            "JUJU_CHARM_HTTP_PROXY",
            "JUJU_CHARM_HTTPS_PROXY",
            "JUJU_CHARM_FTP_PROXY",
            "JUJU_CHARM_NO_PROXY",
            "APT_LISTCHANGES_FRONTEND",
            "DEBIAN_FRONTEND",
            "LANG",
            "TERM",
            "PATH",
            "JUJU_DISPATCH_PATH",
            own,
            "SHELL_CHARM",
        ] {
            assert!(
                names.contains(name),
                "{variant}: {name} is missing in\n{text}"
            );
        }
        for name in [
            "HOME",
            "USER",
            "SHELL",
            "CARGO",
            "JUJU_RELATION",
            "JUJU_STORAGE_ID",
            "JUJU_ACTION_NAME",
            "JUJU_LOCAL_STATE",
        ] {
            assert!(
                !names.contains(name),
                "{variant}: {name} is there in\n{text}"
            );
        }
        let line = |start: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(start))
                .unwrap()
                .to_owned()
        };
        assert!(line("JUJU_CONTEXT_ID=").starts_with("app/0-install-"));
        assert_eq!(
            (line("JUJU_DISPATCH_PATH="), line("JUJU_HOOK_NAME=")),
            ("hooks/install".into(), "install".into())
        );
        let directory = fs::read_to_string(local.scratch().join("environment.cwd")).unwrap();
        let expected = fs::canonicalize(local.state())
            .unwrap()
            .join("agents")
            .join(tag("app/0"))
            .join("charm");
        assert_eq!(directory.trim_end(), expected.to_str().unwrap());
        assert_eq!(
            fs::read_to_string(local.scratch().join("environment.stdin"))
                .unwrap()
                .trim_end(),
            "/dev/null"
        );
    }
}

#[test]
fn configuration_changes_run_a_hook_only_when_something_changed() {
    let local = Local::deployed("4.0", 1);
    let before = local.events("app/0").len();
    local.ok(&["config", "app", "message=hello"]);
    local.until("the message is shown", || {
        local.unit("app/0")["workload-status"]["message"] == "hello"
    });
    local.ok(&["config", "app", "message=hello"]);
    // A hook that would come now would come before this command.
    local.exec("app/0", "true");
    local.settle();
    assert_eq!(local.since("app/0", before), ["config-changed"]);
    assert_eq!(local.ok(&["config", "app", "message"]), "hello\n");
    local.ok(&["config", "app", "--reset", "message"]);
    local.until("the default is back", || {
        local.unit("app/0")["workload-status"]["message"] == "ready"
    });

    // Several changes while a hook runs are one hook.
    let gate = local.scratch().join("gate");
    local.on(
        "app/0",
        "config-changed",
        &format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display()),
    );
    let before = local.events("app/0").len();
    local.ok(&["config", "app", "count=10"]);
    local.until("the hook runs", || {
        local.events("app/0").len() == before + 1
    });
    for count in 11..15 {
        local.ok(&["config", "app", &format!("count={count}")]);
    }
    fs::write(&gate, "").unwrap();
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        ["config-changed", "config-changed"]
    );
}

#[test]
fn units_run_their_hooks_at_the_same_time() {
    let local = Local::new("4.0");
    // Each unit waits for the other inside of `install`: one after the other would never end.
    let meet = local.scratch().join("meet");
    fs::create_dir(&meet).unwrap();
    let script = format!(
        "touch {0}/$tag; i=0; while [ $(ls {0} | wc -l) -lt 2 ]; do i=$((i+1)); [ $i -lt 600 ]; sleep 0.05; done",
        meet.display()
    );
    local.on("all", "install", &script);
    local.deploy("app", 2);
    local.settle();
}

#[test]
fn leadership_is_a_lease_that_moves_when_its_holder_vanishes() {
    let local = Local::deployed("4.0", 2);
    assert_eq!(
        (
            local.exec("app/0", "is-leader"),
            local.exec("app/1", "is-leader")
        ),
        ("True\n".into(), "False\n".into())
    );
    assert_eq!(local.unit("app/0")["leader"], true);
    let begin = Instant::now();
    local.ok(&["handle", "kill", "app/0"]);
    local.until_event("app/1", "leader-elected");
    // Two seconds before its end the lease was renewed for the last time at the latest.
    assert!(
        begin.elapsed() > Duration::from_millis(1500),
        "elected after {:?}, before the lease could end",
        begin.elapsed()
    );
    assert_eq!(local.exec("app/1", "is-leader --format json"), "true\n");
    local.ok(&["handle", "reboot", "app/0"]);
    local.until("app/0 has started again", || {
        local
            .events("app/0")
            .iter()
            .filter(|event| *event == "start")
            .count()
            == 2
    });
    local.settle();
    assert_eq!(local.exec("app/0", "is-leader"), "False\n");
}

#[test]
fn a_lost_leadership_fails_the_commit_of_application_data() {
    let local = Local::deployed("4.0", 2);
    let gate = local.scratch().join("gate");
    let script = format!(
        "if [ \"$(is-leader)\" = True ]; then relation-set -r $(relation-ids peers) --app by=$JUJU_UNIT_NAME; touch {0}.in; \
         while [ ! -e {0} ]; do sleep 0.05; done; fi",
        gate.display()
    );
    local.on("app/0", "config-changed", &script);
    local.ok(&["config", "app", "count=5"]);
    local.until("the hook has written", || {
        local.scratch().join("gate.in").exists()
    });
    local.ok(&["handle", "leader", "app/1"]);
    fs::write(&gate, "").unwrap();
    // It fails, runs again, sees that it is no leader, and goes on.
    local.until("the hook ran again", || {
        local
            .events("app/0")
            .iter()
            .filter(|event| *event == "config-changed")
            .count()
            >= 3
    });
    local.settle();
    assert_eq!(
        local.exec("app/1", "relation-get -r $(relation-ids peers) --app - app"),
        "{}\n"
    );
}

#[test]
fn storage_comes_first_and_survives_what_it_should() {
    let local = Local::new("4.0");
    local.on(
        "all",
        "data-storage-attached",
        "echo kept >>$JUJU_STORAGE_LOCATION/file",
    );
    local.deploy("app", 1);
    local.settle();
    assert_eq!(local.exec("app/0", "storage-list"), "data/0\n");
    let location = local.exec("app/0", "storage-get -s data/0 location");
    assert_eq!(
        fs::read_to_string(format!("{}/file", location.trim_end())).unwrap(),
        "kept\n"
    );

    // Detached from a living unit, it can go to another.
    let before = local.events("app/0").len();
    local.on(
        "all",
        "data-storage-detaching",
        "goal-state >$SHELL_CHARM/goal-$tag",
    );
    local.ok(&["detach-storage", "data/0"]);
    local.until_event("app/0", "data-storage-detaching data/0");
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        ["data-storage-detaching data/0"]
    );
    let goal = fs::read_to_string(local.notes().join("goal-unit-app-0")).unwrap();
    assert!(goal.contains("app/0") && !goal.contains("dying"), "{goal}");
    local.ok(&["add-unit", "app", "--attach-storage", "data/0", "--wait"]);
    assert_eq!(local.events("app/1")[0], "data-storage-attached data/0");
    assert_eq!(
        fs::read_to_string(format!("{}/file", location.trim_end())).unwrap(),
        "kept\nkept\n"
    );

    // A removed unit leaves its storage behind, unless told otherwise.
    let said = local.ok(&["remove-unit", "app/1", "--wait"]);
    assert_eq!(
        said,
        "will remove unit app/1\n- will detach storage data/0\n"
    );
    assert!(local.ok(&["storage"]).contains("data/0"));
    local.ok(&["remove-storage", "data/0"]);
    local.until("the storage is gone", || {
        !local.run(&["storage"]).stdout.contains("data/0")
    });
    assert!(!std::path::Path::new(location.trim_end()).exists());
}

#[test]
fn an_archive_runs_as_a_directory_does_and_is_upgraded() {
    let local = Local::new("4.0");
    let archive = local.scratch().join("shell.charm");
    pack(&charm("shell"), &archive, &[("only-in-old", "x")]);
    let env = format!("SHELL_CHARM={}", local.notes().display());
    local.ok(&[
        "deploy",
        archive.to_str().unwrap(),
        "app",
        "--env",
        &env,
        "--wait",
    ]);
    let place = local
        .state()
        .join("agents")
        .join(tag("app/0"))
        .join("charm");
    assert!(place.join("only-in-old").exists());
    fs::write(place.join("made-by-charm"), "x").unwrap();

    let before = local.events("app/0").len();
    pack(&charm("shell"), &archive, &[("only-in-new", "x")]);
    local.ok(&["refresh", "app", "--path", archive.to_str().unwrap()]);
    local.until("the upgrade is done", || {
        local.since("app/0", before).len() >= 2
    });
    local.settle();
    assert_eq!(
        local.since("app/0", before),
        ["upgrade-charm", "config-changed"]
    );
    for (name, there) in [
        ("only-in-new", true),
        ("only-in-old", false),
        ("made-by-charm", true),
        ("dispatch", true),
    ] {
        assert_eq!(place.join(name).exists(), there, "{name}");
    }
    assert_eq!(local.status()["applications"]["app"]["charm-rev"], 1);
}

#[test]
fn charms_without_dispatch_use_hooks_and_missing_ones_succeed() {
    let local = Local::new("4.0");
    let place = local.scratch().join("plain");
    fs::create_dir_all(place.join("hooks")).unwrap();
    fs::write(
        place.join("metadata.yaml"),
        "name: plain\nsummary: s\ndescription: d\n",
    )
    .unwrap();
    fs::write(place.join("actions.yaml"), "go: {}\n").unwrap();
    // Juju makes known hooks executable by itself.
    fs::write(
        place.join("hooks/start"),
        "#!/bin/sh\nstatus-set active started\n",
    )
    .unwrap();
    local.ok(&["deploy", place.to_str().unwrap(), "--wait"]);
    assert_eq!(
        local.unit("plain/0")["workload-status"]["message"],
        "started"
    );
    let ended = local.run(&["run", "plain/0", "go"]);
    assert!(
        ended
            .stdout
            .contains("failed: action not implemented on unit \"plain/0\""),
        "{}",
        ended.stdout
    );

    // A dispatch that cannot be executed is a failure, not a missing hook.
    fs::write(place.join("dispatch"), "#!/bin/sh\n").unwrap();
    local.ok(&["deploy", place.to_str().unwrap(), "other"]);
    local.until_workload("other/0", "error");
}

#[test]
fn update_status_comes_when_nothing_else_is_to_do() {
    let local = Local::deployed("4.0", 1);
    let before = local.events("app/0").len();
    local.ok(&["handle", "setting", "update-status-seconds=0.5"]);
    local.until("it came three times", || {
        local.since("app/0", before).len() >= 3
    });
    local.ok(&["handle", "setting", "update-status-seconds=0"]);
    assert!(
        local
            .since("app/0", before)
            .iter()
            .all(|event| event == "update-status")
    );
}

/// Packs a directory and further files into an archive.
fn pack(source: &std::path::Path, archive: &std::path::Path, more: &[(&str, &str)]) {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut zip = zip::ZipWriter::new(fs::File::create(archive).unwrap());
    for entry in fs::read_dir(source).unwrap().flatten() {
        let permissions = entry.metadata().unwrap().permissions();
        let options =
            zip::write::SimpleFileOptions::default().unix_permissions(permissions.mode() & 0o777);
        zip.start_file(entry.file_name().to_str().unwrap(), options)
            .unwrap();
        zip.write_all(&fs::read(entry.path()).unwrap()).unwrap();
    }
    for (name, text) in more {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}
