//! What a changed definition would take from copies that run: they keep their place until they start again.
//!
//! systemd restarts nothing because a file changed, and neither does the cluster. A copy that the definition in force would
//! place elsewhere runs on where it is, is shown as `restart pending`, and moves when somebody says so.

use alloc::collections::BTreeSet;
use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::UnitName;
use crate::permit::Permit;
use crate::state::State;
use crate::unit::Unit;

/// Why a running copy would not stay where it is, by what has changed in a definition since it was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// `Nodes=` does not let it run there any more.
    pub nodes: bool,
    /// `Uses=` asks for more of these than its node has, with all that runs there.
    pub uses: BTreeSet<String>,
    /// `SameNodeAs=` names these, which are not on its node.
    pub beside: BTreeSet<UnitName>,
    /// `OtherNodeThan=` names these, which are on its node.
    pub apart: BTreeSet<UnitName>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        !self.nodes && self.uses.is_empty() && self.beside.is_empty() && self.apart.is_empty()
    }
}

impl State {
    /// Notes what the definition now in force, which was `before`, would take from the unit's copies.
    pub(crate) fn keep_places(&mut self, name: &UnitName, before: Option<&Definition>) {
        let (Some(unit), Some(before)) = (self.units.get(name), before) else { return };
        let Some(definition) = unit.definition() else { return };
        let kept = unit.permits.iter().map(|(token, permit)| {
            let pending = self.pending(name, permit, before, definition);
            (*token, Some(pending).filter(|pending| !pending.is_empty()))
        });
        let kept: alloc::vec::Vec<_> = kept.collect();
        let Some(unit) = self.units.get_mut(name) else { return };
        for (token, pending) in kept {
            if let Some(permit) = unit.permits.get_mut(&token) {
                permit.pending = pending;
            }
        }
    }

    fn pending(
        &self,
        name: &UnitName,
        permit: &Permit,
        before: &Definition,
        definition: &Definition,
    ) -> Pending {
        let Some(node) = self.nodes.get(&permit.node) else { return Pending::default() };
        let earlier = permit.pending.clone().unwrap_or_default();
        let is_there =
            |other: &UnitName| self.units.get(other).is_some_and(|it| it.permit_on(permit.node).is_some());
        let asks_more = |of: &String, amount: u64| {
            let over = |capacity| self.taken(permit.node, node, of, name).saturating_add(amount) > capacity;
            (earlier.uses.contains(of) || before.uses.get(of).is_none_or(|used| amount > *used))
                && node.capacity(of).is_some_and(over)
        };
        let uses = definition.uses.iter().filter(|(of, amount)| asks_more(of, **amount));
        // A role follows the units that it is ranked with: what it is beside is no matter of place.
        let beside = definition.same_node_as.iter().filter(|other| {
            let named = earlier.beside.contains(*other) || !before.same_node_as.contains(*other);
            named && !definition.rank && !is_there(other)
        });
        let apart = definition.other_node_than.iter().filter(|other| {
            (earlier.apart.contains(*other) || !before.other_node_than.contains(*other)) && is_there(other)
        });
        Pending {
            nodes: (earlier.nodes || before.allows(node)) && !definition.allows(node),
            uses: uses.map(|(of, _)| of.clone()).collect(),
            beside: beside.cloned().collect(),
            apart: apart.cloned().collect(),
        }
    }

    /// Whether a copy keeps its place in spite of this reason to leave it.
    pub(crate) fn keeps_place(&self, name: &UnitName, permit: &Permit, reason: &StopReason) -> bool {
        let pends = |of: fn(&Pending) -> &BTreeSet<UnitName>, permit: &Permit, other: &UnitName| {
            permit.pending.as_ref().is_some_and(|pending| of(pending).contains(other))
        };
        match reason {
            StopReason::NotAllowed => permit.pending.as_ref().is_some_and(|pending| pending.nodes),
            StopReason::Apart(other) => pends(|pending| &pending.beside, permit, other),
            // Whoever of the two was given the new definition, the other need not pay for it.
            StopReason::SharesNode(other) => {
                let theirs = self.units.get(other).and_then(|unit| unit.permit_on(permit.node));
                pends(|pending| &pending.apart, permit, other)
                    || theirs.is_some_and(|(_, theirs)| pends(|pending| &pending.apart, theirs, name))
            }
            StopReason::NoRoom(of) => {
                let asks = |unit: &Unit| {
                    let held = unit.permit_on(permit.node).and_then(|(_, held)| held.pending.as_ref());
                    held.is_some_and(|pending| pending.uses.contains(of))
                };
                self.units.values().any(asks)
            }
            _ => false,
        }
    }
}
