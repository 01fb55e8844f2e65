//! One state of the whole: the replicated state, the machines, and what is under way between them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use policy::{Presence, Refusal, State};

use super::check::Breach;
use super::letter::{Letter, Life, node_id};
use super::machine::Machine;
use super::view::View;

pub(crate) const NODES: usize = 3;
pub(crate) const NAMES: [&str; NODES] = ["a", "b", "c"];
/// `app.service` requires `db.service`.
pub(crate) const UNITS: [&str; 2] = ["db.service", "app.service"];
pub(crate) const DB: usize = 0;
pub(crate) const APP: usize = 1;
/// Cluster time is always this: what lies in the past is moved further back instead, so that states meet again.
pub(crate) const NOW: u64 = 1_000_000;
/// Letters and views that may be under way at once; one more is lost.
const LETTERS: usize = 7;

/// A fault, or a wish, that happens a bounded number of times in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A machine's network fails.
    Cut,
    /// A machine loses power.
    Power,
    /// A machine boots.
    Boot,
    /// A machine hangs, with its units running on.
    Hang,
    /// An agent's daemon is killed, or its session breaks.
    Drop,
    /// Another node leads.
    Elect,
    /// Cluster time stands still for a tick.
    Slow,
    /// Cluster time jumps ahead as another node begins to lead.
    Jump,
    /// A hello, a view or a loss is under way for long.
    Late,
    /// A message is delivered and comes again.
    Again,
    /// A unit crashes.
    Crash,
    /// A fence agent fails, or hangs and strikes late.
    Fence,
    /// Another machine shows the identity of a node in session.
    Twin,
    /// An operator asks for something.
    Wish,
    /// The daemon of a machine that hangs is killed, which feeds its watchdog once more.
    Close,
    /// A daemon is killed, and starts again at once.
    Restart,
    /// The clock of a machine that is not in touch stands still for a tick: more than any margin covers.
    Still,
}

pub(crate) const FAULTS: usize = 17;

/// The replicated state with its fingerprint of 64 bits, which stands for it, as the checker's own do: among a million
/// states, two are taken for one in three searches of 10^8.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) state: State,
    print: u64,
}

impl Held {
    pub(crate) fn new(state: State) -> Self {
        let bytes = rmp_serde::to_vec(&state).expect("the state as MessagePack");
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        Self { state, print: hasher.finish() }
    }

    pub(crate) fn print(&self) -> u64 {
        self.print
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for Held {}

impl Hash for Held {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.print.hash(hasher);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) held: Arc<Held>,
    pub(crate) machines: [Machine; NODES],
    pub(crate) leader: usize,
    /// Ticks since the leader last answered each node, or began to lead.
    pub(crate) answered: [u8; NODES],
    /// Whether it proposed that the node is lost, and answers that session no more (F5).
    pub(crate) dismissed: [bool; NODES],
    /// Whether the files say what they are changed to, in scenes in which they are.
    pub(crate) rewritten: bool,
    /// The last number of a session that this leader gave.
    pub(crate) session: u64,
    pub(crate) letters: Vec<Letter>,
    pub(crate) views: Vec<View>,
    /// Fence attempts that were carried out.
    pub(crate) done: Vec<(u64, u32)>,
    /// Machines that a late command of their device may still switch off.
    pub(crate) strikes: [bool; NODES],
    /// Openings that were carried out, by the index that began them.
    pub(crate) opened: [u64; NODES],
    /// Ticks in which a late command may still open a way.
    pub(crate) opens_late: [u8; NODES],
    pub(crate) left: [u8; FAULTS],
    pub(crate) breach: Option<Breach>,
    /// What the last command came to; for people.
    pub(crate) said: Said,
}

/// Text that is no part of the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said(pub(crate) Option<Refusal>);

impl PartialEq for Said {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Said {}

impl Hash for Said {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl World {
    pub(crate) fn state(&self) -> &State {
        &self.held.state
    }

    /// Whether the leader can commit: it is up and reaches a majority.
    pub(crate) fn leads(&self) -> bool {
        let reached = self.machines.iter().filter(|machine| machine.heard()).count();
        self.machines[self.leader].heard() && reached > NODES / 2
    }

    /// Whether agent and leader hear each other.
    pub(crate) fn talks(&self, node: usize) -> bool {
        self.leads() && self.machines[node].heard()
    }

    pub(super) fn present(&self, node: usize) -> Option<(&policy::Life, Life)> {
        let life = self.state().nodes.get(&node_id(node))?.life.as_ref()?;
        let boots = life.incarnation.as_str().trim_start_matches(char::is_alphabetic).parse().ok()?;
        Some((life, Life { node, boots }))
    }

    /// The present life of a node, as the state has it.
    pub(crate) fn known_life(&self, node: usize) -> Option<Life> {
        Some(self.present(node)?.1)
    }

    /// Whether the leader answers the node's beats.
    pub(crate) fn serves(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let Some((life, known)) = self.present(node) else { return false };
        self.talks(node)
            && machine.connected
            && !self.dismissed[node]
            && known == machine.life()
            && life.session == machine.session
            && life.gone.is_none()
            && !matches!(life.presence, Presence::Lost { .. })
    }

    /// What is owed to a node by the device.
    pub(super) fn owed(&self, node: usize) -> Option<&policy::SwitchedOff> {
        self.state().switched_off.get(&("pdu".to_string(), node_id(node)))
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.left[fault as usize] > 0
    }

    pub(crate) fn spend(&mut self, fault: Fault) {
        self.left[fault as usize] = self.left[fault as usize].saturating_sub(1);
    }

    pub(crate) fn post(&mut self, letter: Letter) {
        if let Err(at) = self.letters.binary_search(&letter)
            && self.letters.len() < LETTERS
        {
            self.letters.insert(at, letter);
        }
    }
}
