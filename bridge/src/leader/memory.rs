//! What this voter knows by itself: answers from its own last applied state, for when no leader answers.
//!
//! Confirmed by nobody, and marked so. Never an answer to what must be true now.

use policy::{Millis, Plan, Reason, State};
use tokio::sync::oneshot;

use super::core::Core;
use crate::api::picture::{self, Live};
use crate::session::message::{Reply, Request};

/// A question to this voter's own memory, and where the answer goes.
pub type Asked = (Request, oneshot::Sender<Reply>);

impl Core {
    /// Answers from the state as it was last applied here.
    pub(super) fn recall(&self, request: &Request) -> Reply {
        let state = self.state();
        if state.cluster.is_empty() {
            return Reply::Unable("this node has not received the cluster's log yet".to_owned());
        }
        // Cluster time stands still without a leader.
        let now = state.time;
        let live = Live { term: self.leadership.term, ..Live::default() };
        match request {
            Request::Overview => {
                let plan = still(state, now);
                Reply::Overview(Box::new(picture::overview(state, &plan, now, &live)))
            }
            Request::Why { unit } => {
                let plan = still(state, now);
                Reply::Why(picture::why(state, &plan, now, &live, unit).map(Box::new))
            }
            Request::History { lines, unit, node } => {
                Reply::History(picture::history(state, *lines, unit.as_ref(), node.as_deref()))
            }
            _ => Reply::Unable("only the leader may answer this".to_owned()),
        }
    }
}

/// The plan, without what its decisions would bring about: nobody takes them now.
fn still(state: &State, now: Millis) -> Plan {
    let mut plan = policy::plan(state, now);
    for (name, reasons) in &mut plan.reasons {
        let unit = state.units.get(name);
        let granted = |node| unit.is_some_and(|unit| unit.permit_on(node).is_some());
        reasons.retain(|reason| !matches!(reason, Reason::Starting(node) if !granted(*node)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use policy::{
        Adopted, Definition, Fencing, Incarnation, Life, Node, NodeId, Offer, Presence, Role, Token, Unit,
        UnitName, Wanted,
    };

    use super::*;

    /// One node that may take the one unit, which is to run and does not.
    fn state() -> State {
        let name = UnitName::from("web.service");
        let definition = Definition { fencing: Fencing::None, ..Definition::exclusive() };
        let offer = Offer {
            definition: Some(definition.clone()),
            fault: None,
            gated: true,
            enabled: false,
            stop_budget_ms: 1_000,
            present: true,
        };
        let node = Node {
            name: "n1".to_owned(),
            addresses: Vec::new(),
            role: Role::Voter,
            attributes: Default::default(),
            machine: "machine".to_owned(),
            drained: None,
            maintenance: None,
            kept: Default::default(),
            feature_level: None,
            life: Some(Life {
                incarnation: Incarnation("boot".to_owned()),
                session: 1,
                since: 0,
                presence: Presence::InSession,
                inventory: true,
                told: true,
                strays: Default::default(),
                gone: None,
                contradicted: None,
                isolated: None,
                stop_budget_ms: 0,
                lingering: Default::default(),
                chain: policy::Chain::unknown(),
            }),
            past: Default::default(),
            offers: [(name.clone(), offer)].into(),
            surveyed: 50,
            quarantined_until: 0,
            lately: policy::Lately::default(),
            highest_token: Token(0),
        };
        let mut unit = Unit::new(5, 0);
        unit.adopted = Some(Adopted { revision: 1, definition });
        unit.goal.wanted = Wanted::Started;
        let mut state = State::default();
        state.cluster = "id".to_owned();
        state.index = 50;
        state.nodes.insert(NodeId(1), node);
        state.units.insert(name, unit);
        state
    }

    #[test]
    fn a_start_that_nobody_orders_is_not_said_to_be_under_way() {
        let state = state();
        let starting =
            |plan: &Plan| plan.reasons.values().flatten().any(|reason| matches!(reason, Reason::Starting(_)));
        assert!(starting(&policy::plan(&state, 100)), "a leader would start it");
        assert!(!starting(&still(&state, 100)));
    }
}
