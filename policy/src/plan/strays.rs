//! Copies that were found running without a permit: adopted where that breaks nothing, else stopped (F11).

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::command::Decision;
use crate::definition::{Definition, Replicas};
use crate::name::{Incarnation, NodeId, UnitName};
use crate::query::Possibly;
use crate::unit::{Adopted, Unit, Wanted};

use super::index::Host;
use super::{Order, Planner, Reason};

impl Planner<'_> {
    /// Whether what it runs beside has its place on other nodes only.
    fn belongs_elsewhere(&self, definition: &Definition, node: NodeId) -> bool {
        definition
            .same_node_as
            .iter()
            .filter_map(|beside| self.state.units.get(beside))
            .any(|beside| !beside.permits.is_empty() && beside.permit_on(node).is_none())
    }

    /// Whether a unit that it conflicts with stays: one that has a permit, or of two without the first by name.
    fn yields_to_opponent(&self, name: &UnitName, unit: &Unit) -> bool {
        let mine = (unit.permits.is_empty(), name);
        self.state.opponents(name).any(|other| {
            let known = self.state.units.get(other).filter(|known| known.goal.wanted == Wanted::Started);
            let runs = |known: &&Unit| !known.permits.is_empty() || self.runs_unpermitted(other);
            known.filter(runs).is_some_and(|known| (known.permits.is_empty(), other) < mine)
        })
    }

    fn runs_unpermitted(&self, name: &UnitName) -> bool {
        let found = &self.index.known(name).strays;
        found.iter().any(|id| self.state.nodes.get(id).is_some_and(|node| node.in_session().is_some()))
    }

    /// Keeps as many copies as there is room for, the best placed first. Which one is kept does not change from
    /// plan to plan, or two planners would stop both.
    pub(super) fn strays(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        adopted: &Adopted,
        suitable: &BTreeMap<NodeId, i64>,
    ) {
        let Adopted { revision, definition } = adopted;
        let known = self.index.known(name);
        if known.strays.is_empty() {
            return;
        }
        self.restless = true;
        let strays = known.strays.iter().filter_map(|id| {
            let host = self.index.host(*id)?;
            Some((host, host.node.in_session()?.incarnation.clone()))
        });
        let mut strays: Vec<(&Host<'_>, Incarnation)> = strays.collect();
        strays.sort_by_key(|(host, _)| (Reverse(suitable.get(&host.id).copied()), host.id));
        let standing = self.index.standing(name, unit, adopted);
        let mut room = match definition.replicas {
            _ if unit.is_exclusive() => 1usize.saturating_sub(unit.permits.len()),
            Replicas::Count(count) => (count as usize).saturating_sub(unit.permits.len()),
            Replicas::All => usize::MAX,
        };
        for (host, incarnation) in strays {
            let Host { id: node, node: machine, .. } = *host;
            // It is told, and left: whoever has the hands on it knows what it is.
            if self.state.copy_maintenance(name, node).is_some() {
                self.because(name, Reason::PossiblyRunning { node, how: Possibly::Stray });
                room = room.saturating_sub(1);
                continue;
            }
            let unwanted = unit.goal.wanted == Wanted::Stopped
                || unit.holds.contains_key(&node)
                || self.state.drained_by(node).is_some()
                || !definition.allows(machine)
                || self.belongs_elsewhere(definition, node)
                || self.yields_to_opponent(name, unit)
                || definition.needs().any(|needed| self.is_told_to_stop(needed))
                || self.state.may_keep(name, node).is_err();
            let how = Possibly::Stray;
            if unwanted || room == 0 {
                self.because(name, Reason::PossiblyRunning { node, how });
                self.plan.orders.push(Order::StopStray { node, unit: name.clone() });
                continue;
            }
            room = room.saturating_sub(1);
            match self.state.offer_but_room(&standing, &known.candidate(host), *revision, true) {
                Ok(_) if self.changing.contains_key(name) => {}
                Ok(_) => {
                    let unit = name.clone();
                    self.plan.decisions.push(Decision::Grant {
                        unit,
                        node,
                        incarnation,
                        revision: *revision,
                        adopt: true,
                        start: None,
                    });
                }
                Err(refusal) => {
                    self.because(name, Reason::PossiblyRunning { node, how });
                    self.because(name, Reason::Unfit { node, why: refusal.to_string() });
                }
            }
        }
    }
}
