//! Makes a cluster of one node: its id, its signing key, and the first node's certificate.
//!
//! Writes the identity by one rename and nothing else that matters; the store is the daemon's to begin.

use std::net::SocketAddr;

use crate::identity::{self, Enrolled, Identity, IdentityError, Role, StoreState};
use crate::net::book::{Book, BookEntry};
use crate::paths::Paths;
use crate::pki::{Authority, ClusterId, Credentials, NodeKey};

/// The id of the first node. Later ids are indices of log entries, and the first entry of a log is no node's.
pub const FIRST_NODE: u64 = 1;

/// What a new cluster and its first node are called.
#[derive(Clone, Debug)]
pub struct First {
    /// The cluster's name for people.
    pub cluster_name: String,
    /// The node's name for people.
    pub node_name: String,
    /// Where the node can be reached.
    pub addresses: Vec<SocketAddr>,
}

/// Makes a new cluster with this machine as its only node. Refused where the machine is in a cluster, wholly or by
/// half; the remains of an interrupted attempt are removed.
pub fn create(paths: &Paths, first: &First) -> Result<Enrolled, IdentityError> {
    if let Some(present) = identity::load(paths)? {
        return Err(identity::already(present.identity));
    }
    let cluster = ClusterId::generate()?;
    let identity = Identity {
        cluster,
        cluster_name: first.cluster_name.clone(),
        node: FIRST_NODE,
        node_name: first.node_name.clone(),
        generation: 0,
        role: Role::Voter,
    };
    let authority = Authority::create(cluster)?;
    let key = NodeKey::generate()?;
    let cert = authority.sign(&key.signing_request()?, identity.certificate_name())?;
    let credentials = Credentials::new(authority.cert().clone(), cert, key)?;
    let entry = BookEntry { name: first.node_name.clone(), addresses: first.addresses.clone(), voter: true };
    let peers = paths.peers_file();
    crate::atomic::create_private_dir(&paths.state_dir())
        .and_then(|()| Book::of([(FIRST_NODE, entry)]).store(&peers))
        .map_err(|source| IdentityError::File { path: peers, source })?;
    identity::install(paths, &identity, &credentials, Some(&authority))?;
    Ok(Enrolled { identity, credentials, authority: Some(authority), store: StoreState::Fresh })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(name: &str) -> First {
        First { cluster_name: "harbour".to_owned(), node_name: name.to_owned(), addresses: Vec::new() }
    }

    #[test]
    fn a_machine_is_in_one_cluster_at_most() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        // What an interrupted attempt leaves is cleaned.
        std::fs::create_dir_all(paths.identity_staging_dir()).expect("staging");
        std::fs::write(paths.identity_staging_dir().join("ca.key"), b"half").expect("half");
        let made = create(&paths, &first("n1")).expect("a new cluster");
        assert!(!paths.identity_staging_dir().exists());
        let error = create(&paths, &first("n1")).expect_err("it is in one");
        assert_eq!(
            error.to_string(),
            format!("this node is already `n1` (node 1) of cluster `harbour` ({})", made.identity.cluster)
        );
        let again = identity::load(&paths).expect("whole").expect("there");
        assert_eq!(again.identity, made.identity);
        assert_eq!(again.credentials.cert(), made.credentials.cert());
    }
}
