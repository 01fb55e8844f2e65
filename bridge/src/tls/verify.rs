//! Whether a certificate may be believed.
//!
//! The chain and every signature are checked by webpki; this file adds what webpki cannot know, the cluster and
//! the node. The order matters: a name is looked at after the chain is good, and before only to say more clearly
//! why it is not.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::{TlsSetupError, provider};
use crate::pki::{ClusterId, Credentials, NodeName, fingerprint};

/// Why a peer is not who it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// A node of another cluster.
    #[error(
        "that machine is a node of another cluster: its certificate is of cluster {theirs}, this is cluster {ours}; a \
         node belongs to one cluster, and two clusters must not share addresses"
    )]
    WrongCluster {
        /// The peer's cluster.
        theirs: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// Another node of this cluster.
    #[error("node {found} answers where node {dialled} was expected; check the addresses of both")]
    WrongNode {
        /// Whom we wanted.
        dialled: u64,
        /// Who is there.
        found: u64,
    },
    /// A certificate of our authority that names no node.
    #[error("its certificate names no node of a cluster")]
    NotANode,
    /// A joiner met a server whose certificates do not end in the token's authority.
    #[error(
        "its certificate is not of the cluster that made the token (other signing key); check the addresses, or ask \
         for a new token"
    )]
    OtherAuthority,
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// The node that was dialled, in the form that TLS has for it.
pub(super) struct DialledNode(pub(super) u64);

impl DialledNode {
    const SUFFIX: &str = ".node.convoke.invalid";

    pub(super) fn server_name(&self) -> Result<ServerName<'static>, Error> {
        ServerName::try_from(format!("n{}{}", self.0, Self::SUFFIX))
            .map_err(|error| Error::General(error.to_string()))
    }

    fn of(name: &ServerName<'_>) -> Result<Self, Error> {
        let text = name.to_str();
        let node = text.strip_prefix('n').and_then(|rest| rest.strip_suffix(Self::SUFFIX));
        let node = node.and_then(|node| node.parse().ok());
        node.map(Self).ok_or_else(|| Error::General("no node was dialled".to_owned()))
    }
}

/// Believes nodes of one cluster, in both directions.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    cluster: ClusterId,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, TlsSetupError> {
        let roots = Arc::new(roots(credentials.ca()).map_err(TlsSetupError)?);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|error| TlsSetupError(Error::General(error.to_string())))?;
        let cluster = credentials.name().cluster;
        Ok(Self { cluster, roots, clients, algorithms: provider().signature_verification_algorithms })
    }

    /// The name in a certificate, given what the chain's check said.
    fn name(&self, cert: &CertificateDer<'_>, chain: Result<(), Error>) -> Result<NodeName, Error> {
        let name = NodeName::of_certificate(cert);
        if let Ok(NodeName { cluster: theirs, .. }) = name
            && theirs != self.cluster
        {
            // A claim that nobody vouched for; it is refused either way and makes the message clear.
            return Err(PeerError::WrongCluster { theirs, ours: self.cluster }.into());
        }
        chain?;
        name.map_err(|_| PeerError::NotANode.into())
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Without hints a node of another cluster shows its certificate too, and can be told what is wrong.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.clients.verify_client_cert(end_entity, intermediates, now);
        self.name(end_entity, chain.map(drop))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let DialledNode(dialled) = DialledNode::of(server_name)?;
        let chain = verify_chain(end_entity, intermediates, &self.roots, now, &self.algorithms);
        let NodeName { node: found, .. } = self.name(end_entity, chain)?;
        if found != dialled {
            return Err(PeerError::WrongNode { dialled, found }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes any node of the cluster whose authority a token names by fingerprint.
#[derive(Debug)]
pub(super) struct PinnedAuthority {
    cluster: ClusterId,
    fingerprint: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedAuthority {
    pub(super) fn new(cluster: ClusterId, fingerprint: [u8; 32]) -> Self {
        Self { cluster, fingerprint, algorithms: provider().signature_verification_algorithms }
    }

    /// The pinned authority's certificate among those that the server showed.
    pub(super) fn find<'a, 'b>(&self, chain: &'a [CertificateDer<'b>]) -> Option<&'a CertificateDer<'b>> {
        chain.iter().find(|cert| fingerprint(cert) == self.fingerprint)
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = self.find(intermediates).ok_or(PeerError::OtherAuthority)?;
        // The pinned certificate is the only root, and nothing may stand between it and the node's.
        verify_chain(end_entity, &[], &roots(ca)?, now, &self.algorithms)?;
        let name = NodeName::of_certificate(end_entity).map_err(|_| PeerError::NotANode)?;
        if name.cluster != self.cluster {
            return Err(PeerError::WrongCluster { theirs: name.cluster, ours: self.cluster }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn roots(ca: &CertificateDer<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    Ok(roots)
}

fn verify_chain(
    cert: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let cert = ParsedCertificate::try_from(cert)?;
    verify_server_cert_signed_by_trust_anchor(&cert, roots, intermediates, now, algorithms.all)
}
