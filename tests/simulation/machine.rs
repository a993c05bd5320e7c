//! A unit's machine: what lies beside the data, the watcher, and how much of it works.

use valkey_operator::planner::peer_data::{Identity, Position};

use crate::{
    models::{DiskContent, Millis},
    time::TaskId,
};

/// The machine of a unit.
#[derive(Debug, Default)]
pub struct Machine {
    /// Its address.
    pub host: String,
    /// Whether it has power.
    pub on: bool,
    /// Whether it stands still.
    pub frozen: bool,
    /// Whether storage is mounted.
    pub mounted: bool,
    /// The mark beside the data.
    pub identity: Option<Identity>,
    /// The watcher's record beside the data.
    pub position: Option<Position>,
    /// When the charm wants to be woken, in seconds since 1970.
    pub wake: Option<u64>,
    /// The watcher, if it runs.
    pub watch: Option<Watch>,
    /// Until when the watcher's calls are lost.
    pub deaf_until: Millis,
    /// Commands until the running hook is killed.
    pub fuse: Option<u64>,
    /// Commands until an answer is lost.
    pub lose_answer: Option<u64>,
    /// When it started.
    pub booted_at: Millis,
}

/// A watcher that runs.
#[derive(Debug)]
pub struct Watch {
    /// Its task.
    pub task: TaskId,
    /// The address that it was told.
    pub address: String,
}

/// Storage that no unit uses.
#[derive(Debug)]
pub struct Shelved {
    /// Data, Sentinel's file, kept copies.
    pub disk: DiskContent,
    /// The mark beside the data.
    pub identity: Option<Identity>,
    /// The watcher's record.
    pub position: Option<Position>,
    /// Which unit's it was.
    pub of: u8,
}

impl Machine {
    /// Returns the mark beside the data, with the later of the two records.
    pub fn identity(&self) -> Option<Identity> {
        let mut identity = self.identity.clone()?;
        if let Some(recorded) = &self.position {
            identity.take_later(recorded.clone());
        }
        Some(identity)
    }
}
