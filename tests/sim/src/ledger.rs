//! What the voters applied, and what operators were told: the log as those see it who rely on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use consensus::MachineRequest;
use policy::{UnitName, Wanted};
use tokio::sync::mpsc;

/// Entries of Raft that may wait, as in `bridge/src/leader/store.rs`.
const QUEUE: usize = 64;

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
    ) -> (mpsc::Sender<MachineRequest>, mpsc::Receiver<MachineRequest>) {
        let (requests, mut seen) = mpsc::channel(QUEUE);
        let (forward, received) = mpsc::channel(QUEUE);
        let ledger = self.clone();
        tokio::spawn(async move {
            while let Some(request) = seen.recv().await {
                ledger.lock().note(machine, &request);
                if forward.send(request).await.is_err() {
                    return;
                }
            }
        });
        (requests, received)
    }
}

impl Inner {
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
