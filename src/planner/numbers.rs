//! The numbers that keep a set of Sentinels and replicas safe, for a set of `n` units.

/// Returns how many Sentinels must vote for a failover: more than half of those that belong.
#[must_use]
pub const fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// Returns the `quorum` of `SENTINEL MONITOR` for `members` Sentinels: ⌊n/2⌋+1.
///
/// Counts every Sentinel that belongs to the application, running or not: a quorum that shrank
/// with each crash would let a minority declare the primary down. It only detects the failure;
/// the failover itself needs the votes of a majority.
///
/// Source: Valkey documentation, `topics/sentinel.md`.
#[must_use]
pub const fn sentinel_quorum(members: usize) -> usize {
    majority(members)
}

/// Returns `min-replicas-to-write` for `members` servers: ⌈n/2⌉−1.
///
/// With one Sentinel beside each server, the side of a cut that holds no majority then has too
/// few replicas and stops accepting writes by itself. One and two units cannot be fenced this
/// way without losing writes at every restart, so they get 0.
#[must_use]
pub const fn min_replicas_to_write(members: usize) -> usize {
    members.div_ceil(2).saturating_sub(1)
}

/// Returns how many Sentinels that name one primary prove that no majority named another.
///
/// Any majority shares at least one member with a set of this size.
#[must_use]
pub const fn blocking(members: usize) -> usize {
    members + 1 - majority(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_every_size() {
        for (members, quorum, fence, block) in [
            (1, 1, 0, 1),
            (2, 2, 0, 1),
            (3, 2, 1, 2),
            (4, 3, 1, 2),
            (5, 3, 2, 3),
            (6, 4, 2, 3),
            (7, 4, 3, 4),
        ] {
            assert_eq!(sentinel_quorum(members), quorum, "quorum of {members}");
            assert_eq!(min_replicas_to_write(members), fence, "fence of {members}");
            assert_eq!(blocking(members), block, "blocking set of {members}");
        }
    }

    #[test]
    fn a_side_without_a_majority_stops_accepting_writes() {
        for members in 3..20 {
            // The smaller side of any clean cut has at most ⌈n/2⌉−1 … units, one of them the primary.
            let minority = members - majority(members);
            assert!(
                minority.saturating_sub(1) < min_replicas_to_write(members),
                "{members}"
            );
            assert!(
                majority(members) > min_replicas_to_write(members),
                "{members}"
            );
        }
    }
}
