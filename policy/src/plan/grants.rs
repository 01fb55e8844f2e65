//! Which permits begin, on which nodes, and what stands in the way.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::command::Decision;
use crate::definition::{Definition, Fencing, Replicas};
use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::query::Possibly;
use crate::unit::{Adopted, Unit};

use super::index::Host;
use super::moves::sent;
use super::room::Copies;
use super::{Planner, Reason};

impl Planner<'_> {
    /// Proposes grants up to the wanted number, or says what stands in the way.
    pub(super) fn grant(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        adopted: &Adopted,
        suitable: &BTreeMap<NodeId, i64>,
        wanted: usize,
    ) {
        let Adopted { revision, definition } = adopted;
        let revision = *revision;
        let held = unit.permits.iter().filter(|(token, permit)| {
            !self.is_leaving(name, **token) && (unit.is_exclusive() || !self.state.is_lost(permit))
        });
        let held = held.count();
        let (all, wanted) = (wanted, self.less_kept(name, definition, wanted));
        if wanted < all && held >= wanted {
            return;
        }
        let lost = unit.permits.values().any(|permit| self.state.is_lost(permit));
        if held >= wanted && !lost && (wanted > 0 || !unit.permits.is_empty()) {
            return;
        }
        // What is not where it is to be waits for room, for time or for somebody's word.
        self.restless = true;
        if self.is_hindered(name, unit, definition, suitable) {
            return;
        }
        let allowed = self.starts_allowed(name, unit, definition);
        if allowed == 0 {
            self.coming.insert(name.clone());
            return;
        }
        let Ok(best) = self.best_rank(name, definition) else { return };
        let (mut candidates, mut short): (Vec<NodeId>, Vec<NodeId>) = (Vec::new(), Vec::new());
        let mut soon: Vec<NodeId> = Vec::new();
        let standing = self.index.standing(name, unit, adopted);
        let strangers: Vec<&UnitName> = self.state.strangers(name).collect();
        for offered in &self.index.known(name).offers {
            let Host { id, node, .. } = offered.host;
            if unit.permit_on(*id).is_some() {
                continue;
            }
            if let Some(until) = unit.avoided_until(*id, self.now) {
                let why = unit.failures.get(id).map(|failures| failures.why.clone()).unwrap_or_default();
                self.because(name, Reason::Avoided { node: *id, why, until });
                self.wake(until);
            } else if let Err(refusal) =
                self.state.offer_but_room(&standing, &offered.candidate(), revision, false)
            {
                self.because(name, Reason::Unfit { node: *id, why: refusal.to_string() });
                self.wake(node.quarantined_until);
            } else if let Some(apart) = definition
                .same_node_as
                .iter()
                .find(|beside| !self.stays_active(beside, Some(*id)) || !self.state.is_up(beside, Some(*id)))
            {
                self.because(name, Reason::Requires(apart.clone()));
            } else if let Some(Err(refusal)) = best.as_ref().map(|best| self.state.has_rank(name, *id, best))
            {
                self.because(name, Reason::Unfit { node: *id, why: refusal.to_string() });
            } else if offered.host.awaits_observation {
                self.because(name, Reason::Observing(*id));
                self.coming.insert(name.clone());
                soon.push(*id);
            } else if let Some(why) =
                self.crowd(&strangers, *id, node).or_else(|| self.room.lack(*id, node, definition))
            {
                self.because(name, Reason::Unfit { node: *id, why });
                short.push(*id);
            } else if self.room.is_busy(*id, self.state.settings.starts_per_node) {
                self.because(name, Reason::TooManyStarts(Some(*id)));
                self.coming.insert(name.clone());
                soon.push(*id);
            } else {
                candidates.push(*id);
            }
        }
        // Nobody makes room for what a little patience does as well.
        if candidates.is_empty() && soon.is_empty() {
            let short = self.steady(name, unit, definition, short, &soon);
            self.make_room(name, definition, &short);
        }
        let candidates = self.steady(name, unit, definition, candidates, &soon);
        let most = self.room(name, unit, definition, wanted).min(wanted.saturating_sub(held)).min(allowed);
        let candidates = self.chosen(name, unit, definition, candidates, most);
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
            if let Some(neighbour) = self.left_beside(name, id) {
                self.because(name, Reason::AfterStop(neighbour));
                self.coming.insert(name.clone());
                continue;
            }
            let Some(life) = self.state.nodes.get(&id).and_then(Node::in_session) else { continue };
            self.begins(name, id);
            self.room.grant(id, definition);
            self.coming.insert(name.clone());
            self.because(name, Reason::Starting(id));
            self.plan.decisions.push(Decision::Grant {
                unit: name.clone(),
                node: id,
                incarnation: life.incarnation.clone(),
                revision,
                adopt: false,
                start: None,
            });
        }
    }

    /// Reasons that hold for every node: other copies, requirements, order. Wants lost nodes fenced where that helps.
    pub(super) fn is_hindered(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        suitable: &BTreeMap<NodeId, i64>,
    ) -> bool {
        if self.is_out_of_order(name, unit, definition) {
            return true;
        }
        let opposed = self.is_opposed(name);
        let running = self.index.running(name);
        let exclusive = unit.is_exclusive();
        let mut hindered = opposed || (exclusive && !running.is_empty());
        // Whether all of it passes by itself: then what comes after the unit waits for it.
        let mut soon = !opposed;
        for (node, how) in running {
            let permit = match how {
                Possibly::Permit(token) => unit.permits.get(token),
                Possibly::Stray | Possibly::Unheard => None,
            };
            let lost = self.state.nodes.get(node).is_some_and(|node| node.lost_since().is_some());
            let healthy = permit.is_some_and(|permit| !lost && !permit.is_revoking() && !permit.contradicted);
            if healthy || (!exclusive && !lost) {
                // By its terms it is the only one until its node has others.
                if let Some(permit) = permit.filter(|it| unit.is_alone_by_terms(it))
                    && let Possibly::Permit(token) = how
                    && !self.is_leaving(name, *token)
                {
                    soon &= self.takes_terms(permit, definition);
                    self.because(name, Reason::PossiblyRunning { node: *node, how: *how });
                }
                continue;
            }
            let elsewhere = suitable.keys().any(|other| other != node);
            soon &= match how {
                _ if lost => elsewhere && self.is_proven_soon(name, permit, *node),
                Possibly::Unheard => true,
                Possibly::Stray | Possibly::Permit(_) => false,
            };
            let timeless = permit.is_some_and(|permit| self.state.expires_at(name, permit).is_none());
            if exclusive || (lost && timeless) {
                self.because(name, Reason::PossiblyRunning { node: *node, how: *how });
            }
            let proof = exclusive || definition.fencing != Fencing::None;
            let fence = permit.is_none_or(|permit| self.wants_fence(name, permit));
            if lost && elsewhere && proof && fence {
                self.because(name, Reason::WaitsForFence { node: *node });
                self.waits_for(*node, name);
            }
        }
        if exclusive && unit.last_token.is_none() {
            for id in self.index.unheard(name, unit) {
                self.because(name, Reason::Unheard(id));
                let node = self.state.nodes.get(&id);
                if node.is_some_and(|node| node.lost_since().is_some()) {
                    self.because(name, Reason::WaitsForFence { node: id });
                    self.waits_for(id, name);
                    soon &= self.is_proven_soon(name, None, id);
                } else {
                    // A machine that is off says nothing until somebody starts it, or takes it out.
                    soon &= node.is_some_and(|node| node.in_session().is_some());
                }
                hindered = true;
            }
        }
        if hindered && soon {
            self.coming.insert(name.clone());
        }
        hindered
    }

    /// The best of the candidates, best first: the one asked for, the target of a move, one whose copy a role waits for, one
    /// to which its companions can follow, the least used value of `Spread=`, preference, no failures, fewest units, oldest node (P32).
    fn chosen(
        &self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        mut candidates: Vec<NodeId>,
        most: usize,
    ) -> Vec<NodeId> {
        let (companions, awaited) = (self.companions(name), self.awaited_copies(name));
        let mut copies = self.copies(unit, definition, None);
        let key = |id: &NodeId, copies: &Copies| {
            let asked = unit.asked_for == Some(*id);
            let awaited = awaited.contains(id);
            let merit = self.merit((unit, definition), &companions, copies, *id);
            (
                !asked,
                sent(unit, *id),
                !awaited,
                merit,
                unit.failures.contains_key(id),
                self.room.load(*id),
                *id,
            )
        };
        if definition.spread.is_none() {
            candidates.sort_by_cached_key(|id| key(id, &copies));
            candidates.truncate(most);
            return candidates;
        }
        let mut chosen = Vec::new();
        while let Some(best) =
            candidates.iter().copied().min_by_key(|id| key(id, &copies)).filter(|_| chosen.len() < most)
        {
            candidates.retain(|id| *id != best);
            let count = copies.entry(self.spread_value(definition, best)).or_default();
            *count = count.saturating_add(1);
            chosen.push(best);
        }
        chosen
    }

    /// How many copies may begin with one plan: `apply` counts those that are ending as possibly running.
    pub(super) fn room(&self, name: &UnitName, unit: &Unit, definition: &Definition, wanted: usize) -> usize {
        match definition.replicas {
            Replicas::All if !unit.is_exclusive() => wanted,
            Replicas::All | Replicas::Count(_) => {
                let running = self.index.running(name).iter();
                wanted.saturating_sub(running.filter(|(_, how)| how.counts(definition)).count())
            }
        }
    }
}
