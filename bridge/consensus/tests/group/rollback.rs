//! A store that is put back to an earlier time (F21).

use std::path::Path;

use consensus::OpenError;
use tokio::time::timeout;

use crate::fixture::{Group, Net, Node, PATIENCE, State, open, until};

const STORE: &str = "raft.redb";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join(STORE), to.join(STORE)).unwrap();
}

/// Keeps a copy of the store of a node, which is stopped for that, and runs it again.
async fn keep(group: &mut Group, id: u64, kept: &Path) {
    group.stop(id).await;
    copy(&group.folder(id), kept);
    group.start(id).await;
}

/// A node that does not lead.
async fn follower(group: &Group) -> u64 {
    let leader = group.leader().await.id;
    (1..4).find(|id| *id != leader).unwrap()
}

/// The leader knows that the node holds the entry.
async fn acknowledged(leader: &Node, id: u64, index: u64) {
    let matched = || leader.consensus.status().matched.get(&id).copied().flatten();
    until("it is acknowledged", || matched() >= Some(index)).await;
}

/// The node is told what is wrong with its store, ends, and never opens it again.
async fn is_turned_away(group: &mut Group, id: u64) -> String {
    let node = group.start(id).await;
    let why = timeout(PATIENCE, node.consensus.fatal()).await.expect("it takes part");
    assert!(why.contains("put back to an earlier time"), "{why}");
    group.stop(id).await;
    let again = open(&group.folder(id), id, &Net::default(), &State::default()).await;
    let Err(OpenError::RolledBack { what, .. }) = again else { panic!("it is opened once more") };
    what
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_before_its_last_start_is_turned_away_by_all() {
    let kept = tempfile::tempdir().unwrap();
    let mut group = Group::of_three().await;
    let id = follower(&group).await;
    keep(&mut group, id, kept.path()).await;
    let leader = group.leader().await;
    let index = leader.propose("acknowledged").await.unwrap().index;
    acknowledged(&leader, id, index).await;
    group.stop(id).await;
    copy(kept.path(), &group.folder(id));
    // Also by one who never led.
    group.stop(leader.id).await;
    let what = is_turned_away(&mut group, id).await;
    assert!(what.contains("was seen before"), "{what}");
    group.start(leader.id).await;
    group.leader().await.propose("on").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_knows_what_a_store_of_the_same_run_has_forgotten() {
    let kept = tempfile::tempdir().unwrap();
    let mut group = Group::of_three().await;
    let id = follower(&group).await;
    // As it is in the midst of its run: what a snapshot of a machine holds.
    let leader = group.leader().await;
    let first = leader.propose("before").await.unwrap().index;
    acknowledged(&leader, id, first).await;
    group.stop(id).await;
    copy(&group.folder(id), kept.path());
    // The start that it makes now is the first that counts anew when the copy is put back.
    let forged = group.folder(id);
    group.start(id).await;
    let index = leader.propose("acknowledged").await.unwrap().index;
    acknowledged(&leader, id, index).await;
    group.stop(id).await;
    copy(kept.path(), &forged);
    // Two openings that nobody hears of.
    for _ in 0..2 {
        let unheard = open(&forged, id, &Net::default(), &State::default()).await.unwrap();
        unheard.shutdown().await;
    }
    let what = is_turned_away(&mut group, id).await;
    assert!(what.contains("it has acknowledged entry"), "{what}");
}

/// The leader's machine is put back, and no run of it was counted since: what it said of its own disk tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_knows_what_a_leader_had_on_disk() {
    let kept = tempfile::tempdir().unwrap();
    let mut group = Group::of_three().await;
    let leader = group.leader().await;
    let (near, far) = match leader.id {
        1 => (2, 3),
        2 => (3, 1),
        _ => (1, 2),
    };
    let before = leader.propose("before").await.unwrap().index;
    acknowledged(&leader, near, before).await;
    acknowledged(&leader, far, before).await;
    // Nothing is written now, so this is what a snapshot of the machine holds.
    copy(&group.folder(leader.id), kept.path());
    group.net.isolate(far, true);
    leader.propose("committed without the third").await.unwrap();
    let follower = group.nodes[&near].clone();
    until("the follower has heard so", || follower.state.commands().len() == 2).await;
    group.stop(leader.id).await;
    copy(kept.path(), &group.folder(leader.id));
    let what = is_turned_away(&mut group, leader.id).await;
    assert!(what.contains("it led with entry"), "{what}");
    group.net.isolate(far, false);
    group.leader().await.propose("on").await.unwrap();
    assert_eq!(group.settled(3).await, ["before", "committed without the third", "on"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_only_restart_are_let_in() {
    let mut group = Group::of_three().await;
    for round in 0..3 {
        for id in 1..4 {
            group.stop(id).await;
            group.start(id).await;
            group.leader().await.propose(&format!("{round} {id}")).await.unwrap();
        }
    }
    let all = group.settled(9).await;
    assert_eq!(all.len(), 9);
    assert!(group.nodes.values().all(|node| node.consensus.start_count() == 4));
}
