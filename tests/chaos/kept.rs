//! Looks for writes in the data sets that units kept aside, by loading each into a server.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    support::wire::Wire,
    writers::{self, Acknowledged},
};

/// Longest that a server may take to load a kept set.
const LOAD: Duration = Duration::from_secs(20);
/// Port of the server that loads kept sets; the loopback device is the test's own.
const PORT: u16 = 7000;

/// Returns the data sets that all units keep aside.
pub fn sets(state: &Path) -> Vec<PathBuf> {
    let storage = fs::read_dir(state.join("storage"))
        .into_iter()
        .flatten()
        .flatten();
    let mut sets: Vec<PathBuf> = storage
        .flat_map(|unit| {
            fs::read_dir(unit.path().join("kept"))
                .into_iter()
                .flatten()
                .flatten()
        })
        .filter(|set| !set.file_name().to_string_lossy().starts_with('.'))
        .map(|set| set.path())
        .filter(|path| path.is_dir())
        .collect();
    sets.sort();
    sets
}

/// Returns those of `writes` that no kept set holds.
pub fn not_kept(state: &Path, writes: &[Acknowledged]) -> Vec<Acknowledged> {
    let mut left = writes.to_vec();
    for set in sets(state) {
        if left.is_empty() {
            break;
        }
        let mut loaded = Loaded::new(&set)
            .unwrap_or_else(|error| panic!("cannot load the kept set {}: {error}", set.display()));
        left = writers::missing(&mut loaded.wire, &left);
    }
    left
}

/// A server that serves a copy of a kept set.
struct Loaded {
    server: Child,
    wire: Wire,
    _copy: TempDir,
}

impl Loaded {
    fn new(set: &Path) -> io::Result<Self> {
        let copy = tempfile::Builder::new().prefix("vo-kept-").tempdir()?;
        copy_folder(set, copy.path())?;
        let append_only = copy.path().join("appendonlydir").is_dir();
        let log = copy.path().join("log");
        let server = Command::new("valkey-server")
            .args(["--bind", "127.0.0.1", "--port", &PORT.to_string()])
            .args(["--save", "", "--protected-mode", "no"])
            .args(["--appendonly", if append_only { "yes" } else { "no" }])
            .arg("--dir")
            .arg(copy.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Guard(Some(server));
        let deadline = Instant::now() + LOAD;
        let wire = loop {
            match ask() {
                Ok(wire) => break wire,
                Err(error) if Instant::now() >= deadline => {
                    let said = fs::read_to_string(&log).unwrap_or_default();
                    return Err(io::Error::other(format!("{error}; its log: {said}")));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        };
        let server = server.0.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            server,
            wire,
            _copy: copy,
        })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Ends a server that could not be asked.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(server) = &mut self.0 {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn ask() -> io::Result<Wire> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let limit = Duration::from_secs(2);
    let stream = TcpStream::connect_timeout(&address, limit)?;
    // The default user takes any password as long as it has none.
    let mut wire = Wire::over(stream, "default", "any", limit)?;
    match wire.call(&["PING"])?.text().as_deref() {
        Some("PONG") => Ok(wire),
        _ => Err(io::Error::other("it loads")),
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
