//! openraft's log storage: a map in memory in front of the writing thread.
//!
//! Entries are readable as soon as `append` returns and durable when its callback is called. Reads never touch the
//! disk: the log is short (a snapshot cuts it), so all of it stays in memory.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use crate::store::disk::{Change, Contents};
use crate::store::record::{self, EntryRecord};
use crate::store::writer::{Done, Writer};
use crate::types::{Entry, Group, LogId, Vote};

/// Most bytes of commands sent to a follower at once. A frame holds 64 MiB, and one entry is always sent.
const SEND_BYTES: usize = 4 << 20;

/// The log of this voter. Clones share it; openraft reads through several and writes through one.
#[derive(Clone)]
pub(crate) struct LogStore {
    memory: Arc<Mutex<Memory>>,
    writer: Writer,
}

struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    log: BTreeMap<u64, Entry>,
}

impl LogStore {
    pub(crate) fn new(contents: Contents, writer: Writer) -> Self {
        let Contents { vote, purged, committed, log, .. } = contents;
        Self { memory: Arc::new(Mutex::new(Memory { vote, purged, committed, log })), writer }
    }

    /// No code under this lock can panic half-way through a change, so a poisoned lock holds sound data.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Group> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.memory().log.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut room = SEND_BYTES;
        let mut entries = Vec::new();
        if start >= end {
            return Ok(entries);
        }
        for entry in self.memory().log.range(start..end).map(|(_, entry)| entry) {
            let size = command_size(entry);
            if size > room && !entries.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<Group> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Group>, io::Error> {
        let memory = self.memory();
        let last = memory.log.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last.or(memory.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.writer.write_and_wait(Change::Vote(*vote)).await?;
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.memory().committed = committed;
        self.writer.write(Change::Committed(committed), Done::Lazy).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Group>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut memory = self.memory();
            for entry in entries {
                let index = entry.log_id.index;
                let bytes = record::encode(&index.to_le_bytes(), &EntryRecord::from(&entry));
                records.push((index, bytes.map_err(io::Error::other)?));
                memory.log.insert(index, entry);
            }
        }
        self.writer.write(Change::Append(records), Done::Flushed(callback)).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.memory().log.split_off(&from);
        self.writer.write_and_wait(Change::TruncateFrom(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut memory = self.memory();
            memory.log = memory.log.split_off(&(upto.index + 1));
            memory.purged = memory.purged.max(Some(upto));
        }
        self.writer.write_and_wait(Change::Purge(upto)).await
    }
}

fn command_size(entry: &Entry) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.0.len(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    }
}
