//! What nodes have left unsaid: of which of them a unit has to be asked before it counts as gone everywhere.
//!
//! Of nearly every node it is known that it runs nothing without a permit and keeps no place, so that whatever unit holds no
//! permit there is gone there (section 0). The others are listed here, so that a grant does not look at each node. Follows from
//! the nodes and from nothing else, and says only whom to ask: the answer is read of the node.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::name::NodeId;
use crate::node::Node;
use crate::state::State;

/// Nodes that have to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsaid {
    /// Those that may run units without a permit, or keep their places.
    open: BTreeSet<NodeId>,
    /// All nodes, by how far they were asked about new units.
    by_survey: BTreeSet<(u64, NodeId)>,
    /// How far each of them was.
    surveyed: BTreeMap<NodeId, u64>,
}

impl Unsaid {
    /// Nodes on which any unit may be running without a permit, or may have ended in their maintenance.
    pub(crate) fn open(&self) -> impl Iterator<Item = NodeId> {
        self.open.iter().copied()
    }

    /// Nodes that were not asked about units that are known `since` then.
    pub(crate) fn unasked(&self, since: u64) -> impl Iterator<Item = NodeId> {
        self.by_survey.range(..(since, NodeId(0))).map(|(_, id)| *id)
    }

    /// Takes over what a node says now; `None` of one that is in the cluster no more.
    fn note(&mut self, id: NodeId, node: Option<&Node>) {
        if node.is_some_and(is_open) {
            self.open.insert(id);
        } else {
            self.open.remove(&id);
        }
        let after = node.map(|node| node.surveyed);
        let before = match after {
            Some(after) => self.surveyed.insert(id, after),
            None => self.surveyed.remove(&id),
        };
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.by_survey.remove(&(before, id));
        }
        if let Some(after) = after {
            self.by_survey.insert((after, id));
        }
    }
}

impl State {
    /// Keeps up with what nodes say that may have changed.
    pub(crate) fn note_unsaid(&mut self, changed: &[NodeId]) {
        let Self { nodes, unsaid, .. } = self;
        changed.iter().for_each(|id| unsaid.note(*id, nodes.get(id)));
    }

    /// Finds again what nodes have left unsaid, which no snapshot holds. Entries keep up with it by themselves: this is for
    /// whoever reads a state, or changes its nodes otherwise.
    pub fn find_unsaid(&mut self) {
        let mut unsaid = Unsaid::default();
        self.nodes.iter().for_each(|(id, node)| unsaid.note(*id, Some(node)));
        self.unsaid = unsaid;
    }
}

/// Whether a unit that holds no permit on the node may be running there or have a place kept there, by what was said of any
/// unit: as [`crate::query::said_to_run`] has it, and [`Node::kept`].
fn is_open(node: &Node) -> bool {
    let silent = node.life.as_ref().is_none_or(|life| {
        let unknown = !life.inventory || !life.strays.is_empty();
        life.gone.is_none() && unknown
    });
    silent || !node.kept.is_empty()
}
