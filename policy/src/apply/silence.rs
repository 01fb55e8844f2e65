//! Devices that say off of a node that is heard (P93): what they say counts once it is silent, and is a lie if it goes on.
//!
//! A drill begins with a node that lives. In any other case the node was lost when the attempt began, and came back meanwhile:
//! it has a lease again, and goes by it what its permits let it run.

use alloc::format;

use crate::evidence::{Class, Evidence};
use crate::fence::{FenceCase, Phase};
use crate::name::{CaseId, NodeId};
use crate::refusal::Refusal;

use super::drill::Lied;
use super::{Step, stale};

impl Step<'_> {
    /// Whether the devices' word has to wait: the node is not lost.
    pub(super) fn awaits_silence(&mut self, id: CaseId) -> Result<bool, Refusal> {
        let time = self.time;
        let case = self.case(id)?;
        if self.node(case.node)?.lost_since().is_some() {
            return Ok(false);
        }
        if case.off_at.is_some() {
            return Err(stale("the devices said off already"));
        }
        if let Some(case) = self.state.cases.get_mut(&id) {
            case.off_at = Some(time);
        }
        Ok(true)
    }

    /// The node fell silent: what the devices said of it counts from now on.
    pub(super) fn off_node_fell_silent(&mut self, node: NodeId) {
        if let Some((id, _)) = self.awaited(node) {
            self.prove(id, Class::Off, Evidence::Fenced(id), None);
        }
    }

    /// The case of a node whose devices have said off, and whose silence is awaited.
    fn awaited(&self, node: NodeId) -> Option<(CaseId, &FenceCase)> {
        let (id, case) = self.state.open_case(node)?;
        (matches!(case.phase, Phase::Running { .. }) && case.off_at.is_some()).then_some((id, case))
    }

    /// The node has said something. Whoever is fenced holds something that it may go on with; in a drill it holds nothing, and
    /// only what else it may run counts.
    pub(super) fn node_spoke(&mut self, node: NodeId) {
        if self.awaited(node).is_some_and(|(_, case)| case.drill().is_none()) {
            self.off_is_doubtful(node);
        }
    }

    /// A word of the node came into the log after its devices said off. It may have been on its way before that, so they are
    /// not called liars; but what they said proves nothing any more.
    pub(super) fn off_is_doubtful(&mut self, node: NodeId) {
        let Some((id, _)) = self.awaited(node) else { return };
        let why =
            format!("{} was heard at the moment when its power was seen off", self.state.node_name(node));
        self.off_proves_nothing(id, &why, Lied::No);
    }

    /// The devices said off, and the node was heard all the time.
    pub(super) fn found_liar(&mut self, id: CaseId) {
        let Ok(case) = self.case(id) else { return };
        let (node, level) = (case.node, case.level);
        let (devices, name) = (self.state.level_name(node, level), self.state.node_name(node));
        self.off_proves_nothing(id, &format!("{devices} said off, and {name} went on"), Lied::Yes);
    }

    /// Whatever the devices did instead may strike late.
    fn off_proves_nothing(&mut self, id: CaseId, why: &str, lied: Lied) {
        let at = self.time;
        let Some(case) = self.state.cases.get_mut(&id) else { return };
        let (node, level) = (case.node, case.level);
        if case.drill().is_some() {
            case.phase = Phase::Cancelled { at };
            self.quarantine(node);
            return self.drill_failed(id, why, lied);
        }
        if lied == Lied::Yes {
            self.fence_lied(id, node, level, why);
        }
        self.cut_attempt(id, why);
    }
}
