//! A deployed application in a network of its own, under writers, with what can happen to it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    kept,
    net::{CLIENT, CLIENT_ADDRESS, How, Net, PERSON, SmallDisk, Way},
    report::Report,
    support::{
        model::{A_UNIT, Model, Unit, number},
        oracles,
    },
    writers::{self, Acknowledged, Kind, Writers, v4},
};

/// Longest from a fault to the promotion of a replica, with slack for busy cores.
const FAILOVER: Duration = Duration::from_secs(30);

/// What belongs to one case; ends in the order of its fields.
pub struct World {
    /// The case's name.
    case: &'static str,
    writers: Option<Writers>,
    /// Small disks of the units, by number, where the case wants them.
    pub disks: Vec<SmallDisk>,
    /// The model.
    pub model: Model,
    /// The network.
    pub net: Net,
    /// Who was primary before the fault.
    pub primary: Unit,
    /// Who followed.
    pub replicas: Vec<Unit>,
    /// When the fault began.
    began: Option<Instant>,
    /// When its packets no longer passed, where it is a cut.
    in_force: Option<Instant>,
    /// Whether the fault lets writes through but not their acknowledgements, which come late then.
    mute: bool,
    /// When it ended.
    ended: Option<Instant>,
    /// Whether writes may wait in a frozen server and be taken when it wakes.
    pub frozen: bool,
}

impl World {
    /// Deploys three units and starts writers: of each kind one among the clients and one beside
    /// the primary.
    pub fn new(case: &'static str) -> Self {
        Self::with_disks(case, 3, None)
    }

    /// As [`Self::new`], with another number of units, and with small disks of so many MiB.
    pub fn with_disks(case: &'static str, units: usize, disk_mib: Option<u32>) -> Self {
        let model = Model::new();
        let net = Net::new();
        net.note_state(model.state());
        net.door(PERSON).enter();
        let driver = format!("machine-driver={}", net.driver().display());
        model.handle(&["setting", &driver]);
        let disks = disk_mib.map_or_else(Vec::new, |size| {
            (0..units)
                .map(|unit| {
                    let folder = model.state().join(format!("storage/data-{unit}"));
                    SmallDisk::over(&folder, size, &net)
                })
                .collect()
        });
        model.deploy(units, &[]);
        let settled = model.settled(units, A_UNIT * u32::try_from(units).unwrap_or(3));
        let primary = settled.primary;
        let writers = Writers::start(
            &model,
            primary.address,
            &net.door(CLIENT),
            &net.door_of(number(&primary.name)),
        );
        Self {
            case,
            writers: Some(writers),
            disks,
            model,
            net,
            primary,
            replicas: settled.replicas,
            began: None,
            in_force: None,
            mute: false,
            ended: None,
            frozen: false,
        }
    }

    /// Returns the writers.
    pub fn writers(&self) -> &Writers {
        self.writers.as_ref().expect("the writers are at work")
    }

    /// Lets writes flow for a moment, so that a fault meets a busy application; then it begins.
    pub fn begin(&mut self) -> Instant {
        self.writers().flowing(&self.model, |_, _| true);
        let now = Instant::now();
        self.began = Some(now);
        self.ended = None;
        now
    }

    /// Notes that the fault is over.
    pub fn end(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// Returns the addresses of all units but one, and the clients'.
    pub fn others(&self, unit: &Unit) -> Vec<Ipv4Addr> {
        self.replicas
            .iter()
            .chain([&self.primary])
            .map(|other| v4(other.address))
            .filter(|address| *address != v4(unit.address))
            .chain([CLIENT_ADDRESS])
            .collect()
    }

    /// Cuts a unit from all other units and the clients. Its agent loses the controller too.
    pub fn isolate(&mut self, unit: &Unit, way: Way, how: How) {
        self.cut(unit, way, how);
        self.model.handle(&["cut", &unit.name]);
    }

    /// Cuts a unit from all other units and the clients; its agent notices nothing.
    pub fn cut(&mut self, unit: &Unit, way: Way, how: How) {
        self.net.cut(v4(unit.address), &self.others(unit), way, how);
        self.in_force.get_or_insert_with(Instant::now);
        self.mute = way == Way::Out;
    }

    /// Ends what [`Self::isolate`] began.
    pub fn rejoin(&mut self, unit: &Unit) {
        self.net.heal();
        self.end();
        self.model.handle(&["heal", &unit.name]);
    }

    /// Waits until the Sentinels' side has another primary than `old`; returns it.
    pub fn replaced(&self, old: &Unit) -> Unit {
        self.model.wait_until(
            &format!("another unit than {} is primary", old.name),
            FAILOVER,
            || {
                let primaries = oracles::primaries(&self.model);
                primaries
                    .iter()
                    .find(|unit| unit.name != old.name)
                    .cloned()
                    .ok_or_else(|| format!("primaries: {primaries:?}"))
            },
        )
    }

    /// Lets a fault last until so long after its beginning.
    pub fn last(&self, until: Duration) {
        let began = self.began.expect("a fault has begun");
        std::thread::sleep(until.saturating_sub(began.elapsed()));
    }

    /// Waits for the full redundancy, stops the writers and measures.
    pub fn report(&mut self, units: usize) -> Report {
        let began = self.began.expect("a fault has begun");
        let over = self.ended.unwrap_or(began);
        let mut missing = String::new();
        let settled = self.model.wait_until("full redundancy", A_UNIT * 2, || {
            oracles::examine(&self.model, units).inspect_err(|reason| {
                if *reason != missing {
                    println!("{:>6} ms: {reason}", over.elapsed().as_millis());
                    missing.clone_from(reason);
                }
            })
        });
        let redundancy = over.elapsed();
        self.writers()
            .flowing(&self.model, |kind, outside| outside && kind != Kind::Stays);
        let gap_follows = self.writers().gap(Kind::Follows, began);
        let gap_polls = self.writers().gap(Kind::Polls, began);
        let acknowledged = self.writers.as_mut().expect("they are at work").finish();
        let lost = self.lost(settled.primary.address, &acknowledged);
        let old = self.primary.address;
        let in_force = self.in_force.unwrap_or(began);
        // The server takes a write at once when it is asked; what it answers may have to be sent again for long.
        let taken = |write: &Acknowledged| if self.mute { write.sent } else { write.at };
        let displaced: Vec<&Acknowledged> = acknowledged
            .iter()
            .filter(|write| write.server == old && write.at >= began)
            // What was taken before a cut is often acknowledged after it only; that is no fault of the server.
            .filter(|write| self.frozen || write.sent >= in_force)
            .filter(|_| settled.primary.address != old)
            .collect();
        let latest = displaced.iter().map(|write| taken(write)).max();
        let not_kept = kept::not_kept(&self.model, &lost);
        let report = Report {
            case: self.case,
            acknowledged: acknowledged.len(),
            lost: lost.len(),
            lost_confirmed: lost.iter().filter(|write| write.confirmed > 0).count(),
            lost_everywhere: lost.iter().filter(|write| write.confirmed > 1).count(),
            lost_not_kept: not_kept.len(),
            displaced_writes: displaced.len(),
            displaced_for: latest.map_or(Duration::ZERO, |at| at.duration_since(began)),
            displaced_after_heal: displaced
                .iter()
                .filter(|write| self.ended.is_some_and(|end| taken(write) > end))
                .count(),
            gap_follows,
            gap_polls,
            redundancy,
            note: String::new(),
        };
        if let Some(first) = not_kept.first() {
            println!(
                "not kept: {} of {:?}, first {} {:?} after the fault, last {:?}; kept sets: {:?}",
                not_kept.len(),
                writers::servers(&not_kept),
                writers::key(first),
                first.at.saturating_duration_since(began),
                not_kept
                    .iter()
                    .map(|write| write.at.saturating_duration_since(began))
                    .max(),
                kept::sets(&self.model),
            );
        }
        report
    }

    fn lost(&self, primary: IpAddr, writes: &[Acknowledged]) -> Vec<Acknowledged> {
        let mut wire = self
            .model
            .server(primary)
            .expect("cannot reach the primary to look for what was written");
        writers::missing(&mut wire, writes)
    }

    /// Returns the process that a unit's pid file names, if it is a Valkey process of this model.
    pub fn process(&self, unit: &Unit, service: &str) -> Option<i32> {
        let tag = unit.name.replace('/', "-");
        let run = format!("agents/unit-{tag}/valkey");
        let run = self.model.state().join(run);
        let text = fs::read_to_string(run.join(format!("{service}.pid"))).ok()?;
        let file: serde_json::Value = serde_json::from_str(&text).ok()?;
        let pid = i32::try_from(file["pid"].as_i64()?).ok()?;
        let log = fs::read_link(format!("/proc/{pid}/fd/1")).ok()?;
        log.starts_with(&run).then_some(pid)
    }

    /// Returns the processes of a unit's watcher: the parent that restarts it, and the child.
    pub fn watcher_processes(&self, unit: &Unit) -> Vec<i32> {
        let mark = self
            .model
            .state()
            .join(format!("agents/unit-{}", unit.name.replace('/', "-")));
        let mark = mark.display().to_string();
        let entries = fs::read_dir("/proc").expect("cannot list the processes");
        let mut found: Vec<i32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"))
                    .unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.contains(" watch ") && line.contains(&mark)
            })
            .collect();
        // The parent first, so that it cannot start the child again.
        found.sort_unstable();
        assert!(!found.is_empty(), "{} has no watcher", unit.name);
        found
    }
}

impl World {
    /// Lets a process go on that was stopped, if it is still there.
    pub fn wake(process: i32) {
        let process = Pid::from_raw(process).expect("a process id");
        // The watcher may have ended it, which is as good.
        let _ = kill_process(process, Signal::CONT);
    }
}

/// Sends a signal to a process, unless it is gone.
pub fn signal_if_there(process: Option<i32>, what: Signal) {
    if let Some(process) = process.and_then(Pid::from_raw) {
        let _ = kill_process(process, what);
    }
}
