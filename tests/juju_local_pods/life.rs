//! Pods that come, go, and come again.

use super::world::Pods;

/// What the charm has after its pod came back.
const BACK: [&str; 4] = [
    "upgrade-charm",
    "config-changed",
    "start",
    "work-pebble-ready",
];

#[test]
fn an_evicted_pod_stops_and_comes_back_elsewhere_with_its_data() {
    let pods = Pods::deployed("3.6", 2);
    let address = pods.address("app/0");
    pods.exec(
        "app/0",
        "echo kept >/srv/work/data; touch /var/lib/lost; touch lost; state-set a=b",
    );
    // While it stops, its own name still leads to it.
    let note =
        "getent ahostsv4 app-0.app-endpoints | cut -d ' ' -f 1 | head -1 >$SHELL_CHARM/found";
    pods.on("app/0", "stop", note);
    let before = pods.trace("app/0").len();
    pods.ok(&["handle", "evict", "app/0"]);
    pods.until_again("app/0", before, "end work-pebble-ready");
    pods.settle();
    let events: Vec<_> = pods.trace("app/0").split_off(before);
    let began: Vec<_> = events
        .iter()
        .filter(|event| !event.starts_with("end "))
        .collect();
    assert_eq!(began[0], "stop", "{events:?}");
    assert_eq!(began[1..5], BACK, "{events:?}");
    let fresh = pods.address("app/0");
    assert_ne!(address, fresh);
    assert_eq!(
        pods.exec(
            "app/1",
            "getent ahostsv4 app-0.app-endpoints | cut -d ' ' -f 1 | head -1"
        )
        .trim(),
        fresh
    );
    let left = "cat /srv/work/data; ls /var/lib/lost lost 2>/dev/null; state-get a; hostname";
    assert_eq!(pods.exec("app/0", left), "kept\nb\napp-0\n");
}

#[test]
fn the_resolver_stays_where_it_is_while_pods_come_and_go() {
    let hardware = |name: &str| {
        let links = std::process::Command::new("ip")
            .args(["-br", "link"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&links.stdout).into_owned();
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let device = words.next()?.split('@').next()?.to_owned();
                Some((device, words.nth(1)?.to_owned()))
            })
            .filter(|(device, _)| device.starts_with(name))
            .collect::<Vec<_>>()
    };
    let pods = Pods::deployed("3.6", 2);
    let all = hardware("jl");
    let (bridge, cables): (Vec<_>, Vec<_>) = all.iter().partition(|(name, _)| name.len() == 6);
    assert_eq!((bridge.len(), cables.len()), (1, 2), "{all:?}");
    // One that it took from a cable would change with the cables.
    assert!(
        cables.iter().all(|(_, address)| *address != bridge[0].1),
        "{all:?}"
    );
    pods.ok(&["handle", "evict", "--now", "app/0", "app/1"]);
    assert_eq!(hardware(&bridge[0].0)[0].1, bridge[0].1);
}

#[test]
fn a_pod_that_does_not_end_in_time_is_ended() {
    let pods = Pods::deployed("3.6", 1);
    pods.ok(&["handle", "setting", "grace-seconds=1"]);
    pods.on("all", "stop", "sleep 600");
    let before = pods.trace("app/0").len();
    pods.ok(&["handle", "evict", "app/0"]);
    // The hook that was cut off goes first: what was in progress is in error.
    pods.on("all", "stop", "");
    pods.until_again("app/0", before, "end start");
    pods.settle();
    assert!(
        pods.trace("app/0")
            .split_off(before)
            .contains(&"stop".to_owned())
    );
}

#[test]
fn all_pods_at_once_come_back() {
    let pods = Pods::deployed("4.0", 3);
    let before: Vec<_> = (0..3)
        .map(|unit| pods.trace(&format!("app/{unit}")).len())
        .collect();
    let addresses: Vec<_> = (0..3)
        .map(|unit| pods.address(&format!("app/{unit}")))
        .collect();
    pods.ok(&["handle", "evict", "--now", "app/0", "app/1", "app/2"]);
    for (unit, before) in before.into_iter().enumerate() {
        let name = format!("app/{unit}");
        pods.until_again(&name, before, "end work-pebble-ready");
        let events = pods.since(&name, 0);
        assert!(!events.contains(&"stop".to_owned()), "{events:?}");
        assert!(!addresses.contains(&pods.address(&name)));
    }
    pods.settle();
}

#[test]
fn a_lost_node_keeps_its_pods_name_until_the_pod_comes_back() {
    let pods = Pods::deployed("3.6", 2);
    let address = pods.address("app/1");
    let ask = "getent ahostsv4 app-1.app-endpoints | cut -d ' ' -f 1 | head -1";
    let before = pods.trace("app/1").len();
    pods.ok(&["handle", "kill", "app/1"]);
    assert_eq!(pods.exec("app/0", ask).trim(), address);
    pods.ok(&["handle", "reboot", "app/1"]);
    pods.until_again("app/1", before, "end work-pebble-ready");
    pods.settle();
    assert_ne!(pods.exec("app/0", ask).trim(), address);
    assert_eq!(
        pods.since("app/1", 0)
            .iter()
            .filter(|event| *event == "stop")
            .count(),
        0
    );
}

#[test]
fn a_frozen_pod_stands_still_in_all_its_containers() {
    let pods = Pods::deployed("3.6", 1);
    let tick = "while :; do date +%N >/srv/work/tick; sleep 0.05; done >/dev/null 2>&1 &";
    pods.exec("app/0", "chmod 777 /srv/work");
    pods.within("app/0", &format!("setsid sh -c \"{tick}\" >/dev/null 2>&1"));
    let file = pods.state().join("storage/data-0/tick");
    let look = || std::fs::read_to_string(&file).unwrap_or_default();
    pods.until("it ticks", || !look().is_empty());
    pods.ok(&["handle", "freeze", "app/0"]);
    let stood = look();
    // Twenty ticks would be in this time.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(look(), stood);
    pods.ok(&["handle", "thaw", "app/0"]);
    pods.until("it ticks again", || look() != stood);
    assert_eq!(pods.exec("app/0", "echo well"), "well\n");
}

#[test]
fn pods_outlive_the_engine_and_leave_nothing_behind() {
    let pods = Pods::deployed("3.6", 2);
    let addresses = [pods.address("app/0"), pods.address("app/1")];
    let pid = pods.within("app/1", "pgrep sleep");
    pods.ok(&["handle", "crash-engine"]);
    pods.settle();
    assert_eq!([pods.address("app/0"), pods.address("app/1")], addresses);
    assert_eq!(pods.within("app/1", "pgrep sleep"), pid);
    let found = pods.exec("app/0", "getent ahostsv4 app-1.app-endpoints | wc -l");
    assert_ne!(found.trim(), "0");
    pods.ok(&["destroy"]);
    assert_eq!(pods.processes(), Vec::<String>::new());
    // The kernel takes the devices of a network that has ended away in its own time.
    pods.until("only the loopback device is left", || {
        let links = std::process::Command::new("ip")
            .args(["-br", "link"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&links.stdout).lines().count() == 1
    });
}

#[test]
fn pods_whose_place_is_gone_end_by_themselves() {
    let pods = Pods::deployed("3.6", 2);
    assert!(!pods.processes().is_empty());
    // It cannot answer any more, so how the command ends does not matter.
    pods.run(&["handle", "crash-engine"]);
    // Nobody says `destroy`: somebody removes the whole directory.
    std::fs::remove_dir_all(pods.state()).unwrap();
    pods.until("all pods have ended", || pods.processes().is_empty());
}
