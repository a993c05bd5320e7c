//! Clients that write all the time, remember every acknowledged write, and look for each at the end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    model::{Model, SERVER_PORT},
    names::Book,
    wire::{Reply, Wire},
    writes::{
        Found, act_as_client, ask_sentinel, is_primary, lock, longest_gap, look_for, payload,
    },
};

/// Pause after each write: bounds the load on the two cores that the servers run on too.
const PAUSE: Duration = Duration::from_millis(2);
/// Pause after a write that failed.
const RETRY: Duration = Duration::from_millis(5);
/// How long a client waits for the answer to a write before it connects anew.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a client waits for a Sentinel before it asks the next.
const SENTINEL_PATIENCE: Duration = Duration::from_millis(300);

/// How a client finds the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks the Sentinels, and asks again when its connection or a write fails.
    FollowsSentinel,
    /// Stays on its connection while that lives, whatever is refused; asks only when it breaks.
    Stays,
}

/// One acknowledged write of a writer.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    number: u64,
    at: Instant,
}

/// What all writers of a test share.
#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    addresses: Mutex<Vec<IpAddr>>,
    /// Where units are known by name: there everything is looked up each time.
    names: Option<Book>,
    server_password: String,
    sentinel_password: String,
}

/// What became of the acknowledged writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that are not there.
    pub lost: usize,
    /// Acknowledged writes that are there with another value.
    pub corrupt: usize,
    /// The first few that are lost or corrupt.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Expects that every acknowledged write is there as it was written, and that there were some.
    pub fn expect_nothing_lost(&self) {
        assert!(
            self.acknowledged > 100,
            "hardly anything was written: {self:?}"
        );
        assert!(
            self.lost == 0 && self.corrupt == 0,
            "acknowledged writes are lost: {self:?}"
        );
    }

    /// Expects that at most `most` acknowledged writes are missing and that none is wrong: the
    /// bound of a failure that nobody planned, where the last writes may not have been copied yet.
    pub fn expect_lost_at_most(&self, most: usize) {
        assert!(
            self.acknowledged > 100,
            "hardly anything was written: {self:?}"
        );
        assert!(
            self.lost <= most && self.corrupt == 0,
            "more than {most} acknowledged writes are lost: {self:?}"
        );
    }
}

/// Writers at work; they end when this is dropped.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    logs: Vec<Arc<Mutex<Vec<Acknowledged>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts writers of the given kinds against a deployed application.
    pub fn start(model: &Model, kinds: &[Kind]) -> Self {
        let passwords = model.passwords();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            addresses: Mutex::new(addresses(model)),
            names: model.names(),
            server_password: passwords.server.clone(),
            sentinel_password: passwords.sentinel.clone(),
        });
        let logs: Vec<_> = kinds
            .iter()
            .map(|_| Arc::new(Mutex::new(Vec::new())))
            .collect();
        let threads = kinds
            .iter()
            .zip(&logs)
            .enumerate()
            .map(|(index, (kind, log))| {
                let (kind, shared, log) = (*kind, Arc::clone(&shared), Arc::clone(log));
                thread::spawn(move || write_on(index, kind, &shared, &log))
            })
            .collect();
        let writers = Self {
            shared,
            logs,
            threads,
        };
        writers.flowing(model);
        writers
    }

    /// Starts the usual set: three that follow Sentinel and one that stays.
    pub fn start_usual(model: &Model) -> Self {
        Self::start(
            model,
            &[
                Kind::FollowsSentinel,
                Kind::FollowsSentinel,
                Kind::FollowsSentinel,
                Kind::Stays,
            ],
        )
    }

    /// Tells the writers which units there are now.
    pub fn refresh(&self, model: &Model) {
        *lock(&self.shared.addresses) = addresses(model);
    }

    /// Waits until every writer has an acknowledgement that is newer than this call.
    pub fn flowing(&self, model: &Model) {
        let since = Instant::now();
        model.wait_until("every writer writes", Duration::from_secs(30), || {
            let waiting = self
                .logs
                .iter()
                .filter(|log| lock(log).last().is_none_or(|last| last.at < since))
                .count();
            if waiting == 0 {
                Ok(())
            } else {
                Err(format!("{waiting} writers stand still"))
            }
        });
    }

    /// Returns the longest time that any writer went without an acknowledgement since `since`.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        self.logs
            .iter()
            .map(|log| longest_gap(lock(log).iter().map(|write| write.at), since))
            .max()
            .unwrap_or_default()
    }

    /// Returns how many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.logs.iter().map(|log| lock(log).len()).sum()
    }

    /// Stops the writers and looks for every acknowledged write on the primary at `address`.
    pub fn verify(mut self, model: &Model, address: IpAddr) -> Verdict {
        self.finish();
        let mut verdict = Verdict {
            acknowledged: 0,
            lost: 0,
            corrupt: 0,
            examples: Vec::new(),
        };
        let mut wire = model
            .server(address)
            .expect("cannot reach the primary to look for what was written");
        for (writer, log) in self.logs.iter().enumerate() {
            let log = lock(log);
            verdict.acknowledged += log.len();
            let keys: Vec<String> = log.iter().map(|write| key(writer, write.number)).collect();
            for (key, found) in keys.iter().zip(look_for(&mut wire, &keys)) {
                let wrong = match found {
                    Found::Right => continue,
                    Found::Wrong(_) => &mut verdict.corrupt,
                    Found::Missing => &mut verdict.lost,
                };
                *wrong += 1;
                if verdict.examples.len() < 5 {
                    verdict.examples.push(format!("{key}: {found:?}"));
                }
            }
        }
        verdict
    }

    /// Waits until all write on, then stops them and expects every acknowledged write on `primary`.
    pub fn expect_nothing_lost(self, model: &Model, primary: &super::model::Unit) {
        self.flowing(model);
        self.verify(model, primary.address).expect_nothing_lost();
    }

    /// Waits until all write on, then stops them and expects that at most `most` acknowledged writes are missing on
    /// `primary`.
    pub fn expect_lost_at_most(self, most: usize, model: &Model, primary: &super::model::Unit) {
        self.flowing(model);
        self.verify(model, primary.address)
            .expect_lost_at_most(most);
    }

    fn finish(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.finish();
    }
}

fn addresses(model: &Model) -> Vec<IpAddr> {
    model.units().into_iter().map(|unit| unit.address).collect()
}

fn key(writer: usize, number: u64) -> String {
    format!("w{writer}:{number}")
}

/// Writes until told to stop; every key is written once, whether it was acknowledged or not.
fn write_on(writer: usize, kind: Kind, shared: &Shared, log: &Mutex<Vec<Acknowledged>>) {
    let mut connection = None;
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(wire) = connection.as_mut() else {
            connection = connect(shared, writer + usize::try_from(number).unwrap_or(0)).ok();
            if connection.is_none() {
                number += 1;
                thread::sleep(RETRY);
            }
            continue;
        };
        number += 1;
        let key = key(writer, number);
        match wire.call(&["SET", &key, &payload(&key)]) {
            Ok(Reply::Text(text)) if text == "OK" => {
                lock(log).push(Acknowledged {
                    number,
                    at: Instant::now(),
                });
                thread::sleep(PAUSE);
            }
            // Refused: not a primary any more, or fenced.
            Ok(_) => {
                if kind == Kind::FollowsSentinel {
                    connection = None;
                }
                thread::sleep(RETRY);
            }
            Err(_) => {
                connection = None;
                thread::sleep(RETRY);
            }
        }
    }
}

/// Connects to the primary that the first answering Sentinel names, as Sentinel's clients do.
fn connect(shared: &Shared, first: usize) -> io::Result<Wire> {
    let names = shared.names.as_ref();
    let addresses = match names {
        Some(names) => names.everybody()?,
        None => lock(&shared.addresses).clone(),
    };
    for turn in 0..addresses.len() {
        let address = addresses[(first + turn) % addresses.len()];
        let password = &shared.sentinel_password;
        let asked = ask_sentinel(address, password, SENTINEL_PATIENCE, names);
        let Ok(primary) = asked else {
            continue;
        };
        let mut wire = Wire::connect(
            SocketAddr::new(primary, SERVER_PORT),
            "charmed-operator",
            &shared.server_password,
            PATIENCE,
        )?;
        if is_primary(&mut wire)? {
            act_as_client(&mut wire, "e2e-client")?;
            return Ok(wire);
        }
    }
    Err(io::Error::other("no Sentinel names a primary"))
}
