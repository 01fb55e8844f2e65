//! What a changed definition would take from copies that run: they keep their place until they start again.
//!
//! systemd restarts nothing because a file changed, and neither does the cluster. A copy that the definition in force would
//! place elsewhere runs on where it is, is shown as `restart pending`, and moves when somebody says so. Clause P127 of
//! `docs/policy.md`.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::{NodeId, UnitName};
use crate::permit::Permit;
use crate::state::State;

/// Why a running copy would not stay where it is, by what has changed in a definition since it was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// `Nodes=` does not let it run there any more.
    pub nodes: bool,
    /// `SameNodeAs=` names these, which are not on its node.
    pub beside: BTreeSet<UnitName>,
    /// `OtherNodeThan=` names these, which are on its node.
    pub apart: BTreeSet<UnitName>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        !self.nodes && self.beside.is_empty() && self.apart.is_empty()
    }
}

impl State {
    /// Notes what the definition now in force, which was `before`, would take from the unit's copies.
    pub(crate) fn keep_places(&mut self, name: &UnitName, before: Option<&Definition>) {
        let (Some(unit), Some(before)) = (self.units.get(name), before) else { return };
        let Some(definition) = unit.definition() else { return };
        let kept: Vec<_> = unit
            .permits
            .iter()
            .map(|(token, permit)| (*token, self.pending(permit, before, definition)))
            .collect();
        let Some(unit) = self.units.get_mut(name) else { return };
        for (token, pending) in kept {
            if let Some(permit) = unit.permits.get_mut(&token) {
                permit.pending = Some(pending).filter(|pending| !pending.is_empty());
            }
        }
    }

    fn pending(&self, permit: &Permit, before: &Definition, definition: &Definition) -> Pending {
        let Some(node) = self.nodes.get(&permit.node) else { return Pending::default() };
        let earlier = permit.pending.clone().unwrap_or_default();
        let is_there =
            |other: &UnitName| self.units.get(other).is_some_and(|it| it.permit_on(permit.node).is_some());
        // A role follows the units that it is ranked with: what it is beside is no matter of place.
        let beside = definition.same_node_as.iter().filter(|other| {
            let asked = !before.same_node_as.contains(*other) && !is_there(other);
            (earlier.beside.contains(*other) || asked) && !definition.rank
        });
        let apart = definition.other_node_than.iter().filter(|other| {
            (earlier.apart.contains(*other) || !before.other_node_than.contains(*other)) && is_there(other)
        });
        Pending {
            nodes: (earlier.nodes || before.allows(node)) && !definition.allows(node),
            beside: beside.cloned().collect(),
            apart: apart.cloned().collect(),
        }
    }

    /// A unit is active on a node: what waited to be beside it there is, and follows it from now on.
    pub(crate) fn came_beside(&mut self, name: &UnitName, id: NodeId) {
        let Self { units, needed, .. } = self;
        for other in needed.get(name).into_iter().flatten() {
            let Some(unit) = units.get_mut(other) else { continue };
            for permit in unit.permits.values_mut().filter(|permit| permit.node == id) {
                permit.settle(|pending| {
                    pending.beside.remove(name);
                });
            }
        }
    }

    /// Attributes have changed: a place that is allowed again is no matter of the definition any more.
    pub(crate) fn review_places(&mut self) {
        let Self { units, nodes, .. } = self;
        for unit in units.values_mut() {
            let Some(definition) = unit.adopted.as_ref().map(|adopted| &adopted.definition) else { continue };
            for permit in unit.permits.values_mut() {
                let allowed = nodes.get(&permit.node).is_some_and(|node| definition.allows(node));
                permit.settle(|pending| pending.nodes &= !allowed);
            }
        }
    }

    /// Whether a copy keeps its place in spite of this reason to leave it.
    pub(crate) fn keeps_place(&self, name: &UnitName, permit: &Permit, reason: &StopReason) -> bool {
        let Some(pending) = &permit.pending else { return self.was_parted(name, permit, reason) };
        match reason {
            StopReason::NotAllowed => pending.nodes,
            StopReason::Apart(other) => pending.beside.contains(other),
            StopReason::SharesNode(other) => {
                pending.apart.contains(other) || self.was_parted(name, permit, reason)
            }
            _ => false,
        }
    }

    /// Whether the other of the two was given the definition that parts them: this one need not pay for it.
    fn was_parted(&self, name: &UnitName, permit: &Permit, reason: &StopReason) -> bool {
        let StopReason::SharesNode(other) = reason else { return false };
        let theirs = self.units.get(other).and_then(|unit| unit.permit_on(permit.node));
        let pending = theirs.and_then(|(_, theirs)| theirs.pending.as_ref());
        pending.is_some_and(|pending| pending.apart.contains(name))
    }
}

impl Permit {
    /// Changes what is pending, and forgets it once that is nothing.
    fn settle(&mut self, change: impl FnOnce(&mut Pending)) {
        if let Some(pending) = &mut self.pending {
            change(pending);
        }
        self.pending.take_if(|pending| pending.is_empty());
    }

    /// Whether it waits to be beside this unit, which it was not when that was asked of it.
    pub(crate) fn waits_beside(&self, name: &UnitName) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.beside.contains(name))
    }
}
