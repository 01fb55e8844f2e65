//! Faults of the leader and of the session, put into the messages between them: what a frame says is changed on its way as
//! the other side would have understood it, had it forgotten the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bridge::net::{FrameError, Frames, Stream};
use bridge::session::client::FRAME_MAX;
use bridge::session::message::{Down, Orders, Up};
use bridge::session::{Lease, boottime_ms};
use policy::{
    CaseId, Cause, Decision, Fact, FenceOutcome, Found, Incarnation, NodeId, Terms, Token, UnitName,
};
use policy::{PermitView, Phase, plan};

use crate::flaw::Flaw;
use crate::ledger::Ledger;
use crate::machine::TIMEOUT_STOP;

/// Bytes between the two ends of a changed stream.
const PIPE: usize = 1 << 20;

/// What is put into the sessions of one cluster. Clones are the same.
#[derive(Clone)]
pub(crate) struct Tamper {
    flaw: Flaw,
    ledger: Ledger,
    memory: Arc<Mutex<Memory>>,
}

/// What went by.
#[derive(Default)]
struct Memory {
    /// The present life of each node, and what it released in each.
    lives: BTreeMap<NodeId, Incarnation>,
    released: BTreeMap<(NodeId, UnitName), Incarnation>,
    /// Cases in which some device said off.
    proven: BTreeSet<CaseId>,
    /// Attempts that were answered for.
    answered: BTreeSet<(CaseId, u32)>,
    /// What each node said first of its data.
    positions: BTreeMap<(NodeId, UnitName), Found>,
    /// Facts of nobody's.
    numbers: u64,
}

/// One session, at its leader's end.
struct Session {
    tamper: Tamper,
    /// As it was welcomed: lease and beat, in milliseconds.
    welcome: Option<(u64, u64)>,
    node: NodeId,
}

impl Tamper {
    pub(crate) fn new(flaw: Option<Flaw>, ledger: &Ledger) -> Option<Self> {
        let flaw = flaw.filter(|flaw| flaw.is_in_messages())?;
        Some(Self { flaw, ledger: ledger.clone(), memory: Arc::default() })
    }

    /// The leader's end of a session of this node.
    pub(crate) fn at_leader(&self, node: NodeId, stream: Stream) -> Stream {
        let (near, far) = tokio::io::duplex(PIPE);
        let session = Session { tamper: self.clone(), welcome: None, node };
        // Whichever end fails ends the other: both are dropped.
        tokio::spawn(async move { drop(session.carry(stream, Box::new(near)).await) });
        Box::new(far)
    }

    fn memory<T>(&self, body: impl FnOnce(&mut Memory) -> T) -> T {
        body(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The node's end of a session whose lease is counted from each answer.
pub(crate) fn counted_from_answers(stream: Stream, lease: Lease) -> Stream {
    let (near, far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move { drop(count(lease, stream, Box::new(near)).await) });
    Box::new(far)
}

async fn count(lease: Lease, leader: Stream, node: Stream) -> Result<(), FrameError> {
    let (mut from_leader, mut to_leader) = Frames::new(leader, FRAME_MAX).split();
    let (mut from_node, mut to_node) = Frames::new(node, FRAME_MAX).split();
    loop {
        tokio::select! {
            down = from_leader.recv::<Down>() => {
                let down = down?;
                if let Down::Beaten { lease_ms, .. } = &down {
                    lease.extend(boottime_ms() + lease_ms);
                }
                to_node.send(&down).await?;
            }
            up = from_node.recv::<Up>() => to_leader.send(&up?).await?,
        }
    }
}

impl Session {
    async fn carry(mut self, node: Stream, core: Stream) -> Result<(), FrameError> {
        let (mut from_node, mut to_node) = Frames::new(node, FRAME_MAX).split();
        let (mut from_core, mut to_core) = Frames::new(core, FRAME_MAX).split();
        loop {
            let (ups, downs) = tokio::select! {
                up = from_node.recv::<Up>() => self.up(up?),
                down = from_core.recv::<Down>() => self.down(down?),
            };
            for up in ups {
                to_core.send(&up).await?;
            }
            for down in downs {
                to_node.send(&down).await?;
            }
        }
    }

    fn forged(&self, fact: Fact) -> Up {
        let number = self.tamper.memory(|memory| {
            memory.numbers += 1;
            memory.numbers
        });
        Up::Fact { number: u64::MAX - number, fact }
    }

    fn up(&mut self, mut up: Up) -> (Vec<Up>, Vec<Down>) {
        let (mut more, mut downs) = (Vec::new(), Vec::new());
        match (self.tamper.flaw, &mut up) {
            (Flaw::BeatUnconfirmed, Up::Beat { nonce, .. }) => {
                let (nonce, welcome) = (*nonce, self.welcome);
                let beaten =
                    |(lease_ms, next_in_ms)| Down::Beaten { nonce, lease_ms, next_in_ms, parted: None };
                downs.extend(welcome.map(beaten));
            }
            (Flaw::OldLifeHeard, Up::Hello { incarnation, .. }) => {
                let (node, incarnation) = (self.node, incarnation.clone());
                self.tamper.memory(|memory| memory.lives.insert(node, incarnation));
            }
            (Flaw::OldLifeHeard, Up::Fact { fact: Fact::Released { node, incarnation, unit, .. }, .. }) => {
                let (key, life) = ((*node, unit.clone()), incarnation.clone());
                self.tamper.memory(|memory| memory.released.insert(key, life));
            }
            (Flaw::OldLifeHeard, Up::Fact { fact: Fact::Started { node, incarnation, unit, token }, .. }) => {
                let key = (*node, unit.clone());
                let old = self.tamper.memory(|memory| memory.released.remove(&key));
                if old.is_some_and(|life| life != *incarnation) {
                    more.push(self.forged(released(*node, incarnation, unit, *token)));
                }
            }
            (Flaw::ReportOfAnother, Up::Fact { fact: Fact::FenceReported { case, outcome, .. }, .. })
                if *outcome == FenceOutcome::Off =>
            {
                let case = *case;
                self.tamper.memory(|memory| memory.proven.insert(case));
            }
            (Flaw::OldPosition, Up::Fact { fact: Fact::PositionReported { node, unit, found, .. }, .. })
                if matches!(found, Found::Data { .. }) =>
            {
                let key = (*node, unit.clone());
                *found = self
                    .tamper
                    .memory(|memory| memory.positions.entry(key).or_insert_with(|| found.clone()).clone());
            }
            _ => {}
        }
        (std::iter::once(up).chain(more).collect(), downs)
    }

    fn down(&mut self, mut down: Down) -> (Vec<Up>, Vec<Down>) {
        let mut ups = Vec::new();
        match (self.tamper.flaw, &mut down) {
            (_, Down::Welcome { lease_ms, beat_ms, .. }) => self.welcome = Some((*lease_ms, *beat_ms)),
            (Flaw::GrantUncommitted, Down::State(orders)) => self.add_planned(orders),
            (Flaw::ReportOfAnother, Down::State(orders)) => {
                for order in &orders.fences {
                    let (case, attempt) = (order.case, order.attempt);
                    let another = self.tamper.memory(|memory| {
                        memory.proven.iter().any(|proven| *proven != case)
                            && memory.answered.insert((case, attempt))
                    });
                    if another {
                        let outcome = FenceOutcome::Off;
                        ups.push(self.forged(Fact::FenceReported { case, attempt, outcome }));
                    }
                }
            }
            _ => {}
        }
        (ups, vec![down])
    }

    /// Grants that the leader has only planned.
    fn add_planned(&self, orders: &mut Orders) {
        let ledger = self.tamper.ledger.lock();
        let state = &ledger.state;
        for decision in plan(state, state.time).decisions {
            let Decision::Grant { unit, node, incarnation, revision, adopt: false, start: None } = decision
            else {
                continue;
            };
            let definition = state.units.get(&unit).and_then(|unit| unit.definition());
            let known = orders.view.permits.iter().any(|permit| permit.unit == unit);
            let (Some(definition), false) = (definition.filter(|_| node == self.node), known) else {
                continue;
            };
            let budget_ms = 3 * TIMEOUT_STOP.as_millis() as u64 + 1_000;
            orders.view.permits.push(PermitView {
                unit,
                token: Token(state.number(state.index + 1)),
                incarnation,
                phase: Phase::Granted,
                terms: Terms::of(definition, revision, budget_ms, 0),
                next_terms: None,
                adopted: false,
                hands_off: false,
                peers: Vec::new(),
            });
        }
    }
}

fn released(node: NodeId, incarnation: &Incarnation, unit: &UnitName, token: Token) -> Fact {
    let (incarnation, unit) = (incarnation.clone(), unit.clone());
    Fact::Released { node, incarnation, unit, token, because: Cause::Unused }
}
