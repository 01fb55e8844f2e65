//! Who is at the other end of a connection: TLS 1.3 with the cluster's own certificates.
//!
//! A peer is believed when its certificate was signed by this cluster's authority *and* names this cluster *and*,
//! where a certain node was dialled, names that node. DNS names and addresses mean nothing. Knows no sockets: it
//! works over any byte stream, so a relay between two nodes sees only what they encrypt (F29).

mod handshake;
mod verify;

pub use handshake::HandshakeError;
pub use verify::PeerError;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use crate::pki::{Credentials, NodeName};
use verify::{DialledNode, PeerVerifier, PinnedAuthority};

/// What a connection is for; also the version of what is spoken on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// Messages between voters.
    Raft,
    /// A node's session with the leader.
    Session,
    /// Bytes to be carried to a third node.
    Relay,
    /// A machine that is in no cluster yet; the only one without a client certificate.
    Join,
    /// Nothing: shows that the path and both identities are good.
    Probe,
}

impl Alpn {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Raft, Self::Session, Self::Relay, Self::Join, Self::Probe];

    /// The protocol's name on the wire.
    pub const fn wire(self) -> &'static str {
        match self {
            Self::Raft => "convoke-raft/1",
            Self::Session => "convoke-session/1",
            Self::Relay => "convoke-relay/1",
            Self::Join => "convoke-join/1",
            Self::Probe => "convoke-probe/1",
        }
    }

    fn of_wire(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.wire().as_bytes() == name)
    }
}

/// TLS could not be set up with these certificates.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot use the node's certificates")]
pub struct TlsSetupError(#[source] rustls::Error);

/// The TLS settings of one node, for both directions.
#[derive(Debug)]
pub struct NodeTls {
    name: NodeName,
    mutual: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
    client: ClientConfig,
}

impl NodeTls {
    /// Settings that speak for the owner of these credentials.
    pub fn new(credentials: &Credentials) -> Result<Arc<Self>, TlsSetupError> {
        let verifier = Arc::new(PeerVerifier::new(credentials)?);
        let own = vec![credentials.cert().clone()];

        let mut mutual = server_builder()?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(own.clone(), credentials.tls_key())
            .map_err(TlsSetupError)?;
        mutual.alpn_protocols = wire_names(Alpn::ALL.into_iter().filter(|alpn| *alpn != Alpn::Join));
        forget_sessions(&mut mutual);

        // A joiner has the authority's fingerprint only, so the authority comes along.
        let chain = vec![credentials.cert().clone(), credentials.ca().clone()];
        let mut join = server_builder()?
            .with_no_client_auth()
            .with_single_cert(chain, credentials.tls_key())
            .map_err(TlsSetupError)?;
        join.alpn_protocols = wire_names([Alpn::Join]);
        forget_sessions(&mut join);

        let mut client = client_builder()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(own, credentials.tls_key())
            .map_err(TlsSetupError)?;
        prepare_client(&mut client);

        Ok(Arc::new(Self {
            name: credentials.name(),
            mutual: Arc::new(mutual),
            join: Arc::new(join),
            client,
        }))
    }

    /// The node that these settings speak for.
    pub fn name(&self) -> NodeName {
        self.name
    }

    /// Takes a connection: what it is for, and who is there (`None` for [`Alpn::Join`] alone).
    pub async fn accept<S>(
        &self,
        io: S,
    ) -> Result<(server::TlsStream<S>, Alpn, Option<NodeName>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        // Decided by what is asked for, not by whether a certificate comes: a stranger gets the door for strangers.
        let joins = start.client_hello().alpn().is_some_and(|mut names| {
            let mut any = false;
            names.all(|name| {
                any = true;
                name == Alpn::Join.wire().as_bytes()
            }) && any
        });
        let config = if joins { &self.join } else { &self.mutual };
        let stream = start.into_stream(Arc::clone(config)).await?;
        let (_, connection) = stream.get_ref();
        let alpn = connection.alpn_protocol().and_then(Alpn::of_wire).ok_or(HandshakeError::NoProtocol)?;
        let peer = match connection.peer_certificates() {
            Some([cert, ..]) => Some(NodeName::of_certificate(cert).map_err(|_| PeerError::NotANode)?),
            _ => None,
        };
        if peer.is_none() && alpn != Alpn::Join {
            return Err(HandshakeError::NoCertificate);
        }
        Ok((stream, alpn, peer))
    }

    /// Speaks to `node`, and to nobody else, over a connection that somebody made.
    pub async fn connect<S>(
        &self,
        io: S,
        node: u64,
        alpn: Alpn,
    ) -> Result<client::TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.client.clone();
        config.alpn_protocols = wire_names([alpn]);
        connect(config, DialledNode(node), io, alpn).await
    }
}

/// Speaks to any node of the cluster whose authority has this fingerprint, as a stranger that wants to join.
/// Gives the authority's certificate too.
pub async fn connect_to_join<S>(
    io: S,
    cluster: crate::pki::ClusterId,
    authority: [u8; 32],
) -> Result<(client::TlsStream<S>, rustls::pki_types::CertificateDer<'static>), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let verifier = Arc::new(PinnedAuthority::new(cluster, authority));
    let mut config = client_builder()
        .map_err(|TlsSetupError(error)| HandshakeError::Tls(error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    prepare_client(&mut config);
    config.alpn_protocols = wire_names([Alpn::Join]);
    // The verifier takes any node of the cluster; the name is not looked at.
    let stream = connect(config, DialledNode(0), io, Alpn::Join).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let ca = verifier.find(chain).ok_or(PeerError::OtherAuthority)?.clone().into_owned();
    Ok((stream, ca))
}

async fn connect<S>(
    config: ClientConfig,
    dialled: DialledNode,
    io: S,
    alpn: Alpn,
) -> Result<client::TlsStream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = TlsConnector::from(Arc::new(config)).connect(dialled.server_name()?, io).await?;
    if stream.get_ref().1.alpn_protocol() != Some(alpn.wire().as_bytes()) {
        return Err(HandshakeError::NoProtocol);
    }
    Ok(stream)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsSetupError> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSetupError)
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsSetupError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSetupError)
}

/// A resumed session skips the verification of certificates; connections are few and long, so none is resumed.
fn forget_sessions(config: &mut ServerConfig) {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
}

fn prepare_client(config: &mut ClientConfig) {
    config.resumption = rustls::client::Resumption::disabled();
    // The name is our own shorthand for the dialled node; it is nobody else's business.
    config.enable_sni = false;
}

fn wire_names(alpns: impl IntoIterator<Item = Alpn>) -> Vec<Vec<u8>> {
    alpns.into_iter().map(|alpn| alpn.wire().as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests;
