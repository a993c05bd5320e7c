//! A run of the charm: the handler and its pass, as in `src/handlers`, on the models.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::Duration,
};

use valkey_operator::{
    handlers::pacing::{Carried, Next, Pacing},
    limits::{LEADERSHIP_ASSURED, WAKE_SOON},
    planner::{
        Intent, Plan, UnitName,
        invariants::{permit, violations},
        observation::{Observation, Unit, Users},
        peer_data::{AppData, TurnRequest, UnitData, UnitState},
        turn,
    },
};

use crate::{
    juju::{Attachment, Hook, Juju, agent::Staged},
    models::{Failure, Millis, Reply, SentinelCommand, ServerCommand},
    observe, person, steps,
    world::{Ctx, World, number},
};

/// How long the reading of Juju's side takes: a few hook tools.
const BEGIN: Millis = 40;
/// How long a hook tool takes.
const TOOL: Millis = 10;
/// Time of a command over the network.
const COMMAND: Millis = 1;
/// `CONNECT_TIMEOUT`.
const CONNECT_TIMEOUT: Millis = 1_000;
/// `COMMAND_TIMEOUT`.
const COMMAND_TIMEOUT: Millis = 2_000;

/// One run of the charm, as `Charm` of the real one.
pub struct Run {
    /// The world.
    pub ctx: Ctx,
    /// Juju's side.
    pub side: Side,
    /// When the pass began.
    pub begun: Millis,
}

/// Juju's side as it was when the run began, and what the run will write; `JujuSide` of the real one.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Side {
    /// Number of this unit.
    pub unit: u8,
    /// This unit.
    pub me: UnitName,
    /// Its address.
    pub host: String,
    /// Whether it was the leader.
    pub leader: bool,
    /// When that was asked, before anything was read.
    pub leader_asked: Millis,
    /// The application's databag.
    pub app: AppData,
    /// What it will be.
    pub app_wanted: AppData,
    /// This unit's databag, as it will be.
    pub mine: UnitData,
    /// Whether this unit is being removed.
    pub dying: bool,
    /// The other units.
    pub peers: BTreeMap<UnitName, Unit>,
    /// Whether storage is mounted.
    pub storage: bool,
    /// Host of a fenced primary that refused the lease.
    pub lease_refused: Option<String>,
    /// Sentinels that this run has reset and not seen whole since, with when.
    pub unproven: RefCell<BTreeMap<String, Millis>>,
}

impl Deref for Run {
    type Target = Side;

    fn deref(&self) -> &Side {
        &self.side
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut Side {
        &mut self.side
    }
}

/// Why a step did not work.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "the words are for the trace")]
pub enum Trouble {
    /// A process gave no good answer.
    Valkey(Failure),
    /// Anything else.
    Other(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Valkey(failure)
    }
}

/// Makes a trouble of words.
pub fn trouble<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Other(why.into()))
}

/// What the charm does for a hook.
pub async fn dispatch(ctx: Ctx, unit: u8, hook: Hook) -> Result<Staged, String> {
    if hook == Hook::Remove {
        ctx.sleep(TOOL).await;
        ctx.with(|world| steps::processes::stop_watch(world, unit));
        return Ok(Staged::default());
    }
    let mut run = Run::begin(ctx, unit).await;
    match hook {
        Hook::StorageDetaching => {
            run.ctx
                .with(|world| steps::processes::stop_watch(world, unit));
            let (ctx, host) = (run.ctx.clone(), run.host.clone());
            let left = run.pass(Intent::Leave).await;
            if left.is_err() {
                steps::processes::watch_who_still_serves(&ctx, unit, &host).await;
            }
            left
        }
        Hook::Confirm(source) => person::confirm(run, source).await,
        Hook::Stop => {
            let gone = matches!(run.mine.state, UnitState::Left | UnitState::Detached);
            if gone || run.dying {
                run.ctx
                    .with(|world| steps::processes::stop_watch(world, unit));
            }
            Ok(Staged::default())
        }
        _ => {
            run.ctx
                .with(|world| steps::processes::refresh_watch(world, unit));
            run.pass(Intent::Reconcile).await
        }
    }
}

impl Run {
    /// Reads Juju's side.
    async fn begin(ctx: Ctx, unit: u8) -> Self {
        let leader_asked = ctx.sim.now();
        ctx.sleep(BEGIN).await;
        let side = ctx.with(|world| {
            let mut side = Side::new(world, unit, |juju, other| juju.read(unit, other));
            if let Some(side) = &mut side {
                side.leader_asked = leader_asked;
                side.storage &= world.juju.units[&unit].storage != Attachment::None;
                side.mine.address = Some(side.host.clone());
            }
            side.expect("a unit that runs a hook exists")
        });
        let begun = ctx.sim.now();
        Self { ctx, side, begun }
    }
}

impl Side {
    /// Reads Juju's side as `unit` sees it; `read` says what the others' databags hold.
    pub fn new(
        world: &World,
        unit: u8,
        read: impl Fn(&Juju, u8) -> Option<UnitData>,
    ) -> Option<Self> {
        let juju = &world.juju;
        let known = juju.units.get(&unit)?;
        let mut side = Self {
            unit,
            me: World::name(unit),
            host: world.host(unit)?.to_owned(),
            leader: juju.is_leader(unit),
            leader_asked: world.now(),
            app: juju.app.clone(),
            app_wanted: juju.app.clone(),
            mine: known.bag.clone(),
            dying: false,
            peers: BTreeMap::new(),
            storage: world.machines.get(&unit)?.mounted,
            lease_refused: None,
            unproven: RefCell::default(),
        };
        // Before it has entered the relation it knows of nobody.
        let others = known.entered.then(|| juju.goal_state());
        for (other, dying) in others.into_iter().flatten() {
            if other == unit {
                side.dying = dying;
            } else {
                let data = read(juju, other).unwrap_or_default();
                side.peers.insert(World::name(other), Unit { data, dying });
            }
        }
        Some(side)
    }

    /// Returns whether this unit has surely led since the databags were read, as `JujuSide::leads_still`.
    fn leads_still(&self, now: Millis) -> bool {
        self.leader && now - self.leader_asked < steps::ms(LEADERSHIP_ASSURED)
    }

    /// Looks again who is leaving and who is gone.
    fn refresh_leaving(&mut self, world: &World) {
        let goal: BTreeMap<u8, bool> = world.juju.goal_state().collect();
        self.peers
            .retain(|unit, _| goal.contains_key(&number(unit)));
        for (unit, known) in &mut self.peers {
            known.dying = goal.get(&number(unit)).copied().unwrap_or(known.dying);
        }
        for (other, dying) in goal {
            let name = World::name(other);
            if other != self.unit
                && !self.peers.contains_key(&name)
                && let Some(data) = world.juju.read(self.unit, other)
            {
                self.peers.insert(name, Unit { data, dying });
            }
        }
    }

    /// Gives the turn back, as `JujuSide::release_turn`.
    pub fn release_turn(&mut self) {
        self.mine.turn = TurnRequest {
            number: self.next_turn_number(),
            wants: None,
            asked_at: 0,
        };
    }

    /// Returns a number above every one that this unit used or was granted.
    pub fn next_turn_number(&self) -> u64 {
        turn::next_number(self.app.turn.as_ref(), &self.me, &self.mine.turn)
    }

    /// Returns whether the passwords are at hand.
    pub fn users(&self) -> Users {
        if self.app.users_secret.is_some() {
            Users::Ready
        } else {
            Users::Missing
        }
    }
}

impl Run {
    /// A point at which the hook can be killed.
    pub async fn point(&self) {
        let killed = self.ctx.with(|world| {
            let machine = world.machines.get_mut(&self.unit);
            machine.is_some_and(|machine| match &mut machine.fuse {
                Some(left) => {
                    *left = left.saturating_sub(1);
                    *left == 0
                }
                None => false,
            })
        });
        if killed {
            // Whoever polls this run drops it now.
            std::future::pending::<()>().await;
        }
    }

    fn answer_lost(&self) -> bool {
        self.ctx.with(|world| {
            world.machines.get_mut(&self.unit).is_some_and(|machine| {
                match machine.lose_answer.as_mut() {
                    Some(0) => {
                        machine.lose_answer = None;
                        true
                    }
                    Some(left) => {
                        *left -= 1;
                        false
                    }
                    None => false,
                }
            })
        })
    }

    async fn delayed<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        match &answer {
            Err(Failure::Unreachable) => self.ctx.sleep(CONNECT_TIMEOUT).await,
            Err(Failure::Silent) => self.ctx.sleep(COMMAND_TIMEOUT).await,
            _ if self.answer_lost() => {
                self.ctx.sleep(COMMAND_TIMEOUT).await;
                self.point().await;
                return Err(Failure::Silent);
            }
            _ => {}
        }
        self.point().await;
        answer
    }

    /// Sends a command to a server.
    pub async fn server(&self, at: &str, command: ServerCommand) -> Result<Reply, Failure> {
        self.ctx.sleep(COMMAND).await;
        let answer = self
            .ctx
            .with(|world| world.cluster.server_command(&self.host, at, &command));
        self.delayed(answer).await
    }

    /// Sends a command to a Sentinel.
    pub async fn sentinel(&self, at: &str, command: SentinelCommand) -> Result<Reply, Failure> {
        self.ctx.sleep(COMMAND).await;
        let answer = self.ctx.with(|world| {
            if matches!(command, SentinelCommand::Reset) {
                crate::oracles::reset(world, self.unit, at);
            }
            world.cluster.sentinel_command(&self.host, at, &command)
        });
        self.delayed(answer).await
    }

    /// Looks at everything.
    pub async fn look(&self, intent: Intent) -> Observation {
        self.ctx.sleep(COMMAND * 2).await;
        let (mut seen, cost) = self
            .ctx
            .with(|world| observe::processes(world, &self.side, intent));
        if cost > 0 {
            self.ctx.sleep(cost).await;
        }
        self.ctx
            .with(|world| observe::local(world, &self.side, &mut seen));
        let cost = self
            .ctx
            .with(|world| observe::lease(world, &self.side, &mut seen));
        self.ctx.sleep(COMMAND + cost).await;
        self.point().await;
        seen
    }

    /// One pass, as `src/handlers/pass.rs`.
    async fn pass(&mut self, intent: Intent) -> Result<Staged, String> {
        let leaving = intent == Intent::Leave;
        let deciders = self.ctx.with(|world| world.deciders);
        let mut pacing = Pacing::new(&intent);
        let mut failure: Option<String> = None;
        let mut last = None;
        while !pacing.exhausted() {
            let seen = self.look(intent.clone()).await;
            let plan = (deciders.plan)(&seen);
            if let Err(breach) = permit(&seen, &plan) {
                self.ctx
                    .with(|world| world.breach("permit", format!("{}: {breach}", self.me)));
                return Err(format!("refused to break an invariant: {breach}"));
            }
            self.note_plan(&seen, &plan);
            let failed = self.carry_out(&seen, &plan).await;
            let carried = Carried::note(&plan, failed, &mut failure);
            let elapsed = Duration::from_millis(self.ctx.sim.now() - self.begun);
            match pacing.next(&plan, carried, elapsed) {
                Next::Look => {}
                Next::Pause(pause) => {
                    self.ctx
                        .sleep(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
                        .await;
                    if leaving {
                        let ctx = self.ctx.clone();
                        ctx.with(|world| self.side.refresh_leaving(world));
                    }
                }
                Next::End => {
                    last = Some((seen, plan));
                    break;
                }
            }
        }
        let Some((seen, plan)) = last else {
            self.ctx.with(|world| {
                world.breach("endless", format!("{} looked as often as it may", self.me));
            });
            return Err("cannot settle: the pass looked as often as it may".to_owned());
        };
        self.finish(seen, &plan, failure, leaving).await
    }

    fn note_plan(&self, seen: &Observation, plan: &Plan) {
        self.ctx.with(|world| {
            let hash = plan.steps().iter().fold(plan.steps().len(), |sum, step| {
                sum * 31 + step.to_string().len()
            });
            world.note(hash as u64, || match plan {
                Plan::Act { steps, why } => format!(
                    "{} plans ({why}): {}",
                    self.me,
                    steps
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; ")
                ),
                other => format!(
                    "{} {}{}",
                    self.me,
                    other
                        .reason()
                        .map_or_else(|| "settled".to_owned(), ToString::to_string),
                    if other.steps().is_empty() {
                        String::new()
                    } else {
                        format!(
                            " and {}",
                            other
                                .steps()
                                .iter()
                                .map(ToString::to_string)
                                .collect::<Vec<_>>()
                                .join("; ")
                        )
                    }
                ),
            });
            let unit = self.unit;
            crate::oracles::decided(world, unit, seen, plan);
        });
    }

    async fn carry_out(&mut self, seen: &Observation, plan: &Plan) -> Option<String> {
        for step in plan.steps() {
            if let Err(trouble) = steps::execute(self, seen, step).await {
                self.ctx.with(|world| {
                    world.note(40, || format!("{} cannot {step}: {trouble:?}", self.me));
                });
                return Some(format!("cannot {step}: {trouble:?}"));
            }
        }
        None
    }

    /// What the pass led to, as `finish` in `src/handlers/pass.rs`.
    async fn finish(
        &mut self,
        mut seen: Observation,
        plan: &Plan,
        failure: Option<String>,
        leaving: bool,
    ) -> Result<Staged, String> {
        let deciders = self.ctx.with(|world| world.deciders);
        if failure.is_some() && !leaving {
            for step in (deciders.give_up)(&seen) {
                // The lease ends by itself, too.
                drop(steps::execute(self, &seen, &step).await);
            }
        }
        if let Some(unit) = seen.units.get_mut(&seen.me) {
            unit.data = self.mine.clone();
        }
        // What the leader decides rests on the databags as they were when the hook began.
        seen.leader = self.leads_still(self.ctx.sim.now());
        let related = self.ctx.with(|world| world.juju.units[&self.unit].entered);
        if related {
            for step in (deciders.duties)(&seen) {
                if let Err(trouble) = steps::execute(self, &seen, &step).await {
                    return Err(format!("cannot {step}: {trouble:?}"));
                }
            }
        }
        let settled = *plan == Plan::Settled;
        if leaving && !settled {
            let why = failure
                .or_else(|| plan.reason().map(ToString::to_string))
                .unwrap_or_else(|| "has not finished leaving in time".to_owned());
            return Err(format!("{} cannot leave: {why}", self.me));
        }
        self.ctx.sleep(TOOL).await;
        self.point().await;
        let staged = self.flush(related)?;
        let in_order = settled && violations(&seen).is_empty();
        self.ctx.with(|world| {
            let wake = (!in_order).then(|| world.unix_now() + WAKE_SOON.as_secs());
            if let Some(machine) = world.machines.get_mut(&self.unit)
                && machine.mounted
            {
                machine.wake = wake;
            }
            if let Some(unit) = world.juju.units.get_mut(&self.unit) {
                unit.settled = settled;
            }
            crate::oracles::status(world, &seen, plan, failure.as_deref(), leaving);
        });
        self.ctx.sleep(TOOL).await;
        Ok(staged)
    }

    /// Hands what this run wants to write to Juju.
    pub fn flush(&self, related: bool) -> Result<Staged, String> {
        let mut staged = Staged::default();
        if !related {
            return Ok(staged);
        }
        staged.unit = Some(self.mine.clone());
        if self.app_wanted != self.app {
            let leader = self
                .ctx
                .with(|world| world.juju.is_leader(self.unit) || world.deciders.late_leader_writes);
            if !leader {
                return Err("relation-set --app: not the leader".to_owned());
            }
            staged.app = Some(self.app_wanted.clone());
        }
        Ok(staged)
    }
}
