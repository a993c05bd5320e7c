//! What has to be known before members that are gone are forgotten: by this unit, and by the Sentinels.

use super::{
    names::UnitName,
    numbers::majority,
    observation::{Known, Observation},
    peer_data::UnitState,
};
use crate::limits::TARGET_SILENCE_MAX_S;

impl Observation {
    /// Returns whether a unit is this one, or a process of it answers.
    #[must_use]
    pub fn is_there(&self, unit: &UnitName) -> bool {
        *unit == self.me || self.server(unit).is_some() || self.sentinel(unit).is_some()
    }

    /// Returns whether a member that is being removed and does not answer has left.
    ///
    /// It may as well be this unit that is cut off, while that one serves as the primary. To count it out then
    /// would lower quorum and fence until this unit is a majority of its own. It has left where a majority of
    /// all that say that they are members answers, or no Sentinel that answers knows it any more: who leaves
    /// has itself forgotten.
    pub(super) fn has_left(&self, unit: &UnitName) -> bool {
        let says_member = |name: &&UnitName| {
            let known = self.units.get(*name);
            known.is_some_and(|known| known.data.state == UnitState::Member)
        };
        let answering = self
            .units
            .keys()
            .filter(says_member)
            .filter(|name| self.is_there(name))
            .count();
        answering >= majority(self.voters()) || !self.is_known(unit)
    }

    /// Returns whether a Sentinel that answers names or lists a unit.
    fn is_known(&self, unit: &UnitName) -> bool {
        let Some(host) = self.host_of(unit) else {
            return false;
        };
        let monitors = self.sentinels.values().filter_map(|seen| {
            let sentinel = seen.known()?;
            sentinel.monitor.as_ref()
        });
        monitors.into_iter().any(|monitor| {
            let mut listed = monitor.others.iter().chain(&monitor.replicas);
            monitor.primary == host || listed.any(|known| known.host == host)
        })
    }

    /// Returns whether a unit may have joined of which this hook has not even read an address.
    ///
    /// The Sentinels list a process that answers and that no unit is known to have, and there is a unit
    /// without an address. To clear the Sentinels of strangers would clear them of it.
    #[must_use]
    pub fn unheard_of(&self) -> bool {
        let mut units = self.units.keys();
        units.any(|unit| self.host_of(unit).is_none()) && self.lists_strangers()
    }

    /// Returns the units that answer at another address than this hook has read, each with the new one.
    ///
    /// A hook reads the databags once, and who leaves hears of no change any more. A Sentinel keeps its id
    /// wherever it goes, and the others' follow it by that.
    #[must_use]
    pub fn moved(&self) -> Vec<(UnitName, String)> {
        let listed = || {
            let monitors = self
                .sentinels
                .values()
                .filter_map(|seen| seen.known()?.monitor.as_ref());
            monitors
                .flat_map(|monitor| &monitor.others)
                .filter(|known| {
                    !known.down && !self.is_leak(&known.host) && self.unit_at(&known.host).is_none()
                })
        };
        let silent = self.units.iter().filter(|(unit, _)| !self.is_there(unit));
        silent
            .filter_map(|(unit, known)| {
                let id = known.data.sentinel.as_ref()?;
                let found = listed().find(|other| other.id == *id)?;
                Some((unit.clone(), found.host.clone()))
            })
            .collect()
    }

    /// Returns whether a member may have moved to an address that this hook does not know.
    ///
    /// A process answers that no unit is known to have, and a member
    /// does not: to clear the Sentinels of the stranger would be in vain, since it introduces itself again.
    #[must_use]
    pub fn may_have_moved(&self) -> bool {
        let members = self.members();
        members.iter().any(|unit| !self.is_there(unit)) && self.lists_strangers()
    }

    /// Returns whether a Sentinel of a member lists a process that answers and is of no unit that is known.
    fn lists_strangers(&self) -> bool {
        let stranger = |known: &Known| !known.down && self.unit_at(&known.host).is_none();
        self.members()
            .iter()
            .filter_map(|unit| self.monitor(unit))
            .any(|monitor| monitor.others.iter().chain(&monitor.replicas).any(stranger))
    }

    /// Returns whether one of `remaining` follows the primary and is in touch with it, or there is none but the
    /// primary.
    ///
    /// A Sentinel that is reset learns the replicas from the primary: one that is not attached then would be
    /// known to nobody, and could not be promoted.
    #[must_use]
    pub fn is_followed_by(&self, remaining: &[UnitName]) -> bool {
        let Some(primary) = self.primary() else {
            return false;
        };
        let others: Vec<&str> = remaining
            .iter()
            .filter(|unit| **unit != primary)
            .filter_map(|unit| self.host_of(unit))
            .collect();
        let follows = |host: &str| others.contains(&host);
        others.is_empty()
            || self.server(&primary).is_some_and(|server| {
                server.replicas.iter().any(|replica| {
                    replica.online
                        && replica.lag_s <= TARGET_SILENCE_MAX_S
                        && follows(replica.host.as_str())
                })
            })
    }
}
