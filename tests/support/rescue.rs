//! Data sets that were kept aside, loaded again as a person would.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    model::{A_UNIT, Model, Unit},
    wire::{Reply, Wire},
};

/// Returns where a unit's storage is.
pub fn storage(model: &Model, unit: &Unit) -> PathBuf {
    fs::read_dir(model.state().join("storage"))
        .expect("the storages")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            fs::read_to_string(path.join("identity.json"))
                .is_ok_and(|text| text.contains(&format!("\"{}\"", unit.name)))
        })
        .expect("the unit's storage")
}

/// Returns the data sets that were kept aside there.
pub fn kept(storage: &Path) -> Vec<PathBuf> {
    let sets = fs::read_dir(storage.join("kept"))
        .into_iter()
        .flatten()
        .flatten();
    let mut sets: Vec<PathBuf> = sets
        .map(|entry| entry.path())
        .filter(|path| {
            // What begins with a dot is only held.
            path.is_dir()
                && path
                    .file_name()
                    .is_some_and(|name| !name.to_string_lossy().starts_with('.'))
        })
        .collect();
    sets.sort();
    sets
}

/// A server on a copy of a kept data set, ended when it is dropped.
#[derive(Debug)]
pub struct Rescue {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Rescue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

impl Rescue {
    /// Loads a copy of the set, as a person would.
    pub fn of(set: &Path, program: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        copy(set, dir.path());
        let log = dir.path().join("appendonlydir").exists();
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--appendonly", if log { "yes" } else { "no" }, "--dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("valkey-server starts");
        Self {
            child,
            address,
            _dir: dir,
        }
    }

    /// Waits until the data are loaded, and connects.
    pub fn loaded(&self, model: &Model) -> Wire {
        model.wait_until("the kept data set is loaded", A_UNIT, || {
            let text = |error: io::Error| error.to_string();
            // The default user of a server without any other takes every password.
            let mut wire = Wire::connect(self.address, "default", "-", Duration::from_secs(2))
                .map_err(text)?;
            let pong = wire.call(&["PING"]).map_err(text)?;
            if pong.text().as_deref() == Some("PONG") {
                Ok(wire)
            } else {
                Err(pong.to_string())
            }
        })
    }

    /// Returns which of `keys` are not there.
    pub fn missing(&self, model: &Model, keys: &[String]) -> Vec<String> {
        missing(&mut self.loaded(model), keys)
    }
}

/// Returns which of `keys` a server does not hold.
pub fn missing(wire: &mut Wire, keys: &[String]) -> Vec<String> {
    keys.iter()
        .filter(|key| wire.call(&["EXISTS", key]).expect("an answer") != Reply::Number(1))
        .cloned()
        .collect()
}
