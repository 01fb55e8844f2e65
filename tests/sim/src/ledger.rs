//! What the voters applied, and what operators were told: the log as those see it who rely on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge::leader::{self, Stamped};
use bridge::session::{Accord, Lease};
use consensus::{Bytes, Consensus, MachineRequest};
use policy::{
    Command, Decision, Entry, Fact, Incarnation, NodeId, Reason, State, Token, UnitName, Wanted, Wish, apply,
    plan,
};
use tokio::sync::mpsc;

use crate::flaw::Flaw;

/// Entries of Raft that may wait, as in `bridge/src/leader/store.rs`.
const QUEUE: usize = 64;
/// Whose voter makes something else of an entry, and of which, if that fault is put in.
const OTHERWISE: (usize, u64) = (1, 60);

/// The log of the cluster. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Inner>>);

#[derive(Default)]
pub(crate) struct Inner {
    /// What was applied anywhere, by index: the term, and the bytes.
    pub(crate) entries: BTreeMap<u64, (u64, Vec<u8>)>,
    /// The last index that each machine applied since its voter was opened.
    pub(crate) applied: BTreeMap<usize, u64>,
    /// What operators were told was recorded: unit, index and wish.
    acknowledged: Vec<(UnitName, u64, Wanted)>,
    /// Units of which somebody asked something and was not answered.
    doubtful: BTreeMap<UnitName, u64>,
    /// By what each machine's voter says what its state is.
    accords: BTreeMap<usize, Accord>,
    /// What was said first of the state at an index, and by which machine.
    states: BTreeMap<u64, (usize, String)>,
    /// The state after all of it, where a fault needs that.
    pub(crate) state: State,
    keeps_state: bool,
    /// The lease of each machine's daemon, as the product has it.
    pub(crate) leases: BTreeMap<usize, Lease>,
    /// The founder's part of Raft.
    pub(crate) group: Option<Consensus>,
    /// The session that each node opened last.
    sessions: BTreeMap<NodeId, u64>,
    /// Where the log says of a unit that a copy was started, or is gone: the index, and by which permit.
    started: BTreeMap<UnitName, Vec<(u64, Token)>>,
    ended: BTreeMap<UnitName, Vec<(u64, Token)>>,
    /// Losses that were applied first since these were taken.
    lost: Vec<Lost>,
    broken: Option<String>,
}

/// A loss, as it lies in the log.
pub(crate) struct Lost {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// When it was proposed, in milliseconds of the world.
    pub(crate) at: u64,
}

/// A grant, as it lies in the log.
pub(crate) struct Granted {
    pub(crate) unit: UnitName,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Index of the entry.
    pub(crate) index: u64,
    /// When it was proposed, in milliseconds of the world.
    pub(crate) at: u64,
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the state beside the log.
    pub(crate) fn keep_state(&self) {
        self.lock().keeps_state = true;
    }

    /// A channel between Raft and the leader's core that takes note of what passes.
    pub(crate) fn between(
        &self,
        machine: usize,
        flaw: Option<Flaw>,
    ) -> (mpsc::Sender<MachineRequest>, mpsc::Receiver<MachineRequest>) {
        let (requests, mut seen) = mpsc::channel(QUEUE);
        let (forward, received) = mpsc::channel(QUEUE);
        let ledger = self.clone();
        tokio::spawn(async move {
            while let Some(mut request) = seen.recv().await {
                ledger.lock().note(machine, &request);
                if flaw == Some(Flaw::EntryOtherwise) && machine == OTHERWISE.0 {
                    put_otherwise(&mut request);
                }
                if forward.send(request).await.is_err() {
                    return;
                }
            }
        });
        (requests, received)
    }
}

/// Puts another command into an entry: one that does no harm, and that the state shows for long.
fn put_otherwise(request: &mut MachineRequest) {
    let MachineRequest::Apply { entries, .. } = request else { return };
    let Some((index, _, bytes)) = entries.iter_mut().find(|(index, _, _)| *index == OTHERWISE.1) else {
        return;
    };
    let entry = leader::decode(*index, bytes).expect("an entry");
    let (id, by) = ("nobody's".to_owned(), "nobody".to_owned());
    let wish = Wish::IssueToken { id, secret_hash: String::new(), valid_ms: 3_600_000, by };
    let policy::Entry { time, wall_ms, origin, .. } = entry;
    let stamped = Stamped { time, wall_ms, origin, command: Command::Wish(wish) };
    *bytes = Bytes::from(leader::encode(&stamped).expect("an entry"));
}

impl Inner {
    /// A daemon starts, which may say what its voter's state is.
    pub(crate) fn hear(&mut self, machine: usize, accord: Accord) {
        self.accords.insert(machine, accord);
    }

    /// Compares what voters said of their states. One that was told of a difference found no other.
    pub(crate) fn compare(&mut self) {
        for (machine, accord) in &self.accords {
            if let Some(digest) = accord.said() {
                let of = || (*machine, digest.state.clone());
                let (first, state) = self.states.entry(digest.index).or_insert_with(of);
                if *state != digest.state {
                    let (index, one, other) = (digest.index, *first + 1, machine + 1);
                    self.broken.get_or_insert_with(|| {
                        format!(
                            "S5: at index {index} the state of n{other} is another one than that of n{one}"
                        )
                    });
                }
            }
            if let Some(why) = accord.told() {
                let told = || format!("F20: n{} was told that its state differs: {why}", machine + 1);
                self.broken.get_or_insert_with(told);
            }
        }
    }

    fn note(&mut self, machine: usize, request: &MachineRequest) {
        let MachineRequest::Apply { entries, .. } = request else { return };
        for (index, term, bytes) in entries {
            let entry = (*term, bytes.to_vec());
            if !self.entries.contains_key(index) {
                self.note_first(*index, bytes);
            }
            let known = self.entries.entry(*index).or_insert_with(|| entry.clone());
            if *known != entry {
                self.broken.get_or_insert_with(|| {
                    format!(
                        "S5: two voters applied different entries at index {index}, the second on n{}",
                        machine + 1
                    )
                });
            }
            self.applied.insert(machine, *index);
        }
    }

    /// An entry is applied somewhere, and was nowhere before.
    fn note_first(&mut self, index: u64, bytes: &[u8]) {
        let Ok(entry) = leader::decode(index, bytes) else { return };
        tracing::debug!(index, command = ?entry.command, "applied first");
        match &entry.command {
            Command::Fact(Fact::NodeHeard { node, session, .. }) => {
                self.sessions.insert(*node, *session);
                self.lost.retain(|lost| lost.node != *node);
            }
            // A loss of an older session is refused.
            Command::Fact(Fact::NodeLost { node, incarnation, session, .. })
                if self.sessions.get(node) == Some(session) =>
            {
                let at = crate::clock::of_wall(entry.wall_ms);
                self.lost.push(Lost { node: *node, incarnation: incarnation.clone(), at });
            }
            Command::Fact(Fact::Started { unit, token, .. }) => {
                self.started.entry(unit.clone()).or_default().push((index, *token));
            }
            Command::Decision(Decision::Grant { unit, adopt: true, .. }) => {
                self.started.entry(unit.clone()).or_default().push((index, Token(index)));
            }
            Command::Fact(Fact::Released { unit, token, .. }) => {
                self.ended.entry(unit.clone()).or_default().push((index, *token));
            }
            _ => {}
        }
        if self.keeps_state {
            // What is refused changes nothing.
            drop(apply(&mut self.state, &entry));
        }
    }

    /// Whether a permit was given to a copy that ran already.
    pub(crate) fn is_adopted(&self, token: Token) -> bool {
        let known = self.started.values().flatten();
        known.into_iter().any(|(index, of)| *of == token && *index == token.index())
    }

    /// By which permit a unit was started last, as the log said before that index; none if it has said since that it is gone.
    pub(crate) fn runs_under(&self, unit: &UnitName, before: u64) -> Option<Token> {
        let latest = |said: &BTreeMap<UnitName, Vec<(u64, Token)>>| {
            let said = said.get(unit)?.iter();
            said.filter(|(index, _)| *index < before).map(|(_, token)| *token).max()
        };
        let started = latest(&self.started)?;
        latest(&self.ended).is_none_or(|ended| ended < started).then_some(started)
    }

    /// What each unit waits for by all of the log, for a failure.
    pub(crate) fn reasons(&self) -> String {
        let mut state = State::default();
        for (index, (_, bytes)) in &self.entries {
            if let Ok(entry) = leader::decode(*index, bytes) {
                // What is refused changes nothing.
                drop(apply(&mut state, &entry));
            }
        }
        let said = |(name, reasons): (&UnitName, &Vec<Reason>)| format!("{name}: {reasons:?}");
        let reasons: Vec<String> = plan(&state, state.time).reasons.iter().map(said).collect();
        reasons.join("; ")
    }

    /// Losses since this was asked last.
    pub(crate) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// The grant that a token comes of, if that was applied anywhere.
    pub(crate) fn granted(&self, token: Token) -> Option<Granted> {
        let (_, bytes) = self.entries.get(&token.index())?;
        let Entry { wall_ms, command, .. } = leader::decode(token.index(), bytes).ok()?;
        let Command::Decision(Decision::Grant { unit, node, incarnation, .. }) = command else { return None };
        let (index, at) = (token.index(), crate::clock::of_wall(wall_ms));
        Some(Granted { unit, node, incarnation, index, at })
    }

    /// An operator was told that this wish is recorded.
    pub(crate) fn acknowledge(&mut self, unit: &UnitName, index: u64, wanted: Wanted) {
        self.acknowledged.push((unit.clone(), index, wanted));
    }

    /// A wish of this unit is on its way, and may be recorded at any time from here on.
    pub(crate) fn doubt(&mut self, unit: &UnitName) {
        *self.doubtful.entry(unit.clone()).or_default() += 1;
    }

    /// It came to its end.
    pub(crate) fn settle(&mut self, unit: &UnitName) {
        if let Some(count) = self.doubtful.get_mut(unit) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether a permit that was granted at this index is against what an operator was told before (S6).
    pub(crate) fn forbids(&self, unit: &UnitName, granted: u64) -> bool {
        let told = || self.acknowledged.iter().filter(|(name, _, _)| name == unit);
        let stopped = told().filter(|(_, index, wanted)| *wanted == Wanted::Stopped && *index < granted);
        let Some(stopped) = stopped.map(|(_, index, _)| *index).max() else { return false };
        // Who asked twice is told the index of the repeat: a start that was told of later may have been recorded before.
        let started = told().any(|(_, index, wanted)| *wanted == Wanted::Started && *index > stopped);
        let doubtful = self.doubtful.get(unit).is_some_and(|count| *count > 0);
        !started && !doubtful
    }

    /// What is wrong with the log.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.clone()
    }
}
