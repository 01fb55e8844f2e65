//! The cluster's signing key, and the keys of nodes that ask it for a certificate.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ClusterId, NodeName, PkiError, random};

/// A signing request of a P-256 key has some 200 bytes; what is much longer is not one.
pub const SIGNING_REQUEST_MAX: usize = 4096;

/// Replacing the authority means touching every node, so it outlives the hardware.
const AUTHORITY_VALIDITY: Duration = Duration::days(20 * 365);

/// Renewal is one request over a session; five years leave room for a cluster that nobody looks at.
const NODE_VALIDITY: Duration = Duration::days(5 * 365);

/// The start of every certificate's validity: 2020-01-01, not "now". A node that boots with a dead clock battery
/// has the time of its systemd's build at least, which is later, and must not be locked out of its cluster for it.
/// The start protects nothing here: node ids are never used twice.
const VALID_FROM: i64 = 1_577_836_800;

/// The key that signs the certificates of a cluster, with its own certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
}

impl Authority {
    /// Draws the key of a new cluster.
    pub fn create(cluster: ClusterId) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::Sign)?;
        let mut params = params(&format!("Convoke cluster {cluster}"), AUTHORITY_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(PkiError::Sign)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), cert })
    }

    /// The authority with this certificate and this key (PEM), if they belong together.
    pub fn from_key(cert: CertificateDer<'static>, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::Sign)?;
        if public_key(&cert)? != key.public_key_raw() {
            return Err(PkiError::KeyMismatch { certificate: "ca.crt" });
        }
        let issuer = Issuer::from_ca_cert_der(&cert, key).map_err(PkiError::Sign)?;
        Ok(Self { issuer, cert })
    }

    /// The authority's own certificate, which every node holds.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// The private key (PEM). It goes to this node's disk and, inside a session, to a node that becomes a voter.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Certifies the public key of a signing request (DER) as that of `name`. The names and extensions that the
    /// request asks for are not looked at: only the cluster says who a node is.
    pub fn sign(&self, request: &[u8], name: NodeName) -> Result<CertificateDer<'static>, PkiError> {
        self.sign_for(request, name, NODE_VALIDITY)
    }

    /// As [`Authority::sign`], for another length of time from now on; negative: expired already.
    pub(crate) fn sign_for(
        &self,
        request: &[u8],
        name: NodeName,
        validity: Duration,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let request = parse_request(request)?;
        let mut params = params(&format!("Convoke node {}", name.node), validity)?;
        let uri = name.to_string().try_into().map_err(PkiError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Every node dials and is dialled.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&request.public_key, &self.issuer).map_err(PkiError::Sign)?;
        Ok(cert.der().clone())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A node's private key. It is drawn on the node and never leaves it.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// Draws a new one.
    pub fn generate() -> Result<Self, PkiError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(PkiError::Sign)
    }

    /// The request (DER) by which the authority learns the public key.
    pub fn signing_request(&self) -> Result<Vec<u8>, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(PkiError::Sign)?;
        Ok(request.der().to_vec())
    }

    /// The private key (PEM), for this node's disk.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        KeyPair::from_pem(pem).ok().map(Self)
    }

    pub(super) fn pkcs8(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    pub(super) fn public(&self) -> &[u8] {
        self.0.public_key_raw()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// Refuses what [`Authority::sign`] would refuse, before a node id is spent on it.
pub fn check_signing_request(request: &[u8]) -> Result<(), PkiError> {
    parse_request(request).map(drop)
}

fn parse_request(request: &[u8]) -> Result<CertificateSigningRequestParams, PkiError> {
    if request.len() > SIGNING_REQUEST_MAX {
        return Err(PkiError::Request { reason: format!("it has {} bytes", request.len()) });
    }
    // Checks too that the request is signed with the key that it names.
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|error| PkiError::Request { reason: error.to_string() })?;
    if PublicKeyData::algorithm(&request.public_key) != &PKCS_ECDSA_P256_SHA256 {
        return Err(PkiError::Request { reason: "its key is not an ECDSA P-256 key".to_owned() });
    }
    Ok(request)
}

/// The public key that a certificate certifies.
pub(super) fn public_key(cert: &CertificateDer<'_>) -> Result<Vec<u8>, PkiError> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|_| PkiError::NotACertificate)?;
    Ok(cert.public_key().subject_public_key.data.to_vec())
}

fn params(common_name: &str, validity: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::UNIX_EPOCH + Duration::seconds(VALID_FROM);
    params.not_after = OffsetDateTime::now_utc() + validity;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let mut serial: [u8; 16] = random()?;
    // RFC 5280: positive and not zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(node: u64) -> NodeName {
        NodeName { cluster: ClusterId::from_bytes([1; 16]), node }
    }

    #[test]
    fn the_request_decides_nothing_but_the_key() {
        let authority = Authority::create(name(0).cluster).expect("authority");
        let key = NodeKey::generate().expect("key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name(1).to_string().try_into().expect("text"))];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = params.serialize_request(&key.0).expect("request");
        let cert = authority.sign(request.der(), name(9)).expect("certificate");
        assert_eq!(NodeName::of_certificate(&cert).expect("name"), name(9));
        assert_eq!(public_key(&cert).expect("key"), key.public());
        let (_, parsed) = X509Certificate::from_der(&cert).expect("certificate");
        assert!(!parsed.is_ca());
    }

    #[test]
    fn a_changed_request_is_refused() {
        let authority = Authority::create(name(0).cluster).expect("authority");
        let mut request = NodeKey::generate().expect("key").signing_request().expect("request");
        let last = request.len() - 1;
        request[last] ^= 1;
        assert!(matches!(authority.sign(&request, name(1)), Err(PkiError::Request { .. })));
        assert!(check_signing_request(&request).is_err());
        assert!(matches!(authority.sign(&[0; 5000], name(1)), Err(PkiError::Request { .. })));
    }

    #[test]
    fn a_key_is_taken_only_with_its_own_certificate() {
        let (a, b) = (Authority::create(name(0).cluster), Authority::create(name(0).cluster));
        let (a, b) = (a.expect("authority"), b.expect("authority"));
        let again = Authority::from_key(a.cert().clone(), &a.key_pem()).expect("its own key");
        let request = NodeKey::generate().expect("key").signing_request().expect("request");
        again.sign(&request, name(2)).expect("it signs");
        let error = Authority::from_key(a.cert().clone(), &b.key_pem()).expect_err("another key");
        assert!(matches!(error, PkiError::KeyMismatch { .. }));
    }
}
