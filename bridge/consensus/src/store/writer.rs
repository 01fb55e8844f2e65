//! The one thread that writes the store.
//!
//! Votes, appends, truncations and purges reach the disk in call order, which Raft's safety needs: a vote that overtook
//! an append could make an acknowledged entry disappear. Whatever waits in the queue goes into one commit.
//!
//! The first error ends all writing. It is never retried: after a failed sync nobody knows what the disk holds, and
//! only a fresh start finds out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::disk::{Change, Disk};
#[cfg(feature = "simulated")]
use crate::store::memory::MemoryDisk;
use crate::types::Group;

/// Changes that may wait for the disk. openraft has a few in flight; a full queue makes it wait.
const QUEUE: usize = 1024;

/// Most changes in one commit, so that a burst does not delay its first change for long.
const BATCH: usize = 256;

/// Whom to tell that a change is durable.
pub(crate) enum Done {
    Flushed(IOFlushed<Group>),
    Reply(oneshot::Sender<io::Result<()>>),
    /// Nobody: the change is a hint, waits for the next commit, and may be lost in a crash.
    Lazy,
}

enum Order {
    Write(Change, Done),
    Close,
}

/// The queue to the writing thread. Clones share it.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Order>,
    failure: watch::Receiver<Option<String>>,
    reach: Reach,
}

impl Writer {
    /// Starts the thread. It ends, and closes the file, when it is told to or when all writers are gone. `held` is the
    /// last entry on disk.
    pub(crate) fn start(disk: Disk, held: Option<u64>) -> io::Result<(Writer, JoinHandle<()>)> {
        let (queue, orders) = mpsc::channel(QUEUE);
        let (failed, failure) = watch::channel(None);
        let reach = Reach::new(held);
        let known = reach.clone();
        let thread = std::thread::Builder::new()
            .name("raft-store".to_owned())
            .spawn(move || run(disk, orders, &failed, &known))?;
        Ok((Writer { queue, failure, reach }, thread))
    }

    /// Writes to a disk in memory, by a task that dies with the machine's runtime.
    #[cfg(feature = "simulated")]
    pub(crate) fn simulated(disk: MemoryDisk, held: Option<u64>) -> Writer {
        let (queue, orders) = mpsc::channel(QUEUE);
        let (failed, failure) = watch::channel(None);
        let reach = Reach::new(held);
        let known = reach.clone();
        tokio::spawn(async move {
            simulate(disk, orders, &known).await;
            drop(failed);
        });
        Writer { queue, failure, reach }
    }

    /// Index of the last entry that is on disk, as an entry or within the snapshot.
    pub(crate) fn held(&self) -> Option<u64> {
        self.reach.0.load(Ordering::SeqCst).checked_sub(1)
    }

    /// Queues `change`; `done` hears of it in any case.
    pub(crate) async fn write(&self, change: Change, done: Done) {
        if let Err(mpsc::error::SendError(Order::Write(_, done))) =
            self.queue.send(Order::Write(change, done)).await
        {
            done.tell(Err(closed()));
        }
    }

    /// Queues `change` and waits until it is durable.
    pub(crate) async fn write_and_wait(&self, change: Change) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.write(change, Done::Reply(reply)).await;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Lets the thread finish what is queued and close the file.
    pub(crate) async fn close(&self) {
        // An error means that it has ended already.
        let _ = self.queue.send(Order::Close).await;
    }

    /// Tells when writing failed, and why.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Done::Flushed(callback) => callback.io_completed(result),
            Done::Reply(reply) => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(result);
            }
            Done::Lazy => {}
        }
    }
}

/// Index after the last entry that is on disk; 0 before the first. Clones share it.
#[derive(Clone)]
struct Reach(Arc<AtomicU64>);

impl Reach {
    fn new(held: Option<u64>) -> Self {
        Self(Arc::new(AtomicU64::new(held.map_or(0, |index| index + 1))))
    }

    /// Where it is once `changes` are on disk. Never further than what an opening of the store would find.
    fn after(&self, changes: &[Change]) -> u64 {
        changes.iter().fold(self.0.load(Ordering::SeqCst), |end, change| match change {
            Change::Append(entries) => entries.last().map_or(end, |(index, _)| index + 1),
            Change::TruncateFrom(index) => end.min(*index),
            Change::Purge(upto) => end.max(upto.index + 1),
            Change::Snapshot(snapshot) => end.max(snapshot.meta.last_log_id.map_or(0, |last| last.index + 1)),
            Change::Vote(_) | Change::Committed(_) | Change::Peer(..) | Change::RolledBack(_) => end,
        })
    }

    fn set(&self, end: u64) {
        self.0.store(end, Ordering::SeqCst);
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the store is closed")
}

/// What goes to disk in one commit.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    waiting: Vec<Done>,
    closed: bool,
}

impl Batch {
    /// Takes this order, and what waits in the queue behind it; says whether the batch is to be written now. Changes
    /// that nobody waits for stay here until something else goes to disk.
    fn take(&mut self, mut next: Option<Order>, orders: &mut mpsc::Receiver<Order>) -> bool {
        let mut urgent = false;
        loop {
            match next {
                Some(Order::Write(change, done)) => {
                    urgent |= !matches!(done, Done::Lazy);
                    self.changes.push(change);
                    self.waiting.push(done);
                }
                Some(Order::Close) | None => self.closed = true,
            }
            if self.closed || self.changes.len() >= BATCH {
                break;
            }
            match orders.try_recv() {
                Ok(order) => next = Some(order),
                Err(_) => break,
            }
        }
        !self.changes.is_empty() && (self.closed || urgent || self.changes.len() >= BATCH)
    }

    /// It is on disk.
    fn written(&mut self) {
        self.changes.clear();
        for done in self.waiting.drain(..) {
            done.tell(Ok(()));
        }
    }
}

fn run(disk: Disk, mut orders: mpsc::Receiver<Order>, failed: &watch::Sender<Option<String>>, reach: &Reach) {
    let mut batch = Batch::default();
    while !batch.closed {
        let next = orders.blocking_recv();
        if batch.take(next, &mut orders) {
            let end = reach.after(&batch.changes);
            if let Err(error) = disk.commit(&batch.changes) {
                return fail(error, batch.waiting, orders, failed);
            }
            // Before anybody hears of it: what is committed because this disk has it is told together with that.
            reach.set(end);
            batch.written();
        }
    }
}

/// The same on a disk in memory, without a thread.
#[cfg(feature = "simulated")]
async fn simulate(disk: MemoryDisk, mut orders: mpsc::Receiver<Order>, reach: &Reach) {
    let mut batch = Batch::default();
    while !batch.closed {
        let next = orders.recv().await;
        if batch.take(next, &mut orders) {
            let end = reach.after(&batch.changes);
            disk.commit(std::mem::take(&mut batch.changes)).await;
            reach.set(end);
            batch.written();
        }
    }
}

/// Answers everything with the first error until nobody asks any more.
fn fail(
    error: io::Error,
    waiting: Vec<Done>,
    mut orders: mpsc::Receiver<Order>,
    failed: &watch::Sender<Option<String>>,
) {
    let again = || io::Error::new(error.kind(), error.to_string());
    failed.send_replace(Some(error.to_string()));
    for done in waiting {
        done.tell(Err(again()));
    }
    while let Some(Order::Write(_, done)) = orders.blocking_recv() {
        done.tell(Err(again()));
    }
}

/// A disk on which everything waits for a test.
#[cfg(test)]
pub(crate) struct ByHand(mpsc::Receiver<Order>);

#[cfg(test)]
impl Writer {
    pub(crate) fn by_hand() -> (Writer, ByHand) {
        let (queue, orders) = mpsc::channel(QUEUE);
        let failure = watch::channel(None).1;
        (Writer { queue, failure, reach: Reach::new(None) }, ByHand(orders))
    }
}

#[cfg(test)]
impl ByHand {
    /// Says that the next change is on disk, once there is one.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        let Some(Order::Write(change, done)) = self.0.recv().await else { return None };
        done.tell(Ok(()));
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderId, LogId};

    #[test]
    fn the_disk_holds_what_is_appended_and_not_what_is_cut() {
        let reach = Reach::new(Some(4));
        let append = |indices: std::ops::RangeInclusive<u64>| {
            Change::Append(indices.map(|index| (index, Vec::new())).collect())
        };
        for (changes, end) in [
            (vec![], 5),
            (vec![append(5..=7)], 8),
            (vec![append(5..=7), Change::TruncateFrom(6)], 6),
            (vec![Change::TruncateFrom(3), append(3..=3)], 4),
            (vec![Change::Purge(LogId::new(LeaderId { term: 1, node_id: 1 }, 2))], 5),
            (vec![Change::Purge(LogId::new(LeaderId { term: 1, node_id: 1 }, 9))], 10),
        ] {
            assert_eq!(reach.after(&changes), end, "{changes:?}");
        }
    }
}
