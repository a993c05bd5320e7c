//! One fault after the other without time to recover, drawn by a seed.
//!
//! `CHAOS_SEED=N` chooses the seed; the same seed draws the same faults, at the same times as far
//! as real processes keep time.

use std::{env, fmt, thread, time::Duration};

use rustix::process::Signal;

use crate::{
    net::{How, Way},
    report::Bars,
    support::{model::Unit, oracles},
    world::{World, signal_if_there},
    writers::v4,
};

/// How many faults a storm has.
const FAULTS: usize = 9;

/// Seed of the storm in the normal test run.
const SEED: u64 = 1;

/// Stands for whichever unit is primary when the fault comes.
const PRIMARY: usize = 3;

/// A fault, on units by their place in the list, or on [`PRIMARY`].
#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut(usize, Way, How),
    CutBetween(usize, Way, How),
    KillServer(usize),
    KillSentinel(usize),
    KillUnit(usize),
    FreezeServer(usize),
    FreezeSentinel(usize),
    FreezeUnit(usize),
}

/// A fault with how long it lasts and how long it is quiet afterwards.
#[derive(Debug, Clone, Copy)]
struct Gust {
    fault: Fault,
    lasts: Duration,
    quiet: Duration,
}

impl fmt::Display for Gust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} for {:?}, quiet for {:?}",
            self.fault, self.lasts, self.quiet
        )
    }
}

/// Numbers from a seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn unit(&mut self) -> usize {
        usize::try_from(self.below(6)).unwrap().min(PRIMARY)
    }

    fn way(&mut self) -> Way {
        [Way::Both, Way::Both, Way::Out, Way::In][usize::try_from(self.below(4)).unwrap()]
    }

    fn how(&mut self) -> How {
        if self.below(2) == 0 {
            How::Drop
        } else {
            How::Reject
        }
    }

    fn gust(&mut self) -> Gust {
        let one = self.unit();
        let fault = match self.below(9) {
            0 | 1 => Fault::Cut(one, self.way(), self.how()),
            2 => Fault::CutBetween(one, self.way(), self.how()),
            3 => Fault::KillServer(one),
            4 => Fault::KillSentinel(one),
            5 => Fault::KillUnit(one),
            6 => Fault::FreezeServer(one),
            7 => Fault::FreezeSentinel(one),
            _ => Fault::FreezeUnit(one),
        };
        Gust {
            fault,
            lasts: Duration::from_millis(200 + self.below(9000)),
            quiet: Duration::from_millis(self.below(5000)),
        }
    }
}

/// Lets a fault happen and undoes it.
fn blow(world: &mut World, units: &[Unit], gust: Gust) {
    let primary = oracles::primaries(&world.model)
        .first()
        .and_then(|primary| units.iter().position(|unit| unit.name == primary.name))
        .unwrap_or(0);
    let at = |unit: usize| if unit == PRIMARY { primary } else { unit };
    let name = |unit: usize| units[at(unit)].name.as_str();
    let wait = || thread::sleep(gust.lasts);
    match gust.fault {
        Fault::Cut(unit, way, how) => {
            world.isolate(&units[at(unit)], way, how);
            wait();
            world.rejoin(&units[at(unit)]);
        }
        Fault::CutBetween(one, way, how) => {
            let one = at(one);
            let (one, other) = (v4(units[one].address), v4(units[(one + 1) % 3].address));
            world.net.cut(one, &[other], way, how);
            wait();
            world.net.heal();
        }
        Fault::KillServer(unit) => {
            signal_if_there(world.process(&units[at(unit)], "server"), Signal::KILL);
            wait();
        }
        Fault::KillSentinel(unit) => {
            signal_if_there(world.process(&units[at(unit)], "sentinel"), Signal::KILL);
            wait();
        }
        Fault::KillUnit(unit) => {
            world.model.handle(&["kill", name(unit)]);
            wait();
            world.model.handle(&["reboot", name(unit)]);
        }
        Fault::FreezeServer(unit) | Fault::FreezeSentinel(unit) => {
            let service = match gust.fault {
                Fault::FreezeServer(_) => "server",
                _ => "sentinel",
            };
            let process = world.process(&units[at(unit)], service);
            signal_if_there(process, Signal::STOP);
            wait();
            signal_if_there(process, Signal::CONT);
        }
        Fault::FreezeUnit(unit) => {
            world.model.handle(&["freeze", name(unit)]);
            wait();
            world.model.handle(&["thaw", name(unit)]);
        }
    }
    thread::sleep(gust.quiet);
}

#[test]
fn storm() {
    let seed =
        env::var("CHAOS_SEED").map_or(SEED, |text| text.parse().expect("CHAOS_SEED is a number"));
    println!("CHAOS_SEED={seed}");
    let mut draw = Draw(seed);
    let mut world = World::new("storm");
    let units = world.model.units();
    let began = world.begin();
    for _ in 0..FAULTS {
        let gust = draw.gust();
        println!("{:?}: {gust}", began.elapsed());
        blow(&mut world, &units, gust);
    }
    world.end();
    let mut report = world.report(3);
    report.note = format!("seed {seed}");
    report.judge(&Bars {
        // Displacements follow one another faster than a person could look at what was kept.
        unkept_allowed: true,
        confirmed_allowed: true,
        ..Bars::default()
    });
}
