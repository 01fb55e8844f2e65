//! Who can use which fence device.
//!
//! The agent of a device, a program that it calls, its secret and a way to the device are there on some nodes and not on
//! others. What each node found when it looked last is kept while it is in session: whoever lacks something leaves the device to
//! the others for a while, and looks again after that. Clauses P150 to P152 and P159 of `docs/policy.md`.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::name::{Millis, NodeId};
use crate::state::State;

/// How long a node is passed over, in milliseconds: as long as a good look counts. That it can meanwhile is found out by the
/// next look, which costs the device nothing if it still cannot.
const PASSED_OVER_MS: Millis = 600_000;

/// What a node found when it looked through a device last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// When that was.
    pub at: Millis,
    /// What it found.
    pub access: Access,
}

/// Whether a node can use a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// It had an answer.
    Answered,
    /// It had none, and that is the device's own fault as far as is known.
    Unsaid,
    /// It cannot run the agent: why.
    NoAgent(String),
    /// It had no answer where another node had one: why.
    NoWay(String),
}

impl Access {
    /// What the node lacks.
    #[must_use]
    pub fn lacks(&self) -> Option<&str> {
        match self {
            Self::Answered | Self::Unsaid => None,
            Self::NoAgent(why) | Self::NoWay(why) => Some(why),
        }
    }

    /// Without the text.
    pub(crate) fn clear(&mut self) {
        if let Self::NoAgent(why) | Self::NoWay(why) = self {
            why.clear();
        }
    }
}

impl State {
    /// Who cannot use a device, and what each lacks.
    pub fn unable_of(&self, device: &str) -> impl Iterator<Item = (NodeId, &str)> {
        let those = self.reach.get(device).into_iter().flatten();
        those.filter_map(|(node, reach)| Some((*node, reach.access.lacks()?)))
    }

    /// One of those in session, and what it lacks, where all of them lack something to use a device on a node.
    #[must_use]
    pub fn nobody_reaches(&self, device: &str, target: NodeId) -> Option<(NodeId, &str)> {
        let lacks = |id| Some((id, self.reach(device, id)?.access.lacks()?));
        let mut all = self.others_in_session(target).map(lacks);
        let first = all.next()??;
        all.all(|one| one.is_some()).then_some(first)
    }

    pub(crate) fn reach(&self, device: &str, node: NodeId) -> Option<&Reach> {
        self.reach.get(device)?.get(&node)
    }

    pub(crate) fn is_unable(&self, device: &str, node: NodeId) -> bool {
        self.reach(device, node).is_some_and(|reach| reach.access.lacks().is_some())
    }

    /// Whether a node had an answer when it looked last.
    pub(crate) fn had_answer(&self, device: &str, node: NodeId) -> bool {
        self.reach(device, node).is_some_and(|reach| reach.access == Access::Answered)
    }

    /// Whether a node is passed over where a device is to be looked through.
    pub(crate) fn is_passed_over(&self, device: &str, node: NodeId, now: Millis) -> bool {
        self.reach(device, node).is_some_and(|reach| {
            reach.access.lacks().is_some() && reach.at.saturating_add(PASSED_OVER_MS) > now
        })
    }

    /// Whether anybody in session but these two is not.
    pub(crate) fn anybody_else_looks(&self, device: &str, [target, by]: [NodeId; 2]) -> bool {
        let mut others = self.others_in_session(target).filter(|id| *id != by);
        others.any(|id| !self.is_passed_over(device, id, self.time))
    }

    /// Somebody in session who had an answer where a node has none: whoever had the last one before all others.
    pub(crate) fn answered_elsewhere(
        &self,
        device: &str,
        target: NodeId,
        by: NodeId,
        last: Option<NodeId>,
    ) -> Option<NodeId> {
        let able = |id: &NodeId| *id != by && self.had_answer(device, *id);
        self.others_in_session(target).filter(able).min_by_key(|id| last != Some(*id))
    }

    /// Forgets what a node found: it may have changed when it is heard again.
    pub(crate) fn forget_reach(&mut self, node: NodeId) {
        self.reach.values_mut().for_each(|nodes| drop(nodes.remove(&node)));
    }

    fn others_in_session(&self, target: NodeId) -> impl Iterator<Item = NodeId> {
        let others =
            self.nodes.iter().filter(move |(id, node)| **id != target && node.in_session().is_some());
        others.map(|(id, _)| *id)
    }
}
