//! Which nodes name a unit, kept from plan to plan.
//!
//! Where to look and nothing more: what a node says of a unit is read of the node. So one that named a unit once may stay
//! here, but none that does may be missing; whatever may make a node name a unit is told by [`Touched`].

use alloc::vec;
use alloc::vec::Vec;

use crate::name::{NodeId, UnitName};
use crate::state::State;

use super::index::Index;
use super::sequence::Sequence;
use super::touched::Touched;

/// For each unit, by its place in the list of names, nodes that offer it, ever did, or found it active without a permit; in
/// their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Vec<Vec<NodeId>>);

impl Places {
    /// By an index of every unit.
    pub(super) fn of(sequence: &Sequence, index: &Index<'_>) -> Self {
        let mut places = vec![Vec::new(); sequence.len()];
        let mut named = index.named().peekable();
        // Both are in the order of names; the index has forgotten units as well.
        for (name, place) in sequence.names().iter().zip(&mut places) {
            while named.next_if(|(other, _)| *other < name).is_some() {}
            if let Some((_, nodes)) = named.next_if(|(other, _)| *other == name) {
                *place = nodes;
            }
        }
        Self(places)
    }

    /// Takes over what was told since.
    pub(super) fn note(&mut self, sequence: &Sequence, state: &State, touched: &Touched) {
        for (name, id) in &touched.lines {
            self.add(sequence, name, *id);
        }
        for (id, node) in touched.nodes.iter().filter_map(|id| state.nodes.get_key_value(id)) {
            node.named().for_each(|name| self.add(sequence, name, *id));
        }
    }

    fn add(&mut self, sequence: &Sequence, name: &UnitName, id: NodeId) {
        let Some(nodes) = sequence.place(name).and_then(|place| self.0.get_mut(place)) else { return };
        if let Err(at) = nodes.binary_search(&id) {
            nodes.insert(at, id);
        }
    }

    /// Nodes that may name a unit.
    pub(super) fn of_unit(&self, sequence: &Sequence, name: &UnitName) -> &[NodeId] {
        let nodes = sequence.place(name).and_then(|place| self.0.get(place));
        nodes.map(Vec::as_slice).unwrap_or_default()
    }
}
