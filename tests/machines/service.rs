//! What machines are, before there is any Valkey: a charm of a few lines installs a service, and the
//! machine goes through what machines go through.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, thread, time::Duration};

use crate::{
    machines::Machines,
    support::model::{APPLICATION, Model},
};

const UNIT: &str = "valkey/0";
/// Longest wait for the agent: it begins anew after each reboot.
const AGENT: Duration = Duration::from_secs(60);

/// Installs a service that counts how often it was started, and notes each hook.
const DISPATCH: &str = r#"#!/bin/sh
set -e
hook=${JUJU_DISPATCH_PATH#hooks/}
mkdir -p /var/lib/counter
echo "$hook" >>/var/lib/counter/hooks
# A file of this machine alone, which the agent reads.
echo "latest: $hook" >/tmp/state
state-set --file /tmp/state
[ "$(state-get latest)" = "$hook" ]
case $hook in
    install)
        cat >/etc/systemd/system/counter.service <<'END'
[Service]
ExecStart=/bin/sh -c 'echo started >>/var/lib/counter/starts; exec sleep infinity'
ExecStopPost=/bin/sh -c 'echo stopped >>/var/lib/counter/starts'
[Install]
WantedBy=multi-user.target
END
        systemctl enable --now counter.service
        ;;
    remove)
        systemctl disable --now counter.service
        rm /etc/systemd/system/counter.service
        ;;
esac
status-set active "$(unit-get private-address)"
"#;

/// Writes the charm down; returns its folder.
fn charm(place: &Path) -> std::path::PathBuf {
    let folder = place.join("charm");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("metadata.yaml"),
        format!("name: {APPLICATION}\nsummary: counts\ndescription: counts\n"),
    )
    .unwrap();
    fs::write(folder.join("dispatch"), DISPATCH).unwrap();
    fs::set_permissions(folder.join("dispatch"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn says(model: &Model, message: &str) {
    model.wait_until(&format!("the unit says {message}"), AGENT, || {
        let units = model.units();
        match &units[..] {
            [unit] if unit.message == message && unit.agent == "idle" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_machine_boots_runs_hooks_reboots_moves_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let machines = Machines::new();
    let starts = |command: &str| machines.on(UNIT, command);
    let model = machines.model(charm(place.path()));
    model.deploy(1, &[]);
    says(&model, "10.78.0.10");
    assert_eq!(starts("cat /var/lib/counter/starts"), "started\n");
    assert_eq!(machines.on(UNIT, "cat /proc/1/comm"), "systemd\n");
    assert_eq!(
        machines.on(UNIT, "systemctl is-system-running"),
        "running\n"
    );
    // No hook comes twice on a machine that only waits.
    let hooks = machines.on(UNIT, "cat /var/lib/counter/hooks");
    assert_eq!(hooks, "install\nleader-elected\nconfig-changed\nstart\n");

    // Systemd shuts down and comes back at another address; its service runs before any agent.
    machines.shut_down_next(UNIT);
    machines.readdress(UNIT, 77);
    let hold = machines.hold_agent(UNIT);
    thread::scope(|scope| {
        let reboot = scope.spawn(|| model.handle(&["reboot", UNIT]));
        let seen = machines.until(
            UNIT,
            "grep -c started /var/lib/counter/starts | grep -x 2 && cat /var/lib/counter/starts",
        );
        assert_eq!(seen, "2\nstarted\nstopped\nstarted\n");
        assert_eq!(machines.on(UNIT, "cat /var/lib/counter/hooks"), hooks);
        assert!(
            machines
                .on(UNIT, "ip -br address show eth0")
                .contains("10.78.0.77/24")
        );
        drop(hold);
        reboot.join().unwrap();
    });
    says(&model, "10.78.0.77");
    let after = machines.on(UNIT, "cat /var/lib/counter/hooks");
    assert_eq!(after.strip_prefix(&hooks), Some("start\nconfig-changed\n"));

    // A power cut lets nothing stop in order.
    model.handle(&["reboot", UNIT]);
    says(&model, "10.78.0.77");
    assert_eq!(
        starts("cat /var/lib/counter/starts"),
        "started\nstopped\nstarted\nstarted\n"
    );

    model.remove_units(&[UNIT]);
    let left = machines.left_by(UNIT, &["etc/systemd", "var/lib/counter"]);
    assert_eq!(
        left.iter().filter(|path| path.contains("systemd")).count(),
        0,
        "{left:?}"
    );
    assert!(
        left.contains(&"var/lib/counter/hooks".to_owned()),
        "{left:?}"
    );
    drop(model);
    let prefix = machines.name().to_owned();
    drop(machines);
    for (program, arguments) in [("mount", &[][..]), ("ip", &["netns"])] {
        let output = Command::new(program).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(&prefix), "{program}: {text}");
    }
}
