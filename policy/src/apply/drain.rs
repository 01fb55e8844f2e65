//! The drain of a node, and of the whole cluster in one entry.

use alloc::string::String;

use crate::event::{EventKind, Severity};
use crate::maintenance::Scope;
use crate::name::NodeId;
use crate::refusal::Refusal;

use super::Step;

impl Step<'_> {
    /// Of one node, or of all that there are and will be. That of the cluster leaves a node's own as it is: who drained it
    /// for a broken disk finds it drained when the site is on again.
    pub(super) fn set_drained(
        &mut self,
        node: Option<NodeId>,
        drained: bool,
        by: &str,
    ) -> Result<(), Refusal> {
        if self.drained_mut(node)?.is_some() == drained {
            return Ok(());
        }
        if drained {
            self.may_be_drained(node)?;
        }
        *self.drained_mut(node)? = drained.then(|| by.into());
        self.record(Severity::Info, node, None, EventKind::NodeDrained { drained, by: by.into() });
        Ok(())
    }

    /// Not while people have their hands on it, or on any of them: nothing would follow there.
    fn may_be_drained(&self, node: Option<NodeId>) -> Result<(), Refusal> {
        if let Some(id) = node {
            return self.state.may_be_asked(self.state.node_maintenance(id));
        }
        self.state.may_be_asked(self.state.maintenance.is_some().then_some(Scope::Cluster))?;
        let all = self.state.nodes.keys();
        all.copied().try_for_each(|id| self.state.may_be_asked(self.state.node_maintenance(id)))
    }

    fn drained_mut(&mut self, node: Option<NodeId>) -> Result<&mut Option<String>, Refusal> {
        Ok(match node {
            Some(id) => &mut self.node_mut(id)?.drained,
            None => &mut self.state.drained,
        })
    }
}
