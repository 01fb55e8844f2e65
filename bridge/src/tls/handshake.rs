//! What a failed handshake tells the operator.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::PeerError;

/// Why two machines did not come to speak.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer is known not to be the right one.
    #[error(transparent)]
    Peer(PeerError),
    /// The peer's certificate has run out.
    #[error("its certificate has expired; join the node again, or check this machine's clock")]
    Expired,
    /// The peer's certificate is of the future.
    #[error("its certificate is not valid yet; check this machine's clock")]
    NotYetValid,
    /// The peer's certificate is signed by a key that is not our cluster's.
    #[error("its certificate was not signed by this cluster")]
    UnknownAuthority,
    /// The peer showed no certificate where one is needed.
    #[error("it showed no certificate")]
    NoCertificate,
    /// The peer did not believe us.
    #[error("it does not accept this node's certificate ({alert})")]
    NotAccepted {
        /// The peer's reason, in the words of TLS.
        alert: String,
    },
    /// The two have no protocol in common.
    #[error("it does not speak this protocol; one of the two runs another version of convoked, or none")]
    NoProtocol,
    /// The peer is who it should be, and turned us away with a reason.
    #[error("it refused: {reason}")]
    Refused {
        /// In the peer's words.
        reason: String,
    },
    /// TLS failed in another way; strangers and port scanners end here.
    #[error("TLS failed")]
    Tls(#[source] Error),
    /// The connection failed.
    #[error("the connection failed ({0})")]
    Io(io::Error),
    /// It took too long.
    #[error("no complete handshake in time")]
    TimedOut,
}

impl HandshakeError {
    /// Whether an operator should hear of it: a known peer that cannot come in, not a stranger's noise.
    pub fn concerns_operator(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Tls(_) | Self::TimedOut | Self::NoProtocol)
    }
}

impl From<PeerError> for HandshakeError {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        use AlertDescription as Alert;
        match &error {
            Error::InvalidCertificate(reason) => match reason {
                CertificateError::Other(other) => match other.0.downcast_ref::<PeerError>() {
                    Some(peer) => Self::Peer(peer.clone()),
                    None => Self::Tls(error),
                },
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                // What a key that imitates the authority's name produces.
                CertificateError::BadSignature => Self::UnknownAuthority,
                _ => Self::Tls(error),
            },
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::NoApplicationProtocol => Self::NoProtocol,
            Error::AlertReceived(alert) => match alert {
                Alert::NoApplicationProtocol => Self::NoProtocol,
                Alert::CertificateExpired => {
                    Self::NotAccepted { alert: "expired, or its clock is wrong".to_owned() }
                }
                Alert::UnknownCA => Self::NotAccepted { alert: "signed by another cluster".to_owned() },
                Alert::CertificateUnknown => {
                    Self::NotAccepted { alert: "of another cluster, or not the expected node".to_owned() }
                }
                Alert::CertificateRequired | Alert::BadCertificate | Alert::DecryptError => {
                    Self::NotAccepted { alert: format!("{alert:?}") }
                }
                _ => Self::Tls(error),
            },
            _ => Self::Tls(error),
        }
    }
}

impl From<io::Error> for HandshakeError {
    /// The TLS stream hands its own errors over inside I/O errors.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(tls) => tls.clone().into(),
            None => Self::Io(error),
        }
    }
}
