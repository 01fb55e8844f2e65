//! Asks for the gates, takes back what they asked for, and brings operators' stops to the cluster, beside the loop.

use std::time::Duration;

use policy::UnitName;

use super::super::event::{Event, Spooled};
use super::super::gate::GateId;
use super::super::wishes::Spool;
use super::asking::{ask_gate, bring, gate_look};
use super::{GATE_SETTLE, Shell, WISH_ATTEMPTS};
use crate::session::Asker;
use crate::session::message::{Request, gate_client};

impl Shell {
    pub(super) fn gate_look(&mut self, id: GateId, unit: UnitName) {
        let (systemd, events) = (self.systemd.clone(), self.events.clone());
        tokio::spawn(async move {
            let look = gate_look(systemd.as_ref(), &unit).await;
            drop(events.send(Event::GateLooked { id, look }).await);
        });
    }

    /// Looks again after a gate has gone, when the end of its start is known.
    pub(super) fn gate_settle(&self, id: GateId, unit: UnitName, since: Duration) {
        let (systemd, events) = (self.systemd.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GATE_SETTLE).await;
            let look = gate_look(systemd.as_ref(), &unit).await;
            drop(events.send(Event::GateSettled { id, unit, since, look }).await);
        });
    }

    pub(super) fn gate_ask(&mut self, id: GateId, unit: UnitName, wish: Option<String>) {
        self.gates.retain(|_, asking| !asking.is_finished());
        let gate = format!("{}/{id}", self.client);
        let (asker, events, in_session) =
            (self.asker.clone(), self.events.clone(), self.in_session.subscribe());
        let asking = tokio::spawn(async move {
            let answer = ask_gate(&asker, in_session, Request::Gate { unit, wish, gate }).await;
            drop(events.send(Event::GateAnswered { id, answer }).await);
        });
        self.gates.insert(id, asking);
    }

    /// Takes back what the gate asked for. However late it comes, it undoes nothing that was asked for since.
    pub(super) fn withdraw(&self, id: GateId, unit: UnitName, by: String) {
        let name = format!("{}/{id}", self.client);
        let gate = gate_client(self.node, &name);
        let wish = policy::Wish::WithdrawStart { unit: unit.clone(), node: self.node, gate, by };
        let request = Request::Wish { client: format!("{name}/withdrawn"), number: 1, wish };
        let (asker, events) = (self.asker.clone(), self.events.clone());
        tokio::spawn(async move {
            let index = bring(&asker, request, WISH_ATTEMPTS).await.and_then(Result::ok);
            drop(events.send(Event::Withdrawn { id, unit, index }).await);
        });
    }

    /// Operators' stops that an earlier daemon could not bring to the cluster (F10).
    pub(super) fn resend_spooled(&self) {
        let (asker, spool, client) = (self.asker.clone(), self.spool.clone(), self.client.clone());
        tokio::spawn(async move {
            let from = spool.clone();
            for spooled in tokio::task::spawn_blocking(move || from.load()).await.unwrap_or_default() {
                tokio::spawn(resend(asker.clone(), spool.clone(), client.clone(), spooled));
            }
        });
    }
}

async fn resend(asker: Asker, spool: Spool, client: String, stop: Spooled) {
    let Spooled { unit, node, token, by } = stop;
    tracing::info!(%unit, "an operator's stop was not answered yet; telling the cluster");
    let wish = policy::Wish::StoppedByHand { unit: unit.clone(), node, token, by };
    // A client of its own each, so that they do not overtake each other's numbers.
    let request = Request::Wish { client: format!("{client}/{unit}"), number: 1, wish };
    if bring(&asker, request, usize::MAX).await.is_some() {
        drop(tokio::task::spawn_blocking(move || spool.forget(&unit, token)).await);
    }
}
