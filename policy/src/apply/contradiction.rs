//! A life that speaks after its proof (F18): what the proof ended is possibly running again.

use alloc::format;
use alloc::vec::Vec;

use crate::event::{EventKind, Severity, StopReason};
use crate::evidence::Class;
use crate::fence::Phase;
use crate::name::{CaseId, Incarnation, NodeId, Token, UnitName};
use crate::node::Presence;
use crate::permit::{Permit, Phase as PermitPhase};
use crate::refusal::Refusal;
use crate::state::{Alarm, AlarmKind};

use super::drill::Lied;
use super::{Step, stale};

impl Step<'_> {
    /// A sign of life after the proof (F18). What the proof voided is possibly running again.
    pub(super) fn proof_contradicted(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        term: u64,
    ) -> Result<(), Refusal> {
        self.same_term(term)?;
        let (time, wall_ms, lease) = (self.time, self.wall_ms, self.state.settings.lease_ms());
        let life = self.life_mut(id, incarnation)?;
        let Some(gone) = life.gone.take() else {
            // It goes on speaking: no word is taken for it meanwhile (F36).
            let before =
                life.contradicted.as_mut().ok_or_else(|| stale("the incarnation is not proven gone"))?;
            if before.saturating_add(lease) > time {
                return Err(stale("known already"));
            }
            *before = time;
            return Ok(());
        };
        life.inventory = false;
        life.contradicted = Some(time);
        // Once it was proven gone its way might be opened again: it is not cut off any more either.
        life.isolated = None;
        // It gets no session any more, even if its old one was never lost: it is to be fenced again.
        if !matches!(life.presence, Presence::Lost { .. }) {
            // What it was answered until the proof may have given it one lease more.
            life.presence = Presence::Lost { since: time.max(gone.at.saturating_add(lease)) };
        }
        self.node_mut(id)?.lately.ended = None;
        let (case, lied, voided) = self.take_back(id, incarnation, gone.class);
        for (unit, token, mut permit) in voided {
            permit.contradicted = true;
            self.withdraw_unused(&unit, id);
            self.state.put_permit(&unit, token, permit);
        }
        self.heirs_contradicted(id, incarnation);
        for unit in self.members_contradicted(id, incarnation) {
            self.withdraw_unused(&unit, id);
        }
        let detail = format!("it spoke after it was proven gone ({:?})", gone.class);
        self.state.alarms.insert(AlarmKind::ProofContradicted(id), Alarm { wall_ms, detail });
        self.record(Severity::Alert, Some(id), None, EventKind::ProofContradicted { case });
        // Devices that lied do not count again; a person's word says nothing of them.
        if lied > 0
            && let Some(case) = case
        {
            let why = "it said off, and the node spoke again";
            match self.case(case).is_ok_and(|case| case.drill().is_some()) {
                true => self.drill_failed(case, why, Lied::Yes),
                false => self.fence_lied(case, id, lied, why),
            }
        }
        Ok(())
    }

    /// The cases of a life that spoke after all, with what they had ended: the one that proved it gone, the level that lied
    /// there, and all permits. What an isolation ended is among them (P122).
    fn take_back(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        class: Class,
    ) -> (Option<CaseId>, u32, Vec<(UnitName, Token, Permit)>) {
        let (mut found, mut lied, mut voided) = (None, 0, Vec::new());
        for (number, case) in &mut self.state.cases {
            let Phase::Proven { class: proven, .. } = case.phase else { continue };
            if case.node != id || case.incarnation != *incarnation {
                continue;
            }
            if proven != Class::Isolated {
                found = Some(*number);
                lied = if class == Class::Off { case.level } else { 0 };
            }
            case.phase = Phase::Contradicted { at: self.time };
            voided.append(&mut case.voided);
        }
        (found, lied, voided)
    }

    /// Grants that rest on a contradicted proof and are not active yet are taken back.
    fn withdraw_unused(&mut self, unit: &UnitName, contradicted: NodeId) {
        let Some(known) = self.state.units.get_mut(unit) else { return };
        let mut withdrawn: Vec<(Token, NodeId)> = Vec::new();
        for (token, permit) in known.permits.iter_mut() {
            if permit.node != contradicted && permit.phase == PermitPhase::Granted {
                permit.phase = PermitPhase::Revoking(StopReason::ProofContradicted);
                withdrawn.push((*token, permit.node));
            }
        }
        for (token, node) in withdrawn {
            self.state.start_ends(token);
            let kind = EventKind::Revoked { token, reason: StopReason::ProofContradicted };
            self.record(Severity::Alert, Some(node), Some(unit), kind);
        }
    }
}
