//! Leases: which beats are answered, and when a silent node is called lost.
//!
//! A beat, or a question whose answer must be true now, is answered only after a quorum round that began after it
//! arrived (F5); all that wait share one round. The nodes beat on one grid, and the first beat of a tick waits for the
//! others, so that a tick costs one round. No clock of another machine enters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use consensus::{Barrier, BarrierError};
use policy::{CaseId, Command, Fact, FenceCase, FencePhase, Millis, NodeId, Presence};
use tracing::{debug, warn};

use super::connections::ConnectionId;
use super::core::{Core, Event};
use super::proposals::Ticket;
use super::reign::Reign;
use super::times;
use crate::session::message::{Down, Number, Reply, Request};

/// A pause of this leader's own that is longer than this is not held against the nodes (F23).
const OWN_STALL: Duration = Duration::from_millis(150);

/// What waits for a quorum round.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A beat.
    Beat {
        /// From whom.
        connection: ConnectionId,
        /// Of the beat.
        nonce: u64,
        /// What it brought.
        cut_off_from: BTreeSet<NodeId>,
    },
    /// A question.
    Question(Question),
}

/// A question whose answer must be true now.
#[derive(Debug)]
pub(super) struct Question {
    /// From whom.
    pub(super) connection: ConnectionId,
    /// Of the question.
    pub(super) number: Number,
    /// What is asked.
    pub(super) request: Request,
}

/// Quorum rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Arrived since the round under way began.
    waiting: Vec<Waiting>,
    /// Covered by the round under way.
    covered: Vec<Waiting>,
    /// Questions that a round has covered, and that are answered with the next plan.
    confirmed: Vec<Question>,
    running: bool,
    /// Until when the beats that wait may wait for those of other nodes.
    gather: Option<Instant>,
}

impl Reign {
    /// Whether nothing would be gained by waiting: a question waits, or a beat of every open session.
    fn all_have_beaten(&self) -> bool {
        let waiting = &self.rounds.waiting;
        let beaten: BTreeSet<ConnectionId> = waiting.iter().filter_map(Waiting::beat).collect();
        let open = self.sessions.iter().filter(|(node, session)| {
            session.connection != 0 && !self.ending.contains(&(**node, session.number))
        });
        waiting.iter().any(|waiting| waiting.beat().is_none())
            || open.into_iter().all(|(_, session)| beaten.contains(&session.connection))
    }
}

impl Waiting {
    fn beat(&self) -> Option<ConnectionId> {
        match self {
            Self::Beat { connection, .. } => Some(*connection),
            Self::Question(_) => None,
        }
    }
}

impl Rounds {
    /// Drops the questions that nobody waits for any more.
    pub(super) fn keep_questions(&mut self, is_wanted: impl Fn(&Question) -> bool) {
        let wanted = |waiting: &Waiting| match waiting {
            Waiting::Beat { .. } => true,
            Waiting::Question(question) => is_wanted(question),
        };
        self.waiting.retain(wanted);
        self.covered.retain(wanted);
        self.confirmed.retain(&is_wanted);
    }

    /// The questions that may be answered.
    pub(super) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.confirmed)
    }
}

impl Core {
    /// Takes what needs a round.
    pub(super) fn wait_for_round(&mut self, waiting: Waiting) {
        let patience = times::gather(&self.replica.state.settings);
        let Some(reign) = &mut self.reign else { return };
        reign.rounds.gather.get_or_insert_with(|| Instant::now() + patience);
        reign.rounds.waiting.push(waiting);
    }

    /// Begins a round if one is due and none is under way: for a question at once, for beats when all have come that
    /// are to come, or the first has waited long enough. To be called after every batch of events.
    pub(super) fn begin_round(&mut self, now: Instant) {
        let Some(reign) = &mut self.reign else { return };
        if reign.rounds.running || reign.rounds.waiting.is_empty() {
            return;
        }
        let due = reign.rounds.gather.is_none_or(|until| until <= now);
        if !due && !reign.all_have_beaten() {
            let until = reign.rounds.gather.unwrap_or(now);
            self.next_due = self.next_due.min(until);
            return;
        }
        reign.rounds.running = true;
        reign.rounds.gather = None;
        reign.rounds.covered = std::mem::take(&mut reign.rounds.waiting);
        let (consensus, events, term) = (self.consensus.clone(), self.events.clone(), reign.term);
        tokio::spawn(async move {
            let result = consensus.barrier().await;
            // The core may have gone first.
            let _ = events.send(Event::Round { term, result }).await;
        });
    }

    /// A round came back, and everything that arrived before it began is answered: beats at once, questions when the plan is that
    /// of the state.
    pub(super) fn round_done(&mut self, term: u64, result: Result<Barrier, BarrierError>) {
        let Some(reign) = self.reign.as_mut().filter(|reign| reign.term == term) else { return };
        reign.rounds.running = false;
        let confirmed = matches!(&result, Ok(barrier) if barrier.term == term);
        // Without a quorum, `convoke status` shows what this voter last knew.
        self.dirty |= std::mem::replace(&mut reign.confirmed, confirmed) != confirmed;
        if !confirmed {
            self.forbear();
        }
        let Some(reign) = &mut self.reign else { return };
        let covered = std::mem::take(&mut reign.rounds.covered);
        match result {
            Ok(barrier) if barrier.term == term => {
                for waiting in covered {
                    match waiting {
                        Waiting::Beat { connection, nonce, cut_off_from } => {
                            self.answer_beat(connection, nonce, cut_off_from);
                        }
                        Waiting::Question(question) => {
                            if let Some(reign) = &mut self.reign {
                                reign.rounds.confirmed.push(question);
                            }
                        }
                    }
                }
            }
            Ok(_) => debug!("a quorum round ended in a later term"),
            Err(error) => {
                debug!(%error, "no quorum round");
                for waiting in covered {
                    if let Waiting::Question(Question { connection, number, .. }) = waiting {
                        let reply = Reply::Unable("no quorum".to_owned());
                        self.connections.send(connection, Down::Answer { number, reply });
                    }
                }
            }
        }
    }

    fn answer_beat(&mut self, connection: ConnectionId, nonce: u64, cut_off_from: BTreeSet<NodeId>) {
        let lease_ms = self.state().settings.lease_ms();
        let beat_ms = self.state().settings.beat_ms();
        let Some(node) = self.connections.peer(connection) else { return };
        let Some(reign) = &mut self.reign else { return };
        let Some(began) = reign.began else { return };
        let Some(number) = reign.session_of(node, connection).map(|session| session.number) else { return };
        if reign.ending.contains(&(node, number)) {
            return;
        }
        let life = self.replica.state.nodes.get(&node).and_then(|node| node.life.as_ref());
        let holds = life.is_some_and(|life| {
            life.session == number
                && life.gone.is_none()
                && life.contradicted.is_none()
                && !matches!(life.presence, Presence::Lost { .. })
        });
        if !holds {
            // Proven gone, or replaced, while its session stood: what it is told next answers a new nonce (F18).
            return self.close(connection);
        }
        let Some(session) = reign.session_of(node, connection) else { return };
        session.answered = Instant::now();
        session.heard = session.answered;
        if session.cut_off_from != cut_off_from {
            session.cut_off_from = cut_off_from;
        }
        // All nodes beat on one grid, so that one round serves them all.
        let into = began.at.elapsed().as_millis() as u64 % beat_ms.max(1);
        let to_grid = beat_ms - into;
        let next_in_ms = if to_grid < beat_ms / 2 { to_grid + beat_ms } else { to_grid };
        let voters = self.consensus.status().voters;
        let counts = |other: &NodeId| voters.contains(&other.0) && reign.is_here(*other);
        let parted = reign
            .digests
            .parted(node, |most| most.iter().filter(|other| counts(other)).count() > voters.len() / 2);
        self.connections.send(connection, Down::Beaten { nonce, lease_ms, next_in_ms, parted });
    }

    /// Without a quorum no beat is answered, and no loss committed. The nodes get time to come back once there is one
    /// again, or all of them would be called lost in its first moment (F23).
    pub(super) fn forbear(&mut self) {
        let loss = Duration::from_millis(self.state().settings.loss_ms());
        if let Some(reign) = &mut self.reign {
            reign.forbearance = reign.forbearance.max(Instant::now() + loss / 2);
        }
    }

    /// Holds a stall of this leader's own against nobody (F23). To be called after every batch of events: one that
    /// leaves events behind is followed by another that may not.
    pub(super) fn note_stall(&mut self, now: Instant) {
        let stall = now.saturating_duration_since(self.due).saturating_sub(OWN_STALL);
        let loss = Duration::from_millis(self.state().settings.loss_ms());
        let Some(reign) = self.reign.as_mut().filter(|reign| reign.began.is_some()) else { return };
        if stall.is_zero() {
            return;
        }
        warn!(stall_ms = stall.as_millis() as u64, "this leader was not scheduled; leases are judged later");
        for session in reign.sessions.values_mut() {
            session.answered += stall;
        }
        reign.forbearance = reign.forbearance.max(now + loss.min(stall * 2));
    }

    /// Calls nodes lost whose lease has ended. To be called only when everything that had arrived was handled (F23).
    pub(super) fn judge_leases(&mut self) {
        let now = Instant::now();
        let loss = Duration::from_millis(self.state().settings.loss_ms());
        let Some(reign) = &mut self.reign else { return };
        let Some(began) = reign.began else { return };
        let floor = began.at;
        let mut lost = Vec::new();
        for (id, node) in &self.replica.state.nodes {
            let Some(life) = &node.life else { continue };
            if !matches!(life.presence, Presence::InSession | Presence::Leaving) || life.gone.is_some() {
                continue;
            }
            let session = reign.sessions.get(id).filter(|session| session.number == life.session);
            // A session may be in the state a moment before this leader has answered its hello.
            let seen = reign.seen.entry(*id).or_insert((life.session, now));
            if seen.0 != life.session {
                *seen = (life.session, now);
            }
            let answered = session.map_or(seen.1, |session| session.answered).max(floor);
            let ends = answered + loss;
            if ends <= now && reign.forbearance <= now && reign.pause <= now {
                if reign.losing.insert((*id, life.session)) {
                    reign.ending.insert((*id, life.session));
                    lost.push((*id, life.incarnation.clone(), life.session));
                }
            } else {
                self.next_due = self.next_due.min(ends.max(reign.forbearance).max(reign.pause));
            }
        }
        let term = reign.term;
        for (node, incarnation, session) in lost {
            let fact = Fact::NodeLost { node, incarnation, session, term };
            self.propose(Command::Fact(fact), None, Ticket::Loss { node, session });
        }
    }

    /// Whether an attempt is still to be made, by this node (F24): not if its target is heard again, which it came to before the
    /// agent began.
    pub(super) fn may_fence(&self, case: CaseId, attempt: u32, executor: NodeId, now: Millis) -> bool {
        let found = self.state().cases.get(&case).filter(|found| found.attempts == attempt);
        found.is_some_and(|found| {
            matches!(found.phase, FencePhase::Running { executor: named, .. } if named == executor)
                && (found.drill().is_some() || self.is_lost(found.node))
                && self.hurts_nobody(case, found, now)
        })
    }

    fn is_lost(&self, node: NodeId) -> bool {
        self.state().nodes.get(&node).is_some_and(|node| node.lost_since().is_some())
    }

    /// Whether a drill is as harmless still as when its attempt began (P91): the agent may have waited for its device. Who
    /// votes is asked of Raft as well, where a voter counts only once it has caught up.
    fn hurts_nobody(&self, id: CaseId, case: &FenceCase, now: Millis) -> bool {
        let Some(drill) = case.drill() else { return true };
        self.is_quorum_without(case.node)
            && self.state().drill_hurts(case.node, drill.level, Some(id), now).is_none()
    }

    fn is_quorum_without(&self, node: NodeId) -> bool {
        let voters = self.consensus.status().voters;
        let counts = |id: &NodeId| {
            let known = self.state().nodes.get(id).is_some_and(|node| node.in_session().is_some());
            known && !self.reign.as_ref().is_some_and(|reign| reign.is_aside(*id))
        };
        let left = voters.iter().copied().map(NodeId).filter(|id| *id != node && counts(id)).count();
        left * 2 > voters.len()
    }

    /// Why a drill may not be asked for that the log alone would let begin: it knows of no voter that takes no part.
    pub(super) fn drill_costs_the_quorum(&self, node: NodeId) -> Option<String> {
        let reign = self.reign.as_ref()?;
        let aside = reign.sessions.keys().find(|id| reign.is_aside(**id))?;
        let (aside, name) = (self.state().node_name(*aside), self.state().node_name(node));
        (!self.is_quorum_without(node)).then(|| {
            format!("{aside} votes no more, so without {name} there would be no quorum: `convoke status`")
        })
    }
}
