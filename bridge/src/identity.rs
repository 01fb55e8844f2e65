//! What makes this machine a node of a cluster, and whether that is whole.
//!
//! The directory `identity/` is prepared beside its place and appears by one rename: a node is in a cluster or is
//! not, whatever moment the power goes. Whoever finds a half of it is told what is missing, and nothing starts: an
//! enrolled certificate beside an empty or foreign store never speaks for its node (F14). Knows no sockets.

mod check;
mod machine;

pub use check::{StoreState, load};
pub use machine::{Machine, MachineError, text_of};

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::paths::Paths;
use crate::pki::{Authority, ClusterId, Credentials, NodeName, PkiError};

/// The version of `identity.toml`. A file of a later one is refused, not guessed at.
const FORMAT: u32 = 1;

/// What a node does for its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Decides and runs units.
    Voter,
    /// Runs units only.
    Member,
    /// Decides only: the third vote of a site with two machines.
    Witness,
}

impl Role {
    /// Whether the node has a vote, hence a store and the signing key.
    pub fn votes(self) -> bool {
        matches!(self, Self::Voter | Self::Witness)
    }

    /// The word for it in files and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Member => "member",
            Self::Witness => "witness",
        }
    }
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// What people call the cluster.
    pub cluster_name: String,
    /// The node's id, never given to another node.
    pub node: u64,
    /// What people call the node.
    pub node_name: String,
    /// Rises with each forced recovery or restore; lower ones are refused for ever (F14).
    pub generation: u64,
    /// What the node does.
    pub role: Role,
}

impl Identity {
    /// The name that the node's certificate must have.
    pub fn certificate_name(&self) -> NodeName {
        NodeName { cluster: self.cluster, node: self.node }
    }
}

/// A node that is in a cluster: who it is, and the means to prove it.
#[derive(Debug)]
pub struct Enrolled {
    /// Who.
    pub identity: Identity,
    /// The proof.
    pub credentials: Credentials,
    /// The cluster's signing key, on nodes that have it.
    pub authority: Option<Authority>,
    /// Whether the store was ever begun here.
    pub store: StoreState,
}

/// Why there is no identity to start with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A part of the identity is missing.
    #[error(
        "this node's identity is incomplete: `{}` is missing; {}", missing.display(), remedy(.identity_dir)
    )]
    Half {
        /// The first missing file.
        missing: PathBuf,
        /// The directory that should hold it.
        identity_dir: PathBuf,
    },
    /// There is a store but no identity.
    #[error(
        "`{}` is there but this node has no identity: part of its data is gone; {}",
        store.display(), remedy(.identity_dir)
    )]
    StoreWithoutIdentity {
        /// The store.
        store: PathBuf,
        /// Where the identity should be.
        identity_dir: PathBuf,
    },
    /// There is an identity, and its store was begun once and is gone.
    #[error(
        "this node's identity is there but its store `{}` is gone: a voter that forgot its votes could elect itself; {}",
        store.display(), remedy(.identity_dir)
    )]
    StoreGone {
        /// The store that should be there.
        store: PathBuf,
        /// Where the identity lies.
        identity_dir: PathBuf,
    },
    /// The certificate is another node's.
    #[error(
        "`{}` names node {} of cluster {}, but this is node {} of cluster {}; {}",
        path.display(), certificate.node, certificate.cluster, identity.node, identity.cluster,
        remedy(.identity_dir)
    )]
    ForeignCertificate {
        /// The certificate's file.
        path: PathBuf,
        /// Whom it names.
        certificate: NodeName,
        /// Whom `identity.toml` names.
        identity: NodeName,
        /// Where both lie.
        identity_dir: PathBuf,
    },
    /// `identity.toml` cannot be understood.
    #[error("`{}` cannot be understood: {reason}; {}", path.display(), remedy(.identity_dir))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// Where it lies.
        identity_dir: PathBuf,
    },
    /// A new identity was to be installed where there is one.
    #[error("this node is already `{node_name}` (node {node}) of cluster `{cluster_name}` ({cluster})")]
    AlreadyEnrolled {
        /// Its name.
        node_name: String,
        /// Its id.
        node: u64,
        /// The cluster's name.
        cluster_name: String,
        /// The cluster's id.
        cluster: ClusterId,
    },
    /// Keys or certificates are not right.
    #[error("the node's certificates cannot be used")]
    Pki(#[from] PkiError),
    /// A file could not be read or written.
    #[error("cannot access `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What helps a node whose files here are lost.
pub(crate) fn remedy(identity_dir: &std::path::Path) -> String {
    let state = identity_dir.parent().unwrap_or(identity_dir);
    format!(
        "stop convoked, move `{0}` away, remove the node from the cluster on another node (`convoke leave NODE`) and join \
         again with a new token; a backup of it must not be put back",
        state.display()
    )
}

/// `identity.toml` as written.
#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    #[serde(flatten)]
    identity: Identity,
    /// Set once the store exists, so that its absence later is known for a loss.
    store_begun: bool,
}

/// Puts a new identity in force, by one rename. Remains of an interrupted attempt are removed first: they were
/// never in force, and no cluster relies on them.
pub fn install(
    paths: &Paths,
    identity: &Identity,
    credentials: &Credentials,
    authority: Option<&Authority>,
) -> Result<(), IdentityError> {
    if let Some(present) = load(paths)? {
        return Err(already(present.identity));
    }
    let staging = paths.identity_staging_dir();
    clean_staging(paths)?;
    atomic::create_private_dir(&staging).map_err(file(&staging))?;
    credentials.store(&staging)?;
    if let Some(authority) = authority {
        authority.store(&staging)?;
    }
    write(&staging.join("identity.toml"), identity, false)?;
    let target = paths.identity_dir();
    atomic::install_dir(&staging, &target).map_err(file(&target))
}

/// Notes that the store exists from now on. Call it after the store was created, before its first vote.
pub fn note_store_begun(paths: &Paths, identity: &Identity) -> Result<(), IdentityError> {
    write(&paths.identity_file(), identity, true)
}

/// Changes what this node does, or the generation it knows; the cluster decided both. A node that becomes a voter
/// brings the signing key, which is written first: a voter without it would be half of one.
pub fn update(
    paths: &Paths,
    identity: &Identity,
    authority: Option<&Authority>,
    store_begun: bool,
) -> Result<(), IdentityError> {
    if let Some(authority) = authority {
        authority.store(&paths.identity_dir())?;
    }
    write(&paths.identity_file(), identity, store_begun)?;
    if !identity.role.votes() {
        // The key leaves with the vote: fewer places to lose it from.
        let key = paths.ca_key();
        atomic::remove(&key).map_err(file(&key))?;
    }
    Ok(())
}

/// Removes the remains of an interrupted init or join.
pub fn clean_staging(paths: &Paths) -> Result<(), IdentityError> {
    let staging = paths.identity_staging_dir();
    match fs::remove_dir_all(&staging) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(IdentityError::File { path: staging, source })
        }
        _ => Ok(()),
    }
}

/// The refusal to enrol a node twice.
pub fn already(identity: Identity) -> IdentityError {
    let Identity { cluster, cluster_name, node, node_name, .. } = identity;
    IdentityError::AlreadyEnrolled { node_name, node, cluster_name, cluster }
}

fn write(path: &std::path::Path, identity: &Identity, store_begun: bool) -> Result<(), IdentityError> {
    let content = IdentityFile { format: FORMAT, identity: identity.clone(), store_begun };
    let text = toml::to_string(&content).map_err(|error| IdentityError::File {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    let text = format!("# Written by convoked; a change here is a lie about who this node is.\n{text}");
    atomic::write(path, text.as_bytes(), atomic::PRIVATE).map_err(file(path))
}

fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::File { path, source }
}
