//! Facts about units on nodes: inventories, starts, releases.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

use crate::command::{Cause, InventoryItem};
use crate::event::{EventKind, Severity};
use crate::evidence::Evidence;
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::{Permit, Phase, Rest};
use crate::refusal::Refusal;
use crate::state::{Alarm, AlarmKind, State};
use crate::unit::{Failures, Goal, Hold, Unit, Wanted};

use super::{Step, stale};

impl Step<'_> {
    pub(super) fn inventory_reported(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        items: &[InventoryItem],
        rests: &BTreeMap<Token, Rest>,
        highest_token: Token,
    ) -> Result<(), Refusal> {
        self.heard(id, incarnation)?;
        let named: BTreeSet<&UnitName> = items.iter().map(|item| &item.unit).collect();
        let node = self.node_mut(id)?;
        node.highest_token = node.highest_token.max(highest_token);
        for (_, offer) in node.offers.iter_mut().filter(|(unit, _)| !named.contains(unit)) {
            offer.present = false;
        }
        for item in items {
            self.note(id, incarnation, item)?;
        }
        let life = self.life_mut(id, incarnation)?;
        let runs = |unit: &UnitName| items.iter().any(|item| item.unit == *unit && item.running);
        life.strays.retain(runs);
        life.lingering.retain(|unit, _| runs(unit));
        life.inventory = true;
        life.told = true;
        let State { units, held, .. } = &mut *self.state;
        for (unit, token) in held.on(id) {
            let Some(permit) = units.get_mut(unit).and_then(|unit| unit.permits.get_mut(&token)) else {
                continue;
            };
            let down = permit.phase == Phase::Active && !runs(unit);
            permit.rest = if down { Some(Rest::Down) } else { rests.get(&token).copied() };
            permit.rest = permit.rest.filter(|_| !permit.idle);
        }
        Ok(())
    }

    pub(super) fn unit_observed(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        item: &InventoryItem,
    ) -> Result<(), Refusal> {
        self.heard(id, incarnation)?;
        self.note(id, incarnation, item)
    }

    pub(super) fn surveyed(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        index: u64,
    ) -> Result<(), Refusal> {
        self.heard(id, incarnation)?;
        let node = self.node_mut(id)?;
        if !node.life.as_ref().is_some_and(|life| life.inventory) {
            return Err(stale("it has not said yet what runs on it"));
        }
        if node.surveyed >= index {
            return Err(stale("it has said so before"));
        }
        node.surveyed = index;
        Ok(())
    }

    /// Takes over what a node says of one unit. What runs under a permit is no stray.
    fn note(&mut self, id: NodeId, incarnation: &Incarnation, item: &InventoryItem) -> Result<(), Refusal> {
        let (index, wall_ms) = (self.index, self.wall_ms);
        // A node goes on gating what was forgotten until it hears of that: its empty line brings nothing back.
        if item.offer.is_none() && !item.running && !self.state.units.contains_key(&item.unit) {
            return Ok(());
        }
        let since = self.state.units.get(&item.unit).map_or(index, |known| known.since);
        let node = self.node_mut(id)?;
        let first = node.surveyed < since && !node.offers.contains_key(&item.unit);
        match &item.offer {
            Some(offer) => {
                node.offers.insert(item.unit.clone(), offer.clone());
            }
            None => {
                if let Some(offer) = node.offers.get_mut(&item.unit) {
                    offer.present = false;
                }
            }
        }
        let alone = self.state.copy_maintenance(&item.unit, id).is_some();
        let known = self.state.units.entry(item.unit.clone()).or_insert_with(|| Unit::new(index, wall_ms));
        // Others read a copy in maintenance as it is; whatever it is then, its permit stays.
        let active = |permit: &&mut Permit| permit.node == id && permit.phase == Phase::Active;
        for permit in known.permits.values_mut().filter(active) {
            permit.idle = !item.running && (alone || permit.idle);
            permit.rest = match permit.rest {
                _ if !item.running => Some(Rest::Down),
                // What keeps it from being up is told after that.
                Some(Rest::Down) => None,
                rest => rest,
            };
        }
        let permitted = known.permit_on(id).is_some();
        let enabled = item.offer.as_ref().is_some_and(|offer| offer.enabled);
        if known.goal.by.is_none() && known.goal.wanted == Wanted::Stopped && (enabled || item.running) {
            // Nobody has asked for anything yet: what is enabled or runs already is meant to run (F9).
            known.goal = Goal { wanted: Wanted::Started, revision: index, by: None, wall_ms };
            let kind = EventKind::GoalSet { wanted: Wanted::Started, by: None };
            self.record(Severity::Info, Some(id), Some(&item.unit), kind);
        }
        let life = self.life_mut(id, incarnation)?;
        if !item.running {
            life.lingering.remove(&item.unit);
        }
        let runs = item.running && !permitted;
        let ended = !runs && life.strays.remove(&item.unit);
        if runs {
            life.strays.insert(item.unit.clone());
        }
        if runs || ended {
            self.data_touched(&item.unit, id);
        }
        if !permitted {
            self.stray_noted(&item.unit, id, runs, first);
        }
        if runs {
            self.off_is_doubtful(id);
        }
        Ok(())
    }

    pub(super) fn started(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
    ) -> Result<(), Refusal> {
        let time = self.time;
        let permit = self.permit_held(id, incarnation, unit, token)?;
        if permit.phase != Phase::Granted {
            return Err(stale("the permit is not waiting for a start"));
        }
        permit.phase = Phase::Active;
        permit.active_at = Some(time);
        let after_ms = time.saturating_sub(permit.granted_at);
        self.state.start_ends(token);
        self.member_started(unit, id, token);
        self.state.came_beside(unit, id);
        self.record(Severity::Info, Some(id), Some(unit), EventKind::Started { token, after_ms });
        Ok(())
    }

    /// Ends nothing and begins nothing: the permit stays, and systemd goes on with the copy.
    pub(super) fn rest_reported(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
        rest: Option<Rest>,
    ) -> Result<(), Refusal> {
        let permit = self.permit_held(id, incarnation, unit, token)?;
        if permit.phase != Phase::Active || permit.rest == rest {
            return Err(stale("it changes nothing"));
        }
        permit.rest = rest;
        Ok(())
    }

    pub(super) fn terms_acknowledged(
        &mut self,
        id: NodeId,
        unit: &UnitName,
        token: Token,
        revision: u64,
    ) -> Result<(), Refusal> {
        let known = self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        let permit = known.permits.get_mut(&token).filter(|permit| permit.node == id);
        let permit = permit.ok_or_else(|| stale("no such permit"))?;
        match permit.next_terms.take() {
            Some(terms) if terms.revision == revision => permit.terms = terms,
            other => {
                permit.next_terms = other;
                return Err(stale("other terms were offered since"));
            }
        }
        Ok(())
    }

    /// A release voids exactly the permit that it names (F1, F2).
    pub(super) fn released(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
        because: &Cause,
    ) -> Result<(), Refusal> {
        if self.permit_held(id, incarnation, unit, token).is_err() {
            let ended = self.late_release(unit, id, incarnation, token)
                | self.heir_released_late(unit, id, incarnation, token);
            // The permit has ended by other evidence; what the operator did there still counts (F10).
            if let Cause::Operator(by) = because {
                let stopped = self.stopped_by_hand(unit, id, token, by);
                return if ended { Ok(()) } else { stopped };
            }
            return if ended { Ok(()) } else { Err(stale("no such permit")) };
        }
        let ended = self.void(unit, token, Evidence::Released);
        let counted = ended.is_some_and(|permit| permit.unwell.is_some());
        let node = self.node_mut(id)?;
        node.highest_token = node.highest_token.max(token);
        if let Some(life) = node.life.as_mut() {
            life.strays.remove(unit);
        }
        let severity = match because {
            Cause::Failed(_) | Cause::StartFailed(_) | Cause::LeaseEnded => Severity::Warning,
            Cause::Ordered
            | Cause::Operator(_)
            | Cause::Propagated(_)
            | Cause::Shutdown
            | Cause::Unused
            | Cause::DownInMaintenance => Severity::Info,
        };
        let kind = EventKind::Released { token, because: because.clone() };
        self.record(severity, Some(id), Some(unit), kind);
        match because {
            // Its permit was live, so no later wish of the operator can have been carried out there: it counts.
            Cause::Operator(by) => self.hand_stop(unit, id, by),
            // That it did not live to see its stop is the failure that was counted (P68).
            Cause::Failed(_) if counted => {}
            Cause::Failed(why) | Cause::StartFailed(why) => self.count_failure(unit, id, why),
            Cause::Propagated(by) => self.hold(unit, id, by),
            // What a person did meanwhile is neither a failure nor a wish (P64).
            Cause::Ordered
            | Cause::Shutdown
            | Cause::LeaseEnded
            | Cause::Unused
            | Cause::DownInMaintenance => {}
        }
        Ok(())
    }

    pub(super) fn stop_stuck(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
        what: &str,
    ) -> Result<(), Refusal> {
        let wall_ms = self.wall_ms;
        let permit = self.permit_held(id, incarnation, unit, token)?;
        if permit.stuck.as_deref() == Some(what) {
            return Err(stale("known already"));
        }
        permit.stuck = Some(what.into());
        let alarm = Alarm { wall_ms, detail: what.into() };
        self.state.alarms.insert(AlarmKind::StopStuck(unit.clone(), id), alarm);
        self.record(Severity::Alert, Some(id), Some(unit), EventKind::StopStuck { what: what.into() });
        Ok(())
    }

    /// A person's stop on a node: of the unit everywhere if it is exclusive, of this replica otherwise (S6).
    ///
    /// It counts if the permit was the unit's last, or nobody asked for anything since it was granted (F10).
    pub(super) fn stopped_by_hand(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        token: Token,
        by: &str,
    ) -> Result<(), Refusal> {
        let granted = token.index();
        let known = self.state.units.get(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        if known.last_token != Some(token) && known.goal.revision > granted {
            return Err(stale("a later wish stands"));
        }
        self.hand_stop(unit, id, by);
        Ok(())
    }

    /// A cancelled start takes its own wish back and nobody else's: not one that was asked for since, and none at all
    /// where the gate asked for nothing, because the unit may have been running elsewhere (F34).
    ///
    /// Copies that ran before it was asked for go on, and only this node is left out; otherwise the unit is stopped.
    pub(super) fn withdraw_start(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        gate: &str,
        by: &str,
    ) -> Result<(), Refusal> {
        self.node(id)?;
        let asked =
            self.state.replies.get(gate).filter(|reply| reply.outcome.is_ok()).map(|reply| reply.index);
        let known = self.state.units.get(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        let Some(asked) = asked.filter(|asked| *asked == known.goal.revision) else {
            return Err(stale("the cancelled start is not what was asked for last"));
        };
        let mut earlier = known.permits.iter().filter(|(token, _)| token.index() < asked);
        if earlier.any(|(_, permit)| !permit.is_revoking()) {
            self.hold(unit, id, by);
        } else {
            self.stop_goal(unit, id, by);
        }
        Ok(())
    }

    fn hand_stop(&mut self, unit: &UnitName, id: NodeId, by: &str) {
        match self.state.units.get(unit) {
            Some(known) if known.is_single() => self.stop_goal(unit, id, by),
            _ => self.hold(unit, id, by),
        }
    }

    fn stop_goal(&mut self, unit: &UnitName, id: NodeId, by: &str) {
        let (revision, wall_ms) = (self.index, self.wall_ms);
        let Some(known) = self.state.units.get_mut(unit) else { return };
        known.goal = Goal { wanted: Wanted::Stopped, revision, by: Some(by.into()), wall_ms };
        known.moving = None;
        known.asked_for = None;
        let kind = EventKind::GoalSet { wanted: Wanted::Stopped, by: Some(by.into()) };
        self.record(Severity::Info, Some(id), Some(unit), kind);
    }

    fn hold(&mut self, unit: &UnitName, id: NodeId, by: &str) {
        let wall_ms = self.wall_ms;
        if let Some(known) = self.state.units.get_mut(unit) {
            known.holds.insert(id, Hold { by: by.into(), wall_ms });
        }
        self.record(Severity::Info, Some(id), Some(unit), EventKind::HeldOnNode { by: by.into() });
    }

    /// What fails its check has failed as what ends by itself has, but for a process that is left: it has to be stopped.
    pub(super) fn check_failed(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
        why: &str,
    ) -> Result<(), Refusal> {
        self.state.may_touch(unit, id)?;
        let permit = self.permit_held(id, incarnation, unit, token)?;
        if permit.phase != Phase::Active || permit.unwell.is_some() {
            return Err(stale("it is not active, or is to be stopped for that already"));
        }
        permit.unwell = Some(why.into());
        self.count_failure(unit, id, &format!("its health check: {why}"));
        let kind = EventKind::CheckFailed { token, why: why.into() };
        self.record(Severity::Warning, Some(id), Some(unit), kind);
        Ok(())
    }

    fn count_failure(&mut self, unit: &UnitName, id: NodeId, why: &str) {
        let time = self.time;
        let Some(known) = self.state.units.get_mut(unit) else { return };
        let reset_ms = known.definition().map_or(0, |definition| definition.failure_reset_ms);
        let failures =
            known.failures.entry(id).or_insert(Failures { count: 0, last: time, why: String::new() });
        if failures.last.saturating_add(reset_ms) <= time {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = time;
        failures.why = why.into();
    }

    /// The live permit of exactly this token, node and incarnation.
    pub(super) fn permit_held(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
    ) -> Result<&mut Permit, Refusal> {
        self.node(id)?;
        let known = self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        let permit = known.permits.get_mut(&token);
        permit
            .filter(|permit| permit.node == id && permit.incarnation == *incarnation)
            .ok_or_else(|| stale("no such permit"))
    }
}
