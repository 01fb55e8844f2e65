//! Open fence cases as lines.

use policy::{FenceCase, FencePhase, NodeId, Reason};

use super::{View, seconds_until};
use crate::api::model::FenceLine;

impl View<'_> {
    pub(super) fn fence_lines(&self) -> Vec<FenceLine> {
        self.state.cases.values().filter(|case| case.is_open()).map(|case| self.fence_line(case)).collect()
    }

    fn fence_line(&self, case: &FenceCase) -> FenceLine {
        let node = case.node;
        let (state, device, error, next_in_s) = match &case.phase {
            FencePhase::Running { device, .. } => ("running", Some(device.clone()), None, None),
            FencePhase::Failed { device, error, next_at } => {
                // Due now is not the same as no next attempt.
                let next = seconds_until(*next_at, self.now).unwrap_or(0);
                ("failed", Some(device.clone()), Some(error.clone()), Some(next))
            }
            _ => ("wanted", self.device_name(node), None, None),
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

    fn device_name(&self, node: NodeId) -> Option<String> {
        self.state.device_of(node).map(|(device, _)| device.to_owned())
    }
}
