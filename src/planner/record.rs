//! What is written down of the local data: beside it, and for the others to compare.

use super::{
    observation::{Observation, Role},
    peer_data::{Identity, Position},
    view::Naming,
};

/// Returns what the watcher of the unit at `address` records of a server that answers as `server`, with `named`
/// for whom its own Sentinel names as primary in which epoch, and `known` for what was recorded before.
///
/// `None` where the older record says more: while it loads, and for a replica without its primary, which counts
/// from anew after a start.
#[must_use]
pub fn watched(
    server: &Watched<'_>,
    address: &str,
    named: Option<(&str, u64)>,
    known: Option<&Position>,
    now: u64,
) -> Option<Position> {
    if server.loading || server.cut_off {
        return None;
    }
    let epoch = match named {
        // Displaced, and not a replica yet: its data are those of the configuration before.
        Some((host, _)) if server.primary && host != address => known
            .filter(|known| known.primary)
            .map_or(0, |known| known.epoch),
        Some((_, epoch)) => epoch,
        None => 0,
    };
    Some(Position {
        history: server.history.to_owned(),
        offset: server.offset,
        epoch,
        primary: server.primary,
        clean: false,
        recorded_at: now,
    })
}

/// What a watcher sees of the local server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched<'a> {
    /// Replication id.
    pub history: &'a str,
    /// Replication offset in bytes.
    pub offset: u64,
    /// Whether it says that it is a primary.
    pub primary: bool,
    /// Whether it is a replica whose link is down.
    pub cut_off: bool,
    /// Whether it reads its data from disk.
    pub loading: bool,
}

impl Identity {
    /// Takes the watcher's record where it is the later one.
    pub fn take_later(&mut self, recorded: Position) {
        let later = |known: &Position| known.recorded_at < recorded.recorded_at;
        if self.position.as_ref().is_none_or(later) {
            self.position = Some(recorded);
        }
    }
}

impl Observation {
    /// Returns what stands beside the local data of how far it is.
    #[must_use]
    pub fn recorded(&self) -> Option<&Position> {
        self.local.identity.as_ref()?.position.as_ref()
    }

    /// Returns which data this unit holds, to be recorded at `now` (seconds since 1970); nothing when its server
    /// does not answer.
    #[must_use]
    pub fn position_to_record(&self, clean: bool, now: u64) -> Option<Position> {
        let server = self.server(&self.me)?;
        let known = self.recorded();
        // A replica without its primary counts from anew after a start; what it held before still counts.
        let cut_off = matches!(server.role, Role::Replica { link_up: false, .. });
        if let Some(known) = known.filter(|_| cut_off) {
            return Some(Position {
                clean,
                ..known.clone()
            });
        }
        // One that was displaced holds what belongs to the configuration before.
        let displaced = server.role == Role::Primary
            && matches!(self.naming(), Naming::Agreed { host, .. } if host != self.local.address);
        let epoch = if displaced {
            known.map_or(0, |position| position.epoch)
        } else {
            self.epoch()
        };
        Some(Position {
            history: server.history.clone(),
            offset: server.offset,
            epoch,
            primary: server.role == Role::Primary,
            clean,
            recorded_at: now,
        })
    }

    /// Returns what is written beside the data that is at `position`; nothing before the deployment has a name.
    #[must_use]
    pub fn identity_at(&self, position: &Position) -> Option<Identity> {
        let founded = || {
            let founding = self.app.founding.as_ref();
            founding.map_or(1, |founding| founding.generation)
        };
        let identity = self.local.identity.as_ref();
        Some(Identity {
            deployment_id: self.app.deployment_id.clone()?,
            unit: self.me.clone(),
            generation: identity.map_or_else(founded, |identity| identity.generation),
            position: Some(position.clone()),
        })
    }
}
