//! What a primary accepted before it was displaced is kept aside, whoever displaces it: Sentinel is faster than any
//! hook. Needs root, and a tool that can drop traffic.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use support::{
    drills::FAILOVER,
    model::{A_UNIT, Model, Unit, newest_server},
    rescue::{Rescue, kept, storage},
    wire::Reply,
};

/// Writes on the cut-off side until the server refuses; returns the keys that were acknowledged.
fn write_until_refused(model: &Model, unit: &Unit, since: Instant) -> Vec<String> {
    let mut wire = model
        .connect_inside(unit)
        .expect("the server answers inside the cut");
    let mut keys = Vec::new();
    for number in 0.. {
        assert!(
            since.elapsed() < FAILOVER,
            "the isolated primary never stopped taking writes"
        );
        let key = format!("inside:{number}");
        match wire.call(&["SET", &key, "1"]) {
            Ok(Reply::Text(text)) if text == "OK" => keys.push(key),
            Ok(Reply::Refused(_)) => break,
            other => panic!("unexpected answer {other:?}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
    keys
}

/// A primary that was displaced.
struct Displaced {
    unit: Unit,
    /// What it acknowledged while it was cut off.
    keys: Vec<String>,
    /// Whether the watcher ended it.
    ended: bool,
}

/// Cuts the primary off under writes until another is promoted, heals, and waits until Sentinel has turned it
/// into a replica, while its agent is busy with something else.
fn displaced_without_hooks(model: &Model) -> Displaced {
    let lost = model.settled(3, A_UNIT).primary;
    model.passwords();
    let done = model.state().join("displaced");
    let (keys, ended) = thread::scope(|scope| {
        let (unit, state) = (lost.name.clone(), model);
        // As long as this runs no hook of the unit does.
        let busy_until_done = format!(
            "for _ in $(seq 900); do [ -e '{}' ] && exit; sleep 0.1; done",
            done.display()
        );
        let busy = scope.spawn(move || {
            state.try_juju(&[
                "exec",
                "--unit",
                &unit,
                "--wait",
                "100s",
                "--",
                &busy_until_done,
            ])
        });
        model.wait_until("the agent is busy", A_UNIT, || {
            let agent = model.unit(&lost.name).agent;
            if agent == "executing" {
                Ok(())
            } else {
                Err(agent)
            }
        });
        let cut = Instant::now();
        model.handle(&["cut", &lost.name]);
        let keys = write_until_refused(model, &lost, cut);
        println!(
            "{} writes accepted inside the cut, refused after {:?}",
            keys.len(),
            cut.elapsed()
        );
        model.promoted(&lost);
        model.handle(&["heal", &lost.name]);
        let healed = Instant::now();
        // Sentinel notices up to 15 s later that a connection which it began during the cut leads nowhere. On a machine
        // so busy that the server seems frozen the watcher comes first: it ends it, and the next hook starts a replica.
        let ended = model.wait_until("it was displaced", A_UNIT, || {
            let info = match model.replication(lost.address) {
                Ok(info) => info,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(true),
                Err(error) => return Err(error.to_string()),
            };
            if info.contains("role:slave") && info.contains("master_link_status:up") {
                Ok(false)
            } else {
                Err("no replica yet".to_owned())
            }
        });
        let how = if ended { "ended" } else { "displaced" };
        println!("{how} {:?} after healing", healed.elapsed());
        assert!(!busy.is_finished(), "hooks could run meanwhile");
        fs::write(&done, "").expect("a file that ends it");
        let _ = busy.join();
        (keys, ended)
    });
    Displaced {
        unit: lost,
        keys,
        ended,
    }
}

#[test]
fn what_an_isolated_primary_accepted_is_kept_although_no_hook_ran() {
    let model = Model::new();
    kept_although_no_hook_ran(&model, Path::new("valkey-server"));
}

#[test]
fn what_an_isolated_primary_of_the_newest_version_accepted_is_kept_too() {
    let model = Model::with_newest();
    kept_although_no_hook_ran(&model, &newest_server());
}

fn kept_although_no_hook_ran(model: &Model, program: &Path) {
    model.deploy(3, &[]);
    model.settled(3, A_UNIT * 3);
    let Displaced { unit, keys, ended } = displaced_without_hooks(model);
    assert!(keys.len() > 100, "hardly anything was written inside");
    let folder = storage(model, &unit);
    let set = model.wait_until(
        "one data set is kept",
        A_UNIT,
        || match &kept(&folder)[..] {
            [set] => Ok(set.clone()),
            sets => Err(format!("{sets:?}")),
        },
    );
    assert_eq!(
        Rescue::of(&set, program).missing(model, &keys),
        Vec::<String>::new()
    );
    // How much was lost is not known if the watcher was too busy to note the last offset before it ended the server.
    let known = model.wait_until("it is described", A_UNIT, || {
        let about = fs::read_to_string(set.join("about.json")).unwrap_or_default();
        let described: serde_json::Value = serde_json::from_str(&about).unwrap_or_default();
        match described["lost-writes"].as_u64() {
            None if !ended => Err(about),
            writes => Ok(writes),
        }
    });
    if let Some(writes) = known {
        let written = u64::try_from(keys.len()).expect("a count");
        // The first of them may have reached a replica; the charm's own records are few.
        assert!(
            writes <= written + 10 && writes * 10 >= written * 5,
            "{writes} lost of {written} written inside"
        );
    }
    // A person is told, and how much it is.
    model.wait_until("status and history tell of it", A_UNIT, || {
        let detail = model.run(&unit.name, "status-detail", &[]).all();
        let history = model
            .run(&unit.name, "failover-history", &["format=json"])
            .all();
        let how_much = detail.contains("are nowhere else")
            || ended && detail.contains("what in it is nowhere else is not known");
        let told =
            how_much && detail.contains("former-primary") && history.contains("-former-primary");
        if told {
            Ok(())
        } else {
            Err(format!("{detail} {history}"))
        }
    });
    assert!(
        !folder.join("kept/.held").exists(),
        "nothing is held any more"
    );
}

#[test]
fn what_it_accepted_is_kept_without_a_log_too() {
    let model = Model::new();
    model.deploy(3, &[("persistence", "rdb")]);
    model.settled(3, A_UNIT * 3);
    let Displaced { unit, keys, .. } = displaced_without_hooks(&model);
    model.settled(3, A_UNIT * 2);
    let sets = kept(&storage(&model, &unit));
    let newest = sets.last().expect("a set is kept");
    assert_eq!(
        Rescue::of(newest, Path::new("valkey-server")).missing(&model, &keys),
        Vec::<String>::new()
    );
}

#[test]
fn what_displaces_nobody_leaves_nothing_behind() {
    let model = Model::deployed(3);
    let settled = model.settled(3, A_UNIT);
    // Shorter than the detection time: the primary is fenced for a moment and goes on.
    for replica in &settled.replicas {
        model.handle(&["freeze", &replica.name]);
    }
    thread::sleep(Duration::from_secs(4));
    for replica in &settled.replicas {
        model.handle(&["thaw", &replica.name]);
    }
    model.wait_until("both acknowledge again", A_UNIT, || {
        let fenced = model
            .replication(settled.primary.address)
            .map_err(|error| error.to_string())?;
        if fenced.contains("min_slaves_good_slaves:2") {
            Ok(())
        } else {
            Err(fenced)
        }
    });
    let after = model.settled(3, A_UNIT);
    // A planned hand-over loses nothing either, also if the old primary restarts right after it.
    let target = after.replicas[0].name.clone();
    model.switch_over(Some(&target));
    model.configure(&[("databases", "17")]);
    model.wait_until("all have restarted", A_UNIT * 3, || {
        for unit in model.units() {
            let databases = model
                .server(unit.address)
                .and_then(|mut wire| wire.call(&["CONFIG", "GET", "databases"]))
                .map_err(|error| error.to_string())?;
            if databases.field("databases").as_deref() != Some("17") {
                return Err(format!("{}: {databases}", unit.name));
            }
        }
        Ok(())
    });
    let settled = model.settled(3, A_UNIT * 2);
    for unit in model.units() {
        let folder = storage(&model, &unit);
        assert_eq!(kept(&folder), Vec::<PathBuf>::new(), "{}", unit.name);
        let held = folder.join("kept/.held");
        let primary = unit.name == settled.primary.name;
        model.wait_until("only the primary's data is held", A_UNIT, || {
            if held.exists() == primary {
                Ok(())
            } else {
                Err(format!("{}: held {}", unit.name, held.exists()))
            }
        });
    }
}
