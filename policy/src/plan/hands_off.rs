//! What is in maintenance: shown, and left as it is.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::definition::{Definition, Replicas};
use crate::maintenance::Scope;
use crate::name::{NodeId, Token, UnitName};
use crate::permit::{Permit, Phase};
use crate::query::Possibly;
use crate::unit::{Unit, Wanted};

use super::{Planner, Reason};

impl Planner<'_> {
    /// What the cluster keeps its hands off, of a unit and of its copies.
    pub(super) fn shown_maintenance(&mut self, name: &UnitName, unit: &Unit) {
        let state = self.state;
        if let Some(scope) = state.unit_maintenance(name) {
            self.because(name, Reason::Maintenance { scope, node: None });
        }
        for permit in unit.permits.values() {
            if let Some(scope @ Scope::Node(_)) = state.node_maintenance(permit.node) {
                self.because(name, Reason::Maintenance { scope, node: Some(permit.node) });
            }
        }
        for node in self.index.kept(name).collect::<Vec<_>>() {
            self.restless = true;
            self.because(name, Reason::Kept(node));
        }
    }

    /// Decides nothing on a unit: only what was begun before its maintenance is shown, and waited for.
    pub(super) fn leave_alone(&mut self, name: &UnitName, unit: &Unit) {
        for (token, permit) in &unit.permits {
            if permit.is_revoking() {
                self.show_stop(name, *token, permit);
            } else if permit.phase == Phase::Granted && !self.state.is_lost(permit) {
                self.because(name, Reason::Starting(permit.node));
                self.coming.insert(name.clone());
            }
        }
        for (node, how) in self.index.running(name).iter().copied() {
            let lost = self.state.nodes.get(&node).is_some_and(|node| node.lost_since().is_some());
            if lost || how == Possibly::Stray {
                self.because(name, Reason::PossiblyRunning { node, how });
            }
            // It takes room, and the entry that says it is gone need not name the unit.
            self.restless |= how == Possibly::Stray;
            if lost {
                self.because(name, Reason::WaitsForFence { node });
            }
        }
    }

    /// A copy in maintenance that would have to stop before this one, by itself or by what stops before that (S4). What
    /// needs this one is not stopped for a stop that cannot follow.
    pub(super) fn held_in_place(&self, name: &UnitName, token: Token) -> Option<(UnitName, NodeId)> {
        let mut open: Vec<(&UnitName, Token)> = vec![(name, token)];
        let mut seen: BTreeSet<(&UnitName, Token)> = BTreeSet::from([(name, token)]);
        while let Some((name, token)) = open.pop() {
            let permit = self.state.permit(name, token)?;
            let stay = |(other, held): (&Token, &Permit)| {
                *other != token && !held.is_revoking() && !self.state.is_lost(held)
            };
            let unit = self.state.units.get(name)?;
            let others_stay = unit.goal.wanted == Wanted::Started && unit.permits.iter().any(stay);
            for (other, unit) in
                self.state.dependents(name).filter_map(|it| self.state.units.get_key_value(it))
            {
                let beside = unit.definition().is_some_and(|it| it.same_node_as.contains(name));
                let hinders = |held: &Permit| if beside { held.node == permit.node } else { !others_stay };
                for (held, holder) in unit.permits.iter().filter(|(_, holder)| hinders(holder)) {
                    if self.state.copy_maintenance(other, holder.node).is_some() {
                        return Some((other.clone(), holder.node));
                    }
                    if seen.insert((other, *held)) {
                        open.push((other, *held));
                    }
                }
            }
        }
        None
    }

    /// How many copies are wanted beside those whose place is kept. Of `Replicas=all` each node has its own.
    pub(super) fn less_kept(&self, name: &UnitName, definition: &Definition, wanted: usize) -> usize {
        match definition.replicas {
            Replicas::Count(_) => wanted.saturating_sub(self.index.kept(name).count()),
            Replicas::All => wanted,
        }
    }
}
