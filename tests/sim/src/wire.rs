//! A machine's way to the others in the place of TLS: the same steps over the simulated network, in clear.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bridge::net::{Incoming, Stream, Wire};
use bridge::pki::{ClusterId, NodeName};
use bridge::session::Lease;
use bridge::tls::{Alpn, HandshakeError};
use consensus::BoxFuture;
use policy::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::net::{End, Net};
use crate::tamper::{Tamper, counted_from_answers};

/// The cluster's identity.
pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([7; 16]);
/// Accepted connections that nobody has taken up yet.
const QUEUE: usize = 64;
const WELCOME: u8 = 1;

/// Where a machine is reached.
pub(crate) fn address(machine: usize) -> SocketAddr {
    let octets = u32::from(Ipv4Addr::new(10, 0, 0, 1)) + u32::try_from(machine).unwrap_or(u32::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), bridge::net::DEFAULT_PORT)
}

fn machine_at(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    u32::from(ip).checked_sub(u32::from(Ipv4Addr::new(10, 0, 0, 1))).map(|machine| machine as usize)
}

/// The wire of one node.
#[derive(Clone)]
pub(crate) struct SimWire {
    pub(crate) net: Net,
    pub(crate) machine: usize,
    pub(crate) node: u64,
    /// A fault that was put in: the lease that each answer extends.
    pub(crate) from_answers: Option<Lease>,
}

impl fmt::Debug for SimWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimWire").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Wire for SimWire {
    fn me(&self) -> u64 {
        self.node
    }

    fn reach(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let machine = machine_at(address).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(self.net.dial(self.machine, machine).await?) as Stream)
        })
    }

    fn secure(
        &self,
        mut raw: Stream,
        node: u64,
        alpn: Alpn,
    ) -> BoxFuture<'_, Result<Stream, HandshakeError>> {
        Box::pin(async move {
            let mut hello = Vec::with_capacity(17);
            hello.extend(self.node.to_be_bytes());
            hello.extend(node.to_be_bytes());
            hello.push(number(alpn));
            raw.write_all(&hello).await.map_err(HandshakeError::Io)?;
            match raw.read_u8().await.map_err(HandshakeError::Io)? {
                WELCOME => Ok(match &self.from_answers {
                    Some(lease) if alpn == Alpn::Session => counted_from_answers(raw, lease.clone()),
                    _ => raw,
                }),
                _ => Err(HandshakeError::NoProtocol),
            }
        })
    }
}

fn number(alpn: Alpn) -> u8 {
    Alpn::ALL.iter().position(|other| *other == alpn).map_or(u8::MAX, |at| at as u8)
}

/// Accepts what comes to `node`, until the process ends.
pub(crate) fn accept(
    node: u64,
    mut door: mpsc::UnboundedReceiver<End>,
    tamper: Option<Tamper>,
) -> mpsc::Receiver<Incoming> {
    let (accepted, incoming) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(end) = door.recv().await {
            let (accepted, tamper) = (accepted.clone(), tamper.clone());
            tokio::spawn(async move {
                if let Ok(Some(mut connection)) = shake_hands(node, end).await {
                    if let (Some(tamper), Alpn::Session, Some(peer)) =
                        (tamper, connection.alpn, &connection.peer)
                    {
                        connection.stream = tamper.at_leader(NodeId(peer.node), connection.stream);
                    }
                    // Whoever took connections has gone with the process.
                    drop(accepted.send(connection).await);
                }
            });
        }
    });
    incoming
}

async fn shake_hands(node: u64, mut end: End) -> io::Result<Option<Incoming>> {
    let (from, to) = (end.read_u64().await?, end.read_u64().await?);
    let alpn = Alpn::ALL.get(usize::from(end.read_u8().await?)).copied();
    let Some(alpn) = alpn.filter(|_| to == node) else { return Ok(None) };
    end.write_u8(WELCOME).await?;
    if alpn == Alpn::Probe {
        return Ok(None);
    }
    let peer = Some(NodeName { cluster: CLUSTER, node: from });
    Ok(Some(Incoming { alpn, peer, stream: Box::new(end), remote: address(0) }))
}
