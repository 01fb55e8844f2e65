//! The types that openraft is instantiated with.
//!
//! A command and a response are bytes: what they mean is the business of whoever owns the replicated state.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Bytes;

openraft::declare_raft_types!(
    /// The one Raft group of a cluster. A leader is named by (term, node), openraft's default order: it is the mode
    /// that openraft itself is fuzzed in.
    pub(crate) Group:
        D = Command,
        R = Response,
        NodeId = u64,
        Node = openraft::EmptyNode,
);

pub(crate) type Raft = openraft::Raft<Group, crate::machine::Machine>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Group>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Group>;
pub(crate) type LeaderId = openraft::type_config::alias::LeaderIdOf<Group>;
pub(crate) type Membership = openraft::Membership<u64, openraft::EmptyNode>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<Group, Bytes>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Group>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Group>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Group>;
pub(crate) type WriteResult = openraft::raft::ClientWriteResult<Group>;

/// A command as it travels through the log. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

/// What the owner of the state answered when it applied a command; empty for entries that carry none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Response(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        Ok(Command(Bytes::from(bytes)))
    }
}
