//! Holds the fence of a primary closed until the Sentinels confirm that it is still the primary.
//!
//! The server itself closes its fence (`min-replicas-to-write`) when its replicas fall silent, and opens it as soon as
//! one is back. That is too soon for one that was cut off, or frozen, until the very second in which another is
//! promoted: a replica that still follows it would let it take writes that are lost. So whoever watches the server
//! raises the fence beyond every number of replicas meanwhile, and lowers it on the word of the Sentinels.
//!
//! It never holds back a primary for long: nothing is held while replicas are missing that the server itself waits
//! for, the word of all Sentinels counts at once, that of a majority after a moment, and after a limit nobody is asked
//! any more, unless a majority names another primary. One and two units have no fence, so nothing is held there.

use std::time::Duration;

use super::observation::{Monitor, Observation, Server};
use crate::limits::{
    FENCE_CLOSED_FOR, FENCE_CONFIRMED_FOR, FENCE_HELD, FENCE_HELD_MAX, FREEZE_NOTICED,
    REPLICAS_MAX, TARGET_SILENCE_MAX_S,
};

/// What the local server just said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether it is a primary.
    pub primary: bool,
    /// Its `min-replicas-to-write`.
    pub setting: u64,
    /// Replicas that count for that.
    pub good: u64,
}

/// What one Sentinel says about the local server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// It does not answer, or knows of no primary.
    Silent,
    /// It is the primary, and all is well.
    Confirms,
    /// It is the primary, but cannot be reached or is being replaced.
    Doubts,
    /// Another one is the primary.
    Denies,
}

impl Voice {
    /// Returns what a Sentinel says that names the server (`here`) or another one, takes it for down, replaces it.
    #[must_use]
    pub const fn of(here: bool, down: bool, failing_over: bool) -> Self {
        match (here, down || failing_over) {
            (false, _) => Self::Denies,
            (true, true) => Self::Doubts,
            (true, false) => Self::Confirms,
        }
    }
}

/// What all Sentinels together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every one confirms: nobody replaces the primary, since one that did would say so.
    All,
    /// More than half confirm, and nobody doubts or denies.
    Majority,
    /// More than half name another primary.
    Replaced,
    /// Neither.
    Open,
}

/// Sums up what the Sentinels say; one voice for each that belongs.
#[must_use]
pub fn verdict(voices: &[Voice]) -> Verdict {
    let count = |wanted| voices.iter().filter(|voice| **voice == wanted).count();
    let more_than_half = |number: usize| number > voices.len() / 2;
    let confirm = count(Voice::Confirms);
    if more_than_half(count(Voice::Denies)) {
        Verdict::Replaced
    } else if confirm == voices.len() && confirm > 0 {
        Verdict::All
    } else if more_than_half(confirm) && confirm + count(Voice::Silent) == voices.len() {
        Verdict::Majority
    } else {
        Verdict::Open
    }
}

/// What is to be done about the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Raise it to [`FENCE_HELD`].
    Hold,
    /// Ask the Sentinels, and tell [`Guard::heard`].
    Ask,
    /// Set it to this number of replicas again.
    Release(u64),
}

/// What is remembered from look to look. All times are those of one clock that only goes forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// The fence of a primary that has one, when it was seen last without being held.
    fence: Option<u64>,
    closed_since: Option<Duration>,
    held: Option<Held>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    fence: u64,
    met_since: Option<Duration>,
    confirmed_since: Option<Duration>,
}

impl Guard {
    /// Decides after a look at the server; `usual` is the fence that it should have, for one that was found held.
    pub fn look(&mut self, now: Duration, look: Look, usual: u64) -> Act {
        let held_here = look.setting == FENCE_HELD;
        if !look.primary {
            let fence = self.held.map_or(usual, |held| held.fence);
            *self = Self::default();
            return if held_here {
                Act::Release(fence)
            } else {
                Act::Nothing
            };
        }
        if held_here {
            self.closed_since = None;
            let held = self.held.get_or_insert(Held::new(usual));
            if look.good < held.fence {
                *held = Held::new(held.fence);
                return Act::Nothing;
            }
            held.met_since.get_or_insert(now);
            return Act::Ask;
        }
        self.held = None;
        // From there on it is closed for good, by somebody else and for another reason.
        let closed_for_good =
            usize::try_from(look.setting).map_or(true, |fence| fence >= REPLICAS_MAX);
        if look.setting == 0 || closed_for_good {
            *self = Self::default();
            return Act::Nothing;
        }
        self.fence = Some(look.setting);
        if look.good >= look.setting {
            self.closed_since = None;
            return Act::Nothing;
        }
        let since = *self.closed_since.get_or_insert(now);
        if now.saturating_sub(since) >= FENCE_CLOSED_FOR {
            self.hold()
        } else {
            Act::Nothing
        }
    }

    /// Decides for a server that was not heard of for so long, or a machine on which so much time went by unnoticed.
    pub fn lost_touch(&mut self, silent_for: Duration) -> Act {
        if silent_for >= FREEZE_NOTICED {
            self.hold()
        } else {
            Act::Nothing
        }
    }

    fn hold(&mut self) -> Act {
        match self.fence {
            Some(fence) if self.held.is_none() => {
                self.held = Some(Held::new(fence));
                Act::Hold
            }
            Some(_) | None => Act::Nothing,
        }
    }

    /// Decides after the Sentinels were asked.
    pub fn heard(&mut self, now: Duration, voices: &[Voice]) -> Act {
        let Some(held) = self.held.as_mut() else {
            return Act::Nothing;
        };
        let verdict = verdict(voices);
        let since = |start: Option<Duration>| {
            start.map_or(Duration::ZERO, |start| now.saturating_sub(start))
        };
        if verdict == Verdict::Majority {
            held.confirmed_since.get_or_insert(now);
        } else {
            held.confirmed_since = None;
        }
        let release = match verdict {
            Verdict::All => true,
            Verdict::Replaced => false,
            Verdict::Majority | Verdict::Open => {
                since(held.confirmed_since) >= FENCE_CONFIRMED_FOR
                    || since(held.met_since) >= FENCE_HELD_MAX
            }
        };
        if release {
            Act::Release(held.fence)
        } else {
            Act::Nothing
        }
    }
}

impl Held {
    const fn new(fence: u64) -> Self {
        Self {
            fence,
            met_since: None,
            confirmed_since: None,
        }
    }
}

/// Returns how many replicas of a primary count for its fence.
pub(super) fn good_replicas(server: &Server) -> usize {
    server
        .replicas
        .iter()
        .filter(|replica| replica.online && replica.lag_s <= TARGET_SILENCE_MAX_S)
        .count()
}

/// Returns whether the fence of the local server is held for a good reason, so that nobody else lowers it to `fence`.
#[must_use]
pub(super) fn is_held(seen: &Observation, server: &Server, fence: usize) -> bool {
    let primary = server.role == super::observation::Role::Primary;
    if !primary || server.min_replicas != Some(FENCE_HELD) {
        return false;
    }
    let good = good_replicas(server);
    let voice = |monitor: Option<&Monitor>| {
        monitor.map_or(Voice::Silent, |monitor| {
            Voice::of(
                monitor.primary == seen.local.address,
                monitor.down || monitor.agreed_down,
                monitor.failing_over,
            )
        })
    };
    let voices: Vec<Voice> = seen
        .members()
        .iter()
        .map(|unit| voice(seen.monitor(unit)))
        .collect();
    good < fence || verdict(&voices) != Verdict::All
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voices(text: &str) -> Vec<Voice> {
        text.chars()
            .map(|letter| match letter {
                'c' => Voice::Confirms,
                'd' => Voice::Doubts,
                'n' => Voice::Denies,
                _ => Voice::Silent,
            })
            .collect()
    }

    #[test]
    fn the_word_of_the_sentinels_is_summed_up() {
        for (said, expected) in [
            ("c", Verdict::All),
            ("", Verdict::Open),
            ("ccc", Verdict::All),
            ("cc-", Verdict::Majority),
            // One that doubts may be about to replace it, one that denies has done so.
            ("ccd", Verdict::Open),
            ("ccn", Verdict::Open),
            ("c--", Verdict::Open),
            ("cc--", Verdict::Open),
            ("ccc--", Verdict::Majority),
            ("cnn", Verdict::Replaced),
            ("nn-", Verdict::Replaced),
            ("nnd-", Verdict::Open),
            ("ddd", Verdict::Open),
        ] {
            assert_eq!(verdict(&voices(said)), expected, "{said:?}");
        }
        assert_eq!(Voice::of(true, false, false), Voice::Confirms);
        assert_eq!(Voice::of(true, true, false), Voice::Doubts);
        assert_eq!(Voice::of(true, false, true), Voice::Doubts);
        assert_eq!(Voice::of(false, false, false), Voice::Denies);
    }

    /// Plays one story: a line for each quarter of a second, what the server says and, when it is asked for, the
    /// Sentinels; `.` is a server that is silent. Returns what was done in each.
    ///
    /// `p1/2` is a primary with 1 good replica whose fence is 2, `H` stands for the held fence, `r` for a replica.
    fn play(story: &[&str]) -> Vec<String> {
        let mut guard = Guard::default();
        let mut answered = Duration::ZERO;
        let mut now = Duration::ZERO;
        let mut done = Vec::new();
        for line in story {
            now += Duration::from_millis(250);
            let (server, said) = line.split_once(' ').unwrap_or((line, ""));
            let act = if server == "." {
                guard.lost_touch(now.saturating_sub(answered))
            } else {
                answered = now;
                let (good, setting) = server[1..].split_once('/').unwrap();
                let look = Look {
                    primary: server.starts_with('p'),
                    setting: if setting == "H" {
                        FENCE_HELD
                    } else {
                        setting.parse().unwrap()
                    },
                    good: good.parse().unwrap(),
                };
                match guard.look(now, look, 1) {
                    Act::Ask => guard.heard(now, &voices(said)),
                    other => other,
                }
            };
            done.push(match act {
                Act::Nothing => String::new(),
                other => format!("{other:?}"),
            });
        }
        done
    }

    /// Returns the first line, from 1, in which something was done, and what.
    fn first(story: &[&str]) -> Option<(usize, String)> {
        play(story)
            .into_iter()
            .enumerate()
            .find(|(_, act)| !act.is_empty())
            .map(|(line, act)| (line + 1, act))
    }

    fn story(parts: &[(&'static str, usize)]) -> Vec<&'static str> {
        parts
            .iter()
            .flat_map(|(line, times)| std::iter::repeat_n(*line, *times))
            .collect()
    }

    #[test]
    fn the_fence_is_held_only_where_another_could_take_over() {
        for (parts, expected) in [
            (&[("p2/1", 50)][..], None),
            // Closed by the server itself, for a second and longer.
            (&[("p2/1", 2), ("p0/1", 9)], Some(7)),
            (&[("p0/1", 4), ("p1/1", 1), ("p0/1", 4)], None),
            (&[("p1/2", 9)], Some(5)),
            // One and two units have no fence; a replica takes no writes.
            (&[("p0/0", 50)], None),
            (&[("r0/1", 50)], None),
            // Somebody else has closed it for good.
            (&[("p0/256", 50)], None),
            // Silence of two seconds, of a primary that has a fence.
            (&[("p2/1", 1), (".", 7), ("p2/1", 1)], None),
            (&[("p2/1", 1), (".", 9)], Some(9)),
            (&[("r0/1", 1), (".", 50)], None),
            (&[(".", 50)], None),
        ] {
            let seen = first(&story(parts));
            let expected = expected.map(|line| (line, "Hold".to_owned()));
            assert_eq!(seen, expected, "{parts:?}");
        }
    }

    #[test]
    fn it_is_let_go_on_the_word_of_the_sentinels_or_after_a_limit() {
        let cut = ("p0/1", 5);
        for (parts, expected) in [
            // As long as replicas are missing it does not matter.
            (&[cut, ("p0/H ccc", 80)][..], None),
            (&[cut, ("p0/H", 8), ("p1/H ccc", 1)], Some(14)),
            // A majority has to say so for some time, and without a break.
            (&[cut, ("p1/H cc-", 20)], Some(5 + 13)),
            (
                &[cut, ("p1/H cc-", 9), ("p1/H ccd", 1), ("p1/H cc-", 20)],
                Some(15 + 13),
            ),
            // Nobody can be asked: the limit.
            (&[cut, ("p1/H ---", 80)], Some(5 + 41)),
            (&[cut, ("p1/H ccd", 80)], Some(5 + 41)),
            // The limit begins anew when replicas are lost again.
            (
                &[cut, ("p1/H ---", 30), ("p0/H ---", 1), ("p1/H ---", 50)],
                Some(36 + 41),
            ),
            // Another is the primary: never, until it is a replica.
            (&[cut, ("p1/H cnn", 200)], None),
            (&[cut, ("p1/H cnn", 8), ("r0/H", 1)], Some(14)),
        ] {
            let done = play(&story(parts));
            let released = done
                .iter()
                .position(|act| act == "Release(1)")
                .map(|at| at + 1);
            assert_eq!(released, expected, "{parts:?}: {done:?}");
            assert_eq!(done[4], "Hold");
        }
    }

    #[test]
    fn a_watcher_that_starts_anew_takes_over_what_another_held() {
        for (parts, expected) in [
            (&[("p1/H ccc", 1)][..], Some(1)),
            (&[("p0/H ccc", 9), ("p1/H ccc", 1)], Some(10)),
            (&[("r0/H", 1)], Some(1)),
            (&[("p1/H ---", 80)], Some(41)),
        ] {
            let seen = first(&story(parts));
            let expected = expected.map(|line| (line, "Release(1)".to_owned()));
            assert_eq!(seen, expected, "{parts:?}");
        }
    }

    #[test]
    fn what_did_not_arrive_is_done_again() {
        // The server was not reached with the order to hold.
        let done = play(&story(&[("p0/1", 7)]));
        assert_eq!(done[4..], ["Hold", "Hold", "Hold"]);
    }
}
