//! What is drained: a node by itself, or all of them with the whole cluster.
//!
//! Says whether a node takes units as far as operators are concerned, and what ends it if not. What follows, `apply` refuses
//! and `plan` heeds. Clauses P28 and P98 of `docs/policy.md`.

use alloc::format;
use alloc::string::String;

use crate::name::NodeId;
use crate::state::State;

impl State {
    /// Who drained a node, or the whole cluster with it.
    #[must_use]
    pub fn drained_by(&self, id: NodeId) -> Option<&str> {
        let own = self.nodes.get(&id).and_then(|node| node.drained.as_deref());
        own.or(self.drained.as_deref())
    }

    /// That a node is drained, as a sentence fragment. The cluster's word comes first: while it holds, that of the node
    /// matters to nobody.
    #[must_use]
    pub fn drained_text(&self, id: NodeId) -> Option<String> {
        if self.drained.is_some() {
            return Some("the whole cluster is drained".into());
        }
        let node = self.nodes.get(&id).filter(|node| node.drained.is_some())?;
        Some(format!("{} is drained", node.name))
    }

    /// What ends it.
    #[must_use]
    pub fn undrain(&self, id: NodeId) -> Option<String> {
        if self.drained.is_some() {
            return Some("convoke undrain --cluster".into());
        }
        let node = self.nodes.get(&id).filter(|node| node.drained.is_some())?;
        Some(format!("convoke undrain {}", node.name))
    }
}
