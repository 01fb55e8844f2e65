//! Voters come and go.

use std::collections::BTreeSet;

use consensus::{InitializeGroupError, MembershipError, TransferError};

use crate::fixture::{Group, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_grows_from_one_to_three_and_shrinks_again() {
    let mut group = Group::of_one().await;
    let first = group.leader().await;
    assert_eq!(first.consensus.initialize().await, Err(InitializeGroupError::NotPristine));
    assert_eq!(first.consensus.transfer().await, Err(TransferError::NobodyReady));
    for i in 0..10 {
        first.propose(&format!("alone {i}")).await.unwrap();
    }
    let too_early = first.consensus.set_voters(BTreeSet::from([1, 2])).await;
    assert_eq!(too_early, Err(MembershipError::NotLearner { node: 2 }));

    group.start(2).await;
    first.consensus.add_learner(2).await.unwrap();
    assert_eq!(first.consensus.status().learners, BTreeSet::from([2]));
    first.consensus.set_voters(BTreeSet::from([1, 2])).await.unwrap();
    group.start(3).await;
    first.consensus.add_learner(3).await.unwrap();
    first.consensus.add_learner(3).await.unwrap();
    first.consensus.set_voters(BTreeSet::from([1, 2, 3])).await.unwrap();
    first.consensus.set_voters(BTreeSet::from([1, 2, 3])).await.unwrap();
    first.propose("three").await.unwrap();
    group.settled(11).await;
    let status = first.consensus.status();
    assert_eq!((status.voters, status.joint), (BTreeSet::from([1, 2, 3]), false));

    assert_eq!(first.consensus.remove_learner(3).await, Err(MembershipError::IsVoter { node: 3 }));
    assert_eq!(first.consensus.set_voters(BTreeSet::new()).await, Err(MembershipError::Empty));
    first.consensus.set_voters(BTreeSet::from([1, 2])).await.unwrap();
    first.consensus.remove_learner(3).await.unwrap();
    group.stop(3).await;
    first.propose("two").await.unwrap();
    assert_eq!(group.settled(12).await.last().unwrap(), "two");
    let status = first.consensus.status();
    assert_eq!((status.voters, status.learners), (BTreeSet::from([1, 2]), BTreeSet::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_voter_far_behind_gets_a_snapshot() {
    let mut group = Group::of_one().await;
    let first = group.leader().await;
    for i in 0..300 {
        first.propose(&format!("c{i}")).await.unwrap();
    }
    until("a snapshot", || first.consensus.status().snapshot.is_some_and(|index| index > 200)).await;
    let second = group.start(2).await;
    first.consensus.add_learner(2).await.unwrap();
    first.consensus.set_voters(BTreeSet::from([1, 2])).await.unwrap();
    group.settled(300).await;
    assert!(second.consensus.status().snapshot.is_some(), "it came by snapshot");
    // What came as a snapshot is on disk: the node starts from it.
    group.stop(2).await;
    let second = group.start(2).await;
    assert!(second.state.commands().len() >= 200, "the snapshot is restored before the node is open");
    group.settled(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_voted_out_steps_down() {
    let group = Group::of_three().await;
    let leader = group.leader().await;
    let rest: BTreeSet<u64> = group.nodes.keys().copied().filter(|id| *id != leader.id).collect();
    leader.consensus.set_voters(rest.clone()).await.unwrap();
    until("a successor", || {
        group.nodes.values().any(|node| rest.contains(&node.id) && node.consensus.leadership().borrow().mine)
    })
    .await;
    until("the old leader knows", || !leader.consensus.leadership().borrow().mine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_voters_left_half_done_is_finished_by_the_next_leader() {
    let mut group = Group::of_one().await;
    let first = group.leader().await;
    group.start(2).await;
    first.consensus.add_learner(2).await.unwrap();
    // The joint membership needs node 2, which is cut off; then its proposer goes away.
    group.net.isolate(2, true);
    let half = first.consensus.clone();
    let change = tokio::spawn(async move { half.set_voters(BTreeSet::from([1, 2])).await });
    until("a joint membership", || first.consensus.status().joint).await;
    group.stop(1).await;
    assert!(matches!(change.await.unwrap(), Err(MembershipError::Stopped | MembershipError::Unknown(_))));
    let first = group.start(1).await;
    until("the joint membership again", || first.consensus.status().joint).await;
    group.net.isolate(2, false);
    group.leader().await;
    until("one set of voters", || {
        group.nodes.values().all(|node| {
            let status = node.consensus.status();
            !status.joint && status.voters == BTreeSet::from([1, 2])
        })
    })
    .await;
}
