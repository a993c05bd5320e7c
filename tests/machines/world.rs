//! The charm deployed on machines, under writers that never stop.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use crate::{
    machines::{Hold, Machines},
    support::{
        model::{A_UNIT, Model, Unit, number},
        oracles::{self, Settled},
        wire::info_field,
        writers::{Verdict, Writers},
    },
};

pub use crate::support::drills::{FAILOVER, IN_FLIGHT};

/// Longest until systemd has brought a database up without Juju: boot, gate, loading.
pub const BY_ITSELF: Duration = Duration::from_secs(40);
/// What runs for each unit.
pub const SERVICES: [&str; 3] = ["server", "sentinel", "watch"];

/// Gives users of the machine of unit 3 other numbers, so that what was written on another machine
/// belongs to nobody there.
const PREPARE: &str = "
if [ \"$(hostname)\" = u3 ]; then
    useradd --system somebody
    useradd --system somebody-else
fi
";

/// What belongs to one test; ends in the order of its fields.
pub struct World {
    writers: Option<Writers>,
    /// The model.
    pub model: Model,
    /// Its machines.
    pub machines: Machines,
}

impl World {
    /// Deploys units and, when they have settled, starts the usual writers.
    pub fn new(units: usize) -> Self {
        Self::on(Machines::new(), units)
    }

    /// Does so on machines of another kind than the usual.
    pub fn on(machines: Machines, units: usize) -> Self {
        machines.prepare(PREPARE);
        let model = machines.model(archive());
        let started = Instant::now();
        model.deploy(units, &[]);
        model.settled(units, A_UNIT * u32::try_from(units).unwrap_or(3));
        println!("{units} units settled after {:?}", started.elapsed());
        let writers = Some(Writers::start_usual(&model));
        Self {
            writers,
            model,
            machines,
        }
    }

    /// Returns the writers.
    pub fn writers(&self) -> &Writers {
        self.writers.as_ref().expect("the writers are at work")
    }

    /// Waits until so many units have settled and every writer writes; returns who is what.
    pub fn settled(&self, units: usize) -> Settled {
        let settled = self.model.settled(units, A_UNIT * 2);
        self.writers().refresh(&self.model);
        self.writers().flowing(&self.model);
        settled
    }

    /// Stops the writers and looks for what they wrote.
    pub fn verify(&mut self, primary: &Unit) -> Verdict {
        let writers = self.writers.take().expect("the writers are at work");
        let verdict = writers.verify(&self.model, primary.address);
        println!(
            "{} writes acknowledged, {} lost",
            verdict.acknowledged, verdict.lost
        );
        verdict
    }

    /// Waits until a unit other than `lost` is the only primary.
    pub fn replaced(&self, lost: &Unit) -> Unit {
        let what = format!("another unit than {} is the primary", lost.name);
        self.model.wait_until(&what, FAILOVER, || {
            match &oracles::primaries(&self.model)[..] {
                [one] if one.name != lost.name => Ok(one.clone()),
                others => Err(format!("primaries: {others:?}")),
            }
        })
    }

    /// Ends a service's main process at once.
    pub fn kill_service(&self, unit: &str, service: &str) {
        let service = service_of(unit, service);
        self.machines.on(
            unit,
            &format!("systemctl kill --kill-who=main --signal=KILL {service}"),
        );
    }

    /// Returns the main process of a service, as its machine counts them; 0 if there is none.
    pub fn process(&self, unit: &str, service: &str) -> String {
        let service = service_of(unit, service);
        let shown = self.machines.on(
            unit,
            &format!("systemctl show --property=MainPID --value {service}"),
        );
        shown.trim().to_owned()
    }

    /// Expects that all services of a unit run, would come up with the machine, and that server and
    /// Sentinel do not run as root.
    pub fn expect_services(&self, unit: &str) {
        for service in SERVICES {
            let name = service_of(unit, service);
            let is = |what: &str| {
                let said = self
                    .machines
                    .try_on(unit, &format!("systemctl {what} {name}"));
                assert!(said.is_ok(), "{what}: {said:?}{}", self.journal(unit));
            };
            is("is-active");
            is("is-enabled");
            let process = self.process(unit, service);
            let user = self
                .machines
                .on(unit, &format!("stat --format=%U /proc/{process}"));
            assert_eq!(
                user.trim() == "root",
                service == "watch",
                "{name} runs as {user}"
            );
        }
    }

    /// Waits until a unit's server serves: as a primary, or as a replica with its link up.
    pub fn serves(&self, unit: &Unit, limit: Duration) -> String {
        let what = format!("{} serves", unit.name);
        self.model.wait_until(&what, limit, || {
            let info = self
                .model
                .replication(unit.address)
                .map_err(|error| error.to_string())?;
            let role = info_field(&info, "role").unwrap_or_default();
            let link = info_field(&info, "master_link_status");
            match link.as_deref() {
                None | Some("up") if !role.is_empty() => Ok(role),
                other => Err(format!("{role:?}, link {other:?}")),
            }
        })
    }

    /// Waits until a unit's server may be promoted.
    pub fn promotable(&self, unit: &Unit, limit: Duration) {
        let what = format!("{} is promotable", unit.name);
        self.model.wait_until(&what, limit, || {
            let asked = ["CONFIG", "GET", "replica-priority"];
            let answer = self
                .model
                .server(unit.address)
                .and_then(|mut wire| wire.call(&asked))
                .map_err(|error| error.to_string())?;
            match answer.field("replica-priority").as_deref() {
                Some("100") => Ok(()),
                other => Err(format!("priority {other:?}")),
            }
        });
    }

    /// Waits until Juju's log tells what a unit's programs said while no hook ran.
    pub fn juju_is_told(&self, unit: &Unit, said: &[&str]) {
        self.model.wait_until("Juju's log tells it", BY_ITSELF, || {
            let log = self.model.juju(&["debug-log", "--include", &unit.name]);
            let told: Vec<&str> = log
                .lines()
                .filter(|line| line.contains("Outside of hooks: "))
                .collect();
            if said
                .iter()
                .all(|text| told.iter().any(|line| line.contains(text)))
            {
                Ok(())
            } else {
                Err(format!("{told:#?}"))
            }
        });
    }

    /// Returns how many full copies the servers that run have handed out.
    pub fn full_copies(&self) -> u64 {
        let units = self.model.units();
        let copies = units.iter().filter_map(|unit| {
            let mut wire = self.model.server(unit.address).ok()?;
            let info = wire.call(&["INFO", "stats"]).ok()?.text()?;
            info_field(&info, "sync_full")?.parse::<u64>().ok()
        });
        copies.sum()
    }

    /// Boots machines anew, all at the same time and without Juju's agents; then lets `meanwhile`
    /// look, and then the agents come.
    pub fn reboot_without_agents(&self, units: &[&str], meanwhile: impl FnOnce(&Self)) {
        let holds: Vec<Hold> = units
            .iter()
            .map(|unit| self.machines.hold_agent(unit))
            .collect();
        let before: Vec<usize> = units.iter().map(|unit| self.machines.boots(unit)).collect();
        thread::scope(|scope| {
            for unit in units {
                scope.spawn(|| self.model.handle(&["reboot", unit]));
            }
            // Dropped also when `meanwhile` panics, because the scope waits.
            let _holds = holds;
            for (unit, before) in units.iter().zip(before) {
                self.machines.wait_for_boot(unit, before);
            }
            meanwhile(self);
        });
    }

    /// Boots machines anew, all at the same time.
    pub fn reboot(&self, units: &[&str]) {
        thread::scope(|scope| {
            for unit in units {
                scope.spawn(|| self.model.handle(&["reboot", unit]));
            }
        });
    }

    /// Returns what a unit's machine logged last, for a failure's message.
    pub fn journal(&self, unit: &str) -> String {
        let command = "journalctl --no-pager --lines=60 --unit='valkey-*'";
        match self.machines.try_on(unit, command) {
            Ok(text) | Err(text) => format!("\n--- journal of {unit}\n{text}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            for unit in self.model.units() {
                eprintln!("{}", self.journal(&unit.name));
                let asked = ["SENTINEL", "SENTINELS", "primary"];
                let known = self
                    .model
                    .sentinel(unit.address)
                    .and_then(|mut wire| wire.call(&asked));
                for other in known.as_ref().map_or(&[][..], |known| known.list()) {
                    let field = |name: &str| other.field(name).unwrap_or_default();
                    eprintln!(
                        "Sentinel of {} knows {} at {}: {}",
                        unit.name,
                        field("runid"),
                        field("name"),
                        field("flags")
                    );
                }
            }
        }
    }
}

/// Returns the name of a service of systemd.
pub fn service_of(unit: &str, service: &str) -> String {
    format!("valkey-{}-{service}.service", number(unit))
}

/// Returns the charm's archive with the program of this test run, which is packed once.
pub fn archive() -> PathBuf {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    let pack = || {
        let output = Command::new("scripts/build-charm")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["--program", env!("CARGO_BIN_EXE_valkey-operator"), "--to"])
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines"))
            .output()
            .expect("cannot run scripts/build-charm");
        assert!(
            output.status.success(),
            "cannot pack the charm: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    };
    ARCHIVE.get_or_init(pack).clone()
}
