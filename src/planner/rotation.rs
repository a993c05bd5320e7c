//! How the internal users' passwords are changed without anybody being locked out.
//!
//! In three phases, each of which begins only when every unit has carried out the one before: all
//! servers and Sentinels accept the new passwords beside the old ones; everybody uses the new ones;
//! the old ones are dropped. The number rises with every phase, and each unit writes down which
//! number it has carried out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::UnitName;

/// Key of the number in the databag of the application and of each unit.
pub const NUMBER_KEY: &str = "users-number";

/// What the passwords in use are, and which are accepted beside them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// One set is used and accepted, no other.
    #[default]
    Settled,
    /// The old ones are used; the new ones are accepted, too.
    Accept,
    /// The new ones are used; the old ones are accepted, too.
    Move,
}

impl Phase {
    /// Returns the phase that a number stands for.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        match number % 3 {
            1 => Self::Accept,
            2 => Self::Move,
            _ => Self::Settled,
        }
    }
}

/// What the leader does next about the passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: they are as wanted.
    Nothing,
    /// Begins a phase.
    Begin(Phase),
    /// Waits for units that have not carried out the present phase.
    WaitFor(Vec<UnitName>),
}

/// Decides what the leader does next.
///
/// `carried_out` holds every unit whose server may run, with the number that it has carried out.
#[must_use]
pub fn next(
    phase: Phase,
    number: u64,
    wanted: bool,
    carried_out: &BTreeMap<UnitName, u64>,
) -> Next {
    let behind: Vec<UnitName> = carried_out
        .iter()
        .filter(|(_, done)| **done < number)
        .map(|(unit, _)| unit.clone())
        .collect();
    if !behind.is_empty() && (wanted || phase != Phase::Settled) {
        return Next::WaitFor(behind);
    }
    match phase {
        Phase::Settled if wanted => Next::Begin(Phase::Accept),
        Phase::Settled => Next::Nothing,
        Phase::Accept => Next::Begin(Phase::Move),
        Phase::Move => Next::Begin(Phase::Settled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(numbers: &[u64]) -> BTreeMap<UnitName, u64> {
        (0..)
            .zip(numbers)
            .map(|(index, number)| (UnitName::new(format!("valkey/{index}")), *number))
            .collect()
    }

    #[test]
    fn a_phase_begins_when_all_have_carried_out_the_one_before() {
        let wait = |index: usize| Next::WaitFor(vec![UnitName::new(format!("valkey/{index}"))]);
        for (phase, number, wanted, done, expected) in [
            (Phase::Settled, 0, false, &[0, 0][..], Next::Nothing),
            (Phase::Settled, 3, false, &[3, 2], Next::Nothing),
            (Phase::Settled, 0, true, &[0, 0], Next::Begin(Phase::Accept)),
            // The old passwords of the last time must be gone everywhere before the next time.
            (Phase::Settled, 3, true, &[3, 2], wait(1)),
            (Phase::Accept, 4, true, &[4, 3], wait(1)),
            (Phase::Accept, 4, false, &[4, 4], Next::Begin(Phase::Move)),
            (Phase::Move, 5, true, &[4, 5], wait(0)),
            (Phase::Move, 5, true, &[5, 5], Next::Begin(Phase::Settled)),
            (Phase::Move, 5, false, &[], Next::Begin(Phase::Settled)),
        ] {
            let case = format!("{phase:?} {number} {wanted} {done:?}");
            assert_eq!(
                next(phase, number, wanted, &units(done)),
                expected,
                "{case}"
            );
        }
    }

    /// Units carry phases out in any order and at any time; nobody may ever use a password that a
    /// server which runs does not accept.
    #[test]
    fn nobody_uses_what_somebody_does_not_accept() {
        // Passwords are numbered; a unit uses one and accepts one or two.
        #[derive(Clone, Copy)]
        struct Unit {
            uses: u32,
            accepts: [u32; 2],
        }
        for seed in 0..500_u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut draw = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let (mut phase, mut number) = (Phase::Settled, 0);
            let (mut current, mut other) = (0_u32, 0_u32);
            let mut running = vec![
                Unit {
                    uses: 0,
                    accepts: [0, 0]
                };
                3
            ];
            let mut done = units(&[0, 0, 0]);
            let mut changed = 0;
            for _ in 0..200 {
                if draw(3) == 0 {
                    let wanted = changed < 3;
                    if let Next::Begin(next) = next(phase, number, wanted, &done) {
                        (current, other) = match next {
                            Phase::Accept => {
                                changed += 1;
                                (current, current + 1)
                            }
                            Phase::Move => (other, current),
                            Phase::Settled => (current, current),
                        };
                        phase = next;
                        number += 1;
                        assert_eq!(Phase::of(number), phase);
                    }
                } else {
                    let index = usize::try_from(draw(3)).unwrap_or(0);
                    running[index] = Unit {
                        uses: current,
                        accepts: [current, other],
                    };
                    done.insert(UnitName::new(format!("valkey/{index}")), number);
                }
                for from in &running {
                    for to in &running {
                        assert!(
                            to.accepts.contains(&from.uses),
                            "seed {seed}: {} is not accepted",
                            from.uses
                        );
                    }
                }
            }
            assert_eq!((changed, phase), (3, Phase::Settled), "seed {seed}");
        }
    }
}
