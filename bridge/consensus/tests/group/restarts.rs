//! Orderly stops and starts.

use std::time::Duration;

use consensus::{BarrierError, OpenError, ProposeError, RecoveryError};
use tokio::time::timeout;

use crate::fixture::{Group, Net, PATIENCE, State, open, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_comes_back_with_its_snapshot_and_the_log_after_it() {
    let mut group = Group::of_one().await;
    let mut want = Vec::new();
    for start in 1..4 {
        let node = group.leader().await;
        assert_eq!(node.consensus.start_count(), start);
        assert_eq!(node.state.commands(), want);
        for i in 0..70 {
            let command = format!("start {start} command {i}");
            node.propose(&command).await.unwrap();
            want.push(command);
        }
        until("a snapshot", || node.consensus.status().snapshot.is_some()).await;
        group.stop(1).await;
        let node = group.start(1).await;
        node.consensus.wait_for_recovery(PATIENCE).await.unwrap();
        assert_eq!(node.state.commands(), want, "after recovery nothing is missing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_group_stops_and_starts() {
    let mut group = Group::of_three().await;
    let leader = group.leader().await;
    for i in 0..120 {
        leader.propose(&format!("c{i}")).await.unwrap();
    }
    for id in 1..4 {
        group.stop(id).await;
    }
    let alone = group.start(2).await;
    let impatient = alone.consensus.wait_for_recovery(Duration::from_millis(600)).await;
    assert_eq!(impatient, Err(RecoveryError::TimedOut), "one of three knows nothing for sure");
    group.start(1).await;
    group.start(3).await;
    alone.consensus.wait_for_recovery(PATIENCE).await.unwrap();
    assert_eq!(group.settled(120).await.len(), 120);
    group.leader().await.propose("on").await.unwrap();
    group.settled(121).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_says_so_and_frees_its_store() {
    let mut group = Group::of_one().await;
    let node = group.leader().await;
    let fatal = node.consensus.fatal();
    let dir = group.folder(1);
    let second = open(&dir, 1, &Net::default(), &State::default()).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    let foreign = open(&dir, 2, &Net::default(), &State::default()).await;
    assert!(matches!(foreign, Err(OpenError::InUse { .. })));
    group.stop(1).await;
    assert_eq!(timeout(PATIENCE, fatal).await.unwrap(), "the Raft core has stopped");
    assert_eq!(node.consensus.barrier().await, Err(BarrierError::Stopped));
    let late = node.propose("late").await;
    assert!(matches!(late, Err(ProposeError::Stopped | ProposeError::Unknown)), "{late:?}");
    assert!(!node.consensus.leadership().borrow().mine);
    let foreign = open(&dir, 2, &Net::default(), &State::default()).await;
    assert!(matches!(foreign, Err(OpenError::Foreign { .. })));
    group.start(1).await;
    group.leader().await;
}
