//! Whether a clustered service that is not live is on its way up, so that what comes after it waits (P37).
//!
//! It is while nothing holds its first copy but what passes by itself: the word of a node that is there, a look at a device, a time, a
//! proof that can be had. Once a copy is ready the service is up: those that join may copy for hours, and hold nobody up.

use crate::assembly::BootUp;
use crate::name::{NodeId, UnitName};
use crate::node::Node;

use super::assembly::Service;
use super::{Planner, Reason};

/// What ends the wait for members that say nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// `GatherWaitSec=`.
    Time,
    /// That is over: a proof that they do not run it.
    Proof,
    /// Their return, or an operator's word.
    Word,
}

impl Planner<'_> {
    /// Asked once the service was planned; `decided` says that this plan does something for it.
    pub(super) fn comes_up(&self, service: &Service<'_>, decided: bool) -> bool {
        let Some(reasons) = self.plan.reasons.get(service.name) else { return decided };
        let begins = |reason: &Reason| matches!(reason, Reason::Starting(_));
        // That one node cannot take it holds nobody up while another will say something.
        let beside = |reason: &Reason| {
            matches!(
                reason,
                Reason::Unfit { .. } | Reason::Avoided { .. } | Reason::Position { needed: false, .. }
            )
        };
        let wait = self.wait(service, reasons);
        let mut holds = reasons.iter().filter(|reason| !beside(reason)).peekable();
        decided
            || reasons.iter().any(begins)
            || holds.peek().is_some() && holds.all(|reason| self.passes(service, reason, wait))
    }

    /// Until when those that say nothing are waited for. Afterwards they are gone without, once they are proven not to run it.
    fn wait(&self, service: &Service<'_>, reasons: &[Reason]) -> Wait {
        let unproven = |reason: &Reason| matches!(reason, Reason::Unproven(_));
        match self.state.gather_ends(service.assembly, service.boot_up) {
            Some(ends) if ends > self.now => Wait::Time,
            Some(_) if reasons.iter().any(unproven) => Wait::Proof,
            Some(_) | None => Wait::Word,
        }
    }

    /// Whether what a reason names ends without anybody's help.
    fn passes(&self, service: &Service<'_>, reason: &Reason, wait: Wait) -> bool {
        let Service { name, boot_up, .. } = service;
        match reason {
            Reason::Observing(_) | Reason::NotReady { .. } => true,
            Reason::Position { node, needed: true, .. } => {
                wait != Wait::Word || self.will_say(boot_up, *node)
            }
            Reason::Unheard(id) => self.is_there(*id),
            Reason::Unproven(id) => wait == Wait::Time || self.ends_soon(name, service, *id),
            Reason::WaitsForFence { node } | Reason::PossiblyRunning { node, .. } => {
                self.ends_soon(name, service, *node)
            }
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
