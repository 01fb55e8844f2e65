//! A disk in memory, for simulators: what was synced outlives the machine, what was not is lost with it.
//!
//! It takes the time that its owner says. A machine that dies in the middle of a commit leaves it wholly on disk or not at
//! all, as the real store does, and whoever waited for it does not hear of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::peers::Run;
use crate::store::disk::{Change, Contents, OpenError};
use crate::store::record::{self, EntryRecord};
use crate::types::{LogId, Snapshot, Vote};

/// How long one commit takes: until it is on disk, and from then until that is known.
pub type Pace = Box<dyn FnMut() -> (Duration, Duration) + Send>;

/// One disk. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Mutex<Platter>>);

struct Platter {
    pace: Pace,
    lies: bool,
    unsynced: Vec<Change>,
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    log: BTreeMap<u64, Vec<u8>>,
    snapshot: Option<Snapshot>,
    starts: u64,
    peers: BTreeMap<u64, Run>,
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            pace,
            lies: false,
            unsynced: Vec::new(),
            vote: None,
            purged: None,
            committed: None,
            log: BTreeMap::new(),
            snapshot: None,
            starts: 0,
            peers: BTreeMap::new(),
        })))
    }

    /// From now on it says that it has synced what is still in its cache.
    pub fn lie(&self) {
        self.platter().lies = true;
    }

    /// The machine has lost its power, and the cache what was in it.
    pub fn cut_power(&self) {
        self.platter().unsynced.clear();
    }

    pub(crate) async fn commit(&self, changes: Vec<Change>) {
        let (before, after) = (self.platter().pace)();
        sleep(before).await;
        {
            let mut platter = self.platter();
            if platter.lies {
                platter.unsynced.extend(changes);
            } else {
                for change in changes {
                    platter.apply(change);
                }
            }
        }
        sleep(after).await;
    }

    /// What a machine finds on it. What a disk that lies still has in its cache is there as long as there is power.
    pub(crate) fn open(&self) -> Result<Contents, OpenError> {
        let mut platter = self.platter();
        for change in std::mem::take(&mut platter.unsynced) {
            platter.apply(change);
        }
        platter.starts += 1;
        let mut log = BTreeMap::new();
        for (index, bytes) in &platter.log {
            let entry = record::decode::<EntryRecord>(&index.to_le_bytes(), bytes)
                .and_then(EntryRecord::into_entry)
                .map_err(|error| OpenError::Start(error.to_string()))?;
            log.insert(*index, entry);
        }
        Ok(Contents {
            vote: platter.vote,
            purged: platter.purged,
            committed: platter.committed,
            log,
            snapshot: platter.snapshot.clone(),
            starts: platter.starts,
            peers: platter.peers.clone(),
        })
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Append(entries) => self.log.extend(entries),
            Change::TruncateFrom(index) => drop(self.log.split_off(&index)),
            Change::Purge(upto) => {
                self.log = self.log.split_off(&(upto.index + 1));
                self.purged = Some(upto);
            }
            Change::Committed(committed) => self.committed = committed,
            Change::Snapshot(snapshot) => self.snapshot = Some(snapshot),
            Change::Peer(node, run) => drop(self.peers.insert(node, run)),
            // Its machine would never come back; in the simulator that is a failure, and seen as one.
            Change::RolledBack(_) => {}
        }
    }
}
