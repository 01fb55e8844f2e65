//! Permits read from their other end: what each node holds, and which starts are under way.
//!
//! Follows from the permits and from nothing else. Kept, because a grant asks what else takes of a node's capacities and how
//! many starts are under way, and the loss of a node what it held; none of them may look over all units for the answer. It says
//! only where to look: how a permit stands is read of the permit.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::name::{NodeId, Token, UnitName};
use crate::permit::{Permit, Phase};
use crate::state::State;
use crate::unit::Unit;

/// Where permits are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Those of each node that holds any, in the order of the units' names.
    on: BTreeMap<NodeId, BTreeSet<(UnitName, Token)>>,
    /// Those whose node has not said yet that the unit is active, nor was told to stop it.
    starting: BTreeMap<Token, UnitName>,
}

impl Held {
    /// Permits of a node: each unit and token.
    pub(crate) fn on(&self, node: NodeId) -> impl Iterator<Item = (&UnitName, Token)> {
        self.on.get(&node).into_iter().flatten().map(|(unit, token)| (unit, *token))
    }

    fn enter(&mut self, unit: &UnitName, token: Token, permit: &Permit) {
        self.on.entry(permit.node).or_default().insert((unit.clone(), token));
        if permit.phase == Phase::Granted {
            self.starting.insert(token, unit.clone());
        }
    }

    fn withdraw(&mut self, unit: &UnitName, token: Token, permit: &Permit) {
        if let Some(held) = self.on.get_mut(&permit.node) {
            held.remove(&(unit.clone(), token));
            if held.is_empty() {
                self.on.remove(&permit.node);
            }
        }
        self.starting.remove(&token);
    }
}

impl State {
    /// Gives a permit. Nothing else puts one into the state.
    pub(crate) fn put_permit(&mut self, unit: &UnitName, token: Token, permit: Permit) {
        let Some(known) = self.units.get_mut(unit) else { return };
        self.held.enter(unit, token, &permit);
        known.permits.insert(token, permit);
    }

    /// Takes a permit away. Nothing else does.
    pub(crate) fn take_permit(&mut self, unit: &UnitName, token: Token) -> Option<Permit> {
        let permit = self.units.get_mut(unit)?.permits.remove(&token)?;
        self.held.withdraw(unit, token, &permit);
        Some(permit)
    }

    /// A permit's unit is active by it, or is to stop: its start is not under way any more.
    pub(crate) fn start_ends(&mut self, token: Token) {
        self.held.starting.remove(&token);
    }

    /// Permits that a node holds, in the order of the units' names and then of their tokens.
    pub(crate) fn held_on(&self, node: NodeId) -> impl Iterator<Item = (&UnitName, Token, &Unit, &Permit)> {
        self.held.on(node).filter_map(|(name, token)| {
            let unit = self.units.get(name)?;
            Some((name, token, unit, unit.permits.get(&token)?))
        })
    }

    /// Permits whose starts are under way on nodes that are heard.
    pub(crate) fn starting(&self) -> impl Iterator<Item = &Permit> {
        let permits =
            self.held.starting.iter().filter_map(|(token, unit)| self.units.get(unit)?.permits.get(token));
        permits.filter(|permit| permit.phase == Phase::Granted && !self.is_lost(permit))
    }

    /// Finds again what nodes hold, which no snapshot says twice. Entries keep up with it by themselves: this is for whoever
    /// reads a state, or changes its permits otherwise.
    pub fn find_held(&mut self) {
        let mut held = Held::default();
        for (name, unit) in &self.units {
            unit.permits.iter().for_each(|(token, permit)| held.enter(name, *token, permit));
        }
        self.held = held;
    }
}
