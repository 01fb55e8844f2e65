//! Carries bytes between two nodes that cannot reach each other.
//!
//! The requester shows its certificate and names a node of the cluster; this node opens a plain connection to it and
//! copies. The two ends speak TLS with each other inside: a relay can drop their bytes or delay them, not read
//! them nor speak for either (F29). It never relays to strangers or through a second relay.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::io::copy_bidirectional;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{AddressBook, Incoming, Stream, Wire, greeting};
use crate::tls::Alpn;

/// Pairs carried at once by one voter; each costs two sockets and 16 KiB.
const CARRIED: usize = 1024;

/// To read a request, and to reach the target.
const LIMIT: Duration = Duration::from_secs(3);

const MESSAGE_MAX: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    target: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Connected,
    Refused { reason: String },
}

/// Why bytes are not, or no longer, carried.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The connection is for something else, or nobody known is there.
    #[error("not a relay request")]
    NotARequest,
    /// The target is not to be reached through us.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Nothing came, or nobody answered, in time.
    #[error("no answer in time")]
    TimedOut,
    /// A connection failed.
    #[error("the connection failed ({0})")]
    Io(#[from] io::Error),
}

/// The carrying side of a node.
#[derive(Clone, Debug)]
pub struct Relay {
    wire: Arc<dyn Wire>,
    book: AddressBook,
    slots: Arc<Semaphore>,
}

impl Relay {
    /// Carries for the nodes of this book, in the name of the owner of `wire`.
    pub fn new(wire: Arc<dyn Wire>, book: AddressBook) -> Self {
        Self { wire, book, slots: Arc::new(Semaphore::new(CARRIED)) }
    }

    /// Serves one connection to its end. Gives the bytes carried to and from the target.
    pub async fn serve(&self, incoming: Incoming) -> Result<(u64, u64), RelayError> {
        let Incoming { alpn: Alpn::Relay, peer: Some(from), mut stream, .. } = incoming else {
            return Err(RelayError::NotARequest);
        };
        let request = timeout(LIMIT, greeting::read_exact(&mut stream, MESSAGE_MAX)).await;
        let Request { target } = request.map_err(|_| RelayError::TimedOut)??;
        let (_slot, mut far) = match self.reach(from.node, target).await {
            Ok(reached) => reached,
            Err(reason) => {
                let answer = Answer::Refused { reason: reason.clone() };
                timeout(LIMIT, greeting::write_exact(&mut stream, &answer))
                    .await
                    .map_err(|_| RelayError::TimedOut)??;
                return Err(RelayError::Refused { reason });
            }
        };
        greeting::write_exact(&mut stream, &Answer::Connected).await?;
        Ok(copy_bidirectional(&mut stream, &mut far).await?)
    }

    async fn reach(
        &self,
        from: u64,
        target: u64,
    ) -> Result<(tokio::sync::OwnedSemaphorePermit, Stream), String> {
        let book = self.book.load();
        if target == self.wire.me() || target == from {
            return Err(format!("a relay to node {target} makes no sense here"));
        }
        if !book.nodes.contains_key(&target) {
            return Err(format!("node {target} is no node of this cluster"));
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| format!("{CARRIED} connections are carried already"))?;
        let connected = timeout(LIMIT, self.first(book.route(self.wire.me(), target))).await;
        match connected {
            Ok(Ok(far)) => Ok((slot, far)),
            Ok(Err(error)) => Err(format!("node {target} cannot be reached from here either ({error})")),
            Err(_) => Err(format!("node {target} does not answer here either")),
        }
    }

    async fn first(&self, addresses: Vec<SocketAddr>) -> io::Result<Stream> {
        let mut attempts: FuturesUnordered<_> =
            addresses.into_iter().map(|address| self.wire.reach(address)).collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address known");
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Asks the voter at the other end of `stream` for node `target`. What follows in the stream is the target's.
pub(super) async fn request(stream: &mut Stream, target: u64) -> Result<(), RelayError> {
    greeting::write_exact(stream, &Request { target }).await?;
    match greeting::read_exact(stream, MESSAGE_MAX).await? {
        Answer::Connected => Ok(()),
        Answer::Refused { reason } => Err(RelayError::Refused { reason }),
    }
}

/// Says yes to any request, as a rogue relay would.
#[cfg(test)]
pub(super) async fn grant_anything(stream: &mut Stream) -> io::Result<()> {
    let _: Request = greeting::read_exact(stream, MESSAGE_MAX).await?;
    greeting::write_exact(stream, &Answer::Connected).await
}
