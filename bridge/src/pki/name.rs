//! What a node's certificate says: `spiffe://CLUSTER/node/NODE`, as its only URI.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{ClusterId, PkiError};

/// A node of a cluster, as its certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's id in it, never given to another node.
    pub node: u64,
}

impl NodeName {
    /// What the certificate *says*. Whether that may be believed is the caller's to check: `tls` does so
    /// against the cluster's authority before it looks at the name.
    pub fn of_certificate(cert: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let (_, cert) = X509Certificate::from_der(cert).map_err(|_| PkiError::NotACertificate)?;
        let names = cert.subject_alternative_name().map_err(|_| PkiError::NoNodeName)?;
        let names = &names.ok_or(PkiError::NoNodeName)?.value.general_names;
        // Exactly one name: a certificate that is two nodes at once is none.
        match names.as_slice() {
            [GeneralName::URI(uri)] => uri.parse(),
            _ => Err(PkiError::NoNodeName),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/node/{}", self.cluster, self.node)
    }
}

impl FromStr for NodeName {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/node/"));
        let (cluster, node) = parts.ok_or(PkiError::NoNodeName)?;
        let cluster = cluster.parse().map_err(|_| PkiError::NoNodeName)?;
        let number: u64 = node.parse().map_err(|_| PkiError::NoNodeName)?;
        // "+1" and "01" parse as 1; one node has one name.
        if number.to_string() != node {
            return Err(PkiError::NoNodeName);
        }
        Ok(Self { cluster, node: number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_name() {
        let name = NodeName { cluster: ClusterId::from_bytes([0xab; 16]), node: 7 };
        let text = name.to_string();
        assert_eq!(text.parse::<NodeName>().expect("own text"), name);
        for wrong in [
            text.replace("spiffe", "https"),
            text.replace("/7", "/+7"),
            text.replace("/7", "/07"),
            text.replace("/7", ""),
            text.replace("/7", "/7/8"),
            text.replace("abab", "ABAB"),
            format!("{text}?x"),
        ] {
            assert!(wrong.parse::<NodeName>().is_err(), "{wrong}");
        }
    }
}
