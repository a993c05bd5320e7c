//! Makes scripts from seeds.

use crate::{
    models::Millis,
    script::{Fault, Script, Variant},
};

/// When the first fault may come: the deployment is done by then, or nearly.
const FIRST: Millis = 5_000;

/// Makes the script of a seed.
pub fn script(seed: u64) -> Script {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51a1);
    let units = match rng.u8(0..10) {
        0 => 1,
        1 => 2,
        2 | 3 => 5,
        _ => 3,
    };
    let variant = match rng.u8(0..5) {
        0 | 1 => Variant::Juju36,
        2 | 3 => Variant::Juju40,
        _ => Variant::Silent,
    };
    let mut faults = Vec::new();
    let count = rng.u8(1..7);
    let mood = rng.u8(0..4);
    let mut at = rng.u64(FIRST..90_000);
    let mut known = units;
    for _ in 0..count {
        let fault = match mood {
            0 => planned(&mut rng, &mut known),
            1 => unplanned(&mut rng, known),
            _ => {
                if rng.bool() {
                    planned(&mut rng, &mut known)
                } else {
                    unplanned(&mut rng, known)
                }
            }
        };
        // Together, soon after, or once things have settled.
        let end = at + fault.duration();
        faults.push((at, fault));
        at = match rng.u8(0..4) {
            0 => at + rng.u64(0..300),
            1 => at + rng.u64(300..15_000),
            _ => end + rng.u64(10_000..80_000),
        };
    }
    faults.sort_by_key(|(at, _)| *at);
    Script {
        seed,
        units,
        variant,
        faults,
    }
}

fn planned(rng: &mut fastrand::Rng, known: &mut u8) -> Fault {
    let unit = rng.u8(0..*known);
    match rng.u8(0..14) {
        0..=2 => {
            *known += 1;
            Fault::AddUnit {}
        }
        3 => {
            *known += 1;
            Fault::AddUnitReusing {}
        }
        4..=6 => Fault::RemoveUnit { unit },
        7 => Fault::StartOption {
            value: rng.u64(1..4),
        },
        8 => Fault::MoveLeader { unit },
        9 => Fault::KillHook {
            unit,
            after: rng.u64(0..120),
        },
        10 => Fault::LoseAnswer {
            unit,
            after: rng.u64(0..120),
        },
        11 => Fault::AgentAway {
            unit,
            duration: rng.u64(1_000..60_000),
        },
        12 => Fault::DetachStorage {
            unit,
            duration: rng.u64(10_000..60_000),
        },
        _ => match rng.u8(0..4) {
            0 => Fault::KillSentinel { unit },
            1 => Fault::KillWatcher { unit },
            2 => Fault::ResetSentinel { unit },
            _ => Fault::LoseWakeups {
                unit,
                duration: rng.u64(1_000..60_000),
            },
        },
    }
}

fn unplanned(rng: &mut fastrand::Rng, known: u8) -> Fault {
    let unit = rng.u8(0..known);
    let other = (unit + rng.u8(1..known.max(2))) % known.max(2);
    let short = rng.u64(500..8_000);
    let long = rng.u64(2_000..60_000);
    let duration = if rng.bool() { short } else { long };
    match rng.u8(0..20) {
        0..=2 => Fault::KillServer { unit },
        3 => Fault::KillUnit { unit },
        4 => Fault::FreezeServer { unit, duration },
        5 => Fault::FreezeMachine { unit, duration },
        6 => Fault::FreezeSentinel { unit, duration },
        7 => Fault::Reboot { unit, duration },
        8 => Fault::LoseDisk { unit, duration },
        9 => Fault::MoveAddress { unit, duration },
        10 => Fault::RebootAll {
            duration,
            apart: rng.u64(0..10_000),
        },
        11 | 12 => Fault::CutOff { unit, duration },
        13 => Fault::CutPair {
            unit,
            other,
            duration,
        },
        14 => Fault::CutOneWay {
            unit,
            other,
            duration,
        },
        15 => Fault::SlowDisk { unit, duration },
        16 => Fault::FullDisk { unit, duration },
        17 => Fault::SlowReplication {
            unit,
            delay: rng.u64(100..3_000),
            duration,
        },
        18 => Fault::LoseMachine {
            unit,
            duration: rng.u64(1_000..40_000),
        },
        _ => match rng.u8(0..5) {
            0 => Fault::FlushAll {},
            1 => Fault::SetMinReplicas {
                unit,
                value: rng.u64(0..3),
            },
            2 => Fault::SetPriority {
                unit,
                value: rng.u64(0..2) * 50,
            },
            3 => Fault::PlainFailover { unit },
            _ => Fault::ForceRemove { unit },
        },
    }
}
