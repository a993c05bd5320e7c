//! Steps that write into databags and beside the data, as `src/executor/databag.rs`.

use valkey_operator::planner::{
    Observation, Step,
    peer_data::{Identity, TurnKind, TurnRequest, UnitState},
};

use super::Done;
use crate::hook::{Run, Trouble, trouble};

/// Makes the passwords; here only that they exist counts.
pub async fn create_users(run: &mut Run) {
    run.ctx.sleep(10).await;
    run.app_wanted.users_secret = Some("secret:users".to_owned());
}

/// Gives the deployment a name that was never used.
pub fn name_deployment(run: &mut Run) {
    let drawn = run.ctx.with(|world| {
        world.juju.names += 1;
        world.juju.names
    });
    run.app_wanted.deployment_id = Some(format!("deployment-{drawn}"));
}

/// Asks for the turn under a number that was never used before.
pub fn request_turn(run: &mut Run, kind: TurnKind) {
    let asked_at = run.ctx.with(|world| world.unix_now());
    run.mine.turn = TurnRequest {
        number: run.next_turn_number(),
        wants: Some(kind),
        asked_at,
    };
}

/// Sets the unit's state.
pub async fn set_state(run: &mut Run, state: UnitState) {
    run.ctx.sleep(10).await;
    run.mine.state = state;
    let unit = run.unit;
    run.ctx.with(|world| {
        world.oracles.joined |= state == UnitState::Member;
        world.note_of(unit, 50, || format!("valkey/{unit} is {state:?} now"));
    });
}

/// Marks the data as this deployment's and this unit's.
pub fn claim_data(run: &Run, seen: &Observation, generation: u64) -> Result<(), Trouble> {
    let Some(deployment_id) = seen.app.deployment_id.clone() else {
        return trouble("the deployment has no name yet");
    };
    let position = seen.recorded().cloned();
    write_identity(
        run,
        Identity {
            deployment_id,
            unit: seen.me.clone(),
            generation,
            position,
        },
    );
    Ok(())
}

fn write_identity(run: &Run, identity: Identity) {
    run.ctx.with(|world| {
        if let Some(machine) = world.machines.get_mut(&run.unit) {
            machine.identity = Some(identity);
        }
    });
}

/// Records which data this unit holds, beside the data and for the others.
pub fn record_position(run: &mut Run, seen: &Observation, clean: bool) {
    let now = run.ctx.with(|world| world.unix_now());
    let Some(position) = seen.position_to_record(clean, now) else {
        // It does not run: what stands beside the data is what it holds.
        if let Some(known) = seen.recorded() {
            run.mine.position = Some(known.clone());
        }
        return;
    };
    if let Some(identity) = seen.identity_at(&position) {
        write_identity(run, identity);
    }
    run.mine.position = Some(position);
    if let Some(sentinel) = seen.sentinel(&seen.me) {
        run.mine.sentinel = Some(sentinel.id.clone());
    }
}

/// Writes down what a step that worked on processes led to.
pub fn after(run: &mut Run, seen: &Observation, step: &Step, done: &Done, settings: String) {
    if let Some(host) = &done.lease_refused {
        run.lease_refused = Some(host.clone());
    }
    if let Some(saved) = done.saved {
        record_position(run, seen, saved);
    }
    if matches!(step, Step::StartServer { .. }) {
        run.mine.settings = Some(settings);
        run.mine.server_version = Some("8.0.1".to_owned());
    }
}
