//! One hook: it begins, looks, carries out its steps one at a time, and commits or fails.
//!
//! What is decided comes from the planner; what is modelled here is what the pass, the executor
//! and Juju make of it.

use valkey_operator::planner::{
    Observation, Plan, Step, UnitName, invariants,
    observation::Lease,
    peer_data::{Grant, TurnRequest},
    turn,
};

use crate::{
    memo::{Decision, Memo, Sight},
    observe,
    world::{
        App, Bag, Broken, Displaced, Founder, Hook, Id, Life, Mark, Op, Stage, State, Turn, Units,
        World,
    },
};

/// What decides in the model: the planner's own functions, or a wrong version of one of them.
#[derive(Clone)]
pub struct Rules {
    pub plan: fn(&Observation) -> Plan,
    pub duties: fn(&Observation) -> Vec<Step>,
    pub give_up: fn(&Observation) -> Vec<Step>,
    /// Whether Juju refuses what a deposed leader writes.
    pub commit_is_checked: bool,
    /// Whether the charm writes for the application only while its leadership cannot have lapsed.
    pub tenure_is_checked: bool,
    /// Whether the lease is made sure of before each step that needs it.
    pub lease_is_checked: bool,
    /// Whether only its owner deletes the lease.
    pub release_is_checked: bool,
    /// Whether a leader decides nothing when Juju does not tell who leaves.
    pub blind_leaders_wait: bool,
    pub memo: Memo,
}

/// How one step ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Good,
    Bad,
}

fn set(names: &[UnitName]) -> Units {
    Units::of(names.iter().map(observe::id_of))
}

/// Returns what of a step matters here.
///
/// Claiming the data is a step of its own only where it may matter that nothing follows it.
fn op(step: &Step, founding: bool) -> Option<Op> {
    Some(match step {
        Step::ClaimData { generation } if founding => Op::Claim {
            generation: u8::try_from(*generation).expect("few decisions"),
        },
        Step::RequestTurn(kind) => Op::Request((*kind).into()),
        Step::ReleaseTurn => Op::GiveTurnBack,
        Step::SetState(state) => Op::SetState((*state).into()),
        Step::TakeLease => Op::TakeLease,
        Step::ReleaseLease => Op::ReleaseLease,
        Step::StartServer { follow, .. } => Op::StartServer {
            replica: follow.is_some(),
        },
        Step::StopServer => Op::StopServer,
        Step::StartSentinel { quorum, .. } => Op::StartSentinel {
            quorum: u8::try_from(*quorum).expect("few units"),
        },
        Step::StopSentinel => Op::StopSentinel,
        Step::Announce => Op::Announce,
        Step::SetQuorum { on, quorum } => Op::SetQuorum {
            on: set(on),
            quorum: u8::try_from(*quorum).expect("few units"),
        },
        Step::HandOver { to, .. } | Step::Promote { to } | Step::CompleteHandOver { to } => {
            Op::Promote {
                to: observe::id_of(to),
            }
        }
        Step::Forget { remaining } => Op::Forget {
            remaining: set(remaining),
        },
        Step::CreateUsers
        | Step::NameDeployment
        | Step::NameFounder(_)
        | Step::GrantTurn(_)
        | Step::RecordPosition
        | Step::ClaimData { .. }
        | Step::KeepAside
        | Step::StartWatch
        | Step::SetPromotable(_)
        | Step::SetMinReplicas { .. }
        | Step::ApplySettings
        | Step::Follow { .. }
        | Step::Monitor { .. } => return None,
    })
}

/// Starts a hook of `me`, without its first look.
pub fn begin(rules: &Rules, world: &World, me: Id, leaves: bool, blind: bool) -> Hook {
    let (mut present, mut dying) = world.goal();
    if blind {
        // The members of the relation: who is being removed is no longer among them.
        present = Units::of(present.ids().filter(|id| !dying.has(*id) || *id == me));
        dying = Units::default();
    }
    let mine = Bag {
        written: true,
        ..world.unit(me).bag
    };
    Hook {
        leaves,
        leader: world.leader == Some(me) && !(blind && rules.blind_leaders_wait),
        deposed: false,
        app: world.app,
        present,
        dying,
        mine,
        at_look: mine,
        stage: Stage::Look,
        ops: Vec::new(),
        leased: false,
        asked: None,
        refused: false,
        failed: false,
        fresh: true,
    }
}

/// Looks and plans; carries out what only the hook itself sees.
pub fn look(rules: &Rules, world: &mut World, me: Id, hook: &mut Hook) {
    if hook.leaves && hook.stage == Stage::Poll {
        let (present, dying) = world.goal();
        hook.present = Units::of(present.ids().filter(|id| hook.present.has(*id)));
        let others = Units::of(dying.ids().filter(|id| *id != me && hook.present.has(*id)));
        hook.dying = if hook.dying.has(me) {
            others.with(me)
        } else {
            others
        };
    }
    let decision = rules
        .memo
        .plan(Sight::new(world, me, hook, hook.leader), || {
            decide(rules, world, me, hook)
        });
    if !decision.permitted {
        world.broken.insert(Broken::Refused);
    }
    hook.leased = decision.leased;
    hook.asked = decision.asked;
    hook.stage = decision.stage;
    hook.ops = decision.ops;
    hook.fresh = true;
    hook.at_look = hook.mine;
    private(me, hook);
}

/// Asks the planner.
fn decide(rules: &Rules, world: &World, me: Id, hook: &Hook) -> Decision {
    let seen = observe::look(world, me, hook, &hook.mine);
    let plan = (rules.plan)(&seen);
    let then = |poll, end| Stage::Steps { poll, end };
    let founding = hook.app.founder.is_some_and(|founder| !founder.done);
    Decision {
        leased: seen.lease == Lease::Mine,
        permitted: invariants::permit(&seen, &plan).is_ok(),
        ops: plan
            .steps()
            .iter()
            .filter_map(|step| Some((op(step, founding)?, seen.changes_the_set(step))))
            .collect(),
        asked: seen.primary().as_ref().map(observe::id_of),
        stage: match plan {
            Plan::Act { .. } => then(false, false),
            Plan::ActAndPoll { .. } => then(true, false),
            Plan::ActAndWait { .. } => then(false, true),
            Plan::Poll(_) => Stage::Poll,
            Plan::Wait(_) | Plan::Refuse(_) => Stage::End { settled: false },
            Plan::Settled => Stage::End { settled: true },
        },
    }
}

/// Decides for the leader.
fn duties(rules: &Rules, world: &World, me: Id, hook: &Hook, leader: bool) -> App {
    let mut seen = observe::look(world, me, hook, &hook.mine);
    seen.leader = leader;
    let mut wanted = hook.app;
    for step in (rules.duties)(&seen) {
        match step {
            Step::GrantTurn(turn) => {
                wanted.turn = turn.map(|grant| {
                    let number = u8::try_from(grant.number).expect("numbers are made small again");
                    (observe::id_of(&grant.holder), number)
                });
            }
            Step::NameDeployment => wanted.deployment = Some(me),
            Step::NameFounder(founding) => {
                wanted.founder = Some(Founder {
                    unit: observe::id_of(&founding.unit),
                    generation: u8::try_from(founding.generation).expect("few decisions"),
                    reason: founding.reason.into(),
                    done: founding.done,
                });
            }
            _ => {}
        }
    }
    wanted
}

/// Carries out the next steps as long as nobody else sees them, and moves on after the last.
fn private(me: Id, hook: &mut Hook) {
    let app = hook.app.turn;
    while let Some((op, _)) = hook.ops.first().copied().filter(|(op, _)| op.is_private()) {
        hook.ops.remove(0);
        match op {
            Op::Request(wish) => {
                hook.mine.number = next_number(app, me, &hook.mine);
                hook.mine.wants = Some(wish);
            }
            Op::GiveTurnBack => {
                hook.mine.number = next_number(app, me, &hook.mine);
                hook.mine.wants = None;
            }
            Op::SetState(state) => hook.mine.state = state,
            _ => {}
        }
    }
    if let Stage::Steps { poll, end } = hook.stage
        && hook.ops.is_empty()
    {
        hook.stage = if end {
            Stage::End { settled: false }
        } else if poll {
            Stage::Poll
        } else {
            Stage::Look
        };
        hook.asked = None;
    }
}

fn request(bag: &Bag) -> TurnRequest {
    TurnRequest {
        number: u64::from(bag.number),
        wants: bag.wants.map(Into::into),
        asked_at: 0,
    }
}

fn grant(turn: Turn) -> Option<Grant> {
    turn.map(|(holder, number)| Grant {
        holder: observe::name(holder),
        number: u64::from(number),
    })
}

fn next_number(app: Turn, me: Id, mine: &Bag) -> u8 {
    let next = turn::next_number(grant(app).as_ref(), &observe::name(me), &request(mine));
    u8::try_from(next).expect("numbers are made small again")
}

/// Returns whether `me` holds the turn under `app`, by the planner's own rule.
pub fn holds(app: Turn, me: Id, bag: &Bag) -> bool {
    // Only to be quick: another's turn is not asked about.
    app.is_some_and(|(holder, _)| holder == me)
        && turn::held_by(grant(app).as_ref(), &observe::name(me), &request(bag))
}

/// Carries out the next step of the hook of `me`.
pub fn step(rules: &Rules, world: &mut World, me: Id, hook: &mut Hook, luck: Luck) {
    let (op, changes) = hook.ops.remove(0);
    let mut done = luck == Luck::Good;
    if changes && hook.leased && rules.lease_is_checked {
        // One that was lost is not simply taken again: the plan was made for another set.
        // It is asked of the primary of the look.
        let lease = |primary: Id| world.unit(primary).lease;
        if world.answers(me, hook.asked) && hook.asked.and_then(lease) == Some(me) {
            hook.fresh = true;
        } else {
            done = false;
        }
    } else if changes && hook.refused && world.answers(me, hook.asked) {
        // A fenced primary gives the lease to nobody, but another may have it.
        let holder = hook.asked.and_then(|primary| world.unit(primary).lease);
        done &= holder.is_none_or(|holder| holder == me);
    }
    // A step that fails may have had its effect all the same, where that is a single call.
    let single = matches!(op, Op::TakeLease | Op::StartServer { replica: false });
    if done || (luck == Luck::Bad && single) {
        if changes {
            judge(world, me, hook, op);
        }
        let needs_turn = match op {
            Op::StartServer { replica } => replica && hook.mine.state != State::Member,
            Op::StopServer => !hook.leaves,
            _ => false,
        };
        // Where all members leave, who joins need not wait for a leader that leaves too.
        let exempt = hook.dying != Units::default();
        if needs_turn && !exempt && !holds(hook.app.turn, me, &hook.at_look) {
            world.broken.insert(Broken::WithoutTurn);
        }
        done &= carry_out(rules, world, me, hook, op, luck);
    }
    if done {
        hook.failed = false;
    } else {
        hook.failed = true;
        hook.ops.clear();
        hook.stage = Stage::Poll;
    }
    private(me, hook);
}

/// Notes what must not happen when `me` changes the set, and that the others' looks are old now.
fn judge(world: &mut World, me: Id, hook: &Hook, op: Op) {
    if hook.leased && !hook.fresh {
        world.broken.insert(Broken::Stale);
    }
    if let Op::Forget { remaining } = op {
        let belongs = |world: &World, id: Id| {
            let unit = world.unit(id);
            let state = unit
                .hook
                .as_ref()
                .map_or(unit.bag.state, |it| it.mine.state);
            id != me && unit.sentinel && unit.server && state == State::Member
        };
        if world
            .ids()
            .any(|id| world.listed.has(id) && belongs(world, id) && !remaining.has(id))
        {
            world.broken.insert(Broken::Forgotten);
        }
    }
    let belongs = hook.mine.state == State::Member;
    let some_stay = world
        .ids()
        .any(|id| world.unit(id).life == Life::Alive && world.unit(id).bag.state == State::Member);
    let intrudes = world.lease().is_some_and(|holder| holder != me);
    if intrudes && (belongs || hook.leased) && some_stay {
        world.broken.insert(Broken::Intrusion);
    }
    for id in world.ids().filter(|id| *id != me) {
        if let Some(other) = &mut world.unit_mut(id).hook {
            other.fresh = false;
        }
    }
}

/// Lets a step have its effect; returns whether it worked.
fn carry_out(
    rules: &Rules,
    world: &mut World,
    me: Id,
    hook: &mut Hook,
    op: Op,
    luck: Luck,
) -> bool {
    let settings = world.settings;
    match op {
        Op::TakeLease => return take_lease(world, me, hook, luck),
        Op::ReleaseLease => release_lease(rules, world, me, hook),
        Op::Claim { generation } => claim(world, me, hook, generation),
        Op::StartServer { replica } => {
            start(world, me, hook, replica);
            let unit = world.unit_mut(me);
            unit.server = true;
            unit.data = true;
            unit.clean = false;
            hook.mine.settings = settings;
        }
        Op::StopServer => {
            let unit = world.unit_mut(me);
            unit.server = false;
            unit.clean = true;
        }
        Op::StartSentinel { quorum } => {
            // The first one of all, or the one of a founder, knows nobody.
            if hook.mine.state != State::Member && world.primary == me {
                world.listed = Units::of([me]);
            }
            let unit = world.unit_mut(me);
            unit.sentinel = true;
            // A member's Sentinel has its own file.
            if hook.mine.state != State::Member {
                unit.quorum = quorum;
            }
        }
        Op::StopSentinel => world.unit_mut(me).sentinel = false,
        Op::Announce => {
            if !world.answers(me, Some(world.primary)) || !world.unit(me).sentinel {
                return false;
            }
            world.listed = world.listed.with(me);
        }
        Op::Promote { to } => return promote(world, me, to),
        Op::Forget { remaining } => {
            if !world.answers(me, Some(world.primary)) {
                return false;
            }
            world.listed = Units::of(world.listed.ids().filter(|id| remaining.has(*id)));
        }
        Op::SetQuorum { on, quorum } => {
            for id in on
                .ids()
                .filter(|id| world.unit(*id).sentinel && world.cut.reaches(me, *id))
                .collect::<Vec<_>>()
            {
                world.unit_mut(id).quorum = quorum;
            }
        }
        Op::Request(_) | Op::GiveTurnBack | Op::SetState(_) => {}
    }
    true
}

/// Marks the data of `me` as following a decision.
fn claim(world: &mut World, me: Id, hook: &Hook, generation: u8) {
    if let Some(deployment) = hook.app.deployment {
        world.unit_mut(me).mark = Some(Mark {
            deployment,
            generation,
        });
    }
}

/// What the start of the server of `me` means for who is primary.
fn start(world: &mut World, me: Id, hook: &Hook, replica: bool) {
    let begins_anew = !replica && !world.unit(me).data;
    if begins_anew {
        let there = |id: &Id| {
            let unit = world.unit(*id);
            let joined = unit.bag.state == State::Member;
            *id != me && unit.life != Life::Gone && !unit.lost && (unit.server || joined)
        };
        if world.founded.ids().any(|id| there(&id)) {
            world.broken.insert(Broken::TwoFounders);
        }
        world.founded = world.founded.with(me);
    }
    if !replica && !world.serves() {
        world.primary = me;
        // A Sentinel of its own that knew another primary is told anew, when nobody else's runs.
        if world.ids().all(|id| id == me || !world.unit(id).sentinel) {
            world.listed = Units::of(Some(me).filter(|_| world.unit(me).sentinel));
        }
    }
    if let Some(founder) = hook.app.founder
        && world.unit(me).mark.is_none()
    {
        claim(world, me, hook, founder.generation);
    }
}

/// Makes `to` the primary; whoever was it and is out of reach learns of it later.
fn promote(world: &mut World, me: Id, to: Id) -> bool {
    let old = world.primary;
    if !world.unit(to).server || !world.cut.reaches(me, to) {
        return false;
    }
    if to != old && world.serves() {
        if world.cut.reaches(old, to) {
            // A hand-over leaves nothing behind.
            world.unit_mut(to).lease = world.unit(old).lease;
        }
        if !world.cut.reaches(me, old) {
            displace(world);
        }
    }
    world.primary = to;
    world.displaced = world.displaced.filter(|old| old.unit != to);
    true
}

/// Lets the primary go on as one although another takes its place.
pub fn displace(world: &mut World) {
    world.displaced = Some(Displaced {
        unit: world.primary,
        listed: world.listed,
    });
}

fn follows(world: &World, id: Id, primary: Id) -> bool {
    primary == world.primary
        && !world.leads(id)
        && world.unit(id).server
        && world.cut.reaches(id, primary)
}

/// As the executor takes it: from the primary of the look, with the acknowledgement of a majority.
fn take_lease(world: &mut World, me: Id, hook: &Hook, luck: Luck) -> bool {
    let Some(primary) = hook.asked.filter(|_| world.answers(me, hook.asked)) else {
        // The primary of the look is none any more, or out of reach.
        return false;
    };
    if world.unit(primary).lease.is_some_and(|holder| holder != me) {
        return false;
    }
    world.unit_mut(primary).lease = Some(me);
    // Without bad luck a majority has it when the step is done.
    if luck == Luck::Good && world.budget.failovers > 0 {
        let running = world.ids().filter(|id| world.unit(*id).server).count();
        let wanted = running / 2;
        let replicas: Vec<Id> = world
            .ids()
            .filter(|id| *id != primary && follows(world, *id, primary))
            .take(wanted)
            .collect();
        for id in replicas {
            world.unit_mut(id).lease = Some(me);
        }
    }
    true
}

fn release_lease(rules: &Rules, world: &mut World, me: Id, hook: &Hook) {
    let Some(primary) = hook.asked.filter(|_| world.answers(me, hook.asked)) else {
        return;
    };
    let holder = world.unit(primary).lease;
    if holder.is_some_and(|holder| holder == me || !rules.release_is_checked) {
        if holder != Some(me) {
            world.broken.insert(Broken::StolenLease);
        }
        world.unit_mut(primary).lease = None;
    }
}

/// Ends the hook of `me`: what it wrote is seen by all, or by nobody.
pub fn commit(rules: &Rules, world: &mut World, me: Id, mut hook: Hook) {
    if hook.failed && !hook.leaves {
        let mut seen = observe::look(world, me, &hook, &hook.at_look.clone());
        seen.lease = if hook.leased {
            Lease::Mine
        } else {
            Lease::Unknown
        };
        for step in (rules.give_up)(&seen) {
            match op(&step, false) {
                Some(Op::ReleaseLease) => {
                    hook.asked = Some(world.primary);
                    release_lease(rules, world, me, &hook);
                }
                Some(private_op) => {
                    hook.ops.push((private_op, false));
                    private(me, &mut hook);
                }
                None => {}
            }
        }
    }
    let settled = hook.stage == Stage::End { settled: true };
    if hook.leaves && !settled {
        return;
    }
    let leader = hook.leader && !(rules.tenure_is_checked && hook.deposed);
    let wanted = rules.memo.duties(Sight::new(world, me, &hook, leader), || {
        duties(rules, world, me, &hook, leader)
    });
    if wanted != hook.app {
        if rules.commit_is_checked && world.leader != Some(me) {
            return;
        }
        if wanted.turn != hook.app.turn
            && let Some((holder, _)) = wanted.turn
            && (hook.dying.has(holder) || !hook.present.has(holder))
        {
            world.broken.insert(Broken::GrantToTheDead);
        }
        world.app = wanted;
    }
    world.unit_mut(me).bag = hook.mine;
}
