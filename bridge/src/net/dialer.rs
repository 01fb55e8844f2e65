//! Reaches a node: at all its addresses at once, and through the other voters when that does not work at once.
//!
//! The direct path has a short head start and is preferred; what is known of it is kept per peer (`links`), tried again
//! while it is down, and whoever holds a carried connection is told when it heals.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::links::{Link, Links};
use super::relay::{self, RelayError};
use super::turned::Turned;
use super::{AddressBook, Book, Stream, Wire};
use crate::tls::{Alpn, HandshakeError};

/// The waits of a dialler.
#[derive(Clone, Copy, Debug)]
pub struct DialTiming {
    /// The head start of the direct path. A handshake within a site takes a few milliseconds; a quarter of a second
    /// leaves room for load and is short beside the time that calls a node lost.
    pub direct_grace: Duration,
    /// For one attempt, TCP and TLS.
    pub attempt: Duration,
    /// For all of them together.
    pub total: Duration,
    /// Between two tries of a direct path that is down.
    pub probe_every: Duration,
    /// Between two looks at the direct paths to voters, of which some carry nothing for days.
    pub look_every: Duration,
}

impl Default for DialTiming {
    fn default() -> Self {
        Self {
            direct_grace: Duration::from_millis(250),
            attempt: Duration::from_secs(4),
            total: Duration::from_secs(6),
            probe_every: Duration::from_secs(1),
            look_every: Duration::from_secs(10),
        }
    }
}

/// How a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Straight to this address.
    Direct(SocketAddr),
    /// Carried by this voter.
    Relay(u64),
}

/// A connection that was made and accepted.
pub struct Dialed {
    /// The connection; at its other end is the node that was dialled.
    pub stream: Stream,
    /// How it goes.
    pub path: Path,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why one path did not work.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// No TCP connection.
    #[error("{0}")]
    Tcp(io::Error),
    /// Nobody answered in time.
    #[error("no answer")]
    TimedOut,
    /// Not the right peer, or it turned us away.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The voter would not carry.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

/// One path that was tried.
#[derive(Debug)]
pub struct Failure {
    /// The address, or the voter.
    pub path: Path,
    /// What happened.
    pub error: PathError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            Path::Direct(address) => write!(f, "{address}: {}", self.error),
            Path::Relay(node) => write!(f, "through node {node}: {}", self.error),
        }
    }
}

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The book has no such node, or it is this one.
    #[error("node {node} is no other node of this cluster")]
    NoSuchNode {
        /// Who was asked for.
        node: u64,
    },
    /// Every path failed, or none worked in time.
    #[error("node {node} cannot be reached ({})", list(.failures))]
    Unreachable {
        /// Who was asked for.
        node: u64,
        /// What was tried.
        failures: Vec<Failure>,
    },
}

fn list(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return "no answer".to_owned();
    }
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reaches the other nodes in the name of one.
#[derive(Clone, Debug)]
pub struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wire: Arc<dyn Wire>,
    book: AddressBook,
    timing: DialTiming,
    links: Links,
    turned: Turned,
    healed: broadcast::Sender<u64>,
}

/// Healed links that a slow listener may fall behind; it looks at [`Dialer::links`] then.
const HEALED_QUEUE: usize = 64;

impl Dialer {
    /// Dials the nodes of `book` as the owner of `wire`.
    pub fn new(wire: Arc<dyn Wire>, book: AddressBook, timing: DialTiming) -> Self {
        let (healed, _) = broadcast::channel(HEALED_QUEUE);
        let (links, turned) = (Links::default(), Turned::default());
        Self(Arc::new(Inner { wire, book, timing, links, turned, healed }))
    }

    /// The book it dials from.
    pub fn book(&self) -> &AddressBook {
        &self.0.book
    }

    /// The links as seen from here, by peer.
    pub fn links(&self) -> Vec<Link> {
        self.0.links.all()
    }

    /// In which words `node` turned this node away, and how long it is still left alone: nothing reaches it meanwhile.
    pub fn turned_away(&self, node: u64) -> Option<(String, Duration)> {
        self.0.turned.by(node, std::time::Instant::now())
    }

    /// Notes that a direct connection to `node` stalled. The next dial asks the relays at once, and the direct path
    /// is tried again in the background.
    pub fn note_stalled(&self, node: u64, why: impl Into<String>) {
        self.0.links.down(node, why.into());
    }

    /// Tells of every direct path that works again; whoever is carried there may dial anew.
    pub fn healed(&self) -> broadcast::Receiver<u64> {
        self.0.healed.subscribe()
    }

    /// Reaches `node` for one purpose. Safe to cancel: nothing is left open.
    pub async fn connect(&self, node: u64, alpn: Alpn) -> Result<Dialed, DialError> {
        let me = self.me();
        let book = self.0.book.load();
        if node == me || !book.nodes.contains_key(&node) {
            return Err(DialError::NoSuchNode { node });
        }
        let timing = &self.0.timing;
        let grace = if self.0.links.is_down(node) { Duration::ZERO } else { timing.direct_grace };
        let mut grace = pin!(sleep(grace));
        let mut deadline = pin!(sleep(timing.total));
        let mut direct = pin!(self.direct(&book, node, alpn));
        let mut relays = FuturesUnordered::new();
        let (mut direct_failed, mut relays_asked) = (false, false);
        let mut failures = Vec::new();
        loop {
            let ask_relays = tokio::select! {
                biased;
                result = &mut direct, if !direct_failed => match result {
                    Ok((stream, address)) => {
                        self.note_up(node);
                        return Ok(Dialed { stream, path: Path::Direct(address) });
                    }
                    Err(failed) => {
                        self.0.links.down(node, list(&failed));
                        failures.extend(failed);
                        direct_failed = true;
                        true
                    }
                },
                Some((voter, result)) = relays.next(), if !relays.is_empty() => match result {
                    Ok(stream) => {
                        if !direct_failed && !self.0.links.is_down(node) {
                            self.0.links.down(node, format!("no answer within {:?}", timing.direct_grace));
                        }
                        self.0.links.via(node, Some(voter));
                        return Ok(Dialed { stream, path: Path::Relay(voter) });
                    }
                    Err(error) => {
                        failures.push(Failure { path: Path::Relay(voter), error });
                        false
                    }
                },
                () = &mut grace, if !relays_asked => true,
                () = &mut deadline => {
                    self.0.links.down(node, "no answer".to_owned());
                    self.0.links.via(node, None);
                    return Err(DialError::Unreachable { node, failures });
                }
            };
            if ask_relays && !relays_asked {
                relays_asked = true;
                let voters = book.voters().filter(|voter| *voter != me && *voter != node);
                relays.extend(voters.map(|voter| self.carried(&book, voter, node, alpn)));
            }
            if direct_failed && relays_asked && relays.is_empty() {
                self.0.links.via(node, None);
                return Err(DialError::Unreachable { node, failures });
            }
        }
    }

    /// Tries the direct paths that are down again and again, and now and then those to all voters, so that a cut link
    /// between two that have nothing to say to each other is seen before it is needed. Of two voters one looks: a way that
    /// carries in one direction only fails from both ends. Neither does where one of them `leads`: their session carries
    /// all the time, and is seen to stall. For ever: run it as a task.
    pub async fn probe(&self, leads: impl Fn() -> Option<u64>) {
        let timing = &self.0.timing;
        let mut look_at = Instant::now() + timing.look_every;
        loop {
            let broken = |book: &Book| self.0.links.broken(|peer| book.nodes.contains_key(&peer));
            let mend_at = match broken(&self.0.book.load()).is_empty() {
                true => look_at,
                false => look_at.min(Instant::now() + timing.probe_every),
            };
            tokio::select! {
                () = sleep_until(mend_at) => {}
                () = self.0.links.broke(), if mend_at == look_at => continue,
            }
            let book = self.0.book.load();
            let mut tried = broken(&book);
            if Instant::now() >= look_at {
                look_at = Instant::now() + timing.look_every;
                let me = self.me();
                let voting = book.voters().any(|voter| voter == me);
                let leader = leads();
                let others = book.voters().filter(|voter| *voter > me || (!voting && *voter != me));
                let idle =
                    others.filter(|voter| leader.is_none_or(|leader| leader != me && leader != *voter));
                let others: Vec<u64> = idle.filter(|voter| !tried.contains(voter)).collect();
                tried.extend(others);
            }
            let probes: FuturesUnordered<_> = tried
                .into_iter()
                .map(|node| {
                    let book = &book;
                    async move { (node, self.direct(book, node, Alpn::Probe).await) }
                })
                .collect();
            probes
                .for_each(|(node, result)| {
                    match result {
                        Ok(_) => self.note_up(node),
                        Err(failed) => self.0.links.down(node, list(&failed)),
                    }
                    std::future::ready(())
                })
                .await;
        }
    }

    /// The voters that do not answer within `limit` now, neither directly nor through another voter that answers and is
    /// known to carry: what is known of a path that carried nothing for a while may be seconds old.
    pub async fn silent(&self, limit: Duration) -> Vec<u64> {
        let book = self.0.book.load();
        let links = self.0.links.all();
        let voters = book.voters().filter(|voter| *voter != self.me());
        let looks: FuturesUnordered<_> = voters
            .map(|node| {
                let book = &book;
                async move { (node, timeout(limit, self.direct(book, node, Alpn::Probe)).await) }
            })
            .collect();
        let looks: Vec<_> = looks.collect().await;
        let silent =
            |node: u64| looks.iter().any(|(other, look)| *other == node && !matches!(look, Ok(Ok(_))));
        let carried = |node: u64| {
            let via = links.iter().find(|link| link.peer == node).and_then(|link| link.via);
            via.is_some_and(|via| !silent(via))
        };
        looks.iter().map(|(node, _)| *node).filter(|node| silent(*node) && !carried(*node)).collect()
    }

    fn me(&self) -> u64 {
        self.0.wire.me()
    }

    fn note_up(&self, node: u64) {
        if self.0.links.up(node) {
            // Nobody need listen.
            let _ = self.0.healed.send(node);
        }
    }

    /// All addresses of a node at once; the first that ends in the right node wins.
    async fn direct(&self, book: &Book, node: u64, alpn: Alpn) -> Result<(Stream, SocketAddr), Vec<Failure>> {
        let mut route = book.route(self.me(), node).into_iter();
        if let Some((reason, _)) = self.0.turned.by(node, std::time::Instant::now()) {
            let error = PathError::from(HandshakeError::Refused { reason });
            return Err(route
                .next()
                .map(|address| Failure { path: Path::Direct(address), error })
                .into_iter()
                .collect());
        }
        let mut attempts: FuturesUnordered<_> = route
            .map(|address| async move {
                let attempt = timeout(self.0.timing.attempt, self.attempt(address, node, alpn)).await;
                (address, attempt.unwrap_or(Err(PathError::TimedOut)))
            })
            .collect();
        let mut failures = Vec::new();
        while let Some((address, attempt)) = attempts.next().await {
            match attempt {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => failures.push(Failure { path: Path::Direct(address), error }),
            }
        }
        Err(failures)
    }

    async fn attempt(&self, address: SocketAddr, node: u64, alpn: Alpn) -> Result<Stream, PathError> {
        let raw = self.0.wire.reach(address).await.map_err(PathError::Tcp)?;
        Ok(self.greeted(node, self.0.wire.secure(raw, node, alpn).await)?)
    }

    /// Keeps in mind whether `node` lets this node in.
    fn greeted(&self, node: u64, greeting: Result<Stream, HandshakeError>) -> Result<Stream, HandshakeError> {
        match &greeting {
            Ok(_) => self.0.turned.welcome(node),
            Err(HandshakeError::Refused { reason }) => {
                self.0.turned.note(node, reason, std::time::Instant::now())
            }
            Err(_) => {}
        }
        greeting
    }

    /// A connection to `node` inside one to `voter`: the inner TLS is with the node itself.
    async fn carried(
        &self,
        book: &Book,
        voter: u64,
        node: u64,
        alpn: Alpn,
    ) -> (u64, Result<Stream, PathError>) {
        let attempt = async {
            let mut outer = match self.direct(book, voter, Alpn::Relay).await {
                Ok((stream, _)) => stream,
                Err(mut failed) => {
                    return Err(failed.pop().map_or(PathError::TimedOut, |failure| failure.error));
                }
            };
            relay::request(&mut outer, node).await?;
            Ok(self.greeted(node, self.0.wire.secure(outer, node, alpn).await)?)
        };
        (voter, timeout(self.0.timing.attempt, attempt).await.unwrap_or(Err(PathError::TimedOut)))
    }
}

#[cfg(test)]
mod tests;
