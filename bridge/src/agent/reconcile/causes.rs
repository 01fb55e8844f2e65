//! Why a unit stops, or is down.

use std::time::Duration;

use policy::{Cause, Phase, UnitName};
use units::systemd::SystemState;
use units::systemd::stops::{self, StopBatch, StopCause};

use crate::agent::cause::{self, Meaning};
use crate::agent::core::{Agent, SETTLE};
use crate::agent::event::Now;
use crate::agent::permit::Starts;

impl Agent {
    /// A stop that is under way already, and not ours, is why the unit stops, whatever was ordered since (S6): PID 1
    /// merges ours into it.
    pub(super) fn first_cause(&mut self, name: &UnitName, ordered: Cause, now: &Now) -> Cause {
        let Some(unit) = self.units.get(name) else { return ordered };
        // Without a permit that was acted on, what stopped was an earlier run.
        let (Some(look), Some(_)) = (&unit.look, &unit.held) else { return ordered };
        let manager = if self.leaving { Some(SystemState::Stopping) } else { look.manager };
        let manager = manager.unwrap_or(SystemState::Other);
        let stop = stops::before_us(&look.reading, &self.jobs, manager, look.bonds.clone(), now.mono);
        match stop.map(|stop| cause::meaning(&stop, &look.reading, &self.node_name, true)) {
            Some(Meaning::Release(because @ (Cause::Operator(_) | Cause::Propagated(_)))) => because,
            Some(Meaning::Shutdown) => {
                self.leave();
                Cause::Shutdown
            }
            _ => ordered,
        }
    }

    /// Why a unit with a permit is down; `None` if it is on its way back, or that is not known yet.
    pub(super) fn went_down(&mut self, name: &UnitName, now: &Now) -> Option<Cause> {
        let node = self.node_name.clone();
        let permit = self.permit_of(name);
        let granted = permit.is_some_and(|permit| permit.phase == Phase::Granted);
        let adopted = permit.is_some_and(|permit| permit.adopted);
        let unit = self.units.get_mut(name)?;
        let Some(look) = unit.look.clone() else {
            self.look(name, Duration::ZERO);
            return None;
        };
        let never_ran = look.left.is_some() && look.reading.invocation_id.is_empty();
        if adopted && unit.held.is_none() && never_ran {
            // What was taken over is left of something else, and nobody has stopped anything.
            return Some(Cause::Unused);
        }
        let manager = look.manager.unwrap_or(SystemState::Other);
        let (reading, bonds) = (&look.reading, look.bonds.clone());
        let mut stop = match unit.cut_off {
            Some(at) => stops::cancelled(reading, &self.jobs, manager, bonds, at),
            None => stops::classify(&StopBatch::gather(reading, &self.jobs, manager, bonds, now.mono)),
        };
        let made = unit.held.as_ref().is_some_and(|held| held.starts == Starts::Made);
        if stop == StopCause::RestartHalf && made {
            // Its second half waits at the gate for another permit: each start is the cluster's (F16).
            return Some(Cause::Ordered);
        }
        if stop == StopCause::RestartHalf {
            // Somebody starts it again: how that ends is another question.
            unit.cut_off = None;
        }
        if stop == StopCause::CleanExit && !unit.settled {
            // A job may be told a moment later than the change that it made.
            unit.settled = true;
            self.look(name, SETTLE);
            return None;
        }
        let token = unit.held.as_ref().map(|held| held.token);
        if stop == StopCause::CleanExit && token.is_some() && unit.left_releasing == token {
            // The daemon before this one was stopping it. Had the cluster ordered that, there would be no question.
            return Some(Cause::LeaseEnded);
        }
        if stop == StopCause::CleanExit && self.went_unheard(name) {
            stop = cause::unheard(&look);
        }
        match cause::meaning(&stop, &look.reading, &node, look.reading.job.is_none()) {
            Meaning::Returns => None,
            Meaning::Shutdown => {
                self.leave();
                Some(Cause::Shutdown)
            }
            Meaning::Release(Cause::Failed(why)) if granted => Some(Cause::StartFailed(why)),
            Meaning::Release(because) => Some(because),
        }
    }

    /// Whether the unit ran under its permit and went down while nobody listened: the daemon was not there, or had lost
    /// its connection. Where a release had begun, the file was gone, and it was us.
    fn went_unheard(&self, name: &UnitName) -> bool {
        let Some(unit) = self.units.get(name).filter(|unit| unit.missed) else { return false };
        let held = unit.held.as_ref().map(|held| held.token);
        let active = self.permit_of(name).filter(|permit| permit.phase == Phase::Active);
        let active = active.map(|permit| permit.token);
        match held {
            Some(held) => unit.filed && (active == Some(held) || unit.started_told == Some(held)),
            None => active.is_some() && unit.left_filed.as_ref().map(|permit| permit.token) == active,
        }
    }
}
