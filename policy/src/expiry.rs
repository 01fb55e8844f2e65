//! What time proves of a lost node, and how much of it (F6, F7, F17).
//!
//! Asked by `apply` for the one permit that it is to end, by the planner for each that a lost node holds.

use alloc::format;
use alloc::string::String;

use crate::definition::{Definition, Fencing, OnQuorumLoss};
use crate::name::{Millis, NodeId, UnitName};
use crate::permit::{Permit, Terms};
use crate::state::State;
use crate::watchdog::wait_ms;

impl State {
    /// When a lost node's permit ends by its own terms; `None` if no time ends it.
    ///
    /// Counted from the commit of the loss, or from the start of the present term if that is later (F6): the
    /// waiting is measured by one leader inside its own term. The lease had ended before the loss was committed.
    pub(crate) fn expires_at(&self, unit: &UnitName, permit: &Permit) -> Option<Millis> {
        let node = self.nodes.get(&permit.node)?;
        let since = node.lost_since()?;
        let base = since.max(self.tenure?.since);
        match self.units.get(unit)?.fencing_of(permit) {
            Fencing::None => Some(since),
            // × 1.01 and a margin for clocks that run apart, and for the take-down of the node itself.
            Fencing::Lease => {
                let budget = node.life.as_ref()?.stop_budget_ms;
                let margin = self.settings.detect_ms / 2;
                Some(base.saturating_add(budget).saturating_add(budget / 100).saturating_add(margin))
            }
            // Only where the permit's own terms announced the chain (F4), and while nobody said that it broke.
            Fencing::Watchdog if permit.terms.fencing == Fencing::Watchdog => {
                let life = node.life.as_ref().filter(|life| life.unwatched().is_none())?;
                let budget = life.stop_budget_ms;
                let stopped = base.saturating_add(budget).saturating_add(budget / 100);
                Some(stopped.saturating_add(wait_ms(life.chain.reset_ms())))
            }
            Fencing::Watchdog | Fencing::Required => None,
        }
    }

    /// How long after it was last right to feed its watchdog a node is gone, for a unit that rests on that; 0 for others.
    ///
    /// # Errors
    /// What the node lacks for such a unit, in words.
    pub(crate) fn reset_ms(&self, id: NodeId, definition: &Definition) -> Result<Millis, String> {
        if definition.fencing != Fencing::Watchdog {
            return Ok(0);
        }
        let name = self.node_name(id);
        let life = self.nodes.get(&id).and_then(|node| node.life.as_ref());
        let life = life.ok_or_else(|| format!("{name} was never heard"))?;
        match life.unwatched() {
            None => Ok(life.chain.reset_ms()),
            Some(why) => Err(format!("{name} has no armed watchdog (Fencing=watchdog): {why}")),
        }
    }

    /// Whether a node holds a permit that time ends because of its watchdog.
    #[must_use]
    pub fn rests_on_watchdog(&self, id: NodeId) -> bool {
        let mut permits = self.units.values().flat_map(|unit| unit.permits.values());
        permits.any(|permit| permit.node == id && permit.terms.fencing == Fencing::Watchdog)
    }

    /// The longest that a node takes to stop what it may not run without a lease, in milliseconds: the sum, for its units
    /// may have to stop one after another (F7). Terms that it may have taken over already count as well.
    pub(crate) fn stop_budget(&self, node: NodeId) -> Millis {
        let permits = self.units.values().flat_map(|unit| unit.permits.values());
        let stops = |terms: &Terms| terms.on_quorum_loss != OnQuorumLoss::Continue;
        let held = permits.filter(|permit| {
            permit.node == node && (stops(&permit.terms) || permit.next_terms.as_ref().is_some_and(stops))
        });
        held.fold(0, |sum: Millis, permit| sum.saturating_add(permit.terms.stop_budget_ms))
    }
}
