//! What voters say to each other on an established connection: a request, then its reply. The first is a hello.
//!
//! Length-delimited frames hold MessagePack with field names, so that a field added by a newer version is ignored by an
//! older one. The messages of openraft travel in its own serialized form; they carry no address and no identity that is
//! believed: who speaks is known from the connection.

use std::io;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::Bytes;
use crate::peers::Hello;
use crate::types::{Command, Group, SnapshotMeta, Vote};

/// A connection to a peer voter, on which the caller has proven who the peer is.
pub type BoxStream = Box<dyn Duplex>;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) type Frames = Framed<BoxStream, LengthDelimitedCodec>;

/// Largest frame. A snapshot is sent in one, so this bounds the replicated state.
const FRAME_BYTES: usize = 64 << 20;

/// A request or a reply, with the number that pairs them on their connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Numbered<T> {
    pub(crate) number: u64,
    pub(crate) body: T,
    /// In a request: index of the last entry that is on the disk of the one who asks. A leader sends entries before
    /// that. Older software does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Hello(Hello),
    /// The one who answered has a store that was put back to an earlier time, as this says.
    RolledBack(String),
    Append(AppendEntriesRequest<Group>),
    Vote(VoteRequest<Group>),
    PreVote(VoteRequest<Group>),
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        bytes: Command,
    },
    Transfer(TransferLeaderRequest<Group>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Hello(Hello),
    /// The one who asked has a store that was put back to an earlier time, as this says.
    RolledBack(String),
    Append(AppendEntriesResponse<Group>),
    Vote(VoteResponse<Group>),
    PreVote(VoteResponse<Group>),
    Snapshot(SnapshotResponse<Group>),
    Transfer(TransferLeaderResponse<Group>),
}

impl Request {
    /// The node that the request claims to come from, if it claims to.
    pub(crate) fn sender(&self) -> Option<u64> {
        let vote = match self {
            Request::Hello(_) | Request::RolledBack(_) => return None,
            Request::Append(request) => &request.vote,
            Request::Vote(request) | Request::PreVote(request) => &request.vote,
            Request::Snapshot { vote, .. } => vote,
            Request::Transfer(request) => request.from_leader(),
        };
        Some(vote.leader_id.node_id)
    }
}

pub(crate) fn frames(stream: BoxStream) -> Frames {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES).new_framed(stream)
}

pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Bytes> {
    rmp_serde::to_vec_named(message).map(Bytes::from).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    rmp_serde::from_slice(frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
