//! What the commands print, and how they refuse.

use super::local::{Local, charm};

#[test]
fn an_empty_model_says_so() {
    let local = Local::new("4.0");
    local.ok(&["destroy"]);
    let ended = local.run(&["status"]);
    assert!(ended.status.success());
    assert!(ended.stdout.starts_with("Model "), "{}", ended.stdout);
    assert!(ended.stderr.contains("is empty"), "{}", ended.stderr);
    assert_eq!(local.status()["applications"], serde_json::json!({}));
    for command in [
        &["add-unit", "app"][..],
        &["config", "app"],
        &["debug-log"],
        &["run", "app/0", "go"],
    ] {
        assert!(local.refused(command).contains("no model"), "{command:?}");
    }
}

#[test]
fn status_has_jujus_columns() {
    let local = Local::deployed("4.0", 2);
    local.exec(
        "app/0",
        "open-port 6379; open-port 80-82/tcp; open-port 53/udp",
    );
    let text = local.ok(&["status", "--storage", "--relations"]);
    let headers: Vec<String> = text
        .split("\n\n")
        .map(|section| {
            section
                .lines()
                .next()
                .unwrap()
                .split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    assert_eq!(
        headers,
        [
            "Model|Controller|Cloud/Region|Version|Timestamp",
            "App|Version|Status|Scale|Charm|Channel|Rev|Exposed|Message",
            "Unit|Workload|Agent|Machine|Public address|Ports|Message",
            "Machine|State|Address|Inst id|Base|AZ|Message",
            "Storage Unit|Storage ID|Type|Mountpoint|Status|Message",
            "Integration provider|Requirer|Interface|Type|Message"
        ]
    );
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("app "), "app 1.0 active 2 shell 0 no ready");
    assert!(
        line("app/0*").starts_with("app/0* active idle 0 127."),
        "{text}"
    );
    assert!(
        line("app/0*").ends_with("80-82,6379/tcp 53/udp ready"),
        "{text}"
    );
    assert_eq!(line("app:peers"), "app:peers app:peers shell_peers peer");

    let status = local.status();
    assert_eq!(status["model"]["type"], "iaas");
    let application = &status["applications"]["app"];
    assert_eq!(
        (&application["charm"], &application["charm-name"]),
        (&"local:shell-0".into(), &"shell".into())
    );
    assert_eq!(
        application["base"],
        serde_json::json!({"name": "ubuntu", "channel": "24.04"})
    );
    assert_eq!(
        application["relations"]["peers"][0]["interface"],
        "shell_peers"
    );
    let unit = &application["units"]["app/0"];
    assert_eq!(
        (&unit["juju-status"]["current"], &unit["machine"]),
        (&"idle".into(), &"0".into())
    );
    assert_eq!(status["storage"]["storage"]["data/0"]["kind"], "filesystem");
    let yaml = local.ok(&["status", "--format", "yaml", "app/0"]);
    assert!(
        yaml.contains("app/0:") && !yaml.contains("app/1:"),
        "{yaml}"
    );
    assert_eq!(
        local.ok(&["status", "--format", "oneline"]).lines().count(),
        2
    );
    assert!(
        local
            .ok(&["status", "--color"])
            .contains("\u{1b}[32mactive")
    );
}

#[test]
fn every_unit_has_an_address_of_its_own() {
    let local = Local::deployed("4.0", 2);
    let address = |unit: &str| {
        local.unit(unit)["public-address"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (first, second) = (address("app/0"), address("app/1"));
    assert_ne!(first, second);
    for (unit, address) in [("app/0", &first), ("app/1", &second)] {
        assert!(address.parse::<std::net::Ipv4Addr>().unwrap().is_loopback());
        assert_eq!(
            &local
                .exec(unit, "network-get peers --ingress-address")
                .trim(),
            address
        );
        assert_eq!(
            &local.exec(unit, "unit-get private-address").trim(),
            address
        );
    }
    assert_eq!(
        local
            .exec(
                "app/1",
                "relation-get -r $(relation-ids peers) ingress-address app/0"
            )
            .trim(),
        first
    );
    // Another model has other addresses.
    let other = Local::deployed("4.0", 1);
    assert_ne!(other.unit("app/0")["public-address"], first.as_str());
}

#[test]
fn what_makes_no_sense_is_refused_with_jujus_words() {
    let local = Local::deployed("4.0", 1);
    let shell = charm("shell");
    let shell = shell.to_str().unwrap();
    let before = local.status();
    for (arguments, expected) in [
        (
            &["config", "app", "colour=red"][..],
            "unknown option \"colour\"",
        ),
        (
            &["config", "app", "count=many"],
            "option \"count\" expected int, got \"many\"",
        ),
        (&["config", "app", "token=abc"], "expected secret"),
        (
            &["config", "app", "colour"],
            "key \"colour\" not found in \"app\" application config or charm settings",
        ),
        (&["config", "none", "a=b"], "application \"none\" not found"),
        (&["deploy", shell, "app"], "already exists"),
        (
            &["deploy", shell, "app-1"],
            "invalid application name \"app-1\"",
        ),
        (&["deploy", "/nowhere"], "cannot find charm /nowhere"),
        (
            &["deploy", shell, "b", "--config", "colour=red"],
            "unknown option \"colour\"",
        ),
        (&["deploy", shell, "b", "--storage", "logs=1G"], "logs"),
        (&["add-unit", "none"], "application \"none\" not found"),
        (&["remove-unit", "app/9"], "app/9"),
        (&["remove-application", "none"], "none"),
        (&["integrate", "app:in", "none:out"], "none"),
        (&["integrate", "app:peers", "app:peers"], "peers"),
        (&["show-unit", "app/9"], "app/9"),
        (&["show-task", "999"], "999"),
        (&["show-secret", "none"], "none"),
        (&["grant-secret", "none", "app"], "none"),
        (&["handle", "leader", "app/9"], "app/9"),
        (&["handle", "setting", "colour=red"], "colour"),
        (&["detach-storage", "data/9"], "data/9"),
        (&["exec", "--unit", "app/9", "--", "true"], "app/9"),
    ] {
        let said = local.refused(arguments);
        assert!(
            said.starts_with("ERROR ") && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }
    for usage in [
        &["deploy"][..],
        &["frobnicate"],
        &["status", "--format", "xml"],
        &["handle", "variant", "2.9"],
    ] {
        assert_eq!(local.run(usage).status.code(), Some(2), "{usage:?}");
    }
    let after = local.status();
    assert_eq!(
        before["applications"]["app"]["units"]["app/0"],
        after["applications"]["app"]["units"]["app/0"]
    );
    assert_eq!(after["applications"].as_object().unwrap().len(), 1);
}

#[test]
fn options_and_units_are_shown_whole() {
    let local = Local::new("4.0");
    let file = local.scratch().join("options.yaml");
    std::fs::write(&file, "app:\n  count: 7\n").unwrap();
    let shell = charm("shell");
    let env = format!("SHELL_CHARM={}", local.notes().display());
    local.ok(&[
        "deploy",
        shell.to_str().unwrap(),
        "app",
        "--config",
        file.to_str().unwrap(),
        "--config",
        "message=hi",
        "--env",
        &env,
        "--wait",
    ]);
    let options: serde_json::Value =
        serde_json::from_str(&local.ok(&["config", "app", "--format", "json"])).unwrap();
    assert_eq!(options["application"], "app");
    assert_eq!(
        options["settings"]["count"],
        serde_json::json!({"default": 3, "description": "A number.", "source": "user", "type": "int", "value": 7})
    );
    assert_eq!(options["settings"]["token"]["source"], "unset");
    assert_eq!(
        local.exec("app/0", "config-get --format json"),
        "{\"count\":7,\"message\":\"hi\"}\n"
    );
    local.exec("app/0", "relation-set -r $(relation-ids peers) n=1; relation-set -r $(relation-ids peers) --app plan=2");
    local.settle();
    let shown: serde_json::Value =
        serde_json::from_str(&local.ok(&["show-unit", "app/0", "--format", "json"])).unwrap();
    let unit = &shown["app/0"];
    assert_eq!(unit["leader"], true);
    let relation = &unit["relation-info"][0];
    assert_eq!(
        (&relation["endpoint"], &relation["application-data"]["plan"]),
        (&"peers".into(), &"2".into())
    );
    assert_eq!(relation["local-unit"]["data"]["n"], "1");
    assert!(local.ok(&["actions", "app"]).contains("Greets."));
}

#[test]
fn waiting_shows_progress_and_ends_with_the_time() {
    let local = Local::new("4.0");
    local.on("all", "install", "sleep 1");
    let shell = charm("shell");
    let env = format!("SHELL_CHARM={}", local.notes().display());
    let ended = local.run(&[
        "deploy",
        shell.to_str().unwrap(),
        "app",
        "--env",
        &env,
        "--wait",
    ]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("app/0  maintenance/executing (install)"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("app/0  active/idle ready"),
        "{}",
        ended.stderr
    );
    local.on(
        "all",
        "config-changed",
        "status-set blocked 'needs a person'",
    );
    local.ok(&["config", "app", "count=5"]);
    local.until_workload("app/0", "blocked");
    let said = local.refused(&["wait-for", "app", "--timeout", "1s"]);
    assert!(
        said.contains("ERROR timed out after 1 s: app/0 is blocked: needs a person"),
        "{said}"
    );
}

#[test]
fn the_log_says_what_ran_and_what_was_said() {
    let local = Local::deployed("4.0", 2);
    local.exec("app/1", "juju-log -l WARNING 'careful now'");
    let log = local.ok(&["debug-log"]);
    assert!(log.contains("ran \"install\" hook (via "), "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("careful now"))
        .unwrap();
    assert!(
        line.starts_with("unit-app-1: ")
            && line.contains(" WARNING unit.app/1.juju-log careful now"),
        "{line}"
    );
    assert!(
        !local
            .ok(&["debug-log", "--include", "app/0"])
            .contains("careful now")
    );
    assert!(
        local
            .ok(&[
                "debug-log",
                "--include",
                "app/1",
                "--level",
                "WARNING",
                "--tail",
                "1"
            ])
            .contains("careful now")
    );
}
