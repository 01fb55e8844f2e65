//! What the voters applied, and what operators were told: the log as those see it who rely on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge::leader::{self, Stamped};
use bridge::session::Accord;
use consensus::{Bytes, MachineRequest};
use policy::{Command, UnitName, Wanted, Wish};
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
    broken: Option<String>,
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
