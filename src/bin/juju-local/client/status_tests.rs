//! Tests of the room `status`.

use super::*;

#[test]
fn ports_are_grouped() {
    for (open, expected) in [
        (&["6379/tcp"][..], "6379/tcp"),
        (&["81/tcp", "80/tcp", "82/tcp"], "80-82/tcp"),
        (&["80/tcp", "443/tcp"], "80,443/tcp"),
        (&["53/udp", "53/tcp", "icmp"], "53/tcp 53/udp icmp"),
        (&["80-90/tcp", "91/tcp"], "80-91/tcp"),
        (&[], ""),
    ] {
        let open: Vec<String> = open.iter().map(|port| (*port).to_owned()).collect();
        assert_eq!(ports(&open), expected);
    }
}

fn unit(workload: &str, said: &str, agent: &str, doing: &str) -> UnitReport {
    let text = |current: &str, message: &str| StatusText {
        current: current.into(),
        message: message.into(),
        ..StatusText::default()
    };
    UnitReport {
        workload_status: text(workload, said),
        juju_status: text(agent, doing),
        ..UnitReport::default()
    }
}

#[test]
fn a_units_message_says_what_the_agent_does() {
    for (said, agent, doing, expected) in [
        ("hello", "idle", "", "hello"),
        (
            "hello",
            "executing",
            "running peers-relation-changed hook for a/1",
            "(peers-relation-changed) hello",
        ),
        ("", "executing", "running action backup", "(backup)"),
        ("hello", "executing", "running commands", "hello"),
        (
            "",
            "allocating",
            "waiting for machine",
            "waiting for machine",
        ),
    ] {
        assert_eq!(unit_message(&unit("active", said, agent, doing)), expected);
    }
}

fn example() -> StatusReport {
    let model = Model::new("/tmp/default".into());
    let mut report = nothing(&model);
    "4.0.15".clone_into(&mut report.model.version);
    "10:11:12Z".clone_into(&mut report.controller.timestamp);
    let mut application = ApplicationReport {
        charm_name: "app".into(),
        version: "1.0".into(),
        ..ApplicationReport::default()
    };
    "active".clone_into(&mut application.application_status.current);
    for number in [10, 2] {
        let mut unit = unit("active", "ready", "idle", "");
        unit.leader = number == 2;
        unit.machine = number.to_string();
        unit.public_address = format!("127.1.1.{number}");
        application.units.insert(format!("app/{number}"), unit);
    }
    report.applications.insert("app".into(), application);
    report
}

fn shown(report: &StatusReport) -> String {
    let given = Status {
        only: Vec::new(),
        format: StatusFormat::Tabular,
        watch: None,
        relations: false,
        storage: false,
        color: false,
        no_color: true,
        utc: false,
    };
    tabular(report, &given)
}

#[test]
fn the_tables_are_jujus() {
    assert_eq!(
        shown(&example()),
        "\
Model    Controller  Cloud/Region     Version  Timestamp
default  local       local/localhost  4.0.15   10:11:12Z

App  Version  Status  Scale  Charm  Channel  Rev  Exposed  Message
app  1.0      active      2  app               0  no

Unit    Workload  Agent  Machine  Public address  Ports  Message
app/2*  active    idle   2        127.1.1.2              ready
app/10  active    idle   10       127.1.1.10             ready
"
    );
}

#[test]
fn a_filter_keeps_what_is_named() {
    for (wanted, expected) in [("app", 2), ("app/2", 1), ("active", 2), ("blocked", 0)] {
        let report = only(example(), &[wanted.to_owned()]);
        let units: usize = report
            .applications
            .values()
            .map(|application| application.units.len())
            .sum();
        assert_eq!(units, expected, "{wanted}");
    }
}
