//! Frames of nodes: hellos, facts and questions.

use std::collections::BTreeSet;

use policy::{AlarmKind, Command, Fact, FencePhase, NodeId, Presence, Refusal, Wish};
use tracing::{debug, info, warn};

use super::connections::ConnectionId;
use super::core::{Core, aside, is_large};
use super::entry::Outcome;
use super::leases::{Question, Waiting};
use super::proposals::Ticket;
use super::reign::{Hello, Session};
use crate::api::picture::{self, Live};
use crate::session::message::{Denial, Down, Number, Reply, Request, Up};

impl Core {
    pub(super) fn frame(&mut self, id: ConnectionId, up: Up) {
        let Some(peer) = self.connections.peer(id) else { return };
        if self.reign.is_none() {
            return;
        }
        match up {
            Up::Hello {
                nonce,
                incarnation,
                machine,
                addresses,
                last_session,
                version: _,
                level,
                leaving,
            } => {
                let challenge =
                    self.connections.get_mut(id).map(|connection| (connection.nonce, connection.asked));
                let Some((_, asked)) = challenge.filter(|(given, _)| nonce != 0 && *given == nonce) else {
                    warn!(%peer, "a hello without this leader's nonce");
                    return self.close(id);
                };
                let hello = Hello {
                    node: peer,
                    incarnation,
                    machine,
                    addresses,
                    level,
                    leaving,
                    last_session,
                    asked,
                    proposed: false,
                };
                self.hello(id, hello);
            }
            // A certificate alone says nothing: the node may be removed, or this be what is left of an old session.
            _ if !self.in_session(peer, id) => {
                debug!(%peer, "a frame outside of a session");
                self.close(id);
            }
            Up::Beat { nonce, cut_off_from, digest, set_aside } => {
                self.note_beat(peer);
                self.note_set_aside(peer, id, set_aside);
                if let Some(digest) = digest.filter(|_| !set_aside) {
                    self.compare(peer, &digest);
                }
                self.wait_for_round(Waiting::Beat { connection: id, nonce, cut_off_from });
            }
            Up::Fact { number, fact } => {
                if self.may_say(peer, &fact) {
                    let ticket = match fact {
                        Fact::NodeLeaving { node, .. } => Ticket::Leaving(node, id, number),
                        _ => Ticket::Fact(id, number),
                    };
                    self.propose(Command::Fact(fact), None, ticket);
                } else {
                    let outcome = Err(Refusal::Stale("not this node's to say".to_owned()));
                    self.connections.send(id, Down::FactTaken { number, outcome });
                }
            }
            Up::Ask { number, request } => self.ask(id, peer, number, request),
            Up::Withdraw { number } => self.withdraw(id, number),
        }
    }

    fn in_session(&mut self, peer: NodeId, id: ConnectionId) -> bool {
        self.reign.as_mut().is_some_and(|reign| reign.session_of(peer, id).is_some())
    }

    fn note_beat(&mut self, peer: NodeId) {
        let life = self.replica.state.nodes.get(&peer).and_then(|node| node.life.as_ref());
        let (Some(reign), Some(life)) = (&mut self.reign, life) else { return };
        let number = reign.sessions.get(&peer).map(|session| session.number);
        if number == Some(life.session)
            && reign.beaten.get(&peer).is_none_or(|(_, number)| *number != life.session)
        {
            reign.beaten.insert(peer, (life.incarnation.clone(), life.session));
        }
    }

    fn note_set_aside(&mut self, peer: NodeId, id: ConnectionId, set_aside: bool) {
        let Some(reign) = &mut self.reign else { return };
        if set_aside {
            reign.digests.forget(peer);
        }
        if let Some(session) = reign.session_of(peer, id) {
            session.set_aside = set_aside;
        }
    }

    /// A node speaks for itself, and for the fences and looks that it was given.
    fn may_say(&self, peer: NodeId, fact: &Fact) -> bool {
        if let Some(speaker) = fact.speaker() {
            return speaker == peer;
        }
        match fact {
            Fact::PowerObserved { by: Some(by), .. } if *by != peer => false,
            Fact::PowerObserved { node, device, .. } => {
                let due = self.plan().into_iter().flat_map(|plan| &plan.observe);
                due.into_iter().any(|look| {
                    look.node == *node && look.device == *device && look.executor == peer && *node != peer
                })
            }
            Fact::SwitchedOn { node, device, .. } => {
                let due = self.plan().into_iter().flat_map(|plan| &plan.switch_on);
                // A node speaks of itself only where the plan has it registered by itself.
                due.into_iter().any(|on| on.node == *node && on.device == *device && on.executor == peer)
            }
            Fact::FenceReported { case, .. } | Fact::FenceRepeated { case, .. } => {
                let phase = self.state().cases.get(case).map(|case| &case.phase);
                matches!(phase, Some(FencePhase::Running { executor, .. }) if *executor == peer)
            }
            // What a leader finds out by itself.
            _ => false,
        }
    }

    fn hello(&mut self, id: ConnectionId, hello: Hello) {
        let Some(node) = self.state().nodes.get(&hello.node) else {
            self.connections.send(id, Down::Denied(Denial::Removed));
            return self.close(id);
        };
        if hello.is_outdated(node.life.as_ref()) {
            return self.close(id);
        }
        if node.machine != hello.machine {
            let why = format!(
                "machine {} uses the certificate of {}, which was enrolled as machine {}",
                hello.machine, node.name, node.machine
            );
            // It comes back twice a second for as long as nobody looks: once is enough for the log.
            if !self.state().alarms.contains_key(&AlarmKind::OtherMachine(hello.node)) {
                let fact = Fact::IdentityShared { node: hello.node, machine: hello.machine.clone() };
                self.propose(Command::Fact(fact), None, Ticket::Note);
            }
            self.connections.send(id, Down::Denied(Denial::Identity { why }));
            return self.close(id);
        }
        // 0: its file was lost, and with it the lease; that is no step back.
        let known = self.reign.as_ref().and_then(|reign| reign.beaten.get(&hello.node));
        let known = known.filter(|(incarnation, _)| *incarnation == hello.incarnation);
        if let Some((_, number)) = known.filter(|(_, number)| (1..*number).contains(&hello.last_session)) {
            let why = format!(
                "this machine was put back to an earlier time: it knows of session {}, and has been in session {number}",
                hello.last_session
            );
            warn!(node = %node.name, %why, "a node is told to reboot");
            self.connections.send(id, Down::Denied(Denial::RebootNow { why }));
            return self.close(id);
        }
        // It comes back twice a second, and the log need not hear of it. A life that is to end is told that, with whatever software.
        let in_force = self.state().feature_level;
        let over = node.life.as_ref().is_some_and(|life| {
            let over = life.gone.is_some() || life.contradicted.is_some() || life.isolated.is_some();
            over && life.incarnation == hello.incarnation
        });
        let ends = over || node.past.contains(&hello.incarnation);
        if hello.level < in_force && !ends {
            let why = Refusal::OldSoftware { level: hello.level, in_force }.to_string();
            self.connections.send(id, Down::Denied(Denial::OldSoftware { why }));
            return self.close(id);
        }
        if let Some(reign) = &mut self.reign {
            reign.parked.insert(id, hello);
        }
        self.retry_parked();
    }

    /// Proposes sessions for those that said hello, unless an earlier life of theirs still holds its lease (F3).
    pub(super) fn retry_parked(&mut self) {
        let Some(reign) = &mut self.reign else { return };
        let term = reign.term;
        let state = &self.replica.state;
        let mut session =
            state.nodes.values().filter_map(|node| node.life.as_ref()).map(|life| life.session).max();
        session = session.max(reign.sessions.values().map(|session| session.number).max());
        let (mut proposals, mut outdated) = (Vec::new(), Vec::new());
        for (id, hello) in &mut reign.parked {
            let life = state.nodes.get(&hello.node).and_then(|node| node.life.as_ref());
            let other_lives = life.is_some_and(|life| {
                life.incarnation != hello.incarnation
                    && life.gone.is_none()
                    && !matches!(life.presence, Presence::Lost { .. })
            });
            if hello.proposed {
                continue;
            }
            if hello.is_outdated(life) {
                outdated.push(*id);
                continue;
            }
            if other_lives {
                continue;
            }
            hello.proposed = true;
            let next = session.unwrap_or(0) + 1;
            session = Some(next);
            let fact = Fact::NodeHeard {
                node: hello.node,
                incarnation: hello.incarnation.clone(),
                session: next,
                machine: hello.machine.clone(),
                addresses: hello.addresses.clone(),
                level: hello.level,
                term,
            };
            let leaving = hello
                .leaving
                .then(|| Fact::NodeLeaving { node: hello.node, incarnation: hello.incarnation.clone() });
            proposals.push((*id, next, fact, leaving));
        }
        for id in outdated {
            self.close(id);
        }
        for (id, number, fact, leaving) in proposals {
            self.propose(Command::Fact(fact), None, Ticket::Hello(id, number));
            // It stands in the log before anything that follows from the session, a grant above all (F30).
            if let Some(leaving) = leaving {
                self.propose(Command::Fact(leaving), None, Ticket::Note);
            }
        }
    }

    /// The session's entry was applied, or refused.
    pub(super) fn hello_settled(&mut self, id: ConnectionId, number: u64, outcome: Outcome) {
        let settings = self.state().settings.clone();
        let Some(reign) = &mut self.reign else { return };
        let Some(hello) = reign.parked.get_mut(&id) else { return };
        let term = reign.term;
        match outcome {
            Ok(()) => {
                let Some(hello) = reign.parked.remove(&id) else { return };
                let life = self.replica.state.nodes.get(&hello.node).and_then(|node| node.life.as_ref());
                // Otherwise the node has said hello again since, on another connection.
                if !life.is_some_and(|life| life.incarnation == hello.incarnation && life.session == number) {
                    return self.close(id);
                }
                let session = Session {
                    connection: id,
                    number,
                    answered: std::time::Instant::now(),
                    heard: std::time::Instant::now(),
                    cut_off_from: Default::default(),
                    set_aside: false,
                    told: None,
                };
                reign.digests.forget(hello.node);
                let before = reign.sessions.insert(hello.node, session);
                if let Some(before) = before.filter(|before| before.connection != id) {
                    self.connections.close(before.connection);
                }
                info!(node = %self.state().node_name(hello.node), session = number, "session open");
                self.connections.send(
                    id,
                    Down::Welcome {
                        session: number,
                        lease_ms: settings.lease_ms(),
                        beat_ms: settings.beat_ms(),
                        detect_ms: settings.detect_ms,
                    },
                );
                let book = self.peers();
                self.connections.send(id, Down::Book(book));
                self.dirty = true;
            }
            // The other life may have been called lost meanwhile.
            Err(Refusal::StillInSession | Refusal::Stale(_)) => {
                hello.proposed = false;
                self.dirty = true;
            }
            Err(refusal) => {
                let (node, incarnation) = (hello.node, hello.incarnation.clone());
                let life = self.replica.state.nodes.get(&node).and_then(|node| node.life.as_ref());
                if hello.is_outdated(life) {
                    return self.close(id);
                }
                let denial = match refusal {
                    Refusal::Fenced => {
                        // It was asked after the proof: the proof was wrong (F18).
                        let fact = Fact::ProofContradicted { node, incarnation, term };
                        self.propose(Command::Fact(fact), None, Ticket::Note);
                        Denial::RebootNow { why: "this node was fenced, and is not off".to_owned() }
                    }
                    // Nobody lied, and its time is over all the same. Nobody is to vouch that it is off meanwhile (F36).
                    Refusal::Isolated => {
                        let fact = Fact::CutOffHeard { node, incarnation, term };
                        self.propose(Command::Fact(fact), None, Ticket::Note);
                        Denial::RebootNow { why: "this node was cut off, and others have gone on".to_owned() }
                    }
                    Refusal::WrongIncarnation => {
                        let machine = hello.machine.clone();
                        let fact = Fact::IdentityShared { node, machine };
                        self.propose(Command::Fact(fact), None, Ticket::Note);
                        Denial::RebootNow {
                            why: "a later boot of this node has replaced this one".to_owned(),
                        }
                    }
                    Refusal::UnknownNode(_) => Denial::Removed,
                    old @ Refusal::OldSoftware { .. } => Denial::OldSoftware { why: old.to_string() },
                    other => Denial::Later { why: other.to_string() },
                };
                self.connections.send(id, Down::Denied(denial));
                if let Some(reign) = &mut self.reign {
                    reign.parked.remove(&id);
                }
                self.close(id);
            }
        }
    }

    fn ask(&mut self, id: ConnectionId, peer: NodeId, number: Number, request: Request) {
        match request {
            Request::Wish { client, number: wish_number, wish } => {
                if matches!(wish, Wish::Found { .. } | Wish::Enroll { .. }) {
                    let refusal = Refusal::Impossible("this wish is not an operator's".to_owned());
                    let reply = Reply::Wish(Err(refusal));
                    return self.connections.send(id, Down::Answer { number, reply });
                }
                if let Wish::TestFence { node, .. } = &wish
                    && let Some(why) = self.drill_costs_the_quorum(*node)
                {
                    let reply = Reply::Wish(Err(Refusal::Impossible(why)));
                    return self.connections.send(id, Down::Answer { number, reply });
                }
                self.propose_wish(wish, client, wish_number, Ticket::Wish(id, number));
            }
            Request::Gate { unit, wish, gate } => self.ask_gate((id, number), peer, unit, wish, &gate),
            Request::Enroll { attempt, wish } => self.enroll((id, number), attempt, wish, false),
            request => {
                self.wait_for_round(Waiting::Question(Question { connection: id, number, request }));
            }
        }
    }

    /// Answers the questions that a round has covered. To be called after every batch of events, with the plan of the state.
    /// All who ask for the picture get the same one: it shows every unit, and any number may ask.
    pub(super) fn answer_questions(&mut self) {
        let Some(reign) = &mut self.reign else { return };
        let mut picture = None;
        for Question { connection, number, request } in reign.rounds.take_questions() {
            let Some(peer) = self.connections.peer(connection) else { continue };
            let reply = match request {
                Request::Forecast { supposed } => {
                    self.foretell(connection, number, supposed);
                    continue;
                }
                Request::Enroll { attempt, wish } => {
                    self.enroll((connection, number), attempt, wish, true);
                    continue;
                }
                Request::Overview => picture.get_or_insert_with(|| self.overview()).clone(),
                request => self.answer(peer, &request),
            };
            self.connections.send(connection, Down::Answer { number, reply });
        }
    }

    /// Answers what must be true now; a quorum round has just shown that this voter leads.
    fn answer(&self, peer: NodeId, request: &Request) -> Reply {
        let now = self.now();
        match request {
            Request::MayFence { case, attempt } => Reply::MayRun(self.may_fence(*case, *attempt, peer, now)),
            Request::MaySwitchOn { node, device, since, configured } => {
                let mut due = self.plan().into_iter().flat_map(|plan| &plan.switch_on);
                let due = due.any(|on| {
                    on.node == *node && on.device == *device && on.since == *since && on.executor == peer
                });
                Reply::MayRun(due && *configured == self.state().configured)
            }
            Request::Overview => self.overview(),
            Request::Why { unit } => {
                let plan = self.replica.kept.plan();
                Reply::Why(picture::why(self.state(), plan, now, &self.live(true), unit).map(Box::new))
            }
            Request::History { lines, unit, node } => {
                Reply::History(picture::history(self.state(), *lines, unit.as_ref(), node.as_deref()))
            }
            Request::Config => Reply::Config {
                settings: self.state().settings.clone(),
                devices: self.state().devices.clone(),
                nodes: self
                    .state()
                    .nodes
                    .iter()
                    .map(|(id, node)| (*id, (node.name.clone(), node.attributes.clone())))
                    .collect(),
            },
            Request::Wish { .. }
            | Request::Gate { .. }
            | Request::Enroll { .. }
            | Request::Forecast { .. } => Reply::Unable("this question is answered elsewhere".to_owned()),
        }
    }

    fn overview(&self) -> Reply {
        let (state, plan) = (self.state(), self.replica.kept.plan());
        let now = self.now();
        let live = self.live(true);
        let picture = aside(is_large(state), || picture::overview(state, plan, now, &live));
        Reply::Overview(Box::new(picture))
    }

    fn live(&self, quorum: bool) -> Live {
        let sessions = self.reign.iter().flat_map(|reign| &reign.sessions);
        let cuts =
            sessions.flat_map(|(node, session)| session.cut_off_from.iter().map(|peer| (*node, *peer)));
        // That a dead node is not reached is no news of its links.
        let heard = |id: &NodeId| self.state().nodes.get(id).is_some_and(|node| node.in_session().is_some());
        let cuts = cuts.filter(|(node, peer)| heard(node) && heard(peer));
        let sessions = self.reign.iter().flat_map(|reign| &reign.sessions);
        let set_aside = sessions.filter(|&(node, session)| session.set_aside && heard(node));
        let cuts: BTreeSet<(NodeId, NodeId)> = cuts.map(|(a, b)| (a.min(b), a.max(b))).collect();
        let is_member = |node: &NodeId| self.state().nodes.contains_key(node);
        Live {
            leader: self.leadership.leader.map(NodeId),
            term: self.leadership.term,
            quorum,
            cuts: cuts.into_iter().collect(),
            set_aside: set_aside.map(|(node, _)| *node).collect(),
            behind: self.voters.behind(),
            differ: self.reign.as_ref().map(|reign| reign.digests.lines(is_member)).unwrap_or_default(),
        }
    }
}
