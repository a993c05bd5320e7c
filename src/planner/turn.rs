//! The turn: who may change the set of processes, one unit at a time.
//!
//! A unit asks in its own databag, the leader grants in the application's databag, and the turn is
//! free again when the holder's number has risen beyond the granted one or the holder is gone. Since
//! numbers only rise and both databags become visible only when a hook succeeds, an old view can
//! delay a grant, but never lead to two holders.

use std::collections::BTreeMap;

use super::{
    names::UnitName,
    peer_data::{Grant, TurnKind, TurnRequest},
};

/// Up to which number a request to start goes before all others.
///
/// A request and its release each take one, so this is a start that has failed up to four times.
/// Numbers only rise: urgent requests come to an end, and the others have their turn.
const URGENT_NUMBER_MAX: u64 = 9;

/// What the leader knows of one unit that may want the turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its request, as its databag shows it.
    pub request: TurnRequest,
    /// Whether it is being removed; such a unit starts nothing any more.
    pub dying: bool,
}

/// Returns whether `grant` is still in force, seen from a look at the holder's databag.
///
/// `holder` is nothing only when the holder is provably gone.
#[must_use]
pub fn in_force(grant: &Grant, holder: Option<&TurnRequest>) -> bool {
    holder.is_some_and(|request| request.number <= grant.number)
}

/// Returns whether `me`, whose request is `request`, holds the turn.
#[must_use]
pub fn held_by(grant: Option<&Grant>, me: &UnitName, request: &TurnRequest) -> bool {
    grant.is_some_and(|grant| {
        grant.holder == *me && grant.number == request.number && request.wants.is_some()
    })
}

/// Returns a number for the next request or release of `me` that was never used before.
///
/// Beyond the granted one, too: a databag that lost its number must not take the turn by accident.
#[must_use]
pub fn next_number(grant: Option<&Grant>, me: &UnitName, request: &TurnRequest) -> u64 {
    let granted = grant
        .filter(|grant| grant.holder == *me)
        .map_or(0, |grant| grant.number);
    request.number.max(granted).saturating_add(1)
}

/// Decides the turn as it should stand now; `units` holds every unit that is not provably gone.
///
/// Requests that restore redundancy come first, then the oldest, then the name: the same view
/// gives the same answer. While somebody always waits, the others are served in the order of their
/// names, beginning behind whoever had the turn last: units that give it back because they cannot use
/// it and ask anew, with clocks that are wrong besides, keep nobody waiting for ever. For the same
/// reason a start that has failed some times is no more urgent than the rest.
#[must_use]
pub fn next_grant(current: Option<&Grant>, units: &BTreeMap<UnitName, Claim>) -> Option<Grant> {
    if let Some(grant) = current
        && in_force(grant, units.get(&grant.holder).map(|claim| &claim.request))
    {
        return Some(grant.clone());
    }
    units
        .iter()
        .filter(|(_, claim)| !claim.dying)
        .filter_map(|(name, claim)| {
            let request = &claim.request;
            let kind: TurnKind = request.wants?;
            let urgent = kind == TurnKind::Start && request.number <= URGENT_NUMBER_MAX;
            let had_it = current.is_some_and(|grant| grant.holder == *name);
            let round = current
                .filter(|_| !urgent)
                .map(|grant| (*name <= grant.holder, name));
            Some((
                (had_it, !urgent, round, request.asked_at, name),
                request.number,
            ))
        })
        .min()
        .map(|((.., name), number)| Grant {
            holder: name.clone(),
            number,
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(number: u8) -> UnitName {
        UnitName::new(format!("valkey/{number}"))
    }

    /// `"1 start 5"`: request number 1, wants to start, asked at 5; `"2 -"`: wants nothing; `dying` at the end.
    fn claim(text: &str) -> Claim {
        let words: Vec<&str> = text.split(' ').collect();
        Claim {
            request: TurnRequest {
                number: words[0].parse().unwrap(),
                wants: match words[1] {
                    "start" => Some(TurnKind::Start),
                    "restart" => Some(TurnKind::Restart),
                    _ => None,
                },
                asked_at: words.get(2).map_or(0, |word| word.parse().unwrap_or(0)),
            },
            dying: text.ends_with("dying"),
        }
    }

    #[test]
    fn one_turn_at_a_time_oldest_and_most_urgent_first() {
        for (name, current, claims, expected) in [
            ("nobody asks", None, vec!["0 -", "3 -"], None),
            (
                "oldest first",
                None,
                vec!["1 start 9", "1 start 5"],
                Some((1, 1)),
            ),
            (
                "start before restart",
                None,
                vec!["1 restart 1", "1 start 5"],
                Some((1, 1)),
            ),
            (
                "holder keeps it",
                Some((0, 1)),
                vec!["1 start 9", "1 start 5"],
                Some((0, 1)),
            ),
            (
                "released",
                Some((0, 1)),
                vec!["2 - 9", "1 start 5"],
                Some((1, 1)),
            ),
            (
                "holder asks anew and queues",
                Some((0, 1)),
                vec!["3 start 9", "1 start 5"],
                Some((1, 1)),
            ),
            (
                "whoever had it goes last",
                Some((0, 1)),
                vec!["3 start 1", "1 restart 5"],
                Some((1, 1)),
            ),
            (
                "an old view of the holder keeps it",
                Some((0, 4)),
                vec!["3 - 9", "1 start 5"],
                Some((0, 4)),
            ),
            (
                "holder gone",
                Some((7, 1)),
                vec!["1 start 9", "2 -"],
                Some((0, 1)),
            ),
            (
                "dying holder keeps it",
                Some((0, 1)),
                vec!["1 start 9 dying", "1 start 5"],
                Some((0, 1)),
            ),
            (
                "dying is not served",
                None,
                vec!["1 start 1 dying", "1 restart 5"],
                Some((1, 1)),
            ),
            ("released and nobody asks", Some((0, 1)), vec!["2 -"], None),
        ] {
            let units: BTreeMap<_, _> = claims
                .iter()
                .zip(0..)
                .map(|(text, number)| (unit(number), claim(text)))
                .collect();
            let grant = |(number, request)| Grant {
                holder: unit(number),
                number: request,
            };
            assert_eq!(
                next_grant(current.map(grant).as_ref(), &units),
                expected.map(grant),
                "{name}"
            );
        }
    }

    proptest! {
        /// Everybody asks anew as soon as the turn is given back, whatever the clocks say.
        #[test]
        fn no_request_starves(
            asked in prop::collection::vec(prop::collection::vec(0_u64..9, 5), 60),
            starts in prop::collection::vec(any::<bool>(), 5),
            waits in 0_u8..5,
        ) {
            let kind = |number: u8| {
                if starts[usize::from(number)] { TurnKind::Start } else { TurnKind::Restart }
            };
            let mut numbers = [1_u64; 5];
            let mut current = None;
            for clocks in &asked {
                let claims = (0_u8..5)
                    .map(|number| {
                        let place = usize::from(number);
                        // The one that waits has asked once, by a clock that is far ahead.
                        let asked_at = if number == waits { 99 } else { clocks[place] };
                        let wants = Some(kind(number));
                        let request = TurnRequest { number: numbers[place], wants, asked_at };
                        (unit(number), Claim { request, dying: false })
                    })
                    .collect();
                let grant = next_grant(current.as_ref(), &claims).unwrap();
                if grant.holder == unit(waits) {
                    return Ok(());
                }
                let place = (0..5).position(|number| unit(number) == grant.holder).unwrap();
                numbers[place] += 2;
                current = Some(grant);
            }
            prop_assert!(false, "never served");
        }
    }

    #[test]
    fn only_the_granted_request_holds_the_turn() {
        let grant = Grant {
            holder: unit(1),
            number: 3,
        };
        for (who, text, expected) in [
            (1, "3 start", true),
            (1, "4 start", false),
            (1, "4 -", false),
            (1, "3 -", false),
            (0, "3 start", false),
        ] {
            assert_eq!(
                held_by(Some(&grant), &unit(who), &claim(text).request),
                expected,
                "{who} {text}"
            );
        }
    }
}
