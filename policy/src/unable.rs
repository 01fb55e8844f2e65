//! Who cannot run the agent of a device.
//!
//! An agent or a program that it calls is installed on some nodes and not on others. Whoever said so is passed over for a
//! while, and asked again after that. Clause P152 of `docs/policy.md`.

use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::name::{Millis, NodeId};
use crate::state::State;

/// How long a node is passed over, in milliseconds: as long as a good look counts. That it can meanwhile is found out by the
/// next look, which costs the device nothing if it still cannot.
const PASSED_OVER_MS: Millis = 600_000;

/// That a node could not run an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unable {
    /// Why, in its own words.
    pub why: String,
    /// When it said so last.
    pub at: Millis,
}

impl State {
    /// Who said last that it could not run the agent of a device.
    pub fn unable_of(&self, device: &str) -> impl Iterator<Item = (NodeId, &Unable)> {
        let those = self.unable.iter().filter(move |((of, _), _)| of == device);
        those.map(|((_, node), unable)| (*node, unable))
    }

    pub(crate) fn unable(&self, device: &str, node: NodeId) -> Option<&Unable> {
        if self.unable.is_empty() {
            return None;
        }
        self.unable.get(&(device.to_string(), node))
    }

    /// Whether a node is passed over where a device is to be looked through.
    pub(crate) fn is_passed_over(&self, device: &str, node: NodeId, now: Millis) -> bool {
        self.unable(device, node).is_some_and(|unable| unable.at.saturating_add(PASSED_OVER_MS) > now)
    }

    /// Whether anybody in session but the target is not.
    pub(crate) fn anybody_looks(&self, device: &str, target: NodeId, now: Millis) -> bool {
        self.nodes.iter().any(|(id, node)| {
            *id != target && node.in_session().is_some() && !self.is_passed_over(device, *id, now)
        })
    }
}
