//! Forecasts, made beside the core: each takes as long as many plans, and no lease may wait for that.

use std::time::{Duration, Instant};

use policy::{Millis, State, Suppose};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::connections::ConnectionId;
use super::core::{Core, Event, aside, is_large};
use crate::api::picture;
use crate::session::message::{Down, Number, Reply, Request};

/// How long a forecast goes on making plans. Short of what [`FORECAST_LIMIT`] waits, by one plan of a big cluster and the
/// way of the answer.
const LONGEST: Duration = Duration::from_secs(8);
/// How long the answer is waited for.
pub(crate) const FORECAST_LIMIT: Duration = Duration::from_secs(12);

impl Core {
    /// Answers a node once the forecast is made.
    pub(super) fn foretell(&mut self, connection: ConnectionId, number: Number, supposed: Vec<Suppose>) {
        let now = self.now();
        let Some(turn) = self.turn() else {
            return self.connections.send(connection, Down::Answer { number, reply: busy() });
        };
        let state = self.copy();
        let events = self.events.clone();
        tokio::spawn(async move {
            let made = tokio::task::spawn_blocking(move || told(&state, now, true, &supposed, turn)).await;
            // The core may have gone first.
            if let Ok(reply) = made.map(Box::new) {
                let _ = events.send(Event::Foretold { connection, number, reply }).await;
            }
        });
    }

    pub(super) fn foretold(&mut self, connection: ConnectionId, number: Number, reply: Reply) {
        self.connections.send(connection, Down::Answer { number, reply });
    }

    /// Answers from this voter's own memory; a forecast later than the rest.
    pub(super) fn remember(&self, request: Request, reply: oneshot::Sender<Reply>) {
        // Whoever asked may have gone.
        match request {
            Request::Forecast { supposed } if !self.state().cluster.is_empty() => {
                let Some(turn) = self.turn() else { return drop(reply.send(busy())) };
                let state = self.copy();
                drop(tokio::task::spawn_blocking(move || {
                    reply.send(told(&state, state.time, false, &supposed, turn))
                }));
            }
            request => drop(reply.send(self.recall(&request))),
        }
    }

    /// One forecast at a time, whoever asks: anybody may, and each takes a core of the machine and a copy of the state.
    fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.foretelling.clone().try_acquire_owned().ok()
    }

    fn copy(&self) -> State {
        aside(is_large(self.state()), || self.state().clone())
    }
}

fn busy() -> Reply {
    Reply::Declined(
        "another forecast is being made there, and one is made at a time; ask again in a moment".to_owned(),
    )
}

/// The turn is over when this returns.
fn told(
    state: &State,
    now: Millis,
    quorum: bool,
    supposed: &[Suppose],
    _turn: OwnedSemaphorePermit,
) -> Reply {
    let began = Instant::now();
    let in_time = || began.elapsed() < LONGEST;
    Reply::Forecast(picture::forecast(state, now, quorum, supposed, in_time).map(Box::new))
}
