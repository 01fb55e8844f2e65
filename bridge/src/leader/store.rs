//! Opens this voter's store, and begins the log of a new cluster.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use consensus::{BoxFuture, BoxStream, Consensus, Dial, MachineRequest, Settings as Group};
use tokio::sync::{mpsc, oneshot};

use super::replica::{Replica, replay};
use crate::identity::{self, Enrolled, StoreState};
use crate::init::FIRST_NODE;
use crate::net::{Dialer, Stream};
use crate::paths::Paths;
use crate::tls::Alpn;

/// Entries of Raft that may wait for the core.
const MACHINE_QUEUE: usize = 64;

/// Raft's times, in milliseconds. A dead leader is replaced after 0.67 to 0.84 s, so that a lease of 1.7 s (`detect` 2 s)
/// outlives an election: the end of a leader stops no unit.
const HEARTBEAT_MS: u64 = 125;
const ELECTION_MS: (u64, u64) = (250, 420);

/// An open store, and the state as it was replayed.
pub struct Opened {
    /// The Raft group.
    pub consensus: Consensus,
    /// The state.
    pub replica: Replica,
    /// What Raft asks next.
    pub machine: mpsc::Receiver<MachineRequest>,
}

/// Opens the store, or makes it where the node never had one, and replays it.
///
/// # Errors
/// A store that is damaged, another node's, or in use; one that cannot be read or written.
pub async fn open(paths: &Paths, enrolled: &Enrolled, dialer: Dialer) -> anyhow::Result<Opened> {
    let dir: PathBuf = paths.state_dir();
    let settings = Group {
        node: enrolled.identity.node,
        cluster: enrolled.identity.cluster.to_string(),
        heartbeat_ms: HEARTBEAT_MS,
        election_min_ms: ELECTION_MS.0,
        election_max_ms: ELECTION_MS.1,
        snapshot_every: 5_000,
        keep_logs: 1_000,
    };
    if enrolled.store == StoreState::Fresh {
        Consensus::create(&dir, &settings).await.context("cannot make the store")?;
    }
    identity::note_store_begun(paths, &enrolled.identity)?;
    let (requests, machine) = mpsc::channel(MACHINE_QUEUE);
    let (opened, wait) = oneshot::channel();
    let replay = tokio::spawn(replay(machine, wait));
    let consensus = Consensus::open(&dir, settings, requests, Arc::new(Path(dialer))).await?;
    // The other end waits for exactly this.
    let _ = opened.send(());
    let (replica, machine) = replay.await?;
    let first = enrolled.identity.node == FIRST_NODE && enrolled.store == StoreState::Fresh;
    if first {
        consensus.initialize().await.context("cannot begin the log")?;
    }
    Ok(Opened { consensus, replica, machine })
}

/// Raft's way to other voters.
struct Path(Dialer);

impl Dial for Path {
    fn dial(&self, node: u64) -> BoxFuture<'static, io::Result<BoxStream>> {
        let dialer = self.0.clone();
        Box::pin(async move {
            let dialed = dialer.connect(node, Alpn::Raft).await.map_err(io::Error::other)?;
            let stream: Stream = dialed.stream;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}
