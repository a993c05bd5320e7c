//! All hosts with their servers and Sentinels: time, machines, processes, network.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use valkey_operator::planner::observation::Process;

use super::api::{
    Acknowledged, Announcement, Disk, LocalFacts, Millis, SentinelStart, ServerStart, Timings,
};
use super::data::{Branch, Data, Histories};
use super::mail::Letter;
use super::network::Network;
use super::sentinel::{Sentinel, SentinelFile};
use super::server::{Addr, Follow, Host, Link, Server, second_before};

/// Time between two `fsync` of the log on a disk that is slow.
const SLOW_FSYNC: Millis = 5_000;

/// A machine with what is on it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Machine {
    pub(super) addr: Addr,
    pub(super) on: bool,
    pub(super) gone: bool,
    /// Whether the whole machine is paused: not even its ports answer.
    pub(super) paused: bool,
    pub(super) booted_at: Millis,
    pub(super) server: Server,
    /// Taken out while it runs its timer.
    pub(super) sentinel: Option<Box<Sentinel>>,
    pub(super) disk: DiskContent,
    pub(super) slow_disk: bool,
    pub(super) full_disk: bool,
    pub(super) replication_delay: Millis,
    /// What its server had sent to its replicas when it ended.
    pub(super) last_stream: Option<Data>,
    /// When its server was a primary last, before it was told to follow.
    pub(super) was_primary_until: Option<Millis>,
    pub(super) said: Vec<Announcement>,
    pub(super) said_in_all: usize,
}

impl Machine {
    /// Returns whether its system answers packets, if only with a refusal.
    pub(super) const fn answers_packets(&self) -> bool {
        self.on && !self.gone && !self.paused
    }
}

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub struct DiskContent {
    /// The append-only file.
    pub(super) log: Option<Data>,
    /// The snapshot, with the branch before and the first offset that is not part of it.
    pub(super) snapshot: Option<(Data, Option<(Branch, u64)>)>,
    pub(super) sentinel: Option<SentinelFile>,
    /// Copies that were kept aside, oldest first.
    pub(super) kept: Vec<Data>,
}

/// Who is there when somebody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    /// It answers.
    Answers(Host),
    /// Nothing comes back.
    Silent,
    /// Its machine says that nobody listens.
    Refused,
}

/// Everything that is modelled.
#[derive(Debug)]
pub struct Cluster {
    pub(super) timings: Timings,
    pub(super) now: Millis,
    pub(super) random: fastrand::Rng,
    pub(super) names: Vec<String>,
    /// Which machine is at an address now.
    pub(super) at: Vec<Option<Host>>,
    pub(super) hosts: Vec<Machine>,
    pub(super) net: Network,
    pub(super) histories: Histories,
    pub(super) mail: BinaryHeap<Reverse<(Millis, u64, Letter)>>,
    pub(super) mailed: u64,
    pub(super) processes: u32,
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) took: Millis,
    /// Rises with every announcement, start and end of a process.
    pub(super) stirred: u64,
    pub(super) resyncs_partial: u64,
    pub(super) resyncs_full: u64,
}

impl Cluster {
    /// Makes an empty world; equal seeds give equal lives.
    pub fn new(timings: Timings, seed: u64) -> Self {
        Self {
            timings,
            now: 0,
            random: fastrand::Rng::with_seed(seed),
            names: Vec::new(),
            at: Vec::new(),
            hosts: Vec::new(),
            net: Network::default(),
            histories: Histories::default(),
            mail: BinaryHeap::new(),
            mailed: 0,
            processes: 0,
            acknowledged: Vec::new(),
            took: 0,
            stirred: 0,
            resyncs_partial: 0,
            resyncs_full: 0,
        }
    }

    /// Returns the present.
    pub const fn now(&self) -> Millis {
        self.now
    }

    /// Returns the times by which everything lives.
    pub const fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Lets everything happen that happens by itself until `to`, and at `to`.
    pub fn advance(&mut self, to: Millis) {
        loop {
            let next = self.next_tick();
            if next > to {
                break;
            }
            self.now = self.now.max(next);
            self.happen();
        }
        self.now = self.now.max(to);
    }

    /// Returns when something may happen by itself next; until then nothing changes by itself.
    pub fn next_tick(&self) -> Millis {
        let mail = self
            .mail
            .peek()
            .map_or(Millis::MAX, |Reverse((at, ..))| *at);
        self.hosts.iter().fold(mail, |first, machine| {
            let sentinel = machine
                .sentinel
                .as_ref()
                .map_or(Millis::MAX, |sentinel| sentinel.wake);
            first.min(machine.server.wake).min(sentinel)
        })
    }

    /// What is due now.
    fn happen(&mut self) {
        while let Some(Reverse((at, ..))) = self.mail.peek()
            && *at <= self.now
        {
            if let Some(Reverse((.., letter))) = self.mail.pop() {
                self.deliver(letter);
            }
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].server.wake <= self.now {
                self.server_tick(host);
            }
            let due = self.hosts[host]
                .sentinel
                .as_ref()
                .is_some_and(|s| s.wake <= self.now);
            if due {
                self.sentinel_tick(host);
            }
        }
    }

    /// Returns how long the answer to the last command took, in milliseconds.
    pub const fn took(&self) -> Millis {
        self.took
    }

    pub(super) fn random_id(&mut self) -> u64 {
        self.random.u64(1..)
    }

    pub(super) fn next_process(&mut self) -> u32 {
        self.processes += 1;
        self.processes
    }

    /// Writes down what flowed, makes a change, and lets everybody see it.
    pub(super) fn disturb<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        self.settle();
        let result = change(self);
        self.relink();
        for host in 0..self.hosts.len() {
            let soon = self.now + self.random.u64(1..100);
            if let Some(sentinel) = &mut self.hosts[host].sentinel {
                sentinel.wake_by(soon);
            }
        }
        self.react();
        result
    }

    // --- Machines ---

    /// Returns the number of an address, new or known.
    pub(super) fn addr(&mut self, name: &str) -> Addr {
        if let Some(addr) = self.number(name) {
            return addr;
        }
        self.names.push(name.to_owned());
        self.at.push(None);
        self.names.len() - 1
    }

    /// Returns the number of the machine that has this address now.
    ///
    /// # Panics
    ///
    /// When there is none: the test is wrong.
    pub(super) fn host(&self, name: &str) -> Host {
        self.find(name)
            .unwrap_or_else(|| panic!("no machine has the address {name}"))
    }

    pub(super) fn find(&self, name: &str) -> Option<Host> {
        self.at[self.number(name)?]
    }

    /// Returns the number of a known address.
    pub(super) fn number(&self, name: &str) -> Option<Addr> {
        // Addresses differ in their last digit most of the time, and this is asked for every command.
        let last = name.as_bytes().last();
        self.names
            .iter()
            .position(|known| known.as_bytes().last() == last && known == name)
    }

    /// Adds a machine with an empty disk, at an address that nobody has.
    pub fn add_host(&mut self, name: &str) {
        let addr = self.addr(name);
        assert!(self.at[addr].is_none(), "{name} is taken");
        self.at[addr] = Some(self.hosts.len());
        self.net.add();
        self.hosts.push(Machine {
            addr,
            on: true,
            gone: false,
            paused: false,
            booted_at: self.now,
            server: Server::stopped(),
            sentinel: Some(Box::new(Sentinel::stopped())),
            disk: DiskContent::default(),
            slow_disk: false,
            full_disk: false,
            replication_delay: 0,
            last_stream: None,
            was_primary_until: None,
            said: Vec::new(),
            said_in_all: 0,
        });
    }

    /// Takes a machine away for good, with its disk. Its address is free again.
    pub fn remove_host(&mut self, name: &str) {
        let host = self.host(name);
        self.power_off(name, Disk::Lost);
        let addr = self.hosts[host].addr;
        self.at[addr] = None;
        self.hosts[host].gone = true;
    }

    /// Gives a machine another address, as a restart with a new one does: its processes are
    /// stopped by `kill -9` and the caller starts them again.
    pub fn move_host(&mut self, old: &str, new: &str) {
        let host = self.host(old);
        self.kill_server(old);
        self.stop_sentinel(old);
        let to = self.addr(new);
        assert!(self.at[to].is_none(), "{new} is taken");
        self.disturb(|all| {
            let from = all.hosts[host].addr;
            all.at[from] = None;
            all.at[to] = Some(host);
            all.hosts[host].addr = to;
        });
    }

    /// Returns the name of a machine by its number in [`Acknowledged::by`].
    pub fn host_name(&self, number: usize) -> &str {
        &self.names[self.hosts[number].addr]
    }

    /// Ends all processes of a machine as a power cut does, and starts it again without them. What
    /// had not reached the disk is lost: the last second of the log.
    pub fn reboot(&mut self, name: &str, disk: Disk) {
        self.power_off(name, disk);
        self.power_on(name);
    }

    /// As [`Self::reboot`], but the machine stays off until [`Self::power_on`].
    pub fn power_off(&mut self, name: &str, disk: Disk) {
        let host = self.host(name);
        self.disturb(|all| {
            all.end_server(host, true);
            all.end_sentinel(host);
            let machine = &mut all.hosts[host];
            machine.on = false;
            machine.paused = false;
            if disk == Disk::Lost {
                machine.disk = DiskContent::default();
            }
        });
    }

    /// Starts a machine, without processes.
    pub fn power_on(&mut self, name: &str) {
        let host = self.host(name);
        self.disturb(|all| {
            all.hosts[host].on = true;
            all.hosts[host].booted_at = all.now;
        });
    }

    /// Pauses a machine: nothing there runs or answers until [`Self::thaw_host`].
    pub fn freeze_host(&mut self, name: &str) {
        self.freeze_server(name);
        self.freeze_sentinel(name);
        let host = self.host(name);
        self.disturb(|all| all.hosts[host].paused = true);
    }

    /// Lets a paused machine go on.
    pub fn thaw_host(&mut self, name: &str) {
        let host = self.host(name);
        self.disturb(|all| all.hosts[host].paused = false);
        self.thaw_server(name);
        self.thaw_sentinel(name);
    }

    // --- Disk ---

    /// Keeps a copy of the data set aside, and deletes the data set itself if `then_delete`.
    pub fn keep_aside(&mut self, name: &str, then_delete: bool) {
        let host = self.host(name);
        let held = self.held(host);
        let disk = &mut self.hosts[host].disk;
        disk.kept.extend(held);
        if then_delete {
            disk.log = None;
            disk.snapshot = None;
        }
    }

    /// Takes the disk out of a machine whose processes are stopped.
    pub fn detach_disk(&mut self, name: &str) -> DiskContent {
        let host = self.host(name);
        std::mem::take(&mut self.hosts[host].disk)
    }

    /// Puts a disk into a machine.
    pub fn attach_disk(&mut self, name: &str, disk: DiskContent) {
        let host = self.host(name);
        self.hosts[host].disk = disk;
    }

    /// Deletes Sentinel's file.
    pub fn delete_sentinel_file(&mut self, name: &str) {
        let host = self.host(name);
        self.hosts[host].disk.sentinel = None;
    }

    /// Makes what is written reach the disk seconds later, and Sentinel's votes slow; or not.
    pub fn set_slow_disk(&mut self, name: &str, slow: bool) {
        let host = self.host(name);
        self.hosts[host].slow_disk = slow;
    }

    /// Makes every write to disk fail (`MISCONF`), or not.
    pub fn fill_disk(&mut self, name: &str, full: bool) {
        let host = self.host(name);
        self.disturb(|all| {
            let server = &all.hosts[host].server;
            let runs = server.process.is_some() && !server.is_loading();
            let newly = full && !all.hosts[host].full_disk;
            // What was written until now is on the disk, and stays.
            if newly && runs && all.timings.append_only {
                all.hosts[host].disk.log = Some(server.data);
            }
            all.hosts[host].full_disk = full;
        });
    }

    // --- Network ---

    /// Cuts the way of packets from one host to another.
    pub fn cut(&mut self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        self.disturb(|all| all.net.cut(from, to, all.now));
    }

    /// Cuts a host off from all others, both ways.
    pub fn cut_off(&mut self, name: &str) {
        let host = self.host(name);
        self.disturb(|all| {
            for other in (0..all.hosts.len()).filter(|other| *other != host) {
                all.net.cut(host, other, all.now);
                all.net.cut(other, host, all.now);
            }
        });
    }

    /// Heals the way of packets from one host to another.
    pub fn heal(&mut self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        self.disturb(|all| all.net.heal(from, to, all.now, &mut all.random));
    }

    /// Heals all ways.
    pub fn heal_all(&mut self) {
        self.disturb(|all| {
            for from in 0..all.hosts.len() {
                for to in 0..all.hosts.len() {
                    all.net.heal(from, to, all.now, &mut all.random);
                }
            }
        });
    }

    /// Returns whether a question from one host gets to another, and its answer back.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        self.find(from)
            .zip(self.find(to))
            .is_some_and(|(from, to)| self.net.open(from, to) && self.hosts[to].answers_packets())
    }

    /// Delays what the replica on `host` receives from its primary by this much.
    pub fn slow_replication(&mut self, name: &str, delay: Millis) {
        let host = self.host(name);
        self.disturb(|all| all.hosts[host].replication_delay = delay);
    }

    /// Returns who answers at an address for a server.
    pub(super) fn contact_server(&self, from: Host, to: Addr) -> Contact {
        let Some(host) = self.reached(from, to) else {
            return Contact::Silent;
        };
        let server = &self.hosts[host].server;
        match (server.process, server.frozen_at) {
            (None, _) => Contact::Refused,
            (Some(_), Some(_)) => Contact::Silent,
            (Some(_), None) if self.now < server.up_from => Contact::Refused,
            (Some(_), None) => Contact::Answers(host),
        }
    }

    /// Returns who answers at an address for a Sentinel.
    pub(super) fn contact_sentinel(&self, from: Host, to: Addr) -> Contact {
        let Some(host) = self.reached(from, to) else {
            return Contact::Silent;
        };
        match self.hosts[host].sentinel.as_deref() {
            Some(sentinel) if sentinel.process.is_none() => Contact::Refused,
            Some(sentinel) if sentinel.frozen_at.is_some() => Contact::Silent,
            // Nothing there: it runs its timer right now.
            None | Some(_) => Contact::Answers(host),
        }
    }

    fn reached(&self, from: Host, to: Addr) -> Option<Host> {
        let host = self.at[to]?;
        (self.net.open(from, host) && self.hosts[host].answers_packets()).then_some(host)
    }

    // --- Processes ---

    /// Starts the server; what is on disk decides what it holds.
    ///
    /// # Panics
    ///
    /// When it runs already or the machine is off.
    pub fn start_server(&mut self, name: &str, start: &ServerStart) {
        let host = self.host(name);
        assert!(self.hosts[host].on, "{name} is off");
        assert!(
            self.hosts[host].server.process.is_none(),
            "the server of {name} runs"
        );
        let of = start.follow.as_deref().map(|follow| self.addr(follow));
        let (process, run_id, new_id) = (self.next_process(), self.random_id(), self.random_id());
        let phase = self.random.u64(0..1_000);
        let disk = &self.hosts[host].disk;
        let snapshot = disk
            .snapshot
            .filter(|_| start.from_snapshot || !self.timings.append_only);
        let log = disk.log.filter(|_| self.timings.append_only);
        let mut server = Server::stopped();
        match (snapshot, log) {
            (Some((data, earlier)), _) => {
                server.backlog_from = Some(data.offset + 1);
                if of.is_some() {
                    server.data = data;
                    server.earlier = earlier;
                } else {
                    server.data = self.histories.promote(data, new_id);
                    server.earlier = Some((data.branch, data.offset + 1));
                }
            }
            (None, Some(data)) => server.data = self.histories.reload(data, new_id),
            (None, None) => server.data = self.histories.root(new_id),
        }
        self.stirred += 1;
        server.process = Some(process);
        server.run_id = run_id;
        server.phase = phase;
        server.up_from = self.now + self.timings.start;
        let load = self.load_time(server.data);
        server.loading_until = Some(server.up_from + load);
        server.priority = start.priority;
        server.min_replicas = start.min_replicas;
        server.wake = server.up_from + load;
        server.follow = of.map(|of| Follow {
            of,
            link: Link::Connect(server.wake),
            down_since: None,
            resumable: snapshot.is_some(),
        });
        let data = server.data;
        self.disturb(|all| {
            let machine = &mut all.hosts[host];
            machine.server = server;
            machine.last_stream = None;
            machine.disk.log = all.timings.append_only.then_some(data);
        });
        let wake = self.hosts[host].server.loading_until.unwrap_or(self.now);
        self.wake_server(host, wake);
    }

    /// Kills the server (`kill -9`); what it gave to the system is on disk.
    pub fn kill_server(&mut self, name: &str) {
        let host = self.host(name);
        self.disturb(|all| all.end_server(host, false));
    }

    /// Ends a server's process; `power` says that what had not reached the disk is lost.
    pub(super) fn end_server(&mut self, host: Host, power: bool) {
        let slow = self.hosts[host].slow_disk;
        let server = &self.hosts[host].server;
        if server.process.is_none() {
            return;
        }
        self.stirred += 1;
        // While a copy is read, the disk still holds what was there before.
        let settled = !server.is_loading() && !self.hosts[host].full_disk;
        if self.timings.append_only && settled {
            let mut held = server.data;
            if power {
                let last = if slow {
                    self.now.saturating_sub(SLOW_FSYNC)
                } else {
                    second_before(self.now, server.phase)
                };
                held.offset = held.offset.min(self.histories.offset_at(held.branch, last));
            }
            self.hosts[host].disk.log = Some(held);
        }
        // A kill leaves what was sent on its way; a machine without power does not.
        let sent = (!power).then_some(self.hosts[host].server.data);
        let machine = &mut self.hosts[host];
        machine.last_stream = sent;
        let stopped = Server {
            data: machine.server.data,
            ..Server::stopped()
        };
        machine.server = stopped;
    }

    /// Freezes the server (`SIGSTOP`).
    pub fn freeze_server(&mut self, name: &str) {
        let host = self.host(name);
        self.disturb(|all| {
            let now = all.now;
            let server = &mut all.hosts[host].server;
            if server.process.is_some() {
                server.frozen_at = server.frozen_at.or(Some(now));
            }
        });
    }

    /// Lets a frozen server go on: first it does what waits in its connections.
    pub fn thaw_server(&mut self, name: &str) {
        let host = self.host(name);
        if self.hosts[host].server.frozen_at.is_none() {
            return;
        }
        self.settle();
        self.wake_up(host);
        self.disturb(|_| ());
    }

    /// Starts Sentinel; nothing if it runs.
    pub fn start_sentinel(&mut self, name: &str, start: &SentinelStart) {
        let host = self.host(name);
        assert!(self.hosts[host].on, "{name} is off");
        self.begin_sentinel(host, start);
    }

    /// Stops Sentinel, in order or by `kill -9`: its file is always up to date.
    pub fn stop_sentinel(&mut self, name: &str) {
        let host = self.host(name);
        self.disturb(|all| all.end_sentinel(host));
    }

    /// Freezes Sentinel.
    pub fn freeze_sentinel(&mut self, name: &str) {
        let host = self.host(name);
        let now = self.now;
        if let Some(sentinel) = &mut self.hosts[host].sentinel {
            sentinel.freeze(now);
        }
    }

    /// Lets a frozen Sentinel go on; after more than 2 s it goes into TILT.
    pub fn thaw_sentinel(&mut self, name: &str) {
        let host = self.host(name);
        self.unfreeze_sentinel(host);
    }

    /// Returns what is on and runs on a machine.
    pub fn local(&self, name: &str) -> LocalFacts {
        let machine = &self.hosts[self.host(name)];
        let (server, sentinel) = self.processes_on(name);
        let held = if machine.server.process.is_some() {
            Some(machine.server.data)
        } else {
            machine
                .disk
                .log
                .or_else(|| machine.disk.snapshot.map(|(data, _)| data))
        };
        LocalFacts {
            server,
            sentinel,
            has_data: machine.disk.log.is_some() || machine.disk.snapshot.is_some(),
            has_log: machine.disk.log.is_some(),
            has_snapshot: machine.disk.snapshot.is_some(),
            data_bytes: held.map_or(0, |data| {
                self.timings.base_bytes + self.histories.keys(data) * self.timings.write_bytes
            }),
            has_sentinel_file: machine.disk.sentinel.is_some(),
            booted_at: machine.booted_at,
        }
    }

    /// Returns what a machine holds, in memory or on disk.
    pub(super) fn held(&self, host: Host) -> Option<Data> {
        let machine = &self.hosts[host];
        if machine.server.process.is_some() {
            return Some(machine.server.data);
        }
        machine
            .disk
            .log
            .or_else(|| machine.disk.snapshot.map(|(data, _)| data))
    }

    // --- What was announced ---

    pub(super) fn say(&mut self, host: Host, channel: &'static str, about: Addr) {
        let announcement = Announcement {
            at: self.now,
            channel,
            host: self.names[about].clone(),
        };
        self.stirred += 1;
        self.hosts[host].said.push(announcement);
        self.hosts[host].said_in_all += 1;
    }

    /// Returns a number that rises when something is announced and when a process starts or ends.
    pub const fn stirred(&self) -> u64 {
        self.stirred
    }

    /// Returns whether the server and Sentinel run on a machine.
    pub fn processes_on(&self, name: &str) -> (Process, Process) {
        let machine = &self.hosts[self.host(name)];
        let process = |runs| {
            if runs {
                Process::Running
            } else {
                Process::Stopped
            }
        };
        let sentinel = machine.sentinel.as_ref();
        (
            process(machine.server.process.is_some()),
            process(sentinel.is_none_or(|s| s.process.is_some())),
        )
    }

    /// Returns what the local Sentinel announced since the last call.
    pub fn announcements(&mut self, name: &str) -> Vec<Announcement> {
        let host = self.host(name);
        std::mem::take(&mut self.hosts[host].said)
    }

    /// Counts the announcements on `host` so far: cheap, to see whether [`Self::announcements`] has any.
    pub fn announced(&self, name: &str) -> usize {
        self.hosts[self.host(name)].said_in_all
    }
}
