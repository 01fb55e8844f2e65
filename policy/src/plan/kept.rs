//! A plan that is kept beside the state, and made anew where something has changed.
//!
//! Says what a plan of the whole state says, always. Units are planned by islands: those that name each other, in whatever
//! way. An island is planned again when one of its units, or a node that one of them is offered by or runs on, was touched
//! ([`Touched`]), and as long as one of its units is restless: as long as its plan rests on the time, on what other units
//! take, or proposes something. Everything else of the last plan stands. Whatever is not plain is planned as a whole.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem::take;

use crate::command::Command;
use crate::name::{Millis, NodeId, UnitName};
use crate::refusal::Refusal;
use crate::state::State;

use super::holdings::Holdings;
use super::index::{Host, Index, forgotten};
use super::places::Places;
use super::sequence::Sequence;
use super::touched::Touched;
use super::{Plan, Planner};

/// The plan of a state that changes, entry by entry.
#[derive(Clone, Debug, Default)]
pub struct KeptPlan {
    plan: Plan,
    /// What it rests on; `None` when nothing of it can be used again.
    ground: Option<Ground>,
    touched: Touched,
    planned: usize,
}

/// What is kept of a plan for the next one.
#[derive(Clone, Debug)]
struct Ground {
    sequence: Sequence,
    holdings: Holdings,
    /// Which nodes name each unit.
    places: Places,
    /// Whether each node takes units, as it was.
    stances: Vec<Stance>,
    /// Islands with a restless unit.
    restless: BTreeSet<usize>,
}

/// What follows for a node from more than the node: cases, quarantine, looks at its power.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stance {
    id: NodeId,
    accepts: Result<(), Refusal>,
    awaits_observation: bool,
    not_connected: bool,
}

impl KeptPlan {
    /// Is told of an entry that was applied to the state, which is as it came out of it. One that was refused may be left out.
    pub fn note(&mut self, state: &State, command: &Command) {
        if self.ground.is_some() {
            self.touched.note(state, command);
        }
    }

    /// Forgets what was planned: the state is another one, or was changed otherwise than by entries.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Brings the plan up to the state, of which every change was told, and to a cluster time (milliseconds).
    pub fn renew(&mut self, state: &State, now: Millis) -> &Plan {
        let hosts = Host::all(state, now);
        let touched = take(&mut self.touched);
        let part = self.ground.take().and_then(|mut ground| {
            let islands = ground.due(state, &hosts, &touched)?;
            ground.places.note(&ground.sequence, state, &touched);
            Some((ground, islands))
        });
        let renewed = part.is_some_and(|(ground, islands)| self.make(state, now, &hosts, ground, &islands));
        if !renewed {
            let ground = Ground::of(state);
            let islands = ground.sequence.islands().collect();
            self.make(state, now, &hosts, ground, &islands);
        }
        &self.plan
    }

    /// The plan as it was last renewed.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many units were planned when it was last renewed.
    #[must_use]
    pub fn planned(&self) -> usize {
        self.planned
    }

    pub(super) fn into_plan(self) -> Plan {
        self.plan
    }

    /// Plans these islands; whether the plan is good: a part of it is not, where islands turn out to meet.
    fn make(
        &mut self,
        state: &State,
        now: Millis,
        hosts: &[Host<'_>],
        mut ground: Ground,
        islands: &BTreeSet<usize>,
    ) -> bool {
        let whole = islands.len() == ground.sequence.islands().len();
        let units = ground.sequence.units(islands);
        let index = match whole {
            true => Index::of(state, hosts),
            false => {
                let places = |name: &UnitName| ground.places.of_unit(&ground.sequence, name);
                Index::of_units(state, hosts, units.clone(), places)
            }
        };
        let mut exceeded = false;
        for (name, unit) in index.units() {
            ground.holdings.note(state, &index, name, unit);
            exceeded |= ground.holdings.exceeds(state, name);
        }
        let mut planner = Planner::new(state, now, &index, (&ground.sequence, units), &ground.holdings);
        planner.run();
        if !whole && (exceeded || planner.entangled) {
            return false;
        }
        self.planned = planner.units.len();
        let mut plan = take(&mut planner.plan);
        if !whole {
            let mut reasons = take(&mut self.plan.reasons);
            for name in &planner.units {
                reasons.remove(*name);
            }
            reasons.extend(take(&mut plan.reasons));
            plan.reasons = reasons;
        }
        self.plan = plan;
        let meet = planner.entangled;
        let restless = planner.unrest.iter().filter_map(|name| ground.sequence.island(name)).collect();
        if whole {
            ground.places = Places::of(&ground.sequence, &index);
        }
        ground.restless = restless;
        ground.stances = hosts.iter().map(Stance::of).collect();
        self.ground = (!meet).then_some(ground);
        true
    }
}

impl Ground {
    fn of(state: &State) -> Self {
        Self {
            sequence: Sequence::of(state),
            holdings: Holdings::default(),
            places: Places::default(),
            stances: Vec::new(),
            restless: BTreeSet::new(),
        }
    }

    /// The islands that are to be planned again; `None` for all of them.
    fn due(&self, state: &State, hosts: &[Host<'_>], touched: &Touched) -> Option<BTreeSet<usize>> {
        let same = self.stances.iter().map(|stance| stance.id).eq(hosts.iter().map(|host| host.id));
        if touched.everything
            || !same
            || self.sequence.len() != state.units.len()
            || forgotten(state).next().is_some()
        {
            return None;
        }
        let mut due = self.restless.clone();
        for name in &touched.units {
            match self.sequence.island(name) {
                Some(island) => due.insert(island),
                None if state.units.contains_key(name) => return None,
                None => false,
            };
        }
        for (stance, host) in self.stances.iter().zip(hosts) {
            if !touched.nodes.contains(&host.id) && *stance == Stance::of(host) {
                continue;
            }
            due.extend(host.node.named().filter_map(|name| self.sequence.island(name)));
        }
        Some(due)
    }
}

impl Stance {
    fn of(host: &Host<'_>) -> Self {
        let Host { id, awaits_observation, not_connected, .. } = *host;
        Self { id, accepts: host.accepts.clone(), awaits_observation, not_connected }
    }
}
