//! The units as they are written, and what systemd itself says of them.

use std::fs;
use std::process::Command;

use super::unit_file::{Readiness, UnitFile, of_process};
use super::*;

const SERVER: &str = r#"# Written by the charm of unit valkey/0, and written again when it differs.
[Unit]
Description=Valkey server of unit valkey/0
Wants=network-online.target
After=network-online.target
RequiresMountsFor="/var/lib/charmed-valkey"
After=valkey-0-sentinel.service
StartLimitIntervalSec=0

[Service]
Type=notify
User=charmed-valkey-0
Group=charmed-valkey-0
WorkingDirectory=/var/lib/charmed-valkey/data
ExecStartPre=+"/agents/unit-valkey-0/charm/bin/valkey-operator" "gate" "--file" "/agents/unit-valkey-0/valkey/gate.json"
ExecStart="/usr/bin/valkey-server" "/var/lib/charmed-valkey/conf/valkey.conf" "--supervised" "systemd"
ExecStop=-+"/agents/unit-valkey-0/charm/bin/valkey-operator" "farewell" "--file" "/agents/unit-valkey-0/valkey/gate.json"
KillMode=mixed
TimeoutStartSec=infinity
TimeoutStopSec=330
Restart=on-failure
OOMScoreAdjust=-900
RestartSec=1
UMask=0077
SyslogIdentifier=valkey-0-server
LimitNOFILE=1048576
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ReadWritePaths="/var/lib/charmed-valkey/data"
ReadWritePaths="/var/lib/charmed-valkey/conf"
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
ProtectProc=invisible

[Install]
WantedBy=multi-user.target
"#;

/// Writes the unit of a service as it is with these paths.
fn unit(service: Service, storage: &str, agent: &str) -> String {
    let names = Names::of("valkey/0");
    let layout = Layout::new(storage, format!("{agent}/valkey"));
    let operator = format!("{agent}/charm/bin/valkey-operator");
    let known = layout.gate_file();
    let own = |mode: &str| Launch::new(&operator, [mode, "--file", &known.to_string_lossy()]);
    let (gate, farewell) = (own("gate"), own("farewell"));
    let launch = match service {
        Service::Server => Launch::new("/usr/bin/valkey-server", [layout.server_config()]),
        Service::Sentinel => Launch::new(
            "/usr/bin/valkey-server",
            [layout.sentinel_config(), "--sentinel".into()],
        ),
        Service::Watch => {
            let mut watch = Launch::new(&operator, ["watch", "--file", "/x y/100%/$HOME"]);
            let path = ("PATH".to_owned(), "/usr/bin:/opt/\"odd\"".to_owned());
            watch.environment.push(path);
            watch
        }
    };
    UnitFile {
        names: &names,
        layout: &layout,
        service,
        launch: &launch,
        gate: (service == Service::Server).then_some(&gate),
        farewell: (service == Service::Server).then_some(&farewell),
        readiness: match service {
            Service::Server => Readiness::Notify,
            Service::Sentinel | Service::Watch => Readiness::Exec,
        },
    }
    .render()
}

fn usual(service: Service) -> String {
    unit(service, "/var/lib/charmed-valkey", "/agents/unit-valkey-0")
}

#[test]
fn the_server_passes_its_gate_and_is_never_killed_while_it_saves() {
    assert_eq!(usual(Service::Server), SERVER);
}

#[test]
fn each_service_may_write_only_what_is_its_own() {
    let writable = |service| {
        let text = usual(service);
        let paths: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("ReadWritePaths="))
            .map(|path| path.trim_matches('"').to_owned())
            .collect();
        (paths.join(" "), text)
    };
    let (paths, sentinel) = writable(Service::Sentinel);
    assert_eq!(paths, "/var/lib/charmed-valkey/sentinel");
    assert!(sentinel.contains("\nUser=charmed-valkey-0\n"));
    assert!(!sentinel.contains("ExecStartPre") && !sentinel.contains("ExecStop"));
    let (paths, watch) = writable(Service::Watch);
    assert_eq!(
        paths,
        "/agents/unit-valkey-0/valkey /var/lib/charmed-valkey"
    );
    // It wakes the charm through the agent's socket, which is root's.
    assert!(!watch.contains("\nUser="));
    assert!(watch.contains("\nRestart=always\nWatchdogSec=60\nNotifyAccess=all\n"));
}

#[test]
fn nothing_in_a_path_is_more_than_text() {
    let watch = usual(Service::Watch);
    assert!(
        watch.contains(r#" "watch" "--file" "/x y/100%%/$$HOME""#),
        "{watch}"
    );
    assert!(
        watch.contains(r#"Environment="PATH=/usr/bin:/opt/\"odd\"""#),
        "{watch}"
    );
}

#[test]
fn files_below_tmp_and_home_stay_in_sight() {
    for (storage, agent, tmp, home) in [
        ("/srv", "/srv", true, true),
        ("/tmp/storage", "/srv", false, true),
        ("/home/juju/storage", "/srv", true, false),
    ] {
        let text = unit(Service::Server, storage, agent);
        let has = |line: &str| text.lines().any(|found| found == line);
        assert_eq!(
            (has("PrivateTmp=yes"), has("ProtectHome=yes")),
            (tmp, home),
            "{storage} {agent}"
        );
    }
}

/// Runs `systemd-analyze`, which the distributions bring with systemd.
fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .env("SYSTEMD_PAGER", "")
        .output()
        .expect("cannot run systemd-analyze; run scripts/setup");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn systemd_understands_every_line_and_finds_the_services_well_protected() {
    let place = tempfile::tempdir().unwrap();
    let operator = place.path().join("charm/bin/valkey-operator");
    fs::create_dir_all(operator.parent().unwrap()).unwrap();
    fs::copy("/bin/true", &operator).unwrap();
    let names = Names::of("valkey/0");
    for service in Service::ALL {
        let text = unit(
            service,
            "/var/lib/charmed-valkey",
            &place.path().to_string_lossy(),
        );
        fs::write(place.path().join(names.service(service)), text).unwrap();
    }
    for (service, exposure_max) in [
        (Service::Server, "20"),
        (Service::Sentinel, "20"),
        // Root, but without any of root's capabilities.
        (Service::Watch, "30"),
    ] {
        let path = place.path().join(names.service(service));
        let path = path.to_str().unwrap();
        let (good, said) = analyze(&["verify", "--man=no", "--recursive-errors=no", path]);
        assert!(good && said.trim().is_empty(), "{service}: {said}");
        let threshold = format!("--threshold={exposure_max}");
        let (good, said) = analyze(&["security", "--offline=yes", &threshold, path]);
        assert!(good, "{service}: {said}");
    }
}

#[test]
fn what_a_process_is_started_with_is_told_from_what_counts_at_once_and_alike_on_all_machines() {
    let names = Names::of("valkey/0");
    let layout = Layout::new("/var/lib/charmed-valkey", "/agents/unit-valkey-0/valkey");
    let of = |text: &str| of_process(text, &names, &layout);
    let usual = usual(Service::Server);
    let process = of(&usual);
    for (from, to, counts) in [
        ("TimeoutStopSec=330", "TimeoutStopSec=7", false),
        ("\"gate\"", "\"gate\" \"--anew\"", false),
        ("Restart=on-failure", "Restart=always", false),
        ("# Written", "# Once written", false),
        ("LimitNOFILE=1048576", "LimitNOFILE=1024", true),
        ("PrivateDevices=yes", "PrivateDevices=no", true),
        ("/usr/bin/valkey-server", "/opt/x/valkey-server", true),
        ("OOMScoreAdjust=-900", "OOMScoreAdjust=0", true),
    ] {
        assert!(usual.contains(from), "{from}");
        assert_eq!(of(&usual.replace(from, to)) != process, counts, "{to}");
    }
    // Another unit of the same application, on another machine.
    let other = usual
        .replace("valkey-0", "valkey-12")
        .replace("/charmed-valkey/", "/elsewhere/");
    let other = other.replace("/charmed-valkey\"", "/elsewhere\"");
    let place = Layout::new("/var/lib/elsewhere", "/agents/unit-valkey-12/valkey");
    assert_eq!(of_process(&other, &Names::of("valkey/12"), &place), process);
}
