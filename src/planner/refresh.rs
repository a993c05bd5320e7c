//! What is restarted to take up something new, in which order, and when rather not.
//!
//! A server restarts for settings that it reads at start only, for another version of its program, and
//! for what else it would be started with now: another build, other limits. A Sentinel does, too. One
//! unit at a time, under the turn; replicas first, the primary last and after a hand-over. A newer server understands what an older one sends, not
//! always the other way round (measured: 9.1 cannot send 8.0 a hash whose fields expire), so that
//! nobody who is newer takes the role over while an older replica is left, if there is a choice.

use super::{
    Plan, gate,
    names::UnitName,
    numbers::min_replicas_to_write,
    observation::{Lease, Observation, Process, Role, Server},
    peer_data::TurnKind,
    reason::Reason,
    step::Step,
    view::Naming,
};

/// How a version that runs compares with the one that is there to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the same, or one of them is not known.
    Same,
    /// Another one is there, which takes its place.
    Outdated,
    /// An older one is there, which may not read what the newer one wrote.
    Newer,
}

/// What is to be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The server, for settings that it reads at start only, or for what else it would be started with.
    Settings,
    /// The server, for another version.
    Version,
    /// Sentinel, for another version, or for what else it would be started with.
    Sentinel,
}

/// The numbers of a version such as `8.0.1`.
type Numbers = (u16, u16, u16);

/// Reads a version; nothing when it is none.
fn numbers(version: &str) -> Option<Numbers> {
    let mut parts = version.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit());
        part[..end.unwrap_or(part.len())].parse::<u16>().ok()
    });
    let mut next = || parts.next().flatten();
    Some((next()?, next()?, next().unwrap_or(0)))
}

/// Returns whether `one` is of an older line than `other`: fixes within a line read each other.
fn older(one: Option<&str>, other: Option<&str>) -> bool {
    let line = |version: Option<&str>| numbers(version?).map(|(major, minor, _)| (major, minor));
    matches!((line(one), line(other)), (Some(one), Some(other)) if one < other)
}

/// Compares what runs with what is there.
#[must_use]
pub fn standing(runs: Option<&str>, found: Option<&str>) -> Standing {
    if older(found, runs) {
        return Standing::Newer;
    }
    match (runs.and_then(numbers), found.and_then(numbers)) {
        (Some(runs), Some(found)) if runs != found => Standing::Outdated,
        _ => Standing::Same,
    }
}

impl Observation {
    /// Returns the version of a unit's server: what it says, else what the unit wrote down.
    #[must_use]
    pub fn version_of(&self, unit: &UnitName) -> Option<&str> {
        let told = self
            .server(unit)
            .and_then(|server| server.version.as_deref());
        told.or_else(|| self.units.get(unit)?.data.server_version.as_deref())
    }

    /// Returns a member that stays and is older than `to`, so that it may not understand it as its primary.
    ///
    /// `from`, which hands over, is not counted: it goes, or restarts right after.
    #[must_use]
    pub fn left_behind(&self, to: &UnitName, from: &UnitName) -> Option<UnitName> {
        self.members().into_iter().find(|unit| {
            unit != to
                && unit != from
                && self.units.get(unit).is_some_and(|known| !known.dying)
                && older(self.version_of(unit), self.version_of(to))
        })
    }
}

/// Returns what is to be restarted of this unit, most important first.
#[must_use]
pub fn pending(seen: &Observation, server: &Server) -> Option<Work> {
    let found = seen.local.server_version.as_deref();
    let standing = self::standing(server.version.as_deref(), found);
    // A restart for whatever reason would start the older one.
    if standing == Standing::Newer {
        return None;
    }
    if standing == Standing::Outdated {
        return Some(Work::Version);
    }
    // Who does not know what its server has read, because the hook that started it was cut off,
    // would otherwise never take up a change.
    if seen.mine().data.settings.as_ref() != Some(&seen.settings.start_digest) {
        return Some(Work::Settings);
    }
    (seen.local.sentinel == Process::Running && sentinel_is_outdated(seen))
        .then_some(Work::Sentinel)
}

/// Returns whether Sentinel would be started as something else than what runs.
fn sentinel_is_outdated(seen: &Observation) -> bool {
    let runs = seen.local.sentinel_version.as_deref();
    let found = seen.local.server_version.as_deref();
    seen.local.sentinel_differs || standing(runs, found) == Standing::Outdated
}

/// Returns that the server which is there is too old for the one that runs, or for the data.
#[must_use]
pub fn downgrade(seen: &Observation) -> Option<Reason> {
    let runs = seen.version_of(&seen.me)?;
    let found = seen.local.server_version.as_deref()?;
    let concerned = seen.local.server == Process::Running || seen.local.has_data;
    (concerned && standing(Some(runs), Some(found)) == Standing::Newer).then(|| Reason::Downgrade {
        runs: runs.to_owned(),
        found: found.to_owned(),
    })
}

/// Plans a restart of this member's processes, if something of them is to be taken up.
#[must_use]
pub fn plan(seen: &Observation, server: &Server) -> Option<Plan> {
    let wants = seen.mine().data.turn.wants;
    let Some(work) = pending(seen, server) else {
        return (wants == Some(TurnKind::Restart))
            .then(|| Plan::act(give_back(seen), "no restart is needed any more"));
    };
    let obstacle = obstacle_by_others(seen);
    if !seen.holds_turn() {
        // Who has the turn now needs it.
        if seen.lease == Lease::Mine {
            return Some(Plan::act(vec![Step::ReleaseLease], "without the turn"));
        }
        return Some(ask(seen, server, work, obstacle));
    }
    if let Some(why) = obstacle {
        // Who joins restores the redundancy, and needs the turn for it.
        return Some(Plan::ActAndWait {
            steps: give_back(seen),
            reason: Reason::Degraded(format!("restart pending: {why}")),
        });
    }
    if let Some(plan) = lease(seen) {
        return Some(plan);
    }
    if work == Work::Sentinel {
        return Some(restart_sentinel(seen));
    }
    if server.role == Role::Primary && seen.members().len() > 1 {
        return Some(match seen.takeover_target(&seen.me) {
            Ok(to) => {
                let step = Step::HandOver {
                    from: seen.me.clone(),
                    to,
                    leaving: false,
                };
                Plan::act(vec![step], "the primary restarts as a replica")
            }
            Err(why) => Plan::ActAndWait {
                steps: give_back(seen),
                reason: Reason::NoTarget(why),
            },
        });
    }
    Some(restart_server(seen, server))
}

/// Returns the steps that give back what a restart needs.
fn give_back(seen: &Observation) -> Vec<Step> {
    let mut steps = vec![Step::ReleaseTurn];
    if seen.lease == Lease::Mine {
        steps.push(Step::ReleaseLease);
    }
    steps
}

/// Plans how the lease is had for a restart: who leaves clears the Sentinels of itself, and may not miss a replica then.
fn lease(seen: &Observation) -> Option<Plan> {
    // Alone it needs none, but who is just leaving may not have ended, and a databag may be old.
    if seen.belonging().len() == 1 && !matches!(seen.lease, Lease::Other(_)) {
        return None;
    }
    match gate::lease_first(seen)? {
        // Who joins may be what the primary lacks to give the lease, and needs the turn for it.
        Plan::Poll(reason @ Reason::LeaseUnavailable) => Some(Plan::ActAndWait {
            steps: vec![Step::ReleaseTurn],
            reason,
        }),
        plan => Some(plan),
    }
}

/// Plans how a unit without the turn gets it, or says why it does not ask yet.
fn ask(seen: &Observation, server: &Server, work: Work, obstacle: Option<String>) -> Plan {
    if seen.mine().data.turn.wants == Some(TurnKind::Restart) {
        let holder = seen.turn_holder().filter(|holder| **holder != seen.me);
        return Plan::Wait(Reason::Turn {
            holder: holder.cloned(),
            kind: TurnKind::Restart,
        });
    }
    let first = others_first(seen, server, work);
    if !first.is_empty() {
        let names: Vec<&str> = first.iter().map(UnitName::as_str).collect();
        let names = names.join(", ");
        return Plan::Wait(Reason::Degraded(format!("restart pending: first {names}")));
    }
    match obstacle {
        Some(why) => Plan::Wait(Reason::Degraded(format!("restart pending: {why}"))),
        None => Plan::act(
            vec![Step::RequestTurn(TurnKind::Restart)],
            match work {
                Work::Settings => "what the server is started with has changed",
                Work::Version => "another version of the server is there",
                Work::Sentinel => "what Sentinel is started with has changed",
            },
        ),
    }
}

/// Returns the members whose server restarts before this unit's: replicas before the primary.
fn others_first(seen: &Observation, server: &Server, work: Work) -> Vec<UnitName> {
    if server.role != Role::Primary {
        return Vec::new();
    }
    let mine = seen.mine().data.settings.as_ref();
    let found = seen.local.server_version.as_deref();
    let before = |unit: &UnitName| {
        let staying = seen.units.get(unit).filter(|known| !known.dying);
        staying.is_some_and(|known| match work {
            Work::Settings => known.data.settings.as_ref() == mine,
            Work::Version => standing(seen.version_of(unit), found) == Standing::Outdated,
            Work::Sentinel => false,
        })
    };
    seen.other_members()
        .into_iter()
        .filter(|unit| seen.server(unit).is_some() && before(unit))
        .collect()
}

fn restart_server(seen: &Observation, server: &Server) -> Plan {
    let mut steps = vec![Step::StopServer];
    let primary = seen.primary().filter(|primary| *primary != seen.me);
    match primary.and_then(|primary| seen.host_of(&primary).map(str::to_owned)) {
        Some(host) => steps.push(Step::StartServer {
            follow: Some(host),
            min_replicas: min_replicas_to_write(seen.members().len()),
            from_snapshot: true,
        }),
        None if server.role == Role::Primary
            && !named_elsewhere(seen)
            && !seen.serving().iter().any(|unit| *unit != seen.me) =>
        {
            steps.push(Step::StartServer {
                follow: None,
                min_replicas: 0,
                from_snapshot: false,
            });
        }
        None => return Plan::Poll(Reason::NoPrimary),
    }
    // What else is to be restarted here goes under the same turn, once this is back in sync.
    if !sentinel_is_outdated(seen) {
        steps.push(Step::ReleaseTurn);
    }
    Plan::act(steps, "restart to take up what is new")
}

/// Plans the restart of Sentinel, which keeps its id, its votes and whom it knows in its own file.
fn restart_sentinel(seen: &Observation) -> Plan {
    let primary = seen.primary();
    let Some(monitor) = primary.and_then(|primary| seen.host_of(&primary).map(str::to_owned))
    else {
        return Plan::Poll(Reason::NoPrimary);
    };
    let start = Step::StartSentinel {
        monitor,
        quorum: gate::quorum_now(seen),
        fresh: false,
    };
    let steps = vec![Step::StopSentinel, start, Step::ReleaseTurn];
    Plan::act(steps, "restart Sentinel to take up what is new")
}

/// Plans the restart of a replica that its primary cannot serve, because the primary is newer.
///
/// It waits for nobody's redundancy: it is what is missing.
#[must_use]
pub fn rescue(seen: &Observation, server: &Server) -> Option<Plan> {
    let cut_off = matches!(
        server.role,
        Role::Replica {
            link_up: false,
            syncing: None,
            ..
        }
    );
    let primary = seen.primary()?;
    let too_old = older(server.version.as_deref(), seen.version_of(&primary));
    if !cut_off || !too_old || pending(seen, server) != Some(Work::Version) {
        return None;
    }
    Some(if seen.holds_turn() {
        restart_server(seen, server)
    } else {
        ask(seen, server, Work::Version, None)
    })
}

/// Returns whether a majority of Sentinels names another host as primary.
fn named_elsewhere(seen: &Observation) -> bool {
    matches!(seen.naming(), Naming::Agreed { host, .. } if host != seen.local.address)
}

/// Returns why a restart of this unit's server now would cost redundancy or writes, if it would.
#[must_use]
pub fn obstacle(seen: &Observation) -> Option<Reason> {
    if let Some(why) = obstacle_by_others(seen) {
        return Some(Reason::Degraded(why));
    }
    let primary = seen
        .server(&seen.me)
        .is_some_and(|server| server.role == Role::Primary);
    if primary && seen.members().len() > 1 {
        return seen.takeover_target(&seen.me).err().map(Reason::NoTarget);
    }
    None
}

/// Returns why a restart now would cost redundancy, if it would: all others have to be in order.
fn obstacle_by_others(seen: &Observation) -> Option<String> {
    for unit in seen.other_members() {
        match seen.server(&unit) {
            None => return Some(format!("{unit} does not answer")),
            Some(server) if server.loading.is_some() => {
                return Some(format!("{unit} is loading its data"));
            }
            Some(server) => {
                if let Role::Replica {
                    link_up, syncing, ..
                } = &server.role
                    && (!link_up || syncing.is_some())
                {
                    return Some(format!("{unit} is not in sync"));
                }
            }
        }
        match seen.monitor(&unit) {
            None => return Some(format!("Sentinel of {unit} does not answer")),
            Some(monitor) if monitor.down => {
                return Some(format!("Sentinel of {unit} cannot reach the primary"));
            }
            Some(_) => {}
        }
    }
    seen.failing_over()
        .then(|| "a failover is under way".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_line() {
        use Standing::{Newer, Outdated, Same};
        for (runs, found, expected) in [
            (Some("8.0.1"), Some("8.0.1"), Same),
            (Some("8.0.1"), Some("9.1.2"), Outdated),
            (Some("8.0.1"), Some("8.0.2"), Outdated),
            // A fix can be taken back.
            (Some("8.0.2"), Some("8.0.1"), Outdated),
            (Some("8.1.0"), Some("8.0.9"), Newer),
            (Some("10.0.0"), Some("9.1.2"), Newer),
            (Some("9.0.0-rc1"), Some("9.0.0"), Same),
            (None, Some("9.1.2"), Same),
            (Some("8.0.1"), None, Same),
            (Some("8.0.1"), Some("eight"), Same),
        ] {
            assert_eq!(standing(runs, found), expected, "{runs:?} {found:?}");
        }
    }
}
