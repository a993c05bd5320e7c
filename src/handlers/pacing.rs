//! How long a pass goes on and which failure it remembers: pure, so that a simulation does both as the charm does.

use std::time::Duration;

use crate::{
    limits::{LEAVE_LIMIT, LOOKS_MAX, PASS_LIMIT, PASS_LIMIT_FOREIGN, POLL_MAX, POLL_MIN},
    planner::{Intent, Plan, Reason},
};

/// What became of the steps of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// All of them worked, or there were none.
    Out,
    /// One did not work.
    Failed,
}

impl Carried {
    /// Takes in which step of a plan did not work, if one did not; `failure` is what the pass tells a person when it
    /// ends.
    pub fn note<F>(plan: &Plan, failed: Option<F>, failure: &mut Option<F>) -> Self {
        if failed.is_some() {
            // What is put off anyway is tried again by a later hook.
            if !matches!(plan, Plan::ActAndWait { .. }) {
                *failure = failed;
            }
            return Self::Failed;
        }
        if matches!(plan, Plan::Act { .. }) {
            *failure = None;
        }
        Self::Out
    }
}

/// What a pass does after a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It looks again at once.
    Look,
    /// It looks again after a pause.
    Pause(Duration),
    /// It ends; the rest is for a later hook.
    End,
}

/// Keeps the time of one pass.
#[derive(Debug, Clone)]
pub struct Pacing {
    leaving: bool,
    limit: Duration,
    pause: Duration,
    looks: u32,
}

impl Pacing {
    /// Begins a pass.
    #[must_use]
    pub fn new(intent: &Intent) -> Self {
        let leaving = *intent == Intent::Leave;
        Self {
            leaving,
            limit: if leaving { LEAVE_LIMIT } else { PASS_LIMIT },
            pause: POLL_MIN,
            looks: 0,
        }
    }

    /// Returns whether the pass looked as often as it may; a plan that never ends is a fault.
    #[must_use]
    pub const fn exhausted(&self) -> bool {
        self.looks >= LOOKS_MAX
    }

    /// Returns whether something is awaited within the hook after `plan`.
    #[must_use]
    pub const fn waits(plan: &Plan, carried: Carried) -> bool {
        match plan {
            Plan::Act { .. } => matches!(carried, Carried::Failed),
            Plan::ActAndPoll { .. } | Plan::Poll(_) => true,
            Plan::ActAndWait { .. } | Plan::Wait(_) | Plan::Refuse(_) | Plan::Settled => false,
        }
    }

    /// Decides what follows a plan that was carried out, `elapsed` after the pass began.
    pub fn next(&mut self, plan: &Plan, carried: Carried, elapsed: Duration) -> Next {
        self.looks += 1;
        if Self::waits(plan, carried) {
            let soon = self.leaving || plan.reason().is_none_or(Reason::comes_soon);
            let limit = if soon {
                self.limit
            } else {
                self.limit.min(PASS_LIMIT_FOREIGN)
            };
            let pause = self.pause;
            if elapsed + pause >= limit {
                return Next::End;
            }
            self.pause = (pause * 2).min(POLL_MAX);
            return Next::Pause(pause);
        }
        match plan {
            Plan::Act { .. } if elapsed < self.limit => {
                self.pause = POLL_MIN;
                Next::Look
            }
            _ => Next::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_a_later_plan_works_and_not_at_all_where_that_waits() {
        let steps = Vec::new;
        let act = || Plan::Act {
            steps: steps(),
            why: String::new(),
        };
        let put_off = || Plan::ActAndWait {
            steps: steps(),
            reason: Reason::NoPrimary,
        };
        for (name, plan, failed, before, expected) in [
            ("works", act(), None, None, (Carried::Out, None)),
            ("fails", act(), Some(2), None, (Carried::Failed, Some(2))),
            ("again", act(), Some(2), Some(1), (Carried::Failed, Some(2))),
            ("over", act(), None, Some(1), (Carried::Out, None)),
            ("off", put_off(), Some(2), None, (Carried::Failed, None)),
            (
                "kept",
                put_off(),
                Some(2),
                Some(1),
                (Carried::Failed, Some(1)),
            ),
            (
                "waits",
                Plan::Settled,
                None,
                Some(1),
                (Carried::Out, Some(1)),
            ),
        ] {
            let mut failure = before;
            let carried = Carried::note(&plan, failed, &mut failure);
            assert_eq!((carried, failure), expected, "{name}");
        }
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_pass_waits_longer_for_what_comes_soon_and_ends_when_nothing_is_left() {
        let act = Plan::Act {
            steps: Vec::new(),
            why: String::new(),
        };
        for (name, plan, carried, elapsed, expected) in [
            ("done", act.clone(), Carried::Out, ms(0), Next::Look),
            (
                "done, late",
                act.clone(),
                Carried::Out,
                PASS_LIMIT,
                Next::End,
            ),
            ("failed", act, Carried::Failed, ms(0), Next::Pause(POLL_MIN)),
            (
                "soon",
                Plan::Poll(Reason::FailingOver),
                Carried::Out,
                PASS_LIMIT_FOREIGN,
                Next::Pause(POLL_MIN),
            ),
            (
                "not soon",
                Plan::Poll(Reason::NoPrimary),
                Carried::Out,
                PASS_LIMIT_FOREIGN,
                Next::End,
            ),
            ("settled", Plan::Settled, Carried::Out, ms(0), Next::End),
        ] {
            let mut pacing = Pacing::new(&Intent::Reconcile);
            assert_eq!(pacing.next(&plan, carried, elapsed), expected, "{name}");
        }
    }

    #[test]
    fn pauses_double_and_begin_anew_after_work() {
        let mut pacing = Pacing::new(&Intent::Leave);
        let poll = Plan::Poll(Reason::NoPrimary);
        let pauses: Vec<Next> = (0..6)
            .map(|_| pacing.next(&poll, Carried::Out, ms(0)))
            .collect();
        let expected = [50, 100, 200, 400, 500, 500].map(|count| Next::Pause(ms(count)));
        assert_eq!(pauses, expected);
        let act = Plan::Act {
            steps: Vec::new(),
            why: String::new(),
        };
        assert_eq!(pacing.next(&act, Carried::Out, ms(0)), Next::Look);
        assert_eq!(
            pacing.next(&poll, Carried::Out, ms(0)),
            Next::Pause(POLL_MIN)
        );
    }
}
