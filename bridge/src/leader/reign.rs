//! What a leader keeps in memory during its term. None of it outlives the term, and nothing safe rests on it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use policy::{Decision, Incarnation, Life, Millis, NodeId, Presence};

use super::connections::ConnectionId;
use super::digests::Digests;
use super::gates::WaitingGate;
use super::leases::Rounds;
use super::proposals::Ticket;
use super::waiting::Told;
use crate::session::message::Orders;

/// One term of leadership.
pub(super) struct Reign {
    /// Raft term.
    pub(super) term: u64,
    /// Its first entry was applied: only from here on are sessions served (F5).
    pub(super) began: Option<Began>,
    /// Whether the first entry is under way.
    pub(super) beginning: bool,
    /// Open sessions.
    pub(super) sessions: BTreeMap<NodeId, Session>,
    /// Connections that said hello and wait for the old incarnation's lease to end.
    pub(super) parked: BTreeMap<ConnectionId, Hello>,
    /// Quorum rounds for beats and questions.
    pub(super) rounds: Rounds,
    /// What each proposal under way is for.
    pub(super) tickets: BTreeMap<u64, Ticket>,
    /// Number of the next ticket.
    pub(super) next_ticket: u64,
    /// Decisions under way.
    pub(super) deciding: Vec<Decision>,
    /// Decisions that `apply` refused: when, and on which state. Not tried again on the same.
    pub(super) refused: Vec<(Instant, u64, Decision)>,
    /// Sessions whose loss was proposed: they are not answered any more, even if it is not known whether the entry will
    /// ever be committed (F5).
    pub(super) ending: BTreeSet<(NodeId, u64)>,
    /// Those whose proposal is under way.
    pub(super) losing: BTreeSet<(NodeId, u64)>,
    /// The last session that each life has beaten in, which it therefore knows the number of (F21).
    pub(super) beaten: BTreeMap<NodeId, (Incarnation, u64)>,
    /// Since when each node's latest session is in the state, as far as this leader has seen.
    pub(super) seen: BTreeMap<NodeId, (u64, Instant)>,
    /// No loss before this time: this leader was stalled itself (F23).
    pub(super) forbearance: Instant,
    /// Nothing is proposed before this time: the log did not take the last proposal.
    pub(super) pause: Instant,
    /// How many such pauses came one after the other.
    pub(super) pauses: u32,
    /// Whether the last quorum round succeeded.
    pub(super) confirmed: bool,
    /// Gates that wait for a permit.
    pub(super) gates: Vec<WaitingGate>,
    /// What units were told of the fences that they wait for.
    pub(super) waiting: Told,
    /// What the voters said of their states.
    pub(super) digests: Digests,
    /// When time alone changes the plan.
    pub(super) wake: Option<Instant>,
}

/// When the term's first entry was applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    /// By this leader's clock.
    pub(super) at: Instant,
    /// Cluster time then (F6).
    pub(super) time: Millis,
}

/// One open session.
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    pub(super) number: u64,
    /// When this leader last answered it; its lease ends at the latest one lease later.
    pub(super) answered: Instant,
    /// The same, whatever this leader's own stalls are held against nobody: when it was last heard.
    pub(super) heard: Instant,
    /// Voters that the node does not reach directly.
    pub(super) cut_off_from: BTreeSet<NodeId>,
    /// Whether it was a voter, and takes no part any more (F20).
    pub(super) set_aside: bool,
    /// What it was last told.
    pub(super) told: Option<Orders>,
}

/// What a node said of itself.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) machine: String,
    pub(super) addresses: Vec<String>,
    /// The highest feature level that its software knows (F20).
    pub(super) level: u32,
    /// Whether it goes down (F30).
    pub(super) leaving: bool,
    /// The last session that it knows of; 0 if it knows of none.
    pub(super) last_session: u64,
    /// Cluster time when it was asked who it is.
    pub(super) asked: Millis,
    /// Whether a proposal for it is under way.
    pub(super) proposed: bool,
}

impl Hello {
    /// Whether its node was lost, cut off or proven off since it was asked, or is in a later life: it may have been on its way
    /// ever since, and says nothing of the node as it is now. Who lives is asked again at once.
    pub(super) fn is_outdated(&self, life: Option<&Life>) -> bool {
        let Some(life) = life else { return false };
        let since = if life.incarnation != self.incarnation {
            Some(life.since)
        } else {
            let lost = match life.presence {
                Presence::Lost { since } => Some(since),
                Presence::InSession | Presence::Leaving => None,
            };
            lost.max(life.gone.map(|gone| gone.at)).max(life.isolated.as_ref().map(|cut| cut.at))
        };
        since.is_some_and(|since| self.asked <= since)
    }
}

impl Reign {
    pub(super) fn new(term: u64) -> Self {
        Self {
            term,
            began: None,
            beginning: false,
            sessions: BTreeMap::new(),
            parked: BTreeMap::new(),
            rounds: Rounds::default(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
            deciding: Vec::new(),
            refused: Vec::new(),
            ending: BTreeSet::new(),
            losing: BTreeSet::new(),
            beaten: BTreeMap::new(),
            seen: BTreeMap::new(),
            forbearance: Instant::now(),
            pause: Instant::now(),
            pauses: 0,
            confirmed: false,
            gates: Vec::new(),
            waiting: Told::default(),
            digests: Digests::default(),
            wake: None,
        }
    }

    /// Cluster time now: the last stamp plus what has passed here since, on CLOCK_MONOTONIC (F6).
    pub(super) fn time(&self, applied: Millis) -> Millis {
        match self.began {
            Some(began) => applied.max(began.time.saturating_add(began.at.elapsed().as_millis() as u64)),
            None => applied,
        }
    }

    /// Whether the node was a voter, and takes no part any more.
    pub(super) fn is_aside(&self, node: NodeId) -> bool {
        self.sessions.get(&node).is_some_and(|session| session.set_aside)
    }

    /// Whether it is in session, and takes part.
    pub(super) fn is_here(&self, node: NodeId) -> bool {
        self.sessions.get(&node).is_some_and(|session| session.connection != 0 && !session.set_aside)
    }

    /// The node's session, if this connection holds it.
    pub(super) fn session_of(&mut self, node: NodeId, connection: ConnectionId) -> Option<&mut Session> {
        self.sessions.get_mut(&node).filter(|session| session.connection == connection)
    }
}

#[cfg(test)]
mod tests {
    use policy::{Chain, Class, Gone};

    use super::*;

    fn hello(incarnation: &str, asked: Millis) -> Hello {
        Hello {
            node: NodeId(1),
            incarnation: incarnation.into(),
            machine: String::new(),
            addresses: Vec::new(),
            level: 0,
            leaving: false,
            last_session: 0,
            asked,
            proposed: false,
        }
    }

    fn life(presence: Presence, gone: Option<Gone>) -> Life {
        Life {
            incarnation: "boot/1".into(),
            session: 7,
            since: 100,
            presence,
            inventory: true,
            told: true,
            strays: BTreeSet::new(),
            gone,
            contradicted: None,
            isolated: None,
            stop_budget_ms: 0,
            lingering: BTreeMap::new(),
            chain: Chain::unknown(),
        }
    }

    #[test]
    fn a_hello_that_was_asked_for_before_its_node_was_lost_or_proven_off_is_outdated() {
        let lost = life(Presence::Lost { since: 500 }, None);
        assert!(hello("boot/1", 499).is_outdated(Some(&lost)), "on its way when the node was lost");
        assert!(!hello("boot/1", 501).is_outdated(Some(&lost)), "the node speaks after that");
        let gone = life(Presence::Lost { since: 500 }, Some(Gone { class: Class::Off, at: 900 }));
        assert!(hello("boot/1", 700).is_outdated(Some(&gone)), "its device does not lie");
        assert!(!hello("boot/1", 901).is_outdated(Some(&gone)), "its device lies (F18)");
    }

    #[test]
    fn a_hello_of_a_life_says_nothing_once_a_later_one_was_heard() {
        let heard = life(Presence::InSession, None);
        assert!(hello("boot/0", 99).is_outdated(Some(&heard)), "of the life before");
        assert!(
            !hello("boot/2", 101).is_outdated(Some(&heard)),
            "of the next one, which waits for the end of this"
        );
        assert!(!hello("boot/1", 50).is_outdated(Some(&heard)), "of this one, which has lost its connection");
        assert!(!hello("boot/1", 0).is_outdated(None));
    }
}
