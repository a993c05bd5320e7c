//! Who leaves, and who of those that stay holds a whole copy.

use super::{
    names::UnitName,
    observation::{Observation, Role},
};

impl Observation {
    /// Returns the units that belong to the set and are being removed, if others stay.
    ///
    /// Where nobody stays, one of them serves until somebody has taken the data over.
    #[must_use]
    pub fn leavers(&self) -> Vec<UnitName> {
        let all = self.belonging();
        let dying = |unit: &&UnitName| self.units.get(*unit).is_some_and(|known| known.dying);
        let leavers: Vec<UnitName> = all.iter().filter(dying).cloned().collect();
        if leavers.len() == all.len() {
            return Vec::new();
        }
        leavers
    }

    /// Returns the members that answer as replicas with a complete data set and may be promoted.
    ///
    /// Who leaves is none of them, unless nobody stays.
    pub(super) fn copies(&self) -> Vec<UnitName> {
        let leavers = self.leavers();
        let whole = |unit: &UnitName| {
            self.server(unit).is_some_and(|server| {
                server.loading.is_none()
                    && matches!(server.role, Role::Replica { syncing: None, .. })
            })
        };
        let mut members = self.members();
        members.retain(|unit| !leavers.contains(unit) && whole(unit));
        members
    }

    /// Returns the replica that holds the most, for a promotion when the primary is gone: the best copy, or who holds
    /// more of its history, promotable or not.
    #[must_use]
    pub fn fullest_replica(&self) -> Option<UnitName> {
        let best = self.best_replica()?;
        let server = self.server(&best)?;
        self.copies()
            .into_iter()
            .filter_map(|unit| Some((self.server(&unit)?, unit)))
            .filter(|(other, _)| other.history == server.history && other.offset > server.offset)
            .max_by(|one, other| {
                let names = other.1.cmp(&one.1);
                one.0.offset.cmp(&other.0.offset).then(names)
            })
            .map(|(_, unit)| unit)
            .or(Some(best))
    }
}
