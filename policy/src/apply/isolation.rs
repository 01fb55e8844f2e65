//! Nodes that are cut off, and how their way is opened again. Clauses P120 to P126 of `docs/policy.md`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{AgentAction, Device, Reconnect};
use crate::event::{EventKind, Severity};
use crate::evidence::{Class, Evidence};
use crate::fence::{Opening, Phase, Power, SwitchedOff};
use crate::isolation::Isolation;
use crate::name::{CaseId, Incarnation, Millis, NodeId};
use crate::refusal::Refusal;

use super::{Step, stale};

/// Wait after the n-th failure to open a way, in milliseconds, and after each later one: units wait for it, so that it is
/// never given up.
const OPEN_MS: [Millis; 4] = [5_000, 10_000, 20_000, 40_000];
/// Failures that are told one by one; after them the alarm stands.
const TOLD: u32 = 5;

impl Step<'_> {
    /// The level that runs has cut its node off: the case is over, and with it the permits that take that (P120).
    ///
    /// One that returned meanwhile is not cut off from anything by this: it is heard, and keeps what it has.
    pub(super) fn isolate(&mut self, id: CaseId) -> Result<(), Refusal> {
        let at = self.time;
        let case = self.case(id)?;
        let (node, incarnation, level, because) =
            (case.node, case.incarnation.clone(), case.level, case.because.clone());
        let after_ms = at.saturating_sub(case.opened_at);
        let lost = self.life(node, &incarnation).is_ok() && self.node(node)?.lost_since().is_some();
        if !lost || case.drill().is_some() {
            let name = self.state.node_name(node);
            // Its command was done: nothing is left to strike.
            self.fail_attempt(id, &format!("{name} was heard again before it was seen cut off"), false);
            return Ok(());
        }
        let devices = self.state.level_name(node, level);
        let running = if let Phase::Running { executor, .. } = &case.phase { Some(*executor) } else { None };
        let executor = running.map(|executor| self.state.node_name(executor));
        let evidence = Evidence::Isolated(id);
        self.life_mut(node, &incarnation)?.isolated =
            Some(Isolation { case: id, devices: devices.clone(), at, heard_at: None });
        let kind = EventKind::NodeIsolated { case: id, devices: devices.clone(), after_ms };
        self.record(Severity::Warning, Some(node), None, kind);
        let voided = self.void_held(node, &incarnation, evidence);
        self.note_isolation(node, &incarnation, (devices, executor, because), &voided);
        if let Some(case) = self.state.cases.get_mut(&id) {
            case.phase = Phase::Proven { class: Class::Isolated, at };
            case.voided = voided;
        }
        self.power_comes_back(node, Class::Isolated, level);
        Ok(())
    }

    /// A life that was cut off spoke. Once in a lease is enough to know that it is not silent.
    pub(super) fn cut_off_heard(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        term: u64,
    ) -> Result<(), Refusal> {
        self.same_term(term)?;
        let (time, lease) = (self.time, self.state.settings.lease_ms());
        let life = self.life_mut(id, incarnation)?;
        let isolation = life.isolated.as_mut().filter(|_| life.gone.is_none());
        let isolation = isolation.ok_or_else(|| stale("the incarnation is not cut off"))?;
        if isolation.heard_at.is_some_and(|at| at.saturating_add(lease) > time) {
            return Err(stale("known already"));
        }
        isolation.heard_at = Some(time);
        Ok(())
    }

    /// A new life of a node is not known to the devices that it registers with.
    pub(super) fn is_to_register(&mut self, id: NodeId) {
        let registers =
            |device: &Device| matches!(device.isolates, Some(Reconnect::AtBoot | Reconnect::ByNode));
        let devices = self.state.devices_of(id).filter(|(_, device)| registers(device));
        let devices: Vec<String> = devices.map(|(name, _)| name.into()).collect();
        for device in devices {
            let since = self.index;
            let debt = self.state.switched_off.entry((device, id)).or_default();
            // An agent that is under way has registered, if at all, the life before: its end is awaited, and then comes another.
            if debt.opening.is_some() {
                debt.again = true;
            } else {
                *debt = SwitchedOff::since(since);
            }
        }
    }

    /// What is put in force has nodes register that are heard already. What a device was asked before says nothing of it as it
    /// is now.
    pub(super) fn are_to_register(&mut self, renewed: &BTreeSet<String>) {
        let targets = renewed.iter().filter_map(|name| self.state.devices.get(name));
        let nodes: BTreeSet<NodeId> = targets.flat_map(|device| device.targets.keys().copied()).collect();
        for id in nodes {
            let lives = self.state.nodes.get(&id).is_some_and(|node| node.life.is_some());
            if lives {
                self.is_to_register(id);
            }
        }
    }

    /// Why the devices of a node cannot change now: what they have cut, or are opening, would be forgotten (P124).
    pub(super) fn devices_are_needed(&self, id: NodeId) -> Result<(), Refusal> {
        let name = self.state.node_name(id);
        if let Some(isolation) = self.state.isolation(id) {
            let why = format!(
                "{name} is cut off by {}, which opens its way again, and its devices cannot change meanwhile: what ends that is {}",
                isolation.devices,
                self.state.end_of_cut(id)
            );
            return Err(Refusal::Impossible(why));
        }
        match self.way_being_opened(id) {
            None => Ok(()),
            Some((device, executor)) => Err(Refusal::Impossible(format!(
                "{executor} is letting {name} in through {device}, and the devices of {name} cannot change meanwhile: try again in a \
                 moment; what ends that is the word of {executor}, its boot, or `convoke fence confirm {executor}`"
            ))),
        }
    }

    /// Through which device a node's way is being opened at this moment, and by whom.
    pub(super) fn way_being_opened(&self, id: NodeId) -> Option<(String, String)> {
        self.state.switched_off.iter().filter(|((_, node), _)| *node == id).find_map(|((device, _), debt)| {
            let opening = debt.opening.as_ref()?;
            Some((device.clone(), self.state.node_name(opening.executor)))
        })
    }

    /// A plug may have become another node's, or another device's: what may still be opened through it may be anybody's way now.
    pub(super) fn late_openings_may_be_elsewhere(&mut self) {
        let now = self.time;
        self.state.late_openings.retain(|_, until| *until > now);
        let Some(latest) = self.state.late_openings.values().copied().max() else { return };
        for (name, device) in self.state.devices.iter().filter(|(_, device)| device.isolates.is_some()) {
            for id in device.targets.keys() {
                self.state.late_openings.insert((name.clone(), *id), latest);
            }
        }
    }

    /// What is shut and will be opened by nobody is told.
    pub(super) fn left_shut(&mut self, id: NodeId, name: &str, why: &str) {
        let cuts =
            self.state.devices.get(name).is_some_and(|device| device.isolates == Some(Reconnect::AfterCut));
        if cuts {
            let kind = EventKind::NotSwitchedOn { device: name.into(), why: why.into(), again: false };
            self.record(Severity::Warning, Some(id), None, kind);
        }
    }

    /// An opening is committed before its agent runs: no device is relied on to cut what may be opened meanwhile (P123).
    pub(super) fn begin_opening(
        &mut self,
        id: NodeId,
        name: &str,
        executor: NodeId,
        executor_incarnation: &Incarnation,
    ) -> Result<(), Refusal> {
        let device = self.state.devices.get(name).filter(|device| device.targets.contains_key(&id));
        let device = device.ok_or_else(|| stale("no such device fences this node"))?;
        if device.isolates.is_none() {
            return Err(stale("the device switches power"));
        }
        if let Some(why) = self.state.stays_cut(id, device, executor, self.time) {
            return Err(Refusal::Unsafe(why));
        }
        self.state.may_touch_node(id)?;
        let life = self.node(executor)?.in_session();
        if life.is_none_or(|life| life.incarnation != *executor_incarnation) {
            return Err(Refusal::NotInSession(executor));
        }
        let (index, time) = (self.index, self.time);
        let debt = self.state.switched_off.get_mut(&(name.to_string(), id));
        let debt = debt.ok_or_else(|| stale("nothing is to be opened there"))?;
        if debt.opening.is_some() || debt.next_at > time {
            return Err(stale("no opening is due"));
        }
        debt.since = index;
        let executor_incarnation = executor_incarnation.clone();
        debt.opening = Some(Opening { executor, executor_incarnation, since: time });
        self.record(
            Severity::Info,
            Some(id),
            None,
            EventKind::OpeningBegan { device: name.into(), executor },
        );
        Ok(())
    }

    /// How an opening went, in its own executor's words. What did not end well may still strike (P123).
    pub(super) fn opened(&mut self, id: NodeId, name: &str, power: &Power) -> Result<(), Refusal> {
        let key = (name.to_string(), id);
        match power {
            Power::On => {
                self.opening_ended(&key, None);
                // What was seen while it was cut is over: it is looked at anew.
                if self.state.observations.get(&key).is_some_and(|seen| seen.power != Power::On) {
                    self.state.observations.remove(&key);
                }
                let kind = EventKind::WayOpened { device: name.into() };
                self.record(Severity::Info, Some(id), None, kind);
            }
            Power::Off => self.opening_failed(id, name, "it said on, and then its status said off", 0),
            Power::Unknown(error) | Power::Unable(error) => self.opening_failed(id, name, error, 0),
        }
        Ok(())
    }

    /// Nobody will say how it ended (F24).
    pub(super) fn abandon_opening(&mut self, id: NodeId, name: &str, since: u64) -> Result<(), Refusal> {
        let debt = self.state.switched_off.get(&(name.to_string(), id));
        let opening = debt.and_then(|debt| debt.opening.as_ref());
        let opening = opening.ok_or_else(|| stale("nothing is being opened there"))?;
        if debt.is_none_or(|debt| debt.since != since) {
            return Err(stale("a later opening is under way"));
        }
        let device = self.state.devices.get(name).ok_or_else(|| stale("no such device"))?;
        // Its executor may have been let run it at the very last moment, if it lives.
        let over = self.state.opener_is_over(opening);
        let late = if over { 0 } else { device.verified_ms(AgentAction::On) };
        let due = self.state.opening_ends(device, opening);
        if due.is_none_or(|at| at > self.time) {
            return Err(Refusal::Unsafe("its agent may still run".to_string()));
        }
        let executor = self.state.node_name(opening.executor);
        self.opening_failed(id, name, &format!("{executor} ran the agent and never said how it ended"), late);
        Ok(())
    }

    fn opening_failed(&mut self, id: NodeId, name: &str, why: &str, late: Millis) {
        let quarantine = self.state.settings.quarantine_ms.saturating_add(late);
        let (now, until) = (self.time, self.time.saturating_add(quarantine));
        let key = (name.to_string(), id);
        self.state.late_openings.retain(|_, until| *until > now);
        let late = self.state.late_openings.entry(key.clone()).or_default();
        *late = (*late).max(until);
        let Some(debt) = self.state.switched_off.get(&key) else { return };
        let failures = debt.failures.saturating_add(1);
        self.opening_ended(&key, Some(failures));
        if failures <= TOLD {
            let kind = EventKind::NotSwitchedOn { device: name.into(), why: why.into(), again: true };
            self.record(Severity::Warning, Some(id), None, kind);
        }
    }

    /// An opening is over, and is to be tried again after so many failures, or for another life.
    fn opening_ended(&mut self, key: &(String, NodeId), failures: Option<u32>) {
        let (now, since) = (self.time, self.index);
        let Some(debt) = self.state.switched_off.get_mut(key) else { return };
        match failures {
            // For another life nothing has failed yet.
            _ if debt.again => *debt = SwitchedOff::since(since),
            None => drop(self.state.switched_off.remove(key)),
            Some(failures) => {
                let wait =
                    OPEN_MS.get(debt.failures as usize).or(OPEN_MS.last()).copied().unwrap_or_default();
                debt.failures = failures;
                debt.opening = None;
                debt.next_at = now.saturating_add(wait);
            }
        }
    }

    /// Whether an attempt through a level proves anything, and nothing opens meanwhile what it cuts.
    pub(super) fn may_isolate(
        &self,
        node: NodeId,
        incarnation: &Incarnation,
        level: u32,
    ) -> Result<(), Refusal> {
        if !self.state.level_isolates(node, level) {
            return Ok(());
        }
        if !self.state.isolation_ends(node, incarnation) {
            return Err(stale("to cut it off would end nothing"));
        }
        match self.state.may_open(node, level, self.time) {
            None => Ok(()),
            Some(device) => {
                Err(Refusal::Unsafe(format!("{device} may be opening the node's way at this moment")))
            }
        }
    }
}
