//! Sets of pods that grow, shrink and roll.

use super::world::Pods;

#[test]
fn the_highest_go_at_once_and_their_pods_stay_until_the_last_is_dead() {
    let pods = Pods::deployed("3.6", 3);
    pods.on(
        "all",
        "data-storage-detaching",
        "until [ -e $SHELL_CHARM/go-$tag ]; do sleep 0.05; done",
    );
    pods.ok(&["remove-unit", "app", "--num-units", "2"]);
    for unit in ["app/1", "app/2"] {
        pods.until_event(unit, &format!("data-storage-detaching data/{}", &unit[4..]));
    }
    std::fs::write(pods.notes().join("go-unit-app-2"), "").unwrap();
    pods.until_again("app/2", 0, "end remove");
    // The first one is done; the pods of both are there, and their containers run.
    let ask = |pod: &str| {
        pods.exec(
            "app/0",
            &format!("getent ahostsv4 {pod}.app-endpoints | wc -l"),
        )
    };
    for pod in ["app-1", "app-2"] {
        assert_ne!(ask(pod).trim(), "0", "{pod}");
    }
    assert!(!pods.unit("app/2").is_null());
    std::fs::write(pods.notes().join("go-unit-app-1"), "").unwrap();
    pods.until_gone("app/1");
    pods.until_gone("app/2");
    for pod in ["app-1", "app-2"] {
        assert_eq!(ask(pod).trim(), "0", "{pod}");
    }
}

#[test]
fn a_pod_of_the_same_number_finds_its_storage_in_3_6_and_not_in_4_0() {
    for (variant, expected) in [("3.6", "of before\n"), ("4.0", "none\n")] {
        let pods = Pods::deployed(variant, 2);
        pods.exec("app/1", "echo of before >/srv/work/data");
        pods.exec("app/1", "relation-set -r $(relation-ids peers) of=before");
        pods.ok(&["scale-application", "app", "1", "--wait=100s"]);
        pods.ok(&["scale-application", "app", "2", "--wait=100s"]);
        assert_eq!(pods.unit("app/2"), serde_json::Value::Null);
        let found = pods.exec("app/1", "cat /srv/work/data 2>/dev/null || echo none");
        assert_eq!(found, expected, "{variant}");
        let databag = "relation-get -r $(relation-ids peers) of app/1";
        assert_eq!(pods.exec("app/0", databag).trim(), "", "{variant}");
    }
}

#[test]
fn a_refresh_replaces_pods_from_the_highest_down() {
    let pods = Pods::deployed("3.6", 3);
    let order = "echo $tag >>$SHELL_CHARM/order";
    pods.on("all", "upgrade-charm", order);
    let charm = super::local::charm("pods");
    pods.ok(&["refresh", "app", "--path", charm.to_str().unwrap()]);
    let note = pods.notes().join("order");
    pods.until("all were replaced", || {
        std::fs::read_to_string(&note).is_ok_and(|text| text.lines().count() == 3)
    });
    let order = std::fs::read_to_string(&note).unwrap();
    assert_eq!(order, "unit-app-2\nunit-app-1\nunit-app-0\n");
    pods.settle();
}
