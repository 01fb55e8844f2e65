//! What each node is told: its permits, its fences, and where the others are.

use std::collections::BTreeMap;

use policy::{Device, FencePhase, NodeId, NodeView, Order, Reconnect};

use super::core::Core;
use crate::join::Peer;
use crate::net::{Book, BookEntry};
use crate::session::message::{AgentCall, Down, FenceOrder, LookOrder, Note, Orders, SwitchOnOrder};

/// Whether what nodes are told may differ from what they were told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// The state, or the plan.
    Something,
    /// Neither.
    Nothing,
}

impl Core {
    /// Tells every node in session what has changed for it: all of them after the state or the plan has `changed`,
    /// else those that were told nothing yet, or have something to write down.
    pub(super) fn tell_nodes(&mut self, changed: Changed) {
        let mut notes = self.notes(changed);
        let Some(reign) = &self.reign else { return };
        let due = reign.sessions.iter().filter(|(node, session)| {
            let new = session.told.is_none() || notes.contains_key(*node);
            session.connection != 0 && (changed == Changed::Something || new)
        });
        let nodes: Vec<NodeId> = due.map(|(node, _)| *node).collect();
        for node in nodes {
            self.tell(node, notes.remove(&node).unwrap_or_default());
        }
    }

    /// Tells one node in session what has changed for it.
    pub(super) fn tell(&mut self, node: NodeId, notes: Vec<Note>) {
        let mut orders = self.orders(node);
        let session = self.reign.as_mut().and_then(|reign| reign.sessions.get_mut(&node));
        let Some(session) = session.filter(|session| session.connection != 0) else { return };
        let same = session
            .told
            .as_ref()
            .is_some_and(|told| told.view.index <= orders.view.index && same_but_for_index(told, &orders));
        if same && notes.is_empty() {
            return;
        }
        session.told = Some(orders.clone());
        orders.notes = notes;
        let connection = session.connection;
        self.connections.send(connection, Down::State(Box::new(orders)));
    }

    fn orders(&self, node: NodeId) -> Orders {
        let mut view = self.state().view(node);
        let plan = self.plan();
        for order in plan.into_iter().flat_map(|plan| &plan.orders) {
            let Order::StopStray { node: at, unit } = order;
            if *at == node {
                view.stop.insert(unit.clone());
            }
        }
        let running = self.state().cases.iter().filter_map(|(case, found)| match &found.phase {
            FencePhase::Running { executor, .. } if *executor == node => {
                let level = || self.state().level(found.node, found.level);
                let calls = level().map(|(name, device)| self.call(name, device, found.node));
                let by_node = level().filter(|(_, device)| device.isolates == Some(Reconnect::ByNode));
                Some(FenceOrder {
                    case: *case,
                    attempt: found.attempts,
                    calls: calls.collect::<Option<_>>()?,
                    // Who is none of its targets has nothing to look for.
                    own: by_node.filter_map(|(name, device)| self.call(name, device, node)).collect(),
                })
            }
            _ => None,
        });
        let fences = running.collect();
        let call = |name: &str, target| self.call(name, self.state().devices.get(name)?, target);
        let due = plan.into_iter().flat_map(|plan| &plan.observe).filter(|look| look.executor == node);
        let looks = due.filter_map(|look| {
            let call = call(&look.device, look.node)?;
            Some(LookOrder { incarnation: look.incarnation.clone(), call })
        });
        let due = plan.into_iter().flat_map(|plan| &plan.switch_on).filter(|on| on.executor == node);
        let switch_on = due.filter_map(|on| {
            let once = self.state().devices.get(&on.device)?.isolates.is_some();
            Some(SwitchOnOrder {
                since: on.since,
                failures: on.failures,
                once,
                call: call(&on.device, on.node)?,
            })
        });
        let (looks, switch_on) = (looks.collect(), switch_on.collect());
        Orders { view, fences, looks, switch_on, notes: Vec::new() }
    }

    fn call(&self, name: &str, device: &Device, node: NodeId) -> Option<AgentCall> {
        AgentCall::of(name, device, node, self.state().node_name(node), self.state().configured)
    }

    pub(super) fn book_of_state(&self) -> Book {
        let nodes = self.state().nodes.iter().map(|(id, node)| {
            let addresses = node.addresses.iter().filter_map(|address| address.parse().ok()).collect();
            (id.0, BookEntry { name: node.name.clone(), addresses, voter: node.role.votes() })
        });
        Book { nodes: nodes.collect::<BTreeMap<_, _>>() }
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        self.book_of_state().nodes.into_iter().map(|(node, entry)| Peer { node, entry }).collect()
    }
}

fn same_but_for_index(told: &Orders, now: &Orders) -> bool {
    // By name, so that no field is forgotten here that a node acts on.
    let NodeView { index: _, permits, units, survey, stop, stops_before, assembly, ranks, ended } = &now.view;
    let view = &told.view;
    told.fences == now.fences
        && told.looks == now.looks
        && told.switch_on == now.switch_on
        && view.permits == *permits
        && view.units == *units
        && view.survey == *survey
        && view.stop == *stop
        && view.stops_before == *stops_before
        && view.assembly == *assembly
        && view.ranks == *ranks
        && view.ended == *ended
}
