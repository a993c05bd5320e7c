//! Clients on both sides of a cut that write all the time and remember who acknowledged what, when.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    net::Door,
    support::{
        model::{Model, SERVER_PORT},
        wire::{Reply, Wire},
        writes::{
            Found, act_as_client, ask_sentinel, is_primary, lock, longest_gap, look_for, payload,
        },
    },
};

/// Pause after each write: bounds the load on two cores.
const PAUSE: Duration = Duration::from_millis(4);
/// Pause after what failed.
const RETRY: Duration = Duration::from_millis(10);
/// How long most clients wait for an answer before they look for another server.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a client waits that stays on its connection: longer than any fault lasts.
const STUBBORN: Duration = Duration::from_secs(60);
/// How long a client waits for a connection, a Sentinel, or the role of a server.
const ASKING: Duration = Duration::from_millis(300);
/// How long a client that wants its write to be on the replicas waits for that, in milliseconds.
const CONFIRM: &str = "100";

/// How a client finds the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks the Sentinels, again after each failure; has each write confirmed by the replicas (`WAIT`).
    Follows,
    /// Asks all servers in turn and takes the first that calls itself primary.
    Polls,
    /// Keeps to the server and the connection with which it began, whatever happens.
    Stays,
}

/// One acknowledged write.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    /// Writer and number name the key.
    pub writer: usize,
    /// Number of the write.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When the acknowledgement came.
    pub at: Instant,
    /// Who acknowledged.
    pub server: IpAddr,
    /// How many replicas had it too, where the writer asked.
    pub confirmed: i64,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    addresses: Vec<IpAddr>,
    first: IpAddr,
    server_password: String,
    sentinel_password: String,
}

#[derive(Debug)]
struct Writer {
    kind: Kind,
    /// Whether it is on the clients' side.
    outside: bool,
    log: Arc<Mutex<Vec<Acknowledged>>>,
    /// The connection at present, so that a wait for an answer can be ended.
    current: Arc<Mutex<Option<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

/// Writers at work; they end when this is dropped.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    writers: Vec<Writer>,
}

impl Writers {
    /// Starts one writer of each kind behind each of two doors.
    pub fn start(model: &Model, primary: IpAddr, outside: &Door, inside: &Door) -> Self {
        let passwords = model.passwords();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            addresses: model.units().into_iter().map(|unit| unit.address).collect(),
            first: primary,
            server_password: passwords.server.clone(),
            sentinel_password: passwords.sentinel.clone(),
        });
        let kinds = [Kind::Follows, Kind::Polls, Kind::Stays];
        let sides = [(outside, true), (inside, false)];
        let writers = sides
            .iter()
            .flat_map(|(door, outside)| kinds.map(|kind| (*door, *outside, kind)))
            .enumerate()
            .map(|(number, (door, outside, kind))| {
                let log = Arc::new(Mutex::new(Vec::new()));
                let current = Arc::new(Mutex::new(None));
                let client = Client {
                    number,
                    kind,
                    shared: Arc::clone(&shared),
                    log: Arc::clone(&log),
                    current: Arc::clone(&current),
                };
                let door = door.clone();
                let thread = thread::spawn(move || {
                    door.enter();
                    client.write_on();
                });
                Writer {
                    kind,
                    outside,
                    log,
                    current,
                    thread: Some(thread),
                }
            })
            .collect();
        let writers = Self { shared, writers };
        writers.flowing(model, |_, _| true);
        writers
    }

    /// Waits until every chosen writer has an acknowledgement newer than this call.
    pub fn flowing(&self, model: &Model, chosen: impl Fn(Kind, bool) -> bool) {
        let since = Instant::now();
        model.wait_until("the writers write", Duration::from_secs(40), || {
            let waiting: Vec<_> = self
                .writers
                .iter()
                .filter(|writer| chosen(writer.kind, writer.outside))
                .filter(|writer| lock(&writer.log).last().is_none_or(|last| last.at < since))
                .map(|writer| (writer.kind, writer.outside))
                .collect();
            if waiting.is_empty() {
                Ok(())
            } else {
                Err(format!("writers stand still (kind, outside): {waiting:?}"))
            }
        });
    }

    /// Returns the longest time that the outside writer of a kind went without an acknowledgement
    /// since `since`, and when that began.
    pub fn gap(&self, kind: Kind, since: Instant) -> Duration {
        self.writers
            .iter()
            .filter(|writer| writer.kind == kind && writer.outside)
            .map(|writer| longest_gap(lock(&writer.log).iter().map(|write| write.at), since))
            .max()
            .unwrap_or_default()
    }

    /// Returns all acknowledgements so far.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.writers
            .iter()
            .flat_map(|writer| lock(&writer.log).clone())
            .collect()
    }

    /// Stops the writers; returns all that was acknowledged.
    pub fn finish(&mut self) -> Vec<Acknowledged> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for writer in &mut self.writers {
            if let Some(stream) = lock(&writer.current).take() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            if let Some(thread) = writer.thread.take() {
                thread.join().expect("a writer ended in a panic");
            }
        }
        self.acknowledged()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for writer in &mut self.writers {
            if let Some(stream) = lock(&writer.current).take() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            let _ = writer.thread.take().map(JoinHandle::join);
        }
    }
}

/// Returns those writes that a server does not hold as they were written.
pub fn missing(wire: &mut Wire, writes: &[Acknowledged]) -> Vec<Acknowledged> {
    let keys: Vec<String> = writes.iter().map(key).collect();
    let found = look_for(wire, &keys);
    writes
        .iter()
        .zip(found)
        .filter_map(|(write, found)| match found {
            Found::Right => None,
            Found::Wrong(value) => panic!("{} holds a wrong value: {value}", key(write)),
            Found::Missing => Some(*write),
        })
        .collect()
}

/// Returns the addresses that acknowledged a write.
pub fn servers(writes: &[Acknowledged]) -> BTreeSet<IpAddr> {
    writes.iter().map(|write| write.server).collect()
}

/// Returns the key of a write.
pub fn key(write: &Acknowledged) -> String {
    key_of(write.writer, write.number)
}

fn key_of(writer: usize, number: u64) -> String {
    format!("c{writer}:{number}")
}

/// One writer in its thread.
struct Client {
    number: usize,
    kind: Kind,
    shared: Arc<Shared>,
    log: Arc<Mutex<Vec<Acknowledged>>>,
    current: Arc<Mutex<Option<TcpStream>>>,
}

impl Client {
    /// Writes until told to stop; every key is written once, whether it was acknowledged or not.
    fn write_on(&self) {
        let mut connection: Option<(IpAddr, Wire)> = None;
        let mut number = 0;
        let mut tries = self.number;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let Some((server, wire)) = connection.as_mut() else {
                tries += 1;
                connection = self.connect(tries).ok();
                if connection.is_none() {
                    thread::sleep(RETRY);
                }
                continue;
            };
            number += 1;
            let key = key_of(self.number, number);
            let sent = Instant::now();
            match wire.call(&["SET", &key, &payload(&key)]) {
                Ok(Reply::Text(text)) if text == "OK" => {
                    let (at, server) = (Instant::now(), *server);
                    let confirmed = if self.kind == Kind::Follows {
                        confirm(wire)
                    } else {
                        0
                    };
                    lock(&self.log).push(Acknowledged {
                        writer: self.number,
                        number,
                        sent,
                        at,
                        server,
                        confirmed,
                    });
                    thread::sleep(PAUSE);
                }
                // Refused: no primary any more, or fenced.
                Ok(_) => {
                    if self.kind != Kind::Stays {
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

    fn connect(&self, tries: usize) -> io::Result<(IpAddr, Wire)> {
        match self.kind {
            Kind::Stays => self.take(self.shared.first, STUBBORN),
            Kind::Polls => self.poll(tries),
            Kind::Follows => {
                let addresses = &self.shared.addresses;
                for turn in 0..addresses.len() {
                    let sentinel = addresses[(tries + turn) % addresses.len()];
                    let password = &self.shared.sentinel_password;
                    if let Ok(primary) = ask_sentinel(sentinel, password, ASKING, None) {
                        return self.take_primary(primary);
                    }
                }
                Err(io::Error::other("no Sentinel names a primary"))
            }
        }
    }

    fn poll(&self, tries: usize) -> io::Result<(IpAddr, Wire)> {
        let addresses = &self.shared.addresses;
        self.take_primary(addresses[tries % addresses.len()])
    }

    fn take_primary(&self, address: IpAddr) -> io::Result<(IpAddr, Wire)> {
        let (address, mut wire) = self.take(address, PATIENCE)?;
        if is_primary(&mut wire)? {
            Ok((address, wire))
        } else {
            Err(io::Error::other("no primary"))
        }
    }

    /// Connects to a server, as a user of its own: what the charm does to its clients, it does not
    /// do to itself.
    fn take(&self, address: IpAddr, patience: Duration) -> io::Result<(IpAddr, Wire)> {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(address, SERVER_PORT), ASKING)?;
        *lock(&self.current) = Some(stream.try_clone()?);
        if self.shared.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("told to stop"));
        }
        let password = &self.shared.server_password;
        let mut wire = Wire::over(stream, "charmed-operator", password, patience)?;
        act_as_client(&mut wire, "chaos-client")?;
        Ok((address, wire))
    }
}

/// Tells how many of two replicas have all that was written on a connection.
fn confirm(wire: &mut Wire) -> i64 {
    match wire.call(&["WAIT", "2", CONFIRM]) {
        Ok(Reply::Number(replicas)) => replicas,
        _ => 0,
    }
}

/// Returns an address of version 4, as all are here.
pub fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is of version 6"),
    }
}
