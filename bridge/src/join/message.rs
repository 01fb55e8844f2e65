//! What joiner and cluster say to each other.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::identity::Role;
use crate::net::BookEntry;

/// Messages of a join are short; a thousand nodes with names and addresses have less.
pub(super) const MESSAGE_MAX: usize = 1024 * 1024;

/// What the joiner sends.
#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) token: Token,
    /// The same for all addresses that one attempt tries, so that a lost answer does not make two nodes.
    #[serde(with = "serde_bytes")]
    pub(super) attempt: [u8; 16],
    pub(super) name: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) machine_id: String,
    pub(super) product_uuid: Option<String>,
    pub(super) role: Option<Role>,
    pub(super) version: String,
    #[serde(with = "serde_bytes")]
    pub(super) signing_request: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Token {
    #[serde(with = "serde_bytes")]
    pub(super) id: [u8; 16],
    #[serde(with = "serde_bytes")]
    pub(super) secret: [u8; 32],
}

/// What the cluster sends back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Joined {
        cluster_name: String,
        node: u64,
        generation: u64,
        role: Role,
        #[serde(with = "serde_bytes")]
        cert: Vec<u8>,
        /// The authority's key (PEM), for a node that votes at once.
        authority_key: Option<String>,
        peers: Vec<Peer>,
    },
    Refused(Refusal),
}

/// A machine that asks to become a node. Its token's secret is already turned into a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Names the token.
    pub token_id: [u8; 16],
    /// SHA-256 of the secret that came with it.
    pub secret_sha256: [u8; 32],
    /// One attempt of one machine, over all the nodes that it asks. A second request with the same attempt must
    /// get the same node id.
    pub attempt: [u8; 16],
    /// What the machine wants to be called.
    pub name: String,
    /// Where it says that it can be reached. Empty where it does not know.
    pub addresses: Vec<SocketAddr>,
    /// systemd's id of the installation.
    pub machine_id: String,
    /// The firmware's id of the machine, where it has one.
    pub product_uuid: Option<String>,
    /// What it would like to do; none leaves it to the cluster.
    pub role: Option<Role>,
    /// The version of convoked on it.
    pub version: String,
    /// Where the request came from.
    pub remote: SocketAddr,
}

/// The cluster's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The new node's id, never used before.
    pub node: u64,
    /// What people call the cluster.
    pub cluster_name: String,
    /// The cluster's generation.
    pub generation: u64,
    /// What the node does. A role with a vote brings the signing key along.
    pub role: Role,
    /// All nodes, the new one too.
    pub peers: Vec<Peer>,
}

/// A node as the joiner is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub node: u64,
    /// Its name, addresses and vote.
    pub entry: BookEntry,
}

/// The cluster's no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// In words, with what to do.
    pub text: String,
}

/// The kinds of no, for exit codes and for whether another node is worth asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The token is unknown, used up, or its secret is wrong.
    Token,
    /// The token has expired by the cluster's clock.
    Expired,
    /// The machine's name or identity is taken.
    Taken,
    /// The request itself is wrong.
    Request,
    /// This node cannot tell now: no quorum, no signing key. Another may.
    NotNow,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}
