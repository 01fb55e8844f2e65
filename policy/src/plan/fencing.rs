//! Fence cases to open, attempt, abandon or cancel, and devices to look through or to switch nodes on by.

use alloc::vec::Vec;

use crate::command::Decision;
use crate::fence::{FenceCase, Phase, Power};
use crate::name::{CaseId, Incarnation, Millis, NodeId, UnitName};
use crate::node::Node;
use crate::permit::Permit;

use super::{Observe, Planner, SwitchOn};

/// How long a good look at a device counts, in milliseconds: a mapping that was changed shows within ten minutes.
const FRESH_MS: Millis = 600_000;
/// How soon a device that did not show ON is asked again.
const DOUBT_MS: Millis = 15_000;

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
        let cases: Vec<(CaseId, &FenceCase)> = self
            .state
            .cases
            .iter()
            .filter(|(_, case)| case.is_open())
            .map(|(id, case)| (*id, case))
            .collect();
        for (id, case) in cases {
            self.case(id, case);
        }
    }

    fn case(&mut self, id: CaseId, case: &FenceCase) {
        let Some(target) = self.state.nodes.get(&case.node) else { return };
        let wanted = self.wanted_off.contains_key(&case.node);
        match &case.phase {
            Phase::Running { .. } => match self.state.attempt_ends(case) {
                Some(at) if at <= self.now => {
                    self.plan.decisions.push(Decision::AbandonAttempt { case: id, attempt: case.attempts });
                }
                Some(at) => self.wake(at),
                None => {}
            },
            Phase::Wanted if !wanted => self.plan.decisions.push(Decision::CancelCase { case: id }),
            Phase::Failed { .. } if target.in_session().is_some() => {
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

    /// Whether what a lost node holds is about to end: by time, or by a fence that can begin and has not failed yet.
    pub(super) fn is_proven_soon(&self, unit: &UnitName, permit: Option<&Permit>, id: NodeId) -> bool {
        if permit.is_some_and(|permit| self.expires_at(unit, permit).is_some()) {
            return true;
        }
        let Some(life) = self.state.nodes.get(&id).and_then(|node| node.life.as_ref()) else { return false };
        match self.state.open_case(id) {
            Some((_, case)) if case.rounds > 0 => false,
            Some((_, FenceCase { phase: Phase::Running { .. }, .. })) => true,
            Some((_, case)) if case.attempts > 0 => {
                self.next_level(case).is_some_and(|level| level > case.level)
            }
            _ => self.state.first_level(id, &life.incarnation).is_some(),
        }
    }

    /// Through which level the next attempt goes: the last one as long as it is retried, then the one behind it, and
    /// after the last the first again. Levels that cannot count are passed over.
    fn next_level(&self, case: &FenceCase) -> Option<u32> {
        let counts = |level: &u32| self.state.level_counts(case.node, *level, &case.incarnation);
        if case.retries_left > 0 && counts(&case.level) {
            return Some(case.level);
        }
        let behind =
            self.state.levels(case.node).into_iter().filter(|level| *level > case.level).find(counts);
        behind.or_else(|| self.state.first_level(case.node, &case.incarnation))
    }

    fn attempt(&mut self, id: CaseId, case: &FenceCase) {
        if let Some(until) = self.state.fencing_held_until().filter(|until| *until > self.now) {
            self.wake(until);
            return;
        }
        let Some(level) = self.next_level(case) else { return };
        let Some(due) = self.state.attempt_due(case, level) else { return };
        if due > self.now {
            self.wake(due);
            return;
        }
        // The end of the other attempt is an entry, and the next plan comes with it.
        if self.state.level_is_busy(case.node, level) || self.is_used(case.node, level) {
            return;
        }
        let attempt = case.attempts.saturating_add(1);
        let Some((executor, executor_incarnation)) = self.executor(case.node, attempt) else { return };
        let decision = Decision::BeginAttempt { case: id, attempt, level, executor, executor_incarnation };
        self.plan.decisions.push(decision);
    }

    /// Whether an attempt that this plan begins already takes a device of the level. The next plan sees how many more
    /// the device takes.
    fn is_used(&self, node: NodeId, level: u32) -> bool {
        self.plan.decisions.iter().any(|decision| {
            let Decision::BeginAttempt { case, level: other, .. } = decision else { return false };
            self.state.cases.get(case).is_some_and(|case| {
                let mut devices = self.state.level(case.node, *other).map(|(name, _)| name);
                devices.any(|name| self.state.level(node, level).any(|(own, _)| own == name))
            })
        })
    }

    /// Who runs the agent: any node in session but the target, another one at each attempt.
    fn executor(&self, target: NodeId, attempt: u32) -> Option<(NodeId, Incarnation)> {
        let able: Vec<(NodeId, &Incarnation)> = self
            .state
            .nodes
            .iter()
            .filter(|(id, _)| **id != target)
            .filter_map(|(id, node)| Some((*id, &node.in_session()?.incarnation)))
            .collect();
        let turn = (attempt.saturating_sub(1) as usize).checked_rem(able.len())?;
        able.get(turn).map(|(id, incarnation)| (*id, (*incarnation).clone()))
    }

    /// Looks through each device at each living node: at once in a new life, again when in doubt, and regularly.
    pub(super) fn observations(&mut self) {
        for (name, device) in &self.state.devices {
            // A fence comes first; its end is an entry, and the next plan looks.
            if self.state.is_busy(name, device) {
                continue;
            }
            for target in device.targets.keys() {
                let Some(life) = self.state.nodes.get(target).and_then(Node::in_session) else { continue };
                let seen = self.state.observations.get(&(name.clone(), *target));
                let seen = seen.filter(|seen| seen.incarnation == life.incarnation);
                let due = match seen {
                    None => self.now,
                    Some(seen) if seen.power == Power::On => seen.at.saturating_add(FRESH_MS),
                    Some(seen) => seen.at.saturating_add(DOUBT_MS),
                };
                if due > self.now {
                    self.wake(due);
                    continue;
                }
                let turn = seen.map_or(0, |seen| seen.misses).saturating_add(1);
                let Some((executor, _)) = self.executor(*target, turn) else { continue };
                let (node, incarnation) = (*target, life.incarnation.clone());
                self.plan.observe.push(Observe { device: name.clone(), node, incarnation, executor });
            }
        }
    }

    /// Gives nodes their power back, once no case is open and no late command can take it again.
    pub(super) fn switch_on(&mut self) {
        for ((device, node), off) in &self.state.switched_off {
            let Some(target) = self.state.nodes.get(node) else { continue };
            if self.state.open_case(*node).is_some() {
                continue;
            }
            let due = off.next_at.max(target.quarantined_until);
            if due > self.now {
                self.wake(due);
                continue;
            }
            let Some((executor, _)) = self.executor(*node, off.failures.saturating_add(1)) else { continue };
            self.plan.switch_on.push(SwitchOn {
                device: device.clone(),
                node: *node,
                executor,
                failures: off.failures,
            });
        }
    }
}
