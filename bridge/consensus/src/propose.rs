//! Proposals: commands on their way into the log.
//!
//! openraft takes commands through an asynchronous call, whose order of arrival is nobody's promise. Here the call is
//! not asynchronous: a queue keeps the order of the callers, and one task empties it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use openraft::error::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;
use tokio::sync::{mpsc, oneshot};

use crate::Bytes;
use crate::types::{Command, Group, LeaderId, Raft, WriteResult};

/// Proposals that may wait for openraft. It takes them at once unless it is overloaded.
const QUEUE: usize = 1024;

/// A command that was committed and applied on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub index: u64,
    /// Term of the leader that appended it.
    pub term: u64,
    /// What the owner of the state answered.
    pub response: Vec<u8>,
}

/// Why a proposal did not succeed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead, or not in the term that was asked for. The command is not in the log.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<u64>,
    },
    /// This node leads, but a majority has not confirmed it lately, or it is handing its lead over. The command is
    /// not in the log; try again shortly.
    #[error("the leader waits for a majority of the voters")]
    NotReady,
    /// Too many proposals wait already. The command is not in the log.
    #[error("too many proposals are waiting")]
    Busy,
    /// The command may be committed, now, later or never. Only a command that carries its own id, with a state that
    /// remembers such ids, can be proposed again.
    #[error("it is not known whether the command will be committed")]
    Unknown,
    /// This node has stopped. The command is not in the log.
    #[error("this node has stopped")]
    Stopped,
}

/// The outcome of a proposal, to be awaited. The command is on its way whether or not it is.
#[derive(Debug)]
#[must_use = "a proposal may be refused"]
pub struct Proposal(Outcome);

#[derive(Debug)]
enum Outcome {
    Refused(Option<ProposeError>),
    Waiting(oneshot::Receiver<WriteResult>),
}

impl Future for Proposal {
    type Output = Result<Applied, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Outcome::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(ProposeError::Unknown))),
            Outcome::Waiting(answer) => Pin::new(answer)
                .poll(context)
                .map(|answer| answer.map_or(Err(ProposeError::Unknown), outcome)),
        }
    }
}

struct Queued {
    command: Command,
    term: Option<u64>,
    responder: ProgressResponder<Group, WriteResult>,
}

/// The way into the log. Clones share the order.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Queued>,
}

impl Proposer {
    /// Starts the task that hands commands to `raft`; it ends with the last proposer, or when `raft` stops.
    pub(crate) fn start(raft: Raft) -> Proposer {
        let (queue, mut queued) = mpsc::channel::<Queued>(QUEUE);
        tokio::spawn(async move {
            let node = *raft.node_id();
            while let Some(Queued { command, term, responder }) = queued.recv().await {
                let mut write = raft.write(command).responder(responder);
                if let Some(term) = term {
                    write = write.with_leader(LeaderId { term, node_id: node });
                }
                if write.await.is_err() {
                    return;
                }
            }
        });
        Proposer { queue }
    }

    pub(crate) fn propose(&self, command: Vec<u8>, term: Option<u64>) -> Proposal {
        let (responder, answer) = ProgressResponder::complete_only();
        let queued = Queued { command: Command(Bytes::from(command)), term, responder };
        Proposal(match self.queue.try_send(queued) {
            Ok(()) => Outcome::Waiting(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Outcome::Refused(Some(ProposeError::Busy)),
            Err(mpsc::error::TrySendError::Closed(_)) => Outcome::Refused(Some(ProposeError::Stopped)),
        })
    }
}

fn outcome(result: WriteResult) -> Result<Applied, ProposeError> {
    match result {
        Ok(written) => Ok(Applied {
            index: written.log_id.index,
            term: written.log_id.leader_id.term,
            response: written.data.0,
        }),
        // openraft says this before it appends, and `LogEntryDiscarded` afterwards.
        Err(ClientWriteError::ForwardToLeader(forward)) => Err(not_leader(&forward)),
        Err(_) => Err(ProposeError::Unknown),
    }
}

fn not_leader(forward: &ForwardToLeader<Group>) -> ProposeError {
    match forward.reason {
        ForwardReason::NotLeader => ProposeError::NotLeader { leader: forward.leader_id },
        ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer => ProposeError::NotReady,
    }
}
