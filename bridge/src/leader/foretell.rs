//! Forecasts, made beside the core: each takes as long as many plans, and no lease may wait for that.

use policy::{Millis, State, Suppose};
use tokio::sync::oneshot;

use super::connections::ConnectionId;
use super::core::{Core, Event};
use crate::api::picture;
use crate::session::message::{Down, Number, Reply, Request};

impl Core {
    /// Answers a node once the forecast is made. One at a time: who asks for many gets no more of the leader's machine.
    pub(super) fn foretell(&mut self, connection: ConnectionId, number: Number, supposed: Vec<Suppose>) {
        if std::mem::replace(&mut self.foretelling, true) {
            let reply = Reply::Unable("it is making another forecast".to_owned());
            return self.connections.send(connection, Down::Answer { number, reply });
        }
        let state = self.state().clone();
        let now = self.reign.as_ref().map_or(state.time, |reign| reign.time(state.time));
        let events = self.events.clone();
        tokio::spawn(async move {
            let made = tokio::task::spawn_blocking(move || told(&state, now, true, &supposed)).await;
            let reply = made.unwrap_or_else(|_| Reply::Unable("the forecast came to no end".to_owned()));
            // The core may have gone first.
            let _ = events.send(Event::Foretold { connection, number, reply: Box::new(reply) }).await;
        });
    }

    pub(super) fn foretold(&mut self, connection: ConnectionId, number: Number, reply: Reply) {
        self.foretelling = false;
        self.connections.send(connection, Down::Answer { number, reply });
    }

    /// Answers from this voter's own memory; a forecast later than the rest.
    pub(super) fn remember(&self, request: Request, reply: oneshot::Sender<Reply>) {
        match request {
            Request::Forecast { supposed } if !self.state().cluster.is_empty() => {
                let state = self.state().clone();
                // Whoever asked may have gone.
                drop(tokio::task::spawn_blocking(move || {
                    reply.send(told(&state, state.time, false, &supposed))
                }));
            }
            request => {
                let _ = reply.send(self.recall(&request));
            }
        }
    }
}

fn told(state: &State, now: Millis, quorum: bool, supposed: &[Suppose]) -> Reply {
    Reply::Forecast(picture::forecast(state, now, quorum, supposed).map(Box::new))
}
