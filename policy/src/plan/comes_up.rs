//! Whether a clustered service that is not live is on its way up, so that what comes after it waits (P37).
//!
//! It is while nothing holds its first copy but what passes by itself: the word of a node that is there, a look at a device, a time, a
//! proof that can be had. Once a copy is ready the service is up: those that join may copy for hours, and hold nobody up.

use crate::assembly::BootUp;
use crate::name::{NodeId, UnitName};
use crate::node::Node;

use super::assembly::Service;
use super::{Planner, Reason};

impl Planner<'_> {
    /// Asked once the service was planned; `decided` says that this plan does something for it.
    pub(super) fn comes_up(&self, service: &Service<'_>, decided: bool) -> bool {
        let Some(reasons) = self.plan.reasons.get(service.name) else { return decided };
        let begins = |reason: &Reason| matches!(reason, Reason::Starting(_));
        decided || reasons.iter().any(begins) || reasons.iter().all(|reason| self.passes(service, reason))
    }

    /// Whether what a reason names ends without anybody's help.
    fn passes(&self, service: &Service<'_>, reason: &Reason) -> bool {
        let Service { name, assembly, boot_up, .. } = service;
        match reason {
            Reason::Observing(_) | Reason::NotReady { .. } => true,
            Reason::Position { needed: false, .. } => true,
            Reason::Position { node, needed: true, .. } => {
                self.state.gather_ends(assembly, boot_up).is_some() || self.will_say(boot_up, *node)
            }
            Reason::Unheard(id) => self.is_there(*id),
            Reason::Unproven(id) | Reason::WaitsForFence { node: id } => self.ends_soon(name, service, *id),
            Reason::PossiblyRunning { node, .. } => self.ends_soon(name, service, *node),
            _ => false,
        }
    }

    fn is_there(&self, id: NodeId) -> bool {
        self.state.nodes.get(&id).and_then(Node::in_session).is_some()
    }

    /// Whether a node that has not said how its data stands is there, and was only just asked.
    fn will_say(&self, boot_up: &BootUp, id: NodeId) -> bool {
        self.is_there(id) && self.state.still_heard(boot_up, id).is_none()
    }

    /// Whether what a node may be running is about to end, or to be told.
    fn ends_soon(&self, name: &UnitName, service: &Service<'_>, id: NodeId) -> bool {
        let permit = service.unit.permit_on(id).map(|(_, permit)| permit);
        self.is_there(id) || self.is_proven_soon(name, permit, id)
    }
}
