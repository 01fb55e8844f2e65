//! The end of permits. Nothing else in this crate removes one.

use crate::event::{EventKind, Severity};
use crate::evidence::Evidence;
use crate::name::{NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::state::AlarmKind;

use super::Step;

impl Step<'_> {
    /// Removes one permit, if its own terms accept the evidence (F4).
    pub(super) fn void(&mut self, unit: &UnitName, token: Token, evidence: Evidence) -> Option<Permit> {
        let known = self.state.units.get_mut(unit)?;
        if !evidence.satisfies(known.permits.get(&token)?.terms.fencing) {
            return None;
        }
        let permit = known.permits.remove(&token)?;
        self.state.alarms.remove(&AlarmKind::StopStuck(unit.clone(), permit.node));
        if evidence != Evidence::Released {
            let kind = EventKind::Voided { token, evidence };
            self.record(Severity::Info, Some(permit.node), Some(unit), kind);
        }
        Some(permit)
    }

    /// Voids what a node's ended incarnation held, each permit by its own terms. A fence case keeps what it voided.
    pub(super) fn void_all(&mut self, node: NodeId, evidence: Evidence) {
        let held: alloc::vec::Vec<(UnitName, Token)> = self
            .state
            .units
            .iter()
            .flat_map(|(name, unit)| {
                let on_node = unit.permits.iter().filter(|(_, permit)| permit.node == node);
                on_node.map(|(token, _)| (name.clone(), *token))
            })
            .collect();
        for (unit, token) in held {
            let voided = self.void(&unit, token, evidence);
            let case = match evidence {
                Evidence::Fenced(case) => self.state.cases.get_mut(&case),
                _ => None,
            };
            if let (Some(permit), Some(case)) = (voided, case) {
                case.voided.push((unit, token, permit));
            }
        }
    }
}
