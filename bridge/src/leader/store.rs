//! Opens this voter's store, and begins the log of a new cluster.

use std::io;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use consensus::{BoxFuture, BoxStream, Consensus, Dial, MachineRequest, Settings as Group};
use tokio::sync::{mpsc, oneshot};

use super::program::program;
use super::replica::{Comparison, Replica, replay};
use super::times::{self, Elections};
use crate::identity::{self, Enrolled, StoreState};
use crate::init::FIRST_NODE;
use crate::net::{Dialer, Stream};
use crate::paths::Paths;
use crate::pki::random;
use crate::session::Accord;
use crate::tls::Alpn;

/// Entries of Raft that may wait for the core.
const MACHINE_QUEUE: usize = 64;

/// At which indices voters compare their states: the multiples of it. To encode a large state takes some ten milliseconds, in
/// which the core does nothing else, and a busy cluster comes so far within an hour.
const COMPARED_EVERY: u64 = 1_024;

/// An open store, and the state as it was replayed.
pub struct Opened {
    /// The Raft group.
    pub consensus: Consensus,
    /// The state.
    pub replica: Replica,
    /// What Raft asks next.
    pub machine: mpsc::Receiver<MachineRequest>,
}

/// Opens the store, or makes it where the node never had one, and replays it. By the `accord` it says what its state is.
///
/// # Errors
/// A store that is damaged, another node's, or in use; one that cannot be read or written.
pub async fn open(
    paths: &Paths,
    enrolled: &Enrolled,
    dialer: Dialer,
    accord: Accord,
) -> anyhow::Result<Opened> {
    let comparison = Comparison { every: COMPARED_EVERY, program: program(), accord };
    let fresh = enrolled.store == StoreState::Fresh;
    if fresh {
        let settings = group(enrolled, times::elections(&policy::Settings::default()));
        Consensus::create(&paths.state_dir(), &settings).await.context("cannot make the store")?;
    }
    identity::note_store_begun(paths, &enrolled.identity)?;
    let times = times::elections(&policy::Settings::default());
    let mut opened = begin(paths, enrolled, dialer.clone(), times, comparison.clone()).await?;
    // The cluster's `detect` stands in the store itself.
    let wanted = times::elections(&opened.replica.state.settings);
    if wanted != times {
        let Opened { consensus, machine, .. } = opened;
        drop(machine);
        consensus.shutdown().await;
        opened = begin(paths, enrolled, dialer, wanted, comparison).await?;
    }
    if fresh && enrolled.identity.node == FIRST_NODE {
        opened.consensus.initialize().await.context("cannot begin the log")?;
    }
    Ok(opened)
}

/// Opens the store with Raft at these times, and replays it.
async fn begin(
    paths: &Paths,
    enrolled: &Enrolled,
    dialer: Dialer,
    times: Elections,
    comparison: Comparison,
) -> anyhow::Result<Opened> {
    let (requests, machine) = mpsc::channel(MACHINE_QUEUE);
    let (opened, wait) = oneshot::channel();
    let replay = tokio::spawn(replay(machine, wait, Replica::new(comparison)));
    let settings = group(enrolled, times);
    let consensus = Consensus::open(&paths.state_dir(), settings, requests, path(dialer)).await?;
    // The other end waits for exactly this.
    let _ = opened.send(());
    let (mut replica, machine) = replay.await?;
    replica.opened = Some(times);
    Ok(Opened { consensus, replica, machine })
}

fn group(enrolled: &Enrolled, times: Elections) -> Group {
    group_at(enrolled.identity.node, enrolled.identity.cluster.to_string(), times)
}

/// The settings of Raft on this node, in a cluster with these settings.
#[must_use]
pub fn raft(node: u64, cluster: String, settings: &policy::Settings) -> Group {
    group_at(node, cluster, times::elections(settings))
}

fn group_at(node: u64, cluster: String, times: Elections) -> Group {
    Group {
        node,
        cluster,
        heartbeat_ms: times.heartbeat_ms,
        election_min_ms: times.min_ms,
        election_max_ms: times.max_ms,
        snapshot_every: 5_000,
        keep_logs: 1_000,
        mark: mark(),
    }
}

/// Unlike that of any other run of this node (F21).
fn mark() -> u64 {
    let time = || UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64);
    random().map_or_else(|_| time(), u64::from_le_bytes)
}

/// Raft's way to other voters.
pub fn path(dialer: Dialer) -> Arc<dyn Dial> {
    Arc::new(Path(dialer))
}

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
