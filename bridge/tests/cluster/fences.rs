//! Who may run a fence agent, and whether it is still to be run.

use std::collections::BTreeMap;

use bridge::session::FromSession;
use bridge::session::message::{Reply, Request};
use policy::{Device, Fact, NodeId, Power, Role, Settings, Wanted, Wish};

use super::node::Node;
use super::raw::Raw;
use crate::{ask, inventory, unit, wish};

/// One device that fences one node.
fn configure(target: NodeId) -> Wish {
    let device = Device {
        agent: "fence_ipmilan".to_owned(),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        targets: [(target, BTreeMap::new())].into(),
        timeout_ms: 60_000,
        timeouts: BTreeMap::new(),
        level: 1,
        delay_ms: 0,
        retries: 0,
        at_once: 1,
        isolates: None,
    };
    Wish::Configure {
        settings: Settings::default(),
        devices: [("bmc".to_owned(), device)].into(),
        attributes: BTreeMap::new(),
        by: "test".to_owned(),
    }
}

/// P152: who cannot run an agent is passed over, and nobody says that of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_of_itself_alone_that_it_cannot_run_an_agent() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let (first, id) = Node::first_with_member(dir.path()).await;
    wish(&first, 1, configure(first.id)).await.expect("recorded");
    let mut session = Raw::connect(&first, id, "m1").await;
    session.hello(0).await.expect("a session");
    let look = session.look().await;
    let unable = |by| Fact::PowerObserved {
        node: first.id,
        incarnation: look.incarnation.clone(),
        device: look.call.device.clone(),
        configured: look.call.configured,
        power: Power::Unable("not installed".to_owned()),
        by: Some(by),
    };
    let forged = session.report(1, unable(first.id)).await;
    assert!(
        matches!(&forged, Err(policy::Refusal::Stale(why)) if why == "not this node's to say"),
        "{forged:?}"
    );
    session.report(2, unable(id)).await.expect("its own word");
    let Reply::Overview(overview) = session.ask(3, Request::Overview).await else { panic!("no overview") };
    let said: Vec<_> =
        overview.nodes.iter().flat_map(|node| &node.devices).flat_map(|one| &one.unable).collect();
    assert_eq!(said, ["m1 cannot use it: not installed"]);
}

/// P21, F31: what was decided when a node was lost is not done to one that is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_not_to_run_any_more_for_a_node_that_is_heard_again() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut first = Node::first(dir.path()).await;
    first.opened().await;
    let member = first.joined_by(dir.path(), "m1", Role::Member).await;
    let (holder, told) = (member.id, inventory(&member));
    member.kill().await;
    let mut session = Raw::connect(&first, holder, "m1").await;
    let number = session.hello(0).await.expect("a session");
    session.report(1, told).await.expect("what runs there");
    first.report(inventory(&first)).await;
    let (node, incarnation) = (first.id, first.incarnation());
    first.report(Fact::Surveyed { node, incarnation, index: u64::MAX }).await;
    wish(&first, 1, configure(holder)).await.expect("recorded");
    let look = loop {
        if let FromSession::Orders { orders, .. } = first.next().await
            && let Some(look) = orders.looks.first()
        {
            break look.clone();
        }
    };
    let on = Fact::PowerObserved {
        node: holder,
        incarnation: look.incarnation,
        device: look.call.device,
        configured: look.call.configured,
        power: Power::On,
        by: Some(first.id),
    };
    first.report(on).await;
    let goal = Wish::SetGoal {
        unit: unit(),
        wanted: Wanted::Started,
        node: Some(holder),
        seen: None,
        by: "test".to_owned(),
    };
    wish(&first, 2, goal).await.expect("recorded");
    // It says nothing from here on.
    let order = loop {
        if let FromSession::Orders { orders, .. } = first.next().await
            && let Some(order) = orders.fences.first()
        {
            break order.clone();
        }
    };
    let asked = Request::MayFence { case: order.case, attempt: order.attempt };
    assert!(matches!(ask(&first, asked.clone()).await, Reply::MayRun(true)));
    let mut session = Raw::connect(&first, holder, "m1").await;
    session.hello(number).await.expect("a session");
    assert!(matches!(ask(&first, asked).await, Reply::MayRun(false)));
}
