//! All hosts with their servers and Sentinels, and the network between them.
#![allow(
    unused_variables,
    clippy::unused_self,
    clippy::needless_pass_by_value,
    clippy::missing_const_for_fn,
    clippy::todo
)]

use valkey_operator::planner::observation::{Sentinel, Server};

use super::api::*;

/// Everything that is modelled.
pub struct Cluster {
    timings: Timings,
    now: Millis,
}

impl Cluster {
    /// Makes an empty world; equal seeds give equal lives.
    pub fn new(timings: Timings, seed: u64) -> Self {
        Self { timings, now: 0 }
    }
    /// Returns the present.
    pub fn now(&self) -> Millis {
        self.now
    }
    /// Lets everything happen that happens by itself until `to`.
    pub fn advance(&mut self, to: Millis) {
        self.now = to;
    }
    /// Returns when something may happen by itself next; an outer loop need not call [`Self::advance`] before.
    pub fn next_tick(&self) -> Millis {
        self.now + 100
    }
    /// Returns a number that changes whenever something that can be observed may have changed.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    // --- machines ---
    /// Adds a machine with an empty disk.
    pub fn add_host(&mut self, host: &str) {
        todo!()
    }
    /// Takes a machine away for good, with its disk.
    pub fn remove_host(&mut self, host: &str) {
        todo!()
    }
    /// Gives a machine another address. Its processes must be stopped and started by the caller.
    pub fn move_host(&mut self, old: &str, new: &str) {
        todo!()
    }
    /// Ends all processes of a machine as a power cut does and starts the machine again (without
    /// the processes). What had not reached the disk is lost: the last second of the log.
    pub fn reboot(&mut self, host: &str, disk: Disk) {
        todo!()
    }
    /// As [`Self::reboot`], but the machine stays off until [`Self::power_on`].
    pub fn power_off(&mut self, host: &str, disk: Disk) {
        todo!()
    }
    /// Starts a machine (without processes).
    pub fn power_on(&mut self, host: &str) {
        todo!()
    }
    /// Freezes both processes and answers nothing until [`Self::thaw_host`] (a paused machine).
    pub fn freeze_host(&mut self, host: &str) {
        todo!()
    }
    /// Wakes a machine.
    pub fn thaw_host(&mut self, host: &str) {
        todo!()
    }
    /// Returns the host's name by its number in [`Acknowledged::by`].
    pub fn host_name(&self, number: usize) -> &str {
        todo!()
    }

    // --- disk ---
    /// Moves the data set aside or copies it; it stays on the machine's disk as a kept copy.
    pub fn keep_aside(&mut self, host: &str, then_delete: bool) {
        todo!()
    }
    /// Takes the disk (data, Sentinel's file, kept copies) out of a machine whose processes are stopped.
    pub fn detach_disk(&mut self, host: &str) -> Option<DiskContent> {
        todo!()
    }
    /// Puts a disk into a machine.
    pub fn attach_disk(&mut self, host: &str, disk: DiskContent) {
        todo!()
    }
    /// Deletes Sentinel's file.
    pub fn delete_sentinel_file(&mut self, host: &str) {
        todo!()
    }
    /// Makes the append-only file's writes reach the disk late (seconds), or not.
    pub fn set_slow_disk(&mut self, host: &str, slow: bool) {
        todo!()
    }
    /// Makes every write to disk fail (`MISCONF`), or not.
    pub fn fill_disk(&mut self, host: &str, full: bool) {
        todo!()
    }

    // --- network ---
    /// Cuts the way of packets from one host to another (one way).
    pub fn cut(&mut self, from: &str, to: &str) {
        todo!()
    }
    /// Cuts a host off from all others, both ways.
    pub fn cut_off(&mut self, host: &str) {
        todo!()
    }
    /// Heals the way of packets from one host to another (one way).
    pub fn heal(&mut self, from: &str, to: &str) {
        todo!()
    }
    /// Heals everything.
    pub fn heal_all(&mut self) {
        todo!()
    }
    /// Returns whether a question from one host to another gets there and its answer back.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        todo!()
    }
    /// Delays what replicas on `host` receive from their primary by this much.
    pub fn slow_replication(&mut self, host: &str, delay: Millis) {
        todo!()
    }

    // --- processes ---
    /// Starts the server; what is on disk decides what it holds.
    pub fn start_server(&mut self, host: &str, start: &ServerStart) {
        todo!()
    }
    /// Kills the server (`kill -9`): what it gave the system is on disk.
    pub fn kill_server(&mut self, host: &str) {
        todo!()
    }
    /// Freezes the server (`SIGSTOP`).
    pub fn freeze_server(&mut self, host: &str) {
        todo!()
    }
    /// Wakes the server.
    pub fn thaw_server(&mut self, host: &str) {
        todo!()
    }
    /// Starts Sentinel; refused with false if it runs.
    pub fn start_sentinel(&mut self, host: &str, start: &SentinelStart) {
        todo!()
    }
    /// Stops Sentinel, in order or by `kill -9`: its file is always up to date.
    pub fn stop_sentinel(&mut self, host: &str) {
        todo!()
    }
    /// Freezes Sentinel.
    pub fn freeze_sentinel(&mut self, host: &str) {
        todo!()
    }
    /// Wakes Sentinel; frozen for more than 2 s it goes into TILT.
    pub fn thaw_sentinel(&mut self, host: &str) {
        todo!()
    }
    /// Returns what is on and runs on a machine.
    pub fn local(&self, host: &str) -> LocalFacts {
        todo!()
    }

    // --- asking ---
    /// Looks at a server as the charm's observer on `from` does.
    ///
    /// # Errors
    ///
    /// [`Failure`], from which the caller knows what the look cost.
    pub fn look_at_server(&mut self, from: &str, at: &str) -> Result<Server, Failure> {
        todo!()
    }
    /// Looks at a Sentinel as the charm's observer on `from` does.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_server`].
    pub fn look_at_sentinel(&mut self, from: &str, at: &str) -> Result<Sentinel, Failure> {
        todo!()
    }
    /// Sends a command to a server.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn server_command(
        &mut self,
        from: &str,
        at: &str,
        command: &ServerCommand,
    ) -> Result<Reply, Failure> {
        todo!()
    }
    /// Sends a command to a Sentinel.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn sentinel_command(
        &mut self,
        from: &str,
        at: &str,
        command: &SentinelCommand,
    ) -> Result<Reply, Failure> {
        todo!()
    }
    /// Returns what the local Sentinel announced since the last call.
    pub fn announcements(&mut self, host: &str) -> Vec<Announcement> {
        todo!()
    }
    /// Counts announcements on `host` so far; cheap, to see whether [`Self::announcements`] has any.
    pub fn announced(&self, host: &str) -> usize {
        todo!()
    }

    // --- the truth, for oracles ---
    /// Returns every write that was acknowledged so far, oldest first.
    pub fn acknowledged(&self) -> &[Acknowledged] {
        todo!()
    }
    /// Returns whether the server of `host` (running, or what its disk holds) has a write.
    pub fn contains(&self, host: &str, write: WriteId) -> bool {
        todo!()
    }
    /// Returns the acknowledged writes that `host` does not have, oldest first.
    pub fn missing_on(&self, host: &str) -> Vec<Acknowledged> {
        todo!()
    }
    /// Returns whether any copy anywhere (disks, kept copies, memory) has a write.
    pub fn anywhere(&self, write: WriteId) -> bool {
        todo!()
    }
    /// Returns whether `host` would acknowledge a write of a client beside it right now.
    pub fn takes_writes(&self, host: &str) -> bool {
        todo!()
    }
    /// Returns whether the server of `host` runs (frozen or not) as a primary.
    pub fn is_primary(&self, host: &str) -> bool {
        todo!()
    }
    /// Returns each host that runs as a primary.
    pub fn primaries(&self) -> Vec<&str> {
        todo!()
    }
    /// Returns a number over the whole state, equal for equal lives.
    pub fn digest(&self) -> u64 {
        todo!()
    }
}

/// What is on a disk that was taken out of a machine.
#[derive(Debug, Clone, Default)]
pub struct DiskContent {}
