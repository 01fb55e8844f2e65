//! The store under openraft's own suite, and under damage.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::Bytes;
use crate::machine::{Machine, MachineRequest};
use crate::store::disk::{self, Change, Contents, Disk, OpenError};
use crate::store::log::LogStore;
use crate::store::record::{self, EntryRecord, IdentityRecord};
use crate::store::writer::Writer;
use crate::types::{Command, Entry, Group, LeaderId, LogId, Snapshot, SnapshotMeta, Vote};

fn identity() -> IdentityRecord {
    IdentityRecord { cluster: "c1".into(), node: 1 }
}

fn id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 1, node_id: 1 }, index)
}

fn entry(index: u64) -> Entry {
    let command = format!("command {index} {}", "x".repeat(100));
    Entry { log_id: id(index), payload: EntryPayload::Normal(Command(Bytes::from(command))) }
}

fn append(indices: impl IntoIterator<Item = u64>) -> Change {
    let encoded = |i: u64| (i, record::encode(&i.to_le_bytes(), &EntryRecord::from(&entry(i))).unwrap());
    Change::Append(indices.into_iter().map(encoded).collect())
}

fn snapshot(last: u64) -> Snapshot {
    let meta = SnapshotMeta { last_log_id: Some(id(last)), ..SnapshotMeta::default() };
    Snapshot { meta, snapshot: Bytes::from(format!("state at {last}").repeat(200)) }
}

fn vote() -> Change {
    Change::Vote(Vote { leader_id: LeaderId { term: 1, node_id: 1 }, committed: true })
}

/// A store with a vote, entries 0 to 299, a snapshot at 99 and a purge up to 49, closed properly.
fn used_store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    disk::create(dir.path(), &identity()).unwrap();
    let (disk, _) = open(dir.path()).unwrap();
    disk.commit(&[vote()]).unwrap();
    for chunk in 0..30 {
        disk.commit(&[append(chunk * 10..(chunk + 1) * 10)]).unwrap();
    }
    disk.commit(&[Change::Snapshot(snapshot(99)), Change::Purge(id(49))]).unwrap();
    disk.commit(&[Change::Committed(Some(id(250)))]).unwrap();
    dir
}

fn open(dir: &Path) -> Result<(Disk, Contents), OpenError> {
    Disk::open(dir, &identity())
}

fn refusal(dir: &Path) -> OpenError {
    open(dir).map(|_| ()).expect_err("this store must be refused")
}

fn damage(dir: &Path) -> String {
    match refusal(dir) {
        OpenError::Damaged { what, .. } => what,
        other => panic!("not called damaged: {other}"),
    }
}

#[test]
fn what_was_committed_is_read_back_and_starts_are_counted() {
    let dir = used_store();
    for starts in 2..4 {
        let (_disk, contents) = open(dir.path()).unwrap();
        assert_eq!(contents.starts, starts);
        assert_eq!(contents.vote.map(|v| v.leader_id.term), Some(1));
        assert_eq!(contents.purged, Some(id(49)));
        assert_eq!(contents.committed, Some(id(250)));
        assert_eq!(contents.log.keys().copied().collect::<Vec<_>>(), (50..300).collect::<Vec<_>>());
        assert!(contents.log.values().all(|e| *e == entry(e.log_id.index)));
        assert_eq!(contents.snapshot.unwrap().snapshot, snapshot(99).snapshot);
    }
}

#[test]
fn a_missing_a_second_and_a_foreign_store_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Missing { .. }));
    disk::create(dir.path(), &identity()).unwrap();
    assert!(matches!(disk::create(dir.path(), &identity()), Err(OpenError::Exists { .. })));
    let others =
        [IdentityRecord { cluster: "c2".into(), node: 1 }, IdentityRecord { cluster: "c1".into(), node: 2 }];
    for other in others {
        assert!(matches!(Disk::open(dir.path(), &other), Err(OpenError::Foreign { .. })));
    }
    let held = open(dir.path()).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::InUse { .. }));
    drop(held);
    assert!(open(dir.path()).is_ok(), "nothing of this harmed the store");
}

#[test]
fn a_store_shorter_than_it_was_is_refused_at_any_length() {
    let whole = used_store();
    let file = whole.path().join("raft.redb");
    let length = std::fs::metadata(&file).unwrap().len();
    let bytes = std::fs::read(&file).unwrap();
    for part in 0..16 {
        let keep = usize::try_from(length * part / 16).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("raft.redb"), &bytes[..keep]).unwrap();
        let text = refusal(dir.path()).to_string();
        assert!(text.contains("raft.redb") && text.contains("damaged"), "{keep} of {length} bytes: {text}");
    }
}

/// Rot anywhere either touches nothing that counts, or the store is refused. It is never read as something else.
#[test]
fn flipped_bits_are_refused_or_harmless() {
    let whole = used_store();
    let bytes = std::fs::read(whole.path().join("raft.redb")).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    // A fifth of the header, and a spread over the rest.
    let spread = (0..160).map(|step: usize| 320 + (step * 7919 * 13) % (bytes.len() - 320));
    let walk = (0..320).step_by(5).chain(spread).enumerate().map(|(turn, at)| (turn % 8, at));
    // Byte 9 says which of two commits is the newest.
    for (bit, at) in walk.chain((0..8).map(|bit| (bit, 9))) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raft.redb");
        let mut rotten = bytes.clone();
        rotten[at] ^= 1 << bit;
        std::fs::write(&path, &rotten).unwrap();
        // In debug builds redb asserts where release builds report; the daemon never runs a debug build.
        let opened = std::panic::catch_unwind(|| open(dir.path()));
        match opened {
            Ok(Err(_)) => refused += 1,
            Err(_) if cfg!(debug_assertions) => refused += 1,
            Err(_) => panic!("bit {bit} of byte {at} would abort the daemon without a word"),
            Ok(Ok((_, contents))) => {
                let sound = contents.log.len() == 250
                    && contents.log.values().all(|e| *e == entry(e.log_id.index))
                    && contents.vote.is_some()
                    && contents.committed == Some(id(250))
                    && contents.snapshot.is_some_and(|s| s.snapshot == snapshot(99).snapshot);
                assert!(sound, "bit {bit} of byte {at} changed what the store holds");
                harmless += 1;
            }
        }
    }
    assert!(refused > 20 && harmless > 0, "{refused} refused, {harmless} harmless: the flips hit too little");
}

#[test]
fn rot_after_a_crash_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    disk::create(dir.path(), &identity()).unwrap();
    let (disk, _) = open(dir.path()).unwrap();
    disk.commit(&[vote(), append(0..20)]).unwrap();
    disk.commit(&[append(20..21)]).unwrap();
    // What a crash leaves: the file as it is while it is open.
    let crashed = std::fs::read(dir.path().join("raft.redb")).unwrap();
    drop(disk);
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("raft.redb");
    std::fs::write(&path, &crashed).unwrap();
    assert_eq!(open(copy.path()).unwrap().1.log.len(), 21, "a crash alone loses nothing");

    let needle = b"command 20 ";
    let places: Vec<usize> =
        (0..crashed.len() - needle.len()).filter(|at| crashed[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    std::fs::write(&path, &crashed).unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    for at in places {
        let mut byte = [0];
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte[0] ^ 1]).unwrap();
    }
    drop(file);
    let what = std::panic::catch_unwind(|| damage(copy.path()));
    assert!(what.is_ok(), "the newest commit must not be dropped in silence");
}

#[test]
fn a_log_that_does_not_fit_together_is_refused() {
    let cases: [(&str, Vec<Change>); 6] = [
        ("a hole", vec![append(0..5), append(6..9)]),
        ("a hole at the front", vec![append(1..5)]),
        ("no snapshot for what was purged", vec![append(0..9), Change::Purge(id(3))]),
        ("a snapshot too old", vec![append(0..9), Change::Snapshot(snapshot(2)), Change::Purge(id(3))]),
        ("committed entries that are gone", vec![append(0..5), Change::Committed(Some(id(5)))]),
        ("a wrong place", {
            let Change::Append(mut rows) = append(0..3) else { unreachable!() };
            rows[1].0 = 0;
            rows[0].0 = 1;
            vec![Change::Append(rows)]
        }),
    ];
    for (case, changes) in cases {
        let dir = tempfile::tempdir().unwrap();
        disk::create(dir.path(), &identity()).unwrap();
        let (disk, _) = open(dir.path()).unwrap();
        disk.commit(std::iter::once(&vote()).chain(&changes)).unwrap();
        drop(disk);
        let what = damage(dir.path());
        assert!(!what.is_empty(), "{case}");
    }
    let dir = tempfile::tempdir().unwrap();
    disk::create(dir.path(), &identity()).unwrap();
    open(dir.path()).unwrap().0.commit(&[append(0..5)]).unwrap();
    assert!(damage(dir.path()).contains("vote"), "a log without the vote that it was written under");
}

struct Build;

impl StoreBuilder<Group, LogStore, Machine, TempDir> for Build {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Group>> {
        let dir = tempfile::tempdir().unwrap();
        disk::create(dir.path(), &identity()).unwrap();
        let (disk, contents) = open(dir.path()).unwrap();
        let (writer, _) = Writer::start(disk, None).unwrap();
        let (owner, mut requests) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    MachineRequest::Apply { entries, reply } => {
                        let _ = reply.send(Ok(entries.iter().map(|_| Vec::new()).collect()));
                    }
                    MachineRequest::Snapshot { reply } => {
                        let _ = reply.send(b"state".to_vec());
                    }
                    MachineRequest::Restore { reply, .. } => {
                        let _ = reply.send(Ok(()));
                    }
                }
            }
        });
        let machine = Machine::start(owner, writer.clone(), None).await.unwrap();
        Ok((dir, LogStore::new(contents, writer), machine))
    }
}

#[tokio::test]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Build).await.unwrap();
}
