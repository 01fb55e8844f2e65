//! How two nodes come to speak: bytes to an address, and proof of who is at the other end.
//!
//! TLS over TCP, but for the simulator, which lays its own cables. Which paths are tried, and for how long, is decided by
//! the dialler and the relay.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use consensus::BoxFuture;
use tokio::net::TcpStream;

use super::{Stream, greeting, socket};
use crate::tls::{Alpn, HandshakeError, NodeTls};

/// The way from one node to the others.
pub trait Wire: fmt::Debug + Send + Sync {
    /// The node that it speaks for.
    fn me(&self) -> u64;

    /// Carries bytes to an address, whoever is there. Safe to cancel.
    fn reach(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Stream>>;

    /// Makes sure that `node` is at the other end of `raw`, says what for, and waits until it lets this node in.
    fn secure(&self, raw: Stream, node: u64, alpn: Alpn) -> BoxFuture<'_, Result<Stream, HandshakeError>>;
}

impl Wire for NodeTls {
    fn me(&self) -> u64 {
        self.name().node
    }

    fn reach(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            socket::prepare(&stream)?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn secure(&self, raw: Stream, node: u64, alpn: Alpn) -> BoxFuture<'_, Result<Stream, HandshakeError>> {
        Box::pin(async move {
            let mut stream = self.connect(raw, node, alpn).await?;
            greeting::await_acceptance(&mut stream).await?;
            Ok(Box::new(stream) as Stream)
        })
    }
}
