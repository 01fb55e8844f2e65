//! Who leads, who may say so, and what becomes of proposals meanwhile.

use std::time::{Duration, Instant};

use consensus::{BarrierError, ProposeError};
use tokio::time::timeout;

use crate::fixture::{Group, PATIENCE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_are_applied_everywhere_in_the_order_of_the_calls() {
    let group = Group::of_three().await;
    let leader = group.leader().await;
    let term = leader.consensus.leadership().borrow().term;
    let proposals: Vec<_> =
        (0..200).map(|i| leader.consensus.propose(format!("c{i}").into_bytes())).collect();
    let mut last = 0;
    for (i, proposal) in proposals.into_iter().enumerate() {
        let applied = timeout(PATIENCE, proposal).await.unwrap().unwrap();
        assert!(applied.index > last && applied.term == term);
        assert_eq!(applied.response, format!("{}th", i + 1).into_bytes());
        last = applied.index;
    }
    let want: Vec<_> = (0..200).map(|i| format!("c{i}")).collect();
    assert_eq!(group.settled(200).await, want);
    let barrier = leader.consensus.barrier().await.unwrap();
    assert_eq!((barrier.term, barrier.index), (term, last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_takes_proposals_and_only_in_its_term() {
    let group = Group::of_three().await;
    let leader = group.leader().await;
    let follower = group.nodes.values().find(|node| node.id != leader.id).unwrap();
    until("the follower knows the leader", || follower.consensus.status().leader == Some(leader.id)).await;
    let elsewhere = Some(leader.id);
    assert_eq!(follower.propose("x").await, Err(ProposeError::NotLeader { leader: elsewhere }));
    assert_eq!(follower.consensus.barrier().await, Err(BarrierError::NotLeader { leader: elsewhere }));
    let term = leader.consensus.leadership().borrow().term;
    let stale = leader.consensus.propose_in(term - 1, b"x".to_vec()).await;
    assert!(matches!(stale, Err(ProposeError::NotLeader { .. })), "{stale:?}");
    leader.consensus.propose_in(term, b"y".to_vec()).await.unwrap();
    assert_eq!(group.settled(1).await, ["y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut group = Group::of_three().await;
    let old = group.leader().await;
    for i in 0..20 {
        old.propose(&format!("before {i}")).await.unwrap();
    }
    let died = Instant::now();
    group.stop(old.id).await;
    let new = group.leader().await;
    assert!(died.elapsed() < Duration::from_secs(4), "the election took {:?}", died.elapsed());
    assert_ne!(new.id, old.id);
    for i in 0..20 {
        new.propose(&format!("after {i}")).await.unwrap();
    }
    group.start(old.id).await;
    let all = group.settled(40).await;
    assert_eq!((all[19].as_str(), all[20].as_str()), ("before 19", "after 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_cannot_prove_its_lead_and_joins_again_later() {
    let group = Group::of_three().await;
    let old = group.leader().await;
    old.propose("one").await.unwrap();
    let old_term = old.consensus.leadership().borrow().term;
    group.net.isolate(old.id, true);
    // At once, long before its lease has run out: a proof must come from a round that begins after the question.
    assert_eq!(old.consensus.barrier().await, Err(BarrierError::NoQuorum));
    let orphan = old.consensus.propose(b"orphan".to_vec());
    let new = {
        let others = group.nodes.values().filter(|node| node.id != old.id);
        let others: Vec<_> = others.cloned().collect();
        until("a new leader", || others.iter().any(|node| node.consensus.leadership().borrow().mine)).await;
        others.into_iter().find(|node| node.consensus.leadership().borrow().mine).unwrap()
    };
    let barrier = new.consensus.barrier().await.unwrap();
    assert!(barrier.term > old_term);
    new.propose("two").await.unwrap();
    assert!(old.consensus.leadership().borrow().mine, "a cut-off leader goes on believing: that is why");
    assert!(old.consensus.barrier().await.is_err());

    group.net.isolate(old.id, false);
    let lost = timeout(PATIENCE, orphan).await.expect("an orphaned proposal has an outcome");
    assert!(matches!(lost, Err(ProposeError::Unknown | ProposeError::NotReady)), "{lost:?}");
    until("the old leader follows", || {
        let seen = *old.consensus.leadership().borrow();
        !seen.mine && seen.term >= barrier.term && seen.leader.is_some()
    })
    .await;
    assert_eq!(group.settled(2).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_cut_off_does_not_disturb_the_leader() {
    let group = Group::of_three().await;
    let leader = group.leader().await;
    let term = leader.consensus.leadership().borrow().term;
    let follower = group.nodes.values().find(|node| node.id != leader.id).unwrap();
    group.net.isolate(follower.id, true);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    group.net.isolate(follower.id, false);
    leader.propose("still here").await.unwrap();
    group.settled(1).await;
    let now = *leader.consensus.leadership().borrow();
    assert!(now.mine && now.term == term, "the returning follower forced an election: {now:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_quickly() {
    let group = Group::of_three().await;
    for turn in 0..3 {
        let old = group.leader().await;
        old.propose(&format!("turn {turn}")).await.unwrap();
        until("a follower is heard", || old.consensus.status().heard.values().any(Option::is_some)).await;
        let asked = Instant::now();
        let new = old.consensus.transfer().await.unwrap();
        assert_ne!(new, old.id);
        let proven = group.leader().await;
        assert_eq!(proven.id, new);
        assert!(
            asked.elapsed() < Duration::from_millis(800),
            "slower than an election: {:?}",
            asked.elapsed()
        );
    }
    group.settled(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_knows_when_it_last_answered_a_leader() {
    let group = Group::of_three().await;
    let leader = group.leader().await;
    let follower = group.nodes.values().find(|node| node.id != leader.id).unwrap();
    let fresh = |limit| move |age: Duration| age < Duration::from_millis(limit);
    until("heartbeats", || follower.consensus.last_leader_ack_age().is_some_and(fresh(150))).await;
    group.net.isolate(follower.id, true);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let age = follower.consensus.last_leader_ack_age().unwrap();
    assert!(age >= Duration::from_millis(500), "{age:?}");
    group.net.isolate(follower.id, false);
    until("heartbeats again", || follower.consensus.last_leader_ack_age().is_some_and(fresh(150))).await;
}
