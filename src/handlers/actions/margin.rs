//! How many more units may be lost before writes or the failover stop.

use serde::Serialize;

use crate::planner::{
    Observation,
    numbers::{majority, min_replicas_to_write},
};

/// How much may still go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Margin {
    /// Units that belong to the set.
    pub members: usize,
    /// Sentinels that answer and name the primary.
    pub sentinels: usize,
    /// Sentinels that have to vote for a failover.
    pub sentinels_needed: usize,
    /// Servers with all data: the primary and the replicas that could take over.
    pub copies: usize,
    /// Servers with all data that writes and failover need.
    pub copies_needed: usize,
    /// Units that may be lost, whichever they are.
    pub may_be_lost: usize,
}

impl Margin {
    /// Counts.
    #[must_use]
    pub fn of(seen: &Observation) -> Self {
        let members = seen.members();
        let primary = seen.primary();
        let host = primary.as_ref().and_then(|unit| seen.host_of(unit));
        let sentinels = members
            .iter()
            .filter_map(|unit| seen.monitor(unit))
            .filter(|monitor| host == Some(monitor.primary.as_str()) && !monitor.down)
            .count();
        let copies = primary.as_ref().map_or(0, |primary| {
            let replicas = members
                .iter()
                .filter(|unit| seen.can_take_over(unit, primary).is_ok());
            1 + replicas.count()
        });
        let sentinels_needed = majority(members.len());
        let copies_needed = min_replicas_to_write(members.len()) + 1;
        Self {
            members: members.len(),
            sentinels,
            sentinels_needed,
            copies,
            copies_needed,
            may_be_lost: sentinels
                .saturating_sub(sentinels_needed)
                .min(copies.saturating_sub(copies_needed)),
        }
    }

    /// Says it in words.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.may_be_lost, self.members) {
            (0, 0) => "no unit is a member yet".to_owned(),
            (0, 1) => "no unit may be lost: there is only one".to_owned(),
            (0, 2) => "no unit may be lost: two have no automatic failover".to_owned(),
            (0, _) => format!(
                "no unit may be lost: {} of the {} needed Sentinels and {} of the {} needed copies are there",
                self.sentinels, self.sentinels_needed, self.copies, self.copies_needed
            ),
            (1, _) => "1 more unit may be lost".to_owned(),
            (count, _) => format!("{count} more units may be lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::seen;

    #[test]
    fn every_size_and_loss_has_its_margin() {
        for (case, expected) in [
            ("me=0 0:N", "no unit is a member yet"),
            ("me=0 0:P", "no unit may be lost: there is only one"),
            (
                "me=0 0:P 1:R",
                "no unit may be lost: two have no automatic failover",
            ),
            ("me=0 0:P 1:R 2:R", "1 more unit may be lost"),
            (
                "me=0 0:P 1:R 2:X",
                "no unit may be lost: 2 of the 2 needed Sentinels and 2 of the 2 needed copies are there",
            ),
            // Its copy is gone, its vote is not.
            (
                "me=0 0:P 1:R 2:Rs",
                "no unit may be lost: 3 of the 2 needed Sentinels and 2 of the 2 needed copies are there",
            ),
            ("me=0 0:P 1:R 2:R 3:R", "1 more unit may be lost"),
            ("me=0 0:P 1:R 2:R 3:R 4:R", "2 more units may be lost"),
            ("me=0 0:P 1:R 2:R 3:R 4:X", "1 more unit may be lost"),
        ] {
            assert_eq!(Margin::of(&seen(case)).text(), expected, "{case}");
        }
    }
}
