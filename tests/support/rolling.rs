//! Watches servers from outside while they are restarted one after another: in which order, as
//! what, how many were away at the same time, and how their data came back into step.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    meanwhile::meanwhile,
    model::{A_UNIT, Model, Unit, newest_server},
    wire::{Wire, info_field},
};

/// How often each server is asked.
const LOOK: Duration = Duration::from_millis(50);

/// What a replica's log says when it gets the whole data set.
pub const WHOLE_COPY: &str = "Full resync from primary";

/// What a server said last.
#[derive(Debug, Clone, Default)]
struct Said {
    process: String,
    role: String,
    version: String,
    full: u64,
    partial: u64,
}

/// A server that came back as another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Its unit.
    pub unit: String,
    /// What it was when its process before was last asked.
    pub role: String,
    /// Version that runs now.
    pub version: String,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Story {
    /// The restarts, in their order.
    pub restarts: Vec<Restart>,
    /// Synchronisations of the whole data set that primaries began.
    pub full: u64,
    /// Synchronisations of what was missing alone.
    pub partial: u64,
    /// Most servers that did not answer at the same time.
    pub most_away: usize,
}

impl Story {
    /// Returns the units that restarted, in their order.
    pub fn order(&self) -> Vec<&str> {
        self.restarts.iter().map(|it| it.unit.as_str()).collect()
    }

    /// Expects that each of `units` servers restarted once, never as the primary nor two at a time,
    /// `primary` last, and that no data set was copied as a whole.
    pub fn expect_rolled(&self, units: usize, primary: &str) {
        assert_eq!(self.restarts.len(), units, "each restarts once: {self:?}");
        assert_eq!(
            self.order().last(),
            Some(&primary),
            "the primary restarts last: {self:?}"
        );
        assert!(
            self.restarts.iter().all(|it| it.role == "slave"),
            "none restarts as the primary: {self:?}"
        );
        assert!(self.most_away <= 1, "one at a time: {self:?}");
        self.expect_partial(units);
    }

    /// Expects that `restarts` servers at least got what they missed, and none all data.
    pub fn expect_partial(&self, restarts: usize) {
        let restarts = u64::try_from(restarts).expect("a small number");
        assert!(
            self.full == 0 && self.partial >= restarts,
            "replicas get what they missed, not everything: {self:?}"
        );
    }
}

/// Runs `body` and watches the servers meanwhile.
pub fn watched<T>(model: &Model, body: impl FnOnce() -> T) -> (T, Story) {
    let log = |unit: &Unit| {
        let log = model.server_log(&unit.name);
        let text = fs::read(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        String::from_utf8_lossy(&text).into_owned()
    };
    watched_with(model, log, body)
}

/// Does so where the servers' logs are read in another way.
pub fn watched_with<T>(
    model: &Model,
    log: impl Fn(&Unit) -> String,
    body: impl FnOnce() -> T,
) -> (T, Story) {
    let before = copies_in_logs(model, &log);
    let (result, mut story) = meanwhile(|done| watch(model, done), body);
    // What a process did in its last moments it told nobody, but the replicas wrote it down.
    story.full = story
        .full
        .max(copies_since(&before, &copies_in_logs(model, &log)));
    (result, story)
}

/// Copies of the whole data set that a server's log tells of, by unit, and the address that it had.
type Copies = BTreeMap<String, (IpAddr, u64)>;

/// Counts the copies of the whole data set that the servers' logs tell of.
fn copies_in_logs(model: &Model, log: &impl Fn(&Unit) -> String) -> Copies {
    let count = |unit: Unit| {
        let count = log(&unit).matches(WHOLE_COPY).count();
        let count = u64::try_from(count).expect("a small number");
        (unit.name, (unit.address, count))
    };
    model.units().into_iter().map(count).collect()
}

/// Returns how many copies came between two counts; a pod that came back under another address began a new log.
fn copies_since(before: &Copies, after: &Copies) -> u64 {
    let new = |(unit, (address, count)): (&String, &(IpAddr, u64))| match before.get(unit) {
        Some((known, seen)) if known == address => count.saturating_sub(*seen),
        Some(_) | None => *count,
    };
    after.iter().map(new).sum()
}

fn watch(model: &Model, done: &AtomicBool) -> Story {
    let mut units = model.units();
    let mut wires: BTreeMap<String, Wire> = BTreeMap::new();
    let mut last: BTreeMap<String, Said> = BTreeMap::new();
    let mut story = Story::default();
    let mut moved = false;
    loop {
        // Once more at the end, when everything has settled.
        let ends = done.load(Ordering::Relaxed);
        let mut away = 0;
        if moved || model.are_pods() && units.len() < last.len() {
            // A pod comes back elsewhere, and has no address before.
            units = model.units();
            moved = false;
        }
        for unit in &units {
            let wire = match wires.remove(&unit.name) {
                Some(wire) => Ok(wire),
                None => model.server(unit.address),
            };
            let told = wire.ok().and_then(|mut wire| {
                let said = ask(&mut wire)?;
                wires.insert(unit.name.clone(), wire);
                Some(said)
            });
            let Some(said) = told else {
                away += 1;
                moved |= model.are_pods();
                continue;
            };
            let before = last.insert(unit.name.clone(), said.clone());
            let (full, partial) = match before {
                Some(before) if before.process == said.process => (before.full, before.partial),
                Some(before) => {
                    story.restarts.push(Restart {
                        unit: unit.name.clone(),
                        role: before.role,
                        version: said.version.clone(),
                    });
                    (0, 0)
                }
                None => (said.full, said.partial),
            };
            story.full += said.full - full;
            story.partial += said.partial - partial;
        }
        story.most_away = story.most_away.max(away);
        if ends {
            return story;
        }
        thread::sleep(LOOK);
    }
}

fn ask(wire: &mut Wire) -> Option<Said> {
    let info = wire
        .call(&["INFO", "server", "replication", "stats"])
        .ok()?
        .text()?;
    let text = |name: &str| info_field(&info, name);
    let number = |name: &str| text(name)?.parse().ok();
    Some(Said {
        // Unlike its number, no two processes have it in common.
        process: text("run_id")?,
        role: text("role")?,
        version: text("valkey_version")?,
        full: number("sync_full")?,
        partial: number("sync_partial_ok")?,
    })
}

/// Waits until every server and Sentinel runs `version`.
pub fn all_run(model: &Model, version: &str) {
    model.wait_until(&format!("everything runs {version}"), A_UNIT * 5, || {
        for unit in model.units() {
            for wire in [model.server(unit.address), model.sentinel(unit.address)] {
                let info = wire
                    .and_then(|mut wire| wire.call(&["INFO", "server"]))
                    .map_err(|error| format!("{}: {error}", unit.name))?;
                let info = info.text().unwrap_or_default();
                let runs = info_field(&info, "valkey_version").unwrap_or_default();
                if runs != version {
                    return Err(format!("{} runs {runs}: {}", unit.name, unit.message));
                }
            }
        }
        Ok(())
    });
}

/// Returns the version of the newest server, as it prints it.
pub fn newest_version() -> String {
    let output = Command::new(newest_server())
        .arg("--version")
        .output()
        .expect("the newest server starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    version.expect("it prints its version").to_owned()
}
