//! A machine driver that only writes down what it is asked, and marks what it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::local::Local;

/// Remembers calls in `calls`, takes the address from the file `address-N` and fails while `no-VERB` is there.
const DRIVER: &str = r#"#!/bin/sh
home=${0%/*}
verb=$1 unit=$2
[ "$verb" = run ] || echo "$verb $unit" >>"$home/calls"
if [ -e "$home/no-$verb" ]; then
    cat "$home/no-$verb" >&2
    exit 3
fi
case $verb in
    run)
        shift 3
        MACHINE_OF=$unit exec "$@"
        ;;
    up | reboot) cat "$home/address-${unit#*/}" ;;
esac
"#;

struct Machines {
    home: PathBuf,
}

impl Machines {
    /// Puts the driver down and makes it the model's.
    fn new(local: &Local) -> Self {
        let home = local.scratch().join("machines");
        fs::create_dir(&home).unwrap();
        let machines = Self { home };
        let program = machines.home.join("driver");
        fs::write(&program, DRIVER).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for unit in 0..3 {
            machines.address(unit, &format!("127.200.0.{}", 10 + unit));
        }
        local.ok(&[
            "handle",
            "setting",
            &format!("machine-driver={}", program.display()),
        ]);
        machines
    }

    fn address(&self, unit: u32, address: &str) {
        fs::write(self.home.join(format!("address-{unit}")), address).unwrap();
    }

    /// Lets a call fail, or work again.
    fn fails(&self, verb: &str, why: Option<&str>) {
        let file = self.home.join(format!("no-{verb}"));
        match why {
            Some(why) => fs::write(file, why).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.home.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn hooks_actions_and_commands_run_on_the_units_own_machine() {
    let local = Local::new("3.6");
    let machines = Machines::new(&local);
    local.on("all", "start", "echo $MACHINE_OF >$SHELL_CHARM/$tag.start");
    local.on("all", "actions/greet", "action-set machine=$MACHINE_OF");
    local.deploy("app", 2);
    local.settle();
    assert_eq!(machines.calls().len(), 2, "{:?}", machines.calls());
    for unit in [0, 1] {
        let name = format!("app/{unit}");
        let started = fs::read_to_string(local.notes().join(format!("unit-app-{unit}.start")));
        assert_eq!(started.unwrap().trim(), name);
        assert!(machines.calls().contains(&format!("up {name}")));
        let address = format!("127.200.0.{}", 10 + unit);
        assert_eq!(local.unit(&name)["public-address"], address);
        assert_eq!(
            local.exec(&name, "unit-get private-address; echo $MACHINE_OF"),
            format!("{address}\n{name}\n")
        );
    }
    let peer = "relation-get -r $(relation-ids peers) ingress-address app/1";
    assert_eq!(local.exec("app/0", peer), "127.200.0.11\n");
    let ran = local.ok(&["run", "app/1", "greet", "name=you", "--format", "json"]);
    assert!(ran.contains("\"machine\":\"app/1\""), "{ran}");
    // The exit status comes through.
    let failed = local.run(&["exec", "--unit", "app/0", "--", "exit 7"]);
    assert!(
        failed.stderr.contains("with return code 7"),
        "{}",
        failed.stderr
    );
}

#[test]
fn a_cancelled_action_ends_on_its_machine() {
    let local = Local::new("4.0");
    let _machines = Machines::new(&local);
    local.on(
        "all",
        "actions/greet",
        "echo $$ >$SHELL_CHARM/pid; exec sleep 300",
    );
    local.deploy("app", 1);
    local.settle();
    local.ok(&["run", "--background", "app/0", "greet", "name=you"]);
    let note = local.notes().join("pid");
    local.until("the action runs", || {
        fs::read_to_string(&note).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid = fs::read_to_string(&note).unwrap();
    let process = PathBuf::from("/proc").join(pid.trim());
    assert!(process.exists());
    local.ok(&["cancel-task", "2"]);
    local.until("its process is gone", || !process.exists());
}

#[test]
fn machines_follow_their_units_and_handles() {
    let local = Local::new("3.6");
    let machines = Machines::new(&local);
    local.deploy("app", 2);
    local.settle();
    let before = local.events("app/0").len();
    machines.address(0, "127.200.0.99");
    for verb in ["freeze", "thaw", "cut", "heal", "reboot"] {
        local.ok(&["handle", verb, "app/0"]);
    }
    local.settle();
    for verb in ["freeze", "thaw", "cut", "heal", "kill", "reboot"] {
        assert!(
            machines.calls().contains(&format!("{verb} app/0")),
            "{verb}: {:?}",
            machines.calls()
        );
    }
    // A new address is a change of the configuration, and the others see it.
    let events = local.since("app/0", before);
    assert!(
        events.iter().any(|event| event == "config-changed"),
        "{events:?}"
    );
    local.until_event("app/1", "peers-relation-changed app/0");
    let peer = "relation-get -r $(relation-ids peers) ingress-address app/0";
    assert_eq!(local.exec("app/1", peer), "127.200.0.99\n");
    local.ok(&["remove-unit", "app/1", "--wait=60s"]);
    local.until("its machine is ended", || {
        machines.calls().contains(&"down app/1".to_owned())
    });
    local.ok(&["destroy"]);
    assert_eq!(
        machines.calls().last().map(String::as_str),
        Some("down app/0")
    );
}

#[test]
fn a_driver_that_cannot_says_why() {
    let local = Local::new("3.6");
    assert!(
        local
            .refused(&["handle", "setting", "machine-driver=machines"])
            .contains("give its absolute path")
    );
    assert!(
        local
            .refused(&["handle", "setting", "machine-driver=/etc/passwd"])
            .contains("make it executable")
    );
    let machines = Machines::new(&local);
    machines.fails("up", Some("no room for a machine"));
    local.deploy("app", 1);
    local.until("the status says why", || {
        local
            .unit("app/0")
            .to_string()
            .contains("no room for a machine")
    });
    assert!(local.unit("app/0")["public-address"].is_null());
    machines.fails("up", None);
    local.settle();
    assert_eq!(local.unit("app/0")["public-address"], "127.200.0.10");
    machines.fails("reboot", Some("it is broken"));
    let said = local.refused(&["handle", "reboot", "app/0"]);
    assert!(said.contains("it is broken"), "{said}");
    machines.fails("reboot", None);
    local.ok(&["handle", "reboot", "app/0"]);
    local.settle();
    let said = local.refused(&["handle", "setting", "machine-driver=null"]);
    assert!(said.contains("units have their machines already"), "{said}");
}
