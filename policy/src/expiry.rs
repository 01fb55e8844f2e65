//! What time proves of a lost node, and how much of it (F6, F7, F17).
//!
//! Asked by `apply` for the one permit that it is to end, by the planner for each that a lost node holds.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::definition::Fencing;
use crate::name::{Millis, NodeId, UnitName};
use crate::permit::Permit;
use crate::state::State;
use crate::watchdog::wait_ms;

/// A node may be this late with what it does at the end of its time, however short `detect` is: it looks for what it killed
/// there for 600 ms, and writes that down for up to 190 ms, before it is taken down.
const TAKE_DOWN_MS: Millis = 800;

impl State {
    /// When a lost node's permit ends by its own terms; `None` if no time ends it.
    ///
    /// Counted from the commit of the loss, or from the start of the present term if that is later (F6): the
    /// waiting is measured by one leader inside its own term. The lease had ended before the loss was committed.
    pub(crate) fn expires_at(&self, unit: &UnitName, permit: &Permit) -> Option<Millis> {
        let node = self.nodes.get(&permit.node)?;
        let since = node.lost_since()?;
        if self.copy_maintenance(unit, permit.node).is_some() {
            return None;
        }
        let base = since.max(self.tenure?.since);
        match self.units.get(unit)?.fencing_of(permit) {
            Fencing::None => Some(since),
            // × 1.01 and a margin for clocks that run apart, and for the take-down of the node itself.
            Fencing::Lease => {
                let budget = node.life.as_ref()?.stop_budget_ms;
                let margin = TAKE_DOWN_MS.max(self.settings.detect_ms / 2);
                Some(base.saturating_add(budget).saturating_add(budget / 100).saturating_add(margin))
            }
            // Only where the permit's own terms announced the chain (F4), and while nobody said that it broke.
            Fencing::Watchdog if permit.terms.fencing == Fencing::Watchdog => {
                let life = node.life.as_ref().filter(|life| life.unwatched().is_none())?;
                let budget = life.stop_budget_ms;
                let stopped = base.saturating_add(budget).saturating_add(budget / 100);
                Some(stopped.saturating_add(wait_ms(life.chain.reset_ms())))
            }
            Fencing::Watchdog | Fencing::Isolated | Fencing::Required => None,
        }
    }

    /// How long after it was last right to feed its watchdog a node is gone, for a unit that rests on that.
    ///
    /// # Errors
    /// What the node lacks for such a unit, in words.
    pub(crate) fn reset_ms(&self, id: NodeId) -> Result<Millis, String> {
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
        self.held_on(id).any(|(_, _, _, permit)| permit.terms.fencing == Fencing::Watchdog)
    }

    /// The longest that a node takes to stop what it may not run without a lease, in milliseconds: the sum, for its units
    /// may have to stop one after another (F7). What time has ended of this life may still stop there, and counts until
    /// the node says that it is gone (F15): the node knows one permit of a unit, so the longer of the two counts.
    pub(crate) fn stop_budget(&self, node: NodeId) -> Millis {
        let life = self.nodes.get(&node).and_then(|node| node.life.as_ref());
        let mut stops = life.map(|life| life.lingering.clone()).unwrap_or_default();
        let mut held: BTreeMap<&UnitName, Millis> = BTreeMap::new();
        for (name, _, _, permit) in self.held_on(node).filter(|(_, _, _, permit)| permit.must_stop()) {
            let stop = held.entry(name).or_default();
            *stop = stop.saturating_add(permit.terms.stop_budget_ms);
        }
        for (name, held) in held {
            let stop = stops.entry(name.clone()).or_default();
            *stop = held.max(*stop);
        }
        stops.values().fold(0, |sum: Millis, stop| sum.saturating_add(*stop))
    }
}
