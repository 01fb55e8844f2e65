//! A group of nodes in one process: stores in temporary folders, connections through relays that can be cut, and an
//! owner of the state that remembers every command it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consensus::{
    Applied, BoxFuture, BoxStream, Consensus, Dial, MachineRequest, OpenError, ProposeError, Settings,
};
use tempfile::TempDir;
use tokio::io::{copy_bidirectional, duplex};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// No two openings of a store have one mark.
static MARK: AtomicU64 = AtomicU64::new(0);

/// Longest wait for anything that should take a second at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Twice the daemon's election times: these tests run beside each other on machines with two slow cores.
pub(crate) fn settings(node: u64) -> Settings {
    Settings {
        node,
        cluster: "test".into(),
        heartbeat_ms: 100,
        election_min_ms: 400,
        election_max_ms: 800,
        snapshot_every: 50,
        keep_logs: 10,
        mark: MARK.fetch_add(1, Ordering::Relaxed),
    }
}

/// The replicated state of these tests: all commands with their indices.
#[derive(Clone, Default)]
pub(crate) struct State(Arc<Mutex<Vec<(u64, String)>>>);

impl State {
    pub(crate) fn commands(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, command)| command.clone()).collect()
    }

    fn apply(&self, index: u64, command: &[u8]) -> Vec<u8> {
        let mut state = self.0.lock().unwrap();
        assert!(state.last().is_none_or(|(last, _)| *last < index), "entry {index} applied out of order");
        state.push((index, String::from_utf8(command.to_vec()).unwrap()));
        format!("{}th", state.len()).into_bytes()
    }

    fn snapshot(&self) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        state.iter().map(|(index, command)| format!("{index} {command}\n")).collect::<String>().into_bytes()
    }

    fn restore(&self, bytes: &[u8], last_index: u64) {
        let text = std::str::from_utf8(bytes).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        let restored: Vec<_> = lines.map(|(i, c)| (i.parse().unwrap(), c.to_owned())).collect();
        assert!(restored.last().is_none_or(|(index, _)| *index <= last_index));
        *self.0.lock().unwrap() = restored;
    }
}

/// Starts the owner of `state`.
pub(crate) fn owner(state: State) -> mpsc::Sender<MachineRequest> {
    let (tx, mut requests) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            // Nobody may wait for an answer any more when a node is killed.
            match request {
                MachineRequest::Apply { entries, reply } => {
                    let answers = entries.iter().map(|(index, _, command)| state.apply(*index, command));
                    let _ = reply.send(Ok(answers.collect()));
                }
                MachineRequest::Snapshot { reply } => drop(reply.send(state.snapshot())),
                MachineRequest::Restore { bytes, last_index, reply } => {
                    state.restore(&bytes, last_index);
                    let _ = reply.send(Ok(()));
                }
            }
        }
    });
    tx
}

/// The network between the nodes of a group.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u64, Consensus>,
    cut: BTreeMap<(u64, u64), watch::Sender<bool>>,
}

impl Net {
    /// Cuts or mends the wire between two nodes. Over a cut wire nothing arrives, and nothing says so.
    pub(crate) fn set_cut(&self, a: u64, b: u64, cut: bool) {
        self.wire(a, b).send_replace(cut);
    }

    pub(crate) fn isolate(&self, node: u64, cut: bool) {
        for other in (1..6).filter(|other| *other != node) {
            self.set_cut(node, other, cut);
        }
    }

    fn wire(&self, a: u64, b: u64) -> watch::Sender<bool> {
        let key = (a.min(b), a.max(b));
        self.0.lock().unwrap().cut.entry(key).or_insert_with(|| watch::channel(false).0).clone()
    }

    fn plug(&self, node: u64, consensus: Option<Consensus>) {
        let nodes = &mut self.0.lock().unwrap().nodes;
        match consensus {
            Some(consensus) => drop(nodes.insert(node, consensus)),
            None => drop(nodes.remove(&node)),
        }
    }

    async fn connect(self, from: u64, to: u64) -> io::Result<BoxStream> {
        assert_ne!(from, to, "a node must never dial itself");
        let wire = self.wire(from, to);
        let mut state = wire.subscribe();
        // Connecting over a cut wire takes until it is mended.
        state.wait_for(|cut| !cut).await.map_err(io::Error::other)?;
        let target =
            self.0.lock().unwrap().nodes.get(&to).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, mut near_relay) = duplex(64 << 10);
        let (far, mut far_relay) = duplex(64 << 10);
        tokio::spawn(async move { target.serve(Box::new(far), from).await });
        tokio::spawn(async move {
            let is_cut = tokio::select! {
                _ = copy_bidirectional(&mut near_relay, &mut far_relay) => false,
                _ = state.wait_for(|cut| *cut) => true,
            };
            if is_cut {
                // Both ends stay open and silent, then break, as TCP does after a long cut.
                let _ = wire.subscribe().wait_for(|cut| !cut).await;
            }
        });
        Ok(Box::new(near))
    }
}

struct Dialler {
    net: Net,
    from: u64,
}

impl Dial for Dialler {
    fn dial(&self, node: u64) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(self.net.clone().connect(self.from, node))
    }
}

/// One running node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) consensus: Consensus,
    pub(crate) state: State,
}

impl Node {
    /// Proposes until the leader is ready to take it.
    pub(crate) async fn propose(&self, command: &str) -> Result<Applied, ProposeError> {
        let outcome = async {
            loop {
                match self.consensus.propose(command.into()).await {
                    Err(ProposeError::NotReady) => sleep(Duration::from_millis(5)).await,
                    outcome => return outcome,
                }
            }
        };
        timeout(PATIENCE, outcome).await.expect("no outcome")
    }
}

/// A group and the folders of its nodes.
pub(crate) struct Group {
    dir: TempDir,
    pub(crate) net: Net,
    pub(crate) nodes: BTreeMap<u64, Node>,
}

impl Group {
    /// Node 1, alone.
    pub(crate) async fn of_one() -> Group {
        let mut group =
            Group { dir: tempfile::tempdir().unwrap(), net: Net::default(), nodes: BTreeMap::new() };
        let node = group.start(1).await;
        node.consensus.initialize().await.unwrap();
        group.leader().await;
        group
    }

    /// Nodes 1, 2 and 3, all voters.
    pub(crate) async fn of_three() -> Group {
        let mut group = Group::of_one().await;
        let leader = group.leader().await;
        for id in [2, 3] {
            group.start(id).await;
            leader.consensus.add_learner(id).await.unwrap();
        }
        leader.consensus.set_voters(BTreeSet::from([1, 2, 3])).await.unwrap();
        group
    }

    /// Starts a node on its folder, which is made if it is new.
    pub(crate) async fn start(&mut self, id: u64) -> Node {
        let state = State::default();
        let consensus = open(&self.folder(id), id, &self.net, &state).await.unwrap();
        self.net.plug(id, Some(consensus.clone()));
        let node = Node { id, consensus, state };
        self.nodes.insert(id, node.clone());
        node
    }

    /// Stops a node. Its connections break.
    pub(crate) async fn stop(&mut self, id: u64) {
        self.net.plug(id, None);
        let node = self.nodes.remove(&id).unwrap();
        timeout(PATIENCE, node.consensus.shutdown()).await.expect("shutdown hangs");
    }

    pub(crate) fn folder(&self, id: u64) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    /// The node that proves to lead now.
    pub(crate) async fn leader(&self) -> Node {
        let found = async {
            loop {
                for node in self.nodes.values() {
                    let mine = node.consensus.leadership().borrow().mine;
                    if mine && node.consensus.barrier().await.is_ok() {
                        return node.clone();
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("no leader")
    }

    /// Waits until every running node has applied the same commands, and returns them.
    pub(crate) async fn settled(&self, count: usize) -> Vec<String> {
        let want = |node: &Node| node.state.commands().len() == count;
        until("all nodes have applied everything", || self.nodes.values().all(want)).await;
        let mut all = self.nodes.values().map(|node| node.state.commands());
        let first = all.next().unwrap();
        assert!(all.all(|other| other == first), "the states differ");
        first
    }
}

pub(crate) async fn open(dir: &Path, id: u64, net: &Net, state: &State) -> Result<Consensus, OpenError> {
    if !Consensus::exists(dir) {
        std::fs::create_dir_all(dir).unwrap();
        Consensus::create(dir, &settings(id)).await?;
    }
    let dialler = Arc::new(Dialler { net: net.clone(), from: id });
    Consensus::open(dir, settings(id), owner(state.clone()), dialler).await
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
