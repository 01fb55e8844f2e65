//! Units that wait for a fence, in words for their own journals.
//!
//! The words are those of `why` and of the history. Decides what of a fence is the same news as before; who is told of it, and how
//! often, is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use policy::{EventKind, Evidence, FenceCase, FencePhase, Millis, NodeId, Plan, Reason, State, UnitName};

use super::events::sentence;

/// The units that wait for the fence of one node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wait {
    /// How the fence stands, without what differs from attempt to attempt of what is done again. None for a fence that is about
    /// to begin, which is no news yet.
    pub(crate) step: Option<String>,
    /// The units.
    pub(crate) units: BTreeSet<UnitName>,
}

/// What waits for which node. Where no fence is under way it is looked for only if `told` says that somebody was told to wait.
pub(crate) fn waits(state: &State, plan: &Plan, told: bool, now: Millis) -> BTreeMap<NodeId, Wait> {
    let mut waits: BTreeMap<NodeId, Wait> = BTreeMap::new();
    let steps = state.cases.values().filter_map(|case| Some((case.node, step(state, case, now)?)));
    let steps: Vec<(NodeId, String)> = steps.collect();
    if steps.is_empty() && !told {
        return waits;
    }
    for (unit, reasons) in &plan.reasons {
        for reason in reasons {
            if let Reason::WaitsForFence { node } = reason {
                waits.entry(*node).or_default().units.insert(unit.clone());
            }
        }
    }
    for (node, step) in steps {
        if let Some(wait) = waits.get_mut(&node) {
            wait.step = Some(step);
        }
    }
    waits
}

fn step(state: &State, case: &FenceCase, now: Millis) -> Option<String> {
    match &case.phase {
        FencePhase::Running { .. } => Some(format!("begun {}", case.level)),
        FencePhase::Failed { error, .. } => Some(format!("failed {}: {error}", case.level)),
        FencePhase::Wanted if state.next_level(case, now).is_none() => Some("no device".to_owned()),
        FencePhase::Wanted
        | FencePhase::Proven { .. }
        | FencePhase::Cancelled { .. }
        | FencePhase::Contradicted { .. } => None,
    }
}

/// How the fence stands that a unit waits for.
pub(crate) fn wait_text(state: &State, node: NodeId, unit: &UnitName, now: Millis) -> String {
    format!("waits: {}", Reason::WaitsForFence { node }.text(state, unit, now))
}

/// Why a unit does not wait for a node's fence any more; `None` if that has nothing to do with the fence.
pub(crate) fn wait_over(state: &State, node: NodeId, unit: &UnitName) -> Option<String> {
    let mut events = state.history.iter().rev().filter(|event| event.node == Some(node));
    let last = events.find(|event| {
        matches!(
            event.kind,
            EventKind::FenceWanted { .. }
                | EventKind::FenceBegan { .. }
                | EventKind::FenceFailed { .. }
                | EventKind::FenceProven { .. }
                | EventKind::NodeIsolated { .. }
                | EventKind::FenceCancelled { .. }
        )
    })?;
    let proof = match &last.kind {
        EventKind::FenceProven { evidence: Evidence::Fenced(case), .. } => {
            let level = state.cases.get(case).map(|case| state.level_name(node, case.level));
            let by = level.map(|level| format!(" by {level}")).unwrap_or_default();
            format!("{} is proven off{by}", state.node_name(node))
        }
        EventKind::FenceProven { .. } | EventKind::NodeIsolated { .. } => sentence(state, last),
        EventKind::FenceCancelled { .. } => return Some(sentence(state, last)),
        _ => return None,
    };
    Some(format!("{proof}; {unit} may start elsewhere"))
}
