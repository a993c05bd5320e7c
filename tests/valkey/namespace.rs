//! A network for one test alone, with a resolver that answers what the test wants, or nothing.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// Tells a test that it has been started again inside of its namespaces.
const INSIDE: &str = "VALKEY_TEST_INSIDE";
/// Where the resolver of the namespace listens.
const RESOLVER: &str = "127.0.0.53:53";
/// What a pod's `/etc/resolv.conf` says.
const RESOLV_CONF: &str = "nameserver 127.0.0.53\n\
    search m.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";

/// What the resolver knows and how it behaves.
#[derive(Default)]
struct Zone {
    addresses: HashMap<String, Ipv4Addr>,
    silent: HashSet<String>,
    asked: usize,
}

/// The resolver of a test.
#[derive(Clone)]
pub struct Resolver(Arc<Mutex<Zone>>);

/// Runs the test `name` (its path below this program) once more in namespaces of its own, and
/// fails as it does; inside of them, returns their resolver, which knows no name yet.
///
/// # Panics
///
/// When it fails, or when a prerequisite is missing: root, `unshare`, `ip` and `mount`.
pub fn inside(name: &str) -> Option<Resolver> {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == *name) {
        return Some(Resolver::start());
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a network namespace and needs root: run it as root"
    );
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        // Whatever the test starts ends with it.
        .args(["--pid", "--fork", "--kill-child"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts: install util-linux");
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} failed in its namespace");
    assert!(printed.contains("1 passed"), "{name} is no test");
    None
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

impl Resolver {
    /// Makes the namespace's network and resolver its own.
    fn start() -> Self {
        run("ip", &["link", "set", "lo", "up"]);
        let folder = tempfile::tempdir().expect("a folder").keep();
        for (file, text) in [
            ("hosts", "127.0.0.1 localhost\n"),
            ("resolv.conf", RESOLV_CONF),
        ] {
            let own = folder.join(file);
            std::fs::write(&own, text).expect("a file");
            let own = own.to_str().expect("a path");
            run("mount", &["--bind", own, &format!("/etc/{file}")]);
        }
        // What is mounted needs no name any more.
        std::fs::remove_dir_all(folder).expect("the folder goes");
        let socket = UdpSocket::bind(RESOLVER).expect("the resolver's socket");
        let zone = Self(Arc::default());
        let answering = zone.clone();
        std::thread::spawn(move || answering.answer(&socket));
        zone
    }

    /// Lets a name stand for an address from now on.
    pub fn set(&self, name: &str, address: Ipv4Addr) {
        self.zone(|zone| zone.addresses.insert(name.to_owned(), address));
    }

    /// Lets a name stand for nothing: the answer is that there is no such name.
    pub fn forget(&self, name: &str) {
        self.zone(|zone| zone.addresses.remove(name));
    }

    /// Gives no answer to questions for a name, or answers them again.
    pub fn silence(&self, name: &str, silent: bool) {
        self.zone(|zone| {
            for search in [
                "",
                ".m.svc.cluster.local",
                ".svc.cluster.local",
                ".cluster.local",
            ] {
                let full = format!("{name}{search}");
                if silent {
                    zone.silent.insert(full);
                } else {
                    zone.silent.remove(&full);
                }
            }
        });
    }

    /// Returns how many questions were asked until now.
    pub fn asked(&self) -> usize {
        self.zone(|zone| zone.asked)
    }

    fn zone<T>(&self, change: impl FnOnce(&mut Zone) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Answers until the test ends.
    fn answer(&self, socket: &UdpSocket) {
        let mut buffer = [0_u8; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let reply = self.zone(|zone| {
                zone.asked += 1;
                reply(zone, &buffer[..length])
            });
            if let Some(reply) = reply {
                socket.send_to(&reply, from).expect("the answer is sent");
            }
        }
    }
}

/// Answers a question with one name in it, as RFC 1035 has it.
fn reply(zone: &Zone, question: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let mut labels = Vec::new();
    let mut at = HEADER;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).into_owned());
        at = end;
    }
    let name = labels.join(".");
    if zone.silent.contains(&name) {
        return None;
    }
    let address = zone.addresses.get(&name);
    let kind = &question[at + 1..at + 3];
    // An A record; of other kinds there are none.
    let answer = address.filter(|_| kind == [0, 1]);
    let mut reply = question[..2].to_vec();
    // An authoritative answer; or that there is no such name.
    reply.extend([0x85, if address.is_some() { 0x80 } else { 0x83 }]);
    reply.extend([0, 1, 0, u8::from(answer.is_some()), 0, 0, 0, 0]);
    reply.extend(&question[HEADER..at + 5]);
    if let Some(address) = answer {
        // The question's name, A, IN, for 5 seconds, 4 bytes.
        reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
