//! Which permits end, in which order, and which copies are adopted or stopped.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::command::Decision;
use crate::definition::{Definition, Replicas};
use crate::event::StopReason;
use crate::name::{NodeId, Token, UnitName};
use crate::node::Node;
use crate::permit::{Permit, Phase, Terms};
use crate::query::Possibly;
use crate::unit::{Unit, Wanted};

use super::assembly::Service;
use super::index::{Host, Offered};
use super::{Planner, Reason};

impl<'a> Planner<'a> {
    /// Plans every unit, what others depend on first.
    pub(super) fn units(&mut self) {
        let state = self.state;
        self.keep_places();
        for name in self.units.clone() {
            if let Some(unit) = state.units.get(name) {
                self.unit(name, unit);
                self.settle(name);
            }
        }
        self.revoke_leaving();
    }

    fn unit(&mut self, name: &UnitName, unit: &Unit) {
        let Some(adopted) = &unit.adopted else {
            self.shown_faults(name);
            return;
        };
        let definition = &adopted.definition;
        self.shown_differences(name);
        self.shown_holds(name, unit);
        self.shown_maintenance(name, unit);
        if self.state.unit_maintenance(name).is_some() {
            self.leave_alone(name, unit);
            return;
        }
        self.expire(name, unit);
        let suitable = self.suitable(name, unit, definition);
        self.strays(name, unit, adopted, &suitable);
        let wanted = match unit.goal.wanted {
            Wanted::Started => wanted(unit, definition, &suitable),
            Wanted::Stopped => 0,
        };
        self.leave(name, unit, definition, &suitable, wanted);
        if !self.changing.contains_key(name) {
            self.reterm(name, unit, adopted.revision, definition);
        }
        if unit.goal.wanted == Wanted::Stopped {
            self.because(name, Reason::Stopped);
            self.restless |= !unit.permits.is_empty();
            for (node, how) in self.index.running(name).iter().copied() {
                let Possibly::Permit(token) = how else { continue };
                self.because(name, Reason::PossiblyRunning { node, how });
                if unit.permits.get(&token).is_some_and(|permit| self.wants_fence(name, permit)) {
                    self.waits_for(node, name);
                }
            }
            return;
        }
        if self.state.drained.is_some() {
            self.rest(name);
            return;
        }
        // Nobody waits for those that join a service which is up.
        let starts = |permit: &Permit| permit.phase == Phase::Granted && !self.state.is_lost(permit);
        if unit.permits.values().any(starts) && !self.state.is_live(name) {
            self.coming.insert(name.clone());
        }
        if self.changing.contains_key(name) {
            self.coming.insert(name.clone());
            return;
        }
        self.pull_in(name, definition);
        let kept = self.give_back_place(name, definition);
        match (&definition.assembly, &unit.boot_up) {
            (Some(assembly), Some(boot_up)) => {
                let service =
                    Service { name, unit, definition, assembly, boot_up, revision: adopted.revision };
                let decided = self.plan.decisions.len();
                self.assemble(&service, &suitable, wanted);
                let decided = self.plan.decisions.len() > decided;
                if !self.state.is_live(name) && self.comes_up(&service, decided) {
                    self.coming.insert(name.clone());
                }
            }
            _ => self.grant(name, unit, adopted, &suitable, wanted),
        }
        if let Some(node) =
            kept.filter(|node| !self.granted.get(node).is_some_and(|units| units.contains(name)))
        {
            self.keep_place(name, definition, node);
        }
    }

    /// Starts nothing: the whole cluster is drained. What a lost node may still run is told, and waited for by nobody, as
    /// the node is not needed.
    fn rest(&mut self, name: &UnitName) {
        self.because(name, Reason::ClusterDrained);
        for (node, how) in self.index.running(name).iter().copied() {
            if self.state.nodes.get(&node).is_some_and(|node| node.lost_since().is_some()) {
                self.because(name, Reason::PossiblyRunning { node, how });
            }
        }
    }

    /// Nodes whose files have the unit now.
    pub(super) fn offers(&self, name: &UnitName) -> impl Iterator<Item = &'a Offered<'a>> + use<'a> {
        self.index.known(name).offers.iter().filter(|offered| offered.offer.present)
    }

    /// Nodes that could run it now, other units and other copies aside, with their preference.
    pub(super) fn suitable(
        &self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
    ) -> BTreeMap<NodeId, i64> {
        let offers = self.index.known(name).offers.iter();
        let nodes = offers.filter(|Offered { host: Host { id, node, .. }, sound, .. }| {
            *sound
                && node.role.runs_units()
                && node.in_session().is_some_and(|life| life.inventory)
                && self.state.drained_by(*id).is_none()
                && self.state.node_maintenance(*id).is_none()
                && definition.allows(node)
                && !unit.holds.contains_key(id)
        });
        nodes.map(|Offered { host, .. }| (host.id, definition.preference(host.node))).collect()
    }

    /// Marks the permits that are to end.
    fn leave(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        suitable: &BTreeMap<NodeId, i64>,
        wanted: usize,
    ) {
        let mut staying: Vec<(Token, &Permit)> = Vec::new();
        for (token, permit) in &unit.permits {
            if permit.is_revoking() {
                self.show_stop(name, *token, permit);
            } else if self.state.is_lost(permit) || self.state.node_maintenance(permit.node).is_some() {
                // Nobody is there to hear a revocation; what waits for it asks for proof. What is in maintenance stays.
                staying.push((*token, permit));
            } else if let Some(reason) =
                self.must_leave(name, unit, definition, (*token, permit), suitable, wanted)
            {
                self.restless = true;
                match self.held_in_place(name, *token) {
                    Some((other, node)) => {
                        self.because(name, Reason::StopsFirst { unit: other, node });
                        staying.push((*token, permit));
                    }
                    None => {
                        let goes = matches!(reason, StopReason::Moved | StopReason::BetterNode);
                        self.mark(name, *token, reason);
                        if goes {
                            self.keep_place_of(name, unit, definition, *token, suitable);
                        }
                    }
                }
            } else {
                staying.push((*token, permit));
                if permit.phase == Phase::Granted {
                    self.because(name, Reason::Starting(permit.node));
                }
            }
        }
        // The best stay: what runs before what starts, then the preferred, then the oldest.
        staying.sort_by_key(|(token, permit)| {
            let preference = suitable.get(&permit.node).copied().unwrap_or(i64::MIN);
            // What is left alone counts before everything else: it stays.
            let alone = self.state.node_maintenance(permit.node).is_some();
            (Reverse(alone), Reverse(permit.phase == Phase::Active), Reverse(preference), *token)
        });
        for (token, permit) in staying.iter().skip(wanted) {
            if !self.state.is_lost(permit) && unit.goal.wanted == Wanted::Started {
                self.mark(name, *token, StopReason::Surplus);
            }
        }
    }

    fn must_leave(
        &mut self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
        (token, permit): (Token, &Permit),
        suitable: &BTreeMap<NodeId, i64>,
        wanted: usize,
    ) -> Option<StopReason> {
        let node = self.state.nodes.get(&permit.node)?;
        if unit.goal.wanted == Wanted::Stopped {
            return Some(StopReason::GoalStopped);
        }
        if unit.holds.contains_key(&permit.node) {
            return Some(StopReason::Held);
        }
        if self.state.drained.is_some() {
            return Some(StopReason::ClusterDrained);
        }
        if node.drained.is_some() {
            return Some(StopReason::Drained);
        }
        if let Some(why) = &permit.unwell {
            return Some(StopReason::Unwell(why.clone()));
        }
        let member = unit.boot_up.as_ref().and_then(|boot_up| boot_up.members.get(&permit.node));
        if let Some(identity) = member.filter(|it| it.token == token).and_then(|it| it.stranger.clone()) {
            return Some(StopReason::Stranger(identity));
        }
        if let Some(reason) = self.misplaced(name, definition, token, permit, node) {
            return Some(reason);
        }
        if let Some(other) = self.overruled_by(name, unit) {
            return Some(StopReason::Conflicts(other));
        }
        if let Some(reason) = self.taken_along(unit, definition) {
            return Some(reason);
        }
        self.moves(name, unit, definition, (token, permit), suitable, wanted)
    }

    /// Why the node is not the copy's place any more. What only a changed definition says is shown, and ends nothing.
    fn misplaced(
        &mut self,
        name: &UnitName,
        definition: &Definition,
        token: Token,
        permit: &Permit,
        node: &Node,
    ) -> Option<StopReason> {
        let mut reasons = Vec::new();
        if !definition.allows(node) {
            reasons.push(StopReason::NotAllowed);
        }
        for beside in &definition.same_node_as {
            match self.state.units.get(beside).and_then(|other| other.permit_on(permit.node)) {
                Some((other, _)) if !self.is_leaving(beside, other) => {}
                // S4: it stops before what it runs beside does, whenever that was named.
                Some(_) if !permit.waits_beside(beside) => return Some(StopReason::Apart(beside.clone())),
                _ => reasons.push(StopReason::Apart(beside.clone())),
            }
        }
        reasons.extend(self.shares_with(name, permit).into_iter().map(StopReason::SharesNode));
        for reason in reasons {
            if !self.state.keeps_place(name, permit, &reason) {
                return Some(reason);
            }
            self.because(name, Reason::RestartPending { node: permit.node, reason });
        }
        self.exceeds(name, token, permit.node, node).map(StopReason::NoRoom)
    }

    pub(super) fn mark(&mut self, name: &UnitName, token: Token, reason: StopReason) {
        self.restless = true;
        let holder = self.state.permit(name, token).map(|permit| permit.node);
        if holder.is_some_and(|holder| self.state.copy_maintenance(name, holder).is_some()) {
            return;
        }
        self.leaving.entry(name.clone()).or_default().insert(token, reason.clone());
        if let Some(permit) = self.state.permit(name, token) {
            let node = permit.node;
            self.because(name, Reason::Stopping { node, reason, stuck: None });
        }
    }

    pub(super) fn show_stop(&mut self, name: &UnitName, token: Token, permit: &Permit) {
        if let Phase::Revoking(reason) = &permit.phase {
            self.restless = true;
            self.leaving.entry(name.clone()).or_default().insert(token, reason.clone());
            let (node, stuck) = (permit.node, permit.stuck.clone());
            self.because(name, Reason::Stopping { node, reason: reason.clone(), stuck });
        }
    }

    pub(super) fn is_leaving(&self, name: &UnitName, token: Token) -> bool {
        self.leaving.get(name).is_some_and(|tokens| tokens.contains_key(&token))
    }

    /// Ends permits of lost nodes whose own terms let time end them.
    fn expire(&mut self, name: &UnitName, unit: &Unit) {
        for (token, permit) in &unit.permits {
            let Some(at) = self.state.expires_at(name, permit) else { continue };
            self.restless = true;
            if at <= self.now {
                self.plan.decisions.push(Decision::Expire { unit: name.clone(), token: *token });
            } else {
                self.wake(at);
            }
        }
    }

    /// Brings live permits to the definition's terms (F13).
    fn reterm(&mut self, name: &UnitName, unit: &Unit, revision: u64, definition: &Definition) {
        let exclusive_surplus = definition.is_exclusive() && unit.permits.len() > 1;
        for (token, permit) in &unit.permits {
            // A longer time of its watchdog is no new term: the longest that was announced counts anyway.
            let chain = permit.terms.watchdog_ms;
            let terms = Terms::of(definition, permit.terms.revision, permit.terms.stop_budget_ms, chain);
            let asked = permit.next_terms.as_ref().is_some_and(|next| next.revision == revision);
            let heard = self.state.nodes.get(&permit.node).is_some_and(|node| node.in_session().is_some());
            let unheard = permit.next_is_stricter_than(definition.fencing, definition.on_quorum_loss);
            if terms != permit.terms
                && !asked
                && heard
                && self.takes_terms(permit, definition)
                && !unheard
                && !exclusive_surplus
                && !permit.is_revoking()
                && !self.is_leaving(name, *token)
            {
                self.restless = true;
                self.plan.decisions.push(Decision::Reterm { unit: name.clone(), token: *token, revision });
            }
        }
    }

    /// Whether a copy's node may be offered the terms of the definition.
    pub(super) fn takes_terms(&self, permit: &Permit, definition: &Definition) -> bool {
        definition.contradiction().is_none()
            && self.state.fencing_ground(permit.node, definition).is_ok()
            && self.state.node_maintenance(permit.node).is_none()
    }

    /// Nodes whose files say something else, or something wrong.
    fn shown_differences(&mut self, name: &UnitName) {
        for Offered { host, offer, agrees, .. } in self.offers(name).filter(|offered| !offered.sound) {
            let node = host.id;
            if let Some(fault) = &offer.fault {
                self.because(name, Reason::Fault { node, fault: fault.clone() });
            } else if !agrees {
                self.because(name, Reason::Differs(node));
            }
        }
    }

    /// Nodes whose section has an error: without a definition in force, that is what there is to mend.
    fn shown_faults(&mut self, name: &UnitName) {
        for Offered { host, offer, .. } in self.offers(name) {
            if let Some(fault) = offer.fault.clone() {
                self.because(name, Reason::Fault { node: host.id, fault });
            }
        }
    }

    /// Nodes that a person, or another unit's stop, keeps it from.
    fn shown_holds(&mut self, name: &UnitName, unit: &Unit) {
        for id in unit.holds.keys() {
            self.because(name, Reason::Held(*id));
        }
    }
}

/// How many copies are wanted. Of `Replicas=all` also those that run where a new one would not be started now:
/// a difference in a node's files stops nothing there.
pub(super) fn wanted(unit: &Unit, definition: &Definition, suitable: &BTreeMap<NodeId, i64>) -> usize {
    match definition.replicas {
        Replicas::Count(count) => count as usize,
        Replicas::All => {
            let held = unit.permits.values().map(|permit| permit.node);
            held.chain(suitable.keys().copied()).collect::<BTreeSet<NodeId>>().len()
        }
    }
}
