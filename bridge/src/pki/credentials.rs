//! What a node needs to speak: the authority's certificate, its own, and its own key; as files, in PEM.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::authority::public_key;
use super::{Authority, NodeKey, NodeName, PkiError};
use crate::atomic;

/// A node's certificates and key, known to belong together.
pub struct Credentials {
    ca: CertificateDer<'static>,
    cert: CertificateDer<'static>,
    key: NodeKey,
    name: NodeName,
}

impl Credentials {
    /// Puts the parts together, if the certificate names a node and certifies the key.
    pub fn new(
        ca: CertificateDer<'static>,
        cert: CertificateDer<'static>,
        key: NodeKey,
    ) -> Result<Self, PkiError> {
        let name = NodeName::of_certificate(&cert)?;
        if public_key(&cert)? != key.public() {
            return Err(PkiError::KeyMismatch { certificate: "node.crt" });
        }
        Ok(Self { ca, cert, key, name })
    }

    /// Reads `ca.crt`, `node.crt` and `node.key` from a directory.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let key_path = dir.join("node.key");
        let key = NodeKey::from_pem(&read(&key_path)?)
            .ok_or(PkiError::Content { path: key_path, expected: "a private key" })?;
        Self::new(read_cert(&dir.join("ca.crt"))?, read_cert(&dir.join("node.crt"))?, key)
    }

    /// Writes the three files into a directory, readable by root alone.
    pub fn store(&self, dir: &Path) -> Result<(), PkiError> {
        write(&dir.join("node.key"), &self.key.pem())?;
        write(&dir.join("node.crt"), &pem(&self.cert))?;
        write(&dir.join("ca.crt"), &pem(&self.ca))
    }

    /// The node and cluster that the certificate names.
    pub fn name(&self) -> NodeName {
        self.name
    }

    /// The authority's certificate.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The node's certificate.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    pub(crate) fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.pkcs8()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads `ca.crt` and `ca.key` from a directory; `None` where there is no `ca.key`, as on plain members.
    pub fn load(dir: &Path) -> Result<Option<Self>, PkiError> {
        let path = dir.join("ca.key");
        match read(&path) {
            Ok(key) => Self::from_key(read_cert(&dir.join("ca.crt"))?, &key).map(Some),
            Err(PkiError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes `ca.key` into a directory, readable by root alone.
    pub fn store(&self, dir: &Path) -> Result<(), PkiError> {
        write(&dir.join("ca.key"), &self.key_pem())
    }
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn read_cert(path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(read(path)?.as_bytes())
        .map_err(|_| PkiError::Content { path: path.to_owned(), expected: "a certificate" })
}

fn write(path: &Path, pem: &str) -> Result<(), PkiError> {
    atomic::write(path, pem.as_bytes(), atomic::PRIVATE)
        .map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn pem(cert: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(cert);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a boundary.
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::ClusterId;
    use std::os::unix::fs::PermissionsExt;

    fn credentials(authority: &Authority, node: u64) -> Credentials {
        let key = NodeKey::generate().expect("key");
        let name = NodeName { cluster: ClusterId::from_bytes([1; 16]), node };
        let cert = authority.sign(&key.signing_request().expect("request"), name).expect("certificate");
        Credentials::new(authority.cert().clone(), cert, key).expect("credentials")
    }

    #[test]
    fn files_read_back_as_written_and_are_private() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let authority = Authority::create(ClusterId::from_bytes([1; 16])).expect("authority");
        let written = credentials(&authority, 5);
        written.store(dir.path()).expect("stored");
        assert!(Authority::load(dir.path()).expect("no error").is_none());
        authority.store(dir.path()).expect("stored");
        let read = Credentials::load(dir.path()).expect("loaded");
        assert_eq!((read.name(), read.ca(), read.cert()), (written.name(), written.ca(), written.cert()));
        assert!(Authority::load(dir.path()).expect("no error").is_some());
        for file in fs::read_dir(dir.path()).expect("directory") {
            let file = file.expect("entry");
            let mode = file.metadata().expect("metadata").permissions().mode() & 0o777;
            assert_eq!(mode, atomic::PRIVATE, "{:?}", file.path());
        }
    }

    #[test]
    fn anothers_key_is_refused() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let authority = Authority::create(ClusterId::from_bytes([1; 16])).expect("authority");
        credentials(&authority, 5).store(dir.path()).expect("stored");
        write(&dir.path().join("node.key"), &NodeKey::generate().expect("key").pem()).expect("key");
        let error = Credentials::load(dir.path()).expect_err("not its key");
        assert_eq!(error.to_string(), "the key does not belong to the certificate `node.crt`");
    }
}
