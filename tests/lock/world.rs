//! What the model remembers: Juju's side, the processes, the lease, and every hook that runs.

use std::collections::BTreeSet;

use valkey_operator::planner::peer_data::{FoundingReason, TurnKind, UnitState};

/// Number of a unit.
pub type Id = u8;

/// A set of units.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Units(u8);

impl Units {
    pub fn of(ids: impl IntoIterator<Item = Id>) -> Self {
        ids.into_iter().fold(Self(0), Self::with)
    }

    pub const fn with(self, id: Id) -> Self {
        Self(self.0 | 1 << id)
    }

    pub const fn without(self, id: Id) -> Self {
        Self(self.0 & !(1 << id))
    }

    pub const fn has(self, id: Id) -> bool {
        self.0 & (1 << id) != 0
    }

    pub fn ids(self) -> impl Iterator<Item = Id> {
        (0..8).filter(move |id| self.has(*id))
    }
}

impl std::fmt::Debug for Units {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.ids()).finish()
    }
}

/// A unit's databag, as far as the lock needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bag {
    /// Whether the unit has ever written anything.
    pub written: bool,
    pub state: State,
    pub number: u8,
    pub wants: Option<Wish>,
    /// Which settings its server has read.
    pub settings: u8,
}

impl Bag {
    pub const EMPTY: Self = Self {
        written: false,
        state: State::New,
        number: 0,
        wants: None,
        settings: 0,
    };
}

/// [`UnitState`], with an order and a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    New,
    Member,
    Detached,
    Left,
}

impl From<UnitState> for State {
    fn from(state: UnitState) -> Self {
        match state {
            UnitState::New => Self::New,
            UnitState::Member => Self::Member,
            UnitState::Detached => Self::Detached,
            UnitState::Left => Self::Left,
        }
    }
}

impl From<State> for UnitState {
    fn from(state: State) -> Self {
        match state {
            State::New => Self::New,
            State::Member => Self::Member,
            State::Detached => Self::Detached,
            State::Left => Self::Left,
        }
    }
}

/// [`TurnKind`], with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    Start,
    Restart,
}

impl From<TurnKind> for Wish {
    fn from(kind: TurnKind) -> Self {
        match kind {
            TurnKind::Start => Self::Start,
            TurnKind::Restart => Self::Restart,
        }
    }
}

impl From<Wish> for TurnKind {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Start => Self::Start,
            Wish::Restart => Self::Restart,
        }
    }
}

/// The turn in the application's databag: whose, and which of its requests.
pub type Turn = Option<(Id, u8)>;

/// Who may serve without having been elected, as the leader named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Founder {
    pub unit: Id,
    pub generation: u8,
    pub reason: Why,
    pub done: bool,
}

/// [`FoundingReason`], with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Found,
    Restore,
    Override,
}

impl From<FoundingReason> for Why {
    fn from(reason: FoundingReason) -> Self {
        match reason {
            FoundingReason::Found => Self::Found,
            FoundingReason::Restore => Self::Restore,
            FoundingReason::Override => Self::Override,
        }
    }
}

impl From<Why> for FoundingReason {
    fn from(why: Why) -> Self {
        match why {
            Why::Found => Self::Found,
            Why::Restore => Self::Restore,
            Why::Override => Self::Override,
        }
    }
}

/// The application's databag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct App {
    pub turn: Turn,
    pub founder: Option<Founder>,
    /// The deployment, called after the unit that named it.
    pub deployment: Option<Id>,
}

/// The file beside a unit's data: to which deployment it belongs, and which decision it followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub deployment: Id,
    pub generation: u8,
}

/// One thing that a plan asks for, as far as the lock needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Request(Wish),
    GiveTurnBack,
    SetState(State),
    TakeLease,
    ReleaseLease,
    Claim { generation: u8 },
    StartServer { replica: bool },
    StopServer,
    StartSentinel { quorum: u8 },
    StopSentinel,
    Announce,
    SetQuorum { on: Units, quorum: u8 },
    Promote { to: Id },
    Forget { remaining: Units },
}

impl Op {
    /// Whether nobody but the hook itself sees it before the hook commits.
    pub const fn is_private(self) -> bool {
        matches!(
            self,
            Self::Request(_) | Self::GiveTurnBack | Self::SetState(_)
        )
    }
}

/// Where a hook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The next thing is a look.
    Look,
    /// Steps of a plan are under way; what follows them.
    Steps { poll: bool, end: bool },
    /// Something is awaited: it looks again, or its time is over.
    Poll,
    /// Nothing more to do; `settled` says whether everything is as it should be.
    End { settled: bool },
}

/// A hook that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    pub leaves: bool,
    /// Whether the unit was the leader when it was asked.
    pub leader: bool,
    /// Whether the leadership went away since then, for however short a time.
    pub deposed: bool,
    /// The application's databag as it was read.
    pub app: App,
    /// The units that Juju listed.
    pub present: Units,
    /// Those among them that are being removed.
    pub dying: Units,
    /// This unit's databag as it will be when the hook succeeds.
    pub mine: Bag,
    /// `mine` as it was at the last look.
    pub at_look: Bag,
    pub stage: Stage,
    /// Steps that are still to do, and whether each changes who belongs to the set.
    pub ops: Vec<(Op, bool)>,
    /// Whether the last look found the lease in this unit's hands.
    pub leased: bool,
    /// The primary of the last look.
    pub asked: Option<Id>,
    /// Whether the primary refused the lease.
    pub refused: bool,
    /// Whether a step of the last plan did not work.
    pub failed: bool,
    /// Whether nobody else has changed the set since this hook last made sure of it.
    pub fresh: bool,
}

impl Hook {
    /// Sets to one value what has no bearing on what follows.
    fn forget_what_is_over(&mut self) {
        if !self.failed {
            self.at_look = self.mine;
        }
        if self.ops.is_empty() {
            self.fresh = true;
            self.asked = None;
            self.leased &= self.failed;
        }
        self.deposed &= self.leader;
    }
}

/// A unit's life in Juju.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// Not added yet.
    #[allow(dead_code, reason = "units are added in larger scenarios")]
    Future,
    Alive,
    Dying,
    /// Juju knows it no more.
    Gone,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    pub life: Life,
    /// Its machine is lost: nothing runs there any more.
    pub lost: bool,
    /// What is committed.
    pub bag: Bag,
    /// The others' databags as this unit's Juju agent shows them.
    pub cache: Vec<Bag>,
    pub server: bool,
    pub sentinel: bool,
    /// The quorum of its Sentinel.
    pub quorum: u8,
    /// Whether its server has ever run here.
    pub data: bool,
    /// The mark beside the data.
    pub mark: Option<Mark>,
    /// Whether that data was saved in order.
    pub clean: bool,
    /// The lease as this unit's server holds it.
    pub lease: Option<Id>,
    pub hook: Option<Hook>,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    /// Two units hold the turn.
    TwoTurns,
    /// The turn was granted to a unit that was leaving or gone.
    GrantToTheDead,
    /// The set was changed on a look after which another unit had changed it.
    Stale,
    /// A unit that belongs to the set was cleared from the Sentinels.
    Forgotten,
    /// A unit deleted the lease of another.
    StolenLease,
    /// The set was changed while another unit held the lease.
    Intrusion,
    /// A unit started or restarted its server without the turn.
    WithoutTurn,
    /// A unit began with nothing although another had, and is still there.
    TwoFounders,
    /// A plan was refused because it would break an invariant.
    Refused,
}

/// Faults that are still to come, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Hooks that fail or are killed.
    pub kills: u8,
    /// Steps that do not work.
    pub failures: u8,
    /// Moves of the leadership.
    pub moves: u8,
    /// FLUSHALL by a user.
    pub flushes: u8,
    /// Ends of the lease although its holder still works.
    pub expiries: u8,
    /// Failovers.
    pub failovers: u8,
    /// Changes of settings that need a restart.
    pub changes: u8,
    /// Answers of Juju without the goal state.
    pub blind: u8,
    /// Losses of a machine.
    pub losses: u8,
    /// Cuts of the network between units.
    pub cuts: u8,
    /// Agents of Juju that lose their controller.
    pub silences: u8,
}

/// Pairs of units that do not reach each other.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Cut(Option<(Id, Option<Id>)>);

impl Cut {
    /// Cuts a unit off from all others.
    pub const fn isolating(unit: Id) -> Self {
        Self(Some((unit, None)))
    }

    /// Cuts the way between two units only.
    pub const fn between(one: Id, other: Id) -> Self {
        Self(Some((one, Some(other))))
    }

    pub const fn is_none(self) -> bool {
        self.0.is_none()
    }

    pub const fn reaches(self, from: Id, to: Id) -> bool {
        match self.0 {
            None => true,
            Some((unit, None)) => from == to || (from != unit && to != unit),
            Some((one, Some(other))) => !(from == one && to == other || from == other && to == one),
        }
    }
}

/// A primary that was replaced behind a cut, and what its Sentinel lists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Displaced {
    pub unit: Id,
    pub listed: Units,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub units: Vec<Unit>,
    pub app: App,
    pub leader: Option<Id>,
    /// Whom the Sentinels name.
    pub primary: Id,
    /// Whom the Sentinels list.
    pub listed: Units,
    /// The settings that servers should have read.
    pub settings: u8,
    pub budget: Budget,
    /// Who is still to be removed, in this order.
    pub to_remove: Units,
    /// Who is to be taken away by force.
    pub to_force: Units,
    /// Which units do not reach each other.
    pub cut: Cut,
    /// Whose agent does not reach Juju's controller: no hook begins or succeeds.
    pub silent: Units,
    /// Who was replaced as the primary and does not know it.
    pub displaced: Option<Displaced>,
    /// Whose storage cannot be used, and stays so.
    pub broken_storage: Units,
    /// Who began with nothing.
    pub founded: Units,
    pub broken: BTreeSet<Broken>,
}

impl World {
    pub fn unit(&self, id: Id) -> &Unit {
        &self.units[usize::from(id)]
    }

    pub fn unit_mut(&mut self, id: Id) -> &mut Unit {
        &mut self.units[usize::from(id)]
    }

    pub fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        0..u8::try_from(self.units.len()).expect("few units")
    }

    /// Returns whether the server of `id` takes itself for the primary.
    pub fn leads(&self, id: Id) -> bool {
        id == self.primary || self.displaced.is_some_and(|old| old.unit == id)
    }

    /// Returns whether `me` gets an answer from `primary` as a primary.
    pub fn answers(&self, me: Id, primary: Option<Id>) -> bool {
        primary.is_some_and(|id| self.leads(id) && self.unit(id).server && self.cut.reaches(me, id))
    }

    /// Returns whether the server that the Sentinels name serves.
    pub fn serves(&self) -> bool {
        self.unit(self.primary).server
    }

    /// Returns whether the primary's machine is lost, or its unit was taken away.
    pub fn primary_is_gone(&self) -> bool {
        let unit = self.unit(self.primary);
        unit.lost || unit.life == Life::Gone
    }

    /// Returns who holds the lease in truth.
    pub fn lease(&self) -> Option<Id> {
        self.serves()
            .then(|| self.unit(self.primary).lease)
            .flatten()
    }

    /// Returns the units that Juju knows, and those among them that are being removed.
    pub fn goal(&self) -> (Units, Units) {
        let alive = |life| matches!(life, Life::Alive | Life::Dying);
        let present = self.ids().filter(|id| alive(self.unit(*id).life));
        let dying = self.ids().filter(|id| self.unit(*id).life == Life::Dying);
        (Units::of(present), Units::of(dying))
    }

    /// Renames the numbers of requests so that only their order is left.
    ///
    /// The rules compare numbers and add one to the highest, so two states that differ in nothing
    /// else behave alike; without this the model would have no end.
    pub fn canonical(mut self) -> Self {
        if self
            .displaced
            .is_some_and(|old| !self.unit(old.unit).server && !self.unit(old.unit).sentinel)
        {
            self.displaced = None;
        }
        for unit in &mut self.units {
            if let Some(hook) = &mut unit.hook {
                hook.forget_what_is_over();
            }
        }
        for id in self.ids() {
            let mut used = 1_u64;
            self.each_number(id, &mut |number| used |= 1 << *number);
            if (used + 1).is_power_of_two() {
                continue;
            }
            self.each_number(id, &mut |number| {
                let below = used & ((1 << *number) - 1);
                *number = u8::try_from(below.count_ones()).expect("few numbers");
            });
        }
        self
    }

    /// Visits every number that belongs to a request of `id`.
    fn each_number(&mut self, id: Id, visit: &mut dyn FnMut(&mut u8)) {
        let turn = |turn: &mut Turn, visit: &mut dyn FnMut(&mut u8)| {
            if let Some((holder, number)) = turn
                && *holder == id
            {
                visit(number);
            }
        };
        turn(&mut self.app.turn, visit);
        for (owner, unit) in (0..).zip(&mut self.units) {
            if owner == id {
                visit(&mut unit.bag.number);
            } else {
                visit(&mut unit.cache[usize::from(id)].number);
            }
            if let Some(hook) = &mut unit.hook {
                turn(&mut hook.app.turn, visit);
                if owner == id {
                    visit(&mut hook.mine.number);
                    visit(&mut hook.at_look.number);
                }
            }
        }
    }
}
