//! Units by their place in the list of all, and the nodes that offer them: gathered once, each offer looked at once.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::definition::Definition;
use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::state::State;
use crate::unit::Unit;

/// A capacity that is too small everywhere, with the node that has most of it.
pub(super) type Short = (String, Option<(NodeId, u64)>);

pub(super) struct Places<'a> {
    pub(super) state: &'a State,
    /// In the order of names.
    units: Vec<(&'a UnitName, &'a Unit)>,
    /// Nodes that run units and offer it, by the unit's place, oldest first. What the offer says does not count: where the
    /// files differ or have errors, that is told already.
    offering: Vec<Vec<NodeId>>,
}

impl<'a> Places<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let units: Vec<(&UnitName, &Unit)> = state.units.iter().collect();
        let mut offering = vec![Vec::new(); units.len()];
        for (id, node) in state.nodes.iter().filter(|(_, node)| super::runs_units(node)) {
            // Both are in the order of names: side by side, nothing is searched for.
            let mut rest = units.iter().zip(&mut offering).peekable();
            for (name, _) in node.offers.iter().filter(|(_, offer)| offer.present) {
                while rest.next_if(|((unit, _), _)| *unit < name).is_some() {}
                if let Some((_, nodes)) = rest.next_if(|((unit, _), _)| *unit == name) {
                    nodes.push(*id);
                }
            }
        }
        Self { state, units, offering }
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// Every unit with its place.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &'a UnitName, &'a Unit)> {
        self.units.iter().enumerate().map(|(at, (name, unit))| (at, *name, *unit))
    }

    /// Those that have a definition in force.
    pub(super) fn defined(&self) -> impl Iterator<Item = (usize, &'a UnitName, &'a Definition)> {
        self.all().filter_map(|(at, name, unit)| Some((at, name, unit.definition()?)))
    }

    /// The place of a unit that the cluster knows.
    pub(super) fn at(&self, unit: &UnitName) -> Option<usize> {
        self.units.binary_search_by(|(name, _)| (*name).cmp(unit)).ok()
    }

    pub(super) fn name(&self, at: usize) -> Option<&'a UnitName> {
        self.units.get(at).map(|(name, _)| *name)
    }

    pub(super) fn definition(&self, at: usize) -> Option<&'a Definition> {
        self.units.get(at).and_then(|(_, unit)| unit.definition())
    }

    pub(super) fn offering(&self, at: usize) -> &[NodeId] {
        self.offering.get(at).map_or(&[], Vec::as_slice)
    }

    /// Those of the nodes that fit.
    pub(super) fn those(&self, nodes: &[NodeId], fits: impl Fn(&Node) -> bool) -> Vec<NodeId> {
        let fits = |id: &NodeId| self.state.nodes.get(id).is_some_and(&fits);
        nodes.iter().copied().filter(fits).collect()
    }

    /// Those of the nodes that have room for this much when they are empty.
    pub(super) fn roomy(&self, nodes: &[NodeId], uses: &BTreeMap<String, u64>) -> Vec<NodeId> {
        if uses.is_empty() {
            return nodes.to_vec();
        }
        self.those(nodes, |node| uses.iter().all(|(of, takes)| node.capacity(of).unwrap_or(0) >= *takes))
    }

    /// The first capacity of which none of the nodes has as much.
    pub(super) fn short(&self, nodes: &[NodeId], uses: &BTreeMap<String, u64>) -> Option<Short> {
        uses.iter().find_map(|(of, takes)| {
            let has = |id: &NodeId| Some((*id, self.state.nodes.get(id)?.capacity(of)?));
            // Of equals the oldest node.
            let most = nodes.iter().rev().filter_map(has).max_by_key(|(_, amount)| *amount);
            most.is_none_or(|(_, amount)| amount < *takes).then(|| (of.clone(), most))
        })
    }
}

/// What two sorted lists of nodes have in common.
pub(super) fn common(one: &[NodeId], other: &[NodeId]) -> Vec<NodeId> {
    one.iter().copied().filter(|id| other.binary_search(id).is_ok()).collect()
}
