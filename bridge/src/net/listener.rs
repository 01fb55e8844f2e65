//! Takes connections: TLS, then who it is, then whether that node is one of us.
//!
//! Strangers can open connections; they get a handshake's time and a bounded number of places, and no more than
//! their share of them, so that they cannot keep the nodes out: neither one host with all its addresses, nor many.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{AddressBook, Stream, greeting, socket};
use crate::pki::NodeName;
use crate::tls::{Alpn, HandshakeError, NodeTls};

/// A handshake is two packets each way; who needs longer is gone or up to no good.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Handshakes under way at once.
const HANDSHAKES: usize = 256;

/// Those of them that come from elsewhere than a node's address. The others are kept for the nodes: as many as one relay brings.
const STRANGE_HANDSHAKES: usize = HANDSHAKES - HANDSHAKES_PER_ADDRESS;

/// Handshakes under way from one address. A relay may bring many sessions at once, a stranger not all.
const HANDSHAKES_PER_ADDRESS: usize = 64;

/// The part of an IPv6 address that one host can choose at will.
const HOST_BITS: u32 = 64;

/// Accepted connections that nobody has taken up yet; beyond, handshakes wait.
const QUEUE: usize = 64;

/// How long to wait when the process is out of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a node with a good certificate is one of the cluster still; a removed one is told what went before.
pub type Admission = Arc<dyn Fn(u64) -> Result<(), String> + Send + Sync>;

/// A connection that was accepted.
pub struct Incoming {
    /// What it is for. Never [`Alpn::Probe`]: those end in the listener.
    pub alpn: Alpn,
    /// Who is there; `None` for [`Alpn::Join`] alone.
    pub peer: Option<NodeName>,
    /// The connection.
    pub stream: Stream,
    /// Where it comes from; a relay's address if one carries it.
    pub remote: SocketAddr,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("alpn", &self.alpn)
            .field("peer", &self.peer)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// A port that takes connections until it is dropped.
#[derive(Debug)]
pub struct Listener {
    local: SocketAddr,
    incoming: mpsc::Receiver<Incoming>,
    task: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens at `address` and speaks for the owner of `tls`; places are kept for the nodes of `book`. Must be called inside the
    /// runtime.
    pub fn bind(
        address: SocketAddr,
        tls: Arc<NodeTls>,
        admission: Admission,
        book: AddressBook,
    ) -> io::Result<Self> {
        let listener = socket::listen(address)?;
        let local = listener.local_addr()?;
        let (sender, incoming) = mpsc::channel(QUEUE);
        let strange = Arc::new(Semaphore::new(STRANGE_HANDSHAKES));
        let door = Door { tls, admission, book, sender, strange, counts: Counts::default() };
        let task = tokio::spawn(serve(listener, Arc::new(door)));
        Ok(Self { local, incoming, task: Some(task) })
    }

    /// Takes connections that somebody else has accepted, at `local`.
    pub fn fed(local: SocketAddr, incoming: mpsc::Receiver<Incoming>) -> Self {
        Self { local, incoming, task: None }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection. Safe to cancel.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Door {
    tls: Arc<NodeTls>,
    admission: Admission,
    book: AddressBook,
    sender: mpsc::Sender<Incoming>,
    strange: Arc<Semaphore>,
    counts: Counts,
}

/// What a connection holds until somebody has taken it up: a place, and a stranger one of those for strangers.
type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

async fn serve(listener: TcpListener, door: Arc<Door>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let remote = canonical(remote);
        if door.sender.is_closed() {
            return;
        }
        let known = door.knows(remote.ip());
        let Some(counted) = Counts::enter(&door, counted_as(remote.ip(), known)) else {
            tracing::debug!(%remote, "too many connections from one address");
            continue;
        };
        let strange = if known { None } else { Arc::clone(&door.strange).try_acquire_owned().ok() };
        if !known && strange.is_none() {
            tracing::debug!(%remote, "too many connections from addresses that no node has");
            continue;
        }
        tokio::spawn(Arc::clone(&door).receive(stream, remote, (place, strange), counted));
    }
}

impl Door {
    /// Whether a node is to be reached at that address.
    fn knows(&self, address: IpAddr) -> bool {
        let book = self.book.load();
        book.nodes
            .values()
            .flat_map(|entry| &entry.addresses)
            .any(|known| known.ip().to_canonical() == address)
    }

    async fn receive(self: Arc<Self>, stream: TcpStream, remote: SocketAddr, place: Place, counted: Counted) {
        let result = timeout(HANDSHAKE_LIMIT, self.shake_hands(stream, remote)).await;
        drop(counted);
        match result.unwrap_or(Err(HandshakeError::TimedOut)) {
            Ok(Some(incoming)) => {
                // The daemon is on its way out if nobody listens.
                let _ = self.sender.send(incoming).await;
            }
            Ok(None) => {}
            // Turning away a node is this node's own doing, and goes on for as long as that node is up.
            Err(HandshakeError::Refused { reason }) => tracing::info!(%remote, "turned away {reason}"),
            Err(error) if error.concerns_operator() => {
                tracing::warn!(%remote, "refused a connection: {error}");
            }
            Err(error) => tracing::debug!(%remote, ?error, "no handshake"),
        }
        // Held until somebody took the connection up, so that a busy daemon is not given ever more of them.
        drop(place);
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> Result<Option<Incoming>, HandshakeError> {
        socket::prepare(&stream).map_err(HandshakeError::Io)?;
        let (mut stream, alpn, peer) = self.tls.accept(stream).await?;
        if let Some(NodeName { node, .. }) = peer
            && let Err(reason) = (self.admission)(node)
        {
            greeting::refuse(&mut stream, &reason).await?;
            return Err(HandshakeError::Refused { reason: format!("node {node}: {reason}") });
        }
        greeting::accept(&mut stream).await?;
        if alpn == Alpn::Probe {
            return Ok(None);
        }
        Ok(Some(Incoming { alpn, peer, stream: Box::new(stream), remote }))
    }
}

/// Handshakes under way by address. Not iterated, so its order does not matter.
#[derive(Default)]
struct Counts(Mutex<HashMap<IpAddr, usize>>);

impl Counts {
    fn enter(door: &Arc<Door>, address: IpAddr) -> Option<Counted> {
        let mut counts = door.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Counted { door: Arc::clone(door), address })
    }
}

struct Counted {
    door: Arc<Door>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.door.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// As what an address is counted. A node alone; a stranger together with all that its host may call itself.
fn counted_as(address: IpAddr, known: bool) -> IpAddr {
    match address {
        IpAddr::V6(address) if !known => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> HOST_BITS << HOST_BITS))
        }
        address => address,
    }
}

/// A socket of both families shows IPv4 peers as `::ffff:10.0.0.1`; people do not.
fn canonical(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

#[cfg(test)]
mod tests;
