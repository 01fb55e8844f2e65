//! Tells the cluster when a copy that it takes for active is not up, or is again.

use policy::{Fact, Phase, Rest, UnitName};

use super::super::core::Agent;
use super::super::decide::Run;
use super::super::event::Now;

/// At most this often it is said of one unit, in milliseconds: one that fails again and again is not to fill the log.
const PAUSE_MS: u64 = 1_000;

impl Agent {
    /// Says whether a copy is up, where systemd itself restarts or stops it: what needs it waits (S4).
    pub(super) fn tell_rest(&mut self, name: &UnitName, now: &Now) {
        let active = self.permit_of(name).filter(|permit| permit.phase == Phase::Active);
        let active =
            active.filter(|permit| permit.incarnation == self.incarnation).map(|permit| permit.token);
        let Some(token) = active.filter(|_| self.inventory_told) else { return };
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.held.as_ref().is_none_or(|held| held.token != token) {
            return;
        }
        let rest = match unit.run {
            Run::Up => None,
            Run::Restarting | Run::Starting => Some(Rest::Restarts),
            Run::Stopping => Some(Rest::Stops),
            Run::Unknown | Run::Frozen | Run::Down | Run::Left(_) => return,
        };
        let told = unit.rest_told.filter(|(of, _, _)| *of == token);
        let news = rest != told.and_then(|(_, rest, _)| rest);
        unit.rest_due = news && told.is_some_and(|(_, _, at_ms)| now.boot_ms < at_ms + PAUSE_MS);
        if !news || unit.rest_due {
            return;
        }
        unit.rest_told = Some((token, rest, now.boot_ms));
        let (node, incarnation, unit) = (self.node, self.incarnation.clone(), name.clone());
        self.outbox.push(Fact::RestReported { node, incarnation, unit, token, rest });
    }
}
