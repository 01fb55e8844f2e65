//! What a machine that asks to join may get from the leader.

use policy::{NodeId, Refusal, Role, Wish};

use bridge::session::message::{Reply, Request};

use super::node::Node;
use crate::{ask, wish};

/// A request of `machine` to join as `name`, by a token whose secret is known.
fn enroll(attempt: &str, token: &str, name: &str, machine: &str) -> Request {
    let wish = Wish::Enroll {
        token: token.to_owned(),
        secret_hash: "hash".to_owned(),
        name: name.to_owned(),
        addresses: vec!["127.0.0.1:1".to_owned()],
        machine: machine.to_owned(),
        role: Some(Role::Member),
    };
    Request::Enroll { attempt: attempt.to_owned(), wish }
}

async fn joined(node: &Node, request: Request) -> NodeId {
    match ask(node, request).await {
        Reply::Enrolled { node, role: Role::Member, .. } => node,
        other => panic!("not taken: {other:?}"),
    }
}

async fn refused(node: &Node, request: Request) -> Refusal {
    match ask(node, request).await {
        Reply::Wish(Err(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn index(node: &Node) -> u64 {
    let Reply::Overview(picture) = ask(node, Request::Overview).await else { panic!("no overview") };
    picture.index
}

/// Whoever is answered as enrolled gets a certificate of that node, and as a voter the key that signs others.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_taken_gets_no_other_nodes_certificate() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut n1 = Node::first(dir.path()).await;
    n1.opened().await;
    let issue = |id: &str| Wish::IssueToken {
        id: id.to_owned(),
        secret_hash: "hash".to_owned(),
        valid_ms: 60_000,
        by: "test".to_owned(),
    };
    wish(&n1, 1, issue("token")).await.expect("issued");
    let n9 = joined(&n1, enroll("join 1", "token", "n9", "m9")).await;
    assert_eq!(joined(&n1, enroll("join 1", "token", "n9", "m9")).await, n9, "its answer was lost");

    let refusal = refused(&n1, enroll("join 1", "token", "n1", "m9")).await;
    assert!(refusal.to_string().contains("belongs to n9"), "{refusal}");
    refused(&n1, enroll("join 1", "another", "n1", "m9")).await;

    wish(&n1, 2, Wish::RemoveNode { node: n9, by: "test".to_owned() }).await.expect("taken out");
    let answer = ask(&n1, enroll("join 1", "token", "n9", "m9")).await;
    assert!(matches!(answer, Reply::Unable(_)), "it was taken out: {answer:?}");
    joined(&n1, enroll("join 2", "token", "n9", "m10")).await;
    let answer = ask(&n1, enroll("join 1", "token", "n9", "m9")).await;
    assert!(matches!(answer, Reply::Unable(_)), "another machine has its name: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_writes_nothing_into_the_log() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut n1 = Node::first(dir.path()).await;
    n1.opened().await;
    let before = index(&n1).await;
    for attempt in 0..20 {
        let refusal = refused(&n1, enroll(&format!("join {attempt}"), "guessed", "n9", "m9")).await;
        assert!(refusal.to_string().contains("does not know this token"), "{refusal}");
    }
    assert_eq!(index(&n1).await, before);
}
