//! The one task that owns the replicated state on a voter.
//!
//! `select!` only picks an event; each is handled at once, without waiting. After every batch of events the core
//! settles: leases are judged, the plan is made anew where the state has changed, and nodes are told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use consensus::{
    Applied, Barrier, BarrierError, Consensus, Leadership, MachineRequest, MembershipError, ProposeError,
};
use policy::{Command, Event as Happening, Millis, NodeId, Plan, Severity, State, Wish};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, info, warn};

use super::connections::{self, ConnectionId, Connections};
use super::memory::Asked;
use super::orders::Changed;
use super::proposals::Ticket;
use super::reign::Reign;
use super::replica::Replica;
use super::times;
use super::voters::Voters;
use crate::doors::Guests;
use crate::net::{AddressBook, Stream};
use crate::session::message::{Down, Number, Reply, Up};

/// Events that may wait for the core.
pub(super) const QUEUE: usize = 1_024;
/// Events handled before the core settles, so that a flood cannot keep it from planning.
const BATCH: usize = 256;
/// Units times nodes from which on it does.
const LARGE: usize = 10_000;
/// Longest time between two looks at nothing in particular, while following.
const IDLE: Duration = Duration::from_secs(3_600);

/// What happens to the core.
#[derive(Debug)]
pub enum Event {
    /// A node's connection is open.
    Connected {
        /// Number of the connection.
        id: ConnectionId,
        /// Who is at its other end.
        peer: NodeId,
        /// Frames to it.
        out: mpsc::Sender<Down>,
    },
    /// A frame came.
    Frame {
        /// On which connection.
        id: ConnectionId,
        /// The frame.
        up: Box<Up>,
    },
    /// A connection is gone.
    Closed {
        /// Which.
        id: ConnectionId,
    },
    /// A quorum round came back.
    Round {
        /// Begun in which term.
        term: u64,
        /// What it showed.
        result: Result<Barrier, BarrierError>,
    },
    /// A proposal came to its end.
    Proposed {
        /// Made in which term.
        term: u64,
        /// Which.
        ticket: u64,
        /// How.
        result: Result<Applied, ProposeError>,
    },
    /// A forecast is made.
    Foretold {
        /// For whom.
        connection: ConnectionId,
        /// Of the question.
        number: Number,
        /// The answer.
        reply: Box<Reply>,
    },
    /// A change of voters came to its end.
    Voters {
        /// How.
        result: Result<(), MembershipError>,
    },
}

/// What the core is made of.
pub struct Setup {
    /// This node.
    pub node: NodeId,
    /// The Raft group.
    pub consensus: Consensus,
    /// The state as it was replayed.
    pub replica: Replica,
    /// On the node that makes the cluster: the cluster's first wish.
    pub found: Option<Wish>,
    /// Entries to apply.
    pub machine: mpsc::Receiver<MachineRequest>,
    /// Accepted sessions, with who is at their other end.
    pub streams: mpsc::Receiver<(NodeId, Stream)>,
    /// Nodes and addresses; kept in step with the state.
    pub book: AddressBook,
    /// Whom the listener lets in; kept in step with the state.
    pub guests: Arc<ArcSwap<Guests>>,
    /// Who leads, for this node's own session.
    pub leader: watch::Sender<Option<NodeId>>,
    /// Told the index that was applied last.
    pub applied: watch::Sender<u64>,
    /// Questions to what this voter knows, for when there is no leader.
    pub asked: mpsc::Receiver<Asked>,
}

/// The core.
pub struct Core {
    pub(super) node: NodeId,
    pub(super) replica: Replica,
    pub(super) consensus: Consensus,
    pub(super) leadership: Leadership,
    pub(super) reign: Option<Reign>,
    pub(super) connections: Connections,
    pub(super) events: mpsc::Sender<Event>,
    /// The state has changed since the last plan.
    pub(super) dirty: bool,
    /// When the core had meant to wake up at the latest.
    pub(super) due: Instant,
    /// When it means to wake up next.
    pub(super) next_due: Instant,
    pub(super) voters: Voters,
    pub(super) book: AddressBook,
    guests: Arc<ArcSwap<Guests>>,
    leader: watch::Sender<Option<NodeId>>,
    applied: watch::Sender<u64>,
    found: Option<Wish>,
    /// Whose turn it is to have a forecast made.
    pub(super) foretelling: Arc<Semaphore>,
    next_connection: ConnectionId,
    next_nonce: u64,
}

/// Whether a look at all of it takes some milliseconds: longer than a beat should wait.
pub(super) fn is_large(state: &State) -> bool {
    state.nodes.len().saturating_mul(state.units.len()) > LARGE
}

/// Does something that may be `long`: the beats of this node and the sessions of the others go on meanwhile, on another thread. A
/// runtime that has no other thread, as a simulated machine's, waits for it.
pub(super) fn aside<T>(long: bool, body: impl FnOnce() -> T) -> T {
    match long.then(|| Handle::current().runtime_flavor()) {
        Some(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(body),
        _ => body(),
    }
}

/// Runs the core until Raft or the daemon stops.
pub async fn run(setup: Setup) {
    let Setup { node, consensus, replica, found, mut machine, mut streams, book, guests, leader, .. } = setup;
    let (applied, mut asked) = (setup.applied, setup.asked);
    let (events, mut queue) = mpsc::channel(QUEUE);
    let mut leadership = consensus.leadership();
    let first = *leadership.borrow_and_update();
    let now = Instant::now();
    let mut core = Core {
        node,
        replica,
        found,
        foretelling: Arc::new(Semaphore::new(1)),
        consensus,
        leadership: first,
        reign: None,
        connections: Connections::default(),
        events,
        dirty: true,
        due: now,
        next_due: now,
        voters: Voters::default(),
        book,
        guests,
        leader,
        applied,
        next_connection: 1,
        next_nonce: seed(),
    };
    core.leadership_changed();
    loop {
        tokio::select! {
            biased;
            request = machine.recv() => match request {
                Some(request) => core.machine(request),
                None => return,
            },
            event = queue.recv() => match event {
                Some(event) => core.handle(event),
                None => return,
            },
            stream = streams.recv() => match stream {
                Some((peer, stream)) => core.accept(peer, stream),
                None => return,
            },
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                core.leadership = *leadership.borrow_and_update();
                core.leadership_changed();
            }
            Some((request, reply)) = asked.recv() => {
                core.remember(request, reply);
            }
            () = tokio::time::sleep_until(core.next_due.into()) => {}
        }
        let mut handled = 0;
        while handled < BATCH {
            if let Ok(request) = machine.try_recv() {
                core.machine(request);
            } else if let Ok(event) = queue.try_recv() {
                core.handle(event);
            } else {
                break;
            }
            handled += 1;
        }
        core.settle(queue.is_empty());
    }
}

/// Nonces of one process do not repeat those of another.
fn seed() -> u64 {
    let mut bytes = [0u8; 8];
    match ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes) | 1,
        Err(_) => super::proposals::wall_ms() | 1,
    }
}

impl Core {
    /// The replicated state.
    pub(super) fn state(&self) -> &State {
        &self.replica.state
    }

    /// The plan on it; `None` if this voter does not lead.
    pub(super) fn plan(&self) -> Option<&Plan> {
        self.reign.as_ref().map(|_| self.replica.kept.plan())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { id, peer, out } => {
                self.connections.add(id, peer, out);
                self.challenge(id);
            }
            Event::Frame { id, up } => self.frame(id, *up),
            Event::Closed { id } => self.closed(id),
            Event::Round { term, result } => self.round_done(term, result),
            Event::Proposed { term, ticket, result } => self.proposed(term, ticket, result),
            Event::Foretold { connection, number, reply } => self.foretold(connection, number, *reply),
            Event::Voters { result } => self.voters_changed(result),
        }
    }

    fn accept(&mut self, peer: NodeId, stream: Stream) {
        let id = self.next_connection;
        self.next_connection += 1;
        connections::serve(id, peer, stream, self.events.clone());
    }

    /// Serves Raft, and says in the journal what came of it.
    fn machine(&mut self, request: MachineRequest) {
        self.replica.serve(request);
        self.dirty |= std::mem::take(&mut self.replica.changed);
        let index = self.replica.state.index;
        self.applied.send_if_modified(|applied| std::mem::replace(applied, index) != index);
        for happening in std::mem::take(&mut self.replica.happenings) {
            self.log(&happening);
        }
    }

    fn log(&self, happening: &Happening) {
        let line = crate::api::picture::sentence(self.state(), happening);
        match happening.severity {
            Severity::Info if self.reign.is_some() => info!(index = happening.index, "{line}"),
            Severity::Warning | Severity::Alert if self.reign.is_some() => {
                warn!(index = happening.index, "{line}");
            }
            // One node's journal tells the cluster's story; the others keep it for `debug`.
            _ => debug!(index = happening.index, "{line}"),
        }
    }

    fn leadership_changed(&mut self) {
        let Leadership { term, mine, leader } = self.leadership;
        let told = leader.map(NodeId);
        self.leader.send_if_modified(|known| std::mem::replace(known, told) != told);
        let reigning = self.reign.as_ref().map(|reign| reign.term);
        if mine && reigning != Some(term) {
            // A session belongs to the term that it was opened in.
            for id in self.connections.challenged() {
                self.close(id);
            }
            self.reign = Some(Reign::new(term));
            self.replica.kept.forget();
            if let Some(found) = self.found.clone().filter(|_| self.state().cluster.is_empty()) {
                self.propose(Command::Wish(found), None, Ticket::Note);
            }
            self.begin_term();
        } else if !mine && reigning.is_some() {
            info!(term, ?leader, "no longer leading");
            self.reign = None;
            self.replica.kept.forget();
            for id in self.connections.ids() {
                self.redirect(id);
            }
        } else if !mine {
            for id in self.connections.ids() {
                self.redirect(id);
            }
        }
    }

    /// First frame to a node: a challenge if this voter leads and its term has begun, else where to go.
    pub(super) fn challenge(&mut self, id: ConnectionId) {
        match &self.reign {
            Some(reign) if reign.began.is_some() => {
                let (term, asked) = (reign.term, reign.time(self.replica.state.time));
                self.next_nonce = self.next_nonce.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let nonce = self.next_nonce;
                let Some(connection) = self.connections.get_mut(id) else { return };
                if connection.nonce == 0 {
                    (connection.nonce, connection.asked) = (nonce, asked);
                    self.connections.send(id, Down::Challenge { nonce, term });
                }
            }
            // The challenge follows when the term has begun.
            Some(_) => {}
            None => self.redirect(id),
        }
    }

    fn redirect(&mut self, id: ConnectionId) {
        let leader = self.leadership.leader.map(NodeId).filter(|leader| *leader != self.node);
        let book = self.peers();
        self.connections.send(id, Down::NotLeader { leader, book });
        self.connections.close(id);
    }

    /// Cluster time now; on a voter that does not lead, as far as it has heard.
    pub(super) fn now(&self) -> Millis {
        self.reign.as_ref().map_or(self.state().time, |reign| reign.time(self.state().time))
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        self.connections.close(id);
    }

    fn closed(&mut self, id: ConnectionId) {
        self.connections.close(id);
        let Some(reign) = &mut self.reign else { return };
        reign.parked.remove(&id);
        reign.gates.retain(|gate| gate.connection != id);
        reign.rounds.keep_questions(|asked| asked.connection != id);
        // The session is gone from memory; its lease is not over for that, and is judged by its last answer.
        let found = reign.sessions.iter().find(|(_, session)| session.connection == id);
        let node = found.map(|(node, _)| *node);
        if let Some(session) = node.and_then(|node| reign.sessions.get_mut(&node)) {
            session.connection = 0;
            session.told = None;
        }
    }

    /// After each batch of events. `quiet`: everything that had arrived was handled.
    fn settle(&mut self, quiet: bool) {
        let now = Instant::now();
        self.note_stall(now);
        self.next_due = now + if self.reign.is_some() { times::tick(&self.state().settings) } else { IDLE };
        if self.reign.as_ref().is_some_and(|reign| reign.began.is_none()) {
            self.begin_term();
        }
        let wake = self.reign.as_ref().and_then(|reign| reign.wake);
        let mut changed = Changed::Nothing;
        if self.dirty || self.voters.is_due(now) || wake.is_some_and(|wake| wake <= now) {
            changed = Changed::Something;
            self.dirty = false;
            self.replan();
            self.keep_book();
            self.keep_voters();
            self.retry_parked();
            self.check_times();
        }
        self.decide();
        self.tell_nodes(changed);
        self.answer_gates();
        self.answer_questions();
        self.begin_round(now);
        if quiet {
            self.judge_leases();
        }
        if let Some(wake) = self.reign.as_ref().and_then(|reign| reign.wake) {
            self.next_due = self.next_due.min(wake.max(now));
        }
        self.due = self.next_due;
    }

    fn replan(&mut self) {
        let Replica { state, kept, .. } = &mut self.replica;
        let Some(reign) = &mut self.reign else { return };
        if reign.began.is_none() {
            return;
        }
        let now = reign.time(state.time);
        let plan = aside(is_large(state), || kept.renew(state, now));
        let wait = |at: u64| Instant::now() + Duration::from_millis(at.saturating_sub(now));
        reign.wake = plan.wake_at.map(wait);
    }

    /// Keeps addresses, and who is let in, in step with the state.
    fn keep_book(&mut self) {
        if self.state().nodes.is_empty() {
            return;
        }
        let guests = self.guests.load();
        let nodes = self.state().nodes.keys().map(|node| node.0);
        let voters = self.state().nodes.iter().filter(|(_, node)| node.role.votes()).map(|(id, _)| id.0);
        let are = |known: &BTreeSet<u64>, now: &mut dyn Iterator<Item = u64>| known.iter().copied().eq(now);
        if guests.newest == 0
            || !are(&guests.nodes, &mut nodes.clone())
            || !are(&guests.voters, &mut voters.clone())
        {
            let newest = self.state().number(self.state().index);
            let (nodes, voters) = (nodes.collect(), voters.collect());
            let removed = crate::api::picture::farewells(self.state());
            self.guests.store(Arc::new(Guests { nodes, voters, newest, removed }));
        }
        let book = self.book_of_state();
        let before = self.book.load();
        if *before != book {
            self.book.replace(book);
            let peers = self.peers();
            let open = self.reign.iter().flat_map(|reign| reign.sessions.values());
            let open: Vec<ConnectionId> = open.map(|session| session.connection).collect();
            for id in open {
                self.connections.send(id, Down::Book(peers.clone()));
            }
        }
    }
}
