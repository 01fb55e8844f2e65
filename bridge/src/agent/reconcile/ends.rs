//! Takes in how operations on a unit ended.

use policy::{Cause, Fact, Phase, UnitName};
use units::systemd::JobResult;
use units::systemd::journal::{Kind, Priority};

use super::{MEND_PAUSE_MS, Release};
use crate::agent::core::{Agent, SETTLE};
use crate::agent::decide::Run;
use crate::agent::event::{Action, End, Failure, Look, Now, OpId};
use crate::agent::unit::OpKind;
use crate::agent::{cause, offer};

impl Agent {
    /// An operation ended.
    pub(in crate::agent) fn done(&mut self, op: OpId, name: &UnitName, end: End, now: &Now) {
        let Some(unit) = self.units.get_mut(name) else { return };
        // The report of an operation that was replaced.
        if unit.op.is_none_or(|under_way| under_way.id != op) {
            return;
        }
        let kind = unit.op.take().map(|op| op.kind);
        self.touch(name);
        match end {
            End::Looked(look) => self.looked(name, *look, now),
            End::Started { job, look } => self.started(name, &job, *look, now),
            End::Gone(look) => self.gone(name, *look),
            End::Froze(Ok(look)) | End::Thawed(Ok(look)) => {
                if let Some(unit) = self.units.get_mut(name) {
                    unit.saw(*look);
                }
            }
            End::Froze(Err(why)) => {
                tracing::warn!(unit = %name, why, "cannot be frozen; it is stopped");
                let held = self.units.get(name).and_then(|unit| unit.held.as_ref());
                if let Some(budget_ms) = held.map(|held| held.terms.stop_budget_ms) {
                    self.must_be_down_in(budget_ms, now.boot_ms);
                }
                if let Some(unit) = self.units.get_mut(name) {
                    unit.due = Some(Cause::LeaseEnded);
                }
            }
            End::Thawed(Err(why)) => self.failed(name, kind, &Failure::Other(why)),
            End::Failed(failure) => self.failed(name, kind, &failure),
        }
    }

    fn looked(&mut self, name: &UnitName, look: Look, now: &Now) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.missed |= !unit.watched;
        unit.watched = true;
        let sub_state = look.reading.sub_state.clone();
        unit.saw(look);
        self.note_dispatch(name, &sub_state);
        let Some(unit) = self.units.get_mut(name) else { return };
        let open = unit
            .reading
            .as_ref()
            .is_some_and(|reading| offer::gate_faults(reading).iter().any(units::gate::GateFault::opens));
        if !open {
            return;
        }
        let lately = unit.mended_ms.is_some_and(|at| now.boot_ms.saturating_sub(at) < MEND_PAUSE_MS);
        if !lately {
            unit.mended_ms = Some(now.boot_ms);
            let message = "this cluster unit could be started without the cluster: its gate is not in force. \
                           A gate of last resort is being written; look at the unit's drop-ins and at \
                           convoke-generator in the kernel's log";
            self.tell(name, Kind::GateMissing, Priority::Alert, message.to_owned());
            self.actions.push(Action::Mend { unit: name.clone() });
            self.want_reload();
        }
    }

    fn started(&mut self, name: &UnitName, job: &str, look: Look, now: &Now) {
        self.note_dispatch(name, &look.reading.sub_state);
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.saw(look);
        unit.stale = true;
        let (down, token) = (unit.run.is_down(), unit.held.as_ref().map(|held| held.token));
        let (Some(token), Some(look)) = (token, unit.look.clone()) else { return };
        // Not by us: that ends in another word. Who did it is told by jobs that may be heard a moment later.
        if job == JobResult::Canceled.to_string() && !look.reading.active_state.is_up() {
            unit.cut_off = Some(now.mono);
            self.look(name, SETTLE);
            return;
        }
        if !down {
            let granted = self.permit_of(name).is_some_and(|permit| permit.phase == Phase::Granted);
            if granted && look.reading.active_state.is_up() {
                self.report_started(name, token);
            }
            return;
        }
        // It may have run, and been stopped by a shutdown before we looked. Of nothing else is that plain: a start that failed
        // at once leaves a job that nobody could ask what it was.
        let because = match self.first_cause(name, Cause::Unused, now) {
            Cause::Shutdown => Cause::Shutdown,
            _ => Cause::StartFailed(cause::start_failure(job, &look)),
        };
        let terms = self.terms(name);
        self.begin_release(name, Release::of(Some(token), terms, because, true));
    }

    /// Verified gone: the third and fourth step of a release.
    fn gone(&mut self, name: &UnitName, look: Look) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.saw(look);
        unit.run = Run::Down;
        unit.stale = true;
        unit.stuck = None;
        (unit.held, unit.left_filed) = (None, None);
        let Some(release) = unit.release.take() else { return };
        let item = unit.item(name);
        unit.told = Some(item.clone());
        self.actions.push(Action::Forget { unit: name.clone() });
        if let Some(token) = release.token {
            self.floors.raise(name, token, release.because.clone());
        }
        match release.token {
            Some(token) if release.tell => {
                let (node, incarnation) = (self.node, self.incarnation.clone());
                let because = release.because;
                self.outbox.push(Fact::Released { node, incarnation, unit: name.clone(), token, because });
                if let Some(unit) = self.units.get_mut(name) {
                    unit.released_told = Some(token);
                }
            }
            _ => self.observe(item),
        }
        self.resume_gates(name);
        // Whoever waited for this one's stop.
        self.touch_all();
    }

    fn failed(&mut self, name: &UnitName, kind: Option<OpKind>, failure: &Failure) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.stale = true;
        let why = match failure {
            Failure::Connection(error) => {
                tracing::info!(unit = %name, error, "lost the connection to PID 1 in the middle of an operation");
                unit.run = Run::Unknown;
                self.untouch(name);
                return;
            }
            Failure::NoLease | Failure::Leaving | Failure::Other(_) => failure.text(),
        };
        match kind {
            Some(OpKind::Start) => {
                let token = unit.held.as_ref().map(|held| held.token);
                if matches!(failure, Failure::Leaving) {
                    self.leave();
                }
                let because = match failure {
                    Failure::NoLease => Cause::Unused,
                    Failure::Leaving => Cause::Shutdown,
                    Failure::Connection(_) | Failure::Other(_) => Cause::StartFailed(why),
                };
                let terms = self.terms(name);
                self.begin_release(name, Release::of(token, terms, because, true));
            }
            Some(OpKind::Look) => {
                // What cannot be read counts as running; the next tick looks again.
                tracing::warn!(unit = %name, why, "cannot be looked at");
                if unit.run == Run::Unknown {
                    unit.run = Run::Left(format!("it cannot be read: {why}"));
                }
                self.untouch(name);
            }
            _ => {
                tracing::warn!(unit = %name, why, "an operation failed and will be repeated");
                self.untouch(name);
            }
        }
    }

    pub(in crate::agent) fn stuck(&mut self, op: OpId, name: &UnitName, what: String) {
        let (node, incarnation) = (self.node, self.incarnation.clone());
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.op.is_none_or(|under_way| under_way.id != op) || unit.stuck.as_ref() == Some(&what) {
            return;
        }
        unit.stuck = Some(what.clone());
        let token = unit.release.as_ref().and_then(|release| release.token);
        self.tell(name, Kind::StopFailed, Priority::Error, format!("it does not stop: {what}"));
        if let Some(token) = token {
            self.outbox.push(Fact::StopStuck { node, incarnation, unit: name.clone(), token, what });
        }
    }

    /// An operator's stop is known to this daemon alone until the cluster has answered (F10).
    pub(in crate::agent) fn not_spooled(&mut self, name: &UnitName, why: &str) {
        tracing::error!(unit = %name, why, "an operator's stop could not be written to disk");
        // With a session the release says the same in a moment.
        if self.is_in_session() {
            return;
        }
        let message = format!(
            "stopped by hand, but that could not be written to disk ({why}): a reboot of this node before it is in \
             session again forgets it. Make room under /var/lib/convoke, or repeat the stop on a node with a quorum \
             (convoke stop {name})"
        );
        self.tell(name, Kind::StopWish, Priority::Error, message);
    }
}
