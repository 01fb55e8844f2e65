//! The leader and its nodes' sessions, over loopback, with scripted agents instead of systemd.

mod cluster {
    mod fences;
    mod joining;
    pub(crate) mod node;
    pub(crate) mod raw;
}

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bridge::session::message::{Denial, Digest, Down, GateAnswer, Reply, Request, Up};
use bridge::session::{FromSession, Outcast};
use cluster::node::{Node, incarnation, settle};
use cluster::raw::Raw;
use policy::{
    Cause, Definition, Fact, First, InventoryItem, Offer, Phase, Role, Settings, Suppose, Token, UnitName,
    Wanted, Wish,
};

fn offer() -> Offer {
    Offer {
        definition: Some(Definition::exclusive()),
        fault: None,
        gated: true,
        enabled: false,
        stop_budget_ms: 10_000,
        present: true,
    }
}

fn unit() -> UnitName {
    UnitName::from("db.service")
}

fn inventory(node: &Node) -> Fact {
    Fact::InventoryReported {
        node: node.id,
        incarnation: node.incarnation(),
        items: vec![InventoryItem { unit: unit(), offer: Some(offer()), running: false }],
        rests: BTreeMap::new(),
        highest_token: Token(0),
    }
}

async fn ask(node: &Node, request: Request) -> Reply {
    node.asker.ask(request, Duration::from_secs(5)).await.expect("an answer")
}

async fn wish(node: &Node, number: u64, wish: Wish) -> Result<u64, policy::Refusal> {
    let request = Request::Wish { client: "test".to_owned(), number, wish };
    match node.asker.ask(request, Duration::from_secs(5)).await.expect("an answer") {
        Reply::Wish(outcome) => outcome,
        other => panic!("not an answer to a wish: {other:?}"),
    }
}

fn start() -> Wish {
    Wish::SetGoal { unit: unit(), wanted: Wanted::Started, node: None, seen: None, by: "test".to_owned() }
}

fn stop() -> Wish {
    Wish::SetGoal { unit: unit(), wanted: Wanted::Stopped, node: None, seen: None, by: "test".to_owned() }
}

fn wish_of(client: &str, wish: Wish) -> Request {
    Request::Wish { client: client.to_owned(), number: 1, wish }
}

/// Has PID 1 of the only node fall silent, and waits until the node has no session or lease any more.
async fn fall_silent(node: &mut Node) {
    let configure = Wish::Configure {
        settings: Settings { detect_ms: 500, ..Settings::default() },
        devices: BTreeMap::new(),
        attributes: BTreeMap::new(),
        by: "test".to_owned(),
    };
    wish(node, 1, configure).await.expect("recorded");
    node.renew().await;
    node.silent.store(true, Ordering::SeqCst);
    node.closed().await;
    let lease = node.lease.clone();
    settle(move || lease.left().is_none()).await;
}

/// With its lease an agent drops its orders (F8); the leader may not have seen that the lease ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_within_a_session_has_all_told_anew() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut node = Node::first(dir.path()).await;
    node.opened().await;
    node.report(inventory(&node)).await;
    wish(&node, 1, start()).await.expect("recorded");
    let granted = node.permit().await;
    let lease = node.lease.clone();
    settle(move || lease.left().is_some()).await;
    node.lease.end();
    node.opened().await;
    assert_eq!(node.permit().await.token, granted.token);
    assert!(node.lease.left().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_node_grants_and_is_released() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut node = Node::first(dir.path()).await;
    node.opened().await;
    node.report(inventory(&node)).await;
    wish(&node, 1, start()).await.expect("recorded");
    let permit = node.permit().await;
    assert_eq!(permit.phase, Phase::Granted);
    let (id, incarnation) = (node.id, node.incarnation());
    let fact =
        Fact::Started { node: id, incarnation: incarnation.clone(), unit: unit(), token: permit.token };
    node.report(fact).await;
    let Reply::Overview(overview) = ask(&node, Request::Overview).await else { panic!("no overview") };
    assert_eq!((overview.quorum, overview.units[0].state.as_str()), (true, "active"));
    // What would happen is told, and does not happen.
    let definition = Definition { priority: 7, ..Definition::exclusive() };
    let first = First { node: id, enabled: false, running: false };
    let files = Suppose::Offered { unit: unit(), definition, first };
    for supposed in [vec![Suppose::Asked(stop())], vec![Suppose::Lost(id)], vec![files]] {
        let asked = Request::Forecast { supposed: supposed.clone() };
        let Reply::Forecast(Ok(told)) = ask(&node, asked).await else {
            panic!("no forecast of {supposed:?}")
        };
        assert_eq!((told.quorum, told.units.len(), told.index), (true, 1, overview.index), "{told:?}");
    }
    // A question that no session carries ends none, though it would be asked anew in the next.
    let long = Suppose::Asked(Wish::ResetFailed { unit: UnitName("x".repeat(20 << 20)), node: None });
    let Reply::Declined(why) = ask(&node, Request::Forecast { supposed: vec![long] }).await else {
        panic!("a frame of 20 MB went through")
    };
    assert!(why.contains("the question is longer"), "{why}");
    let refused = Wish::Move { unit: unit(), from: None, to: Some(id), by: "test".to_owned() };
    let asked = Request::Forecast { supposed: vec![Suppose::Asked(refused)] };
    let Reply::Forecast(Err(refusal)) = ask(&node, asked).await else { panic!("it is there already") };
    assert!(refusal.to_string().contains("already"), "{refusal}");
    let Reply::Overview(after) = ask(&node, Request::Overview).await else { panic!("no overview") };
    assert_eq!(after, overview);
    wish(&node, 2, stop()).await.expect("recorded");
    let permit = node.revoking().await;
    let because = Cause::Ordered;
    node.report(Fact::Released { node: id, incarnation, unit: unit(), token: permit.token, because }).await;
    node.no_permit().await;
}

/// A session that is opened anew took back what was said in the one before, and the unit came and went for as long as the
/// node did (F30).
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_down_is_granted_nothing_in_its_next_session() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut node = Node::first(dir.path()).await;
    node.opened().await;
    node.report(inventory(&node)).await;
    node.farewell.set(true);
    node.report(Fact::NodeLeaving { node: node.id, incarnation: node.incarnation() }).await;
    wish(&node, 1, start()).await.expect("recorded");
    for _ in 0..3 {
        node.renew().await;
        node.report(inventory(&node)).await;
        let Reply::Overview(overview) = ask(&node, Request::Overview).await else { panic!("no overview") };
        assert_eq!(overview.nodes[0].state, "leaving");
        assert!(overview.units[0].copies.is_empty(), "{:?}", overview.units[0]);
    }
    // It was called off.
    node.farewell.set(false);
    node.renew().await;
    assert_eq!(node.permit().await.phase, Phase::Granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_survive_the_end_of_their_leader() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut first = Node::first(dir.path()).await;
    first.opened().await;
    let mut second = first.joined_by(dir.path(), "n2", Role::Voter).await;
    second.opened().await;
    let mut third = first.joined_by(dir.path(), "n3", Role::Voter).await;
    third.opened().await;
    settle(|| first.voters() == 3).await;
    for node in [&mut first, &mut second, &mut third] {
        node.report(inventory(node)).await;
    }
    wish(&second, 1, start()).await.expect("recorded by way of the leader");
    let permit = first.permit().await;
    assert_eq!(permit.incarnation, first.incarnation());
    let left = second.lease.left().expect("a lease");
    assert!(left > Duration::from_millis(500), "{left:?}");
    first.kill().await;
    // Both go on in a session with the new leader before their leases end.
    second.opened().await;
    third.opened().await;
    assert!(second.lease.left().is_some() && third.lease.left().is_some(), "a lease ended in an election");
    let Reply::Overview(overview) = ask(&third, Request::Overview).await else { panic!("no overview") };
    assert!(overview.quorum);
    // The dead node is called lost, and nothing is granted elsewhere: it may still run the unit.
    let lost =
        |overview: &bridge::api::model::Overview| overview.nodes.iter().any(|node| node.state == "lost");
    let mut seen = overview;
    for _ in 0..100 {
        if lost(&seen) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Ok(Reply::Overview(now)) = third.asker.ask(Request::Overview, Duration::from_secs(5)).await {
            seen = now;
        }
    }
    assert!(lost(&seen), "{seen:?}");
    assert_eq!(seen.units[0].copies.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_vote_finds_the_leader() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut first = Node::first(dir.path()).await;
    first.opened().await;
    let mut member = first.joined_by(dir.path(), "m1", Role::Member).await;
    member.opened().await;
    member.report(inventory(&member)).await;
    wish(&member, 1, start()).await.expect("recorded by way of the leader");
    // The first node has not said what runs on it: the unit may run there already (F11).
    let mut seen = None;
    for _ in 0..100 {
        let Reply::Overview(overview) = ask(&member, Request::Overview).await else { panic!("no overview") };
        // Its definition is adopted by an entry of its own.
        let unit = &overview.units[0];
        seen = Some((unit.state.clone(), unit.copies.len()));
        if unit.state != "undefined" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen, Some(("waiting".to_owned(), 0)));
    first.report(inventory(&first)).await;
    assert_eq!(first.permit().await.phase, Phase::Granted);
}

/// F27: a node whose PID 1 is silent is not healthy, and a hello renews its lease as little as a beat.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_pid_1_is_silent_has_no_lease() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut node = Node::first(dir.path()).await;
    node.opened().await;
    fall_silent(&mut node).await;
    for _ in 0..100 {
        assert_eq!(node.lease.left(), None, "a hello has renewed the lease");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.silent.store(false, Ordering::SeqCst);
    node.opened().await;
    assert!(node.lease.left().is_some());
}

/// A wish whose asker was told that there is no answer is not carried out behind their back later.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_is_dropped_with_whoever_asked_for_it() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut node = Node::first(dir.path()).await;
    node.opened().await;
    node.report(inventory(&node)).await;
    // No session while PID 1 is silent, so that the wish waits in the queue.
    fall_silent(&mut node).await;
    let refused = node.asker.ask(wish_of("impatient", start()), Duration::from_millis(100)).await;
    assert!(refused.is_err(), "{refused:?}");
    node.silent.store(false, Ordering::SeqCst);
    node.opened().await;
    let Reply::Overview(overview) = ask(&node, Request::Overview).await else { panic!("no overview") };
    assert_eq!(overview.units[0].state, "stopped");
}

/// A certificate is not a session: who was removed from the cluster still has one.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_outside_of_a_session() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut first = Node::first(dir.path()).await;
    first.opened().await;
    first.report(inventory(&first)).await;
    let mut stranger = Raw::connect(&first, policy::NodeId(7), "nobody").await;
    stranger.send(Up::Ask { number: 1, request: wish_of("stranger", start()) }).await;
    while stranger.next().await.is_some() {}
    let Reply::Overview(overview) = ask(&first, Request::Overview).await else { panic!("no overview") };
    assert_eq!(overview.units[0].state, "stopped");
}

/// F21: a machine that was put back to an earlier time is not the one that its leases were given to.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_put_back_is_told_to_reboot() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let (first, id) = Node::first_with_member(dir.path()).await;
    let mut old = Raw::connect(&first, id, "m1").await;
    let before = old.hello(0).await.expect("a session");
    let mut new = Raw::connect(&first, id, "m1").await;
    let number = new.hello(before).await.expect("a session");
    assert!(number > before);
    // It was not heard in that session: its number may have been lost on the way.
    let mut again = Raw::connect(&first, id, "m1").await;
    let number = again.hello(before).await.expect("a session");
    again.beat(1).await;
    let mut back = Raw::connect(&first, id, "m1").await;
    let denied = back.hello(before).await;
    assert!(matches!(denied, Err(Denial::RebootNow { .. })), "{denied:?}");
    // With software from before, too: it is to end, and no other version would help.
    let mut older = Raw::connect(&first, id, "m1").await;
    let denied = older.hello_of(before, 0).await;
    assert!(matches!(denied, Err(Denial::RebootNow { .. })), "{denied:?}");
    let mut honest = Raw::connect(&first, id, "m1").await;
    honest.hello(number).await.expect("a session");
}

/// F20, P155: whose software does not know what is in force gets no session, and costs no entry of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_software_is_too_old_is_told_so() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let (first, id) = Node::first_with_member(dir.path()).await;
    let mut old = Raw::connect(&first, id, "m1").await;
    let denied = old.hello_of(0, 0).await;
    let Err(Denial::OldSoftware { why }) = denied else { panic!("{denied:?}") };
    assert!(why.contains("install the version of the other nodes"), "{why}");
    let mut new = Raw::connect(&first, id, "m1").await;
    new.hello(0).await.expect("a session");
}

/// F20: a voter whose state is not that of most is told, until it takes no part any more.
#[tokio::test(flavor = "multi_thread")]
async fn whose_state_differs_is_told_and_shown() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let (first, id) = Node::first_with_member(dir.path()).await;
    let digest = |state: &str| Digest { index: 4, program: "one".to_owned(), state: state.to_owned() };
    first.accord.say(digest("a"));
    let mut session = Raw::connect(&first, id, "m1").await;
    session.hello(0).await.expect("a session");
    let mut parted = None;
    for nonce in 1..500 {
        parted = session.beat_of(nonce, Some(digest("b")), false).await;
        if parted.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(parted.as_deref(), Some("at index 4 the state of m1 is not that of n1"));
    let alarms = async || {
        let Reply::Overview(overview) = ask(&first, Request::Overview).await else { panic!("no overview") };
        overview.alarms.iter().map(|alarm| alarm.text.clone()).collect::<Vec<_>>()
    };
    let shown = alarms().await;
    assert!(shown.iter().any(|text| text.starts_with("at index 4 the state of m1")), "{shown:?}");
    assert_eq!(session.beat_of(500, Some(digest("b")), true).await, None);
    let shown = alarms().await;
    assert!(shown.iter().any(|text| text.starts_with("m1 votes no more")), "{shown:?}");
    assert!(!shown.iter().any(|text| text.starts_with("at index 4")), "{shown:?}");
}

/// Members apply no log: the leader tells them how the fence stands that a unit of theirs waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_told_of_the_fence_that_its_unit_waits_for() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut first = Node::first(dir.path()).await;
    first.opened().await;
    let (node, incarnation) = (first.id, first.incarnation());
    let nothing = Fact::InventoryReported {
        node,
        incarnation,
        items: Vec::new(),
        rests: BTreeMap::new(),
        highest_token: Token(0),
    };
    let mut holder = first.joined_by(dir.path(), "m1", Role::Member).await;
    holder.opened().await;
    holder.report(inventory(&holder)).await;
    first.report(nothing).await;
    // Nor does anything run there of what became known since (F11).
    let (node, incarnation) = (first.id, first.incarnation());
    first.report(Fact::Surveyed { node, incarnation, index: u64::MAX }).await;
    wish(&first, 1, start()).await.expect("recorded");
    holder.permit().await;
    let mut other = first.joined_by(dir.path(), "m2", Role::Member).await;
    other.opened().await;
    other.report(inventory(&other)).await;
    holder.kill().await;
    let notes = loop {
        if let FromSession::Orders { orders, .. } = other.next().await
            && !orders.notes.is_empty()
        {
            break orders.notes;
        }
    };
    let told: Vec<_> = notes.iter().map(|note| (note.unit.as_str(), note.text.as_str())).collect();
    assert_eq!(told, [("db.service", "waits: m1 is lost and has no fence device")]);
}

/// F10: a gate that is asked again in another session does not undo a stop that came in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_gate_does_not_undo_a_stop() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut first = Node::first(dir.path()).await;
    first.opened().await;
    first.report(inventory(&first)).await;
    let member = first.joined_by(dir.path(), "m1", Role::Member).await;
    let id = member.id;
    member.kill().await;
    let mut session = Raw::connect(&first, id, "m1").await;
    let number = session.hello(0).await.expect("a session");
    let items = vec![InventoryItem { unit: unit(), offer: Some(offer()), running: false }];
    let inventory = Fact::InventoryReported {
        node: id,
        incarnation: incarnation("m1"),
        items,
        rests: BTreeMap::new(),
        highest_token: Token(0),
    };
    session.send(Up::Fact { number: 1, fact: inventory }).await;
    let gate = Request::Gate { unit: unit(), wish: Some("root".to_owned()), gate: "g1".to_owned() };
    let Reply::Gate(GateAnswer::Granted { token }) = session.ask(5, gate.clone()).await else {
        panic!("a person's start is a wish");
    };
    wish(&first, 1, stop()).await.expect("recorded");
    let released = Fact::Released {
        node: id,
        incarnation: incarnation("m1"),
        unit: unit(),
        token,
        because: Cause::Ordered,
    };
    session.send(Up::Fact { number: 2, fact: released }).await;
    // Frames of one connection are taken in their order.
    session.ask(6, Request::Overview).await;
    let mut session = Raw::connect(&first, id, "m1").await;
    session.hello(number).await.expect("a session");
    let answer = session.ask(5, gate).await;
    assert!(matches!(answer, Reply::Gate(GateAnswer::Refused { .. })), "{answer:?}");
    let Reply::Overview(overview) = session.ask(6, Request::Overview).await else { panic!("no overview") };
    assert_eq!(overview.units[0].goal, "stopped", "{:?}", overview.units[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_out_learns_by_whom() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut n1 = Node::first(dir.path()).await;
    n1.opened().await;
    let mut n2 = n1.joined_by(dir.path(), "n2", Role::Member).await;
    n2.opened().await;
    assert_eq!(n2.standing.outcast(), None);
    n2.silent.store(true, Ordering::SeqCst);
    // Refused until its lease has ended and the leader has seen it.
    let remove = || Wish::RemoveNode { node: n2.id, by: "alice on n1 (convoke leave) [n2]".to_owned() };
    let mut number = 10;
    while wish(&n1, number, remove()).await.is_err() {
        number += 1;
        assert!(number < 200, "n2 is not taken out within twenty seconds");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    n2.silent.store(false, Ordering::SeqCst);
    settle(|| n2.standing.outcast().is_some()).await;
    let Some(Outcast::Removed(why)) = n2.standing.outcast() else { panic!("{:?}", n2.standing) };
    assert!(why.starts_with("it was taken out of the cluster on "), "{why}");
    assert!(why.ends_with(" by alice on n1 (convoke leave)"), "{why}");
}

/// Whoever waits no more costs the leader nothing, in a queue that has no bound of its own.
#[tokio::test(flavor = "multi_thread")]
async fn questions_that_were_withdrawn_are_not_answered() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let (first, id) = Node::first_with_member(dir.path()).await;
    let mut asker = Raw::connect(&first, id, "m1").await;
    asker.hello(0).await.expect("a session");
    for number in 1..=64 {
        asker.send(Up::Ask { number, request: Request::Overview }).await;
        asker.send(Up::Withdraw { number }).await;
    }
    asker.send(Up::Ask { number: 65, request: Request::Overview }).await;
    let mut answered = Vec::new();
    while answered.last() != Some(&65) {
        if let Down::Answer { number, reply: Reply::Overview(_) } = asker.next().await.expect("an answer") {
            answered.push(number);
        }
    }
    // A round may have come back between a question and its end.
    assert!(answered.len() < 64, "{answered:?}");
}
