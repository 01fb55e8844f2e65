//! The link to the owner of the replicated state.
//!
//! That owner is one task somewhere else; it is asked by messages, in the order of the log. This side keeps what
//! openraft must know beside the state: the last applied entry, the membership, and the last snapshot.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{mpsc, oneshot};

use crate::Bytes;
use crate::store::disk::Change;
use crate::store::writer::Writer;
use crate::types::{Group, LogId, Response, Snapshot, SnapshotMeta, StoredMembership};

/// Most entries in one [`MachineRequest::Apply`].
const BATCH: usize = 256;

/// What the group asks of the owner of the replicated state. Requests must be handled one after the other, in order:
/// a snapshot holds exactly what was applied before it was asked for.
///
/// Dropping a `reply` without an answer, or closing the channel, stops this node's part of the group.
#[derive(Debug)]
pub enum MachineRequest {
    /// Apply these committed entries. After a restart entries are applied again that were applied before it, from the
    /// last snapshot on.
    Apply {
        /// Index, term and command of each entry, by rising index. Indices may be skipped: entries of the group's own
        /// are not shown.
        entries: Vec<(u64, u64, Bytes)>,
        /// One response for each entry, in order; or the reason why an entry cannot be applied here, which stops this
        /// node (a voter that cannot decode an entry must not go on).
        reply: oneshot::Sender<Result<Vec<Vec<u8>>, String>>,
    },
    /// Give all of the state, as bytes. They must fit in one frame to a follower (60 MiB).
    Snapshot {
        /// Where the bytes go.
        reply: oneshot::Sender<Vec<u8>>,
    },
    /// Replace all of the state.
    Restore {
        /// What an earlier `Snapshot` gave, here or on another node.
        bytes: Bytes,
        /// Index of the last entry that the bytes include.
        last_index: u64,
        /// The reason why the bytes cannot be used, which stops this node.
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// openraft's state machine: forwards to the owner of the state.
pub(crate) struct Machine {
    owner: mpsc::Sender<MachineRequest>,
    writer: Writer,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: SnapshotCell,
}

/// The last snapshot. Shared with the builders, which run beside `apply`.
#[derive(Clone, Default)]
struct SnapshotCell(Arc<Mutex<Option<Snapshot>>>);

impl SnapshotCell {
    fn get(&self) -> Option<Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }
}

impl Machine {
    /// Restores `snapshot`, if the store had one, and returns the machine in that state.
    pub(crate) async fn start(
        owner: mpsc::Sender<MachineRequest>,
        writer: Writer,
        snapshot: Option<Snapshot>,
    ) -> io::Result<Machine> {
        let mut machine = Machine {
            owner,
            writer,
            applied: None,
            membership: StoredMembership::default(),
            snapshot: SnapshotCell::default(),
        };
        if let Some(snapshot) = snapshot {
            machine.adopt(snapshot).await?;
        }
        Ok(machine)
    }

    /// Hands the snapshot to the owner of the state and takes over its position.
    async fn adopt(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let last_index = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let (reply, answer) = oneshot::channel();
        self.ask(MachineRequest::Restore { bytes: snapshot.snapshot.clone(), last_index, reply }).await?;
        answer
            .await
            .map_err(|_| owner_gone())?
            .map_err(|why| io::Error::other(format!("the snapshot was refused: {why}")))?;
        self.applied = snapshot.meta.last_log_id;
        self.membership = snapshot.meta.last_membership.clone();
        self.snapshot.set(snapshot);
        Ok(())
    }

    async fn ask(&self, request: MachineRequest) -> io::Result<()> {
        self.owner.send(request).await.map_err(|_| owner_gone())
    }

    async fn apply_batch(&mut self, batch: Vec<EntryResponder<Group>>) -> io::Result<()> {
        let mut commands = Vec::new();
        let mut responders: Vec<(bool, Option<ApplyResponder<Group>>)> = Vec::with_capacity(batch.len());
        let mut applied = self.applied;
        let mut membership = None;
        for (entry, responder) in batch {
            let id = entry.log_id;
            applied = Some(id);
            let is_command = matches!(entry.payload, EntryPayload::Normal(_));
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => commands.push((id.index, id.leader_id.term, command.0)),
                EntryPayload::Membership(voters) => {
                    membership = Some(StoredMembership::new(Some(id), voters))
                }
            }
            responders.push((is_command, responder));
        }
        let mut answers = self.apply_commands(commands).await?.into_iter();
        self.applied = applied;
        self.membership = membership.unwrap_or_else(|| self.membership.clone());
        for (is_command, responder) in responders {
            let answer = if is_command { answers.next().unwrap_or_default() } else { Vec::new() };
            if let Some(responder) = responder {
                responder.send(Response(answer));
            }
        }
        Ok(())
    }

    async fn apply_commands(&self, entries: Vec<(u64, u64, Bytes)>) -> io::Result<Vec<Vec<u8>>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let count = entries.len();
        let (reply, answer) = oneshot::channel();
        self.ask(MachineRequest::Apply { entries, reply }).await?;
        let answers = answer
            .await
            .map_err(|_| owner_gone())?
            .map_err(|why| io::Error::other(format!("an entry cannot be applied: {why}")))?;
        if answers.len() != count {
            return Err(io::Error::other(format!("{count} entries got {} responses", answers.len())));
        }
        Ok(answers)
    }
}

impl RaftStateMachine<Group> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Group>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        while let Some(entry) = entries.next().await {
            batch.push(entry?);
            if batch.len() >= BATCH {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.apply_batch(batch).await }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Asked for here and not in the builder, which runs beside later applies: the request's place in the queue
        // is what ties the bytes to `meta`.
        let (reply, answer) = oneshot::channel();
        let asked = self.ask(MachineRequest::Snapshot { reply }).await;
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder {
            meta,
            answer: asked.map(|()| answer).ok(),
            writer: self.writer.clone(),
            current: self.snapshot.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, bytes: Bytes) -> Result<(), io::Error> {
        let snapshot = Snapshot { meta: meta.clone(), snapshot: bytes };
        self.writer.write_and_wait(Change::Snapshot(snapshot.clone())).await?;
        self.adopt(snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshot.get())
    }
}

/// One snapshot on its way from the owner of the state to the disk.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    answer: Option<oneshot::Receiver<Vec<u8>>>,
    writer: Writer,
    current: SnapshotCell,
}

impl RaftSnapshotBuilder<Group> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let answer = self.answer.take().ok_or_else(owner_gone)?;
        let bytes = answer.await.map_err(|_| owner_gone())?;
        let snapshot = Snapshot { meta: self.meta.clone(), snapshot: Bytes::from(bytes) };
        self.writer.write_and_wait(Change::Snapshot(snapshot.clone())).await?;
        self.current.set(snapshot.clone());
        Ok(snapshot)
    }
}

fn owner_gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the owner of the replicated state is gone")
}
