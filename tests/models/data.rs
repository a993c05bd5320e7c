//! What data sets hold: a tree of histories, so that "has this write" is a walk, not a copy.

use super::api::{Millis, WriteId};

/// Number of a branch, which stands for a replication id.
pub type Branch = usize;

/// What a data set holds: a branch up to an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// The branch.
    pub branch: Branch,
    /// Everything up to and with this offset.
    pub offset: u64,
}

/// Something that a stream carried and that matters later.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client's write.
    Write(WriteId),
    /// The lease was set: whose, and until when.
    Lease(String, Millis),
    /// The lease was given back.
    NoLease,
    /// All keys went.
    Flush,
    /// Pings and hellos: bytes without data.
    Filler,
}

#[derive(Debug, Clone)]
struct History {
    /// Number from which the replication id is made.
    id: u64,
    parent: Option<Data>,
    /// Offset at which it begins, in its own counting.
    start: u64,
    end: u64,
    /// Keys at its beginning.
    keys: u64,
    /// End offset by time, ascending in both.
    ends: Vec<(Millis, u64)>,
    /// Writes with their end offsets.
    writes: Vec<(u64, WriteId)>,
    leases: Vec<(u64, Option<(String, Millis)>)>,
    /// Offsets of flushes.
    flushes: Vec<u64>,
}

/// All histories that ever were.
#[derive(Debug, Default)]
pub struct Histories {
    all: Vec<History>,
    /// Where each write is, by its number.
    writes: Vec<Data>,
}

impl Histories {
    fn push(&mut self, parent: Option<Data>, start: u64, id: u64) -> Data {
        let keys = parent.map_or(0, |parent| self.keys(parent));
        self.all.push(History {
            id,
            parent,
            start,
            end: start,
            keys,
            ends: Vec::new(),
            writes: Vec::new(),
            leases: Vec::new(),
            flushes: Vec::new(),
        });
        Data {
            branch: self.all.len() - 1,
            offset: start,
        }
    }

    /// Begins with nothing.
    pub fn root(&mut self, id: u64) -> Data {
        self.push(None, 0, id)
    }

    /// Goes on from `from` under a new replication id, counting on.
    pub fn promote(&mut self, from: Data, id: u64) -> Data {
        self.push(Some(from), from.offset, id)
    }

    /// Goes on from `from` under a new replication id, counting from anew.
    pub fn reload(&mut self, from: Data, id: u64) -> Data {
        self.push(Some(from), 0, id)
    }

    /// Returns the replication id of a branch.
    pub fn id(&self, branch: Branch) -> String {
        hex(self.all[branch].id)
    }

    /// Adds to a branch at its end.
    pub fn append(&mut self, at: Data, now: Millis, bytes: u64, event: Event) -> Data {
        let history = &mut self.all[at.branch];
        debug_assert!(
            history.end == at.offset,
            "only the newest server of a history extends it"
        );
        let end = at.offset + bytes;
        history.end = end;
        match history.ends.last_mut() {
            Some(last) if last.0 == now => last.1 = end,
            _ => history.ends.push((now, end)),
        }
        match event {
            Event::Write(id) => {
                history.writes.push((end, id));
                self.writes.push(Data {
                    branch: at.branch,
                    offset: end,
                });
            }
            Event::Lease(token, until) => history.leases.push((end, Some((token, until)))),
            Event::NoLease => history.leases.push((end, None)),
            Event::Flush => {
                history.flushes.push(end);
                history.leases.push((end, None));
            }
            Event::Filler => {}
        }
        Data {
            branch: at.branch,
            offset: end,
        }
    }

    /// Returns the number that the next write gets.
    pub fn next_write(&self) -> WriteId {
        WriteId(u64::try_from(self.writes.len()).unwrap_or(u64::MAX))
    }

    /// Returns the offset that a branch had at a time.
    pub fn offset_at(&self, branch: Branch, time: Millis) -> u64 {
        let history = &self.all[branch];
        match history.ends.last() {
            Some(last) if last.0 <= time => last.1,
            _ => {
                let index = history.ends.partition_point(|(at, _)| *at <= time);
                index
                    .checked_sub(1)
                    .map_or(history.start, |index| history.ends[index].1)
            }
        }
    }

    /// Returns the part of `data` that is in `branch`, if its line goes through it.
    fn within(&self, data: Data, branch: Branch) -> Option<u64> {
        let mut at = data;
        loop {
            if at.branch == branch {
                return Some(at.offset);
            }
            // A child has a higher number than its parent.
            if at.branch < branch {
                return None;
            }
            at = self.before(at)?;
        }
    }

    /// Returns what of the parent's branch `at` holds.
    fn before(&self, at: Data) -> Option<Data> {
        let history = &self.all[at.branch];
        let parent = history.parent?;
        // A replica that just went over to a new branch may still lack the end of the old one.
        let lacks = history.start == parent.offset && at.offset < parent.offset;
        Some(if lacks {
            Data {
                offset: at.offset,
                ..parent
            }
        } else {
            parent
        })
    }

    /// Returns whether `data` holds a write.
    pub fn contains(&self, data: Data, write: WriteId) -> bool {
        let Some(at) = usize::try_from(write.0)
            .ok()
            .and_then(|n| self.writes.get(n))
        else {
            return false;
        };
        self.within(data, at.branch)
            .is_some_and(|until| at.offset <= until)
    }

    /// Returns for each branch how much of it `data` holds.
    pub fn covered(&self, data: Data) -> Vec<Option<u64>> {
        let mut covered = vec![None; self.all.len()];
        let mut at = Some(data);
        while let Some(data) = at {
            covered[data.branch] = Some(data.offset);
            at = self.before(data);
        }
        covered
    }

    /// Returns where a write is.
    pub fn place(&self, write: WriteId) -> Option<Data> {
        self.writes.get(usize::try_from(write.0).ok()?).copied()
    }

    /// Returns how many keys `data` has: one for each write since the last flush.
    pub fn keys(&self, data: Data) -> u64 {
        let history = &self.all[data.branch];
        let until = if data.offset >= history.end {
            history.writes.len()
        } else {
            history
                .writes
                .partition_point(|(end, _)| *end <= data.offset)
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        match history.flushes.iter().rev().find(|at| **at <= data.offset) {
            Some(flush) => {
                let before = history.writes.partition_point(|(end, _)| end <= flush);
                number(until - before)
            }
            None => history.keys + number(until),
        }
    }

    /// Returns who holds the lease in `data` at a time, and until when.
    pub fn lease(&self, data: Data, now: Millis) -> Option<(&str, Millis)> {
        let mut at = data;
        loop {
            let history = &self.all[at.branch];
            if let Some((_, lease)) = history
                .leases
                .iter()
                .rev()
                .find(|(end, _)| *end <= at.offset)
            {
                return lease
                    .as_ref()
                    .filter(|(_, until)| *until > now)
                    .map(|(token, until)| (token.as_str(), *until));
            }
            at = self.before(at)?;
        }
    }
}

/// Writes a number as the 40 digits of an id.
pub fn hex(number: u64) -> String {
    // By hand: every look writes several, and the formatter takes ten times as long.
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let mut text = String::with_capacity(40);
    text.push_str("000000000000000000000000");
    for shift in (0..16).rev() {
        let digit = usize::try_from((number >> (shift * 4)) & 15).unwrap_or(0);
        text.push(DIGITS[digit]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promotion_keeps_the_shared_part_and_drops_the_tail() {
        let mut all = Histories::default();
        let mut old = all.root(1);
        let write = |all: &mut Histories, at: Data, now| {
            let id = all.next_write();
            (all.append(at, now, 10, Event::Write(id)), id)
        };
        let (at, first) = write(&mut all, old, 5);
        let shared = at;
        let (at, second) = write(&mut all, at, 6);
        old = at;
        let new = all.promote(shared, 2);
        let (new, third) = write(&mut all, new, 7);
        for (data, expected) in [
            (old, [true, true, false]),
            (new, [true, false, true]),
            (shared, [true, false, false]),
        ] {
            let seen = [first, second, third].map(|id| all.contains(data, id));
            assert_eq!(seen, expected, "{data:?}");
        }
        assert_eq!((all.keys(old), all.keys(new), new.offset), (2, 2, 20));
        assert_eq!(
            (
                all.offset_at(0, 5),
                all.offset_at(0, 4),
                all.offset_at(0, 99)
            ),
            (10, 0, 20)
        );
    }

    #[test]
    fn ids_have_forty_digits() {
        for number in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(hex(number), format!("{number:040x}"));
        }
    }

    #[test]
    fn the_lease_lives_in_the_data_and_ends_with_a_flush_or_its_time() {
        let mut all = Histories::default();
        let before = all.root(1);
        let held = all.append(before, 0, 9, Event::Lease("a/1".into(), 100));
        let copy = all.promote(held, 2);
        assert_eq!(all.lease(copy, 99), Some(("a/1", 100)));
        assert_eq!(all.lease(copy, 100), None);
        assert_eq!(
            all.lease(before, 5),
            None,
            "a copy without the tail has no lease"
        );
        let flushed = all.append(copy, 5, 9, Event::Flush);
        assert_eq!(all.lease(flushed, 6), None);
    }
}
