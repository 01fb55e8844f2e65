//! Changing who votes.
//!
//! Every change names the membership it was derived from, so that two changes never overwrite each other. A change of
//! voters takes two entries; a leader that dies between them leaves a joint membership, which the next leader ends.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::error::{ChangeMembershipError, ClientWriteError, Fatal, RaftError};
use openraft::{ChangeMembers, EmptyNode, Precondition};

use tokio::time::{Instant, sleep};

use crate::types::{Group, Raft, StoredMembership};

/// Why a change of membership did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This node does not lead the group; nothing was changed.
    #[error("this node is not the leader")]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<u64>,
    },
    /// Another change came first or is under way; nothing was changed. Look at the membership again.
    #[error("the membership was changed by someone else at the same time")]
    Conflict,
    /// A voter must be a learner first, so that it has the log when its vote counts.
    #[error("node {node} is not a learner yet")]
    NotLearner {
        /// The node.
        node: u64,
    },
    /// A group without voters can never decide anything again.
    #[error("the group would have no voters")]
    Empty,
    /// A voter is taken out of the set of voters first.
    #[error("node {node} is a voter")]
    IsVoter {
        /// The node.
        node: u64,
    },
    /// The change may take effect, now, later or never. Look at the membership again.
    #[error("it is not known whether the change will be committed: {0}")]
    Unknown(String),
    /// The learner was added, but did not catch up in time.
    #[error("node {node} was added, but has not caught up with the log")]
    Behind {
        /// The node.
        node: u64,
    },
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

type Failure = RaftError<Group, ClientWriteError<Group>>;

/// How long a new learner may take to receive the log.
const CATCH_UP: Duration = Duration::from_secs(30);

/// How long a change waits for the one before it to be committed, and how long between two looks.
const SETTLE: Duration = Duration::from_secs(2);
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

pub(crate) async fn add_learner(raft: &Raft, node: u64) -> Result<(), MembershipError> {
    if !seen(raft).membership().nodes().any(|(id, _)| *id == node) {
        change(raft, ChangeMembers::AddNodes([(node, EmptyNode::new())].into())).await?;
    }
    caught_up(raft, node).await
}

pub(crate) async fn set_voters(raft: &Raft, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
    let seen = seen(raft);
    if seen.get_joint_config().as_slice() == [voters.clone()] {
        return Ok(());
    }
    // From a joint membership the change passes through its second half, which openraft allows in one call.
    change_from(raft, &seen, ChangeMembers::ReplaceAllVoters(voters)).await
}

pub(crate) async fn remove_learner(raft: &Raft, node: u64) -> Result<(), MembershipError> {
    let seen = seen(raft);
    if seen.voter_ids().any(|voter| voter == node) {
        return Err(MembershipError::IsVoter { node });
    }
    if !seen.nodes().any(|(id, _)| *id == node) {
        return Ok(());
    }
    change_from(raft, &seen, ChangeMembers::RemoveNodes([node].into())).await
}

/// Ends a joint membership that an earlier leader left behind, while this node leads in `term`.
pub(crate) async fn finish_joint(raft: Raft, term: u64) {
    const PAUSE: Duration = Duration::from_millis(500);
    loop {
        let leads = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.state.is_leader() && metrics.vote.leader_id.term == term
        };
        let seen = seen(&raft);
        let [_, goal] = seen.get_joint_config().as_slice() else { return };
        if !leads {
            return;
        }
        // The change that made it joint may still be running here: let it finish by itself first.
        sleep(PAUSE).await;
        let joint = seen.log_id();
        if self::seen(&raft).log_id() != joint {
            continue;
        }
        tracing::info!(voters = ?goal, "ending a change of voters that was left half done");
        match change_from(&raft, &seen, ChangeMembers::ReplaceAllVoters(goal.clone())).await {
            Ok(()) | Err(MembershipError::Stopped | MembershipError::NotLeader { .. }) => return,
            Err(error) => tracing::debug!(%error, "a change of voters is still half done"),
        }
    }
}

fn seen(raft: &Raft) -> StoredMembership {
    raft.server_metrics().borrow_watched().membership_config.as_ref().clone()
}

async fn change(raft: &Raft, change: ChangeMembers<u64, EmptyNode>) -> Result<(), MembershipError> {
    change_from(raft, &seen(raft), change).await
}

async fn change_from(
    raft: &Raft,
    seen: &StoredMembership,
    change: ChangeMembers<u64, EmptyNode>,
) -> Result<(), MembershipError> {
    let guard = Precondition::LastMembershipLogId { last_membership_log_id: *seen.log_id() };
    let give_up = Instant::now() + SETTLE;
    loop {
        match raft.change_membership_if(change.clone(), false, [guard.clone()]).await {
            Ok(_) => return Ok(()),
            Err(failure) if is_too_early(&failure) && Instant::now() < give_up => sleep(SETTLE_PAUSE).await,
            Err(failure) => return Err(failed(failure)),
        }
    }
}

/// Whether the membership that the change starts from is not committed yet: a new leader's first moments.
fn is_too_early(failure: &Failure) -> bool {
    let RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) = failure else { return false };
    matches!(error, ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_))
}

/// Waits until the leader has seen the learner hold what was in the log when it was added.
async fn caught_up(raft: &Raft, node: u64) -> Result<(), MembershipError> {
    let goal = raft.metrics().borrow_watched().last_log_index;
    let held = move |metrics: &openraft::RaftMetrics<Group>| {
        let Some(replication) = &metrics.replication else { return true };
        let matched = replication.get(&node).and_then(|id| id.as_ref()).map(|id| id.index);
        metrics.vote.leader_id.node_id == node || matched >= goal
    };
    let metrics = raft
        .wait(Some(CATCH_UP))
        .metrics(held, "the learner catches up")
        .await
        .map_err(|_| MembershipError::Behind { node })?;
    if metrics.replication.is_none() {
        return Err(MembershipError::NotLeader { leader: metrics.current_leader });
    }
    Ok(())
}

fn failed(failure: Failure) -> MembershipError {
    match failure {
        RaftError::Fatal(Fatal::Stopped) => MembershipError::Stopped,
        RaftError::Fatal(fatal) => MembershipError::Unknown(fatal.to_string()),
        RaftError::APIError(error) => match error {
            ClientWriteError::ForwardToLeader(f) => MembershipError::NotLeader { leader: f.leader_id },
            ClientWriteError::PreconditionFailed(_) => MembershipError::Conflict,
            ClientWriteError::LogEntryDiscarded(f) => MembershipError::Unknown(f.to_string()),
            ClientWriteError::ChangeMembershipError(error) => match error {
                ChangeMembershipError::EmptyMembership(_) => MembershipError::Empty,
                ChangeMembershipError::LearnerNotFound(e) => MembershipError::NotLearner { node: e.node_id },
                _ => MembershipError::Conflict,
            },
        },
    }
}
