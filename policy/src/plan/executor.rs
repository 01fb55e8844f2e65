//! Who runs an agent.
//!
//! Decides which of the nodes in session takes an attempt, an errand or a look. Any of them may: whether one may is asked in
//! `apply`, and the choice is about who can most likely reach the device. Clauses P150 to P152 and P159 of `docs/policy.md`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::command::{Device, Reconnect};
use crate::fence::{Observation, Power};
use crate::name::{CaseId, Incarnation, NodeId};
use crate::node::Node;

use super::{Observe, Planner};

/// How many nodes are to have looked through a device soon after they came.
const ENOUGH: usize = 8;

impl Planner<'_> {
    /// Who runs an attempt: by turns from 1, first those of whom it is known that they reach the level's devices. Each case
    /// begins with another of equals, so that a hundred nodes lost at once are not left to one.
    pub(super) fn executor_of(
        &self,
        (case, target): (CaseId, NodeId),
        level: u32,
        turn: u32,
    ) -> Option<(NodeId, Incarnation)> {
        let devices: Vec<_> = self.state.level(target, level).collect();
        let before = self.state.levels(target).into_iter().filter(|other| *other < level).count();
        // Of equals each level begins with another: counted by attempts alone, two levels and two nodes would never change partners.
        let first = case.0.saturating_add(u64::try_from(before).unwrap_or(0));
        self.executor(target, &devices, first, turn)
    }

    /// Who opens a way or switches a node on, in the same way.
    pub(super) fn errand_of(
        &self,
        target: NodeId,
        device: (&str, &Device),
        failures: u32,
    ) -> Option<(NodeId, Incarnation)> {
        self.executor(target, &[device], target.0, failures.saturating_add(1))
    }

    fn executor(
        &self,
        target: NodeId,
        devices: &[(&str, &Device)],
        first: u64,
        turn: u32,
    ) -> Option<(NodeId, Incarnation)> {
        let mut able: Vec<(NodeId, &Incarnation)> = self
            .others(target)
            .filter_map(|(id, node)| Some((id, &node.in_session()?.incarnation)))
            .collect();
        let first = first.checked_rem(u64::try_from(able.len()).ok()?)?;
        able.rotate_left(usize::try_from(first).ok()?);
        able.sort_by_cached_key(|(id, _)| self.obstacles(*id, target, devices));
        let turn = (turn.saturating_sub(1) as usize).checked_rem(able.len())?;
        able.get(turn).map(|(id, incarnation)| (*id, (*incarnation).clone()))
    }

    /// What speaks against a node, the worst first: devices that it cannot use, whose disks it cannot take from another
    /// because it is not registered there itself, and that answered somebody else last.
    fn obstacles(&self, id: NodeId, target: NodeId, devices: &[(&str, &Device)]) -> (usize, usize, usize) {
        let count = |stands: &dyn Fn(&str, &Device) -> bool| {
            devices.iter().filter(|(name, device)| stands(name, device)).count()
        };
        let unable = count(&|name, _| self.state.is_unable(name, id));
        let strange = count(&|name, device| {
            device.isolates == Some(Reconnect::ByNode) && !self.is_registered(id, name)
        });
        let unasked = count(&|name, _| {
            let seen = self.state.observations.get(&(name.into(), target));
            seen.and_then(|seen| seen.answered) != Some(id)
        });
        (unable, strange, unasked)
    }

    /// Whether a node is seen registered with a device where each node registers itself.
    fn is_registered(&self, id: NodeId, device: &str) -> bool {
        let Some(life) = self.state.nodes.get(&id).and_then(Node::in_session) else { return false };
        let seen = self.state.seen(device, id, &life.incarnation);
        !self.state.switched_off.contains_key(&(device.into(), id))
            && seen.is_some_and(|seen| seen.trusted && seen.power == Power::On)
    }

    /// Who looks at a node through a device: by turns, in the order of ids, so that each is known to reach it or not before it is
    /// needed. Where one had no answer, another that had one. Who lacks something is passed over for a while. What each node
    /// registers with is seen by those that have it.
    pub(super) fn looker(
        &self,
        (name, device): (&str, &Device),
        target: NodeId,
        seen: Option<&Observation>,
    ) -> Option<NodeId> {
        let last = seen.and_then(|seen| seen.by).unwrap_or(target);
        let doubted = seen.filter(|seen| seen.doubted.is_some());
        let order = |id: &NodeId| {
            (
                self.state.is_passed_over(name, *id, self.now),
                device.isolates == Some(Reconnect::ByNode) && !device.targets.contains_key(id),
                doubted.is_some_and(|seen| seen.answered != Some(*id)),
                doubted.is_some() && !self.state.had_answer(name, *id),
                *id <= last,
                *id,
            )
        };
        self.others(target)
            .filter(|(_, node)| node.in_session().is_some())
            .map(|(id, _)| id)
            .min_by_key(order)
    }

    /// Has the nodes that follow a device's first target look through it once while they are in session, one after the other,
    /// at a node that another has seen there: the one that is never asked may be the only one left.
    pub(super) fn first_looks(&mut self) {
        let busy: BTreeSet<String> = self.plan.observe.iter().map(|look| look.device.clone()).collect();
        for (name, device) in &self.state.devices {
            let by_node = device.isolates == Some(Reconnect::ByNode);
            let all = if by_node { device.targets.len() } else { self.state.nodes.len() };
            let known = self.state.reach.get(name).map_or(0, BTreeMap::len);
            if known >= ENOUGH.min(all.saturating_sub(1)) || busy.contains(name) || self.state.is_busy(device)
            {
                continue;
            }
            self.plan.observe.extend(self.first_look((name, device), by_node));
        }
    }

    fn first_look(&self, (name, device): (&String, &Device), by_node: bool) -> Option<Observe> {
        let first = *device.targets.keys().next()?;
        let following = self.state.nodes.range((Bound::Excluded(first), Bound::Unbounded));
        let mut following = following.chain(self.state.nodes.range(..=first)).take(ENOUGH);
        let (executor, _) = following.find(|(id, node)| {
            node.in_session().is_some()
                && self.state.reach(name, **id).is_none()
                && (!by_node || device.targets.contains_key(id))
                && device.targets.keys().any(|target| target != *id)
        })?;
        let mut shown = device.targets.keys().filter(|target| *target != executor).filter_map(|target| {
            let life = self.state.nodes.get(target).and_then(Node::in_session)?;
            let seen = self.state.seen(name, *target, &life.incarnation)?;
            let owed = self.state.switched_off.contains_key(&(name.clone(), *target));
            let counts = seen.power == Power::On && seen.doubted.is_none() && !owed;
            counts.then(|| (*target, life.incarnation.clone()))
        });
        let (node, incarnation) = shown.next()?;
        Some(Observe { device: name.clone(), node, incarnation, executor: *executor })
    }

    fn others(&self, target: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        self.state.nodes.iter().filter(move |(id, _)| **id != target).map(|(id, node)| (*id, node))
    }
}
