//! Which nodes are passed over for a while, because they fell silent again and again (P110, P111).
//!
//! A choice among nodes, never a reason to leave a unit down: without another node that runs it, or can, whoever is held
//! back gets it at once.

use alloc::vec::Vec;

use crate::definition::Definition;
use crate::name::{Millis, NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::unit::Unit;

use super::{Planner, Reason};

impl Planner<'_> {
    /// Those of the candidates that get a unit now. `soon` are nodes that could take it in a moment.
    pub(super) fn steady(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        candidates: Vec<NodeId>,
        soon: &[NodeId],
    ) -> Vec<NodeId> {
        let (held, steady): (Vec<NodeId>, Vec<NodeId>) =
            candidates.iter().partition(|id| self.held_until(unit, **id).is_some());
        if held.is_empty() {
            return candidates;
        }
        self.restless = true;
        let stays = |(token, permit): (&Token, &Permit)| {
            !self.is_leaving(name, *token) && !permit.is_revoking() && !self.state.is_lost(permit)
        };
        let runs = unit.permits.iter().any(stays);
        let others = if definition.same_node_as.is_empty() {
            runs || !steady.is_empty() || soon.iter().any(|id| self.held_until(unit, *id).is_none())
        } else {
            // It goes where the unit that it runs beside is, and that was weighed there.
            unit.is_exclusive() && !steady.is_empty()
        };
        if !others {
            return candidates;
        }
        for node in held {
            self.shown_held_back(name, unit, node);
        }
        steady
    }

    /// Says that a node is passed over, if it is; the plan changes when that ends.
    pub(super) fn shown_held_back(&mut self, name: &UnitName, unit: &Unit, node: NodeId) -> bool {
        let Some(until) = self.held_until(unit, node) else { return false };
        self.because(name, Reason::HeldBack { node, until });
        self.wake(until);
        true
    }

    /// Until when a node is held back from a unit. An operator who named the node knows why.
    pub(super) fn held_until(&self, unit: &Unit, node: NodeId) -> Option<Millis> {
        let named = unit.asked_for == Some(node)
            || unit.moving.as_ref().is_some_and(|moving| moving.to == Some(node));
        if named { None } else { self.state.held_back(node, self.now) }
    }
}
