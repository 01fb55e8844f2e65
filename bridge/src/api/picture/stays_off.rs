//! Nodes that stay off because their devices could not switch them on again.
//!
//! After the last failure nothing is owed to such a node, and nothing waits for it: what was tried stands in the history alone.
//! It is told of until the node is heard, has its power, or is owed it anew.

use std::collections::BTreeSet;

use policy::{EventKind, NodeId};

use super::View;
use super::alarms::alert;
use crate::api::model::AlarmLine;

impl View<'_> {
    pub(super) fn not_switched_on(&self) -> Vec<AlarmLine> {
        let (mut found, mut over, mut judged) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for event in self.state.history.iter().rev() {
            let Some(id) = event.node.filter(|id| !over.contains(id)) else { continue };
            match &event.kind {
                // What was owed before is of no interest any more. Who leaves or is lost was up.
                EventKind::NodeBooted
                | EventKind::NodeReturned
                | EventKind::NodeLeaving
                | EventKind::NodeLost
                | EventKind::FenceBegan { .. } => {
                    over.insert(id);
                }
                EventKind::SwitchedOn { device } => {
                    judged.insert((id, device));
                }
                EventKind::NotSwitchedOn { device, why, again } => {
                    let last = judged.insert((id, device));
                    if last && !again && self.was_given_up(id, device) {
                        found.push(self.stays_off(id, device, why));
                    }
                }
                _ => {}
            }
        }
        found.reverse();
        found
    }

    /// Whether a node that is not heard is owed nothing by one of its switches.
    fn was_given_up(&self, id: NodeId, device: &str) -> bool {
        let silent = self.state.nodes.get(&id).is_some_and(|node| node.in_session().is_none());
        let mut switches = self.state.devices_of(id).filter(|(_, device)| device.isolates.is_none());
        let owed = self.state.switched_off.contains_key(&(device.to_owned(), id));
        silent && !owed && switches.any(|(name, _)| name == device)
    }

    fn stays_off(&self, id: NodeId, device: &str, why: &str) -> AlarmLine {
        let name = self.state.node_name(id);
        alert(
            format!("{name} stays off: {device} could not switch it on ({why})"),
            format!("start {name} by hand, and mend {device}: nothing tries it any more"),
        )
    }
}
