//! Whether a copy leaves its node for another one: by an operator's word, or because another suits it better (P27, P32).
//!
//! Nothing is stopped for a place that could not be taken at this moment. The place that a copy leaves for is kept for it
//! while it stops.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::definition::{Definition, Fencing, Replicas};
use crate::event::StopReason;
use crate::name::{NodeId, Token, UnitName};
use crate::permit::{Permit, Phase};
use crate::query::Possibly;
use crate::unit::{Unit, Wanted};

use super::index::Host;
use super::placement::wanted;
use super::{Planner, Reason};

/// Why a move waits that would take the place of a missing copy.
const LEFT_TO_ANOTHER: &str = "what is free is left to the copy that is missing";

/// How much an operator's move draws the next copy to a node, the smaller the more: to where it was asked for, and away from where
/// it was only to leave. While the copy that is to go is not gone, what is missing beside it goes elsewhere, if it can.
pub(super) fn sent(unit: &Unit, id: NodeId) -> i8 {
    let Some(moving) = &unit.moving else { return 0 };
    match moving.to {
        Some(to) if to == id && unit.permits.contains_key(&moving.from) => 1,
        Some(to) if to == id => -1,
        None if moving.leaving == id => 1,
        _ => 0,
    }
}

impl Planner<'_> {
    /// Why a copy moves now, if it does; else what an operator's move waits for is shown.
    pub(super) fn moves(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        (token, permit): (Token, &Permit),
        suitable: &BTreeMap<NodeId, i64>,
        wanted: usize,
    ) -> Option<StopReason> {
        let moving = unit.moving.as_ref().filter(|moving| moving.from == token);
        let here = suitable.get(&permit.node).copied().unwrap_or(0);
        let better = |preference: &i64| {
            definition.stickiness.is_some_and(|stickiness| *preference > here.saturating_add(stickiness))
        };
        if moving.is_none() && !suitable.values().any(better) {
            return None;
        }
        // Whether it can go there rests on what others take, and on the time.
        self.restless = true;
        if unit.moving.is_some() || definition.stickiness.is_some() {
            let held: Vec<_> = suitable.keys().filter_map(|node| self.held_until(unit, *node)).collect();
            held.into_iter().for_each(|until| self.wake(until));
        }
        // A copy that is missing has the first choice; one whose place is kept in maintenance does not come now.
        let stays = |(other, permit): &(&Token, &Permit)| {
            !permit.is_revoking() && !self.state.is_lost(permit) && !self.is_leaving(name, **other)
        };
        let staying = unit.permits.iter().filter(stays).count();
        let missing = self.less_kept(name, definition, wanted).saturating_sub(staying);
        let takes = |node: &NodeId| self.takes(name, unit, definition, *node);
        if let Some(moving) = moving {
            let free = |but: Option<NodeId>| {
                suitable
                    .keys()
                    .filter(|node| Some(**node) != but && takes(node))
                    .take(missing.saturating_add(1))
                    .count()
            };
            let hindrance = match moving.to {
                Some(to) if !suitable.contains_key(&to) => Some(self.unfit(name, unit, definition, to)),
                Some(to) if unit.permit_on(to).is_some() => Some("it has a copy there already".to_string()),
                Some(to) => self
                    .refuses(name, definition, to)
                    .or_else(|| (free(Some(to)) < missing).then(|| LEFT_TO_ANOTHER.to_string())),
                None => match free(None) {
                    0 => Some("no other node may take it now".to_string()),
                    free => (free <= missing).then(|| LEFT_TO_ANOTHER.to_string()),
                },
            };
            // Nor does the last that is at work go while others are only to come, or copy from it.
            let mut others = unit.permits.iter().filter(|(other, _)| **other != token).filter(stays);
            let boot_up = unit.boot_up.as_ref().filter(|_| definition.assembly.is_some());
            let at_work = |(other, permit): (&Token, &Permit)| match boot_up {
                Some(boot_up) => {
                    let member = boot_up.members.get(&permit.node).filter(|member| member.token == *other);
                    permit.phase == Phase::Active && member.is_some_and(|member| member.ready.is_some())
                }
                None => permit.phase == Phase::Active,
            };
            let alone = wanted > 1 && !others.any(at_work);
            let first = alone.then(|| match boot_up {
                Some(_) => "another copy is to be ready first".to_string(),
                None => "another copy is to be active first".to_string(),
            });
            // What stops first for it does so once.
            let anywhere = || match self.has_begun_to_stop(name) {
                true => None,
                false => self.hinders_anywhere(name, unit, definition, token),
            };
            if let Some(why) = hindrance.or(first) {
                self.because(name, Reason::CannotMove { to: moving.to, why });
                return None;
            }
            let Some(reason) = anywhere() else { return Some(StopReason::Moved) };
            let why = reason.text(self.state, name, self.now);
            self.because(name, Reason::CannotMove { to: moving.to, why });
            // Of what is out of order no proof is asked, as for a start.
            if matches!(reason, Reason::Conflicts { .. } | Reason::PossiblyRunning { .. }) {
                self.asks_for_proof(name, unit, definition, token);
            }
            return None;
        }
        // One copy after another, and none while one is missing or starting. Whether a role could be held there, only its vacancy would say.
        let active = unit.permits.values().all(|permit| permit.phase == Phase::Active);
        if !active || staying < wanted || definition.rank {
            return None;
        }
        // Its own wish alone moves it, never a companion's; but not to where all of them together would not stay.
        let companions = self.companions(name);
        let copies = self.copies(unit, definition, Some(token));
        let merit = |id: NodeId| self.merit((unit, definition), &companions, &copies, id);
        let mut nodes = suitable.iter();
        let goes = nodes
            .any(|(node, preference)| better(preference) && takes(node) && merit(*node) < merit(permit.node))
            && (self.has_begun_to_stop(name)
                || self.hinders_anywhere(name, unit, definition, token).is_none());
        goes.then_some(StopReason::BetterNode)
    }

    /// Whether a node could take another copy at once, if any could: else the unit would stop and start again where it is.
    fn takes(&self, name: &UnitName, unit: &Unit, definition: &Definition, node: NodeId) -> bool {
        unit.permit_on(node).is_none()
            && unit.avoided_until(node, self.now).is_none()
            && self.held_until(unit, node).is_none()
            && self.refuses(name, definition, node).is_none()
    }

    /// Why a suitable node could not take a copy at this moment, if the one that moves were gone.
    fn refuses(&self, name: &UnitName, definition: &Definition, id: NodeId) -> Option<String> {
        let Host { node, accepts, awaits_observation, .. } = self.index.host(id)?;
        if let Err(refusal) = accepts {
            return Some(refusal.to_string());
        }
        if *awaits_observation {
            return Some(alloc::format!("the fence device of {} was not looked at yet", node.name));
        }
        if let Err(why) = self.state.fencing_ground(id, definition) {
            return Some(why);
        }
        let strangers: Vec<&UnitName> = self.state.strangers(name).collect();
        if let Some(why) = self.crowd(&strangers, id, node).or_else(|| self.room.lack(id, node, definition)) {
            return Some(why);
        }
        if self.room.is_busy(id, self.state.settings.starts_per_node) {
            return Some(Reason::TooManyStarts(Some(id)).text(self.state, name, self.now));
        }
        let apart = definition
            .same_node_as
            .iter()
            .find(|beside| !self.state.known_active(beside).any(|(_, permit)| permit.node == id))?;
        Some(alloc::format!("it runs beside {apart}, which is not active on {}", node.name))
    }

    /// Why no copy could start at this moment if that one were gone, wherever that is.
    fn hinders_anywhere(
        &self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        gone: Token,
    ) -> Option<Reason> {
        let (reasons, _) = self.order_reasons(name, unit, definition);
        // Whether its neighbours are where it goes is asked of the node.
        let apart = |reason: &Reason| !matches!(reason, Reason::Requires(other) | Reason::After(other) if definition.same_node_as.contains(other));
        if let Some(reason) = reasons.into_iter().find(apart) {
            return Some(reason);
        }
        for other in self.state.opponents(name) {
            let node = self.index.running(other).first().map(|(node, _)| *node);
            if node.is_some() || self.begun.contains(other) {
                return Some(Reason::Conflicts { unit: other.clone(), node });
            }
        }
        if let Some((node, how)) = self.takes_its_place(name, unit, definition, gone).into_iter().next() {
            return Some(Reason::PossiblyRunning { node, how });
        }
        if let Some(node) = self.index.kept(name).next()
            && self.enough_beside(name, unit, definition, gone).is_some()
        {
            return Some(Reason::Kept(node));
        }
        let starting = |permit: &&Permit| permit.phase == Phase::Granted && !self.state.is_lost(permit);
        if definition.start_one_at_a_time
            && let Some(permit) = unit.permits.values().find(starting)
        {
            return Some(Reason::Starting(permit.node));
        }
        (self.room.starts_left(self.state.settings.starts_per_cluster) == 0)
            .then_some(Reason::TooManyStarts(None))
    }

    /// Where it may run without a permit, on a lost node, or while it stops, if as many as are wanted may run with that even
    /// when one copy is gone.
    fn takes_its_place(
        &self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        gone: Token,
    ) -> Vec<(NodeId, Possibly)> {
        let mut others = self.enough_beside(name, unit, definition, gone).unwrap_or_default();
        others.retain(|(_, how)| match how {
            Possibly::Permit(token) => {
                let permit = unit.permits.get(token);
                permit.is_some_and(|permit| permit.is_revoking() || self.state.is_lost(permit))
            }
            Possibly::Stray | Possibly::Unheard => true,
        });
        others
    }

    /// Where it may run beside a copy, if those are as many as are wanted beside the places that are kept in maintenance.
    fn enough_beside(
        &self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        copy: Token,
    ) -> Option<Vec<(NodeId, Possibly)>> {
        let Replicas::Count(wanted) = definition.replicas else { return None };
        let leaves = unit.permits.get(&copy).map(|permit| permit.node);
        let running = self.index.running(name).iter().copied();
        let others: Vec<_> =
            running.filter(|(node, how)| Some(*node) != leaves && how.counts(definition)).collect();
        (others.len() >= self.less_kept(name, definition, wanted as usize)).then_some(others)
    }

    /// Whether something stops already because this unit is to stop.
    fn has_begun_to_stop(&self, name: &UnitName) -> bool {
        let for_it = |permit: &Permit| match &permit.phase {
            Phase::Revoking(
                StopReason::RequirementStops(other)
                | StopReason::BoundEnds(other)
                | StopReason::PartStops(other)
                | StopReason::Apart(other),
            ) => other == name,
            _ => false,
        };
        self.state
            .dependents(name)
            .filter_map(|other| self.state.units.get(other))
            .any(|unit| unit.permits.values().any(for_it))
    }

    /// A move for which only a proof is missing waits for lost nodes as a start does: what may run there has to be proven gone.
    fn asks_for_proof(&mut self, name: &UnitName, unit: &Unit, definition: &Definition, gone: Token) {
        let index = self.index;
        let mut running = self.takes_its_place(name, unit, definition, gone);
        let proof = unit.is_exclusive() || definition.fencing != Fencing::None;
        running.retain(|(_, how)| match how {
            Possibly::Permit(token) => {
                proof && unit.permits.get(token).is_some_and(|permit| self.wants_fence(name, permit))
            }
            Possibly::Stray | Possibly::Unheard => true,
        });
        running.extend(self.state.opponents(name).flat_map(|other| index.running(other)));
        for (node, _) in running {
            if self.state.nodes.get(&node).is_some_and(|node| node.lost_since().is_some()) {
                self.because(name, Reason::WaitsForFence { node });
            }
            self.waits_for(node, name);
        }
    }

    /// Why a node cannot take a unit that it does not hold.
    fn unfit(&self, name: &UnitName, unit: &Unit, definition: &Definition, id: NodeId) -> String {
        let Some(node) = self.state.nodes.get(&id) else { return "it left the cluster".to_string() };
        if let Some(fault) = self.state.presence_fault(node) {
            return alloc::format!("{} {fault}", node.name);
        }
        if let Some(drained) = self.state.drained_text(id) {
            return drained;
        }
        if let Some(scope) = self.state.node_maintenance(id) {
            return self.state.maintenance_text(&scope);
        }
        if unit.holds.contains_key(&id) {
            return alloc::format!("it is held on {}", node.name);
        }
        if !definition.allows(node) {
            return alloc::format!("Nodes= does not let it run on {}", node.name);
        }
        let Some(offer) = node.offers.get(name).filter(|offer| offer.present) else {
            return alloc::format!("{} has no drop-in for it", node.name);
        };
        if let Some(fault) = &offer.fault {
            return fault.clone();
        }
        if !offer.gated {
            return alloc::format!("its gate is not in force on {}", node.name);
        }
        alloc::format!("{} offers another definition", node.name)
    }

    /// Keeps the places of all that stops to go there, or has stopped for a move to a node that can take it now, and is still
    /// wanted.
    pub(super) fn keep_places(&mut self) {
        let state = self.state;
        for name in self.units.clone() {
            let Some(unit) = state.units.get(name) else { continue };
            let Some(definition) = unit.definition() else { continue };
            if unit.goal.wanted == Wanted::Stopped || state.unit_maintenance(name).is_some() {
                continue;
            }
            let moves = |permit: &Permit| {
                matches!(permit.phase, Phase::Revoking(StopReason::Moved | StopReason::BetterNode))
                    && permit.stuck.is_none()
                    && !state.is_lost(permit)
            };
            let stopping = unit.permits.iter().find(|(_, permit)| moves(permit)).map(|(token, _)| *token);
            let stopped = unit.moving.as_ref().filter(|moving| {
                moving.to.is_some()
                    && !unit.permits.contains_key(&moving.from)
                    && self.hinders_anywhere(name, unit, definition, moving.from).is_none()
            });
            let Some(token) = stopping.or(stopped.map(|moving| moving.from)) else { continue };
            let suitable = self.suitable(name, unit, definition);
            let stays = |permit: &&Permit| !permit.is_revoking() && !state.is_lost(permit);
            let wanted = self.less_kept(name, definition, wanted(unit, definition, &suitable));
            if unit.permits.values().filter(stays).count() < wanted {
                self.keep_place_of(name, unit, definition, token, &suitable);
            }
        }
    }

    /// Keeps the place that a copy stops for: the one it was sent to, or the best.
    pub(super) fn keep_place_of(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        token: Token,
        suitable: &BTreeMap<NodeId, i64>,
    ) {
        let to = unit.moving.as_ref().filter(|moving| moving.from == token).and_then(|moving| moving.to);
        let companions = self.companions(name);
        let copies = self.copies(unit, definition, Some(token));
        let free = suitable
            .keys()
            .copied()
            .filter(|id| to.is_none_or(|to| to == *id) && self.takes(name, unit, definition, *id));
        let best = free.min_by_key(|id| (self.merit((unit, definition), &companions, &copies, *id), *id));
        best.into_iter().for_each(|to| self.keep_place(name, definition, to));
    }

    pub(super) fn keep_place(&mut self, name: &UnitName, definition: &Definition, node: NodeId) {
        self.kept.insert(name.clone(), node);
        self.room.keep(node, definition);
        self.promised.entry(node).or_default().insert(name.clone());
    }

    /// Takes back what is kept for a unit, while its own start is planned.
    pub(super) fn give_back_place(&mut self, name: &UnitName, definition: &Definition) -> Option<NodeId> {
        let node = self.kept.remove(name)?;
        self.room.give_back(node, definition);
        if let Some(units) = self.promised.get_mut(&node) {
            units.remove(name);
        }
        Some(node)
    }
}
