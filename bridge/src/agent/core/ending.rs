//! What the rest of the daemon asks: a picture of this node, and an end in good order (F30).

use policy::{Cause, Fencing};
use units::systemd::SystemState;

use super::{Agent, Ending, FAREWELL_MS};
use crate::agent::command::{AgentCommand, Shutdown, Snapshot, UnitSnapshot};
use crate::agent::event::{Action, Now};
use crate::agent::offer;
use crate::agent::permit::Permit;

impl Agent {
    pub(super) fn command(&mut self, command: AgentCommand, now: &Now) {
        match command {
            AgentCommand::Snapshot { reply } => {
                let snapshot = Box::new(self.snapshot(now));
                self.actions.push(Action::Show(reply, snapshot));
            }
            AgentCommand::Shutdown { kind: Shutdown::Restart, done } => self.actions.push(Action::Exit(done)),
            AgentCommand::Shutdown { kind, done } => {
                self.leave();
                for unit in self.units.values_mut() {
                    // In maintenance the daemon may be taken away under what runs, but not under what others count as
                    // ended after a time (F7, F8, F17). Of a machine that goes down it says the truth, as always.
                    let ends = |held: &Permit| {
                        let by_time = matches!(held.terms.fencing, Fencing::Lease | Fencing::Watchdog);
                        (held.terms.exclusive || by_time) && !held.outlasts_the_lease()
                    };
                    let goes = kind == Shutdown::SystemDown || unit.held.as_ref().is_some_and(ends);
                    if unit.held.is_some() && unit.release.is_none() && goes {
                        unit.due = Some(Cause::Shutdown);
                    }
                }
                self.ending = Some(Ending { done, idle_since_ms: None });
                self.touch_all();
            }
        }
    }

    /// A shutdown that is called off takes back what was said of it, by a session of which nothing was said yet.
    pub(super) fn manager_is(&mut self, state: SystemState) {
        let stopped = std::mem::replace(&mut self.stopping, state == SystemState::Stopping);
        if stopped && !self.stopping && self.leaving && self.ending.is_none() {
            tracing::info!(?state, "the shutdown was called off");
            self.leaving = false;
            self.outbox.stay();
            if self.session.is_some() {
                self.actions.push(Action::Renew);
            }
            self.touch_all();
        }
    }

    /// Whether the daemon may end now.
    pub(super) fn end(&mut self, now: &Now) {
        if self.ending.is_none() {
            return;
        }
        let busy = self.units.values().any(|unit| unit.due.is_some() || unit.release.is_some());
        let (session, unanswered) = (self.session.is_some(), self.outbox.len());
        let Some(ending) = self.ending.as_mut() else { return };
        if busy {
            ending.idle_since_ms = None;
            return;
        }
        let since = *ending.idle_since_ms.get_or_insert(now.boot_ms);
        let patience = if session || now.leased { FAREWELL_MS } else { 0 };
        if (unanswered == 0 || now.boot_ms.saturating_sub(since) >= patience)
            && let Some(ending) = self.ending.take()
        {
            self.part_with_watchdog();
            self.actions.push(Action::Exit(ending.done));
        }
    }

    fn snapshot(&self, now: &Now) -> Snapshot {
        let units = self.units.iter().map(|(name, unit)| UnitSnapshot {
            unit: name.0.clone(),
            run: format!("{:?}", unit.run).to_lowercase(),
            token: unit.held.as_ref().map(|held| held.token),
            adopted: unit.held.as_ref().is_some_and(|held| held.adopted),
            filed: unit.filed,
            doing: unit.op.map(|op| op.kind.word()),
            gated: unit.reading.as_ref().is_some_and(|reading| {
                !offer::gate_faults(reading).iter().any(units::gate::GateFault::opens)
            }),
            stuck: unit.stuck.clone(),
        });
        Snapshot {
            incarnation: self.incarnation.clone(),
            session: self.session,
            index: self.floors.index(),
            leased: now.leased,
            connected: self.connected,
            unanswered: self.outbox.len(),
            units: units.collect(),
        }
    }

    /// Whether this node goes down, or its daemon is stopped (F30).
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether the daemon is on its way out.
    pub(in crate::agent) fn is_ending(&self) -> bool {
        self.ending.is_some() || self.leaving
    }
}
