//! Fence cases as lines.

use policy::{Class, FenceCase, FencePhase, Reason};

use super::{View, seconds_until};
use crate::api::model::FenceLine;

impl View<'_> {
    pub(super) fn fence_lines(&self) -> Vec<FenceLine> {
        self.state.cases.values().filter(|case| case.is_open()).map(|case| self.fence_line(case)).collect()
    }

    /// How the cases of the nodes' present lives ended.
    pub(super) fn closed_fence_lines(&self) -> Vec<FenceLine> {
        self.state.cases.values().filter_map(|case| self.closed_line(case)).collect()
    }

    fn closed_line(&self, case: &FenceCase) -> Option<FenceLine> {
        let name = self.state.node_name(case.node);
        let ago = |at: policy::Millis| self.now.saturating_sub(at) / 1000;
        let (state, text) = match &case.phase {
            FencePhase::Proven { class, at } => {
                let how = match class {
                    Class::Off => "its power was seen off",
                    Class::Reborn => "it booted again",
                    Class::Word => "by an operator's word",
                    Class::Expired => "its time to stop has passed",
                    Class::Released => "it had released everything",
                };
                ("proven", format!("{name} was proven gone {} s ago: {how}", ago(*at)))
            }
            FencePhase::Cancelled { at } => {
                ("cancelled", format!("{name} did not have to be fenced any more {} s ago", ago(*at)))
            }
            FencePhase::Contradicted { at } => {
                ("contradicted", format!("{name} was proven gone, and spoke {} s ago", ago(*at)))
            }
            FencePhase::Wanted | FencePhase::Running { .. } | FencePhase::Failed { .. } => return None,
        };
        Some(FenceLine { state: state.to_owned(), text, ..self.fence_line(case) })
    }

    fn fence_line(&self, case: &FenceCase) -> FenceLine {
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
            because: case.because.0.clone(),
            text: Reason::WaitsForFence { node }.text(self.state, &case.because, self.now),
        }
    }
}
