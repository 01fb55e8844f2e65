//! Fence cases to open, attempt, abandon or cancel, and devices to look through or to switch nodes on by.

use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{Decision, Device, Reconnect};
use crate::definition::Fencing;
use crate::fence::{FenceCase, Observation, Phase, Power, SwitchedOff};
use crate::name::{CaseId, Millis, NodeId, UnitName};
use crate::node::Node;
use crate::permit::Permit;

use super::{Observe, Planner, SwitchOn};

/// How long a good look at a device counts, in milliseconds: a mapping that was changed shows within ten minutes.
const FRESH_MS: Millis = 600_000;
/// How soon a device that did not show ON is asked again. One that could not say for long is asked after twice the pause each
/// time, up to [`FRESH_MS`]: with a wrong password each look is a failed login, and many lock the account that a fence needs.
const DOUBT_MS: Millis = 15_000;
/// Looks in a row that fail before the pause grows: a controller that boots with its machine is back by then.
const PATIENCE: u32 = 8;

impl Planner<'_> {
    pub(super) fn fencing(&mut self) {
        let wanted: Vec<_> = self.wanted_off.iter().map(|(node, unit)| (*node, unit.clone())).collect();
        for (node, because) in wanted {
            let Some(life) = self.state.nodes.get(&node).and_then(|node| node.life.as_ref()) else {
                continue;
            };
            if self.state.open_case(node).is_none() {
                let incarnation = life.incarnation.clone();
                self.plan.decisions.push(Decision::OpenCase { node, incarnation, because });
            }
        }
        let mut cases: Vec<(CaseId, &FenceCase)> = self
            .state
            .cases
            .iter()
            .filter(|(_, case)| case.is_open())
            .map(|(id, case)| (*id, case))
            .collect();
        // Who shares a device with one that fails for ever comes to its turn too.
        cases.sort_by_key(|(id, case)| (case.attempts, *id));
        for (id, case) in cases {
            self.case(id, case);
        }
    }

    fn case(&mut self, id: CaseId, case: &FenceCase) {
        let Some(target) = self.state.nodes.get(&case.node) else { return };
        let wanted = self.wanted_off.contains_key(&case.node);
        // A unit that changes in this very plan is not asked what it waits for.
        let given_up = !wanted && self.changing.is_empty();
        match &case.phase {
            Phase::Running { .. } => match self.state.attempt_ends(case) {
                Some(at) if at <= self.now => {
                    self.plan.decisions.push(Decision::AbandonAttempt { case: id, attempt: case.attempts });
                }
                Some(at) => self.wake(at),
                None => {}
            },
            Phase::Wanted | Phase::Failed { .. } if case.drill().is_some() => self.drill(id, case),
            Phase::Wanted if !wanted => self.plan.decisions.push(Decision::CancelCase { case: id }),
            Phase::Failed { .. } if given_up || target.in_session().is_some() => {
                if target.quarantined_until <= self.now {
                    self.plan.decisions.push(Decision::CancelCase { case: id });
                } else {
                    self.wake(target.quarantined_until);
                }
            }
            Phase::Wanted | Phase::Failed { .. } if wanted => self.attempt(id, case),
            _ => {}
        }
    }

    /// A drill goes on only while nobody is hurt by it.
    fn drill(&mut self, id: CaseId, case: &FenceCase) {
        let level = case.drill().map_or(0, |drill| drill.level);
        match self.state.drill_hurts(case.node, level, Some(id), self.now) {
            Some(_) => self.plan.decisions.push(Decision::CancelCase { case: id }),
            None => self.attempt(id, case),
        }
    }

    /// Whether what a lost node holds is about to end: by time, or by a fence that can begin and has not failed yet.
    pub(super) fn is_proven_soon(&self, unit: &UnitName, permit: Option<&Permit>, id: NodeId) -> bool {
        if permit.is_some_and(|permit| self.state.expires_at(unit, permit).is_some()) {
            return true;
        }
        let Some(life) = self.state.nodes.get(&id).and_then(|node| node.life.as_ref()) else { return false };
        if self.state.copy_maintenance(unit, id).is_some() {
            return false;
        }
        // What only cuts the node off ends no permit that asks for more.
        let cut = permit.zip(self.state.units.get(unit)).is_some_and(|(permit, unit)| {
            self.state.takes_isolation(unit, permit) && self.state.isolation(id).is_none()
        });
        let ends = |level: &u32| {
            !self.state.level_isolates(id, *level)
                || (cut && self.state.may_open(id, *level, self.now).is_none())
        };
        let from = |first: u32| {
            let mut levels = self.state.levels(id).into_iter().filter(|level| *level >= first && ends(level));
            levels.any(|level| self.state.level_counts(id, level, &life.incarnation))
        };
        match self.state.open_case(id) {
            Some((_, case)) if case.rounds > 0 => false,
            Some((_, case @ FenceCase { phase: Phase::Running { .. }, .. })) => {
                ends(&case.level) || from(case.level)
            }
            Some((_, case)) if case.retries_left > 0 => ends(&case.level) || from(case.level),
            Some((_, case)) if case.attempts > 0 => from(case.level.saturating_add(1)),
            _ => from(0),
        }
    }

    /// Whether a fence is wanted for a lost node's permit: where no time ends it, and where that of its watchdog does but a
    /// device may well be quicker (F17: the first evidence that arrives counts).
    pub(super) fn wants_fence(&self, unit: &UnitName, permit: &Permit) -> bool {
        let by_watchdog = permit.terms.fencing == Fencing::Watchdog;
        // What is over by now ends in this very plan.
        let Some(ends) = self.state.expires_at(unit, permit) else { return true };
        ends > self.now
            && by_watchdog
            && self.state.devices_of(permit.node).any(|(_, device)| device.isolates.is_none())
    }

    fn attempt(&mut self, id: CaseId, case: &FenceCase) {
        if let Some(until) = self.state.fencing_held_until().filter(|until| *until > self.now) {
            self.wake(until);
            return;
        }
        // One that may still be opened can be cut later.
        let late = self.state.late_openings.iter().filter(|((_, node), _)| *node == case.node);
        let settled = late.map(|(_, until)| *until).filter(|at| *at > self.now).min();
        settled.into_iter().for_each(|at| self.wake(at));
        let Some(level) = self.state.next_level(case, self.now) else { return };
        let Some(due) = self.state.attempt_due(case, level) else { return };
        if due > self.now {
            self.wake(due);
            return;
        }
        // The end of the other attempt is an entry, and the next plan comes with it.
        let mut devices = self.state.level(case.node, level).map(|(name, _)| name);
        if self.state.level_is_busy(case.node, level) || devices.any(|device| self.is_used(device)) {
            return;
        }
        let attempt = case.attempts.saturating_add(1);
        let turn = self.turn(case, level);
        let Some((executor, executor_incarnation)) = self.executor_of((id, case.node), level, turn) else {
            return;
        };
        let decision = Decision::BeginAttempt { case: id, attempt, level, executor, executor_incarnation };
        self.plan.decisions.push(decision);
    }

    /// Whether an attempt that this plan begins already takes the device. The next plan sees how many more it takes.
    fn is_used(&self, device: &str) -> bool {
        self.plan.decisions.iter().any(|decision| {
            let Decision::BeginAttempt { case, level, .. } = decision else { return false };
            let case = self.state.cases.get(case);
            case.is_some_and(|case| self.state.level(case.node, *level).any(|(name, _)| name == device))
        })
    }

    /// Which of the nodes runs the attempt, the most likely first: the next one for each retry, and for the same level in the
    /// next round the next one after those.
    fn turn(&self, case: &FenceCase, level: u32) -> u32 {
        let again = case.level == level && case.retries_left > 0;
        let retries = self.state.retries(case.node, level);
        let rounds = case.rounds.saturating_add(u32::from(!again && level <= case.level));
        let before = rounds.saturating_mul(retries.saturating_add(1));
        let tried = if again { retries.saturating_sub(case.retries_left).saturating_add(1) } else { 0 };
        before.saturating_add(tried).saturating_add(1)
    }

    /// Looks through each device at each living node: at once in a new life, again when in doubt, and regularly.
    pub(super) fn observations(&mut self) {
        let patience = self.patience();
        for (name, device) in &self.state.devices {
            // A fence comes first; its end is an entry, and the next plan looks.
            if self.state.is_busy(device) {
                continue;
            }
            for target in device.targets.keys() {
                let Some(life) = self.state.nodes.get(target).and_then(Node::in_session) else { continue };
                // It is about to be let in: that it is not yet says nothing. One that fails, or that nobody tells of, is looked at.
                let debt = self.state.switched_off.get(&(name.clone(), *target));
                let soon = debt.is_some_and(|debt| {
                    let silent = |id: &NodeId| self.state.nodes.get(id).and_then(Node::in_session).is_none();
                    debt.failures == 0
                        && debt.opening.as_ref().is_none_or(|opening| !silent(&opening.executor))
                });
                if device.isolates.is_some() && soon {
                    continue;
                }
                let seen = self.state.seen(name, *target, &life.incarnation);
                // A doubt is settled at once.
                let stands = seen.filter(|seen| seen.doubted.is_none());
                let due = stands.map_or(self.now, |seen| seen.at.saturating_add(lasts_ms(seen, patience)));
                if due > self.now {
                    self.wake(due);
                    continue;
                }
                let Some(executor) = self.looker((name, device), *target, seen) else { continue };
                let (node, incarnation) = (*target, life.incarnation.clone());
                self.plan.observe.push(Observe { device: name.clone(), node, incarnation, executor });
            }
        }
    }

    /// Opens what an isolating device has cut, and has new lives registered.
    fn open_way(&mut self, node: NodeId, (name, device): (&String, &Device), debt: &SwitchedOff) {
        if let Some(opening) = &debt.opening {
            match self.state.opening_ends(device, opening) {
                Some(at) if at <= self.now => {
                    let (device, since) = (name.clone(), debt.since);
                    self.plan.decisions.push(Decision::AbandonOpening { node, device, since });
                    return;
                }
                Some(at) => self.wake(at),
                None => {}
            }
            // Nobody else's life, and nothing that was found out since, is what it was decided for.
            let executor = self.state.nodes.get(&opening.executor).and_then(Node::in_session);
            if executor.is_none_or(|life| life.incarnation != opening.executor_incarnation)
                || self.state.life_stays_cut(node).is_some()
            {
                return;
            }
            self.plan.switch_on.push(SwitchOn {
                device: name.clone(),
                node,
                executor: opening.executor,
                since: debt.since,
                failures: debt.failures,
            });
            return;
        }
        let quiet = self.state.nodes.get(&node).map_or(0, |node| node.quarantined_until);
        let due = debt.next_at.max(quiet);
        if due > self.now {
            self.wake(due);
            return;
        }
        // Somebody may have the hands in the machine.
        if self.state.is_busy(device)
            || self.is_used(name)
            || self.state.node_maintenance(node).is_some()
            || self.wanted_off.contains_key(&node)
        {
            return;
        }
        let by = match device.isolates {
            Some(Reconnect::ByNode) => {
                let life = self.state.nodes.get(&node).and_then(Node::in_session);
                life.map(|life| (node, life.incarnation.clone()))
            }
            _ => self.errand_of(node, (name, device), debt.failures),
        };
        let Some((executor, executor_incarnation)) = by else { return };
        if self.state.stays_cut(node, device, executor, self.now).is_none() {
            let device = name.clone();
            self.plan.decisions.push(Decision::BeginOpening { node, device, executor, executor_incarnation });
        }
    }

    /// Gives nodes their power back, once no case is open and no late command can take it again.
    pub(super) fn switch_on(&mut self) {
        for ((device, node), off) in &self.state.switched_off {
            let Some(target) = self.state.nodes.get(node) else { continue };
            let Some(found) = self.state.devices.get(device) else { continue };
            if found.isolates.is_some() {
                self.open_way(*node, (device, found), off);
                continue;
            }
            // The end of either is an entry.
            let busy = self.state.is_busy(found) || self.is_used(device);
            // Somebody may have the hands in the machine.
            let alone = self.state.node_maintenance(*node).is_some();
            if busy || alone || self.state.open_case(*node).is_some() {
                continue;
            }
            let due = off.next_at.max(target.quarantined_until);
            if due > self.now {
                self.wake(due);
                continue;
            }
            let Some((executor, _)) = self.errand_of(*node, (device, found), off.failures) else { continue };
            let (device, node, since, failures) = (device.clone(), *node, off.since, off.failures);
            self.plan.switch_on.push(SwitchOn { device, node, executor, since, failures });
        }
    }

    /// How many looks in a row may fail before the pause grows: each is another node's, and all have their turn first.
    fn patience(&self) -> u32 {
        let others = self.state.nodes.values().filter(|node| node.in_session().is_some()).count();
        PATIENCE.max(u32::try_from(others).unwrap_or(u32::MAX))
    }
}

/// How long a look counts, or what is waited after it; in milliseconds.
fn lasts_ms(seen: &Observation, patience: u32) -> Millis {
    match seen.power {
        Power::On => FRESH_MS,
        Power::Off => DOUBT_MS,
        Power::Unknown(_) | Power::Unable(_) => {
            let doubled = |before: u32| {
                let times = before.saturating_sub(patience);
                DOUBT_MS.saturating_mul(2_u64.saturating_pow(times)).min(FRESH_MS)
            };
            seen.misses.checked_sub(1).map_or(0, doubled)
        }
    }
}
