//! What containers tell their charm, and when.

use super::world::{LAYER, Pods};

/// Returns the events of a unit without what belongs to relations.
fn own_events(pods: &Pods, unit: &str) -> Vec<String> {
    let mut events = pods.events(unit);
    events.retain(|event| !event.contains("relation") && event != "leader-elected");
    events
}

#[test]
fn a_unit_starts_before_its_storage_and_its_container_are_told() {
    let pods = Pods::deployed("3.6", 1);
    let events = own_events(&pods, "app/0");
    let place = |event: &str| events.iter().position(|one| one == event).unwrap();
    for (before, after) in [
        ("install", "config-changed"),
        ("config-changed", "start"),
        ("start", "data-storage-attached data/0"),
        // In the gap after `install` it may come as well as later.
        ("install", "work-pebble-ready"),
    ] {
        assert!(place(before) < place(after), "{events:?}");
    }
    assert_eq!(events.len(), 5, "{events:?}");
    pods.until("the service runs", || {
        pods.within("app/0", "pgrep -c sleep || true") == "1\n"
    });
}

#[test]
fn a_container_that_ends_comes_again_without_its_layers() {
    let pods = Pods::deployed("3.6", 1);
    let before = pods.trace("app/0").len();
    pods.exec("app/0", "touch /var/lib/of-charm");
    pods.within("app/0", "cd /var/tmp && touch of-work");
    pods.on("all", "work-pebble-ready", "pebble plan >$SHELL_CHARM/plan");
    std::fs::write(pods.notes().join("layer.yaml"), "services: {}\n").unwrap();
    pods.ok(&["handle", "container-restart", "app/0", "work"]);
    pods.until_again("app/0", before, "end work-pebble-ready");
    let told = pods.trace("app/0").split_off(before);
    assert_eq!(told, ["work-pebble-ready", "end work-pebble-ready"]);
    let plan = std::fs::read_to_string(pods.notes().join("plan")).unwrap();
    assert_eq!(plan.trim(), "{}");
    // Its file system is new, the charm's is not.
    assert_eq!(
        pods.within("app/0", "ls /var/tmp/of-work 2>/dev/null || echo none"),
        "none\n"
    );
    pods.exec("app/0", "ls /var/lib/of-charm");
}

#[test]
fn notices_and_checks_become_events() {
    let pods = Pods::new("3.6");
    let check = "checks:
  good:
    override: replace
    level: alive
    period: 200ms
    timeout: 150ms
    threshold: 2
    exec:
      command: test -e /srv/work/good
";
    std::fs::write(pods.notes().join("layer.yaml"), format!("{LAYER}{check}")).unwrap();
    let kinds = "echo $JUJU_WORKLOAD_NAME $JUJU_NOTICE_TYPE >$SHELL_CHARM/notice";
    pods.on("all", "work-pebble-custom-notice", kinds);
    pods.on("all", "install", "touch /srv/work/good");
    pods.deploy_charm("pods", "app", 1);
    pods.settle();
    pods.until_again("app/0", 0, "end work-pebble-ready");
    pods.within("app/0", "/charm/bin/pebble notify example.com/done a=b");
    pods.until_event("app/0", "work-pebble-custom-notice example.com/done");
    pods.until_again("app/0", 0, "end work-pebble-custom-notice");
    assert_eq!(
        std::fs::read_to_string(pods.notes().join("notice")).unwrap(),
        "work custom\n"
    );
    pods.exec("app/0", "rm /srv/work/good");
    pods.until_event("app/0", "work-pebble-check-failed good");
    pods.exec("app/0", "touch /srv/work/good");
    pods.until_event("app/0", "work-pebble-check-recovered good");
    // What an agent was told is in its memory only.
    let before = pods.trace("app/0").len();
    pods.ok(&["handle", "agent-restart", "app/0"]);
    pods.until_again("app/0", before, "end start");
    pods.until_again("app/0", before, "end work-pebble-ready");
    pods.until_again(
        "app/0",
        before,
        "work-pebble-custom-notice example.com/done",
    );
}

#[test]
fn a_container_hook_that_fails_stands_in_nobodys_way_and_comes_again() {
    let pods = Pods::new("4.0");
    pods.on("all", "work-pebble-ready", "[ -e $SHELL_CHARM/may ]");
    pods.deploy_charm("pods", "app", 1);
    pods.until_event("app/0", "work-pebble-ready");
    pods.until("it comes again", || {
        pods.events("app/0")
            .iter()
            .filter(|event| *event == "work-pebble-ready")
            .count()
            > 2
    });
    pods.ok(&["run", "app/0", "--wait=20s", "nothing"]);
    std::fs::write(pods.notes().join("may"), "").unwrap();
    pods.until_again("app/0", 0, "end work-pebble-ready");
    pods.settle();
}
