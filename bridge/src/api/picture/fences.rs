//! Fence cases as lines.

use policy::{Because, CaseId, Class, FenceCase, FencePhase, Reason, UnitName};

use super::{View, seconds_until};
use crate::api::model::FenceLine;

impl View<'_> {
    pub(super) fn fence_lines(&self) -> Vec<FenceLine> {
        let open = self.state.cases.iter().filter(|(_, case)| case.is_open());
        open.map(|(id, case)| self.fence_line(*id, case)).collect()
    }

    /// How the cases of the nodes' present lives ended.
    pub(super) fn closed_fence_lines(&self) -> Vec<FenceLine> {
        self.state.cases.iter().filter_map(|(id, case)| self.closed_line(*id, case)).collect()
    }

    /// A drill says of itself how it stands: nothing waits for it, so no unit's reason is at hand.
    fn case_text(&self, case: &FenceCase) -> String {
        let node = case.node;
        let drill = match &case.because {
            Because::Unit(unit) => return self.fence_text(case, unit),
            Because::Drill(drill) => drill,
        };
        let (name, by) = (self.state.node_name(node), self.state.level_name(node, drill.level));
        match &case.phase {
            FencePhase::Running { .. } if case.off_at.is_some() => {
                format!("{by} says that {name} is off; the drill waits for its silence")
            }
            FencePhase::Running { executor, .. } => {
                format!(
                    "{name} is being switched off for a drill by {by}, run on {}",
                    self.state.node_name(*executor)
                )
            }
            FencePhase::Failed { error, .. } => {
                format!("drill of {name} by {by}: {error}; it is tried again")
            }
            _ => format!("{name} is about to be switched off for a drill by {by}"),
        }
    }

    /// Why a unit waits for it; or how it stands once none does.
    fn fence_text(&self, case: &FenceCase, unit: &UnitName) -> String {
        let node = case.node;
        let (name, by) = (self.state.node_name(node), self.state.level_name(node, case.level));
        match &case.phase {
            FencePhase::Running { .. } if case.off_at.is_some() => {
                format!(
                    "{by} says that {name} is off; it was heard since it was lost, and its silence is waited for"
                )
            }
            FencePhase::Failed { error, .. } if !self.is_waited_for(case) => {
                let until = self.state.nodes.get(&node).map_or(0, |node| node.quarantined_until);
                let left = until.saturating_sub(self.now).div_ceil(1000);
                let late = match left {
                    0 => String::new(),
                    left => format!("; a late command may strike for another {left} s"),
                };
                format!("fencing {name} by {by} failed ({error}), and nothing waits for it any more{late}")
            }
            _ => Reason::WaitsForFence { node }.text(self.state, unit, self.now),
        }
    }

    /// Whether its node is lost and may still run something.
    pub(super) fn is_waited_for(&self, case: &FenceCase) -> bool {
        let node = self.state.nodes.get(&case.node).filter(|node| node.lost_since().is_some());
        node.is_some_and(|node| !self.state.possibly_there(case.node, node).is_empty())
    }

    fn closed_line(&self, id: CaseId, case: &FenceCase) -> Option<FenceLine> {
        let name = self.state.node_name(case.node);
        let ago = |at: policy::Millis| self.now.saturating_sub(at) / 1000;
        let (state, text) = match &case.phase {
            FencePhase::Proven { class: Class::Isolated, at } => {
                let by = self.state.level_name(case.node, case.level);
                ("isolated", format!("{name} was cut off by {by} {} s ago; it may have run on", ago(*at)))
            }
            FencePhase::Proven { class, at } => {
                let how = match class {
                    Class::Off => "its power was seen off",
                    Class::Reborn => "it booted again",
                    Class::Word => "by an operator's word",
                    Class::Expired => "its time to stop has passed",
                    Class::Released | Class::Isolated => "it had released everything",
                };
                ("proven", format!("{name} was proven gone {} s ago: {how}", ago(*at)))
            }
            FencePhase::Cancelled { at } if case.drill().is_some() => {
                ("cancelled", format!("a drill of {name} ended without a proof {} s ago", ago(*at)))
            }
            FencePhase::Cancelled { at } => {
                ("cancelled", format!("{name} did not have to be fenced any more {} s ago", ago(*at)))
            }
            FencePhase::Contradicted { at } => {
                ("contradicted", format!("{name} was proven gone, and spoke {} s ago", ago(*at)))
            }
            FencePhase::Wanted | FencePhase::Running { .. } | FencePhase::Failed { .. } => return None,
        };
        Some(FenceLine { state: state.to_owned(), text, ..self.fence_line(id, case) })
    }

    fn fence_line(&self, id: CaseId, case: &FenceCase) -> FenceLine {
        let node = case.node;
        let level = Some(self.state.level_name(node, case.level));
        let (state, device, error, next_in_s) = match &case.phase {
            FencePhase::Running { .. } => ("running", level, None, None),
            FencePhase::Failed { error, next_at } => {
                // Due now is not the same as no next attempt.
                let next = seconds_until(*next_at, self.now).unwrap_or(0);
                ("failed", level, Some(error.clone()), Some(next))
            }
            _ => ("wanted", self.state.fenced_by(node), None, None),
        };
        FenceLine {
            node: self.state.node_name(node),
            incarnation: case.incarnation.0.clone(),
            state: state.to_owned(),
            device,
            attempts: case.attempts,
            error,
            next_in_s,
            because: case.because.to_string(),
            drill: case.drill().is_some(),
            case: id.0,
            text: self.case_text(case),
        }
    }
}
