//! The order of hooks, as tables: what a unit has committed and what it is told give what it runs next.

use proptest::prelude::*;

use super::*;

/// A unit `a/0` with what it is told; operations are committed as an agent would.
struct Unit {
    local: Local,
    remote: Remote,
}

impl Unit {
    /// A unit that was just added, with storage, peers and a relation.
    fn fresh() -> Self {
        let relation = |id, endpoint: &str, peer, application: &str| RemoteRelation {
            id,
            endpoint: endpoint.to_owned(),
            peer,
            application: application.to_owned(),
            ..RemoteRelation::default()
        };
        let install = Flight {
            hook: Hook::plain(Kind::Install),
            step: Step::Queued,
            process: None,
        };
        Self {
            local: Local {
                flight: Some(install),
                ..Local::default()
            },
            remote: Remote {
                me: "a/0".to_owned(),
                settings_hash: "1".to_owned(),
                relations: vec![
                    relation(0, "peers", true, "a"),
                    relation(1, "db", false, "b"),
                ],
                storage: BTreeMap::from([("data/0".to_owned(), Life::Alive)]),
                ..Remote::default()
            },
        }
    }

    /// A unit that has settled with members `a/1`, `a/2` and `b/0`.
    fn settled() -> Self {
        let mut unit = Self::fresh();
        unit.tell("+a/1 +a/2 +b/0");
        unit.run();
        unit
    }

    /// Changes what the unit is told, by words.
    fn tell(&mut self, words: &str) -> &mut Self {
        for word in words.split_whitespace() {
            let remote = &mut self.remote;
            let bag = |name: &str| usize::from(name.starts_with('b'));
            match word {
                "dying" => remote.life = Life::Dying,
                "application-dying" => {
                    remote.application_life = Life::Dying;
                    remote
                        .relations
                        .iter_mut()
                        .for_each(|relation| relation.life = Life::Dying);
                }
                "relation-dying" => remote.relations[1].life = Life::Dying,
                "leader" => remote.leader = true,
                "deposed" => remote.leader = false,
                "config" => remote.settings_hash.push('x'),
                "charm" => remote.charm_revision += 1,
                "force-charm" => remote.force_charm = true,
                "tick" => remote.update_status_due = true,
                "action" => remote.action = Some(7),
                "no-action" => remote.action = None,
                "command" => remote.command = true,
                "no-command" => remote.command = false,
                "peer-app" => remote.relations[0].application_version += 1,
                "db-app" => remote.relations[1].application_version += 1,
                "detach" => {
                    remote.storage.insert("data/0".to_owned(), Life::Dying);
                }
                "no-storage" => remote.storage.clear(),
                "more-storage" => {
                    remote.storage.insert("data/9".to_owned(), Life::Alive);
                }
                "secret" => remote.secrets.push(Hook {
                    secret: Some(("s".to_owned(), 2)),
                    ..Hook::plain(Kind::SecretChanged)
                }),
                "retry" => remote.resolution = Some(Resolution::Retry),
                "skip" => remote.resolution = Some(Resolution::Skip),
                "due" => remote.retry_due = true,
                "reboot" => self.local.rebooted = true,
                "pod" => remote.pod = true,
                "leaving" => remote.leaving = true,
                "stays" => remote.leaving = false,
                "ready" => {
                    remote.workload = Some(Hook {
                        workload: Some(WorkloadFacts {
                            container: "work".to_owned(),
                            ..WorkloadFacts::default()
                        }),
                        ..Hook::plain(Kind::PebbleReady)
                    });
                }
                "fail" => self.fail(),
                _ => {
                    let (sign, name) = word.split_at(1);
                    let members = &mut remote.relations[bag(name)].members;
                    match sign {
                        "+" => members.insert(name.to_owned(), 1),
                        "-" => members.remove(name),
                        "!" => members.get_mut(name).map(|version| {
                            *version += 1;
                            *version
                        }),
                        _ => panic!("{word}"),
                    };
                }
            }
        }
        self
    }

    /// Lets the next hook fail.
    fn fail(&mut self) {
        let Next::Run(hook) = next(&self.local, &self.remote) else {
            panic!("no hook to fail")
        };
        self.local.flight = Some(Flight {
            hook,
            step: Step::Pending,
            process: None,
        });
    }

    /// Does the next operation; returns what it was, nothing when there is none.
    fn step(&mut self) -> Option<String> {
        let next = next(&self.local, &self.remote);
        let shown = match &next {
            Next::Idle => return None,
            Next::Stuck => return Some("stuck".to_owned()),
            Next::Die => return Some("dead".to_owned()),
            Next::Run(hook) => hook.to_string(),
            Next::Skip(hook) => format!("skip {hook}"),
            Next::Commit(hook) => format!("commit {hook}"),
            Next::Action(_) => "action".to_owned(),
            Next::Command => "command".to_owned(),
            Next::Upgrade { hook } => format!("files {hook}"),
            Next::EnterScope(_) | Next::Resign | Next::ForgetReboot => String::new(),
            Next::LeaveScope(id) => format!("leave {id}"),
            Next::DropStorage(id) => format!("drop {id}"),
        };
        let hash = self.remote.settings_hash.clone();
        match next {
            Next::Run(hook) | Next::Skip(hook) | Next::Commit(hook) => {
                commit(&mut self.local, &hook, &hash);
                self.remote.resolution = None;
                self.remote.retry_due = false;
                match hook.kind {
                    Kind::UpdateStatus => self.remote.update_status_due = false,
                    Kind::SecretChanged => self.remote.secrets.clear(),
                    Kind::PebbleReady => self.remote.workload = None,
                    Kind::StorageDetaching => {
                        self.remote
                            .storage
                            .remove(&hook.storage.unwrap_or_default());
                    }
                    _ => {}
                }
            }
            Next::Action(_) => self.remote.action = None,
            Next::Command => self.remote.command = false,
            Next::EnterScope(id) => {
                self.local.relations.insert(id, LocalRelation::default());
            }
            Next::LeaveScope(id) => {
                self.local.relations.remove(&id);
            }
            Next::Resign => self.local.leader = false,
            Next::ForgetReboot => self.local.rebooted = false,
            Next::DropStorage(id) => {
                self.remote.storage.remove(&id);
            }
            Next::Upgrade { hook } => {
                self.local.charm_revision = self.remote.charm_revision;
                if hook {
                    let hook = Hook::plain(Kind::UpgradeCharm);
                    self.local.flight = Some(Flight {
                        hook,
                        step: Step::Queued,
                        process: None,
                    });
                }
            }
            Next::Idle | Next::Stuck | Next::Die => {}
        }
        Some(shown)
    }

    /// Does operations until nothing is left; returns them.
    fn run(&mut self) -> String {
        let mut all = Vec::new();
        for _ in 0..200 {
            match self.step() {
                None => return all.join(", "),
                Some(last) if last == "stuck" || last == "dead" => {
                    all.push(last);
                    return all.join(", ");
                }
                Some(one) if one.is_empty() => {}
                Some(one) => all.push(one),
            }
        }
        panic!("no end: {all:?}")
    }
}

const DEPLOY: &str =
    "data-storage-attached data/0, install, peers-relation-created, db-relation-created, ";

#[test]
fn a_new_unit_runs_its_hooks_in_order() {
    for (told, expected) in [
        ("", "config-changed, start"),
        ("leader", "leader-elected, config-changed, start"),
        (
            "+a/1",
            "config-changed, start, peers-relation-joined a/1, peers-relation-changed a/1",
        ),
        (
            "+a/1 +b/0",
            "config-changed, start, db-relation-joined b/0, db-relation-changed b/0, \
             peers-relation-joined a/1, peers-relation-changed a/1",
        ),
        ("peer-app", "config-changed, start, peers-relation-changed"),
        ("tick", "config-changed, start, update-status"),
    ] {
        let expected = format!("{DEPLOY}{expected}");
        assert_eq!(Unit::fresh().tell(told).run(), expected, "{told}");
    }
}

#[test]
fn a_pod_starts_before_its_storage_is_told() {
    let mut unit = Unit::fresh();
    let created = "install, peers-relation-created, db-relation-created, ";
    let ran = unit.tell("pod leader").run();
    let rest = "leader-elected, config-changed, start, data-storage-attached data/0";
    assert_eq!(ran, format!("{created}{rest}"));
    // What a container tells may come in the gap after `install`, never before it.
    let ran = Unit::fresh().tell("pod ready").run();
    let rest = "work-pebble-ready, config-changed, start, data-storage-attached data/0";
    assert_eq!(ran, format!("{created}{rest}"));
}

#[test]
fn a_pod_that_ends_stops_and_goes_on_in_the_next_one() {
    for (told, expected) in [
        ("pod leaving", "stop"),
        ("pod leaving !a/1 config", "stop"),
        // A hook in error is left to the next pod.
        ("pod config fail leaving", ""),
        ("pod leaving ready", "work-pebble-ready, stop"),
    ] {
        let mut unit = Unit::settled();
        assert_eq!(unit.tell(told).run(), expected, "{told}");
    }
    let mut unit = Unit::settled();
    unit.tell("pod leaving").run();
    assert_eq!(
        unit.tell("stays reboot !a/1").run(),
        "start, peers-relation-changed a/1"
    );
}

#[test]
fn a_container_is_heard_during_the_teardown_and_not_after_it() {
    let mut unit = Unit::settled();
    let ran = unit.tell("pod dying ready").run();
    assert!(
        ran.starts_with("work-pebble-ready, data-storage-detaching data/0, "),
        "{ran}"
    );
    assert!(ran.ends_with("stop, remove, dead"), "{ran}");
    unit.tell("ready");
    assert_eq!(unit.run(), "dead");
}

#[test]
fn an_action_may_come_before_install_since_only_storage_hooks_displace_it() {
    let ran = Unit::fresh().tell("action").run();
    assert!(
        ran.starts_with("data-storage-attached data/0, action, install, "),
        "{ran}"
    );
}

#[test]
fn a_settled_unit_answers_changes_with_as_few_hooks_as_can_be() {
    for (told, expected) in [
        ("", ""),
        ("!a/1", "peers-relation-changed a/1"),
        ("!a/1 !a/1 !a/1", "peers-relation-changed a/1"),
        (
            "!a/2 !a/1",
            "peers-relation-changed a/1, peers-relation-changed a/2",
        ),
        (
            "!a/1 !b/0",
            "db-relation-changed b/0, peers-relation-changed a/1",
        ),
        (
            "+a/10 +a/3",
            "peers-relation-joined a/10, peers-relation-changed a/10, peers-relation-joined a/3, peers-relation-changed a/3",
        ),
        ("-a/1", "peers-relation-departed a/1 departing a/1"),
        (
            "-a/1 !a/2 peer-app",
            "peers-relation-departed a/1 departing a/1, peers-relation-changed, peers-relation-changed a/2",
        ),
        ("peer-app", "peers-relation-changed"),
        ("peer-app peer-app", "peers-relation-changed"),
        ("config config", "config-changed"),
        ("leader", "leader-elected"),
        ("tick config", "config-changed, update-status"),
        ("tick !a/1", "peers-relation-changed a/1, update-status"),
        ("charm", "files true, upgrade-charm, config-changed"),
        ("action command config", "action, command, config-changed"),
        (
            "more-storage action",
            "action, data-storage-attached data/9",
        ),
        ("secret action", "secret-changed s/2, action"),
        ("detach", "data-storage-detaching data/0"),
        (
            "relation-dying",
            "db-relation-departed b/0 departing b/0, db-relation-broken",
        ),
        ("reboot", "start"),
        (
            "reboot config leader",
            "start, leader-elected, config-changed",
        ),
    ] {
        assert_eq!(Unit::settled().tell(told).run(), expected, "{told}");
    }
}

#[test]
fn a_dying_unit_gives_up_storage_first_and_peers_last() {
    const PEERS: &str =
        "peers-relation-departed a/1 departing a/0, peers-relation-departed a/2 departing a/0";
    const DB: &str = "db-relation-departed b/0 departing a/0, db-relation-broken";
    for (told, expected) in [
        (
            "dying",
            format!("data-storage-detaching data/0, {DB}, {PEERS}, stop, remove, dead"),
        ),
        // Nothing new any more, however much has changed.
        (
            "config charm leader secret tick !a/1 peer-app +a/9 more-storage dying",
            format!("drop data/9, {DB}, {PEERS}, stop, remove, dead"),
        ),
        (
            "action command dying",
            format!(
                "action, command, data-storage-detaching data/0, {DB}, {PEERS}, stop, remove, dead"
            ),
        ),
        // 3.6: those who leave at the same time are departed as all others.
        (
            "-a/1 dying",
            format!("data-storage-detaching data/0, {DB}, {PEERS}, stop, remove, dead"),
        ),
        (
            "application-dying dying",
            format!("data-storage-detaching data/0, {DB}, {PEERS}, stop, remove, dead"),
        ),
    ] {
        let got = Unit::settled().tell(told).run();
        let got = got.replace("drop data/9, data-storage-detaching data/0", "drop data/9");
        let got = got.replace("data-storage-detaching data/0, drop data/9", "drop data/9");
        assert_eq!(got, expected, "{told}");
    }
}

#[test]
fn relations_of_a_removed_application_may_break_before_its_units_know() {
    let mut unit = Unit::settled();
    unit.tell("application-dying");
    assert_eq!(
        unit.run(),
        "db-relation-departed b/0 departing a/0, db-relation-broken, \
         peers-relation-departed a/1 departing a/0, peers-relation-departed a/2 departing a/0"
    );
    assert_eq!(
        unit.tell("dying").run(),
        "data-storage-detaching data/0, stop, remove, dead"
    );
}

#[test]
fn a_unit_that_never_started_vanishes_without_hooks() {
    assert_eq!(Unit::fresh().tell("dying").run(), "drop data/0, dead");
    assert_eq!(Unit::fresh().tell("no-storage dying").run(), "dead");
}

#[test]
fn a_joined_unit_gets_its_changed_even_when_it_leaves_at_once() {
    for (told, expected) in [
        ("", "peers-relation-changed a/3"),
        ("!a/3 !a/3", "peers-relation-changed a/3"),
        (
            "-a/3",
            "peers-relation-changed a/3, peers-relation-departed a/3 departing a/3",
        ),
        (
            "!a/1",
            "peers-relation-changed a/3, peers-relation-changed a/1",
        ),
        ("config", "config-changed, peers-relation-changed a/3"),
    ] {
        let mut unit = Unit::settled();
        unit.tell("+a/3");
        assert_eq!(unit.step().as_deref(), Some("peers-relation-joined a/3"));
        assert_eq!(unit.tell(told).run(), expected, "{told}");
    }
}

#[test]
fn a_failed_hook_blocks_all_but_actions_and_commands() {
    for (told, expected) in [
        ("", "stuck"),
        ("config leader !a/2 more-storage secret tick", "stuck"),
        ("dying", "stuck"),
        ("action command", "action, command, stuck"),
        ("retry", "peers-relation-changed a/1"),
        ("due config", "peers-relation-changed a/1, config-changed"),
        ("skip", "skip peers-relation-changed a/1"),
        (
            "!a/1 retry",
            "peers-relation-changed a/1, peers-relation-changed a/1",
        ),
        ("charm", "stuck"),
        ("charm force-charm", "files false, stuck"),
        (
            "charm retry",
            "peers-relation-changed a/1, files true, upgrade-charm, config-changed",
        ),
        ("reboot", "stuck"),
        ("reboot retry", "peers-relation-changed a/1, start"),
        (
            "dying skip",
            "skip peers-relation-changed a/1, data-storage-detaching data/0, \
             db-relation-departed b/0 departing a/0, db-relation-broken, \
             peers-relation-departed a/1 departing a/0, peers-relation-departed a/2 departing a/0, \
             stop, remove, dead",
        ),
    ] {
        assert_eq!(
            Unit::settled().tell("!a/1 fail").tell(told).run(),
            expected,
            "{told}"
        );
    }
}

#[test]
fn a_failing_storage_detaching_stops_everything_behind_it() {
    let mut unit = Unit::settled();
    unit.tell("dying fail");
    assert_eq!(unit.run(), "stuck");
    assert!(
        unit.tell("skip")
            .run()
            .starts_with("skip data-storage-detaching data/0, db-")
    );
}

#[test]
fn leadership_is_taken_up_once_and_given_up_silently() {
    let mut unit = Unit::settled();
    assert_eq!(unit.tell("leader").run(), "leader-elected");
    assert_eq!(unit.tell("leader").run(), "");
    assert_eq!(unit.tell("deposed").run(), "");
    assert_eq!(unit.tell("leader").run(), "leader-elected");
}

#[test]
fn a_hook_that_ended_well_is_committed_and_not_run_again() {
    let mut unit = Unit::settled();
    unit.local.flight = Some(Flight {
        hook: Hook::plain(Kind::ConfigChanged),
        step: Step::Done,
        process: None,
    });
    assert_eq!(unit.tell("config").run(), "commit config-changed");
}

#[test]
fn error_texts_name_hooks_as_juju_does() {
    let mut unit = Unit::settled();
    unit.tell("detach fail");
    let names = |unit: &Unit| {
        let hook = unit.local.flight.as_ref().map(|flight| flight.hook.clone());
        hook.map(|hook| (hook.name(), hook.error_name()))
            .unwrap_or_default()
    };
    assert_eq!(
        names(&unit),
        (
            "data-storage-detaching".to_owned(),
            "storage-detaching".to_owned()
        )
    );
    let mut unit = Unit::settled();
    unit.tell("!a/1 fail");
    let full = "peers-relation-changed".to_owned();
    assert_eq!(names(&unit), (full.clone(), full));
}

proptest! {
    /// Whatever happens in whatever order: everybody who joined departs, and the unit ends.
    #[test]
    fn every_unit_can_be_torn_down(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "+a/1", "-a/1", "!a/1", "+a/2", "-a/2", "+b/0", "-b/0", "!b/0", "leader", "deposed",
                "config", "charm", "tick", "action", "command", "peer-app", "db-app", "detach",
                "more-storage", "secret", "relation-dying", "reboot",
            ]),
            0..40,
        ),
        steps in proptest::collection::vec(0_usize..6, 0..40),
    ) {
        let mut unit = Unit::fresh();
        let mut trace = Vec::new();
        for (word, steps) in words.iter().zip(steps.iter().chain(std::iter::repeat(&1))) {
            unit.tell(word);
            for _ in 0..*steps {
                trace.extend(unit.step());
            }
        }
        unit.tell("dying");
        let end = unit.run();
        prop_assert!(end.ends_with("dead"), "{end}");
        trace.extend(end.split(", ").map(ToOwned::to_owned));
        for name in ["a/1", "a/2", "b/0"] {
            let count = |kind: &str| {
                let about = format!("{kind} {name}");
                trace.iter().filter(|line| line.contains(&about)).count()
            };
            prop_assert_eq!(count("relation-joined"), count("relation-departed"), "{:?}", trace);
        }
        let at = |text: &str| trace.iter().position(|line| line.starts_with(text));
        if let (Some(detaching), Some(stop)) = (at("data-storage-detaching"), at("stop")) {
            prop_assert!(detaching < stop);
        }
        prop_assert_eq!(trace.iter().filter(|line| *line == "install").count() <= 1, true);
    }
}
