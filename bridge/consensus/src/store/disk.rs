//! The redb file of a voter: creating it, opening it, and committing changes to it.
//!
//! Opening reads everything and believes nothing: redb checks each page, and here each record's checksum, the log for
//! holes and its fit to the snapshot are checked. A store that fails is refused. Guessing what it held could take back
//! an acknowledged entry or cast a second vote, so the way out is a new node id, never a repair.
//!
//! Commits are in two phases: redb then never has to fall back to an older commit after a crash. With one phase, rot
//! in the newest commit of a crashed node would look like a torn write, and what it held be dropped in silence.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use crate::Bytes;
use crate::peers::Run;
use crate::store::record::{
    self, EntryRecord, FORMAT, IdentityRecord, LogIdRecord, RecordError, SnapshotRecord, VoteRecord,
};
use crate::types::{Entry, LogId, Snapshot, Vote};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// The last run of each other voter that was heard.
const PEERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("peers");

const FORMAT_KEY: &str = "format";
const IDENTITY: &str = "identity";
const STARTS: &str = "starts";
const ROLLED_BACK: &str = "rolled-back";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
const SNAPSHOT: &str = "snapshot";
const SNAPSHOT_BYTES: &str = "snapshot-bytes";

const FILE: &str = "raft.redb";

/// redb's page cache. The log is read from memory, so the cache only serves the tree's upper pages while writing.
const CACHE_BYTES: usize = 2 << 20;

/// Why a store could not be created or opened. Nothing is changed on disk when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store, although this node should have one.
    #[error(
        "{} is missing; a voter that lost its store must not start with an empty one under its old id: remove it \
         from the cluster and let it join again", path.display()
    )]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// There is a store already.
    #[error("{} exists already; this node belongs to a cluster", path.display())]
    Exists {
        /// The file that was found.
        path: PathBuf,
    },
    /// Another process holds the store.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The store is truncated, altered or incomplete.
    #[error(
        "{} is damaged: {what}; a damaged store is never repaired by guessing: remove this node from the cluster and \
         let it join again under a new id", path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Others know that the store was further than it is.
    #[error(
        "{} was put back to an earlier time ({what}); a voter that forgets what it voted for and acknowledged can break \
         what the cluster has promised: remove this node from the cluster and let it join again under a new id",
        path.display()
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// Who says so, and how they know.
        what: String,
    },
    /// The store was written by newer software.
    #[error("{} has format {found}, and this software knows {FORMAT}: install the newer version again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u8,
    },
    /// The store belongs to another cluster or node.
    #[error(
        "{} belongs to node {} of cluster {}, not to node {} of cluster {}",
        path.display(), found.1, found.0, expected.1, expected.0
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Cluster and node in the store.
        found: (String, u64),
        /// Cluster and node that were asked for.
        expected: (String, u64),
    },
    /// Reading or writing failed: no permission, a full disk, a broken device.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error("the settings of the group cannot be used")]
    Settings(#[from] crate::SettingsError),
    /// The owner of the replicated state is gone or refused its snapshot or its log.
    #[error("the group could not start: {0}")]
    Start(String),
}

/// One change to the file. Log records come encoded, so that the writer's thread does not have to.
#[derive(Debug)]
pub(crate) enum Change {
    Vote(Vote),
    Append(Vec<(u64, Vec<u8>)>),
    /// Removes the entries from this index on.
    TruncateFrom(u64),
    /// Removes the entries up to this one.
    Purge(LogId),
    Committed(Option<LogId>),
    Snapshot(Snapshot),
    /// The last run of another voter.
    Peer(u64, Run),
    /// This store was found to be put back; it is not opened any more.
    RolledBack(String),
}

/// What the file held when it was opened.
pub(crate) struct Contents {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) log: BTreeMap<u64, Entry>,
    pub(crate) snapshot: Option<Snapshot>,
    /// How often the store was opened, this time included.
    pub(crate) starts: u64,
    /// The last run of each other voter.
    pub(crate) peers: BTreeMap<u64, Run>,
}

pub(crate) struct Disk {
    db: Database,
    path: PathBuf,
}

/// Creates an empty store in `dir`, which must exist. It appears whole or not at all.
pub(crate) fn create(dir: &Path, identity: &IdentityRecord) -> Result<(), OpenError> {
    let path = dir.join(FILE);
    if path.exists() {
        return Err(OpenError::Exists { path });
    }
    let draft = dir.join(format!("{FILE}.new"));
    let written = write_empty(&draft, identity)
        .and_then(|()| std::fs::rename(&draft, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|source| OpenError::Io { path, source })
}

/// Whether `dir` holds a store, whatever its state.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

fn write_empty(path: &Path, identity: &IdentityRecord) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(into_io)?;
    let disk = Disk { db, path: path.to_owned() };
    disk.write(|meta, _, _| {
        put(meta, FORMAT_KEY, &FORMAT)?;
        put(meta, IDENTITY, identity)?;
        put(meta, STARTS, &0u64)
    })?;
    disk.db.close().map_err(into_io)?;
    File::open(path)?.sync_all()
}

impl Disk {
    /// Opens the store in `dir`, checks it, and counts the start.
    pub(crate) fn open(dir: &Path, identity: &IdentityRecord) -> Result<(Disk, Contents), OpenError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Err(OpenError::Missing { path });
        }
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .open(&path)
            .map_err(|e| open_error(&path, e))?;
        let disk = Disk { db, path };
        let mut contents = disk.read(identity)?;
        contents.starts += 1;
        disk.write(|meta, _, _| put(meta, STARTS, &contents.starts))
            .map_err(|source| OpenError::Io { path: disk.path.clone(), source })?;
        Ok((disk, contents))
    }

    /// Makes `changes` durable, in their order, all or none of them.
    pub(crate) fn commit<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) -> io::Result<()> {
        self.write(|meta, log, peers| {
            for change in changes {
                apply(meta, log, peers, change)?;
            }
            Ok(())
        })
    }

    fn write<F>(&self, body: F) -> io::Result<()>
    where
        F: FnOnce(&mut MetaTable<'_>, &mut NumberedTable<'_>, &mut NumberedTable<'_>) -> io::Result<()>,
    {
        let run = || {
            let mut transaction = self.db.begin_write().map_err(into_io)?;
            transaction.set_two_phase_commit(true);
            {
                let mut meta = transaction.open_table(META).map_err(into_io)?;
                let mut log = transaction.open_table(LOG).map_err(into_io)?;
                let mut peers = transaction.open_table(PEERS).map_err(into_io)?;
                body(&mut meta, &mut log, &mut peers)?;
            }
            transaction.commit().map_err(into_io)
        };
        run().map_err(|e| io::Error::new(e.kind(), format!("writing {} failed: {e}", self.path.display())))
    }

    fn read(&self, identity: &IdentityRecord) -> Result<Contents, OpenError> {
        let transaction = self.db.begin_read().map_err(|e| self.damaged(e))?;
        let meta = transaction.open_table(META).map_err(|e| self.damaged(e))?;
        let log = transaction.open_table(LOG).map_err(|e| self.damaged(e))?;
        let peers = match transaction.open_table(PEERS) {
            Ok(table) => self.read_peers(&table)?,
            // It was made before others' runs were remembered.
            Err(TableError::TableDoesNotExist(_)) => BTreeMap::new(),
            Err(error) => return Err(self.damaged(error)),
        };

        let found: IdentityRecord = self.need(&meta, IDENTITY)?;
        if found != *identity {
            return Err(OpenError::Foreign {
                path: self.path.clone(),
                found: (found.cluster, found.node),
                expected: (identity.cluster.clone(), identity.node),
            });
        }
        if let Some(what) = self.get(&meta, ROLLED_BACK)? {
            return Err(OpenError::RolledBack { path: self.path.clone(), what });
        }
        let vote: Option<VoteRecord> = self.get(&meta, VOTE)?;
        let purged: Option<LogIdRecord> = self.get(&meta, PURGED)?;
        let committed: Option<LogIdRecord> = self.get(&meta, COMMITTED)?;
        let contents = Contents {
            vote: vote.map(Into::into),
            purged: purged.map(Into::into),
            committed: committed.map(Into::into),
            log: self.read_log(&log)?,
            snapshot: self.read_snapshot(&meta)?,
            starts: self.need(&meta, STARTS)?,
            peers,
        };
        contents.check().map_err(|what| self.damaged(what))?;
        Ok(contents)
    }

    fn read_log(
        &self,
        table: &impl ReadableTable<u64, &'static [u8]>,
    ) -> Result<BTreeMap<u64, Entry>, OpenError> {
        let mut log = BTreeMap::new();
        for row in table.iter().map_err(|e| self.damaged(e))? {
            let (key, value) = row.map_err(|e| self.damaged(e))?;
            let index = key.value();
            let entry = record::decode::<EntryRecord>(&index.to_le_bytes(), value.value())
                .and_then(EntryRecord::into_entry)
                .map_err(|e| self.unreadable(&format!("log entry {index}"), e))?;
            log.insert(index, entry);
        }
        Ok(log)
    }

    fn read_peers(
        &self,
        table: &impl ReadableTable<u64, &'static [u8]>,
    ) -> Result<BTreeMap<u64, Run>, OpenError> {
        let mut peers = BTreeMap::new();
        for row in table.iter().map_err(|e| self.damaged(e))? {
            let (key, value) = row.map_err(|e| self.damaged(e))?;
            let node = key.value();
            let run = record::decode(&node.to_le_bytes(), value.value())
                .map_err(|e| self.unreadable(&format!("the last run of node {node}"), e))?;
            peers.insert(node, run);
        }
        Ok(peers)
    }

    fn read_snapshot(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<Snapshot>, OpenError> {
        let Some(record) = self.get::<SnapshotRecord>(meta, SNAPSHOT)? else { return Ok(None) };
        let bytes = meta.get(SNAPSHOT_BYTES).map_err(|e| self.damaged(e))?;
        let bytes = bytes.map(|b| Bytes::copy_from_slice(b.value())).unwrap_or_default();
        if record.sum != record::checksum(&[&bytes]) {
            return Err(self.damaged("the snapshot's checksum does not match its contents"));
        }
        let meta = record.into_meta().map_err(|e| self.unreadable(SNAPSHOT, e))?;
        Ok(Some(Snapshot { meta, snapshot: bytes }))
    }

    fn get<T: serde::de::DeserializeOwned>(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &'static str,
    ) -> Result<Option<T>, OpenError> {
        let Some(value) = meta.get(key).map_err(|e| self.damaged(e))? else { return Ok(None) };
        record::decode(key.as_bytes(), value.value()).map(Some).map_err(|e| self.unreadable(key, e))
    }

    fn need<T: serde::de::DeserializeOwned>(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &'static str,
    ) -> Result<T, OpenError> {
        self.get(meta, key)?.ok_or_else(|| self.damaged(format!("it has no record of its {key}")))
    }

    fn damaged(&self, what: impl ToString) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    fn unreadable(&self, what: &str, error: RecordError) -> OpenError {
        match error {
            RecordError::Format(found) => OpenError::Format { path: self.path.clone(), found },
            error => self.damaged(format!("{what} cannot be read: {error}")),
        }
    }
}

impl Contents {
    /// Index of the last entry that the store holds, as an entry or within its snapshot.
    pub(crate) fn held(&self) -> Option<u64> {
        let last = self.log.last_key_value().map(|(index, _)| *index);
        let snapshot = self.snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        last.max(self.purged.map(|id| id.index)).max(snapshot.map(|id| id.index))
    }

    /// What a sound store always satisfies, whenever power went away.
    fn check(&self) -> Result<(), String> {
        let mut next = self.purged.map_or(0, |id| id.index + 1);
        let mut leader = self.purged.map(|id| id.leader_id);
        for (index, entry) in &self.log {
            if *index != next || entry.log_id.index != next {
                return Err(format!("its log has no entry {next}, but has {index}"));
            }
            if leader > Some(entry.log_id.leader_id) {
                return Err(format!("its log goes back to an older leader at entry {index}"));
            }
            leader = Some(entry.log_id.leader_id);
            next += 1;
        }
        let snapshot = self.snapshot.as_ref().and_then(|s| s.meta.last_log_id);
        let kept_from = self.purged.map_or(0, |id| id.index + 1);
        let covered = snapshot.map_or(0, |id| id.index + 1);
        if covered < kept_from {
            return Err(format!("its log begins at {kept_from}, but its snapshot ends before {covered}"));
        }
        let known = next.max(covered);
        if let Some(committed) = self.committed
            && committed.index >= known
        {
            return Err(format!(
                "entry {} was committed, but what it holds ends before {known}",
                committed.index
            ));
        }
        // Term 0 is the entry that founds a cluster: nobody voted for it.
        let led = leader.max(snapshot.map(|id| id.leader_id)).filter(|leader| leader.term > 0);
        if led > self.vote.map(|vote| vote.leader_id) {
            return Err("its log is newer than its vote".to_owned());
        }
        Ok(())
    }
}

type MetaTable<'a> = redb::Table<'a, &'static str, &'static [u8]>;
type NumberedTable<'a> = redb::Table<'a, u64, &'static [u8]>;

fn apply(
    meta: &mut MetaTable<'_>,
    log: &mut NumberedTable<'_>,
    peers: &mut NumberedTable<'_>,
    change: &Change,
) -> io::Result<()> {
    match change {
        Change::Vote(vote) => put(meta, VOTE, &VoteRecord::from(vote)),
        Change::Append(entries) => {
            for (index, bytes) in entries {
                log.insert(index, bytes.as_slice()).map_err(into_io)?;
            }
            Ok(())
        }
        Change::TruncateFrom(index) => log.retain_in(*index.., |_, _| false).map_err(into_io),
        Change::Purge(upto) => {
            log.retain_in(..=upto.index, |_, _| false).map_err(into_io)?;
            put(meta, PURGED, &LogIdRecord::from(upto))
        }
        Change::Committed(Some(id)) => put(meta, COMMITTED, &LogIdRecord::from(id)),
        Change::Committed(None) => meta.remove(COMMITTED).map(|_| ()).map_err(into_io),
        Change::Snapshot(snapshot) => {
            put(meta, SNAPSHOT, &SnapshotRecord::new(&snapshot.meta, &snapshot.snapshot))?;
            meta.insert(SNAPSHOT_BYTES, &*snapshot.snapshot).map(|_| ()).map_err(into_io)
        }
        Change::Peer(node, run) => {
            let bytes = record::encode(&node.to_le_bytes(), run).map_err(io::Error::other)?;
            peers.insert(node, bytes.as_slice()).map(|_| ()).map_err(into_io)
        }
        Change::RolledBack(what) => put(meta, ROLLED_BACK, what),
    }
}

fn put<T: serde::Serialize>(meta: &mut MetaTable<'_>, key: &'static str, record: &T) -> io::Result<()> {
    let bytes = record::encode(key.as_bytes(), record).map_err(io::Error::other)?;
    meta.insert(key, bytes.as_slice()).map(|_| ()).map_err(into_io)
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::Storage(StorageError::Io(source)) if is_environment(&source) => {
            OpenError::Io { path, source }
        }
        error => OpenError::Damaged { path, what: error.to_string() },
    }
}

/// Whether an error speaks of the machine and not of what the file holds: then trying again may help.
fn is_environment(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    !matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Keeps the kind of an I/O error (a full disk stays recognizable) and turns everything else into text.
fn into_io(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(e) => e,
        error => io::Error::other(error.to_string()),
    }
}
