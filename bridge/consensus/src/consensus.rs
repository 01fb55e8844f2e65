//! [`Consensus`]: one node's part in the group, from opening its store to closing it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::error::{InitializeError, LinearizableReadError, RaftError};
use openraft::metrics::WaitError;
use openraft::{EmptyNode, Instant, ReadPolicy};
use tokio::sync::{mpsc, watch};

use crate::lane::{self, Dial};
use crate::machine::{Machine, MachineRequest};
use crate::membership::{self, MembershipError};
use crate::network::Network;
use crate::pacer::{self, LastRound};
use crate::peers::{Hello, Peers};
use crate::propose::{Proposal, Proposer};
use crate::serve::{self, Acknowledged};
use crate::settings::Settings;
use crate::store::disk::{self, Contents, Disk, OpenError};
use crate::store::log::LogStore;
use crate::store::record::IdentityRecord;
use crate::store::writer::Writer;
use crate::types::Raft;
use crate::watch::{self as watching, Leadership};
use crate::wire::BoxStream;

/// One node's part in the Raft group. Clones are handles to the same part.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft,
    proposer: Proposer,
    writer: Writer,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    leadership: watch::Receiver<Leadership>,
    ended: watch::Receiver<Option<String>>,
    acknowledged: Acknowledged,
    rounds: LastRound,
    peers: Peers,
    election_max: Duration,
}

/// Proof that this node led, and that its lead was confirmed by a majority after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Term of the confirmed lead.
    pub term: u64,
    /// Everything committed before the call has an index up to this one, and is applied here.
    pub index: u64,
}

/// Why a barrier was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// This node does not lead.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<u64>,
    },
    /// No majority answered in time: this node may have been replaced as leader.
    #[error("no majority of the voters answered")]
    NoQuorum,
    /// The lead was confirmed, but the owner of the state has not applied the log up to it.
    #[error("the replicated state lags behind the log")]
    Behind,
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

/// Why a group could not be founded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeGroupError {
    /// This store has been part of a group.
    #[error("this node belongs to a group already")]
    NotPristine,
    /// This node has stopped.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// Why the lead was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node is not the leader")]
    NotLeader,
    /// No other voter answers and holds the log.
    #[error("no other voter is ready to lead")]
    NobodyReady,
    /// The chosen voter did not take over in time; this node leads on.
    #[error("node {to} did not take over")]
    TimedOut {
        /// The chosen voter.
        to: u64,
    },
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

/// Why a wait for recovery ended without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// No majority confirmed the end of the log in time.
    #[error("no majority of the voters was found in time")]
    TimedOut,
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

/// What this node knows of the group. For people and metrics; nothing may be decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: u64,
    /// Term of the last accepted vote.
    pub term: u64,
    /// The leader, as far as is known.
    pub leader: Option<u64>,
    /// Index of the last entry in this node's log.
    pub last_log: Option<u64>,
    /// Index of the last entry known as committed.
    pub committed: Option<u64>,
    /// Index of the last entry applied here.
    pub applied: Option<u64>,
    /// Index of the last entry in the last snapshot.
    pub snapshot: Option<u64>,
    /// Nodes with a vote, in either half of a change.
    pub voters: BTreeSet<u64>,
    /// Nodes that receive the log without a vote.
    pub learners: BTreeSet<u64>,
    /// Whether a change of voters is half done.
    pub joint: bool,
    /// On the leader: age of each other node's last answer to a heartbeat; none if it never answered in this term.
    pub heard: BTreeMap<u64, Option<Duration>>,
    /// On the leader: index of the last entry that each other node is known to hold.
    pub matched: BTreeMap<u64, Option<u64>>,
    /// On the leader: time since a majority last confirmed it.
    pub quorum_age: Option<Duration>,
}

impl Consensus {
    /// Creates the empty store of a node that has never had one. `dir` must exist.
    ///
    /// Separate from [`open`](Self::open) so that a lost store is never silently replaced: under its old id, a node
    /// with an empty store may vote twice and elect itself over what it acknowledged.
    pub async fn create(dir: &Path, settings: &Settings) -> Result<(), OpenError> {
        settings.config()?;
        let (dir, identity) = (dir.to_owned(), identity(settings));
        blocking(move || disk::create(&dir, &identity)).await
    }

    /// Whether `dir` holds a store, whatever its state.
    pub fn exists(dir: &Path) -> bool {
        disk::exists(dir)
    }

    /// Opens the store in `dir` and starts this node's part.
    ///
    /// The owner of `machine` must already be answering: the last snapshot and the committed entries after it are
    /// given to it before this returns. Serve peers next, then [`wait_for_recovery`](Self::wait_for_recovery).
    pub async fn open(
        dir: &Path,
        settings: Settings,
        machine: mpsc::Sender<MachineRequest>,
        dial: Arc<dyn Dial>,
    ) -> Result<Consensus, OpenError> {
        let config = Arc::new(settings.config()?);
        let (path, identity) = (dir.to_owned(), identity(&settings));
        let (disk, contents) = blocking(move || Disk::open(&path, &identity)).await?;
        let (writer, thread) = Writer::start(disk, contents.held())
            .map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let part = Self::start(&settings, config, contents, writer.clone(), machine, dial).await;
        match part {
            Ok(part) => {
                *part.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                Ok(part)
            }
            Err(error) => {
                writer.close().await;
                join(thread).await;
                Err(error)
            }
        }
    }

    /// Starts this node's part on a disk in memory, and without a thread; else as [`open`](Self::open).
    #[cfg(feature = "simulated")]
    pub async fn open_simulated(
        disk: crate::MemoryDisk,
        settings: Settings,
        machine: mpsc::Sender<MachineRequest>,
        dial: Arc<dyn Dial>,
    ) -> Result<Consensus, OpenError> {
        let config = Arc::new(settings.config()?);
        let contents = disk.open()?;
        let writer = Writer::simulated(disk, contents.held());
        Self::start(&settings, config, contents, writer, machine, dial).await
    }

    async fn start(
        settings: &Settings,
        config: Arc<openraft::Config>,
        mut contents: Contents,
        writer: Writer,
        machine: mpsc::Sender<MachineRequest>,
        dial: Arc<dyn Dial>,
    ) -> Result<Consensus, OpenError> {
        let vote = contents.vote.map(|vote| (vote.leader_id.term, vote.leader_id.node_id));
        let own = Hello { starts: contents.starts, mark: settings.mark, held: contents.held(), vote };
        let peers = Peers::new(own, std::mem::take(&mut contents.peers), writer.clone());
        let snapshot = contents.snapshot.take();
        let machine = Machine::start(machine, writer.clone(), snapshot).await.map_err(start_error)?;
        let log = LogStore::new(contents, writer.clone());
        let network = Network::new(dial.clone(), peers.clone(), settings.request_limit());
        let raft = Raft::new(settings.node, config, network, log, machine).await.map_err(start_error)?;
        peers.lead_with(raft.clone());
        tokio::spawn(lane::introduce(raft.clone(), dial, peers.clone()));
        let (show, leadership) = watch::channel(Leadership::default());
        let (end, ended) = watch::channel(None);
        let acknowledged = Acknowledged::never();
        tokio::spawn(watching::follow(raft.clone(), show, end));
        let heartbeat = Duration::from_millis(settings.heartbeat_ms);
        let rounds = LastRound::never();
        tokio::spawn(pacer::pace(raft.clone(), acknowledged.clone(), rounds.clone(), heartbeat));
        Ok(Consensus {
            proposer: Proposer::start(raft.clone()),
            raft,
            writer,
            thread: Arc::default(),
            leadership,
            ended,
            acknowledged,
            rounds,
            peers,
            election_max: Duration::from_millis(settings.election_max_ms),
        })
    }

    /// Founds a group whose only voter is this node. Once in the life of a cluster, on a store never used before.
    pub async fn initialize(&self) -> Result<(), InitializeGroupError> {
        let members = BTreeMap::from([(*self.raft.node_id(), EmptyNode::new())]);
        self.raft.initialize(members).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_)) => {
                InitializeGroupError::NotPristine
            }
            RaftError::Fatal(fatal) => InitializeGroupError::Stopped(fatal.to_string()),
        })
    }

    /// Waits until everything that this node may have applied before its restart is applied again.
    ///
    /// Needs a majority. Nothing should be read from the state before; a node that was just added waits for the
    /// leader to reach it.
    pub async fn wait_for_recovery(&self, limit: Duration) -> Result<(), RecoveryError> {
        match self.raft.wait_for_recovery(Some(limit)).await {
            Ok(_) => Ok(()),
            Err(WaitError::Timeout(..)) => Err(RecoveryError::TimedOut),
            Err(WaitError::ShuttingDown) => Err(RecoveryError::Stopped),
        }
    }

    /// Answers the requests of voter `from` on `stream` until either side closes it.
    ///
    /// The caller has proven that the peer is `from`; requests in another node's name end the connection. A peer uses
    /// several connections at once.
    pub async fn serve(&self, stream: BoxStream, from: u64) {
        let (raft, peers) = (self.raft.clone(), self.peers.clone());
        serve::serve(raft, peers, stream, from, self.acknowledged.clone()).await;
    }

    /// Proposes `command` for the log. Commands enter the log in the order of these calls.
    pub fn propose(&self, command: Vec<u8>) -> Proposal {
        self.proposer.propose(command, None)
    }

    /// Proposes `command` unless this node has lost the lead that it had in `term`.
    pub fn propose_in(&self, term: u64, command: Vec<u8>) -> Proposal {
        self.proposer.propose(command, Some(term))
    }

    /// Proves that this node leads, by a round to the voters that begins after this call.
    ///
    /// Calls at the same time share a round. Never answered from a lease, so no pause of this process, however long,
    /// makes it wrong. Takes at most the longest election time for the round, and as long for the state to catch up.
    /// The round is a heartbeat to all voters, and stands in for the next one.
    pub async fn barrier(&self) -> Result<Barrier, BarrierError> {
        let begun = tokio::time::Instant::now();
        let read =
            self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(|error| match error {
                RaftError::APIError(LinearizableReadError::ForwardToLeader(f)) => {
                    BarrierError::NotLeader { leader: f.leader_id }
                }
                RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => BarrierError::NoQuorum,
                RaftError::Fatal(_) => BarrierError::Stopped,
            })?;
        self.rounds.note(begun);
        let proven = *read.read_log_id().log_id();
        match read.try_await_ready(&self.raft, Some(self.election_max)).await {
            Ok(Ok(_)) => Ok(Barrier { term: proven.leader_id.term, index: proven.index }),
            Ok(Err(_)) => Err(BarrierError::Behind),
            Err(_) => Err(BarrierError::Stopped),
        }
    }

    /// Who leads, as it changes. A hint: see [`Leadership`].
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Ends, with the reason, when this node can no longer take part: its store failed or was put back to an earlier
    /// time, the owner of the state is gone, or it was shut down. The process should exit then; what it acknowledged is
    /// on disk.
    pub fn fatal(&self) -> impl Future<Output = String> + Send + 'static {
        let (mut store, mut raft) = (self.writer.failure(), self.ended.clone());
        let mut condemned = self.peers.condemned();
        async move {
            // A failed write is the cause of whatever openraft reports afterwards.
            tokio::select! {
                biased;
                reason = reason(&mut store) => reason,
                what = reason(&mut condemned) => format!("the store was put back to an earlier time: {what}"),
                reason = reason(&mut raft) => store.borrow().clone().unwrap_or(reason),
            }
        }
    }

    /// What this node knows of the group now.
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let heard = metrics.heartbeat.unwrap_or_default().into_iter();
        let matched = metrics.replication.unwrap_or_default().into_iter();
        Status {
            node: metrics.id,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            joint: membership.get_joint_config().len() > 1,
            heard: heard.map(|(node, at)| (node, at.map(|at| at.elapsed()))).collect(),
            matched: matched.map(|(node, id)| (node, id.map(|id| id.index))).collect(),
            quorum_age: metrics.last_quorum_acked.map(|at| at.elapsed()),
        }
    }

    /// Time since this voter last acknowledged an append or heartbeat of any leader, since it was opened.
    ///
    /// On the monotonic clock, which stands still in suspend: the true age may be higher, never lower.
    pub fn last_leader_ack_age(&self) -> Option<Duration> {
        self.acknowledged.age()
    }

    /// How often this store was opened, this time included.
    pub fn start_count(&self) -> u64 {
        self.peers.hello().starts
    }

    /// Lets `node` receive the log without a vote, and waits until it has what the log holds now (30 s at most).
    pub async fn add_learner(&self, node: u64) -> Result<(), MembershipError> {
        membership::add_learner(&self.raft, node).await
    }

    /// Makes `voters` the voters. New ones must be learners; who is no voter any more is no learner either.
    ///
    /// Also ends a change that an earlier leader left half done. A leader that is not among `voters` steps down once
    /// the change is committed; [`transfer`](Self::transfer) first, for a shorter gap.
    pub async fn set_voters(&self, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
        membership::set_voters(&self.raft, voters).await
    }

    /// Stops sending the log to learner `node`.
    pub async fn remove_learner(&self, node: u64) -> Result<(), MembershipError> {
        membership::remove_learner(&self.raft, node).await
    }

    /// Hands the lead to the voter that holds most of the log and answered last, and waits until it has it.
    pub async fn transfer(&self) -> Result<u64, TransferError> {
        let status = self.status();
        if !self.leadership.borrow().mine {
            return Err(TransferError::NotLeader);
        }
        let ready = |node: &u64| {
            let heard = status.heard.get(node).copied().flatten()?;
            let matched = status.matched.get(node).copied().flatten();
            (heard < self.election_max).then_some((matched, std::cmp::Reverse(heard), *node))
        };
        let others = status.voters.iter().filter(|node| **node != status.node);
        let Some((_, _, to)) = others.filter_map(ready).max() else { return Err(TransferError::NobodyReady) };
        self.raft.trigger().transfer_leader(to).await.map_err(|_| TransferError::Stopped)?;
        let mut leadership = self.leadership.clone();
        let moved = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != status.node));
        match tokio::time::timeout(2 * self.election_max, moved).await {
            Ok(Ok(now)) => Ok(now.leader.unwrap_or(to)),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut { to }),
        }
    }

    /// Builds a snapshot now instead of after the set number of entries. Returns before it is there.
    pub async fn trigger_snapshot(&self) {
        // An error means that this node has stopped, and that is told elsewhere.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Stops this node's part and closes the store. A leader should [`transfer`](Self::transfer) first.
    ///
    /// Other handles then answer `Stopped`. Must be awaited before the store is opened again in the same process.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the Raft core did not end well");
        }
        self.writer.close().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            join(thread).await;
        }
    }
}

async fn reason(ended: &mut watch::Receiver<Option<String>>) -> String {
    let found = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match found {
        Some(reason) => reason,
        // The other source of reasons decides.
        None => std::future::pending().await,
    }
}

fn identity(settings: &Settings) -> IdentityRecord {
    IdentityRecord { cluster: settings.cluster.clone(), node: settings.node }
}

fn start_error(error: impl std::error::Error) -> OpenError {
    OpenError::Start(error.to_string())
}

/// Runs `work`, which waits for the disk, where that holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(OpenError::Start(error.to_string())),
    }
}

async fn join(thread: JoinHandle<()>) {
    // Only a panic in the thread or a runtime that is being torn down make these fail, and then nothing is left to do.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
}
