//! The cluster's own certificates: who signs them, what they say, and where they lie.
//!
//! A cluster has one signing key (the *authority*) and every node one certificate, whose only statement is
//! `spiffe://CLUSTER/node/NODE`. A certificate is never made from what its requester claims: a signing request
//! gives a public key and nothing else. Knows no sockets, and nothing of who may join.

mod authority;
mod cluster_id;
mod credentials;
mod name;

pub use authority::{Authority, NodeKey, SIGNING_REQUEST_MAX, check_signing_request};
pub use cluster_id::{ClusterId, ClusterIdError};
pub use credentials::Credentials;
pub use name::NodeName;

use std::io;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

/// Why a key or a certificate could not be made, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot access `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what its name says.
    #[error("`{}` is not {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A certificate cannot be parsed.
    #[error("not a certificate")]
    NotACertificate,
    /// A certificate does not name a node of a cluster.
    #[error("the certificate names no node of a cluster")]
    NoNodeName,
    /// A key does not belong to the certificate beside it.
    #[error("the key does not belong to the certificate `{certificate}`")]
    KeyMismatch {
        /// Which certificate.
        certificate: &'static str,
    },
    /// A signing request is damaged, too long, or not signed by the key that it asks to certify.
    #[error("the signing request is not acceptable: {reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// Key generation or signing failed.
    #[error("cannot sign")]
    Sign(#[source] rcgen::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// SHA-256 of a certificate's DER encoding: how people and tokens name the authority.
pub fn fingerprint(cert: &CertificateDer<'_>) -> [u8; 32] {
    sha256(cert)
}

/// SHA-256 of any bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` bytes from the system's random source.
pub fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    use ring::rand::SecureRandom;
    let mut out = [0; N];
    ring::rand::SystemRandom::new().fill(&mut out).map_err(|_| PkiError::Random)?;
    Ok(out)
}
