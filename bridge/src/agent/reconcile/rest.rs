//! Tells the cluster when a copy that it takes for active is not up, or is again.

use policy::{Fact, PermitView, Phase, Rest, UnitName};

use super::super::core::Agent;
use super::super::decide::Run;
use super::super::event::Now;

/// At most this often it is said of a copy that it is not up, in milliseconds: one that fails again and again is not to fill
/// the log. That it is up again is said at once, for others wait for it.
const PAUSE_MS: u64 = 1_000;

impl Agent {
    /// Says whether a copy is up, where systemd itself restarts or stops it: what needs it waits (S4).
    pub(super) fn tell_rest(&mut self, name: &UnitName, now: &Now) {
        let counts = |permit: &&PermitView| {
            self.inventory_told && permit.phase == Phase::Active && permit.incarnation == self.incarnation
        };
        let active = self.permit_of(name).filter(counts).map(|permit| permit.token);
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.rest_due = false;
        let held = unit.held.as_ref().map(|held| held.token);
        let Some(token) = active.filter(|token| held == Some(*token)) else { return };
        let rest = unit.run.rest();
        // That it is down is told by the end of its permit, or by nothing: it may be between two of its own starts (F1).
        if rest == Some(Rest::Down) || (rest.is_none() && unit.run != Run::Up) {
            return;
        }
        let told = unit.rest_told.filter(|(of, _, _)| *of == token);
        let news = rest != told.and_then(|(_, rest, _)| rest);
        let lately = told.is_some_and(|(_, _, at_ms)| now.boot_ms < at_ms + PAUSE_MS);
        unit.rest_due = news && rest.is_some() && lately;
        if !news || unit.rest_due {
            return;
        }
        unit.rest_told = Some((token, rest, now.boot_ms));
        let (node, incarnation, unit) = (self.node, self.incarnation.clone(), name.clone());
        self.outbox.push(Fact::RestReported { node, incarnation, unit, token, rest });
    }
}
