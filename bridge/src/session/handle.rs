//! What the rest of a node's daemon holds of its session: ways to ask, to report, and to be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use policy::{Fact, Refusal};
use tokio::sync::{mpsc, oneshot};

use super::lease::boottime_ms;
use super::message::{Denial, Number, Orders, Reply, Request};

/// Questions, facts and withdrawals that may wait for the session's task.
pub const QUEUE: usize = 256;

/// From this node's tasks to the task that keeps the session.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made, sent and taken one at a time: nothing holds many")]
pub enum ToSession {
    /// Reports a fact. The agent keeps it, and reports it again in the next session, until it is taken.
    Fact {
        /// The agent's number of it.
        number: Number,
        /// The fact.
        fact: Fact,
    },
    /// Asks.
    Ask {
        /// The question.
        request: Request,
        /// Where the answer goes. Dropping the receiver withdraws the question.
        reply: oneshot::Sender<Reply>,
    },
    /// Leaves this session for another path, if there is one.
    Renew,
}

/// From the task that keeps the session to the agent.
#[derive(Debug)]
pub enum FromSession {
    /// A session is open.
    Opened {
        /// Its number; rises.
        session: u64,
        /// What the cluster calls lost.
        detect: Duration,
    },
    /// The state that concerns this node, in the session of that number.
    Orders {
        /// The session.
        session: u64,
        /// The state.
        orders: Box<Orders>,
    },
    /// A fact need not be reported again.
    FactTaken {
        /// The agent's number of it.
        number: Number,
        /// Applied or refused.
        outcome: Result<(), Refusal>,
    },
    /// The session is gone; the lease goes on to its end.
    Closed,
    /// The cluster turned this node away.
    Denied(Denial),
}

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no session with a leader, and none came in time.
    #[error("no quorum: this node waited {} s for a session with a leader, and got none", .0.as_secs())]
    NoSession(Duration),
    /// The leader took too long.
    #[error("the leader did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The daemon is going down.
    #[error("convoked is stopping")]
    Stopping,
}

/// Asks the leader over this node's session. Questions wait for a session until their time is over, and are asked
/// again in a new session; so each must be harmless when repeated.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<ToSession>);

impl Asker {
    /// Asks by way of the task at the other end.
    #[must_use]
    pub fn new(session: mpsc::Sender<ToSession>) -> Self {
        Self(session)
    }

    /// Asks, and waits for the answer no longer than `within`.
    ///
    /// # Errors
    /// [`AskError`] when no answer came; for a wish this does not mean that it was not recorded.
    pub async fn ask(&self, request: Request, within: Duration) -> Result<Reply, AskError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            let sent = self.0.send(ToSession::Ask { request, reply }).await;
            sent.map_err(|_| AskError::Stopping)?;
            answer.await.map_err(|_| AskError::Stopping)
        };
        tokio::time::timeout(within, asking).await.unwrap_or(Err(AskError::TimedOut(within)))
    }

    /// Asks without a limit: the answer comes when it comes, and dropping the future withdraws the question.
    pub async fn ask_long(&self, request: Request) -> Result<Reply, AskError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(ToSession::Ask { request, reply }).await.map_err(|_| AskError::Stopping)?;
        answer.await.map_err(|_| AskError::Stopping)
    }
}

/// When PID 1 last answered (F27): a node whose PID 1 is silent sends no beats.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// PID 1 has just answered.
    pub fn felt(&self) {
        self.0.store(boottime_ms(), Ordering::SeqCst);
    }

    /// How long ago it last answered.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_millis(boottime_ms().saturating_sub(self.0.load(Ordering::SeqCst)))
    }
}

/// Whether this node goes down (F30). Each hello says so: a new session would take back what was said in the one before.
#[derive(Clone, Debug, Default)]
pub struct Farewell(Arc<AtomicBool>);

impl Farewell {
    /// It goes down, or that was called off.
    pub fn set(&self, leaving: bool) {
        self.0.store(leaving, Ordering::SeqCst);
    }

    /// Whether it goes down.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
