//! What is told of nodes that are cut off, and of ways that do not open again.
//!
//! A life that was cut off is not waited for: nothing is given to it any more, and its way stays shut until it is over.
//! Clauses P120 to P124 of `docs/policy.md`.

use policy::{EventKind, Node, NodeId, Reconnect, SwitchedOff};

use super::View;
use super::alarms::warning;
use crate::api::model::AlarmLine;

/// What ends a life that was cut off, and so opens its way. A node whose way to the cluster is cut too boots unheard.
pub(super) fn end_of_cut(name: &str) -> String {
    format!(
        "boot {name}: once it is heard, its way is opened; where its way to the cluster is cut too, see that it is off, or \
         has booted since, and type `convoke fence confirm {name}`"
    )
}

impl View<'_> {
    /// A node whose present life is cut off.
    pub(super) fn cut_off(&self, id: NodeId, node: &Node) -> Option<AlarmLine> {
        let isolation = self.state.isolation(id)?;
        let ago = self.now.saturating_sub(isolation.at) / 1000;
        let end = end_of_cut(&node.name);
        let remedy = match self.state.node_maintenance(id) {
            Some(scope) => {
                let release = self.state.maintenance_release(&scope);
                format!("{end}; in maintenance its way stays shut, and `{release}` lets the cluster act")
            }
            None => end,
        };
        Some(warning(
            format!("{} was cut off by {} {ago} s ago and may still run", node.name, isolation.devices),
            remedy,
        ))
    }

    /// Ways that are to be opened and do not open. No device looks at a node that is not heard, so that nothing else tells it.
    pub(super) fn shut_ways(&self) -> Vec<AlarmLine> {
        let line = |((device, id), debt): (&(String, NodeId), &SwitchedOff)| {
            let reconnect = self.state.devices.get(device)?.isolates?;
            if let Some(executor) = self.state.silent_opener(debt) {
                let name = self.state.node_name(*id);
                return Some(warning(
                    format!(
                        "{executor} was to open the way of {name} through {device}, and is silent: nobody else does, for its agent \
                         may still run"
                    ),
                    format!(
                        "start {executor} again, or see that it is off and type `convoke fence confirm {executor}`"
                    ),
                ));
            }
            // What is cut is not to be opened: what failed before is of no interest then.
            if debt.failures == 0 || self.state.isolation(*id).is_some() {
                return None;
            }
            let name = self.state.node_name(*id);
            let times = match debt.failures {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            let why = self.opening_error(device, *id).map(|why| format!(" ({why})")).unwrap_or_default();
            let again = match self.state.node_maintenance(*id) {
                Some(scope) => {
                    format!("is tried again after `{}`", self.state.maintenance_release(&scope))
                }
                None => "is tried again".to_owned(),
            };
            let remedy = match reconnect {
                Reconnect::AfterCut | Reconnect::AtBoot => {
                    format!("mend {device}, or open the way of {name} by hand")
                }
                Reconnect::ByNode => {
                    format!("mend {device}, or what its agent lacks on {name}, which registers itself")
                }
            };
            Some(warning(
                format!(
                    "{device} did not open the way of {name}: it failed {times}{why}, and {again}; until then nothing with \
                     Fencing=isolated starts there"
                ),
                remedy,
            ))
        };
        self.state.switched_off.iter().filter_map(line).collect()
    }

    /// What was told last of an opening that failed. After some failures nothing more is.
    fn opening_error(&self, device: &str, id: NodeId) -> Option<&str> {
        self.state.history.iter().rev().find_map(|event| match &event.kind {
            EventKind::NotSwitchedOn { device: of, why, .. } if of == device && event.node == Some(id) => {
                Some(why.as_str())
            }
            _ => None,
        })
    }
}
