//! openraft's client side: which request goes over which connection, and what its failure means.
//!
//! Appends, heartbeats and snapshots have a connection each, so that none waits behind another. Votes share one per
//! peer: openraft makes a new client for every vote, and dialling anew for each would eat the time a vote has.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkV2};

use crate::Bytes;
use crate::lane::{Dial, Lane, LaneError};
use crate::peers::Peers;
use crate::types::{Command, Group, Snapshot, Vote};
use crate::wire::{Reply, Request};

type RpcError = RPCError<Group>;

pub(crate) struct Network {
    dial: Arc<dyn Dial>,
    peers: Peers,
    /// Least time that a request gets; openraft's own limit for appends is one heartbeat.
    least: Duration,
    votes: BTreeMap<u64, Lane>,
}

impl Network {
    pub(crate) fn new(dial: Arc<dyn Dial>, peers: Peers, least: Duration) -> Self {
        Self { dial, peers, least, votes: BTreeMap::new() }
    }
}

impl RaftNetworkFactory<Group> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Peer {
        let lane = || Lane::new(target, self.dial.clone(), self.peers.clone(), self.least);
        let votes = self.votes.entry(target).or_insert_with(lane).clone();
        Peer { lane: lane(), votes, least: self.least }
    }
}

/// One openraft client of one peer.
pub(crate) struct Peer {
    lane: Lane,
    votes: Lane,
    least: Duration,
}

impl Peer {
    async fn call(&self, lane: &Lane, request: Request, option: &RPCOption) -> Result<Reply, RpcError> {
        lane.call(request, option.hard_ttl().max(self.least)).await.map_err(|e| unreachable(&e))
    }
}

impl RaftNetworkV2<Group> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Group>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Group>, RpcError> {
        match self.call(&self.lane, Request::Append(request), &option).await? {
            Reply::Append(response) => Ok(response),
            other => Err(wrong(&other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RpcError> {
        match self.call(&self.votes, Request::Vote(request), &option).await? {
            Reply::Vote(response) => Ok(response),
            other => Err(wrong(&other)),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RpcError> {
        match self.call(&self.votes, Request::PreVote(request), &option).await? {
            Reply::PreVote(response) => Ok(response),
            other => Err(wrong(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Group>, StreamingError<Group>> {
        let request = Request::Snapshot { vote, meta: snapshot.meta, bytes: Command(snapshot.snapshot) };
        let reply = tokio::select! {
            reply = self.call(&self.lane, request, &option) => reply?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        match reply {
            Reply::Snapshot(response) => Ok(response),
            other => Err(wrong(&other).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Group>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Group>, RpcError> {
        match self.call(&self.votes, Request::Transfer(request), &option).await? {
            Reply::Transfer(response) => Ok(response),
            other => Err(wrong(&other)),
        }
    }
}

/// Every failure is "unreachable": only that makes openraft pause before it tries again.
fn unreachable(error: &LaneError) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn wrong(reply: &Reply) -> RpcError {
    let kind = match reply {
        Reply::Hello(_) | Reply::RolledBack(_) => "a hello",
        Reply::Append(_) => "an append",
        Reply::Vote(_) => "a vote",
        Reply::PreVote(_) => "a pre-vote",
        Reply::Snapshot(_) => "a snapshot",
        Reply::Transfer(_) => "a transfer",
    };
    RPCError::Unreachable(Unreachable::from_string(format!("the reply was one to {kind}")))
}
