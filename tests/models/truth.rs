//! The truth about the data, which nobody inside can see: for oracles.

use super::api::{Acknowledged, WriteId};
use super::cluster::{Cluster, DiskContent};
use super::data::Data;

impl Cluster {
    /// Returns the acknowledged writes that the machine `name` holds and no other does, running or not.
    pub fn only_on(&self, name: &str) -> Vec<Acknowledged> {
        let own = self.host(name);
        let Some(held) = self.held(own) else {
            return Vec::new();
        };
        let others: Vec<_> = (0..self.hosts.len())
            .filter(|host| *host != own)
            .filter_map(|host| self.held(host))
            .collect();
        let only = |write: &&Acknowledged| {
            self.histories.contains(held, write.write)
                && !others
                    .iter()
                    .any(|other| self.histories.contains(*other, write.write))
        };
        self.acknowledged.iter().filter(only).copied().collect()
    }

    /// Returns every write that was acknowledged so far, oldest first.
    pub fn acknowledged(&self) -> &[Acknowledged] {
        &self.acknowledged
    }

    /// Returns whether the server of `name` (running, or what its disk would give it) has a write.
    pub fn contains(&self, name: &str, write: WriteId) -> bool {
        self.held(self.host(name))
            .is_some_and(|data| self.histories.contains(data, write))
    }

    /// Returns the acknowledged writes that `name` does not have, oldest first.
    pub fn missing_on(&self, name: &str) -> Vec<Acknowledged> {
        let covered = self
            .held(self.host(name))
            .map(|data| self.histories.covered(data));
        let has = |write: WriteId| {
            let place = self.histories.place(write);
            place.is_some_and(|at| {
                let covered = covered.as_ref().and_then(|covered| covered[at.branch]);
                covered.is_some_and(|until| at.offset <= until)
            })
        };
        self.acknowledged
            .iter()
            .filter(|entry| !has(entry.write))
            .copied()
            .collect()
    }

    /// Returns the acknowledged writes that none of `names` has, oldest first.
    pub fn missing_on_all(&self, names: &[String]) -> Vec<Acknowledged> {
        let held: Vec<Data> = names
            .iter()
            .filter_map(|name| self.held(self.host(name)))
            .collect();
        let has = |write: WriteId| {
            held.iter()
                .any(|data| self.histories.contains(*data, write))
        };
        self.acknowledged
            .iter()
            .filter(|entry| !has(entry.write))
            .copied()
            .collect()
    }

    /// Returns whether any copy anywhere (memory, disks in machines, kept copies) has a write.
    pub fn anywhere(&self, write: WriteId) -> bool {
        let has = |data: Data| self.histories.contains(data, write);
        (0..self.hosts.len()).any(|host| {
            self.held(host).is_some_and(has) || on_disk(&self.hosts[host].disk).any(has)
        })
    }

    /// Returns whether a disk that was taken out of its machine has a write.
    pub fn disk_contains(&self, disk: &DiskContent, write: WriteId) -> bool {
        on_disk(disk).any(|data| self.histories.contains(data, write))
    }

    /// Returns whether one of the copies kept aside on `name` has a write.
    pub fn kept_contains(&self, name: &str, write: WriteId) -> bool {
        let kept = &self.hosts[self.host(name)].disk.kept;
        kept.iter()
            .any(|data| self.histories.contains(*data, write))
    }

    /// Returns whether `name` would acknowledge a write of a client beside it right now.
    pub fn takes_writes(&self, name: &str) -> bool {
        let host = self.host(name);
        let server = &self.hosts[host].server;
        server.works()
            && self.now >= server.up_from
            && !server.is_loading()
            && self.may_write(host).is_ok()
    }

    /// Returns whether the server of `name` runs (frozen or not) as a primary.
    pub fn is_primary(&self, name: &str) -> bool {
        let server = &self.hosts[self.host(name)].server;
        server.process.is_some() && server.is_primary()
    }

    /// Returns each host whose server runs as a primary.
    pub fn primaries(&self) -> Vec<&str> {
        self.each_primary().collect()
    }

    /// As [`Self::primaries`], one after another.
    pub fn each_primary(&self) -> impl Iterator<Item = &str> {
        let primaries = self
            .hosts
            .iter()
            .filter(|machine| machine.server.process.is_some() && machine.server.is_primary());
        primaries.map(|machine| self.names[machine.addr].as_str())
    }

    /// Counts resynchronisations so far: partial ones, and full ones.
    pub const fn resyncs(&self) -> (u64, u64) {
        (self.resyncs_partial, self.resyncs_full)
    }

    /// Counts for one server's process: replicas that went on where they were, copies that it gave.
    pub fn gave(&self, name: &str) -> (u64, u64) {
        self.hosts[self.host(name)].server.gave
    }

    /// Returns a number over the whole state, equal for equal lives.
    pub fn digest(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |number: u64| hash = (hash ^ number).wrapping_mul(0x0100_0000_01b3);
        add(self.now);
        add(self.mailed);
        for machine in &self.hosts {
            let server = &machine.server;
            add(server.data.offset);
            add(server.run_id);
            add(u64::from(server.is_primary()));
            add(u64::try_from(server.data.branch).unwrap_or(0));
            if let Some(sentinel) = &machine.sentinel {
                add(sentinel.id);
                add(sentinel.current_epoch);
                add(sentinel.wake);
            }
        }
        add(u64::try_from(self.acknowledged.len()).unwrap_or(0));
        hash
    }
}

fn on_disk(disk: &DiskContent) -> impl Iterator<Item = Data> + '_ {
    disk.log
        .into_iter()
        .chain(disk.snapshot.map(|(data, _)| data))
        .chain(disk.kept.iter().copied())
}
