//! Whether another voter's store is as far as it was (F21).
//!
//! A store that was put back to an earlier time, as a snapshot of a virtual machine does, is sound and remembers too
//! little: its node may vote twice in one term and forget what it acknowledged. It cannot know; others can. So each run of a
//! voter has a number that rises and a mark that no other run has, told to every other voter, and on every connection
//! before anything else; whoever hears it remembers it on disk. A leader also knows how much of the log the voter has
//! acknowledged to it, and those that it leads know how much of it the leader had on its own disk: it says so with each
//! append, for it sends an entry before its disk has it. A later leader may have had all that cut, so it says nothing of a
//! voter that has seen one.
//!
//! What nobody can tell: a store put back to a time of the same run in which it was last heard, once those who led it or
//! whom it led since then have forgotten how far it was.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use openraft::async_runtime::WatchReceiver;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::store::disk::Change;
use crate::store::writer::Writer;
use crate::types::Raft;

/// Which run of a voter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// How often its store was opened, this time included.
    pub(crate) starts: u64,
    /// Drawn when it was opened.
    pub(crate) mark: u64,
}

/// What a voter says first on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) starts: u64,
    pub(crate) mark: u64,
    /// Index of the last entry that its store held when it was opened.
    pub(crate) held: Option<u64>,
    /// Term and node of the leader that it voted for last, by then.
    pub(crate) vote: Option<(u64, u64)>,
}

impl Hello {
    /// What its store has forgotten if it once knew this leader (term and node) and held this entry.
    fn forgot(&self, leader: (u64, u64), entry: u64, how: &str) -> Option<String> {
        let end = self.held.map_or(0, |index| index + 1);
        let cut = self.vote > Some(leader);
        (!cut && entry >= end).then(|| format!("its log ends before entry {end}, and it {how} entry {entry}"))
    }
}

/// What a node said while it led.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Led {
    term: u64,
    /// Index of the last entry that was on its disk.
    held: u64,
}

/// What is known of the others' runs. Clones share it.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    own: Hello,
    writer: Writer,
    /// The last run of each other voter. Locked while one is judged, until a new one is on disk: else a second greeting of
    /// it could be measured by what it has acknowledged since the first, and an older one be written after it.
    known: tokio::sync::Mutex<BTreeMap<u64, Run>>,
    /// The last that each other voter said as a leader, since this one was opened.
    led: Mutex<BTreeMap<u64, Led>>,
    /// Tells how much of the log others have acknowledged.
    raft: OnceLock<Raft>,
    /// Set before that is on disk, and told after: from then on nothing is said or heard.
    silenced: AtomicBool,
    condemned: watch::Sender<Option<String>>,
}

impl Peers {
    pub(crate) fn new(own: Hello, known: BTreeMap<u64, Run>, writer: Writer) -> Self {
        let (raft, condemned) = (OnceLock::new(), watch::channel(None).0);
        let (known, led, silenced) =
            (tokio::sync::Mutex::new(known), Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { own, writer, known, led, raft, silenced, condemned }))
    }

    /// From now on it counts too what others acknowledge to this node.
    pub(crate) fn lead_with(&self, raft: Raft) {
        // Set once, by whoever made it.
        let _ = self.0.raft.set(raft);
    }

    pub(crate) fn hello(&self) -> Hello {
        self.0.own
    }

    /// Index of the last entry on this node's own disk.
    pub(crate) fn held(&self) -> Option<u64> {
        self.0.writer.held()
    }

    /// `node` leads in `term`, and says that its disk holds the log up to `held`. Its vote was on its disk before that, so
    /// an entry that its store lacks later was forgotten, or cut by a leader for whom it has voted since.
    pub(crate) fn led(&self, node: u64, term: u64, held: Option<u64>) {
        let Some(held) = held else { return };
        let said = Led { term, held };
        let mut led = self.0.led.lock().unwrap_or_else(PoisonError::into_inner);
        let last = led.entry(node).or_insert(said);
        // A node uses several connections, so an older word may come after a newer one.
        *last = said.max(*last);
    }

    /// Whether `node` may take part with this store; what it forgot, if not. A run that is new is on disk before it is
    /// let in.
    pub(crate) async fn judge(&self, node: u64, hello: Hello) -> io::Result<Result<(), String>> {
        let run = Run { starts: hello.starts, mark: hello.mark };
        let mut known = self.0.known.lock().await;
        match known.get(&node) {
            Some(last) if *last == run => return Ok(Ok(())),
            Some(last) if last.starts == run.starts => {
                return Ok(Err(format!("another start {} of its store was seen before", run.starts)));
            }
            Some(last) if last.starts > run.starts => {
                return Ok(Err(format!(
                    "this is start {} of its store, and start {} was seen before",
                    run.starts, last.starts
                )));
            }
            _ => {}
        }
        if let Some(what) = self.forgotten(node, hello) {
            return Ok(Err(what));
        }
        self.0.writer.write_and_wait(Change::Peer(node, run)).await?;
        known.insert(node, run);
        Ok(Ok(()))
    }

    /// Another voter says that this store was put back. It is of no use any more, now or after a restart.
    pub(crate) async fn condemned_by(&self, node: u64, what: String) {
        self.0.silenced.store(true, Ordering::SeqCst);
        let text = format!("node {node} says: {what}");
        if let Err(error) = self.0.writer.write_and_wait(Change::RolledBack(text.clone())).await {
            tracing::error!(%error, "that the store was rolled back is not kept");
        }
        self.0.condemned.send_replace(Some(text));
    }

    /// Tells when this store was found to be put back, and how.
    pub(crate) fn condemned(&self) -> watch::Receiver<Option<String>> {
        self.0.condemned.subscribe()
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.0.silenced.load(Ordering::SeqCst)
    }

    /// What a voter has forgotten of what it said to this node.
    fn forgotten(&self, node: u64, hello: Hello) -> Option<String> {
        self.forgotten_of_this_lead(node, hello).or_else(|| self.forgotten_of_its_own(node, hello))
    }

    /// What it acknowledged to this node, if this node leads.
    fn forgotten_of_this_lead(&self, node: u64, hello: Hello) -> Option<String> {
        let metrics = self.0.raft.get()?.metrics().borrow_watched().clone();
        let (leader, acknowledged) = (metrics.vote.leader_id, (*metrics.replication?.get(&node)?)?);
        hello.forgot((leader.term, leader.node_id), acknowledged.index, "has acknowledged")
    }

    /// What it had when it led this node.
    fn forgotten_of_its_own(&self, node: u64, hello: Hello) -> Option<String> {
        let led = self.0.led.lock().unwrap_or_else(PoisonError::into_inner);
        let Led { term, held } = *led.get(&node)?;
        hello.forgot((term, node), held, "led with")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_leader_may_have_cut_was_not_forgotten() {
        let hello = |held, vote| Hello { starts: 2, mark: 0, held, vote };
        let forgot = |hello: Hello| hello.forgot((3, 1), 9, "had");
        assert_eq!(forgot(hello(Some(9), Some((3, 1)))), None);
        for (held, vote) in [(Some(8), Some((3, 1))), (Some(8), Some((2, 5))), (None, None)] {
            assert!(forgot(hello(held, vote)).is_some(), "{held:?} {vote:?}");
        }
        for later in [(3, 2), (4, 1)] {
            assert_eq!(forgot(hello(Some(8), Some(later))), None, "{later:?}");
        }
    }

    #[tokio::test]
    async fn a_leader_may_lose_what_it_sent_before_its_own_disk_had_it() {
        let (writer, mut disk) = Writer::by_hand();
        tokio::spawn(async move { while disk.next().await.is_some() {} });
        let hello = |starts, held| Hello { starts, mark: starts, held, vote: Some((3, 1)) };
        let peers = Peers::new(hello(1, None), BTreeMap::new(), writer);
        peers.judge(1, hello(1, Some(4))).await.unwrap().unwrap();
        // It has led, and sent entry 9, when its own disk had entry 7. An older word comes late.
        peers.led(1, 3, Some(7));
        peers.led(1, 3, Some(6));
        peers.led(1, 2, Some(9));
        let put_back = peers.judge(1, hello(2, Some(6))).await.unwrap();
        assert_eq!(put_back.unwrap_err(), "its log ends before entry 7, and it led with entry 7");
        peers.judge(1, hello(2, Some(7))).await.unwrap().expect("it has what its disk had");
        let other = Hello { vote: Some((4, 2)), ..hello(3, Some(6)) };
        peers.judge(1, other).await.unwrap().expect("a later leader may have cut it");
    }

    /// What reaches the disk when `node` 1 is judged by two greetings at once, and the verdicts.
    async fn at_once(first: u64, second: u64) -> (Vec<u64>, [Result<(), String>; 2]) {
        let (writer, mut disk) = Writer::by_hand();
        let written = tokio::spawn(async move {
            let mut starts = Vec::new();
            while let Some(Change::Peer(1, run)) = disk.next().await {
                starts.push(run.starts);
            }
            starts
        });
        let hello = |starts| Hello { starts, mark: starts, held: None, vote: None };
        let peers = Peers::new(hello(1), BTreeMap::from([(1, Run { starts: 1, mark: 1 })]), writer);
        let (first, second) = tokio::join!(peers.judge(1, hello(first)), peers.judge(1, hello(second)));
        drop(peers);
        (written.await.unwrap(), [first.unwrap(), second.unwrap()])
    }

    #[tokio::test]
    async fn a_run_that_greets_twice_at_once_is_judged_once() {
        assert_eq!(at_once(2, 2).await, (vec![2], [Ok(()), Ok(())]));
    }

    #[tokio::test]
    async fn an_older_run_that_is_heard_late_does_not_replace_the_newer_one() {
        let late = Err("this is start 2 of its store, and start 3 was seen before".to_owned());
        assert_eq!(at_once(3, 2).await, (vec![3], [Ok(()), late]));
    }
}
