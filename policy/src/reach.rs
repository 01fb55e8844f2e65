//! Who can use which fence device.
//!
//! The agent of a device, a program that it calls, its secret and a way to the device are there on some nodes and not on
//! others. What each node found when it looked last is kept while it is in session: whoever lacks something leaves the device to
//! the others for a while, and looks again after that. Clauses P150 to P152 and P159 of `docs/policy.md`.

use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::fence::{Observation, Power};
use crate::name::{Millis, NodeId};
use crate::node::Node;
use crate::state::State;

/// How long a node is passed over, in milliseconds: as long as a good look counts. That it can meanwhile is found out by the
/// next look, which costs the device nothing if it still cannot.
const PASSED_OVER_MS: Millis = 600_000;

/// What a node found when it looked through a device last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// When that was.
    pub at: Millis,
    /// What it lacks to use the device; `None` if nothing is known to be lacking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
}

impl State {
    /// Who cannot use a device, and what each lacks.
    pub fn unable_of(&self, device: &str) -> impl Iterator<Item = (NodeId, &str)> {
        let those = self.reach.get(device).into_iter().flatten();
        those.filter_map(|(node, reach)| Some((*node, reach.lacks.as_deref()?)))
    }

    /// How many of those in session can use a device on a node, as far as is known.
    #[must_use]
    pub fn able(&self, device: &str, target: NodeId) -> usize {
        self.others_in_session(target).filter(|id| !self.is_unable(device, *id)).count()
    }

    /// One of those in session, and what it lacks, where all of them lack something to use a device on a node.
    #[must_use]
    pub fn nobody_reaches(&self, device: &str, target: NodeId) -> Option<(NodeId, &str)> {
        let lacks = |id| Some((id, self.reach(device, id)?.lacks.as_deref()?));
        let mut all = self.others_in_session(target).map(lacks);
        let first = all.next()??;
        all.all(|one| one.is_some()).then_some(first)
    }

    pub(crate) fn reach(&self, device: &str, node: NodeId) -> Option<&Reach> {
        self.reach.get(device)?.get(&node)
    }

    pub(crate) fn is_unable(&self, device: &str, node: NodeId) -> bool {
        self.reach(device, node).is_some_and(|reach| reach.lacks.is_some())
    }

    /// Whether a node is passed over where a device is to be looked through.
    pub(crate) fn is_passed_over(&self, device: &str, node: NodeId, now: Millis) -> bool {
        self.reach(device, node)
            .is_some_and(|reach| reach.lacks.is_some() && reach.at.saturating_add(PASSED_OVER_MS) > now)
    }

    /// What its look says a node lacks, and whether that is all it says: others are there who can look, or who just had an
    /// answer where it had none.
    pub(crate) fn found_lacking(
        &self,
        (device, target, by): (&str, NodeId, NodeId),
        power: &Power,
        last: Option<&Observation>,
    ) -> Option<(String, bool)> {
        match power {
            Power::On | Power::Off => None,
            Power::Unable(why) => {
                let mut others = self.others_in_session(target).filter(|id| *id != by);
                Some((why.clone(), others.any(|id| !self.is_passed_over(device, id, self.time))))
            }
            Power::Unknown(error) => {
                let good = last.filter(|seen| seen.misses == 0);
                let other = good.and_then(|seen| seen.answered).filter(|other| {
                    let is_there = self.nodes.get(other).and_then(Node::in_session).is_some();
                    *other != by && is_there && !self.is_passed_over(device, *other, self.time)
                })?;
                Some((format!("it had no answer, where {} had one: {error}", self.node_name(other)), true))
            }
        }
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
