//! What charm and workload see of each other, and how pods find each other.

use super::world::Pods;

#[test]
fn charm_and_workload_share_network_and_storage_and_nothing_else() {
    let pods = Pods::deployed("3.6", 1);
    let seen = "hostname; hostname -f; id -u; cat /proc/1/comm";
    let own = "app-0\napp-0.app-endpoints.state.svc.cluster.local\n";
    assert_eq!(pods.exec("app/0", seen), format!("{own}0\npebble\n"));
    assert_eq!(
        pods.within("app/0", &format!("{seen}; ls /tmp | wc -l")),
        format!("{own}10001\npebble\n0\n")
    );
    // Storage has one path, and the files' owners are the same.
    pods.exec(
        "app/0",
        "chown 10001:10001 /srv/work && echo data >/srv/work/from-charm",
    );
    let both = pods.within(
        "app/0",
        "cat /srv/work/from-charm; echo data >/srv/work/from-work; stat -c %u /srv/work/from-work",
    );
    assert_eq!(both, "data\n10001\n");
    assert_eq!(
        pods.exec(
            "app/0",
            "cat /srv/work/from-work; storage-get -s data/0 location"
        ),
        "data\n/srv/work\n"
    );
    // Files, temporary files, processes and the charm's own directory are not shared.
    pods.exec("app/0", "touch /var/lib/of-charm /tmp/of-charm");
    let absent = "ls -d /var/lib/of-charm /tmp/of-charm";
    let state = pods.state().display().to_string();
    let said = pods.within(
        "app/0",
        &format!("{absent} {state}/agents 2>&1 | wc -l; pgrep -c sleep"),
    );
    assert_eq!(said, "3\n1\n");
    assert_eq!(
        pods.exec("app/0", "ls -d /var/lib/of-charm; pgrep -c sleep || true"),
        "/var/lib/of-charm\n0\n"
    );
    assert!(!std::path::Path::new("/var/lib/of-charm").exists());
    let charms = "JUJU_CONTAINER_NAME PEBBLE_SOCKET";
    let told = pods.within(
        "app/0",
        &format!("for name in {charms}; do eval echo \\$$name; done"),
    );
    assert_eq!(told, "work\n/charm/container/pebble.socket\n");
    // A program of the charm container reaches the agent under Juju's path.
    pods.exec("app/0", "env -u JUJU_CONTEXT_ID setsid juju-exec app/0 'echo $JUJU_UNIT_NAME >$SHELL_CHARM/told' >/dev/null 2>&1 & true");
    pods.until("juju-exec works", || {
        std::fs::read_to_string(pods.notes().join("told")).is_ok_and(|text| text == "app/0\n")
    });
}

#[test]
fn pods_find_each_other_by_name_ready_or_not() {
    let pods = Pods::deployed("4.0", 2);
    let name = "app-1.app-endpoints.state.svc.cluster.local";
    let ask = |name: &str| {
        pods.exec(
            "app/0",
            &format!("getent ahostsv4 {name} | cut -d ' ' -f 1 | sort -u; true"),
        )
    };
    for shown in [name, "app-1.app-endpoints"] {
        assert_eq!(ask(shown).trim(), pods.address("app/1"), "{shown}");
    }
    assert_eq!(
        ask("app-endpoints.state.svc.cluster.local").lines().count(),
        2
    );
    for gone in [
        "app-2.app-endpoints",
        "app-1.app",
        "app-1.other-endpoints",
        "example.com",
    ] {
        assert_eq!(ask(gone), "", "{gone}");
    }
    // The address that databags show is the service's: useless between units.
    let service = ask("app");
    let databag = pods.exec(
        "app/0",
        "relation-get -r $(relation-ids peers) ingress-address app/1",
    );
    assert_eq!(databag, service);
    assert_ne!(service.trim(), pods.address("app/1"));
    assert_eq!(
        pods.exec("app/1", "network-get peers --bind-address")
            .trim(),
        pods.address("app/1")
    );
    // Traffic flows between pods, from charm to workload container.
    pods.exec("app/1", "printf hello >/srv/work/file");
    let serve = "python3 -m http.server 8080 --directory /srv/work >/dev/null 2>&1 & sleep 0.1";
    pods.within("app/1", serve);
    let fetch = format!(
        "python3 -c \"import urllib.request as r; print(r.urlopen('http://{name}:8080/file', timeout=2).read())\" 2>&1 | tail -1"
    );
    pods.until("the other pod answers", || {
        pods.exec("app/0", &fetch) == "b'hello'\n"
    });
    pods.ok(&["handle", "cut", "app/1"]);
    // Silence, or that the neighbour is not found, whatever the sender remembers.
    assert_ne!(pods.exec("app/0", &fetch), "b'hello'\n");
    pods.ok(&["handle", "heal", "app/1"]);
    pods.until("the other pod answers again", || {
        pods.exec("app/0", &fetch) == "b'hello'\n"
    });
    // Nobody answers for names any more, which is not the same as that there is none.
    pods.ok(&["handle", "setting", "names-silent=true"]);
    let silent = pods.exec("app/0", &format!("RES_OPTIONS='timeout:1 attempts:1' python3 -c \"import socket; socket.getaddrinfo('{name}.', 1)\" 2>&1 | tail -1"));
    assert!(
        silent.contains("Temporary failure in name resolution"),
        "{silent}"
    );
    pods.ok(&["handle", "setting", "names-silent=false"]);
}

#[test]
fn pods_know_the_api_server_when_there_is_one() {
    let pods = Pods::new("3.6");
    let account = pods.scratch().join("account");
    std::fs::create_dir(&account).unwrap();
    std::fs::write(account.join("token"), "secret").unwrap();
    pods.ok(&[
        "handle",
        "setting",
        "api-server=10.9.8.7:6443",
        &format!("service-account={}", account.display()),
    ]);
    pods.deploy_charm("pods", "app", 1);
    pods.settle();
    let told = pods.exec("app/0", "echo $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT; cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(told, "10.9.8.7 6443\nsecret\n");
    assert!(!std::path::Path::new("/var/run/secrets/kubernetes.io").exists());
}

#[test]
fn what_cannot_be_made_is_refused() {
    let pods = Pods::new("3.6");
    let refused = |settings: &[&str]| {
        let all = [&["handle", "setting"], settings].concat();
        pods.refused(&all)
    };
    assert!(refused(&["pebble=pebble"]).contains("give its absolute path"));
    assert!(refused(&["pebble=/etc/passwd"]).contains("make it executable"));
    assert!(refused(&["host-paths=[\"/nowhere\"]"]).contains("cannot show /nowhere to pods"));
    assert!(refused(&["machine-driver=/bin/true"]).contains("pods and a machine driver"));
    pods.deploy_charm("pods", "app", 1);
    assert!(refused(&["substrate=machines"]).contains("there are units already"));
    pods.settle();
    let said = pods.refused(&["remove-unit", "app/0"]);
    assert!(said.contains("--num-units"), "{said}");
    let said = pods.refused(&["detach-storage", "data/0"]);
    assert!(said.contains("storage of a pod"), "{said}");
}
