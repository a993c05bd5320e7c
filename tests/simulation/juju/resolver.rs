//! What a unit's agent runs next, in Juju's order.

use super::{Attachment, Hook, Juju, Life, Unit};
use crate::{models::Millis, script::Variant};

impl Juju {
    /// Returns what the agent of `number` runs now, if anything.
    pub fn next_hook(&self, number: u8, now: Millis) -> Option<Hook> {
        let unit = self.units.get(&number)?;
        if unit.life >= Life::Dead || now < unit.away_until {
            return None;
        }
        let alive = unit.life == Life::Alive;
        if let Some(confirmed) = unit.confirm.filter(|_| unit.started) {
            return Some(Hook::Confirm(confirmed));
        }
        if let Some(failed) = &unit.failed {
            // A unit in error runs what people and watchers ask for, and the failed hook again.
            return if unit.exec_wanted {
                Some(Hook::Exec)
            } else {
                (now >= failed.until).then_some(failed.hook)
            };
        }
        if unit.rebooted && unit.started {
            return Some(Hook::Start);
        }
        if unit.installed && !unit.created && alive {
            return Some(Hook::RelationCreated);
        }
        if alive && unit.installed && self.is_leader(number) && !unit.told_leader {
            return Some(Hook::LeaderElected);
        }
        if unit.exec_wanted {
            return Some(Hook::Exec);
        }
        match (unit.storage, unit.life) {
            (Attachment::New, Life::Alive) => return Some(Hook::StorageAttached),
            (Attachment::Attached | Attachment::New, Life::Dying) | (Attachment::Detaching, _) => {
                return Some(Hook::StorageDetaching);
            }
            _ => {}
        }
        if alive {
            self.living(number, unit, now)
        } else {
            Some(Self::leaving(unit))
        }
    }

    fn leaving(unit: &Unit) -> Hook {
        if let Some(member) = unit.members.keys().next() {
            Hook::Departed(*member)
        } else if unit.started && !unit.stopped {
            Hook::Stop
        } else {
            Hook::Remove
        }
    }

    fn living(&self, number: u8, unit: &Unit, now: Millis) -> Option<Hook> {
        if !unit.installed {
            return (unit.storage == Attachment::Attached).then_some(Hook::Install);
        }
        if unit.config_seen != self.config_version {
            return Some(Hook::ConfigChanged);
        }
        if !unit.started {
            return Some(Hook::Start);
        }
        if let Some((member, _)) = unit.members.iter().find(|(_, member)| member.changed_due) {
            return Some(Hook::Changed(*member));
        }
        if let Some(gone) = unit.members.keys().find(|member| self.departed(**member)) {
            return Some(Hook::Departed(*gone));
        }
        if unit.app_seen != self.app_version {
            return Some(Hook::AppChanged);
        }
        let new = self.units.iter().find(|(other, known)| {
            **other != number
                && known.entered
                && !unit.members.contains_key(other)
                && !self.departed(**other)
        });
        if let Some((new, _)) = new {
            return Some(Hook::Joined(*new));
        }
        let changed = unit
            .members
            .iter()
            .find(|(other, member)| self.changed(**other, member));
        if let Some((changed, _)) = changed {
            return Some(Hook::Changed(*changed));
        }
        (now >= unit.update_at).then_some(Hook::UpdateStatus)
    }

    /// Returns whether a peer's databag changed since it was told: by version, or by content in 4.0.
    fn changed(&self, other: u8, member: &super::Member) -> bool {
        let Some(unit) = self.units.get(&other) else {
            return false;
        };
        match self.variant {
            Variant::Juju36 => unit.version != member.seen,
            Variant::Juju40 | Variant::Silent => {
                unit.version != member.seen && unit.bag != member.cached
            }
        }
    }

    /// Returns when the agent has to look again even if nothing happens.
    pub fn next_look(&self, number: u8) -> Millis {
        self.units.get(&number).map_or(Millis::MAX, |unit| {
            unit.failed
                .as_ref()
                .map_or(unit.update_at, |failed| failed.until)
                .max(unit.away_until)
        })
    }
}
