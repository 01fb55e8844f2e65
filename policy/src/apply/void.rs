//! The end of permits. Nothing else in this crate removes one.

use alloc::vec::Vec;

use crate::event::{EventKind, Severity};
use crate::evidence::Evidence;
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::state::AlarmKind;

use super::Step;

impl Step<'_> {
    /// Removes one permit, if its own terms accept the evidence (F4).
    pub(super) fn void(&mut self, unit: &UnitName, token: Token, evidence: Evidence) -> Option<Permit> {
        let known = self.state.units.get(unit)?;
        let fencing = known.fencing_of(known.permits.get(&token)?);
        if !evidence.satisfies(fencing) {
            return None;
        }
        let permit = self.state.take_permit(unit, token)?;
        self.keep_place(unit, &permit);
        self.state.alarms.remove(&AlarmKind::StopStuck(unit.clone(), permit.node));
        self.member_ended(unit, &permit, token, evidence);
        self.succession_ended(unit, &permit, token, evidence);
        if evidence != Evidence::Released {
            let kind = EventKind::Voided { token, evidence };
            self.record(Severity::Info, Some(permit.node), Some(unit), kind);
        }
        Some(permit)
    }

    /// Voids what an ended incarnation held, each permit by its own terms, and hands them back.
    pub(super) fn void_all(
        &mut self,
        node: NodeId,
        incarnation: &Incarnation,
        evidence: Evidence,
    ) -> Vec<(UnitName, Token, Permit)> {
        let voided = self.void_held(node, incarnation, evidence);
        self.members_gone(node, incarnation);
        self.heirs_gone(node, incarnation);
        voided
    }

    /// The same for one that may still run: its copies have not ended.
    pub(super) fn void_held(
        &mut self,
        node: NodeId,
        incarnation: &Incarnation,
        evidence: Evidence,
    ) -> Vec<(UnitName, Token, Permit)> {
        // F4: what another life of the node holds is not touched.
        let held = self.state.held_on(node).filter(|(_, _, _, permit)| permit.incarnation == *incarnation);
        let held: Vec<(UnitName, Token)> = held.map(|(name, token, _, _)| (name.clone(), token)).collect();
        let void = |(unit, token): (UnitName, Token)| {
            let permit = self.void(&unit, token, evidence)?;
            Some((unit, token, permit))
        };
        held.into_iter().filter_map(void).collect()
    }
}
