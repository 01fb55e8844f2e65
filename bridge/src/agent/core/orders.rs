//! Takes in what the session says: the cluster's word on this node, answers to facts, errands for other nodes.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Cause, Fact, PermitView, Severity, UnitName};
use units::systemd::journal::{Kind, Priority};

use super::{Agent, View};
use crate::agent::event::{Action, Now, Ordered};
use crate::agent::permit;
use crate::last_end;
use crate::session::FromSession;
use crate::session::message::{Denial, Note, Orders};

impl Agent {
    pub(in crate::agent) fn hear_session(&mut self, event: FromSession, now: &Now) {
        match event {
            FromSession::Opened { session, .. } => {
                tracing::debug!(session, "session opened");
                self.session = Some(session);
                self.inventory_told = false;
                self.surveyed = 0;
                // Its own orders come first: what an earlier session said does not count in this one (F2).
                self.view = None;
                self.outbox.unsend();
                self.forget_answers();
                for unit in self.units.values_mut() {
                    unit.released_told = None;
                }
            }
            FromSession::Orders { session, orders } => self.take_orders(session, *orders, now),
            FromSession::FactTaken { number, outcome } => self.fact_taken(number, outcome),
            FromSession::Closed => {
                tracing::debug!("session closed");
                self.session = None;
                self.drop_errands();
                self.outbox.unsend();
            }
            FromSession::Denied(Denial::RebootNow { why }) => {
                let why = format!("the cluster has fenced this incarnation: {why}");
                self.actions.push(Action::TakeDown { unit: None, why });
            }
            FromSession::Denied(Denial::Identity { why }) => {
                tracing::error!(why, "this machine may not use its identity");
                self.end_lease(now);
            }
            FromSession::Denied(Denial::Removed) => {
                tracing::error!("this node was taken out of the cluster");
                self.end_lease(now);
            }
            FromSession::Denied(Denial::OldSoftware { .. }) => {}
            FromSession::Denied(Denial::Later { why }) => tracing::info!(why, "no session yet"),
        }
    }

    fn take_orders(&mut self, session: u64, orders: Orders, now: &Now) {
        if self.session != Some(session) {
            tracing::warn!(session, "dropped orders of another session");
            return;
        }
        let Orders { view, fences, looks, switch_on, notes } = orders;
        // The first ones since the boot.
        if let Some(ended) = view.ended.as_ref().filter(|_| self.floors.index() == 0) {
            tracing::warn!("before this boot this machine {}", last_end::sentence(ended));
        }
        if !self.floors.saw(view.index) {
            let (index, seen) = (view.index, self.floors.index());
            tracing::warn!(index, seen, "dropped orders that are older than what was seen");
            return;
        }
        self.write_down(notes);
        if self.floors.take_lost() {
            self.distrust(&view.permits);
        }
        let mut permits = BTreeMap::new();
        for permit in view.permits {
            if permit::usable(&permit.unit) {
                self.note_order(&permit, view.stops_before.get(&permit.unit));
                permits.insert(permit.unit.clone(), permit);
            }
        }
        self.gate_all(view.units.iter().chain(permits.keys()));
        let (known, stop, survey) = (view.units, view.stop, view.survey);
        let (assembly, ranks) = (view.assembly, view.ranks);
        self.view = Some(View { permits, known, stop, survey, assembly, ranks });
        self.gates.forget_refusals();
        self.resume_all_gates();
        for unit in self.units.values_mut() {
            unit.released_told = None;
            // The cluster's word is newer than the end of the lease; what was not begun is decided by it.
            if unit.due == Some(Cause::LeaseEnded) {
                unit.due = None;
            }
        }
        self.run_errands(Ordered { fences, looks, switch_on }, now);
        self.touch_all();
    }

    fn write_down(&mut self, notes: Vec<Note>) {
        for note in notes.into_iter().filter(|note| permit::usable(&note.unit)) {
            let priority = match note.severity {
                Severity::Info => Priority::Notice,
                Severity::Warning | Severity::Alert => Priority::Warning,
            };
            self.tell(&note.unit, Kind::WaitsForFence, priority, note.text);
        }
    }

    /// Nobody knows what was released before: only what runs under an intact file counts as not released.
    fn distrust(&mut self, permits: &[PermitView]) {
        tracing::error!(
            "the record of released permits is lost; all that is not seen running is released again"
        );
        for permit in permits.iter().filter(|permit| permit.incarnation == self.incarnation) {
            let unit = self.units.get(&permit.unit).filter(|unit| unit.filed);
            let held = unit.and_then(|unit| unit.held.as_ref());
            if held.is_none_or(|held| held.token != permit.token) {
                self.floors.raise(&permit.unit, permit.token, Cause::Unused);
            }
        }
    }

    /// The order of stops is kept with the permit: at the end of a lease there is nobody to ask.
    fn note_order(&mut self, permit: &PermitView, before: Option<&BTreeSet<UnitName>>) {
        let unit = self.units.entry(permit.unit.clone()).or_default();
        if let (Some(held), Some(before)) = (unit.held.as_mut(), before)
            && held.token == permit.token
            && held.stops_before != *before
        {
            held.stops_before.clone_from(before);
            if unit.filed {
                let held = held.clone();
                self.actions.push(Action::File { unit: permit.unit.clone(), permit: held });
            }
        }
    }

    /// Every cluster unit is known and gated on every node (F12).
    fn gate_all<'a>(&mut self, names: impl Iterator<Item = &'a UnitName>) {
        let mut unknown_files = false;
        for name in names.filter(|name| permit::usable(name)) {
            let unit = self.units.entry(name.clone()).or_default();
            unknown_files |= self.gated.units.insert(name.0.clone()) && unit.found.is_none();
        }
        if unknown_files {
            self.keep_gated();
            self.want_reload();
        }
    }

    fn fact_taken(&mut self, number: u64, outcome: Result<(), policy::Refusal>) {
        let Some(fact) = self.outbox.taken(number) else { return };
        if let Fact::WatchdogArmed { said_ms, .. } | Fact::WatchdogDisarmed { said_ms, .. } = &fact {
            self.chain_told(*said_ms, outcome.is_ok());
        }
        if let Err(refusal) = outcome {
            tracing::debug!(?fact, %refusal, "the cluster did not take a fact");
        }
        if let Fact::Released { unit, token, because: Cause::Operator(_), .. } = fact {
            self.actions.push(Action::Unspool { unit, token });
        }
    }
}
