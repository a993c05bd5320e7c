//! Wrong versions of decisions, each of which a careless change could bring: every one must be found.
//!
//! The scripts were found by playing seeds with the wrong version and shrinking the first failure
//! (`scripts/simulate --planted NAME`). Each must break a promise that is named here, and none with
//! the charm's own decisions.

use std::collections::BTreeMap;

use valkey_operator::planner::{
    self, Intent, Observation, Plan, Reason, Step, UnitName, leader,
    numbers::sentinel_quorum,
    observation::{Process, Role, Seen},
    peer_data::{TurnKind, UnitState},
    turn::{self, Claim},
};

use crate::{generate, life, script::Script, shrink, world::Deciders};

/// A wrong version of a decision.
pub struct Planted {
    /// What is wrong.
    pub name: &'static str,
    /// Decides wrongly.
    pub deciders: fn() -> Deciders,
    /// A life in which it does harm, with some seed: who is primary first, for example, is chance.
    script: &'static str,
    /// The promises that it may break first.
    breaks: &'static [&'static str],
}

/// Lives of a script, each with other chances, in which a wrong version must show itself.
const SEEDS: u64 = 20;

/// Every wrong version.
pub const PLANTED: &[Planted] = &[
    Planted {
        name: "grants two turns",
        deciders: || Deciders {
            duties: two_turns,
            ..Deciders::real()
        },
        script: "seed=2 units=3 juju=3.6
            60000 add-unit
            60000 add-unit
            60000 add-unit",
        breaks: &["turn"],
    },
    Planted {
        name: "raises the quorum before the new Sentinel is known",
        deciders: || with_plan(early_quorum),
        script: "seed=1 units=3 juju=3.6",
        breaks: &["quorum"],
    },
    Planted {
        name: "calls a unit a member before the Sentinels know it",
        deciders: || with_plan(joined_early),
        script: "seed=1 units=3 juju=3.6",
        breaks: &["joined"],
    },
    Planted {
        name: "resets all Sentinels at once",
        deciders: || Deciders {
            reset_all: true,
            ..Deciders::real()
        },
        script: "seed=8 units=3 juju=4.0
            90000 remove-unit 1",
        breaks: &["reset"],
    },
    Planted {
        name: "promotes by unit number",
        deciders: || Deciders {
            blind_handover: true,
            ..with_plan(promotes_by_number)
        },
        script: "seed=4 units=3 juju=3.6
            40000 slow-replication 0 3000 30000
            60000 lose-disk 1 1000",
        breaks: &["O1"],
    },
    Planted {
        name: "hands over to a unit that leaves too",
        deciders: || with_plan(to_a_leaver),
        script: "seed=4 units=3 juju=3.6
            60000 remove-unit 0
            60000 remove-unit 1",
        breaks: &["permit"],
    },
    Planted {
        name: "asks for the turn anew in every hook",
        deciders: || with_plan(asks_anew),
        script: "seed=2 units=3 juju=3.6
            60000 add-unit
            60000 add-unit
            60000 add-unit",
        breaks: &["unsettled"],
    },
    Planted {
        name: "skips the restart gate",
        deciders: || with_plan(no_gate),
        script: "seed=2 units=3 juju=3.6
            60000 lose-disk 0 1000",
        breaks: &["O7"],
    },
    Planted {
        name: "never fences",
        deciders: || with_plan(no_fence),
        script: "seed=1 units=3 juju=3.6
            60000 cut-off 0 20000",
        breaks: &["unsettled", "O1", "O2"],
    },
    Planted {
        name: "leaves the fence as it was when it leaves",
        deciders: || with_plan(late_fence),
        script: "seed=1 units=3 juju=3.6
            58000 agent-away 2 40000
            60000 remove-unit 0
            60000 remove-unit 1",
        breaks: &["O5"],
    },
    Planted {
        name: "promotes without holding writes back",
        deciders: || Deciders {
            blind_handover: true,
            ..Deciders::real()
        },
        script: "seed=2 units=3 juju=3.6
            60000 remove-unit 0",
        breaks: &["O1", "O6"],
    },
    Planted {
        name: "takes the lease from whoever holds it",
        deciders: || Deciders {
            steal_lease: true,
            ..Deciders::real()
        },
        script: "seed=2 units=5 juju=3.6
            60000 remove-unit 0
            60000 remove-unit 1",
        breaks: &["lease"],
    },
    Planted {
        name: "counts only the units that answer",
        deciders: || Deciders {
            plan: |seen| planner::plan(&living(seen)),
            duties: |seen| leader::duties(&living(seen)),
            ..Deciders::real()
        },
        script: "seed=2 units=3 juju=3.6
            60000 cut-off 0 30000",
        breaks: &["O1"],
    },
    Planted {
        name: "writes Sentinel's file anew at each start",
        deciders: || with_plan(fresh_sentinel),
        script: "seed=9 units=3 juju=3.6
            110000 reboot-all 1362 554",
        breaks: &["unsettled"],
    },
    Planted {
        name: "leaves without handing over",
        deciders: || with_plan(leaves_at_once),
        script: "seed=2 units=3 juju=3.6
            60000 remove-unit 0",
        breaks: &["O5"],
    },
    Planted {
        name: "lets the last copy leave",
        deciders: || with_plan(last_copy_leaves),
        script: "seed=1 units=1 juju=3.6
            60000 add-unit
            60000 remove-unit 0",
        breaks: &["O1"],
    },
    Planted {
        name: "leaves without being forgotten",
        deciders: || Deciders {
            plan: without_forgetting,
            duties: leader::duties,
            ..Deciders::real()
        },
        script: "seed=1 units=3 juju=3.6
            60000 remove-unit 0",
        breaks: &["unsettled"],
    },
];

fn with_plan(plan: fn(&Observation) -> Plan) -> Deciders {
    Deciders {
        plan,
        ..Deciders::real()
    }
}

/// Returns the charm's plan with its steps changed.
fn changed(seen: &Observation, change: impl FnOnce(&mut Vec<Step>)) -> Plan {
    let mut plan = planner::plan(seen);
    if let Plan::Act { steps, .. }
    | Plan::ActAndPoll { steps, .. }
    | Plan::ActAndWait { steps, .. } = &mut plan
    {
        change(steps);
        // A plan to act that has nothing to do would be looked at again for ever.
        if steps.is_empty() {
            return Plan::Settled;
        }
    }
    plan
}

fn acts(steps: Vec<Step>) -> Plan {
    Plan::Act {
        steps,
        why: "planted".to_owned(),
    }
}

/// Grants the turn to whoever asks, whether or not another holds it.
fn two_turns(seen: &Observation) -> Vec<Step> {
    let claims: BTreeMap<UnitName, Claim> = seen
        .units
        .iter()
        .map(|(name, unit)| {
            let claim = Claim {
                request: unit.data.turn.clone(),
                dying: unit.dying,
            };
            (name.clone(), claim)
        })
        .collect();
    let mut steps = leader::duties(seen);
    steps.retain(|step| !matches!(step, Step::GrantTurn(_)));
    let wanted = turn::next_grant(None, &claims);
    let founded = seen
        .app_wanted
        .founding
        .as_ref()
        .is_some_and(|founding| founding.done);
    if !founded {
        return leader::duties(seen);
    }
    if seen.leader && wanted != seen.app_wanted.turn {
        steps.push(Step::GrantTurn(wanted));
    }
    steps
}

fn early_quorum(seen: &Observation) -> Plan {
    changed(seen, |steps| {
        let joins = seen.mine().data.state == UnitState::New
            && steps.iter().any(|step| {
                matches!(
                    step,
                    Step::StartServer {
                        follow: Some(_),
                        ..
                    }
                )
            });
        if joins {
            let on = seen.members();
            let quorum = sentinel_quorum(on.len() + 1);
            steps.insert(0, Step::SetQuorum { on, quorum });
        }
    })
}

fn joined_early(seen: &Observation) -> Plan {
    let plan = planner::plan(seen);
    if seen.mine().data.state == UnitState::New
        && matches!(plan.reason(), Some(Reason::Discovery { .. }))
    {
        return acts(vec![
            Step::SetState(UnitState::Member),
            Step::RecordPosition,
            Step::ReleaseTurn,
            Step::ReleaseLease,
        ]);
    }
    plan
}

fn promotes_by_number(seen: &Observation) -> Plan {
    changed(seen, |steps| {
        for step in steps {
            if let Step::Promote { to } = step
                && let Some(first) = seen.members().into_iter().find(|unit| {
                    seen.server(unit).is_some_and(|server| {
                        server.loading.is_none()
                            && matches!(server.role, Role::Replica { syncing: None, .. })
                    })
                })
            {
                *to = first;
            }
        }
    })
}

fn to_a_leaver(seen: &Observation) -> Plan {
    let mut blind = seen.clone();
    for (name, unit) in &mut blind.units {
        if *name != seen.me {
            unit.dying = false;
        }
    }
    planner::plan(&blind)
}

fn asks_anew(seen: &Observation) -> Plan {
    match planner::plan(seen) {
        Plan::Wait(
            reason @ Reason::Turn {
                kind: TurnKind::Start,
                ..
            },
        ) => Plan::ActAndWait {
            steps: vec![Step::RequestTurn(TurnKind::Start)],
            reason,
        },
        plan => plan,
    }
}

/// Brings a former primary back as a primary, whatever the others say.
fn no_gate(seen: &Observation) -> Plan {
    let was_primary = seen
        .mine()
        .data
        .position
        .as_ref()
        .is_some_and(|position| position.primary);
    let member = seen.mine().data.state == UnitState::Member;
    let stopped = seen.local.server == Process::Stopped;
    if seen.intent == Intent::Reconcile
        && member
        && stopped
        && was_primary
        && seen.serving().is_empty()
    {
        return acts(vec![Step::StartServer {
            follow: None,
            min_replicas: 0,
            from_snapshot: false,
        }]);
    }
    planner::plan(seen)
}

fn no_fence(seen: &Observation) -> Plan {
    let mut plan = planner::plan(&without_fence(seen));
    if let Plan::Act { steps, .. } = &mut plan {
        steps.retain(|step| !matches!(step, Step::SetMinReplicas { .. }));
        for step in steps.iter_mut() {
            if let Step::StartServer { min_replicas, .. } = step {
                *min_replicas = 0;
            }
        }
        if steps.is_empty() {
            return Plan::Settled;
        }
    }
    plan
}

/// Leaves the fence of those who stay to their own upkeep.
fn late_fence(seen: &Observation) -> Plan {
    if seen.intent == Intent::Leave {
        return planner::plan(&without_fence(seen));
    }
    planner::plan(seen)
}

/// Hides which fence the servers have.
fn without_fence(seen: &Observation) -> Observation {
    let mut blind = seen.clone();
    for server in blind.servers.values_mut() {
        if let Seen::Known(server) = server {
            server.min_replicas = None;
        }
    }
    blind
}

/// Shows only the units whose processes answer.
fn living(seen: &Observation) -> Observation {
    let mut living = seen.clone();
    living.units.retain(|name, unit| {
        *name == seen.me
            || unit.data.state != UnitState::Member
            || seen.server(name).is_some()
            || seen.sentinel(name).is_some()
    });
    living
}

fn fresh_sentinel(seen: &Observation) -> Plan {
    changed(seen, |steps| {
        for step in steps {
            if let Step::StartSentinel { fresh, .. } = step {
                *fresh = true;
            }
        }
    })
}

fn leaves_at_once(seen: &Observation) -> Plan {
    if seen.intent == Intent::Leave && seen.local.server == Process::Running {
        return acts(vec![Step::StopSentinel, Step::StopServer]);
    }
    planner::plan(seen)
}

fn last_copy_leaves(seen: &Observation) -> Plan {
    match planner::plan(seen) {
        Plan::Poll(Reason::LastCopy(_)) | Plan::Refuse(Reason::LastCopy(_)) => {
            let stopped = seen.local.server == Process::Stopped;
            if stopped {
                acts(vec![Step::SetState(UnitState::Left)])
            } else {
                acts(vec![Step::StopSentinel, Step::StopServer])
            }
        }
        // Nor does it bring the copy back.
        plan if seen.intent == Intent::Leave
            && plan.steps().iter().any(|step| {
                matches!(step, Step::StartServer { .. } | Step::StartSentinel { .. })
            }) =>
        {
            acts(vec![Step::SetState(UnitState::Left)])
        }
        plan => plan,
    }
}

/// Leaves as soon as the processes are stopped, and clears nobody away.
fn without_forgetting(seen: &Observation) -> Plan {
    changed(seen, |steps| {
        let forgets = steps.iter().any(|step| matches!(step, Step::Forget { .. }));
        if forgets && seen.intent == Intent::Leave {
            *steps = vec![Step::SetState(UnitState::Left), Step::ReleaseLease];
        } else {
            steps.retain(|step| !matches!(step, Step::Forget { .. }));
        }
    })
}

/// Looks for a life in which a wrong version does harm, and shrinks it.
pub fn search(name: &str, from: u64, count: u64) {
    let planted = PLANTED.iter().find(|planted| planted.name == name);
    let planted = planted.unwrap_or_else(|| panic!("nothing is planted under the name {name:?}"));
    for seed in from..from + count {
        // A script of a person's own is tried with other chances.
        let script = match std::env::var("SIMULATE_SCRIPT") {
            Ok(path) => {
                let text = std::fs::read_to_string(path).unwrap();
                Script {
                    seed,
                    ..text.parse().unwrap()
                }
            }
            Err(_) => generate::script(seed),
        };
        let deciders = (planted.deciders)();
        if crate::number("SIMULATE_KEEP").is_some() {
            let told = life::play(&script, deciders, true, 0);
            println!("{}\n{:?}", told.text.join("\n"), told.breaches);
            return;
        }
        let wrong = life::play(&script, deciders, false, 0).breaches;
        if !wrong.is_empty()
            && life::play(&script, Deciders::real(), false, 0)
                .breaches
                .is_empty()
        {
            let (script, what) = shrink::shrink(&script, deciders);
            println!("{name}: seed {seed}, {what}\n{script}");
            return;
        }
    }
    println!("{name}: not found in {count} seeds from {from}");
}

#[test]
fn every_planted_fault_is_found() {
    if let Ok(name) = std::env::var("SIMULATE_PLANTED") {
        let number = |name: &str, or| crate::number(name).unwrap_or(or);
        for planted in PLANTED
            .iter()
            .filter(|planted| name == "all" || name == planted.name)
        {
            search(
                planted.name,
                number("SIMULATE_FROM", 1),
                number("SIMULATE_SEEDS", 300),
            );
        }
        return;
    }
    let mut missed = Vec::new();
    for planted in PLANTED {
        let script: Script = planted.script.parse().unwrap();
        let mut found = None;
        for seed in 1..=SEEDS {
            let script = Script {
                seed,
                ..script.clone()
            };
            let right = life::play(&script, Deciders::real(), false, 0).breaches;
            if let Some(breach) = right.first() {
                missed.push(format!(
                    "{}: the charm itself fails, {breach:?}\n{script}",
                    planted.name
                ));
            }
            let wrong = life::play(&script, (planted.deciders)(), false, 0).breaches;
            if let Some(breach) = wrong.into_iter().next() {
                found = Some((seed, breach));
                break;
            }
        }
        match found {
            Some((seed, breach)) if planted.breaks.contains(&breach.oracle) => {
                println!(
                    "{}: found by {} ({}), seed {seed}",
                    planted.name, breach.oracle, breach.what
                );
            }
            Some((_, breach)) => missed.push(format!("{}: found by {breach:?}", planted.name)),
            None => missed.push(format!("{}: not found", planted.name)),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
