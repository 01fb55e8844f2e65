//! Proposals: stamped, sent to the log in order, and what each was for.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use consensus::{Applied, ProposeError};
use policy::{Command, Decision, Fact, NodeId, Origin, State};
use tracing::{debug, error, info, warn};

use super::connections::ConnectionId;
use super::core::{Core, Event};
use super::entry::{self, Outcome, Stamped};
use super::reign::{Began, Reign};
use crate::session::message::{Down, Number, Reply};

/// Wait after a proposal that the log did not take: without a quorum there is no use in trying at once again. It
/// doubles a few times, and ends with the first proposal that is taken.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_DOUBLINGS: u32 = 4;
/// A decision that was refused is tried again on the same state after this time: `plan` and `apply` disagree, and that
/// is a fault to be seen in the journal, not a reason to fill the log.
const REFUSED: Duration = Duration::from_secs(5);

/// What a proposal is for.
#[derive(Clone, Debug)]
pub(super) enum Ticket {
    /// The first entry of the term.
    Began,
    /// A session, by its number.
    Hello(ConnectionId, u64),
    /// The end of a lease.
    Loss {
        /// Of whom.
        node: NodeId,
        /// Which session.
        session: u64,
    },
    /// A node's fact.
    Fact(ConnectionId, Number),
    /// A node's word that it goes down.
    Leaving(NodeId, ConnectionId, Number),
    /// An operator's wish.
    Wish(ConnectionId, Number),
    /// A wish that a gate expressed.
    Gate(ConnectionId, Number),
    /// A machine that joins: its name, and which it is.
    Enroll(ConnectionId, Number, String, String),
    /// A decision of the planner.
    Decision(Box<Decision>),
    /// Something that nobody waits for.
    Note,
}

impl Core {
    /// Stamps a command and puts it into the log, as long as this term lasts.
    pub(super) fn propose(&mut self, command: Command, origin: Option<Origin>, ticket: Ticket) {
        let applied = self.state().time;
        let Some(reign) = &mut self.reign else { return };
        let number = reign.next_ticket;
        reign.next_ticket += 1;
        let stamped = Stamped { time: reign.time(applied), wall_ms: wall_ms(), origin, command };
        let bytes = match entry::encode(&stamped) {
            Ok(bytes) => bytes,
            Err(failure) => {
                error!(%failure, "a command cannot be encoded");
                return self.unsettled(ticket, &ProposeError::Stopped);
            }
        };
        reign.tickets.insert(number, ticket);
        let (events, term) = (self.events.clone(), reign.term);
        // Called here, awaited elsewhere: the order of calls is the order in the log.
        let proposal = self.consensus.propose_in(term, bytes);
        tokio::spawn(async move {
            let result = proposal.await;
            // The core may have gone first.
            let _ = events.send(Event::Proposed { term, ticket: number, result }).await;
        });
    }

    /// A proposal came to its end.
    pub(super) fn proposed(&mut self, term: u64, number: u64, result: Result<Applied, ProposeError>) {
        let Some(reign) = self.reign.as_mut().filter(|reign| reign.term == term) else { return };
        let Some(ticket) = reign.tickets.remove(&number) else { return };
        let outcome = match result {
            Ok(applied) => match entry::decode_outcome(&applied.response) {
                Ok(outcome) => Ok((applied.index, outcome)),
                Err(failure) => {
                    error!(%failure, "the log's answer cannot be read");
                    Err(ProposeError::Unknown)
                }
            },
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok((index, outcome)) => self.settled(ticket, index, outcome),
            Err(failure) => {
                debug!(%failure, ?ticket, "a proposal was not confirmed");
                self.unsettled(ticket, &failure);
            }
        }
    }

    /// The entry is in the log and was applied, or refused.
    fn settled(&mut self, ticket: Ticket, index: u64, outcome: Outcome) {
        if let Some(reign) = &mut self.reign {
            reign.pauses = 0;
            reign.pause = Instant::now();
        }
        match ticket {
            Ticket::Began => self.term_began(outcome),
            Ticket::Hello(connection, session) => self.hello_settled(connection, session, outcome),
            Ticket::Loss { node, session } => {
                if let Err(refusal) = outcome {
                    debug!(%node, session, %refusal, "a loss was refused");
                }
                if let Some(reign) = &mut self.reign {
                    reign.ending.remove(&(node, session));
                    reign.losing.remove(&(node, session));
                }
                self.end_session(node, session);
            }
            Ticket::Fact(connection, number) => self.answer_fact(connection, number, outcome),
            Ticket::Leaving(node, connection, number) => {
                // What was granted before stands in the state: its daemon ends with the answer, and is to give it back first.
                self.tell(node, Vec::new());
                self.answer_fact(connection, number, outcome);
            }
            Ticket::Wish(connection, number) => {
                let reply = Reply::Wish(outcome.map(|()| index));
                self.connections.send(connection, Down::Answer { number, reply });
            }
            Ticket::Gate(connection, number) => self.gate_wish_settled(connection, number, outcome),
            Ticket::Enroll(connection, number, name, machine) => {
                let reply = match outcome {
                    Ok(()) => self.enrolled(&name, &machine),
                    Err(refusal) => Reply::Wish(Err(refusal)),
                };
                self.connections.send(connection, Down::Answer { number, reply });
            }
            Ticket::Decision(decision) => {
                let effective = self.replica.effective;
                let Some(reign) = &mut self.reign else { return };
                reign.deciding.retain(|other| *other != *decision);
                if let Err(refusal) = outcome {
                    warn!(%refusal, ?decision, "a decision was refused");
                    reign.refused.push((Instant::now(), effective, *decision));
                }
                self.dirty = true;
            }
            Ticket::Note => {
                if let Err(refusal) = outcome {
                    debug!(%refusal, "a note was refused");
                }
            }
        }
    }

    fn answer_fact(&mut self, connection: ConnectionId, number: Number, outcome: Outcome) {
        if let Err(refusal) = &outcome {
            debug!(%refusal, "a fact was refused");
        }
        self.connections.send(connection, Down::FactTaken { number, outcome });
    }

    /// It may be in the log or not. Whoever waits asks again in another session; decisions are planned again.
    fn unsettled(&mut self, ticket: Ticket, failure: &ProposeError) {
        if let Some(reign) = &mut self.reign {
            let now = Instant::now();
            if reign.pause <= now {
                reign.pause = now + PAUSE * (1 << reign.pauses.min(PAUSE_DOUBLINGS));
                reign.pauses += 1;
            }
        }
        self.forbear();
        match ticket {
            Ticket::Began => {
                if let Some(reign) = &mut self.reign {
                    reign.beginning = false;
                }
                self.dirty = true;
            }
            Ticket::Loss { node, session } => {
                if let Some(reign) = &mut self.reign {
                    reign.losing.remove(&(node, session));
                    // What may still be committed must not be followed by an answer in that session (F5).
                    if *failure == ProposeError::Unknown {
                        self.end_session(node, session);
                    } else {
                        reign.ending.remove(&(node, session));
                    }
                }
            }
            Ticket::Decision(decision) => {
                if let Some(reign) = &mut self.reign {
                    reign.deciding.retain(|other| *other != *decision);
                }
                self.dirty = true;
            }
            Ticket::Hello(connection, _)
            | Ticket::Fact(connection, _)
            | Ticket::Leaving(_, connection, _)
            | Ticket::Wish(connection, _)
            | Ticket::Gate(connection, _)
            | Ticket::Enroll(connection, ..) => self.close(connection),
            Ticket::Note => {}
        }
    }

    /// Closes a session, unless the node has another one by now.
    fn end_session(&mut self, node: NodeId, number: u64) {
        let Some(reign) = &mut self.reign else { return };
        let open = reign.sessions.get(&node).filter(|open| open.number == number);
        if let Some(connection) = open.map(|open| open.connection) {
            reign.sessions.remove(&node);
            self.connections.close(connection);
        }
    }

    /// Puts the term's first entry into the log; nothing is served before it is applied.
    pub(super) fn begin_term(&mut self) {
        let me = self.node;
        let Some(reign) = &mut self.reign else { return };
        if reign.began.is_some() || reign.beginning {
            return;
        }
        if reign.pause > Instant::now() {
            self.next_due = self.next_due.min(reign.pause);
            return;
        }
        reign.beginning = true;
        let fact = Fact::TermBegan { term: reign.term, leader: me };
        self.propose(Command::Fact(fact), None, Ticket::Began);
    }

    fn term_began(&mut self, outcome: Outcome) {
        let time = self.state().time;
        let Some(reign) = &mut self.reign else { return };
        reign.beginning = false;
        match outcome {
            Ok(()) => {
                info!(term = reign.term, "leading");
                reign.began = Some(Began { at: Instant::now(), time });
                for id in self.connections.ids() {
                    self.challenge(id);
                }
                self.dirty = true;
            }
            // Before the cluster was founded, and for a repeat after an unconfirmed proposal.
            Err(refusal) => {
                let mine = self.replica.state.tenure.is_some_and(|tenure| tenure.term == reign.term);
                if mine {
                    reign.began = Some(Began { at: Instant::now(), time });
                    for id in self.connections.ids() {
                        self.challenge(id);
                    }
                    self.dirty = true;
                } else {
                    reign.pause = Instant::now() + PAUSE * (1 << PAUSE_DOUBLINGS);
                    warn!(%refusal, "the term cannot begin");
                }
            }
        }
    }

    /// Proposes the plan's decisions that are not under way.
    pub(super) fn decide(&mut self) {
        let (now, effective) = (Instant::now(), self.replica.effective);
        let Some(reign) = &mut self.reign else { return };
        reign.refused.retain(|(at, state, _)| *state == effective && now < *at + REFUSED);
        if reign.pause > now {
            self.next_due = self.next_due.min(reign.pause);
            return;
        }
        let planned = self.replica.kept.plan();
        let wanted: Vec<Decision> = planned
            .decisions
            .iter()
            .filter(|decision| !reign.deciding.contains(decision))
            .filter(|decision| !reign.refused.iter().any(|(_, _, refused)| refused == *decision))
            .filter(|decision| !is_rash(&self.replica.state, reign, decision))
            .cloned()
            .collect();
        for decision in wanted {
            if let Some(reign) = &mut self.reign {
                reign.deciding.push(decision.clone());
            }
            let ticket = Ticket::Decision(Box::new(decision.clone()));
            self.propose(Command::Decision(decision), None, ticket);
        }
    }

    /// A wish with its origin, for whoever asked.
    pub(super) fn propose_wish(&mut self, wish: policy::Wish, client: String, number: u64, ticket: Ticket) {
        let origin = Origin { client, number };
        self.propose(Command::Wish(wish), Some(origin), ticket);
    }
}

/// Whether a level's devices would be called liars with nothing heard of their node since: a stall of this leader, or a gap
/// in the quorum, puts off the word that it is lost (F23), which is the proof. Heard is what this leader has answered a
/// whole loss's time after theirs: no message that was on its way by then.
fn is_rash(state: &State, reign: &Reign, decision: &Decision) -> bool {
    let Decision::AbandonAttempt { case, .. } = decision else { return false };
    let Some(case) = state.cases.get(case) else { return false };
    let Some(off_at) = case.off_at else { return false };
    let began = state.tenure.map_or(off_at, |tenure| tenure.since.max(off_at));
    let since = reign.time(state.time).saturating_sub(began);
    let silent = reign.sessions.get(&case.node).map(|session| session.heard.elapsed().as_millis() as u64);
    silent.is_none_or(|silent| silent.saturating_add(state.settings.loss_ms()) > since)
}

/// Milliseconds since 1970 by this machine's clock; for people only.
pub(super) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
