//! Who runs an agent.
//!
//! Decides which of the nodes in session takes an attempt, an errand or a look. Any of them may: whether one may is asked in
//! `apply`, and the choice is about who can most likely reach the device. Clauses P150 to P152 of `docs/policy.md`.

use alloc::vec::Vec;

use crate::command::{Device, Reconnect};
use crate::fence::{Observation, Power};
use crate::name::{CaseId, Incarnation, NodeId};
use crate::node::Node;

use super::Planner;

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

    /// What speaks against a node, the worst first: devices whose agent it cannot run, whose disks it cannot take from another
    /// because it is not registered there itself, and that answered somebody else last.
    fn obstacles(&self, id: NodeId, target: NodeId, devices: &[(&str, &Device)]) -> (usize, usize, usize) {
        let count = |stands: &dyn Fn(&str, &Device) -> bool| {
            devices.iter().filter(|(name, device)| stands(name, device)).count()
        };
        let unable = count(&|name, _| self.state.unable(name, id).is_some());
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

    /// Who looks at a node through a device: whoever had an answer last; after a look that failed, and at first, the next in
    /// the order of ids, so that not all looks are one node's. Who could not run the agent is passed over, and asked anew as
    /// soon as that is over. What each node registers with is seen by those that have it.
    pub(super) fn looker(
        &self,
        (name, device): (&str, &Device),
        target: NodeId,
        seen: Option<&Observation>,
    ) -> Option<NodeId> {
        let answered = seen.filter(|seen| matches!(seen.power, Power::On | Power::Off));
        let answered = answered.and_then(|seen| seen.answered);
        let last = seen.and_then(|seen| seen.by).unwrap_or(target);
        let order = |id: &NodeId| {
            (
                self.state.is_passed_over(name, *id, self.now),
                device.isolates == Some(Reconnect::ByNode) && !device.targets.contains_key(id),
                self.state.unable(name, *id).is_none(),
                answered != Some(*id),
                *id <= last,
                *id,
            )
        };
        self.others(target)
            .filter(|(_, node)| node.in_session().is_some())
            .map(|(id, _)| id)
            .min_by_key(order)
    }

    fn others(&self, target: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        self.state.nodes.iter().filter(move |(id, _)| **id != target).map(|(id, node)| (*id, node))
    }
}
