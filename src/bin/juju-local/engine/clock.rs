//! What happens with time: leases, removals, timers.

use std::sync::Arc;

use jiff::Timestamp;

use crate::limits::TICK;

use super::model::{Lease, Life, Machine, Model, later};
use super::state::{Engine, random};

/// Runs until the engine ends.
pub fn run(engine: &Arc<Engine>) {
    loop {
        {
            let mut state = engine.lock();
            if state.ending {
                return;
            }
            let mut changed = leases(engine, &mut state.model);
            changed |= super::removal::sweep(engine, &mut state);
            super::agent::start_all(engine, &mut state);
            if changed {
                engine.save(&state);
            } else {
                engine.wake();
            }
        }
        std::thread::sleep(TICK);
    }
}

/// Renews the leases of living agents and gives free ones away; tells whether something changed.
fn leases(engine: &Engine, model: &mut Model) -> bool {
    let now = Timestamp::now();
    let seconds = model.settings.lease_seconds;
    let names: Vec<String> = model.applications.keys().cloned().collect();
    let mut changed = false;
    for name in names {
        let lease = model
            .applications
            .get(&name)
            .and_then(|app| app.lease.clone());
        let holder = lease
            .as_ref()
            .and_then(|lease| model.units.get(&lease.holder));
        let alive = holder
            .is_some_and(|unit| unit.state == Machine::Up && unit.life != Life::Dead && !unit.cut);
        let next = match lease {
            Some(lease) if alive && lease.until > later(now, seconds / 2.0) => continue,
            // A dead unit keeps its claim until its record goes, as the removal job ends it last.
            Some(lease) if alive => lease.holder,
            Some(lease) if lease.until > now => continue,
            _ => match elect(model, &name) {
                Some(unit) => unit,
                None => continue,
            },
        };
        if let Some(application) = model.applications.get_mut(&name) {
            if application
                .lease
                .as_ref()
                .is_none_or(|lease| lease.holder != next)
            {
                engine.log.write(
                    &next,
                    "INFO",
                    "juju.worker.leadership",
                    &format!("{next} promoted to leadership of {name}"),
                );
            }
            application.lease = Some(Lease {
                holder: next,
                until: later(now, seconds),
            });
            changed = true;
        }
    }
    changed
}

/// Chooses who gets a free lease: the first unit at the beginning, later anyone.
fn elect(model: &Model, application: &str) -> Option<String> {
    let candidates: Vec<_> = model
        .units_of(application)
        .into_iter()
        .filter(|unit| unit.state == Machine::Up && unit.life == Life::Alive && !unit.cut)
        .collect();
    let begun = model
        .applications
        .get(application)
        .is_some_and(|app| app.lease.is_some());
    let started = candidates.iter().filter(|unit| unit.local.started).count();
    let place = if begun || started > 0 {
        usize::try_from(random()).unwrap_or(0) % candidates.len().max(1)
    } else {
        0
    };
    candidates.get(place).map(|unit| unit.name.clone())
}
