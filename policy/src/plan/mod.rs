//! What the leader should decide now, and what every unit waits for.
//!
//! Level-triggered: reads the state, never an event; planning twice on one state gives the same plan. What was planned before
//! is used again where nothing of it can have changed, and says the same. Free to change in any release, because
//! [`crate::apply`] refuses whatever would be unsafe.

mod assembly;
mod comes_up;
mod definitions;
mod elect;
mod executor;
mod fencing;
mod grants;
mod hands_off;
mod held_back;
mod holdings;
mod index;
mod island;
mod kept;
mod lost;
mod moves;
mod order;
mod placement;
mod places;
mod reason;
mod release;
mod role;
mod room;
mod sequence;
mod strays;
mod touched;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::command::Decision;
use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::{Incarnation, Millis, NodeId, Token, UnitName};
use crate::state::State;

use holdings::Holdings;
use index::Index;
use room::Room;
use sequence::Sequence;

pub use kept::KeptPlan;
pub use reason::Reason;

/// Work that needs no entry in the log, because repeating it harms nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// A node is to stop a copy that runs without a permit and cannot be adopted.
    StopStray {
        /// Where.
        node: NodeId,
        /// Which unit.
        unit: UnitName,
    },
}

/// A look at a node's power that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// Through which device.
    pub device: alloc::string::String,
    /// At whom.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Who runs the agent.
    pub executor: NodeId,
}

/// Power that a node is to have back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchOn {
    /// Through which device.
    pub device: alloc::string::String,
    /// Whose.
    pub node: NodeId,
    /// Who runs the agent.
    pub executor: NodeId,
    /// After which attempt (`SwitchedOff::since`).
    pub since: u64,
    /// How often it failed before: each try is another one.
    pub failures: u32,
}

/// A plan: decisions in the order in which they are to be proposed, and the reasons for what does not move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be proposed.
    pub decisions: Vec<Decision>,
    /// To be told to agents.
    pub orders: Vec<Order>,
    /// Devices to be looked through.
    pub observe: Vec<Observe>,
    /// What is to be switched on.
    pub switch_on: Vec<SwitchOn>,
    /// For each unit, what it waits for; empty when it is where one would expect.
    pub reasons: BTreeMap<UnitName, Vec<Reason>>,
    /// When time alone changes the plan.
    pub wake_at: Option<Millis>,
}

/// Plans on a state at a cluster time (milliseconds).
#[must_use]
pub fn plan(state: &State, now: Millis) -> Plan {
    let mut kept = KeptPlan::default();
    kept.renew(state, now);
    kept.into_plan()
}

/// Permits that are to end, with the reason.
type Leaving = BTreeMap<UnitName, BTreeMap<Token, StopReason>>;

/// A plan in the making.
struct Planner<'a> {
    state: &'a State,
    now: Millis,
    plan: Plan,
    /// What nodes say of each unit.
    index: &'a Index<'a>,
    /// The order of starts and stops.
    sequence: &'a Sequence,
    /// The units that are planned, in that order: all of each island.
    units: Vec<&'a UnitName>,
    /// What the nodes have to give.
    room: Room<'a>,
    /// Units that are starting, or wait for nothing but the start of such a unit.
    coming: BTreeSet<UnitName>,
    /// Units that this plan has started for the sake of others.
    pulled: BTreeSet<UnitName>,
    /// Permits that are to end, by unit.
    leaving: Leaving,
    /// Units that each node gets by this plan.
    granted: BTreeMap<NodeId, BTreeSet<UnitName>>,
    /// Units for which a node is being cleared: nobody else takes what they are to have.
    promised: BTreeMap<NodeId, BTreeSet<UnitName>>,
    /// Where units are to go that were stopped for it.
    kept: BTreeMap<UnitName, NodeId>,
    /// Units that any node gets by this plan.
    begun: BTreeSet<UnitName>,
    /// Units whose definition changes with this plan: what rests on the present one waits for the next plan.
    changing: BTreeMap<UnitName, Definition>,
    /// Lost nodes that something waits for, with the first unit that does (F22).
    wanted_off: BTreeMap<NodeId, UnitName>,
    /// The plan of the unit at hand rests on more than its island and its nodes: on the time, on what others take, or on
    /// what the log has not heard of yet.
    restless: bool,
    /// Units of which that is so: the next plan looks at them again, whatever happens meanwhile.
    unrest: Vec<&'a UnitName>,
    /// Units of one island change what is planned on others: nothing of this plan can be used again.
    entangled: bool,
}

impl<'a> Planner<'a> {
    fn new(
        state: &'a State,
        now: Millis,
        index: &'a Index<'a>,
        (sequence, units): (&'a Sequence, Vec<&'a UnitName>),
        holdings: &'a Holdings,
    ) -> Self {
        Self {
            state,
            now,
            index,
            plan: Plan::default(),
            sequence,
            units,
            room: Room::of(holdings),
            coming: BTreeSet::new(),
            pulled: BTreeSet::new(),
            leaving: BTreeMap::new(),
            granted: BTreeMap::new(),
            promised: BTreeMap::new(),
            kept: BTreeMap::new(),
            begun: BTreeSet::new(),
            wanted_off: BTreeMap::new(),
            changing: BTreeMap::new(),
            restless: false,
            unrest: Vec::new(),
            entangled: false,
        }
    }

    /// Plans the units, and what is no unit's own.
    fn run(&mut self) {
        self.definitions();
        self.units();
        self.leave_to_the_next_plan();
        self.fencing();
        self.observations();
        self.first_looks();
        self.switch_on();
        let level = self.state.next_feature_level();
        self.plan.decisions.extend(level.map(|level| Decision::RaiseFeatureLevel { level }));
    }

    /// Remembers whether the plan of a unit, which was just made, is looked at again.
    fn settle(&mut self, unit: &'a UnitName) {
        if core::mem::take(&mut self.restless) {
            self.unrest.push(unit);
        }
    }

    fn because(&mut self, unit: &UnitName, reason: Reason) {
        let reasons = self.plan.reasons.entry(unit.clone()).or_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    /// Asks to be called again at `at`, if that lies ahead.
    fn wake(&mut self, at: Millis) {
        self.restless = true;
        if at > self.now {
            self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |before| before.min(at)));
        }
    }

    /// Remembers that a node gets a unit by this plan.
    fn begins(&mut self, unit: &UnitName, node: NodeId) {
        self.granted.entry(node).or_default().insert(unit.clone());
        self.begun.insert(unit.clone());
    }

    /// Remembers that `unit` waits for something on `node`; wants it fenced if it is lost, and neither of them in maintenance.
    fn waits_for(&mut self, node: NodeId, unit: &UnitName) {
        self.restless = true;
        if self.state.copy_maintenance(unit, node).is_some() {
            return;
        }
        if self.state.nodes.get(&node).is_some_and(|node| node.lost_since().is_some()) {
            self.wanted_off.entry(node).or_insert_with(|| unit.clone());
        }
    }
}
