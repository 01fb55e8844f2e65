//! Which permits begin, on which nodes, and what stands in the way.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::command::Decision;
use crate::definition::{Definition, Fencing, Replicas};
use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::query::Possibly;
use crate::unit::Unit;

use super::{Planner, Reason};

impl Planner<'_> {
    /// Proposes grants up to the wanted number, or says what stands in the way.
    pub(super) fn grant(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        revision: u64,
        suitable: &BTreeMap<NodeId, i64>,
        wanted: usize,
    ) {
        let held = unit.permits.iter().filter(|(token, permit)| {
            !self.is_leaving(name, **token) && (unit.is_exclusive() || !self.state.is_lost(permit))
        });
        let held = held.count();
        let lost = unit.permits.values().any(|permit| self.state.is_lost(permit));
        if held >= wanted && !lost && (wanted > 0 || !unit.permits.is_empty()) {
            return;
        }
        if self.is_hindered(name, unit, definition, suitable) {
            return;
        }
        let mut candidates: Vec<NodeId> = Vec::new();
        for (id, node) in &self.state.nodes {
            if unit.permit_on(*id).is_some() || !node.offers.contains_key(name) {
                continue;
            }
            if let Some(until) = unit.avoided_until(*id, self.now) {
                let why = unit.failures.get(id).map(|failures| failures.why.clone()).unwrap_or_default();
                self.because(name, Reason::Avoided { node: *id, why, until });
                self.wake(until);
            } else if let Err(refusal) = self.state.grant_terms(name, *id, revision, false, self.now) {
                self.because(name, Reason::Unfit { node: *id, why: refusal.to_string() });
                self.wake(node.quarantined_until);
            } else if let Some(apart) =
                definition.same_node_as.iter().find(|beside| !self.stays_active(beside, Some(*id)))
            {
                self.because(name, Reason::Requires(apart.clone()));
            } else if self.awaits_observation(*id, node) {
                self.because(name, Reason::Observing(*id));
            } else {
                candidates.push(*id);
            }
        }
        let moving = unit.moving.as_ref().filter(|moving| moving.to.is_none());
        let leaving_from = moving.map(|moving| moving.leaving);
        candidates.sort_by_key(|id| {
            let asked = unit.asked_for == Some(*id);
            let target = unit.moving.as_ref().is_some_and(|moving| moving.to == Some(*id));
            let failed = unit.failures.contains_key(id);
            let load = self.permits_on(*id);
            let preference = suitable.get(id).copied().unwrap_or(0);
            (!asked, !target, leaving_from == Some(*id), Reverse(preference), failed, load, *id)
        });
        candidates.truncate(self.room(name, unit, definition, wanted).min(wanted.saturating_sub(held)));
        if candidates.is_empty() {
            if unit.permits.is_empty() && !self.plan.reasons.contains_key(name) {
                self.because(name, Reason::NotOffered);
            }
            return;
        }
        // What was said of nodes that were not chosen explains nothing once one is.
        if !candidates.is_empty() {
            self.plan.reasons.remove(name);
        }
        for id in candidates {
            let Some(life) = self.state.nodes.get(&id).and_then(Node::in_session) else { continue };
            self.granted.entry(id).or_default().push(name.clone());
            self.coming.insert(name.clone());
            self.because(name, Reason::Starting(id));
            self.plan.decisions.push(Decision::Grant {
                unit: name.clone(),
                node: id,
                incarnation: life.incarnation.clone(),
                revision,
                adopt: false,
            });
        }
    }

    /// Reasons that hold for every node: other copies, requirements, order. Wants lost nodes fenced where that helps.
    fn is_hindered(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        suitable: &BTreeMap<NodeId, i64>,
    ) -> bool {
        if self.is_out_of_order(name, unit, definition) {
            return true;
        }
        let mut hindered = self.is_opposed(name);
        let running = self.state.possibly_running(name);
        let exclusive = unit.is_exclusive();
        for (node, how) in &running {
            let permit = match how {
                Possibly::Permit(token) => unit.permits.get(token),
                Possibly::Stray | Possibly::Unheard => None,
            };
            let lost = self.state.nodes.get(node).is_some_and(|node| node.lost_since().is_some());
            let healthy = permit.is_some_and(|permit| !lost && !permit.is_revoking() && !permit.contradicted);
            if healthy || (!exclusive && !lost) {
                continue;
            }
            let elsewhere = suitable.keys().any(|other| other != node);
            if exclusive
                || (lost && permit.is_some_and(|permit| self.state.expires_at(name, permit).is_none()))
            {
                self.because(name, Reason::PossiblyRunning { node: *node, how: *how });
            }
            let proof = exclusive || definition.fencing != Fencing::None;
            if lost
                && elsewhere
                && proof
                && permit.is_none_or(|permit| self.state.expires_at(name, permit).is_none())
            {
                self.because(name, Reason::WaitsForFence { node: *node });
                self.waits_for(*node, name);
            }
        }
        if exclusive && unit.last_token.is_none() {
            let unheard: Vec<NodeId> = self.state.unheard_members(name).map(|(id, _)| id).collect();
            for id in unheard {
                self.because(name, Reason::Unheard(id));
                if self.state.nodes.get(&id).is_some_and(|node| node.lost_since().is_some()) {
                    self.because(name, Reason::WaitsForFence { node: id });
                    self.waits_for(id, name);
                }
                hindered = true;
            }
        }
        hindered || (exclusive && !running.is_empty())
    }

    /// A node with a fence device takes nothing before the device was looked at once in its present life, whatever
    /// that shows: a device that was never seen ON cannot fence it later.
    pub(super) fn awaits_observation(&self, id: NodeId, node: &Node) -> bool {
        let Some((device, _)) = self.state.device_of(id) else { return false };
        let incarnation = node.life.as_ref().map(|life| &life.incarnation);
        let seen = self.state.observations.get(&(device.to_string(), id));
        let others = self.state.nodes.iter().any(|(other, node)| *other != id && node.in_session().is_some());
        others && seen.map(|seen| &seen.incarnation) != incarnation
    }

    fn permits_on(&self, id: NodeId) -> usize {
        let held = self.state.units.values().filter(|unit| unit.permit_on(id).is_some()).count();
        held.saturating_add(self.granted.get(&id).map_or(0, Vec::len))
    }

    /// How many copies may begin with one plan: `apply` counts those that are ending as possibly running.
    fn room(&self, name: &UnitName, unit: &Unit, definition: &Definition, wanted: usize) -> usize {
        match definition.replicas {
            Replicas::All if !unit.is_exclusive() => wanted,
            Replicas::All | Replicas::Count(_) => {
                let running = self.state.possibly_running(name);
                let counts =
                    |how: &Possibly| *how != Possibly::Unheard || definition.fencing != Fencing::None;
                wanted.saturating_sub(running.iter().filter(|(_, how)| counts(how)).count())
            }
        }
    }
}
